//! What a client asks for.
use super::{
    generate_json::{GenerateIn, is_default, or_default},
    message::{ChatMessage, Prompt, Role},
};
use crate::frame::MAX_FRAME;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A client's message to the supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", expecting = "a request")]
pub enum Request {
    /// Continue a text or answer a conversation.
    Generate(Box<GenerateRequest>),
    /// Report what runs; loads nothing and waits for nothing.
    Status,
    /// Turn texts into vectors.
    Embed(Box<EmbedRequest>),
    /// Turn a text into a model's ids.
    Tokenize(Box<TokenizeRequest>),
    /// Change what the daemon does. Only root and the daemon's own user may.
    Control(Control),
}

/// What an operator asks of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields, expecting = "a name or an object")]
pub enum Control {
    /// Read the configuration again and bring it into force, all of it or nothing of it.
    Reload,
    /// Finish what was begun and refuse all else, until told otherwise. Answered when nothing is
    /// left to be finished.
    Drain,
    /// Take requests again.
    EndDrain,
    /// Stop accepting, finish what was admitted, and end.
    Stop {
        /// Without finishing anything.
        #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_default")]
        now: bool,
    },
    /// Replace workers by fresh ones.
    Restart {
        /// Those of this model; of all models, or with a slot of the only one, if `None`.
        #[serde(skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// Only the one that serves this slot, and at once: what it computes goes on with another.
        /// If `None`, all, each when it has nothing to do.
        #[serde(skip_serializing_if = "Option::is_none")]
        slot: Option<u32>,
    },
}

/// Texts to turn into vectors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct EmbedRequest {
    /// The model's name; with one model of its kind it need not be named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The texts, at least one.
    pub texts: Vec<String>,
    /// What the texts are for.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub role: TextRole,
}

impl EmbedRequest {
    /// Refuses what no model could serve.
    pub fn validate(&self) -> Result<(), InvalidRequest> {
        /// Even an empty text takes memory until it is done; more come with more requests.
        const MOST: usize = 1 << 16;
        match self.texts.len() {
            0 => Err(InvalidRequest::NoTexts),
            found if found > MOST => Err(InvalidRequest::TooManyTexts { found, most: MOST }),
            _ => Ok(()),
        }
    }
}

/// What texts are embedded for. Some models want another prefix before each; the others take no
/// notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextRole {
    /// As the model's folder says by default.
    #[default]
    Plain,
    /// To search with.
    Query,
    /// To be found.
    Document,
}

/// A text to turn into a model's ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct TokenizeRequest {
    /// The model's name; with one model it need not be named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The text.
    pub text: String,
    /// Whether special tokens in the text are read as such, and what the model's file wants before
    /// and after a text is added.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_default")]
    pub special: bool,
}

