//! What must hold between two steps, and in the end.
use super::super::super::event::{
    Event, Identity, Isolation, KillReason, Load, Outcome, PoolId, TemplateId, Time, WorkerId,
};
use super::super::super::{Policy, TemplateState, WorkerState};
use super::{Lifecycle, Pool, Rules, Worker};
use ipc::RequestId;
use std::collections::BTreeSet;

impl Rules {
    pub(in super::super) fn check_all_ended(&self) {
        assert!(self.open.is_empty(), "without an outcome: {:?}", self.open);
    }

    pub(in super::super) fn check_answered(&self, request: RequestId) {
        let record = &self.requests[&request];
        let limits = &self.pools[record.pool.0].limits;
        // Without a queue, nobody can wait for a model that is loaded when it is asked for.
        let is_in_vain = limits.queue == 0 && (limits.load == Load::Lazy || limits.idle_unload.is_some());
        let is_answered = record.outcome == Some(Outcome::Answered);
        let is_full = is_in_vain && record.outcome == Some(Outcome::QueueFull);
        // A batch may be begun by the last worker of a model that comes back as another one.
        let is_changed = record.work.parts > 1 && record.outcome == Some(Outcome::ModelChanged);
        assert!(is_answered || is_full || is_changed, "{:?}", record.outcome);
    }

    /// Says whether something was left behind.
    pub(in super::super) fn check_halted(&self, now: Time) -> bool {
        self.check_all_ended();
        assert_eq!(self.halts, 1, "exactly one halt");
        // What does not end although it is killed is not waited for without end.
        let is_over = self.stopping.is_some_and(|since| since.after(self.limits.last) <= now);
        let is_left =
            self.has_fronts() || !self.workers.is_empty() || self.pools.iter().any(|pool| pool.template.is_some());
        assert!(!is_left || is_over, "something is left");
        is_left
    }

    /// What must be done at once, whatever else is told before the policy settles.
    pub(in super::super) fn after_event(&mut self, event: &Event) {
        match *event {
            Event::Answered(_) | Event::Rejected(_) => {
                let answered = self.answering.take();
                let is_over = |request| !self.open.contains(request) || self.goes_on(*request, event);
                assert!(answered.as_ref().is_none_or(is_over), "an answer was lost");
            }
            Event::MemoryTaken { worker: id, .. } => {
                let is_spared = self.worker(id).has_too_much && self.worker(id).killed.is_none();
                assert!(!is_spared, "{id:?} keeps too much memory");
            }
            // What came before it has had its turn by now.
            Event::Submitted { request, .. } => {
                self.turns += 1;
                let record = self.requests.get_mut(&request).expect("it was submitted");
                record.turn = record.turn.min(self.turns);
                let is_accepted = record.is_accepted;
                assert_eq!(
                    is_accepted,
                    self.open.contains(&request),
                    "{request:?} is let in, or not, and nobody knows"
                );
            }
            Event::Withdrawn(request) => assert!(!self.open.contains(&request), "{request:?} goes on for nobody"),
            _ => {}
        }
        self.check_verdict();
        assert!(self.outgrown.is_empty(), "a model grows beyond the memory: {:?}", self.outgrown);
    }

    /// What must hold when the policy has settled.
    pub(in super::super) fn after_batch(&mut self, policy: &Policy) {
        self.batch.clear();
        self.check_hope(policy);
        self.check_fronts(policy);
        for pool in self.there() {
            self.check_pool(pool, policy);
        }
        self.check_health(policy);
        self.check_threads(policy);
        self.check_given_up();
    }

    /// The end of a worker is a crash if nobody had told it to go: because it was killed for what
    /// it did, because it held a request, or because it ended in disorder.
    pub(super) fn check_crash(&mut self, id: WorkerId, policy: &Policy) {
        let worker = self.worker(id);
        let holds = worker.part.is_some() || worker.stops.is_some();
        let is_fault = |reason| {
            let faults = [KillReason::StartTimeout, KillReason::ProgressTimeout, KillReason::Lingered];
            let misdeeds = [KillReason::Misbehaved, KillReason::TooMuchMemory];
            faults.contains(&reason) || misdeeds.contains(&reason)
        };
        for is_clean in [true, false] {
            let is_crash = worker.terminates.is_none() && worker.killed.map_or(holds || !is_clean, is_fault);
            assert_eq!(policy.is_worker_crash(id, is_clean), is_crash, "{id:?} {worker:?}");
        }
    }

