//! What the supervisor decides, with no I/O, no clock, no threads and no logging in it.
//!
//! The daemon tells the policy what has happened ([`Policy::handle`]) and what time it is
//! ([`Policy::handle_timeout`], when [`Policy::next_deadline`] has come), and after each of these
//! does what [`Policy::poll_effect`] says. What an event does to a process or a request is done at
//! once. What follows from the state that all events have led to is done by [`Policy::settle`], once
//! for as many events as the daemon likes. The same calls with the same seed give the same effects,
//! so that `simulation.rs` can try ten thousand lives of a supervisor in seconds.
//!
//! ```text
//!                   Event                                             Effect
//! sockets, pids -----------> Policy --> Pool --> Queue                -----------> sockets, signals
//! clock         ----now---->           |-----> Template: Load, Examine, KillTemplate
//!                                      '-----> Slot --> Worker: Fork, Dispatch, StopRequest, Terminate, Kill
//!                            Context: limits, requests, poison, random: Finish
//!                                    '---> Threads: SetBudget, ReadThreads
//! ```
//!
//! The states of a worker and what each event does to them are the table in `worker.rs`; those of a
//! template the one in `template.rs`.
//!
//! # What the daemon must keep to
//!
//! * A worker's events come in the order in which they happened, `Forked` first and `Exited` last.
//!   Events of different processes may come in any order.
//! * `TemplateExited` comes after each `Forked` of that template. A worker that was not reported by
//!   then is never spoken of again. If it was half made, the daemon ends it.
//! * Before time goes on, and before it is asked for its next deadline, the policy has settled.
//! * Each `ReadMemory` is answered by one `MemoryRead` before time goes on.
//! * Whatever the policy killed or terminated ends with `Exited`, `ForkFailed` or its template's
//!   `TemplateExited`. That also holds for what was still to be forked.
//! * Boards are read more often than a worker may be without progress, and before each
//!   `handle_timeout`. Otherwise a slow worker is taken for a stuck one.
//! * Durations of [`Limits`] and [`PoolLimits`] are longer than nothing, except the back-off.
//!
//! # Invariants
//!
//! The simulation asserts them each time that the policy has settled, and draws how many events
//! come before that. Those of requests and processes also hold after each event.
//!
//! Requests:
//!
//! * Each request gets exactly one outcome.
//! * No worker holds two requests, and no part of one is with two workers.
//! * A request is given only to a worker that is ready, serving and not ending.
//! * A request is replayed only after its dead worker's exit.
//! * No request waits beside an idle worker that could compute a part of it.
//! * Requests that wait have parts begun in turn. The queue keeps its bound.
//!
//! Processes:
//!
//! * A slot has at most two processes, and their lives have ascending numbers.
//! * Nothing is forked from a template that is not warm.
//! * Nothing is asked of a process that has ended.
//!
//! The front:
//!
//! * There is at most one that serves, and one that shows whether a new configuration can be.
//! * One is killed only because it does not come to listen or is silent, or in the end.
//! * While one is wanted, there is one, or a time when it is started.
//!
//! Models:
//!
//! * No model is loaded that nobody wants. None is kept for longer than it may be idle.
//! * A model comes into force only after it has shown that it can be served. If it is loaded later,
//!   it is enough that it can be opened, and then it is not loaded for that.
//!
//! Memory:
//!
//! * No model is loaded that does not fit beside the others, with all its workers.
//! * No worker is forked that does not fit at that moment. Whatever is refused does not fit.
//!
//! Threads:
//!
//! * Budgets are at least 1. Their sum is at most the cores, or the workers that compute if those
//!   are more.
//! * No thread is granted before it was given back.
//! * No core is left over that a worker could use.
//! * When all has been given back, nobody has two threads more than another who could use them too.
//!
//! Time:
//!
//! * Handling a deadline leaves only later ones.
//! * When the world behaves again, every request ends, every slot of a wanted model becomes idle,
//!   and no deadline is left.
//! * After shutdown there is exactly one [`Effect::Halt`], with nothing left.
#![forbid(unsafe_code)]

mod back_off;
pub mod client_limits;
mod context;
mod event;
mod front;
mod lifecycle;
mod limits;
mod memory;
mod poison;
mod pool;
mod queue;
mod readiness;
mod reload;
mod request;
pub mod routing;
#[cfg(test)]
mod simulation;
mod slot;
mod template;
#[cfg(test)]
mod tests;
mod threads;
mod view;
mod worker;

