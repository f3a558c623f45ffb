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
///
/// [`push`](Self::push) does all of it. Whoever has more than one processor reads batches with [`read`](Self::read), masks them
/// where and when it likes, and writes them in their order.
pub struct ArrowMasker {
    plan: Arc<Plan>,
    frames: Frames,
    state: State,
    /// Since the schema came.
    writer: Option<StreamEncoder>,
    rows: u64,
}

enum State {
    /// Before the schema.
    Start,
    /// Between batches.
    Open(Arc<Schemas>),
    /// After the end of the stream.
    End,
    /// After an error, or finished.
    Broken,
}

struct Schemas {
    received: SchemaRef,
    version: MetadataVersion,
    sent: SchemaRef,
}

/// A record batch as it came.
pub struct Batch {
    plan: Arc<Plan>,
    schemas: Arc<Schemas>,
    head: Vec<u8>,
    body: Buffer,
}

/// A record batch as it goes.
#[derive(Debug)]
pub struct MaskedBatch(RecordBatch);

impl fmt::Debug for ArrowMasker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArrowMasker").field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

impl ArrowMasker {
    /// A masker at the start of a result.
    pub fn new(plan: Arc<Plan>) -> Self {
        Self { frames: Frames::new(plan.limits), plan, state: State::Start, writer: None, rows: 0 }
    }

    /// Takes the next bytes and gives what is ready of the masked result, in pieces.
    ///
    /// # Errors
    ///
    /// The bytes are not the result that was decided, or are over a limit. Nothing more comes after.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Bytes>, MaskingError> {
        let pushed = self.read(bytes).and_then(|batches| {
            let mut out = Vec::new();
            for batch in batches {
                out.append(&mut self.write(batch.masked()?)?);
            }
            Ok(out)
        });
        if pushed.is_err() {
            self.state = State::Broken;
        }
        pushed
    }

    /// Takes the next bytes and gives the batches that are whole. Each is to be masked and written, in this order.
    ///
    /// # Errors
    ///
    /// The bytes are not a result, or are over a limit. Nothing more comes after.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Vec<Batch>, MaskingError> {
        let read = self.read_frames(bytes);
        if read.is_err() {
            self.state = State::Broken;
        }
        read
    }

    /// Gives the bytes of a batch. Batches go in the order they came in.
    ///
    /// # Errors
    ///
    /// The batch cannot be written, or the result is finished.
    pub fn write(&mut self, MaskedBatch(batch): MaskedBatch) -> Result<Vec<Bytes>, MaskingError> {
        let writer = self.writer.as_mut().ok_or(MaskingError::Over)?;
        let written = writer.encode(&batch).map_err(write_error)?;
        self.rows += batch.num_rows() as u64;
        Ok(pieces(written))
    }

    /// Ends the result and gives its last bytes. No bytes at all are the empty result.
    ///
    /// # Errors
    ///
    /// The result is cut within a message.
    pub fn finish(&mut self) -> Result<Vec<Bytes>, MaskingError> {
        let state = mem::replace(&mut self.state, State::Broken);
        if matches!(state, State::Broken) {
            return Err(MaskingError::Over);
        }
        if !self.frames.is_between() {
            return Err(MaskingError::Unreadable("it is cut"));
        }
        let Some(writer) = self.writer.take() else { return Ok(Vec::new()) };
        Ok(pieces(writer.finish().map_err(write_error)?))
    }

    /// Rows of the batches that were written.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    fn read_frames(&mut self, bytes: &[u8]) -> Result<Vec<Batch>, MaskingError> {
        let mut batches = Vec::new();
        let mut rest = bytes;
        if matches!(self.state, State::Broken) || (matches!(self.state, State::End) && !rest.is_empty()) {
            return Err(MaskingError::Over);
        }
        while let Some(frame) = self.frames.next(&mut rest)? {
            match frame {
                Frame::End if self.writer.is_none() => return Err(MaskingError::Unreadable("it has no schema")),
                Frame::End if !rest.is_empty() => return Err(MaskingError::Unreadable("it goes on after its end")),
                Frame::End => self.state = State::End,
                Frame::Message { head, body } => batches.extend(self.message(head, body)?),
            }
        }
        Ok(batches)
    }

    fn message(&mut self, head: Vec<u8>, body: Buffer) -> Result<Option<Batch>, MaskingError> {
        let message = message(&head)?;
        match (&self.state, message.header_type()) {
            (State::Start, MessageHeader::Schema) => {
                let schema = message.header_as_schema().and_then(|schema| try_fb_to_schema(schema).ok());
                let schema = schema.ok_or(MaskingError::Unreadable("its schema cannot be read"))?;
                let schemas = Schemas::new(&self.plan, schema, message.version())?;
                self.writer = Some(schemas.writer()?);
                self.state = State::Open(Arc::new(schemas));
                Ok(None)
            }
            (State::Open(schemas), MessageHeader::RecordBatch) => {
                let (plan, schemas) = (Arc::clone(&self.plan), Arc::clone(schemas));
                Ok(Some(Batch { plan, schemas, head, body }))
            }
            (_, MessageHeader::DictionaryBatch) => Err(MaskingError::Unsupported("a dictionary")),
            _ => Err(MaskingError::Unreadable("a message is out of its order")),
        }
    }
}

fn message(head: &[u8]) -> Result<arrow_ipc::Message<'_>, MaskingError> {
    root_as_message(head).map_err(|_| MaskingError::Unreadable("a message has no head"))
}

impl Batch {
    /// The batch with every mask of the plan.
    ///
    /// # Errors
    ///
    /// It is damaged, not what was decided, or over a limit.
    pub fn masked(self) -> Result<MaskedBatch, MaskingError> {
        let Self { plan, schemas, head, body } = self;
        let batch = message(&head)?.header_as_record_batch();
        let batch = batch.ok_or(MaskingError::Unreadable("a batch has no head"))?;
        check_batch(&batch, body.len(), &schemas.received, &plan.limits)?;
        let received = Arc::clone(&schemas.received);
        let batch = read_record_batch(&body, batch, received, &HashMap::new(), None, &schemas.version)
            .map_err(|_| MaskingError::Unreadable("a batch is damaged"))?;
        let mut arrays = Vec::with_capacity(batch.num_columns());
        for (at, array) in batch.columns().iter().enumerate() {
            arrays.push(match plan.columns.get(at).and_then(|column| column.mask.as_ref()) {
                None => rebuild::rebuilt(array, None)?,
                Some(mask) => columns::mask_array(mask, array, &plan.limits)?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&schemas.sent), arrays, &options)
            .map(MaskedBatch)
            .map_err(|_| MaskingError::Foreign("a masked column does not fit its type"))
    }
}

impl Schemas {
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
        Ok(Self { received: Arc::new(received), version, sent })
    }

    fn writer(&self) -> Result<StreamEncoder, MaskingError> {
        let options = IpcWriteOptions::try_new(8, false, self.version)
            .map_err(|_| MaskingError::Unsupported("a version of the format before 0.15"))?;
        StreamEncoder::try_new_with_options(&self.sent, options).map_err(write_error)
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
