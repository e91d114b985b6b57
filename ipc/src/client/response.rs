//! What the supervisor tells a client.
use super::vectors;
use crate::{RequestId, status::Status};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The supervisor's message to a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", expecting = "a response")]
pub enum Response {
    /// The request was admitted; it runs or waits for a worker.
    Accepted {
        /// The number that the status and the log call it by.
        request: RequestId,
        /// The model that serves it.
        model: String,
    },
    /// A worker has read the prompt and begins to compute. Only the front is told.
    Started {
        /// Tokens of the prompt.
        prompt_tokens: u32,
    },
    /// The next token of the answer.
    Piece {
        /// Its text; empty while a character or a possible stop string is incomplete.
        text: String,
        /// Its id.
        token: u32,
    },
    /// The answer is complete.
    Done(Done),
    /// The request has ended without a complete answer.
    Failed(Failure),
    /// What runs.
    Status(Box<Status>),
    /// The vectors of some of the texts, in the order of the request and without gaps.
    Vectors {
        /// The index of the first of these texts in the request.
        first: u32,
        /// One vector for each text.
        #[serde(with = "vectors")]
        vectors: Vec<Vec<f32>>,
    },
    /// All texts are embedded.
    Embedded(Embedded),
    /// The ids of the text.
    Tokenized {
        /// The ids.
        ids: Vec<u32>,
    },
    /// One line for people on what becomes of a [`Control`](crate::Control).
    Notice(String),
    /// What the [`Control`](crate::Control) asked for is done.
    Controlled,
    /// A kind of message that a newer daemon sends, by its name. Clients go on to the next message.
    /// It is never sent.
    #[serde(skip)]
    Other(String),
}

impl Response {
    /// The names of the kinds that are known.
    pub(super) const KINDS: [&'static str; 11] = [
        "accepted",
        "started",
        "piece",
        "done",
        "failed",
        "status",
        "vectors",
        "embedded",
        "tokenized",
        "notice",
        "controlled",
    ];
}

/// How a batch of texts was embedded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Embedded {
    /// How many texts there were.
    pub texts: u32,
    /// Tokens that the model read.
    pub tokens: u64,
    /// Parts that the batch was split into.
    pub parts: u32,
    /// Workers that served it: 1 for each part, and 1 more for each that died.
    pub attempts: u32,
    /// Microseconds from the request's arrival to its first dispatch.
    pub wait_us: u64,
    /// Microseconds from the request's arrival to its end.
    pub total_us: u64,
}

/// How an answer ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Text that had been held back as the possible beginning of a stop string.
    pub text: String,
    /// Why it ended.
    pub finish: FinishReason,
    /// Tokens that the model read.
    pub prompt_tokens: u32,
    /// Tokens of the answer, the end token not among them.
    pub completion_tokens: u32,
    /// Workers that served it: 1, and 1 more for each that died.
    pub attempts: u32,
    /// The seed that gives the same answer again.
    pub seed: u64,
    /// Microseconds from the request's arrival to its first dispatch.
    pub wait_us: u64,
    /// Microseconds from the request's arrival to its first token, by the worker's clock.
    pub first_piece_us: u64,
    /// Microseconds from the request's arrival to its last token, by the worker's clock, if it has
    /// any. Pieces are sent together, so that a client's own clock says little of a small model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_piece_us: Option<u64>,
    /// Microseconds from the request's arrival to its end.
    pub total_us: u64,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// The model ended it, or a stop string came.
    Stop,
    /// The limit of tokens or of the context was reached.
    Length,
    /// A reason that only a newer daemon knows.
    #[serde(other)]
    Other,
}

/// Why a request has no complete answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of reason, for programs.
    pub kind: FailureKind,
    /// One sentence, for people.
    pub message: String,
    /// When it may be worth trying again, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// Kinds of [`Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The request is wrong and will stay so.
    BadRequest,
    /// The message is no frame of this protocol or of another version.
    Protocol,
    /// The peer may not use this socket.
    NotAllowed,
    /// No model of that name.
    UnknownModel,
    /// The prompt does not fit into the context.
    TooLong,
    /// The queue is full.
    Busy,
    /// The model is not there: loading failed, or its workers crash in a loop.
    Unavailable,
    /// It waited or ran longer than it may.
    TimedOut,
    /// As many workers died under it as may.
    WorkersDied,
    /// It was refused because workers died under the same request before.
    Poisonous,
    /// The supervisor is shutting down.
    ShuttingDown,
    /// The model could not compute it.
    Engine,
    /// The client was too slow or went away.
    Cancelled,
    /// The supervisor is draining: it finishes what was begun and begins nothing.
    Draining,
    /// The model has changed in the middle of the answer, so that nobody can go on with it.
    ModelChanged,
    /// A reason that only a newer daemon knows; the message says it.
    #[serde(other)]
    Other,
}

impl Failure {
    /// A failure without advice on when to try again.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Failure {
        Failure { kind, message: message.into(), retry_after_ms: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
