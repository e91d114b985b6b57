//! What the supervisor and a worker tell each other.
use crate::{FailureKind, FinishReason, Prompt, RequestId, Sampling, TextRole};
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

/// The supervisor's message to a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// The supervisor knows this worker and is its parent: confine yourself and say hello.
    Go(Go),
    /// Generate this. If [`Job::cache`] says so, one descriptor comes with the frame's first byte.
    Run(Box<Job>),
    /// Embed these.
    Embed(Box<EmbedJob>),
    /// Tokenise this.
    Tokenize(Box<TokenizeJob>),
}

/// What a worker must know before it confines itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Go {
    /// The supervisor's pid, which must be the worker's parent by now.
    pub supervisor: u32,
    /// Most private memory that the worker may take, in bytes.
    pub memory: u64,
    /// Whether it exits after its first request.
    pub single: bool,
}

/// One request, as a worker gets it: all that is needed to begin it, or to go on with it where a
/// dead worker left it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The request's number.
    pub request: RequestId,
    /// What the model reads.
    pub prompt: JobPrompt,
    /// Ids that dead workers generated already, in order.
    pub generated: Vec<u32>,
    /// Bytes of text that the client has been sent already.
    pub delivered: u64,
    /// Tokens of the prompt that go through the model at once; the same for all attempts, or the
    /// bits would differ.
    pub chunk: u32,
    /// Most tokens of the answer.
    pub max_tokens: Option<u32>,
    /// How the next token is chosen; its seed is `seed`.
    pub sampling: Sampling,
    /// The seed, always set.
    pub seed: u64,
    /// The answer ends before the first of these.
    pub stop: Vec<String>,
    /// Goes on when the model ends its answer.
    pub ignore_end: bool,
    /// What the chat template can name besides the conversation: a JSON object, or nothing.
    pub template_vars: String,
    /// Whether a cache comes with this message: memory of
    /// [`ModelInfo::cache`](crate::ModelInfo::cache) bytes that belongs to the request. What an
    /// earlier worker of the same request left there is gone on with.
    pub cache: bool,
}

/// A batch of texts to embed, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbedJob {
    /// The request's number.
    pub request: RequestId,
    /// The texts.
    pub texts: Vec<String>,
    /// What the texts are for.
    pub role: TextRole,
}

/// A text to tokenise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenizeJob {
    /// The request's number.
    pub request: RequestId,
    /// The text.
    pub text: String,
    /// Whether special tokens in the text are read as such, and what the model's file wants before
    /// and after a text is added.
    pub special: bool,
}

/// What the model reads: as the client sent it, or as the first worker tokenised it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobPrompt {
    /// To be tokenised, and reported with [`FromWorker::Prompt`].
    Fresh(Arc<Prompt>),
    /// Fixed by an earlier attempt.
    Ids(Vec<u32>),
}

/// A worker's message to the supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromWorker {
    /// Confined and ready.
    Hello {
        /// What confines it.
        sandbox: Sandbox,
    },
    /// The prompt's ids, before the model reads them.
    Prompt {
        /// Which request.
        request: RequestId,
        /// The ids.
        ids: Vec<u32>,
    },
    /// One more token. There is one message for each, also when its text is held back.
    Token {
        /// Which request.
        request: RequestId,
        /// Its position in the answer, from 0.
        index: u32,
        /// Its id.
        id: u32,
        /// Text that has become complete with it.
        text: String,
        /// When it was chosen: microseconds since the worker got the job. Messages are sent
        /// together, so that their arrival says little.
        at_us: u64,
    },
    /// The answer is complete.
    Done {
        /// Which request.
        request: RequestId,
        /// Text that was held back and now turns out to be no stop string.
        text: String,
        /// Why it ended.
        finish: FinishReason,
        /// Tokens read and generated.
        counts: TokenCounts,
    },
    /// The request cannot be served; the worker is well.
    Failed {
        /// Which request.
        request: RequestId,
        /// What kind of reason.
        kind: FailureKind,
        /// One sentence.
        message: String,
    },
    /// The vectors of some of the texts.
    Vectors {
        /// Which request.
        request: RequestId,
        /// The index of the first of these texts in the job. They come in order and without gaps.
        first: u32,
        /// One vector for each text, all of the same length.
        vectors: Vec<Vec<f32>>,
    },
    /// All texts are embedded.
    Embedded {
        /// Which request.
        request: RequestId,
        /// Tokens that the model read.
        tokens: u64,
    },
    /// The ids of a text.
    Tokenized {
        /// Which request.
        request: RequestId,
        /// The ids.
        ids: Vec<u32>,
    },
}

/// Tokens of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCounts {
    /// Tokens that the model read.
    pub prompt: u32,
    /// Tokens of the answer.
    pub completion: u32,
}

/// What confines a process. Each field is what was applied, not what was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// The system calls it may make are filtered.
    pub seccomp: bool,
    /// The version of Landlock that denies it every file, if the kernel has it.
    pub landlock: Option<u32>,
}

/// The two that differ from kernel to kernel, as the status shows them: `seccomp+landlock`,
/// `seccomp`, or `none`.
impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.seccomp, self.landlock) {
            (true, Some(_)) => "seccomp+landlock",
            (true, None) => "seccomp",
            (false, Some(_)) => "landlock",
            (false, None) => "none",
        })
    }
}
