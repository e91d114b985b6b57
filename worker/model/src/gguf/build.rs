//! Writes GGUF files for tests, right ones and wrong ones.
use super::{GgufError, Header, Tensor};
use std::collections::BTreeMap;

/// A file in the making.
#[derive(Clone, Default)]
pub(crate) struct Gguf {
    values: BTreeMap<String, Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    /// Where the last tensor ends that was put behind the others.
    end: u64,
}

pub(crate) fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

impl Gguf {
    pub(crate) fn new() -> Gguf {
        Gguf::default()
    }

    /// A value of the type that the number names, or another one for the same key.
    pub(crate) fn value(mut self, key: &str, kind: u32, bytes: &[u8]) -> Gguf {
        self.values.insert(key.to_owned(), [&kind.to_le_bytes(), bytes].concat());
        self
    }

    pub(crate) fn without(mut self, key: &str) -> Gguf {
        assert!(self.values.remove(key).is_some());
        self
    }

    pub(crate) fn text(self, key: &str, text: &str) -> Gguf {
        self.value(key, 8, &string(text))
    }

    pub(crate) fn unsigned(self, key: &str, number: u32) -> Gguf {
        self.value(key, 4, &number.to_le_bytes())
    }

    pub(crate) fn float(self, key: &str, number: f32) -> Gguf {
        self.value(key, 6, &number.to_le_bytes())
    }

    pub(crate) fn flag(self, key: &str, flag: bool) -> Gguf {
        self.value(key, 7, &[flag.into()])
    }

    pub(crate) fn texts(self, key: &str, texts: &[&str]) -> Gguf {
        let elements: Vec<u8> = texts.iter().flat_map(|text| string(text)).collect();
        self.list(key, 8, texts.len() as u64, &elements)
    }

    pub(crate) fn integers(self, key: &str, integers: &[i32]) -> Gguf {
        let elements: Vec<u8> = integers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.list(key, 5, integers.len() as u64, &elements)
    }

    pub(crate) fn floats(self, key: &str, floats: &[f32]) -> Gguf {
        let elements: Vec<u8> = floats.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.list(key, 6, floats.len() as u64, &elements)
    }

    pub(crate) fn list(self, key: &str, kind: u32, count: u64, elements: &[u8]) -> Gguf {
        self.value(key, 9, &[&kind.to_le_bytes()[..], &count.to_le_bytes(), elements].concat())
    }

    /// A tensor behind those that are there.
    pub(crate) fn tensor(mut self, name: &str, dimensions: &[u64], kind: u32) -> Gguf {
        let end = self.end.next_multiple_of(32);
        let size = super::dtype(kind)
            .and_then(|kind| Tensor { dimensions: dimensions.to_vec(), kind: 0, offset: 0 }.size(kind));
        self.end = end.saturating_add(size.unwrap_or(0));
        self.tensor_at(name, dimensions, kind, end)
    }

    pub(crate) fn tensor_at(mut self, name: &str, dimensions: &[u64], kind: u32, offset: u64) -> Gguf {
        let mut bytes = string(name);
        bytes.extend((dimensions.len() as u32).to_le_bytes());
        bytes.extend(dimensions.iter().flat_map(|dimension| dimension.to_le_bytes()));
        bytes.extend(kind.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        self.tensors.push(bytes);
        self
    }

    /// The file, with `data` bytes of tensors.
    pub(crate) fn bytes(&self, data: usize) -> Vec<u8> {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.values.len() as u64).to_le_bytes());
        for (key, value) in &self.values {
            bytes.extend(string(key));
            bytes.extend(value);
        }
        bytes.extend(self.tensors.concat());
        bytes.resize(bytes.len().next_multiple_of(32) + data, 0);
        bytes
    }

    pub(crate) fn header(&self) -> Result<Header, GgufError> {
        read(&self.bytes(0))
    }
}

pub(crate) fn read(bytes: &[u8]) -> Result<Header, GgufError> {
    Header::read(bytes, bytes.len() as u64)
}
