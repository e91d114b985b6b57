//! What happens to a chat template's source before it is compiled, so that minijinja reads it as
//! Jinja2 does when it is set up by `transformers`.
//!
//! Jinja2 makes each CR LF, and each CR, an LF before it does anything else. `transformers` adds
//! the tag `generation`, which marks the model's own words for training: what is between the tags
//! stays, in a scope of its own.

/// Words and signs of a tag.
const MOST_IN_A_TAG: u32 = 3000;

/// The source as minijinja is given it.
pub(super) fn prepared(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut prepared = String::with_capacity(source.len());
    for Piece { text, tag } in pieces(&source) {
        prepared.push_str(text);
        match word(tag) {
            Some("generation") => prepared.push_str(&tag.replacen("generation", "with", 1)),
            Some("endgeneration") => prepared.push_str(&tag.replacen("endgeneration", "endwith", 1)),
            _ => prepared.push_str(tag),
        }
    }
    prepared
}

/// Whether a tag or an expression of a source has so many words and signs outside of strings that
/// the compiler, which follows each operator of a chain one call deeper, may have no stack for it.
/// Of llama.cpp's 71 templates the largest has 52.
pub(super) fn is_too_deep(source: &str) -> bool {
    pieces(source).any(|piece| {
        let (mut quotes, mut was_word, mut count) = (Quotes::default(), false, 0);
        for letter in piece.tag.chars() {
            let is_outside = quotes.pass(letter) == Place::Outside;
            let is_word = is_outside && (letter.is_alphanumeric() || letter == '_');
            count += u32::from(is_outside && !(letter.is_whitespace() || is_word && was_word));
            was_word = is_word;
        }
        count > MOST_IN_A_TAG
    })
}

/// The strings that stand in the tags and expressions of a source.
pub(super) fn literals(source: &str) -> Vec<String> {
    let mut literals = Vec::new();
    for Piece { tag, .. } in pieces(source) {
        let (mut quotes, mut literal) = (Quotes::default(), String::new());
        for letter in tag.chars() {
            match quotes.pass(letter) {
                Place::Inside => literal.push(letter),
                Place::Escaped => literal.push(match letter {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    other => other,
                }),
                Place::Closing => literals.push(std::mem::take(&mut literal)),
                Place::Outside | Place::Opening | Place::Escape => {}
            }
        }
    }
    literals
}

/// A tag or an expression, and what stands before it: text, comments, raw blocks.
struct Piece<'a> {
    text: &'a str,
    /// Empty behind the last one.
    tag: &'a str,
}

/// A source in pieces, of which nothing is left out. What is not closed goes to the end: it is for
/// the compiler to name.
fn pieces(source: &str) -> impl Iterator<Item = Piece<'_>> {
    let (mut rest, mut raw) = (source, 0);
    std::iter::from_fn(move || {
        let mut from = std::mem::take(&mut raw);
        let (at, length) = loop {
            let Some(at) = rest[from..].find('{').map(|at| from + at) else { break (rest.len(), Some(0)) };
            let begin = &rest[at..];
            from = match begin.as_bytes().get(1) {
                Some(b'{') => break (at, length_of(begin, "}}")),
                Some(b'%') => break (at, length_of(begin, "%}")),
                Some(b'#') => begin.find("#}").map_or(rest.len(), |end| at + end + 2),
                _ => at + 1,
            };
        };
        let (text, behind) = rest.split_at(at);
        let (tag, behind) = behind.split_at(length.unwrap_or(behind.len()));
        rest = behind;
        if word(tag) == Some("raw") {
            raw = end_of_raw(rest);
        }
        (!text.is_empty() || !tag.is_empty()).then_some(Piece { text, tag })
    })
}

/// Where a letter of a tag stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside,
    /// The quote that begins a string.
    Opening,
    Inside,
    /// The backslash before a letter.
    Escape,
    /// The letter behind a backslash.
    Escaped,
    /// The quote that ends a string.
    Closing,
}

/// The strings of a tag, letter by letter.
#[derive(Default)]
struct Quotes {
    /// The quote of the string that has begun.
    open: Option<char>,
    is_escaped: bool,
}

impl Quotes {
    /// Where the next letter stands.
    fn pass(&mut self, letter: char) -> Place {
        match self.open {
            Some(_) if std::mem::take(&mut self.is_escaped) => Place::Escaped,
            Some(_) if letter == '\\' => {
                self.is_escaped = true;
                Place::Escape
            }
            Some(open) if letter == open => {
                self.open = None;
                Place::Closing
            }
            Some(_) => Place::Inside,
            None if matches!(letter, '"' | '\'') => {
                self.open = Some(letter);
                Place::Opening
            }
            None => Place::Outside,
        }
    }
}

/// How long a tag or an expression is that ends with `close`, which does not count inside a string.
fn length_of(text: &str, close: &str) -> Option<usize> {
    let mut quotes = Quotes::default();
    let mut letters = text.char_indices().skip(2);
    let ends =
        |(index, letter): &(usize, char)| quotes.pass(*letter) == Place::Outside && text[*index..].starts_with(close);
    letters.find(ends).map(|(index, _)| index + close.len())
}

/// The word that a tag is, if it is nothing but that word.
fn word(tag: &str) -> Option<&str> {
    let inside = tag.strip_prefix("{%")?.strip_suffix("%}")?;
    Some(inside.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim())
}

/// Where the tag begins that ends a raw block.
fn end_of_raw(text: &str) -> usize {
    let is_end = |at: &usize| {
        let inside = text[at + 2..].trim_start_matches(['-', '+']).trim_start();
        inside.starts_with("endraw")
    };
    text.match_indices("{%").map(|(at, _)| at).find(is_end).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::{is_too_deep, literals, prepared};

    #[test]
    fn line_ends_are_one_letter() {
        assert_eq!(prepared("a\r\nb\rc\n"), "a\nb\nc\n");
    }

    #[test]
    fn tags_of_training_are_scopes() {
        let source = "{% for a in b %}{%- generation -%} x {%-   endgeneration+%}{% endfor %}";
        assert_eq!(prepared(source), "{% for a in b %}{%- with -%} x {%-   endwith+%}{% endfor %}");
    }

    #[test]
    fn what_only_looks_like_a_tag_stays() {
        for source in [
            "{{ '{% generation %}' }}",
            r#"{% set a = "\"{% generation %}" %}"#,
            "{# {% generation %} #}",
            "{% raw %}{% generation %}{%- endraw %}",
            "{% set generation = 1 %}{{ generation }}",
            "{ {% if a %}",
            "{% if",
            "{{ 'a",
            "{",
        ] {
            assert_eq!(prepared(source), source);
        }
    }

    #[test]
    fn only_what_is_compiled_counts() {
        let words = "not ".repeat(5000);
        assert!(is_too_deep(&format!("{{{{ {words}1 }}}}")));
        for source in [format!("{{# {{% if #}}{words}"), format!("{{% raw %}}{{{{ {words} }}}}{{% endraw %}}")] {
            assert!(!is_too_deep(&source));
        }
        let source = r#"{# 'no' #}{% raw %}{{ 'no' }}{% endraw %}'no'{% if "a\"b\n" %}{{ 'c' ~ "d'" }}"#;
        assert_eq!(literals(source), ["a\"b\n", "c", "d'"]);
    }
}
