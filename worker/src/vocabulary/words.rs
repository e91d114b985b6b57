//! How pre-tokenizers cut a text into words.
//!
//! The patterns are llama.cpp's, because its files name them. A name that is not here is refused.
use tokenizers::{
    SplitDelimiterBehavior,
    pre_tokenizers::{
        PreTokenizerWrapper, byte_level::ByteLevel, sequence::Sequence, split::Split, split::SplitPattern,
    },
};

/// How a text is cut into words before anything is merged, and what else llama.cpp knows by a pre-tokenizer's name.
pub(super) struct Words {
    /// What files call it.
    names: &'static [&'static str],
    /// Each cuts what the one before it left.
    patterns: &'static [&'static str],
    /// A word that is a token stays whole.
    pub(super) ignores_merges: bool,
    /// The token that begins a text is put before it unless the file says otherwise.
    pub(super) adds_start: bool,
}

impl Words {
    /// The pre-tokenizer that files call by this name.
    pub(super) fn named(name: &str) -> Option<&'static Words> {
        WORDS.iter().find(|words| words.names.contains(&name))
    }

    /// The names that are known, for a sentence.
    pub(super) fn known() -> String {
        WORDS.iter().flat_map(|words| words.names).copied().collect::<Vec<_>>().join(", ")
    }

    /// What cuts a text, and writes the words in the byte-level alphabet.
    pub(super) fn splitter(&self) -> Result<PreTokenizerWrapper, tokenizers::Error> {
        let split = |pattern: &&str| {
            let pattern = SplitPattern::Regex((*pattern).to_owned());
            Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map(PreTokenizerWrapper::from)
        };
        let mut steps = self.patterns.iter().map(split).collect::<Result<Vec<_>, _>>()?;
        steps.push(ByteLevel::new(false, false, false).into());
        Ok(Sequence::new(steps).into())
    }
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

const WORDS: [Words; 4] = [
    Words {
        names: &["qwen2"],
        patterns: &[
            r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
        ignores_merges: false,
        adds_start: false,
    },
    Words {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3"],
        patterns: &[
            r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
        ignores_merges: true,
        adds_start: true,
    },
    Words { names: &["smollm"], patterns: &[r"\p{N}", GPT2], ignores_merges: false, adds_start: false },
    Words { names: &["gpt-2"], patterns: &[GPT2], ignores_merges: false, adds_start: false },
];

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    #[test]
    fn words_are_cut_as_the_pre_tokenizer_says() {
        let cut = |name: &str, text: &str| -> Vec<String> {
            let mut parts = PreTokenizedString::from(text);
            Words::named(name).unwrap().splitter().unwrap().pre_tokenize(&mut parts).unwrap();
            let splits = parts.get_splits(OffsetReferential::Original, OffsetType::Byte);
            splits.into_iter().map(|(_, (begin, end), _)| text[begin..end].to_owned()).collect()
        };
        let sample = "Hello'Ve it's 12345\n\n  foo!!";
        assert_eq!(
            cut("qwen2", sample),
            ["Hello", "'Ve", " it", "'s", " ", "1", "2", "3", "4", "5", "\n\n", " ", " foo", "!!"]
        );
        assert_eq!(
            cut("llama-bpe", sample),
            ["Hello", "'Ve", " it", "'s", " ", "123", "45", "\n\n", " ", " foo", "!!"]
        );
        assert_eq!(cut("gpt-2", sample), ["Hello", "'", "Ve", " it", "'s", " 12345", "\n\n ", " foo", "!!"]);
        assert_eq!(
            cut("smollm", sample),
            ["Hello", "'", "Ve", " it", "'s", " ", "1", "2", "3", "4", "5", "\n\n ", " foo", "!!"]
        );
    }
}
