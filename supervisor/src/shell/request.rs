//! A request, as the shell remembers it until its one outcome: all that another worker needs to go on with it.
use super::ConnectionId;
use crate::core::{Outcome, PoolId, Time};
use ipc::{
    Done, Failure, FailureKind, FinishReason, GenerateRequest, Job, JobPrompt, Prompt, RequestId, Response, TokenCounts,
};
use std::{
    hash::{BuildHasher, Hash},
    mem,
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, Instant},
};
use worker::sys::sealed_memory;

/// A request that has not ended.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) id: RequestId,
    pub(crate) pool: PoolId,
    pub(crate) client: ConnectionId,
    asked: GenerateRequest,
    seed: u64,
    /// Fixed by the first worker that read the prompt.
    prompt_ids: Option<Vec<u32>>,
    generated: Vec<u32>,
    delivered: u64,
    attempts: u32,
    submitted: Instant,
    dispatched: Option<Instant>,
    first_piece: Option<Instant>,
    end: Option<End>,
    /// What its workers keep of it in memory, for the next one. It is never mapped here.
    cache: Option<Arc<OwnedFd>>,
}

/// How its worker ended it.
#[derive(Debug)]
enum End {
    Done { text: String, finish: FinishReason, counts: TokenCounts },
    Failed { kind: FailureKind, message: String },
}

/// Why what a worker sent cannot be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lie;

impl Request {
    pub(crate) fn new(
        id: RequestId,
        pool: PoolId,
        client: ConnectionId,
        asked: GenerateRequest,
        seed: u64,
        now: Instant,
    ) -> Request {
        Request {
            id,
            pool,
            client,
            seed: asked.sampling.seed.unwrap_or(seed),
            asked,
            prompt_ids: None,
            generated: Vec::new(),
            delivered: 0,
            attempts: 0,
            submitted: now,
            dispatched: None,
            first_piece: None,
            end: None,
            cache: None,
        }
    }

    /// The cache that the worker of this attempt gets, of `size` bytes; none if there is none, or if it cannot be had. The second
    /// worker goes on with the first one's; if it dies too, what it found there may be why, so later ones get an empty one.
    pub(crate) fn cache(&mut self, attempt: u32, size: u64) -> Option<Arc<OwnedFd>> {
        if attempt > 2 {
            self.cache = None;
        }
        if self.cache.is_none() && size > 0 {
            match sealed_memory("cache", size) {
                Ok(memory) => self.cache = Some(Arc::new(memory)),
                Err(error) => tracing::warn!(id = %self.id, "it has to do without a cache: {error}"),
            }
        }
        self.cache.clone()
    }

    /// What the next worker gets. A fresh job takes the prompt along; it is kept until a worker has fixed its ids.
    pub(crate) fn job(&mut self, attempt: u32, chunk: u32, cache: bool, now: Instant) -> Job {
        self.attempts = attempt;
        self.dispatched.get_or_insert(now);
        let prompt = match &self.prompt_ids {
            Some(ids) => JobPrompt::Ids(ids.clone()),
            None => JobPrompt::Fresh(self.asked.prompt.clone()),
        };
        Job {
            request: self.id,
            prompt,
            generated: self.generated.clone(),
            delivered: self.delivered,
            chunk,
            max_tokens: self.asked.max_tokens,
            sampling: self.asked.sampling,
            seed: self.seed,
            stop: self.asked.stop.clone(),
            ignore_end: self.asked.ignore_end,
            cache,
        }
    }

    /// Whether anything has been generated.
    pub(crate) fn has_begun(&self) -> bool {
        !self.generated.is_empty()
    }

    /// Notes the prompt's ids; at most `context` of them.
    pub(crate) fn prompt(&mut self, ids: Vec<u32>, context: u32) -> Result<(), Lie> {
        if self.prompt_ids.is_some() || ids.len() > context as usize {
            return Err(Lie);
        }
        self.prompt_ids = Some(ids);
        // The text has served.
        self.asked.prompt = Prompt::Raw(String::new());
        Ok(())
    }

    /// Notes one token and returns what the client gets.
    pub(crate) fn token(
        &mut self,
        index: u32,
        id: u32,
        text: String,
        context: u32,
        now: Instant,
    ) -> Result<Response, Lie> {
        let room = context as usize > self.generated.len() + self.prompt_ids.as_ref().map_or(0, Vec::len);
        if index as usize != self.generated.len() || !room || self.end.is_some() {
            return Err(Lie);
        }
        self.first_piece.get_or_insert(now);
        self.generated.push(id);
        self.delivered += text.len() as u64;
        Ok(Response::Piece { text, token: id })
    }

