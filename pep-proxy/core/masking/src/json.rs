//! JSON results: the inline `rowset`, and the parts of large results, which are rows without the outer brackets.

use std::{fmt, sync::Arc};

use crate::{MaskingError, Plan, cell::CellMask, plan::PlannedColumn};

/// How the rows are wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `[["1","a"],["2",null]]`, the value of `rowset`.
    Rowset,
    /// `["1","a"],["2",null]`, a part in storage.
    Chunk,
}

/// Masks one JSON result, cell by cell.
///
/// Every row must have the plan's number of cells, every cell be a string or null. Cells without a mask keep their bytes.
pub struct JsonMasker {
    plan: Arc<Plan>,
    shape: Shape,
    at: At,
    /// Which column the cell belongs to, from 0.
    column: usize,
    /// The masked cell so far, as sent and without its quotes.
    cell: Vec<u8>,
    /// The masked cell, before it is quoted.
    masked: String,
    rows: u64,
}

/// Where in the text the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before the outer bracket.
    Outer,
    /// Before the first row, or the end.
    FirstRow,
    /// Before a row, after a comma.
    Row,
    /// After a row.
    RowEnd,
    /// Before a cell.
    Cell,
    /// In `null`, so many bytes of it seen.
    Null(usize),
    /// In a cell that passes.
    Plain { escaped: bool },
    /// In a cell that is masked.
    Masked { escaped: bool, over: bool },
    /// After a cell.
    CellEnd,
    /// After the outer bracket.
    End,
    /// After an error, or finished.
    Broken,
}

impl fmt::Debug for JsonMasker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonMasker").field("at", &self.at).field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl JsonMasker {
    /// A masker at the start of a result.
    pub fn new(plan: Arc<Plan>, shape: Shape) -> Self {
        let at = match shape {
            Shape::Rowset => At::Outer,
            Shape::Chunk => At::FirstRow,
        };
        Self { plan, shape, at, column: 0, cell: Vec::new(), masked: String::new(), rows: 0 }
    }

    /// Takes the next bytes and gives what is ready of the masked result.
    ///
    /// # Errors
    ///
    /// The bytes are not the result that was decided, or are over a limit. Nothing more comes after.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>, MaskingError> {
        if self.at == At::Broken {
            return Err(MaskingError::Over);
        }
        let mut out = Vec::with_capacity(bytes.len());
        let pushed = self.read(bytes, &mut out);
        if pushed.is_err() {
            self.at = At::Broken;
        }
        pushed.map(|()| out)
    }

    /// Ends the result. Gives nothing but the last bytes' verdict; it returns bytes so that both maskers are used alike.
    ///
    /// # Errors
    ///
    /// The result is cut.
    pub fn finish(&mut self) -> Result<Vec<u8>, MaskingError> {
        match (self.shape, std::mem::replace(&mut self.at, At::Broken)) {
            (Shape::Rowset, At::End) | (Shape::Chunk, At::FirstRow | At::RowEnd) => Ok(Vec::new()),
            (_, At::Broken) => Err(MaskingError::Over),
            _ => Err(MaskingError::Unreadable("it is cut")),
        }
    }

    /// Rows that were read whole.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    fn read(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), MaskingError> {
        let plan = Arc::clone(&self.plan);
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            rest = match self.at {
                At::Plain { escaped } => self.plain(escaped, rest, out),
                At::Masked { escaped, over } => self.gather(&plan, escaped, over, rest, out)?,
                _ => {
                    self.structure(&plan, byte, out)?;
                    after
                }
            };
        }
        Ok(())
    }

    /// One byte outside strings.
    fn structure(&mut self, plan: &Plan, byte: u8, out: &mut Vec<u8>) -> Result<(), MaskingError> {
        let blank = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        self.at = match (self.at, byte) {
            (At::Null(3), b'l') => At::CellEnd,
            (At::Null(seen), _) if b"null".get(seen) == Some(&byte) => At::Null(seen + 1),
            (At::Null(_), _) => return Err(MaskingError::Unreadable("a cell is neither a string nor null")),
            (at, _) if blank => at,
            (At::Outer, b'[') => At::FirstRow,
            (At::FirstRow | At::Row, b'[') => {
                self.column = 0;
                At::Cell
            }
            (At::FirstRow | At::RowEnd, b']') if self.shape == Shape::Rowset => At::End,
            (At::RowEnd, b',') => At::Row,
            (At::Cell, b'"') => match column(plan, self.column)?.mask {
                None => At::Plain { escaped: false },
                Some(_) => At::Masked { escaped: false, over: false },
            },
            (At::Cell, b'n') => {
                column(plan, self.column)?;
                At::Null(1)
            }
            (At::CellEnd, b',') => {
                self.column += 1;
                column(plan, self.column)?;
                At::Cell
            }
            (At::CellEnd, b']') => {
                if self.column + 1 != plan.columns.len() {
                    return Err(FEWER);
                }
                self.rows += 1;
                At::RowEnd
            }
            (At::Cell, _) => return Err(MaskingError::Unreadable("a cell is neither a string nor null")),
            _ => return Err(MaskingError::Unreadable("it is not rows of cells")),
        };
        if !matches!(self.at, At::Masked { .. }) {
            out.push(byte);
        }
        Ok(())
    }

    /// Copies a cell to its end, or what there is of it.
    fn plain<'b>(&mut self, mut escaped: bool, bytes: &'b [u8], out: &mut Vec<u8>) -> &'b [u8] {
        let end = string_end(bytes, &mut escaped);
        self.at = if end.is_some() { At::CellEnd } else { At::Plain { escaped } };
        let (cell, rest) = bytes.split_at_checked(end.map_or(bytes.len(), |end| end + 1)).unwrap_or((bytes, &[]));
        out.extend_from_slice(cell);
        rest
    }

    /// Gathers a cell to its end, and masks it.
    fn gather<'b>(
        &mut self,
        plan: &Plan,
        mut escaped: bool,
        mut over: bool,
        bytes: &'b [u8],
        out: &mut Vec<u8>,
    ) -> Result<&'b [u8], MaskingError> {
        let end = string_end(bytes, &mut escaped);
        let (cell, rest) = bytes.split_at_checked(end.unwrap_or(bytes.len())).unwrap_or((bytes, &[]));
        if over || self.cell.len() + cell.len() > plan.limits.cell_bytes_max {
            over = true;
            self.cell = Vec::new();
        } else {
            self.cell.extend_from_slice(cell);
        }
        if end.is_none() {
            self.at = At::Masked { escaped, over };
            return Ok(rest);
        }
        self.at = At::CellEnd;
        self.masked.clear();
        let mask = column(plan, self.column)?.mask.as_ref().ok_or(MaskingError::Over)?;
        mask_cell(mask, &self.cell, over, &mut self.masked)?;
        self.cell.clear();
        quote(&self.masked, out)?;
        Ok(rest.split_first().map_or(&[][..], |(_, rest)| rest))
    }
}

