use serde_json::Value;

use super::ReplyRefusal;

/// Compares the columns of a result (`rowtype`) with what was promised of them.
///
/// A result with a column more holds something nobody has decided on. Names are compared without regard to case, because a
/// session may be told to ignore the case of quoted ones.
pub(super) fn check(promised: Option<&[String]>, rowtype: Option<&Value>) -> Result<(), ReplyRefusal> {
    let Some(promised) = promised else { return Ok(()) };
    let columns = rowtype.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let named = |(name, column): (&String, &Value)| {
        let told = column.get("name").and_then(Value::as_str);
        name.is_empty() || told.is_some_and(|told| told.eq_ignore_ascii_case(name))
    };
    let kept = columns.len() == promised.len() && promised.iter().zip(columns).all(named);
    if kept { Ok(()) } else { Err(ReplyRefusal::Shape) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_result_keeps_what_was_promised_of_it() {
        let rowtype = json!([{ "name": "ID" }, { "name": "UPPER(NAME)" }]);
        for (promised, kept) in [
            (None, true),
            (Some(vec!["ID", ""]), true),
            (Some(vec!["id", ""]), true),
            (Some(vec!["", ""]), true),
            (Some(vec!["ID"]), false),
            (Some(vec!["ID", "", ""]), false),
            (Some(vec!["", "ID"]), false),
            (Some(vec!["ID", "SSN"]), false),
            (Some(vec![]), false),
        ] {
            let names: Option<Vec<String>> = promised.map(|names| names.into_iter().map(str::to_owned).collect());
            assert_eq!(check(names.as_deref(), Some(&rowtype)).is_ok(), kept, "{names:?}");
        }
        let one = ["ID".to_owned()];
        assert_eq!(check(Some(&one), None), Err(ReplyRefusal::Shape), "columns nobody describes");
        assert_eq!(check(Some(&one), Some(&json!([{}]))), Err(ReplyRefusal::Shape));
        assert_eq!(check(None, None), Ok(()));
    }
}
