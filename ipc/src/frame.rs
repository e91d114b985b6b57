//! Frames: eight bytes of header, then the payload. Pure bytes, no I/O; [`crate::BlockingEnd`] and
//! its tokio counterpart move them.
use thiserror::Error;

/// The version of the client conversation that this crate speaks. Every frame's header has it. The
/// private conversations have no versions of their own: their two ends are one executable, and so
/// always agree.
pub const VERSION: u16 = 2;
/// Bytes of a frame's header.
pub const HEADER: usize = 8;
/// Most payload bytes of a frame between supervisor and worker, and from the supervisor to a
/// client.
pub const MAX_FRAME: usize = 16 << 20;
/// Most payload bytes of a client's request.
pub const MAX_REQUEST: usize = 4 << 20;
/// Most payload bytes of a frame to or from a template.
pub const MAX_CONTROL: usize = 32 << 10;

const MAGIC: [u8; 2] = *b"SV";

/// Why bytes are not a frame.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    /// The first two bytes are not the protocol's.
    #[error("these bytes are no frame of the supervisor's protocol")]
    Magic,
    /// The header is good, the version is not this one.
    #[error("the other side speaks version {0} of the protocol, this side speaks version {VERSION}")]
    Version(u16),
    /// The payload is longer than this conversation allows.
    #[error("a frame of {size} bytes is longer than the limit of {limit}")]
    TooLong {
        /// What the header says.
        size: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The bytes end in the middle of a frame.
    #[error("the frame is cut off")]
    CutOff,
}

/// A frame around `payload`.
pub fn frame(payload: &[u8], limit: usize) -> Result<Vec<u8>, FrameError> {
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.extend_from_slice(&[0; HEADER]);
    bytes.extend_from_slice(payload);
    close(bytes, limit)
}

/// Writes the header into the first [`HEADER`] bytes, behind which the payload stands.
pub(crate) fn close(mut bytes: Vec<u8>, limit: usize) -> Result<Vec<u8>, FrameError> {
    let size = bytes.len().saturating_sub(HEADER);
    if size > limit {
        return Err(FrameError::TooLong { size, limit });
    }
    if let Some(header) = bytes.first_chunk_mut::<HEADER>() {
        header[..2].copy_from_slice(&MAGIC);
        header[2..4].copy_from_slice(&VERSION.to_le_bytes());
        header[4..].copy_from_slice(&u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes());
    }
    Ok(bytes)
}

/// The payload of a packet that must be exactly one frame.
pub fn packet(bytes: &[u8], limit: usize) -> Result<&[u8], FrameError> {
    let size = payload_size(bytes, limit)?.ok_or(FrameError::CutOff)?;
    match bytes.len() - HEADER {
        found if found == size => Ok(&bytes[HEADER..]),
        found if found < size => Err(FrameError::CutOff),
        found => Err(FrameError::TooLong { size: found, limit: size }),
    }
}

/// What the header of `bytes` promises, or `None` if there is not yet a whole header. Wrong bytes
/// are refused as early as they can be known to be wrong.
fn payload_size(bytes: &[u8], limit: usize) -> Result<Option<usize>, FrameError> {
    if bytes.iter().zip(MAGIC).any(|(found, expected)| *found != expected) {
        return Err(FrameError::Magic);
    }
    let Some(header) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    let version = u16::from_le_bytes([header[2], header[3]]);
    if version != VERSION {
        return Err(FrameError::Version(version));
    }
    let size = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
    if size > limit {
        return Err(FrameError::TooLong { size, limit });
    }
    Ok(Some(size))
}

/// Collects bytes as they arrive and gives out payloads. It never holds more than arrived, whatever
/// a header promises.
#[derive(Debug)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
    /// How many of `bytes` have been given out already.
    consumed: usize,
    limit: usize,
}

impl FrameBuffer {
    /// An empty buffer for frames of at most `limit` payload bytes.
    pub fn new(limit: usize) -> FrameBuffer {
        FrameBuffer { bytes: Vec::new(), consumed: 0, limit }
    }

    /// Where the next bytes that arrive are to be appended.
    pub fn space(&mut self) -> &mut Vec<u8> {
        if self.consumed > 0 {
            self.bytes.drain(..self.consumed);
            self.consumed = 0;
        }
        // What one large message needed is not kept for ever.
        if self.bytes.is_empty() && self.bytes.capacity() > 1 << 20 {
            self.bytes = Vec::new();
        }
        &mut self.bytes
    }

    /// Whether a whole frame has arrived, so that [`FrameBuffer::next_payload`] has something to
    /// give.
    pub fn is_whole(&self) -> Result<bool, FrameError> {
        let rest = &self.bytes[self.consumed..];
        Ok(payload_size(rest, self.limit)?.is_some_and(|size| rest.len() >= HEADER + size))
    }

    /// The payload of the next whole frame, if it has arrived.
    pub fn next_payload(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let rest = &self.bytes[self.consumed..];
        let Some(size) = payload_size(rest, self.limit)? else { return Ok(None) };
        let (start, end) = (self.consumed + HEADER, self.consumed + HEADER + size);
        if self.bytes.len() < end {
            return Ok(None);
        }
        self.consumed = end;
        Ok(Some(&self.bytes[start..end]))
    }

    /// Whether bytes of an unfinished frame are waiting.
    pub fn is_empty(&self) -> bool {
        self.consumed == self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_found_however_its_bytes_are_cut() {
        let stream = [frame(b"one", 10).unwrap(), frame(b"", 10).unwrap(), frame(b"three", 10).unwrap()].concat();
        for step in 1..stream.len() {
            let mut buffer = FrameBuffer::new(10);
            let mut found = Vec::new();
            for part in stream.chunks(step) {
                buffer.space().extend_from_slice(part);
                while let Some(payload) = buffer.next_payload().unwrap() {
                    found.push(payload.to_vec());
                }
            }
            assert_eq!(found, [b"one".to_vec(), b"".to_vec(), b"three".to_vec()], "in parts of {step}");
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn wrong_bytes_are_refused_by_name() {
        let good = frame(b"12345", 10).unwrap();
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        assert_eq!(packet(&with(0, b'X'), 10), Err(FrameError::Magic));
        assert_eq!(packet(&with(2, 7), 10), Err(FrameError::Version(7)));
        assert_eq!(packet(&with(7, 0xff), 10), Err(FrameError::TooLong { size: 0xff00_0005, limit: 10 }));
        assert_eq!(packet(&with(4, 4), 10), Err(FrameError::TooLong { size: 5, limit: 4 }));
        assert_eq!(packet(&good[..9], 10), Err(FrameError::CutOff));
        assert_eq!(packet(&good[..3], 10), Err(FrameError::CutOff));
        assert_eq!(packet(&good, 10), Ok(&b"12345"[..]));
        assert_eq!(frame(b"12345", 4), Err(FrameError::TooLong { size: 5, limit: 4 }));
    }

    #[test]
    fn one_wrong_byte_is_enough_to_refuse() {
        let mut buffer = FrameBuffer::new(10);
        buffer.space().push(b'G');
        assert_eq!(buffer.next_payload(), Err(FrameError::Magic));
    }
}