pub use event::{
    Effect, Event, FrontId, Identity, Isolation, KillReason, Load, Loaded, Outcome, Part, PoolId, ReloadRefusal,
    TemplateId, Time, Work, WorkerId,
};
pub use front::FrontChange;
pub use limits::{Limits, PoolLimits};
pub use memory::{Memory, MemoryShortage, Need};
pub use reload::{Change, Reload};
pub use view::{PoolView, TemplateState, WorkerState, WorkerView};

use context::Context;
use front::Fronts;
use pool::Pool;
use std::collections::{BTreeMap, BTreeSet};
use worker::Worker;

/// The supervisor's policy: pools, queues, deadlines, back-off, replay and shutdown.
#[derive(Debug)]
pub struct Policy {
    pools: BTreeMap<PoolId, Pool>,
    fronts: Fronts,
    context: Context,
    phase: Phase,
    /// What is to come into force.
    reload: Option<Reload>,
    /// Whether a model has ever been loaded.
    has_served: bool,
    /// Whether something has happened that more may follow from.
    is_unsettled: bool,
    /// The pools that it has happened to.
    unsettled: BTreeSet<PoolId>,
}

/// How far the supervisor's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    /// What runs and waits may end by then; nothing else begins.
    Draining {
        deadline: Time,
    },
    /// Everything has been killed. By then nobody waits for it any more.
    Stopping {
        deadline: Time,
    },
    Halted,
}

impl Policy {
    /// A policy at the beginning of time, where the templates of eager pools begin to load. The
    /// same seed gives the same back-offs.
    pub fn new(limits: Limits, pools: Vec<PoolLimits>, seed: u64) -> Policy {
        let mut context = Context::new(limits, seed);
        let pools = pools.into_iter().enumerate().map(|(index, limits)| (PoolId(index), limits));
        let pools = pools.map(|(id, limits)| (id, Pool::new(id, limits, &mut context))).collect();
        Policy {
            pools,
            fronts: Fronts::default(),
            context,
            phase: Phase::Serving,
            reload: None,
            has_served: false,
            is_unsettled: false,
            unsettled: BTreeSet::new(),
        }
    }

    /// Has a front started.
    #[must_use]
    pub fn with_front(mut self) -> Policy {
        self.fronts.want(&mut self.context);
        self
    }

    /// Takes in what has happened. What is said of a process or a request that is no more changes
    /// nothing.
    pub fn handle(&mut self, now: Time, event: Event) {
        self.context.now = now;
        // These come often, and only put off a deadline: nothing follows from that.
        self.is_unsettled |= !matches!(event, Event::Streamed(_) | Event::Observed { .. } | Event::FrontBeat(_));
        match event {
            Event::Submitted { request, pool, .. } if !self.pools.contains_key(&pool) => {
                // A model that is not there gets its client an answer, too.
                let outcome =
                    if self.is_closing() { Outcome::ShuttingDown } else { Outcome::Unavailable { until: now } };
                self.context.finish(request, outcome);
            }
            Event::Submitted { request, pool, .. } => {
                // It is judged by what is left when all that came before it has been served, and
                // an idle worker that it was let in for is its own.
                self.settle_pool(pool);
                self.handle_in(pool, event);
                self.settle_pool(pool);
                if self.context.requests.contains_key(&request) {
                    self.context.emit(Effect::Accepted(request));
                }
            }
            Event::Restart { pool, .. } | Event::MemoryRead(pool, _) => self.handle_in(pool, event),
            Event::Withdrawn(request) | Event::Blocked { request, .. } => {
                if let Some(pool) = self.context.requests.get(&request).map(|record| record.pool) {
                    self.handle_in(pool, event);
                }
            }
            Event::Needs { template, needs, memory } => {
                self.needs(template, needs, memory);
                self.unsettled.insert(template.pool);
            }
            Event::TemplateReady(id, loaded) => {
                self.loaded(id, loaded);
                self.unsettled.insert(id.pool);
            }
            Event::Examined(id) | Event::LoadFailed(id) | Event::TemplateExited(id) => self.handle_in(id.pool, event),
            Event::Streamed(id) | Event::Observed { worker: id, .. } => {
                if let Some(pool) = self.pools.get_mut(&id.pool) {
                    pool.handle(event, &mut self.context);
                }
            }
            Event::Forked(id)
            | Event::ForkFailed(id)
            | Event::Shortage(id)
            | Event::Ready(id)
            | Event::Answered(id)
            | Event::Rejected(id)
            | Event::Misbehaved(id)
            | Event::MemoryTaken { worker: id, .. }
            | Event::Exited(id) => self.handle_in(id.pool, event),
            Event::FrontListening(id) => self.fronts.listening(id, &self.context),
            Event::FrontFailed(id) => self.fronts.failed(id, &mut self.context),
            Event::FrontBeat(id) => self.fronts.beat(id, &self.context),
            Event::FrontExited(id) => self.fronts.exited(id, &mut self.context),
            Event::ThreadsUsed { worker, threads } => self.context.threads.used(worker, threads),
            Event::Drain(is_draining) => {
                self.context.draining = is_draining;
                self.unsettled.extend(self.pools.keys());
            }
            Event::ShutdownRequested => self.shutdown(),
            Event::Reload(reload) => self.begin_reload(reload),
        }
    }

