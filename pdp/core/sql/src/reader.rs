//! What reading one statement gathers: relations met, columns read, names that do not resolve.

mod parts;

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
    ops::Range,
    sync::Arc,
};

use icegate_pdp_model::{
    Catalog, CatalogRelation, ColumnName, EarlierRows, Effect, ObjectAccess, ObjectKind, ObjectName, RelationKind,
    RelationName, SessionContext, Transformation,
};
use sqlparser::ast::{self, Ident};

use self::parts::NumberedColumn;
pub(crate) use self::parts::{
    Beyond, Known, Lineage, Made, Numbered, Output, OutputColumn, Read, Request, Role, Site, Stop, World, absent,
    merge, stop,
};
pub(crate) use crate::columns::{ColumnId, Columns};
use crate::{
    analyze::Beside,
    bodies::Depth,
    earlier::{Earlier, EarlierRelation},
    gate::{self, Piece},
    heads,
    parse::{self, Places},
    reword::{self, Reworded},
    rewrite, rowwise,
    scope::Ctes,
    stack::{OPERATORS_MAX, on_enough_stack},
};

/// Most columns one statement may look through in all, to find what its names mean.
const COLUMNS_LOOKED_THROUGH_MAX: usize = 10_000_000;

/// Most columns of relations that the catalog does not hold that one statement is told to read; it is refused anyway.
const UNCATALOGUED_MAX: usize = 4096;

/// What it costs to make a column, in columns looked through.
pub(crate) const MADE_COLUMN: usize = 16;

/// Reads one statement.
#[derive(Debug)]
pub(crate) struct Reader<'a, 'r> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) earlier: &'a Earlier,
    pub(crate) bound: &'a BTreeSet<String>,
    pub(crate) session: SessionContext,
    pub(crate) request: Cow<'r, Request>,
    pub(crate) depth_max: usize,
    /// `None` while a view's own text is read.
    pub(crate) places: Option<&'r Places<'r>>,
    pub(crate) known: Vec<Known<'a>>,
    pub(crate) numbered: Numbered,
    by_name: HashMap<RelationName, usize>,
    /// Columns the catalog does not hold.
    uncatalogued: HashMap<ColumnName, ColumnId>,
    pub(crate) sites: Vec<Site>,
    pub(crate) columns_read: Columns,
    objects: BTreeSet<ObjectAccess>,
    unresolved: BTreeSet<String>,
    pub(crate) functions: BTreeSet<String>,
    /// Where functions send their arguments.
    pub(crate) exports: BTreeSet<String>,
    /// Relations read, catalogued or not.
    pub(crate) relations: BTreeSet<RelationName>,
    pub(crate) cross_join: bool,
    /// Views being expanded, outermost first.
    pub(crate) expanding: Vec<RelationName>,
    /// Columns whose values were read from relations made earlier in the request.
    pub(crate) through_made: Columns,
    /// Rows of earlier statements that are read again.
    pub(crate) read_again: Vec<Arc<EarlierRows>>,
    /// Inside `MATCH_RECOGNIZE`, which has functions of its own.
    pub(crate) in_match: bool,
    /// Columns looked through so far.
    looked_through: usize,
    /// Common table expressions read so far, by address.
    pub(crate) ctes_read: BTreeSet<usize>,
    /// How far into bodies the reading is.
    pub(crate) bodies: Depth,
    /// Common table expressions whose columns nobody knows and that a policy decided on: what SHOW gives.
    pub(crate) shown: BTreeSet<String>,
    /// What of the text was said in other words.
    pub(crate) reworded: Option<&'r Reworded>,
}

