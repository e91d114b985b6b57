//! The client conversation: its messages, their form as JSON, and a library that speaks it.
#[cfg(all(feature = "client", feature = "tokio"))]
mod asynchronous;
mod front_request;
mod generate_json;
mod json;
#[cfg(feature = "client")]
mod library;
mod message;
mod request;
mod response;
mod vectors;

#[cfg(all(feature = "client", feature = "tokio"))]
pub use asynchronous::{AsyncAnswer, AsyncClient};
pub use front_request::{Caller, FrontRequest};
pub use generate_json::MessageJson;
pub use json::json_length;
#[cfg(feature = "client")]
pub use library::{Answer, Client, ClientError, SYSTEM_SOCKET, default_socket};
pub use message::{ChatMessage, Content, ContentPart, Prompt, Role, ToolCall};
pub use request::{
    Control, EmbedRequest, GenerateRequest, InvalidRequest, Request, Sampling, TemplateVars, TextRole, TokenizeRequest,
    check_template_var,
};
pub use response::{Done, Embedded, Failure, FailureKind, FinishReason, Response};
