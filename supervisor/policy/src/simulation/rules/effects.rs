//! What the policy may ask for, and when.
use super::super::super::event::{
    Effect, Event, Identity, Isolation, KillReason, Outcome, Part, PoolId, TemplateId, Time, WorkerId,
};
use super::super::super::{Policy, TemplateState};
use super::{Lifecycle, Progress, Request, Rules, Template, Worker};
use ipc::RequestId;

impl Rules {
    /// Records and checks what the policy asks for.
    pub(in super::super) fn effect(&mut self, effect: Effect, policy: &Policy) {
        let is_refusal = matches!(effect, Effect::Finish { outcome: Outcome::ShuttingDown, .. });
        assert!(self.halts == 0 || is_refusal, "after the halt: {effect:?}");
        let now = self.now;
        self.check_left_alone(effect);
        match effect {
            Effect::Load(id) => {
                self.check_wanted(id.pool);
                let pool = &mut self.pools[id.pool.0];
                assert!(pool.template.is_none(), "two templates");
                assert_eq!(id.generation, pool.loaded + 1);
                pool.loaded = id.generation;
                (pool.has_failed, pool.is_parked) = (false, false);
                (pool.is_resident, pool.is_unloaded) = (true, false);
                pool.is_first_load = !self.workers.keys().any(|worker| worker.pool == id.pool);
                pool.template = Some(Template::new(id, now, false));
            }
            Effect::Examine(id) => {
                self.check_examined(id.pool);
                let pool = &mut self.pools[id.pool.0];
                assert!(pool.template.is_none(), "two templates");
                assert_eq!(id.generation, pool.loaded + 1);
                pool.loaded = id.generation;
                pool.template = Some(Template::new(id, now, true));
            }
            Effect::Admit(id) => self.admitted(id),
            Effect::DoesNotFit(id, shortage) => self.does_not_fit(id, shortage),
            Effect::ReadMemory(id) => self.asks_memory(id),
            Effect::NoMemory(id, _) => self.has_no_memory(id),
            Effect::KillTemplate(id) => self.template_killed(id, policy),
            Effect::Fork { template, worker } => self.forks(template, worker, policy),
            Effect::Dispatch { to, part, attempt } => self.dispatched(to, part, attempt),
            Effect::SetBudget { worker, threads } => self.budget_set(worker, threads),
            Effect::ReadThreads(id) => {
                assert_eq!(self.batch, [], "boards are looked at when it is time to");
                let worker = self.worker(id);
                assert!(worker.held > worker.granted, "{id:?} owes nothing");
            }
            Effect::StopRequest { worker, request } => {
                assert_eq!(self.pools[worker.pool.0].limits.isolation, Isolation::Worker);
                let worker = self.worker(worker);
                assert_eq!((worker.part.map(|part| part.request), worker.killed), (Some(request), None));
                worker.stops = Some(now);
                worker.part = None;
                self.given_up.push(request);
            }
            Effect::Terminate(id) => {
                let worker = self.worker(id);
                assert!(worker.killed.is_none() && worker.terminates.is_none() && worker.retires.is_none());
                assert_eq!((worker.part, worker.stops), (None, None), "what works is not asked to exit");
                worker.terminates = Some(now);
                let is_parked = matches!(policy.pool(id.pool).state, TemplateState::Parked { .. });
                let pool = &self.pools[id.pool.0];
                let worker = &self.workers[&id];
                let is_outdated = worker.is_ready && Some(worker.identity) != pool.identity;
                let is_unwanted = pool.lifecycle == Lifecycle::Retired || id.life.slot >= pool.limits.workers;
                let has_successor = self.workers.range(id..).skip(1).take(1).any(|(next, worker)| {
                    (next.pool, next.life.slot) == (id.pool, id.life.slot) && worker.is_ready && worker.killed.is_none()
                });
                let is_spare = self
                    .workers
                    .range(..id)
                    .next_back()
                    .is_some_and(|(other, _)| (other.pool, other.life.slot) == (id.pool, id.life.slot));
                let is_replaced = worker.replace_when_idle && (has_successor || is_spare);
                assert!(
                    is_parked
                        || pool.is_parked
                        || pool.must_park
                        || self.closing > 0
                        || pool.is_unloaded
                        || self.is_idle(id.pool)
                        || is_outdated
                        || is_unwanted
                        || is_replaced,
                    "no reason to end {id:?}"
                );
            }
            Effect::StartFront { .. } | Effect::KillFront(_) | Effect::FinishFront(_) => self.front_effect(effect),
            Effect::Kill { worker, reason } => self.killed(worker, reason),
            Effect::Accepted(request) => self.accepted(request),
            Effect::Finish { request, outcome } => self.finished(request, outcome, policy),
            Effect::Moved { request, to } => self.moved(request, to),
            Effect::Reloaded => self.reloaded(),
            Effect::ReloadRefused(pool) => self.reload_refused(pool),
            Effect::Removed(pool) => self.gone(pool),
            Effect::Halt => {
                self.halts += 1;
                assert!(self.closing > 0);
                self.check_halted(now);
            }
        }
    }

