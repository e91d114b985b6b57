//! The end of a daemon: what runs and waits is finished, what is new is refused, and nothing is left.
#![cfg(test)]

use integration_tests::{Daemon, Finished, LIMIT, Running, Signal, process, until};
use ipc::{ClientError, FailureKind, GenerateRequest};
use std::thread;

/// One worker that takes its time for each token.
const SLOW: &str = "[[model]]\nname = \"echo\"\npath = \"builtin:echo?token_us=4000\"\nworkers = 1\n";

/// One worker that takes no time.
const FAST: &str = "[[model]]\nname = \"echo\"\npath = \"builtin:echo?context=20000\"\nworkers = 1\n";
/// Far more messages than a connection holds by itself.
const MANY: usize = 9000;

/// A request that never ends by itself.
fn endless() -> GenerateRequest {
    GenerateRequest { ignore_end: true, ..GenerateRequest::raw("endless") }
}

/// Whether a new request is refused because the daemon is about to end. One that is not is withdrawn.
#[track_caller]
fn refuses(daemon: &Daemon) -> bool {
    match Running::begin(&mut daemon.client(), GenerateRequest::raw("new")) {
        Ok(_) => false,
        Err(ClientError::Failed(failure)) => {
            assert_eq!(failure.kind, FailureKind::ShuttingDown, "{failure:?}");
            assert!(failure.retry_after_ms.is_some());
            true
        }
        Err(error) => panic!("{error}\n{}", daemon.log()),
    }
}

#[track_caller]
fn is_told_of_the_end(answer: Result<Finished, ClientError>) {
    match answer {
        Err(ClientError::Failed(failure)) => assert_eq!(failure.kind, FailureKind::ShuttingDown, "{failure:?}"),
        other => panic!("{other:?} instead of the reason"),
    }
}

/// Waits for the daemon's end, which must be a good one that leaves nothing.
#[track_caller]
fn ends_well(mut daemon: Daemon) {
    let status = daemon.wait();
    assert!(status.success(), "{status}\n{}", daemon.log());
    assert!(!daemon.socket().exists(), "the socket file is left");
    let left = process::started_by(daemon.pid());
    assert!(left.is_empty(), "processes are left: {left:?}");
}

#[test]
fn what_runs_and_what_waits_is_finished() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let daemon = Daemon::start(SLOW);
        let (long, short) = ("a long answer ".repeat(30), "short");
        let mut clients = [daemon.client(), daemon.client(), daemon.client()];
        thread::scope(|scope| {
            let [first, others @ ..] = &mut clients;
            let mut running = Running::begin(first, GenerateRequest::raw(long.as_str())).unwrap();
            assert!(running.read(1).unwrap());
            let waiting = others.each_mut().map(|client| Running::begin(client, GenerateRequest::raw(short)).unwrap());
            let first = scope.spawn(|| running.finish());

            daemon.signal(signal);
            until("new requests are refused", LIMIT, || refuses(&daemon));
            assert_eq!(first.join().unwrap().unwrap().text, long);
            for waiting in waiting {
                assert_eq!(waiting.finish().unwrap().text, short);
            }
        });
        ends_well(daemon);
    }
}

#[test]
fn a_daemon_with_nothing_to_do_ends() {
    let failed = "[[model]]\nname = \"bad\"\npath = \"/nowhere\"\n";
    let long_lived = "[[model]]\nname = \"many\"\npath = \"builtin:echo\"\nisolation = \"worker\"\nworkers = 2\n";
    let daemon = Daemon::start(&format!("{SLOW}{failed}{long_lived}"));
    let mut idle = daemon.client();
    daemon.signal(Signal::SIGTERM);
    ends_well(daemon);
    assert!(matches!(idle.status(), Err(ClientError::Closed | ClientError::Connection(_))));
}

#[test]
fn a_worker_for_many_requests_finishes_what_it_does() {
    let daemon = Daemon::start(&format!("{SLOW}isolation = \"worker\"\n"));
    let text = "to the end ".repeat(20);
    let mut client = daemon.client();
    let mut running = Running::begin(&mut client, GenerateRequest::raw(text.as_str())).unwrap();
    assert!(running.read(1).unwrap());
    daemon.signal(Signal::SIGTERM);
    assert_eq!(running.finish().unwrap().text, text);
    ends_well(daemon);
}

