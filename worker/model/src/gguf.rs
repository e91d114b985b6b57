//! Reads the header of a GGUF file: its metadata, and where its tensors lie.
//!
//! The file is not trusted: no count, length or offset in it is believed before it has been
//! compared with the file's size, so memory stays in proportion to the file and nothing panics. It
//! reads no weights and knows no architecture.
//!
//! The format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.
#[cfg(test)]
pub(crate) mod build;
#[cfg(test)]
mod tests;

use candle_core::quantized::GgmlDType;
use std::{
    collections::HashMap,
    io::{self, Read},
};
use system::foreign_text::shown;
use thiserror::Error;

/// What a header says, without the lists that nobody here reads.
#[derive(Debug)]
pub struct Header {
    values: HashMap<String, Value>,
    /// The tensors by their names.
    pub tensors: HashMap<String, Tensor>,
    /// Where the tensors' bytes begin in the file.
    pub data: u64,
}

/// Where a tensor lies, and its form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its dimensions as the file has them: the length of a row first.
    pub dimensions: Vec<u64>,
    /// The file's number for its element type.
    pub kind: u32,
    /// Its first byte, counted from [`Header::data`].
    pub offset: u64,
}

/// Why a header cannot be read.
#[derive(Debug, Error)]
pub enum GgufError {
    /// The magic number is missing.
    #[error("it is not a GGUF file")]
    NotGguf,
    /// A version of the format that nobody here reads.
    #[error("it is GGUF version {0}, and only 2 and 3 can be read")]
    Version(u32),
    /// Something goes on behind the end of the file.
    #[error("it is truncated: {what} needs {needed} bytes, and {left} are left")]
    Truncated {
        /// What does not fit.
        what: String,
        /// How much it needs.
        needed: u64,
        /// How much there is.
        left: u64,
    },
    /// The file cannot be read.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    /// A number that names no type of value, or lists within lists within lists.
    #[error("the value of {key} has a form that GGUF does not have")]
    Form {
        /// The value's key.
        key: String,
    },
    /// The alignment is no power of two.
    #[error("its alignment is {0}, which is no power of two")]
    Alignment(u64),
    /// A tensor has more dimensions or elements than can be.
    #[error("its tensor {name} has an impossible shape")]
    Shape {
        /// The tensor's name.
        name: String,
    },
    /// A value that must be there is not.
    #[error("it does not say {0}")]
    Missing(String),
    /// A value is of another type than it must be.
    #[error("its {key} is not {expected}")]
    Type {
        /// The value's key.
        key: String,
        /// What it should be.
        expected: &'static str,
    },
}

impl Header {
    /// Reads the header of a file of `size` bytes from its beginning.
    pub fn read(reader: impl Read, size: u64) -> Result<Header, GgufError> {
        let mut source = HeaderReader { reader, position: 0, size };
        if size < 4 || source.array::<4>("the magic number")? != *b"GGUF" {
            return Err(GgufError::NotGguf);
        }
        match source.u32("the version")? {
            2 | 3 => {}
            other => return Err(GgufError::Version(other)),
        }
        let tensor_count = source.u64("the number of tensors")?;
        let value_count = source.u64("the number of values")?;
        source.fits("the list of values", value_count, 8 + 4 + 1)?;
        let mut values = HashMap::new();
        for _ in 0..value_count {
            let key = source.string("a key")?;
            let value = source.value(&key)?;
            values.insert(key, value);
        }
        source.fits("the list of tensors", tensor_count, 8 + 4 + 4 + 8)?;
        let mut tensors = HashMap::new();
        for _ in 0..tensor_count {
            let name = source.string("a tensor's name")?;
            let tensor = source.tensor(&name)?;
            tensors.insert(name, tensor);
        }
        let mut header = Header { values, tensors, data: 0 };
        let alignment = header.unsigned("general.alignment")?.unwrap_or(32);
        if !alignment.is_power_of_two() || alignment > 1 << 20 {
            return Err(GgufError::Alignment(alignment));
        }
        header.data = source.position.next_multiple_of(alignment);
        header.tensors_fit(size)?;
        Ok(header)
    }

