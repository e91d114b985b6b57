//! A text into ids as SentencePiece's BPE does it: characters are merged into tokens, the one with
//! the highest score first.
//!
//! Kudo and Richardson 2018, "SentencePiece: A simple and language independent subword tokenizer
//! and detokenizer for Neural Text Processing". Unlike byte-level BPE there are no pairs: any two
//! neighbours that together are a token can be merged.
use super::{
    TokenizerError,
    merge::Merger,
    tokens::{SPACE, by_text, byte_name},
};
use crate::gguf::{GgufError, Header, SCORES};
use std::{cmp::Ordering, collections::HashMap};

/// The encoder of a SentencePiece vocabulary.
pub(super) struct SentencePiece {
    /// All tokens by their texts.
    tokens: HashMap<Box<str>, (u32, Score)>,
    /// The tokens of bytes, for characters that are no token.
    bytes: Vec<u32>,
    /// Whether a text begins with a space that is not there.
    prefix: bool,
    /// The bytes of the longest token.
    longest: usize,
}

/// A part of the text that is one symbol: from where, up to where.
type Span = (usize, usize);

/// How good it is to make a token. Never NaN, and never a negative zero, so that all that are equal
/// compare as such.
#[derive(Clone, Copy, Debug)]
struct Score(f32);

impl SentencePiece {
    /// The vocabulary of these tokens. `unknown` stands for bytes that have none.
    pub(super) fn new(
        header: &Header,
        texts: &[String],
        unknown: Option<u32>,
    ) -> Result<SentencePiece, TokenizerError> {
        let scores = header.floats(SCORES)?.ok_or_else(|| GgufError::Missing(SCORES.to_owned()))?;
        if scores.len() < texts.len() {
            return Err(TokenizerError::Length { key: SCORES, found: scores.len(), most: texts.len() });
        }
        if let Some(id) = scores.iter().position(|score| score.is_nan()) {
            return Err(TokenizerError::Score(id));
        }
        let ids = by_text(texts);
        let byte = |byte: u8| {
            let named = ids.get(byte_name(byte).as_str());
            let plain = || {
                Some(char::from(byte)).filter(char::is_ascii).and_then(|letter| ids.get(letter.to_string().as_str()))
            };
            named.or_else(plain).copied().or(unknown).ok_or(TokenizerError::Byte(byte))
        };
        let bytes = (0..=u8::MAX).map(byte).collect::<Result<_, _>>()?;
        let score = |id: u32| Score(scores[id as usize] + 0.0);
        let tokens =
            ids.iter().filter(|(text, _)| !text.is_empty()).map(|(text, id)| ((*text).into(), (*id, score(*id))));
        let prefix = header.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
        let longest = texts.iter().map(String::len).max().unwrap_or_default();
        Ok(SentencePiece { tokens: tokens.collect(), bytes, prefix, longest })
    }

    /// Appends the ids of a text that follows nothing or a special token (`begins`), or other text.
    pub(super) fn encode(&self, text: &str, begins: bool, ids: &mut Vec<u32>) {
        let prefix = if begins && self.prefix { SPACE } else { "" };
        let text = [prefix, &text.replace(' ', SPACE)].concat();
        let mut spans: Vec<Span> = text.char_indices().map(|(at, letter)| (at, at + letter.len_utf8())).collect();
        let join = |left: Span, right: Span| {
            let joined = (left.0, right.1);
            // Longer texts are no tokens, and need not be looked at.
            let short = joined.1 - joined.0 <= self.longest;
            let token = short.then(|| self.tokens.get(&text[joined.0..joined.1])).flatten();
            token.map(|(_, score)| (*score, joined))
        };
        Merger::new().merge(&mut spans, join);
        for (begin, end) in spans {
            match self.tokens.get(&text[begin..end]) {
                Some((id, _)) => ids.push(*id),
                None => ids.extend(text[begin..end].bytes().map(|byte| self.bytes[usize::from(byte)])),
            }
        }
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Score) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Score) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Score {
    fn eq(&self, other: &Score) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Score {}
