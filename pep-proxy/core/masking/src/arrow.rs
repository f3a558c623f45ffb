//! Arrow results: an IPC stream, record batch by record batch.
//!
//! The framing is read here, so that every length is held against its limit before anything of that length is kept, and so that
//! only a schema, record batches and the end may come, in this order. The batches themselves are read and written by
//! `arrow-ipc`, which checks offsets, validity and text. Masked columns leave as new arrays; the writer writes arrays and nothing
//! else, so what no array refers to in the batch that came (gaps, slack, other columns' bytes) stays behind. Values of columns
//! that pass are not copied: they leave from where they were read to.

mod columns;
mod frames;
mod rebuild;

use std::{collections::HashMap, fmt, mem, sync::Arc};

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_buffer::Buffer;
use arrow_ipc::{
    MessageHeader, MetadataVersion,
    convert::try_fb_to_schema,
    reader::read_record_batch,
    root_as_message,
    writer::{IpcWriteOptions, StreamEncoder},
};
use arrow_schema::{ArrowError, DataType, Schema, SchemaRef};
use bytes::Bytes;

use self::frames::{Frame, Frames};
use crate::{Limits, MaskingError, Plan};

/// Masks one Arrow result, batch by batch.
pub struct ArrowMasker {
    plan: Arc<Plan>,
    frames: Frames,
    state: State,
    rows: u64,
}

enum State {
    /// Before the schema.
    Start,
    /// Between batches.
    Open(Box<Open>),
    /// After the end of the stream.
    End,
    /// After an error, or finished.
    Broken,
}

struct Open {
    received: SchemaRef,
    version: MetadataVersion,
    sent: SchemaRef,
    writer: StreamEncoder,
}

impl fmt::Debug for ArrowMasker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArrowMasker").field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl ArrowMasker {
    /// A masker at the start of a result.
    pub fn new(plan: Arc<Plan>) -> Self {
        Self { frames: Frames::new(plan.limits), plan, state: State::Start, rows: 0 }
    }

    /// Takes the next bytes and gives what is ready of the masked result, in pieces.
    ///
    /// # Errors
    ///
    /// The bytes are not the result that was decided, or are over a limit. Nothing more comes after.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Bytes>, MaskingError> {
        let pushed = self.read(bytes);
        if pushed.is_err() {
            self.state = State::Broken;
        }
        pushed
    }

    /// Ends the result and gives its last bytes. No bytes at all are the empty result.
    ///
    /// # Errors
    ///
    /// The result is cut within a message.
    pub fn finish(&mut self) -> Result<Vec<Bytes>, MaskingError> {
        let state = mem::replace(&mut self.state, State::Broken);
        if !self.frames.is_between() {
            return Err(MaskingError::Unreadable("it is cut"));
        }
        match state {
            State::Start | State::End => Ok(Vec::new()),
            State::Open(open) => open.end(),
            State::Broken => Err(MaskingError::Over),
        }
    }

    /// Rows of the batches that were masked.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    fn read(&mut self, bytes: &[u8]) -> Result<Vec<Bytes>, MaskingError> {
        let mut out = Vec::new();
        let mut rest = bytes;
        if matches!(self.state, State::Broken) || (matches!(self.state, State::End) && !rest.is_empty()) {
            return Err(MaskingError::Over);
        }
        while let Some(frame) = self.frames.next(&mut rest)? {
            match frame {
                Frame::End => match mem::replace(&mut self.state, State::End) {
                    State::Open(open) => out.extend(open.end()?),
                    State::Start | State::End | State::Broken => {
                        return Err(MaskingError::Unreadable("it has no schema"));
                    }
                },
                Frame::Message { head, body } => self.message(&head, &body, &mut out)?,
            }
            if matches!(self.state, State::End) && !rest.is_empty() {
                return Err(MaskingError::Unreadable("it goes on after its end"));
            }
        }
        Ok(out)
    }

    fn message(&mut self, head: &[u8], body: &Buffer, out: &mut Vec<Bytes>) -> Result<(), MaskingError> {
        let message = root_as_message(head).map_err(|_| MaskingError::Unreadable("a message has no head"))?;
        match (&mut self.state, message.header_type()) {
            (State::Start, MessageHeader::Schema) => {
                let schema = message.header_as_schema().and_then(|schema| try_fb_to_schema(schema).ok());
                let schema = schema.ok_or(MaskingError::Unreadable("its schema cannot be read"))?;
                let open = Open::new(&self.plan, schema, message.version())?;
                self.state = State::Open(Box::new(open));
                Ok(())
            }
            (State::Open(open), MessageHeader::RecordBatch) => {
                let batch = message.header_as_record_batch().ok_or(MaskingError::Unreadable("a batch has no head"))?;
                check_batch(&batch, body.len(), &open.received, &self.plan.limits)?;
                let batch =
                    read_record_batch(body, batch, Arc::clone(&open.received), &HashMap::new(), None, &open.version)
                        .map_err(|_| MaskingError::Unreadable("a batch is damaged"))?;
                self.rows += batch.num_rows() as u64;
                let masked = open.mask(&self.plan, &batch)?;
                out.extend(pieces(open.writer.encode(&masked).map_err(write_error)?));
                Ok(())
            }
            (_, MessageHeader::DictionaryBatch) => Err(MaskingError::Unsupported("a dictionary")),
            _ => Err(MaskingError::Unreadable("a message is out of its order")),
        }
    }
}

