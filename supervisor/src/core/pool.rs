//! One model: its template, its slots and its queue.
//!
//! An event changes what it is about, and no more; then [`Pool::settle`] does whatever follows from the state that the
//! pool is in: dispatch, fork, load, end. So nothing that follows can be forgotten on one of many paths. What time
//! brings is in `deadline.rs`, what a worker's state makes of an event in `worker.rs`, and the template's states in
//! `template.rs`.
use super::context::{Aftermath, Context, Place, Request};
use super::event::{Effect, Event, Outcome, PoolId, PoolLimits, WorkerId};
use super::queue::Queue;
use super::restart::{Restart, Verdict};
use super::slot::Slot;
use super::template::Template;
use super::view::{PoolView, WorkerState, WorkerView};
use super::worker::{State, Worker};
use ipc::RequestId;

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) id: PoolId,
    pub(super) limits: PoolLimits,
    pub(super) template: Template,
    pub(super) slots: Vec<Slot>,
    pub(super) queue: Queue,
    /// Workers in a row that ended before they were ready.
    early_deaths: Restart,
}

impl Pool {
    /// A pool whose first template begins to load.
    pub(super) fn new(id: PoolId, limits: PoolLimits, context: &mut Context) -> Pool {
        let slots = (0..limits.workers).map(|number| Slot::new(id, number)).collect();
        let template = Template::new(id, context);
        Pool { id, limits, template, slots, queue: Queue::default(), early_deaths: Restart::default() }
    }

    /// Takes in what has happened to this pool. What is said of a process that has ended already, or never was, changes
    /// nothing.
    pub(super) fn handle(&mut self, event: Event, context: &mut Context) {
        let limits = self.limits;
        match event {
            Event::Submitted { request, pool: _, fingerprint } => self.submitted(request, fingerprint, context),
            Event::Withdrawn(request) => self.withdrawn(request, context),
            Event::TemplateReady(id) if id == self.template.id => self.template.ready(),
            Event::LoadFailed(id) if id == self.template.id => self.template.load_failed(context),
            Event::TemplateExited(id) if id == self.template.id => self.template_exited(context),
            Event::TemplateReady(_) | Event::LoadFailed(_) | Event::TemplateExited(_) => {}
            Event::Forked(id) => self.with_worker(id, Worker::forked),
            Event::ForkFailed(id) => self.fork_failed(id, context),
            Event::Ready(id) => self.ready(id),
            Event::Streamed(id) => {
                let deadline = context.now.after(limits.progress_timeout);
                self.with_worker(id, |worker| worker.progressed(deadline));
            }
            Event::Observed { worker: id, ticks } => {
                let deadline = context.now.after(limits.progress_timeout);
                self.with_worker(id, |worker| worker.observed(ticks, deadline));
            }
            Event::Answered(id) => {
                self.with_worker(id, |worker| worker.answered(Outcome::Answered, limits.isolation, context));
            }
            Event::Rejected(id) => {
                self.with_worker(id, |worker| worker.answered(Outcome::Rejected, limits.isolation, context));
            }
            Event::Misbehaved(id) => self.with_worker(id, |worker| worker.misbehaved(&limits, context)),
            Event::Exited { worker, clean: _ } => self.exited(worker, context),
            // They concern all pools: see `stop_at_once`, `settle` and `threads.rs`.
            Event::ShutdownRequested | Event::ThreadsUsed { .. } => {}
        }
    }

    /// Does what follows from the state that the pool is in.
    pub(super) fn settle(&mut self, context: &mut Context) {
        self.load_if_due(context);
        if self.template.is_parked() {
            self.end_unneeded(context);
        }
        self.dispatch(context);
        if let Some(until) = self.template.unavailable_until(context.now) {
            self.finish_queue(Outcome::Unavailable { until }, context);
        }
        if !self.has_use(context) {
            self.end_unneeded(context);
            if !self.has_requests() {
                self.template.stop(context);
            }
        }
        if self.may_fork(context) {
            for slot in &mut self.slots {
                if slot.lacks_worker(self.limits.isolation) && slot.fork_at <= context.now {
                    slot.fork(self.template.id, context);
                }
            }
        }
    }

    /// Ends every request and every process.
    pub(super) fn stop_at_once(&mut self, context: &mut Context) {
        self.finish_queue(Outcome::ShuttingDown, context);
        for worker in self.slots.iter_mut().flat_map(Slot::workers_mut) {
            if let Some(request) = worker.request() {
                context.finish(request, Outcome::ShuttingDown);
            }
            worker.stop_at_once(context);
        }
        self.template.stop(context);
    }

    /// Whether the pool has stopped for good.
    pub(super) fn is_over(&self) -> bool {
        self.template.is_stopped() && self.workers().next().is_none()
    }

    /// Whether workers may be forked now, for those slots that lack one.
    pub(super) fn may_fork(&self, context: &Context) -> bool {
        self.template.is_warm() && self.has_use(context)
    }

    /// Whether workers that wait have something to wait for: always, until the supervisor stops; then only requests
    /// that wait.
    pub(super) fn has_use(&self, context: &Context) -> bool {
        !context.closing || !self.queue.is_empty() || self.workers().any(|worker| worker.replay().is_some())
    }

    pub(super) fn view(&self, context: &Context) -> PoolView {
        let oldest = self.queue.front().and_then(|request| context.requests.get(&request));
        PoolView {
            template: self.template.id,
            state: self.template.view(),
            queued: self.queue.len(),
            oldest: oldest.map(|request| request.submitted),
            workers: self.slots.iter().flat_map(|slot| view_slot(slot, context.closing)).collect(),
        }
    }

    fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.slots.iter().flat_map(Slot::workers)
    }

    fn has_requests(&self) -> bool {
        !self.queue.is_empty() || self.workers().any(|worker| worker.request().is_some())
    }

    fn slot_mut(&mut self, id: WorkerId) -> Option<&mut Slot> {
        usize::try_from(id.life.slot).ok().and_then(|number| self.slots.get_mut(number))
    }

    fn with_worker(&mut self, id: WorkerId, act: impl FnOnce(&mut Worker)) {
        if let Some(worker) = self.slot_mut(id).and_then(|slot| slot.worker_mut(id.life.generation)) {
            act(worker);
        }
    }

    fn submitted(&mut self, request: RequestId, fingerprint: u64, context: &mut Context) {
        // A model that is about to be tried again is worth waiting for.
        self.load_if_due(context);
        let refusal = if context.closing {
            Some(Outcome::ShuttingDown)
        } else if let Some(until) = context.poison.until(fingerprint, context.now) {
            Some(Outcome::Poisonous { until })
        } else if self.slots.iter_mut().any(|slot| slot.idle_mut().is_some()) {
            None
        } else if let Some(until) = self.template.unavailable_until(context.now) {
            Some(Outcome::Unavailable { until })
        } else {
            (self.queue.newcomers() >= self.limits.queue).then_some(Outcome::QueueFull)
        };
        if let Some(outcome) = refusal {
            return context.finish(request, outcome);
        }
        let record = Request {
            pool: self.id,
            fingerprint,
            submitted: context.now,
            deadline: context.now.after(self.limits.queue_timeout),
            deaths: 0,
            place: Place::Queued,
        };
        context.requests.insert(request, record);
        self.queue.push(request);
    }

    fn withdrawn(&mut self, request: RequestId, context: &mut Context) {
        let Some(place) = context.requests.get(&request).map(|record| record.place) else { return };
        match place {
            Place::Queued => self.queue.remove(request),
            Place::With(id) => {
                let isolation = self.limits.isolation;
                self.with_worker(id, |worker| worker.withdrawn(isolation, context));
            }
        }
        context.finish(request, Outcome::Cancelled);
    }

    fn template_exited(&mut self, context: &mut Context) {
        self.template.exited(context);
        for slot in &mut self.slots {
            slot.remove_asked();
        }
    }

    fn ready(&mut self, id: WorkerId) {
        let mut is_ready = false;
        self.with_worker(id, |worker| is_ready = worker.ready());
        if is_ready {
            self.early_deaths.succeeded();
            self.template.proved();
        }
    }

    fn fork_failed(&mut self, id: WorkerId, context: &mut Context) {
        let mut is_asked = false;
        self.with_worker(id, |worker| is_asked = worker.is_asked());
        if is_asked {
            self.exited(id, context);
        }
    }

    fn exited(&mut self, id: WorkerId, context: &mut Context) {
        let Some(worker) = self.slot_mut(id).and_then(|slot| slot.remove(id.life.generation)) else { return };
        match worker.ended(&self.limits, context) {
            Aftermath::Nothing => {}
            Aftermath::EarlyDeath => {
                match self.early_deaths.failed(&context.limits, context.now, &mut context.random) {
                    Verdict::RetryAt(time) => {
                        if let Some(slot) = self.slot_mut(id) {
                            slot.fork_at = time;
                        }
                    }
                    Verdict::Park => self.template.park(context),
                }
            }
            Aftermath::Replay(request) => {
                if let Some(record) = context.requests.get_mut(&request) {
                    record.place = Place::Queued;
                    self.queue.push_front(request);
                }
            }
        }
    }

    fn load_if_due(&mut self, context: &mut Context) {
        if self.has_use(context) && self.template.load_at().is_some_and(|time| time <= context.now) {
            self.template.load(context);
        }
    }

    /// Gives waiting requests to idle workers.
    fn dispatch(&mut self, context: &mut Context) {
        for worker in self.slots.iter_mut().filter_map(Slot::idle_mut) {
            let Some(request) = self.queue.pop() else { return };
            let Some(record) = context.requests.get_mut(&request) else { continue };
            if record.deaths == 0 {
                record.deadline = context.now.after(self.limits.request_timeout);
            }
            record.place = Place::With(worker.id);
            let attempt = record.deaths + 1;
            context.threads.begin(worker.id, self.limits.threads);
            worker.dispatch(request, context.now.after(self.limits.progress_timeout));
            context.emit(Effect::Dispatch { to: worker.id, request, attempt });
        }
    }

    fn finish_queue(&mut self, outcome: Outcome, context: &mut Context) {
        while let Some(request) = self.queue.pop() {
            context.finish(request, outcome);
        }
    }

    fn end_unneeded(&mut self, context: &mut Context) {
        for worker in self.slots.iter_mut().flat_map(Slot::workers_mut) {
            worker.unneeded(context);
        }
    }
}

fn view_slot(slot: &Slot, closing: bool) -> Vec<WorkerView> {
    if slot.serving().is_none() && !closing {
        return vec![WorkerView {
            id: slot.next_life(),
            state: WorkerState::Waiting { until: slot.fork_at },
            request: None,
        }];
    }
    let serving = slot.serving().map(|worker| worker.id);
    let view = |worker: &Worker| WorkerView {
        id: worker.id,
        state: match worker.state() {
            State::Starting => WorkerState::Starting,
            State::Idle if serving == Some(worker.id) => WorkerState::Idle,
            State::Idle => WorkerState::Spare,
            State::Busy { .. } | State::Cancelling { .. } => WorkerState::Busy,
            State::Retiring { .. } | State::Terminating { .. } | State::Dying { .. } => WorkerState::Stopping,
        },
        request: worker.request(),
    };
    slot.workers().map(view).collect()
}
