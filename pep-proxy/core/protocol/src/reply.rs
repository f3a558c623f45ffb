//! What Snowflake replied, and what of it a client gets.
//!
//! The envelope is read strictly; `rowset` and `rowsetBase64` stay the bytes they are, so a big result is not rebuilt cell
//! by cell. Fields are allowed one by one: an unknown field is left out and named, and what would let a client reach
//! Snowflake or its storage by itself refuses the whole reply.

mod context;
mod envelope;
mod monitoring;
mod rows;
mod shape;
mod statement_type;
mod stored;
mod transfer;

use std::{borrow::Cow, fmt};

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

use self::envelope::{Envelope, Field};
use self::transfer::Transfer;
pub use self::{
    context::{ContextUpdate, SessionContext},
    monitoring::{MonitoringReply, MonitoringTerms, monitoring_for_client},
    rows::{ReplyColumn, Rows},
    statement_type::contradicts,
    stored::{ChunkTerms, Delivery},
};
use crate::{
    ChunkFormat, Chunks, Limits, PepCode, QueryId, Refusal, Secret,
    answer::{self, InProgress},
    json,
    login::passed_on,
    refusal::one_line,
};

/// Longest rowset of a change's counts, in bytes.
const COUNTS_BYTES_MAX: usize = 1024;

/// A reply to a statement or to a fetch of its result.
pub struct Reply<'a> {
    envelope: Envelope<'a>,
}

impl fmt::Debug for Reply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("code", &self.code()).field("success", &self.is_success()).finish_non_exhaustive()
    }
}

/// Why a reply is kept from the client. The sentences are shown to the person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplyRefusal {
    /// Over the limit.
    #[error("Snowflake's reply is larger than {bytes_max} bytes; ask for fewer rows or columns.")]
    TooLarge {
        /// The limit.
        bytes_max: usize,
    },
    /// Not the JSON it must be.
    #[error("Snowflake's reply is not readable ({why}); try again, and tell the operator if it stays.")]
    Unreadable {
        /// What is wrong.
        why: &'static str,
    },
    /// Credentials for a stage, though no such transfer was decided.
    #[error(
        "Snowflake's reply opens a stage to the client, which is not what was decided; use INSERT or SELECT, or tell the operator."
    )]
    Transfer,
    /// Parts in storage that cannot be handed on.
    #[error(
        "Parts of the result lie in storage in a way icegate does not hand on; ask for fewer rows, and tell the operator."
    )]
    Chunks,
    /// A credential of the session at Snowflake.
    #[error("Snowflake's reply carries a credential that must not leave icegate; tell the operator.")]
    Credential,
    /// A result format nobody has looked at.
    #[error("Snowflake's reply has a result format icegate does not know; tell the operator.")]
    Format,
    /// The result has other columns than were decided.
    #[error(
        "Snowflake's result has other columns than the decision foresaw, so it is withheld; the catalog may be older than the table: name the columns you need, and tell the operator."
    )]
    Shape,
    /// The result cannot be masked.
    #[error("Snowflake's result cannot be masked as was decided, so it is withheld ({why}); tell the operator.")]
    Masking {
        /// What stands in the way; never a value.
        why: String,
    },
    /// Snowflake ran something else than was decided.
    #[error("Snowflake says it ran another kind of statement than the one that was decided; tell the operator.")]
    StatementType,
}

impl ReplyRefusal {
    /// Which refusal this is.
    pub fn code(&self) -> PepCode {
        PepCode::ReplyWithheld
    }

    /// As told to the client.
    pub fn refusal(&self) -> Refusal {
        Refusal::new(self.code(), self.to_string())
    }

    /// Which of these it is, in one word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too-large",
            Self::Unreadable { .. } => "unreadable",
            Self::Transfer => "transfer",
            Self::Chunks => "chunks",
            Self::Credential => "credential",
            Self::Format => "format",
            Self::Shape => "shape",
            Self::Masking { .. } => "masking",
            Self::StatementType => "statement-type",
        }
    }
}

/// What happens to Snowflake's own error text, which can quote values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorText {
    /// The statement ran as the client sent it and nothing was masked.
    Keep,
    /// It ran masked or rewritten.
    Withhold,
}

