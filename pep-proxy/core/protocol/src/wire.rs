//! An answer of HTTP/1.1, read from a connection that carries one call at a time.
//!
//! `httparse` splits the head. What is added here is where the answer ends (RFC 9112, 6.3), and strictly: an answer that two
//! programs would end at two places is none, and nothing after it on its connection is either.

use std::mem::MaybeUninit;

use bytes::{Buf as _, Bytes, BytesMut};

use crate::limits::{
    ANSWER_HEAD_BYTES_MAX, ANSWER_HEADERS_MAX, ANSWER_INTERIM_MAX, CHUNK_LINE_BYTES_MAX, TRAILERS_BYTES_MAX,
};

/// Bytes that are read at once: more than a short answer has.
const READ_BYTES: usize = 4 * 1024;
/// Bytes that are read at once of a body whose length is not known.
const UNSIZED_READ_BYTES: usize = 64 * 1024;
/// Bytes that there is room for at most before they have come: what a server says it will send, it need not.
const AHEAD_BYTES: usize = 1024 * 1024;

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// 200 to 999.
    pub status: u16,
    /// It names another encoding of its body than `identity`.
    pub encoded: bool,
    /// The connection may carry another call.
    pub keeps: bool,
    /// Without the framing of the connection.
    pub body: Bytes,
}

/// Why what came is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It is not HTTP/1.1, or does not say clearly where it ends.
    #[error("not an answer of HTTP/1.1 whose end is clear")]
    Malformed,
    /// The connection ended before it did.
    #[error("the answer ends in its middle")]
    Cut,
    /// Its body is longer than it may be.
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
}

/// Reads one answer.
///
/// ```
/// use bytes::BufMut as _;
/// use icegate_pep_protocol::wire::AnswerReader;
///
/// let mut reader = AnswerReader::new(1024);
/// reader.buffer().put_slice(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{");
/// assert_eq!(reader.read(), Ok(None));
/// reader.buffer().put_slice(b"}");
/// let answer = reader.read().unwrap().unwrap();
/// assert_eq!((answer.status, answer.keeps, &*answer.body), (200, true, &b"{}"[..]));
/// ```
#[derive(Debug)]
pub struct AnswerReader {
    /// What has come and is not read yet.
    come: BytesMut,
    at: At,
    body_bytes_max: usize,
    interim: usize,
}

/// What comes next.
#[derive(Debug)]
enum At {
    Head,
    /// The body, of so many bytes.
    Sized(Head, usize),
    /// The body, until the connection ends.
    Open(Head),
    /// The body in pieces.
    Chunked(Head, BytesMut, Piece),
}

/// What comes next of a body in pieces.
#[derive(Debug, Clone, Copy)]
enum Piece {
    /// A line with the size of the next one.
    Size,
    /// So many bytes.
    Data(usize),
    /// The line break after them.
    Break,
    /// Headers after the last; so many bytes of them have been.
    Trailers(usize),
}

#[derive(Debug, Clone, Copy)]
struct Head {
    status: u16,
    encoded: bool,
    keeps: bool,
}

impl Head {
    fn answer(self, body: Bytes, keeps: bool) -> Answer {
        Answer { status: self.status, encoded: self.encoded, keeps, body }
    }
}

impl AnswerReader {
    /// A reader of an answer whose body has at most so many bytes.
    pub fn new(body_bytes_max: usize) -> Self {
        Self { come: BytesMut::with_capacity(READ_BYTES), at: At::Head, body_bytes_max, interim: 0 }
    }

    /// Where what comes is to be put, after what is there; it has room.
    pub fn buffer(&mut self) -> &mut BytesMut {
        self.come.reserve(match &self.at {
            At::Head => READ_BYTES,
            At::Sized(_, bytes) => bytes.saturating_sub(self.come.len()).clamp(1, AHEAD_BYTES),
            At::Open(_) | At::Chunked(..) => UNSIZED_READ_BYTES,
        });
        &mut self.come
    }

    /// Reads what has come. `None`: more is to come.
    ///
    /// # Errors
    ///
    /// What has come is no answer, or a longer one than is taken. The connection is of no use after that.
    pub fn read(&mut self) -> Result<Option<Answer>, AnswerError> {
        while matches!(self.at, At::Head) {
            let Some((bytes, at)) = self.head()? else { return Ok(None) };
            self.come.advance(bytes);
            self.at = at;
        }
        let (head, body) = match &mut self.at {
            At::Open(_) if self.come.len() > self.body_bytes_max => {
                return Err(AnswerError::TooLarge(self.body_bytes_max));
            }
            &mut At::Sized(head, bytes) if self.come.len() >= bytes => (head, self.come.split_to(bytes)),
            At::Head | At::Open(_) | At::Sized(..) => return Ok(None),
            At::Chunked(head, body, piece) => {
                if !pieces(&mut self.come, body, piece, self.body_bytes_max)? {
                    return Ok(None);
                }
                (*head, std::mem::take(body))
            }
        };
        Ok(Some(head.answer(body.freeze(), head.keeps && self.come.is_empty())))
    }

    /// Says that the connection has ended, which is how some answers end.
    ///
    /// # Errors
    ///
    /// This one is not over.
    pub fn end(self) -> Result<Answer, AnswerError> {
        match self.at {
            At::Open(head) => Ok(head.answer(self.come.freeze(), false)),
            At::Head | At::Sized(..) | At::Chunked(..) => Err(AnswerError::Cut),
        }
    }

