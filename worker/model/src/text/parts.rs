//! A model in one file or in several, as `gguf-split` writes it, read as one.
//!
//! The first part has the metadata; each has a header that says where its own tensors lie. Parts
//! are known by their names, so whoever opens files can do that before a byte is read. Here the
//! headers are compared with what the names say.
use crate::{
    ReadSeek,
    gguf::{GgufError, Header},
    read::BUFFER,
};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use thiserror::Error;

/// A file that belongs to another one.
pub struct Part {
    /// What messages call it.
    pub name: String,
    /// The file and its bytes. One that is not there is an error only if it is needed.
    pub file: io::Result<(Box<dyn ReadSeek>, u64)>,
}

/// Why several files are not one model.
#[derive(Debug, Error)]
pub enum PartsError {
    /// The header of the first one cannot be read.
    #[error(transparent)]
    Header(#[from] GgufError),
    /// It belongs to another file.
    #[error("it is part {number} of {count} of a split model; name the first")]
    NotFirst {
        /// Which part, from 1.
        number: u64,
        /// How many there are.
        count: u64,
    },
    /// Its name does not say how the others are called.
    #[error(
        "it is part 1 of {count} of a split model, but the others cannot be found: its name must end with \
         -00001-of-{count:05}.gguf"
    )]
    Name {
        /// How many parts there are.
        count: u64,
    },
    /// Another part cannot be opened.
    #[error("its part {name} cannot be opened")]
    Open {
        /// The part's file.
        name: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another part cannot be read.
    #[error("its part {name} cannot be used")]
    Part {
        /// The part's file.
        name: String,
        /// Why not.
        #[source]
        source: GgufError,
    },
    /// A part does not belong there.
    #[error("its part {name} says that it is part {number} of {count}")]
    Order {
        /// The part's file.
        name: String,
        /// Which part it is, from 1.
        number: u64,
        /// Of how many.
        count: u64,
    },
    /// Tensors are missing, or there are too many.
    #[error("its parts have {found} tensors together, but must have {expected}")]
    Tensors {
        /// How many there are.
        found: usize,
        /// How many the first part says there are.
        expected: u64,
    },
}

/// All bytes of a model's files, one after another.
pub(super) struct Joined {
    /// The files with where each ends.
    files: Vec<(Box<dyn ReadSeek>, u64)>,
    /// The names of all but the first.
    names: Vec<String>,
    /// The first part that could not be opened; those behind it are left out.
    unopened: Option<(String, io::Error)>,
    position: u64,
}

impl Joined {
    /// The files in this order.
    pub(super) fn new(first: Box<dyn ReadSeek>, size: u64, parts: Vec<Part>) -> Joined {
        let mut joined = Joined { files: vec![(first, size)], names: Vec::new(), unopened: None, position: 0 };
        for Part { name, file } in parts {
            match file {
                Ok((file, size)) => {
                    let end = joined.size().saturating_add(size);
                    joined.files.push((file, end));
                    joined.names.push(name);
                }
                Err(error) => {
                    joined.unopened = Some((name, error));
                    break;
                }
            }
        }
        joined
    }

    /// Bytes of all files together.
    pub(super) fn size(&self) -> u64 {
        self.files.last().map_or(0, |(_, end)| *end)
    }

    /// That all files are there, for whoever reads their bytes and asks for no header.
    pub(super) fn all_opened(&mut self) -> Result<(), PartsError> {
        self.unopened.take().map_or(Ok(()), |(name, source)| Err(PartsError::Open { name, source }))
    }

    /// The first file's header with the tensors of all. If the model has one part, the other files
    /// are let go.
    pub(super) fn header(&mut self) -> Result<Header, PartsError> {
        let mut header = self.header_of(0)?;
        let split = Split::of(&header)?;
        if split.number > 0 {
            return Err(PartsError::NotFirst { number: split.number.saturating_add(1), count: split.count });
        }
        if split.count <= 1 {
            self.files.truncate(1);
            return Ok(header);
        }
        let expected = header.unsigned("split.tensors.count")?;
        self.all_opened()?;
        if self.files.len() as u64 != split.count {
            return Err(PartsError::Name { count: split.count });
        }
        for (index, name) in (1..).zip(self.names.clone()) {
            let wrong = |source| PartsError::Part { name: name.clone(), source };
            let part = self.header_of(index).map_err(wrong)?;
            let Split { number, count } = Split::of(&part).map_err(wrong)?;
            if number != index as u64 || count != split.count {
                return Err(PartsError::Order { name, number: number.saturating_add(1), count });
            }
            header.append(part, self.begin(index)).map_err(wrong)?;
        }
        match expected {
            Some(expected) if expected != header.tensors.len() as u64 => {
                Err(PartsError::Tensors { found: header.tensors.len(), expected })
            }
            _ => Ok(header),
        }
    }

    /// Where a file begins.
    fn begin(&self, index: usize) -> u64 {
        index.checked_sub(1).map_or(0, |before| self.files[before].1)
    }

    fn header_of(&mut self, index: usize) -> Result<Header, GgufError> {
        let begin = self.begin(index);
        let (file, end) = &mut self.files[index];
        file.rewind().map_err(GgufError::Read)?;
        Header::read(BufReader::with_capacity(BUFFER, file), *end - begin)
    }
}

