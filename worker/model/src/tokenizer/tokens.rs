//! The tokens of a GGUF file: what each is for, what bytes it stands for, and which end an answer.
//!
//! It follows llama.cpp, also where that mends what files say wrongly: a token with the name of an
//! end token is one, whatever its type.
use super::{TokenizerError, special::Special};
use crate::gguf::{GgufError, Header};
use std::{
    collections::{HashMap, HashSet},
    iter,
};

/// A file's tokens, in the order of their ids.
pub(super) struct Tokens {
    /// The bytes of all tokens, one after another.
    pub(super) bytes: Vec<u8>,
    /// Where each token's bytes end.
    pub(super) ends: Vec<usize>,
    /// The tokens that end an answer.
    pub(super) stops: Vec<u32>,
    /// Those that are cut out of a text.
    pub(super) special: Vec<Special>,
    /// Those that a text may be made of, neither cut out of it nor unused.
    pub(super) normal: Vec<u32>,
    /// What of the metadata is not believed, in sentences.
    pub(super) remarks: Vec<String>,
}

/// How the texts of tokens are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// In GPT-2's alphabet of bytes.
    Alphabet,
    /// As they are, but spaces are U+2581, and `<0x0A>` is a byte.
    Spaces,
}

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It is made by merging.
    Normal,
    /// Its text is written as it is, and always stands for it.
    Literal,
    /// It has no text, and its name stands for it where special tokens are read.
    Control,
    /// It stands for one byte.
    Byte,
    /// Nothing stands for it.
    Unused,
}

impl Tokens {
    /// Reads the tokens' texts and types.
    pub(super) fn read(header: &Header, texts: &[String], spelling: Spelling) -> Result<Tokens, TokenizerError> {
        let kinds = kinds(header, texts)?;
        let strips = white_space_strippers(header)?;
        let alphabet = byte_alphabet();
        let mut remarks = Vec::new();
        let mut tokens = Tokens {
            bytes: Vec::new(),
            ends: Vec::with_capacity(texts.len()),
            stops: stops(header, texts, &mut remarks)?,
            special: Vec::new(),
            normal: Vec::new(),
            remarks,
        };
        for ((id, text), (kind, reserved)) in (0..).zip(texts).zip(kinds) {
            match (kind, spelling) {
                (Kind::Normal, Spelling::Alphabet) => tokens.bytes.extend(from_alphabet(text, &alphabet)),
                (Kind::Normal, Spelling::Spaces) => tokens.bytes.extend(text.replace(SPACE, " ").as_bytes()),
                (Kind::Literal, _) => tokens.bytes.extend_from_slice(text.as_bytes()),
                (Kind::Byte, _) => tokens.bytes.extend(named_byte(text)),
                (Kind::Control | Kind::Unused, _) => {}
            }
            tokens.ends.push(tokens.bytes.len());
            match kind {
                Kind::Normal => tokens.normal.push(id),
                Kind::Control | Kind::Literal => {
                    let strips = strips && !["<unk>", "<s>", "<|endoftext|>"].contains(&text.as_str());
                    let control = kind == Kind::Control;
                    tokens.special.push(Special { text: text.clone(), id, control, reserved, strips });
                }
                Kind::Byte | Kind::Unused => {}
            }
        }
        Ok(tokens)
    }
}

/// The id that the metadata has under `tokenizer.ggml.<name>_token_id`. One that is no token's is as
/// none, with a remark: converters write -1, or what follows the last id, for a token that a model
/// does not have.
pub(super) fn named_id(
    header: &Header,
    name: &str,
    most: usize,
    remarks: &mut Vec<String>,
) -> Result<Option<u32>, TokenizerError> {
    let key = format!("tokenizer.ggml.{name}_token_id");
    let Some(id) = header.integer(&key)? else { return Ok(None) };
    match u32::try_from(id) {
        Ok(small) if (small as usize) < most => Ok(Some(small)),
        _ => {
            let remark = format!("its {key} is {id}, but it has only {most} tokens: the key is ignored");
            if !remarks.contains(&remark) {
                remarks.push(remark);
            }
            Ok(None)
        }
    }
}

/// A space in the texts of tokens that are spelled with [`Spelling::Spaces`].
pub(super) const SPACE: &str = "\u{2581}";

/// The name of the token that stands for a byte.
pub(super) fn byte_name(byte: u8) -> String {
    format!("<0x{byte:02X}>")
}

/// GPT-2's alphabet: each byte is a letter that can be printed; those that can be already are
/// themselves.
pub(super) fn byte_alphabet() -> HashMap<char, u8> {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let (themselves, others): (Vec<u8>, Vec<u8>) = (0..=u8::MAX).partition(printable);
    let others = iter::zip((0x100..).filter_map(char::from_u32), others);
    themselves.into_iter().map(|byte| (char::from(byte), byte)).chain(others).collect()
}

/// A letter that is none of the alphabet's is itself.
fn from_alphabet(text: &str, alphabet: &HashMap<char, u8>) -> Vec<u8> {
    let letters = text.chars().flat_map(|letter| match alphabet.get(&letter) {
        Some(byte) => vec![*byte],
        None => letter.to_string().into_bytes(),
    });
    letters.collect()
}

/// What byte the name of a token says that it stands for.
fn named_byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok()
}

