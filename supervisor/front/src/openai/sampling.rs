//! The parameters that chats and completions share: how long, how chosen, where to end.
use crate::{
    json::{Fields, is_empty, not_served, whole},
    reply::Refusal,
};
use ipc::Sampling;
use serde_json::Value;

/// Most choices of one request.
const MOST_CHOICES: i64 = 8;

/// How tokens are chosen.
pub(super) fn sampling(fields: &mut Fields) -> Result<Sampling, Refusal> {
    let seed = fields.integer("seed", i64::MIN..=i64::MAX)?;
    Ok(Sampling {
        // OpenAI's defaults, which are not those of the client conversation.
        temperature: fields.number("temperature", 0.0..=2.0)?.unwrap_or(1.0),
        top_p: fields.number("top_p", 0.0..=1.0)?.unwrap_or(1.0),
        top_k: fields.integer("top_k", 0..=i64::from(u32::MAX))?.map_or(0, |top| u32::try_from(top).unwrap_or(0)),
        min_p: fields.number("min_p", 0.0..=1.0)?.unwrap_or(0.0),
        // Any seed is one; which, is only for whoever asks again.
        seed: seed.map(i64::cast_unsigned),
        repeat_penalty: fields.number("repeat_penalty", 0.01..=100.0)?.unwrap_or(1.0),
        frequency_penalty: fields.number("frequency_penalty", -2.0..=2.0)?.unwrap_or(0.0),
        presence_penalty: fields.number("presence_penalty", -2.0..=2.0)?.unwrap_or(0.0),
    })
}

/// A string or a list of them.
pub(super) fn stops(fields: &mut Fields) -> Result<Vec<String>, Refusal> {
    let wrong = || Refusal::value("stop", "stop must be a string or a list of at most 16 strings of 1 to 256 bytes");
    let stops = match fields.take("stop") {
        None => Vec::new(),
        Some(Value::String(stop)) => vec![stop],
        Some(Value::Array(list)) => {
            let text = |value: Value| if let Value::String(stop) = value { Ok(stop) } else { Err(wrong()) };
            list.into_iter().map(text).collect::<Result<_, _>>()?
        }
        Some(_) => return Err(wrong()),
    };
    let fits = stops.len() <= 16 && stops.iter().all(|stop| (1..=256).contains(&stop.len()));
    if fits { Ok(stops) } else { Err(wrong()) }
}

/// What nobody here serves, and what many send all the same because it says what holds anyway.
pub(super) fn neutral(fields: &mut Fields) -> Result<(), Refusal> {
    if fields.integer("n", 1..=MOST_CHOICES)?.is_some_and(|choices| choices != 1) {
        return Err(not_served("n"));
    }
    fields.neutral("logit_bias", is_empty)?;
    fields.neutral("best_of", |value| whole(value) == Some(1))?;
    fields.inert(&["user", "metadata", "store", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"]);
    fields.inert(&["cache_salt", "client_metadata"]);
    fields.neutral("service_tier", |tier| tier == "auto" || tier == "default")
}

/// Whether it is streamed, and whether the stream ends with the usage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Streaming {
    pub(super) is_on: bool,
    pub(super) includes_usage: bool,
}

pub(super) fn streaming(fields: &mut Fields) -> Result<Streaming, Refusal> {
    let is_on = fields.boolean("stream")?.unwrap_or(false);
    let Some(options) = fields.object("stream_options")? else { return Ok(Streaming { is_on, includes_usage: false }) };
    if !is_on {
        return Err(Refusal::value("stream_options", "stream_options is for a request with stream: true"));
    }
    let mut options = Fields::new(options);
    let includes_usage = options.boolean("include_usage")?.unwrap_or(false);
    options.inert(&["include_obfuscation"]);
    options.finish()?;
    Ok(Streaming { is_on, includes_usage })
}
