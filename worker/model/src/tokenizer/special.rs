//! Cuts a text at its special tokens, before the rest of it is merged.
//!
//! llama.cpp looks for one token after the other through the whole text, the longest first, and so
//! it is here: where two overlap the longer one is read, also if the other one begins earlier. Only
//! it is done in one pass and a heap, because there may be thousands of such tokens. Tokens of the
//! same length that overlap are read in the order of their ids, which llama.cpp leaves open.
use super::TokenizerError;
use aho_corasick::{AhoCorasick, Anchored, Input, Match, MatchKind, StartKind};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashSet},
    ops::Range,
};

/// A token that is cut out of a text.
pub(super) struct Special {
    /// What stands for it.
    pub(super) text: String,
    /// Its id.
    pub(super) id: u32,
    /// Whether it is read only where special tokens are.
    pub(super) control: bool,
    /// Whether it is the template's alone to say in a conversation. All that `control` holds for
    /// are, and some that are read everywhere else.
    pub(super) reserved: bool,
    /// Whether the white space behind it belongs to it.
    pub(super) strips: bool,
}

/// The special tokens of a vocabulary.
pub(super) struct Specials {
    /// The longest first.
    tokens: Vec<Special>,
    /// Finds all of them.
    all: AhoCorasick,
    /// Finds those that are always read. Their patterns' numbers count only these.
    always: AhoCorasick,
    /// Which tokens these are.
    literal: Vec<usize>,
    /// Finds those that are reserved.
    reserved: AhoCorasick,
    /// The letters of these, small and large.
    letters: HashSet<char>,
}

/// A part of a text that was cut.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// Text that is to be merged; never empty.
    Text(&'a str),
    /// A special token.
    Token(u32),
}

impl Specials {
    /// Bytes that the names of all tokens together may have: a hundred times what the largest
    /// vocabularies have, and each takes some tens of bytes of memory.
    pub(super) const MOST: usize = 8 << 20;

    pub(super) fn new(mut tokens: Vec<Special>) -> Result<Specials, TokenizerError> {
        let bytes = tokens.iter().map(|token| token.text.len()).sum();
        if bytes > Self::MOST {
            return Err(TokenizerError::SpecialLength(bytes));
        }
        tokens.retain(|token| !token.text.is_empty());
        tokens.sort_by_key(|token| (Reverse(token.text.len()), token.id));
        let finder = |tokens: &mut dyn Iterator<Item = &Special>| {
            let mut builder = AhoCorasick::builder();
            builder.match_kind(MatchKind::LeftmostLongest).start_kind(StartKind::Both);
            builder.build(tokens.map(|token| token.text.as_bytes())).map_err(TokenizerError::Special)
        };
        let literal: Vec<usize> = (0..tokens.len()).filter(|at| !tokens[*at].control).collect();
        let always = finder(&mut literal.iter().map(|at| &tokens[*at]))?;
        let reserved = finder(&mut tokens.iter().filter(|token| token.reserved))?;
        let letters = tokens.iter().filter(|token| token.reserved).flat_map(|token| token.text.chars());
        let letters = letters.flat_map(|letter| letter.to_lowercase().chain(letter.to_uppercase()).chain([letter]));
        let letters = letters.collect();
        Ok(Specials { all: finder(&mut tokens.iter())?, tokens, always, literal, reserved, letters })
    }

    /// Whether the name of a reserved token has this letter.
    pub(super) fn has_letter(&self, letter: char) -> bool {
        self.letters.contains(&letter)
    }

    /// Where the names of reserved tokens are in a text, each the longest that begins there.
    pub(super) fn reserved(&self, text: &str) -> Vec<Range<usize>> {
        everywhere(&self.reserved, text).map(|found| found.range()).collect()
    }

    /// Cuts a text. Only with `special` its control tokens are read. No reserved token is read of
    /// which a byte lies in one of the `client`'s parts, which are in order and not empty.
    pub(super) fn cut<'a>(&self, text: &'a str, special: bool, client: &[Range<usize>]) -> Vec<Part<'a>> {
        let finder = if special { &self.all } else { &self.always };
        let rank = |pattern: usize| if special { pattern } else { self.literal[pattern] };
        // The longest token that begins here and ends before the limit.
        let at =
            |start: usize, limit: usize| finder.find(Input::new(&text[..limit]).range(start..).anchored(Anchored::Yes));
        // What was found, or the longest shorter token there, whichever may be read.
        let readable = |mut found: Match| loop {
            let rank = rank(found.pattern().as_usize());
            if !(self.tokens[rank].reserved && touches(client, &found.range())) {
                return Some(Reverse((rank, found.start())));
            }
            found = at(found.start(), text.floor_char_boundary(found.end() - 1))?;
        };
        // For each place where one begins, the longest one there.
        let mut candidates: BinaryHeap<_> = everywhere(finder, text).filter_map(readable).collect();
        // What is cut out: from where, up to where, and the token.
        let mut taken: BTreeMap<usize, (usize, u32)> = BTreeMap::new();
        while let Some(Reverse((rank_here, start))) = candidates.pop() {
            if taken.range(..=start).next_back().is_some_and(|(_, (end, _))| *end > start) {
                continue;
            }
            let limit = taken.range(start..).next().map_or(text.len(), |(next, _)| *next);
            let token = &self.tokens[rank_here];
            let mut end = start + token.text.len();
            if end > limit {
                candidates.extend(at(start, limit).and_then(readable));
                continue;
            }
            if token.strips {
                let white = |byte: &&u8| byte.is_ascii_whitespace() || **byte == VERTICAL_TAB;
                end += text.as_bytes()[end..limit].iter().take_while(white).count();
            }
            taken.insert(start, (end, token.id));
        }
        let mut parts = Vec::new();
        let mut done = 0;
        for (start, (end, id)) in taken {
            parts.extend((done < start).then(|| Part::Text(&text[done..start])));
            parts.push(Part::Token(id));
            done = end;
        }
        parts.extend((done < text.len()).then(|| Part::Text(&text[done..])));
        parts
    }
}

