use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use crate::{ColumnName, MadeTemporary, ObjectName, RelationName};

/// Names a session resolves unqualified identifiers with. `None` = none set.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionContext {
    /// Current database, folded.
    pub database: Option<String>,
    /// Current schema, folded.
    pub schema: Option<String>,
    /// Current role, folded.
    pub role: Option<String>,
    /// Current warehouse, folded.
    pub warehouse: Option<String>,
}

/// What one statement is, touches, reads and discloses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementAnalysis {
    /// How much of it was read.
    pub level: Level,
    /// What it is.
    pub kind: Kind,
    /// Everything it does to anything, from `objects`.
    pub effects: BTreeSet<Effect>,
    /// Every object it touches, and how.
    pub objects: Vec<ObjectAccess>,
    /// Every catalogued column whose value can influence anything: values, predicates, joins, order.
    pub columns_read: BTreeSet<ColumnName>,
    /// Every catalogued relation it names or, through views, reads: those whose rows policies may filter.
    #[serde(default)]
    pub rows_met: BTreeSet<RelationName>,
    /// Where each output column comes from: the result's columns, and of a statement that stores rows (`INSERT`,
    /// `UPDATE`, `MERGE`, `COPY INTO` a table, `CREATE … AS`) the columns stored, which name their
    /// [`target`](OutputColumn::target). Empty when there is neither or the statement is not understood.
    pub projection: Vec<OutputColumn>,
    /// Destinations data would leave to, for example `s3://bucket/x` or `@stage`.
    pub exports: Vec<String>,
    /// Names that could not be resolved. Never dropped: a statement with any is refused.
    pub unresolved: Vec<String>,
    /// What stopped the reading, when `level` is not [`Level::Understood`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Facts policies may ask for.
    pub facts: Facts,
    /// Session parameters it sets to a literal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub session_changes: Vec<SessionChange>,
    /// What it stops; it is then nothing but the call that does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stops: Option<Stops>,
    /// The temporary relation it makes, when what is in it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub makes: Option<MadeTemporary>,
}

impl StatementAnalysis {
    /// What the columns of the result are called, in their order; `None` inside where Snowflake makes the name itself.
    /// Nothing at all when their number is not known for certain.
    pub fn promised_columns(&self) -> Option<Vec<Option<&str>>> {
        let known = self.level == Level::Understood
            && self.kind == Kind::of(Verb::Select)
            && self.unresolved.is_empty()
            && !self.projection.is_empty()
            && !self.projection.iter().any(|column| column.name == "*");
        if !known {
            return None;
        }
        let names = || self.projection.iter().map(|column| column.name.as_str());
        // Of two columns of one name a warehouse may rename one.
        let once = |name: &str| names().filter(|other| other.eq_ignore_ascii_case(name)).count() == 1;
        Some(names().map(|name| Some(name).filter(|name| is_plain_name(name) && once(name))).collect())
    }
}

/// Whether it can only be the name of a column or an alias. Everything else may be an expression's text, which Snowflake
/// writes in a way of its own.
fn is_plain_name(name: &str) -> bool {
    const EXPRESSIONS: [&str; 3] = ["NULL", "TRUE", "FALSE"];
    // What a warehouse calls the columns of VALUES, and what it says the time with.
    const CONTEXT: [&str; 5] = ["COLUMN", "CURRENT_", "LOCALTIME", "SYSDATE", "SYSTIMESTAMP"];
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !EXPRESSIONS.contains(&name)
        && !CONTEXT.iter().any(|start| name.starts_with(start))
}

/// How much of a statement was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Parsed whole; objects, columns and lineage are known.
    Understood,
    /// The head was read: kind, effects and objects are known, columns are not.
    Classified,
    /// Not read.
    Unknown,
}

impl Level {
    /// The word used in records and in Cedar.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Understood => "understood",
            Self::Classified => "classified",
            Self::Unknown => "unknown",
        }
    }
}

/// What a statement is: its verb and, for DDL, the kind of object. Written `select`, `drop_database`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// What is done.
    pub verb: Verb,
    /// To what kind of object, where the verb alone does not say.
    pub object: Option<ObjectKind>,
}

impl Kind {
    /// A kind that is its verb alone.
    pub const fn of(verb: Verb) -> Self {
        Self { verb, object: None }
    }

    /// A verb done to a kind of object.
    pub const fn on(verb: Verb, object: ObjectKind) -> Self {
        Self { verb, object: Some(object) }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.verb.as_str())?;
        match self.object {
            Some(object) => write!(f, "_{}", object.as_str()),
            None => Ok(()),
        }
    }
}

