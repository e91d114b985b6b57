//! Reads and writes GGUF files, right ones only, so that tests can change what is in one.

/// A file's metadata, with raw values, and its tensors.
#[derive(Clone)]
pub(crate) struct Gguf {
    pub(crate) values: Vec<(String, Vec<u8>)>,
    pub(crate) tensors: Vec<Tensor>,
}

#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) dimensions: Vec<u64>,
    pub(crate) kind: u32,
    pub(crate) bytes: Vec<u8>,
}

const ALIGNMENT: usize = 32;

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

struct Source<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Source<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        self.at += count;
        &self.bytes[self.at - count..self.at]
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().unwrap())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().unwrap())
    }

    fn string(&mut self) -> String {
        let length = self.u64() as usize;
        String::from_utf8(self.take(length).to_vec()).unwrap()
    }

    fn skip(&mut self, kind: u32) {
        match kind {
            0 | 1 | 7 => drop(self.take(1)),
            2 | 3 => drop(self.take(2)),
            4..=6 => drop(self.take(4)),
            8 => drop(self.string()),
            9 => {
                let (kind, count) = (self.u32(), self.u64());
                (0..count).for_each(|_| self.skip(kind));
            }
            _ => drop(self.take(8)),
        }
    }
}

impl Gguf {
    pub(crate) fn read(bytes: &[u8]) -> Gguf {
        let mut source = Source { bytes, at: 8 };
        let (tensor_count, value_count) = (source.u64(), source.u64());
        let mut file = Gguf { values: Vec::new(), tensors: Vec::new() };
        for _ in 0..value_count {
            let key = source.string();
            let begin = source.at;
            let kind = source.u32();
            source.skip(kind);
            file.values.push((key, bytes[begin..source.at].to_vec()));
        }
        let mut offsets = Vec::new();
        for _ in 0..tensor_count {
            let name = source.string();
            let dimensions = (0..source.u32()).map(|_| source.u64()).collect();
            let kind = source.u32();
            offsets.push(source.u64() as usize);
            file.tensors.push(Tensor { name, dimensions, kind, bytes: Vec::new() });
        }
        let data = &bytes[source.at.next_multiple_of(ALIGNMENT)..];
        for (tensor, begin) in file.tensors.iter_mut().zip(&offsets) {
            let end = offsets.iter().filter(|offset| *offset > begin).min().copied();
            tensor.bytes = data[*begin..end.unwrap_or(data.len())].to_vec();
        }
        file
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.values.len() as u64).to_le_bytes());
        for (key, value) in &self.values {
            bytes.extend(string(key));
            bytes.extend(value);
        }
        let mut data = Vec::new();
        for tensor in &self.tensors {
            bytes.extend(string(&tensor.name));
            bytes.extend((tensor.dimensions.len() as u32).to_le_bytes());
            bytes.extend(tensor.dimensions.iter().flat_map(|dimension| dimension.to_le_bytes()));
            bytes.extend(tensor.kind.to_le_bytes());
            bytes.extend((data.len() as u64).to_le_bytes());
            data.extend_from_slice(&tensor.bytes);
            data.resize(data.len().next_multiple_of(ALIGNMENT), 0);
        }
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        bytes.extend(data);
        bytes
    }

    /// The same with another value of 32 bits for a key.
    pub(crate) fn unsigned(mut self, key: &str, number: u32) -> Gguf {
        self.values.retain(|(other, _)| other != key);
        self.values.push((key.to_owned(), [4_u32.to_le_bytes(), number.to_le_bytes()].concat()));
        self
    }

    /// The same with another text for a key.
    pub(crate) fn text(mut self, key: &str, text: &str) -> Gguf {
        self.values.retain(|(other, _)| other != key);
        self.values.push((key.to_owned(), [&8_u32.to_le_bytes()[..], &string(text)].concat()));
        self
    }

    pub(crate) fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
    }

    /// The same in so many parts, all metadata in the first, with the names that they must have.
    pub(crate) fn split(&self, name: &str, count: usize) -> Vec<(String, Gguf)> {
        let each = self.tensors.len().div_ceil(count);
        let part = |(index, tensors): (usize, &[Tensor])| {
            let values = if index == 0 { self.values.clone() } else { Vec::new() };
            let file = Gguf { values, tensors: tensors.to_vec() };
            let file = file.unsigned("split.no", index as u32).unsigned("split.count", count as u32);
            let file = file.unsigned("split.tensors.count", self.tensors.len() as u32);
            (format!("{name}-{:05}-of-{count:05}.gguf", index + 1), file)
        };
        let parts: Vec<_> = self.tensors.chunks(each).enumerate().map(part).collect();
        assert_eq!(parts.len(), count);
        parts
    }
}
