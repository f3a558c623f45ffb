//! Which column wears which mask.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Alphabet, Key, Limits, PlanError, Scanner, cell::CellMask};

/// Most digits of a Snowflake number.
const PRECISION_MAX: u8 = 38;
/// Fewest digits of a number that is tokenised: below, distinct values would share tokens too often.
const TOKEN_PRECISION_MIN: u8 = 12;
/// Fewest digits of a number that is encrypted: NIST SP 800-38G revision 1 asks for a million values.
const FPE_PRECISION_MIN: u8 = 6;
/// Shortest text column that is tokenised, in characters of five bits.
const TOKEN_CHARS_MIN: u32 = 13;
/// Longest domain, in bytes.
const DOMAIN_BYTES_MAX: usize = 1024;

/// The columns of one result, in order, each with what it must be and what it wears.
#[derive(Debug)]
pub struct Plan {
    pub(crate) columns: Vec<PlannedColumn>,
    pub(crate) limits: Limits,
}

#[derive(Debug)]
pub(crate) struct PlannedColumn {
    pub(crate) name: Option<String>,
    pub(crate) column_type: ColumnType,
    pub(crate) mask: Option<CellMask>,
}

/// One output column.
#[derive(Debug, Clone)]
pub struct Column {
    /// Its name, as the reply's `rowtype` says; nothing where it is not compared.
    pub name: Option<String>,
    /// Its type, as the reply's `rowtype` says.
    pub column_type: ColumnType,
    /// What it wears; nothing for a column that passes as it is.
    pub mask: Option<Mask>,
}

impl Column {
    /// A column that passes as it is.
    pub fn plain(name: impl Into<String>, column_type: ColumnType) -> Self {
        Self { name: Some(name.into()), column_type, mask: None }
    }

    /// A column that passes as it is, whatever its name and type.
    pub fn any() -> Self {
        Self { name: None, column_type: ColumnType::Other, mask: None }
    }

    /// A masked column.
    pub fn masked(name: impl Into<String>, column_type: ColumnType, mask: Mask) -> Self {
        Self { name: Some(name.into()), column_type, mask: Some(mask) }
    }
}

/// A column's type, as far as masks ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ColumnType {
    /// NUMBER.
    Fixed {
        /// Digits in all.
        precision: u8,
        /// Digits after the point.
        scale: u8,
    },
    /// VARCHAR and CHAR.
    Text {
        /// Declared length in characters; unbounded when unknown.
        chars_max: Option<u32>,
    },
    /// VARIANT, OBJECT, ARRAY and MAP: JSON text, or nested Arrow.
    Semistructured,
    /// Any other, which no mask of this crate fits.
    Other,
}

impl ColumnType {
    /// Reads `type`, `precision`, `scale` and `length` of a reply's `rowtype`.
    ///
    /// # Errors
    ///
    /// A number without precision and scale, or with impossible ones.
    pub fn parse(
        logical: &str,
        precision: Option<u8>,
        scale: Option<u8>,
        length: Option<u32>,
    ) -> Result<Self, PlanError> {
        match logical.to_ascii_uppercase().as_str() {
            "FIXED" => match (precision, scale) {
                (Some(precision @ 1..=PRECISION_MAX), Some(scale)) if scale <= precision => {
                    Ok(Self::Fixed { precision, scale })
                }
                _ => Err(PlanError::Type { logical: logical.to_owned() }),
            },
            "TEXT" | "CHAR" => Ok(Self::Text { chars_max: length }),
            "VARIANT" | "OBJECT" | "ARRAY" | "MAP" => Ok(Self::Semistructured),
            _ => Ok(Self::Other),
        }
    }

    /// Whether an Arrow field that says `logicalType` may be of this type.
    pub(crate) fn is_called(self, logical: &str) -> bool {
        match self {
            Self::Fixed { .. } => logical == "FIXED",
            Self::Text { .. } => matches!(logical, "TEXT" | "CHAR"),
            Self::Semistructured => matches!(logical, "VARIANT" | "OBJECT" | "ARRAY" | "MAP"),
            Self::Other => true,
        }
    }
}

