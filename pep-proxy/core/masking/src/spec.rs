//! A plan as it is written down, to be made ready elsewhere: keys by their names, never their bytes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    Alphabet, Column, ColumnType, Detector, KeyError, KeyRef, KeySource, Limits, Mask, PatternError, Plan, PlanError,
    Scanner,
};

/// A mask, its key by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum MaskSpec {
    /// [`Mask::Tokenize`].
    Tokenize {
        /// Which key.
        key: KeyRef,
        /// Columns of one domain share tokens.
        domain: String,
    },
    /// [`Mask::Fpe`].
    Fpe {
        /// Which key.
        key: KeyRef,
        /// As in [`MaskSpec::Tokenize`].
        domain: String,
        /// What a text's characters are drawn from.
        alphabet: Alphabet,
    },
    /// [`Mask::Scan`].
    Scan {
        /// What is looked for.
        detectors: Vec<Detector>,
    },
}

/// One masked column of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskedColumn {
    /// Its position, from 0.
    pub at: usize,
    /// Its name, as the reply's `rowtype` says.
    pub name: String,
    /// Its type, as the reply's `rowtype` says.
    pub column_type: ColumnType,
    /// What it wears.
    pub mask: MaskSpec,
}

/// The plan of one result. Only masked columns are written down: an address of a part has little room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanSpec {
    /// Columns of the result, masked or not; none for a result without masks, whatever its columns are.
    pub columns: usize,
    /// The masked ones, each once.
    pub masked: Vec<MaskedColumn>,
}

/// What plans are made ready with.
pub trait MaskSource: KeySource {
    /// A scanner for these detectors; made once, for it is large.
    ///
    /// # Errors
    ///
    /// A pattern of one's own that cannot be used.
    fn scanner(&self, detectors: &[Detector]) -> Result<Arc<Scanner>, PatternError>;
}

/// Why a plan cannot be made ready. No message holds a key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SpecError {
    /// Its key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Its patterns.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A mask does not fit its column.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A masked column that the result does not have, or one named twice.
    #[error("column {ordinal} is masked twice or is none of the result's {columns}")]
    Column {
        /// Which column, from 1.
        ordinal: usize,
        /// How many there are.
        columns: usize,
    },
}

impl MaskSpec {
    /// Its name in policies and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Tokenize { .. } => "tokenize",
            Self::Fpe { .. } => "fpe",
            Self::Scan { .. } => "scan",
        }
    }

    /// The same with its key named by its id: a rotation must not split one result.
    ///
    /// # Errors
    ///
    /// There is no such key, or no such scanner.
    pub fn pinned(mut self, source: &dyn MaskSource) -> Result<Self, SpecError> {
        match &mut self {
            Self::Tokenize { key, .. } | Self::Fpe { key, .. } => {
                key.id = Some(source.key(key)?.id().to_owned());
            }
            Self::Scan { detectors } => drop(source.scanner(detectors)?),
        }
        Ok(self)
    }

    fn ready(&self, source: &dyn MaskSource) -> Result<Mask, SpecError> {
        Ok(match self {
            Self::Tokenize { key, domain } => Mask::Tokenize { key: source.key(key)?, domain: domain.clone() },
            Self::Fpe { key, domain, alphabet } => {
                Mask::Fpe { key: source.key(key)?, domain: domain.clone(), alphabet: *alphabet }
            }
            Self::Scan { detectors } => Mask::Scan { scanner: source.scanner(detectors)? },
        })
    }
}

impl PlanSpec {
    /// The plan, ready to mask with.
    ///
    /// # Errors
    ///
    /// A key that is gone, a mask that does not fit its column, a column that is none or is named twice.
    pub fn plan(&self, source: &dyn MaskSource, limits: Limits) -> Result<Plan, SpecError> {
        let mut columns: Vec<Column> = std::iter::repeat_with(Column::any).take(self.columns).collect();
        for MaskedColumn { at, name, column_type, mask } in &self.masked {
            let wrong = SpecError::Column { ordinal: at + 1, columns: self.columns };
            let column = columns.get_mut(*at).filter(|column| column.mask.is_none()).ok_or(wrong)?;
            *column = Column::masked(name.clone(), *column_type, mask.ready(source)?);
        }
        Ok(if columns.is_empty() { Plan::unmasked(limits) } else { Plan::new(columns, limits)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyRing;

    struct Source(KeyRing);

    impl KeySource for Source {
        fn key(&self, wanted: &KeyRef) -> Result<Arc<crate::Key>, KeyError> {
            self.0.key(wanted)
        }
    }

    impl MaskSource for Source {
        fn scanner(&self, detectors: &[Detector]) -> Result<Arc<Scanner>, PatternError> {
            Ok(Arc::new(Scanner::new(detectors, &[])?))
        }
    }

    fn source() -> Source {
        let keys =
            "crm 2 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\ncrm 1 //////////////////////////////////////////8=";
        Source(KeyRing::parse(keys).unwrap())
    }

    fn tokenize(key: &str) -> MaskSpec {
        MaskSpec::Tokenize { key: key.parse().unwrap(), domain: "D".to_owned() }
    }

    fn column(at: usize, mask: MaskSpec) -> MaskedColumn {
        MaskedColumn { at, name: "A".to_owned(), column_type: ColumnType::Text { chars_max: Some(50) }, mask }
    }

    #[test]
    fn a_key_is_pinned_by_its_id() {
        for (said, pinned) in [("crm", Some("crm@2")), ("crm@1", Some("crm@1")), ("crm@3", None), ("other", None)] {
            let found = tokenize(said).pinned(&source()).ok();
            assert_eq!(found, pinned.map(tokenize), "{said}");
        }
    }

    #[test]
    fn it_is_read_back_as_written_and_holds_no_key() {
        let fpe = MaskSpec::Fpe { key: "crm@1".parse().unwrap(), domain: "D".to_owned(), alphabet: Alphabet::Upper };
        let scan = MaskSpec::Scan { detectors: vec![Detector::NationalId] };
        let spec = PlanSpec { columns: 4, masked: vec![column(0, tokenize("crm@2")), column(2, fpe), column(3, scan)] };
        let text = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<PlanSpec>(&text).unwrap(), spec);
        assert!(text.contains(r#""tokenize":{"key":"crm@2""#) && text.contains("national-id"), "{text}");
        assert!(spec.plan(&source(), Limits::default()).is_ok());
        assert!(serde_json::from_str::<MaskSpec>(r#"{"tokenize":{"key":"a b","domain":"D"}}"#).is_err());
    }

    #[test]
    fn every_masked_column_is_one_of_the_result_and_masked_once() {
        let plan = |masked: Vec<MaskedColumn>| PlanSpec { columns: 2, masked }.plan(&source(), Limits::default());
        let masked = |ats: &[usize]| ats.iter().map(|at| column(*at, tokenize("crm"))).collect();
        assert!(plan(masked(&[0, 1])).is_ok());
        assert_eq!(plan(masked(&[2])).unwrap_err(), SpecError::Column { ordinal: 3, columns: 2 });
        assert_eq!(plan(masked(&[1, 1])).unwrap_err(), SpecError::Column { ordinal: 2, columns: 2 });
        assert!(matches!(plan(vec![column(0, tokenize("gone"))]), Err(SpecError::Key(KeyError::Missing(_)))));
    }
}
