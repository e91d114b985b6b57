//! Text into token ids and token ids into bytes.
//!
//! The vocabularies of GGUF files are byte-level BPE (`bpe`) and SentencePiece's BPE
//! (`sentence_piece`). All follow llama.cpp, whose ids the goldens hold: text is not normalised,
//! special tokens are cut out of it first (`special`), and the pre-tokenizers are the ones it knows
//! (`pretokenizer`). Other kinds of tokenizer are refused, and so is a pre-tokenizer that is not in
//! the list: another one would give wrong ids. A `tokenizer.json` beside the file
//! (`tokenizer_json`) takes the place of these, and of nothing else: the bytes of tokens, the
//! tokens that end an answer, and what is added to a text come from the file.
mod bpe;
pub(crate) mod library;
mod merge;
mod pretokenizer;
mod sentence_piece;
mod special;
mod tokenizer_json;
mod tokens;

#[cfg(test)]
mod tests;

pub use tokenizer_json::TokenizerJsonError;

use crate::{
    ReadSeek,
    chat::{ControlTokens, Rendered},
    gguf::{GgufError, Header},
};
use bpe::Bpe;
use pretokenizer::{Letters, Pretokenizer};
use sentence_piece::SentencePiece;
use special::{Part, Specials, touches};
use std::ops::Range;
use system::foreign_text::shown;
use thiserror::Error;
use tokenizer_json::TokenizerJson;
use tokens::{Spelling, Tokens, named_id};

/// Tokens of the vocabulary in which an id is a byte: the bytes and [`BYTES_END`].
pub(crate) const BYTES: usize = 257;
/// The token that ends an answer there.
pub(crate) const BYTES_END: u32 = 256;

/// A model's tokenizer.
pub struct Tokenizer {
    encoder: Encoder,
    /// The bytes of all tokens, one after another.
    bytes: Vec<u8>,
    /// Where each token's bytes end.
    ends: Vec<usize>,
    /// The tokens that end an answer.
    stops: Vec<u32>,
    /// The most bytes of a text that one token can stand for.
    longest: usize,
    /// Put before a text.
    start: Option<u32>,
    /// Put after a text.
    end: Option<u32>,
    /// The names of the tokens that begin a text and end an answer, for chat templates.
    start_text: String,
    end_text: String,
    /// What of the file is not believed, in sentences.
    remarks: Vec<String>,
}

enum Encoder {
    Bytes,
    Bpe(Box<Bpe>, Specials),
    SentencePiece(Box<SentencePiece>, Specials),
    TokenizerJson(Box<TokenizerJson>),
}

impl Tokenizer {
    /// The vocabulary in which an id is a byte.
    pub(crate) fn byte_values() -> Tokenizer {
        Tokenizer {
            encoder: Encoder::Bytes,
            bytes: (0..=u8::MAX).collect(),
            ends: (1..=256).chain([256]).collect(),
            stops: vec![BYTES_END],
            longest: 1,
            start: None,
            end: None,
            start_text: String::new(),
            end_text: String::new(),
            remarks: Vec::new(),
        }
    }

    /// The tokenizer of a GGUF file, read by the `tokenizer.json` beside it if there is one.
    pub fn new(header: &Header, tokenizer: Option<Box<dyn ReadSeek>>) -> Result<Tokenizer, TokenizerError> {
        let family = Family::of(header)?;
        let texts = tokens::texts(header)?;
        let mut tokens = Tokens::read(header, texts, family.spelling())?;
        let json = tokenizer.map(|reader| TokenizerJson::read(reader, texts, &tokens)).transpose();
        let json = json.map_err(TokenizerError::TokenizerJson)?;

        let mut id = |name: &str, default: Option<u32>| -> Result<Option<u32>, TokenizerError> {
            let default = default.filter(|id| family == Family::SentencePiece && (*id as usize) < texts.len());
            Ok(named_id(header, name, texts.len(), &mut tokens.remarks)?.or(default))
        };
        let (start, end, unknown) = (id("bos", Some(1))?, id("eos", Some(2))?, id("unknown", Some(0))?);
        let flag = |key: &str, default| Ok::<_, GgufError>(header.flag(key)?.unwrap_or(default));
        let adds_start = flag("tokenizer.ggml.add_bos_token", family.adds_start())? || family.always_adds_start();
        let adds_end = flag("tokenizer.ggml.add_eos_token", false)?;
        let text = |id: Option<u32>| id.map(|id| texts[id as usize].clone()).unwrap_or_default();

        let mut longest = texts.iter().map(String::len).max().unwrap_or_default().max(1);
        if tokens.special.iter().any(|token| token.strips) {
            longest = usize::MAX;
        }
        let encoder = match (json, family) {
            (Some(json), _) => {
                // It may have rules that leave something of a text out.
                longest = usize::MAX;
                Encoder::TokenizerJson(Box::new(json))
            }
            (None, Family::SentencePiece) => {
                let pieces = SentencePiece::new(header, texts, unknown)?;
                Encoder::SentencePiece(Box::new(pieces), Specials::new(tokens.special)?)
            }
            (None, Family::Bpe(name)) => {
                let pretokenizer = Pretokenizer::named(name).ok_or_else(|| TokenizerError::Pre(shown(name)))?;
                let key = "tokenizer.ggml.merges";
                let merges = header.texts(key)?.ok_or_else(|| GgufError::Missing(key.to_owned()))?;
                let bpe = Bpe::new(texts, merges, pretokenizer)?;
                if !bpe.knows_all_bytes() {
                    longest = usize::MAX;
                }
                Encoder::Bpe(Box::new(bpe), Specials::new(tokens.special)?)
            }
        };
        Ok(Tokenizer {
            encoder,
            bytes: tokens.bytes,
            ends: tokens.ends,
            stops: tokens.stops,
            longest,
            start: start.filter(|_| adds_start),
            end: end.filter(|_| adds_end),
            start_text: text(start),
            end_text: text(end),
            remarks: tokens.remarks,
        })
    }

