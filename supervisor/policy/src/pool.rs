//! One model: its template, its slots and its queue.
//!
//! An event changes what it is about, and no more; then [`Pool::settle`] does whatever follows from
//! the state that the pool is in: dispatch, fork, load, end. So nothing that follows can be
//! forgotten on one of many paths. What time brings is in `pool/timers.rs`, what is done with
//! requests in `pool/requests.rs`, when the model is there in `pool/loading.rs`, what a worker's
//! state makes of an event in `worker.rs`, and the template's states in `template.rs`.
mod loading;
mod requests;
mod succession;
mod timers;

use super::back_off::{AfterFailure, BackOff};
use super::context::{Context, OnExit};
use super::event::{Effect, Event, KillReason, Load, Outcome, Part, PoolId, Time, WorkerId};
use super::lifecycle::{Lifecycle, Proof};
use super::limits::PoolLimits;
use super::memory::{Memory, MemoryShortage, Need};
use super::queue::Queue;
use super::request::RequestRecord;
use super::slot::Slot;
use super::template::Template;
use super::view::{PoolView, WorkerState, WorkerView};
use super::worker::{State, Worker};

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) id: PoolId,
    pub(super) limits: PoolLimits,
    pub(super) lifecycle: Lifecycle,
    pub(super) template: Template,
    pub(super) slots: Vec<Slot>,
    pub(super) queue: Queue,
    /// What it may take of the machine's memory, while its template is there.
    pub(super) need: Option<Need>,
    /// Whether it waits to be told how much memory there is.
    pub(super) asks_memory: bool,
    /// Workers in a row that ended before they were ready.
    early_deaths: BackOff,
    /// Whether the model is loaded again when it is gone, also with no request.
    pub(super) is_resident: bool,
    /// Whether waiting in the queue costs no time, because the first worker is still to come.
    pub(super) is_clock_stopped: bool,
    /// Whether some that wait may wait for longer than others.
    pub(super) has_mixed_waits: bool,
    /// Whether it may still get requests of one whose place it has taken.
    pub(super) awaits_predecessor: bool,
    /// Since when the model is warm and there is no request.
    pub(super) idle_from: Option<Time>,
}

impl Pool {
    /// A pool whose first template begins to load, unless a request must come first.
    pub(super) fn new(id: PoolId, limits: PoolLimits, context: &mut Context) -> Pool {
        let mut pool = Pool::cold(id, limits, Template::new(id, 0));
        if limits.load == Load::Eager {
            pool.load(context);
        }
        pool
    }

    /// A pool that does nothing before it is asked to.
    pub(super) fn cold(id: PoolId, limits: PoolLimits, template: Template) -> Pool {
        Pool {
            id,
            limits,
            lifecycle: Lifecycle::Serving,
            template,
            slots: (0..limits.workers).map(|number| Slot::new(id, number)).collect(),
            queue: Queue::default(),
            need: None,
            asks_memory: false,
            early_deaths: BackOff::default(),
            is_resident: false,
            is_clock_stopped: false,
            has_mixed_waits: false,
            awaits_predecessor: false,
            idle_from: None,
        }
    }

