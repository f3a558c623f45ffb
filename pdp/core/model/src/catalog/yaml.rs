//! A catalog as the text of a file: the same catalog, the same text.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
};

use super::{Catalog, CatalogPath, CatalogRelation, Nature};
use crate::ObjectName;

/// Words that some reader of YAML takes for a truth value or for nothing.
const RESERVED: [&str; 9] = ["false", "n", "no", "null", "off", "on", "true", "y", "yes"];

impl Catalog {
    /// Writes it in the shape it is read in, sorted, columns in their order. Reading the text gives the same catalog.
    pub fn to_yaml(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        let mut sorted: BTreeMap<&str, BTreeMap<&str, BTreeMap<&str, &CatalogRelation>>> = BTreeMap::new();
        for (database, schemas) in &self.schemas {
            let listed = sorted.entry(database).or_default();
            for schema in schemas {
                listed.entry(schema).or_default();
            }
        }
        for (name, relation) in &self.relations {
            let schemas = sorted.entry(&name.database).or_default();
            schemas.entry(&name.schema).or_default().insert(&name.name, relation);
        }
        if sorted.is_empty() {
            out.push_str("databases: {}\n");
        } else {
            out.push_str("databases:\n");
        }
        for (database, schemas) in sorted {
            writeln!(out, "  {}:{}", key(database), if schemas.is_empty() { " {}" } else { "" })?;
            for (schema, relations) in schemas {
                writeln!(out, "    {}:{}", key(schema), if relations.is_empty() { " {}" } else { "" })?;
                for (name, relation) in relations {
                    writeln!(out, "      {}:", key(name))?;
                    write_relation(out, relation)?;
                }
            }
        }
        write_routines(out, "functions", &self.functions)?;
        write_routines(out, "procedures", &self.procedures)?;
        if !self.tags.is_empty() {
            out.push_str("tags:\n");
        }
        for (name, tags) in &self.tags {
            writeln!(out, "  {}: {}", name_key(name), list(tags))?;
        }
        Ok(())
    }
}

fn write_relation(out: &mut String, relation: &CatalogRelation) -> fmt::Result {
    if let Some(view) = &relation.definition {
        write_view(out, view)?;
    }
    if !relation.tags.is_empty() {
        writeln!(out, "        tags: {}", list(&relation.tags))?;
    }
    if !relation.row_attributes.is_empty() {
        let rows = relation.row_attributes.iter();
        let rows: Vec<String> =
            rows.map(|(attribute, column)| format!("{}: {}", scalar(attribute), key(column))).collect();
        writeln!(out, "        rows: {{ {} }}", rows.join(", "))?;
    }
    writeln!(out, "        columns:{}", if relation.columns.is_empty() { " {}" } else { "" })?;
    for column in &relation.columns {
        write!(out, "          {}: {{ type: {}", key(&column.name), scalar(&column.data_type))?;
        if !column.nullable {
            out.push_str(", nullable: false");
        }
        if !column.tags.is_empty() {
            write!(out, ", tags: {}", list(&column.tags))?;
        }
        if !column.paths.is_empty() {
            let path = |path: &CatalogPath| {
                format!(
                    "{}: {{ type: {}, tags: {} }}",
                    scalar(&path.keys.to_string()),
                    scalar(&path.data_type),
                    list(&path.tags)
                )
            };
            let paths: Vec<String> = column.paths.iter().map(path).collect();
            write!(out, ", paths: {{ {} }}", paths.join(", "))?;
        }
        out.push_str(" }\n");
    }
    Ok(())
}

/// A view's text reads best as lines, where YAML keeps every one of its characters that way.
fn write_view(out: &mut String, view: &str) -> fmt::Result {
    let kept = !view.starts_with([' ', '\n'])
        && view.lines().all(|line| !line.ends_with(' ') && line.chars().all(|c| !c.is_control()))
        && !view.ends_with('\n')
        && view.contains('\n')
        && !view.chars().any(is_hidden);
    if !kept {
        return writeln!(out, "        view: {}", quoted(view));
    }
    out.push_str("        view: |-\n");
    for line in view.lines() {
        if line.is_empty() {
            out.push('\n');
        } else {
            writeln!(out, "          {line}")?;
        }
    }
    Ok(())
}

fn write_routines(out: &mut String, title: &str, routines: &BTreeMap<ObjectName, Nature>) -> fmt::Result {
    if !routines.is_empty() {
        writeln!(out, "{title}:")?;
    }
    for (name, nature) in routines {
        writeln!(out, "  {}: {}", name_key(name), nature.as_str())?;
    }
    Ok(())
}

/// One identifier as SQL would write it.
fn key(part: &str) -> String {
    name_key(&ObjectName::new([part]))
}

fn name_key(name: &ObjectName) -> String {
    scalar(&name.to_string())
}

fn list(tags: &BTreeSet<String>) -> String {
    let tags: Vec<String> = tags.iter().map(|tag| scalar(tag)).collect();
    format!("[{}]", tags.join(", "))
}

/// A word as it is where every reader takes it for text, else in quotes.
fn scalar(text: &str) -> String {
    let first = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    let plain = first && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '$'));
    if plain && !RESERVED.contains(&text.to_ascii_lowercase().as_str()) { text.to_owned() } else { quoted(text) }
}

/// JSON's quoting, which is a part of YAML's.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c if c.is_control() || is_hidden(c) => {
                // Writing to a string cannot fail.
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Line breaks and marks that are not control characters to Rust, and that readers of YAML treat in ways of their own.
fn is_hidden(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}
