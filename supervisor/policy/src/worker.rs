//! One worker process, from the wish to have it forked to its end: one life of a slot.
//!
//! This file owns what a worker's state makes of each event. It does not know whether the worker
//! serves its slot or stands by for it (`slot.rs`), and hands what its end leaves to do to the pool
//! (`pool.rs`).
//!
//! | state | Ready | Streamed, Observed | Answered, Rejected | Misbehaved, too much memory | Exited | its request is withdrawn | its request is overdue | deadline | not needed | replaced | stop at once |
//! |---|---|---|---|---|---|---|---|---|---|---|---|
//! | Starting | Idle | - | - | Kill, early death | early death | . | . | forked: Kill, early death; else KillTemplate | Terminate | Kill | Kill |
//! | Idle | - | - | - | Kill | - | . | . | . | Terminate | Kill | Kill |
//! | Busy | - | new deadline | part done; Idle or Retiring | Kill, count | count | Kill, or StopRequest and Cancelling | Kill | Kill, count | - | Kill, replay | Kill |
//! | Cancelling | - | - | Idle | Kill | - | . | . | Kill | - | Kill | Kill |
//! | Retiring | - | - | - | Kill | - | . | . | Kill | - | - | Kill |
//! | Terminating | - | - | - | Kill | - | . | . | Kill | - | - | Kill |
//! | Dying | - | - | - | - | what is left to do | forget the replay | forget the replay | . | - | - | nothing is left to do |
//!
//! `-`: nothing follows, `.`: cannot be. Whatever has no state written leads to Dying (Kill), to
//! Terminating (Terminate), or leaves the state as it is. "Early death" counts towards the pool's
//! back-off, "count" to its part of the request, nothing else counts. `Forked` is only noted;
//! `ForkFailed` is `Exited` for a worker that was not forked yet, and ignored otherwise; so is
//! `Shortage`, but that it counts to nothing. When the template has exited, the workers that it had
//! not forked are dropped: they never were.
use super::context::{Context, OnExit};
use super::event::{Effect, Identity, Isolation, KillReason, Part, TemplateId, Time, WorkerId};
use super::limits::PoolLimits;
use super::template::Template;
use ipc::RequestId;

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    /// What has forked it.
    template: TemplateId,
    /// What its template had loaded.
    pub(super) identity: Identity,
    /// Most memory that it may take for itself, in bytes.
    memory: u64,
    /// Whether another is to take its place once it has nothing to do.
    pub(super) replace_when_idle: bool,
    stage: Stage,
    /// When it must be ready at the latest.
    ready_by: Time,
    /// The last tick count seen on its board, which begins at 0.
    ticks: u64,
    state: State,
}

/// How far a worker has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The template has been asked for it. It ends with the template.
    ForkRequested,
    /// It is a process.
    Forked,
    /// It has been ready for work.
    Ready,
}

/// Each state holds only what is valid in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Starting,
    Idle,
    /// Computes a part of a request, and must make progress before the deadline.
    Busy {
        part: Part,
        deadline: Time,
    },
    /// Was asked to stop a request that has ended, and goes on with others if it does.
    Cancelling {
        deadline: Time,
    },
    /// Has answered, and exits by itself.
    Retiring {
        deadline: Time,
    },
    /// Was asked to exit.
    Terminating {
        deadline: Time,
    },
    /// Was killed, at that time.
    Dying {
        since: Time,
        on_exit: OnExit,
        reason: KillReason,
        /// Whether it was its own fault.
        is_crash: bool,
    },
}

