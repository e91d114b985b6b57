//! What must hold, seen from outside the core: a plain record of what it was told and of what it asked for.
//!
//! Nothing here is the core's own, but for the end of a back-off, which is random; so a rule that the core forgets is
//! not forgotten here too. This file records what the core is told; `effects.rs` checks what it asks for, and
//! `invariants.rs` what must hold between two steps.
mod effects;
mod health;
mod invariants;
mod residence;
mod threads;

use super::super::event::{
    Event, Isolation, KillReason, Limits, Load, Outcome, Part, PoolId, PoolLimits, TemplateId, Time, Work, WorkerId,
};
use ipc::RequestId;
use std::collections::{BTreeMap, BTreeSet};

pub(super) struct Rules {
    limits: Limits,
    pools: Vec<Pool>,
    workers: BTreeMap<WorkerId, Worker>,
    requests: BTreeMap<RequestId, Request>,
    /// The requests that have no outcome.
    open: BTreeSet<RequestId>,
    poison: BTreeMap<u64, Time>,
    now: Time,
    /// What is being handled; none while time passes.
    event: Option<Event>,
    /// The request of which the end is being handled.
    answering: Option<RequestId>,
    /// Requests of which a part is not computed any more, although it could be: they must end in the same step.
    given_up: Vec<RequestId>,
    turns: u64,
    /// Whether more than the one thread of a newcomer was granted in this step.
    has_granted: bool,
    closing: u32,
    halts: u32,
    /// How often a pool was found that does not move.
    stalls: u64,
}

struct Pool {
    limits: PoolLimits,
    template: Option<Template>,
    loaded: u64,
    newest: BTreeMap<u32, u64>,
    /// Lives in a row that ended before they were ready, and templates in a row that crashed.
    early_deaths: u32,
    crashes: u32,
    is_parked: bool,
    must_park: bool,
    /// Whether it is to be loaded with no request.
    is_resident: bool,
    /// Whether it was let go and not loaded since.
    is_unloaded: bool,
    /// Until when there is no room for another worker of a slot.
    no_room: BTreeMap<u32, Time>,
    /// When a request was there last, or the model became warm.
    used: Time,
    /// Whether it is being loaded and there was no worker then.
    is_first_load: bool,
}

struct Template {
    id: TemplateId,
    since: Time,
    is_ready: bool,
    has_failed: bool,
    killed: Option<Time>,
    /// It was killed for no fault of its own, so its exit is no crash.
    is_expected_to_exit: bool,
}

/// A worker of which no end has been heard.
#[derive(Debug)]
struct Worker {
    asked: Time,
    is_forked: bool,
    is_ready: bool,
    /// What it computes of an open request.
    part: Option<Part>,
    /// What it was given last.
    last: Option<Part>,
    progress: Time,
    ticks: u64,
    has_misbehaved: bool,
    /// It has answered and is to exit.
    retires: Option<Time>,
    stops: Option<Time>,
    terminates: Option<Time>,
    killed: Option<KillReason>,
    killed_at: Time,
    /// Its budget, and what it may still be computing with.
    granted: u32,
    held: u32,
}

struct Request {
    pool: PoolId,
    fingerprint: u64,
    work: Work,
    /// Since when its wait counts.
    waits: Time,
    dispatched: Option<Time>,
    /// The parts that were begun: how many workers died under each, and whether it is done.
    parts: Vec<Progress>,
    /// When it was last its turn, or when it came.
    turn: u64,
    is_blocked: bool,
    is_withdrawn: bool,
    outcome: Option<Outcome>,
}

#[derive(Default)]
struct Progress {
    deaths: u32,
    is_done: bool,
}

impl Request {
    /// Whether a part that was never begun may be begun.
    fn may_begin(&self, window: u32) -> bool {
        let begun = self.parts.len() as u32;
        let first = self.parts.iter().position(|part| !part.is_done).map_or(begun, |first| first as u32);
        (begun == 0 || !self.is_blocked) && begun < self.work.parts && begun - first < window
    }

    fn is_done(&self) -> bool {
        self.parts.len() as u32 == self.work.parts && self.parts.iter().all(|part| part.is_done)
    }
}

impl Rules {
    pub(super) fn new(limits: Limits, pools: Vec<PoolLimits>) -> Rules {
        let pool = |limits: PoolLimits| Pool {
            limits,
            template: None,
            loaded: 0,
            newest: BTreeMap::new(),
            early_deaths: 0,
            crashes: 0,
            is_parked: false,
            must_park: false,
            is_resident: limits.load == Load::Eager,
            is_unloaded: false,
            no_room: BTreeMap::new(),
            used: Time::default(),
            is_first_load: false,
        };
        Rules {
            limits,
            pools: pools.into_iter().map(pool).collect(),
            workers: BTreeMap::new(),
            requests: BTreeMap::new(),
            open: BTreeSet::new(),
            poison: BTreeMap::new(),
            now: Time::default(),
            event: None,
            answering: None,
            given_up: Vec::new(),
            turns: 0,
            has_granted: false,
            closing: 0,
            halts: 0,
            stalls: 0,
        }
    }

    pub(super) fn pools(&self) -> usize {
        self.pools.len()
    }

    pub(super) fn slots(&self, pool: usize) -> usize {
        self.pools[pool].limits.workers as usize
    }

    /// The open requests of which no part may be begun.
    pub(super) fn blocked(&self) -> Vec<RequestId> {
        self.open.iter().copied().filter(|request| self.requests[request].is_blocked).collect()
    }

