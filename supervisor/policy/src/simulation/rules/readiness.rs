//! A pool that is said not to move has nothing to come, and one that has nothing to come is said
//! not to move.
use super::super::super::event::{PoolId, Time};
use super::super::super::{Policy, TemplateState};
use super::{Lifecycle, Rules, Worker};

impl Rules {
    pub(super) fn check_health(&mut self, policy: &Policy) {
        let stalled = self.there().into_iter().find(|id| self.is_stalled(*id, policy));
        assert_eq!(policy.stalled(self.now), stalled);
        self.stalls += u64::from(stalled.is_some());
        // Whoever waits for a reload does not give it up while it loads.
        let is_reloading = self.reload.is_some() && self.closing == 0;
        assert!(!is_reloading || policy.needs_time(), "nobody is told that a reload takes its time");
    }

    /// How often a pool was found that does not move.
    pub(in super::super) fn stalls(&self) -> u64 {
        self.stalls
    }

    fn is_stalled(&self, id: PoolId, policy: &Policy) -> bool {
        let has_open = self.open.iter().any(|request| self.requests[request].pool == id);
        let is_serving = self.pools[id.0].lifecycle == Lifecycle::Serving;
        if self.closing > 0 || !is_serving || !(self.pools[id.0].is_resident || has_open) {
            return false;
        }
        let mut last = self.template_due(id, policy);
        for slot in 0..self.pools[id.0].limits.workers {
            let mut here = self.workers.iter().filter(|(worker, _)| worker.pool == id && worker.life.slot == slot);
            let due = match here.next() {
                Some((_, worker)) if is_idle(worker) => return false,
                Some((_, worker)) => Some(self.worker_due(id, worker)),
                None => self.is_warm(id).then_some(policy.pools[&id].slots[slot as usize].fork_at),
            };
            last = last.max(due);
        }
        last.expect("there is a template or something to come").after(self.limits.stall) <= self.now
    }

    fn is_warm(&self, id: PoolId) -> bool {
        let template = self.pools[id.0].template.as_ref();
        template.is_some_and(|template| template.is_ready && !template.has_failed && template.killed.is_none())
    }

    /// When the template must have done something, if it must.
    fn template_due(&self, id: PoolId, policy: &Policy) -> Option<Time> {
        let template = self.pools[id.0].template.as_ref();
        match policy.pool(id).state {
            TemplateState::Failed { retry_at: time }
            | TemplateState::Parked { retry_at: time }
            | TemplateState::Waiting { until: time } => Some(time),
            TemplateState::Loading => template.map(|template| template.since.after(self.limits.load)),
            TemplateState::Cold => template.and_then(|template| template.killed),
            TemplateState::Warm | TemplateState::Stopped => None,
        }
    }

    /// When a worker that is not idle must have done something.
    fn worker_due(&self, id: PoolId, worker: &Worker) -> Time {
        let (limits, pool) = (self.limits, self.pools[id.0].limits);
        if worker.killed.is_some() {
            return worker.killed_at;
        }
        let asked_to_end = worker.retires.or(worker.terminates).map(|since| since.after(limits.grace));
        let asked_to_stop = worker.stops.map(|since| since.after(limits.cancel));
        let computes = worker.part.map(|_| worker.progress.after(pool.progress_timeout));
        asked_to_end.or(asked_to_stop).or(computes).unwrap_or(worker.asked.after(limits.start))
    }
}

fn is_idle(worker: &Worker) -> bool {
    let is_asked = worker.retires.or(worker.terminates).or(worker.stops).is_some();
    worker.is_ready && worker.killed.is_none() && worker.part.is_none() && !is_asked
}