impl TokenizeRequest {
    /// Ids are below this. No vocabulary comes near it, and so an id and its comma take
    /// [`TokenizeRequest::ID_BYTES`] at most.
    pub const IDS_BELOW: u32 = 10_000_000;
    /// Most bytes of an id in [`Response::Tokenized`](crate::Response::Tokenized).
    pub const ID_BYTES: usize = "9999999,".len();
    /// Most ids that a text has besides one for each of its bytes: those before and after it.
    pub const IDS_AROUND: usize = 16;
    /// The longest text, in bytes, whose ids fit into an answer whatever they are.
    pub const LONGEST: usize =
        (MAX_FRAME - r#"{"tokenized":{"ids":[]}}"#.len()) / TokenizeRequest::ID_BYTES - TokenizeRequest::IDS_AROUND;

    /// Refuses what no answer could hold.
    pub fn validate(&self) -> Result<(), InvalidRequest> {
        let (found, most) = (self.text.len(), TokenizeRequest::LONGEST);
        if found > most { Err(InvalidRequest::TextLength { found, most }) } else { Ok(()) }
    }
}

/// A text to continue or a conversation to answer.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "GenerateIn")]
pub struct GenerateRequest {
    /// The model's name; with one model of its kind it need not be named.
    pub model: Option<String>,
    /// What the model reads.
    pub prompt: Prompt,
    /// Most tokens of the answer; as many as the context holds if `None`.
    pub max_tokens: Option<u32>,
    /// How the next token is chosen.
    pub sampling: Sampling,
    /// The answer ends before the first of these.
    pub stop: Vec<String>,
    /// Goes on when the model ends its answer, for measurements.
    pub ignore_end: bool,
    /// What the chat template can name besides the conversation, as `enable_thinking`. What the
    /// model's configuration says holds where these do not.
    pub template_vars: TemplateVars,
}

/// Values by name. What the values are is the template's business; the keys of objects in them are
/// sorted.
pub type TemplateVars = serde_json::Map<String, serde_json::Value>;

/// Why a template cannot be given a variable of this name: it has one that means something else.
///
/// # Errors
///
/// If it has.
pub fn check_template_var(name: &str) -> Result<(), InvalidRequest> {
    const TAKEN: [&str; 7] =
        ["messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token", "strftime_now"];
    if name.is_empty() {
        return Err(InvalidRequest::NoName);
    }
    match TAKEN.iter().find(|taken| **taken == name) {
        Some(name) => Err(InvalidRequest::TemplateVar { name }),
        None => Ok(()),
    }
}

impl GenerateRequest {
    /// Greedy, without limits, on the only model.
    pub fn new(prompt: Prompt) -> GenerateRequest {
        GenerateRequest {
            model: None,
            prompt,
            max_tokens: None,
            sampling: Sampling::default(),
            stop: Vec::new(),
            ignore_end: false,
            template_vars: TemplateVars::new(),
        }
    }

    /// A conversation of one message from the user.
    pub fn chat(message: impl Into<String>) -> GenerateRequest {
        GenerateRequest::new(Prompt::Chat(vec![ChatMessage::new(Role::User, message)]))
    }

    /// A text to continue as it is.
    pub fn raw(text: impl Into<String>) -> GenerateRequest {
        GenerateRequest::new(Prompt::Raw(text.into()))
    }