/// An enum written as one lower-case word, with all its values listed once.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $word)] $variant,)*
        }
        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// The word used in records, in Cedar and on screens.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// What a statement does, in SQL's own verbs.
    Verb {
        /// A query.
        Select = "select",
        /// INSERT, one table or several.
        Insert = "insert",
        /// UPDATE.
        Update = "update",
        /// DELETE.
        Delete = "delete",
        /// MERGE.
        Merge = "merge",
        /// TRUNCATE.
        Truncate = "truncate",
        /// CREATE.
        Create = "create",
        /// ALTER.
        Alter = "alter",
        /// DROP.
        Drop = "drop",
        /// UNDROP.
        Undrop = "undrop",
        /// COPY INTO a table.
        CopyLoad = "copy_load",
        /// COPY INTO a stage or URL.
        CopyUnload = "copy_unload",
        /// COPY FILES from stage to stage.
        CopyFiles = "copy_files",
        /// GRANT.
        Grant = "grant",
        /// REVOKE.
        Revoke = "revoke",
        /// USE.
        Use = "use",
        /// SHOW.
        Show = "show",
        /// DESCRIBE.
        Describe = "describe",
        /// EXPLAIN.
        Explain = "explain",
        /// ALTER SESSION, SET, UNSET.
        Set = "set",
        /// BEGIN, COMMIT, ROLLBACK.
        Transaction = "transaction",
        /// COMMENT ON.
        Comment = "comment",
        /// CALL.
        Call = "call",
        /// EXECUTE.
        Execute = "execute",
        /// Stopping statements: `SELECT SYSTEM$CANCEL_…(…)`.
        Cancel = "cancel",
        /// A scripting block: BEGIN … END.
        Block = "block",
        /// PUT.
        Put = "put",
        /// GET.
        Get = "get",
        /// LIST.
        List = "list",
        /// REMOVE.
        Remove = "remove",
        /// Not known.
        Unknown = "unknown",
    }
}

words! {
    /// What is done to one object.
    Effect {
        /// Rows are read.
        Read = "read",
        /// Rows are added, changed or removed.
        Write = "write",
        /// The object is made.
        Create = "create",
        /// The object is changed.
        Alter = "alter",
        /// The object is removed.
        Drop = "drop",
        /// Rights on the object are given or taken.
        Grant = "grant",
        /// Data leaves to it.
        Export = "export",
        /// Data comes from it.
        Import = "import",
        /// It runs.
        Execute = "execute",
        /// The session switches to it.
        Use = "use",
        /// Its description is read.
        Metadata = "metadata",
    }
}

words! {
    /// What kind of object it is.
    ObjectKind {
        /// The account itself.
        Account = "account",
        /// A database.
        Database = "database",
        /// A schema.
        Schema = "schema",
        /// A table of any sort.
        Table = "table",
        /// A view of any sort.
        View = "view",
        /// A named or implicit stage: `@stage`, `@~`, `@%table`.
        Stage = "stage",
        /// Storage outside, by URL.
        Location = "location",
        /// A function.
        Function = "function",
        /// A procedure.
        Procedure = "procedure",
        /// A warehouse.
        Warehouse = "warehouse",
        /// A role.
        Role = "role",
        /// A user of the account.
        User = "user",
        /// An integration of any sort.
        Integration = "integration",
        /// A share.
        Share = "share",
        /// A task.
        Task = "task",
        /// A stream.
        Stream = "stream",
        /// A pipe.
        Pipe = "pipe",
        /// A policy of any sort.
        Policy = "policy",
        /// A tag.
        Tag = "tag",
        /// A sequence.
        Sequence = "sequence",
        /// A file format.
        FileFormat = "file_format",
        /// An agent of Cortex.
        Agent = "agent",
        /// An alert.
        Alert = "alert",
        /// An installed application.
        Application = "application",
        /// An application package.
        ApplicationPackage = "application_package",
        /// A backup set or a snapshot.
        Backup = "backup",
        /// A compute pool.
        ComputePool = "compute_pool",
        /// A connection for failover.
        Connection = "connection",
        /// A contact.
        Contact = "contact",
        /// A dataset.
        Dataset = "dataset",
        /// An external volume.
        ExternalVolume = "external_volume",
        /// A failover group.
        FailoverGroup = "failover_group",
        /// A git repository.
        GitRepository = "git_repository",
        /// An image repository.
        ImageRepository = "image_repository",
        /// A listing.
        Listing = "listing",
        /// A reader account, or another account of the organization.
        ManagedAccount = "managed_account",
        /// A model.
        Model = "model",
        /// A model monitor.
        ModelMonitor = "model_monitor",
        /// A network rule.
        NetworkRule = "network_rule",
        /// A notebook.
        Notebook = "notebook",
        /// A profile of the organization.
        Profile = "profile",
        /// A project of dbt or of declarative change management.
        Project = "project",
        /// A replication group.
        ReplicationGroup = "replication_group",
        /// A resource monitor.
        ResourceMonitor = "resource_monitor",
        /// A Cortex search service.
        SearchService = "search_service",
        /// A secret.
        Secret = "secret",
        /// A service on a compute pool, or a server of tools.
        Service = "service",
        /// A Streamlit application.
        Streamlit = "streamlit",
        /// A data type.
        Type = "type",
        /// A workspace.
        Workspace = "workspace",
        /// The session.
        Session = "session",
        /// Anything else, named but not sorted.
        Other = "other",
    }
}

