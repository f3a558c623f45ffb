//! Why a read can be neither masked nor filtered where it stands, and what to do instead.

use icegate_pdp_model::{ColumnName, Mask, RelationName};
use thiserror::Error;

use super::ResultPlace;

/// Why a masked column's read cannot be masked. Each message is a full sentence that says what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unmaskable {
    /// The statement writes to the relation and reads the column there.
    #[error(
        "Column `{column}` is masked for you and this statement reads it in the table it writes to; write without reading it, or ask for clearance."
    )]
    Target {
        /// The masked column.
        column: ColumnName,
    },
    /// A view would be stored over masked reads.
    #[error(
        "Column `{column}` is masked for you, and a view that reads it would serve others; create the view without it, or ask someone who is cleared."
    )]
    View {
        /// The masked column.
        column: ColumnName,
    },
    /// The result of an earlier statement, or a temporary table, holds it with another mask, or with none.
    #[error(
        "Column `{column}` is masked for you, and the earlier result or temporary table that is read holds it otherwise; run the statement it came from again."
    )]
    Earlier {
        /// The masked column.
        column: ColumnName,
    },
    /// The result of an earlier statement, or a temporary table, is read where others could come by.
    #[error(
        "An earlier result or a temporary table is read in a view, a clone, a block or a body; read it in a statement of its own, with CREATE TABLE … AS SELECT to keep it."
    )]
    EarlierStored,
    /// CLONE copies rows as they are stored.
    #[error("Column `{column}` is masked for you and CLONE copies stored rows; use CREATE TABLE … AS SELECT instead.")]
    Copy {
        /// The masked column.
        column: ColumnName,
    },
    /// A block or another body reads it.
    #[error(
        "Column `{column}` is masked for you and this statement reads it in a block, a body or a condition, where no mask can stand; run the query as a statement of its own, or leave the column out."
    )]
    Body {
        /// The masked column.
        column: ColumnName,
    },
    /// A step reads it for the step behind `->>`.
    #[error(
        "Column `{column}` is masked for you and a step in front of `->>` reads it, whose result the warehouse keeps on its own; write the steps as one query with WITH, or leave the column out."
    )]
    Step {
        /// The masked column.
        column: ColumnName,
    },
    /// Time travel or sampling of the relation itself.
    #[error(
        "Column `{column}` is masked for you and cannot be masked together with {what} of `{}`; leave {what} out, or leave the column out.",
        .column.relation
    )]
    Qualified {
        /// The masked column.
        column: ColumnName,
        /// The clause.
        what: &'static str,
    },
    /// A view computes a column, or its rows, from a masked column.
    #[error(
        "Column `{column}` is masked for you and view `{view}` computes from it; read the table itself, or ask for a view column that is masked by policy."
    )]
    ThroughView {
        /// The masked column underneath.
        column: ColumnName,
        /// The view.
        view: Box<RelationName>,
    },
    /// The mask does not fit the column's type.
    #[error(
        "Column `{column}` is masked for you with `{mask}`, which does not fit its type {data_type}; leave the column out and tell the policy's owner."
    )]
    Type {
        /// The masked column.
        column: ColumnName,
        /// The mask.
        mask: Box<Mask>,
        /// The column's type.
        data_type: Box<str>,
    },
    /// The hash mask has no usable salt.
    #[error(
        "Column `{column}` is masked for you with `hash`, and no salt for it is configured; leave the column out and tell the policy's owner to set `hash_salt`."
    )]
    Salt {
        /// The masked column.
        column: ColumnName,
    },
    /// Two relations of one query would get the same alias.
    #[error(
        "Column `{column}` is masked for you and another relation of the query is also called `{name}`; give both an alias."
    )]
    SameName {
        /// The masked column.
        column: ColumnName,
        /// The name they share.
        name: String,
    },
    /// Snowflake names a result column without an alias by its text, which would show the mask.
    #[error(
        "Column `{column}` is masked for you and read inside a result column that has no name of its own; name that result column with AS."
    )]
    Unnamed {
        /// The masked column.
        column: ColumnName,
    },
    /// The PEP masks it in the result, and here it is not a column of the result and nothing else.
    #[error("Column `{column}` is masked for you in results (`{mask}`), and {}.", .place.said())]
    Result {
        /// The masked column.
        column: ColumnName,
        /// The mask.
        mask: Box<str>,
        /// What is done with it.
        place: ResultPlace,
    },
    /// Rows of a relation are filtered, and here they cannot be.
    #[error("Some rows of `{relation}` are not for you, and {why}.")]
    Rows {
        /// The relation.
        relation: Box<RelationName>,
        /// Why not here, and what to do.
        why: String,
    },
    /// The place of the read in the text is not sure, or the rewritten text did not read as intended.
    #[error(
        "Column `{column}` is masked for you and this form of reading it cannot be masked; read it in a plain SELECT, or leave it out."
    )]
    Form {
        /// The masked column.
        column: ColumnName,
    },
}