    /// Notes that the answer is complete.
    pub(crate) fn done(&mut self, text: String, finish: FinishReason, counts: TokenCounts) {
        self.end.get_or_insert(End::Done { text, finish, counts });
    }

    /// Notes that the worker cannot serve it.
    pub(crate) fn failed(&mut self, kind: FailureKind, message: String) {
        self.end.get_or_insert(End::Failed { kind, message });
    }

    /// How long it has been there.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.duration_since(self.submitted)
    }

    /// The last message to the client.
    pub(crate) fn last_message(&mut self, outcome: Outcome, model: &str, core_now: Time, now: Instant) -> Response {
        let after = |instant: Option<Instant>| micros(instant.unwrap_or(now).duration_since(self.submitted));
        match (outcome, self.end.take()) {
            (Outcome::Answered, Some(End::Done { text, finish, counts })) => Response::Done(Done {
                text,
                finish,
                prompt_tokens: counts.prompt,
                completion_tokens: counts.completion,
                attempts: self.attempts,
                seed: self.seed,
                wait_us: after(self.dispatched),
                first_piece_us: after(self.first_piece),
                total_us: after(None),
            }),
            (Outcome::Rejected, Some(End::Failed { kind, message })) => Response::Failed(Failure::new(kind, message)),
            (outcome, _) => Response::Failed(failure(outcome, model, core_now)),
        }
    }
}

/// A hash that is equal for the same model, input and parameters; a seed that the supervisor drew is not among them.
pub(crate) fn fingerprint(hasher: &impl BuildHasher, pool: PoolId, asked: &GenerateRequest) -> u64 {
    let mut state = hasher.build_hasher();
    let sampling = &asked.sampling;
    (pool, &asked.prompt, asked.max_tokens, &asked.stop, asked.ignore_end).hash(&mut state);
    (sampling.top_k, sampling.seed).hash(&mut state);
    for number in [
        sampling.temperature,
        sampling.top_p,
        sampling.repeat_penalty,
        sampling.frequency_penalty,
        sampling.presence_penalty,
    ] {
        number.to_bits().hash(&mut state);
    }
    std::hash::Hasher::finish(&state)
}

/// What a client is told about an outcome other than an answer.
fn failure(outcome: Outcome, model: &str, now: Time) -> Failure {
    let later = |until: Time| until.since(now);
    let (kind, message, retry) = match outcome {
        Outcome::Answered | Outcome::Rejected => {
            (FailureKind::Engine, "the worker did not say how the request ended".to_owned(), None)
        }
        Outcome::Cancelled => (FailureKind::Cancelled, "the request was cancelled".to_owned(), None),
        Outcome::QueueFull => (
            FailureKind::Busy,
            format!("all workers of {model} are busy and its queue is full; try again later"),
            Some(Duration::from_secs(1)),
        ),
        Outcome::QueueTimeout => (
            FailureKind::TimedOut,
            format!("no worker of {model} became free within the queue's time limit"),
            Some(Duration::from_secs(1)),
        ),
        Outcome::RequestTimeout => {
            (FailureKind::TimedOut, "the answer took longer than a request may".to_owned(), None)
        }
        Outcome::WorkersDied { attempts } => (
            FailureKind::WorkersDied,
            match attempts {
                1 => "the worker that served this request died, and no more than one may".to_owned(),
                count => format!("{count} workers died while serving this request; it is not tried again"),
            },
            None,
        ),
        Outcome::Poisonous { until } => (
            FailureKind::Poisonous,
            "refused: workers died under this same request a short while ago".to_owned(),
            Some(later(until)),
        ),
        Outcome::Unavailable { until } => (
            FailureKind::Unavailable,
            format!("the model {model} cannot be served now; `supervisor status` says why"),
            Some(later(until)),
        ),
        Outcome::ShuttingDown => {
            (FailureKind::ShuttingDown, "the supervisor is shutting down".to_owned(), Some(Duration::from_secs(5)))
        }
    };
    let retry_after_ms = retry.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    Failure { kind, message, retry_after_ms }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A seed that nobody can guess: hash keys come from the system's random numbers.
pub(crate) fn draw_seed() -> u64 {
    // `mem::take` of a fresh state would give the same keys; each new state has its own.
    std::hash::RandomState::new().hash_one(mem::size_of::<Request>())
}