    /// Refuses what no model could serve.
    pub fn validate(&self) -> Result<(), InvalidRequest> {
        const MOST_STOPS: usize = 16;
        const LONGEST_STOP: usize = 256;
        match &self.prompt {
            Prompt::Raw(text) if text.is_empty() => return Err(InvalidRequest::EmptyPrompt),
            Prompt::Raw(_) if !self.template_vars.is_empty() => return Err(InvalidRequest::NoTemplate),
            Prompt::Raw(_) => {}
            Prompt::Chat(messages) => {
                self.template_vars.keys().try_for_each(|name| check_template_var(name))?;
                messages.iter().enumerate().try_for_each(|(index, message)| message.validate(index))?;
                if messages.iter().all(|message| message.text().is_empty()) {
                    return Err(InvalidRequest::EmptyPrompt);
                }
            }
        }
        if self.max_tokens == Some(0) {
            return Err(InvalidRequest::NoTokens);
        }
        for (name, value, least, most) in self.sampling.numbers() {
            if !(value >= least && value <= most) {
                return Err(InvalidRequest::OutOfRange { name, value, least, most });
            }
        }
        if self.stop.len() > MOST_STOPS {
            return Err(InvalidRequest::TooManyStops { found: self.stop.len(), most: MOST_STOPS });
        }
        for stop in &self.stop {
            if stop.is_empty() || stop.len() > LONGEST_STOP {
                return Err(InvalidRequest::StopLength { found: stop.len(), most: LONGEST_STOP });
            }
        }
        Ok(())
    }
}

/// Why a request is refused before any model sees it.
#[derive(Debug, Error, PartialEq)]
pub enum InvalidRequest {
    /// There is nothing to read.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// Variables for a template, and no template.
    #[error("a template variable has no name")]
    NoName,
    /// Variables of a template that a raw prompt does not have.
    #[error("template_vars are for a conversation: a raw prompt has no template")]
    NoTemplate,
    /// A variable that the template has already.
    #[error("template_vars cannot set {name}, which the request itself says")]
    TemplateVar {
        /// Its name.
        name: &'static str,
    },
    /// A turn has something that is not served yet.
    #[error("messages[{index}] has {what}, which is not served yet")]
    NotServed {
        /// The turn's place in the conversation, from 0.
        index: usize,
        /// What it has.
        what: &'static str,
    },
    /// An answer of no tokens.
    #[error("max_tokens must be at least 1")]
    NoTokens,
    /// A number outside of what it may be, or not a number.
    #[error("{name} is {value}, but must be from {least} to {most}")]
    OutOfRange {
        /// The field.
        name: &'static str,
        /// What it was.
        value: f32,
        /// The least it may be.
        least: f32,
        /// The most it may be.
        most: f32,
    },
    /// A batch of no texts.
    #[error("there are no texts to embed")]
    NoTexts,
    /// A batch of more texts than one request may have.
    #[error("{found} texts are more than the {most} that one request may have")]
    TooManyTexts {
        /// How many there are.
        found: usize,
        /// How many there may be.
        most: usize,
    },
    /// A text whose ids would not fit into an answer.
    #[error("the text has {found} bytes, but must have {most} at most")]
    TextLength {
        /// How long it is, in bytes.
        found: usize,
        /// How long it may be, in bytes.
        most: usize,
    },
    /// More stop strings than are looked for.
    #[error("{found} stop strings are more than the {most} that are looked for")]
    TooManyStops {
        /// How many there are.
        found: usize,
        /// How many there may be.
        most: usize,
    },
    /// A stop string that is empty or too long.
    #[error("a stop string has {found} bytes, but must have from 1 to {most}")]
    StopLength {
        /// How long it is, in bytes.
        found: usize,
        /// How long it may be, in bytes.
        most: usize,
    },
}

/// How the next token is chosen from the model's logits.
///
/// Penalties come first, then temperature, then top-k, then top-p, then min-p. Randomness is a function of the
/// seed and the position alone, so an answer can be taken up anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Divides the logits; 0 takes the likeliest token always.
    pub temperature: f32,
    /// Only the likeliest so many tokens; 0 for all.
    pub top_k: u32,
    /// Only the likeliest tokens that together have this probability; 1 for all.
    pub top_p: f32,
    /// Only tokens of at least this share of the likeliest one's probability; 0 for all.
    pub min_p: f32,
    /// The seed; drawn by the supervisor if `None`, and reported with the answer.
    pub seed: Option<u64>,
    /// Divides the positive logits of tokens among the last 64, and multiplies the negative ones; 1
    /// for none (Keskar et al. 2019, "CTRL").
    pub repeat_penalty: f32,
    /// Subtracted from a token's logit for each time that it was generated; 0 for none.
    pub frequency_penalty: f32,
    /// Subtracted from the logit of each token that was generated; 0 for none.
    pub presence_penalty: f32,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            seed: None,
            repeat_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
        }
    }
}

