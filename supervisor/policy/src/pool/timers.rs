//! What time does to a pool: when it must be looked at next, and what has come due by then.
//!
//! The two sides are kept together because they must agree: a deadline that `next_deadline` names
//! and `expire` or `settle` does not act on would be a busy loop.
use crate::context::Context;
use crate::event::{Outcome, Time};
use crate::pool::Pool;
use crate::slot::Slot;
use ipc::RequestId;

impl Pool {
    /// When something comes due if nothing happens before.
    pub(crate) fn next_deadline(&self, context: &Context) -> Option<Time> {
        let load = self.template.load_at().filter(|_| self.wants_model(context));
        let may_fork = self.may_fork(context) && !self.asks_memory;
        let forks = self.wanted_slots().filter(|slot| may_fork && slot.lacks_worker(self.limits.isolation));
        let forks = forks.map(|slot| slot.fork_at);
        let slots = self.slots.iter().filter_map(|slot| {
            let workers = slot.workers().filter_map(|worker| {
                let stuck = worker.fork_deadline().filter(|_| self.template.is_warm());
                worker.deadline().into_iter().chain(stuck).min()
            });
            workers.min()
        });
        let newcomer = self.first_to_expire(context).filter(|_| !self.is_clock_stopped);
        let requests = context.begun(self.id).chain(newcomer);
        let requests = requests.filter_map(|request| context.requests.get(&request));
        let requests = requests.map(|request| request.deadline);
        let unload = self.unload_at();
        self.template.deadline().into_iter().chain(load).chain(unload).chain(forks).chain(slots).chain(requests).min()
    }

    /// The newcomer whose wait ends first.
    fn first_to_expire(&self, context: &Context) -> Option<RequestId> {
        if !self.has_mixed_waits {
            return self.queue.oldest_newcomer();
        }
        let deadline = |request: &RequestId| context.requests.get(request).map(|record| record.deadline);
        self.queue.all_newcomers().min_by_key(deadline)
    }

    /// Ends those that have waited for too long.
    pub(super) fn end_waits(&mut self, context: &mut Context) {
        if self.is_clock_stopped {
            return;
        }
        while let Some(request) = self.first_to_expire(context).filter(|request| context.is_overdue(*request)) {
            self.end(request, Outcome::QueueTimeout, context);
        }
    }

    /// Ends what has come due. What is to begin now begins when the pool settles.
    pub(crate) fn expire(&mut self, context: &mut Context) {
        self.template.expire(context);
        self.unload_if_idle(context);
        self.has_mixed_waits &= self.queue.newcomers() > 0;
        self.end_waits(context);
        let overdue: Vec<_> = context.begun(self.id).filter(|request| context.is_overdue(*request)).collect();
        for request in overdue {
            self.end(request, Outcome::RequestTimeout, context);
        }
        for worker in self.slots.iter_mut().flat_map(Slot::workers_mut) {
            worker.expire(&self.limits, context);
            // A template that has been asked for a worker and neither forks nor refuses is stuck.
            let is_stuck = worker.fork_deadline().is_some_and(|deadline| deadline <= context.now);
            if is_stuck && self.template.is_warm() {
                self.template.kill(context);
            }
        }
        self.end_doomed(context);
    }
}
