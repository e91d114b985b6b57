//! A conversation as OpenAI's API has it.
use crate::{
    json::{Fields, is_empty},
    reply::Refusal,
};
use ipc::{ChatMessage, Content, Role};
use serde_json::{Map, Value};

/// The messages of a request.
pub(super) fn messages(fields: &mut Fields) -> Result<Vec<ChatMessage>, Refusal> {
    let wrong = || Refusal::value("messages", "messages must be a list of at least one message");
    let Some(Value::Array(list)) = fields.take("messages") else { return Err(wrong()) };
    if list.is_empty() {
        return Err(wrong());
    }
    list.into_iter().enumerate().map(|(index, value)| message(index, value)).collect()
}

fn message(index: usize, value: Value) -> Result<ChatMessage, Refusal> {
    let at = |what: &str| format!("messages[{index}].{what}");
    let Value::Object(mut map) = value else {
        return Err(Refusal::value(format!("messages[{index}]"), "a message must be an object"));
    };
    let role = match map.remove("role").as_ref().and_then(Value::as_str) {
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("tool") => return Err(Refusal::value(at("role"), "messages of the role tool are not served yet")),
        _ => {
            return Err(Refusal::value(at("role"), "a role must be system, developer, user or assistant"));
        }
    };
    for name in ["tool_calls", "reasoning_content", "reasoning", "function_call", "audio"] {
        // An answer's own message comes back with what it did not have.
        if map.remove(name).is_some_and(|value| !is_empty(&value)) {
            return Err(Refusal::value(at(name), format!("{name} in a message is not served yet")));
        }
    }
    let refusal = text_of(&mut map, "refusal");
    let content = match map.remove("content") {
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => joined(index, parts)?,
        None | Some(Value::Null) => match refusal {
            Some(refusal) => refusal,
            None => return Err(Refusal::value(at("content"), "a message must have a content")),
        },
        Some(_) => return Err(Refusal::value(at("content"), "content must be a string or a list of parts")),
    };
    Ok(ChatMessage { content: Content::Text(content), ..ChatMessage::new(role, "") })
}

fn text_of(map: &mut Map<String, Value>, name: &str) -> Option<String> {
    match map.remove(name) {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        _ => None,
    }
}

/// The text of several parts, which nothing separates.
fn joined(index: usize, parts: Vec<Value>) -> Result<String, Refusal> {
    let mut joined = String::new();
    for (number, part) in parts.into_iter().enumerate() {
        let at = format!("messages[{index}].content[{number}]");
        let Value::Object(mut part) = part else {
            return Err(Refusal::value(at, "a part of a content must be an object"));
        };
        let text = match part.remove("type").as_ref().and_then(Value::as_str) {
            Some("text") => part.remove("text"),
            Some("refusal") => part.remove("refusal"),
            Some(kind) => {
                let kind: String = kind.chars().take(32).collect();
                return Err(Refusal::value(at, format!("parts of the type {kind:?} are not served; only text is")));
            }
            None => return Err(Refusal::value(at, "a part must have a type")),
        };
        let Some(Value::String(text)) = text else {
            return Err(Refusal::value(at, "a part of the type text must have a text"));
        };
        joined.push_str(&text);
    }
    Ok(joined)
}
