//! The front: the process that speaks HTTP, how it comes, is watched, is replaced and goes.
//!
//! | state | listens | says that it cannot | beats | exits | deadline |
//! |---|---|---|---|---|---|
//! | Starting | Listening | Dying | | replaced | killed, replaced |
//! | Listening | | | a later deadline | replaced | killed, replaced |
//! | Finishing | | | a later deadline | gone | killed |
//! | Dying | | | | gone | |
//!
//! One that ends or falls silent is replaced at once, and after a back-off if that happens again and
//! again. What it served is lost, and nothing else. A new configuration is tried by a front beside
//! the one that serves, which accepts nobody any more when the new one takes over, and finishes.
use super::back_off::{AfterFailure, BackOff};
use super::context::Context;
use super::event::{Effect, FrontId, Time};
use super::lifecycle::Proof;

/// The fronts that there are.
#[derive(Debug, Default)]
pub(super) struct Fronts {
    /// Whether there is to be one.
    is_wanted: bool,
    /// The number of the newest.
    newest: u64,
    serving: Option<Front>,
    /// One that shows whether a new configuration can be served.
    staged: Option<Staged>,
    /// Those that finish.
    leaving: Vec<Front>,
    /// Those that were killed, or have said that they end.
    dying: Vec<FrontId>,
    failures: BackOff,
    /// When the next one is started, if there is none.
    start_at: Option<Time>,
    has_listened: bool,
    /// Whether the first one has said that it cannot serve.
    has_failed: bool,
}

#[derive(Debug)]
struct Front {
    id: FrontId,
    since: Time,
    is_listening: bool,
    /// It must listen by then, or be heard of.
    deadline: Time,
}

#[derive(Debug)]
struct Staged {
    /// None if it has failed.
    front: Option<Front>,
}

/// What becomes of the front with a new configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrontChange {
    /// It goes on.
    Keep,
    /// Another one takes its place, or the first one comes.
    Replace,
    /// There is none any more.
    Remove,
}

impl Fronts {
    /// Has one started.
    pub(super) fn want(&mut self, context: &mut Context) {
        self.is_wanted = true;
        self.start_at = Some(context.now);
        self.start_if_due(context);
    }

    fn start(&mut self, is_staged: bool, context: &mut Context) -> Front {
        self.newest += 1;
        let id = FrontId(self.newest);
        context.emit(Effect::StartFront { front: id, is_staged });
        Front { id, since: context.now, is_listening: false, deadline: context.now.after(context.limits.start) }
    }

    fn start_if_due(&mut self, context: &mut Context) {
        if self.start_at.is_some_and(|time| time <= context.now) && self.is_wanted && !context.closing {
            self.start_at = None;
            self.serving = Some(self.start(false, context));
        }
    }

    fn staged(&mut self) -> Option<&mut Front> {
        self.staged.as_mut().and_then(|staged| staged.front.as_mut())
    }

    pub(super) fn listening(&mut self, id: FrontId, context: &Context) {
        let deadline = context.now.after(context.limits.silence);
        let fronts = self.serving.iter_mut().chain(self.staged.iter_mut().filter_map(|staged| staged.front.as_mut()));
        for front in fronts.filter(|front| front.id == id && !front.is_listening) {
            (front.is_listening, front.deadline, front.since) = (true, deadline, context.now);
        }
        self.has_listened |= self.serving.as_ref().is_some_and(|front| front.is_listening);
    }

    /// It is heard of.
    pub(super) fn beat(&mut self, id: FrontId, context: &Context) {
        let deadline = context.now.after(context.limits.silence);
        let staged = self.staged.iter_mut().filter_map(|staged| staged.front.as_mut());
        let fronts = self.serving.iter_mut().chain(staged).chain(&mut self.leaving);
        for front in fronts.filter(|front| front.id == id && front.is_listening) {
            front.deadline = deadline;
        }
        // One that has lived for a while is no part of a crash loop.
        let is_well = |front: &Front| front.is_listening && context.now.since(front.since) >= context.limits.park;
        if self.serving.as_ref().is_some_and(|front| front.id == id && is_well(front)) {
            self.failures.succeeded();
        }
    }

    /// It says that it cannot serve, and exits.
    pub(super) fn failed(&mut self, id: FrontId, context: &mut Context) {
        if self.staged().is_some_and(|front| front.id == id) {
            self.staged = Some(Staged { front: None });
            self.dying.push(id);
        }
        if self.serving.take_if(|front| front.id == id).is_some() {
            self.dying.push(id);
            self.has_failed |= !self.has_listened;
            self.again(context);
        }
    }

    pub(super) fn exited(&mut self, id: FrontId, context: &mut Context) {
        self.leaving.retain(|leaving| leaving.id != id);
        self.dying.retain(|dying| *dying != id);
        if self.staged().is_some_and(|front| front.id == id) {
            self.staged = Some(Staged { front: None });
        }
        if self.serving.take_if(|front| front.id == id).is_some() {
            self.again(context);
        }
    }

