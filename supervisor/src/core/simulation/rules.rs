//! What must hold, seen from outside the core: a plain record of what it was told and of what it asked for.
//!
//! Nothing here is shared with the core, so a rule that the core forgets is not forgotten here too.
use super::super::event::{
    Effect, Event, Isolation, KillReason, Limits, Outcome, PoolId, PoolLimits, TemplateId, Time, WorkerId,
};
use super::super::{Core, TemplateState, WorkerState};
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
    closing: u32,
    halts: u32,
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
}

struct Template {
    id: TemplateId,
    since: Time,
    is_ready: bool,
    has_failed: bool,
    is_killed: bool,
    /// It was killed for what it did, or the supervisor had a reason of its own.
    is_expected_to_exit: bool,
}

/// A worker of which no end has been heard.
#[derive(Debug)]
struct Worker {
    asked: Time,
    is_forked: bool,
    is_ready: bool,
    /// The open request that it computes.
    request: Option<RequestId>,
    /// The last one that it was given.
    last: Option<RequestId>,
    progress: Time,
    ticks: u64,
    has_misbehaved: bool,
    /// It has answered and is to exit.
    retires: Option<Time>,
    stops: Option<Time>,
    terminates: Option<Time>,
    killed: Option<KillReason>,
}

struct Request {
    pool: PoolId,
    fingerprint: u64,
    submitted: Time,
    dispatched: Option<Time>,
    deaths: u32,
    is_withdrawn: bool,
    outcome: Option<Outcome>,
}

impl Rules {
    pub(super) fn new(limits: Limits, pools: Vec<PoolLimits>) -> Rules {
        let pool = |limits| Pool {
            limits,
            template: None,
            loaded: 0,
            newest: BTreeMap::new(),
            early_deaths: 0,
            crashes: 0,
            is_parked: false,
            must_park: false,
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
            closing: 0,
            halts: 0,
        }
    }

    pub(super) fn pools(&self) -> usize {
        self.pools.len()
    }

    pub(super) fn slots(&self, pool: usize) -> usize {
        self.pools[pool].limits.workers as usize
    }

    pub(super) fn check_all_ended(&self) {
        assert!(self.open.is_empty(), "without an outcome: {:?}", self.open);
    }

    pub(super) fn check_answered(&self, request: RequestId) {
        assert_eq!(self.requests[&request].outcome, Some(Outcome::Answered));
    }

    pub(super) fn check_halted(&self) {
        self.check_all_ended();
        assert_eq!(self.halts, 1, "exactly one halt");
        assert!(self.workers.is_empty() && self.pools.iter().all(|pool| pool.template.is_none()), "nothing is left");
    }

