//! A conversation into the text that a model was trained to continue.
//!
//! The template comes with the model and is a program, so it is not trusted: it runs out of fuel,
//! its output has a bound, and it can reach nothing but the conversation and the date. What it
//! cannot be kept from is building long values in memory; that ends the worker. `jinja_source` and
//! `python` make minijinja read it as Jinja2 does; `conversation` has what it sees, and
//! `provenance` keeps apart what it says itself and what the client said.
//!
//! Where minijinja is known to differ from Jinja2, and is not made to agree: a slice with a negative
//! step and an end has one element more; `%` with a text before it, `varargs` and `kwargs`, macro
//! defaults that name another argument, and the filters `truncate`, `wordwrap`, `urlize`, `xmlattr`
//! and `filesizeformat` are not there; arguments by name are not passed on by `map`; floats are
//! printed without an exponent; `\U`, `\N` and `\a` in a text are no escapes.
mod conversation;
mod jinja_source;
mod json;
mod provenance;
mod python;

#[cfg(test)]
mod tests;

pub use conversation::Conversation;
pub use provenance::{ControlTokens, Rendered};

use crate::no_panic::without_panic;
use conversation::{Mark, said_last};
use jiff::Zoned;
use minijinja::{
    Environment, Error, ErrorKind, Value,
    syntax::SyntaxConfig,
    value::{Kwargs, Rest},
};
use provenance::Literals;
use std::{
    collections::BTreeMap,
    io::{self, Write},
};
use system::foreign_text::{harmless, shorten};
use thiserror::Error;

/// A model's way to write a conversation down.
pub struct ChatTemplate(Kind);

enum Kind {
    /// The content of the last message of the user and nothing else.
    LastMessage,
    /// A template that can be rendered.
    Jinja { environment: Box<Environment<'static>>, literals: Literals, start: String, end: String },
    /// A template that cannot be compiled, and why.
    Broken(String),
}

/// Why there is no text.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ChatError {
    /// The template cannot be compiled.
    #[error("the model's chat template cannot be used ({0}); send a raw prompt instead")]
    Broken(String),
    /// The template refused the conversation or failed on it.
    #[error("the model's chat template refuses the conversation: {0}")]
    Refused(String),
    /// The template made too much of it.
    #[error("the model's chat template makes more than {MOST_OUTPUT} bytes of the conversation")]
    TooLong,
    /// Something that is to be JSON is none.
    #[error("the {0} are not a JSON {1}")]
    Json(&'static str, &'static str),
    /// The template cannot do with a control token as a text.
    #[error(
        "the conversation has the name of a control token in it, which the model's chat template cannot take as text"
    )]
    ControlToken,
}

