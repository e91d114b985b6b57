//! One model's template process: loaded, warm, away, or given up for a while.
//!
//! | state | TemplateReady | LoadFailed | TemplateExited | deadline | stuck fork | pool parks | closing, nothing left to do |
//! |---|---|---|---|---|---|---|---|
//! | Loading | Warm | Failed | crash | KillTemplate: Killed | . | KillTemplate: Parked | KillTemplate: Stopping |
//! | Examining | - | Failed | crash | KillTemplate: Killed | . | . | KillTemplate: Stopping |
//! | Warm | - | - | crash | . | KillTemplate: Killed | KillTemplate: Parked | KillTemplate: Stopping |
//! | Killed | - | - | crash | . | . | Parked | Stopping |
//! | Waiting | . | . | . | Load | . | Parked | Stopped |
//! | Failed | - | - | gone | leaving: KillTemplate; gone: Load | . | - | KillTemplate if needed: Stopping or Stopped |
//! | Parked | - | - | gone | gone: Load | . | - | Stopping or Stopped |
//! | Cold | . | . | . | Load, if a request came | . | - | Stopped |
//! | Unloading | - | - | Cold | . | . | - | Stopping |
//! | Stopping | - | - | Stopped | . | . | - | - |
//! | Stopped | . | . | . | . | . | - | - |
//!
//! What does not fit into memory is LoadFailed and KillTemplate at once.
//! A pool without requests for so long leads from Warm to Unloading, and Examined from Examining,
//! both with KillTemplate. A crash leads to Waiting, with a back-off, or to Parked. `-`: nothing
//! follows, `.`: cannot be.
use super::back_off::{AfterFailure, BackOff, load_retry};
use super::context::Context;
use super::event::{Effect, Identity, PoolId, TemplateId, Time};
use super::view::TemplateState;

#[derive(Debug)]
pub(super) struct Template {
    /// The newest one, whether or not it still lives.
    pub(super) id: TemplateId,
    /// What the last one had loaded that could.
    pub(super) identity: Option<Identity>,
    state: State,
    /// Templates in a row that ended unexpectedly, with no worker becoming ready in between.
    crashes: BackOff,
    /// Templates in a row that could not load the model.
    load_failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Loading {
        deadline: Time,
    },
    /// Opens the model, which is all that is wanted of it.
    Examining {
        deadline: Time,
    },
    Warm,
    /// Was stuck and has been killed; counts as a crash once it has exited.
    Killed {
        at: Time,
    },
    /// There is none until then.
    Waiting {
        until: Time,
    },
    /// The model could not be loaded.
    Failed {
        retry_at: Time,
        process: Process,
    },
    /// Too much has crashed. If there was a process, it has been killed.
    Parked {
        retry_at: Time,
        is_gone: bool,
    },
    /// There is none before a request comes.
    Cold,
    /// Has been killed because no request came for so long, or because it had shown that its model
    /// can be opened.
    Unloading {
        since: Time,
    },
    /// Has been killed for good.
    Stopping,
    Stopped,
}

/// What is left of a template that could not load the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Process {
    /// It exits by itself, or is killed at the deadline.
    Leaving {
        deadline: Time,
    },
    Killed,
    Gone,
}

impl Template {
    /// What a pool has before its first template, whose number is the next one.
    pub(super) fn new(pool: PoolId, generation: u64) -> Template {
        let id = TemplateId { pool, generation };
        Template { id, identity: None, state: State::Cold, crashes: BackOff::default(), load_failures: 0 }
    }

    pub(super) fn is_loading(&self) -> bool {
        matches!(self.state, State::Loading { .. })
    }

    /// Whether there is none, or soon will be none, before a request comes.
    pub(super) fn is_cold(&self) -> bool {
        matches!(self.state, State::Cold | State::Unloading { .. })
    }

    pub(super) fn is_examining(&self) -> bool {
        matches!(self.state, State::Examining { .. })
    }

    pub(super) fn is_warm(&self) -> bool {
        self.state == State::Warm
    }

    pub(super) fn is_parked(&self) -> bool {
        matches!(self.state, State::Parked { .. })
    }

    /// Whether the model could not be loaded when it was last tried, or what was loaded does not
    /// work.
    pub(super) fn has_failed(&self) -> bool {
        self.load_failures > 0 || self.is_parked()
    }

    /// Whether the model could not be loaded, or has crashed in a loop, and is not tried now.
    pub(super) fn is_given_up(&self) -> bool {
        matches!(self.state, State::Failed { .. } | State::Parked { .. })
    }

    /// Whether its process has not ended.
    pub(super) fn is_there(&self) -> bool {
        self.load_at().is_none() && !self.is_stopped()
    }

