//! Answers: their heads, errors in OpenAI's shape, and bodies that are sent as they come.
use bytes::Bytes;
use http_body_util::{Full, combinators::BoxBody};
use hyper::{
    HeaderMap, Response, StatusCode,
    body::{Body, Frame},
    header::{self, HeaderName, HeaderValue},
};
use ipc::{Failure, FailureKind};
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::mpsc;

/// An answer.
pub(crate) type Reply = Response<BoxBody<Bytes, Infallible>>;

/// Why a request is not answered with what it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// The request is wrong as HTTP, or its body is no JSON.
    BadRequest,
    /// A parameter has a value that it may not have.
    InvalidValue,
    /// There is no such parameter, or it is not served.
    UnknownParameter,
    /// There is no such key, or none was shown.
    InvalidApiKey,
    /// Who asks may not.
    Forbidden,
    /// There is no such path.
    NotFound,
    /// There is no such model.
    ModelNotFound,
    /// The path is not for this method.
    Method,
    /// The body is too long.
    TooLarge,
    /// The body did not come in time.
    TooSlow,
    /// The body is compressed.
    Encoded,
    /// The prompt does not fit.
    ContextLength,
    /// Workers died under it.
    Poisonous,
    /// The queue is full.
    QueueFull,
    /// It cannot be served now.
    Unavailable,
    /// It waited too long.
    QueueTimeout,
    /// It ran too long.
    RequestTimeout,
    /// It could not be computed.
    Failed,
}

impl Code {
    fn status(self) -> StatusCode {
        match self {
            Code::BadRequest | Code::InvalidValue | Code::UnknownParameter | Code::ContextLength => {
                StatusCode::BAD_REQUEST
            }
            Code::InvalidApiKey => StatusCode::UNAUTHORIZED,
            Code::Forbidden => StatusCode::FORBIDDEN,
            Code::NotFound | Code::ModelNotFound => StatusCode::NOT_FOUND,
            Code::Method => StatusCode::METHOD_NOT_ALLOWED,
            Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Code::Encoded => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::Poisonous => StatusCode::UNPROCESSABLE_ENTITY,
            Code::QueueFull => StatusCode::TOO_MANY_REQUESTS,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::QueueTimeout | Code::RequestTimeout => StatusCode::GATEWAY_TIMEOUT,
            Code::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// OpenAI's name of the kind of error, and of the error.
    fn names(self) -> (&'static str, Option<&'static str>) {
        const INVALID: &str = "invalid_request_error";
        match self {
            Code::BadRequest | Code::NotFound | Code::Method | Code::TooLarge | Code::TooSlow | Code::Encoded => {
                (INVALID, None)
            }
            Code::InvalidValue => (INVALID, Some("invalid_value")),
            Code::UnknownParameter => (INVALID, Some("unknown_parameter")),
            Code::ContextLength => (INVALID, Some("context_length_exceeded")),
            Code::ModelNotFound => (INVALID, Some("model_not_found")),
            Code::Poisonous => (INVALID, Some("poisonous")),
            Code::InvalidApiKey => ("authentication_error", Some("invalid_api_key")),
            Code::Forbidden => ("permission_error", None),
            Code::QueueFull => ("rate_limit_error", Some("queue_full")),
            Code::QueueTimeout | Code::RequestTimeout => ("timeout_error", None),
            Code::Unavailable | Code::Failed => ("server_error", None),
        }
    }

    /// Whether trying again may help; `None` leaves it to the client, who then looks at the status.
    fn may_be_retried(self) -> Option<bool> {
        match self {
            Code::QueueFull | Code::Unavailable | Code::QueueTimeout => Some(true),
            Code::RequestTimeout | Code::Failed => Some(false),
            _ => None,
        }
    }
}

/// A request that is not served: why, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) message: String,
    /// The parameter that is wrong.
    pub(crate) param: Option<String>,
    pub(crate) retry_after: Option<Duration>,
    /// Whether the connection ends with it, because nobody knows where the next request begins.
    pub(crate) closes: bool,
}

impl Refusal {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Refusal {
        Refusal { code, message: message.into(), param: None, retry_after: None, closes: false }
    }