/// Serialises as its text, `drop_database`.
impl Serialize for Kind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Verb::ALL
            .iter()
            .find_map(|&verb| match text.strip_prefix(verb.as_str())? {
                "" => Some(Self::of(verb)),
                rest => {
                    let word = rest.strip_prefix('_')?;
                    ObjectKind::ALL.iter().find(|object| object.as_str() == word).map(|&object| Self::on(verb, object))
                }
            })
            .ok_or_else(|| serde::de::Error::custom(format!("`{text}` is not a kind of statement")))
    }
}

/// One object a statement touches, and how.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectAccess {
    /// What kind of object.
    pub kind: ObjectKind,
    /// Full normalised name; a URL or `@stage` path is one part.
    pub name: ObjectName,
    /// What is done to it.
    pub effect: Effect,
}

/// Where one output column comes from: a column of the result, or of a relation the statement stores rows in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputColumn {
    /// Position, from 1.
    pub ordinal: u32,
    /// Name as Snowflake would label it.
    pub name: String,
    /// Columns whose values can appear in it.
    pub sources: BTreeSet<ColumnName>,
    /// Columns that decided which rows or branch it came from.
    pub control: BTreeSet<ColumnName>,
    /// What happens on the way.
    pub transformation: Transformation,
    /// Its sources could not be told; a reader must assume any.
    pub opaque: bool,
    /// The relation whose column it is; `None` for a column of the result, which whoever asks gets to see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<RelationName>,
}

/// What happens to a value on its way to an output column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Transformation {
    /// It arrives as it is.
    Identity,
    /// It is computed from one row.
    Transformation,
    /// It is computed from many rows.
    Aggregation,
}

/// Facts policies may ask for, as `context.statement`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Facts {
    /// It has a WHERE clause at its outermost level.
    pub has_where: bool,
    /// Rows it asks for at most, from LIMIT, FETCH or TOP with a literal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Relations read, counted once each.
    pub relations: u32,
    /// It joins without a condition.
    pub cross_join: bool,
    /// Functions called, folded.
    pub functions: BTreeSet<String>,
    /// Length of the text, in bytes.
    pub bytes: u64,
}

/// What a statement stops, by the id its text has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stops {
    /// One statement, by its query id.
    Query(String),
    /// All statements of a session, by its number.
    Session(u64),
}

/// A session parameter set or unset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionChange {
    /// Upper case.
    pub name: String,
    /// The literal, `None` for UNSET.
    pub value: Option<String>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Facts, Kind, Level, ObjectKind, OutputColumn, StatementAnalysis, Transformation, Verb};

    fn select(names: &[&str]) -> StatementAnalysis {
        let column = |(&name, ordinal): (&&str, u32)| OutputColumn {
            target: None,
            ordinal,
            name: name.to_owned(),
            sources: BTreeSet::new(),
            control: BTreeSet::new(),
            transformation: Transformation::Identity,
            opaque: false,
        };
        StatementAnalysis {
            rows_met: BTreeSet::new(),
            level: Level::Understood,
            kind: Kind::of(Verb::Select),
            effects: BTreeSet::new(),
            objects: Vec::new(),
            columns_read: BTreeSet::new(),
            projection: names.iter().zip(1..).map(column).collect(),
            exports: Vec::new(),
            unresolved: Vec::new(),
            why: None,
            facts: Facts::default(),
            session_changes: Vec::new(),
            stops: None,
            makes: None,
        }
    }

    #[test]
    fn only_what_is_certain_is_promised() {
        let promised = |names: &[&str]| {
            let analysis = select(names);
            let columns = analysis.promised_columns();
            columns
                .map(|columns| columns.iter().map(|name| name.unwrap_or("?").to_owned()).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(promised(&["ID", "e_mail", "UPPER(NAME)", "'x'", "1"]).unwrap(), "ID e_mail ? ? ?");
        assert_eq!(promised(&["NULL", "CURRENT_DATE", "$3", "A:B", "a b", "COLUMN1"]).unwrap(), "? ? ? ? ? ?");
        assert_eq!(promised(&["ID", "NAME", "id"]).unwrap(), "? NAME ?", "one may be renamed");
        assert_eq!(promised(&[]), None);
        assert_eq!(promised(&["ID", "*"]), None, "there may be more");
        for (level, kind) in [(Level::Classified, Verb::Select), (Level::Understood, Verb::Explain)] {
            let analysis = StatementAnalysis { level, kind: Kind::of(kind), ..select(&["ID"]) };
            assert_eq!(analysis.promised_columns(), None, "{level:?} {kind}");
        }
    }

    #[test]
    fn kinds_read_back() {
        for &verb in Verb::ALL {
            for object in std::iter::once(None).chain(ObjectKind::ALL.iter().copied().map(Some)) {
                let kind = Kind { verb, object };
                let text = serde::de::value::StringDeserializer::<serde::de::value::Error>::new(kind.to_string());
                assert_eq!(<Kind as serde::Deserialize>::deserialize(text).unwrap(), kind);
            }
        }
    }
}
