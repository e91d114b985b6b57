//! Identities that both sides of a socket name.
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// One request, unique in the life of a supervisor. Shown as `req-17`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "req-{}", self.0)
    }
}

impl FromStr for RequestId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<RequestId, Self::Err> {
        text.strip_prefix("req-").unwrap_or(text).parse().map(RequestId)
    }
}

/// One life of one worker slot. A slot's lives are numbered from 1, so that a late message from a
/// dead worker is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Life {
    /// The worker slot of its model, from 0.
    pub slot: u32,
    /// Which life of that slot, from 1.
    pub generation: u64,
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}