    /// Takes in what has happened to this pool. What is said of a process that has ended already,
    /// or never was, changes nothing.
    pub(super) fn handle(&mut self, event: Event, context: &mut Context) {
        let limits = self.limits;
        match event {
            Event::Submitted { request, pool: _, fingerprint, owner, patience, work } => {
                let mut record = RequestRecord::new(request, self.id, fingerprint, work, context.now);
                record.owner = owner;
                record.gives_up = patience.map(|patience| context.now.after(patience));
                self.has_mixed_waits |= record.begin_wait(context.now, limits.queue_timeout);
                self.submitted(record, context);
            }
            Event::Withdrawn(request) => self.end(request, Outcome::Cancelled, context),
            Event::Blocked { request, is_blocked } => {
                if let Some(record) = context.requests.get_mut(&request) {
                    record.is_blocked = is_blocked;
                }
            }
            Event::Examined(id) if id == self.template.id => self.examined(context),
            Event::LoadFailed(id) if id == self.template.id => self.template.load_failed(context),
            Event::TemplateExited(id) if id == self.template.id => self.template_exited(context),
            Event::Examined(_) | Event::LoadFailed(_) | Event::TemplateExited(_) => {}
            Event::MemoryRead(_, memory) => self.memory_read(memory, context),
            Event::Forked(id) => _ = self.with_worker(id, Worker::forked),
            Event::ForkFailed(id) => self.fork_failed(id, context),
            Event::Shortage(id) => self.is_short(id, context),
            Event::Ready(id) => self.ready(id),
            Event::Streamed(id) => {
                let deadline = context.now.after(limits.progress_timeout);
                let computed = self.with_worker(id, |worker| {
                    worker.progressed(deadline);
                    worker.part().map(|part| (part, worker.identity))
                });
                if let Some((part, identity)) = computed.flatten() {
                    context.bind(part.request, identity);
                }
            }
            Event::Observed { worker: id, ticks } => {
                let deadline = context.now.after(limits.progress_timeout);
                self.with_worker(id, |worker| worker.observed(ticks, deadline));
            }
            Event::Answered(id) => {
                if let Some(part) = self.answered(id, context) {
                    self.part_answered(part, context);
                }
            }
            Event::Rejected(id) => {
                if let Some(part) = self.answered(id, context) {
                    self.part_rejected(part, context);
                }
            }
            Event::Misbehaved(id) => {
                self.with_worker(id, |worker| worker.misbehaved(KillReason::Misbehaved, &limits, context));
            }
            Event::MemoryTaken { worker: id, bytes } => self.memory_taken(id, bytes, context),
            Event::Exited(worker) => self.exited(worker, context),
            Event::Restart { pool: _, slot } => self.restart(slot, context),
            // They concern all pools: see `stop_at_once`, `settle`, `threads.rs` and `memory.rs`.
            Event::Needs { .. } | Event::TemplateReady(..) => {}
            Event::ShutdownRequested | Event::Drain(_) | Event::Reload(_) | Event::ThreadsUsed { .. } => {}
            Event::FrontListening(_) | Event::FrontFailed(_) | Event::FrontBeat(_) | Event::FrontExited(_) => {}
        }
        self.end_doomed(context);
    }

    /// Does what follows from the state that the pool is in.
    pub(super) fn settle(&mut self, context: &mut Context) {
        self.hand_over(context);
        if context.draining {
            self.finish_newcomers(Outcome::Draining, context);
        }
        self.keep_loaded(context);
        if self.template.is_parked() || self.template.is_cold() {
            self.end_unneeded(context);
        }
        self.renew(context);
        self.dispatch(context);
        self.end_outdated(context);
        if let Some(until) = self.template.unavailable_until(context.now) {
            self.finish_stranded(Outcome::Unavailable { until }, context);
        }
        if !self.has_use(context) {
            self.end_unneeded(context);
            if !self.has_requests() {
                self.template.stop(context);
                self.is_clock_stopped = false;
            }
        }
        let wants_fork = self.wanted_slots().any(|slot| slot.wants_fork(self.limits.isolation, context.now));
        if wants_fork && self.may_fork(context) && !self.asks_memory {
            self.asks_memory = true;
            context.emit(Effect::ReadMemory(self.id));
        }
        self.note_idleness(context);
    }

    /// Has workers forked where one is missing and there is memory for it.
    fn memory_read(&mut self, memory: Memory, context: &mut Context) {
        if !std::mem::take(&mut self.asks_memory) || !self.may_fork(context) {
            return;
        }
        let Some(identity) = self.template.identity else { return };
        let (isolation, now) = (self.limits.isolation, context.now);
        let mut is_short = false;
        let wanted = self.slots.iter_mut().take(self.limits.workers as usize);
        for slot in wanted.filter(|slot| slot.wants_fork(isolation, now)) {
            let is_first = slot.serving().is_none();
            match self.need.map_or(Ok(()), |need| need.has_room_for_worker(is_first, memory)) {
                Ok(()) => slot.fork(self.template.id, identity, &self.limits, context),
                Err(shortage) => {
                    context.emit(Effect::NoMemory(slot.next_life(), shortage));
                    slot.fork_at = context.now.after(context.limits.room);
                    is_short = true;
                }
            }
        }
        if is_short {
            self.prove(Proof::Failed);
        }
    }

    /// Its model needs more memory than there is.
    pub(super) fn does_not_fit(&mut self, shortage: MemoryShortage, context: &mut Context) {
        context.emit(Effect::DoesNotFit(self.template.id, shortage));
        self.template.does_not_fit(context);
    }