impl Read for Joined {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(index) = self.files.iter().position(|(_, end)| self.position < *end) else { return Ok(0) };
        let begin = self.begin(index);
        let (file, end) = &mut self.files[index];
        let most = usize::try_from(*end - self.position).map_or(buffer.len(), |left| left.min(buffer.len()));
        file.seek(SeekFrom::Start(self.position - begin))?;
        let read = file.read(&mut buffer[..most])?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for Joined {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(place) => Some(place),
            SeekFrom::End(offset) => self.size().checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = place.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// What a header says of the parts.
struct Split {
    /// Which one it is, from 0.
    number: u64,
    /// How many there are; 0 in a file that was never split.
    count: u64,
}

impl Split {
    fn of(header: &Header) -> Result<Split, GgufError> {
        let number = |key| Ok::<_, GgufError>(header.unsigned(key)?.unwrap_or_default());
        Ok(Split { number: number("split.no")?, count: number("split.count")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::build::Gguf;
    use std::{io::Cursor, slice};
    use system::foreign_text::chain;

    fn split(number: u32, count: u32) -> Gguf {
        Gguf::new().unsigned("split.no", number).unsigned("split.count", count).unsigned("split.tensors.count", 3)
    }

    fn three() -> [Vec<u8>; 3] {
        let file = |number: u32, name: &str| {
            let mut bytes = split(number, 3).tensor_at(name, &[8], 0, 32).bytes(64);
            let data = bytes.len() - 32;
            bytes[data..].fill(number as u8 + 1);
            bytes
        };
        [file(0, "a"), file(1, "b"), file(2, "c")]
    }

    fn joined(files: &[Vec<u8>]) -> Joined {
        let open = |bytes: &Vec<u8>| -> (Box<dyn ReadSeek>, u64) {
            (Box::new(Cursor::new(bytes.clone())), bytes.len() as u64)
        };
        let parts = files[1..].iter().zip(2..).map(|(bytes, number)| {
            let missing = bytes.is_empty();
            let file = if missing { Err(io::ErrorKind::NotFound.into()) } else { Ok(open(bytes)) };
            Part { name: format!("part-{number}"), file }
        });
        let (first, size) = open(&files[0]);
        Joined::new(first, size, parts.collect())
    }

    fn refused(files: &[Vec<u8>]) -> String {
        chain(&joined(files).header().unwrap_err())
    }

    #[test]
    fn parts_are_read_as_one_file() {
        let files = three();
        let mut joined = joined(&files);
        let header = joined.header().unwrap();
        for (name, value) in [("a", 1), ("b", 2), ("c", 3)] {
            joined.seek(SeekFrom::Start(header.data + header.tensors[name].offset)).unwrap();
            let mut bytes = [0; 32];
            joined.read_exact(&mut bytes).unwrap();
            assert_eq!(bytes, [value; 32], "{name}");
        }
        let mut all = Vec::new();
        joined.rewind().unwrap();
        joined.read_to_end(&mut all).unwrap();
        assert_eq!(all, files.concat());
        assert_eq!(joined.size(), all.len() as u64);
    }

    #[test]
    fn a_file_that_was_not_split_is_whole_whatever_lies_beside_it() {
        for count in [0, 1] {
            let file = Gguf::new().unsigned("split.count", count).tensor("a", &[8], 0).bytes(32);
            let mut joined = joined(&[file.clone(), b"a letter".to_vec(), Vec::new()]);
            assert_eq!(joined.header().unwrap().tensors.len(), 1);
            assert_eq!(joined.size(), file.len() as u64);
        }
    }

    #[test]
    fn what_is_no_whole_model_is_refused_in_words() {
        let [one, two, three] = three();
        assert_eq!(refused(slice::from_ref(&two)), "it is part 2 of 3 of a split model; name the first");
        let missing = refused(&[one.clone(), Vec::new(), three.clone()]);
        assert_eq!(missing, "its part part-2 cannot be opened: entity not found");
        let name = "it is part 1 of 3 of a split model, but the others cannot be found: its name must end with \
                    -00001-of-00003.gguf";
        assert_eq!(refused(slice::from_ref(&one)), name);
        assert_eq!(refused(&[one.clone(), two.clone()]), name);
        let order = refused(&[one.clone(), three.clone(), two.clone()]);
        assert_eq!(order, "its part part-2 says that it is part 3 of 3");
        let other = split(1, 2).tensor("b", &[8], 0).bytes(32);
        assert_eq!(refused(&[one.clone(), other, three.clone()]), "its part part-2 says that it is part 2 of 2");
        let twice = split(1, 3).tensor("a", &[8], 0).bytes(32);
        assert_eq!(
            refused(&[one.clone(), twice, three.clone()]),
            "its part part-2 cannot be used: it has two tensors named a"
        );
        let none = split(1, 3).bytes(0);
        assert_eq!(refused(&[one.clone(), none, three.clone()]), "its parts have 2 tensors together, but must have 3");
        let cut = two[..two.len() - 1].to_vec();
        let cut = refused(&[one.clone(), cut, three.clone()]);
        assert!(cut.starts_with("its part part-2 cannot be used: it is truncated: up to tensor b, "), "{cut}");
        let pointer = refused(&[one, b"version https://git-lfs.github.com/spec/v1".to_vec(), three]);
        assert!(pointer.starts_with("its part part-2 cannot be used: it is a Git LFS pointer, "), "{pointer}");
    }
}
