//! A connection of HTTP/1.1, which the call that has it drives.
//!
//! A library's client makes the connection a task, or a future of its own, that hands requests and answers to the call and is
//! woken for each step: for the short calls here that costs more than to write a request and read its answer.

use std::{
    pin::Pin,
    task::{Context, Waker},
};

use icegate_pep_protocol::wire::{Answer, AnswerError, AnswerReader};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::{Ask, Failed};

/// Bytes of a body up to which it is written with its head, in one piece.
const ONE_PIECE_BYTES: usize = 16 * 1024;
/// About what the head of a request has, less its token.
const HEAD_BYTES: usize = 512;

/// A connection that carries one call at a time.
#[derive(Debug)]
pub(super) struct Connection<I>(I);

impl<I: AsyncRead + AsyncWrite + Unpin> Connection<I> {
    pub(super) fn new(io: I) -> Self {
        Self(io)
    }

    /// Whether it is open, and nothing has come that nobody asked for.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        let mut context = Context::from_waker(Waker::noop());
        Pin::new(&mut self.0).poll_read(&mut context, &mut ReadBuf::new(&mut byte)).is_pending()
    }

    /// Sends a request and reads its answer, whose body has at most so many bytes.
    pub(super) async fn call(&mut self, host: &str, ask: &Ask<'_>, bytes_max: usize) -> Result<Answer, Failed> {
        let mut text = head(host, ask);
        let body = ask.body.as_deref().unwrap_or_default();
        let (with_head, after) = if body.len() <= ONE_PIECE_BYTES { (body, &[][..]) } else { (&[][..], body) };
        text.extend_from_slice(with_head);
        // Nothing of it has been read by anyone while nothing has been written.
        let written = self.0.write(&text).await.map_err(|_| Failed::NotSent)?;
        let sent = self.send(text.get(written..).unwrap_or_default(), after).await;
        // It may have been answered, and the connection closed, before all of it was read.
        let mut answer = self.answer(bytes_max).await?;
        answer.keeps &= sent.is_ok();
        Ok(answer)
    }

    async fn answer(&mut self, bytes_max: usize) -> Result<Answer, Failed> {
        let mut reader = AnswerReader::new(bytes_max);
        loop {
            let bytes = self.0.read_buf(reader.buffer()).await.map_err(|_| Failed::Cut)?;
            let read = if bytes == 0 { return reader.end().map_err(failed) } else { reader.read() };
            if let Some(answer) = read.map_err(failed)? {
                return Ok(answer);
            }
        }
    }

    async fn send(&mut self, text: &[u8], body: &[u8]) -> std::io::Result<()> {
        self.0.write_all(text).await?;
        self.0.write_all(body).await?;
        self.0.flush().await
    }
}

fn failed(error: AnswerError) -> Failed {
    match error {
        AnswerError::Malformed | AnswerError::Cut => Failed::Cut,
        AnswerError::TooLarge(_) => Failed::TooLarge,
    }
}

/// The head of a request.
fn head(host: &str, ask: &Ask<'_>) -> Vec<u8> {
    let mut text = Vec::with_capacity(HEAD_BYTES + ask.token.map_or(0, |token| token.expose().len()));
    let mut put = |parts: &[&str]| parts.iter().for_each(|part| text.extend_from_slice(part.as_bytes()));
    put(&[ask.method.as_str(), " ", ask.path_and_query, " HTTP/1.1\r\nhost: ", host]);
    ask.each_header(|name, value| {
        put(&["\r\n", name.as_str(), ": "]);
        put(value);
    });
    if let Some(body) = &ask.body {
        put(&["\r\ncontent-length: ", &body.len().to_string()]);
    }
    put(&["\r\n\r\n"]);
    text
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Method;
    use icegate_pep_protocol::Secret;

    use super::*;

    const BODY: Bytes = Bytes::from_static(&[b'x'; 2 * ONE_PIECE_BYTES]);

    fn ask(token: &Secret) -> Ask<'_> {
        Ask { method: Method::POST, path_and_query: "/queries/v1/query-request", token: Some(token), body: Some(BODY) }
    }

    #[tokio::test]
    async fn what_is_written_is_one_request() {
        let (ours, mut theirs) = tokio::io::duplex(1024 * 1024);
        theirs.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
        let answer = Connection::new(ours).call("snow.example", &ask(&Secret::new("t")), 16).await.unwrap();
        assert_eq!((answer.status, answer.keeps, &*answer.body), (200, true, &b"{}"[..]));
        let mut written = Vec::new();
        theirs.read_to_end(&mut written).await.unwrap();
        let (head, body) = written.split_at(written.len() - BODY.len());
        assert_eq!(body, BODY);
        let version = env!("CARGO_PKG_VERSION");
        let lines = [
            "POST /queries/v1/query-request HTTP/1.1",
            "host: snow.example",
            "accept: application/json",
            "accept-encoding: gzip",
            &format!("user-agent: icegate/{version}"),
            "content-type: application/json",
            "authorization: Snowflake Token=\"t\"",
            "content-length: 32768",
            "\r\n",
        ];
        assert_eq!(str::from_utf8(head).unwrap(), lines.join("\r\n"));
    }

    #[tokio::test]
    async fn what_is_answered_before_all_was_read_is_the_answer() {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let answers = async {
            theirs.read_exact(&mut [0; 1024]).await.unwrap();
            theirs.write_all(b"HTTP/1.1 413 Long\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            drop(theirs);
        };
        let mut connection = Connection::new(ours);
        let secret = Secret::new("t");
        let asked = ask(&secret);
        let (answer, ()) = tokio::join!(connection.call("snow.example", &asked, 16), answers);
        assert_eq!(answer.map(|answer| (answer.status, answer.keeps)), Ok((413, false)));
    }
}