/// What a reply must be turned into.
#[derive(Debug, Clone, Copy)]
pub struct ReplyTerms<'a> {
    /// The id the client knows the statement by, when it is not Snowflake's.
    pub query_id: Option<&'a QueryId>,
    /// What happens to Snowflake's error text.
    pub error_text: ErrorText,
    /// What the statements were decided to be, as in `DecideResponse.statement_kinds`. Empty: not compared.
    pub statement_kinds: &'a [String],
    /// Where the client gets parts that lie in storage.
    pub chunks: ChunkTerms<'a>,
    /// Names of the result's columns in their order, empty where any name will do. `None`: not compared.
    pub columns: Option<&'a [String]>,
    /// Credentials that must not occur in the answer.
    pub secrets: &'a [&'a Secret],
}

/// A reply fit for the client.
#[derive(Clone)]
pub struct ClientReply {
    /// The body to answer with, uncompressed.
    pub body: Vec<u8>,
    /// Names of fields that were left out, for the log.
    pub dropped_fields: Vec<String>,
    /// How the result reaches the client; nothing without one.
    pub delivery: Option<Delivery>,
}

impl fmt::Debug for ClientReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientReply").field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

/// What became of the session at Snowflake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionLoss {
    /// Its token has expired: renew it.
    Expired,
    /// It is over: log in again.
    Gone,
}

impl<'a> Reply<'a> {
    /// Reads a decompressed body.
    ///
    /// # Errors
    ///
    /// Over the limit, or not the JSON it must be.
    pub fn parse(body: &'a [u8], limits: &Limits) -> Result<Self, ReplyRefusal> {
        if body.len() > limits.reply_bytes_max {
            return Err(ReplyRefusal::TooLarge { bytes_max: limits.reply_bytes_max });
        }
        Ok(Self { envelope: Envelope::parse(body, limits)? })
    }

    /// Whether the statement succeeded or still runs.
    pub fn is_success(&self) -> bool {
        self.envelope.success
    }

    /// Snowflake's code, letters and digits only, empty if none.
    pub fn code(&self) -> &str {
        &self.envelope.code
    }

    /// Whether the result is not there yet. Connector 5 goes by the URL, the others by the code.
    pub fn is_in_progress(&self) -> bool {
        self.is_success()
            && (matches!(self.code(), "333333" | "333334")
                || (self.value("getResultUrl").is_some_and(Value::is_string) && !self.has_rows()))
    }

    /// The session at Snowflake has ended, when that is what the reply says.
    pub fn session_loss(&self) -> Option<SessionLoss> {
        match self.code() {
            _ if self.is_success() => None,
            "390110" | "390112" => Some(SessionLoss::Expired),
            "390103" | "390104" | "390111" | "390113" | "390114" | "390115" => Some(SessionLoss::Gone),
            _ => None,
        }
    }

    /// Snowflake's id of the statement.
    pub fn query_id(&self) -> Option<QueryId> {
        let told = self.value("queryId").and_then(Value::as_str).and_then(QueryId::parse);
        told.or_else(|| {
            let url = self.value("getResultUrl")?.as_str()?;
            url.split(['/', '?']).find_map(QueryId::parse)
        })
    }

    /// Ids of the results of several statements in one request.
    pub fn result_ids(&self) -> Vec<QueryId> {
        let ids = self.value("resultIds").and_then(Value::as_str).unwrap_or_default();
        ids.split(',').filter_map(|id| QueryId::parse(id.trim())).collect()
    }

    /// Where the session stands after the statement.
    pub fn context(&self) -> ContextUpdate {
        let name = |key| self.value(key).map(|value| value.as_str().unwrap_or_default().to_owned());
        ContextUpdate {
            database: name("finalDatabaseName"),
            schema: name("finalSchemaName"),
            role: name("finalRoleName"),
            warehouse: name("finalWarehouseName"),
        }
    }

    /// Rows in the answer or rows affected, when told.
    pub fn rows(&self) -> Option<u64> {
        let affected = self.value("stats").and_then(Value::as_object).and_then(|stats| {
            ["numRowsInserted", "numRowsUpdated", "numRowsDeleted"]
                .iter()
                .filter_map(|key| stats.get(*key).and_then(json::whole_number))
                .reduce(u64::saturating_add)
        });
        affected
            .or_else(|| self.counted())
            .or_else(|| self.value("total").and_then(json::whole_number))
            .or_else(|| self.value("returned").and_then(json::whole_number))
    }

