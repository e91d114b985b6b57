//! `POST /v1/completions`: texts that are continued as they are.
use super::{
    FINGERPRINT,
    generation::{Dialect, Ended, Generation},
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

/// How long an answer is if nobody says so.
const USUAL_LENGTH: i64 = 16;

/// What a completion asks for.
pub(crate) fn request(map: Map<String, Value>) -> Result<Generation, Refusal> {
    let mut fields = Fields::new(map);
    let mut asked = GenerateRequest::new(Prompt::Raw(prompt(&mut fields)?));
    asked.model = model_name(fields.string("model")?);
    let most = fields.integer("max_tokens", 1..=i64::from(u32::MAX))?.unwrap_or(USUAL_LENGTH);
    asked.max_tokens = u32::try_from(most).ok();
    asked.sampling = sampling(&mut fields)?;
    asked.stop = stops(&mut fields)?;
    asked.ignore_end = fields.boolean("ignore_eos")?.unwrap_or(false);
    let streaming = streaming(&mut fields)?;
    neutral(&mut fields)?;
    for name in ["logprobs", "echo", "suffix"] {
        fields.neutral(name, is_empty)?;
    }
    fields.finish()?;
    asked.validate().map_err(|invalid| Refusal::value("prompt", invalid.to_string()))?;
    let names = Completion { id: unique("cmpl-"), created: now() };
    Ok(Generation { asked, streaming, dialect: Dialect::Completion(names) })
}

fn prompt(fields: &mut Fields) -> Result<String, Refusal> {
    match fields.take("prompt") {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Array(list)) => match <[Value; 1]>::try_from(list) {
            Ok([Value::String(text)]) => Ok(text),
            Ok(_) => Err(not_served("prompt")),
            Err(list) if list.is_empty() => Err(Refusal::value("prompt", "there is no prompt")),
            Err(_) => {
                let message = "several prompts, or prompts of ids, are not served yet; send one text";
                Err(Refusal::value("prompt", message))
            }
        },
        _ => Err(Refusal::value("prompt", "prompt must be a string")),
    }
}

/// What is the same in all parts of one answer.
#[derive(Debug)]
pub(crate) struct Completion {
    id: String,
    created: u64,
}

impl Completion {
    fn whole(&self, model: &str) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("id".to_owned(), self.id.clone().into());
        map.insert("object".to_owned(), "text_completion".into());
        map.insert("created".to_owned(), self.created.into());
        map.insert("model".to_owned(), model.into());
        map.insert("system_fingerprint".to_owned(), FINGERPRINT.into());
        map
    }

    /// The whole answer.
    pub(super) fn answer(&self, model: &str, text: &str, ended: &Ended) -> Value {
        let mut map = self.whole(model);
        let choice = json!({"text": text, "index": 0, "logprobs": null, "finish_reason": ended.finish});
        map.insert("choices".to_owned(), json!([choice]));
        map.insert("usage".to_owned(), usage(ended.prompt_tokens, ended.completion_tokens));
        map.into()
    }

    pub(super) fn piece(&self, model: &str, text: &str, finish: Option<&str>, includes_usage: bool) -> Value {
        let mut map = self.whole(model);
        let choice = json!({"text": text, "index": 0, "logprobs": null, "finish_reason": finish});
        map.insert("choices".to_owned(), json!([choice]));
        if includes_usage {
            map.insert("usage".to_owned(), Value::Null);
        }
        map.into()
    }

    pub(super) fn usage(&self, model: &str, ended: &Ended) -> Value {
        let mut map = self.whole(model);
        map.insert("choices".to_owned(), json!([]));
        map.insert("usage".to_owned(), usage(ended.prompt_tokens, ended.completion_tokens));
        map.into()
    }
}
