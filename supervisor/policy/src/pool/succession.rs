//! How a pool takes another one's place, and gives its own up.
//!
//! A model that changes is not changed in place: a new pool loads it beside the old one and takes
//! over when a worker of it is ready. The old pool then finishes what it had begun, with what it
//! had loaded, and gives all else to the new one. So nothing that was begun with one model's
//! weights is gone on with another's. Which pools change together is in `reload.rs`.
use crate::context::Context;
use crate::event::{Effect, Identity, Load, Outcome, PoolId, WorkerId};
use crate::lifecycle::{Lifecycle, Proof, Successor};
use crate::limits::PoolLimits;
use crate::pool::Pool;
use crate::queue::Transfer;
use crate::request::RequestRecord;
use crate::slot::Slot;
use crate::template::Template;

impl Pool {
    /// A pool that nobody asks for yet. Its templates are numbered on from this number. If it
    /// `loads`, its first worker must become ready, else it is enough that its model can be opened.
    pub(crate) fn staged(id: PoolId, limits: PoolLimits, generation: u64, loads: bool, context: &mut Context) -> Pool {
        let mut pool = Pool::cold(id, limits, Template::new(id, generation));
        pool.lifecycle = Lifecycle::Staged(Proof::Awaited);
        if loads {
            pool.load(context);
        } else {
            pool.template.examine(context);
        }
        pool
    }

    /// Whether its model can be served, as far as it is known.
    pub(crate) fn proof(&self) -> Proof {
        let is_alive = self.template.is_loading() || self.template.is_examining() || self.template.is_warm();
        match self.lifecycle {
            Lifecycle::Staged(Proof::Examined) => Proof::Examined,
            Lifecycle::Staged(proof) if is_alive => proof,
            Lifecycle::Staged(_) => Proof::Failed,
            Lifecycle::Serving | Lifecycle::Retired { .. } => Proof::Given,
        }
    }

    /// A worker has become ready or could not be made, or the model could be opened.
    pub(crate) fn prove(&mut self, proof: Proof) {
        if self.lifecycle == Lifecycle::Staged(Proof::Awaited) {
            self.lifecycle = Lifecycle::Staged(proof);
        }
    }

    /// Its model could be opened.
    pub(crate) fn examined(&mut self, context: &mut Context) {
        if self.template.examined(context) {
            self.prove(Proof::Examined);
        }
    }

    /// Serves from now on.
    pub(crate) fn take_over(&mut self) {
        self.lifecycle = Lifecycle::Serving;
    }

    /// Finishes what it has begun, and then goes.
    pub(crate) fn retire(&mut self, successor: Option<Successor>) {
        self.lifecycle = Lifecycle::Retired { successor };
        self.idle_from = None;
    }

    /// Whether it is asked for.
    pub(crate) fn is_serving(&self) -> bool {
        self.lifecycle == Lifecycle::Serving
    }

    pub(crate) fn is_retired(&self) -> bool {
        matches!(self.lifecycle, Lifecycle::Retired { .. })
    }

    pub(crate) fn successor(&self) -> Option<Successor> {
        let Lifecycle::Retired { successor } = self.lifecycle else { return None };
        successor
    }

    /// Whether its model may be loaded again when it is gone. One that has a successor finishes
    /// with the workers that it has.
    pub(crate) fn may_load_again(&self) -> bool {
        matches!(self.lifecycle, Lifecycle::Serving | Lifecycle::Retired { successor: None })
    }

    /// Lives by other limits, which need no other template.
    pub(crate) fn adjust(&mut self, limits: PoolLimits) {
        // A worker is told its limit of memory when it is forked.
        let has_old_workers = limits.memory != self.limits.memory;
        self.has_mixed_waits |= self.limits.queue_timeout != limits.queue_timeout;
        self.limits = limits;
        self.need = self.need.map(|need| need.by(&limits));
        self.is_resident |= limits.load == Load::Eager && limits.idle_unload.is_none();
        for number in 0..limits.workers {
            if self.slots.len() <= number as usize {
                self.slots.push(Slot::new(self.id, number));
            }
        }
        if has_old_workers {
            self.replace_all_when_idle();
        }
    }

    /// Replaces its workers, each when it has nothing to do, or at once the one that serves a slot.
    pub(crate) fn restart(&mut self, slot: Option<u32>, context: &mut Context) {
        let Some(number) = slot else { return self.replace_all_when_idle() };
        let id = WorkerId { pool: self.id, life: ipc::Life { slot: number, generation: 0 } };
        if let Some(slot) = self.slot_mut(id) {
            slot.restart(context);
        }
    }

    fn replace_all_when_idle(&mut self) {
        self.slots.iter_mut().flat_map(Slot::workers_mut).for_each(crate::worker::Worker::be_replaced_when_idle);
    }

    /// The slots that it is to have. There may be more, until what runs there has ended.
    pub(crate) fn wanted_slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().take(self.limits.workers as usize)
    }

    /// Ends workers that others are to take the place of.
    pub(crate) fn renew(&mut self, context: &mut Context) {
        for (number, slot) in self.slots.iter_mut().enumerate() {
            slot.renew(number >= self.limits.workers as usize, context);
        }
    }

    /// Ends what was loaded before the model's files changed: idle workers, and requests that
    /// nobody can go on with.
    pub(crate) fn end_outdated(&mut self, context: &mut Context) {
        if let Some(identity) = self.template.identity {
            self.slots.iter_mut().for_each(|slot| slot.end_outdated(identity, context));
        }
        for request in self.stranded(context) {
            let bound = context.requests.get(&request).and_then(RequestRecord::identity);
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

    /// Sends requests to its successor: those that no worker computes and that it can begin or go
    /// on with.
    pub(crate) fn hand_over(&mut self, context: &mut Context) {
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
            context.moves.push_back(Transfer { request, to, place, restarts_clock });
            context.emit(Effect::Moved { request, to });
        }
    }

    /// Takes a request in that waited for the pool whose place this one has taken.
    pub(crate) fn receive(&mut self, moved: Transfer, context: &mut Context) {
        let Some(record) = context.requests.get_mut(&moved.request) else { return };
        if moved.restarts_clock {
            record.begin_wait(context.now, self.limits.queue_timeout);
        }
        self.has_mixed_waits = true;
        self.queue.put(moved.request, moved.place);
    }
}
