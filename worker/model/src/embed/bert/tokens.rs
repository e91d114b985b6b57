//! Texts to ids: a prefix before, special tokens around, and never more than the model's limit.
use super::folder::Prompts;
use crate::{
    foreign_file::{BEGINNING, ForeignFile},
    tokenizer::{EncodeError, library},
};
use ipc::TextRole;
use thiserror::Error;
use tokenizers::Tokenizer;

/// Most bytes of a text that are looked at. A text of which so many are fewer tokens than the
/// model's limit is not one to be read.
const MOST_BYTES: usize = 1 << 20;
/// Bytes of a text that are looked at first, for each token that the model can read.
const BYTES_EACH: usize = 12;

/// The tokenizer of a folder.
pub(super) struct Tokens {
    tokenizer: Tokenizer,
    /// The special tokens before and after each text.
    before: Vec<u32>,
    after: Vec<u32>,
    /// Most tokens of a text, special ones among them.
    limit: usize,
    is_lowercase: bool,
    prompts: Prompts,
}

/// Why there is no tokenizer.
#[derive(Debug, Error)]
pub enum TokensError {
    /// It is a file of another kind.
    #[error("tokenizer.json {0}")]
    Foreign(ForeignFile),
    /// The file is none, or has parts that are not known.
    #[error("tokenizer.json cannot be used")]
    Build(#[source] tokenizers::Error),
    /// It cannot tokenise anything.
    #[error("tokenizer.json cannot tokenise the letter a")]
    Probe(#[source] tokenizers::Error),
    /// What it adds does not stand around the text.
    #[error("tokenizer.json adds special tokens elsewhere than before and after a text")]
    Template,
    /// There is no room for a text.
    #[error("tokenizer.json adds {special} special tokens to each text, but the model reads {limit} tokens at most")]
    Room {
        /// How many it adds.
        special: usize,
        /// How many are read.
        limit: usize,
    },
    /// An id that the model does not know.
    #[error("tokenizer.json has a token {id}, but config.json says that there are {count}")]
    Id {
        /// The id.
        id: u32,
        /// How many there are.
        count: usize,
    },
}

impl Tokens {
    /// Makes the tokenizer of the bytes of a `tokenizer.json`, for a model that knows `count` ids.
    pub(super) fn new(bytes: &[u8], count: usize, is_lowercase: bool, prompts: Prompts) -> Result<Tokens, TokensError> {
        let mut tokenizer = library::read(bytes).map_err(|error| {
            let begin = &bytes[..bytes.len().min(BEGINNING as usize)];
            ForeignFile::recognise(begin).map_or(TokensError::Build(error), TokensError::Foreign)
        })?;
        // Both are done here: a file has those that its maker happened to use.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(TokensError::Build)?;
        let probe = |special| library::guarded(|| tokenizer.encode_fast("a", special)).map_err(TokensError::Probe);
        let (plain, whole) = (probe(false)?, probe(true)?);
        let (plain, whole) = (plain.get_ids(), whole.get_ids());
        let at = whole.windows(plain.len().max(1)).position(|window| window == plain).ok_or(TokensError::Template)?;
        let (before, after) = (whole[..at].to_vec(), whole[at + plain.len()..].to_vec());
        let known = tokenizer.get_vocab(true);
        match known.values().chain(whole).max() {
            Some(id) if *id as usize >= count => Err(TokensError::Id { id: *id, count }),
            _ => Ok(Tokens { tokenizer, before, after, limit: usize::MAX, is_lowercase, prompts }),
        }
    }

    /// How many special tokens each text has.
    pub(super) fn special(&self) -> usize {
        self.before.len() + self.after.len()
    }

    /// Texts have at most so many tokens from now on. It is more than [`Tokens::special`].
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The ids that the model reads for a text of this role: what is more than the limit is cut
    /// off, and the special tokens are kept.
    pub(super) fn ids(&self, text: &str, role: TextRole) -> Result<Vec<u32>, EncodeError> {
        let room = self.limit.saturating_sub(self.special());
        let mut ids = self.before.clone();
        ids.extend(self.beginning(text, role, room)?);
        ids.extend_from_slice(&self.after);
        Ok(ids)
    }

    /// The first `room` ids of a text, without special tokens. Of a long text only as much is
    /// looked at as is needed: the words behind a white space do not change what is before it.
    fn beginning(&self, text: &str, role: TextRole, room: usize) -> Result<Vec<u32>, EncodeError> {
        let mut bytes = room.saturating_mul(BYTES_EACH);
        loop {
            bytes = bytes.min(MOST_BYTES);
            let part = words(text, bytes);
            let mut part_text = [self.prompts.of(role), part].concat();
            if self.is_lowercase {
                part_text = part_text.to_lowercase();
            }
            let encoding = self.tokenizer.encode_fast(part_text, false).map_err(EncodeError)?;
            let ids = encoding.get_ids();
            if ids.len() > room || part.len() == text.len() || bytes == MOST_BYTES {
                return Ok(ids[..room.min(ids.len())].to_vec());
            }
            bytes = bytes.saturating_mul(4);
        }
    }

    /// All ids of a text. With `special`, the names of special tokens in it stand for those tokens,
    /// and those that stand around each text are added; without, it is only text.
    pub(super) fn encode(&mut self, text: &str, special: bool) -> Result<Vec<u32>, EncodeError> {
        self.tokenizer.set_encode_special_tokens(!special);
        let encoding = self.tokenizer.encode_fast(text, special).map_err(EncodeError);
        self.tokenizer.set_encode_special_tokens(false);
        Ok(encoding?.get_ids().to_vec())
    }
}

/// A beginning of the text that has at least so many bytes, if the text does, and ends before a
/// white space, if there is one in the next as many.
fn words(text: &str, bytes: usize) -> &str {
    let begin = text.ceil_char_boundary(bytes.min(text.len()));
    let end = text.ceil_char_boundary(begin.saturating_add(bytes).min(text.len()));
    let space = text[begin..end].find(char::is_whitespace);
    match space {
        Some(space) => &text[..begin + space],
        None => &text[..end],
    }
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn a_text_is_cut_before_a_white_space() {
        assert_eq!(words("one two three", 5), "one two");
        assert_eq!(words("one two three", 3), "one");
        assert_eq!(words("one two three", 0), "");
        assert_eq!(words("one two", 7), "one two");
        assert_eq!(words("one two", 99), "one two");
        // No white space within reach: it is cut somewhere, but not within a character.
        assert_eq!(words("ab\u{e9}\u{e9}\u{e9}\u{e9}", 3), "ab\u{e9}\u{e9}\u{e9}");
        assert_eq!(words("", 5), "");
    }
}
