//! What part a pool plays: its model is tried, serves, or goes.
//!
//! A model that changes is not changed in place: a new pool loads it beside the old one and takes over when a worker of it is ready. The
//! old pool then finishes what it had begun, with what it had loaded, and gives all else to the new one. So nothing that was begun
//! with one model's weights is gone on with another's. Which pools change together is in `reload.rs`.
use super::context::Context;
use super::event::{Effect, Identity, Load, Outcome, PoolId, PoolLimits, WorkerId};
use super::pool::Pool;
use super::queue::Place;
use super::request::Request;
use super::slot::Slot;
use super::template::Template;
use ipc::RequestId;

/// What part a pool plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It shows whether its model can be served. Nobody asks for it yet, and it has one try.
    Staged(Proof),
    /// It is asked for.
    Serving,
    /// It is asked for no more, and finishes what it has begun.
    Retired {
        /// What takes its place; nothing if the model was removed.
        successor: Option<Successor>,
    },
}

/// Whether a model can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// It is not known yet.
    Awaited,
    /// A worker has become ready.
    Given,
    /// It could be opened, and need not be loaded now.
    Examined,
    Failed,
}

/// The pool that takes another's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Successor {
    pub(super) pool: PoolId,
    /// What it had loaded when it took over.
    pub(super) identity: Option<Identity>,
}

/// A request that goes to another pool.
#[derive(Debug)]
pub(super) struct Move {
    request: RequestId,
    pub(super) to: PoolId,
    place: Place,
    /// Whether its wait in the queue has cost no time, and does from now on.
    restarts_clock: bool,
}

impl Pool {
    /// A pool that nobody asks for yet. Its templates are numbered on from this number. If it `loads`, its first worker must become ready,
    /// else it is enough that its model can be opened.
    pub(super) fn staged(id: PoolId, limits: PoolLimits, generation: u64, loads: bool, context: &mut Context) -> Pool {
        let mut pool = Pool::cold(id, limits, Template::new(id, generation));
        pool.standing = Standing::Staged(Proof::Awaited);
        if loads {
            pool.load(context);
        } else {
            pool.template.examine(context);
        }
        pool
    }

    /// Whether its model can be served, as far as it is known.
    pub(super) fn proof(&self) -> Proof {
        let is_alive = self.template.is_loading() || self.template.is_examining() || self.template.is_warm();
        match self.standing {
            Standing::Staged(Proof::Examined) => Proof::Examined,
            Standing::Staged(proof) if is_alive => proof,
            Standing::Staged(_) => Proof::Failed,
            Standing::Serving | Standing::Retired { .. } => Proof::Given,
        }
    }

    /// A worker has become ready or could not be made, or the model could be opened.
    pub(super) fn prove(&mut self, proof: Proof) {
        if self.standing == Standing::Staged(Proof::Awaited) {
            self.standing = Standing::Staged(proof);
        }
    }

    /// Its model could be opened.
    pub(super) fn examined(&mut self, context: &mut Context) {
        if self.template.examined(context) {
            self.prove(Proof::Examined);
        }
    }

    /// Serves from now on.
    pub(super) fn take_over(&mut self) {
        self.standing = Standing::Serving;
    }

    /// Finishes what it has begun, and then goes.
    pub(super) fn retire(&mut self, successor: Option<Successor>) {
        self.standing = Standing::Retired { successor };
        self.idle_from = None;
    }

    pub(super) fn is_retired(&self) -> bool {
        matches!(self.standing, Standing::Retired { .. })
    }

    pub(super) fn successor(&self) -> Option<Successor> {
        let Standing::Retired { successor } = self.standing else { return None };
        successor
    }

    /// Whether its model may be loaded again when it is gone. One that has a successor finishes with the workers that it has.
    pub(super) fn may_load_again(&self) -> bool {
        matches!(self.standing, Standing::Serving | Standing::Retired { successor: None })
    }