/// A mask applied to results.
#[derive(Debug, Clone)]
pub enum Mask {
    /// A keyed token: CMAC with AES-256 of the value, as up to 26 characters of text or as a number of the same precision. Cannot be
    /// reversed. Text of at least 13 characters; numbers of at least 12 digits.
    Tokenize {
        /// The key.
        key: Arc<Key>,
        /// Columns of one domain share tokens, so that they join; for one column alone, its full name.
        domain: String,
    },
    /// Format-preserving encryption, FF1 of NIST SP 800-38G with AES-256. Text and numbers of at least 6 digits.
    Fpe {
        /// The key.
        key: Arc<Key>,
        /// As in [`Mask::Tokenize`]; it is the tweak.
        domain: String,
        /// What a text's characters are drawn from; of no meaning for numbers.
        alphabet: Alphabet,
    },
    /// Replaces what the scanner finds. Text and semi-structured columns.
    Scan {
        /// What is looked for.
        scanner: Arc<Scanner>,
    },
}

impl Plan {
    /// Checks every mask against its column.
    ///
    /// # Errors
    ///
    /// No columns, or a mask that cannot keep its column's type.
    pub fn new(columns: Vec<Column>, limits: Limits) -> Result<Self, PlanError> {
        if columns.is_empty() {
            return Err(PlanError::NoColumns);
        }
        let columns = columns.into_iter().enumerate().map(|(index, Column { name, column_type, mask })| {
            let mask = mask.map(|mask| fit(&mask, column_type)).transpose();
            let mask = mask.map_err(|(mask, why)| PlanError::Mask { ordinal: index + 1, mask, why })?;
            Ok(PlannedColumn { name, column_type, mask })
        });
        Ok(Self { columns: columns.collect::<Result<_, _>>()?, limits })
    }

    /// The plan of a result without masks, whatever its columns are.
    pub fn unmasked(limits: Limits) -> Self {
        Self { columns: Vec::new(), limits }
    }

    /// Whether nothing is masked, so that the result may pass as it is.
    pub fn is_plain(&self) -> bool {
        self.columns.iter().all(|column| column.mask.is_none())
    }
}

/// The mask made ready for the column, or the mask's name and why it does not fit.
fn fit(mask: &Mask, column_type: ColumnType) -> Result<CellMask, (&'static str, &'static str)> {
    match mask {
        Mask::Tokenize { key, domain } => fit_token(key, domain, column_type).map_err(|why| ("tokenize", why)),
        Mask::Fpe { key, domain, alphabet } => fit_fpe(key, domain, *alphabet, column_type).map_err(|why| ("fpe", why)),
        Mask::Scan { scanner } => match column_type {
            ColumnType::Text { chars_max } => Ok(CellMask::scan_text(Arc::clone(scanner), chars_max)),
            ColumnType::Semistructured => Ok(CellMask::scan_document(Arc::clone(scanner))),
            ColumnType::Fixed { .. } | ColumnType::Other => Err(("scan", "it reads text and semi-structured columns")),
        },
    }
}

fn fit_token(key: &Key, domain: &str, column_type: ColumnType) -> Result<CellMask, &'static str> {
    check_domain(domain)?;
    match column_type {
        ColumnType::Fixed { precision, .. } if precision < TOKEN_PRECISION_MIN => {
            Err("a number needs at least 12 digits; `fpe` takes 6")
        }
        ColumnType::Fixed { precision, scale } => Ok(CellMask::token_number(key, domain, precision, scale)),
        ColumnType::Text { chars_max: Some(chars) } if chars < TOKEN_CHARS_MIN => {
            Err("text needs at least 13 characters")
        }
        ColumnType::Text { chars_max } => Ok(CellMask::token_text(key, domain, chars_max)),
        ColumnType::Semistructured | ColumnType::Other => Err("it keeps the type of text and numbers only"),
    }
}

fn fit_fpe(key: &Key, domain: &str, alphabet: Alphabet, column_type: ColumnType) -> Result<CellMask, &'static str> {
    check_domain(domain)?;
    match column_type {
        ColumnType::Fixed { precision, .. } if precision < FPE_PRECISION_MIN => {
            Err("a number needs at least 6 digits, a million values, to hide among")
        }
        ColumnType::Fixed { precision, scale } => CellMask::fpe_number(key, domain, precision, scale),
        ColumnType::Text { chars_max } => CellMask::fpe_text(key, domain, alphabet, chars_max),
        ColumnType::Semistructured | ColumnType::Other => Err("it keeps the type of text and numbers only"),
    }
}

fn check_domain(domain: &str) -> Result<(), &'static str> {
    if domain.is_empty() || domain.len() > DOMAIN_BYTES_MAX {
        return Err("its domain needs 1 to 1024 bytes");
    }
    Ok(())
}
