//! From a text to what each of its statements does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use icegate_pdp_model::{
    Catalog, ColumnName, EarlierColumn, EarlierRows, Facts, Kind, Level, MadeTemporary, Mask, ObjectKind, OutputColumn,
    RelationName, SessionContext, StatementAnalysis, Transformation, Verb,
};
use sqlparser::ast::Statement;
use thiserror::Error;

use crate::{
    earlier::Earlier,
    facts, flow,
    gate::{self, Piece},
    heads::{self, Head},
    parse::{self, Places, Unparsed},
    reader::{Columns, Known, Made, Numbered, Output, Reader, Request, Site, Stop, World},
    reword,
    rewrite::{self, Rewriting, Rewritten, Unmaskable},
    scripting,
    stack::{OPERATORS_MAX, on_enough_stack},
    statement::{After, Draft, Stored, Unrewritable},
    stops,
};

/// How much text is read at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest text, in bytes.
    pub bytes_max: usize,
    /// Most statements in one text.
    pub statements_max: usize,
    /// Deepest nesting of expressions and queries.
    pub depth_max: usize,
}

impl Default for Limits {
    /// 256 KiB, 16 statements, 50 levels.
    fn default() -> Self {
        Self { bytes_max: 256 * 1024, statements_max: 16, depth_max: 50 }
    }
}

/// Why a text was not read at all.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AnalyzeError {
    /// More bytes than the limit.
    #[error("the text has {bytes} bytes and the limit is {bytes_max}; split it, or load data from a stage instead")]
    TooLong {
        /// Bytes it has.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// More statements than the limit.
    #[error("the text has {statements} statements and the limit is {statements_max}; send them in several requests")]
    TooManyStatements {
        /// Statements it has.
        statements: usize,
        /// The limit.
        statements_max: usize,
    },
    /// Nested deeper than the limit.
    #[error("a statement is nested deeper than {depth_max} levels; use common table expressions instead")]
    TooDeep {
        /// The limit.
        depth_max: usize,
    },
    /// More operators in one statement than the limit.
    #[error(
        "a statement has {operators} operators and the limit is {operators_max}; use `IN` with a list or a join instead"
    )]
    TooManyOperators {
        /// Operators it has.
        operators: usize,
        /// The limit.
        operators_max: usize,
    },
    /// No stack of its own could be had for a deep statement.
    #[error("no memory to read a deep statement; send it again later")]
    NoStack,
}

/// A text and what was read in it.
#[derive(Debug)]
pub struct Analyzed<'a> {
    /// One entry per statement, in their order. A text that could not even be split is one unknown statement.
    pub statements: Vec<StatementAnalysis>,
    pub(crate) sql: &'a str,
    pub(crate) session: SessionContext,
    pub(crate) world: World<'a>,
    pub(crate) limits: Limits,
    pub(crate) plans: Vec<Plan<'a>>,
}

/// What rewriting one statement needs to know.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) known: Vec<Known<'a>>,
    pub(crate) numbered: Numbered,
    pub(crate) sites: Vec<Site>,
    pub(crate) columns_read: Columns,
    /// Columns read from what earlier statements of the request stored, masked there.
    pub(crate) through_made: Columns,
    /// Rows of earlier statements that are read again.
    pub(crate) read_again: Vec<Arc<EarlierRows>>,
    pub(crate) unmaskable: Option<Unrewritable>,
    /// What is read again is read anew whenever what is made of it is read, by the same session.
    pub(crate) temporary: bool,
    /// Names of the result's columns.
    pub(crate) labels: Vec<String>,
}

