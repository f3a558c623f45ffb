use std::fmt::Write as _;

use comfy_table::{ContentArrangement, Table, presets};

/// Longest statement a table row shows, in characters.
pub(crate) const STATEMENT_CHARS_MAX: usize = 72;

/// One line in which nothing is hidden: characters that control, reorder or do not show are written as escapes.
pub(crate) fn visible(text: &str) -> String {
    escape(text, |c| match c {
        '\n' => Some("\\n"),
        '\t' => Some("\\t"),
        '\r' => Some("\\r"),
        _ => None,
    })
}

/// Like [`visible`], with its line breaks and tabs kept: for showing a whole statement.
pub(crate) fn visible_lines(text: &str) -> String {
    let kept = escape(&text.replace("\r\n", "\n"), |c| match c {
        '\n' => Some("\n"),
        '\t' => Some("\t"),
        _ => None,
    });
    kept.lines().flat_map(|line| ["  ", line, "\n"]).collect()
}

fn escape(text: &str, own: impl Fn(char) -> Option<&'static str>) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match own(c) {
            Some(text) => shown.push_str(text),
            // Writing to a String cannot fail.
            None if is_hidden(c) => drop(write!(shown, "\\u{{{:x}}}", u32::from(c))),
            None => shown.push(c),
        }
    }
    shown
}

/// Control characters, direction marks (as in "Trojan Source", CVE-2021-42574), and what has no width.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}' | '\u{180E}'
            | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{3164}'
            | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}' | '\u{E0000}'..='\u{E0FFF}')
}

/// A statement in one short line.
pub(crate) fn statement(sql: &str) -> String {
    let line = visible(&sql.split_whitespace().collect::<Vec<_>>().join(" "));
    if line.chars().count() <= STATEMENT_CHARS_MAX {
        return line;
    }
    line.chars().take(STATEMENT_CHARS_MAX - 1).chain(['…']).collect()
}

/// A table of plain text, as wide as the terminal allows.
pub(crate) fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    table_of(Table::new(), head, rows)
}

/// A table of plain text, at most so many columns wide.
pub(crate) fn table_within(width: u16, head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.set_width(width);
    table_of(table, head, rows)
}

fn table_of(mut table: Table, head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(head.iter().map(|name| name.to_uppercase()));
    for row in rows {
        table.add_row(row.iter().map(|cell| visible(cell)));
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end().strip_prefix(' ').unwrap_or_default());
        text.push('\n');
    }
    text
}

/// `1 record`, `2 records`.
pub(crate) fn count(number: impl TryInto<u64>, one: &str) -> String {
    match number.try_into() {
        Ok(1) => format!("1 {one}"),
        Ok(many) => format!("{many} {one}s"),
        Err(_) => format!("many {one}s"),
    }
}

/// Names in a row, or a dash.
pub(crate) fn list<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| name.as_ref().to_owned()).collect();
    if names.is_empty() { "-".into() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::{statement, table, visible, visible_lines};

    #[test]
    fn nothing_is_hidden() {
        for (text, wanted) in [
            ("SELECT 1", "SELECT 1"),
            ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
            ("DROP \u{202e}elbat\u{2066}", "DROP \\u{202e}elbat\\u{2066}"),
            ("a\u{200b}b\u{1b}[2J\u{7f}", "a\\u{200b}b\\u{1b}[2J\\u{7f}"),
            ("größe 数据 🙂", "größe 数据 🙂"),
        ] {
            assert_eq!(visible(text), wanted);
        }
        assert_eq!(visible_lines("SELECT 1\n\tFROM t\r\n--\u{202e}"), "  SELECT 1\n  \tFROM t\n  --\\u{202e}\n");
    }

    #[test]
    fn statements_are_one_short_line() {
        assert_eq!(statement("SELECT\n  1\n"), "SELECT 1");
        let long = statement(&"x".repeat(100));
        assert_eq!((long.chars().count(), long.ends_with('…')), (72, true));
    }

    #[test]
    fn tables_line_up() {
        let rows = [vec!["corp/ana".into(), "unknown".into()], vec!["corp/b\u{202e}".into(), "ci\nbot".into()]];
        insta::assert_snapshot!(table(&["user", "agent"], rows));
    }
}
