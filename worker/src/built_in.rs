//! The models that are part of this program, and how slow they are told to be.
use ipc::ModelSpec;
use model::{
    ThreadPool,
    text::{self, ComputeError, Generator, GgufFile, LoadError, Pace, TextModel, TextNeeds},
};
use std::{io::Cursor, time::Duration};
use thiserror::Error;

/// The model that is always there: `pocket/README.md` says what it is.
const POCKET: &[u8] = include_bytes!("../pocket/pocket-q8_0.gguf");

/// What can be set after `builtin:NAME?`, as `key=value` with `&` between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Options {
    /// How long each token of an answer takes besides being computed.
    token: Duration,
    /// How long each chunk of a prompt takes besides being computed.
    chunk: Duration,
    /// How long loading takes.
    load: Duration,
    /// Most tokens of a text, for `echo`.
    context: u32,
}

/// Why a built-in model could not be loaded.
#[derive(Debug, Error)]
pub enum BuiltInError {
    /// No built-in model has that name.
    #[error("there is no built-in model {0:?}, only pocket and echo")]
    Unknown(String),
    /// Its options are wrong.
    #[error("cannot load {path}")]
    Options {
        /// The model's path.
        path: String,
        /// Which option, and how.
        #[source]
        source: OptionError,
    },
    /// It is there, but does not load.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Why an option of a built-in model is refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum OptionError {
    /// No option has that name.
    #[error("{model} has no option {found:?}, only {known}")]
    Unknown {
        /// The built-in model.
        model: String,
        /// What was written.
        found: String,
        /// What could be.
        known: String,
    },
    /// The value is no number, or too large.
    #[error("the option {key} must be a whole number, not {value:?}")]
    Number {
        /// The option.
        key: String,
        /// What is written there.
        value: String,
    },
}

/// Loads the built-in model of this name.
pub(crate) fn load(
    name: &str,
    options: &str,
    spec: &ModelSpec,
    pool: Box<dyn ThreadPool>,
    admit: &mut dyn FnMut(TextNeeds) -> bool,
) -> Result<Generator, BuiltInError> {
    let keys: &[&str] = match name {
        "pocket" => &["token_us", "prompt_us", "load_ms"],
        "echo" => &["token_us", "prompt_us", "load_ms", "context"],
        _ => return Err(BuiltInError::Unknown(name.to_owned())),
    };
    let options = Options::parse(name, options, keys);
    let options = options.map_err(|source| BuiltInError::Options { path: spec.source.to_string(), source })?;
    wait(options.load);
    let mut generator = if name == "echo" {
        text::echo(spec, options.context as usize)?
    } else {
        let size = POCKET.len() as u64;
        let file =
            GgufFile { reader: Box::new(Cursor::new(POCKET)), size, parts: Vec::new(), identity: 0, tokenizer: None };
        text::load(file, spec, pool, admit)?
    };
    if !options.token.is_zero() || !options.chunk.is_zero() {
        generator.model = Box::new(Paced { model: generator.model, options, prompt: None });
    }
    Ok(generator)
}

impl Options {
    fn parse(model: &str, text: &str, keys: &[&str]) -> Result<Options, OptionError> {
        let mut options = Options { token: Duration::ZERO, chunk: Duration::ZERO, load: Duration::ZERO, context: 4096 };
        for option in text.split('&').filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            if !keys.contains(&key) {
                let (last, others) = keys.split_last().unwrap_or((&"", &[]));
                let known = format!("{} and {last}", others.join(", "));
                return Err(OptionError::Unknown { model: model.to_owned(), found: key.to_owned(), known });
            }
            let wrong = |_| OptionError::Number { key: key.to_owned(), value: value.to_owned() };
            let number: u32 = value.parse().map_err(wrong)?;
            match key {
                "token_us" => options.token = Duration::from_micros(number.into()),
                "prompt_us" => options.chunk = Duration::from_micros(number.into()),
                "load_ms" => options.load = Duration::from_millis(number.into()),
                _ => options.context = number,
            }
        }
        Ok(options)
    }
}

/// A model that takes longer than it needs: for tests, and for people who want to see it work.
struct Paced {
    model: Box<dyn TextModel>,
    options: Options,
    /// How long the prompt is; `None` before the first text, in a warm-up.
    prompt: Option<usize>,
}

impl TextModel for Paced {
    fn cache_length(&self) -> usize {
        self.model.cache_length()
    }

    fn begin(&mut self, prompt: usize) {
        self.prompt = Some(prompt);
        self.model.begin(prompt);
    }

    fn forward(
        &mut self,
        tokens: &[u32],
        position: usize,
        cache: &mut [u16],
        pace: &dyn Pace,
    ) -> Result<&[f32], ComputeError> {
        if let Some(prompt) = self.prompt {
            wait(if position < prompt { self.options.chunk } else { self.options.token });
        }
        self.model.forward(tokens, position, cache, pace)
    }
}

/// Waits without computing, as a model on a device of its own would.
#[expect(clippy::disallowed_methods, reason = "to take time is what these models are told to do")]
fn wait(time: Duration) {
    if !time.is_zero() {
        std::thread::sleep(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 4] = ["token_us", "prompt_us", "load_ms", "context"];

    #[test]
    fn options_are_read_and_nonsense_is_refused_by_name() {
        let options = Options::parse("echo", "token_us=5&prompt_us=6&load_ms=7&context=8", &KEYS).unwrap();
        let expected = Options {
            token: Duration::from_micros(5),
            chunk: Duration::from_micros(6),
            load: Duration::from_millis(7),
            context: 8,
        };
        assert_eq!(options, expected);
        let refused = |text: &str| Options::parse("echo", text, &KEYS).unwrap_err().to_string();
        assert_eq!(refused("tokens=1"), "echo has no option \"tokens\", only token_us, prompt_us, load_ms and context");
        assert_eq!(refused("load_ms=soon"), "the option load_ms must be a whole number, not \"soon\"");
        assert_eq!(refused("context"), "the option context must be a whole number, not \"\"");
    }
}