    fn handle_in(&mut self, id: PoolId, event: Event) {
        if let Some(pool) = self.pools.get_mut(&id) {
            pool.handle(event, &mut self.context);
            self.unsettled.insert(id);
        }
    }

    /// Whether something has happened since the policy settled last.
    pub fn is_unsettled(&self) -> bool {
        self.is_unsettled
    }

    /// Does what follows from all that has happened.
    pub fn settle(&mut self, now: Time) {
        self.context.now = now;
        if self.is_unsettled {
            self.settle_all();
        }
    }

    /// Does what has come due. Calling it too early or too often changes nothing.
    pub fn handle_timeout(&mut self, now: Time) {
        self.context.now = now;
        match self.phase {
            Phase::Draining { deadline } if deadline <= now => self.stop_at_once(),
            Phase::Stopping { deadline } if deadline <= now => self.halt(),
            Phase::Serving | Phase::Draining { .. } | Phase::Stopping { .. } | Phase::Halted => {}
        }
        for pool in self.pools.values_mut() {
            pool.expire(&mut self.context);
        }
        self.unsettled.extend(self.pools.keys());
        self.fronts.expire(&mut self.context);
        self.context.expire_threads();
        self.settle_all();
    }

    /// When [`Policy::handle_timeout`] must be called, unless an event changes it before.
    pub fn next_deadline(&self) -> Option<Time> {
        let stop = match self.phase {
            Phase::Draining { deadline } | Phase::Stopping { deadline } => Some(deadline),
            Phase::Serving | Phase::Halted => None,
        };
        self.next_deadline_of_pools().into_iter().chain(stop).chain(self.fronts.next_deadline()).min()
    }

    fn next_deadline_of_pools(&self) -> Option<Time> {
        let pools = self.pools.values().filter_map(|pool| pool.next_deadline(&self.context));
        pools.chain(self.context.threads.next_deadline()).min()
    }

