//! What all pools share while an event is handled: the time, the limits, the open requests and the
//! effects so far.
//!
//! It keeps each request's record and makes sure that a request ends once. It knows nothing of
//! workers and templates.
use super::back_off::Random;
use super::event::{Effect, Identity, Outcome, Part, PoolId, Time, WorkerId};
use super::limits::Limits;
use super::poison::Poison;
use super::queue::Transfer;
use super::request::RequestRecord;
use super::threads::Threads;
use ipc::RequestId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What is still to be done for a worker once its process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnExit {
    /// Nothing.
    Nothing,
    /// Count a life that ended before it was ready.
    EarlyDeath,
    /// Put the part that it held back into the queue.
    Replay(Part),
}

#[derive(Debug)]
pub(super) struct Context {
    pub(super) limits: Limits,
    pub(super) now: Time,
    /// Whether the supervisor is stopping.
    pub(super) closing: bool,
    /// Whether nothing is begun any more.
    pub(super) draining: bool,
    /// Ordered, so that whatever goes through all of them does so in the same order in every run.
    pub(super) requests: BTreeMap<RequestId, RequestRecord>,
    /// Those of them that were dispatched.
    pub(super) begun: BTreeSet<(PoolId, RequestId)>,
    /// Requests whose workers have died too often, to be ended by their pool.
    pub(super) doomed: Vec<(RequestId, Outcome)>,
    /// Requests on their way to another pool.
    pub(super) moves: VecDeque<Transfer>,
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
            draining: false,
            requests: BTreeMap::new(),
            begun: BTreeSet::new(),
            doomed: Vec::new(),
            moves: VecDeque::new(),
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

    pub(super) fn balance_threads(&mut self) {
        self.threads.settle(self.now, &mut self.effects);
    }

    /// Ends a request that is in no queue and with no worker any more, or that never was.
    pub(super) fn finish(&mut self, request: RequestId, outcome: Outcome) {
        if let Some(record) = self.requests.remove(&request) {
            self.begun.remove(&(record.pool, request));
        }
        self.emit(Effect::Finish { request, outcome });
    }

    /// The requests of a pool that were dispatched.
    pub(super) fn begun(&self, pool: PoolId) -> impl Iterator<Item = RequestId> {
        self.begun.range((pool, RequestId(0))..=(pool, RequestId(u64::MAX))).map(|(_, request)| *request)
    }

    /// Notes that something of the request's answer was computed with this.
    pub(super) fn bind(&mut self, request: RequestId, identity: Identity) {
        if let Some(record) = self.requests.get_mut(&request) {
            record.bind(identity);
        }
    }

    /// Counts a worker's death to the part that it held, and dooms the request if it was the last
    /// one that the part may cost.
    pub(super) fn count_death(&mut self, part: Part, max_attempts: u32) -> OnExit {
        let Some(record) = self.requests.get_mut(&part.request) else { return OnExit::Nothing };
        let attempts = record.died(part.number);
        if attempts < max_attempts {
            return OnExit::Replay(part);
        }
        self.poison.remember(record.fingerprint, self.now, self.limits.poison);
        self.doomed.push((part.request, Outcome::WorkersDied { attempts }));
        OnExit::Nothing
    }

    /// Whether the request has had all the time that it may have.
    pub(super) fn is_overdue(&self, request: RequestId) -> bool {
        self.requests.get(&request).is_some_and(|record| record.deadline <= self.now)
    }
}
