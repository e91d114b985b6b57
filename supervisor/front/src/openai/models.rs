//! `GET /v1/models`.
use super::now;
use crate::reply::{Code, Refusal, Reply, json_reply};
use hyper::StatusCode;
use ipc::status::{ModelStatus, Status};
use serde_json::{Value, json};

/// All models that are served.
pub(crate) fn list(status: &Status) -> Reply {
    let models = served(status);
    let data: Vec<Value> = models.map(|model| one(model, status)).collect();
    let id = |value: Option<&Value>| value.map_or(Value::Null, |value| value["id"].clone());
    let (first, last) = (id(data.first()), id(data.last()));
    let value = json!({"object": "list", "data": data, "has_more": false, "first_id": first, "last_id": last});
    json_reply(StatusCode::OK, &value)
}

/// One of them.
pub(crate) fn find(status: &Status, name: &str) -> Result<Reply, Refusal> {
    let wanted = name.strip_suffix(":latest").unwrap_or(name);
    let found = served(status).find(|model| model.name == wanted);
    let missing = || {
        let shown: String = name.chars().take(64).collect();
        Refusal::new(Code::ModelNotFound, format!("there is no model {shown:?}; /v1/models lists them"))
    };
    Ok(json_reply(StatusCode::OK, &one(found.ok_or_else(missing)?, status)))
}

fn served(status: &Status) -> impl Iterator<Item = &ModelStatus> {
    status.models.iter().filter(|model| model.state != "draining")
}

fn one(model: &ModelStatus, status: &Status) -> Value {
    // When the daemon began is as old as a model can be here.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of a daemon's life")]
    let created = now().saturating_sub(status.uptime_s as u64);
    json!({
        "id": model.name,
        "object": "model",
        "type": "model",
        "created": created,
        "owned_by": "supervisor",
        "display_name": model.name,
        "context_length": model.context,
        "max_model_len": model.context,
    })
}