impl Analyzed<'_> {
    /// The text with every read of a masked column replaced by a read of the mask's value. Without masks, the
    /// original text. `hash_salt` is what the `hash` mask is salted with.
    ///
    /// # Errors
    /// When a masked column is read where no mask can stand.
    pub fn rewrite(&self, masks: &BTreeMap<ColumnName, Mask>, hash_salt: &str) -> Result<String, Unmaskable> {
        let expressions = &BTreeMap::new();
        let rewriting = Rewriting { masks, row_filters: &[], names: &[], hash_salt, expressions };
        self.rewrite_by(&rewriting).map(|rewritten| rewritten.sql)
    }

    /// Whether it reads rows of earlier statements again.
    pub fn reads_again(&self) -> bool {
        self.plans.iter().any(|plan| !plan.read_again.is_empty())
    }

    /// The text with its reads masked and their rows filtered. Without masks and filters, the original text.
    ///
    /// # Errors
    /// When a masked column or a filtered relation is read where neither can stand.
    pub fn rewrite_by(&self, rewriting: &Rewriting<'_>) -> Result<Rewritten, Unmaskable> {
        rewrite::rewrite(self, rewriting)
    }
}

/// Reads every statement of a text.
///
/// # Errors
/// When the text is over a limit. SQL that is not understood is no error: it is a statement of level `Unknown`.
pub fn analyze<'a>(
    sql: &'a str,
    session: &SessionContext,
    catalog: &'a Catalog,
    limits: &Limits,
) -> Result<Analyzed<'a>, AnalyzeError> {
    analyze_with(Beside::nothing(), sql, session, catalog, limits)
}

/// What is known of a request beside its text.
#[derive(Debug, Clone, Copy)]
pub struct Beside<'a> {
    /// What earlier statements of its session left.
    pub earlier: &'a Earlier,
    /// The names that its values are bound by, in capitals: `:NAME` is one of those values, and otherwise nothing known.
    pub bound: &'a BTreeSet<String>,
}

impl Beside<'_> {
    /// Nothing.
    pub fn nothing() -> Self {
        static NO_NAMES: BTreeSet<String> = BTreeSet::new();
        Self { earlier: Earlier::none(), bound: &NO_NAMES }
    }
}

/// The same for a request that is more than its text.
///
/// # Errors
/// As [`analyze`].
pub fn analyze_with<'a>(
    beside: Beside<'a>,
    sql: &'a str,
    session: &SessionContext,
    catalog: &'a Catalog,
    limits: &Limits,
) -> Result<Analyzed<'a>, AnalyzeError> {
    analyze_for(Purpose::Answer, World { catalog, beside }, sql, session, limits)
}

/// What an analysis is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be told.
    Answer,
    /// To be compared with another: everything but the projection, which nothing is compared by.
    Proof,
}

pub(crate) fn analyze_for<'a>(
    purpose: Purpose,
    world: World<'a>,
    sql: &'a str,
    session: &SessionContext,
    limits: &Limits,
) -> Result<Analyzed<'a>, AnalyzeError> {
    if sql.len() > limits.bytes_max {
        return Err(AnalyzeError::TooLong { bytes: sql.len(), bytes_max: limits.bytes_max });
    }
    let (statements, plans) = match gate::split(sql).map(|pieces| scripting::group(sql, pieces)) {
        Err(why) => vec![unknown(why, sql.len())],
        Ok(pieces) if pieces.is_empty() => vec![unknown("there is no statement in the text".into(), sql.len())],
        Ok(pieces) => {
            if pieces.len() > limits.statements_max {
                let statements = pieces.len();
                return Err(AnalyzeError::TooManyStatements { statements, statements_max: limits.statements_max });
            }
            let operators = pieces.iter().map(|piece| piece.operators).max().unwrap_or_default();
            if operators > OPERATORS_MAX {
                return Err(AnalyzeError::TooManyOperators { operators, operators_max: OPERATORS_MAX });
            }
            on_enough_stack(&pieces, || read_all(purpose, world, &pieces, session, limits))
                .ok_or(AnalyzeError::NoStack)??
        }
    }
    .into_iter()
    .unzip();
    Ok(Analyzed { statements, sql, session: session.clone(), world, limits: *limits, plans })
}

