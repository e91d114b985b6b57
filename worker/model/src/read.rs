//! What every format is read from.
use sha2::{Digest, Sha256};
use std::io::{self, Read, Seek};

/// A file, or bytes in memory.
pub trait ReadSeek: Read + Seek {}

impl<R: Read + Seek> ReadSeek for R {}

/// Bytes that are read at once.
pub(crate) const BUFFER: usize = 1 << 20;

/// The SHA-256 of all that the reader gives, in hexadecimal.
pub(crate) fn sha256(reader: &mut impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            Ok(read) => hash.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
