//! What must hold, seen from outside the policy: a plain record of what it was told and of what it
//! asked for.
//!
//! Nothing here is the policy's own, but for the end of a back-off, which is random; so a rule that
//! the policy forgets is not forgotten here too. This file records what the policy is told;
//! `effects.rs` checks what it asks for, and `invariants.rs` what must hold between two steps.
mod effects;
mod fronts;
mod invariants;
mod loading;
mod memory;
mod readiness;
mod reload;
mod threads;

use super::super::event::{
    Event, Identity, Isolation, KillReason, Load, Outcome, Part, PoolId, TemplateId, Time, Work, WorkerId,
};
use super::super::limits::{Limits, PoolLimits};
use super::super::{Policy, Reload};
use fronts::Fronts;
use ipc::{Needs, RequestId};
use memory::Verdict;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub(super) struct Rules {
    limits: Limits,
    pools: Vec<Pool>,
    workers: BTreeMap<WorkerId, Worker>,
    requests: BTreeMap<RequestId, Request>,
    /// The requests that have no outcome.
    open: BTreeSet<RequestId>,
    poison: BTreeMap<u64, Time>,
    now: Time,
    /// What has been told since the policy settled last; nothing while time passes.
    batch: Vec<Event>,
    /// The request of which the end is being handled.
    answering: Option<RequestId>,
    /// Requests of which a part is not computed any more, although it could be: they must end in
    /// the same step.
    given_up: Vec<RequestId>,
    turns: u64,
    /// Whether more than the one thread of a newcomer was granted in this step.
    has_granted: bool,
    closing: u32,
    /// When everything is killed that has not ended by then.
    stop_by: Option<Time>,
    /// Since when everything is killed.
    stopping: Option<Time>,
    halts: u32,
    draining: bool,
    reload: Option<Reload>,
    /// The models that something was decided about in this step: what runs of others is left alone.
    decided: Option<BTreeSet<PoolId>>,
    /// How often a pool was found that does not move.
    stalls: u64,
    /// What is to be said of what a template needs.
    verdict: Option<(TemplateId, Verdict)>,
    /// The models for whose growth a reload must be refused.
    outgrown: Vec<PoolId>,
    /// Whether a model has ever been loaded.
    has_served: bool,
    fronts: Fronts,
}

/// What part a model plays.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lifecycle {
    Staged,
    Serving,
    Retired,
    Gone,
}

struct Pool {
    limits: PoolLimits,
    lifecycle: Lifecycle,
    /// What takes the place of one that is retired.
    successor: Option<PoolId>,
    /// What that had loaded when it took over.
    successor_identity: Option<Identity>,
    /// The longest queue that it ever could have.
    longest: usize,
    /// The most workers that may ever have died under a request.
    most_attempts: u32,
    /// What the last template that could had loaded.
    identity: Option<Identity>,
    /// Whether a worker has been ready, or the model was opened and that is enough.
    is_proven: bool,
    /// Whether the model is opened and not loaded before it is asked for.
    is_only_opened: bool,
    /// Whether it cannot be served, although it was to be.
    has_failed: bool,
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
    /// What its template has said that it needs.
    need: Option<Needs>,
    /// Whether it waits to be told how much memory there is.
    asks_memory: bool,
    /// When a request was there last, or the model became warm.
    used: Time,
    /// Whether it is being loaded and there was no worker then.
    is_first_load: bool,
}

struct Template {
    id: TemplateId,
    since: Time,
    /// It is only to open its model.
    only_opens: bool,
    is_ready: bool,
    /// It has opened its model, and nothing more is wanted of it.
    has_opened: bool,
    has_failed: bool,
    killed: Option<Time>,
    /// It was killed for no fault of its own, so its exit is no crash.
    is_expected_to_exit: bool,
}

impl Template {
    fn new(id: TemplateId, since: Time, only_opens: bool) -> Template {
        Template {
            id,
            since,
            only_opens,
            is_ready: false,
            has_opened: false,
            has_failed: false,
            killed: None,
            is_expected_to_exit: false,
        }
    }
}

/// A worker of which no end has been heard.
#[derive(Debug)]
struct Worker {
    asked: Time,
    is_forked: bool,
    is_ready: bool,
    identity: Identity,
    template: TemplateId,
    /// What it may take for itself, by the limits when it was forked.
    memory: u64,
    /// It was seen to have taken more, while its template was there.
    has_too_much: bool,
    /// Another is to take its place.
    replace_when_idle: bool,
    /// What it computes of an open request.
    part: Option<Part>,
    /// What it was given last.
    last: Option<Part>,
    progress: Time,
    /// How long it may make none, by the limits when it last did.
    patience: Duration,
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
    owner: u64,
    work: Work,
    /// Since when its wait counts, and how long it may wait.
    waits: Time,
    may_wait: Duration,
    /// When its client gives up.
    gives_up: Option<Time>,
    /// How long it may run, by the limits when it was dispatched first.
    may_run: Duration,
    dispatched: Option<Time>,
    /// The parts that were begun: how many workers died under each, and whether it is done.
    parts: Vec<Progress>,
    /// When it was last its turn, or when it came.
    turn: u64,
    /// What has computed some of the answer.
    identity: Option<Identity>,
    /// It was let in elsewhere.
    has_moved: bool,
    is_blocked: bool,
    is_withdrawn: bool,
    /// Its client was told that it was let in.
    is_accepted: bool,
    outcome: Option<Outcome>,
}