pub(crate) type Reading<'a> = (StatementAnalysis, Plan<'a>);

fn read_all<'a>(
    purpose: Purpose,
    world: World<'a>,
    pieces: &[Piece<'_>],
    session: &SessionContext,
    limits: &Limits,
) -> Result<Vec<Reading<'a>>, AnalyzeError> {
    if let [alone] = pieces
        && let Some(reading) = stops::read(alone)
    {
        return Ok(vec![reading]);
    }
    let mut session = session.clone();
    let mut request = Request::default();
    let mut readings: Vec<Reading<'a>> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let bytes = piece.text.len();
        if readings.last().is_some_and(|(analysis, _)| analysis.level != Level::Understood) {
            let why = "it follows a statement that is not understood, which may change what its names mean".to_owned();
            readings.push(unknown(why, bytes));
            continue;
        }
        if scripting::opens(&piece.tokens) {
            // The parser has another idea of what a block is.
            readings.push(by_head(
                piece,
                &session,
                world,
                &request,
                limits,
                "its statements are read one by one".to_owned(),
            ));
            continue;
        }
        match flow::steps(piece) {
            Ok(None) => {}
            Ok(Some(steps)) => {
                readings.push(flow::read(purpose, &steps, piece, &session, world, &request, limits)?);
                continue;
            }
            Err(why) => {
                readings.push(unknown(why, bytes));
                continue;
            }
        }
        let reworded = reword::reword(piece);
        let again = reworded.as_ref().and_then(|reworded| gate::again(&reworded.text, piece));
        let readable = again.as_ref().unwrap_or(piece);
        readings.push(match parse::parse(readable, limits.depth_max) {
            Ok(statement) => {
                let places = Places::of(readable);
                let mut reader = Reader::new(world, session.clone(), &request, limits.depth_max, &places);
                reader.reworded = reworded.as_ref().filter(|_| again.is_some());
                match read(purpose, reader, &statement, bytes) {
                    Ok((mut reading, after)) => {
                        for after in after {
                            follow(after, world, &mut session, &mut request);
                        }
                        if let Some(made) = &mut reading.0.makes {
                            made.text = (made.kind == ObjectKind::View).then(|| piece.text.to_owned());
                        }
                        reading
                    }
                    Err(Stop(why)) => by_head(piece, &session, world, &request, limits, why),
                }
            }
            Err(Unparsed::TooDeep) => return Err(AnalyzeError::TooDeep { depth_max: limits.depth_max }),
            Err(Unparsed::Because(why)) => by_head(piece, &session, world, &request, limits, why),
        });
    }
    Ok(readings)
}

fn read<'a>(
    purpose: Purpose,
    mut reader: Reader<'a, '_>,
    statement: &Statement,
    bytes: usize,
) -> Result<(Reading<'a>, Vec<After>), Stop> {
    let draft = reader.statement(statement)?;
    Ok(understood(purpose, reader, draft, statement, bytes))
}

