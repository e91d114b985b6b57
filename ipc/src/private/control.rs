//! What the supervisor and a template tell each other.
use crate::{Life, ModelSource, Sandbox};
use serde::{Deserialize, Serialize};

/// The supervisor's message to a template.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToTemplate {
    /// Load this model and warm it up.
    Load(ModelSpec),
    /// Fork one worker. The packet carries its socket, its board and its stderr, in this order.
    Fork(Life),
    /// There is memory for what [`FromTemplate::Needs`] says: read the weights.
    Admit,
}

/// Which model to load, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelSpec {
    /// The model's name, for messages and the process's title.
    pub name: String,
    /// What it is read from.
    pub source: ModelSource,
    /// Most tokens of prompt and answer together; the model's own limit if `None`.
    pub context: Option<u32>,
    /// Refuse to serve a file with another SHA-256, in hexadecimal.
    pub sha256: Option<String>,
    /// Most threads that a worker will compute with.
    pub threads: u32,
    /// What an embedding model computes in.
    pub precision: Precision,
}

impl ModelSpec {
    /// A model by its name and path, on one thread, with its own limits.
    pub fn new(name: impl Into<String>, path: impl AsRef<str>) -> ModelSpec {
        let (name, source) = (name.into(), ModelSource::parse(path.as_ref()));
        ModelSpec { name, source, context: None, sha256: None, threads: 1, precision: Precision::F32 }
    }
}

/// What an embedding model computes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floating point, as the model was made.
    #[default]
    F32,
    /// Weights and activations in 8-bit blocks with a scale each; sums in 32 bits.
    Int8,
}

/// What a model does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    /// It continues texts.
    Generate,
    /// It turns texts into vectors.
    Embed,
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
        /// Whether the system had no room for another process, which passes.
        is_shortage: bool,
    },
    /// What the model will take, said before its weights are read. The template waits for
    /// [`ToTemplate::Admit`].
    Needs(Needs),
}

/// What a model takes of the machine's memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// The weights, in the form that they are computed with.
    pub weights: u64,
    /// The cache of one request; 0 if the model keeps none.
    pub cache: u64,
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
    /// What it does.
    pub kind: ModelKind,
    /// Bytes of the cache that one request needs; 0 if the model keeps none.
    pub cache: u64,
    /// Bytes of the model's files.
    pub weights: u64,
    /// The length of its vectors; 0 if it makes none.
    pub dimensions: u32,
    /// What has confined the template since before it read the model.
    pub sandbox: Sandbox,
    /// What is wrong with the model's files and does not keep it from being served, in sentences.
    pub remarks: Vec<String>,
}
