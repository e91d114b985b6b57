//! What runs in the processes that hold a model: the template that loads it once and forks, the workers, and the model itself.
//!
//! The model side knows nothing of processes: [`engine`] computes logits, [`vocabulary`] and [`chat`] turn what a client sent
//! into token ids, [`sampling`] chooses the next id, [`text`] turns ids' bytes back into text that can be sent, and
//! [`generate`] is the life of one job made of these; [`embed`] is that of a batch of texts. [`loaded`] is a model of either kind. It must stay single-threaded until a template has forked, and it
//! is deterministic: the same job gives the same ids and the same text, also when a worker takes it over half done.
#![deny(unsafe_code)]

pub mod cache;
pub mod chat;
pub mod embed;
pub mod engine;
pub mod files;
pub mod generate;
pub mod loaded;
mod numeric;
pub mod sampling;
pub mod sandbox;
pub mod seat;
pub mod serve;
pub mod socket;
pub mod sys;
pub mod template;
pub mod text;
pub mod vocabulary;

/// An error and its causes in one line: `a: b: c`. Of each only the first line counts: candle's errors may carry a backtrace behind it.
/// Libraries repeat what is in a file, so the line is cut where it is much too long, and nothing in it drives a terminal.
pub fn chain(error: &dyn std::error::Error) -> String {
    const LONGEST: usize = 1000;
    let causes = std::iter::successors(Some(error), |error| error.source());
    let lines = causes.map(|error| error.to_string().lines().next().unwrap_or_default().to_owned());
    let line = lines.collect::<Vec<_>>().join(": ");
    let mut shown = String::with_capacity(line.len());
    for (index, letter) in line.chars().enumerate() {
        match letter {
            _ if index == LONGEST => {
                shown.push_str("...");
                break;
            }
            // The last two ranges turn the direction in which what follows is read.
            '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                shown.extend(letter.escape_unicode());
            }
            _ => shown.push(letter),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::{error::Error, fmt, io};

    #[derive(Debug)]
    struct Outer(io::Error);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("outer\nbacktrace:\n  0: main")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn an_error_is_told_in_one_line() {
        assert_eq!(super::chain(&Outer(io::Error::other("inner\nmore"))), "outer: inner");
    }

    #[test]
    fn what_a_library_repeats_drives_no_terminal() {
        let told = |text: &str| super::chain(&io::Error::other(text.to_owned()));
        assert_eq!(told("a\u{1b}[2J\r\u{9b}\u{202e}\"\\\u{e9}"), "a\\u{1b}[2J\\u{d}\\u{9b}\\u{202e}\"\\\u{e9}");
        assert_eq!(told(&"\u{e9}".repeat(1001)), "\u{e9}".repeat(1000) + "...");
        assert_eq!(told(&"x".repeat(1000)), "x".repeat(1000));
    }
}
