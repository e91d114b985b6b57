//! A text into ids by byte-level BPE: special tokens are cut out, the rest is cut into words, and words are merged.
use super::{EncodeError, VocabularyError};
use crate::engine::gguf::shown;
use std::iter;
use tokenizers::{
    Model as _, OffsetType, PreTokenizedString, PreTokenizer,
    models::bpe::{BPE, Vocab},
    pre_tokenizers::PreTokenizerWrapper,
};

/// A token that is cut out of a text before the rest is merged.
pub(super) struct Special {
    /// What stands for it.
    pub(super) text: String,
    /// Its id.
    pub(super) id: u32,
    /// Whether it is read only where special tokens are.
    pub(super) control: bool,
}

/// The encoder of a byte-level BPE vocabulary.
pub(super) struct Bpe {
    pub(super) merger: BPE,
    pub(super) splitter: PreTokenizerWrapper,
    /// The longest first, as llama.cpp looks for them.
    pub(super) special: Vec<Special>,
    /// Put before a text.
    pub(super) start: Option<u32>,
    /// The names of the tokens that begin a text and end an answer, for chat templates.
    pub(super) start_text: String,
    pub(super) end_text: String,
}

/// A part of a text that is being cut at its special tokens.
enum Part<'a> {
    Text(&'a str),
    Token(u32),
}

impl Bpe {
    /// The ids of a text; see [`super::Vocabulary::encode`].
    pub(super) fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, EncodeError> {
        let mut parts = vec![Part::Text(text)];
        for token in self.special.iter().filter(|token| special || !token.control) {
            parts = parts.into_iter().flat_map(|part| cut(part, token)).collect();
        }
        let mut ids: Vec<u32> = self.start.filter(|_| special).into_iter().collect();
        for part in parts {
            match part {
                Part::Token(id) => ids.push(id),
                Part::Text(text) => self.merge(text, &mut ids).map_err(EncodeError)?,
            }
        }
        if ids.len() > 1 && ids.first() == ids.get(1) && special && self.start == ids.first().copied() {
            ids.remove(0);
        }
        Ok(ids)
    }

    fn merge(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), tokenizers::Error> {
        let mut words = PreTokenizedString::from(text);
        self.splitter.pre_tokenize(&mut words)?;
        words.tokenize(|word| self.merger.tokenize(word.get()))?;
        let encoding = words.into_encoding(None, 0, OffsetType::None)?;
        ids.extend_from_slice(encoding.get_ids());
        Ok(())
    }
}

/// Cuts a part of a text wherever the token's name is in it.
fn cut<'a>(part: Part<'a>, token: &Special) -> Vec<Part<'a>> {
    let Part::Text(text) = part else { return vec![part] };
    let pieces = text.split(token.text.as_str());
    let parts = pieces.flat_map(|piece| [Part::Token(token.id), Part::Text(piece)]).skip(1);
    parts.filter(|part| !matches!(part, Part::Text(""))).collect()
}

/// The part of BPE that merges.
pub(super) fn merger(texts: &[String], merges: &[String], ignores_merges: bool) -> Result<BPE, VocabularyError> {
    let ids: Vocab = iter::zip(texts.iter().cloned(), 0..).collect();
    let pairs = merges.iter().map(|merge| {
        let refused = || VocabularyError::Merge(shown(merge));
        let (left, right) = merge.split_once(' ').ok_or_else(refused)?;
        // The builder would write a token that is longer than all others over the end of its buffer.
        let known = |text: &str| ids.contains_key(text);
        if !(known(left) && known(right) && known(&format!("{left}{right}"))) {
            return Err(refused());
        }
        Ok((left.to_owned(), right.to_owned()))
    });
    let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
    // Without its cache, nothing of a request's text outlives the request.
    let builder = BPE::builder().vocab_and_merges(ids, pairs).cache_capacity(0).ignore_merges(ignores_merges);
    builder.build().map_err(VocabularyError::Build)
}
