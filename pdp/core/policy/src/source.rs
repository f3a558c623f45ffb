use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// Hexadecimal digits of the SHA-256 that name a bundle version.
const VERSION_HEX_DIGITS: usize = 16;

/// The files of a bundle, read by whoever may read files.
#[derive(Clone, Default)]
pub struct BundleSource {
    /// In any order.
    pub files: Vec<SourceFile>,
}

/// One file.
#[derive(Clone)]
pub struct SourceFile {
    /// Relative to the bundle directory, with `/` between parts.
    pub path: String,
    /// Its whole text.
    pub text: String,
}

impl BundleSource {
    /// A bundle of these paths and texts.
    pub fn new<P: Into<String>, T: Into<String>>(files: impl IntoIterator<Item = (P, T)>) -> Self {
        let file = |(path, text): (P, T)| SourceFile { path: path.into(), text: text.into() };
        Self { files: files.into_iter().map(file).collect() }
    }

    /// Whether a file at this path belongs to a bundle: `*.cedar` at any depth, and at the top `schema.cedarschema`,
    /// `settings.yaml` and the parts of the catalog (see [`BundleSource::is_catalog`]). Cases, notes and hidden files do
    /// not.
    pub fn takes(path: &str) -> bool {
        match path {
            "schema.cedarschema" | "settings.yaml" => true,
            _ if Self::is_catalog(path) => true,
            _ => is_policies(path) && !path.starts_with("cases/") && !path.split('/').any(|part| part.starts_with('.')),
        }
    }

    /// Whether a file at this path is a part of the bundle's catalog: `catalog.yaml` or `catalog.json` at the top, and every
    /// `*.yaml` and `*.json` in the folder `catalog` beside it.
    pub fn is_catalog(path: &str) -> bool {
        let Some((stem, "yaml" | "json")) = path.rsplit_once('.') else { return false };
        match stem.strip_prefix("catalog/") {
            None => stem == "catalog",
            Some(name) => !name.is_empty() && !name.starts_with('.') && !name.contains('/'),
        }
    }

    /// The files that belong to the bundle, by path.
    pub(crate) fn taken(&self) -> Vec<&SourceFile> {
        let mut files: Vec<&SourceFile> = self.files.iter().filter(|file| Self::takes(&file.path)).collect();
        files.sort_by(|a, b| (&a.path, &a.text).cmp(&(&b.path, &b.text)));
        files
    }

    /// The same files, the same version; any byte changed, another.
    pub(crate) fn version(&self) -> String {
        let mut hasher = Sha256::new();
        for file in self.taken() {
            for part in [&file.path, &file.text] {
                hasher.update((part.len() as u64).to_be_bytes());
                hasher.update(part.as_bytes());
            }
        }
        let mut version = String::with_capacity(VERSION_HEX_DIGITS);
        for byte in hasher.finalize().iter().take(VERSION_HEX_DIGITS / 2) {
            // Writing to a string cannot fail.
            let _ = write!(version, "{byte:02x}");
        }
        version
    }
}

/// Whether the file holds policies, by its name. Cedar's own tools look at the case too.
pub(crate) fn is_policies(path: &str) -> bool {
    path.strip_suffix(".cedar").is_some_and(|stem| !stem.is_empty())
}

/// Names only: a bundle holds the salt of its masks.
impl std::fmt::Debug for BundleSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.files).finish()
    }
}

impl std::fmt::Debug for SourceFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} bytes)", self.path, self.text.len())
    }
}

/// One policy as it stands in its file, from its first annotation to its semicolon.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chunk<'a> {
    /// Byte offset in the file.
    pub(crate) start: usize,
    pub(crate) text: &'a str,
    /// Annotation names and where their `@` is, counted from `start`.
    pub(crate) annotations: Vec<(&'a str, usize)>,
    /// How deep its brackets nest.
    pub(crate) depth: usize,
    /// Operators, dots and `if`s: how deep an expression without brackets can nest.
    pub(crate) operators: usize,
}

impl Chunk<'_> {
    /// Where the annotation of this name stands, from the chunk's start.
    pub(crate) fn annotation(&self, name: &str) -> usize {
        self.annotations.iter().find(|(found, _)| *found == name).map_or(0, |(_, offset)| *offset)
    }
}

/// How deep the text read so far can nest once it is parsed.
#[derive(Debug, Default)]
struct Nesting {
    depth: usize,
    deepest: usize,
    operators: usize,
    in_word: bool,
}

