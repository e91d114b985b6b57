//! The form that generate requests and messages have as JSON: flat, named as in OpenAI's API, and
//! without what is not said.
//!
//! A field that has its default is not written, so that a client knows more fields than a daemon
//! and can still ask it.
use super::{
    ChatMessage, Content, ContentPart, GenerateRequest, InvalidRequest, Prompt, Role, Sampling, TemplateVars, ToolCall,
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, SeqAccess, Visitor, value::SeqAccessDeserializer},
};
use std::fmt;
use thiserror::Error;

/// A field that may be left out, or be null, and has its default then.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Whether a field has its default.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What a generate request is read from.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct GenerateIn {
    model: Option<String>,
    prompt: Option<String>,
    messages: Option<Messages>,
    max_tokens: Option<u32>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<u32>,
    min_p: Option<f32>,
    seed: Option<u64>,
    repeat_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    stop: Option<Vec<String>>,
    ignore_end: Option<bool>,
    template_vars: Option<TemplateVars>,
}

/// Why the fields of a generate request are none together.
#[derive(Debug, Error)]
pub(super) enum GenerateError {
    #[error("there is neither a prompt nor messages")]
    NothingToRead,
    #[error("there are both a prompt and messages")]
    TwoToRead,
    #[error(transparent)]
    Number(InvalidRequest),
}

impl TryFrom<GenerateIn> for GenerateRequest {
    type Error = GenerateError;

    fn try_from(said: GenerateIn) -> Result<GenerateRequest, GenerateError> {
        let prompt = match (said.prompt, said.messages) {
            (Some(text), None) => Prompt::Raw(text),
            (None, Some(Messages(messages))) => Prompt::Chat(messages),
            (None, None) => return Err(GenerateError::NothingToRead),
            (Some(_), Some(_)) => return Err(GenerateError::TwoToRead),
        };
        let usual = Sampling::default();
        let sampling = Sampling {
            temperature: said.temperature.unwrap_or(usual.temperature),
            top_k: said.top_k.unwrap_or(usual.top_k),
            top_p: said.top_p.unwrap_or(usual.top_p),
            min_p: said.min_p.unwrap_or(usual.min_p),
            seed: said.seed,
            repeat_penalty: said.repeat_penalty.unwrap_or(usual.repeat_penalty),
            frequency_penalty: said.frequency_penalty.unwrap_or(usual.frequency_penalty),
            presence_penalty: said.presence_penalty.unwrap_or(usual.presence_penalty),
        };
        // JSON has larger numbers than 32 bits have.
        sampling.check_finite().map_err(GenerateError::Number)?;
        Ok(GenerateRequest {
            model: said.model,
            prompt,
            max_tokens: said.max_tokens,
            sampling,
            stop: said.stop.unwrap_or_default(),
            ignore_end: said.ignore_end.unwrap_or_default(),
            template_vars: said.template_vars.unwrap_or_default(),
        })
    }
}

/// What a generate request is written as.
#[derive(Serialize)]
struct GenerateOut<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<MessagesOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_p: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repeat_penalty: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f32>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "is_default")]
    ignore_end: bool,
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    template_vars: &'a TemplateVars,
}

impl Serialize for GenerateRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (prompt, messages) = match &self.prompt {
            Prompt::Raw(text) => (Some(text.as_str()), None),
            Prompt::Chat(messages) => (None, Some(MessagesOut(messages))),
        };
        let (chosen, usual) = (&self.sampling, Sampling::default());
        // By their bits: minus zero is another number to whoever compares requests.
        let unusual = |chosen: f32, usual: f32| (chosen.to_bits() != usual.to_bits()).then_some(chosen);
        let out = GenerateOut {
            model: self.model.as_deref(),
            prompt,
            messages,
            max_tokens: self.max_tokens,
            temperature: unusual(chosen.temperature, usual.temperature),
            top_p: unusual(chosen.top_p, usual.top_p),
            top_k: (chosen.top_k != usual.top_k).then_some(chosen.top_k),
            min_p: unusual(chosen.min_p, usual.min_p),
            seed: chosen.seed,
            repeat_penalty: unusual(chosen.repeat_penalty, usual.repeat_penalty),
            frequency_penalty: unusual(chosen.frequency_penalty, usual.frequency_penalty),
            presence_penalty: unusual(chosen.presence_penalty, usual.presence_penalty),
            stop: &self.stop,
            ignore_end: self.ignore_end,
            template_vars: &self.template_vars,
        };
        out.serialize(serializer)
    }
}