/// What was read of a statement, put together.
pub(crate) fn understood<'a>(
    purpose: Purpose,
    mut reader: Reader<'a, '_>,
    draft: Draft,
    statement: &Statement,
    bytes: usize,
) -> (Reading<'a>, Vec<After>) {
    let Draft { kind, output, stored, mut exports, session_changes, after, unmaskable, temporary } = draft;
    let makes = after.iter().find_map(|after| if temporary { made(kind, after) } else { None });
    exports.append(&mut std::mem::take(&mut reader.exports).into_iter().collect());
    let mut projection = match (&output, kind.verb) {
        (Some(output), Verb::Select) if purpose == Purpose::Answer => project(&reader, output, None),
        _ => Vec::new(),
    };
    // EXPLAIN stores nothing.
    if kind.verb != Verb::Explain && purpose == Purpose::Answer {
        for Stored { target, output } in &stored {
            projection.extend(project(&reader, output, Some(target)));
        }
        for (column, ordinal) in projection.iter_mut().zip(1..) {
            column.ordinal = ordinal;
        }
    }
    let labels = output.map_or_else(Vec::new, |output| output.columns.into_iter().map(|column| column.name).collect());
    let objects = reader.take_objects();
    let analysis = StatementAnalysis {
        level: Level::Understood,
        kind,
        effects: objects.iter().map(|object| object.effect).collect(),
        objects: objects.into_iter().collect(),
        columns_read: reader.columns_asked(),
        rows_met: reader.known.iter().map(|known| (*known.name).clone()).collect(),
        projection,
        exports,
        unresolved: reader.take_unresolved().into_iter().collect(),
        why: None,
        facts: Facts {
            has_where: facts::has_where(statement),
            limit: facts::limit(statement),
            relations: u32::try_from(reader.relations.len()).unwrap_or(u32::MAX),
            cross_join: reader.cross_join,
            functions: std::mem::take(&mut reader.functions),
            bytes: bytes as u64,
        },
        session_changes,
        stops: None,
        makes,
    };
    let Reader { known, numbered, sites, columns_read, through_made, read_again, .. } = reader;
    let plan = Plan { known, numbered, sites, columns_read, through_made, read_again, unmaskable, temporary, labels };
    ((analysis, plan), after)
}

/// What the head of a statement says that is not understood; unknown when it says nothing.
fn by_head<'a>(
    piece: &Piece<'_>,
    session: &SessionContext,
    world: World<'a>,
    request: &Request,
    limits: &Limits,
    why: String,
) -> Reading<'a> {
    let bytes = piece.text.len();
    let places = Places::of(piece);
    let mut reader = Reader::new(world, session.clone(), request, limits.depth_max, &places);
    let Head { kind, mut exports, unmaskable, opaque, bodies, temporary } = match heads::classify(piece, &mut reader) {
        Ok(head) => head,
        Err(better) => return unknown(better.unwrap_or(why), bytes),
    };
    exports.append(&mut std::mem::take(&mut reader.exports).into_iter().collect());
    let objects = reader.take_objects();
    let analysis = StatementAnalysis {
        level: Level::Classified,
        kind,
        effects: objects.iter().map(|object| object.effect).collect(),
        objects: objects.into_iter().collect(),
        columns_read: reader.columns_asked(),
        rows_met: reader.known.iter().map(|known| (*known.name).clone()).collect(),
        projection: Vec::new(),
        exports,
        unresolved: reader.take_unresolved().into_iter().collect(),
        why: Some(opaque.unwrap_or_else(|| {
            let by = match (kind.verb, bodies) {
                (Verb::Block, _) => "a block",
                (_, true) => "told by its head and the SQL in it",
                (_, false) => "told by its head alone",
            };
            format!("{by}: {why}")
        })),
        facts: Facts {
            relations: u32::try_from(reader.relations.len()).unwrap_or(u32::MAX),
            cross_join: reader.cross_join,
            functions: std::mem::take(&mut reader.functions),
            bytes: bytes as u64,
            ..Facts::default()
        },
        session_changes: Vec::new(),
        stops: None,
        makes: temporary.and_then(|name| made(kind, &After::Unsure(name))),
    };
    let Reader { known, numbered, sites, columns_read, through_made, read_again, .. } = reader;
    let labels = Vec::new();
    let temporary = false;
    (analysis, Plan { known, numbered, sites, columns_read, through_made, read_again, unmaskable, temporary, labels })
}

/// The temporary relation that is made.
fn made(kind: Kind, after: &After) -> Option<MadeTemporary> {
    let (name, columns) = match after {
        After::Made(name, columns) => (name, Some(columns)),
        After::Unsure(name) => (name, None),
        _ => return None,
    };
    let column = |(name, sources): &(String, BTreeSet<ColumnName>)| EarlierColumn {
        name: name.clone(),
        sources: sources.clone(),
        opaque: false,
    };
    let columns = columns.map(|columns| columns.iter().map(column).collect());
    Some(MadeTemporary { name: name.clone(), kind: kind.object?, columns, text: None })
}

