//! The manual's page on the configuration file, from the example's keys, defaults and comments:
//! `supervisor.toml(5)`.
//!
//! That the example has every key with its default is a test of the configuration itself. Here, a
//! line that is not understood is an error, so that no key of the example is left out.
use crate::pages::{MANUAL, SOURCE, also, date, list};
use clap_mangen::roff::{Roff, bold, roman};
use std::io;

const EXAMPLE: &str = include_str!("../../../deploy/supervisor.toml");

/// A table of the example, or a key of it.
#[derive(Debug, PartialEq)]
enum Line {
    Table(String),
    Key { name: String, default: String, comment: String },
}

/// The page.
pub(crate) fn page() -> io::Result<Vec<u8>> {
    let mut roff = Roff::new();
    roff.control("TH", ["SUPERVISOR.TOML", "5", &date(), SOURCE, MANUAL]);
    roff.control("SH", ["NAME"]);
    roff.text([roman("supervisor.toml - configuration of supervisor")]);
    roff.control("SH", ["DESCRIPTION"]);
    for text in [
        "The file that `supervisor run --config FILE` reads, in TOML. Every key may be left out and then has the value that is shown here; a \
         key that is not here is an error. With no [[model]] at all, the built-in model is served.",
        "Durations are written like \"30s\", \"10m\" or \"1m 30s\", sizes like \"512MiB\" or \"2GiB\".",
        "`supervisor run --config FILE --check` says whether a file is valid, on which line it is not, and whether each of its models can be loaded.",
    ] {
        roff.control("PP", []);
        roff.text([roman(text)]);
    }
    for line in lines(EXAMPLE).map_err(io::Error::other)? {
        match line {
            Line::Table(name) => roff.control("SH", [format!("KEYS OF {name}").as_str()]),
            Line::Key { name, default, comment } => {
                roff.control("TP", []);
                roff.text([bold(name), roman(format!(" = {default}"))]);
                roff.text([roman(sentence(&comment))])
            }
        };
    }
    list(&mut roff, "FILES", &[("/etc/supervisor/supervisor.toml", "The configuration that the system's unit names.")]);
    also(&mut roff, "supervisor(1), supervisor-run(1)");
    let mut text = Vec::new();
    roff.to_writer(&mut text)?;
    Ok(text)
}

/// The tables and keys of an example: a key with its comment behind it, which goes on in lines that
/// are indented. A comment of its own in the first column belongs to no key, except that a key may
/// be commented out, if there is no value that says what leaving it out does.
fn lines(example: &str) -> Result<Vec<Line>, String> {
    let mut lines = Vec::new();
    for text in example.lines() {
        let trimmed = text.trim();
        let key = text.strip_prefix("# ").unwrap_or(text).split_once(" = ").filter(|(name, _)| is_key(name));
        match (trimmed.strip_prefix('['), key, lines.last_mut()) {
            _ if trimmed.is_empty() => {}
            (Some(_), ..) => lines.push(Line::Table(trimmed.to_owned())),
            (None, Some((name, rest)), _) => {
                let (default, comment) = rest.split_once(" # ").ok_or_else(|| format!("no comment: {text:?}"))?;
                lines.push(Line::Key {
                    name: name.to_owned(),
                    default: default.trim().to_owned(),
                    comment: comment.trim().to_owned(),
                });
            }
            (None, None, Some(Line::Key { comment, .. })) if text.starts_with(' ') && trimmed.starts_with("# ") => {
                comment.push_str(&trimmed[1..]);
            }
            _ if text.starts_with("# ") => {}
            _ => return Err(format!("neither table, key nor comment: {text:?}")),
        }
    }
    Ok(lines)
}

fn is_key(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit())
}

/// A comment as the page has it: from a capital to a full stop.
fn sentence(comment: &str) -> String {
    let mut letters = comment.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).chain(['.']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, default: &str, comment: &str) -> Line {
        Line::Key { name: name.to_owned(), default: default.to_owned(), comment: comment.to_owned() }
    }

    #[test]
    fn keys_have_their_defaults_and_whole_comments() {
        let example = "# All of it.\n\n[a]\n# b = \"#\"  # one\nc_2 = [\"x\"]    # two,\n    # and a half\n[[d]]\n";
        let table = |name: &str| Line::Table(name.to_owned());
        let expected =
            [table("[a]"), key("b", "\"#\"", "one"), key("c_2", "[\"x\"]", "two, and a half"), table("[[d]]")];
        assert_eq!(lines(example).unwrap(), expected);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for line in ["a = 1", "a", "    # a comment of nothing", "a: 1 # one"] {
            let refusal = lines(line).unwrap_err();
            assert!(refusal.contains(&format!("{line:?}")), "{refusal}");
        }
    }
}