impl Open {
    fn new(plan: &Plan, received: Schema, version: MetadataVersion) -> Result<Self, MaskingError> {
        // A plan without columns is for any.
        let any = plan.columns.is_empty();
        if !any && received.fields().len() != plan.columns.len() {
            return Err(MaskingError::Foreign("it has another number of columns"));
        }
        let mut fields = Vec::with_capacity(plan.columns.len());
        for (at, field) in received.fields().iter().enumerate() {
            check_type(field.data_type(), 0)?;
            let Some(column) = plan.columns.get(at) else {
                fields.push(Arc::clone(field));
                continue;
            };
            if column.name.as_ref().is_some_and(|name| name != field.name()) {
                return Err(MaskingError::Foreign("a column has another name"));
            }
            fields.push(columns::masked_field(field, column)?);
        }
        let sent: SchemaRef = Arc::new(Schema::new_with_metadata(fields, received.metadata().clone()));
        let options = IpcWriteOptions::try_new(8, false, version)
            .map_err(|_| MaskingError::Unsupported("a version of the format before 0.15"))?;
        let writer = StreamEncoder::try_new_with_options(&sent, options).map_err(write_error)?;
        Ok(Self { received: Arc::new(received), version, sent, writer })
    }

    fn mask(&self, plan: &Plan, batch: &RecordBatch) -> Result<RecordBatch, MaskingError> {
        let mut arrays = Vec::with_capacity(batch.num_columns());
        for (at, array) in batch.columns().iter().enumerate() {
            arrays.push(match plan.columns.get(at).and_then(|column| column.mask.as_ref()) {
                None => rebuild::rebuilt(array, None)?,
                Some(mask) => columns::mask_array(mask, array, &plan.limits)?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.sent), arrays, &options)
            .map_err(|_| MaskingError::Foreign("a masked column does not fit its type"))
    }

    fn end(self: Box<Self>) -> Result<Vec<Bytes>, MaskingError> {
        Ok(pieces(self.writer.finish().map_err(write_error)?))
    }
}

/// Shortest piece that goes on by itself: below, copying is cheaper than another piece.
const PIECE_BYTES_MIN: usize = 16 << 10;

/// What the writer wrote, short buffers together.
fn pieces(written: Vec<Buffer>) -> Vec<Bytes> {
    let (mut pieces, mut together) = (Vec::new(), Vec::new());
    for buffer in written {
        if buffer.len() < PIECE_BYTES_MIN {
            together.extend_from_slice(&buffer);
            continue;
        }
        if !together.is_empty() {
            pieces.push(mem::take(&mut together).into());
        }
        pieces.push(Bytes::from_owner(buffer));
    }
    if !together.is_empty() {
        pieces.push(together.into());
    }
    pieces
}

fn write_error(_: ArrowError) -> MaskingError {
    MaskingError::Unsupported("a column cannot be written")
}

/// Most types within types: Snowflake's structured types nest, and each level is a call.
const NESTING_MAX: usize = 32;

/// Types that Snowflake is known to send. Others are refused, for no one has looked at how they hold their values.
fn check_type(data_type: &DataType, depth: usize) -> Result<(), MaskingError> {
    if depth > NESTING_MAX {
        return Err(MaskingError::TooLarge { what: "nesting", limit: NESTING_MAX });
    }
    match data_type {
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        // Vectors hold floats of four bytes.
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal128(..)
        | DataType::Date32
        | DataType::Utf8
        | DataType::Binary => Ok(()),
        DataType::List(child) | DataType::Map(child, _) | DataType::FixedSizeList(child, 0..) => {
            check_type(child.data_type(), depth + 1)
        }
        DataType::Struct(children) => children.iter().try_for_each(|child| check_type(child.data_type(), depth + 1)),
        DataType::Dictionary(..) => Err(MaskingError::Unsupported("a dictionary")),
        _ => Err(MaskingError::Unsupported("an Arrow type that Snowflake is not known to send")),
    }
}

/// Adds the buffers that a type takes, as bytes of one element each, and counts its nodes.
fn parts(data_type: &DataType, nodes: &mut usize, widths: &mut Vec<usize>) {
    const VALIDITY: usize = 1;
    const OFFSETS: usize = 4;
    *nodes += 1;
    widths.push(VALIDITY);
    match data_type {
        DataType::Utf8 | DataType::Binary => widths.extend([OFFSETS, 1]),
        DataType::List(child) | DataType::Map(child, _) => {
            widths.push(OFFSETS);
            parts(child.data_type(), nodes, widths);
        }
        DataType::FixedSizeList(child, _) => parts(child.data_type(), nodes, widths),
        DataType::Struct(children) => {
            for child in children {
                parts(child.data_type(), nodes, widths);
            }
        }
        other => widths.push(other.primitive_width().unwrap_or(1)),
    }
}

/// Holds what the head of a batch says against its body and the limits, before it is read.
fn check_batch(
    batch: &arrow_ipc::RecordBatch<'_>,
    body_bytes: usize,
    schema: &Schema,
    limits: &Limits,
) -> Result<(), MaskingError> {
    const DAMAGED: MaskingError = MaskingError::Unreadable("a batch's head does not fit its body");
    if batch.compression().is_some() {
        return Err(MaskingError::Unsupported("compressed buffers"));
    }
    let rows = usize::try_from(batch.length()).map_err(|_| DAMAGED)?;
    if rows > limits.batch_rows_max {
        return Err(MaskingError::TooLarge { what: "rows in a batch", limit: limits.batch_rows_max });
    }
    let (nodes, buffers) = (batch.nodes().ok_or(DAMAGED)?, batch.buffers().ok_or(DAMAGED)?);
    let (mut nodes_wanted, mut widths) = (0, Vec::new());
    for field in schema.fields() {
        parts(field.data_type(), &mut nodes_wanted, &mut widths);
    }
    if (nodes_wanted, widths.len()) != (nodes.len(), buffers.len()) {
        return Err(DAMAGED);
    }
    for node in nodes {
        // A slot takes a bit at least, except in a struct or list of nothing: those count against the rows a batch may have.
        let slots = usize::try_from(node.length()).map_err(|_| DAMAGED)?;
        if slots > body_bytes.saturating_mul(8).max(limits.batch_rows_max)
            || !(0..=node.length()).contains(&node.null_count())
        {
            return Err(DAMAGED);
        }
    }
    // In order and apart, as every writer puts them: a column that passes must not be made of a masked one's bytes.
    let mut past = 0;
    for (buffer, width) in buffers.iter().zip(widths) {
        let from = usize::try_from(buffer.offset()).map_err(|_| DAMAGED)?;
        let to = from.checked_add(usize::try_from(buffer.length()).map_err(|_| DAMAGED)?).ok_or(DAMAGED)?;
        // The reader asserts that a buffer holds whole elements.
        if to > body_bytes || (to - from) % width != 0 || (to > from && from < past) {
            return Err(DAMAGED);
        }
        past = past.max(to);
    }
    Ok(())
}
