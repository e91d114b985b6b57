//! Looks at each request's head before the HTTP library does: that it is not too long, that nobody
//! can disagree on where its body ends, and that whoever sends nonsense is told so in a sentence.
//!
//! The library answers what it cannot parse with a bare status, and takes a request with two
//! lengths for one with the second of them (hyper#3860). So a head that is wrong is kept from it: it
//! is given one that is wrong for everybody, and its bare answer, which comes when all earlier ones
//! have gone out, is replaced by ours.
use crate::reply::{Code, Refusal};
use httparse::{Error, Request, Status};
use hyper::http::StatusCode;
use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most lines of a head.
pub(crate) const HEADERS: usize = 64;
/// Most bytes of a head.
const HEAD: usize = 16 << 10;
/// Bytes that are read at once.
const CHUNK: usize = 8 << 10;
/// What is no head to anybody.
const NO_HEAD: &[u8] = b"\0\r\n\r\n";

/// A client's stream, watched over.
#[derive(Debug)]
pub(crate) struct Guarded<S> {
    stream: S,
    state: State,
    /// What the library may read, and how much of it that has.
    seen: Vec<u8>,
    taken: usize,
    /// What is sent instead of the library's answer, and how much of it was.
    answer: Option<Vec<u8>>,
    sent: usize,
}

#[derive(Debug)]
enum State {
    /// A head is coming.
    Head(Vec<u8>),
    /// So much of a body is.
    Body(u64),
    /// A body is coming whose end only the library knows; the connection ends with it.
    Unbounded,
    /// Nothing that comes means anything.
    Refused,
}

impl<S> Guarded<S> {
    pub(crate) fn new(stream: S) -> Guarded<S> {
        Guarded { stream, state: State::Head(Vec::new()), seen: Vec::new(), taken: 0, answer: None, sent: 0 }
    }

    /// What is let through of bytes that come in pieces of this size.
    pub(crate) fn seen_of(bytes: &[u8], step: usize) -> Vec<u8>
    where
        S: Default,
    {
        let mut guarded = Guarded::new(S::default());
        bytes.chunks(step).for_each(|piece| guarded.take(piece));
        guarded.seen
    }

    /// Takes in what has come.
    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Refused => return,
                State::Unbounded => {
                    self.seen.extend_from_slice(bytes);
                    return;
                }
                State::Body(left) => {
                    let size = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    self.seen.extend_from_slice(&bytes[..size]);
                    *left -= size as u64;
                    bytes = &bytes[size..];
                    if *left == 0 {
                        self.state = State::Head(Vec::new());
                    }
                }
                State::Head(head) => {
                    let before = head.len();
                    head.extend_from_slice(bytes);
                    match judge(head) {
                        Ok(None) => return,
                        Ok(Some((length, next))) => {
                            self.seen.extend_from_slice(&head[..length]);
                            bytes = &bytes[length.saturating_sub(before)..];
                            self.state = next;
                        }
                        Err((status, message)) => {
                            self.answer = Some(answer(status, message));
                            self.seen.extend_from_slice(NO_HEAD);
                            self.state = State::Refused;
                        }
                    }
                }
            }
        }
    }
}

/// The length of a head that is whole and what follows it; nothing if it is not whole yet.
fn judge(head: &[u8]) -> Result<Option<(usize, State)>, (StatusCode, String)> {
    let wrong = |message: &str| Err((StatusCode::BAD_REQUEST, message.to_owned()));
    let too_large = |message: String| Err((StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, message));
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = Request::new(&mut headers);
    let length = match request.parse(head) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) if head.len() > HEAD => {
            return too_large(format!("the request's head has more than {HEAD} bytes"));
        }
        Ok(Status::Partial) => return Ok(None),
        Err(Error::TooManyHeaders) => return too_large(format!("the request has more than {HEADERS} headers")),
        Err(error) => return wrong(&format!("this is no HTTP/1.1 request: {error}")),
    };
    if length > HEAD {
        return too_large(format!("the request's head has more than {HEAD} bytes"));
    }
    let named = |name: &'static str| {
        request.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    };
    let mut lengths = named("content-length");
    let first = lengths.next();
    if lengths.any(|other| Some(other) != first) {
        return wrong("the request has two lengths");
    }
    let is_chunked = named("transfer-encoding").next().is_some();
    let next = match first {
        Some(_) if is_chunked => return wrong("the request has both a Content-Length and a Transfer-Encoding"),
        None if is_chunked => State::Unbounded,
        None => State::Head(Vec::new()),
        Some(length) => {
            let digits = str::from_utf8(length).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            match digits.and_then(|digits| digits.parse().ok()) {
                Some(0) => State::Head(Vec::new()),
                Some(length) => State::Body(length),
                None => return wrong("the Content-Length is no number"),
            }
        }
    };
    Ok(Some((length, next)))
}

