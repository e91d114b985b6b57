//! Reads the header of a GGUF file: its metadata, and where its tensors lie.
//!
//! The file is not trusted: no count, length or offset in it is believed before it has been
//! compared with the file's size, so memory stays in proportion to the file and nothing panics. It
//! reads no weights and knows no architecture.
//!
//! The format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.
#[cfg(test)]
pub(crate) mod build;
mod element_type;
mod reader;
#[cfg(test)]
mod tests;

pub use reader::SCORES;

pub(crate) use element_type::{ElementType, dtype};

use crate::foreign_file::ForeignFile;
use candle_core::quantized::GgmlDType;
use reader::{HeaderReader, Value};
use std::{
    collections::{HashMap, hash_map::Entry},
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
    /// It is a file of another kind, which people take for one.
    #[error("it {0}")]
    Foreign(ForeignFile),
    /// Its numbers have their bytes in the other order.
    #[error(
        "it is a big-endian file, and only little-endian ones can be read; take the one for other machines, or convert it \
         with gguf-convert-endian"
    )]
    BigEndian,
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
    /// Two values have one key, and nothing says which of them holds.
    #[error("it has two values of {0}")]
    TwoValues(String),
    /// Two tensors have one name, and nothing says which of them holds.
    #[error("it has two tensors named {0}")]
    TwoTensors(String),
    /// A tensor begins within another one.
    #[error("its tensor {second} begins within its tensor {first}")]
    Overlap {
        /// The one that begins first.
        first: String,
        /// The other one.
        second: String,
    },
    /// A tensor does not begin where one may.
    #[error("its tensor {name} begins at {offset}, which is no multiple of its alignment, {alignment}")]
    Offset {
        /// The tensor's name.
        name: String,
        /// Where it begins, from the first one.
        offset: u64,
        /// What this must be a multiple of.
        alignment: u64,
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
    /// A list does not have a number for each block.
    #[error("its {key} has {found} numbers, but it has {blocks} blocks")]
    Blocks {
        /// The list's key.
        key: String,
        /// How long it is.
        found: usize,
        /// How many blocks there are.
        blocks: usize,
    },
    /// Blocks of different shapes, which nobody here computes.
    #[error(
        "its {key} is {one} in one block and {other} in another, and only files whose blocks are all alike are supported"
    )]
    Uneven {
        /// The list's key.
        key: String,
        /// The first block's number.
        one: i64,
        /// Another block's.
        other: i64,
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
        let mut source = HeaderReader::new(reader, size);
        source.magic()?;
        match source.u32("the version")? {
            2 | 3 => {}
            other if matches!(other.swap_bytes(), 1..=3) => return Err(GgufError::BigEndian),
            other => return Err(GgufError::Version(other)),
        }
        let tensor_count = source.u64("the number of tensors")?;
        let value_count = source.u64("the number of values")?;
        source.fits("the list of values", value_count, 8 + 4 + 1)?;
        let mut values = HashMap::new();
        for _ in 0..value_count {
            let key = source.string("a key")?;
            let value = source.value(&key)?;
            match values.entry(key) {
                Entry::Occupied(twice) => return Err(GgufError::TwoValues(shown(twice.key()))),
                Entry::Vacant(new) => drop(new.insert(value)),
            }
        }
        source.fits("the list of tensors", tensor_count, 8 + 4 + 4 + 8)?;
        let mut tensors = HashMap::new();
        for _ in 0..tensor_count {
            let name = source.string("a tensor's name")?;
            let tensor = source.tensor(&name)?;
            insert_once(&mut tensors, name, tensor)?;
        }
        let mut header = Header { values, tensors, data: 0 };
        let alignment = header.unsigned("general.alignment")?.unwrap_or(32);
        if !alignment.is_power_of_two() || alignment > 1 << 20 {
            return Err(GgufError::Alignment(alignment));
        }
        header.data = source.position.next_multiple_of(alignment);
        header.tensors_fit(size, alignment)?;
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

    /// A number of each block, which a file may write once for all of them: what it is, or how it
    /// differs. There are so many blocks.
    pub fn unsigned_of_blocks(&self, key: &str, blocks: usize) -> Result<Option<u64>, GgufError> {
        let Some(Value::Integers(numbers)) = self.values.get(key) else { return self.unsigned(key) };
        if numbers.len() != blocks {
            return Err(GgufError::Blocks { key: key.to_owned(), found: numbers.len(), blocks });
        }
        let Some(first) = numbers.first() else { return Ok(None) };
        if let Some(other) = numbers.iter().find(|number| *number != first) {
            return Err(GgufError::Uneven { key: key.to_owned(), one: *first, other: *other });
        }
        let negative = |_| GgufError::Type { key: key.to_owned(), expected: "a whole number from 0" };
        u64::try_from(*first).map(Some).map_err(negative)
    }

    /// An integer.
    pub fn integer(&self, key: &str) -> Result<Option<i128>, GgufError> {
        self.get(key, "a whole number", |value| match value {
            Value::Integer(number) => Some(*number),
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

    /// Takes the tensors of another part of the same model, which has its bytes `begin` bytes behind
    /// the beginning of this one.
    pub(crate) fn append(&mut self, part: Header, begin: u64) -> Result<(), GgufError> {
        for (name, mut tensor) in part.tensors {
            // What lies in a file was found to fit into it, and a file begins behind those before.
            let offset = begin.checked_add(part.data).and_then(|data| data.checked_add(tensor.offset));
            let offset = offset.and_then(|offset| offset.checked_sub(self.data));
            tensor.offset = offset.ok_or_else(|| GgufError::Shape { name: shown(&name) })?;
            insert_once(&mut self.tensors, name, tensor)?;
        }
        Ok(())
    }

    /// Refuses the first tensor, as they lie in the file, that is not all there.
    fn tensors_fit(&self, size: u64, alignment: u64) -> Result<(), GgufError> {
        let left = size.saturating_sub(self.data);
        let mut tensors: Vec<_> = self.tensors.iter().collect();
        tensors.sort_unstable_by_key(|(name, tensor)| (tensor.offset, *name));
        let mut before: Option<(&str, u64)> = None;
        for (name, tensor) in tensors {
            if !tensor.offset.is_multiple_of(alignment) {
                return Err(GgufError::Offset { name: shown(name), offset: tensor.offset, alignment });
            }
            if let Some((first, _)) = before.filter(|(_, end)| *end > tensor.offset) {
                return Err(GgufError::Overlap { first: shown(first), second: shown(name) });
            }
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
                Some(needed) => before = Some((name, needed)),
            }
        }
        Ok(())
    }
}

fn insert_once(tensors: &mut HashMap<String, Tensor>, name: String, tensor: Tensor) -> Result<(), GgufError> {
    match tensors.entry(name) {
        Entry::Occupied(twice) => Err(GgufError::TwoTensors(shown(twice.key()))),
        Entry::Vacant(new) => {
            new.insert(tensor);
            Ok(())
        }
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