    /// Whether it is a crash if its process ends now: not if it has been given up, or has said why.
    pub(super) fn is_crash(&self) -> bool {
        matches!(self.state, State::Loading { .. } | State::Examining { .. } | State::Warm | State::Killed { .. })
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.state == State::Stopped
    }

    /// Until when, at the earliest, no worker can be forked, if it is known that none can.
    pub(super) fn unavailable_until(&self, now: Time) -> Option<Time> {
        match self.state {
            State::Failed { retry_at, .. } | State::Parked { retry_at, .. } => Some(retry_at.max(now)),
            State::Loading { .. }
            | State::Examining { .. }
            | State::Warm
            | State::Killed { .. }
            | State::Waiting { .. }
            | State::Cold
            | State::Unloading { .. }
            | State::Stopping
            | State::Stopped => None,
        }
    }

    pub(super) fn ready(&mut self, identity: Identity) {
        match self.state {
            State::Loading { .. } => {
                self.state = State::Warm;
                self.identity = Some(identity);
                self.load_failures = 0;
            }
            State::Examining { .. }
            | State::Warm
            | State::Killed { .. }
            | State::Waiting { .. }
            | State::Failed { .. }
            | State::Parked { .. }
            | State::Cold
            | State::Unloading { .. }
            | State::Stopping
            | State::Stopped => {}
        }
    }

    pub(super) fn load_failed(&mut self, context: &Context) {
        match self.state {
            State::Loading { .. } | State::Examining { .. } => {
                self.load_failures += 1;
                self.state = State::Failed {
                    retry_at: context.now.after(load_retry(self.load_failures)),
                    process: Process::Leaving { deadline: context.now.after(context.limits.grace) },
                };
            }
            State::Warm
            | State::Killed { .. }
            | State::Waiting { .. }
            | State::Failed { .. }
            | State::Parked { .. }
            | State::Cold
            | State::Unloading { .. }
            | State::Stopping
            | State::Stopped => {}
        }
    }

    /// The model needs more memory than there is.
    pub(super) fn does_not_fit(&mut self, context: &mut Context) {
        self.load_failed(context);
        if let State::Failed { retry_at, .. } = self.state {
            context.emit(Effect::KillTemplate(self.id));
            self.state = State::Failed { retry_at, process: Process::Killed };
        }
    }

    pub(super) fn exited(&mut self, context: &mut Context) {
        match self.state {
            State::Loading { .. } | State::Examining { .. } | State::Warm | State::Killed { .. } => {
                let verdict = self.crashes.failed(&context.limits, context.now, &mut context.random);
                self.state = match verdict {
                    AfterFailure::RetryAt(until) => State::Waiting { until },
                    AfterFailure::Park => {
                        State::Parked { retry_at: context.now.after(context.limits.park), is_gone: true }
                    }
                };
            }
            State::Failed { retry_at, .. } => self.state = State::Failed { retry_at, process: Process::Gone },
            State::Parked { retry_at, .. } => self.state = State::Parked { retry_at, is_gone: true },
            State::Unloading { .. } => self.state = State::Cold,
            State::Stopping => self.state = State::Stopped,
            State::Waiting { .. } | State::Cold | State::Stopped => {}
        }
    }

    /// A worker that it forked works.
    pub(super) fn proved(&mut self) {
        self.crashes.succeeded();
    }

    /// It does not do what it should. What follows, follows when it has exited.
    pub(super) fn kill(&mut self, context: &mut Context) {
        context.emit(Effect::KillTemplate(self.id));
        self.state = State::Killed { at: context.now };
    }

    /// Gives the model up for a while, because its workers do not even start.
    pub(super) fn park(&mut self, context: &mut Context) {
        let is_gone = match self.state {
            State::Loading { .. } | State::Examining { .. } | State::Warm => {
                context.emit(Effect::KillTemplate(self.id));
                false
            }
            State::Killed { .. } => false,
            State::Waiting { .. } => true,
            State::Failed { .. }
            | State::Parked { .. }
            | State::Cold
            | State::Unloading { .. }
            | State::Stopping
            | State::Stopped => return,
        };
        self.state = State::Parked { retry_at: context.now.after(context.limits.park), is_gone };
    }

    /// Ends it until a request comes.
    pub(super) fn unload(&mut self, context: &mut Context) {
        if self.state == State::Warm {
            context.emit(Effect::KillTemplate(self.id));
            self.state = State::Unloading { since: context.now };
        }
    }

