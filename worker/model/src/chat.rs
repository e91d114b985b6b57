//! A conversation into the text that a model was trained to continue.
//!
//! The template comes with the model and is a program, so it is not trusted: it runs out of fuel,
//! its output has a bound, and it can reach nothing but the messages and the date. What it cannot
//! be kept from is building long values in memory; that ends the worker.
use ipc::{ChatMessage, Role};
use jiff::Zoned;
use minijinja::{Environment, Error, ErrorKind, Value, context, filters, syntax::SyntaxConfig, value::Kwargs};
use minijinja_contrib::pycompat::unknown_method_callback;
use std::io::{self, Write};
use thiserror::Error;

/// A model's way to write a conversation down.
pub struct ChatTemplate(Kind);

enum Kind {
    /// The content of the last message of the user and nothing else.
    LastMessage,
    /// A template that can be rendered.
    Jinja { environment: Box<Environment<'static>>, start: String, end: String },
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
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, RAISED).with_source(Raised(message)))
        });
        environment.add_filter("tojson", to_json);
        ChatTemplate(match environment.add_template_owned(NAME, source.to_owned()) {
            Ok(()) => Kind::Jinja { environment: Box::new(environment), start: start.to_owned(), end: end.to_owned() },
            Err(error) => Kind::Broken(sentence(&error)),
        })
    }

    /// What the echo engine reads: the last thing that the user said.
    pub(crate) fn last_message() -> ChatTemplate {
        ChatTemplate(Kind::LastMessage)
    }

    /// Writes a conversation down, up to where the model's answer begins. `now` is the time of day,
    /// which some models are told.
    pub fn render(&self, messages: &[ChatMessage], now: &Zoned) -> Result<String, ChatError> {
        match &self.0 {
            Kind::LastMessage => {
                let said = messages.iter().rev().find(|message| message.role == Role::User).or(messages.last());
                Ok(said.map(|message| message.text().to_owned()).unwrap_or_default())
            }
            Kind::Broken(reason) => Err(ChatError::Broken(reason.clone())),
            Kind::Jinja { environment, start, end } => {
                let turn = |message: &ChatMessage| context! { role => role(message.role), content => message.text() };
                let now = now.clone();
                let strftime_now = move |format: &str| {
                    jiff::fmt::strtime::format(format, &now)
                        .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
                };
                let context = context! {
                    strftime_now => Value::from_function(strftime_now),
                    messages => messages.iter().map(turn).collect::<Vec<Value>>(),
                    bos_token => start,
                    eos_token => end,
                    add_generation_prompt => true,
                    tools => (),
                    documents => (),
                };
                let mut output = Bounded(Vec::new());
                let rendered = environment
                    .get_template(NAME)
                    .and_then(|template| template.render_captured_to(context, &mut output).map(drop));
                match rendered {
                    Ok(()) => Ok(String::from_utf8_lossy(&output.0).into_owned()),
                    Err(_) if output.0.len() >= MOST_OUTPUT => Err(ChatError::TooLong),
                    Err(error) => Err(ChatError::Refused(sentence(&error))),
                }
            }
        }
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
    line.chars().filter(|letter| !letter.is_control()).take(LONGEST).collect()
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

fn role(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

/// JSON as Python's `json.dumps` writes it, which templates expect: minijinja's own is made for
/// HTML and escapes `<`, `>`, `&` and `'`.
fn to_json(value: &Value, indent: Option<Value>, options: Kwargs) -> Result<Value, Error> {
    let json = filters::tojson(value, indent, options)?;
    let mut rest = json.as_str().unwrap_or_default();
    let mut plain = String::with_capacity(rest.len());
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        plain.push_str(before);
        let known = [("\\u003c", '<'), ("\\u003e", '>'), ("\\u0026", '&'), ("\\u0027", '\'')];
        if let Some((name, letter)) = known.into_iter().find(|(name, _)| escape.starts_with(name)) {
            plain.push(letter);
            rest = &escape[name.len()..];
        } else {
            // A backslash and what it escapes, so that a backslash that is itself escaped begins
            // nothing.
            let length = escape.char_indices().nth(2).map_or(escape.len(), |(index, _)| index);
            plain.push_str(&escape[..length]);
            rest = &escape[length..];
        }
    }
    plain.push_str(rest);
    Ok(Value::from_safe_string(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(role: Role, content: &str) -> ChatMessage {
        ChatMessage::new(role, content)
    }

    fn now() -> Zoned {
        "2026-11-27T12:00:00Z".parse::<jiff::Timestamp>().unwrap().to_zoned(jiff::tz::TimeZone::UTC)
    }

    fn render(source: &str, messages: &[ChatMessage]) -> Result<String, ChatError> {
        ChatTemplate::new(source, "<s>", "</s>").render(messages, &now())
    }

    #[test]
    fn a_template_sees_messages_and_special_tokens_as_transformers_gives_them() {
        let source = "
            {%- if tools is not none or documents %}never{% endif %}
            {{- bos_token }}
            {%- for message in messages %}
                {%- if message.role == 'system' %}
                    {{- message['content'].strip() }}|
                {%- elif message.role != 'user' %}{% continue %}
                {%- else %}
                    {{- '[' + message.content + ']' + eos_token }}
                {%- endif %}
            {%- endfor %}
            {%- if add_generation_prompt %}>{% endif %}";
        let messages = [said(Role::System, " be brief\n"), said(Role::Assistant, "x"), said(Role::User, "hi <you>")];
        assert_eq!(render(source, &messages).unwrap(), "<s>be brief|[hi <you>]</s>>");
    }

    #[test]
    fn blocks_leave_no_blank_lines() {
        let source = "{% for m in messages %}\n    {% if true %}\n{{ m.content }}\n    {% endif %}\n{% endfor %}\nend";
        assert_eq!(render(source, &[said(Role::User, "a"), said(Role::User, "b")]).unwrap(), "a\nb\nend");
    }

    #[test]
    fn what_a_template_says_is_wrong_is_the_reason() {
        let source = "{{ raise_exception('roles must\n\x1balternate') }}";
        let error = render(source, &[]).unwrap_err();
        assert_eq!(error, ChatError::Refused("roles must alternate".into()));
        assert_eq!(error.to_string(), "the model's chat template refuses the conversation: roles must alternate");
        let failed = render("{{ messages[0].content.nothing() }}", &[said(Role::User, "a")]).unwrap_err().to_string();
        assert!(failed.contains("unknown method") && !failed.contains('\n'), "{failed}");
    }

    #[test]
    fn one_that_does_not_compile_refuses_each_conversation() {
        let error = render("{% for %}", &[said(Role::User, "a")]).unwrap_err().to_string();
        assert!(error.starts_with("the model's chat template cannot be used (syntax error"), "{error}");
        assert!(error.ends_with("); send a raw prompt instead"), "{error}");
    }

    #[test]
    fn a_template_has_a_bound_in_time_and_in_output() {
        let endless = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
        let error = render(endless, &[]).unwrap_err().to_string();
        assert!(error.contains("fuel"), "{error}");
        let long = "{% for a in range(90000) %}{{ messages[0].content }}{% endfor %}";
        assert_eq!(render(long, &[said(Role::User, &"x".repeat(1000))]), Err(ChatError::TooLong));
    }

    #[test]
    fn json_is_what_python_writes() {
        let json = |expression: &str| render(&format!("{{{{ {expression} }}}}"), &[]).unwrap();
        assert_eq!(
            json("{'a': [1, 2.5, none, true], 'b': '<&>'} | tojson"),
            r#"{"a": [1, 2.5, null, true], "b": "<&>"}"#
        );
        assert_eq!(json(r#""it's \\u003c and \"\u00e9\"" | tojson"#), "\"it's \\\\u003c and \\\"\u{E9}\\\"\"");
        assert_eq!(json("[1] | tojson(indent=2)"), "[\n  1\n]");
    }

    #[test]
    fn the_date_is_there() {
        let year = render("{{ strftime_now('%Y') }}", &[]).unwrap();
        assert_eq!(year, "2026");
        let error = render("{{ strftime_now('%') }}", &[]).unwrap_err().to_string();
        assert!(error.starts_with("the model's chat template refuses the conversation: invalid operation"), "{error}");
    }

    #[test]
    fn the_echo_engine_reads_what_the_user_said_last() {
        let template = ChatTemplate::last_message();
        let messages = [said(Role::User, "one"), said(Role::User, "two"), said(Role::Assistant, "three")];
        assert_eq!(template.render(&messages, &now()).unwrap(), "two");
        assert_eq!(template.render(&messages[2..], &now()).unwrap(), "three");
        assert_eq!(template.render(&[], &now()).unwrap(), "");
    }
}