#[derive(Default)]
struct Progress {
    deaths: u32,
    is_done: bool,
}

impl Request {
    /// When it is ended if it was not begun.
    fn end_of_wait(&self) -> Time {
        let limit = self.waits.after(self.may_wait);
        self.gives_up.map_or(limit, |client| client.min(limit))
    }

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

impl Pool {
    fn new(limits: PoolLimits, lifecycle: Lifecycle) -> Pool {
        Pool {
            limits,
            lifecycle,
            successor: None,
            successor_identity: None,
            longest: limits.queue,
            most_attempts: limits.max_attempts,
            identity: None,
            is_proven: false,
            is_only_opened: false,
            has_failed: false,
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
            need: None,
            asks_memory: false,
            used: Time::default(),
            is_first_load: false,
        }
    }
}

impl Rules {
    pub(super) fn new(limits: Limits, pools: Vec<PoolLimits>) -> Rules {
        Rules {
            limits,
            pools: pools.into_iter().map(|limits| Pool::new(limits, Lifecycle::Serving)).collect(),
            workers: BTreeMap::new(),
            requests: BTreeMap::new(),
            open: BTreeSet::new(),
            poison: BTreeMap::new(),
            now: Time::default(),
            batch: Vec::new(),
            answering: None,
            given_up: Vec::new(),
            turns: 0,
            has_granted: false,
            closing: 0,
            stop_by: None,
            stopping: None,
            halts: 0,
            draining: false,
            reload: None,
            decided: None,
            stalls: 0,
            verdict: None,
            outgrown: Vec::new(),
            has_served: false,
            fronts: Fronts::default(),
        }
    }

    pub(super) fn limits(&self, pool: PoolId) -> PoolLimits {
        self.pools[pool.0].limits
    }

    pub(super) fn pools(&self) -> usize {
        self.pools.len()
    }

    pub(super) fn slots(&self, pool: PoolId) -> usize {
        self.pools[pool.0].limits.workers as usize
    }

    /// The open requests of which no part may be begun.
    pub(super) fn blocked(&self) -> Vec<RequestId> {
        self.open.iter().copied().filter(|request| self.requests[request].is_blocked).collect()
    }

