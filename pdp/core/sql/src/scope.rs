//! Which names an expression can see.

use std::sync::Arc;

use icegate_pdp_model::{Effect, ObjectKind, ObjectName};
use smol_str::SmolStr;
use sqlparser::ast::{Ident, TableAlias};

use crate::{
    expr::place,
    names,
    reader::{Beyond, Columns, Lineage, MADE_COLUMN, Output, Read, Reader, absent, merge, stop},
};

/// Common table expressions in sight, innermost last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ctes(Vec<(String, Arc<Output>)>);

impl Ctes {
    pub(crate) fn push(&mut self, name: String, output: Arc<Output>) {
        self.0.push((name, output));
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Output>> {
        self.0.iter().rev().find(|(cte, _)| cte == name).map(|(_, output)| Arc::clone(output))
    }
}

/// One relation in a FROM clause.
#[derive(Debug)]
pub(crate) struct Visible {
    /// What its columns can be qualified with: a suffix of these parts.
    pub(crate) qualifier: Vec<String>,
    pub(crate) columns: Vec<VisibleColumn>,
    pub(crate) site: Option<usize>,
    /// Its columns are not known.
    pub(crate) open: bool,
    /// What columns that are not listed may come from.
    pub(crate) beyond: Beyond,
    /// That its columns are not known was not reported yet: reading one reports it.
    pub(crate) silent: bool,
}

#[derive(Debug)]
pub(crate) struct VisibleColumn {
    /// Held in place when it is short: a relation can have many columns of which a statement names few.
    pub(crate) name: SmolStr,
    pub(crate) origin: Origin,
    /// Left out of `*`, since USING or NATURAL merged it into an earlier one.
    pub(crate) merged: bool,
}

/// Where a visible column's values come from.
#[derive(Debug)]
pub(crate) enum Origin {
    /// A column of a catalogued relation, named at the relation's site.
    Catalogued { known: usize, column: usize },
    /// Computed.
    Derived(Box<Lineage>),
    /// Stored by an earlier statement of the request.
    Made(Box<Lineage>),
}

/// The relations and aliases of one query, inside those of the query around it.
#[derive(Debug, Default)]
pub(crate) struct Scope<'p> {
    pub(crate) parent: Option<&'p Scope<'p>>,
    pub(crate) visible: Vec<Visible>,
    /// Aliases of the select list and parameters of lambdas.
    pub(crate) aliases: Vec<(String, Lineage)>,
}

impl<'p> Scope<'p> {
    pub(crate) fn inside(parent: Option<&'p Scope<'p>>) -> Self {
        Self { parent, visible: Vec::new(), aliases: Vec::new() }
    }

    /// How many names it has.
    pub(crate) fn size(&self) -> usize {
        self.visible.iter().map(|visible| visible.columns.len() + 1).sum::<usize>() + self.aliases.len()
    }
}

/// Words that stand for a value without being a column.
const VALUE_WORDS: [&str; 12] = [
    "CURRENT_DATE",
    "CURRENT_TIME",
    "CURRENT_TIMESTAMP",
    "CURRENT_USER",
    "CURRENT_ROLE",
    "CURRENT_DATABASE",
    "CURRENT_SCHEMA",
    "CURRENT_WAREHOUSE",
    "LOCALTIME",
    "LOCALTIMESTAMP",
    "SYSDATE",
    "DEFAULT",
];

impl Reader<'_, '_> {
    /// The column a name means.
    pub(crate) fn column(&mut self, idents: &[&Ident], scope: &Scope<'_>) -> Read<Lineage> {
        if let Some(lineage) = self.find_column(idents, scope)? {
            return Ok(lineage);
        }
        if self.sequence(idents) {
            return Ok(Lineage::none());
        }
        self.miss("column", print(idents));
        // Taken for a field of a column, as others write it, it would tell of that column.
        let mut shorter = idents;
        while let Some((_, column)) = shorter.split_last().filter(|(_, column)| !column.is_empty()) {
            if let Some(lineage) = self.find_column(column, scope)? {
                return Ok(Lineage { opaque: true, ..lineage.computed() });
            }
            shorter = column;
        }
        Ok(Lineage::opaque())
    }

