//! Text into token ids and token ids into bytes.
//!
//! The vocabulary of a GGUF file is byte-level BPE; the merging is the `tokenizers` crate's, the rest follows llama.cpp, whose ids
//! the goldens hold: text is not normalised, special tokens are cut out of it first, and the pre-tokenizers are the ones it knows.
//! Other kinds of tokenizer are refused, and so is a pre-tokenizer that is not in the list: another one would give wrong ids.

mod bpe;
mod words;

use crate::engine::gguf::{GgufError, Header, shown};
use bpe::{Bpe, Special, merger};
use std::{collections::HashMap, iter};
use thiserror::Error;
use words::Words;

/// Tokens of the vocabulary in which an id is a byte: the bytes and [`BYTES_END`].
pub(crate) const BYTES: usize = 257;
/// The token that ends an answer there.
pub(crate) const BYTES_END: u32 = 256;

/// A model's vocabulary.
pub struct Vocabulary {
    encoder: Encoder,
    /// The bytes of all tokens, one after another.
    bytes: Vec<u8>,
    /// Where each token's bytes end.
    ends: Vec<usize>,
    /// The tokens that end an answer.
    stops: Vec<u32>,
    /// The most bytes of a text that one token can stand for.
    longest: usize,
}

impl Vocabulary {
    /// The vocabulary in which an id is a byte.
    pub(crate) fn byte_values() -> Vocabulary {
        Vocabulary {
            encoder: Encoder::Bytes,
            bytes: (0..=u8::MAX).collect(),
            ends: (1..=256).chain([256]).collect(),
            stops: vec![BYTES_END],
            longest: 1,
        }
    }

    /// The vocabulary of a GGUF file.
    pub(crate) fn from_header(header: &Header) -> Result<Vocabulary, VocabularyError> {
        let missing = |key: &str| GgufError::Missing(key.to_owned());
        let model = header.text("tokenizer.ggml.model")?.unwrap_or_default();
        if model != "gpt2" {
            return Err(VocabularyError::Model(shown(model)));
        }
        let name = header.text("tokenizer.ggml.pre")?.unwrap_or_default();
        let words = Words::named(name).ok_or_else(|| VocabularyError::Pre(shown(name)))?;
        let texts = header.texts("tokenizer.ggml.tokens")?.ok_or_else(|| missing("tokenizer.ggml.tokens"))?;
        let merges = header.texts("tokenizer.ggml.merges")?.ok_or_else(|| missing("tokenizer.ggml.merges"))?;
        if u32::try_from(texts.len()).is_err() {
            return Err(VocabularyError::TooLarge(texts.len()));
        }
        let kinds = header.integers("tokenizer.ggml.token_type")?.unwrap_or_default();
        let ends_answer = |text: &str| END_TEXTS.contains(&text);
        let kind = |id: usize, text: &str| match kinds.get(id) {
            _ if ends_answer(text) => Kind::Control,
            Some(2 | 3) => Kind::Control,
            Some(4) => Kind::Literal,
            Some(5 | 6) => Kind::Unused,
            _ => Kind::Normal,
        };

        let alphabet = byte_alphabet();
        let mut bytes = Vec::new();
        let mut ends = Vec::with_capacity(texts.len());
        let mut special = Vec::new();
        let mut stops = Vec::new();
        for (id, text) in texts.iter().enumerate() {
            let kind = kind(id, text);
            match kind {
                Kind::Normal => bytes.extend(text.chars().flat_map(|letter| match alphabet.get(&letter) {
                    Some(byte) => vec![*byte],
                    None => letter.to_string().into_bytes(),
                })),
                Kind::Literal => bytes.extend_from_slice(text.as_bytes()),
                Kind::Control | Kind::Unused => {}
            }
            ends.push(bytes.len());
            if matches!(kind, Kind::Control | Kind::Literal) && !text.is_empty() {
                special.push(Special { text: text.clone(), id: id as u32, control: matches!(kind, Kind::Control) });
            }
            if ends_answer(text) {
                stops.push(id as u32);
            }
        }
        special.sort_by_key(|token| std::cmp::Reverse(token.text.len()));
        let id = |key: &str| -> Result<Option<u32>, VocabularyError> {
            let key = format!("tokenizer.ggml.{key}_token_id");
            let Some(id) = header.unsigned(&key)? else { return Ok(None) };
            if id >= texts.len() as u64 {
                return Err(VocabularyError::Id { key, id, most: texts.len() });
            }
            Ok(Some(id as u32))
        };
        let end = id("eos")?;
        stops.extend([end, id("eot")?, id("eom")?].into_iter().flatten());
        let start = id("bos")?;
        let begin = header.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(words.adds_start);
        let text = |id: Option<u32>| id.map(|id| texts[id as usize].clone()).unwrap_or_default();
        let longest = texts.iter().map(String::len).max().unwrap_or_default().max(1);
        let bpe = Bpe {
            merger: merger(texts, merges, words.ignores_merges)?,
            splitter: words.splitter().map_err(VocabularyError::Build)?,
            special,
            start: start.filter(|_| begin),
            start_text: text(start),
            end_text: text(end),
        };
        Ok(Vocabulary { encoder: Encoder::Bpe(Box::new(bpe)), bytes, ends, stops, longest })
    }

