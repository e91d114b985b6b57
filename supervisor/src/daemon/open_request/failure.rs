//! What a client is told when its request has no complete answer.
use ipc::{Failure, FailureKind};
use policy::{Outcome, Time};
use std::time::Duration;
use system::foreign_text::shorten;

/// A model as messages speak of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NamedModel<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// Why it cannot be loaded, if it cannot.
    pub(crate) error: Option<&'a str>,
    /// Why it has fewer workers than it may have, if there is nothing to make one of.
    pub(crate) shortage: Option<&'a str>,
    /// When a place in its queue may be free.
    pub(crate) expected_wait: Duration,
}

/// Characters of a template's words that a client is told.
const REASON: usize = 500;

/// What a client is told about an outcome other than an answer.
pub(super) fn of(outcome: Outcome, model: &NamedModel<'_>, now: Time) -> Failure {
    let NamedModel { name, error, shortage, expected_wait } = *model;
    let because = shortage.map(|reason| format!(": {}", shorten(reason, REASON))).unwrap_or_default();
    let later = |until: Time| until.since(now);
    let (kind, message, retry) = match outcome {
        // What cannot be: the policy says that a worker has ended it, and none has.
        Outcome::Answered | Outcome::Rejected => {
            (FailureKind::Engine, "the worker did not say how the request ended".to_owned(), None)
        }
        Outcome::Cancelled => (FailureKind::Cancelled, "the request was cancelled".to_owned(), None),
        Outcome::QueueFull => (
            FailureKind::Busy,
            format!("all workers of {name} are busy and its queue is full{because}"),
            Some(expected_wait),
        ),
        Outcome::ShareFull => (
            FailureKind::Busy,
            format!("half of the queue of {name} is yours already, and others wait as well{because}"),
            Some(expected_wait),
        ),
        Outcome::QueueTimeout => (
            FailureKind::TimedOut,
            format!("no worker of {name} became free within the queue's time limit or the client's{because}"),
            Some(expected_wait),
        ),
        Outcome::RequestTimeout => {
            (FailureKind::TimedOut, "the answer took longer than a request may".to_owned(), None)
        }
        Outcome::WorkersDied { attempts } => (
            FailureKind::WorkersDied,
            match attempts {
                1 => "the worker that served this request died, and no more than one may".to_owned(),
                count => format!("{count} workers died while serving this request; it is not tried again"),
            },
            None,
        ),
        Outcome::Poisonous { until } => (
            FailureKind::Poisonous,
            "refused: workers died under this same request a short while ago".to_owned(),
            Some(later(until)),
        ),
        Outcome::Unavailable { until } => (
            FailureKind::Unavailable,
            match error {
                Some(reason) => format!("the model {name} cannot be served now: {}", shorten(reason, REASON)),
                None => format!("the model {name} cannot be served now; `supervisor status` says why"),
            },
            Some(later(until)),
        ),
        Outcome::Draining => (
            FailureKind::Draining,
            "the supervisor is draining and begins no request".to_owned(),
            Some(Duration::from_secs(5)),
        ),
        Outcome::ModelChanged => (
            FailureKind::ModelChanged,
            format!("the model {name} has changed in the middle of the answer, which nobody can go on with; ask again"),
            Some(Duration::ZERO),
        ),
        Outcome::ShuttingDown => {
            (FailureKind::ShuttingDown, "the supervisor is shutting down".to_owned(), Some(Duration::from_secs(5)))
        }
    };
    let retry_after_ms = retry.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    Failure { kind, message, retry_after_ms }
}