    /// Records what the core is about to be told.
    pub(super) fn before(&mut self, now: Time, event: Event) {
        (self.now, self.event) = (now, Some(event));
        match event {
            Event::Submitted { request, pool, fingerprint } => {
                let record = Request {
                    pool,
                    fingerprint,
                    submitted: now,
                    dispatched: None,
                    deaths: 0,
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
            Event::TemplateReady(id) => self.template(id, |template| template.is_ready = true),
            Event::LoadFailed(id) => self.template(id, |template| template.has_failed = !template.is_killed),
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
            Event::Answered(id) | Event::Rejected(id) => {
                let isolation = self.pools[id.pool.0].limits.isolation;
                let worker = self.worker(id);
                worker.stops = None;
                let answering = worker.request;
                if worker.request.is_some() && worker.killed.is_none() && isolation == Isolation::Request {
                    worker.retires = Some(now);
                }
                self.answering = answering;
            }
            Event::Misbehaved(id) => {
                let worker = self.worker(id);
                worker.has_misbehaved = true;
                if worker.killed.is_none() {
                    self.count_death(id);
                }
            }
            Event::ForkFailed(id) | Event::Exited { worker: id, .. } => self.worker_ended(id),
            Event::ShutdownRequested => self.closing += 1,
        }
    }

    pub(super) fn before_timeout(&mut self, now: Time) {
        (self.now, self.event) = (now, None);
    }

    /// Records and checks what the core asks for.
    pub(super) fn effect(&mut self, effect: Effect, core: &Core) {
        let is_refusal = matches!(effect, Effect::Finish { outcome: Outcome::ShuttingDown, .. });
        assert!(self.halts == 0 || is_refusal, "after the halt: {effect:?}");
        let now = self.now;
        match effect {
            Effect::Load(id) => {
                let pool = &mut self.pools[id.pool.0];
                assert!(pool.template.is_none(), "two templates");
                assert_eq!(id.generation, pool.loaded + 1);
                pool.loaded = id.generation;
                pool.template = Some(Template {
                    id,
                    since: now,
                    is_ready: false,
                    has_failed: false,
                    is_killed: false,
                    is_expected_to_exit: false,
                });
            }
            Effect::KillTemplate(id) => self.template_killed(id, core),
            Effect::Fork { template, worker } => self.forks(template, worker, core),
            Effect::Dispatch { to, request, attempt } => self.dispatched(to, request, attempt),
            Effect::StopRequest { worker, request } => {
                assert_eq!(self.pools[worker.pool.0].limits.isolation, Isolation::Worker);
                let worker = self.worker(worker);
                assert_eq!((worker.request, worker.killed), (Some(request), None));
                worker.stops = Some(now);
                assert_eq!(self.event, Some(Event::Withdrawn(request)));
            }
            Effect::Terminate(id) => {
                let worker = self.worker(id);
                assert!(worker.killed.is_none() && worker.terminates.is_none() && worker.retires.is_none());
                assert_eq!((worker.request, worker.stops), (None, None), "what works is not asked to exit");
                worker.terminates = Some(now);
                let is_parked = matches!(core.pool(id.pool).state, TemplateState::Parked { .. });
                assert!(is_parked || self.closing > 0, "no reason to end {id:?}");
            }
            Effect::Kill { worker, reason } => self.killed(worker, reason),
            Effect::Finish { request, outcome } => self.finished(request, outcome, core),
            Effect::Halt => {
                self.halts += 1;
                assert!(self.closing > 0);
                self.check_halted();
            }
        }
    }

    pub(super) fn after_event(&mut self, event: Event, core: &Core) {
        match event {
            Event::Answered(_) | Event::Rejected(_) => {
                let answered = self.answering.take();
                assert!(answered.is_none_or(|request| !self.open.contains(&request)), "an answer was lost");
            }
            Event::Withdrawn(request) => assert!(!self.open.contains(&request), "{request:?} goes on for nobody"),
            _ => {}
        }
        for pool in 0..self.pools.len() {
            self.check_pool(PoolId(pool), core);
        }
    }

    /// Nothing may be left that should have been done by now.
    pub(super) fn after_timeout(&mut self, core: &Core) {
        for pool in 0..self.pools.len() {
            self.check_pool(PoolId(pool), core);
            self.check_forked(PoolId(pool), core);
        }
        let (limits, now) = (self.limits, self.now);
        for (id, worker) in self.workers.iter().filter(|(_, worker)| worker.killed.is_none()) {
            let pool = &self.pools[id.pool.0];
            let in_time = |since: Option<Time>, limit| since.is_none_or(|since| since.after(limit) > now);
            assert!(
                worker.is_ready || in_time(Some(worker.asked), limits.start) || self.is_excused(*id, worker),
                "{id:?}"
            );
            let works = worker.request.map(|_| worker.progress);
            assert!(in_time(works, pool.limits.progress_timeout), "{id:?} hangs");
            assert!(in_time(worker.stops, limits.cancel), "{id:?} does not stop");
            assert!(in_time(worker.retires.or(worker.terminates), limits.grace), "{id:?} lingers");
        }
        for request in &self.open {
            let record = &self.requests[request];
            let pool = &self.pools[record.pool.0].limits;
            let end = match record.dispatched {
                None => record.submitted.after(pool.queue_timeout),
                Some(first) => first.after(pool.request_timeout),
            };
            assert!(end > now, "{request:?} is overdue");
        }
        for template in self.pools.iter().filter_map(|pool| pool.template.as_ref()) {
            let is_settled = template.is_ready || template.has_failed || template.is_killed;
            assert!(is_settled || template.since.after(limits.load) > now, "{:?} loads for ever", template.id);
        }
    }

    /// A worker that was not forked ends with its template; one that was asked to exit has another deadline.
    fn is_excused(&self, id: WorkerId, worker: &Worker) -> bool {
        let template = self.pools[id.pool.0].template.as_ref();
        let can_fork = template.is_some_and(|template| !template.is_killed);
        (worker.is_forked && worker.terminates.is_some()) || (!worker.is_forked && !can_fork)
    }

    /// That the core shows what is there, keeps its bounds, and leaves no request beside an idle worker.
    fn check_pool(&mut self, id: PoolId, core: &Core) {
        let view = core.pool(id);
        let pool = &mut self.pools[id.0];
        let is_parked = matches!(view.state, TemplateState::Parked { .. });
        let is_given_up = matches!(view.state, TemplateState::Failed { .. } | TemplateState::Stopped);
        assert!(!pool.must_park || is_parked || is_given_up, "a crash loop goes on");
        assert!(pool.must_park || pool.is_parked || !is_parked, "parked without a reason");
        (pool.is_parked, pool.must_park) = (is_parked, false);

        let shown: Vec<_> =
            view.workers.iter().filter(|worker| !matches!(worker.state, WorkerState::Waiting { .. })).collect();
        let there = self.workers.range(WorkerId { pool: id, life: ipc::Life { slot: 0, generation: 0 } }..);
        let there: Vec<_> = there.take_while(|(worker, _)| worker.pool == id).collect();
        assert_eq!(shown.len(), there.len(), "{view:?} {there:?}");
        for (shown, (id, worker)) in shown.iter().zip(there) {
            assert_eq!(shown.id, *id);
            let is_well = worker.killed.is_none() && worker.terminates.is_none();
            match shown.state {
                WorkerState::Starting => assert!(is_well && !worker.is_ready && !is_parked),
                WorkerState::Idle | WorkerState::Spare => {
                    assert!(is_well && worker.is_ready && worker.request.is_none() && !is_parked)
                }
                WorkerState::Busy => assert!(is_well && (worker.request.is_some() || worker.stops.is_some())),
                WorkerState::Stopping => assert!(!is_well || worker.retires.is_some()),
                WorkerState::Waiting { .. } => {}
            }
            assert!(shown.request.is_none() || shown.request == worker.last);
        }
        let is_idle = view.workers.iter().any(|worker| worker.state == WorkerState::Idle);
        assert!(view.queued == 0 || !is_idle, "a request waits beside an idle worker: {view:?}");
        let is_unavailable = matches!(view.state, TemplateState::Failed { .. } | TemplateState::Parked { .. });
        assert!(view.queued == 0 || !is_unavailable, "a request waits for nothing: {view:?}");
        let waits =
            |request: &&RequestId| self.requests[*request].pool == id && self.requests[*request].dispatched.is_none();
        assert!(self.open.iter().filter(waits).count() <= self.pools[id.0].limits.queue, "the queue is too long");
    }

    /// That every slot has the workers that it should have, unless it is in a back-off.
    fn check_forked(&self, id: PoolId, core: &Core) {
        let pool = &self.pools[id.0];
        let template = pool.template.as_ref();
        if self.closing > 0 || template.is_none_or(|template| !template.is_ready || template.is_killed) {
            return;
        }
        for slot in 0..pool.limits.workers {
            let there = self.workers.iter().filter(|(worker, _)| worker.pool == id && worker.life.slot == slot);
            let (there, has_served) =
                there.fold((0, false), |(count, any), (_, worker)| (count + 1, any || worker.last.is_some()));
            let wanted = if has_served && pool.limits.isolation == Isolation::Request { 2 } else { 1 };
            let is_waiting = core.pools[id.0].slots[slot as usize].fork_at > self.now;
            assert!(there >= wanted || is_waiting, "slot {slot} of {id:?} lacks a worker");
        }
    }

    fn template(&mut self, id: TemplateId, change: impl FnOnce(&mut Template)) {
        let template = self.pools[id.pool.0].template.as_mut().filter(|template| template.id == id);
        change(template.expect("it is heard of only while it lives"));
    }

    fn worker(&mut self, id: WorkerId) -> &mut Worker {
        self.workers.get_mut(&id).unwrap_or_else(|| panic!("{id:?} has ended"))
    }

    fn template_exited(&mut self, id: TemplateId) {
        let limits = self.limits;
        let pool = &mut self.pools[id.pool.0];
        let template = pool.template.take().expect("it ends once");
        assert_eq!(template.id, id);
        if !template.has_failed && !template.is_expected_to_exit && !pool.is_parked {
            pool.must_park |= count(&mut pool.crashes, &limits);
        }
        self.workers.retain(|worker, state| worker.pool != id.pool || state.is_forked);
    }

    fn template_killed(&mut self, id: TemplateId, core: &Core) {
        let (limits, now) = (self.limits, self.now);
        let is_late = |worker: &Worker| !worker.is_forked && worker.asked.after(limits.start) <= now;
        let is_stuck = self.workers.iter().any(|(worker, state)| worker.pool == id.pool && is_late(state));
        let parks = self.pools[id.pool.0].must_park || matches!(core.pool(id.pool).state, TemplateState::Parked { .. });
        let is_done = self.closing > 0 && !self.open.iter().any(|request| self.requests[request].pool == id.pool);
        self.template(id, |template| {
            assert!(!template.is_killed, "a template is killed once");
            template.is_killed = true;
            let is_slow = !template.is_ready && template.since.after(limits.load) <= now;
            template.is_expected_to_exit = parks || is_done;
            assert!(is_stuck || is_slow || template.has_failed || parks || is_done, "no reason to kill {id:?}");
        });
    }

    fn forks(&mut self, template: TemplateId, id: WorkerId, core: &Core) {
        let pool = &mut self.pools[id.pool.0];
        let warm = pool.template.as_ref().filter(|known| known.id == template && known.is_ready && !known.is_killed);
        assert!(warm.is_some_and(|known| !known.has_failed), "forked from a template that is not warm");
        assert!(id.life.slot < pool.limits.workers);
        assert!(core.pools[id.pool.0].slots[id.life.slot as usize].fork_at <= self.now, "forked in a back-off");
        let newest = pool.newest.entry(id.life.slot).or_default();
        assert_eq!(id.life.generation, *newest + 1, "lives are numbered without a gap");
        *newest += 1;
        let in_slot =
            self.workers.keys().filter(|other| other.pool == id.pool && other.life.slot == id.life.slot).count();
        let most = match pool.limits.isolation {
            Isolation::Request => 2,
            Isolation::Worker => 1,
        };
        assert!(in_slot < most, "too many processes in a slot");
        let worker = Worker {
            asked: self.now,
            is_forked: false,
            is_ready: false,
            request: None,
            last: None,
            progress: self.now,
            ticks: 0,
            has_misbehaved: false,
            retires: None,
            stops: None,
            terminates: None,
            killed: None,
        };
        self.workers.insert(id, worker);
    }

    fn dispatched(&mut self, to: WorkerId, request: RequestId, attempt: u32) {
        let now = self.now;
        assert!(self.workers.values().all(|worker| worker.last != Some(request)), "its dead worker has not exited");
        let slot = self.workers.keys().filter(|other| other.pool == to.pool && other.life.slot == to.life.slot);
        assert_eq!(slot.min(), Some(&to), "a spare gets no request");
        let isolation = self.pools[to.pool.0].limits.isolation;
        let worker = self.worker(to);
        assert!(worker.is_ready && worker.killed.is_none() && worker.terminates.is_none(), "{to:?} cannot serve");
        assert_eq!((worker.request, worker.stops, worker.retires), (None, None, None), "two requests in one worker");
        assert!(worker.last.is_none() || isolation == Isolation::Worker, "a worker serves a second request");
        (worker.request, worker.last, worker.progress) = (Some(request), Some(request), now);
        let most = self.pools[to.pool.0].limits.max_attempts;
        let record = self.requests.get_mut(&request).expect("it was submitted");
        assert_eq!((record.pool, record.outcome), (to.pool, None));
        assert_eq!(attempt, record.deaths + 1);
        assert!(attempt <= most);
        record.dispatched.get_or_insert(now);
    }

    fn killed(&mut self, id: WorkerId, reason: KillReason) {
        let (limits, now, closing) = (self.limits, self.now, self.closing);
        let pool = self.pools[id.pool.0].limits;
        let over = |since: Option<Time>, limit| since.is_some_and(|since: Time| since.after(limit) <= now);
        let worker = self.worker(id);
        assert_eq!(worker.killed, None, "{id:?} is killed twice");
        let has_reason = match reason {
            KillReason::StartTimeout => worker.is_forked && !worker.is_ready && over(Some(worker.asked), limits.start),
            KillReason::ProgressTimeout => {
                worker.request.is_some() && over(Some(worker.progress), pool.progress_timeout)
            }
            KillReason::RequestTimeout => worker.request.is_some(),
            KillReason::Cancelled => match pool.isolation {
                Isolation::Request => worker.request.is_some(),
                Isolation::Worker => over(worker.stops, limits.cancel),
            },
            KillReason::Misbehaved => worker.has_misbehaved,
            KillReason::Lingered => over(worker.retires.or(worker.terminates), limits.grace),
            KillReason::Shutdown => closing > 0,
        };
        assert!(has_reason, "no reason to kill {id:?}: {reason:?} {worker:?}");
        worker.killed = Some(reason);
        let request = worker.request;
        match reason {
            KillReason::ProgressTimeout => self.count_death(id),
            KillReason::RequestTimeout => {
                let first = request.and_then(|request| self.requests[&request].dispatched);
                assert!(over(first, pool.request_timeout));
            }
            KillReason::Cancelled if pool.isolation == Isolation::Request => {
                assert_eq!(self.event, request.map(Event::Withdrawn));
            }
            _ => {}
        }
    }

    /// The worker's request has cost a worker.
    fn count_death(&mut self, id: WorkerId) {
        if let Some(request) = self.worker(id).request.take() {
            self.requests.get_mut(&request).expect("it was submitted").deaths += 1;
        }
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

    fn finished(&mut self, request: RequestId, outcome: Outcome, core: &Core) {
        let now = self.now;
        assert!(self.open.remove(&request), "two outcomes for {request:?}");
        let record = self.requests.get_mut(&request).expect("it was submitted");
        record.outcome = Some(outcome);
        let pool = self.pools[record.pool.0].limits;
        let is_new = matches!(self.event, Some(Event::Submitted { request: new, .. }) if new == request);
        let view = core.pool(record.pool);
        let holder = self.workers.iter_mut().find(|(_, worker)| worker.request == Some(request));
        let is_due = |since: Option<Time>, limit| since.is_some_and(|since: Time| since.after(limit) <= now);
        let has_reason = match outcome {
            Outcome::Answered => holder.as_ref().is_some_and(|(id, _)| self.event == Some(Event::Answered(**id))),
            Outcome::Rejected => holder.as_ref().is_some_and(|(id, _)| self.event == Some(Event::Rejected(**id))),
            Outcome::Cancelled => record.is_withdrawn,
            Outcome::QueueFull => is_new && view.queued >= pool.queue,
            Outcome::QueueTimeout => record.dispatched.is_none() && is_due(Some(record.submitted), pool.queue_timeout),
            Outcome::RequestTimeout => is_due(record.dispatched, pool.request_timeout),
            Outcome::WorkersDied { attempts } => {
                self.poison.insert(record.fingerprint, now.after(self.limits.poison));
                attempts == record.deaths && attempts == pool.max_attempts
            }
            Outcome::Poisonous { until } => {
                is_new && until > now && self.poison.get(&record.fingerprint) == Some(&until)
            }
            Outcome::Unavailable { until } => {
                let is_away = match view.state {
                    TemplateState::Failed { retry_at } | TemplateState::Parked { retry_at } => {
                        until == retry_at.max(now)
                    }
                    // With its last request, the pool's reason to be has ended too.
                    TemplateState::Stopped => self.closing > 0,
                    TemplateState::Loading | TemplateState::Warm | TemplateState::Waiting { .. } => false,
                };
                is_away && until >= now
            }
            Outcome::ShuttingDown => self.closing > 0,
        };
        assert!(has_reason, "no reason to end {request:?}: {outcome:?} {view:?}");
        if is_new && outcome != Outcome::ShuttingDown && !matches!(outcome, Outcome::Poisonous { .. }) {
            let until = self.poison.get(&record.fingerprint).copied().unwrap_or_default();
            assert!(until <= now, "a poisonous request was let in");
        }
        if let Some((_, worker)) = holder {
            worker.request = None;
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
