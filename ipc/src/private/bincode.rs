//! Private messages to bytes and back. The one place that names bincode's functions, so that it can
//! be replaced here.
use super::{FromFront, FromTemplate, FromWorker, ToFront, ToTemplate, ToWorker};
use crate::{
    codec::{CodecError, Message, sealed::Sealed},
    frame::MAX_FRAME,
};
use bincode::config::{self, Configuration, Limit, LittleEndian, Varint};

/// bincode checks every length that it reads against this limit before it allocates.
const CONFIGURATION: Configuration<LittleEndian, Varint, Limit<MAX_FRAME>> =
    config::standard().with_limit::<MAX_FRAME>();

macro_rules! private_messages {
    ($($name:ident),*) => {$(
        impl Sealed for $name {}

        impl Message for $name {
            fn encode_into(&self, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
                let written = bincode::serde::encode_into_std_write(self, bytes, CONFIGURATION);
                written.map(drop).map_err(CodecError::Encode)
            }

            fn decode(payload: &[u8]) -> Result<Self, CodecError> {
                let decoded = bincode::serde::decode_from_slice(payload, CONFIGURATION);
                let (value, used) = decoded.map_err(CodecError::Decode)?;
                if used < payload.len() { Err(CodecError::Surplus(payload.len() - used)) } else { Ok(value) }
            }
        }
    )*};
}

private_messages!(FromFront, FromTemplate, FromWorker, ToFront, ToTemplate, ToWorker);
