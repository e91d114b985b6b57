//! The tokio end.
use super::{EndError, READ_AT_ONCE, end_of_stream, to_frame};
use crate::{codec::Message, frame::FrameBuffer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A tokio end.
#[derive(Debug)]
pub struct AsyncEnd<S> {
    stream: S,
    buffer: FrameBuffer,
    send_limit: usize,
}

impl<S> AsyncEnd<S> {
    /// An end that receives payloads of at most `receive_limit` bytes and sends ones of at most
    /// `send_limit`.
    pub fn new(stream: S, receive_limit: usize, send_limit: usize) -> AsyncEnd<S> {
        AsyncEnd { stream, buffer: FrameBuffer::new(receive_limit), send_limit }
    }

    /// The stream itself.
    pub fn stream(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncEnd<S> {
    /// Waits for the next message; `None` at the end of the stream. Nothing is lost if the future
    /// is dropped.
    pub async fn receive<T: Message>(&mut self) -> Result<Option<T>, EndError> {
        let payload = self.receive_payload().await?;
        payload.map(|payload| T::decode(payload).map_err(EndError::Codec)).transpose()
    }

    /// Waits for the next payload, for whoever decodes it elsewhere; `None` at the end of the
    /// stream. Nothing is lost if the future is dropped.
    pub async fn receive_payload(&mut self) -> Result<Option<&[u8]>, EndError> {
        while !self.buffer.is_whole().map_err(EndError::Frame)? {
            let space = self.buffer.space();
            space.reserve(READ_AT_ONCE);
            match self.stream.read_buf(space).await {
                Ok(0) => return end_of_stream(&self.buffer),
                Ok(_) => {}
                Err(error) => return Err(EndError::Read(error)),
            }
        }
        self.buffer.next_payload().map_err(EndError::Frame)
    }
}

impl<S: AsyncWrite + Unpin> AsyncEnd<S> {
    /// Sends one message.
    pub async fn send<T: Message>(&mut self, message: &T) -> Result<(), EndError> {
        let bytes = to_frame(message, self.send_limit)?;
        self.stream.write_all(&bytes).await.map_err(EndError::Write)
    }
}
