//! What must hold of fronts.
use super::super::super::event::{Effect, Event, FrontId, Time};
use super::super::super::{FrontChange, Policy};
use super::Rules;
use std::collections::BTreeMap;

#[derive(Default)]
pub(super) struct Fronts {
    is_wanted: bool,
    newest: u64,
    there: BTreeMap<FrontId, Front>,
    has_listened: bool,
    /// Whether the first one said that it cannot.
    has_failed: bool,
}

struct Front {
    started: Time,
    /// When it was heard of last, once it listens.
    heard: Option<Time>,
    is_staged: bool,
    /// It is not to serve any more.
    is_leaving: bool,
    is_killed: bool,
    /// It has said that it ends.
    has_ended: bool,
}

impl Rules {
    /// There is to be a front from the start.
    pub(in super::super) fn want_front(&mut self) {
        self.fronts.is_wanted = true;
    }

    pub(super) fn before_front(&mut self, event: &Event) {
        let now = self.now;
        let fronts = &mut self.fronts;
        match *event {
            Event::FrontListening(id) => {
                if let Some(front) = fronts.there.get_mut(&id) {
                    front.heard = Some(now);
                    fronts.has_listened |= !front.is_staged && !front.is_leaving;
                }
            }
            Event::FrontBeat(id) => {
                if let Some(front) = fronts.there.get_mut(&id).filter(|front| front.heard.is_some()) {
                    front.heard = Some(now);
                }
            }
            Event::FrontFailed(id) => {
                if let Some(front) = fronts.there.get_mut(&id) {
                    fronts.has_failed |= !front.is_staged && !front.is_leaving && !fronts.has_listened;
                    (front.is_leaving, front.has_ended) = (true, true);
                }
            }
            Event::FrontExited(id) => _ = fronts.there.remove(&id),
            _ => {}
        }
    }

    pub(super) fn front_effect(&mut self, effect: Effect) {
        let (now, limits) = (self.now, self.limits);
        match effect {
            Effect::StartFront { front: id, is_staged } => {
                assert_eq!(self.closing, 0, "{id:?} comes although the supervisor stops");
                assert_eq!(id.0, self.fronts.newest + 1);
                self.fronts.newest = id.0;
                let wants = self.reload.as_ref().map(|reload| reload.front);
                assert!(if is_staged { wants == Some(FrontChange::Replace) } else { self.fronts.is_wanted });
                let mut others = self.fronts.there.values().filter(|front| !front.is_leaving);
                assert!(others.all(|other| other.is_staged != is_staged), "two fronts");
                let front = Front {
                    started: now,
                    heard: None,
                    is_staged,
                    is_leaving: false,
                    is_killed: false,
                    has_ended: false,
                };
                self.fronts.there.insert(id, front);
            }
            Effect::KillFront(id) => {
                let is_closing = self.closing > 0;
                let has_decided = self.decided.is_some();
                let front = self.fronts.there.get_mut(&id).expect("it has not ended");
                assert!(!std::mem::replace(&mut front.is_killed, true), "{id:?} is killed twice");
                let is_late = match front.heard {
                    None => front.started.after(limits.start) <= now,
                    Some(heard) => heard.after(limits.silence) <= now,
                };
                // One that had not come to listen when another configuration came.
                let is_replaced = has_decided && (front.is_staged || front.heard.is_none());
                assert!(is_late || is_closing || is_replaced, "no reason to kill {id:?}");
                front.is_leaving = true;
            }
            Effect::FinishFront(id) => {
                assert!(self.closing > 0 || self.decided.is_some(), "no reason to finish {id:?}");
                let front = self.fronts.there.get_mut(&id).expect("it has not ended");
                assert!(front.heard.is_some() && !front.is_leaving, "{id:?} has nothing to finish");
                front.is_leaving = true;
            }
            _ => {}
        }
    }

    /// The new configuration is in force.
    pub(super) fn front_switched(&mut self, change: FrontChange) {
        let fronts = &mut self.fronts;
        match change {
            FrontChange::Keep => {}
            FrontChange::Remove => fronts.is_wanted = false,
            FrontChange::Replace => {
                let new = fronts.there.values_mut().find(|front| front.is_staged && !front.is_leaving);
                let new = new.expect("a front that cannot serve comes into force");
                assert!(new.heard.is_some(), "a front that does not listen comes into force");
                new.is_staged = false;
                (fronts.is_wanted, fronts.has_listened) = (true, true);
            }
        }
    }

    /// Whether a front that was tried cannot serve.
    pub(super) fn has_no_front(&self) -> bool {
        !self.fronts.there.values().any(|front| front.is_staged && !front.is_leaving)
    }

    pub(super) fn check_fronts(&self, policy: &Policy) {
        let serving = self.fronts.there.iter().filter(|(_, front)| !front.is_staged && !front.is_leaving);
        let serving: Vec<_> = serving.map(|(id, _)| *id).collect();
        assert_eq!(policy.front().into_iter().collect::<Vec<_>>(), serving);
        if self.closing == 0 && self.fronts.is_wanted {
            assert!(!serving.is_empty() || policy.next_deadline().is_some(), "nobody starts another front");
        }
        for (id, front) in self.fronts.there.iter().filter(|(_, front)| !front.is_leaving) {
            assert!(policy.is_front_crash(*id) && !front.is_killed, "{id:?}");
        }
        let is_ready = !self.fronts.is_wanted || self.fronts.has_listened;
        assert!(is_ready || !policy.is_ready(), "it is ready and nobody listens");
    }

    /// Whether nobody can be served by HTTP, and never could.
    pub(super) fn is_front_hopeless(&self) -> bool {
        self.fronts.is_wanted && self.fronts.has_failed && !self.fronts.has_listened
    }

    /// Nobody may be late.
    pub(super) fn check_late_fronts(&self) {
        let watched = |front: &&Front| !front.is_leaving || front.heard.is_some() && !front.has_ended;
        for (id, front) in self.fronts.there.iter().filter(|(_, front)| watched(front) && !front.is_killed) {
            let due = match front.heard {
                None => front.started.after(self.limits.start),
                Some(heard) => heard.after(self.limits.silence),
            };
            assert!(due > self.now, "{id:?} is silent");
        }
    }

    /// Whether any is left.
    pub(super) fn has_fronts(&self) -> bool {
        !self.fronts.there.is_empty()
    }
}
