//! What a chat template sees of a conversation: messages, tools and variables, in OpenAI's shape,
//! as other servers of its API give it to templates.
//!
//! Arguments of tool calls are objects, a missing content is an empty text, and a message has no
//! key for what it has not. Objects keep the order in which they were written.
use super::ChatError;
use ipc::{ChatMessage, Role};
use minijinja::{Value, value::ValueKind};
use std::collections::BTreeMap;

/// A conversation that a model is to go on with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conversation<'a> {
    /// What was said.
    pub messages: &'a [ChatMessage],
    /// The tools that the model may call, as a JSON list in OpenAI's shape.
    pub tools: Option<&'a str>,
    /// What else the template can name, as a JSON object.
    pub variables: Option<&'a str>,
}

/// What is done to a client's texts before the template sees them.
pub(super) enum Mark<'a> {
    /// Nothing.
    None,
    /// They are changed.
    Texts {
        /// Changes what is said.
        words: &'a dyn Fn(&str) -> String,
        /// Changes the keys of objects.
        keys: &'a dyn Fn(&str) -> String,
    },
}

impl Mark<'_> {
    fn words(&self, text: &str) -> Value {
        match self {
            Mark::None => Value::from(text),
            Mark::Texts { words, .. } => Value::from(words(text)),
        }
    }

    /// A value with all its texts changed.
    fn data(&self, value: Value) -> Value {
        let Mark::Texts { keys: change_key, .. } = self else { return value };
        match (value.kind(), value.as_str()) {
            (ValueKind::String, Some(text)) => self.words(text),
            (ValueKind::Seq, _) => {
                let items = value.try_iter().into_iter().flatten();
                Value::from(items.map(|item| self.data(item)).collect::<Vec<Value>>())
            }
            (ValueKind::Map, _) => {
                let keys = value.try_iter().into_iter().flatten();
                let pair = |key: Value| {
                    let held = value.get_item(&key).unwrap_or_default();
                    (key.as_str().map_or_else(|| key.clone(), |text| Value::from(change_key(text))), self.data(held))
                };
                Value::from_pairs(keys.map(pair))
            }
            _ => value,
        }
    }
}

impl Conversation<'_> {
    /// What a template can name.
    pub(super) fn values(&self, mark: &Mark<'_>) -> Result<BTreeMap<String, Value>, ChatError> {
        let mut names = BTreeMap::new();
        if let Some(variables) = self.variables {
            let variables = parsed(variables, ValueKind::Map).ok_or(ChatError::Json("template variables", "object"))?;
            for key in variables.try_iter().into_iter().flatten() {
                let held = variables.get_item(&key).unwrap_or_default();
                names.insert(key.to_string(), mark.data(held));
            }
        }
        let tools = self.tools.map(|tools| parsed(tools, ValueKind::Seq).ok_or(ChatError::Json("tools", "list")));
        names.insert("tools".to_owned(), tools.transpose()?.map_or(Value::from(()), |tools| mark.data(tools)));
        let messages: Vec<Value> = self.messages.iter().map(|message| turn(message, mark)).collect();
        names.insert("messages".to_owned(), Value::from(messages));
        Ok(names)
    }
}

/// A JSON text that is of this kind.
fn parsed(json: &str, kind: ValueKind) -> Option<Value> {
    serde_json::from_str::<Value>(json).ok().filter(|value| value.kind() == kind)
}

/// A message. The role is one of four words of our own.
fn turn(message: &ChatMessage, mark: &Mark<'_>) -> Value {
    let mut fields = vec![("role", Value::from(role(message.role))), ("content", mark.words(message.text()))];
    fields.extend(message.reasoning_content.as_ref().map(|text| ("reasoning_content", mark.words(text))));
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.iter().map(|call| {
            let arguments = match parsed(&call.arguments, ValueKind::Map) {
                Some(arguments) => mark.data(arguments),
                None => mark.words(&call.arguments),
            };
            let function = [("name", mark.words(&call.name)), ("arguments", arguments)];
            let function = Value::from_pairs(function);
            Value::from_pairs([("id", mark.words(&call.id)), ("type", Value::from("function")), ("function", function)])
        });
        fields.push(("tool_calls", calls.collect::<Vec<Value>>().into()));
    }
    fields.extend(message.tool_call_id.as_ref().map(|id| ("tool_call_id", mark.words(id))));
    fields.extend(message.name.as_ref().map(|name| ("name", mark.words(name))));
    Value::from_pairs(fields)
}

fn role(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

/// The content of the user's last message, or of the last one if the user has said nothing.
pub(super) fn said_last(messages: &[ChatMessage]) -> &str {
    let said = messages.iter().rev().find(|message| message.role == Role::User).or(messages.last());
    said.map(ChatMessage::text).unwrap_or_default()
}
