//! The log's line about a request, of which each has one: how it ended, or why it was not taken.
//!
//! What is in it never comes from a process that has seen a prompt, unless prompts are logged.
use super::{
    open_connections::Client,
    open_request::{Measure, OpenRequest},
};
use crate::log::{Prompts, REQUEST};
use ipc::{Caller, Failure, FailureKind, Response, status::Totals};
use policy::Outcome;
use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};
use tracing::{info, warn};

/// Who is at the other end of a connection, as far as the system says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Peer {
    uid: Option<u32>,
    pid: Option<i32>,
}

/// Who asks: the process at the other end, and whom it asks for if it is the front.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asker<'a> {
    pub(super) peer: Peer,
    pub(super) caller: Option<&'a Caller>,
}

impl From<Peer> for Asker<'_> {
    fn from(peer: Peer) -> Self {
        Asker { peer, caller: None }
    }
}

impl Asker<'_> {
    /// Whose the request is.
    pub(super) fn owner(&self) -> Option<String> {
        match self.caller {
            Some(caller) => Some(caller.owner.clone()),
            None => self.peer.uid.map(|uid| format!("uid:{uid}")),
        }
    }
}

impl Peer {
    pub(crate) fn of(stream: &impl AsFd) -> Peer {
        let credentials = nix::sys::socket::getsockopt(stream, nix::sys::socket::sockopt::PeerCredentials);
        // A process that cannot be seen from here, outside of this container maybe, has pid 0.
        let pid = |pid| Some(pid).filter(|pid| *pid != 0);
        credentials.map_or(Peer::default(), |peer| Peer { uid: Some(peer.uid()), pid: pid(peer.pid()) })
    }
}

/// The line about a request that was taken and has ended so, with this as its last message.
/// `client` is there if it still is.
pub(super) fn ended(
    request: &OpenRequest,
    outcome: Outcome,
    response: &Response,
    model: &str,
    client: Option<&Client>,
    prompts: &Prompts,
    now: Instant,
) {
    let Measure { kind, wait, first_token, total, prompt_tokens, tokens, speed, texts, attempts, server, noted } =
        request.measure(now);
    let class = Class::of(outcome, request.was_begun());
    let failure = if let Response::Failed(failure) = response { Some(failure) } else { None };
    // A worker's words are its own.
    let is_ours = outcome != Outcome::Rejected || prompts.are_full();
    let asker = client.map(Client::asker).unwrap_or_default();
    let (owner, Asker { peer, caller }) = (asker.owner(), asker);
    macro_rules! line {
        ($log:ident) => {
            $log!(
                target: REQUEST,
                request = %request.id,
                model,
                kind,
                outcome = class.name(),
                error_kind = failure.map(|failure| kind_name(failure.kind)),
                error = failure.filter(|_| is_ours).map(|failure| failure.message.as_str()),
                client_uid = peer.uid,
                client_pid = peer.pid,
                owner,
                client_address = caller.map(|caller| caller.address.as_str()).filter(|address| !address.is_empty()),
                http_request = caller.map(|caller| caller.http_request.as_str()),
                wait_s = seconds(wait),
                first_token_s = first_token.map(seconds),
                total_s = seconds(total),
                prompt_tokens,
                tokens,
                tokens_per_s = speed.map(|speed| (speed * 10.0).round() / 10.0),
                texts,
                attempts,
                worker = server.map(|server| server.life.to_string()),
                worker_pid = server.and_then(|server| server.pid),
                prompt = noted.text.as_deref(),
                prompt_hash = noted.hash.as_deref(),
                "{}",
                class.name().replace('_', " ")
            )
        };
    }
    let is_trouble = match class {
        Class::Failed => outcome != Outcome::Rejected,
        Class::TimedOut => true,
        Class::Answered | Class::Refused | Class::Cancelled => false,
    };
    if is_trouble { line!(warn) } else { line!(info) }
}

/// The line about a request, or a client, that was not taken.
pub(super) fn refused(failure: &Failure, kind: Option<&str>, asker: Asker<'_>) {
    let Asker { peer, caller } = asker;
    let owner = asker.owner();
    info!(
        target: REQUEST,
        kind,
        outcome = "refused",
        error_kind = kind_name(failure.kind),
        error = failure.message,
        client_uid = peer.uid,
        client_pid = peer.pid,
        owner,
        client_address = caller.map(|caller| caller.address.as_str()).filter(|address| !address.is_empty()),
        http_request = caller.map(|caller| caller.http_request.as_str()),
        "refused"
    );
}

/// What outcomes are counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Answered,
    Refused,
    Failed,
    Cancelled,
    TimedOut,
}

impl Class {
    /// What this outcome counts as, of a request that some worker was given or none.
    pub(super) fn of(outcome: Outcome, was_begun: bool) -> Class {
        match outcome {
            Outcome::Answered => Class::Answered,
            Outcome::QueueFull | Outcome::ShareFull | Outcome::Poisonous { .. } | Outcome::Draining => Class::Refused,
            Outcome::Unavailable { .. } | Outcome::ShuttingDown if was_begun => Class::Failed,
            Outcome::Unavailable { .. } | Outcome::ShuttingDown => Class::Refused,
            Outcome::Rejected | Outcome::WorkersDied { .. } | Outcome::ModelChanged => Class::Failed,
            Outcome::Cancelled => Class::Cancelled,
            Outcome::QueueTimeout | Outcome::RequestTimeout => Class::TimedOut,
        }
    }

    /// Its name in the log, which is that of its count in the status.
    fn name(self) -> &'static str {
        match self {
            Class::Answered => "answered",
            Class::Refused => "refused",
            Class::Failed => "failed",
            Class::Cancelled => "cancelled",
            Class::TimedOut => "timed_out",
        }
    }

    pub(super) fn count(self, totals: &mut Totals) -> &mut u64 {
        match self {
            Class::Answered => &mut totals.answered,
            Class::Refused => &mut totals.refused,
            Class::Failed => &mut totals.failed,
            Class::Cancelled => &mut totals.cancelled,
            Class::TimedOut => &mut totals.timed_out,
        }
    }
}

fn kind_name(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::BadRequest => "bad_request",
        FailureKind::Protocol => "protocol",
        FailureKind::NotAllowed => "not_allowed",
        FailureKind::UnknownModel => "unknown_model",
        FailureKind::TooLong => "too_long",
        FailureKind::Busy => "busy",
        FailureKind::Unavailable => "unavailable",
        FailureKind::TimedOut => "timed_out",
        FailureKind::WorkersDied => "workers_died",
        FailureKind::Poisonous => "poisonous",
        FailureKind::ShuttingDown => "shutting_down",
        FailureKind::Draining => "draining",
        FailureKind::ModelChanged => "model_changed",
        FailureKind::Engine => "engine",
        FailureKind::Cancelled => "cancelled",
        FailureKind::Other => "other",
    }
}

/// To the microsecond: that is what a small request takes.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e6
}