    /// `seq.NEXTVAL`: the next number of a sequence, which moves on.
    fn sequence(&mut self, idents: &[&Ident]) -> bool {
        let Some((last, name)) = idents.split_last() else { return false };
        let next = last.quote_style.is_none() && last.value.eq_ignore_ascii_case("nextval");
        let full = fold_all(name)
            .filter(|parts| next && !parts.is_empty())
            .and_then(|parts| names::complete_in_schema(parts, &self.session));
        if let Some(full) = full {
            self.touch(ObjectKind::Sequence, ObjectName::new(full), Effect::Use);
            return true;
        }
        false
    }

    /// The column a name means, or `None` when there is none.
    pub(crate) fn find_column(&mut self, idents: &[&Ident], scope: &Scope<'_>) -> Read<Option<Lineage>> {
        if let Some((last, qualifier)) = idents.split_last()
            && last.quote_style.is_none()
            && let Some(digits) = place(&last.value)
        {
            return Ok(Some(self.positioned(digits, qualifier, scope)?));
        }
        let Some(parts) = fold_all(idents) else {
            if let Some(odd) = idents.iter().find(|ident| names::fold(ident).is_none()) {
                let what = if odd.value.starts_with('$') { "variable or position" } else { "name" };
                self.miss(what, &odd.value);
            }
            return Ok(Some(Lineage::opaque()));
        };
        let Some((name, qualifier)) = parts.split_last() else { return stop("an empty name is not understood") };
        let mut at = Some(scope);
        // What a relation without known columns may have, the queries around it may have too.
        let mut perhaps: Option<Lineage> = None;
        while let Some(scope) = at {
            self.look_through(scope.size())?;
            let found = if qualifier.is_empty() {
                self.unqualified(name, scope)
            } else {
                self.qualified(qualifier, name, idents, scope)
            };
            match found {
                Hit::Is(mut lineage) => {
                    if let Some(perhaps) = perhaps {
                        lineage.add(perhaps);
                        lineage = lineage.computed();
                    }
                    return Ok(Some(lineage));
                }
                Hit::Perhaps(lineage) => add(&mut perhaps, lineage),
                Hit::No => {}
            }
            at = scope.parent;
        }
        if perhaps.is_some() {
            return Ok(perhaps);
        }
        let unquoted = idents.first().is_some_and(|ident| ident.quote_style.is_none());
        if qualifier.is_empty() && unquoted && VALUE_WORDS.contains(&name.as_str()) {
            return Ok(Some(Lineage::none()));
        }
        Ok(None)
    }

    /// `$2` or `t.$2`: the second column of the only relation, or of the one it names. Columns up to it keep their places.
    pub(crate) fn positioned(&mut self, digits: &str, qualifier: &[&Ident], scope: &Scope<'_>) -> Read<Lineage> {
        let Some(parts) = fold_all(qualifier) else { return stop("a qualifier that is not a name is not understood") };
        let mut at = Some(scope);
        while let Some(scope) = at {
            self.look_through(scope.size())?;
            let mut fitting = scope.visible.iter().filter(|visible| visible.qualifier.ends_with(&parts));
            let only = fitting.next().filter(|_| fitting.next().is_none());
            let column = digits.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
            if let (Some(visible), Some(column)) = (only, column)
                && !visible.open
                && let Some(found) = visible.columns.get(column)
            {
                self.by_place(visible.site);
                for before in visible.columns.iter().take(column) {
                    self.keep(before, visible.site);
                }
                if !qualifier.is_empty() {
                    let idents: Vec<&Ident> = qualifier.iter().copied().chain(qualifier.last().copied()).collect();
                    self.note_prefix(visible.site, &idents, 1);
                }
                return Ok(self.origin(&found.origin, visible.site));
            }
            if let Some(visible) = only.filter(|visible| visible.open && !visible.silent) {
                // A file, or a relation that was reported already: any of its columns.
                if let (site, false) = (visible.site, qualifier.is_empty()) {
                    let idents: Vec<&Ident> = qualifier.iter().copied().chain(qualifier.last().copied()).collect();
                    self.note_prefix(site, &idents, 1);
                }
                return Ok(Lineage::opaque());
            }
            at = if qualifier.is_empty() || only.is_some() { None } else { scope.parent };
        }
        self.miss("variable or position", format_args!("${digits}"));
        Ok(Lineage::opaque())
    }

