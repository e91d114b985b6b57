//! Files of other kinds that people have in the place of a model's, known by how they begin: what
//! is said of them, with what to do about it.
//!
//! It is asked only about a file that is not what it should be, so a wrong guess costs a sentence
//! and nothing else.
use std::fmt::{self, Display, Formatter};

/// A file that is none of the kind that was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForeignFile {
    /// It has no byte.
    Empty,
    /// What `git clone` leaves in the place of a large file.
    LfsPointer,
    /// A web page, where a download went wrong.
    WebPage,
    /// A server's answer in XML, where a download went wrong.
    Xml,
    /// A model in GGUF.
    Gguf,
    /// Weights in safetensors.
    Safetensors,
    /// A zip archive, as PyTorch writes its weights.
    Zip,
    /// A Python pickle, as PyTorch wrote its weights.
    Pickle,
    /// A file of ggml from before there was GGUF.
    OldGgml,
    /// A file that was made smaller.
    Compressed(&'static str),
}

/// So many bytes of a file are enough to know it by.
pub(crate) const BEGINNING: u64 = 512;

/// How files begin.
const MAGIC: [(&[u8], ForeignFile); 14] = [
    (b"version https://git-lfs", ForeignFile::LfsPointer),
    (b"version https://hawser", ForeignFile::LfsPointer),
    (b"GGUF", ForeignFile::Gguf),
    (b"PK\x03\x04", ForeignFile::Zip),
    (b"PK\x05\x06", ForeignFile::Zip),
    (b"lmgg", ForeignFile::OldGgml),
    (b"fmgg", ForeignFile::OldGgml),
    (b"tjgg", ForeignFile::OldGgml),
    (b"algg", ForeignFile::OldGgml),
    (b"\x1f\x8b", ForeignFile::Compressed("gzip")),
    (b"\x28\xb5\x2f\xfd", ForeignFile::Compressed("zstd")),
    (b"\xfd7zXZ\0", ForeignFile::Compressed("xz")),
    (b"BZh", ForeignFile::Compressed("bzip2")),
    (b"7z\xbc\xaf\x27\x1c", ForeignFile::Compressed("7-Zip")),
];

impl ForeignFile {
    /// What a file that begins with these bytes, at most [`BEGINNING`] of them, looks like. A file
    /// that is longer has as many.
    pub(crate) fn recognise(begin: &[u8]) -> Option<ForeignFile> {
        if begin.is_empty() {
            return Some(ForeignFile::Empty);
        }
        if let Some((_, found)) = MAGIC.iter().find(|(magic, _)| begin.starts_with(magic)) {
            return Some(*found);
        }
        if let [0x80, 2..=5, ..] = begin {
            return Some(ForeignFile::Pickle);
        }
        if is_safetensors(begin) {
            return Some(ForeignFile::Safetensors);
        }
        let text = begin.strip_prefix(b"\xef\xbb\xbf").unwrap_or(begin).trim_ascii_start().to_ascii_lowercase();
        let holds = |word: &[u8]| text.windows(word.len()).any(|part| part == word);
        // Pages may begin with a comment or a declaration.
        match text.first() {
            Some(b'<') if holds(b"<!doctype html") || holds(b"<html") || holds(b"<head") || holds(b"<body") => {
                Some(ForeignFile::WebPage)
            }
            Some(b'<') if text.starts_with(b"<?xml") || holds(b"<error>") => Some(ForeignFile::Xml),
            _ => None,
        }
    }
}

/// A safetensors file has the length of its header and then that, which is JSON.
fn is_safetensors(begin: &[u8]) -> bool {
    const MOST_HEADER: u64 = 100_000_000;
    let Some((length, header)) = begin.split_first_chunk::<8>() else { return false };
    u64::from_le_bytes(*length) <= MOST_HEADER && header.trim_ascii_start().starts_with(b"{\"")
}

/// As what follows the name of the file in a sentence.
impl Display for ForeignFile {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ForeignFile::Empty => "is empty; download it again",
            ForeignFile::LfsPointer => "is a Git LFS pointer, not the file itself; git lfs pull fetches it",
            ForeignFile::WebPage => {
                "is a web page (HTML), not the file itself; download it again from the address of the file, not of its page"
            }
            ForeignFile::Xml => "is a server's answer in XML, not the file itself; download it again",
            ForeignFile::Gguf => "is a GGUF file, which is served by naming the file and not a folder",
            ForeignFile::Safetensors => {
                "is a safetensors file; to generate text convert the model to GGUF, and to make vectors name its folder"
            }
            ForeignFile::Zip => {
                "is a zip archive, as PyTorch writes weights, which are never unpickled; convert the model to GGUF or safetensors"
            }
            ForeignFile::Pickle => {
                "is a Python pickle, as PyTorch writes weights, which are never unpickled; convert the model to GGUF or safetensors"
            }
            ForeignFile::OldGgml => "is a file of ggml from before GGUF; take one in GGUF",
            ForeignFile::Compressed(by) => return write!(f, "is compressed by {by}; decompress it"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_how_they_begin() {
        let header = br#"{"__metadata__":{}}"#;
        let safetensors = [&(header.len() as u64).to_le_bytes()[..], header].concat();
        for (begin, expected) in [
            (&b""[..], Some(ForeignFile::Empty)),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", Some(ForeignFile::LfsPointer)),
            (b"<!DOCTYPE html>\n<html>", Some(ForeignFile::WebPage)),
            (b"\xef\xbb\xbf\n <HTML lang=\"en\">", Some(ForeignFile::WebPage)),
            (b"<!-- made by hand -->\n<html>", Some(ForeignFile::WebPage)),
            (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code>", Some(ForeignFile::Xml)),
            (b"GGUF\x03\0\0\0", Some(ForeignFile::Gguf)),
            (&safetensors, Some(ForeignFile::Safetensors)),
            (b"PK\x03\x04\0\0", Some(ForeignFile::Zip)),
            (b"\x80\x02}q\0.", Some(ForeignFile::Pickle)),
            (b"tjgg\x03\0\0\0", Some(ForeignFile::OldGgml)),
            (b"\x1f\x8b\x08", Some(ForeignFile::Compressed("gzip"))),
            (b"Dear model,\nplease answer.\n", None),
            (b"{\"model_type\": \"bert\"}", None),
            (b"GG", None),
            (b"<unk>\n<s>\n", None),
            (&[0; 512], None),
        ] {
            assert_eq!(ForeignFile::recognise(begin), expected, "{}", String::from_utf8_lossy(begin));
        }
    }
}