    fn template_killed(&mut self, id: TemplateId, policy: &Policy) {
        let (limits, now) = (self.limits, self.now);
        let is_late = |worker: &Worker| !worker.is_forked && worker.asked.after(limits.start) <= now;
        let is_stuck = self.workers.iter().any(|(worker, state)| worker.pool == id.pool && is_late(state));
        let parks =
            self.pools[id.pool.0].must_park || matches!(policy.pool(id.pool).state, TemplateState::Parked { .. });
        let is_unwanted = self.closing > 0 || self.pools[id.pool.0].lifecycle == Lifecycle::Retired;
        // What has just come is not let in any more.
        let mut open = self.open.iter().filter(|request| !self.is_new(**request));
        let is_done = is_unwanted && !open.any(|request| self.requests[request].pool == id.pool);
        let is_idle = self.is_idle(id.pool);
        self.template(id, |template| {
            assert_eq!(template.killed, None, "a template is killed once");
            template.killed = Some(now);
            let is_slow = !template.is_ready && !template.has_opened && template.since.after(limits.load) <= now;
            let lets_go = is_idle && template.is_ready || template.has_opened;
            template.is_expected_to_exit = parks || is_done || lets_go;
            assert!(
                is_stuck || is_slow || template.has_failed || parks || is_done || lets_go,
                "no reason to kill {id:?}"
            );
        });
        self.load_ended(id.pool);
        let pool = &mut self.pools[id.pool.0];
        pool.has_failed |= !pool.template.as_ref().is_some_and(|template| template.has_opened);
        if is_idle && pool.template.as_ref().is_some_and(|template| template.is_ready) && !parks && !is_done {
            (pool.is_resident, pool.is_unloaded) = (false, true);
        }
    }

    fn forks(&mut self, template: TemplateId, id: WorkerId, policy: &Policy) {
        self.check_room(id);
        let pool = &mut self.pools[id.pool.0];
        let warm =
            pool.template.as_ref().filter(|known| known.id == template && known.is_ready && known.killed.is_none());
        assert!(warm.is_some_and(|known| !known.has_failed), "forked from a template that is not warm");
        assert!(id.life.slot < pool.limits.workers);
        let no_room = pool.no_room.get(&id.life.slot).copied().unwrap_or_default();
        assert!(no_room <= self.now, "forked where there was no room a moment ago");
        assert!(policy.pools[&id.pool].slots[id.life.slot as usize].fork_at <= self.now, "forked in a back-off");
        let newest = pool.newest.entry(id.life.slot).or_default();
        assert_eq!(id.life.generation, *newest + 1, "lives are numbered without a gap");
        *newest += 1;
        let in_slot =
            self.workers.keys().filter(|other| other.pool == id.pool && other.life.slot == id.life.slot).count();
        let mut here =
            self.workers.iter().filter(|(other, _)| other.pool == id.pool && other.life.slot == id.life.slot);
        let most = match pool.limits.isolation {
            Isolation::Worker if !here.any(|(_, worker)| worker.replace_when_idle) => 1,
            Isolation::Request | Isolation::Worker => 2,
        };
        assert!(in_slot < most, "too many processes in a slot");
        let (identity, pool_limits) = (pool.identity.expect("its template is warm"), pool.limits);
        let worker = Worker {
            asked: self.now,
            is_forked: false,
            is_ready: false,
            identity,
            template,
            memory: pool_limits.memory,
            has_too_much: false,
            replace_when_idle: false,
            part: None,
            last: None,
            progress: self.now,
            patience: pool_limits.progress_timeout,
            ticks: 0,
            has_misbehaved: false,
            retires: None,
            stops: None,
            terminates: None,
            killed: None,
            killed_at: self.now,
            granted: 1,
            held: 1,
        };
        self.workers.insert(id, worker);
    }