fn project(reader: &Reader<'_, '_>, output: &Output, target: Option<&RelationName>) -> Vec<OutputColumn> {
    let in_order = reader.numbered.in_order();
    let names = |ids: &Columns| -> BTreeSet<ColumnName> {
        in_order.iter().filter(|(id, _)| ids.contains(*id)).map(|(_, name)| (*name).clone()).collect()
    };
    let columns = output.columns.iter().zip(1..).map(|(column, ordinal)| {
        let mut control = column.lineage.control.clone();
        control.unite(&output.rows);
        OutputColumn {
            ordinal,
            name: column.name.clone(),
            sources: names(&column.lineage.sources),
            control: names(&control),
            transformation: column.lineage.transformation,
            opaque: column.lineage.opaque || output.open,
            target: target.cloned(),
        }
    });
    let mut projection: Vec<OutputColumn> = columns.collect();
    if output.open {
        // What else there is has no name here, but it is said that there may be more.
        projection.push(OutputColumn {
            ordinal: projection.last().map_or(1, |column| column.ordinal + 1),
            name: "*".to_owned(),
            sources: output.beyond.all().collect(),
            control: names(&output.rows),
            transformation: Transformation::Transformation,
            opaque: true,
            target: target.cloned(),
        });
    }
    projection
}

/// What a statement changed for the ones after it.
pub(crate) fn follow(after: After, world: World<'_>, session: &mut SessionContext, request: &mut Request) {
    match after {
        After::Made(name, columns) => {
            request.made.insert(name, Made::Columns(columns));
        }
        After::Fed(name, sources) => match request.made.get_mut(&name) {
            Some(Made::Columns(columns)) => {
                for (_, column) in columns {
                    column.extend(sources.iter().cloned());
                }
            }
            Some(Made::Unsure) => {}
            None => unsure_if_temporary(name, world, request),
        },
        // What the catalog says of a relation holds; what an earlier statement said of one it made does not.
        After::Loaded(name) => match request.made.get_mut(&name) {
            Some(made) => *made = Made::Unsure,
            None => unsure_if_temporary(name, world, request),
        },
        After::Unsure(name) => {
            request.made.insert(name, Made::Unsure);
        }
        After::Moved(name) => {
            request.made.insert(name.clone(), Made::Unsure);
            request.moved.insert(name);
        }
        After::UnsureContainer(parts) => {
            request.unsure.insert(parts);
        }
        After::Session(changed) => *session = changed,
    }
}

/// What is known of the session's temporary relations is how they were before the request.
fn unsure_if_temporary(name: RelationName, world: World<'_>, request: &mut Request) {
    if world.beside.earlier.relations.contains_key(&name) {
        request.made.insert(name, Made::Unsure);
    }
}

pub(crate) fn unknown<'a>(why: String, bytes: usize) -> Reading<'a> {
    let analysis = StatementAnalysis {
        level: Level::Unknown,
        kind: Kind::of(Verb::Unknown),
        effects: BTreeSet::new(),
        objects: Vec::new(),
        columns_read: BTreeSet::new(),
        rows_met: BTreeSet::new(),
        projection: Vec::new(),
        exports: Vec::new(),
        unresolved: Vec::new(),
        why: Some(why),
        facts: Facts { bytes: bytes as u64, ..Facts::default() },
        session_changes: Vec::new(),
        stops: None,
        makes: None,
    };
    let plan = Plan {
        known: Vec::new(),
        numbered: Numbered::default(),
        sites: Vec::new(),
        columns_read: Columns::new(),
        through_made: Columns::new(),
        read_again: Vec::new(),
        unmaskable: None,
        temporary: false,
        labels: Vec::new(),
    };
    (analysis, plan)
}