    /// Ends every request and every process.
    pub(super) fn stop_at_once(&mut self, context: &mut Context) {
        self.finish_stranded(Outcome::ShuttingDown, context);
        for worker in self.slots.iter_mut().flat_map(Slot::workers_mut) {
            if let Some(request) = worker.request().filter(|request| context.requests.contains_key(request)) {
                self.queue.remove(request);
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

    /// Whether workers that wait have something to wait for: always, until the supervisor stops or
    /// the model goes; then only requests that wait, here or with one whose place it has taken.
    pub(super) fn has_use(&self, context: &Context) -> bool {
        let goes_on = self.awaits_predecessor || (!context.closing && !self.is_retired());
        goes_on || !self.queue.is_empty() || self.workers().any(|worker| worker.replay().is_some())
    }

    pub(super) fn view(&self, context: &Context) -> PoolView {
        let stranded = self.stranded(context);
        let waiting = stranded.iter().copied().chain(self.queue.oldest_newcomer());
        let oldest = waiting.filter_map(|request| context.requests.get(&request)).map(|record| record.submitted).min();
        let shows_absent = !context.closing && !self.is_retired() && !self.template.is_cold();
        let wanted = if shows_absent { self.limits.workers as usize } else { 0 };
        let slots = self.slots.iter().enumerate().flat_map(|(number, slot)| view_slot(slot, number < wanted));
        PoolView {
            template: self.template.id,
            state: self.template.view(),
            queued: self.queue.newcomers() + stranded.len(),
            oldest,
            workers: slots.collect(),
        }
    }

    pub(super) fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.slots.iter().flat_map(Slot::workers)
    }

    pub(super) fn has_requests(&self) -> bool {
        !self.queue.is_empty() || self.workers().any(|worker| worker.request().is_some())
    }

    pub(super) fn worker(&self, id: WorkerId) -> Option<&Worker> {
        let slot = usize::try_from(id.life.slot).ok().and_then(|number| self.slots.get(number));
        slot.and_then(|slot| slot.worker(id.life.generation))
    }

    pub(super) fn slot_mut(&mut self, id: WorkerId) -> Option<&mut Slot> {
        usize::try_from(id.life.slot).ok().and_then(|number| self.slots.get_mut(number))
    }

    /// A worker is done: the part that it was busy with.
    fn answered(&mut self, id: WorkerId, context: &mut Context) -> Option<Part> {
        let isolation = self.limits.isolation;
        let done = |worker: &mut Worker| Some((worker.answered(isolation, context)?, worker.identity));
        let (part, identity) = self.with_worker(id, done).flatten()?;
        context.bind(part.request, identity);
        Some(part)
    }

    fn memory_taken(&mut self, id: WorkerId, bytes: u64, context: &mut Context) {
        let limits = self.limits;
        let Some(slot) = usize::try_from(id.life.slot).ok().and_then(|number| self.slots.get_mut(number)) else {
            return;
        };
        if let Some(worker) =
            slot.worker_mut(id.life.generation).filter(|worker| worker.has_too_much(bytes, &self.template))
        {
            worker.misbehaved(KillReason::TooMuchMemory, &limits, context);
        }
    }

    fn template_exited(&mut self, context: &mut Context) {
        self.template.exited(context);
        self.need = None;
        for slot in &mut self.slots {
            slot.remove_asked();
        }
    }

    fn ready(&mut self, id: WorkerId) {
        if self.with_worker(id, Worker::ready) == Some(true) {
            self.prove(Proof::Given);
            self.early_deaths.succeeded();
            self.template.proved();
        }
    }

    fn fork_failed(&mut self, id: WorkerId, context: &mut Context) {
        if self.with_worker(id, |worker| worker.is_asked()) == Some(true) {
            self.exited(id, context);
        }
    }

    /// It never came to life for us; that is nobody's fault.
    fn is_short(&mut self, id: WorkerId, context: &Context) {
        let Some(slot) = self.slot_mut(id) else { return };
        if slot.worker_mut(id.life.generation).is_some_and(|worker| worker.is_asked()) {
            slot.remove(id.life.generation);
            slot.fork_at = context.now.after(context.limits.room);
            self.prove(Proof::Failed);
        }
    }

    fn exited(&mut self, id: WorkerId, context: &mut Context) {
        let Some(worker) = self.slot_mut(id).and_then(|slot| slot.remove(id.life.generation)) else { return };
        match worker.ended(&self.limits, context) {
            OnExit::Nothing => {}
            OnExit::EarlyDeath => {
                self.prove(Proof::Failed);
                match self.early_deaths.failed(&context.limits, context.now, &mut context.random) {
                    AfterFailure::RetryAt(time) => {
                        if let Some(slot) = self.slot_mut(id) {
                            slot.fork_at = time;
                        }
                    }
                    AfterFailure::Park => self.template.park(context),
                }
            }
            OnExit::Replay(part) => self.replay(part, context),
        }
    }

    pub(super) fn end_unneeded(&mut self, context: &mut Context) {
        for worker in self.slots.iter_mut().flat_map(Slot::workers_mut) {
            worker.unneeded(context);
        }
    }
}

fn view_slot(slot: &Slot, shows_absent: bool) -> Vec<WorkerView> {
    if slot.serving().is_none() && shows_absent {
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
