//! OpenAI's API: its requests to those of the client conversation, and answers back.
//!
//! Each parameter is served, inert (it cannot change the answer) or neutral only (refused unless it
//! says what holds anyway). The facts are those of OpenAI's own libraries.
pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod embeddings;
mod generation;
mod messages;
pub(crate) mod models;
mod sampling;

use serde_json::{Value, json};

/// What `system_fingerprint` says: the same build answers alike.
const FINGERPRINT: &str = concat!("supervisor-", env!("CARGO_PKG_VERSION"));

/// What is asked of the supervisor.
pub(crate) fn asked(generation: generation::Generation) -> ipc::Request {
    ipc::Request::Generate(Box::new(generation.asked))
}

/// Seconds since 1970, as `created` wants them.
#[expect(clippy::disallowed_methods, reason = "it is for people")]
fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}

/// A model's name: what follows a colon as a tag of `latest` means nothing.
fn model_name(name: Option<String>) -> Option<String> {
    name.filter(|name| !name.is_empty()).map(|name| name.strip_suffix(":latest").map_or(name.clone(), str::to_owned))
}

fn usage(prompt_tokens: u32, completion_tokens: u32) -> Value {
    json!({
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": u64::from(prompt_tokens) + u64::from(completion_tokens),
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    })
}