impl ChatTemplate {
    /// Compiles a Jinja template as Hugging Face's `transformers` would. `start` and `end` are the
    /// texts of the tokens that begin a text and end an answer. One that does not compile refuses
    /// each conversation, so that raw prompts can still be served.
    pub fn new(source: &str, start: &str, end: &str) -> ChatTemplate {
        let mut environment = Environment::new();
        if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
            environment.set_syntax(syntax);
        }
        environment.set_fuel(Some(FUEL));
        python::install(&mut environment);
        environment.add_function("raise_exception", |by_place: Rest<Value>, by_name: Kwargs| -> Result<Value, Error> {
            let message = python::arranged(&["message"], &by_place, &by_name)?[0].to_string();
            Err(Error::new(ErrorKind::InvalidOperation, RAISED).with_source(Raised(message)))
        });
        let prepared = jinja_source::prepared(source);
        if jinja_source::is_too_deep(&prepared) {
            let reason = "an expression in it is longer than any that can be compiled";
            return ChatTemplate(Kind::Broken(reason.to_owned()));
        }
        let literals = Literals::of(&prepared);
        ChatTemplate(match environment.add_template_owned(NAME, prepared) {
            Ok(()) => Kind::Jinja {
                environment: Box::new(environment),
                literals,
                start: start.to_owned(),
                end: end.to_owned(),
            },
            Err(error) => Kind::Broken(sentence(&error)),
        })
    }

    /// What the echo engine reads: the last thing that the user said.
    pub(crate) fn last_message() -> ChatTemplate {
        ChatTemplate(Kind::LastMessage)
    }

    /// Writes a conversation down, up to where the model's answer begins. `now` is the time of day,
    /// which some models are told. `controls` are the names of the model's control tokens.
    pub fn render(
        &self,
        conversation: &Conversation<'_>,
        now: &Zoned,
        controls: &dyn ControlTokens,
    ) -> Result<Rendered, ChatError> {
        match &self.0 {
            Kind::LastMessage => Ok(Rendered::of_client(said_last(conversation.messages))),
            Kind::Broken(reason) => Err(ChatError::Broken(reason.clone())),
            Kind::Jinja { environment, literals, start, end } => {
                let once = |mark: &Mark<'_>| {
                    let mut names = conversation.values(mark)?;
                    names.entry("bos_token".to_owned()).or_insert_with(|| Value::from(start.as_str()));
                    names.entry("eos_token".to_owned()).or_insert_with(|| Value::from(end.as_str()));
                    render(environment, names, now)
                };
                provenance::render(&once, controls, literals)
            }
        }
    }
}

/// What a template makes of what it can name.
fn render(environment: &Environment<'_>, mut names: BTreeMap<String, Value>, now: &Zoned) -> Result<String, ChatError> {
    let now = now.clone();
    let strftime_now = move |by_place: Rest<Value>, by_name: Kwargs| -> Result<String, Error> {
        let format = python::arranged(&["format"], &by_place, &by_name)?[0].to_string();
        jiff::fmt::strtime::format(&format, &now)
            .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
    };
    names.insert("strftime_now".to_owned(), Value::from_function(strftime_now));
    names.insert("add_generation_prompt".to_owned(), Value::from(true));
    names.insert("documents".to_owned(), Value::from(()));
    let mut output = Bounded(Vec::new());
    // minijinja 3.0.5 panics where an empty list is turned round by a slice.
    let rendered = without_panic(|| {
        let template = environment.get_template(NAME)?;
        template.render_captured_to(Value::from(names), &mut output).map(drop)
    });
    let failed = || Err(Error::new(ErrorKind::InvalidOperation, "the template engine fails on it"));
    match rendered.unwrap_or_else(failed) {
        Ok(()) => Ok(String::from_utf8_lossy(&output.0).into_owned()),
        Err(_) if output.0.len() >= MOST_OUTPUT => Err(ChatError::TooLong),
        Err(error) => Err(ChatError::Refused(sentence(&error))),
    }
}

const NAME: &str = "chat template";
/// Steps that a template may take: some hundreds for each of a thousand messages.
const FUEL: u64 = 1_000_000;
/// Bytes that a template may write: twice the longest request.
const MOST_OUTPUT: usize = 2 * ipc::MAX_REQUEST;

/// The detail of an error that a template raised itself; what it says is the source.
const RAISED: &str = "raised by the template";

/// What a template says is wrong with a conversation.
#[derive(Debug, Error)]
#[error("{0}")]
struct Raised(String);

/// An error of the template engine in one line: what the template said itself, or what happened and
/// where.
fn sentence(error: &Error) -> String {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(Raised(message)) = error.downcast_ref() {
            return one_line(message);
        }
        cause = error.source();
    }
    one_line(&error.to_string())
}

fn one_line(text: &str) -> String {
    const LONGEST: usize = 300;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    harmless(&shorten(&line, LONGEST))
}

/// Output with a bound.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(MOST_OUTPUT - self.0.len());
        self.0.extend_from_slice(&bytes[..taken]);
        if taken == 0 && !bytes.is_empty() { Err(io::ErrorKind::WriteZero.into()) } else { Ok(taken) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
