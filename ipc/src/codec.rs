//! Values to bytes and back. The one place that names bincode, so that it can be replaced here.
use crate::frame::MAX_FRAME;
use bincode::config::{self, Configuration, Limit, LittleEndian, Varint};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

/// Why a payload could not be made or read.
#[derive(Debug, Error)]
pub enum CodecError {
    /// The value cannot be written.
    #[error("a message does not encode")]
    Encode(#[source] bincode::error::EncodeError),
    /// The bytes are no value of the type.
    #[error("a message does not decode")]
    Decode(#[source] bincode::error::DecodeError),
    /// The bytes hold more than the value.
    #[error("a message has {0} bytes too many")]
    Surplus(usize),
}

/// bincode checks every length that it reads against this limit before it allocates.
const CONFIGURATION: Configuration<LittleEndian, Varint, Limit<MAX_FRAME>> =
    config::standard().with_limit::<MAX_FRAME>();

/// The payload that holds `value`.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    bincode::serde::encode_to_vec(value, CONFIGURATION).map_err(CodecError::Encode)
}

/// The value that `payload` holds, all of it.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, CodecError> {
    let (value, used) = bincode::serde::decode_from_slice(payload, CONFIGURATION).map_err(CodecError::Decode)?;
    if used < payload.len() { Err(CodecError::Surplus(payload.len() - used)) } else { Ok(value) }
}