    /// The ids of a text. With `special`, the names of special tokens in it stand for those tokens,
    /// and the tokens that the file wants before and after a text are added.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, EncodeError> {
        self.encode_parts(text, special, None)
    }

    /// The ids of a conversation, in which control tokens are the template's alone to say.
    pub fn encode_chat(&self, rendered: &Rendered) -> Result<Vec<u32>, EncodeError> {
        let kept = self.without_added(rendered);
        let inside = |part: &Range<usize>| part.start.max(kept.start)..part.end.min(kept.end);
        let shifted = |part: Range<usize>| part.start - kept.start..part.end - kept.start;
        let client = rendered.client.iter().map(inside).filter(|part| !part.is_empty()).map(shifted);
        self.encode_parts(&rendered.text[kept.clone()], true, Some(&client.collect::<Vec<_>>()))
    }

    fn specials(&self) -> Option<&Specials> {
        match &self.encoder {
            Encoder::Bytes => None,
            Encoder::Bpe(_, specials) | Encoder::SentencePiece(_, specials) => Some(specials),
            Encoder::TokenizerJson(json) => Some(json.specials()),
        }
    }

    /// Of a conversation, `client` says what in it is the client's.
    fn encode_parts(
        &self,
        text: &str,
        special: bool,
        client: Option<&[Range<usize>]>,
    ) -> Result<Vec<u32>, EncodeError> {
        let own = client.unwrap_or_default();
        let mut ids: Vec<u32> = self.start.filter(|_| special).into_iter().collect();
        match &self.encoder {
            Encoder::Bytes => ids.extend(text.bytes().map(u32::from)),
            Encoder::Bpe(bpe, specials) => {
                for part in specials.cut(text, special, own) {
                    match part {
                        Part::Token(id) => ids.push(id),
                        Part::Text(text) => bpe.encode(text, &mut ids),
                    }
                }
            }
            Encoder::SentencePiece(pieces, specials) => {
                let mut begins = true;
                for part in specials.cut(text, special, own) {
                    match part {
                        Part::Token(id) => ids.push(id),
                        Part::Text(text) => pieces.encode(text, begins, &mut ids),
                    }
                    begins = matches!(part, Part::Token(_));
                }
            }
            Encoder::TokenizerJson(json) => match client {
                Some(client) => json.encode_chat(text, client, &mut ids)?,
                None => json.encode(text, special, &mut ids)?,
            },
        }
        ids.extend(self.end.filter(|_| special));
        Ok(ids)
    }

    /// The part of a conversation that is left to encode: without the tokens at its ends that will
    /// be added, if the template wrote them.
    fn without_added(&self, rendered: &Rendered) -> Range<usize> {
        let Rendered { text, client } = rendered;
        let mut kept = 0..text.len();
        let is_templates = |name: &Range<usize>| !touches(client, name);
        if self.start.is_some() && text.starts_with(&self.start_text) && is_templates(&(0..self.start_text.len())) {
            kept.start = self.start_text.len();
        }
        if self.end.is_some() && text[kept.start..].ends_with(&self.end_text) {
            let name = text.len() - self.end_text.len()..text.len();
            kept.end = if is_templates(&name) { name.start } else { kept.end };
        }
        kept
    }

    /// The bytes that a token stands for: none for one that only means something to the model.
    /// `None` if there is no such token.
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
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// What of the model's file is not believed, in sentences.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// What the token that begins a text is called in chat templates.
    pub(crate) fn start_text(&self) -> &str {
        &self.start_text
    }

    /// What the token that ends an answer is called in chat templates.
    pub(crate) fn end_text(&self) -> &str {
        &self.end_text
    }
}