    /// The ids of a text. With `special`, the names of special tokens in it stand for those tokens, and the token that begins a
    /// text is put before it if the file says so and the text does not have it yet.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, EncodeError> {
        match &self.encoder {
            Encoder::Bytes => Ok(text.bytes().map(u32::from).collect()),
            Encoder::Bpe(bpe) => bpe.encode(text, special),
        }
    }

    /// The bytes that a token stands for: none for one that only means something to the model. `None` if there is no such token.
    pub fn bytes(&self, id: u32) -> Option<&[u8]> {
        let id = id as usize;
        let end = *self.ends.get(id)?;
        let begin = if id == 0 { 0 } else { self.ends[id - 1] };
        Some(&self.bytes[begin..end])
    }

    /// Whether a token ends an answer.
    pub fn is_end(&self, id: u32) -> bool {
        self.stops.contains(&id)
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The most bytes of a text that one token can stand for.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// What the token that begins a text is called in chat templates.
    pub(crate) fn start_text(&self) -> &str {
        match &self.encoder {
            Encoder::Bytes => "",
            Encoder::Bpe(bpe) => &bpe.start_text,
        }
    }

    /// What the token that ends an answer is called in chat templates.
    pub(crate) fn end_text(&self) -> &str {
        match &self.encoder {
            Encoder::Bytes => "",
            Encoder::Bpe(bpe) => &bpe.end_text,
        }
    }
}