    fn dispatched(&mut self, to: WorkerId, part: Part, attempt: u32) {
        let now = self.now;
        assert!(self.workers.values().all(|worker| worker.last != Some(part)), "its dead worker has not exited");
        let slot = self.workers.keys().filter(|other| other.pool == to.pool && other.life.slot == to.life.slot);
        assert_eq!(slot.min(), Some(&to), "a spare gets no request");
        let identity = self.workers[&to].identity;
        assert!(self.fits(part.request, identity), "{part:?} goes on with another model");
        let isolation = self.pools[to.pool.0].limits.isolation;
        let patience = self.pools[to.pool.0].limits.progress_timeout;
        let worker = self.worker(to);
        assert!(worker.is_ready && worker.killed.is_none() && worker.terminates.is_none(), "{to:?} cannot serve");
        assert_eq!((worker.part, worker.stops, worker.retires), (None, None, None), "two requests in one worker");
        assert!(worker.last.is_none() || isolation == Isolation::Worker, "a worker serves a second request");
        (worker.part, worker.last) = (Some(part), Some(part));
        (worker.progress, worker.patience) = (now, patience);
        assert_eq!(worker.granted, 1, "who does not compute has one thread");
        // With its request, what it held has ended.
        worker.held = 1;
        let pool = &self.pools[to.pool.0];
        let (limits, most_attempts) = (pool.limits, pool.most_attempts);
        let record = &self.requests[&part.request];
        assert_ne!(pool.lifecycle, Lifecycle::Staged, "nobody asks for {to:?} yet");
        assert!(!self.draining || record.dispatched.is_some(), "{part:?} is begun although nothing is to be");
        assert_eq!((record.pool, record.outcome), (to.pool, None));
        let is_begun = (part.number as usize) < record.parts.len();
        if !is_begun {
            assert_eq!(attempt, 1);
            assert_eq!(part.number as usize, record.parts.len(), "parts are begun in order, and once");
            assert!(record.may_begin(limits.workers * 2), "{part:?} is begun too early");
            assert!(!self.waits_in_turn(to.pool, record.turn, identity), "it is not the turn of {part:?}");
        }
        assert!(!self.waits_to_be_replayed(to.pool, Some(identity)) || is_begun, "what was begun goes first");
        self.turns += 1;
        let turn = self.turns;
        let record = self.requests.get_mut(&part.request).expect("it was submitted");
        if !is_begun {
            record.parts.push(Progress::default());
            record.turn = turn;
        }
        let progress = &record.parts[part.number as usize];
        assert!(!progress.is_done, "{part:?} is computed twice");
        assert_eq!(attempt, progress.deaths + 1);
        assert!(attempt <= most_attempts);
        if record.dispatched.is_none() {
            (record.dispatched, record.may_run) = (Some(now), limits.request_timeout);
        }
    }

    fn killed(&mut self, id: WorkerId, reason: KillReason) {
        let (limits, now, closing) = (self.limits, self.now, self.closing);
        let pool = self.pools[id.pool.0].limits;
        let over = |since: Option<Time>, limit| since.is_some_and(|since: Time| since.after(limit) <= now);
        let last = self.batch.last().cloned();
        let worker = self.worker(id);
        assert_eq!(worker.killed, None, "{id:?} is killed twice");
        let has_reason = match reason {
            KillReason::StartTimeout => worker.is_forked && !worker.is_ready && over(Some(worker.asked), limits.start),
            KillReason::ProgressTimeout => worker.part.is_some() && over(Some(worker.progress), worker.patience),
            KillReason::RequestTimeout => worker.part.is_some(),
            KillReason::Cancelled => match pool.isolation {
                Isolation::Request => worker.part.is_some(),
                Isolation::Worker => over(worker.stops, limits.cancel),
            },
            KillReason::Misbehaved => worker.has_misbehaved,
            KillReason::TooMuchMemory => worker.has_too_much,
            KillReason::Lingered => over(worker.retires.or(worker.terminates), limits.grace),
            KillReason::Shutdown => closing > 0,
            KillReason::Restarted => {
                let goes = worker.retires.is_some() || worker.terminates.is_some();
                !goes && last == Some(Event::Restart { pool: id.pool, slot: Some(id.life.slot) })
            }
        };
        assert!(has_reason, "no reason to kill {id:?}: {reason:?} {worker:?}");
        (worker.killed, worker.killed_at) = (Some(reason), now);
        let request = worker.part.map(|part| part.request);
        match reason {
            // It goes on with another worker, and that costs it nothing.
            KillReason::Restarted => _ = self.worker(id).part.take(),
            KillReason::ProgressTimeout => self.count_death(id),
            KillReason::RequestTimeout => {
                let record = &self.requests[&request.expect("it computes something")];
                assert!(over(record.dispatched, record.may_run));
            }
            KillReason::Cancelled if pool.isolation == Isolation::Request => {
                self.given_up.extend(request);
            }
            _ => {}
        }
    }