    /// Records what the core is about to be told.
    pub(super) fn before(&mut self, now: Time, event: Event) {
        (self.now, self.event) = (now, Some(event));
        self.note_use();
        match event {
            Event::Submitted { request, pool, fingerprint, work } => {
                self.turns += 1;
                let record = Request {
                    pool,
                    fingerprint,
                    work,
                    waits: now,
                    dispatched: None,
                    parts: Vec::new(),
                    turn: self.turns,
                    is_blocked: false,
                    is_withdrawn: false,
                    outcome: None,
                };
                self.requests.insert(request, record);
                self.open.insert(request);
            }
            Event::Withdrawn(request) => {
                if let Some(request) = self.requests.get_mut(&request) {
                    request.is_withdrawn = true;
                }
            }
            Event::Blocked { request, is_blocked } => {
                if let Some(request) = self.requests.get_mut(&request) {
                    request.is_blocked = is_blocked;
                }
            }
            Event::TemplateReady(id) => {
                self.template(id, |template| template.is_ready = true);
                self.pools[id.pool.0].used = now;
                self.load_ended(id.pool);
            }
            Event::LoadFailed(id) => {
                self.template(id, |template| template.has_failed = template.killed.is_none());
                self.load_ended(id.pool);
            }
            Event::TemplateExited(id) => self.template_exited(id),
            Event::Forked(id) => self.worker(id).is_forked = true,
            Event::Ready(id) => {
                let worker = self.worker(id);
                if worker.killed.is_none() && worker.terminates.is_none() {
                    worker.is_ready = true;
                    let pool = &mut self.pools[id.pool.0];
                    (pool.early_deaths, pool.crashes) = (0, 0);
                }
            }
            Event::Streamed(id) => self.worker(id).progress = now,
            Event::Observed { worker: id, ticks } => {
                if let Some(worker) = self.workers.get_mut(&id).filter(|worker| worker.ticks != ticks) {
                    (worker.ticks, worker.progress) = (ticks, now);
                }
            }
            Event::ThreadsUsed { worker: id, threads } => {
                if let Some(worker) = self.workers.get_mut(&id) {
                    worker.held = worker.held.min(threads).max(worker.granted);
                }
            }
            Event::Answered(id) | Event::Rejected(id) => {
                let isolation = self.pools[id.pool.0].limits.isolation;
                let worker = self.worker(id);
                worker.stops = None;
                let answering = worker.part.filter(|_| worker.killed.is_none());
                if answering.is_some() && isolation == Isolation::Request {
                    worker.retires = Some(now);
                }
                if matches!(event, Event::Answered(_))
                    && let Some(part) = answering
                {
                    worker.part = None;
                    let request = self.requests.get_mut(&part.request).expect("it was submitted");
                    request.parts[part.number as usize].is_done = true;
                }
                self.answering = answering.map(|part| part.request);
            }
            Event::Misbehaved(id) => {
                let worker = self.worker(id);
                worker.has_misbehaved = true;
                if worker.killed.is_none() {
                    self.count_death(id);
                }
            }
            Event::ForkFailed(id) | Event::Exited { worker: id, .. } => self.worker_ended(id),
            Event::NoRoom(id) => {
                self.workers.remove(&id);
                let until = now.after(self.limits.room);
                self.pools[id.pool.0].no_room.insert(id.life.slot, until);
            }
            Event::ShutdownRequested => self.closing += 1,
        }
    }

    pub(super) fn before_timeout(&mut self, now: Time) {
        (self.now, self.event) = (now, None);
        self.note_use();
    }

    fn template(&mut self, id: TemplateId, change: impl FnOnce(&mut Template)) {
        let template = self.pools[id.pool.0].template.as_mut().filter(|template| template.id == id);
        change(template.expect("it is heard of only while it lives"));
    }

    fn worker(&mut self, id: WorkerId) -> &mut Worker {
        self.workers.get_mut(&id).unwrap_or_else(|| panic!("{id:?} has ended"))
    }

    fn template_exited(&mut self, id: TemplateId) {
        self.load_ended(id.pool);
        let limits = self.limits;
        let pool = &mut self.pools[id.pool.0];
        let template = pool.template.take().expect("it ends once");
        assert_eq!(template.id, id);
        if !template.has_failed && !template.is_expected_to_exit && !pool.is_parked {
            pool.must_park |= count(&mut pool.crashes, &limits);
        }
        self.workers.retain(|worker, state| worker.pool != id.pool || state.is_forked);
    }

    fn worker_ended(&mut self, id: WorkerId) {
        let worker = self.worker(id);
        let is_early = match worker.killed {
            None => worker.terminates.is_none(),
            Some(KillReason::StartTimeout) => true,
            Some(KillReason::Misbehaved) => worker.terminates.is_none(),
            Some(_) => false,
        };
        if !worker.is_ready && is_early {
            let pool = &mut self.pools[id.pool.0];
            pool.must_park |= count(&mut pool.early_deaths, &self.limits);
        }
        if self.worker(id).killed.is_none() {
            self.count_death(id);
        }
        self.workers.remove(&id);
    }

    /// The worker's request has cost a worker.
    fn count_death(&mut self, id: WorkerId) {
        if let Some(part) = self.worker(id).part.take() {
            let request = self.requests.get_mut(&part.request).expect("it was submitted");
            request.parts[part.number as usize].deaths += 1;
        }
    }
}

/// Counts one more in a row: whether that is too many.
fn count(in_a_row: &mut u32, limits: &Limits) -> bool {
    *in_a_row += 1;
    let is_loop = *in_a_row >= limits.crash_loop;
    if is_loop {
        *in_a_row = limits.crash_loop - 1;
    }
    is_loop
}
