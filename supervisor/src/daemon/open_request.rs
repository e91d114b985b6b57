//! A request, as the daemon remembers it until its one outcome: all that another worker needs to go
//! on with it.
//!
//! What is kept of each kind of request, and what its workers may say of it, is in `open_request/`.
mod embedding;
mod failure;
mod generation;
mod measure;
mod model_request;
mod tokenization;

pub(crate) use failure::NamedModel;
pub(crate) use measure::{Measure, ServedBy};
pub(crate) use model_request::ModelRequest;

use super::{ConnectionId, worker_process::Origin};
use crate::log::LoggedPrompt;
use embedding::Embedding;
use generation::Generation;
use ipc::{Failure, FromWorker, ModelInfo, RequestId, Response, ToWorker};
use policy::{Outcome, PoolId, Time, Work};
use std::{
    hash::BuildHasher,
    mem,
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, Instant},
};
use tokenization::Tokenization;

/// A request that has not ended.
#[derive(Debug)]
pub(crate) struct OpenRequest {
    pub(crate) id: RequestId,
    pub(crate) pool: PoolId,
    pub(crate) client: ConnectionId,
    kind: Kind,
    times: Times,
    /// Workers that were given it or a part of it.
    attempts: u32,
    /// Why a worker said that it cannot be served.
    refusal: Option<Failure>,
    /// What the log says of its prompt.
    noted: LoggedPrompt,
    /// The last worker that was given it or a part of it.
    server: Option<ServedBy>,
}

/// What is wanted.
#[derive(Debug)]
pub(crate) enum Kind {
    Generation(Box<Generation>),
    Embedding(Embedding),
    Tokenization(Tokenization),
}

/// When what happened.
#[derive(Clone, Copy, Debug)]
struct Times {
    submitted: Instant,
    dispatched: Option<Instant>,
}

/// Why what a worker sent cannot be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProtocolViolation;

/// What follows from a worker's message.
#[derive(Debug)]
pub(crate) enum WorkerReply {
    /// The worker has read the prompt for the first time.
    Started {
        /// Tokens of the prompt.
        prompt_tokens: u32,
    },
    /// The worker goes on, and this goes to the client.
    More(Vec<Response>),
    /// The worker is done with its part; this goes to the client before the request's end.
    Done(Vec<Response>),
    /// The worker cannot serve it.
    Refused,
}

impl OpenRequest {
    /// A request that has been submitted now.
    pub(crate) fn new(
        id: RequestId,
        pool: PoolId,
        client: ConnectionId,
        kind: Kind,
        noted: LoggedPrompt,
        now: Instant,
    ) -> OpenRequest {
        let times = Times { submitted: now, dispatched: None };
        OpenRequest { id, pool, client, kind, times, attempts: 0, refusal: None, noted, server: None }
    }

    /// How the policy is to have it computed.
    pub(crate) fn work(&self) -> Work {
        match &self.kind {
            Kind::Generation(_) => Work::WHOLE,
            Kind::Embedding(embedding) => Work::parts(embedding.parts()),
            Kind::Tokenization(_) => Work::parts(1),
        }
    }

    /// What the next worker gets for this part, who was forked from `origin`, and the descriptor
    /// that goes with it.
    pub(crate) fn job(
        &mut self,
        part: u32,
        server: ServedBy,
        origin: &Origin,
        now: Instant,
    ) -> (ToWorker, Option<Arc<OwnedFd>>) {
        self.attempts += 1;
        self.server = Some(server);
        self.times.dispatched.get_or_insert(now);
        match &mut self.kind {
            Kind::Generation(generation) => {
                let info = &origin.info;
                generation.begin_with(origin.identity);
                let cache = generation.cache(self.id, info.cache);
                (ToWorker::Run(Box::new(generation.job(self.id, info.chunk, cache.is_some(), now))), cache)
            }
            Kind::Embedding(embedding) => (ToWorker::Embed(Box::new(embedding.job(self.id, part))), None),
            Kind::Tokenization(tokenization) => (ToWorker::Tokenize(Box::new(tokenization.job(self.id))), None),
        }
    }

    /// A worker has died that says to have got through so many of its tokens.
    pub(crate) fn worker_died(&mut self, reached: u64) {
        if let Kind::Generation(generation) = &mut self.kind {
            generation.worker_died(reached);
        }
    }

