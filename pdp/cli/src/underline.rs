//! A place in a text, underlined, with what there is to say about it; and the paragraphs around it.

use std::{io, ops::Range};

use annotate_snippets::{
    AnnotationKind, Group, Level, Renderer, Snippet,
    renderer::{AnsiColor, Effects, Style},
};

use crate::show;

/// Columns of a line when nobody says how wide the terminal is.
const WIDTH: usize = 80;
/// Fewest and most columns text is set in: narrower does not read, wider neither.
const WIDTHS: std::ops::RangeInclusive<usize> = 40..=120;
/// Columns of line numbers and bars in front of an underlined line.
const MARGIN: usize = 7;
/// Columns of the labels in front of paragraphs.
const LABEL: usize = 10;

/// How the output looks: coloured or not, and how wide.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    colour: bool,
    width: usize,
}

impl Look {
    /// What fits standard output: colour on a terminal, unless `NO_COLOR` or `TERM=dumb` ask for none.
    pub(crate) fn of_stdout() -> Self {
        let colour = !matches!(anstream::AutoStream::choice(&io::stdout()), anstream::ColorChoice::Never);
        let width = comfy_table::Table::new().width().map_or(WIDTH, usize::from);
        Self { colour, width: width.clamp(*WIDTHS.start(), *WIDTHS.end()) }
    }

    #[cfg(test)]
    pub(crate) fn new(colour: bool, width: usize) -> Self {
        Self { colour, width }
    }

    fn paint(self, text: &str, style: Style) -> String {
        if self.colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    /// A heading.
    pub(crate) fn bold(self, text: &str) -> String {
        self.paint(text, Style::new().effects(Effects::BOLD))
    }

    /// A word that says how well it stands.
    pub(crate) fn toned(self, text: &str, tone: Tone) -> String {
        let colour = match tone {
            Tone::Good => AnsiColor::Green,
            Tone::Warning => AnsiColor::Yellow,
            Tone::Error => AnsiColor::Red,
        };
        self.paint(text, Style::new().fg_color(Some(colour.into())).effects(Effects::BOLD))
    }

    /// A label and what belongs to it, broken between its parts; nothing when there are none.
    pub(crate) fn entry<S: AsRef<str>>(self, label: &str, parts: impl IntoIterator<Item = S>) -> String {
        let mut text = String::new();
        let indent = LABEL + 3;
        let mut column = 0;
        for part in parts {
            let part = show::visible(part.as_ref());
            let long = part.chars().count();
            if text.is_empty() {
                let blanks = " ".repeat(LABEL.saturating_sub(label.chars().count()) + 1);
                let label = self.paint(label, Style::new().effects(Effects::DIMMED));
                text.extend(["  ", &label, &blanks]);
                column = indent + long;
            } else if column + 1 + long > self.width {
                text.extend(["\n", &" ".repeat(indent)]);
                column = indent + long;
            } else {
                text.push(' ');
                column += 1 + long;
            }
            text.push_str(&part);
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text
    }

    /// A sentence in lines that fit behind `= note: `.
    fn broken(self, sentence: &str) -> String {
        let width = self.width.saturating_sub(2 * MARGIN);
        let mut text = String::new();
        let mut column = 0;
        for word in words(sentence) {
            let long = word.chars().count();
            if column > 0 {
                text.push(if column + 1 + long > width { '\n' } else { ' ' });
            }
            column = if text.ends_with('\n') { long } else { column + 1 + long };
            text.push_str(word);
        }
        text
    }

    /// A table, set in.
    pub(crate) fn table(self, head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
        let width = u16::try_from(self.width.saturating_sub(2)).unwrap_or(u16::MAX);
        let table = show::table_within(width, head, rows);
        table.lines().flat_map(|line| ["  ", line, "\n"]).collect()
    }
}

/// How bad what is said is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Warning,
    Error,
}

/// Something to say about places of a text.
#[derive(Debug, Clone)]
pub(crate) struct Remark {
    pub(crate) tone: Tone,
    pub(crate) title: String,
    /// Bytes of the text, and a word to each. Without any, only the title is said.
    pub(crate) marks: Vec<(Range<usize>, String)>,
    pub(crate) help: Option<String>,
}

/// A text as it is shown: characters that control, reorder or do not show are written as escapes.
#[derive(Debug)]
pub(crate) struct Shown {
    text: String,
    /// For each escape: the byte behind the character, and how many bytes longer the text is from there on.
    longer: Vec<(usize, usize)>,
}

impl Shown {
    pub(crate) fn of(sql: &str) -> Self {
        let mut shown = Self { text: String::with_capacity(sql.len()), longer: Vec::new() };
        for (at, c) in sql.char_indices() {
            match c {
                '\n' | '\t' => shown.text.push(c),
                // A line's end is a line's end.
                '\r' if sql.get(at + 1..).is_some_and(|rest| rest.starts_with('\n')) => shown.text.push(c),
                _ => shown.text.push_str(&show::visible(c.encode_utf8(&mut [0; 4]))),
            }
            let behind = at + c.len_utf8();
            let longer = shown.text.len().saturating_sub(behind);
            if shown.longer.last().map_or(0, |(_, longer)| *longer) != longer {
                shown.longer.push((behind, longer));
            }
        }
        shown
    }

