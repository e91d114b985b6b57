//! What all pools share while an event is handled: the time, the limits, the open requests and the effects so far.
//!
//! It keeps each request's record and makes sure that a request ends once. It knows nothing of workers and templates.
use super::event::{Effect, Limits, Outcome, PoolId, Time, WorkerId};
use super::poison::Poison;
use super::restart::Random;
use super::threads::Threads;
use ipc::RequestId;
use std::collections::{BTreeMap, VecDeque};

/// A request that has no outcome yet.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) pool: PoolId,
    pub(super) fingerprint: u64,
    pub(super) submitted: Time,
    /// The end of its wait in the queue; from its first dispatch on, of its whole run.
    pub(super) deadline: Time,
    /// Workers that died under it.
    pub(super) deaths: u32,
    pub(super) place: Place,
}

/// Where an open request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In its pool's queue.
    Queued,
    /// With a worker, which computes it, or whose exit it awaits to be replayed.
    With(WorkerId),
}

/// What is still to be done for a worker once its process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aftermath {
    /// Nothing.
    Nothing,
    /// Count a life that ended before it was ready.
    EarlyDeath,
    /// Put the request that it held back into the queue.
    Replay(RequestId),
}

#[derive(Debug)]
pub(super) struct Context {
    pub(super) limits: Limits,
    pub(super) now: Time,
    /// Whether the supervisor is stopping.
    pub(super) closing: bool,
    /// Ordered, so that whatever goes through all of them does so in the same order in every run.
    pub(super) requests: BTreeMap<RequestId, Request>,
    pub(super) poison: Poison,
    pub(super) random: Random,
    pub(super) threads: Threads,
    pub(super) effects: VecDeque<Effect>,
}

impl Context {
    pub(super) fn new(limits: Limits, seed: u64) -> Context {
        Context {
            limits,
            now: Time::default(),
            closing: false,
            requests: BTreeMap::new(),
            poison: Poison::default(),
            random: Random::new(seed),
            threads: Threads::new(limits.cores),
            effects: VecDeque::new(),
        }
    }

    pub(super) fn emit(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    /// A worker computes no more and may be given another request.
    pub(super) fn rests(&mut self, worker: WorkerId) {
        if self.threads.end(worker).is_some_and(|budget| budget > 1) {
            self.emit(Effect::SetBudget { worker, threads: 1 });
        }
    }

    pub(super) fn expire_threads(&mut self) {
        self.threads.expire(self.now, &mut self.effects);
    }

    pub(super) fn settle_threads(&mut self) {
        self.threads.settle(self.now, &mut self.effects);
    }

    /// Ends a request that is in no queue and with no worker any more, or that never was.
    pub(super) fn finish(&mut self, request: RequestId, outcome: Outcome) {
        self.requests.remove(&request);
        self.emit(Effect::Finish { request, outcome });
    }

    /// Counts a worker's death to the request that it held, and ends that request if it was the last one it may cost.
    pub(super) fn count_death(&mut self, request: RequestId, max_attempts: u32) -> Aftermath {
        let Some(record) = self.requests.get_mut(&request) else { return Aftermath::Nothing };
        record.deaths += 1;
        if record.deaths < max_attempts {
            return Aftermath::Replay(request);
        }
        let (fingerprint, attempts) = (record.fingerprint, record.deaths);
        self.poison.remember(fingerprint, self.now, self.limits.poison);
        self.finish(request, Outcome::WorkersDied { attempts });
        Aftermath::Nothing
    }

    /// Whether the request has had all the time that it may have.
    pub(super) fn is_overdue(&self, request: RequestId) -> bool {
        self.requests.get(&request).is_some_and(|record| record.deadline <= self.now)
    }
}
