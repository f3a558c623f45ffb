//! What the demo says: short lines, wrapped, in colour only where somebody watches.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};

use super::driver::{Rows, cell_text};

/// Lines are wrapped before this column.
const WIDTH: usize = 92;

/// Cells are cut to this many characters, so that a table fits.
const CELL_MAX: usize = 26;

const INDENT: &str = "   ";

#[derive(Debug, Clone, Copy)]
enum Colour {
    Bold,
    Dim,
    Red,
    Green,
    Cyan,
}

/// Writes to stdout.
#[derive(Debug)]
pub(super) struct Voice {
    colour: bool,
}

impl Voice {
    pub(super) fn new() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colour: std::io::stdout().is_terminal() && !plain }
    }

    fn paint(&self, colour: Colour, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match colour {
            Colour::Bold => "1",
            Colour::Dim => "2",
            Colour::Red => "31",
            Colour::Green => "32",
            Colour::Cyan => "36",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// One line as it is.
    #[expect(clippy::unused_self, reason = "everything that is said goes through the voice")]
    pub(super) fn line(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        // Nobody listens any more (a closed pipe): the exit status still tells.
        drop(writeln!(out, "{text}"));
        drop(out.flush());
    }

    pub(super) fn title(&self, text: &str) {
        self.line(&self.paint(Colour::Bold, text));
    }

    /// Something that takes a moment has begun, or is done.
    pub(super) fn progress(&self, text: &str) {
        self.line(&format!("{INDENT}{}", self.paint(Colour::Dim, text)));
    }

    pub(super) fn step(&self, number: usize, title: &str) {
        self.line("");
        self.line(&self.paint(Colour::Bold, &format!("{number:>2} {title}")));
    }

    /// A paragraph.
    pub(super) fn text(&self, text: &str) {
        for line in wrapped(text, WIDTH - INDENT.len()) {
            self.line(&format!("{INDENT}{line}"));
        }
    }

    /// What somebody types: a statement or a command.
    pub(super) fn typed(&self, prompt: &str, text: &str) {
        let lead = INDENT.len() + prompt.chars().count() + 1;
        for (index, line) in wrapped(text, WIDTH - lead).iter().enumerate() {
            let shown = if index == 0 { prompt.to_owned() } else { " ".repeat(prompt.chars().count()) };
            self.line(&format!("{INDENT}{} {line}", self.paint(Colour::Cyan, &shown)));
        }
    }

    /// What a program answered, line by line.
    pub(super) fn output(&self, text: &str) {
        for line in text.trim_end().lines() {
            self.line(format!("{INDENT}{INDENT}{line}").trim_end());
        }
    }

    /// What a program answered, wrapped so that it can be read here.
    pub(super) fn said(&self, text: &str) {
        for line in text.trim_end().lines() {
            let width = WIDTH - 2 * INDENT.len();
            if line.chars().count() <= width {
                self.output(line);
                continue;
            }
            // Values go on under their beginning.
            let hang = line.find("  ").map_or(0, |at| line.len() - line.split_at(at).1.trim_start().len());
            let (head, rest) = line.split_at(hang);
            for (index, part) in wrapped(rest, width.saturating_sub(head.chars().count())).iter().enumerate() {
                let lead = if index == 0 { head.to_owned() } else { " ".repeat(head.chars().count()) };
                self.output(&format!("{lead}{part}"));
            }
        }
    }

    /// Some columns of a table that a program has written, each line cut.
    pub(super) fn columns(&self, text: &str, wanted: &[&str]) {
        for line in columns(text, wanted) {
            let width = WIDTH - 2 * INDENT.len();
            if line.chars().count() > width {
                self.output(&format!("{}…", line.chars().take(width - 1).collect::<String>()));
            } else {
                self.output(&line);
            }
        }
    }

    pub(super) fn rows(&self, rows: &Rows) {
        self.output(&table(rows));
    }

    pub(super) fn refusal(&self, text: &str) {
        for line in wrapped(text, WIDTH - 2 * INDENT.len()) {
            self.line(&format!("{INDENT}{INDENT}{}", self.paint(Colour::Red, &line)));
        }
    }

    pub(super) fn passed(&self, text: &str) {
        self.verdict("ok", Colour::Green, text);
    }

    pub(super) fn failed(&self, text: &str) {
        self.verdict("FAILED", Colour::Red, text);
    }

    fn verdict(&self, word: &str, colour: Colour, text: &str) {
        let lead = INDENT.len() + word.len() + 1;
        for (index, line) in wrapped(text, WIDTH - lead).iter().enumerate() {
            let shown = if index == 0 { self.paint(colour, word) } else { " ".repeat(word.len()) };
            self.line(&format!("{INDENT}{shown} {line}"));
        }
    }
}

/// Breaks at blanks; a longer word stays whole.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

/// The wanted columns of an aligned table, by the names in its first line.
fn columns(text: &str, wanted: &[&str]) -> Vec<String> {
    let Some(head) = text.lines().next() else { return Vec::new() };
    let head: Vec<char> = head.chars().collect();
    let starts: Vec<usize> = (0..head.len())
        .filter(|&at| {
            let blank = |at: Option<usize>| at.and_then(|at| head.get(at)).is_none_or(|char| *char == ' ');
            !blank(Some(at)) && blank(at.checked_sub(1)) && blank(at.checked_sub(2))
        })
        .collect();
    let cells = |line: &str| -> Vec<String> {
        let line: Vec<char> = line.chars().collect();
        let ends = starts.iter().skip(1).copied().chain([usize::MAX]);
        starts.iter().zip(ends).map(|(&from, to)| line.iter().take(to).skip(from).collect()).collect()
    };
    let names = cells(&head.iter().collect::<String>());
    let kept = |line: &str| -> String {
        let cells = cells(line);
        let pairs = names.iter().zip(&cells).filter(|(name, _)| wanted.contains(&name.trim()));
        pairs.map(|(_, cell)| cell.as_str()).collect::<String>().trim_end().to_owned()
    };
    text.lines().map(kept).collect()
}

/// Rows under their names, aligned.
fn table(rows: &Rows) -> String {
    let mut lines: Vec<Vec<String>> = vec![rows.names().iter().map(|name| (*name).to_owned()).collect()];
    for row in &rows.rows {
        lines
            .push(row.iter().map(|value| if value.is_null() { "NULL".to_owned() } else { cell_text(value) }).collect());
    }
    let lines: Vec<Vec<String>> =
        lines.into_iter().map(|line| line.into_iter().map(|cell| cut(&cell)).collect()).collect();
    let columns = lines.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|at| lines.iter().filter_map(|line| line.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for line in lines {
        for (cell, width) in line.iter().zip(&widths) {
            // Writing to a text cannot fail.
            let _ = write!(text, "{cell:<width$}  ");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

fn cut(cell: &str) -> String {
    if cell.chars().count() <= CELL_MAX {
        return cell.to_owned();
    }
    let mut kept: String = cell.chars().take(CELL_MAX - 1).collect();
    kept.push('…');
    kept
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paragraphs_are_wrapped_at_blanks() {
        assert_eq!(wrapped("one two  three\nfour", 9), ["one two", "three", "four"]);
        assert_eq!(wrapped("incomprehensibilities a", 5), ["incomprehensibilities", "a"]);
        assert!(wrapped("  ", 5).is_empty());
    }

    #[test]
    fn columns_are_picked_by_name() {
        let text = "TIME  USER  RUN    STATEMENT\n1     ana   -      SELECT  1\n22    bob   ended  DROP";
        assert_eq!(columns(text, &["USER", "STATEMENT"]), ["USER  STATEMENT", "ana   SELECT  1", "bob   DROP"]);
        assert!(columns("", &["USER"]).is_empty());
    }

    #[test]
    fn tables_are_aligned_and_cut() {
        let rows: Rows = serde_json::from_value(json!({
            "columns": [{ "name": "ID" }, { "name": "WORDS" }],
            "rows": [[1, "abcdefghijklmnopqrstuvwxyz and more"], [22, null]],
        }))
        .unwrap();
        assert_eq!(table(&rows), "ID  WORDS\n1   abcdefghijklmnopqrstuvwxy…\n22  NULL\n");
    }
}
