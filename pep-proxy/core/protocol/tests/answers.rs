//! What Snowflake's connection brings, and what is read as an answer.

#![allow(clippy::unwrap_used, clippy::panic)]

use bytes::BufMut as _;
use icegate_pep_protocol::{
    limits::{ANSWER_HEAD_BYTES_MAX, ANSWER_HEADERS_MAX, ANSWER_INTERIM_MAX, CHUNK_LINE_BYTES_MAX, TRAILERS_BYTES_MAX},
    wire::{Answer, AnswerError, AnswerReader},
};
use proptest::prelude::*;
use serde::Deserialize;

const BODY_BYTES_MAX: usize = 16;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    comes: String,
    #[serde(default)]
    end: bool,
    is: String,
}

/// Reads bytes in pieces of this length.
fn read(bytes: &[u8], piece: usize, end: bool) -> Result<Option<Answer>, AnswerError> {
    let mut reader = AnswerReader::new(BODY_BYTES_MAX);
    for piece in bytes.chunks(piece) {
        reader.buffer().put_slice(piece);
        if let Some(answer) = reader.read()? {
            return Ok(Some(answer));
        }
    }
    if end { reader.end().map(Some) } else { Ok(None) }
}

fn shown(read: Result<Option<Answer>, AnswerError>) -> String {
    match read {
        Ok(None) => "more".to_owned(),
        Ok(Some(answer)) => {
            let body = str::from_utf8(&answer.body).unwrap();
            let encoded = if answer.encoded { ", encoded" } else { "" };
            let last = if answer.keeps { "" } else { ", the last" };
            format!("{} {body}{encoded}{last}", answer.status)
        }
        Err(AnswerError::Malformed) => "malformed".to_owned(),
        Err(AnswerError::Cut) => "cut".to_owned(),
        Err(AnswerError::TooLarge(BODY_BYTES_MAX)) => "too large".to_owned(),
        Err(AnswerError::TooLarge(other)) => panic!("another limit: {other}"),
    }
}

#[test]
fn answers() {
    let cases: Vec<Case> = serde_saphyr::from_str(include_str!("cases/answers.yaml")).unwrap();
    for Case { comes, end, is } in cases {
        assert_eq!(shown(read(comes.as_bytes(), usize::MAX, end)), is, "{comes:?}");
        // Read byte by byte, what comes behind an answer has not come yet when it is there.
        let bytewise = shown(read(comes.as_bytes(), 1, end));
        let alone = is.strip_suffix(", the last").unwrap_or(&is);
        assert!(bytewise == is || bytewise == alone, "{comes:?} byte by byte: {bytewise}");
    }
}

#[test]
fn everything_is_bounded() {
    let head = |rest: &str| format!("HTTP/1.1 200 OK\r\n{rest}");
    let lines = |count: usize| "X: y\r\n".repeat(count);
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    let done = "Content-Length: 4\r\n\r\ndone";
    for (comes, is) in [
        (head(&format!("X: {}", "y".repeat(ANSWER_HEAD_BYTES_MAX))), "malformed"),
        (head(&(lines(ANSWER_HEADERS_MAX - 1) + done)), "200 done"),
        (head(&(lines(ANSWER_HEADERS_MAX) + done)), "malformed"),
        ("HTTP/1.1 100 Go on\r\n\r\n".repeat(ANSWER_INTERIM_MAX) + &head(done), "200 done"),
        ("HTTP/1.1 100 Go on\r\n\r\n".repeat(ANSWER_INTERIM_MAX + 1) + &head(done), "malformed"),
        (head(&format!("{chunked}{}", "0".repeat(CHUNK_LINE_BYTES_MAX))), "malformed"),
        (head(&format!("{chunked}0\r\n{}", "X: y\r\n".repeat(TRAILERS_BYTES_MAX / 6 + 1))), "malformed"),
    ] {
        assert_eq!(shown(read(comes.as_bytes(), usize::MAX, false)), is, "{} bytes", comes.len());
        assert_eq!(shown(read(comes.as_bytes(), 7, false)), is, "{} bytes", comes.len());
    }
}

#[test]
fn room_is_made_for_what_has_come_not_for_what_is_promised() {
    let mut reader = AnswerReader::new(usize::MAX);
    reader.buffer().put_slice(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000000000000000\r\n\r\n");
    assert_eq!(reader.read(), Ok(None));
    assert!(reader.buffer().capacity() < 2 * 1024 * 1024);
}

fn chunk(text: &str) -> String {
    format!("{:x};named=\"x\"\r\n{text}\r\n", text.len())
}

proptest! {
    /// However it is framed and however it comes, the body is what was sent.
    #[test]
    fn a_body_arrives(body in "[ -~]{0,16}", pieces in prop::collection::vec(1usize..9, 0..6), step in 1usize..64) {
        let mut chunks = String::new();
        let mut left = body.as_str();
        for piece in pieces {
            let (now, later) = left.split_at(piece.min(left.len()));
            if !now.is_empty() {
                chunks += &chunk(now);
            }
            left = later;
        }
        if !left.is_empty() {
            chunks += &chunk(left);
        }
        for (framed, keeps) in [
            (format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()), true),
            (format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"), true),
            (format!("HTTP/1.1 200 OK\r\n\r\n{body}"), false),
        ] {
            let answer = read(framed.as_bytes(), step, true).unwrap().unwrap();
            prop_assert_eq!((&*answer.body, answer.keeps), (body.as_bytes(), keeps), "{}", framed);
        }
    }
}