impl Worker {
    /// A worker that the template is being asked for.
    pub(super) fn new(
        id: WorkerId,
        template: TemplateId,
        identity: Identity,
        limits: &PoolLimits,
        context: &Context,
    ) -> Worker {
        Worker {
            id,
            template,
            identity,
            memory: limits.memory,
            replace_when_idle: false,
            stage: Stage::ForkRequested,
            ready_by: context.now.after(context.limits.start),
            ticks: 0,
            state: State::Starting,
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    pub(super) fn is_asked(&self) -> bool {
        self.stage == Stage::ForkRequested
    }

    pub(super) fn has_been_ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    /// Whether it has been ready and will not take another request, so that its successor may stand
    /// by.
    pub(super) fn is_spent(&self) -> bool {
        self.stage == Stage::Ready && !self.is_idle()
    }

    /// Whether it may still be given a request of those that wait.
    pub(super) fn may_serve(&self, isolation: Isolation) -> bool {
        match self.state {
            State::Starting | State::Idle => true,
            State::Busy { .. } | State::Cancelling { .. } => isolation == Isolation::Worker,
            State::Retiring { .. } | State::Terminating { .. } | State::Dying { .. } => false,
        }
    }

    /// The part that it computes.
    pub(super) fn part(&self) -> Option<Part> {
        if let State::Busy { part, .. } = self.state { Some(part) } else { None }
    }

    /// The open request that it computes, or that awaits its exit.
    pub(super) fn request(&self) -> Option<RequestId> {
        match self.state {
            State::Busy { part, .. } => Some(part.request),
            State::Starting
            | State::Idle
            | State::Cancelling { .. }
            | State::Retiring { .. }
            | State::Terminating { .. } => None,
            State::Dying { .. } => self.replay().map(|part| part.request),
        }
    }

    /// What awaits its exit to be replayed.
    pub(super) fn replay(&self) -> Option<Part> {
        let State::Dying { on_exit: OnExit::Replay(part), .. } = self.state else { return None };
        Some(part)
    }

    pub(super) fn forked(&mut self) {
        if self.stage == Stage::ForkRequested {
            self.stage = Stage::Forked;
        }
    }

    /// Whether it has become ready by this.
    pub(super) fn ready(&mut self) -> bool {
        match self.state {
            State::Starting => {
                self.stage = Stage::Ready;
                self.state = State::Idle;
                true
            }
            State::Idle
            | State::Busy { .. }
            | State::Cancelling { .. }
            | State::Retiring { .. }
            | State::Terminating { .. }
            | State::Dying { .. } => false,
        }
    }

    /// Gives an idle worker a part of a request.
    pub(super) fn dispatch(&mut self, part: Part, deadline: Time) {
        self.state = State::Busy { part, deadline };
    }

    pub(super) fn observed(&mut self, ticks: u64, deadline: Time) {
        if self.ticks != ticks {
            self.ticks = ticks;
            self.progressed(deadline);
        }
    }

    pub(super) fn progressed(&mut self, new_deadline: Time) {
        match &mut self.state {
            State::Busy { deadline, .. } => *deadline = new_deadline,
            State::Starting
            | State::Idle
            | State::Cancelling { .. }
            | State::Retiring { .. }
            | State::Terminating { .. }
            | State::Dying { .. } => {}
        }
    }

    /// It has said that it is done: with what, if somebody still waits for it.
    pub(super) fn answered(&mut self, isolation: Isolation, context: &mut Context) -> Option<Part> {
        match self.state {
            State::Busy { part, .. } => {
                self.state = match isolation {
                    Isolation::Request => {
                        context.threads.end(self.id);
                        State::Retiring { deadline: context.now.after(context.limits.grace) }
                    }
                    Isolation::Worker => self.rests(context),
                };
                return Some(part);
            }
            State::Cancelling { .. } => self.state = self.rests(context),
            State::Starting
            | State::Idle
            | State::Retiring { .. }
            | State::Terminating { .. }
            | State::Dying { .. } => {}
        }
        None
    }

    /// It has done what it must not, for this reason to kill it.
    pub(super) fn misbehaved(&mut self, reason: KillReason, limits: &PoolLimits, context: &mut Context) {
        match self.state {
            State::Starting => self.kill(reason, OnExit::EarlyDeath, context),
            State::Busy { part, .. } => self.kill_and_count(reason, part, limits, context),
            State::Idle | State::Cancelling { .. } | State::Retiring { .. } | State::Terminating { .. } => {
                self.kill(reason, OnExit::Nothing, context);
            }
            State::Dying { .. } => {}
        }
    }

    /// Whether it takes more memory than it may, if it has taken so much of its own. When its
    /// template has ended, the pages that it shared belong to whoever still has them, which is
    /// nobody's fault.
    pub(super) fn has_too_much(&self, bytes: u64, template: &Template) -> bool {
        bytes > self.memory && template.id == self.template && template.is_there()
    }

    /// Whether it is a crash if its process ends now, in good order or not.
    pub(super) fn is_crash(&self, is_clean: bool) -> bool {
        match self.state {
            State::Starting | State::Idle | State::Retiring { .. } => !is_clean,
            State::Busy { .. } | State::Cancelling { .. } => true,
            State::Terminating { .. } => false,
            State::Dying { is_crash, .. } => is_crash,
        }
    }

    /// Why it was killed, if it was.
    pub(super) fn kill_reason(&self) -> Option<KillReason> {
        let State::Dying { reason, .. } = self.state else { return None };
        Some(reason)
    }

    /// Whether it was asked to exit.
    pub(super) fn is_terminating(&self) -> bool {
        matches!(self.state, State::Terminating { .. })
    }

    /// The process has ended: what is left to do.
    pub(super) fn ended(self, limits: &PoolLimits, context: &mut Context) -> OnExit {
        context.threads.end(self.id);
        match self.state {
            State::Starting => OnExit::EarlyDeath,
            State::Busy { part, .. } => context.count_death(part, limits.max_attempts),
            State::Dying { on_exit, .. } => on_exit,
            State::Idle | State::Cancelling { .. } | State::Retiring { .. } | State::Terminating { .. } => {
                OnExit::Nothing
            }
        }
    }

    /// Its request has ended, not by what it does.
    pub(super) fn withdrawn(&mut self, isolation: Isolation, context: &mut Context) {
        match self.state {
            State::Busy { part, .. } => match isolation {
                Isolation::Request => self.kill(KillReason::Cancelled, OnExit::Nothing, context),
                Isolation::Worker => {
                    context.emit(Effect::StopRequest { worker: self.id, request: part.request });
                    context.threads.stopping(self.id);
                    self.state = State::Cancelling { deadline: context.now.after(context.limits.cancel) };
                }
            },
            State::Dying { ref mut on_exit, .. } => *on_exit = OnExit::Nothing,
            State::Starting
            | State::Idle
            | State::Cancelling { .. }
            | State::Retiring { .. }
            | State::Terminating { .. } => {}
        }
    }

    /// Its request has had all the time that it may have.
    pub(super) fn overdue(&mut self, context: &mut Context) {
        match self.state {
            State::Busy { .. } => self.kill(KillReason::RequestTimeout, OnExit::Nothing, context),
            State::Dying { ref mut on_exit, .. } => *on_exit = OnExit::Nothing,
            State::Starting
            | State::Idle
            | State::Cancelling { .. }
            | State::Retiring { .. }
            | State::Terminating { .. } => {}
        }
    }

    /// The time by which the template must have forked it.
    pub(super) fn fork_deadline(&self) -> Option<Time> {
        self.is_asked().then_some(self.ready_by)
    }

    /// The time at which it must be ended if nothing happens before.
    pub(super) fn deadline(&self) -> Option<Time> {
        match self.state {
            // What was not forked yet cannot be blamed: that deadline is the template's.
            State::Starting => (!self.is_asked()).then_some(self.ready_by),
            State::Busy { deadline, .. }
            | State::Cancelling { deadline }
            | State::Retiring { deadline }
            | State::Terminating { deadline } => Some(deadline),
            State::Idle | State::Dying { .. } => None,
        }
    }

    /// When something about it was to happen at the latest: never, if nothing needs to.
    pub(super) fn due(&self) -> Option<Time> {
        match self.state {
            State::Idle => None,
            State::Dying { since, .. } => Some(since),
            State::Starting
            | State::Busy { .. }
            | State::Cancelling { .. }
            | State::Retiring { .. }
            | State::Terminating { .. } => self.deadline().or(self.fork_deadline()),
        }
    }

    pub(super) fn expire(&mut self, limits: &PoolLimits, context: &mut Context) {
        if self.deadline().is_none_or(|deadline| deadline > context.now) {
            return;
        }
        match self.state {
            State::Starting => self.kill(KillReason::StartTimeout, OnExit::EarlyDeath, context),
            State::Busy { part, .. } => self.kill_and_count(KillReason::ProgressTimeout, part, limits, context),
            State::Cancelling { .. } => self.kill(KillReason::Cancelled, OnExit::Nothing, context),
            State::Retiring { .. } => self.kill(KillReason::Lingered, OnExit::Nothing, context),
            State::Terminating { .. } => {
                let reason = if context.closing { KillReason::Shutdown } else { KillReason::Lingered };
                self.kill(reason, OnExit::Nothing, context);
            }
            State::Idle | State::Dying { .. } => {}
        }
    }

    /// Nothing is left for it to do. What works for a request goes on.
    pub(super) fn unneeded(&mut self, context: &mut Context) {
        match self.state {
            State::Starting | State::Idle => {
                context.emit(Effect::Terminate(self.id));
                self.state = State::Terminating { deadline: context.now.after(context.limits.grace) };
            }
            State::Busy { .. }
            | State::Cancelling { .. }
            | State::Retiring { .. }
            | State::Terminating { .. }
            | State::Dying { .. } => {}
        }
    }

    /// Another is to take its place. One that has not been ready yet is as good as another.
    pub(super) fn be_replaced_when_idle(&mut self) {
        self.replace_when_idle |= self.stage == Stage::Ready;
    }

    /// Another is to take its place at once, and to go on with what it computes. It is nobody's
    /// fault.
    pub(super) fn replaced(&mut self, context: &mut Context) {
        match self.state {
            State::Starting | State::Idle | State::Cancelling { .. } => {
                self.kill(KillReason::Restarted, OnExit::Nothing, context);
            }
            State::Busy { part, .. } => self.kill(KillReason::Restarted, OnExit::Replay(part), context),
            State::Retiring { .. } | State::Terminating { .. } | State::Dying { .. } => {}
        }
    }

    pub(super) fn stop_at_once(&mut self, context: &mut Context) {
        match self.state {
            State::Starting
            | State::Idle
            | State::Busy { .. }
            | State::Cancelling { .. }
            | State::Retiring { .. }
            | State::Terminating { .. } => self.kill(KillReason::Shutdown, OnExit::Nothing, context),
            State::Dying { ref mut on_exit, .. } => *on_exit = OnExit::Nothing,
        }
    }

    fn rests(&self, context: &mut Context) -> State {
        context.rests(self.id);
        State::Idle
    }

    fn kill_and_count(&mut self, reason: KillReason, part: Part, limits: &PoolLimits, context: &mut Context) {
        let on_exit = context.count_death(part, limits.max_attempts);
        self.kill(reason, on_exit, context);
    }

    fn kill(&mut self, reason: KillReason, on_exit: OnExit, context: &mut Context) {
        context.emit(Effect::Kill { worker: self.id, reason });
        context.threads.end(self.id);
        // Who was asked to exit may have been half gone.
        let is_crash = reason.is_fault() && !matches!(self.state, State::Terminating { .. });
        self.state = State::Dying { since: context.now, on_exit, reason, is_crash };
    }
}