/// What each token is for, and whether it is reserved: a control token, also by the file's word
/// alone.
fn kinds(header: &Header, texts: &[String]) -> Result<Vec<(Kind, bool)>, TokenizerError> {
    let key = "tokenizer.ggml.token_type";
    let numbers = header.integers(key)?;
    if let Some(numbers) = numbers.filter(|numbers| numbers.len() < texts.len()) {
        return Err(TokenizerError::Length { key, found: numbers.len(), most: texts.len() });
    }
    let families = Families::of(texts);
    let kind = |(id, text): (usize, &String)| {
        let text = text.as_str();
        let said = match numbers.map_or(1, |numbers| numbers[id]) {
            1 => Kind::Normal,
            2 | 3 => Kind::Control,
            4 => Kind::Literal,
            6 => Kind::Byte,
            _ => Kind::Unused,
        };
        let kind = match text {
            "" => Kind::Unused,
            "</s>" if families.has_plain_s => Kind::Normal,
            "<|end|>" if families.goes_on_after_end => Kind::Literal,
            "<|channel|>" | "<|message|>" | "<|start|>" | "<|constrain|>" => Kind::Literal,
            _ if END_TEXTS.contains(&text) || FILL_TEXTS.contains(&text) || FILL_ENDS.contains(&text) => Kind::Control,
            _ => said,
        };
        (kind, kind == Kind::Control || said == Kind::Control)
    };
    Ok(texts.iter().enumerate().map(kind).collect())
}

fn stops(header: &Header, texts: &[String], remarks: &mut Vec<String>) -> Result<Vec<u32>, TokenizerError> {
    let families = Families::of(texts);
    let ends_answer = |text: &str| match text {
        "</s>" if families.has_plain_s => false,
        "<|end|>" if families.goes_on_after_end => false,
        _ => END_TEXTS.contains(&text) || FILL_ENDS.contains(&text),
    };
    let named = (0..).zip(texts).filter(|(_, text)| ends_answer(text)).map(|(id, _)| id);
    let mut stops: Vec<u32> = named.collect();
    for name in ["eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep"] {
        stops.extend(named_id(header, name, texts.len(), remarks)?);
    }
    stops.sort_unstable();
    stops.dedup();
    Ok(stops)
}

/// Models whose tokens have the names of end tokens and are none.
struct Families {
    /// Gemma 4 has an ordinary token `</s>`.
    has_plain_s: bool,
    /// After `<|end|>`, gpt-oss and Solar begin the next part of the same answer.
    goes_on_after_end: bool,
}

impl Families {
    fn of(texts: &[String]) -> Families {
        let marks = ["<|tool_response>", "<|return|>", "<|call|>", "<|calls|>", "<|flush|>"];
        let there: HashSet<&str> = texts.iter().map(String::as_str).filter(|text| marks.contains(text)).collect();
        let has = |text| there.contains(text);
        let calls = has("<|call|>") || has("<|calls|>");
        Families {
            has_plain_s: has("<|tool_response>"),
            goes_on_after_end: calls && (has("<|return|>") || has("<|flush|>")),
        }
    }
}

/// Whether white space behind special tokens belongs to them: only Phi-3 was trained like that, and
/// only the model's name says so.
fn white_space_strippers(header: &Header) -> Result<bool, TokenizerError> {
    let name = header.text("general.name")?.unwrap_or_default().to_ascii_lowercase();
    Ok(name.contains("phi-3") || name.contains("phi3"))
}

/// Tokens of these names end an answer, whatever the metadata says: many files name only one of
/// theirs.
const END_TEXTS: &[&str] = &[
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "</s>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<\u{FF5C}end\u{2581}of\u{2581}sentence\u{FF5C}>",
    "[e~[",
];

/// Tokens that mark the parts of a file that is to be filled in.
const FILL_TEXTS: &[&str] = &[
    "<|fim_prefix|>",
    "<fim-prefix>",
    "<fim_prefix>",
    "<\u{FF5C}fim\u{2581}begin\u{FF5C}>",
    "<PRE>",
    "\u{2581}<PRE>",
    "<|code_prefix|>",
    "<|prefix|>",
    "<|fim_suffix|>",
    "<fim-suffix>",
    "<fim_suffix>",
    "<\u{FF5C}fim\u{2581}hole\u{FF5C}>",
    "<SUF>",
    "\u{2581}<SUF>",
    "<|code_suffix|>",
    "<|suffix|>",
    "<|fim_middle|>",
    "<fim-middle>",
    "<fim_middle>",
    "<\u{FF5C}fim\u{2581}end\u{FF5C}>",
    "<MID>",
    "\u{2581}<MID>",
    "<|code_middle|>",
    "<|middle|>",
];

/// Tokens that end what is filled in.
const FILL_ENDS: &[&str] = &[
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "[PAD]",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
];

/// The ids of tokens by their texts; of two with one text, the later one's.
pub(super) fn by_text(texts: &[String]) -> HashMap<&str, u32> {
    (0..).zip(texts).map(|(id, text)| (text.as_str(), id)).collect()
}

/// The tokens' texts.
pub(super) fn texts(header: &Header) -> Result<&[String], TokenizerError> {
    let key = "tokenizer.ggml.tokens";
    let texts = header.texts(key)?.ok_or_else(|| GgufError::Missing(key.to_owned()))?;
    /// Ids beyond are needed to mark characters that are no token.
    const MOST: usize = 1 << 30;
    if texts.len() > MOST { Err(TokenizerError::TooLarge(texts.len())) } else { Ok(texts) }
}