/// A whole answer, after which the connection ends.
fn answer(status: StatusCode, message: String) -> Vec<u8> {
    let body = Refusal::new(Code::BadRequest, message).json().to_string();
    let (status, length) = (status.to_string(), body.len());
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
        .into_bytes()
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let guarded = &mut *self;
        loop {
            let left = &guarded.seen[guarded.taken..];
            if !left.is_empty() {
                let size = left.len().min(into.remaining());
                into.put_slice(&left[..size]);
                guarded.taken += size;
                if guarded.taken == guarded.seen.len() {
                    guarded.seen.clear();
                    guarded.taken = 0;
                }
                return Poll::Ready(Ok(()));
            }
            let mut bytes = [0; CHUNK];
            let mut chunk = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut guarded.stream).poll_read(context, &mut chunk))?;
            if chunk.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            guarded.take(chunk.filled());
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let guarded = &mut *self;
        if !bytes.starts_with(b"HTTP/1.1 400 ") {
            return Pin::new(&mut guarded.stream).poll_write(context, bytes);
        }
        // It is the library's answer to what it was given instead.
        let Some(answer) = &guarded.answer else { return Pin::new(&mut guarded.stream).poll_write(context, bytes) };
        while guarded.sent < answer.len() {
            let size = ready!(Pin::new(&mut guarded.stream).poll_write(context, &answer[guarded.sent..]))?;
            if size == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            guarded.sent += size;
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: AsFd> AsFd for Guarded<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the library may read of these pieces, and what is answered instead.
    fn take(pieces: &[&[u8]]) -> (Vec<u8>, Option<String>) {
        let mut guarded = Guarded::new(());
        pieces.iter().for_each(|piece| guarded.take(piece));
        (guarded.seen, guarded.answer.map(|answer| String::from_utf8(answer).unwrap()))
    }

    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    const POST: &[u8] = b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello";

    #[test]
    fn what_is_right_passes_however_it_is_cut() {
        let all = [GET, POST, GET].concat();
        for cut in 0..all.len() {
            assert_eq!(take(&[&all[..cut], &all[cut..]]), (all.clone(), None), "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = all.chunks(1).collect();
        assert_eq!(take(&bytes), (all.clone(), None));
        let chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        assert_eq!(take(&[chunked]), (chunked.to_vec(), None));
    }

    #[test]
    fn what_is_wrong_is_kept_back_and_answered_after_what_came_before() {
        for (head, words) in [
            (&b"\0\r\n\r\n"[..], "no HTTP/1.1 request"),
            (b"GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n", "no HTTP/1.1 request"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "no HTTP/1.1 request"),
            (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", "two lengths"),
            (b"POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\n", "no number"),
            (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "both"),
        ] {
            let (seen, answer) = take(&[POST, head, b"more"]);
            assert_eq!(seen, [POST, NO_HEAD].concat());
            let answer = answer.unwrap();
            assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n") && answer.contains(words), "{answer}");
        }
        let long = [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'a'; HEAD]].concat();
        let many = [b"GET / HTTP/1.1\r\n".to_vec(), b"X: 1\r\n".repeat(HEADERS + 1), b"\r\n".to_vec()].concat();
        for head in [long, many] {
            assert!(take(&[&head]).1.unwrap().starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"));
        }
    }
}
