//! The weights in a `model.safetensors`, one tensor at a time.
//!
//! The header's offsets are checked against the file and a tensor's shape against what the
//! configuration says before memory is taken for it.
use crate::{
    ReadSeek,
    foreign_file::{BEGINNING, ForeignFile},
};
use half::{bf16, f16};
use safetensors::{
    Dtype,
    tensor::{Metadata, TensorInfo},
};
use std::{
    collections::HashSet,
    io::{self, Read, Seek, SeekFrom},
};
use system::foreign_text::shown;
use thiserror::Error;

/// Most bytes of a header.
const MOST_HEADER: u64 = 16 << 20;
/// What old files have beside the embeddings: the numbers from 0.
const POSITION_IDS: &str = "embeddings.position_ids";
/// Bytes before the header: its size.
const SIZE: u64 = 8;
/// Bytes that are read at once, a multiple of the size of every type.
const AT_ONCE: usize = 1 << 20;

/// A file of weights.
pub(super) struct SafetensorsFile {
    file: Box<dyn ReadSeek>,
    header: Metadata,
    /// Where the tensors begin.
    begin: u64,
    /// Where the file ends.
    pub(super) size: u64,
    /// What stands before each name.
    prefix: &'static str,
}

/// Why there are no weights.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// The file cannot be read.
    #[error("cannot read model.safetensors")]
    Read(#[source] io::Error),
    /// It is a file of another kind.
    #[error("model.safetensors {0}")]
    Foreign(ForeignFile),
    /// The header is cut off, or its size is none.
    #[error("model.safetensors has {file} bytes and says that its header has {header}")]
    HeaderSize {
        /// The file's size.
        file: u64,
        /// What it says of its header.
        header: u64,
    },
    /// The header is no JSON of the expected shape.
    #[error("the header of model.safetensors is not as expected")]
    Header(#[source] serde_json::Error),
    /// A tensor that the configuration asks for is not there.
    #[error("model.safetensors has no tensor {0}")]
    Missing(String),
    /// A tensor is not as large as the configuration says.
    #[error("the tensor {name} has the shape {found:?}, but config.json asks for {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// What it must be.
        expected: Vec<usize>,
    },
    /// A tensor of a layer that the configuration does not speak of.
    #[error("model.safetensors has a tensor {0}, of which config.json says nothing")]
    Surplus(String),
    /// The file ends too early.
    #[error("model.safetensors is truncated: up to tensor {name}, it needs {needed} bytes, and has {size}")]
    Truncated {
        /// The first tensor that does not fit.
        name: String,
        /// Bytes that the file would have up to its end.
        needed: u64,
        /// Bytes that it has.
        size: u64,
    },
    /// A tensor of numbers that are not computed with here.
    #[error("the tensor {name} is of type {found}, and only F32, F16 and BF16 are supported")]
    Type {
        /// The tensor.
        name: String,
        /// Its type.
        found: String,
    },
    /// A tensor is not where the file has room for it.
    #[error("the tensor {0} is not where the file has room for it")]
    Offsets(String),
}

impl SafetensorsFile {
    /// Reads the header of a file.
    pub(super) fn read(mut file: Box<dyn ReadSeek>) -> Result<SafetensorsFile, WeightsError> {
        let size = file.seek(SeekFrom::End(0)).map_err(WeightsError::Read)?;
        file.rewind().map_err(WeightsError::Read)?;
        let mut begin = Vec::new();
        (&mut file).take(BEGINNING).read_to_end(&mut begin).map_err(WeightsError::Read)?;
        let said = begin.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let header_size = Some(said).filter(|said| *said <= MOST_HEADER && size.checked_sub(SIZE) >= Some(*said));
        let wrong = || match ForeignFile::recognise(&begin) {
            Some(foreign) if foreign != ForeignFile::Safetensors => WeightsError::Foreign(foreign),
            _ => WeightsError::HeaderSize { file: size, header: said },
        };
        let header_size = header_size.ok_or_else(wrong)?;
        file.seek(SeekFrom::Start(SIZE)).map_err(WeightsError::Read)?;
        let mut header = Vec::new();
        (&mut file).take(header_size).read_to_end(&mut header).map_err(WeightsError::Read)?;
        let header: Metadata = serde_json::from_slice(&header).map_err(WeightsError::Header)?;
        let is_prefixed = header.info("bert.embeddings.word_embeddings.weight").is_some();
        let prefix = if is_prefixed { "bert." } else { "" };
        Ok(SafetensorsFile { file, header, begin: SIZE + header_size, size, prefix })
    }

