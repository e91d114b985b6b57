//! What a model reads. These types travel in two ways: as JSON from a client (see
//! `generate_json.rs`), and as plain data in the job of a worker. So their derived form has no names
//! left out and none of JSON's freedoms.
use super::InvalidRequest;
use serde::{Deserialize, Serialize};

/// What a model reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Prompt {
    /// A text to continue as it is. Special tokens in it are read as such.
    Raw(String),
    /// A conversation, put into the form that the model's chat template gives it.
    Chat(Vec<ChatMessage>),
}

/// One turn of a conversation, in the shape of OpenAI's chat API.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChatMessage {
    /// The speaker.
    pub role: Role,
    /// What is said.
    pub content: Content,
    /// Calls of tools that the model made in this turn. Not served yet.
    pub tool_calls: Vec<ToolCall>,
    /// The call that this turn of the role tool answers. Not served yet.
    pub tool_call_id: Option<String>,
    /// What the model thought before it said this. Not served yet.
    pub reasoning_content: Option<String>,
    /// The name of the participant, where several have one role. Not served yet.
    pub name: Option<String>,
}

impl ChatMessage {
    /// A turn that is a text and nothing else.
    pub fn new(role: Role, text: impl Into<String>) -> ChatMessage {
        ChatMessage {
            role,
            content: Content::Text(text.into()),
            tool_calls: Vec::new(),
            tool_call_id: None,
            reasoning_content: None,
            name: None,
        }
    }

    /// The text of a turn that [`GenerateRequest::validate`](crate::GenerateRequest::validate) lets
    /// pass; empty if it has none.
    pub fn text(&self) -> &str {
        match &self.content {
            Content::Text(text) => text,
            Content::Parts(parts) => match parts.as_slice() {
                [ContentPart::Text(text)] => text,
                _ => "",
            },
            Content::Null => "",
        }
    }

    /// Refuses what the wire can say and no model here is told yet. `index` is the turn's place in
    /// its conversation.
    pub(super) fn validate(&self, index: usize) -> Result<(), InvalidRequest> {
        let refused = |what| Err(InvalidRequest::NotServed { index, what });
        if self.role == Role::Tool {
            return refused("the role tool");
        }
        if !self.tool_calls.is_empty() {
            return refused("tool calls");
        }
        if self.tool_call_id.is_some() {
            return refused("a tool_call_id");
        }
        if self.reasoning_content.is_some() {
            return refused("reasoning_content");
        }
        if self.name.is_some() {
            return refused("a name");
        }
        match &self.content {
            Content::Text(_) => Ok(()),
            Content::Null => refused("no content"),
            Content::Parts(parts) => match parts.as_slice() {
                [ContentPart::Text(_)] => Ok(()),
                [ContentPart::Refusal(_)] => refused("a content part of the type refusal"),
                [ContentPart::ImageUrl { .. }] => refused("a content part of the type image_url"),
                [ContentPart::InputAudio { .. }] => refused("a content part of the type input_audio"),
                // OpenAI does not say how it joins several, and a guess would change what the model
                // reads.
                parts if parts.len() > 1 => refused("several content parts"),
                _ => refused("no content"),
            },
        }
    }
}

/// The speaker of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Whoever set the model up.
    System,
    /// Whoever asks.
    User,
    /// The model.
    Assistant,
    /// A tool that the model called. Not served yet.
    Tool,
}

/// What is said in a turn.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Content {
    /// Nothing, as beside tool calls.
    #[default]
    Null,
    /// A text.
    Text(String),
    /// Several parts. One part that is a text is served; nothing else is yet.
    Parts(Vec<ContentPart>),
}

/// A part of what is said.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ContentPart {
    /// A text.
    Text(String),
    /// The words in which a model refused to answer.
    Refusal(String),
    /// A picture.
    ImageUrl {
        /// Its address, or its bytes in a `data:` URL.
        url: String,
        /// How closely it is to be looked at: `auto`, `low` or `high`.
        detail: Option<String>,
    },
    /// A sound.
    InputAudio {
        /// Its bytes, in base64.
        data: String,
        /// `wav` or `mp3`.
        format: String,
    },
}

/// A function that a model called.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ToolCall {
    /// The call's name, by which its answer refers to it.
    pub id: String,
    /// The function's name.
    pub name: String,
    /// The arguments, as the JSON text that the model wrote.
    pub arguments: String,
}
