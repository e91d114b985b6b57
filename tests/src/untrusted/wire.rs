//! What arrives by sockets, and the configuration.
use ipc::{
    BlockingEnd, FrameBuffer, FromFront, FromTemplate, FromWorker, FrontRequest, Message, Request, Response, ToFront,
    ToTemplate, ToWorker,
};
use std::{
    fmt::Debug,
    io::{self, Cursor, Read, Write},
};
use supervisor::fuzzing;

/// A stream, however it is cut, as it arrives.
pub fn frames(bytes: &[u8]) {
    let Some((step, stream)) = bytes.split_first() else { return };
    let whole = split(stream, stream.len().max(1));
    let cut = split(stream, usize::from(*step).max(1));
    assert_eq!(whole, cut, "the frames are the same however they arrive");
    if let Ok(payload) = ipc::packet(stream, ipc::MAX_CONTROL) {
        assert_eq!(
            ipc::frame(payload, ipc::MAX_CONTROL).as_deref(),
            Ok(stream),
            "a packet is one frame and nothing else"
        );
    }
}

/// The payloads of a stream that arrives in pieces of this size, and whether it is broken behind
/// them.
fn split(stream: &[u8], size: usize) -> (Vec<Vec<u8>>, bool) {
    const LIMIT: usize = 1 << 12;
    let mut buffer = FrameBuffer::new(LIMIT);
    let mut payloads = Vec::new();
    for piece in stream.chunks(size) {
        buffer.space().extend_from_slice(piece);
        loop {
            match buffer.next_payload() {
                Ok(Some(payload)) => payloads.push(payload.to_vec()),
                Ok(None) => break,
                Err(_) => return (payloads, true),
            }
        }
    }
    (payloads, false)
}

/// A message of the conversation that the first byte names.
pub fn messages(bytes: &[u8]) {
    let Some((conversation, payload)) = bytes.split_first() else { return };
    match conversation % 9 {
        0 => understand_json::<Request>(payload),
        1 => understand_json::<Response>(payload),
        2 => understand::<ToWorker>(payload),
        3 => understand::<FromWorker>(payload),
        4 => understand::<ToTemplate>(payload),
        5 => understand::<FromTemplate>(payload),
        6 => understand_json::<FrontRequest>(payload),
        7 => understand::<ToFront>(payload),
        _ => understand::<FromFront>(payload),
    }
}

/// What can be read can be written, and is then the same. What cannot be read is told in one line
/// that is not long.
fn understand_json<T: Message + Debug>(payload: &[u8]) {
    match ipc::decode::<T>(payload) {
        // It is heard, and never said.
        Ok(value) if format!("{value:?}").starts_with("Other") => {}
        Ok(value) => {
            write_again(&value);
        }
        Err(error) => {
            let words = system::foreign_text::chain(&error);
            assert!(words.len() < 1_000 && !words.chars().any(char::is_control), "{words:?}");
        }
    }
}

/// The same; and there is no shorter way to write it.
fn understand<T: Message + Debug>(payload: &[u8]) {
    let Ok(value) = ipc::decode::<T>(payload) else { return };
    assert!(write_again(&value) <= payload.len(), "the shortest way to write {value:?} is used");
}

/// Writes a value, and says how long that is; reading and writing it again changes nothing.
fn write_again<T: Message + Debug>(value: &T) -> usize {
    let written = ipc::encode(value).unwrap_or_else(|error| panic!("{value:?} cannot be written: {error}"));
    let again: T = ipc::decode(&written).unwrap_or_else(|error| panic!("{value:?} cannot be read again: {error}"));
    assert_eq!(ipc::encode(&again).ok().as_deref(), Some(written.as_slice()), "{value:?}");
    written.len()
}

/// A body for the path that the first byte names.
pub fn http(bytes: &[u8]) {
    let Some((path, body)) = bytes.split_first() else { return };
    front::fuzzing::body(*path, body);
}

/// A connection of an HTTP client, however it is cut.
pub fn http_stream(bytes: &[u8]) {
    let Some((step, stream)) = bytes.split_first() else { return };
    front::fuzzing::stream(usize::from(*step), stream);
}

/// A daemon's words, as a client hears them.
pub fn client(bytes: &[u8]) {
    let mut end = BlockingEnd::new(Said(Cursor::new(bytes)), ipc::MAX_FRAME, ipc::MAX_REQUEST);
    while let Ok(Some(response)) = end.receive::<Response>() {
        let Response::Status(status) = response else { continue };
        for width in [None, Some(0), Some(80)] {
            let page = fuzzing::page(&status, width);
            assert!(page.chars().all(|letter| letter == '\n' || !letter.is_control()), "{page:?} drives the terminal");
        }
    }
}

/// A stream that is heard and takes all that is said to it.
struct Said<'a>(Cursor<&'a [u8]>);

impl Read for Said<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Said<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The text of a configuration. If it is none, the reason is one line, not a long one.
pub fn configuration(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Err(sentence) = fuzzing::configuration(text) {
        assert!(sentence.starts_with("/etc/supervisor.toml:"), "{sentence}");
        assert!(!sentence.chars().any(char::is_control), "{sentence:?}");
        assert!(sentence.len() < 2_000, "{sentence}");
    }
}
