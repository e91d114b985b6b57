//! Foreign text made fit for a sentence, a line of the log or a terminal: it is cut where it is too
//! long, and nothing in it can drive what shows it.
use std::{
    borrow::Cow,
    fmt::{self, Display, Formatter, Write},
};

/// Characters of a name out of a file or a message that a sentence shows.
const NAME: usize = 64;

/// At most `most` characters of a text, and `...` where there were more.
pub fn shorten(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        Some((end, _)) => Cow::Owned(format!("{}...", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// A name out of a file as a sentence shows it between quotes: short, and escaped as in a string
/// literal.
pub fn shown(name: &str) -> String {
    let plain: String = name.chars().take(NAME).flat_map(char::escape_debug).collect();
    if name.chars().nth(NAME).is_some() { plain + "..." } else { plain }
}

/// Shows a text with everything escaped that cannot be seen or that changes how others are seen.
/// Quotes stay.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|letter| match letter {
            '"' | '\'' => f.write_char(letter),
            _ => letter.escape_debug().try_for_each(|letter| f.write_char(letter)),
        })
    }
}

/// An error and its causes in one line: `a: b: c`. Of each only the first line counts: candle's
/// errors may carry a backtrace behind it. Libraries repeat what is in a file, so the line is cut
/// where it is much too long, and nothing in it drives a terminal.
pub fn chain(error: &dyn std::error::Error) -> String {
    const LONGEST: usize = 1000;
    let causes = std::iter::successors(Some(error), |error| error.source());
    let lines = causes.map(|error| error.to_string().lines().next().unwrap_or_default().to_owned());
    harmless(&shorten(&lines.collect::<Vec<_>>().join(": "), LONGEST))
}

/// A text with everything escaped that drives a terminal or turns the direction in which what
/// follows is read. All else stays, also what it has been escaped with itself.
pub fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
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
