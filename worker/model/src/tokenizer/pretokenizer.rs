//! How pre-tokenizers cut a text into words.
//!
//! The tables are in [`names`] and [`patterns`]; a name that is not there is refused. The patterns
//! are llama.cpp's, because its files name them, but none of them looks ahead, so that the `regex`
//! crates' automata can run them in time that grows with the text and nothing else. What llama.cpp
//! writes as `\s+(?!\S)|\s+`, the automata's match is shortened for.
mod names;
mod patterns;

use regex_automata::{
    Input, PatternID,
    meta::{BuildError, Regex},
};
use std::ops::Range;

/// How a text is cut into words before anything is merged, and what else llama.cpp knows by a
/// pre-tokenizer's name.
#[derive(Debug)]
pub(super) struct Pretokenizer {
    /// What files call it.
    names: &'static [&'static str],
    /// Each cuts what the one before it left.
    steps: &'static [Step],
    /// A word that is a token stays whole.
    pub(super) ignores_merges: bool,
    /// The token that begins a text is put before it unless the file says otherwise.
    pub(super) adds_start: bool,
    /// What the symbols are that are merged.
    pub(super) letters: Letters,
}

/// What the symbols are that are merged first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Letters {
    /// The text's bytes.
    Bytes,
    /// The text's characters, spaces written as U+2581; a character that is no token is written as
    /// tokens of its bytes.
    Characters,
}

/// One cut: what the pattern matches is a word, and so is what is left between two matches.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    pattern: &'static str,
    /// Whether white space that the pattern does not match is one word, without its last character
    /// if that begins the next word.
    blanks: bool,
}

/// Cuts texts.
pub(super) struct Splitter {
    steps: Vec<Regex>,
}

impl Pretokenizer {
    /// The pre-tokenizer that files call by this name.
    pub(super) fn named(name: &str) -> Option<&'static Pretokenizer> {
        names::PRETOKENIZERS.iter().find(|pretokenizer| pretokenizer.names.contains(&name))
    }

    /// The names that are known, for a sentence.
    pub(super) fn known() -> String {
        names::PRETOKENIZERS.iter().flat_map(|pretokenizer| pretokenizer.names).copied().collect::<Vec<_>>().join(", ")
    }

    /// What cuts a text.
    pub(super) fn splitter(&self) -> Result<Splitter, Box<BuildError>> {
        let step = |step: &Step| {
            let patterns = [step.pattern, r"\s+"];
            Regex::new_many(if step.blanks { &patterns } else { &patterns[..1] }).map_err(Box::new)
        };
        Ok(Splitter { steps: self.steps.iter().map(step).collect::<Result<_, _>>()? })
    }
}

impl Splitter {
    /// Cuts a text and hands over its words from left to right; together they are the text.
    pub(super) fn split<'a>(&self, text: &'a str, word: &mut impl FnMut(&'a str)) {
        cut(&self.steps, text, word);
    }
}

fn cut<'a>(steps: &[Regex], text: &'a str, word: &mut impl FnMut(&'a str)) {
    let Some((step, others)) = steps.split_first() else {
        word(text);
        return;
    };
    let mut piece = |range: Range<usize>| {
        if !range.is_empty() {
            cut(others, &text[range], word);
        }
    };
    let mut done = 0;
    while let Some(found) = step.find(Input::new(text).range(done..)) {
        let mut range = found.range();
        if found.pattern() == BLANKS {
            range.end = without_the_next_words(text, &range);
        }
        piece(done..range.start);
        piece(range.clone());
        done = range.end;
    }
    piece(done..text.len());
}

/// The second pattern of a [`Step`] that has one.
const BLANKS: PatternID = PatternID::new_unchecked(1);

/// Where the word of this white space ends: what follows takes its last character, if it is not the
/// only one.
fn without_the_next_words(text: &str, blanks: &Range<usize>) -> usize {
    let last = text[blanks.clone()].char_indices().next_back().map_or(0, |(at, _)| at);
    if blanks.end == text.len() || last == 0 { blanks.end } else { blanks.start + last }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(name: &str, text: &str) -> Vec<String> {
        let mut words = Vec::new();
        Pretokenizer::named(name).unwrap().splitter().unwrap().split(text, &mut |word| words.push(word.to_owned()));
        assert_eq!(words.concat(), text);
        words
    }

    #[test]
    fn words_are_cut_as_the_pre_tokenizer_says() {
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
        assert_eq!(cut("tekken", "aBcDE fGH 12"), ["a", "Bc", "DE", " f", "GH", " ", "1", "2"]);
        assert_eq!(cut("gemma4", "a b\n\n c"), ["a b", "\n\n", " c"]);
    }

    #[test]
    fn white_space_leaves_one_character_to_the_next_word() {
        assert_eq!(cut("gpt-2", "a \t\u{3000}b"), ["a", " \t", "\u{3000}", "b"]);
        assert_eq!(cut("gpt-2", "a\u{3000}b \u{A0} "), ["a", "\u{3000}", "b", " \u{A0} "]);
        assert_eq!(cut("llama-bpe", "a \n \n  b  "), ["a", " \n \n", " ", " b", "  "]);
    }

    #[test]
    fn every_name_is_there_once_and_all_patterns_are_right() {
        let mut names: Vec<&str> =
            names::PRETOKENIZERS.iter().flat_map(|pretokenizer| pretokenizer.names).copied().collect();
        for name in &names {
            let text = "A text, 1234 \u{4E2D}\u{6587}\t(it's)\r\n";
            assert!(cut(name, text).len() > 1, "{name}");
        }
        names.sort_unstable();
        assert!(names.is_sorted_by(|one, next| one < next), "a name is there twice");
    }
}