    /// Every relation and alias that has the name counts: which of them Snowflake prefers does not matter then.
    fn unqualified(&mut self, name: &str, scope: &Scope<'_>) -> Hit {
        let mut found: Option<Lineage> = None;
        for visible in &scope.visible {
            for column in visible.columns.iter().filter(|column| column.name == name) {
                let lineage = self.origin(&column.origin, visible.site);
                add(&mut found, lineage);
            }
        }
        for (_, lineage) in scope.aliases.iter().filter(|(alias, _)| alias == name) {
            add(&mut found, lineage.clone());
        }
        let mut open = scope.visible.iter().filter(|visible| visible.open);
        if let (None, Some(first)) = (&found, open.next()) {
            if first.silent {
                self.miss("column", name);
            }
            let mut beyond = first.beyond.clone();
            open.for_each(|other| beyond.add(&other.beyond));
            return Hit::Perhaps(self.unlisted(&beyond, name));
        }
        found.map_or(Hit::No, Hit::Is)
    }

    fn qualified(&mut self, qualifier: &[String], name: &str, idents: &[&Ident], scope: &Scope<'_>) -> Hit {
        let mut found: Option<Lineage> = None;
        let mut perhaps: Option<Lineage> = None;
        for visible in scope.visible.iter().filter(|visible| visible.qualifier.ends_with(qualifier)) {
            for column in visible.columns.iter().filter(|column| column.name == name) {
                let lineage = self.origin(&column.origin, visible.site);
                add(&mut found, lineage);
            }
            if found.is_none() && visible.open {
                if visible.silent {
                    self.miss("column", print(idents));
                }
                add(&mut perhaps, self.unlisted(&visible.beyond, name));
            }
            if found.is_some() || perhaps.is_some() {
                self.note_prefix(visible.site, idents, 1);
            }
        }
        found.map(Hit::Is).or(perhaps.map(Hit::Perhaps)).unwrap_or(Hit::No)
    }

    /// Remembers a qualification that an alias in the relation's place would break.
    pub(crate) fn note_prefix(&mut self, site: Option<usize>, idents: &[&Ident], after_relation: usize) {
        let Some(relation) = idents.len().checked_sub(after_relation + 1).filter(|&at| at > 0) else { return };
        let (first, last) = (idents.first().copied(), idents.get(relation).copied());
        let places = self.places;
        let Some(site) = site.and_then(|site| self.sites.get_mut(site)) else { return };
        let range = (|| {
            let (from, to) = (places?.ident(first?)?, places?.ident(last?)?);
            Some(from.start..to.start)
        })();
        site.prefixes.push(range);
    }

    pub(crate) fn origin(&mut self, origin: &Origin, site: Option<usize>) -> Lineage {
        match origin {
            Origin::Catalogued { known, column } => self.read(*known, *column, site),
            Origin::Derived(lineage) => Lineage::clone(lineage),
            Origin::Made(lineage) => {
                self.columns_read.unite(&lineage.sources);
                self.through_made.unite(&lineage.sources);
                Lineage::clone(lineage)
            }
        }
    }

    fn by_place(&mut self, site: Option<usize>) {
        if let Some(site) = site.and_then(|site| self.sites.get_mut(site)) {
            site.by_place = true;
        }
    }

    /// Marks a column of a site as needed by name only.
    pub(crate) fn keep(&mut self, column: &VisibleColumn, site: Option<usize>) {
        if let (Origin::Catalogued { column, .. }, Some(site)) =
            (&column.origin, site.and_then(|s| self.sites.get_mut(s)))
        {
            site.kept.insert(*column);
        }
    }

