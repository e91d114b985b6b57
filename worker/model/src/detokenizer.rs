//! Tokens' bytes into text that can be sent: whole characters, up to the first stop string.
//!
//! The text is what [`String::from_utf8_lossy`] makes of all bytes together, cut before the first
//! stop string; where the tokens' bytes were cut makes no difference. Which stop string is first is
//! decided by where it *ends*: that is when generating can stop. Of those that end at the same
//! place the longest counts.

/// Text in the making.
#[derive(Debug)]
pub struct TextStream {
    stops: Vec<String>,
    /// Bytes that may yet become a character.
    incomplete: Vec<u8>,
    /// Text that may yet be the beginning of a stop string.
    held: String,
    /// Bytes of text that are not given out, because they were already.
    skip: u64,
    stopped: bool,
}

impl TextStream {
    /// A text that ends before the first of `stops`, and of which the first `skip` bytes are known
    /// already.
    pub fn new(stops: &[String], skip: u64) -> TextStream {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        TextStream { stops, incomplete: Vec::new(), held: String::new(), skip, stopped: false }
    }

    /// Takes the next bytes, and gives out the text that has become certain with them.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        if self.stopped {
            return String::new();
        }
        self.incomplete.extend_from_slice(bytes);
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.incomplete) {
                Ok(whole) => {
                    text.push_str(whole);
                    self.incomplete.clear();
                    break;
                }
                Err(error) => {
                    let valid = error.valid_up_to();
                    text.push_str(&String::from_utf8_lossy(&self.incomplete[..valid]));
                    let Some(invalid) = error.error_len() else {
                        self.incomplete.drain(..valid);
                        break;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    self.incomplete.drain(..valid + invalid);
                }
            }
        }
        self.find_stop(&text);
        let certain = if self.stopped { self.held.len() } else { self.held.len() - self.possible_stop() };
        self.give_out(certain)
    }

    /// Gives out what was held back, because nothing more comes.
    pub fn finish(&mut self) -> String {
        if !self.stopped {
            let rest = String::from_utf8_lossy(&std::mem::take(&mut self.incomplete)).into_owned();
            self.find_stop(&rest);
        }
        self.give_out(self.held.len())
    }

    /// Whether a stop string has come; nothing after it matters.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Adds text to what is held, up to the first stop string.
    fn find_stop(&mut self, text: &str) {
        for character in text.chars() {
            self.held.push(character);
            let ending = self.stops.iter().filter(|stop| self.held.ends_with(stop.as_str()));
            if let Some(longest) = ending.map(String::len).max() {
                self.held.truncate(self.held.len() - longest);
                self.stopped = true;
                return;
            }
        }
    }

    /// The length of the longest end of what is held that a stop string begins with.
    fn possible_stop(&self) -> usize {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let earliest = self.held.len().saturating_sub(longest);
        let begins_stop = |begin: &usize| {
            self.held.is_char_boundary(*begin) && self.stops.iter().any(|stop| stop.starts_with(&self.held[*begin..]))
        };
        (earliest..self.held.len()).find(begins_stop).map_or(0, |begin| self.held.len() - begin)
    }

    fn give_out(&mut self, length: usize) -> String {
        let mut skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(length);
        // What was given out before were whole characters.
        while !self.held.is_char_boundary(skipped) {
            skipped += 1;
        }
        self.skip = self.skip.saturating_sub(skipped as u64);
        let text: String = self.held.drain(..length).collect();
        text[skipped..].to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::{
        ChaCha8Rng,
        rand_core::{Rng, SeedableRng},
    };

    /// All the text at once: lossy, and cut where the first stop string to end begins.
    fn expected(bytes: &[u8], stops: &[String]) -> (String, bool) {
        let text = String::from_utf8_lossy(bytes).into_owned();
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            let ending = stops.iter().filter(|stop| text[..end].ends_with(stop.as_str()));
            if let Some(longest) = ending.map(String::len).max() {
                return (text[..end - longest].to_owned(), true);
            }
        }
        (text, false)
    }

    fn stops(stops: &[&str]) -> Vec<String> {
        stops.iter().map(|stop| (*stop).to_owned()).collect()
    }

    fn in_parts(parts: &[&[u8]], stop: &[&str]) -> Vec<String> {
        let mut stream = TextStream::new(&stops(stop), 0);
        let mut out: Vec<String> = parts.iter().map(|part| stream.push(part)).collect();
        out.push(stream.finish());
        out
    }

    #[test]
    fn a_character_is_given_out_whole() {
        let parts = in_parts(&[b"a\xF0\x9F", b"\x99", b"\x82b", b"\xC3"], &[]);
        assert_eq!(parts, ["a", "", "\u{1F642}b", "", "\u{FFFD}"]);
        assert_eq!(in_parts(&[b"\xFFa\xF0\x9F", b"b"], &[]), ["\u{FFFD}a", "\u{FFFD}b", ""]);
    }

    #[test]
    fn the_beginning_of_a_stop_string_is_held_back() {
        assert_eq!(in_parts(&[b"one st", b"op two"], &["stop"]), ["one ", "", ""]);
        assert_eq!(in_parts(&[b"one st", b"and two"], &["stop"]), ["one ", "stand two", ""]);
        assert_eq!(in_parts(&[b"one st"], &["stop"]), ["one ", "st"]);
        assert_eq!(in_parts(&[b"ababa", b"c"], &["abac"]), ["ab", "", ""]);
        assert_eq!(in_parts(&[b"ababa", b"bd"], &["abac"]), ["ab", "ababd", ""]);
    }

    #[test]
    fn the_stop_string_that_ends_first_counts_and_of_those_the_longest() {
        assert_eq!(in_parts(&[b"xabcd"], &["abcd", "b"]), ["xa", ""]);
        assert_eq!(in_parts(&[b"xabcd"], &["c", "abc", "bc"]), ["x", ""]);
        assert_eq!(in_parts(&[b"stop", b"stop"], &["stop"]), ["", "", ""]);
        let mut stream = TextStream::new(&stops(&["", "b"]), 0);
        assert_eq!((stream.push(b"a"), stream.stopped()), ("a".into(), false));
        assert_eq!((stream.push(b"b"), stream.stopped()), (String::new(), true));
        assert_eq!((stream.push(b"more"), stream.finish()), (String::new(), String::new()));
    }

    #[test]
    fn the_rest_of_a_broken_character_can_complete_a_stop_string() {
        assert_eq!(in_parts(&[b"ab\xF0"], &["b\u{FFFD}"]), ["a", ""]);
    }

    #[test]
    fn where_the_bytes_are_cut_makes_no_difference() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let mut below = |limit: usize| (random.next_u32() as usize) % limit;
        let letters: [&[u8]; 10] = [
            b"a",
            b"b",
            b"c",
            "\u{E9}".as_bytes(),
            "\u{20AC}".as_bytes(),
            "\u{1F642}".as_bytes(),
            b"\xFF",
            b"\xC3",
            b"\xE2\x82",
            b"\x80",
        ];
        let words = ["a", "ab", "abc", "bca", "\u{E9}a", "\u{20AC}", "a\u{1F642}b", "cc", "\u{FFFD}b", "aab"];
        let mut stopped = 0;
        for _ in 0..3000 {
            let text: Vec<u8> = (0..below(30)).flat_map(|_| letters[below(letters.len())]).copied().collect();
            let stops: Vec<String> = (0..below(4)).map(|_| words[below(words.len())].to_owned()).collect();
            let whole = expected(&text, &stops);
            stopped += usize::from(whole.1);
            let mut skip = below(whole.0.len() + 1);
            while !whole.0.is_char_boundary(skip) {
                skip += 1;
            }
            let mut stream = TextStream::new(&stops, skip as u64);
            let mut out = String::new();
            let mut rest = &text[..];
            while !rest.is_empty() {
                let (part, others) = rest.split_at(1 + below(rest.len()));
                out.push_str(&stream.push(part));
                rest = others;
            }
            out.push_str(&stream.finish());
            assert_eq!((out.as_str(), stream.stopped()), (&whole.0[skip..], whole.1), "{text:?} {stops:?} {skip}");
        }
        assert!((500..2500).contains(&stopped), "{stopped} of 3000 texts had a stop string");
    }

    #[test]
    fn bytes_that_were_delivered_are_not_given_out_again() {
        let mut stream = TextStream::new(&stops(&["z"]), 4);
        assert_eq!(stream.push("a\u{20AC}".as_bytes()), "");
        assert_eq!(stream.push("b\u{20AC}".as_bytes()), "b\u{20AC}");
        // A number inside of a character cannot be, and does no harm.
        let mut stream = TextStream::new(&[], 2);
        assert_eq!(stream.push("a\u{20AC}b".as_bytes()), "b");
        let mut stream = TextStream::new(&[], u64::MAX);
        assert_eq!((stream.push(b"abc"), stream.finish()), (String::new(), String::new()));
    }
}
