//! What does this result look like to someone who may not see it in the clear?
//!
//! Bytes of a result in, bytes of the masked result out: no clock, socket, randomness or configuration. Here are the masks
//! that SQL must not do, because their key would stand in the query, or cannot do, because what they hide is found by
//! looking: tokens, format-preserving encryption, and content detection. All others are spliced into the query.
//!
//! ```
//! use std::sync::Arc;
//! use icegate_pep_masking::{Column, ColumnType, Detector, JsonMasker, KeyRing, Limits, Mask, Plan, Scanner, Shape};
//!
//! let keys = KeyRing::parse("customers 2026-11 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
//! let key = keys.current("customers").unwrap();
//! let scanner = Arc::new(Scanner::new(&Detector::ALL, &[]).unwrap());
//! let text = ColumnType::Text { chars_max: Some(100) };
//! let plan = Plan::new(
//!     vec![
//!         Column::plain("ID", ColumnType::Fixed { precision: 38, scale: 0 }),
//!         Column::masked("CUSTOMER", text, Mask::Tokenize { key, domain: "CRM.CUSTOMERS.NAME".into() }),
//!         Column::masked("NOTE", text, Mask::Scan { scanner }),
//!     ],
//!     Limits::default(),
//! )
//! .unwrap();
//!
//! let mut masker = JsonMasker::new(Arc::new(plan), Shape::Chunk);
//! let mut masked = masker.push(br#"["1","Ada","card 4111 1111 1111 1111"],["2",null,"ok"]"#).unwrap();
//! masked.extend(masker.finish().unwrap());
//! let masked = String::from_utf8(masked).unwrap();
//! assert!(!masked.contains("Ada") && !masked.contains("4111"));
//! assert!(masked.ends_with(r#""card [redacted:card]"],["2",null,"ok"]"#));
//! ```
//!
//! # What holds
//!
//! - **Streaming.** A masker holds one cell (JSON) or one record batch (Arrow) at a time, each within [`Limits`], whatever the
//!   length of the result. Compression around it is the caller's.
//! - **Nothing is guessed.** What is not exactly the result the [`Plan`] was made for (another number, name or type of columns,
//!   a damaged stream, a compressed buffer, a dictionary, bytes after the end) is an error. After an error a masker gives
//!   nothing more, and what it gave before must not be taken for the whole.
//! - **Nothing is left behind.** A masked Arrow column is built anew: no byte of the old values is in its buffers, its slots
//!   under a NULL, or the space between. (Of nested columns, texts, bytes and larger numbers are built anew; dates, floats and truth
//!   values inside them are no one's to find, and stay.) Columns without a mask keep their type, metadata and values, and nothing
//!   under a NULL or around the values is passed on with them.
//! - **Types stay.** Text is never longer than the column's declared length. Masked numbers are always `int64` (up to 18
//!   digits) or `decimal128(38, scale)`, in every chunk the same; the precision and scale announced stay true.
//! - **NULL stays NULL**, and is seen to be.
//!
//! # What a mask tells
//!
//! [`Mask::Tokenize`] and [`Mask::Fpe`] are deterministic per key and domain, so equal values stay equal: that is what joins
//! need, and it shows frequencies. [`Mask::Fpe`] keeps length, separators and a number's sign, and whoever holds the key can
//! reverse it. [`Mask::Scan`] finds what its patterns know and no more: other scripts' digits, numbers cut by
//! letters or spread over several cells, and encoded text (base64, JSON kept in a text column with escapes) pass.
//!
//! # Rotating a key
//!
//! The first line of a name in the key file is the key in force; the lines below are old keys, named by their ids. From the
//! moment a new line stands first, new results carry new tokens: they no longer join with tokens handed out before. To
//! join with those, or to reverse them, name the old key as `name@id` until nothing made with it is needed, then take its
//! line out.
//!
//! Reading order: the [`plan`] (written down as a [`spec`]), its [`key`]s, the masks ([`token`], [`fpe`], [`scan`], together in `cell`), and the streams they are
//! applied to ([`arrow`], [`json`]).

pub mod arrow;
mod cell;
mod cmac;
pub mod error;
pub mod fpe;
pub mod json;
pub mod key;
pub mod limits;
pub mod plan;
pub mod scan;
pub mod spec;
pub mod token;

pub use arrow::{ArrowMasker, Batch, MaskedBatch};
pub use error::{MaskingError, PlanError};
pub use fpe::Alphabet;
pub use json::{JsonMasker, Shape};
pub use key::{Key, KeyError, KeyRef, KeyRing, KeySource};
pub use limits::Limits;
pub use plan::{Column, ColumnType, Mask, Plan};
pub use scan::{Detector, Pattern, PatternError, Scanner};
pub use spec::{MaskSource, MaskSpec, MaskedColumn, PlanSpec, SpecError};