impl Sampling {
    /// Each number that is no whole one: its name, what it is, and from where to where it may be.
    fn numbers(&self) -> [(&'static str, f32, f32, f32); 6] {
        [
            ("temperature", self.temperature, 0.0, 100.0),
            ("top_p", self.top_p, 0.0, 1.0),
            ("min_p", self.min_p, 0.0, 1.0),
            ("repeat_penalty", self.repeat_penalty, 0.01, 100.0),
            ("frequency_penalty", self.frequency_penalty, -100.0, 100.0),
            ("presence_penalty", self.presence_penalty, -100.0, 100.0),
        ]
    }

    /// Refuses what is no number or has no end: JSON has no words for either.
    pub(super) fn check_finite(&self) -> Result<(), InvalidRequest> {
        let wrong = self.numbers().into_iter().find(|(_, value, ..)| !value.is_finite());
        let wrong = wrong.map(|(name, value, least, most)| InvalidRequest::OutOfRange { name, value, least, most });
        wrong.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Content, ContentPart, Message, Response, ToolCall};

    #[test]
    fn what_no_model_could_serve_is_refused_in_words() {
        let broken = |change: fn(&mut GenerateRequest)| {
            let mut request = GenerateRequest::raw("x");
            change(&mut request);
            request.validate().unwrap_err().to_string()
        };
        assert_eq!(GenerateRequest::raw("x").validate(), Ok(()));
        assert_eq!(broken(|r| r.prompt = Prompt::Raw(String::new())), "the prompt is empty");
        assert_eq!(broken(|r| r.prompt = Prompt::Chat(vec![])), "the prompt is empty");
        assert_eq!(broken(|r| r.max_tokens = Some(0)), "max_tokens must be at least 1");
        assert_eq!(broken(|r| r.sampling.temperature = f32::NAN), "temperature is NaN, but must be from 0 to 100");
        assert_eq!(broken(|r| r.sampling.top_p = 1.5), "top_p is 1.5, but must be from 0 to 1");
        assert_eq!(broken(|r| r.sampling.min_p = -0.1), "min_p is -0.1, but must be from 0 to 1");
        let texts = |count| EmbedRequest { model: None, texts: vec![String::new(); count], role: TextRole::Plain };
        assert_eq!(texts(0).validate().unwrap_err().to_string(), "there are no texts to embed");
        assert_eq!(texts(65_536).validate(), Ok(()));
        assert_eq!(
            texts(65_537).validate().unwrap_err().to_string(),
            "65537 texts are more than the 65536 that one request may have"
        );
        assert_eq!(broken(|r| r.stop = vec![String::new()]), "a stop string has 0 bytes, but must have from 1 to 256");
        assert_eq!(
            broken(|r| r.stop = vec!["a".into(); 17]),
            "17 stop strings are more than the 16 that are looked for"
        );
    }

    #[test]
    fn what_no_model_is_told_yet_is_refused_by_name() {
        let call = || ToolCall { id: "1".into(), name: "f".into(), arguments: "{}".into() };
        let text = || ContentPart::Text("x".into());
        let validate = |message: ChatMessage| {
            let first = ChatMessage::new(Role::User, "x");
            let request = GenerateRequest::new(Prompt::Chat(vec![first, message]));
            request.validate().map_err(|error| error.to_string())
        };
        let with = |content| ChatMessage { content, ..ChatMessage::new(Role::User, "") };
        let wrong = |what| Err(format!("messages[1] has {what}, which is not served yet"));
        let plain = || ChatMessage::new(Role::Assistant, "x");
        assert_eq!(validate(ChatMessage { role: Role::Tool, ..plain() }), wrong("the role tool"));
        assert_eq!(validate(ChatMessage { tool_call_id: Some("1".into()), ..plain() }), wrong("a tool_call_id"));
        assert_eq!(validate(ChatMessage { name: Some("n".into()), ..plain() }), wrong("a name"));
        let calls = ChatMessage { tool_calls: vec![call()], ..plain() };
        assert_eq!(validate(calls), wrong("tool calls"));
        let thought = ChatMessage { reasoning_content: Some("x".into()), ..plain() };
        assert_eq!(validate(thought), wrong("reasoning_content"));
        assert_eq!(validate(with(Content::Null)), wrong("no content"));
        assert_eq!(validate(with(Content::Parts(vec![]))), wrong("no content"));
        assert_eq!(validate(with(Content::Parts(vec![text(), text()]))), wrong("several content parts"));
        let picture = ContentPart::ImageUrl { url: "data:,".into(), detail: None };
        assert_eq!(validate(with(Content::Parts(vec![picture]))), wrong("a content part of the type image_url"));
        let one = with(Content::Parts(vec![text()]));
        assert_eq!((one.text(), validate(one.clone())), ("x", Ok(())));
    }

    #[test]
    fn the_ids_of_the_longest_text_fit_into_an_answer() {
        let text = |length| TokenizeRequest { model: None, text: "x".repeat(length), special: true };
        assert_eq!(text(TokenizeRequest::LONGEST).validate(), Ok(()));
        assert!(text(TokenizeRequest::LONGEST + 1).validate().is_err());
        let most = TokenizeRequest::LONGEST + TokenizeRequest::IDS_AROUND;
        let ids = vec![TokenizeRequest::IDS_BELOW - 1; most];
        let payload = Response::Tokenized { ids }.encode().unwrap();
        assert!(payload.len() <= MAX_FRAME && payload.len() > MAX_FRAME - 64, "{} bytes", payload.len());
    }
}
