//! One request of the demonstration, as far as its client knows it.
use super::{ask::Event, task::Task};
use ipc::{ClientError, Done, RequestId};

/// A task, and what has come of it.
pub(super) struct Conversation {
    pub(super) task: &'static Task,
    pub(super) request: Option<RequestId>,
    /// What each of its workers has contributed to the answer, in order.
    pub(super) parts: Vec<Part>,
    /// How it ended.
    pub(super) outcome: Option<Result<Done, ClientError>>,
}

/// One worker's part of an answer.
#[derive(Default)]
pub(super) struct Part {
    /// The worker, once it is known.
    pub(super) worker: Option<u32>,
    pub(super) text: String,
    pub(super) pieces: usize,
    /// What has been done to the worker.
    pub(super) fate: Fate,
}

/// What has been done to a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fate {
    #[default]
    None,
    Stopped,
    Killed,
}

impl Conversation {
    /// Nothing has been asked yet.
    pub(super) fn new(task: &'static Task) -> Conversation {
        Conversation { task, request: None, parts: vec![Part::default()], outcome: None }
    }

    /// Something has happened.
    pub(super) fn take(&mut self, event: Event) {
        let Some(part) = self.parts.last_mut() else { return };
        match event {
            Event::Accepted(request) => self.request = Some(request),
            Event::Served(pid) => part.worker = Some(pid),
            Event::Piece(text) => {
                part.text += &text;
                part.pieces += 1;
            }
            Event::Stopped => part.fate = Fate::Stopped,
            Event::Killed => {
                part.fate = Fate::Killed;
                self.parts.push(Part::default());
            }
            Event::Ended(outcome) => self.outcome = Some(outcome),
        }
    }

    /// All of the answer that has come.
    pub(super) fn text(&self) -> String {
        self.parts.iter().map(|part| part.text.as_str()).collect()
    }

    /// How many pieces of it have come.
    pub(super) fn pieces(&self) -> usize {
        self.parts.iter().map(|part| part.pieces).sum()
    }

    /// What the killed worker has contributed, if one was.
    pub(super) fn killed(&self) -> Option<&Part> {
        self.parts.iter().find(|part| part.fate == Fate::Killed)
    }

    /// Whether the daemon has taken it, or refused it.
    pub(super) fn is_accepted(&self) -> bool {
        self.request.is_some() || self.has_ended()
    }

    /// Whether nothing more is to come.
    pub(super) fn has_ended(&self) -> bool {
        self.outcome.is_some()
    }

    /// Whether its worker had finished before it could be killed.
    pub(super) fn was_answered_without_a_kill(&self) -> bool {
        self.answer().is_some_and(|done| done.attempts == 1)
    }

    /// How its answer ended, if it is complete.
    pub(super) fn answer(&self) -> Option<&Done> {
        self.outcome.as_ref().and_then(|outcome| outcome.as_ref().ok())
    }
}