const FEWER: MaskingError = MaskingError::Foreign("a row has fewer cells than there are columns");

fn column(plan: &Plan, ordinal: usize) -> Result<&PlannedColumn, MaskingError> {
    plan.columns.get(ordinal).ok_or(MaskingError::Foreign("a row has more cells than there are columns"))
}

/// Where the closing quote stands, if it is there.
fn string_end(bytes: &[u8], escaped: &mut bool) -> Option<usize> {
    let mut from = 0;
    loop {
        if std::mem::take(escaped) {
            from += 1;
        }
        let rest = bytes.get(from..)?;
        let found = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        if rest.get(found) == Some(&b'"') {
            return Some(from + found);
        }
        from += found + 1;
        if from >= bytes.len() {
            *escaped = true;
            return None;
        }
        *escaped = true;
    }
}

fn mask_cell(mask: &CellMask, raw: &[u8], over: bool, masked: &mut String) -> Result<(), MaskingError> {
    const ESCAPE: MaskingError = MaskingError::Unreadable("a cell is not a JSON string");
    if over {
        return mask.text_over_limit(masked);
    }
    if raw.contains(&b'\\') {
        let quoted = [b"\"", raw, b"\""].concat();
        let text: String = serde_json::from_slice(&quoted).map_err(|_| ESCAPE)?;
        return mask.text(&text, masked);
    }
    if raw.iter().any(u8::is_ascii_control) && raw.iter().any(|byte| *byte < 0x20) {
        return Err(ESCAPE);
    }
    mask.text(std::str::from_utf8(raw).map_err(|_| ESCAPE)?, masked)
}

fn quote(text: &str, out: &mut Vec<u8>) -> Result<(), MaskingError> {
    serde_json::to_writer(out, text).map_err(|_| MaskingError::Unreadable("a cell cannot be written"))
}
