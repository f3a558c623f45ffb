//! The rows of a reply, for whoever masks them, and what the reply says of their columns.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, value::RawValue};

use super::{Reply, ReplyRefusal, envelope::Field};
use crate::json;

/// Snowflake's number for a request of several statements.
const SEVERAL: u64 = 0xA000;

/// Rows as they stand in a reply.
#[derive(Debug)]
pub enum Rows<'a> {
    /// `rowset`: a JSON array of rows.
    Json(&'a str),
    /// `rowsetBase64`, decoded: an Arrow IPC stream, or nothing.
    Arrow(Vec<u8>),
}

/// What `rowtype` says of one column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyColumn<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its type, for example `fixed`.
    pub logical_type: &'a str,
    /// Digits of a number.
    pub precision: Option<u8>,
    /// Digits of a number after the point.
    pub scale: Option<u8>,
    /// Characters of a text.
    pub length: Option<u32>,
}

impl<'a> ReplyColumn<'a> {
    fn read(column: &'a Value) -> Option<Self> {
        Some(Self {
            name: column.get("name")?.as_str()?,
            logical_type: column.get("type")?.as_str()?,
            precision: small(column, "precision"),
            scale: small(column, "scale"),
            length: small(column, "length"),
        })
    }
}

impl Reply<'_> {
    /// The columns of the result; nothing when they are not told as they should be.
    pub fn columns(&self) -> Option<Vec<ReplyColumn<'_>>> {
        self.value("rowtype")?.as_array()?.iter().map(ReplyColumn::read).collect()
    }

    /// Whether this is what Snowflake answers to several statements: their ids, and no row of any of them.
    pub fn is_overview(&self) -> bool {
        self.statement_type_id() == Some(SEVERAL) && !self.result_ids().is_empty()
    }

    /// Puts other rows in the place of those that came; nothing leaves them. Everything is given to `replace` that drivers read
    /// rows from.
    ///
    /// # Errors
    ///
    /// Rows that are not written as they should be, and whatever `replace` says.
    pub fn replace_rows(
        &mut self,
        mut replace: impl FnMut(Rows<'_>) -> Result<Option<Vec<u8>>, ReplyRefusal>,
    ) -> Result<(), ReplyRefusal> {
        const FORMAT: ReplyRefusal = ReplyRefusal::Format;
        for (name, field) in &mut self.envelope.data {
            let Field::Verbatim(raw) = field else { continue };
            let replaced = if name == "rowset" {
                let rows = replace(Rows::Json(raw.get()))?;
                rows.map(String::from_utf8).transpose().map_err(|_| FORMAT)?
            } else {
                let text: Cow<'_, str> = serde_json::from_str(raw.get()).map_err(|_| FORMAT)?;
                let rows = STANDARD.decode(text.as_bytes()).map_err(|_| FORMAT)?;
                replace(Rows::Arrow(rows))?.map(|rows| format!("\"{}\"", STANDARD.encode(rows)))
            };
            if let Some(replaced) = replaced {
                *raw = Cow::Owned(RawValue::from_string(replaced).map_err(|_| FORMAT)?);
            }
        }
        Ok(())
    }
}

fn small<T: TryFrom<u64>>(column: &Value, key: &str) -> Option<T> {
    T::try_from(column.get(key).and_then(json::whole_number)?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        Limits,
        reply::{ChunkTerms, ErrorText, ReplyTerms},
    };

    #[test]
    fn rows_are_replaced_in_both_forms_and_nothing_of_the_old_ones_stays() {
        let told = json!({ "success": true, "data": {
            "rowtype": [{ "name": "A", "type": "text", "length": 9 }, { "name": "B", "type": "fixed", "precision": 38, "scale": 0 }],
            "rowset": [["kanarie", "1"]], "rowsetBase64": "a2FuYXJpZQ==", "total": 1, "queryResultFormat": "json",
        }})
        .to_string();
        let mut reply = Reply::parse(told.as_bytes(), &Limits::default()).unwrap();
        let columns = reply.columns().unwrap();
        assert_eq!((columns[0].name, columns[0].length, columns[1].precision), ("A", Some(9), Some(38)));
        let replace = |rows: Rows<'_>| match rows {
            Rows::Json(text) if text.contains("kanarie") => Ok(Some(br#"[["x","1"]]"#.to_vec())),
            Rows::Arrow(bytes) if bytes == b"kanarie" => Ok(Some(b"y".to_vec())),
            other => panic!("{other:?}"),
        };
        reply.replace_rows(replace).unwrap();
        let terms = ReplyTerms {
            query_id: None,
            error_text: ErrorText::Withhold,
            statement_kinds: &[],
            chunks: ChunkTerms::Withhold,
            columns: None,
            secrets: &[],
        };
        let body = String::from_utf8(reply.into_client(&terms).unwrap().body).unwrap();
        assert!(body.contains(r#""rowset":[["x","1"]]"#) && body.contains(r#""rowsetBase64":"eQ==""#), "{body}");
        assert!(!body.contains("kanarie") && !body.contains("a2FuYXJpZQ"), "{body}");
    }

    #[test]
    fn what_is_no_rows_is_refused() {
        for rows in [json!({ "rowsetBase64": 7 }), json!({ "rowsetBase64": "***" }), json!({ "rowset": "[]" })] {
            let told = json!({ "success": true, "data": rows }).to_string();
            let mut reply = Reply::parse(told.as_bytes(), &Limits::default()).unwrap();
            let refused = reply.replace_rows(|_| Ok(Some(b"no json".to_vec())));
            assert_eq!(refused, Err(ReplyRefusal::Format), "{told}");
        }
    }

    #[test]
    fn only_a_request_of_several_has_an_overview() {
        let ids = "01b2c3d4-0000-1111-2222-333344445555,01b2c3d4-0000-1111-2222-333344445556";
        for (data, wanted) in [
            (json!({ "statementTypeId": 0xA000, "resultIds": ids }), true),
            (json!({ "statementTypeId": 0x1000, "resultIds": ids }), false),
            (json!({ "statementTypeId": 0xA000 }), false),
            (json!({ "resultIds": ids }), false),
        ] {
            let told = json!({ "success": true, "data": data }).to_string();
            assert_eq!(Reply::parse(told.as_bytes(), &Limits::default()).unwrap().is_overview(), wanted, "{told}");
        }
    }
}