    /// How long it has been computed, or has waited for that to go on.
    pub(crate) fn service(&self, now: Instant) -> Option<Duration> {
        self.times.dispatched.map(|dispatched| now.duration_since(dispatched))
    }

    /// Whether any worker was given it.
    pub(crate) fn was_begun(&self) -> bool {
        self.attempts > 0
    }

    /// Whether a worker has got anywhere with this part.
    pub(crate) fn has_begun(&self, part: u32) -> bool {
        match &self.kind {
            Kind::Generation(generation) => generation.has_begun(),
            Kind::Embedding(embedding) => embedding.has_begun(part),
            Kind::Tokenization(_) => false,
        }
    }

    /// Takes in what the worker says that computes this part.
    pub(crate) fn hear(
        &mut self,
        part: u32,
        message: FromWorker,
        info: &ModelInfo,
        now: Instant,
    ) -> Result<WorkerReply, ProtocolViolation> {
        if let FromWorker::Failed { kind, message, .. } = message {
            self.refusal.get_or_insert(Failure::new(kind, message));
            return Ok(WorkerReply::Refused);
        }
        match &mut self.kind {
            Kind::Generation(generation) => generation.hear(message, info.context, now),
            Kind::Embedding(embedding) => embedding.hear(part, message, info.dimensions),
            Kind::Tokenization(tokenization) => tokenization.hear(message),
        }
    }

    /// Most bytes that may wait for the client, beyond which it is taken for one that does not
    /// listen.
    pub(crate) fn outbox_limit(&self, info: Option<&ModelInfo>, workers: u32) -> usize {
        const LITTLE: usize = 64 << 10;
        /// Bytes of a token's text as JSON, on average over an answer. That is generous: a token
        /// has about four letters, and a control character, which no model writes often, takes six.
        const TEXT: usize = 240;
        /// A token's frame.
        const FRAME: usize = ipc::HEADER + r#"{"piece":{"text":"","token":9999999}}"#.len() + TEXT;
        let context = info.map_or(0, |info| info.context as usize);
        match &self.kind {
            Kind::Generation(_) => LITTLE + context * FRAME,
            // Of a batch, what was begun when it became blocked comes on top.
            Kind::Embedding(_) => BLOCKED + embedding::most_bytes(info) * (2 * workers as usize + 1),
            Kind::Tokenization(tokenization) => LITTLE + tokenization.most_bytes(),
        }
    }

    /// Whether nothing more of it shall be begun while so many bytes wait for its client.
    pub(crate) fn is_blocked_by(&self, queued: usize) -> bool {
        matches!(self.kind, Kind::Embedding(_)) && queued > BLOCKED
    }

    /// The last message to the client.
    pub(crate) fn last_message(
        &mut self,
        outcome: Outcome,
        model: &NamedModel<'_>,
        policy_now: Time,
        now: Instant,
    ) -> Response {
        let answer = match (outcome, self.refusal.take()) {
            (Outcome::Answered, _) => match &mut self.kind {
                Kind::Generation(generation) => generation.answer(self.times, self.attempts, now),
                Kind::Embedding(embedding) => Some(embedding.answer(self.times, self.attempts, now)),
                Kind::Tokenization(tokenization) => tokenization.answer(),
            },
            (Outcome::Rejected, Some(refusal)) => Some(Response::Failed(refusal)),
            _ => None,
        };
        answer.unwrap_or_else(|| Response::Failed(failure::of(outcome, model, policy_now)))
    }
}

/// Bytes that wait for the client of a batch, beyond which no more parts are begun.
const BLOCKED: usize = 4 << 20;

impl Times {
    /// Microseconds from the submission to then, or to now.
    fn after(&self, then: Option<Instant>, now: Instant) -> u64 {
        let duration = then.unwrap_or(now).duration_since(self.submitted);
        u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
    }
}

/// A seed that nobody can guess: hash keys come from the system's random numbers.
///
/// It has 53 bits: many who read JSON keep no more of a number, and would ask again with another.
pub(crate) fn draw_seed() -> u64 {
    // `mem::take` of a fresh state would give the same keys; each new state has its own.
    std::hash::RandomState::new().hash_one(mem::size_of::<OpenRequest>()) >> 11
}
