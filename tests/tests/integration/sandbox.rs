//! What confines templates and workers: what they can still do, how much memory they can take, and
//! what happens on a lesser kernel.
mod kernels;
mod memory;
mod probes;
mod processes;

use integration_tests::{Daemon, generate};
use ipc::{ClientError, Failure, FailureKind, GenerateRequest, status::Crash};

/// Has the only worker of a scripted daemon end under a request, and says how.
#[track_caller]
fn crash(script: &str, settings: &str) -> Crash {
    let daemon = Daemon::scripted(script, &format!("workers = 1\nmax_attempts = 1\n{settings}"));
    let failure = failure(generate(&daemon, GenerateRequest::raw("some words")));
    assert_eq!(failure.kind, FailureKind::WorkersDied, "{}", failure.message);
    daemon.until_model("it has crashed", |model| model.last_crash.is_some()).last_crash.unwrap()
}

#[track_caller]
fn failure<T: std::fmt::Debug>(result: Result<T, ClientError>) -> Failure {
    match result {
        Err(ClientError::Failed(failure)) => failure,
        other => panic!("{other:?}"),
    }
}
