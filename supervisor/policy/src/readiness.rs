//! What whoever started the supervisor wants to know of it: whether it serves, and whether its
//! pools still move.
//!
//! It is ready when the front listens, if there is to be one, and when each model that is loaded from the start is served or known not to be, and
//! there is one that can be asked. A model that is loaded when it is asked for can.
//!
//! A pool moves as long as it has an idle worker, or one that it hears of in time, or something to
//! come: a load, a fork, the end of a back-off. All of these have limits, after which the policy
//! kills and begins again; so a slow model moves, and so does one whose workers crash or hang. What
//! has no limit is the end of a process that was killed. A pool that is wanted and has nothing but
//! such processes, all of them for far longer than it takes to end, does not move and never will:
//! whoever can should start the supervisor anew.
use super::context::Context;
use super::event::{Load, PoolId, Time};
use super::lifecycle::Lifecycle;
use super::pool::Pool;
use super::slot::Slot;
use super::worker::{State, Worker};
use super::{Phase, Policy};

/// How far a pool is on its way to being served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    Preparing,
    Served,
    /// Loading has failed, or what was loaded does not work.
    NotServed,
}

impl Policy {
    /// Whether it serves: no model that is loaded from the start is still on its way, and some
    /// model can be asked.
    pub fn is_ready(&self) -> bool {
        let readiness = || self.pools.values().filter(|pool| pool.lifecycle == Lifecycle::Serving).map(Pool::readiness);
        self.phase == Phase::Serving
            && self.fronts.is_ready()
            && readiness().all(|readiness| readiness != Readiness::Preparing)
            && readiness().any(|readiness| readiness == Readiness::Served)
    }

    /// Whether something goes on that takes its time and has a limit: models are loaded that are to
    /// be there from the start, a new configuration is tried, or what runs and waits is finished
    /// before the end.
    pub fn needs_time(&self) -> bool {
        match self.phase {
            Phase::Serving => {
                // A lazy model that a reload tries is served by nobody yet.
                self.reload.is_some()
                    || self.fronts.is_preparing()
                    || self.pools.values().any(|pool| pool.readiness() == Readiness::Preparing)
            }
            Phase::Draining { .. } => true,
            Phase::Stopping { .. } | Phase::Halted => false,
        }
    }

    /// A pool that does not move any more, if there is one. How long stopping takes is not judged
    /// here.
    pub fn stalled(&self, now: Time) -> Option<PoolId> {
        let is_stalled = |pool: &&Pool| pool.lifecycle == Lifecycle::Serving && pool.is_stalled(now, &self.context);
        self.pools.values().find(is_stalled).filter(|_| !self.is_closing()).map(|pool| pool.id)
    }
}

impl Pool {
    fn readiness(&self) -> Readiness {
        let is_starting = |worker: &Worker| worker.state() == State::Starting;
        if self.limits.load == Load::Lazy || self.template.is_cold() || self.workers().any(Worker::has_been_ready) {
            Readiness::Served
        } else if self.template.has_failed()
            || self.template.is_warm() && !self.asks_memory && !self.workers().any(is_starting)
        {
            Readiness::NotServed
        } else {
            Readiness::Preparing
        }
    }

    fn is_stalled(&self, now: Time, context: &Context) -> bool {
        let may_fork = self.may_fork(context);
        // A spare serves only once the worker that it stands by for has ended.
        let due = |slot: &Slot| match slot.serving() {
            Some(worker) => worker.due(),
            None => may_fork.then_some(slot.fork_at),
        };
        let last = self.wanted_slots().filter_map(due).chain(self.template.due()).max();
        let has_idle = self.wanted_slots().filter_map(Slot::serving).any(Worker::is_idle);
        self.wants_model(context) && !has_idle && last.is_some_and(|last| last.after(context.limits.stall) <= now)
    }
}
