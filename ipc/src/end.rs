//! The two ends of a stream that carries frames: blocking for workers and simple clients, tokio for
//! the supervisor.
#[cfg(feature = "tokio")]
mod asynchronous;

#[cfg(feature = "tokio")]
pub use asynchronous::AsyncEnd;

use crate::{
    codec::{CodecError, Message},
    frame::{self, FrameBuffer, FrameError, HEADER},
};
use std::io::{self, Read, Write};
use thiserror::Error;

/// Why a message could not be sent or received.
#[derive(Debug, Error)]
pub enum EndError {
    /// Reading failed.
    #[error("reading from the socket failed")]
    Read(#[source] io::Error),
    /// Writing failed.
    #[error("writing to the socket failed")]
    Write(#[source] io::Error),
    /// What came is no frame; the stream cannot go on.
    #[error("the stream is broken")]
    Frame(#[source] FrameError),
    /// What came is a frame, but no message; the stream can go on.
    #[error("the message is broken")]
    Codec(#[source] CodecError),
}

/// The frame that carries `message`.
pub fn to_frame<T: Message>(message: &T, limit: usize) -> Result<Vec<u8>, EndError> {
    let mut bytes = vec![0; HEADER];
    message.encode_into(&mut bytes).map_err(EndError::Codec)?;
    frame::close(bytes, limit).map_err(EndError::Frame)
}

/// The next message in `buffer`, if it is whole.
fn from_buffer<T: Message>(buffer: &mut FrameBuffer) -> Result<Option<T>, EndError> {
    let payload = buffer.next_payload().map_err(EndError::Frame)?;
    payload.map(|payload| T::decode(payload).map_err(EndError::Codec)).transpose()
}

/// At the end of the stream: fine between two frames, an error within one.
fn end_of_stream<T>(buffer: &FrameBuffer) -> Result<Option<T>, EndError> {
    if buffer.is_empty() { Ok(None) } else { Err(EndError::Frame(FrameError::CutOff)) }
}

const READ_AT_ONCE: usize = 16 << 10;

/// A blocking end.
#[derive(Debug)]
pub struct BlockingEnd<S> {
    stream: S,
    buffer: FrameBuffer,
    send_limit: usize,
    /// Frames that have not been sent yet.
    pending: Vec<u8>,
}

impl<S: Read + Write> BlockingEnd<S> {
    /// An end that receives payloads of at most `receive_limit` bytes and sends ones of at most
    /// `send_limit`.
    pub fn new(stream: S, receive_limit: usize, send_limit: usize) -> BlockingEnd<S> {
        BlockingEnd { stream, buffer: FrameBuffer::new(receive_limit), send_limit, pending: Vec::new() }
    }

    /// Sends one message, after those that wait.
    pub fn send<T: Message>(&mut self, message: &T) -> Result<(), EndError> {
        self.put_off(message)?;
        self.flush()
    }

    /// Keeps one message until the next [`BlockingEnd::send`] or [`BlockingEnd::flush`].
    pub fn put_off<T: Message>(&mut self, message: &T) -> Result<(), EndError> {
        self.pending.append(&mut to_frame(message, self.send_limit)?);
        Ok(())
    }

    /// Sends the messages that wait.
    pub fn flush(&mut self) -> Result<(), EndError> {
        let sent = self.stream.write_all(&self.pending).map_err(EndError::Write);
        self.pending.clear();
        sent
    }

    /// Waits for the next message; `None` at the end of the stream.
    pub fn receive<T: Message>(&mut self) -> Result<Option<T>, EndError> {
        loop {
            if let Some(message) = from_buffer(&mut self.buffer)? {
                return Ok(Some(message));
            }
            let mut chunk = [0; READ_AT_ONCE];
            match self.stream.read(&mut chunk) {
                Ok(0) => return end_of_stream(&self.buffer),
                Ok(count) => self.buffer.space().extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(EndError::Read(error)),
            }
        }
    }

    /// The stream itself.
    pub fn stream(&self) -> &S {
        &self.stream
    }
}
