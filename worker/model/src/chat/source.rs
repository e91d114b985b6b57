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
    let mut rest = source.as_str();
    while let Some(at) = rest.find('{') {
        prepared.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = match rest.as_bytes().get(1) {
            Some(b'#') => rest.find("#}").map(|end| end + 2),
            Some(b'{') => length_of(rest, "}}"),
            Some(b'%') => length_of(rest, "%}"),
            _ => Some(1),
        };
        // What is not closed is for the compiler to name.
        let (tag, behind) = rest.split_at(length.unwrap_or(rest.len()));
        rest = behind;
        match word(tag) {
            Some("generation") => prepared.push_str(&tag.replacen("generation", "with", 1)),
            Some("endgeneration") => prepared.push_str(&tag.replacen("endgeneration", "endwith", 1)),
            Some("raw") => {
                let end = end_of_raw(rest);
                prepared.push_str(tag);
                prepared.push_str(&rest[..end]);
                rest = &rest[end..];
            }
            _ => prepared.push_str(tag),
        }
    }
    prepared.push_str(rest);
    prepared
}

/// Whether a tag or an expression of a source has so many words and signs outside of strings that
/// the compiler, which follows each operator of a chain one call deeper, may have no stack for it.
/// The largest of real templates has some hundreds.
pub(super) fn is_too_deep(source: &str) -> bool {
    let mut rest = source;
    while let Some(at) = rest.find('{') {
        rest = &rest[at..];
        let close = match rest.as_bytes().get(1) {
            Some(b'{') => "}}",
            Some(b'%') => "%}",
            _ => {
                rest = &rest[1..];
                continue;
            }
        };
        let (tag, behind) = rest.split_at(length_of(rest, close).unwrap_or(rest.len()));
        rest = behind;
        let (mut quote, mut escaped, mut was_word, mut count) = (None, false, false, 0);
        for letter in tag.chars() {
            let is_word = quote.is_none() && (letter.is_alphanumeric() || letter == '_');
            match quote {
                Some(_) if escaped => escaped = false,
                Some(_) if letter == '\\' => escaped = true,
                Some(open) if letter == open => quote = None,
                Some(_) => {}
                None if matches!(letter, '"' | '\'') => quote = Some(letter),
                None => count += u32::from(!(letter.is_whitespace() || is_word && was_word)),
            }
            was_word = is_word;
        }
        if count > MOST_IN_A_TAG {
            return true;
        }
    }
    false
}

/// The strings that stand in the tags and expressions of a source.
pub(super) fn literals(source: &str) -> Vec<String> {
    let (mut literals, mut rest) = (Vec::new(), source);
    while let Some(at) = rest.find('{') {
        rest = &rest[at..];
        let close = match rest.as_bytes().get(1) {
            Some(b'{') => "}}",
            Some(b'%') => "%}",
            _ => {
                rest = &rest[1..];
                continue;
            }
        };
        let (tag, behind) = rest.split_at(length_of(rest, close).unwrap_or(rest.len()));
        rest = behind;
        let (mut quote, mut literal, mut letters) = (None, String::new(), tag.chars());
        while let Some(letter) = letters.next() {
            match quote {
                None if matches!(letter, '"' | '\'') => quote = Some(letter),
                None => {}
                Some(open) if letter == open => {
                    literals.push(std::mem::take(&mut literal));
                    quote = None;
                }
                Some(_) if letter == '\\' => literal.extend(letters.next().map(|letter| match letter {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    other => other,
                })),
                Some(_) => literal.push(letter),
            }
        }
    }
    literals
}

/// How long a tag or an expression is that ends with `close`, which does not count inside a string.
fn length_of(text: &str, close: &str) -> Option<usize> {
    let (mut quote, mut escaped) = (None, false);
    for (index, letter) in text.char_indices().skip(2) {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if letter == '\\' => escaped = true,
            Some(open) if letter == open => quote = None,
            Some(_) => {}
            None if matches!(letter, '"' | '\'') => quote = Some(letter),
            None if text[index..].starts_with(close) => return Some(index + close.len()),
            None => {}
        }
    }
    None
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
    use super::prepared;

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
}