    /// Ends it for good.
    pub(super) fn stop(&mut self, context: &mut Context) {
        self.state = match self.state {
            State::Loading { .. } | State::Examining { .. } | State::Warm => {
                context.emit(Effect::KillTemplate(self.id));
                State::Stopping
            }
            State::Killed { .. } | State::Unloading { .. } => State::Stopping,
            State::Waiting { .. } | State::Cold => State::Stopped,
            State::Failed { process: Process::Leaving { .. }, .. } => {
                context.emit(Effect::KillTemplate(self.id));
                State::Stopping
            }
            State::Failed { process: Process::Killed, .. } | State::Parked { is_gone: false, .. } => State::Stopping,
            State::Failed { process: Process::Gone, .. } | State::Parked { is_gone: true, .. } => State::Stopped,
            State::Stopping => State::Stopping,
            State::Stopped => State::Stopped,
        };
    }

    /// The time at which its process must be ended if nothing happens before.
    pub(super) fn deadline(&self) -> Option<Time> {
        match self.state {
            State::Loading { deadline }
            | State::Examining { deadline }
            | State::Failed { process: Process::Leaving { deadline }, .. } => Some(deadline),
            State::Warm
            | State::Killed { .. }
            | State::Waiting { .. }
            | State::Failed { process: Process::Killed | Process::Gone, .. }
            | State::Parked { .. }
            | State::Cold
            | State::Unloading { .. }
            | State::Stopping
            | State::Stopped => None,
        }
    }

    pub(super) fn expire(&mut self, context: &mut Context) {
        if self.deadline().is_none_or(|deadline| deadline > context.now) {
            return;
        }
        match self.state {
            State::Failed { retry_at, .. } => {
                context.emit(Effect::KillTemplate(self.id));
                self.state = State::Failed { retry_at, process: Process::Killed };
            }
            State::Loading { .. } | State::Examining { .. } => self.kill(context),
            State::Warm
            | State::Killed { .. }
            | State::Waiting { .. }
            | State::Parked { .. }
            | State::Cold
            | State::Unloading { .. }
            | State::Stopping
            | State::Stopped => {}
        }
    }

    /// When something about it was to happen at the latest: never, if nothing needs to.
    pub(super) fn due(&self) -> Option<Time> {
        match self.state {
            State::Killed { at: time } | State::Unloading { since: time } => Some(time),
            State::Parked { retry_at: time, .. } | State::Failed { retry_at: time, .. } => Some(time),
            State::Loading { .. } | State::Examining { .. } => self.deadline(),
            State::Waiting { .. } | State::Cold => self.load_at(),
            State::Warm | State::Stopping | State::Stopped => None,
        }
    }

    /// When the next one may be loaded, if it is wanted; none while there is one or there will be
    /// none.
    pub(super) fn load_at(&self) -> Option<Time> {
        match self.state {
            State::Waiting { until: time }
            | State::Failed { retry_at: time, process: Process::Gone }
            | State::Parked { retry_at: time, is_gone: true } => Some(time),
            State::Cold => Some(Time::default()),
            State::Loading { .. }
            | State::Examining { .. }
            | State::Warm
            | State::Killed { .. }
            | State::Failed { process: Process::Leaving { .. } | Process::Killed, .. }
            | State::Parked { is_gone: false, .. }
            | State::Unloading { .. }
            | State::Stopping
            | State::Stopped => None,
        }
    }

    /// Has another one open the model, and no more.
    pub(super) fn examine(&mut self, context: &mut Context) {
        self.id.generation += 1;
        self.state = State::Examining { deadline: context.now.after(context.limits.load) };
        context.emit(Effect::Examine(self.id));
    }

    /// The model could be opened: the process has done what it was there for. Says whether it was
    /// there for that.
    pub(super) fn examined(&mut self, context: &mut Context) -> bool {
        let is_awaited = self.is_examining();
        if is_awaited {
            context.emit(Effect::KillTemplate(self.id));
            self.state = State::Unloading { since: context.now };
        }
        is_awaited
    }

    pub(super) fn load(&mut self, context: &mut Context) {
        self.id.generation += 1;
        self.state = State::Loading { deadline: context.now.after(context.limits.load) };
        context.emit(Effect::Load(self.id));
    }

    pub(super) fn view(&self) -> TemplateState {
        match self.state {
            State::Loading { .. } | State::Examining { .. } => TemplateState::Loading,
            State::Warm => TemplateState::Warm,
            State::Killed { at } => TemplateState::Waiting { until: at },
            State::Waiting { until } => TemplateState::Waiting { until },
            State::Failed { retry_at, .. } => TemplateState::Failed { retry_at },
            State::Parked { retry_at, .. } => TemplateState::Parked { retry_at },
            State::Cold | State::Unloading { .. } => TemplateState::Cold,
            State::Stopping | State::Stopped => TemplateState::Stopped,
        }
    }
}
