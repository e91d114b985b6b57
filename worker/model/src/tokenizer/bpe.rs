//! A text into ids by byte-level BPE: it is cut into words, and each word's bytes are merged by the
//! ranks of pairs.
//!
//! Gemma 4 merges characters instead of bytes, and its words are lines.
use super::{
    TokenizerError,
    merge::Merger,
    pretokenizer::{Letters, Pretokenizer, Splitter},
    tokens::{SPACE, by_text, byte_alphabet, byte_name},
};
use std::{cmp::Reverse, collections::HashMap};
use system::foreign_text::shown;

/// The encoder of a BPE vocabulary.
pub(super) struct Bpe {
    splitter: Splitter,
    letters: Letters,
    /// The rank of a pair and the token that it makes.
    pairs: HashMap<(u32, u32), (u32, u32)>,
    /// Pretokenizer that stay whole, and their tokens.
    whole: HashMap<Box<[u8]>, u32>,
    /// The tokens of bytes.
    bytes: Vec<Option<u32>>,
    /// The tokens of characters, where those are merged.
    characters: HashMap<char, u32>,
}

/// Set in a symbol that is no token; the rest of it is then the character, or nothing.
const UNKNOWN: u32 = 1 << 31;

impl Bpe {
    pub(super) fn new(texts: &[String], merges: &[String], pretokenizer: &Pretokenizer) -> Result<Bpe, TokenizerError> {
        let ids = by_text(texts);
        let mut pairs = HashMap::with_capacity(merges.len());
        for (rank, merge) in (0..).zip(merges) {
            let found = pair(merge, &ids).ok_or_else(|| TokenizerError::Merge(shown(merge)))?;
            pairs.entry((found.0, found.1)).or_insert((rank, found.2));
        }
        let alphabet = byte_alphabet();
        let raw = |text: &str| text.chars().map(|letter| alphabet.get(&letter).copied()).collect::<Option<Vec<u8>>>();
        let mut bytes = vec![None; 256];
        let mut whole = HashMap::new();
        let mut characters = HashMap::new();
        match pretokenizer.letters {
            Letters::Bytes => {
                for (text, id) in &ids {
                    let Some(raw) = raw(text) else { continue };
                    if let [byte] = raw[..] {
                        bytes[usize::from(byte)] = Some(*id);
                    }
                    if pretokenizer.ignores_merges {
                        whole.insert(raw.into_boxed_slice(), *id);
                    }
                }
            }
            Letters::Characters => {
                for (byte, token) in (0..=u8::MAX).zip(&mut bytes) {
                    *token = ids.get(byte_name(byte).as_str()).copied();
                }
                for (text, id) in &ids {
                    let mut letters = text.chars();
                    if let (Some(letter), None) = (letters.next(), letters.next()) {
                        characters.insert(letter, *id);
                    }
                    if text.bytes().all(|byte| byte == b'\n') {
                        whole.insert(text.as_bytes().into(), *id);
                    }
                }
            }
        }
        let splitter = pretokenizer.splitter().map_err(TokenizerError::Pattern)?;
        Ok(Bpe { splitter, letters: pretokenizer.letters, pairs, whole, bytes, characters })
    }

    /// Whether each text has ids for all that is in it: a byte without a token is left out of what
    /// the model reads.
    pub(super) fn knows_all_bytes(&self) -> bool {
        self.bytes.iter().all(Option::is_some)
    }

    /// Appends the ids of a text.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        let spelled;
        let text = match self.letters {
            Letters::Bytes => text,
            Letters::Characters => {
                spelled = text.replace(' ', SPACE);
                &spelled
            }
        };
        let mut merger = Merger::new();
        let mut symbols = Vec::new();
        self.splitter.split(text, &mut |word| {
            if let Some(id) = self.whole.get(word.as_bytes()) {
                ids.push(*id);
                return;
            }
            match self.letters {
                Letters::Bytes => {
                    symbols.extend(word.bytes().map(|byte| self.bytes[usize::from(byte)].unwrap_or(UNKNOWN)))
                }
                Letters::Characters => symbols.extend(word.chars().map(|letter| self.character(letter))),
            }
            merger.merge(&mut symbols, |left, right| {
                self.pairs.get(&(left, right)).map(|(rank, joined)| (Reverse(*rank), *joined))
            });
            for symbol in symbols.drain(..) {
                match symbol & UNKNOWN {
                    0 => ids.push(symbol),
                    _ => ids.extend(self.bytes_of(symbol & !UNKNOWN)),
                }
            }
        });
    }

    fn character(&self, letter: char) -> u32 {
        self.characters.get(&letter).copied().unwrap_or(UNKNOWN | u32::from(letter))
    }

    /// The tokens of the bytes of a character that is no token. A byte that is no token has none.
    fn bytes_of(&self, letter: u32) -> Vec<u32> {
        let letter = char::from_u32(letter).filter(|_| self.letters == Letters::Characters);
        let bytes = letter.map(|letter| letter.to_string().into_bytes()).unwrap_or_default();
        bytes.into_iter().filter_map(|byte| self.bytes[usize::from(byte)]).collect()
    }
}

/// The tokens of a merge's two sides, and the one that they make.
fn pair(merge: &str, ids: &HashMap<&str, u32>) -> Option<(u32, u32, u32)> {
    // The left side may begin with a space, which then is part of it.
    let (space, _) = merge.char_indices().skip(1).find(|(_, letter)| *letter == ' ')?;
    let (left, right) = (&merge[..space], &merge[space + 1..]);
    let joined = [left, right].concat();
    Some((*ids.get(left)?, *ids.get(right)?, *ids.get(joined.as_str())?))
}
