//! An engine without weights: it answers with the prompt's own bytes and then ends.
//!
//! Its answers are known beforehand and it takes exactly as long as it is told to, so what surrounds an engine can be tested and
//! measured without one. It is no fallback: nothing uses it unless the configuration names it.
use super::{Engine, EngineError, Pace};
use crate::vocabulary::{BYTES, BYTES_END};
use std::{str::FromStr, time::Duration};
use thiserror::Error;

/// What can be set after `builtin:echo?`, as `key=value` with `&` between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EchoOptions {
    token: Duration,
    chunk: Duration,
    load: Duration,
    /// Tokens that the engine was made for.
    pub(super) context: u32,
}

/// Why the options are refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum EchoOptionError {
    /// No option has that name.
    #[error("the echo engine has no option {0:?}, only token_us, prompt_us, load_ms and context")]
    Unknown(String),
    /// The value is no number, or too large.
    #[error("the echo engine's option {key} must be a whole number, not {value:?}")]
    Number {
        /// The option.
        key: &'static str,
        /// What is written there.
        value: String,
    },
}

impl FromStr for EchoOptions {
    type Err = EchoOptionError;

    fn from_str(query: &str) -> Result<EchoOptions, EchoOptionError> {
        let mut options =
            EchoOptions { token: Duration::ZERO, chunk: Duration::ZERO, load: Duration::ZERO, context: 4096 };
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            let number = |key| -> Result<u32, EchoOptionError> {
                value.parse().map_err(|_| EchoOptionError::Number { key, value: value.to_owned() })
            };
            match key {
                "token_us" => options.token = Duration::from_micros(number("token_us")?.into()),
                "prompt_us" => options.chunk = Duration::from_micros(number("prompt_us")?.into()),
                "load_ms" => options.load = Duration::from_millis(number("load_ms")?.into()),
                "context" => options.context = number("context")?,
                _ => return Err(EchoOptionError::Unknown(key.to_owned())),
            }
        }
        Ok(options)
    }
}

/// The engine, with the text it has read.
pub(super) struct Echo {
    options: EchoOptions,
    /// How long the prompt is; `None` before the first text, in a warm-up.
    prompt: Option<usize>,
    text: Vec<u32>,
    logits: Vec<f32>,
}

impl Echo {
    /// Takes as long as loading is to take.
    pub(super) fn load(options: EchoOptions) -> Echo {
        wait(options.load);
        Echo { options, prompt: None, text: Vec::new(), logits: vec![f32::NEG_INFINITY; BYTES] }
    }

    /// The answer is the prompt and the end, again and again for those who ignore the end.
    fn next(&self) -> u32 {
        let prompt = self.prompt.unwrap_or(self.text.len()).min(self.text.len());
        let answered = self.text.len() - prompt;
        self.text[..prompt].get(answered % (prompt + 1)).copied().unwrap_or(BYTES_END)
    }
}

impl Engine for Echo {
    fn cache_length(&self) -> usize {
        0
    }

    fn begin(&mut self, prompt: usize) {
        self.reset();
        self.prompt = Some(prompt);
    }

    fn forward(
        &mut self,
        tokens: &[u32],
        position: usize,
        _cache: &mut [u16],
        _pace: &dyn Pace,
    ) -> Result<&[f32], EngineError> {
        if tokens.is_empty() {
            return Err(EngineError::NoTokens);
        }
        if let Some(prompt) = self.prompt {
            wait(if position < prompt { self.options.chunk } else { self.options.token });
        }
        self.text.truncate(position);
        self.text.extend_from_slice(tokens);
        // All but one are impossible, so that sampling at any temperature gives the same.
        self.logits.fill(f32::NEG_INFINITY);
        let next = self.next();
        if let Some(logit) = self.logits.get_mut(next as usize) {
            *logit = 0.0;
        }
        Ok(&self.logits)
    }

    fn reset(&mut self) {
        self.prompt = None;
        self.text = Vec::new();
    }
}

/// Waits without computing, as an engine on a device of its own would.
#[expect(clippy::disallowed_methods, reason = "to take time is what this engine is told to do")]
fn wait(time: Duration) {
    if !time.is_zero() {
        std::thread::sleep(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Alone;

    fn next(engine: &mut Echo, tokens: &[u32], position: usize) -> u32 {
        let logits = engine.forward(tokens, position, &mut [], &Alone).unwrap();
        let possible: Vec<usize> = (0..logits.len()).filter(|id| logits[*id] > f32::NEG_INFINITY).collect();
        assert_eq!(possible.len(), 1);
        possible[0] as u32
    }

    #[test]
    fn it_answers_with_the_prompt_and_the_end_and_begins_again() {
        for chunk in 1..=4 {
            let mut engine = Echo::load("".parse().unwrap());
            engine.begin(3);
            let mut last = 0;
            for (number, part) in [7, 8, 9].chunks(chunk).enumerate() {
                last = next(&mut engine, part, number * chunk);
            }
            let mut answer = vec![last];
            for position in 3..10 {
                answer.push(next(&mut engine, &[answer[position - 3]], position));
            }
            assert_eq!(answer, [7, 8, 9, BYTES_END, 7, 8, 9, BYTES_END], "in chunks of {chunk}");
        }
    }

    #[test]
    fn a_prompt_of_one_letter_is_not_mistaken_for_an_answer() {
        let mut engine = Echo::load("".parse().unwrap());
        engine.begin(33);
        next(&mut engine, &[b'a'.into(); 32], 0);
        let mut answer = vec![next(&mut engine, &[b'a'.into()], 32)];
        while answer.last() != Some(&BYTES_END) {
            let id = answer[answer.len() - 1];
            answer.push(next(&mut engine, &[id], 32 + answer.len()));
        }
        assert_eq!(answer.len(), 34);
    }

    #[test]
    fn options_are_read_and_nonsense_is_refused_by_name() {
        let options: EchoOptions = "token_us=5&prompt_us=6&load_ms=7&context=8".parse().unwrap();
        let expected = EchoOptions {
            token: Duration::from_micros(5),
            chunk: Duration::from_micros(6),
            load: Duration::from_millis(7),
            context: 8,
        };
        assert_eq!(options, expected);
        let refused = |query: &str| EchoOptions::from_str(query).unwrap_err().to_string();
        assert_eq!(
            refused("tokens=1"),
            "the echo engine has no option \"tokens\", only token_us, prompt_us, load_ms and context"
        );
        assert_eq!(refused("load_ms=soon"), "the echo engine's option load_ms must be a whole number, not \"soon\"");
        assert_eq!(refused("context"), "the echo engine's option context must be a whole number, not \"\"");
    }
}