    /// Whether half of the queue is its owner's while others wait, too, itself apart.
    fn has_its_share(&self, request: RequestId) -> bool {
        let (owner, pool) = (self.requests[&request].owner, self.requests[&request].pool);
        let Some(limits) = self.pools.get(pool.0).map(|pool| pool.limits) else { return false };
        let waits = |other: &&RequestId| {
            let record = &self.requests[*other];
            **other != request && record.pool == pool && record.dispatched.is_none()
        };
        let owners = self.open.iter().filter(waits).map(|other| self.requests[other].owner);
        let (own, others): (Vec<_>, Vec<_>) = owners.partition(|other| *other == owner);
        own.len() >= (limits.queue / 2).max(1) && !others.is_empty()
    }

    fn accepted(&mut self, request: RequestId) {
        let waits = self.requests[&request].dispatched.is_none();
        assert!(!waits || !self.has_its_share(request), "{request:?} takes more than its owner's share");
        assert!(self.open.contains(&request), "{request:?} has ended already");
        assert!(self.is_new(request));
        let record = self.requests.get_mut(&request).expect("it was submitted");
        assert!(!std::mem::replace(&mut record.is_accepted, true), "{request:?} is let in twice");
    }

    fn finished(&mut self, request: RequestId, outcome: Outcome, policy: &Policy) {
        let now = self.now;
        assert!(self.open.remove(&request), "two outcomes for {request:?}");
        let record = self.requests.get_mut(&request).expect("it was submitted");
        record.outcome = Some(outcome);
        let id = record.pool;
        if self.pools.get(id.0).is_none_or(|pool| pool.lifecycle != Lifecycle::Serving) && self.is_new(request) {
            let is_told = matches!(outcome, Outcome::Unavailable { until } if until == now);
            assert!(is_told || outcome == Outcome::ShuttingDown, "nobody asks for {id:?}");
            return;
        }
        let (is_new, may_retire) = (self.is_new(request), self.may_retire(id));
        let has_share = self.has_its_share(request);
        let record = self.requests.get_mut(&request).expect("it was submitted");
        let pool = self.pools[record.pool.0].limits;
        // With its last request, a model that was removed may have gone already.
        let view = policy.pools.contains_key(&id).then(|| policy.pool(id));
        let (queued, state) = view.map_or((0, TemplateState::Stopped), |view| (view.queued, view.state));
        let is_answer = self.answering == Some(request);
        let is_due = |since: Option<Time>, limit| since.is_some_and(|since: Time| since.after(limit) <= now);
        let has_reason = match outcome {
            Outcome::Answered => is_answer && matches!(self.batch.last(), Some(Event::Answered(_))) && record.is_done(),
            Outcome::Rejected => is_answer && matches!(self.batch.last(), Some(Event::Rejected(_))),
            Outcome::Cancelled => record.is_withdrawn,
            Outcome::QueueFull => is_new && queued >= pool.queue,
            Outcome::ShareFull => is_new && has_share,
            Outcome::QueueTimeout => record.dispatched.is_none() && record.end_of_wait() <= now,
            Outcome::RequestTimeout => is_due(record.dispatched, record.may_run),
            Outcome::WorkersDied { attempts } => {
                attempts >= pool.max_attempts && record.parts.iter().any(|part| part.deaths == attempts)
            }
            Outcome::Poisonous { until } => {
                is_new && until > now && self.poison.get(&record.fingerprint) == Some(&until)
            }
            Outcome::Unavailable { until } => {
                let is_away = match state {
                    TemplateState::Failed { retry_at } | TemplateState::Parked { retry_at } => {
                        until == retry_at.max(now)
                    }
                    // With its last request, the pool's reason to be has ended too.
                    TemplateState::Stopped => {
                        self.closing > 0 || self.pools[id.0].lifecycle == Lifecycle::Retired || may_retire
                    }
                    TemplateState::Cold
                    | TemplateState::Loading
                    | TemplateState::Warm
                    | TemplateState::Waiting { .. } => false,
                };
                is_away && until >= now
            }
            Outcome::ShuttingDown => self.closing > 0,
            Outcome::Draining => self.draining && record.dispatched.is_none(),
            Outcome::ModelChanged => {
                let here = &self.pools[record.pool.0];
                let is_warm =
                    here.template.as_ref().is_some_and(|template| template.is_ready && template.killed.is_none());
                let may_return = !is_warm && here.successor.is_none();
                let goes = |worker: &Worker| {
                    worker.killed.is_some() || worker.terminates.is_some() || worker.retires.is_some()
                };
                let may_go_on = self.workers.iter().any(|(worker, state)| {
                    let is_free = state.part.is_none() && state.stops.is_none() && !goes(state);
                    worker.pool == id
                        && Some(state.identity) == record.identity
                        && is_free
                        && (state.is_forked || is_warm)
                });
                let is_changed = record.identity.is_some_and(|identity| !is_warm || here.identity != Some(identity));
                is_changed && !may_return && !may_go_on
            }
        };
        assert!(has_reason, "no reason to end {request:?}: {outcome:?} {queued} {state:?}");
        let is_closed = matches!(outcome, Outcome::ShuttingDown | Outcome::Draining | Outcome::Poisonous { .. });
        if is_new && !is_closed {
            let until = self.poison.get(&record.fingerprint).copied().unwrap_or_default();
            assert!(until <= now, "a poisonous request was let in");
        }
        for worker in self.workers.values_mut() {
            worker.part.take_if(|part| part.request == request);
        }
    }