    /// The counts in the one row a change answers with, which drivers read too. Not read for a query, which could name
    /// its columns like that.
    fn counted(&self) -> Option<u64> {
        let change = matches!(self.statement_type_id()?, 0x3100..0x3600);
        let rowset = self.envelope.data.iter().find(|(name, _)| change && name == "rowset")?;
        let (_, Field::Verbatim(raw)) = rowset else { return None };
        if raw.get().len() > COUNTS_BYTES_MAX {
            return None;
        }
        let rows: Vec<Vec<Value>> = serde_json::from_str(raw.get()).ok()?;
        let [row] = rows.as_slice() else { return None };
        let columns = self.value("rowtype")?.as_array()?;
        let named = |column: &Value| {
            column.get("name").and_then(Value::as_str).is_some_and(|name| name.starts_with("number of rows "))
        };
        let counts = columns.iter().zip(row).filter(|(column, _)| named(column));
        counts.map(|(_, cell)| json::whole_number(cell)).reduce(|sum, count| sum?.checked_add(count?))?
    }

    /// Snowflake's number for the kind of statement it ran.
    pub fn statement_type_id(&self) -> Option<u64> {
        self.value("statementTypeId").and_then(json::whole_number)
    }

    /// The parts of the result that lie in storage, if any do.
    ///
    /// # Errors
    ///
    /// They are not named as they should be.
    pub fn chunks(&self) -> Result<Option<Chunks>, ReplyRefusal> {
        let format = match self.value("queryResultFormat").and_then(Value::as_str) {
            Some("arrow" | "arrow_force") => ChunkFormat::Arrow,
            Some(_) | None => ChunkFormat::Json,
        };
        stored::read(self.value("chunks"), self.value("chunkHeaders"), self.value("qrmk"), format)
    }

    /// The body for the client.
    ///
    /// # Errors
    ///
    /// The reply must be kept from the client.
    pub fn into_client(self, terms: &ReplyTerms<'_>) -> Result<ClientReply, ReplyRefusal> {
        let transfer = Transfer::of(terms.statement_kinds).filter(|_| self.is_success() && !self.is_in_progress());
        self.refuse_reach(terms.secrets, transfer)?;
        if let Some(id) = self.statement_type_id()
            && contradicts(terms.statement_kinds, id)
        {
            return Err(ReplyRefusal::StatementType);
        }
        let (body, dropped_fields, delivery) = if !self.is_success() {
            (self.failure(terms), Vec::new(), None)
        } else if self.is_in_progress() {
            (self.progress(terms)?, Vec::new(), None)
        } else {
            shape::check(terms.columns, self.value("rowtype"))?;
            self.result(terms, transfer)?
        };
        if terms.secrets.iter().any(|secret| secret.stands_in_json(&body)) {
            return Err(ReplyRefusal::Credential);
        }
        Ok(ClientReply { body, dropped_fields, delivery })
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.envelope.data.iter().find_map(|(name, field)| match field {
            Field::Read(value) if name == key => Some(value),
            Field::Read(_) | Field::Verbatim(_) => None,
        })
    }

    fn has_rows(&self) -> bool {
        self.envelope.data.iter().any(|(name, field)| {
            matches!(&**name, "rowset" | "rowsetBase64")
                && match field {
                    Field::Read(value) => !value.is_null(),
                    Field::Verbatim(_) => true,
                }
        })
    }

    /// Refuses what lets a client go to Snowflake or to storage by itself.
    fn refuse_reach(&self, secrets: &[&Secret], transfer: Option<Transfer>) -> Result<(), ReplyRefusal> {
        if let Some(transfer) = transfer {
            transfer.check(self.value("command"), self.value("stageInfo"))?;
        }
        let decided = transfer.is_some();
        for (name, field) in &self.envelope.data {
            // Names of unknown fields are logged.
            if secrets.iter().any(|secret| secret.stands_in(name)) {
                return Err(ReplyRefusal::Credential);
            }
            refuse_key(name, field.read().unwrap_or(&Value::Bool(true)), decided)?;
            if let Field::Read(value) = field {
                refuse_keys(value, decided)?;
            }
        }
        Ok(())
    }

    fn failure(&self, terms: &ReplyTerms<'_>) -> Vec<u8> {
        let kept: &[&str] = match terms.error_text {
            ErrorText::Keep => &["errorCode", "sqlState", "line", "pos", "type", "internalError", "age"],
            ErrorText::Withhold => &["errorCode", "sqlState"],
        };
        let mut data = serde_json::Map::new();
        for key in kept {
            match self.value(key) {
                Some(Value::String(text)) => data.insert((*key).to_owned(), word(text).into()),
                Some(scalar @ (Value::Bool(_) | Value::Number(_))) => data.insert((*key).to_owned(), scalar.clone()),
                None | Some(Value::Null | Value::Array(_) | Value::Object(_)) => None,
            };
        }
        if let Some(id) = terms.query_id.cloned().or_else(|| self.query_id()) {
            data.insert("queryId".to_owned(), id.as_str().into());
        }
        let message = client_error_text(self.code(), &envelope::lines(&self.envelope.message), terms.error_text);
        serde_json::json!({ "data": data, "code": self.code(), "message": message, "success": false })
            .to_string()
            .into_bytes()
    }