/// A conversation as it is read.
struct Messages(Vec<ChatMessage>);

impl<'de> Deserialize<'de> for Messages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Messages, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = Messages;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of messages")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Messages, A::Error> {
                let mut messages = Vec::new();
                while let Some(message) = list.next_element::<MessageIn>()? {
                    messages.push(message.into());
                }
                Ok(Messages(messages))
            }
        }

        deserializer.deserialize_seq(List)
    }
}

/// What a message is read from.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct MessageIn {
    role: Role,
    #[serde(default)]
    content: ContentIn,
    tool_calls: Option<Vec<ToolCallJson>>,
    tool_call_id: Option<String>,
    reasoning_content: Option<String>,
    name: Option<String>,
    // OpenAI's own libraries write these of an answer that has none, and it comes back in the next
    // turn.
    #[serde(default, rename = "refusal")]
    _refusal: Nothing,
    #[serde(default, rename = "audio")]
    _audio: Nothing,
    #[serde(default, rename = "function_call")]
    _function_call: Nothing,
    #[serde(default, rename = "annotations")]
    _annotations: Nothing,
}

/// What may be written, but only as null or an empty list.
#[derive(Default)]
struct Nothing;

impl<'de> Deserialize<'de> for Nothing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Nothing, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Nothing;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("null, because it is not served")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Nothing, E> {
                Ok(Nothing)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Nothing, A::Error> {
                match list.next_element::<de::IgnoredAny>()? {
                    None => Ok(Nothing),
                    Some(_) => Err(de::Error::invalid_type(de::Unexpected::Seq, &self)),
                }
            }
        }

        deserializer.deserialize_any(Any)
    }
}

impl From<MessageIn> for ChatMessage {
    fn from(said: MessageIn) -> ChatMessage {
        ChatMessage {
            role: said.role,
            content: said.content.0,
            tool_calls: said.tool_calls.unwrap_or_default().into_iter().map(ToolCall::from).collect(),
            tool_call_id: said.tool_call_id,
            reasoning_content: said.reasoning_content,
            name: said.name,
        }
    }
}

/// Content as it is read: null, a string, or a list of parts.
#[derive(Default)]
struct ContentIn(Content);

