//! `POST /v1/embeddings`.
use super::model_name;
use crate::{
    json::Fields,
    reply::{Code, Refusal, Reply, json_reply},
    server::Context,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::StatusCode;
use ipc::{EmbedRequest, Request, Response, TextRole};
use serde_json::{Map, Value, json};

/// What is asked for, and in which form.
#[derive(Debug)]
pub(crate) struct Embedding {
    asked: EmbedRequest,
    is_base64: bool,
    dimensions: Option<i64>,
}

/// What a request for vectors asks for.
pub(crate) fn request(map: Map<String, Value>) -> Result<Embedding, Refusal> {
    let mut fields = Fields::new(map);
    let texts = texts(&mut fields)?;
    let model = model_name(fields.string("model")?);
    let is_base64 = match fields.string("encoding_format")?.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(Refusal::value("encoding_format", "encoding_format must be float or base64")),
    };
    let dimensions = fields.integer("dimensions", 1..=i64::MAX)?;
    fields.inert(&["user"]);
    fields.finish()?;
    let asked = EmbedRequest { model, texts, role: TextRole::Plain };
    asked.validate().map_err(|invalid| Refusal::value("input", invalid.to_string()))?;
    Ok(Embedding { asked, is_base64, dimensions })
}

fn texts(fields: &mut Fields) -> Result<Vec<String>, Refusal> {
    let wrong = |message: String| Err(Refusal::value("input", message));
    let texts = match fields.take("input") {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(list)) => {
            if list.first().is_some_and(|first| first.is_number() || first.is_array()) {
                return wrong(
                    "input of ids is not served; send texts (LangChain does with check_embedding_ctx_length=False)"
                        .to_owned(),
                );
            }
            let text = |(index, value)| match value {
                Value::String(text) => Ok(text),
                _ => Err(Refusal::value(format!("input[{index}]"), "input must be a string or a list of strings")),
            };
            list.into_iter().enumerate().map(text).collect::<Result<_, _>>()?
        }
        _ => return wrong("input must be a string or a list of strings".to_owned()),
    };
    if texts.is_empty() {
        return wrong("input is empty".to_owned());
    }
    if let Some(index) = texts.iter().position(String::is_empty) {
        return wrong(format!("input[{index}] is an empty text"));
    }
    Ok(texts)
}

impl Embedding {
    /// What is asked of the supervisor.
    pub(crate) fn into_request(self) -> EmbedRequest {
        self.asked
    }

    pub(crate) async fn answer(self, context: &Context) -> Result<Reply, Refusal> {
        let Embedding { asked, is_base64, dimensions } = self;
        let mut exchange = context.link().ask(&context.caller, Request::Embed(Box::new(asked))).await?;
        let mut model = String::new();
        let mut data: Vec<Value> = Vec::new();
        loop {
            match exchange.next().await? {
                Response::Accepted { model: name, .. } => model = name,
                Response::Vectors { vectors, .. } => {
                    for vector in vectors {
                        let own = i64::try_from(vector.len()).unwrap_or(i64::MAX);
                        if dimensions.is_some_and(|wanted| wanted != own) {
                            let message = format!("vectors of {model} have {own} dimensions and cannot be cut");
                            return Err(Refusal::value("dimensions", message));
                        }
                        let embedding = if is_base64 { encoded(&vector) } else { json!(vector) };
                        data.push(json!({"object": "embedding", "index": data.len(), "embedding": embedding}));
                    }
                }
                Response::Embedded(done) => {
                    let usage = json!({"prompt_tokens": done.tokens, "total_tokens": done.tokens});
                    let value = json!({"object": "list", "model": model, "data": data, "usage": usage});
                    return Ok(json_reply(StatusCode::OK, &value));
                }
                _ => return Err(Refusal::new(Code::Failed, "the supervisor has said what nobody understands")),
            }
        }
    }
}

/// A vector as the base64 of its numbers, 32 bits each, the low byte first.
fn encoded(vector: &[f32]) -> Value {
    let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
    STANDARD.encode(bytes).into()
}