    /// The end of a template is a crash if it was to serve and has not said that it cannot.
    pub(super) fn check_template_crash(&self, id: TemplateId, policy: &Policy) {
        let pool = &self.pools[id.pool.0];
        let template = pool.template.as_ref().expect("it ends once");
        let is_parked = pool.is_parked || pool.must_park;
        let is_let_go = template.has_failed || template.has_opened || template.is_expected_to_exit || is_parked;
        // One that was killed because it was stuck may be wanted by nobody since.
        // What waits for the one before it may come to it yet.
        let is_before = |other: &Pool| other.successor == Some(id.pool) && other.lifecycle != Lifecycle::Gone;
        let awaits = self.pools.iter().any(is_before);
        let is_unwanted = pool.lifecycle == Lifecycle::Retired && !awaits && !self.has_open(id.pool);
        if is_unwanted && self.batch.len() > 1 {
            // The policy may not have settled since then.
            return;
        }
        let is_crash = self.closing == 0 && !is_let_go && !is_unwanted;
        assert_eq!(policy.is_template_crash(id), is_crash, "{id:?}");
    }

    /// The models that are not gone.
    pub(super) fn there(&self) -> Vec<PoolId> {
        let there = self.pools.iter().enumerate().filter(|(_, pool)| pool.lifecycle != Lifecycle::Gone);
        there.map(|(at, _)| PoolId(at)).collect()
    }

    /// That no part was given up of a request that goes on.
    fn check_given_up(&mut self) {
        for request in std::mem::take(&mut self.given_up) {
            assert!(!self.open.contains(&request), "a part of {request:?} was given up");
        }
    }

    /// Whether an open request has more to be computed after this end of a part.
    fn goes_on(&self, request: RequestId, event: &Event) -> bool {
        matches!(event, Event::Answered(_)) && !self.requests[&request].is_done()
    }

    /// Nothing may be left that should have been done by now.
    pub(in super::super) fn after_timeout(&mut self, policy: &Policy) {
        self.check_fronts(policy);
        self.check_late_fronts();
        for pool in self.there() {
            self.check_pool(pool, policy);
            self.check_forked(pool, policy);
            self.check_idleness(pool);
        }
        self.check_health(policy);
        self.check_threads(policy);
        self.check_given_up();
        let (limits, now) = (self.limits, self.now);
        for (id, worker) in self.workers.iter().filter(|(_, worker)| worker.killed.is_none()) {
            let in_time = |since: Option<Time>, limit| since.is_none_or(|since| since.after(limit) > now);
            assert!(
                worker.is_ready || in_time(Some(worker.asked), limits.start) || self.is_excused(*id, worker),
                "{id:?}"
            );
            let works = worker.part.map(|_| worker.progress);
            assert!(in_time(works, worker.patience), "{id:?} hangs");
            assert!(in_time(worker.stops, limits.cancel), "{id:?} does not stop");
            assert!(in_time(worker.retires.or(worker.terminates), limits.grace), "{id:?} lingers");
        }
        for request in &self.open {
            let record = &self.requests[request];
            let end = match record.dispatched {
                None if self.pools[record.pool.0].is_first_load => continue,
                None => record.end_of_wait(),
                Some(first) => first.after(record.may_run),
            };
            assert!(end > now, "{request:?} is overdue");
        }
        for template in self.pools.iter().filter_map(|pool| pool.template.as_ref()) {
            let is_settled = template.is_ready || template.has_failed || template.killed.is_some();
            assert!(is_settled || template.since.after(limits.load) > now, "{:?} loads for ever", template.id);
        }
    }

    /// A worker that was not forked ends with its template; one that was asked to exit has another
    /// deadline.
    fn is_excused(&self, id: WorkerId, worker: &Worker) -> bool {
        let template = self.pools[id.pool.0].template.as_ref();
        let can_fork = template.is_some_and(|template| template.killed.is_none());
        (worker.is_forked && worker.terminates.is_some()) || (!worker.is_forked && !can_fork)
    }