impl ControlTokens for Tokenizer {
    fn find(&self, text: &str) -> Vec<Range<usize>> {
        self.specials().map(|specials| specials.reserved(text)).unwrap_or_default()
    }

    fn has_letter(&self, letter: char) -> bool {
        self.specials().is_some_and(|specials| specials.has_letter(letter))
    }
}

/// The kinds of tokenizer that there are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family<'a> {
    SentencePiece,
    /// BPE, with the name of its pre-tokenizer.
    Bpe(&'a str),
}

impl Family<'_> {
    fn of(header: &Header) -> Result<Family<'_>, TokenizerError> {
        match header.text("tokenizer.ggml.model")? {
            Some("llama") => Ok(Family::SentencePiece),
            Some("gemma4") => Ok(Family::Bpe("gemma4")),
            Some("gpt2") => {
                let name = header.text("tokenizer.ggml.pre")?.filter(|name| !name.is_empty());
                Ok(Family::Bpe(name.unwrap_or("default")))
            }
            other => Err(TokenizerError::Model(shown(other.unwrap_or_default()))),
        }
    }

    fn pretokenizer(&self) -> Option<&'static Pretokenizer> {
        match self {
            Family::SentencePiece => None,
            Family::Bpe(name) => Pretokenizer::named(name),
        }
    }

    fn spelling(&self) -> Spelling {
        match (self, self.pretokenizer()) {
            (Family::SentencePiece, _) => Spelling::Spaces,
            (_, Some(pretokenizer)) if pretokenizer.letters == Letters::Characters => Spelling::Spaces,
            _ => Spelling::Alphabet,
        }
    }

    fn adds_start(&self) -> bool {
        self.pretokenizer().map_or(*self == Family::SentencePiece, |pretokenizer| pretokenizer.adds_start)
    }

    /// Gemma 4 cannot do without it, but some of its files say otherwise.
    fn always_adds_start(&self) -> bool {
        self.pretokenizer().is_some_and(|pretokenizer| pretokenizer.letters == Letters::Characters)
    }
}

/// Why a file's tokenizer cannot be used.
#[derive(Debug, Error)]
pub enum TokenizerError {
    /// The metadata lacks something.
    #[error(transparent)]
    Header(#[from] GgufError),
    /// Another kind of tokenizer.
    #[error("it is of the kind \"{0}\", and only gpt2 and gemma4 (BPE) and llama (SentencePiece) are supported")]
    Model(String),
    /// A pre-tokenizer that is not in the list.
    #[error("its pre-tokenizer is \"{0}\", and only {supported} are supported", supported = Pretokenizer::known())]
    Pre(String),
    /// More tokens than ids.
    #[error("it has {0} tokens, which is more than there are ids")]
    TooLarge(usize),
    /// A list that says something of each token is too short.
    #[error("its {key} has {found} elements, but it has {most} tokens")]
    Length {
        /// The metadata's key.
        key: &'static str,
        /// How long the list is.
        found: usize,
        /// How many tokens there are.
        most: usize,
    },
    /// A merge that makes no token.
    #[error("its merge \"{0}\" makes no token of it")]
    Merge(String),
    /// A score that cannot be compared.
    #[error("the score of its token {0} is not a number")]
    Score(usize),
    /// A byte that nothing stands for.
    #[error("it has no token for the byte 0x{0:02X}, and none for what is unknown")]
    Byte(u8),
    /// The special tokens would take too much memory to look for.
    #[error("the names of its special tokens have {0} bytes, and {most} are the most that can be looked for", most = Specials::MOST)]
    SpecialLength(usize),
    /// The special tokens were refused.
    #[error("its special tokens cannot be looked for")]
    Special(#[source] aho_corasick::BuildError),
    /// A pattern was refused.
    #[error("its pre-tokenizer cannot be built")]
    Pattern(#[source] Box<regex_automata::meta::BuildError>),
    /// The file beside it was refused.
    #[error("cannot use the tokenizer.json beside it")]
    TokenizerJson(#[source] TokenizerJsonError),
}

/// Why a text has no ids.
#[derive(Debug, Error)]
#[error("the text cannot be tokenised")]
pub struct EncodeError(#[source] pub(crate) tokenizers::Error);
