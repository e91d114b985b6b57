//! What the front asks for in others' names. Only on connections that the supervisor has made for
//! it is this understood, and believed.
use super::Request;
use serde::{Deserialize, Serialize};

/// A request, and who asks for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct FrontRequest {
    /// Who asks.
    pub caller: Caller,
    /// What for. Never a [`Request::Control`].
    pub request: Request,
}

/// Who asks by HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct Caller {
    /// Whose request it is, with its kind: `key:ana`, `uid:1000`, `address:192.168.1.7`.
    pub owner: String,
    /// The address that it came from; empty on a Unix socket.
    pub address: String,
    /// Its X-Request-Id.
    pub http_request: String,
    /// How many milliseconds it waits, if it says so.
    pub patience_ms: Option<u64>,
}