impl Nesting {
    /// One character outside strings and comments, and the text that begins with it.
    fn meet(&mut self, c: char, text: &str) {
        match c {
            '(' | '[' | '{' => self.depth += 1,
            ')' | ']' | '}' => self.depth = self.depth.saturating_sub(1),
            '!' | '-' | '+' | '*' | '|' | '&' | '.' | '<' | '>' | '=' => self.operators += 1,
            'i' if !self.in_word && ["if", "in", "is"].iter().any(|word| text.starts_with(word)) => self.operators += 1,
            _ => {}
        }
        self.deepest = self.deepest.max(self.depth);
        self.in_word = c.is_alphanumeric() || c == '_';
    }
}

/// Cuts a Cedar file into its policies, so that one that does not parse hides none of the others.
///
/// Only strings and comments need be known for that: outside of them a semicolon always ends a policy.
pub(crate) fn chunks(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let mut start = None;
    let mut annotations = Vec::new();
    let mut nesting = Nesting::default();
    let mut chars = text.char_indices().peekable();
    let mut cut = |start: usize, end: usize, annotations: &mut Vec<(usize, usize)>, nesting: Nesting| {
        let named = std::mem::take(annotations).into_iter().filter_map(|(at, end)| {
            let name = text.get(at + 1..end)?;
            Some((name, at - start))
        });
        let annotations = named.collect();
        if let Some(text) = text.get(start..end) {
            chunks.push(Chunk { start, text, annotations, depth: nesting.deepest, operators: nesting.operators });
        }
    };
    while let Some((at, c)) = chars.next() {
        match c {
            '/' if chars.peek().is_some_and(|(_, next)| *next == '/') => {
                while chars.next_if(|(_, next)| *next != '\n').is_some() {}
                continue;
            }
            '"' => {
                while let Some((_, inner)) = chars.next() {
                    match inner {
                        '\\' => drop(chars.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            '@' => {
                let mut end = at + 1;
                while let Some((at, word)) = chars.next_if(|(_, word)| word.is_alphanumeric() || *word == '_') {
                    end = at + word.len_utf8();
                }
                annotations.push((at, end));
            }
            ';' => {
                cut(start.take().unwrap_or(at), at + 1, &mut annotations, std::mem::take(&mut nesting));
                continue;
            }
            _ => nesting.meet(c, text.get(at..).unwrap_or_default()),
        }
        if start.is_none() && !c.is_whitespace() {
            start = Some(at);
        }
    }
    if let Some(start) = start {
        cut(start, text.len(), &mut annotations, nesting);
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::{BundleSource, chunks};

    #[test]
    fn files_are_cut_outside_strings_and_comments() {
        let text = "// a; b\n@id(\"x;\\\";\") // \"\npermit (a);\n\n  @mask(\"m\")\nforbid;\nleft over";
        let found: Vec<_> = chunks(text).iter().map(|chunk| (chunk.start, chunk.text.to_owned())).collect();
        assert_eq!(found.len(), 3);
        assert_eq!(found[0], (8, "@id(\"x;\\\";\") // \"\npermit (a);".to_owned()));
        assert!(found[1].1.starts_with("@mask"));
        assert_eq!(found[2].1, "left over");
        assert_eq!(chunks(text)[1].annotations, [("mask", 0)]);
    }

    #[test]
    fn the_version_names_what_belongs_to_the_bundle() {
        let version = |files: &[(&str, &str)]| BundleSource::new(files.iter().copied()).version();
        let one = version(&[("a.cedar", "x"), ("settings.yaml", "y")]);
        assert_eq!(one.len(), 16);
        assert_eq!(one, version(&[("settings.yaml", "y"), ("a.cedar", "x"), ("README.md", "z"), ("cases/a.yaml", "")]));
        assert_ne!(one, version(&[("a.cedar", "xy"), ("settings.yaml", "")]));
        assert_ne!(one, version(&[("b.cedar", "x"), ("settings.yaml", "y")]));
    }

    #[test]
    fn only_what_belongs_is_taken() {
        for (path, wanted) in [
            ("base.cedar", true),
            ("teams/sales/a.cedar", true),
            ("cases/a.cedar", false),
            (".git/a.cedar", false),
            (".cedar", false),
            ("a.cedar~", false),
            ("catalog.json", true),
            ("old/catalog.yaml", false),
            ("catalog/dbt.yaml", true),
            ("catalog/by-hand.json", true),
            ("catalog/.dbt.yaml", false),
            ("catalog/more/dbt.yaml", false),
            ("catalog/notes.md", false),
        ] {
            assert_eq!(BundleSource::takes(path), wanted, "{path}");
        }
    }
}