    /// Records what the policy is about to be told.
    pub(super) fn before(&mut self, now: Time, event: &Event, policy: &Policy) {
        (self.now, self.decided) = (now, None);
        self.batch.push(event.clone());
        self.note_use();
        match *event {
            Event::Reload(ref reload) => self.before_reload(reload, policy),
            Event::Submitted { request, pool, fingerprint, owner, patience, work } => {
                let record = Request {
                    pool,
                    fingerprint,
                    owner,
                    work,
                    waits: now,
                    may_wait: self.pools.get(pool.0).map_or(Duration::ZERO, |pool| pool.limits.queue_timeout),
                    gives_up: patience.map(|patience| now.after(patience)),
                    may_run: Duration::ZERO,
                    dispatched: None,
                    parts: Vec::new(),
                    turn: u64::MAX,
                    identity: None,
                    has_moved: false,
                    is_blocked: false,
                    is_withdrawn: false,
                    is_accepted: false,
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
            Event::Examined(id) => {
                self.template(id, |template| template.has_opened = template.killed.is_none());
                let pool = &mut self.pools[id.pool.0];
                pool.is_proven |= !pool.has_failed;
            }
            Event::Needs { template, needs, memory } => self.before_needs(template, needs, memory),
            Event::TemplateReady(id, loaded) => self.before_ready(id, loaded),
            Event::MemoryRead(id, _) => self.before_memory(id),
            Event::LoadFailed(id) => {
                self.template(id, |template| template.has_failed = template.killed.is_none());
                self.pools[id.pool.0].has_failed = true;
                self.load_ended(id.pool);
            }
            Event::TemplateExited(id) => {
                self.check_template_crash(id, policy);
                self.template_exited(id);
            }
            Event::Forked(id) => self.worker(id).is_forked = true,
            Event::Ready(id) => {
                let worker = self.worker(id);
                if worker.killed.is_none() && worker.terminates.is_none() {
                    worker.is_ready = true;
                    let pool = &mut self.pools[id.pool.0];
                    (pool.early_deaths, pool.crashes) = (0, 0);
                    pool.is_proven |= !pool.has_failed;
                }
            }
            Event::Streamed(id) => {
                self.progresses(id);
                self.bind(id);
            }
            Event::Observed { worker: id, ticks } => {
                if let Some(worker) = self.workers.get_mut(&id).filter(|worker| worker.ticks != ticks) {
                    worker.ticks = ticks;
                    self.progresses(id);
                }
            }
            Event::ThreadsUsed { worker: id, threads } => {
                if let Some(worker) = self.workers.get_mut(&id) {
                    worker.held = worker.held.min(threads).max(worker.granted);
                }
            }
            Event::Answered(id) | Event::Rejected(id) => {
                let isolation = self.pools[id.pool.0].limits.isolation;
                self.bind(id);
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
            Event::Restart { pool, slot: None } => {
                let there = self.workers.iter_mut().filter(|(id, worker)| id.pool == pool && worker.is_ready);
                there.for_each(|(_, worker)| worker.replace_when_idle = true);
            }
            Event::Restart { pool, slot: Some(slot) } => {
                if let Some(pool) = self.pools.get_mut(pool.0) {
                    pool.no_room.remove(&slot);
                }
            }
            Event::FrontListening(_) | Event::FrontFailed(_) | Event::FrontBeat(_) | Event::FrontExited(_) => {
                self.before_front(event);
            }
            Event::Drain(is_draining) => self.draining = is_draining,
            Event::MemoryTaken { worker: id, bytes } => {
                let template = self.pools[id.pool.0].template.as_ref().map(|template| template.id);
                let worker = self.worker(id);
                if bytes > worker.memory && template == Some(worker.template) {
                    worker.has_too_much = true;
                    if worker.killed.is_none() {
                        self.count_death(id);
                    }
                }
            }
            Event::Misbehaved(id) => {
                let worker = self.worker(id);
                worker.has_misbehaved = true;
                if worker.killed.is_none() {
                    self.count_death(id);
                }
            }
            Event::Exited(id) => {
                self.check_crash(id, policy);
                self.worker_ended(id);
            }
            Event::ForkFailed(id) => self.worker_ended(id),
            Event::Shortage(id) => {
                self.workers.remove(&id);
                let until = now.after(self.limits.room);
                let pool = &mut self.pools[id.pool.0];
                pool.no_room.insert(id.life.slot, until);
                pool.has_failed |= !pool.is_proven;
            }
            Event::ShutdownRequested => {
                self.closing += 1;
                self.stop_by.get_or_insert(now.after(self.limits.drain));
                if self.closing == 2 {
                    self.stopping.get_or_insert(now);
                }
            }
        }
    }

    pub(super) fn before_timeout(&mut self, now: Time) {
        (self.now, self.decided) = (now, None);
        assert_eq!(self.batch, [], "time goes on before the policy has settled");
        if self.stop_by.is_some_and(|time| time <= now) {
            self.stopping.get_or_insert(now);
        }
        self.note_use();
    }

    /// Whether this has been told since the policy settled last.
    fn was_told(&self, is_it: impl Fn(&Event) -> bool) -> bool {
        self.batch.iter().any(is_it)
    }

    /// Whether the request has just come.
    fn is_new(&self, request: RequestId) -> bool {
        matches!(self.batch.last(), Some(Event::Submitted { request: new, .. }) if *new == request)
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
        pool.need = None;
        assert_eq!(template.id, id);
        pool.has_failed |= !template.has_opened;
        if !template.has_failed && !template.is_expected_to_exit && !pool.is_parked && !pool.must_park {
            pool.must_park |= count(&mut pool.crashes, &limits);
        }
        self.workers.retain(|worker, state| worker.pool != id.pool || state.is_forked);
    }

    fn worker_ended(&mut self, id: WorkerId) {
        let worker = self.worker(id);
        let is_early = match worker.killed {
            None => worker.terminates.is_none(),
            Some(KillReason::StartTimeout) => true,
            Some(KillReason::Misbehaved | KillReason::TooMuchMemory) => worker.terminates.is_none(),
            Some(_) => false,
        };
        if !worker.is_ready && is_early {
            let pool = &mut self.pools[id.pool.0];
            pool.must_park |= count(&mut pool.early_deaths, &self.limits);
            pool.has_failed |= !pool.is_proven;
        }
        if self.worker(id).killed.is_none() {
            self.count_death(id);
        }
        self.workers.remove(&id);
    }

    fn progresses(&mut self, id: WorkerId) {
        let (now, patience) = (self.now, self.pools[id.pool.0].limits.progress_timeout);
        let worker = self.worker(id);
        (worker.progress, worker.patience) = (now, patience);
    }

    /// The worker has computed something of its request's answer.
    fn bind(&mut self, id: WorkerId) {
        let worker = self.worker(id);
        if let Some(part) = worker.part.filter(|_| worker.killed.is_none()) {
            let identity = worker.identity;
            self.requests.get_mut(&part.request).expect("it was submitted").identity.get_or_insert(identity);
        }
    }

    /// The worker's request has cost a worker.
    fn count_death(&mut self, id: WorkerId) {
        if let Some(part) = self.worker(id).part.take() {
            let request = self.requests.get_mut(&part.request).expect("it was submitted");
            let deaths = &mut request.parts[part.number as usize].deaths;
            *deaths += 1;
            if *deaths >= self.pools[id.pool.0].limits.max_attempts && self.open.contains(&part.request) {
                self.poison.insert(request.fingerprint, self.now.after(self.limits.poison));
            }
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