    fn byte(&self, byte: usize) -> usize {
        let before = self.longer.partition_point(|(from, _)| *from <= byte);
        let longer = before.checked_sub(1).and_then(|at| self.longer.get(at)).map_or(0, |(_, longer)| *longer);
        (byte + longer).min(self.text.len())
    }

    /// How many characters stand before a byte in its line.
    fn column(&self, byte: usize) -> usize {
        let before = self.text.get(..byte).unwrap_or_default();
        before.rsplit('\n').next().unwrap_or_default().chars().count()
    }

    /// The remark with its places underlined, one empty line behind it.
    pub(crate) fn remark(&self, look: Look, remark: &Remark) -> String {
        let level = match remark.tone {
            Tone::Error => Level::ERROR,
            Tone::Warning => Level::WARNING,
            Tone::Good => Level::NOTE,
        };
        let mut group = Group::with_title(level.primary_title(show::visible(&remark.title)));
        let mut aside = Vec::new();
        if !remark.marks.is_empty() {
            let annotations = remark.marks.iter().map(|(bytes, label)| {
                let bytes = self.byte(bytes.start)..self.byte(bytes.end);
                let label = show::visible(label);
                let fits = self.column(bytes.end) + label.chars().count() < look.width.saturating_sub(MARGIN);
                let mark = AnnotationKind::Primary.span(bytes);
                if label.is_empty() || !fits {
                    aside.extend((!label.is_empty()).then_some(label));
                    return mark;
                }
                mark.label(label)
            });
            group = group.element(Snippet::source(self.text.as_str()).annotations(annotations.collect::<Vec<_>>()));
        }
        for label in aside {
            group = group.element(Level::NOTE.message(look.broken(&label)));
        }
        if let Some(help) = &remark.help {
            group = group.element(Level::HELP.message(look.broken(&show::visible(help))));
        }
        let renderer = if look.colour { Renderer::styled() } else { Renderer::plain() };
        let text = renderer.term_width(look.width).render(&[group]);
        let mut shown = String::with_capacity(text.len() + 2);
        for line in text.lines() {
            shown.push_str(line.trim_end());
            shown.push('\n');
        }
        shown.push('\n');
        shown
    }
}

/// What is said that fills a line or more, as words to be set by [`Look::entry`].
pub(crate) fn words(sentence: &str) -> impl Iterator<Item = &str> {
    sentence.split_whitespace()
}

/// Names in a row, each with its comma, to be set by [`Look::entry`].
pub(crate) fn listed<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Vec<String> {
    let mut names: Vec<String> = names.into_iter().map(Into::into).collect();
    let last = names.len().saturating_sub(1);
    for name in names.iter_mut().take(last) {
        name.push(',');
    }
    names
}

#[cfg(test)]
mod tests {
    use super::{Look, Remark, Shown, Tone, listed, words};

    fn remark(sql: &str, places: &[&str]) -> String {
        let marks = places.iter().map(|place| {
            let at = sql.find(place).unwrap();
            (at..at + place.len(), String::from("here"))
        });
        let remark = Remark {
            tone: Tone::Error,
            title: "this is it".into(),
            marks: marks.collect(),
            help: Some("do something else".into()),
        };
        Shown::of(sql).remark(Look::new(false, 80), &remark)
    }

    #[test]
    fn places_are_underlined_where_they_are() {
        insta::assert_snapshot!(remark("select 'größe', a\r\n\t, naïve\nfrom t", &["naïve", "t"]));
    }

    #[test]
    fn nothing_hides_in_a_line_that_is_shown() {
        insta::assert_snapshot!(remark(
            "select \u{200b}a, '\u{202e}x' from \u{1b}[2Jnowhere",
            &["\u{200b}", "nowhere"]
        ));
    }

    #[test]
    fn long_lines_keep_the_place_in_sight() {
        let sql = format!("select {} nowhere.x, {} from t", "aaaa, ".repeat(60), "bbbb, ".repeat(60));
        let shown = remark(&sql, &["nowhere.x"]);
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
        assert!(
            shown.contains("nowhere.x") && shown.contains("^^^^^^^^^\n") && shown.contains("note: here"),
            "{shown}"
        );
    }

    #[test]
    fn paragraphs_fit_the_width() {
        let look = Look::new(false, 40);
        let text = look.entry("label", words("some words that are longer than one line of forty columns"));
        assert_eq!(
            text,
            "  label      some words that are longer\n             than one line of forty\n             columns\n"
        );
        assert_eq!(look.entry("none", Vec::<String>::new()), "");
        assert_eq!(listed(["A", "B"]), ["A,", "B"]);
        assert!(Look::new(true, 40).entry("label", ["x"]).contains("\u{1b}["));
    }
}
