//! `POST /v1/chat/completions`.
use super::{
    FINGERPRINT,
    generation::{Dialect, Ended, Generation},
    messages::messages,
    model_name, now,
    sampling::{neutral, sampling, stops, streaming},
    usage,
};
use crate::{
    caller::unique,
    json::{Fields, is_empty, not_served},
    reply::Refusal,
};
use ipc::{GenerateRequest, Prompt};
use serde_json::{Map, Value, json};

/// What a chat asks for.
pub(crate) fn request(map: Map<String, Value>) -> Result<Generation, Refusal> {
    let mut fields = Fields::new(map);
    let mut asked = GenerateRequest::new(Prompt::Chat(messages(&mut fields)?));
    asked.model = model_name(fields.string("model")?);
    asked.max_tokens = max_tokens(&mut fields)?;
    asked.sampling = sampling(&mut fields)?;
    asked.stop = stops(&mut fields)?;
    asked.ignore_end = fields.boolean("ignore_eos")?.unwrap_or(false);
    if let Some(vars) = fields.object("chat_template_kwargs")? {
        asked.template_vars = vars;
    }
    let streaming = streaming(&mut fields)?;
    neutral(&mut fields)?;
    fields.neutral("logprobs", is_empty)?;
    fields.neutral("top_logprobs", |_| false)?;
    fields.neutral("tools", is_empty)?;
    fields.neutral("tool_choice", |choice| choice == "none" || choice == "auto")?;
    fields.neutral("functions", is_empty)?;
    fields.neutral("function_call", |choice| choice == "none" || choice == "auto")?;
    fields.neutral("modalities", |value| *value == json!(["text"]))?;
    for name in ["audio", "moderation", "web_search_options"] {
        fields.neutral(name, is_empty)?;
    }
    fields.inert(&["parallel_tool_calls", "verbosity", "prediction", "reasoning_effort"]);
    response_format(&mut fields)?;
    fields.finish()?;
    asked.validate().map_err(|invalid| Refusal::value("messages", invalid.to_string()))?;
    let names = Chat { id: unique("chatcmpl-"), created: now() };
    Ok(Generation { asked, streaming, dialect: Dialect::Chat(names) })
}

fn max_tokens(fields: &mut Fields) -> Result<Option<u32>, Refusal> {
    let most = i64::from(u32::MAX);
    let newer = fields.integer("max_completion_tokens", 1..=most)?;
    let older = fields.integer("max_tokens", 1..=most)?;
    if newer.is_some() && older.is_some() && newer != older {
        let message = "max_tokens is the old name of max_completion_tokens, and the two differ";
        return Err(Refusal::value("max_tokens", message));
    }
    Ok(newer.or(older).and_then(|most| u32::try_from(most).ok()))
}

fn response_format(fields: &mut Fields) -> Result<(), Refusal> {
    let Some(format) = fields.object("response_format")? else { return Ok(()) };
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(()),
        Some("json_object" | "json_schema") => Err(not_served("response_format")),
        _ => {
            Err(Refusal::value("response_format.type", "response_format.type must be text, json_object or json_schema"))
        }
    }
}

/// What is the same in all parts of one answer.
#[derive(Debug)]
pub(crate) struct Chat {
    id: String,
    created: u64,
}

impl Chat {
    fn whole(&self, object: &str, model: &str) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("id".to_owned(), self.id.clone().into());
        map.insert("object".to_owned(), object.into());
        map.insert("created".to_owned(), self.created.into());
        map.insert("model".to_owned(), model.into());
        map.insert("system_fingerprint".to_owned(), FINGERPRINT.into());
        map
    }

    /// The whole answer.
    pub(super) fn answer(&self, model: &str, text: &str, ended: &Ended) -> Value {
        let mut map = self.whole("chat.completion", model);
        let message = json!({"role": "assistant", "content": text, "refusal": null});
        let choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": ended.finish});
        map.insert("choices".to_owned(), json!([choice]));
        map.insert("usage".to_owned(), usage(ended.prompt_tokens, ended.completion_tokens));
        map.into()
    }

    fn chunk(&self, model: &str, delta: &Value, finish: Option<&str>, includes_usage: bool) -> Value {
        let mut map = self.whole("chat.completion.chunk", model);
        let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish});
        map.insert("choices".to_owned(), json!([choice]));
        if includes_usage {
            map.insert("usage".to_owned(), Value::Null);
        }
        map.into()
    }

    /// The first event of a stream.
    pub(super) fn first(&self, model: &str, includes_usage: bool) -> Value {
        self.chunk(model, &json!({"role": "assistant", "content": ""}), None, includes_usage)
    }

    pub(super) fn piece(&self, model: &str, text: &str, includes_usage: bool) -> Value {
        self.chunk(model, &json!({"content": text}), None, includes_usage)
    }

    pub(super) fn last(&self, model: &str, finish: &str, includes_usage: bool) -> Value {
        self.chunk(model, &json!({}), Some(finish), includes_usage)
    }

    pub(super) fn usage(&self, model: &str, ended: &Ended) -> Value {
        let mut map = self.whole("chat.completion.chunk", model);
        map.insert("choices".to_owned(), json!([]));
        map.insert("usage".to_owned(), usage(ended.prompt_tokens, ended.completion_tokens));
        map.into()
    }
}