    /// A text, if the file has one of that key.
    pub fn text(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.get(key, "a text", |value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// An integer that is not negative.
    pub fn unsigned(&self, key: &str) -> Result<Option<u64>, GgufError> {
        self.get(key, "a whole number from 0", |value| match value {
            Value::Integer(number) => u64::try_from(*number).ok(),
            _ => None,
        })
    }

    /// A number with a fraction.
    pub fn float(&self, key: &str) -> Result<Option<f64>, GgufError> {
        self.get(key, "a number", |value| match value {
            Value::Float(number) => Some(*number),
            _ => None,
        })
    }

    /// Yes or no.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.get(key, "true or false", |value| match value {
            Value::Flag(flag) => Some(*flag),
            _ => None,
        })
    }

    /// A list of texts.
    pub fn texts(&self, key: &str) -> Result<Option<&[String]>, GgufError> {
        self.get(key, "a list of texts", |value| match value {
            Value::Texts(texts) => Some(texts.as_slice()),
            _ => None,
        })
    }

    /// A list of integers.
    pub fn integers(&self, key: &str) -> Result<Option<&[i64]>, GgufError> {
        self.get(key, "a list of whole numbers", |value| match value {
            Value::Integers(integers) => Some(integers.as_slice()),
            _ => None,
        })
    }

    /// A list of numbers with fractions; only [`SCORES`] is kept.
    pub fn floats(&self, key: &str) -> Result<Option<&[f32]>, GgufError> {
        self.get(key, "a list of numbers with fractions", |value| match value {
            Value::Floats(floats) => Some(floats.as_slice()),
            _ => None,
        })
    }

    fn get<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        cast: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let wrong = || GgufError::Type { key: key.to_owned(), expected };
        self.values.get(key).map(|value| cast(value).ok_or_else(wrong)).transpose()
    }

    fn tensors_fit(&self, size: u64) -> Result<(), GgufError> {
        let left = size.saturating_sub(self.data);
        for (name, tensor) in &self.tensors {
            // A type that is not known here is no error yet: perhaps nobody needs the tensor.
            let Some(kind) = dtype(tensor.kind) else { continue };
            let needed = tensor.size(kind).and_then(|bytes| tensor.offset.checked_add(bytes));
            match needed {
                None => return Err(GgufError::Shape { name: shown(name) }),
                Some(needed) if needed > left => {
                    return Err(GgufError::Truncated {
                        what: format!("up to tensor {}, the data", shown(name)),
                        needed,
                        left,
                    });
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

impl Tensor {
    /// Its bytes in the file, if its rows are whole blocks and the number can be computed.
    pub fn size(&self, kind: GgmlDType) -> Option<u64> {
        let elements = self.dimensions.iter().try_fold(1, |product: u64, dimension| product.checked_mul(*dimension))?;
        let block = kind.block_size() as u64;
        let whole = self.dimensions.first().copied().unwrap_or(1).is_multiple_of(block);
        if whole { (elements / block).checked_mul(kind.type_size() as u64) } else { None }
    }
}

/// The element type that a number in a file names, if it can be computed with.
pub(crate) fn dtype(kind: u32) -> Option<GgmlDType> {
    Some(match kind {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        30 => GgmlDType::BF16,
        _ => return None,
    })
}

/// A value of the metadata.
#[derive(Debug)]
enum Value {
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

const FLOAT: u32 = 6;
const TEXT: u32 = 8;
const LIST: u32 = 9;
/// Lists may hold lists; nobody writes more levels than this.
const DEEPEST_LIST: u32 = 4;

/// A file that is read from its beginning to its end, and says what does not fit into it.
struct HeaderReader<R> {
    reader: R,
    position: u64,
    size: u64,
}

impl<R: Read> HeaderReader<R> {
    /// Refuses `count` things of at least `each` bytes if they cannot be there.
    fn fits(&self, what: &str, count: u64, each: u64) -> Result<(), GgufError> {
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

    fn u32(&mut self, what: &str) -> Result<u32, GgufError> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64, GgufError> {
        self.array(what).map(u64::from_le_bytes)
    }

    fn string(&mut self, what: &str) -> Result<String, GgufError> {
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

    fn value(&mut self, key: &str) -> Result<Value, GgufError> {
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
        let mut texts = Vec::new();
        let mut integers = Vec::new();
        let mut floats = Vec::new();
        for _ in 0..count {
            match kind {
                TEXT => texts.push(self.string(key)?),
                LIST => drop(self.list(key, deepest - 1)?),
                // Of the lists of numbers only small ones are ever asked for; the elements of
                // others are not worth 8 bytes.
                4 | 5 => match self.scalar(key, kind)? {
                    Value::Integer(number) => integers.extend(i64::try_from(number)),
                    _ => return Err(GgufError::Form { key: shown(key) }),
                },
                FLOAT if key == SCORES => floats.push(self.array(key).map(f32::from_le_bytes)?),
                _ => drop(self.scalar(key, kind)?),
            }
        }
        Ok(match kind {
            TEXT => Value::Texts(texts),
            4 | 5 => Value::Integers(integers),
            FLOAT if key == SCORES => Value::Floats(floats),
            _ => Value::Skipped,
        })
    }

    fn tensor(&mut self, name: &str) -> Result<Tensor, GgufError> {
        const MOST_DIMENSIONS: u32 = 4;
        let count = self.u32(name)?;
        if count > MOST_DIMENSIONS {
            return Err(GgufError::Shape { name: shown(name) });
        }
        let dimensions = (0..count).map(|_| self.u64(name)).collect::<Result<_, _>>()?;
        Ok(Tensor { dimensions, kind: self.u32(name)?, offset: self.u64(name)? })
    }
}