impl<'a, 'r> Reader<'a, 'r> {
    pub(crate) fn new(
        World { catalog, beside: Beside { earlier, bound } }: World<'a>,
        session: SessionContext,
        request: &'r Request,
        depth_max: usize,
        places: &'r Places<'r>,
    ) -> Self {
        Self {
            catalog,
            earlier,
            bound,
            session,
            request: Cow::Borrowed(request),
            depth_max,
            places: Some(places),
            known: Vec::new(),
            numbered: Numbered::default(),
            by_name: HashMap::new(),
            uncatalogued: HashMap::new(),
            sites: Vec::new(),
            columns_read: Columns::new(),
            objects: BTreeSet::new(),
            unresolved: BTreeSet::new(),
            functions: BTreeSet::new(),
            exports: BTreeSet::new(),
            relations: BTreeSet::new(),
            cross_join: false,
            expanding: Vec::new(),
            through_made: Columns::new(),
            read_again: Vec::new(),
            in_match: false,
            looked_through: 0,
            ctes_read: BTreeSet::new(),
            bodies: Depth::default(),
            shown: BTreeSet::new(),
            reworded: None,
        }
    }

    pub(crate) fn world(&self) -> World<'a> {
        World { catalog: self.catalog, beside: Beside { earlier: self.earlier, bound: self.bound } }
    }

    /// Runs `work`, and forgets what it gathered when it stops.
    pub(crate) fn attempt<T>(&mut self, work: impl FnOnce(&mut Self) -> Read<T>) -> Read<T> {
        let sites = self.sites.len();
        let columns_read = std::mem::take(&mut self.columns_read);
        let through_made = std::mem::take(&mut self.through_made);
        let objects = std::mem::take(&mut self.objects);
        let unresolved = std::mem::take(&mut self.unresolved);
        let functions = std::mem::take(&mut self.functions);
        let exports = std::mem::take(&mut self.exports);
        let relations = std::mem::take(&mut self.relations);
        let (cross_join, in_match) = (self.cross_join, self.in_match);
        let read = work(self);
        if read.is_err() {
            self.sites.truncate(sites);
            self.columns_read = Columns::new();
            self.through_made = Columns::new();
            self.objects.clear();
            self.unresolved.clear();
            self.functions.clear();
            self.exports.clear();
            self.relations.clear();
            (self.cross_join, self.in_match) = (cross_join, in_match);
        }
        self.columns_read.unite(&columns_read);
        self.through_made.unite(&through_made);
        self.objects.extend(objects);
        self.unresolved.extend(unresolved);
        self.functions.extend(functions);
        self.exports.extend(exports);
        self.relations.extend(relations);
        read
    }

    /// What was changed so far, by kind and name.
    pub(crate) fn touched_so_far(&self) -> BTreeSet<(ObjectKind, Vec<String>)> {
        let changed = self.objects.iter().filter(|object| heads::changes(object.effect));
        changed.map(|object| (object.kind, object.name.parts().to_vec())).collect()
    }

    /// Counts columns that are about to be looked through; stops when the statement has had too many. A few words can
    /// make any number of columns: each expression that reads the one before it twice has twice its columns.
    pub(crate) fn look_through(&mut self, columns: usize) -> Read<()> {
        self.looked_through = self.looked_through.saturating_add(columns);
        if self.looked_through > COLUMNS_LOOKED_THROUGH_MAX {
            return stop("a statement whose names can mean this many columns is not understood; split it");
        }
        Ok(())
    }

    /// Notes an object and what is done to it.
    pub(crate) fn touch(&mut self, kind: ObjectKind, name: ObjectName, effect: Effect) {
        self.objects.insert(ObjectAccess { kind, name, effect });
    }

    /// Notes a relation and what is done to it; the catalog, or the statement that made it, says whether it is a view.
    pub(crate) fn touch_relation(&mut self, name: &RelationName, otherwise: ObjectKind, effect: Effect) {
        let temporary = || match self.earlier.relations.get(name) {
            Some(Ok(EarlierRelation::View(entry))) => Some(entry.kind),
            _ => None,
        };
        let kind = match self.catalog.relation(name).map(|entry| entry.kind).or_else(temporary) {
            Some(RelationKind::Table) => ObjectKind::Table,
            Some(RelationKind::View) => ObjectKind::View,
            None => otherwise,
        };
        self.touch(kind, ObjectName::from(name), effect);
    }

    /// Notes a name that does not resolve.
    pub(crate) fn miss(&mut self, what: &str, name: impl std::fmt::Display) {
        self.unresolved.insert(format!("{what} {name}"));
    }

    /// Notes something that does not resolve, in the words that say so.
    pub(crate) fn miss_said(&mut self, said: String) {
        self.unresolved.insert(said);
    }

    /// What was written for a call that was reworded and never resolves.
    pub(crate) fn reworded_call(&self, name: Option<&String>) -> Option<String> {
        let calls = self.reworded.map(|reworded| &reworded.unresolved)?;
        calls.iter().find(|(read, _)| Some(read) == name).map(|(_, said)| said.clone())
    }

    /// The relations that are made.
    pub(crate) fn created(&self) -> Vec<RelationName> {
        let made = self.objects.iter().filter(|object| {
            object.effect == Effect::Create && matches!(object.kind, ObjectKind::Table | ObjectKind::View)
        });
        made.filter_map(|object| RelationName::of(object.name.parts())).collect()
    }

    pub(crate) fn take_objects(&mut self) -> BTreeSet<ObjectAccess> {
        std::mem::take(&mut self.objects)
    }

    pub(crate) fn take_unresolved(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.unresolved)
    }

    /// Runs `work` with nothing gathered yet, and gives back what it gathered besides its result.
    pub(crate) fn apart<T>(
        &mut self,
        session: SessionContext,
        work: impl FnOnce(&mut Self) -> T,
    ) -> (T, BTreeSet<String>) {
        let outer_session = std::mem::replace(&mut self.session, session);
        let sites = std::mem::take(&mut self.sites);
        let columns_read = std::mem::take(&mut self.columns_read);
        let objects = std::mem::take(&mut self.objects);
        let unresolved = std::mem::take(&mut self.unresolved);
        let functions = std::mem::take(&mut self.functions);
        let relations = std::mem::take(&mut self.relations);
        let (cross_join, places, reworded) = (self.cross_join, self.places.take(), self.reworded.take());
        let result = work(self);
        let missed = std::mem::replace(&mut self.unresolved, unresolved);
        self.session = outer_session;
        self.sites = sites;
        self.columns_read = columns_read;
        self.objects = objects;
        self.functions = functions;
        self.relations = relations;
        self.cross_join = cross_join;
        self.places = places;
        self.reworded = reworded;
        (result, missed)
    }

    /// The number of a catalogued relation.
    pub(crate) fn know(&mut self, name: &RelationName, entry: &'a CatalogRelation) -> usize {
        if let Some(&known) = self.by_name.get(name) {
            return known;
        }
        let (view, mut beneath) = match entry.kind {
            RelationKind::Table => (None, BTreeSet::new()),
            RelationKind::View => {
                let (output, beneath) = self.expand(name, entry);
                (Some(Arc::new(output)), beneath)
            }
        };
        let deeper = beneath.iter().filter_map(|name| self.known.get(*self.by_name.get(name)?));
        let deeper: Vec<_> = deeper.flat_map(|known| known.beneath.iter().cloned()).collect();
        beneath.extend(deeper);
        // Expanding may have met the same relation; the first number stands.
        if let Some(&known) = self.by_name.get(name) {
            return known;
        }
        let known = self.known.len();
        self.by_name.insert(name.clone(), known);
        let numbers = vec![None; entry.columns.len()];
        self.known.push(Known { name: Arc::new(name.clone()), entry, view, beneath, numbers });
        known
    }

    /// A new place where `known` is named.
    pub(crate) fn site(&mut self, known: usize, role: Role, name: &ast::ObjectName, aliased: bool) -> usize {
        let (last, span) = if let Some(idents) = crate::names::idents(name) {
            (idents.last().map(ToString::to_string).unwrap_or_default(), self.span(&idents))
        } else {
            // What a constant names answers to the name as it is stored.
            let stored = self.known.get(known).map(|known| rewrite::quoted(&known.name.name));
            (stored.unwrap_or_default(), self.places.and_then(|places| places.named_by(name)))
        };
        self.sites.push(Site {
            known,
            role,
            used: BTreeSet::new(),
            kept: BTreeSet::new(),
            name: span,
            last,
            aliased,
            qualified: None,
            clause_end: None,
            added: &[],
            match_end: None,
            prefixes: Vec::new(),
            contested: false,
            by_place: false,
            change: None,
        });
        self.sites.len() - 1
    }

    /// Bytes from the first identifier to the last.
    pub(crate) fn span(&self, idents: &[&Ident]) -> Option<Range<usize>> {
        let places = self.places?;
        let first = places.ident(idents.first()?)?;
        let last = places.ident(idents.last()?)?;
        Some(first.start..last.end)
    }

    /// Marks a column as read, through its site when it has one, and says where its values come from.
    pub(crate) fn read(&mut self, known: usize, column: usize, site: Option<usize>) -> Lineage {
        if let Some(site) = site.and_then(|site| self.sites.get_mut(site)) {
            site.used.insert(column);
        }
        let Some(id) = self.column_id(known, column) else { return Lineage::opaque() };
        let mut lineage = Lineage {
            sources: Columns::from(id),
            control: Columns::new(),
            transformation: Transformation::Identity,
            opaque: false,
        };
        let view = self.known.get(known).and_then(|known| known.view.clone());
        if let Some(view) = view {
            if let Some(column) = view.columns.get(column) {
                lineage.sources.unite(&column.lineage.sources);
                lineage.control.unite(&column.lineage.control);
                lineage.opaque |= column.lineage.opaque;
                lineage.transformation = column.lineage.transformation;
            }
            lineage.control.unite(&view.rows);
        }
        self.columns_read.unite(&lineage.sources);
        self.columns_read.unite(&lineage.control);
        lineage
    }

    /// The number of a column; `None` only when there is no such column, or more of them than can be numbered.
    fn column_id(&mut self, known: usize, column: usize) -> Option<ColumnId> {
        let Known { name, entry, numbers, .. } = self.known.get_mut(known)?;
        let number = numbers.get_mut(column)?;
        if number.is_none() {
            let name = ColumnName::new(Arc::clone(name), entry.columns.get(column)?.name.as_str());
            *number = ColumnId::numbered(self.numbered.0.len());
            self.numbered.0.push(NumberedColumn { place: Some((known, column)), name });
        }
        *number
    }

    /// A column that is not listed: where it comes from is not sure, but the relations that can have it are told.
    pub(crate) fn unlisted(&mut self, beyond: &Beyond, column: &str) -> Lineage {
        let mut lineage = Lineage::opaque();
        for relation in &beyond.0 {
            lineage.sources.extend(self.uncatalogued(ColumnName::new(Arc::clone(relation), column)));
        }
        if !lineage.sources.is_empty() {
            lineage.transformation = Transformation::Identity;
        }
        self.columns_read.unite(&lineage.sources);
        lineage
    }

    /// Notes that all columns of relations were read which the catalog does not hold.
    pub(crate) fn read_all(&mut self, beyond: &Beyond) {
        for name in beyond.all() {
            let id = self.uncatalogued(name);
            self.columns_read.extend(id);
        }
    }

    /// The number of a column that the catalog does not hold; `None` when there are more of them than are told.
    fn uncatalogued(&mut self, name: ColumnName) -> Option<ColumnId> {
        if let Some(&id) = self.uncatalogued.get(&name) {
            return Some(id);
        }
        if self.uncatalogued.len() >= UNCATALOGUED_MAX {
            return None;
        }
        let id = ColumnId::numbered(self.numbered.0.len())?;
        self.numbered.0.push(NumberedColumn { place: None, name: name.clone() });
        self.uncatalogued.insert(name, id);
        Some(id)
    }

    /// The full names of columns.
    pub(crate) fn column_names(&self, ids: &Columns) -> BTreeSet<ColumnName> {
        self.numbered.names(ids)
    }

    /// The full names of the columns read and of the protected paths in them: whoever reads a VARIANT could read any.
    pub(crate) fn columns_asked(&self) -> BTreeSet<ColumnName> {
        let mut names = self.column_names(&self.columns_read);
        for (known, column) in self.columns_read.iter().filter_map(|id| self.numbered.place(id)) {
            names.extend(self.known.get(known).iter().flat_map(|known| known.paths(column)));
        }
        names
    }

    /// Numbers of columns given by full name.
    pub(crate) fn column_ids(&mut self, names: &BTreeSet<ColumnName>) -> Columns {
        let mut ids = Columns::new();
        for name in names {
            let Some(entry) = self.catalog.relation(&name.relation) else {
                ids.extend(self.uncatalogued(name.clone()));
                continue;
            };
            let relation = self.know(&name.relation, entry);
            let column = entry.columns.iter().position(|column| column.name == *name.column);
            ids.extend(column.and_then(|column| self.column_id(relation, column)));
        }
        ids
    }

    /// Reads a view's own text and says where its columns come from, and which relations it reads.
    fn expand(&mut self, name: &RelationName, entry: &'a CatalogRelation) -> (Output, BTreeSet<RelationName>) {
        let mut beneath = BTreeSet::new();
        let output = self.expanded(name, entry, &mut beneath);
        (output, beneath)
    }

    fn expanded(
        &mut self,
        name: &RelationName,
        entry: &'a CatalogRelation,
        beneath: &mut BTreeSet<RelationName>,
    ) -> Output {
        let opaque = || Output {
            columns: entry
                .columns
                .iter()
                .map(|c| OutputColumn { name: c.name.clone(), lineage: Lineage::opaque() })
                .collect(),
            ..Output::default()
        };
        if self.expanding.contains(name) || self.expanding.len() >= self.depth_max {
            self.miss("view", format_args!("{name}: it is defined by itself"));
            return opaque();
        }
        let session = SessionContext {
            database: Some(name.database.clone()),
            schema: Some(name.schema.clone()),
            role: None,
            warehouse: None,
        };
        let pieces = entry.definition.as_deref().and_then(|text| gate::split(text).ok()).unwrap_or_default();
        self.expanding.push(name.clone());
        let read = on_enough_stack(&pieces, || {
            let query = definition(&pieces, self.depth_max)?;
            Some(self.apart(session, |reader| {
                let output = reader.query(&query, None, &Ctes::default());
                beneath.append(&mut reader.relations);
                let tokens = pieces.first().map(|piece| piece.tokens.as_slice()).unwrap_or_default();
                output.map(|output| Output { row_of: rowwise::row_of(&query, tokens, &reader.session), ..output })
            }))
        });
        self.expanding.pop();
        let Some(Some((output, missed))) = read else {
            self.miss("view", format_args!("{name}: its text in the catalog is not read"));
            return opaque();
        };
        for missing in missed {
            self.miss("view", format_args!("{name}: {missing}"));
        }
        match output {
            Ok(output) if !output.open && output.columns.len() == entry.columns.len() => output,
            Ok(_) => {
                self.miss("view", format_args!("{name}: the catalog lists other columns than its text gives"));
                opaque()
            }
            Err(Stop(why)) => {
                self.miss("view", format_args!("{name}: {why}"));
                opaque()
            }
        }
    }
}

/// The query in a view's text, with or without `CREATE VIEW … AS`.
fn definition(pieces: &[Piece<'_>], depth_max: usize) -> Option<Box<ast::Query>> {
    let [piece] = pieces else { return None };
    if piece.operators > OPERATORS_MAX {
        return None;
    }
    let reworded = reword::reword(piece).filter(|reworded| reworded.unresolved.is_empty());
    let again = reworded.as_ref().and_then(|reworded| gate::again(&reworded.text, piece));
    match parse::parse(again.as_ref().unwrap_or(piece), depth_max).ok()? {
        ast::Statement::Query(query) => Some(query),
        ast::Statement::CreateView(view) => Some(view.query),
        _ => None,
    }
}
