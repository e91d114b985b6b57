//! Which path does what, and what is looked at before any of them does it.
use crate::{
    access::{Origin, is_preflight},
    caller::{patience, request_name},
    json::parse,
    openai,
    reply::{Code, Refusal, Reply, finish, json_reply, reply},
    server::{Context, Server},
};
use hyper::{HeaderMap, Method, Request, StatusCode, body::Incoming, header, http::HeaderValue};
use ipc::{
    Caller, Response,
    status::{ModelStatus, Status, WorkerStatus},
};
use serde_json::json;
use std::{sync::Arc, time::Duration};

/// What a path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Health,
    Ready,
    Status,
    Models,
    Model,
    Chat,
    Completions,
    Embeddings,
}

impl Route {
    fn of(path: &str) -> Option<Route> {
        Some(match path {
            "/health" => Route::Health,
            "/ready" => Route::Ready,
            "/status" => Route::Status,
            "/v1/models" => Route::Models,
            "/v1/chat/completions" => Route::Chat,
            "/v1/completions" => Route::Completions,
            "/v1/embeddings" => Route::Embeddings,
            // A model's name may hold slashes.
            _ if path.strip_prefix(MODEL).is_some_and(|name| !name.is_empty()) => Route::Model,
            _ => return None,
        })
    }

    fn takes(self, method: &Method) -> bool {
        match self {
            Route::Chat | Route::Completions | Route::Embeddings => method == Method::POST,
            _ => method == Method::GET || method == Method::HEAD,
        }
    }

    /// Whether anybody may ask.
    fn is_open(self) -> bool {
        matches!(self, Route::Health | Route::Ready)
    }
}

const MODEL: &str = "/v1/models/";

/// The answer to a request, whatever it is.
pub(crate) async fn answer(server: &Arc<Server>, request: Request<Incoming>, origin: Origin) -> Reply {
    server.link.count(|counts| counts.requests += 1);
    let name = request_name(request.headers());
    let page = server.access.origin(request.headers()).map(|page| page.map(str::to_owned));
    let (page, refused) = match page {
        Ok(page) => (page, None),
        Err(refusal) => (None, Some(refusal)),
    };
    let answered = match refused {
        Some(refusal) => Err(refusal),
        None => serve(server, request, origin, &name).await,
    };
    let mut reply = answered.unwrap_or_else(|refusal| refusal.reply());
    finish(&mut reply, &name, page.as_deref());
    reply
}

async fn serve(server: &Arc<Server>, request: Request<Incoming>, origin: Origin, name: &str) -> Result<Reply, Refusal> {
    let (head, body) = request.into_parts();
    if is_preflight(&head.method, &head.headers) {
        return Ok(preflight(&head.headers));
    }
    let route = Route::of(head.uri.path()).ok_or_else(|| {
        let path: String = head.uri.path().chars().take(128).collect();
        Refusal::new(Code::NotFound, format!("there is nothing at {path:?}; this is an OpenAI API, as in /v1/models"))
    })?;
    if !route.takes(&head.method) {
        let mut refused = Refusal::new(Code::Method, "this path is not for this method").reply();
        let allowed = if route.takes(&Method::GET) { "GET, HEAD" } else { "POST" };
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
        return Ok(refused);
    }
    if route == Route::Health {
        return Ok(json_reply(StatusCode::OK, &json!({"status": "ok"})));
    }
    if !route.is_open() {
        server.access.check_host(origin, &head.headers)?;
    }
    let owner = if route.is_open() { None } else { Some(server.access.owner(origin, &head.headers)?) };
    let address = match origin {
        Origin::Address(address) => address.to_canonical().to_string(),
        Origin::User(_) => String::new(),
    };
    let caller = Caller {
        owner: owner.as_ref().map(|owner| owner.name.clone()).unwrap_or_default(),
        address,
        http_request: name.to_owned(),
        patience_ms: patience(&head.headers),
    };
    let Some(owner) = owner else { return ready(&status(server, &caller).await?) };
    let context = Context { server: Arc::clone(server), owner, caller };
    match route {
        Route::Health | Route::Ready => ready(&status(server, &context.caller).await?),
        Route::Status => Ok(shown(&status(server, &context.caller).await?, &context)),
        Route::Models => Ok(openai::models::list(&status(server, &context.caller).await?)),
        Route::Model => {
            let name = head.uri.path().strip_prefix(MODEL).unwrap_or_default();
            openai::models::find(&status(server, &context.caller).await?, &unescaped(name))
        }
        Route::Chat | Route::Completions | Route::Embeddings => {
            server.bodies.check(&head.headers)?;
            let held = server.bodies.read(body).await?;
            let map = parse(&held.bytes)?;
            drop(held);
            match route {
                Route::Embeddings => openai::embeddings::request(map)?.answer(&context).await,
                Route::Completions => openai::completions::request(map)?.answer(&context).await,
                _ => openai::chat::request(map)?.answer(&context).await,
            }
        }
    }
}