    /// A derived relation: a subquery, a CTE, a table function.
    pub(crate) fn derived(
        &mut self,
        output: &Output,
        name: Option<String>,
        alias: Option<&TableAlias>,
    ) -> Read<Visible> {
        self.look_through(MADE_COLUMN * output.columns.len())?;
        let mut visible = Visible {
            qualifier: name.into_iter().collect(),
            columns: output
                .columns
                .iter()
                .map(|column| VisibleColumn {
                    name: column.name.as_str().into(),
                    origin: Origin::Derived(Box::new(column.lineage.clone())),
                    merged: false,
                })
                .collect(),
            site: None,
            open: output.open,
            beyond: output.beyond.clone(),
            // What a query around this one has under a name is not taken for a column that is not listed here.
            silent: output.open,
        };
        self.rename(&mut visible, alias)?;
        Ok(visible)
    }

    /// Gives a relation its alias and, if listed, its columns' aliases.
    pub(crate) fn rename(&mut self, visible: &mut Visible, alias: Option<&TableAlias>) -> Read<()> {
        let Some(TableAlias { explicit, name, columns, at }) = alias else { return Ok(()) };
        absent(at.is_some(), "an alias with AT")?;
        let Some(folded) = names::fold(name) else { return stop("an alias that is not a name is not understood") };
        if !explicit && name.quote_style.is_none() && NEVER_ALIASES.contains(&folded.as_str()) {
            return stop(format!("`{folded}` after a relation is not understood"));
        }
        visible.qualifier = vec![folded];
        if columns.is_empty() {
            return Ok(());
        }
        if columns.len() > visible.columns.len() && !visible.open {
            return stop("an alias lists more columns than there are");
        }
        self.by_place(visible.site);
        for column in &visible.columns {
            self.keep(column, visible.site);
        }
        visible.beyond = Beyond::default();
        for (column, alias) in visible.columns.iter_mut().zip(columns) {
            let Some(folded) = names::fold(&alias.name) else { return stop("a column alias that is not a name") };
            column.name = folded.into();
        }
        Ok(())
    }
}

/// Words of Snowflake's grammar that the parser takes for an alias.
const NEVER_ALIASES: [&str; 26] = [
    "AFTER",
    "ALL",
    "AND",
    "ANTI",
    "ASOF",
    "AT",
    "BEFORE",
    "BY",
    "CHANGES",
    "CONNECT",
    "DIRECTED",
    "FOR",
    "LATERAL",
    "MATCH_CONDITION",
    "MATCH_RECOGNIZE",
    "PIVOT",
    "QUALIFY",
    "RESAMPLE",
    "SAMPLE",
    "SEMANTIC_VIEW",
    "SEMI",
    "START",
    "TABLESAMPLE",
    "UNPIVOT",
    "VERSION",
    "WINDOW",
];

/// Whether a name is a column of a scope.
enum Hit {
    Is(Lineage),
    /// A relation is there whose columns are not known.
    Perhaps(Lineage),
    No,
}

fn add(found: &mut Option<Lineage>, lineage: Lineage) {
    match found {
        Some(found) => {
            found.add(lineage);
            *found = std::mem::replace(found, Lineage::none()).computed();
        }
        None => *found = Some(lineage),
    }
}

/// Folds every identifier, or none.
pub(crate) fn fold_all(idents: &[&Ident]) -> Option<Vec<String>> {
    idents.iter().map(|ident| names::fold(ident)).collect()
}

pub(crate) fn print(idents: &[&Ident]) -> String {
    idents.iter().map(|ident| names::fold(ident).unwrap_or_else(|| ident.value.clone())).collect::<Vec<_>>().join(".")
}

/// Rows of a FROM clause are decided by these columns too.
pub(crate) fn decide_rows(rows: &mut Columns, lineage: Lineage) {
    merge(rows, lineage.all());
}