    fn progress(&self, terms: &ReplyTerms<'_>) -> Result<Vec<u8>, ReplyRefusal> {
        let own = self.query_id();
        let query_id = terms.query_id.or(own.as_ref()).ok_or(ReplyRefusal::Unreadable { why: "no query id" })?;
        let seconds = self.value("queryAbortsAfterSecs").and_then(json::whole_number).unwrap_or(300);
        Ok(answer::in_progress(&InProgress {
            query_id,
            detached: self.code() == "333334",
            aborts_after_seconds: u32::try_from(seconds).unwrap_or(u32::MAX),
            description: "The statement is running.",
        }))
    }

    fn result(mut self, terms: &ReplyTerms<'_>, transfer: Option<Transfer>) -> Result<Told, ReplyRefusal> {
        self.refuse_unknown_format()?;
        let chunks = self.chunks()?;
        let delivery = match (&chunks, terms.chunks) {
            _ if transfer.is_some() => Delivery::Stage,
            (None, _) => Delivery::Inline,
            (Some(chunks), ChunkTerms::Through(addresses)) if addresses.len() == chunks.all.len() => Delivery::Through,
            (Some(_), ChunkTerms::Direct) => Delivery::Direct,
            (Some(_), ChunkTerms::Withhold | ChunkTerms::Through(_)) => return Err(ReplyRefusal::Chunks),
        };
        let passed_on: &[&str] = if transfer.is_some() { &transfer::FIELDS } else { &PASSED_ON };
        let total = self.value("total").and_then(json::whole_number).unwrap_or(0);
        let mut dropped = Vec::new();
        let mut kept = Vec::new();
        for (name, field) in std::mem::take(&mut self.envelope.data) {
            match (&*name, field) {
                ("queryId", field) => {
                    let id = terms.query_id.map(|id| Value::from(id.as_str()));
                    kept.push((name, id.map_or(field, Field::Read)));
                }
                ("parameters", Field::Read(value)) => kept.push((name, Field::Read(driver_parameters(value)))),
                // Written anew below, from what was understood of them.
                ("chunks" | "chunkHeaders" | "qrmk", _) => {}
                (known, field) if passed_on.contains(&known) => kept.push((name, field)),
                // A URL to poll in a final answer would send connector 5 polling.
                ("getResultUrl" | "progressDesc" | "queryAbortsAfterSecs", _) => {}
                _ => dropped.push(one_line(&name, 64)),
            }
        }
        if let Some(chunks) = &chunks {
            let told = match terms.chunks {
                ChunkTerms::Through(addresses) => stored::written(chunks, addresses.iter().map(String::as_str)),
                ChunkTerms::Direct | ChunkTerms::Withhold => {
                    if !chunks.headers.is_empty() {
                        kept.push(("chunkHeaders".into(), Field::Read(stored::written_headers(chunks))));
                    }
                    stored::written(chunks, chunks.all.iter().map(|chunk| chunk.url.expose()))
                }
            };
            kept.push(("chunks".into(), Field::Read(told)));
        }
        // Node never calls back without it.
        if !kept.iter().any(|(name, field)| name == "returned" && field.read().is_some_and(|value| !value.is_null())) {
            kept.retain(|(name, _)| name != "returned");
            kept.push(("returned".into(), Field::Read(total.into())));
        }
        let code = if self.code().is_empty() { Value::Null } else { self.code().into() };
        let body = Written { data: Data(&kept), code, message: Value::Null, success: true };
        let body = serde_json::to_vec(&body).map_err(|_| ReplyRefusal::Unreadable { why: "not writable" })?;
        Ok((body, dropped, Some(delivery)))
    }

    fn refuse_unknown_format(&self) -> Result<(), ReplyRefusal> {
        match self.value("queryResultFormat") {
            None | Some(Value::Null) => {}
            Some(Value::String(format)) if matches!(format.as_str(), "json" | "arrow" | "arrow_force") => {}
            Some(_) => return Err(ReplyRefusal::Format),
        }
        for (name, field) in &self.envelope.data {
            let Field::Verbatim(raw) = field else { continue };
            let begins = if name == "rowset" { '[' } else { '"' };
            if !raw.get().starts_with(begins) {
                return Err(ReplyRefusal::Format);
            }
        }
        Ok(())
    }
}

