//! One place for a running request: the worker that serves it, and the spare that stands by for
//! that worker.
//!
//! A slot has at most two processes, and a spare gets no request before the serving worker has
//! ended. A worker of many requests has a spare only when it is to be replaced.
use super::context::Context;
use super::event::{Effect, Identity, Isolation, PoolId, TemplateId, Time, WorkerId};
use super::limits::PoolLimits;
use super::worker::Worker;
use ipc::Life;

#[derive(Debug)]
pub(super) struct Slot {
    pool: PoolId,
    number: u32,
    /// The generation of its newest life; 0 before the first.
    generation: u64,
    /// The end of its back-off: nothing is forked before.
    pub(super) fork_at: Time,
    serving: Option<Worker>,
    /// Only beside a serving worker.
    spare: Option<Worker>,
}

impl Slot {
    pub(super) fn new(pool: PoolId, number: u32) -> Slot {
        Slot { pool, number, generation: 0, fork_at: Time::default(), serving: None, spare: None }
    }

    pub(super) fn serving(&self) -> Option<&Worker> {
        self.serving.as_ref()
    }

    /// The serving worker and its spare.
    pub(super) fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.serving.iter().chain(&self.spare)
    }

    pub(super) fn workers_mut(&mut self) -> impl Iterator<Item = &mut Worker> {
        self.serving.iter_mut().chain(&mut self.spare)
    }

    pub(super) fn worker(&self, generation: u64) -> Option<&Worker> {
        self.workers().find(|worker| worker.id.life.generation == generation)
    }

    pub(super) fn worker_mut(&mut self, generation: u64) -> Option<&mut Worker> {
        self.workers_mut().find(|worker| worker.id.life.generation == generation)
    }

    /// The serving worker, if it may be given a request.
    pub(super) fn idle_mut(&mut self) -> Option<&mut Worker> {
        self.serving.as_mut().filter(|worker| worker.is_idle())
    }

    /// Removes a worker whose process has ended. The spare takes a serving worker's place.
    pub(super) fn remove(&mut self, generation: u64) -> Option<Worker> {
        if let Some(worker) = self.serving.take_if(|worker| worker.id.life.generation == generation) {
            self.serving = self.spare.take();
            return Some(worker);
        }
        self.spare.take_if(|worker| worker.id.life.generation == generation)
    }

    /// Removes the worker that was never forked, if there is one. A serving worker that was not has
    /// no spare.
    pub(super) fn remove_asked(&mut self) {
        self.serving.take_if(|worker| worker.is_asked());
        self.spare.take_if(|worker| worker.is_asked());
    }

    /// Whether a worker should be forked for it, once its back-off is over.
    pub(super) fn lacks_worker(&self, isolation: Isolation) -> bool {
        match (&self.serving, &self.spare) {
            (None, _) => true,
            (Some(serving), None) => {
                serving.replace_when_idle || (isolation == Isolation::Request && serving.is_spent())
            }
            (Some(_), Some(_)) => false,
        }
    }

    /// Whether one should be forked now.
    pub(super) fn wants_fork(&self, isolation: Isolation, now: Time) -> bool {
        self.lacks_worker(isolation) && self.fork_at <= now
    }

    pub(super) fn fork(
        &mut self,
        template: TemplateId,
        identity: Identity,
        limits: &PoolLimits,
        context: &mut Context,
    ) {
        let id = self.next_life();
        self.generation = id.life.generation;
        let worker = Some(Worker::new(id, template, identity, limits, context));
        if self.serving.is_none() {
            self.serving = worker;
        } else {
            self.spare = worker;
        }
        context.emit(Effect::Fork { template, worker: id });
    }

    /// Ends workers that others are to take the place of, once those are there. Of a slot too many
    /// none stays. One that has loaded something else than its successor may have to finish what
    /// nobody else can: it goes when it has nothing to do ([`Slot::end_outdated`]).
    pub(super) fn renew(&mut self, is_surplus: bool, context: &mut Context) {
        if is_surplus {
            self.workers_mut().for_each(|worker| worker.unneeded(context));
        }
        if let Some(spare) = self.spare.as_mut().filter(|spare| spare.replace_when_idle) {
            spare.unneeded(context);
        }
        let successor = self.spare.as_ref().filter(|spare| spare.is_idle()).map(|spare| spare.identity);
        let is_replaced = |serving: &&mut Worker| serving.replace_when_idle && successor == Some(serving.identity);
        if let Some(serving) = self.serving.as_mut().filter(is_replaced) {
            serving.unneeded(context);
        }
    }

    /// Ends the serving worker if it has nothing to do and what it has loaded is no more what the
    /// model is.
    pub(super) fn end_outdated(&mut self, identity: Identity, context: &mut Context) {
        if let Some(worker) = self.idle_mut().filter(|worker| worker.identity != identity) {
            worker.unneeded(context);
        }
    }

    /// Replaces the serving worker at once. If there is none, none is waited for any longer.
    pub(super) fn restart(&mut self, context: &mut Context) {
        self.fork_at = self.fork_at.min(context.now);
        if let Some(serving) = &mut self.serving {
            serving.replaced(context);
        }
    }

    /// The name of the life that is forked next.
    pub(super) fn next_life(&self) -> WorkerId {
        WorkerId { pool: self.pool, life: Life { slot: self.number, generation: self.generation + 1 } }
    }
}
