//! The fake fronts: what they do of their own, and what they do when they are told to.
use super::super::back_off::Random;
use super::super::event::{Effect, Event, FrontId};
use std::collections::BTreeMap;

#[derive(Default)]
pub(super) struct FrontWorld {
    fronts: BTreeMap<FrontId, Front>,
}

struct Front {
    phase: Phase,
    is_hung: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Starting,
    Listening,
    Finishing,
    /// It is about to end.
    Leaving,
}

impl FrontWorld {
    pub(super) fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::StartFront { front, .. } => {
                self.fronts.insert(front, Front { phase: Phase::Starting, is_hung: false });
            }
            Effect::KillFront(id) => {
                let front = self.fronts.get_mut(&id).expect("what is killed has not ended");
                (front.phase, front.is_hung) = (Phase::Leaving, false);
            }
            Effect::FinishFront(id) => {
                let front = self.fronts.get_mut(&id).expect("what is to finish has not ended");
                front.phase = Phase::Finishing;
            }
            _ => {}
        }
    }

    pub(super) fn can_act(&self) -> bool {
        self.fronts.values().any(|front| !front.is_hung && front.phase != Phase::Listening)
    }

    /// Some front does the next thing that it has to do. What it says is heard at once.
    pub(super) fn act(&mut self, is_bad: bool, random: &mut Random) -> Option<Event> {
        let fronts: Vec<FrontId> = self.fronts.keys().copied().collect();
        let id = *fronts.get(random.next() as usize % fronts.len().max(1))?;
        let front = self.fronts.get_mut(&id)?;
        if front.is_hung {
            return None;
        }
        let luck = if is_bad { random.next() % 12 } else { 11 };
        match (front.phase, luck) {
            (Phase::Leaving, _) | (_, 0) => {
                self.fronts.remove(&id);
                Some(Event::FrontExited(id))
            }
            (_, 1) => {
                front.is_hung = true;
                None
            }
            (Phase::Starting, 2) => {
                front.phase = Phase::Leaving;
                Some(Event::FrontFailed(id))
            }
            (Phase::Starting, _) => {
                front.phase = Phase::Listening;
                Some(Event::FrontListening(id))
            }
            (Phase::Finishing, _) => {
                front.phase = Phase::Leaving;
                None
            }
            (Phase::Listening, _) => Some(Event::FrontBeat(id)),
        }
    }

    /// What those say that are well while time passes.
    pub(super) fn beats(&self) -> Vec<Event> {
        let beats = |phase| matches!(phase, Phase::Listening | Phase::Finishing);
        let well = self.fronts.iter().filter(|(_, front)| beats(front.phase) && !front.is_hung);
        well.map(|(id, _)| Event::FrontBeat(*id)).collect()
    }

    /// Whether there is one that listens and does nothing else, and no other.
    pub(super) fn is_at_rest(&self) -> bool {
        self.fronts.len() == 1 && self.fronts.values().all(|front| front.phase == Phase::Listening && !front.is_hung)
    }
}