    /// Whether a part could be begun with this of a request whose turn came before.
    fn waits_in_turn(&self, pool: PoolId, turn: u64, identity: Identity) -> bool {
        let window = self.pools[pool.0].limits.workers * 2;
        let mut here = self.fitting(pool, identity);
        here.any(|(_, request)| request.turn < turn && request.may_begin(window))
    }

    /// The open requests of a pool of which a worker that has loaded this may compute parts.
    pub(super) fn fitting(&self, pool: PoolId, identity: Identity) -> impl Iterator<Item = (RequestId, &Request)> {
        let here = self.open.iter().map(|request| (*request, &self.requests[request]));
        here.filter(move |(id, request)| request.pool == pool && self.fits(*id, identity))
    }

    /// Whether a worker that has loaded this may compute parts of the request: all of its answer is
    /// computed with the same.
    fn fits(&self, id: RequestId, identity: Identity) -> bool {
        let request = &self.requests[&id];
        let is_begun = |part: &Part| request.parts.get(part.number as usize).is_some_and(|part| !part.is_done);
        let is_part = |part: &Part| part.request == id && is_begun(part);
        let mut holders = self.workers.values().filter(|worker| worker.last.as_ref().is_some_and(is_part));
        let bound = request.identity.or_else(|| holders.next().map(|worker| worker.identity));
        bound.or(self.pools[request.pool.0].identity) == Some(identity)
    }

    /// Whether a part waits that was begun and whose worker has ended, and that one may go on with
    /// who has loaded this.
    pub(super) fn waits_to_be_replayed(&self, pool: PoolId, identity: Option<Identity>) -> bool {
        let here = self.open.iter().filter(|request| self.requests[*request].pool == pool);
        let here = here.filter(|request| identity.is_none_or(|identity| self.fits(**request, identity)));
        here.into_iter().any(|request| {
            let parts = self.requests[request].parts.iter().enumerate();
            parts.filter(|(_, part)| !part.is_done).any(|(number, _)| {
                let part = Part { request: *request, number: number as u32 };
                !self.workers.values().any(|worker| worker.last == Some(part))
            })
        })
    }
}