    /// The head and its length, once all of it is there, and what comes after it.
    fn head(&mut self) -> Result<Option<(usize, At)>, AnswerError> {
        let mut headers = [const { MaybeUninit::uninit() }; ANSWER_HEADERS_MAX];
        let mut response = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default()
            .parse_response_with_uninit_headers(&mut response, &self.come, &mut headers)
            .map_err(|_| AnswerError::Malformed)?;
        let bytes = match parsed {
            httparse::Status::Complete(bytes) if bytes <= ANSWER_HEAD_BYTES_MAX => bytes,
            httparse::Status::Partial if self.come.len() < ANSWER_HEAD_BYTES_MAX => return Ok(None),
            httparse::Status::Complete(_) | httparse::Status::Partial => return Err(AnswerError::Malformed),
        };
        let status = response.code.unwrap_or_default();
        if status < 200 {
            // On another protocol was not agreed.
            self.interim += 1;
            let more = status >= 100 && status != 101 && self.interim <= ANSWER_INTERIM_MAX;
            return if more { Ok(Some((bytes, At::Head))) } else { Err(AnswerError::Malformed) };
        }
        let newest = response.version == Some(1);
        let mut head = Head { status, encoded: false, keeps: newest };
        let (mut length, mut chunked) = (None, false);
        for header in response.headers.iter() {
            let (name, value) = (header.name, header.value.trim_ascii());
            if name.eq_ignore_ascii_case("content-length") {
                if length.replace(decimal(value).ok_or(AnswerError::Malformed)?).is_some() {
                    return Err(AnswerError::Malformed);
                }
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                if chunked || !newest || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(AnswerError::Malformed);
                }
                chunked = true;
            } else if name.eq_ignore_ascii_case("connection") {
                let mut words = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                head.keeps &= !words.any(|word| word.eq_ignore_ascii_case(b"close"));
            } else if name.eq_ignore_ascii_case("content-encoding") {
                head.encoded |= !value.is_empty() && !value.eq_ignore_ascii_case(b"identity");
            }
        }
        let at = match (chunked, length) {
            (true, Some(_)) => return Err(AnswerError::Malformed),
            _ if matches!(status, 204 | 304) => At::Sized(head, 0),
            (true, None) => At::Chunked(head, BytesMut::new(), Piece::Size),
            (false, Some(length)) if length > self.body_bytes_max as u64 => {
                return Err(AnswerError::TooLarge(self.body_bytes_max));
            }
            (false, Some(length)) => At::Sized(head, usize::try_from(length).map_err(|_| AnswerError::Malformed)?),
            (false, None) => At::Open(head),
        };
        Ok(Some((bytes, at)))
    }
}

/// Digits and nothing else.
fn decimal(digits: &[u8]) -> Option<u64> {
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()
}

/// Takes what has come of a body in pieces; says whether that was all.
fn pieces(come: &mut BytesMut, body: &mut BytesMut, next: &mut Piece, bytes_max: usize) -> Result<bool, AnswerError> {
    loop {
        *next = match *next {
            Piece::Size => {
                let Some(line) = line(come, CHUNK_LINE_BYTES_MAX)? else { return Ok(false) };
                let size = chunk_size(&line)?;
                if size > bytes_max.saturating_sub(body.len()) as u64 {
                    return Err(AnswerError::TooLarge(bytes_max));
                }
                match usize::try_from(size).map_err(|_| AnswerError::Malformed)? {
                    0 => Piece::Trailers(0),
                    size => Piece::Data(size),
                }
            }
            Piece::Data(0) => Piece::Break,
            Piece::Data(left) => {
                let here = come.len().min(left);
                if here == 0 {
                    return Ok(false);
                }
                body.extend_from_slice(&come.split_to(here));
                Piece::Data(left - here)
            }
            Piece::Break => match line(come, 2)? {
                None => return Ok(false),
                Some(line) if line.is_empty() => Piece::Size,
                Some(_) => return Err(AnswerError::Malformed),
            },
            // Nothing here is asked of them.
            Piece::Trailers(before) => {
                let Some(line) = line(come, TRAILERS_BYTES_MAX - before)? else { return Ok(false) };
                if line.is_empty() {
                    return Ok(true);
                }
                Piece::Trailers(before + line.len() + 2)
            }
        };
    }
}

/// The size of the next piece, before what may be said of it.
fn chunk_size(line: &[u8]) -> Result<u64, AnswerError> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    let digits = str::from_utf8(digits).ok().filter(|_| plain).ok_or(AnswerError::Malformed)?;
    u64::from_str_radix(digits, 16).map_err(|_| AnswerError::Malformed)
}

/// Takes a line, of which the end has at most so many bytes before it, and leaves its end away. `None`: it has not come yet.
fn line(come: &mut BytesMut, bytes_max: usize) -> Result<Option<BytesMut>, AnswerError> {
    let window = come.get(..bytes_max.min(come.len())).unwrap_or_default();
    let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
        return if come.len() >= bytes_max { Err(AnswerError::Malformed) } else { Ok(None) };
    };
    let mut line = come.split_to(end + 1);
    if !line.ends_with(b"\r\n") {
        return Err(AnswerError::Malformed);
    }
    line.truncate(end - 1);
    Ok(Some(line))
}
