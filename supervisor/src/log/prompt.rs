//! What the log says of a prompt: nothing, a mark by which equal ones are recognised, or its
//! beginning.
use crate::config::LogPrompts;
use rustix::rand::{GetRandomFlags, getrandom};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::io::{self, Write};

/// Bytes of a prompt's JSON that are logged at most.
const MOST: usize = 4 << 10;
/// Bytes of a mark.
const MARK: usize = 8;

/// Says what is to be logged of prompts.
#[derive(Clone)]
pub(crate) struct Prompts {
    what: LogPrompts,
    key: [u8; 32],
}

/// What is logged of one prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LoggedPrompt {
    /// Its beginning, as JSON.
    pub(crate) text: Option<String>,
    /// Its mark.
    pub(crate) hash: Option<String>,
}

impl Prompts {
    /// Marks are made with a key that is never told and ends with this process: a short prompt
    /// could be found by its plain hash, by trying all there are.
    pub(crate) fn new(what: LogPrompts) -> io::Result<Prompts> {
        let mut key = [0; 32];
        if what == LogPrompts::Hash {
            let mut missing = &mut key[..];
            while !missing.is_empty() {
                let filled = getrandom(&mut *missing, GetRandomFlags::empty())?;
                missing = &mut missing[filled..];
            }
        }
        Ok(Prompts { what, key })
    }

    /// What is logged of a prompt, which is any plain data.
    pub(crate) fn note(&self, prompt: &impl Serialize) -> LoggedPrompt {
        match self.what {
            LogPrompts::None => LoggedPrompt::default(),
            LogPrompts::Hash => {
                let mut hash = Sha256::new_with_prefix(self.key);
                // Plain data always serialises. Most of the hash is not told, so nobody can go on
                // from it.
                hash.update(serde_json::to_vec(prompt).unwrap_or_default());
                let mark = hash.finalize().iter().take(MARK).map(|byte| format!("{byte:02x}")).collect();
                LoggedPrompt { hash: Some(mark), ..LoggedPrompt::default() }
            }
            LogPrompts::Full => {
                let mut beginning = Beginning(Vec::new());
                // It ends with an error where the prompt is longer.
                let _cut = serde_json::to_writer(&mut beginning, prompt);
                let text = String::from_utf8_lossy(&beginning.0);
                // What is cut off may have been the rest of a character.
                LoggedPrompt {
                    text: Some(text.trim_end_matches(char::REPLACEMENT_CHARACTER).to_owned()),
                    ..LoggedPrompt::default()
                }
            }
        }
    }

    /// Whether the words of a process that has seen prompts may be logged.
    pub(crate) fn are_full(&self) -> bool {
        self.what == LogPrompts::Full
    }
}

impl std::fmt::Debug for Prompts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prompts").field("what", &self.what).finish_non_exhaustive()
    }
}

/// Takes the first bytes and refuses more.
struct Beginning(Vec<u8>);

impl Write for Beginning {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(MOST - self.0.len());
        self.0.extend_from_slice(&bytes[..taken]);
        if taken == 0 && !bytes.is_empty() { Err(io::ErrorKind::WriteZero.into()) } else { Ok(taken) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompts(what: LogPrompts) -> Prompts {
        Prompts::new(what).expect("random numbers")
    }

    #[test]
    fn nothing_is_the_default() {
        assert_eq!(prompts(LogPrompts::None).note(&"secret"), LoggedPrompt::default());
    }

    #[test]
    fn equal_prompts_have_equal_marks_within_one_process_only() {
        let one = prompts(LogPrompts::Hash);
        let mark = one.note(&"secret").hash.expect("a mark");
        assert!(mark.len() == 2 * MARK && mark.bytes().all(|byte| byte.is_ascii_hexdigit()), "{mark}");
        assert_eq!(one.note(&"secret"), LoggedPrompt { hash: Some(mark.clone()), text: None });
        assert_ne!(one.note(&"secrets").hash, Some(mark.clone()));
        assert_ne!(prompts(LogPrompts::Hash).note(&"secret").hash, Some(mark));
        assert!(!format!("{one:?}").contains("key"));
    }

    #[test]
    fn a_whole_prompt_is_its_beginning() {
        let full = prompts(LogPrompts::Full);
        assert_eq!(full.note(&"two\nlines\u{1b}").text.as_deref(), Some(r#""two\nlines\u001b""#));
        assert_eq!(full.note(&["a", "b"]).text.as_deref(), Some(r#"["a","b"]"#));
        let long = full.note(&"\u{e9}".repeat(MOST)).text.expect("a text");
        assert!((MOST - 2..=MOST).contains(&long.len()), "{}", long.len());
        assert!(long.chars().skip(1).all(|letter| letter == '\u{e9}'), "{long}");
    }
}
