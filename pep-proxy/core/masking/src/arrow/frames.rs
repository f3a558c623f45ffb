//! The frames of an IPC stream: length, head, body.

use arrow_buffer::{Buffer, MutableBuffer};
use arrow_ipc::root_as_message;

use crate::{Limits, MaskingError};

/// Stands before the length since version 0.15 of the format.
const CONTINUATION: [u8; 4] = [0xff; 4];

/// One frame.
pub(super) enum Frame {
    Message { head: Vec<u8>, body: Buffer },
    End,
}

/// Cuts a stream into frames.
pub(super) struct Frames {
    limits: Limits,
    stage: Stage,
    /// What has come of the part that is awaited.
    held: MutableBuffer,
}

enum Stage {
    /// The continuation mark.
    Mark,
    /// The head's length.
    Length,
    Head {
        bytes: usize,
    },
    Body {
        head: Vec<u8>,
        bytes: usize,
    },
}

impl Frames {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, stage: Stage::Mark, held: MutableBuffer::new(0) }
    }

    /// Whether no frame is begun.
    pub(super) fn is_between(&self) -> bool {
        matches!(self.stage, Stage::Mark) && self.held.is_empty()
    }

    /// The next frame that is whole; takes what it uses off `rest`.
    pub(super) fn next(&mut self, rest: &mut &[u8]) -> Result<Option<Frame>, MaskingError> {
        loop {
            let wanted = match &self.stage {
                Stage::Mark | Stage::Length => 4,
                Stage::Head { bytes } | Stage::Body { bytes, .. } => *bytes,
            };
            let missing = wanted.saturating_sub(self.held.len());
            let (taken, after) = rest.split_at_checked(missing).unwrap_or((rest, &[]));
            self.held.extend_from_slice(taken);
            *rest = after;
            if self.held.len() < wanted {
                return Ok(None);
            }
            let part = std::mem::take(&mut self.held);
            self.stage = match std::mem::replace(&mut self.stage, Stage::Mark) {
                Stage::Mark if part.as_slice() == CONTINUATION => Stage::Length,
                Stage::Mark => return Err(MaskingError::Unreadable("it is no Arrow stream")),
                Stage::Length => match self.head_bytes(&part)? {
                    0 => return Ok(Some(Frame::End)),
                    bytes => Stage::Head { bytes },
                },
                Stage::Head { .. } => {
                    let bytes = self.body_bytes(&part)?;
                    // Within the limit, so that a body is kept in one piece from the start.
                    self.held = MutableBuffer::with_capacity(bytes);
                    Stage::Body { head: part.to_vec(), bytes }
                }
                Stage::Body { head, .. } => return Ok(Some(Frame::Message { head, body: part.into() })),
            };
        }
    }

    fn head_bytes(&self, part: &[u8]) -> Result<usize, MaskingError> {
        let length = part.try_into().map(i32::from_le_bytes).ok().and_then(|length| usize::try_from(length).ok());
        let length = length.ok_or(MaskingError::Unreadable("a message's length is negative"))?;
        if length > self.limits.head_bytes_max {
            return Err(MaskingError::TooLarge { what: "a message's head", limit: self.limits.head_bytes_max });
        }
        Ok(length)
    }

    fn body_bytes(&self, head: &[u8]) -> Result<usize, MaskingError> {
        let message = root_as_message(head).map_err(|_| MaskingError::Unreadable("a message has no head"))?;
        let length = usize::try_from(message.bodyLength());
        let length = length.map_err(|_| MaskingError::Unreadable("a body's length is negative"))?;
        if length > self.limits.body_bytes_max {
            return Err(MaskingError::TooLarge { what: "a batch's body", limit: self.limits.body_bytes_max });
        }
        Ok(length)
    }
}