    /// That the policy shows what is there, keeps its bounds, and leaves no request beside an idle
    /// worker.
    fn check_pool(&mut self, id: PoolId, policy: &Policy) {
        let view = policy.pool(id);
        self.check_residence(id, policy);
        let pool = &mut self.pools[id.0];
        let is_parked = matches!(view.state, TemplateState::Parked { .. });
        let is_given_up =
            matches!(view.state, TemplateState::Failed { .. } | TemplateState::Stopped | TemplateState::Cold);
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
                    assert!(is_well && worker.is_ready && worker.part.is_none() && !is_parked)
                }
                WorkerState::Busy => assert!(is_well && (worker.part.is_some() || worker.stops.is_some())),
                WorkerState::Stopping => assert!(!is_well || worker.retires.is_some()),
                WorkerState::Waiting { .. } => {}
            }
            assert!(shown.request.is_none() || shown.request == worker.last.map(|part| part.request));
        }
        let idle = view.workers.iter().filter(|worker| worker.state == WorkerState::Idle);
        for worker in idle {
            let identity = self.workers[&worker.id].identity;
            assert!(!self.has_work(id, identity), "a request waits beside an idle worker: {view:?}");
            assert_eq!(Some(identity), self.pools[id.0].identity, "{worker:?} has loaded what is no more");
        }
        let is_unavailable = matches!(view.state, TemplateState::Failed { .. } | TemplateState::Parked { .. });
        assert!(view.queued == 0 || !is_unavailable, "a request waits for nothing: {view:?}");
        let is_here = |request: &&RequestId| self.requests[*request].pool == id;
        let held: BTreeSet<_> = view.workers.iter().filter_map(|worker| worker.request).collect();
        assert_eq!(self.open.iter().filter(is_here).count(), view.queued + held.len(), "a request is lost: {view:?}");
        let here = self.open.iter().map(|request| &self.requests[request]).filter(|request| request.pool == id);
        let (mine, others): (Vec<_>, Vec<_>) = here.partition(|request| !request.has_moved);
        let waits = mine.iter().filter(|request| request.dispatched.is_none());
        let longest = self.pools[id.0].longest;
        assert!(waits.count() <= longest, "the queue is too long");
        // Besides them there wait those whose workers have died, and batches between two of their
        // parts: they were all let in as the first.
        let slots = policy.pools[&id].slots.len();
        assert!(view.queued <= longest + 2 * slots + others.len(), "too much waits: {view:?}");
        self.check_standing(id, policy);
    }

    /// Whether anything could be computed now by a worker who has loaded this.
    fn has_work(&self, id: PoolId, identity: Identity) -> bool {
        let window = self.pools[id.0].limits.workers * 2;
        self.fitting(id, identity).any(|(_, request)| request.may_begin(window))
            || self.waits_to_be_replayed(id, Some(identity))
    }

    /// That every slot has the workers that it should have, unless it is in a back-off.
    fn check_forked(&self, id: PoolId, policy: &Policy) {
        let pool = &self.pools[id.0];
        let template = pool.template.as_ref();
        let is_retired = pool.lifecycle == Lifecycle::Retired;
        let has_template = template.is_some_and(|template| template.is_ready && template.killed.is_none());
        if self.closing > 0 || is_retired || !has_template || pool.asks_memory {
            return;
        }
        for slot in 0..pool.limits.workers {
            let there = self.workers.iter().filter(|(worker, _)| worker.pool == id && worker.life.slot == slot);
            let (there, has_served) =
                there.fold((0, false), |(count, any), (_, worker)| (count + 1, any || worker.last.is_some()));
            let mut here = self.workers.iter().filter(|(worker, _)| worker.pool == id && worker.life.slot == slot);
            let replace_when_idle = here.any(|(_, worker)| worker.replace_when_idle);
            let wanted =
                if replace_when_idle || has_served && pool.limits.isolation == Isolation::Request { 2 } else { 1 };
            let is_waiting = policy.pools[&id].slots[slot as usize].fork_at > self.now;
            assert!(there >= wanted || is_waiting, "slot {slot} of {id:?} lacks a worker");
        }
    }
}