#[test]
fn an_answer_that_is_taken_late_is_not_cut_off() {
    let daemon = Daemon::start(FAST);
    let mut client = daemon.client();
    let running = Running::begin(&mut client, GenerateRequest::raw("x".repeat(MANY))).unwrap();
    let model = daemon.until_model("the answer is complete", |model| model.totals.answered == 1);
    let template = model.template.unwrap().pid;
    daemon.signal(Signal::SIGTERM);
    // Nothing but the answer is left to wait for then.
    until("the template has ended", LIMIT, || !process::lives(template));
    let answer = running.finish().unwrap_or_else(|error| panic!("{error}\n{}", daemon.log()));
    assert_eq!(answer.text.len(), MANY);
    ends_well(daemon);
}

#[test]
fn a_second_signal_ends_everything_at_once() {
    let daemon = Daemon::start(SLOW);
    let (mut first, mut second) = (daemon.client(), daemon.client());
    let mut running = Running::begin(&mut first, endless()).unwrap();
    assert!(running.read(1).unwrap());
    let waiting = Running::begin(&mut second, GenerateRequest::raw("never served")).unwrap();
    daemon.signal(Signal::SIGTERM);
    until("new requests are refused", LIMIT, || refuses(&daemon));
    let read = running.tokens().len();
    assert!(running.read(read + 10).unwrap(), "after one signal it goes on");

    daemon.signal(Signal::SIGTERM);
    is_told_of_the_end(running.finish());
    is_told_of_the_end(waiting.finish());
    ends_well(daemon);
}

#[test]
fn a_daemon_does_not_wait_for_longer_than_it_may() {
    let daemon = Daemon::start(&format!("{SLOW}[supervisor]\nshutdown_timeout = \"300ms\"\n"));
    let (mut first, mut second) = (daemon.client(), daemon.client());
    let mut running = Running::begin(&mut first, endless()).unwrap();
    assert!(running.read(1).unwrap());
    let waiting = Running::begin(&mut second, GenerateRequest::raw("never served")).unwrap();
    daemon.signal(Signal::SIGTERM);
    is_told_of_the_end(running.finish());
    is_told_of_the_end(waiting.finish());
    ends_well(daemon);
}

#[test]
fn a_client_that_takes_nothing_does_not_keep_the_daemon() {
    let daemon = Daemon::start(&format!("{FAST}[supervisor]\nshutdown_timeout = \"300ms\"\n"));
    let mut client = daemon.client();
    let running = Running::begin(&mut client, GenerateRequest::raw("x".repeat(MANY))).unwrap();
    daemon.until_model("the answer is complete", |model| model.totals.answered == 1);
    daemon.signal(Signal::SIGTERM);
    ends_well(daemon);
    drop(running);
}

/// A daemon whose model is being loaded, for so many milliseconds.
fn loading(milliseconds: u32) -> Daemon {
    let path = format!("builtin:echo?load_ms={milliseconds}");
    let daemon = Daemon::launch(&format!("[[model]]\nname = \"echo\"\npath = \"{path}\"\nworkers = 1\n"), &[]);
    daemon.until_model("the model is being loaded", |model| model.state == "loading" && model.template.is_some());
    daemon
}

#[test]
fn a_daemon_that_is_loading_ends_at_once() {
    let daemon = loading(3_600_000);
    daemon.signal(Signal::SIGTERM);
    ends_well(daemon);
}

#[test]
fn what_waits_for_a_model_to_be_loaded_is_finished() {
    let daemon = loading(1_500);
    let mut client = daemon.client();
    let waiting = Running::begin(&mut client, GenerateRequest::raw("patient")).unwrap();
    daemon.signal(Signal::SIGTERM);
    until("new requests are refused", LIMIT, || refuses(&daemon));
    assert_eq!(waiting.finish().unwrap().text, "patient");
    ends_well(daemon);
}

#[test]
fn the_status_can_be_asked_for_until_the_end() {
    let daemon = Daemon::start(SLOW);
    let mut client = daemon.client();
    let mut running = Running::begin(&mut client, GenerateRequest::raw("x".repeat(300))).unwrap();
    assert!(running.read(1).unwrap());
    daemon.signal(Signal::SIGTERM);
    until("new requests are refused", LIMIT, || refuses(&daemon));
    let model = daemon.model();
    assert!(model.workers.iter().any(|worker| worker.request.is_some()), "{model:#?}");
    assert!(model.totals.refused > 0);
    assert_eq!(running.finish().unwrap().text.len(), 300);
    ends_well(daemon);
}
