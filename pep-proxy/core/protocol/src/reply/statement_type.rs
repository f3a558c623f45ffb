use super::transfer::Transfer;

/// Whether Snowflake ran something else than what was decided.
///
/// `statement_kinds` are the PDP's words (`select`, `create_table`, …), `statement_type_id` is Snowflake's number, whose
/// upper hexadecimal digits are the family (snowflakedb/drivers, `sf_core`, read 2026-11). It comes after the fact and cannot
/// undo anything; it keeps an answer that was never decided from the client. Only clear contradictions count: an unknown
/// number or kind contradicts nothing.
pub fn contradicts(statement_kinds: &[String], statement_type_id: u64) -> bool {
    const SEVERAL: u64 = 0xA000;
    // Files move between the client and storage, past icegate: only as that and in that direction.
    let transfer = Transfer::of(statement_kinds).map(Transfer::statement_type_id);
    if matches!(statement_type_id, 0x7101 | 0x7102) {
        return transfer != Some(statement_type_id);
    }
    let [one] = statement_kinds else { return false };
    let family = statement_type_id & 0xF000;
    let unload = statement_type_id & 0xFF00 == 0x3700;
    match one.as_str() {
        // A read: nothing that writes, defines, calls or grants.
        "select" | "show" | "describe" | "explain" => {
            unload || matches!(family, 0x3000 | 0x5000 | 0x6000 | 0x9000 | SEVERAL)
        }
        "insert" | "update" | "delete" | "merge" => unload || matches!(family, 0x6000 | 0x9000 | SEVERAL),
        _ => family == SEVERAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clear_contradictions_count() {
        for (kinds, id, wanted) in [
            (&["select"][..], 0x1000, false),
            (&["select"], 0x9000, true),
            (&["select"], 0xA000, true),
            (&["select"], 0x3700, true),
            (&["select"], 0x3100, true),
            (&["select"], 0, false),
            (&["insert"], 0x3100, false),
            (&["insert"], 0x6000, true),
            (&["create_table"], 0x6000, false),
            (&["call"], 0x9000, false),
            (&["select", "select"], 0xA000, false),
            (&["put"], 0x7102, false),
            (&["put"], 0x7101, true),
            (&["get"], 0x7101, false),
            (&["get", "select"], 0x7101, true),
            (&["select"], 0x7102, true),
            (&[], 0x1000, false),
            (&[], 0x7101, true),
        ] {
            let kinds: Vec<String> = kinds.iter().map(ToString::to_string).collect();
            assert_eq!(contradicts(&kinds, id), wanted, "{kinds:?} {id:#x}");
        }
    }
}