/// What a refusal is about.
#[derive(Debug, Clone)]
pub(super) enum Blame {
    /// A masked column.
    Column(ColumnName),
    /// A relation whose rows are filtered.
    Rows(RelationName),
}

impl Blame {
    pub(super) fn rows(relation: &RelationName, why: impl Into<String>) -> Unmaskable {
        Unmaskable::Rows { relation: Box::new(relation.clone()), why: why.into() }
    }

    pub(super) fn target(&self) -> Unmaskable {
        match self {
            Self::Column(column) => Unmaskable::Target { column: column.clone() },
            Self::Rows(relation) => Self::rows(
                relation,
                "this statement writes them from what is shown of them; write to another table, or leave that to someone who sees all rows",
            ),
        }
    }

    /// UPDATE, DELETE and MERGE of a form that is not sure.
    pub(super) fn changed(&self) -> Unmaskable {
        match self {
            Self::Column(column) => Unmaskable::Target { column: column.clone() },
            Self::Rows(relation) => Self::rows(
                relation,
                "this form of changing them cannot be filtered; write it as a plain UPDATE or DELETE, or leave it to someone who sees all rows",
            ),
        }
    }

    /// MERGE that adds what it does not find.
    pub(super) fn adds(&self) -> Unmaskable {
        match self {
            Self::Column(column) => Unmaskable::Target { column: column.clone() },
            Self::Rows(relation) => Self::rows(
                relation,
                "this MERGE adds what it does not find, so it would add hidden ones a second time, or tell which there are; leave WHEN NOT MATCHED out and add new rows with INSERT",
            ),
        }
    }

    /// A relation that is not as the catalog says any more.
    pub(super) fn unsure(&self) -> Unmaskable {
        match self {
            Self::Column(column) => Unmaskable::Target { column: column.clone() },
            Self::Rows(relation) => Self::rows(
                relation,
                "an earlier statement of the same request changes the table; send this one in a request of its own",
            ),
        }
    }

    /// What an earlier statement left holds others of them.
    pub(super) fn again(&self) -> Unmaskable {
        match self {
            Self::Column(column) => Unmaskable::Earlier { column: column.clone() },
            Self::Rows(relation) => Self::rows(
                relation,
                "the earlier result or temporary table that is read was made of other rows; run the statement it came from again",
            ),
        }
    }

    pub(super) fn copy(&self) -> Unmaskable {
        match self {
            Self::Column(column) => Unmaskable::Copy { column: column.clone() },
            Self::Rows(relation) => {
                Self::rows(relation, "CLONE copies stored rows; use CREATE TABLE … AS SELECT instead")
            }
        }
    }

    pub(super) fn view(&self) -> Unmaskable {
        match self {
            Self::Column(column) => Unmaskable::View { column: column.clone() },
            Self::Rows(relation) => Self::rows(
                relation,
                "a view that reads them would serve others; create the view over something else, or ask someone who sees all rows",
            ),
        }
    }

    pub(super) fn body(&self) -> Unmaskable {
        match self {
            Self::Column(column) => Unmaskable::Body { column: column.clone() },
            Self::Rows(relation) => Self::rows(
                relation,
                "a body that is stored or run as a whole cannot be filtered; read them in a plain SELECT",
            ),
        }
    }

    pub(super) fn step(&self) -> Unmaskable {
        match self {
            Self::Column(column) => Unmaskable::Step { column: column.clone() },
            Self::Rows(relation) => Self::rows(
                relation,
                "a step in front of `->>` reads them, whose result the warehouse keeps on its own; write the steps as one query with WITH",
            ),
        }
    }

    pub(super) fn qualified(&self, what: &'static str) -> Unmaskable {
        match self {
            Self::Column(column) => Unmaskable::Qualified { column: column.clone(), what },
            Self::Rows(relation) => {
                Self::rows(relation, format!("cannot be filtered together with {what}; leave {what} out"))
            }
        }
    }

    pub(super) fn same_name(&self, name: String) -> Unmaskable {
        match self {
            Self::Column(column) => Unmaskable::SameName { column: column.clone(), name },
            Self::Rows(relation) => Self::rows(
                relation,
                format!("another relation of the query is also called `{name}`; give both an alias"),
            ),
        }
    }

    pub(super) fn unnamed(&self) -> Unmaskable {
        match self {
            Self::Column(column) => Unmaskable::Unnamed { column: column.clone() },
            Self::Rows(relation) => Self::rows(
                relation,
                "are read inside a result column that has no name of its own; name that result column with AS",
            ),
        }
    }

    pub(super) fn form(&self) -> Unmaskable {
        match self {
            Self::Column(column) => Unmaskable::Form { column: column.clone() },
            Self::Rows(relation) => {
                Self::rows(relation, "this form of reading them cannot be filtered; read them in a plain SELECT")
            }
        }
    }
}
