//! A text into ids by a `tokenizer.json` beside the model's file, as Hugging Face's libraries write
//! them.
//!
//! It comes from the same untrusted place as the model: its size is bounded, it must be made of the
//! model's own tokens, and what the library makes of a broken one, a panic included, is an error.
//! What is added to a text the model's file says, as it does without it.
use super::{
    EncodeError, library,
    special::{Part, Special, Specials, touches},
    tokens::Tokens,
};
use crate::{
    ReadSeek,
    foreign_file::{BEGINNING, ForeignFile},
};
use std::{
    collections::{BTreeMap, HashSet},
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    sync::{Mutex, PoisonError},
};
use system::foreign_text::shown;
use thiserror::Error;
use tokenizers::{Encoding, ModelWrapper};

/// The encoder of a `tokenizer.json`.
pub(super) struct TokenizerJson {
    /// Whether special tokens are read is one of its settings.
    tokenizer: Mutex<tokenizers::Tokenizer>,
    /// Those of its tokens that it calls special, or the model's file.
    specials: Specials,
    /// Their ids.
    reserved: HashSet<u32>,
}

/// Why a `tokenizer.json` cannot be used.
#[derive(Debug, Error)]
pub enum TokenizerJsonError {
    /// It is there, but cannot be read.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    /// It is larger than any that is in use.
    #[error("it has {0} bytes, and {MOST} are the most that can be read")]
    TooLarge(u64),
    /// It is a file of another kind.
    #[error("it {0}")]
    Foreign(ForeignFile),
    /// The library refuses it.
    #[error("it cannot be parsed")]
    Parse(#[source] tokenizers::Error),
    /// Its special tokens cannot be looked for.
    #[error("its special tokens cannot be used")]
    Special(#[source] Box<super::TokenizerError>),
    /// It has ids that the model does not know.
    #[error("it has a token {id}, but the model has only {most} tokens")]
    Id {
        /// The id.
        id: u32,
        /// How many tokens the model has.
        most: usize,
    },
    /// It is another model's.
    #[error("it is another model's: token {id} is {found:?} there and {expected:?} in the model's file")]
    Other {
        /// The id.
        id: u32,
        /// What it is in the `tokenizer.json`.
        found: String,
        /// What it is in the model's file.
        expected: String,
    },
    /// It lacks a token that the model's file has, and would read its name as text.
    #[error("it does not know {0}, which is a control token in the model's file")]
    Control(String),
}

/// Most bytes of one: three times the largest that is in use.
const MOST: u64 = 100 << 20;

impl TokenizerJson {
    /// The tokenizer in a file. `texts` are the model's tokens, of which the normal ones must be the
    /// same there, and the control ones read by their names.
    pub(super) fn read(
        mut reader: Box<dyn ReadSeek>,
        texts: &[String],
        tokens: &Tokens,
    ) -> Result<TokenizerJson, TokenizerJsonError> {
        let mut bytes = Vec::new();
        let size = reader.seek(SeekFrom::End(0)).map_err(TokenizerJsonError::Read)?;
        if size > MOST {
            return Err(TokenizerJsonError::TooLarge(size));
        }
        let read = reader.rewind().and_then(|()| reader.take(MOST).read_to_end(&mut bytes));
        read.map_err(TokenizerJsonError::Read)?;
        let mut tokenizer = library::read(&bytes).map_err(|error| {
            let begin = &bytes[..bytes.len().min(BEGINNING as usize)];
            ForeignFile::recognise(begin).map_or(TokenizerJsonError::Parse(error), TokenizerJsonError::Foreign)
        })?;
        let vocabulary = tokenizer.get_vocab(true);
        if let Some(id) = vocabulary.values().find(|id| **id as usize >= texts.len()) {
            return Err(TokenizerJsonError::Id { id: *id, most: texts.len() });
        }
        for id in &tokens.normal {
            let found = tokenizer.id_to_token(*id).unwrap_or_default();
            let expected = &texts[*id as usize];
            if found != *expected {
                return Err(TokenizerJsonError::Other { id: *id, found: shown(&found), expected: shown(expected) });
            }
        }
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(TokenizerJsonError::Parse)?;
        // Without its cache, nothing of a request's text outlives the request.
        let mut model = tokenizer.get_model().clone();
        model.resize_cache(0);
        // That is for training: the same text would have other ids each time.
        if let ModelWrapper::BPE(model) = &mut model {
            model.dropout = None;
        }
        tokenizer.with_model(model);
        reads_control_tokens(&tokenizer, tokens, texts)?;
        // Those of either file: a control token may be none in this one.
        let own = tokens.special.iter().filter(|token| token.reserved).map(|token| (token.id, token.text.as_str()));
        let added = tokenizer.get_added_tokens_decoder();
        let mut texts: BTreeMap<u32, (&str, bool)> = own.map(|(id, text)| (id, (text, false))).collect();
        let special = added.iter().filter(|(id, token)| token.special || texts.contains_key(id));
        let special: Vec<_> = special.map(|(id, token)| (*id, (token.content.as_str(), token.rstrip))).collect();
        texts.extend(special);
        let reserved = texts.keys().copied().collect();
        let specials = texts.into_iter().map(|(id, (text, strips))| Special {
            text: text.to_owned(),
            id,
            control: true,
            reserved: true,
            strips,
        });
        let specials =
            Specials::new(specials.collect()).map_err(|error| TokenizerJsonError::Special(Box::new(error)))?;
        Ok(TokenizerJson { tokenizer: Mutex::new(tokenizer), specials, reserved })
    }

    /// The names of special tokens.
    pub(super) fn specials(&self) -> &Specials {
        &self.specials
    }

    /// Appends the ids of a text as the library reads it.
    pub(super) fn encode(&self, text: &str, special: bool, ids: &mut Vec<u32>) -> Result<(), EncodeError> {
        ids.extend_from_slice(self.encoding(text, special)?.get_ids());
        Ok(())
    }

    /// Appends the ids of a conversation. No special token is read that is in one of the `client`'s
    /// parts, in whatever form: the library may read it in a text that it has normalised.
    ///
    /// It reads all names of special tokens or none. So where it finds others than those that count,
    /// the text is cut here at these, and what is between them is read without.
    pub(super) fn encode_chat(
        &self,
        text: &str,
        client: &[Range<usize>],
        ids: &mut Vec<u32>,
    ) -> Result<(), EncodeError> {
        if client.is_empty() {
            return self.encode(text, true, ids);
        }
        let parts = self.specials.cut(text, true, client);
        let whole = self.with_offsets(text, true)?;
        let counts = parts.iter().filter_map(|part| if let Part::Token(id) = part { Some(*id) } else { None });
        let read = whole.get_ids().iter().copied().zip(whole.get_offsets());
        let read: Vec<_> = read.filter(|(id, _)| self.reserved.contains(id)).collect();
        // White space beside a token may have been taken into it.
        let is_clients = |(_, (start, end)): &(u32, &(usize, usize))| {
            let name = text.get(*start..*end).unwrap_or_default();
            let start = start + name.len() - name.trim_start().len();
            touches(client, &(start..start + name.trim().len()))
        };
        if read.iter().map(|(id, _)| *id).eq(counts) && !read.iter().any(is_clients) {
            ids.extend_from_slice(whole.get_ids());
            return Ok(());
        }
        for part in parts {
            match part {
                Part::Token(id) => ids.push(id),
                Part::Text(text) => self.encode_plain(text, ids)?,
            }
        }
        Ok(())
    }

    /// Appends the ids of a text in which no name of a special token counts. Where the library reads
    /// some all the same, each of them is cut in two.
    fn encode_plain(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), EncodeError> {
        // What is left to encode, the next of it last.
        let mut pieces = vec![text];
        while let Some(piece) = pieces.pop() {
            let encoding = self.with_offsets(piece, false)?;
            let read = encoding.get_ids().iter().zip(encoding.get_offsets());
            let read = read.filter(|(id, _)| self.reserved.contains(id)).map(|(_, offsets)| *offsets);
            let mut cuts: Vec<usize> = read
                .map(|(start, end)| Some(piece.ceil_char_boundary(start + 1)).filter(|middle| *middle < end))
                .collect::<Option<_>>()
                .ok_or_else(|| EncodeError(format!("{:?} stands for a special token", shown(piece)).into()))?;
            if cuts.is_empty() {
                ids.extend_from_slice(encoding.get_ids());
                continue;
            }
            cuts.extend([0, piece.len()]);
            cuts.sort_unstable();
            cuts.dedup();
            let cut = cuts.windows(2).filter_map(|ends| piece.get(ends[0]..ends[1]));
            pieces.extend(cut.rev());
        }
        Ok(())
    }

    fn encoding(&self, text: &str, special: bool) -> Result<Encoding, EncodeError> {
        self.with(special, |tokenizer| tokenizer.encode_fast(text, false))
    }

    /// The encoding of a text that knows where each id comes from.
    fn with_offsets(&self, text: &str, special: bool) -> Result<Encoding, EncodeError> {
        self.with(special, |tokenizer| tokenizer.encode(text, false))
    }

    /// What the library makes of something. Only with `special` it reads the names of special tokens.
    fn with(
        &self,
        special: bool,
        encode: impl FnOnce(&tokenizers::Tokenizer) -> tokenizers::Result<Encoding>,
    ) -> Result<Encoding, EncodeError> {
        let mut tokenizer = self.tokenizer.lock().unwrap_or_else(PoisonError::into_inner);
        tokenizer.set_encode_special_tokens(!special);
        library::guarded(|| encode(&tokenizer)).map_err(EncodeError)
    }
}

/// Refuses a tokenizer that does not make a control token of its name, as a chat template writes it.
/// That one whose name another token has, too, may be either.
fn reads_control_tokens(
    tokenizer: &tokenizers::Tokenizer,
    tokens: &Tokens,
    texts: &[String],
) -> Result<(), TokenizerJsonError> {
    for token in tokens.special.iter().filter(|token| token.control) {
        let encoded = library::guarded(|| tokenizer.encode_fast(token.text.as_str(), false));
        let has_name = |id: &u32| texts.get(*id as usize) == Some(&token.text);
        if !encoded.is_ok_and(|encoding| encoding.get_ids().iter().any(has_name)) {
            return Err(TokenizerJsonError::Control(shown(&token.text)));
        }
    }
    Ok(())
}
