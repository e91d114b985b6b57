//! What a pool does with requests: admission, dispatch, and the one outcome of each.
use crate::context::Context;
use crate::event::{Effect, Outcome, Part, WorkerId};
use crate::lifecycle::Lifecycle;
use crate::pool::Pool;
use crate::request::RequestRecord;
use crate::slot::Slot;
use ipc::RequestId;

impl Pool {
    pub(crate) fn submitted(&mut self, record: RequestRecord, context: &mut Context) {
        let request = record.id;
        let is_poisonous = context.poison.until(record.fingerprint, context.now);
        let is_open = self.lifecycle == Lifecycle::Serving && !context.closing && !context.draining;
        if is_poisonous.is_none() && is_open {
            // A model that may be loaded is worth waiting for, and wanted, even if there is no room
            // in the queue.
            self.load_if_due(context);
        }
        let refusal = if context.closing {
            Some(Outcome::ShuttingDown)
        } else if self.lifecycle != Lifecycle::Serving {
            Some(Outcome::Unavailable { until: context.now })
        } else if let Some(until) = is_poisonous {
            Some(Outcome::Poisonous { until })
        } else if context.draining {
            // Whatever the model does: it is not loaded for this.
            Some(Outcome::Draining)
        } else if self.slots.iter_mut().any(|slot| slot.idle_mut().is_some()) {
            None
        } else if let Some(until) = self.template.unavailable_until(context.now) {
            Some(Outcome::Unavailable { until })
        } else {
            // A batch between two of its parts waits as well.
            let is_held =
                |id: &RequestId| context.requests.get(id).is_some_and(|record| record.holders().next().is_some());
            let between_parts = self.queue.batches().filter(|id| !is_held(id)).count();
            if self.queue.newcomers() + between_parts >= self.limits.queue {
                Some(Outcome::QueueFull)
            } else {
                self.has_its_share(record.owner, context).then_some(Outcome::ShareFull)
            }
        };
        if let Some(outcome) = refusal {
            return context.finish(request, outcome);
        }
        context.requests.insert(request, record);
        self.queue.push(request);
    }

    /// Whether half of the queue is this owner's while others wait, too.
    fn has_its_share(&self, owner: u64, context: &Context) -> bool {
        let share = (self.limits.queue / 2).max(1);
        if self.queue.newcomers() < share {
            return false;
        }
        let owners = self.queue.all_newcomers().filter_map(|id| context.requests.get(&id)).map(|record| record.owner);
        let (own, others): (Vec<_>, Vec<_>) = owners.partition(|other| *other == owner);
        own.len() >= share && !others.is_empty()
    }

    /// Ends a request that is open, and whatever still computes for it.
    pub(crate) fn end(&mut self, request: RequestId, outcome: Outcome, context: &mut Context) {
        let Some(record) = context.requests.get(&request) else { return };
        let isolation = self.limits.isolation;
        for holder in record.holders().collect::<Vec<_>>() {
            self.with_worker(holder, |worker| match outcome {
                Outcome::RequestTimeout => worker.overdue(context),
                _ => worker.withdrawn(isolation, context),
            });
        }
        self.queue.remove(request);
        context.finish(request, outcome);
    }

    /// Ends the requests whose workers have died too often.
    pub(crate) fn end_doomed(&mut self, context: &mut Context) {
        for (request, outcome) in std::mem::take(&mut context.doomed) {
            self.end(request, outcome, context);
        }
    }

    /// A worker has computed a part.
    pub(crate) fn part_answered(&mut self, part: Part, context: &mut Context) {
        if context.requests.get_mut(&part.request).is_some_and(|record| record.done(part.number)) {
            context.finish(part.request, Outcome::Answered);
        }
    }

    /// A worker is well and says that it cannot compute a part, so nobody can.
    pub(crate) fn part_rejected(&mut self, part: Part, context: &mut Context) {
        if let Some(record) = context.requests.get_mut(&part.request) {
            record.done(part.number);
        }
        self.end(part.request, Outcome::Rejected, context);
    }

    /// Puts a part back whose worker has died.
    pub(crate) fn replay(&mut self, part: Part, context: &mut Context) {
        if let Some(record) = context.requests.get_mut(&part.request) {
            record.waits(part.number);
            self.queue.push_front(part);
        }
    }

    /// Gives what waits to idle workers.
    pub(crate) fn dispatch(&mut self, context: &mut Context) {
        let window = self.window();
        let current = self.template.identity;
        for worker in self.slots.iter_mut().filter_map(Slot::idle_mut) {
            let identity = worker.identity;
            // What is begun with something is gone on with that; what is new begins with what the
            // model is now.
            let fits = |record: &RequestRecord| record.identity().or(current) == Some(identity);
            let Some(part) = self.queue.pop(&context.requests, window, fits) else { continue };
            let Some(record) = context.requests.get_mut(&part.request) else { continue };
            if record.is_new() {
                record.deadline = context.now.after(self.limits.request_timeout);
                context.begun.insert((self.id, part.request));
            }
            let attempt = record.give(part.number, worker.id, identity);
            context.threads.begin(worker.id, self.limits.threads.min(record.work.threads));
            worker.dispatch(part, context.now.after(self.limits.progress_timeout));
            context.emit(Effect::Dispatch { to: worker.id, part, attempt });
        }
    }

    /// Ends every request that was never begun.
    pub(crate) fn finish_newcomers(&mut self, outcome: Outcome, context: &mut Context) {
        while let Some(request) = self.queue.oldest_newcomer() {
            self.end(request, outcome, context);
        }
    }

    /// Ends every request that no worker computes for.
    pub(crate) fn finish_stranded(&mut self, outcome: Outcome, context: &mut Context) {
        self.finish_newcomers(outcome, context);
        for request in self.stranded(context) {
            self.end(request, outcome, context);
        }
    }

    /// The requests that were begun and that no worker computes for.
    pub(crate) fn stranded(&self, context: &Context) -> Vec<RequestId> {
        let is_stranded =
            |id: &RequestId| context.requests.get(id).is_some_and(|record| record.holders().next().is_none());
        context.begun(self.id).filter(is_stranded).collect()
    }

    /// How many parts of a request may be begun beyond the first that is not done: enough to keep
    /// all workers at work.
    fn window(&self) -> u32 {
        self.limits.workers.saturating_mul(2)
    }

    pub(crate) fn with_worker<T>(
        &mut self,
        id: WorkerId,
        act: impl FnOnce(&mut crate::worker::Worker) -> T,
    ) -> Option<T> {
        self.slot_mut(id).and_then(|slot| slot.worker_mut(id.life.generation)).map(act)
    }
}
