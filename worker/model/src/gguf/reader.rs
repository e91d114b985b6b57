//! Reads a header from its beginning to its end, and believes no length in it that the file has no
//! room for.
use super::{GgufError, Tensor};
use crate::foreign_file::{BEGINNING, ForeignFile};
use std::io::Read;
use system::foreign_text::shown;

/// A value of the metadata.
#[derive(Debug)]
pub(super) enum Value {
    Integer(i128),
    Float(f64),
    Flag(bool),
    Text(String),
    Texts(Vec<String>),
    Integers(Vec<i64>),
    Floats(Vec<f32>),
    /// A list of something else, which was skipped.
    Skipped,
}

/// The only list of numbers with fractions that anybody asks for; the others are not worth their
/// memory.
pub const SCORES: &str = "tokenizer.ggml.scores";

/// Lists of so many numbers are kept whatever their type: those that say something of each block.
const SHORT_LIST: u64 = 4096;

const FLOAT: u32 = 6;
const TEXT: u32 = 8;
const LIST: u32 = 9;
/// Lists may hold lists; nobody writes more levels than this.
const DEEPEST_LIST: u32 = 4;

/// A file that is read from its beginning to its end, and says what does not fit into it.
pub(super) struct HeaderReader<R> {
    reader: R,
    /// Bytes that were read.
    pub(super) position: u64,
    size: u64,
}

impl<R: Read> HeaderReader<R> {
    /// At the beginning of a file of `size` bytes.
    pub(super) fn new(reader: R, size: u64) -> HeaderReader<R> {
        HeaderReader { reader, position: 0, size }
    }

    /// Reads the magic number, or says what the file is instead.
    pub(super) fn magic(&mut self) -> Result<(), GgufError> {
        let mut begin = Vec::new();
        let magic = b"GGUF";
        self.reader.by_ref().take(magic.len() as u64).read_to_end(&mut begin).map_err(GgufError::Read)?;
        self.position = begin.len() as u64;
        if begin == magic {
            return Ok(());
        }
        self.reader.by_ref().take(BEGINNING).read_to_end(&mut begin).map_err(GgufError::Read)?;
        Err(ForeignFile::recognise(&begin).map_or(GgufError::NotGguf, GgufError::Foreign))
    }

    /// Refuses `count` things of at least `each` bytes if they cannot be there.
    pub(super) fn fits(&self, what: &str, count: u64, each: u64) -> Result<(), GgufError> {
        let left = self.size.saturating_sub(self.position);
        let needed = count.saturating_mul(each);
        if needed > left {
            return Err(GgufError::Truncated { what: shown(what), needed, left });
        }
        Ok(())
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], GgufError> {
        self.fits(what, N as u64, 1)?;
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).map_err(GgufError::Read)?;
        self.position += N as u64;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, GgufError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, GgufError> {
        self.array(what).map(u64::from_le_bytes)
    }

    pub(super) fn string(&mut self, what: &str) -> Result<String, GgufError> {
        let length = self.u64(what)?;
        self.fits(what, length, 1)?;
        let mut bytes = Vec::new();
        let read = self.reader.by_ref().take(length).read_to_end(&mut bytes).map_err(GgufError::Read)?;
        self.position += read as u64;
        if read as u64 != length {
            return Err(GgufError::Truncated { what: shown(what), needed: length, left: read as u64 });
        }
        // The text should be UTF-8 and without a zero at its end; files in use are not always so.
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.trim_end_matches('\0').to_owned())
    }

    pub(super) fn value(&mut self, key: &str) -> Result<Value, GgufError> {
        match self.u32(key)? {
            TEXT => self.string(key).map(Value::Text),
            LIST => self.list(key, DEEPEST_LIST),
            kind => self.scalar(key, kind),
        }
    }

    fn scalar(&mut self, key: &str, kind: u32) -> Result<Value, GgufError> {
        Ok(match kind {
            0 => Value::Integer(self.array(key).map(u8::from_le_bytes)?.into()),
            1 => Value::Integer(self.array(key).map(i8::from_le_bytes)?.into()),
            2 => Value::Integer(self.array(key).map(u16::from_le_bytes)?.into()),
            3 => Value::Integer(self.array(key).map(i16::from_le_bytes)?.into()),
            4 => Value::Integer(self.array(key).map(u32::from_le_bytes)?.into()),
            5 => Value::Integer(self.array(key).map(i32::from_le_bytes)?.into()),
            FLOAT => Value::Float(self.array(key).map(f32::from_le_bytes)?.into()),
            7 => Value::Flag(self.array::<1>(key)? != [0]),
            10 => Value::Integer(self.array(key).map(u64::from_le_bytes)?.into()),
            11 => Value::Integer(self.array(key).map(i64::from_le_bytes)?.into()),
            12 => Value::Float(self.array(key).map(f64::from_le_bytes)?),
            _ => return Err(GgufError::Form { key: shown(key) }),
        })
    }

    fn list(&mut self, key: &str, deepest: u32) -> Result<Value, GgufError> {
        let kind = self.u32(key)?;
        let count = self.u64(key)?;
        let least = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            TEXT | 10..=12 => 8,
            LIST if deepest > 0 => 12,
            _ => return Err(GgufError::Form { key: shown(key) }),
        };
        self.fits(key, count, least)?;
        // Of the long lists of numbers only those of 32 bits are ever asked for; the elements of
        // others are not worth 8 bytes.
        let is_kept = matches!(kind, 4 | 5) || count <= SHORT_LIST && matches!(kind, 0..=3 | 10 | 11);
        let mut texts = Vec::new();
        let mut integers = Vec::new();
        let mut floats = Vec::new();
        for _ in 0..count {
            match kind {
                TEXT => texts.push(self.string(key)?),
                LIST => drop(self.list(key, deepest - 1)?),
                _ if is_kept => match self.scalar(key, kind)? {
                    Value::Integer(number) => integers.push(i64::try_from(number).unwrap_or(i64::MAX)),
                    _ => return Err(GgufError::Form { key: shown(key) }),
                },
                FLOAT if key == SCORES => floats.push(self.array(key).map(f32::from_le_bytes)?),
                _ => drop(self.scalar(key, kind)?),
            }
        }
        Ok(match kind {
            TEXT => Value::Texts(texts),
            _ if is_kept => Value::Integers(integers),
            FLOAT if key == SCORES => Value::Floats(floats),
            _ => Value::Skipped,
        })
    }

    pub(super) fn tensor(&mut self, name: &str) -> Result<Tensor, GgufError> {
        const MOST_DIMENSIONS: u32 = 4;
        let count = self.u32(name)?;
        if count > MOST_DIMENSIONS {
            return Err(GgufError::Shape { name: shown(name) });
        }
        let dimensions = (0..count).map(|_| self.u64(name)).collect::<Result<_, _>>()?;
        Ok(Tensor { dimensions, kind: self.u32(name)?, offset: self.u64(name)? })
    }
}