/// Why a file's tokenizer cannot be used.
#[derive(Debug, Error)]
pub enum VocabularyError {
    /// The metadata lacks something.
    #[error(transparent)]
    Header(#[from] GgufError),
    /// Another kind of tokenizer.
    #[error("it is of the kind \"{0}\", and only gpt2 (byte-level BPE) is supported")]
    Model(String),
    /// A pre-tokenizer that is not in the list.
    #[error("its pre-tokenizer is \"{0}\", and only {supported} are supported", supported = Words::known())]
    Pre(String),
    /// More tokens than ids.
    #[error("it has {0} tokens, which is more than there are ids")]
    TooLarge(usize),
    /// An id in the metadata that is no token's.
    #[error("its {key} is {id}, but it has only {most} tokens")]
    Id {
        /// The metadata's key.
        key: String,
        /// The id.
        id: u64,
        /// How many tokens there are.
        most: usize,
    },
    /// A merge that makes no token.
    #[error("its merge \"{0}\" makes no token of it")]
    Merge(String),
    /// The merges or the patterns were refused.
    #[error("it cannot be built")]
    Build(#[source] tokenizers::Error),
}

/// Why a text has no ids.
#[derive(Debug, Error)]
#[error("the text cannot be tokenised")]
pub struct EncodeError(#[source] pub(crate) tokenizers::Error);

enum Encoder {
    Bytes,
    Bpe(Box<Bpe>),
}

/// What a token is for.
#[derive(Clone, Copy)]
enum Kind {
    /// Its text is written in the byte-level alphabet.
    Normal,
    /// Its text is written as it is, and always stands for it.
    Literal,
    /// It has no text, and its name stands for it where special tokens are read.
    Control,
    /// Nothing stands for it.
    Unused,
}

/// GPT-2's alphabet: each byte is a letter that can be printed; those that can be already are themselves.
fn byte_alphabet() -> HashMap<char, u8> {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let (themselves, others): (Vec<u8>, Vec<u8>) = (0..=u8::MAX).partition(printable);
    let others = iter::zip((0x100..).filter_map(char::from_u32), others);
    themselves.into_iter().map(|byte| (char::from(byte), byte)).chain(others).collect()
}

/// Tokens of these names end an answer, whatever the metadata says: many files name only one of theirs.
const END_TEXTS: [&str; 7] =
    ["<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|eom_id|>", "<EOT>"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{self, gguf::build::Gguf};
    use ipc::ModelSpec;

    fn pocket() -> Vocabulary {
        let spec = ModelSpec::new("pocket", "builtin:pocket");
        engine::load(&spec).unwrap().vocabulary
    }

    fn text(vocabulary: &Vocabulary, ids: &[u32]) -> Vec<u8> {
        ids.iter().flat_map(|id| vocabulary.bytes(*id).unwrap()).copied().collect()
    }

    /// A file with a start token, a literal token, and the letters and merges of `ab` and `abc`.
    fn small() -> Gguf {
        Gguf::new()
            .text("tokenizer.ggml.model", "gpt2")
            .text("tokenizer.ggml.pre", "gpt-2")
            .texts(
                "tokenizer.ggml.tokens",
                &["<s>", "</s>", "<lit> e\u{301}", "a", "b", "c", "ab", "abc", "<|eot_id|>"],
            )
            .integers("tokenizer.ggml.token_type", &[3, 3, 4, 1, 1, 1, 1, 1, 1])
            .texts("tokenizer.ggml.merges", &["a b", "ab c"])
            .unsigned("tokenizer.ggml.bos_token_id", 0)
            .unsigned("tokenizer.ggml.eos_token_id", 1)
            .flag("tokenizer.ggml.add_bos_token", true)
    }

    fn read(file: Gguf) -> Result<Vocabulary, VocabularyError> {
        Vocabulary::from_header(&file.header().unwrap())
    }

    #[test]
    fn special_tokens_are_read_only_where_they_are_asked_for() {
        let vocabulary = pocket();
        assert_eq!(vocabulary.encode("<|user|>\n", true).unwrap(), [2, 202]);
        let plain = vocabulary.encode("<|user|>\n", false).unwrap();
        assert!(plain.iter().all(|id| *id > 3), "{plain:?}");
        assert_eq!(text(&vocabulary, &plain), b"<|user|>\n");
        assert_eq!(vocabulary.encode("<|end|><|end|>a", true).unwrap()[..2], [0, 0]);
        assert!(vocabulary.encode("", true).unwrap().is_empty());
    }

    #[test]
    fn a_text_comes_back_byte_for_byte() {
        let vocabulary = pocket();
        // The last but one has letters that Unicode's normal form would join.
        for sample in [
            "Hello, World!",
            "  two  spaces\n\n\ttab ",
            "w\u{F6}rld \u{1F642} \u{65E5}\u{672C}\u{8A9E}",
            "e\u{301} u\u{308}",
            "\0\u{7F}\u{AD}",
        ] {
            for special in [true, false] {
                let ids = vocabulary.encode(sample, special).unwrap();
                assert_eq!(text(&vocabulary, &ids), sample.as_bytes(), "{sample:?}");
            }
        }
    }

    #[test]
    fn tokens_are_known_by_their_ids() {
        let vocabulary = pocket();
        assert_eq!((vocabulary.len(), vocabulary.is_empty()), (1536, false));
        assert_eq!(vocabulary.bytes(2), Some(&b""[..]));
        assert_eq!(vocabulary.bytes(202), Some(&b"\n"[..]));
        assert_eq!(vocabulary.bytes(1536), None);
        assert_eq!((0..1536).filter(|id| vocabulary.is_end(*id)).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn bytes_are_their_own_ids_for_the_echo_engine() {
        let vocabulary = Vocabulary::byte_values();
        assert_eq!(vocabulary.encode("\u{E9}<", true).unwrap(), [0xC3, 0xA9, 0x3C]);
        assert_eq!(text(&vocabulary, &[0, 255, 256]), [0, 255]);
        assert_eq!((vocabulary.len(), vocabulary.bytes(257)), (257, None));
        assert_eq!((vocabulary.is_end(255), vocabulary.is_end(256)), (false, true));
    }

    #[test]
    fn the_start_token_is_put_before_a_text_once() {
        let vocabulary = read(small()).unwrap();
        assert_eq!(vocabulary.encode("abcab", true).unwrap(), [0, 7, 6]);
        assert_eq!(vocabulary.encode("<s>ab", true).unwrap(), [0, 6]);
        assert_eq!(vocabulary.encode("ab", false).unwrap(), [6]);
        assert_eq!((vocabulary.start_text(), vocabulary.end_text()), ("<s>", "</s>"));
        let without = read(small().flag("tokenizer.ggml.add_bos_token", false)).unwrap();
        assert_eq!(without.encode("ab", true).unwrap(), [6]);
    }

    #[test]
    fn a_literal_token_is_its_text_and_always_read() {
        let vocabulary = read(small()).unwrap();
        assert_eq!(vocabulary.bytes(2), Some("<lit> e\u{301}".as_bytes()));
        assert_eq!(vocabulary.encode("ab<lit> e\u{301}c", false).unwrap(), [6, 2, 5]);
    }

    #[test]
    fn the_usual_names_of_end_tokens_end_an_answer() {
        let vocabulary = read(small()).unwrap();
        assert_eq!((0..9).filter(|id| vocabulary.is_end(*id)).collect::<Vec<_>>(), [1, 8]);
        assert_eq!(vocabulary.bytes(8), Some(&b""[..]));
    }

    #[test]
    fn what_cannot_be_used_is_refused_in_words() {
        let refused = |file: Gguf| crate::chain(&read(file).err().unwrap());
        assert_eq!(
            refused(small().text("tokenizer.ggml.model", "llama")),
            "it is of the kind \"llama\", and only gpt2 (byte-level BPE) is supported"
        );
        assert_eq!(
            refused(small().text("tokenizer.ggml.pre", "tekken")),
            "its pre-tokenizer is \"tekken\", and only qwen2, llama-bpe, llama3, llama-v3, falcon3, smollm, gpt-2 are supported"
        );
        assert_eq!(refused(small().without("tokenizer.ggml.merges")), "it does not say tokenizer.ggml.merges");
        assert_eq!(refused(small().without("tokenizer.ggml.tokens")), "it does not say tokenizer.ggml.tokens");
        assert_eq!(
            refused(small().texts("tokenizer.ggml.merges", &["abc abc"])),
            "its merge \"abc abc\" makes no token of it"
        );
        assert_eq!(refused(small().texts("tokenizer.ggml.merges", &["ab"])), "its merge \"ab\" makes no token of it");
        assert_eq!(
            refused(small().texts("tokenizer.ggml.merges", &[" abc"])),
            "its merge \" abc\" makes no token of it"
        );
        assert_eq!(
            refused(small().unsigned("tokenizer.ggml.eos_token_id", 9)),
            "its tokenizer.ggml.eos_token_id is 9, but it has only 9 tokens"
        );
        assert_eq!(
            refused(small().text("tokenizer.ggml.tokens", "abc")),
            "its tokenizer.ggml.tokens is not a list of texts"
        );
    }
}