/// For each place of a text where a name begins, the longest one there.
fn everywhere(finder: &AhoCorasick, text: &str) -> impl Iterator<Item = Match> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let found = finder.find(Input::new(text).range(from..))?;
        from = found.start() + 1;
        Some(found)
    })
}

/// Whether a part of a text lies in one of `parts`, if only by a byte. They are in order and not
/// empty.
pub(super) fn touches(parts: &[Range<usize>], part: &Range<usize>) -> bool {
    let first = parts.partition_point(|other| other.end <= part.start);
    parts.get(first).is_some_and(|other| other.start < part.end)
}

/// White space in C's sense that `is_ascii_whitespace` does not know.
const VERTICAL_TAB: u8 = 0x0B;

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::{
        ChaCha8Rng,
        rand_core::{Rng, SeedableRng},
    };

    fn specials(texts: &[&str]) -> Specials {
        let token = |(id, text): (usize, &&str)| Special {
            text: (*text).to_owned(),
            id: id as u32,
            control: text.contains('c'),
            reserved: text.contains('c') || text.contains('b'),
            strips: text.contains('s'),
        };
        Specials::new(texts.iter().enumerate().map(token).collect()).unwrap()
    }

    /// The definition: one token after the other through all that is left.
    fn one_by_one<'a>(specials: &Specials, whole: &'a str, special: bool, client: &[Range<usize>]) -> Vec<Part<'a>> {
        let text = whole;
        let mut parts = vec![Part::Text(text)];
        for token in specials.tokens.iter().filter(|token| special || !token.control) {
            parts = parts
                .into_iter()
                .flat_map(|part| {
                    let Part::Text(mut text) = part else { return vec![part] };
                    let mut cut = Vec::new();
                    let may_be_read = |text: &str, at: usize| {
                        let start = text.as_ptr().addr() - whole.as_ptr().addr() + at;
                        let is_clients = |byte| client.iter().any(|part| part.contains(&byte));
                        !(token.reserved && (start..start + token.text.len()).any(is_clients))
                    };
                    while let Some(at) = (0..text.len()).find(|at| {
                        text.get(*at..).is_some_and(|rest| rest.starts_with(&token.text)) && may_be_read(text, *at)
                    }) {
                        cut.extend([Part::Text(&text[..at]), Part::Token(token.id)]);
                        text = &text[at + token.text.len()..];
                        if token.strips {
                            text = text.trim_start_matches([' ', '\t', '\n', '\r', '\u{B}', '\u{C}']);
                        }
                    }
                    cut.push(Part::Text(text));
                    cut
                })
                .filter(|part| *part != Part::Text(""))
                .collect();
        }
        parts
    }

    #[test]
    fn the_longest_token_is_read_even_if_another_one_begins_earlier() {
        let specials = specials(&["ab", "bbb", "a"]);
        assert_eq!(
            specials.cut("xabbbx", false, &[]),
            [Part::Text("x"), Part::Token(2), Part::Token(1), Part::Text("x")]
        );
        assert_eq!(specials.cut("", false, &[]), []);
    }

    #[test]
    fn white_space_behind_a_token_that_strips_it_is_gone() {
        let specials = specials(&["<s>", "<c>"]);
        assert_eq!(specials.cut("<s> \t\u{B}\n <c> x", true, &[]), [Part::Token(0), Part::Token(1), Part::Text(" x")]);
        assert_eq!(specials.cut("<c><s>  ", false, &[]), [Part::Text("<c>"), Part::Token(0)]);
    }

    #[test]
    fn it_is_as_if_one_token_was_cut_after_the_other() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let mut below = |limit: usize| (random.next_u32() as usize) % limit;
        let letters = ["a", "b", "c", "s", " ", "\u{E9}"];
        fn word(below: &mut impl FnMut(usize) -> usize, letters: &[&str], most: usize) -> String {
            (0..1 + below(most)).map(|_| letters[below(letters.len())]).collect()
        }
        let mut cut = 0;
        for _ in 0..3000 {
            let mut texts: Vec<String> = (0..6).map(|_| word(&mut below, &letters, 4)).collect();
            // Of tokens of one length that overlap it is left open which one is read.
            texts.sort_by_key(String::len);
            texts.dedup_by_key(|text| text.len());
            let specials = specials(&texts.iter().map(String::as_str).collect::<Vec<_>>());
            let text = word(&mut below, &letters, 30);
            let mut bounds = [0; 4].map(|_| text.floor_char_boundary(below(text.len() + 1)));
            bounds.sort_unstable();
            let mut client = vec![bounds[0]..bounds[1], bounds[2]..bounds[3]];
            client.retain(|part| !part.is_empty());
            for (special, client) in [(false, &[][..]), (true, &[]), (false, &client), (true, &client)] {
                let parts = specials.cut(&text, special, client);
                assert_eq!(parts, one_by_one(&specials, &text, special, client), "{texts:?} {text:?} {client:?}");
                cut += usize::from(parts.len() > 1);
            }
        }
        assert!(cut > 4000, "{cut} texts were cut");
    }
}