    /// The next thing to do. To be called until there is none, after `new` and after each call that
    /// says what has happened, that time has passed, or that the policy is to settle.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.context.effects.pop_front()
    }

    /// What the status shows of a pool.
    ///
    /// # Panics
    ///
    /// If there is no such pool.
    pub fn pool(&self, pool: PoolId) -> PoolView {
        self.pools[&pool].view(&self.context)
    }

    /// How many requests of a pool wait that were never begun; none if there is no such pool.
    pub fn queued(&self, pool: PoolId) -> usize {
        self.pools.get(&pool).map_or(0, |pool| pool.queue.newcomers())
    }

    /// Whether it is a crash if the worker's process ends now, in good order or not: to be asked
    /// before the policy is told that it has ended. Who was told to go may do so in any way.
    pub fn is_worker_crash(&self, id: WorkerId, is_clean: bool) -> bool {
        self.pools.get(&id.pool).and_then(|pool| pool.worker(id)).is_some_and(|worker| worker.is_crash(is_clean))
    }

    /// Why the worker was killed, if it was and has not ended.
    pub fn kill_reason(&self, id: WorkerId) -> Option<KillReason> {
        self.pools.get(&id.pool).and_then(|pool| pool.worker(id)).and_then(Worker::kill_reason)
    }

    /// Whether the worker was asked to exit and has not ended.
    pub fn is_terminating(&self, id: WorkerId) -> bool {
        self.pools.get(&id.pool).and_then(|pool| pool.worker(id)).is_some_and(Worker::is_terminating)
    }

    /// Whether it is a crash if the template's process ends now: to be asked before the policy is
    /// told that it has ended.
    pub fn is_template_crash(&self, id: TemplateId) -> bool {
        let pool = self.pools.get(&id.pool).filter(|pool| pool.template.id == id && !self.is_closing());
        pool.is_some_and(|pool| pool.template.is_crash())
    }

    /// Whether the front's end is a crash if its process ends now: to be asked before the policy is
    /// told that it has ended.
    pub fn is_front_crash(&self, id: FrontId) -> bool {
        self.fronts.is_crash(id)
    }

    /// The front that serves.
    pub fn front(&self) -> Option<FrontId> {
        self.fronts.serving()
    }

    /// Whether nothing can be served as it should: the first front cannot listen, or no model has ever been loaded, and each that is to be there
    /// from the start has failed or crashed in a loop. One that is loaded when it is asked for
    /// always may be.
    pub fn is_hopeless(&self) -> bool {
        let mut serving = self.pools.values().filter(|pool| pool.is_serving());
        let is_given_up = |pool: &Pool| pool.limits.load == Load::Eager && pool.template.is_given_up();
        let serves_nobody = !self.has_served && self.reload.is_none() && serving.all(is_given_up);
        serves_nobody || self.fronts.is_hopeless()
    }

    /// Whether the supervisor is stopping.
    pub fn is_closing(&self) -> bool {
        self.context.closing
    }

    /// Whether requests that have not begun are refused.
    pub fn is_draining(&self) -> bool {
        self.context.draining
    }

    /// The requests that have no outcome: how many were begun, and how many wait for that.
    pub fn open_requests(&self) -> (usize, usize) {
        let begun = self.context.begun.len();
        (begun, self.context.requests.len() - begun)
    }

    fn shutdown(&mut self) {
        match self.phase {
            Phase::Serving => {
                self.context.closing = true;
                self.fronts.close(&mut self.context);
                self.phase = Phase::Draining { deadline: self.context.now.after(self.context.limits.drain) };
                self.unsettled.extend(self.pools.keys());
            }
            Phase::Draining { .. } => self.stop_at_once(),
            Phase::Stopping { .. } | Phase::Halted => {}
        }
    }

    fn stop_at_once(&mut self) {
        self.phase = Phase::Stopping { deadline: self.context.now.after(self.context.limits.last) };
        for pool in self.pools.values_mut() {
            pool.stop_at_once(&mut self.context);
        }
        self.fronts.stop_at_once(&mut self.context);
    }

    fn settle_pool(&mut self, id: PoolId) {
        if self.unsettled.remove(&id)
            && let Some(pool) = self.pools.get_mut(&id)
        {
            pool.settle(&mut self.context);
            self.deliver_transfers();
        }
    }

    /// Does what follows for each pool. What takes another one's place has a later number, so it
    /// gets what waits there before it serves anything.
    fn settle_pools(&mut self) {
        while let Some(id) = self.unsettled.first().copied() {
            self.settle_pool(id);
        }
    }

    /// Does all that follows.
    fn settle_all(&mut self) {
        self.is_unsettled = false;
        self.settle_pools();
        self.conclude_reload();
        self.settle_pools();
        while self.note_predecessors() {
            self.settle_pools();
        }
        self.remove_retired();
        self.fronts.settle(&mut self.context);
        self.context.balance_threads();
        match self.phase {
            Phase::Draining { .. } | Phase::Stopping { .. } if self.is_over() => self.halt(),
            Phase::Serving | Phase::Draining { .. } | Phase::Stopping { .. } | Phase::Halted => {}
        }
    }

    fn is_over(&self) -> bool {
        self.pools.values().all(Pool::is_over) && self.fronts.is_over()
    }

    fn halt(&mut self) {
        self.phase = Phase::Halted;
        self.context.emit(Effect::Halt);
    }
}