impl<'de> Deserialize<'de> for ContentIn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ContentIn, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = ContentIn;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, null or a list of parts")
            }

            fn visit_unit<E: de::Error>(self) -> Result<ContentIn, E> {
                Ok(ContentIn(Content::Null))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ContentIn, E> {
                Ok(ContentIn(Content::Text(text.to_owned())))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<ContentIn, E> {
                Ok(ContentIn(Content::Text(text)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<ContentIn, A::Error> {
                let parts = Vec::<PartJson>::deserialize(SeqAccessDeserializer::new(list))?;
                Ok(ContentIn(Content::Parts(parts.into_iter().map(|part| part.0).collect())))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// A part of a content, read or to be written.
#[derive(Deserialize)]
#[serde(try_from = "PartFields")]
struct PartJson(ContentPart);

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum PartType {
    Text,
    Refusal,
    ImageUrl,
    InputAudio,
}

/// The fields of all parts.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct PartFields {
    r#type: PartType,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_url: Option<ImageUrl>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_audio: Option<InputAudio>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct ImageUrl {
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct InputAudio {
    data: String,
    format: String,
}

/// Why the fields of a part are none together.
#[derive(Debug, Error)]
#[error("a content part has the field that its type names and no other")]
struct PartError;

impl TryFrom<PartFields> for PartJson {
    type Error = PartError;

    fn try_from(part: PartFields) -> Result<PartJson, PartError> {
        Ok(PartJson(match (part.r#type, part.text, part.refusal, part.image_url, part.input_audio) {
            (PartType::Text, Some(text), None, None, None) => ContentPart::Text(text),
            (PartType::Refusal, None, Some(text), None, None) => ContentPart::Refusal(text),
            (PartType::ImageUrl, None, None, Some(ImageUrl { url, detail }), None) => {
                ContentPart::ImageUrl { url, detail }
            }
            (PartType::InputAudio, None, None, None, Some(InputAudio { data, format })) => {
                ContentPart::InputAudio { data, format }
            }
            _ => return Err(PartError),
        }))
    }
}

impl From<&ContentPart> for PartFields {
    fn from(part: &ContentPart) -> PartFields {
        let none = |r#type| PartFields { r#type, text: None, refusal: None, image_url: None, input_audio: None };
        match part.clone() {
            ContentPart::Text(text) => PartFields { text: Some(text), ..none(PartType::Text) },
            ContentPart::Refusal(text) => PartFields { refusal: Some(text), ..none(PartType::Refusal) },
            ContentPart::ImageUrl { url, detail } => {
                PartFields { image_url: Some(ImageUrl { url, detail }), ..none(PartType::ImageUrl) }
            }
            ContentPart::InputAudio { data, format } => {
                PartFields { input_audio: Some(InputAudio { data, format }), ..none(PartType::InputAudio) }
            }
        }
    }
}

/// A call of a tool: `{"id": …, "type": "function", "function": {"name": …, "arguments": …}}`.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct ToolCallJson {
    id: String,
    r#type: ToolType,
    function: Function,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum ToolType {
    Function,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct Function {
    name: String,
    arguments: String,
}

impl From<ToolCallJson> for ToolCall {
    fn from(call: ToolCallJson) -> ToolCall {
        ToolCall { id: call.id, name: call.function.name, arguments: call.function.arguments }
    }
}

impl From<&ToolCall> for ToolCallJson {
    fn from(call: &ToolCall) -> ToolCallJson {
        let function = Function { name: call.name.clone(), arguments: call.arguments.clone() };
        ToolCallJson { id: call.id.clone(), r#type: ToolType::Function, function }
    }
}

/// A message that serialises in the shape of OpenAI's API, as it travels on the wire.
#[derive(Clone, Copy, Debug)]
pub struct MessageJson<'a>(pub &'a ChatMessage);

impl Serialize for MessageJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct MessageOut<'a> {
            role: Role,
            content: ContentOut<'a>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            tool_calls: Vec<ToolCallJson>,
            #[serde(skip_serializing_if = "Option::is_none")]
            tool_call_id: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            reasoning_content: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            name: Option<&'a str>,
        }

        let message = self.0;
        let out = MessageOut {
            role: message.role,
            content: ContentOut(&message.content),
            tool_calls: message.tool_calls.iter().map(ToolCallJson::from).collect(),
            tool_call_id: message.tool_call_id.as_deref(),
            reasoning_content: message.reasoning_content.as_deref(),
            name: message.name.as_deref(),
        };
        out.serialize(serializer)
    }
}

struct MessagesOut<'a>(&'a [ChatMessage]);

impl Serialize for MessagesOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(MessageJson))
    }
}

struct ContentOut<'a>(&'a Content);

impl Serialize for ContentOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Content::Null => serializer.serialize_unit(),
            Content::Text(text) => serializer.serialize_str(text),
            Content::Parts(parts) => serializer.collect_seq(parts.iter().map(PartFields::from)),
        }
    }
}