/// The body, the names of the fields left out, and how the result gets there.
type Told = (Vec<u8>, Vec<String>, Option<Delivery>);

/// Snowflake's text for the client, or a sentence that says why it is not shown.
pub(crate) fn client_error_text(code: &str, message: &str, error_text: ErrorText) -> String {
    match error_text {
        ErrorText::Keep => message.to_owned(),
        ErrorText::Withhold => {
            let code = word(code);
            let code = if code.is_empty() { "unknown" } else { code };
            format!(
                "Snowflake refused the statement (code {code}); the text is withheld because it can quote masked values"
            )
        }
    }
}

/// Fields of a result that drivers know, as of the protocol notes; `getResultUrl`, `queryId`, `parameters` and
/// what leads to storage are handled apart.
const PASSED_ON: [&str; 23] = [
    "arrayBindSupported",
    "databaseProvider",
    "finalDatabaseName",
    "finalRoleName",
    "finalSchemaName",
    "finalWarehouseName",
    "metaDataOfBinds",
    "numberOfBinds",
    "queryContext",
    "queryResultFormat",
    "resultIds",
    "resultTypes",
    "returned",
    "rowset",
    "rowsetBase64",
    "rowtype",
    "sqlState",
    "statementTypeId",
    "statementTypeName",
    "stats",
    "total",
    "totalRowCount",
    "version",
];

/// Fields of file transfers. Connectors act on them whatever the statement was.
const TRANSFER: [&str; 8] = [
    "creds",
    "encryptionmaterial",
    "locallocation",
    "presignedurl",
    "presignedurls",
    "src_locations",
    "stageinfo",
    "uploadinfo",
];

/// Fields that hold credentials of a session.
const CREDENTIALS: [&str; 10] = [
    "authorization",
    "idtoken",
    "mastertoken",
    "mfatoken",
    "oldsessiontoken",
    "password",
    "privatekey",
    "remmetoken",
    "sessiontoken",
    "token",
];

/// `transfer` says that one was decided.
fn refuse_key(name: &str, value: &Value, transfer: bool) -> Result<(), ReplyRefusal> {
    if value.is_null() {
        return Ok(());
    }
    let is = |word: &&str| name.eq_ignore_ascii_case(word);
    if !transfer && TRANSFER.iter().any(is) {
        return Err(ReplyRefusal::Transfer);
    }
    if CREDENTIALS.iter().any(is) {
        return Err(ReplyRefusal::Credential);
    }
    let command = value.as_str().unwrap_or_default();
    if !transfer && is(&"command") && ["UPLOAD", "DOWNLOAD"].iter().any(|word| word.eq_ignore_ascii_case(command)) {
        return Err(ReplyRefusal::Transfer);
    }
    Ok(())
}

/// Refuses what lets a client go to Snowflake or to storage by itself, at any depth.
fn refuse_keys_inside(value: &Value) -> Result<(), ReplyRefusal> {
    refuse_keys(value, false)
}

/// Recursion is bounded by the depth the value was read with.
fn refuse_keys(value: &Value, transfer: bool) -> Result<(), ReplyRefusal> {
    match value {
        Value::Object(map) => map.iter().try_for_each(|(key, value)| {
            refuse_key(key, value, transfer)?;
            refuse_keys(value, transfer)
        }),
        Value::Array(items) => items.iter().try_for_each(|value| refuse_keys(value, transfer)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

/// The parameters among those Snowflake reports that tell a driver how to work, without what icegate has set itself.
fn driver_parameters(value: Value) -> Value {
    let Value::Array(entries) = value else { return Value::Array(Vec::new()) };
    let known = |entry: &Value| entry.get("name").and_then(Value::as_str).is_some_and(passed_on);
    Value::Array(entries.into_iter().filter(known).collect())
}

/// A code or a word of a closed set, or nothing: a part of something else is never told.
fn word(text: &str) -> &str {
    let sound = text.len() <= 24 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if sound { text } else { "" }
}

#[derive(Serialize)]
struct Written<'a> {
    data: Data<'a>,
    code: Value,
    message: Value,
    success: bool,
}

struct Data<'a>(&'a [(Cow<'a, str>, Field<'a>)]);

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, field) in self.0 {
            match field {
                Field::Read(value) => map.serialize_entry(name, value)?,
                Field::Verbatim(raw) => map.serialize_entry(name, raw)?,
            }
        }
        map.end()
    }
}