    /// A refusal of a parameter's value.
    pub(crate) fn value(param: impl Into<String>, message: impl Into<String>) -> Refusal {
        Refusal { param: Some(param.into()), ..Refusal::new(Code::InvalidValue, message) }
    }

    /// The same, and the connection ends with it.
    pub(crate) fn closing(self) -> Refusal {
        Refusal { closes: true, ..self }
    }

    /// The error as OpenAI's API says it.
    pub(crate) fn json(&self) -> Value {
        let (kind, code) = self.code.names();
        json!({"error": {"message": self.message, "type": kind, "param": self.param, "code": code}})
    }

    /// The answer.
    pub(crate) fn reply(&self) -> Reply {
        let mut reply = json_reply(self.code.status(), &self.json());
        let headers = reply.headers_mut();
        if self.code == Code::InvalidApiKey {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(may) = self.code.may_be_retried() {
            headers.insert("x-should-retry", HeaderValue::from_static(if may { "true" } else { "false" }));
        }
        if let Some(wait) = self.retry_after.filter(|_| self.code.may_be_retried() == Some(true)) {
            // Clients obey no more than a minute.
            let wait = wait.clamp(Duration::from_secs(1), Duration::from_secs(60));
            headers.insert(header::RETRY_AFTER, wait.as_secs_f64().ceil().to_string().parse().unwrap_or(ONE));
            headers.insert("retry-after-ms", wait.as_millis().to_string().parse().unwrap_or(ONE));
        }
        if self.closes {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        reply
    }
}

const ONE: HeaderValue = HeaderValue::from_static("1");

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        let code = match failure.kind {
            FailureKind::BadRequest | FailureKind::Protocol => Code::InvalidValue,
            FailureKind::NotAllowed => Code::Forbidden,
            FailureKind::UnknownModel => Code::ModelNotFound,
            FailureKind::TooLong => Code::ContextLength,
            FailureKind::Busy => Code::QueueFull,
            FailureKind::Unavailable
            | FailureKind::ShuttingDown
            | FailureKind::Draining
            | FailureKind::ModelChanged
            | FailureKind::Cancelled => Code::Unavailable,
            // One that waited in vain may be tried again, and one that ran too long would again.
            FailureKind::TimedOut if failure.retry_after_ms.is_some() => Code::QueueTimeout,
            FailureKind::TimedOut => Code::RequestTimeout,
            FailureKind::WorkersDied | FailureKind::Engine | FailureKind::Other => Code::Failed,
            FailureKind::Poisonous => Code::Poisonous,
        };
        let retry_after = failure.retry_after_ms.map(Duration::from_millis);
        Refusal { retry_after, ..Refusal::new(code, failure.message) }
    }
}

/// An answer of this JSON.
pub(crate) fn json_reply(status: StatusCode, value: &Value) -> Reply {
    reply(status, "application/json", value.to_string())
}

/// An answer of this text.
pub(crate) fn reply(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(BoxBody::new(Full::new(text.into())));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

/// An answer of server-sent events, which come from `events`.
pub(crate) fn event_stream(events: mpsc::Receiver<Bytes>) -> Reply {
    let mut reply = Response::new(BoxBody::new(Events(events)));
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // A proxy in between is not to gather events.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    reply
}

/// One event with this value.
pub(crate) fn event(value: &Value) -> Bytes {
    Bytes::from(format!("data: {value}\n\n"))
}

struct Events(mpsc::Receiver<Bytes>);

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|event| event.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Adds what every answer has: the request's name, and what lets a page read it.
pub(crate) fn finish(reply: &mut Reply, request: &str, origin: Option<&str>) {
    let headers = reply.headers_mut();
    if let Ok(request) = HeaderValue::from_str(request) {
        headers.insert("x-request-id", request);
    }
    allow_origin(headers, origin);
}

/// Lets pages of this origin read the answer.
fn allow_origin(headers: &mut HeaderMap, origin: Option<&str>) {
    let Some(origin) = origin.and_then(|origin| HeaderValue::from_str(origin).ok()) else { return };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    let exposed = HeaderValue::from_static("retry-after, retry-after-ms, x-request-id, x-should-retry");
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
}
