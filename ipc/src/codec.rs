//! Messages to payloads and back. Each type of message knows its encoding: JSON for the client
//! conversation, bincode for the private ones.
use crate::InvalidRequest;
use thiserror::Error;

/// A type whose values travel in frames of their own.
pub trait Message: Sized + sealed::Sealed {
    /// Appends the payload that holds the message.
    fn encode_into(&self, bytes: &mut Vec<u8>) -> Result<(), CodecError>;

    /// The payload that holds the message.
    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        let mut payload = Vec::new();
        self.encode_into(&mut payload)?;
        Ok(payload)
    }

    /// The message that `payload` holds, all of it.
    fn decode(payload: &[u8]) -> Result<Self, CodecError>;
}

pub(crate) mod sealed {
    /// Only this crate's types are messages.
    pub trait Sealed {}
}

/// Why a payload could not be made or read.
#[derive(Debug, Error)]
pub enum CodecError {
    /// A private message cannot be written.
    #[error("a message does not encode")]
    Encode(#[source] bincode::error::EncodeError),
    /// The bytes are no private message.
    #[error("a message does not decode")]
    Decode(#[source] bincode::error::DecodeError),
    /// The bytes hold more than the private message.
    #[error("a message has {0} bytes too many")]
    Surplus(usize),
    /// A client's request holds what JSON cannot say.
    #[error(transparent)]
    Unspeakable(InvalidRequest),
    /// A message of the client conversation cannot be written.
    #[error("a message does not encode")]
    Write(#[source] serde_json::Error),
    /// The bytes are no JSON text.
    #[error("a message is no JSON")]
    Json(#[source] serde_json::Error),
    /// The bytes are JSON, but no message.
    #[error(transparent)]
    Shape(#[from] ShapeError),
}

/// What is wrong with JSON that is no message: where it is wrong, and why. One line, never long,
/// and it repeats names only, no other values: messages hold what people wrote, and errors go to
/// logs.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct ShapeError(pub(crate) String);

/// The payload that holds `message`.
pub fn encode<T: Message>(message: &T) -> Result<Vec<u8>, CodecError> {
    message.encode()
}

/// The message that `payload` holds, all of it.
pub fn decode<T: Message>(payload: &[u8]) -> Result<T, CodecError> {
    T::decode(payload)
}