    /// There is to be another one.
    fn again(&mut self, context: &mut Context) {
        if !self.is_wanted || context.closing {
            return;
        }
        let retry = self.failures.failed(&context.limits, context.now, &mut context.random);
        self.start_at = Some(match retry {
            AfterFailure::RetryAt(time) => time,
            AfterFailure::Park => context.now.after(context.limits.park),
        });
    }

    fn kill(&mut self, id: FrontId, context: &mut Context) {
        context.emit(Effect::KillFront(id));
        self.dying.push(id);
    }

    /// Has one that serves accept nobody any more.
    fn retire(&mut self, front: Front, context: &mut Context) {
        if front.is_listening {
            context.emit(Effect::FinishFront(front.id));
            self.leaving.push(front);
        } else {
            // It has nothing to finish.
            self.kill(front.id, context);
        }
    }

    /// Does what has come due.
    pub(super) fn expire(&mut self, context: &mut Context) {
        if let Some(front) = self.serving.take_if(|front| front.deadline <= context.now) {
            self.kill(front.id, context);
            self.again(context);
        }
        let late = self.staged().filter(|front| front.deadline <= context.now).map(|front| front.id);
        if let Some(id) = late {
            self.staged = Some(Staged { front: None });
            self.kill(id, context);
        }
        for front in self.leaving.extract_if(.., |front| front.deadline <= context.now).collect::<Vec<_>>() {
            self.kill(front.id, context);
        }
        self.start_if_due(context);
    }

    /// Starts one that is due, if it has become due by an event.
    pub(super) fn settle(&mut self, context: &mut Context) {
        self.start_if_due(context);
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        let staged = self.staged.iter().filter_map(|staged| staged.front.as_ref());
        let deadlines = self.serving.iter().chain(staged).chain(&self.leaving).map(|front| front.deadline);
        deadlines.chain(self.start_at).min()
    }

    /// Tries a new configuration.
    pub(super) fn stage(&mut self, change: FrontChange, context: &mut Context) {
        if change == FrontChange::Replace {
            let front = self.start(true, context);
            self.staged = Some(Staged { front: Some(front) });
        }
    }

    /// Whether the new configuration can be served.
    pub(super) fn proof(&self) -> Proof {
        match &self.staged {
            None => Proof::Given,
            Some(Staged { front: None }) => Proof::Failed,
            Some(Staged { front: Some(front) }) if front.is_listening => Proof::Given,
            Some(Staged { front: Some(_) }) => Proof::Awaited,
        }
    }

    /// The new configuration comes into force.
    pub(super) fn switch(&mut self, change: FrontChange, context: &mut Context) {
        if change == FrontChange::Keep {
            return;
        }
        if let Some(front) = self.serving.take() {
            self.retire(front, context);
        }
        (self.is_wanted, self.start_at) = (change == FrontChange::Replace, None);
        self.serving = self.staged.take().and_then(|staged| staged.front);
        self.has_listened |= self.serving.is_some();
        self.failures.succeeded();
    }

    /// The new configuration does not come into force.
    pub(super) fn unstage(&mut self, context: &mut Context) {
        if let Some(front) = self.staged.take().and_then(|staged| staged.front) {
            self.kill(front.id, context);
        }
    }

    /// The supervisor stops: nobody is accepted any more.
    pub(super) fn close(&mut self, context: &mut Context) {
        self.start_at = None;
        if let Some(front) = self.serving.take() {
            self.retire(front, context);
        }
    }

    pub(super) fn stop_at_once(&mut self, context: &mut Context) {
        for front in std::mem::take(&mut self.leaving) {
            self.kill(front.id, context);
        }
    }

    /// Whether there is none left.
    pub(super) fn is_over(&self) -> bool {
        self.serving.is_none() && self.staged.is_none() && self.leaving.is_empty() && self.dying.is_empty()
    }

    /// Whether whoever is to be served by HTTP is, or was and will be again.
    pub(super) fn is_ready(&self) -> bool {
        !self.is_wanted || self.has_listened
    }

    /// Whether it is not known yet.
    pub(super) fn is_preparing(&self) -> bool {
        !self.is_ready() && !self.has_failed
    }

    /// Whether nobody can be served by HTTP.
    pub(super) fn is_hopeless(&self) -> bool {
        self.is_wanted && self.has_failed && !self.has_listened
    }

    /// Whether it is a crash if its process ends now.
    pub(super) fn is_crash(&self, id: FrontId) -> bool {
        self.serving.as_ref().is_some_and(|front| front.id == id)
            || self.staged.iter().filter_map(|staged| staged.front.as_ref()).any(|front| front.id == id)
    }

    /// The one that serves.
    pub(super) fn serving(&self) -> Option<FrontId> {
        self.serving.as_ref().map(|front| front.id)
    }
}