    /// Lives by other limits, which need no other template. If they are told to workers, `fresh` ones are needed.
    pub(super) fn adjust(&mut self, limits: PoolLimits, fresh: bool) {
        self.has_mixed_waits |= self.limits.queue_timeout != limits.queue_timeout;
        self.limits = limits;
        self.is_resident |= limits.load == Load::Eager && limits.idle_unload.is_none();
        for number in 0..limits.workers {
            if self.slots.len() <= number as usize {
                self.slots.push(Slot::new(self.id, number));
            }
        }
        if fresh {
            self.wear_out();
        }
    }

    /// Replaces its workers, each when it has nothing to do, or at once the one that serves a slot.
    pub(super) fn restart(&mut self, slot: Option<u32>, context: &mut Context) {
        let Some(number) = slot else { return self.wear_out() };
        let id = WorkerId { pool: self.id, life: ipc::Life { slot: number, generation: 0 } };
        if let Some(slot) = self.slot_mut(id) {
            slot.restart(context);
        }
    }

    fn wear_out(&mut self) {
        self.slots.iter_mut().flat_map(Slot::workers_mut).for_each(super::worker::Worker::wears_out);
    }

    /// The slots that it is to have. There may be more, until what runs there has ended.
    pub(super) fn wanted_slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().take(self.limits.workers as usize)
    }

    /// Ends workers that others are to take the place of.
    pub(super) fn renew(&mut self, context: &mut Context) {
        for (number, slot) in self.slots.iter_mut().enumerate() {
            slot.renew(number >= self.limits.workers as usize, context);
        }
    }

    /// Ends what was loaded before the model's files changed: idle workers, and requests that nobody can go on with.
    pub(super) fn end_outdated(&mut self, context: &mut Context) {
        if let Some(identity) = self.template.identity {
            self.slots.iter_mut().for_each(|slot| slot.end_outdated(identity, context));
        }
        for request in self.stranded(context) {
            let bound = context.requests.get(&request).and_then(Request::identity);
            if bound.is_some_and(|identity| !self.may_resume(identity)) {
                self.end(request, Outcome::ModelChanged, context);
            }
        }
    }

    /// Whether a worker may come, or be free, that has loaded this.
    fn may_resume(&self, identity: Identity) -> bool {
        let may_fork = match self.template.is_warm() {
            true => self.template.identity == Some(identity),
            // What is loaded next may be the same.
            false => self.may_load_again(),
        };
        let mut workers = self.workers();
        may_fork || workers.any(|worker| worker.identity == identity && worker.may_serve(self.limits.isolation))
    }

    /// Sends requests to its successor: those that no worker computes and that it can begin or go on with.
    pub(super) fn hand_over(&mut self, context: &mut Context) {
        let Some(successor) = self.successor() else { return };
        let waiting: Vec<_> = self.queue.all_newcomers().chain(self.stranded(context)).collect();
        for request in waiting {
            let Some(record) = context.requests.get_mut(&request) else { continue };
            if record.identity().is_some_and(|identity| Some(identity) != successor.identity) {
                continue;
            }
            let to = successor.pool;
            record.pool = to;
            let was_begun = context.begun.remove(&(self.id, request));
            if was_begun {
                context.begun.insert((to, request));
            }
            let place = self.queue.take(request);
            let restarts_clock = self.is_clock_stopped && !was_begun;
            context.moves.push_back(Move { request, to, place, restarts_clock });
            context.emit(Effect::Moved { request, to });
        }
    }

    /// Takes a request in that waited for the pool whose place this one has taken.
    pub(super) fn receive(&mut self, moved: Move, context: &mut Context) {
        let Some(record) = context.requests.get_mut(&moved.request) else { return };
        if moved.restarts_clock {
            record.deadline = context.now.after(self.limits.queue_timeout);
        }
        self.has_mixed_waits = true;
        self.queue.put(moved.request, moved.place);
    }
}