/// What a browser is told that asks whether it may ask.
fn preflight(headers: &HeaderMap) -> Reply {
    let mut allowed = reply(StatusCode::NO_CONTENT, "text/plain", "");
    let out = allowed.headers_mut();
    out.remove(header::CONTENT_TYPE);
    out.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    out.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    if let Some(wanted) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        out.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    allowed
}

async fn status(server: &Arc<Server>, caller: &Caller) -> Result<Status, Refusal> {
    let mut exchange = server.link.ask(caller, ipc::Request::Status).await?;
    match exchange.next().await? {
        Response::Status(status) => Ok(*status),
        _ => Err(Refusal::new(Code::Failed, "the supervisor has said what nobody understands")),
    }
}

/// Whether a request would be served.
fn ready(status: &Status) -> Result<Reply, Refusal> {
    let is_there = |model: &ModelStatus| matches!(model.state.as_str(), "warm" | "cold");
    let is_serving = matches!(status.state.as_str(), "serving" | "reloading");
    if is_serving && status.models.iter().any(is_there) {
        return Ok(json_reply(StatusCode::OK, &json!({"status": "ready"})));
    }
    let message = match status.state.as_str() {
        "serving" | "reloading" => "no model can be served yet".to_owned(),
        state => format!("the supervisor is {state}"),
    };
    let retry_after = Some(Duration::from_secs(1));
    Err(Refusal { retry_after, ..Refusal::new(Code::Unavailable, message) })
}

/// The status, without what a process wrote or where files lie, and with the requests of whoever
/// asks only.
fn shown(status: &Status, context: &Context) -> Reply {
    let mut status = status.clone();
    for model in &mut status.models {
        model.path = model.path.rsplit('/').next().unwrap_or_default().to_owned();
        model.error = model.error.take().map(|_| "see `supervisor status` on the host".to_owned());
        if let Some(crash) = &mut model.last_crash {
            crash.stderr.clear();
        }
        if !context.owner.is_admin {
            let is_others = |worker: &&mut WorkerStatus| worker.owner.as_ref() != Some(&context.owner.name);
            for worker in model.workers.iter_mut().filter(is_others) {
                (worker.request, worker.owner) = (None, None);
            }
            if let Some(crash) = &mut model.last_crash {
                crash.request = None;
            }
        }
    }
    status.reload_error = status.reload_error.map(|_| "see `supervisor status` on the host".to_owned());
    json_reply(StatusCode::OK, &serde_json::to_value(&status).unwrap_or_default())
}

/// A part of a path with its escapes undone.
fn unescaped(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).and_then(|digits| str::from_utf8(digits).ok());
        let escaped = digits.filter(|_| bytes[at] == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_exact_but_for_models_names() {
        assert_eq!(Route::of("/v1/chat/completions"), Some(Route::Chat));
        assert_eq!(Route::of("/v1/models/org/name"), Some(Route::Model));
        for path in ["/", "/v1/models/", "/v1/chat/completions/", "//health", "/V1/models", ""] {
            assert_eq!(Route::of(path), None, "{path}");
        }
        assert_eq!(unescaped("a%2Fb%20c%zz%"), "a/b c%zz%");
    }
}