    /// Compares the header with the file's size and with the tensors that are needed, so that
    /// nothing is read of a file that cannot be used. Those of a layer or an embedding that nobody
    /// needs would be missing from the answers.
    pub(super) fn check(&self, needed: &[(String, Vec<usize>)]) -> Result<(), WeightsError> {
        for index in self.header.offset_keys() {
            let end = self.header.info(&index).map_or(0, |info| info.data_offsets.1 as u64);
            let needed = self.begin.saturating_add(end);
            if needed > self.size {
                return Err(WeightsError::Truncated { name: index, needed, size: self.size });
            }
        }
        let mut known = HashSet::new();
        for (name, shape) in needed {
            let (full, _) = self.described(name, shape)?;
            known.insert(full);
        }
        let is_computed = |name: &String| {
            let own = name.strip_prefix(self.prefix).unwrap_or(name);
            (own.starts_with("encoder.") || own.starts_with("embeddings.")) && own != POSITION_IDS
        };
        let surplus = self.header.offset_keys().into_iter().find(|name| is_computed(name) && !known.contains(name));
        surplus.map_or(Ok(()), |name| Err(WeightsError::Surplus(shown(&name))))
    }

    /// The name and the description of a tensor, which must be of this shape.
    fn described(&self, name: &str, shape: &[usize]) -> Result<(String, &TensorInfo), WeightsError> {
        let mut full = format!("{}{name}", self.prefix);
        // Old files call the two halves of a layer normalisation otherwise.
        let old = full.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        if self.header.info(&full).is_none() && self.header.info(&old).is_some() {
            full = old;
        }
        let Some(info) = self.header.info(&full) else { return Err(WeightsError::Missing(full)) };
        if info.shape != shape {
            let (found, expected) = (info.shape.clone(), shape.to_vec());
            return Err(WeightsError::Shape { name: full, found, expected });
        }
        Ok((full, info))
    }

    /// The values of a tensor of this shape.
    pub(super) fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
        let mut values = Vec::new();
        self.append(name, shape, &mut values)?;
        Ok(values)
    }

    /// Appends the values of a tensor of this shape.
    pub(super) fn append(&mut self, name: &str, shape: &[usize], values: &mut Vec<f32>) -> Result<(), WeightsError> {
        let (full, info) = self.described(name, shape)?;
        let width = match info.dtype {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::BF16 => 2,
            other => return Err(WeightsError::Type { name: full, found: format!("{other:?}") }),
        };
        let wrong = || WeightsError::Offsets(full.clone());
        let count = shape.iter().try_fold(1_usize, |count, side| count.checked_mul(*side)).ok_or_else(wrong)?;
        let (begin, end) = info.data_offsets;
        let is_whole = end.checked_sub(begin) == count.checked_mul(width);
        if !is_whole || end as u64 > self.size - self.begin {
            return Err(wrong());
        }
        let dtype = info.dtype;
        self.file.seek(SeekFrom::Start(self.begin + begin as u64)).map_err(WeightsError::Read)?;
        values.reserve_exact(count);
        let mut buffer = vec![0; AT_ONCE.min(end - begin)];
        let mut left = end - begin;
        while left > 0 {
            let bytes = &mut buffer[..AT_ONCE.min(left)];
            self.file.read_exact(bytes).map_err(WeightsError::Read)?;
            left -= bytes.len();
            match dtype {
                Dtype::F16 => {
                    values.extend(bytes.as_chunks().0.iter().map(|value| f16::from_le_bytes(*value).to_f32()))
                }
                Dtype::BF16 => {
                    values.extend(bytes.as_chunks().0.iter().map(|value| bf16::from_le_bytes(*value).to_f32()))
                }
                _ => values.extend(bytes.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value))),
            }
        }
        Ok(())
    }
}
