//! What the supervisor and a template tell each other.
use crate::Life;
use serde::{Deserialize, Serialize};

/// The supervisor's message to a template.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToTemplate {
    /// Load this model and warm it up.
    Load(ModelSpec),
    /// Fork one worker. The packet carries its socket, its board and its stderr, in this order.
    Fork(Life),
}

/// Which model to load, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelSpec {
    /// The model's name, for messages and the process's title.
    pub name: String,
    /// A GGUF file, or `builtin:…`.
    pub path: String,
    /// Most tokens of prompt and answer together; the model's own limit if `None`.
    pub context: Option<u32>,
    /// Refuse to serve a file with another SHA-256, in hexadecimal.
    pub sha256: Option<String>,
}

/// A template's message to the supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromTemplate {
    /// The model is loaded and warm; workers can be forked.
    Ready(ModelInfo),
    /// The model cannot be loaded; the template exits.
    LoadFailed {
        /// One sentence.
        message: String,
    },
    /// A worker lives.
    Forked(Forked),
    /// No worker was made.
    ForkFailed {
        /// Which one.
        life: Life,
        /// Why not.
        message: String,
    },
}

/// A worker that a template forked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forked {
    /// Which one.
    pub life: Life,
    /// Its pid; the supervisor is its parent by now.
    pub pid: u32,
}

/// What a template found out about its model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// The architecture that the file names.
    pub architecture: String,
    /// Tokens of prompt and answer together that a worker serves.
    pub context: u32,
    /// Whether it has a chat template.
    pub chat: bool,
    /// Milliseconds from the template's start until it was warm.
    pub load_ms: u64,
    /// Tokens of a prompt that go through the model at once.
    pub chunk: u32,
}
