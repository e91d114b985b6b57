//! Requests that wait: in which order they are served, how many there may be, and for how long.
use integration_tests::{Call, Daemon, Running, generate};
use ipc::{Client, ClientError, Failure, FailureKind, GenerateRequest};
use std::time::{Duration, Instant};

/// One worker that takes its time for each token.
fn daemon(supervisor: &str, model: &str) -> Daemon {
    let model = format!("[[model]]\nname = \"echo\"\npath = \"builtin:echo?token_us=2000\"\nworkers = 1\n{model}\n");
    Daemon::start(&format!("[supervisor]\n{supervisor}\n{model}"))
}

/// A request that occupies the worker for as long as its connection lives.
fn occupy(client: &mut Client) -> Running<'_> {
    let request = GenerateRequest { ignore_end: true, ..GenerateRequest::raw("endless") };
    let mut running = Running::begin(client, request).unwrap();
    assert!(running.read(1).unwrap());
    running
}

fn refused(daemon: &Daemon) -> Failure {
    match generate(daemon, GenerateRequest::raw("one more")) {
        Err(ClientError::Failed(failure)) => failure,
        other => panic!("{other:?} instead of a refusal"),
    }
}

#[test]
fn requests_are_served_in_the_order_in_which_they_came() {
    const WAITING: usize = 6;
    let daemon = daemon("", "");
    let mut first = daemon.client();
    let running = occupy(&mut first);
    let began = Instant::now();
    let mut clients: Vec<Client> = (0..WAITING).map(|_| daemon.client()).collect();
    let mut waiting = Vec::new();
    for client in &mut clients {
        let before = began.elapsed();
        waiting.push((
            before,
            Running::begin(client, GenerateRequest::raw("it takes a while")).unwrap(),
            began.elapsed(),
        ));
    }
    daemon.until_model("all of them have waited", |model| model.queue.length == WAITING && model.queue.oldest_s > 0.0);
    drop(running);
    drop(first);

    // Each arrived between the two times that were taken, and tells how long it waited from then
    // on.
    let mut last = Duration::ZERO;
    for (number, (before, running, after)) in waiting.into_iter().enumerate() {
        let answer = running.finish().unwrap();
        assert_eq!(answer.text, "it takes a while");
        let waited = Duration::from_micros(answer.done.wait_us);
        assert!(after + waited >= last, "number {number} was served before the one that came before it");
        last = before + waited;
    }
    assert_eq!(daemon.model().queue.length, 0);
}

#[test]
fn one_request_more_than_may_wait_is_refused_at_once() {
    let daemon = daemon("queue = 2", "");
    let (mut first, mut second, mut third) = (daemon.client(), daemon.client(), daemon.client());
    let running = occupy(&mut first);
    let waiting = [&mut second, &mut third].map(|client| Running::begin(client, GenerateRequest::raw("wait")).unwrap());

    let Failure { kind, message, retry_after_ms } = refused(&daemon);
    assert_eq!(kind, FailureKind::Busy);
    assert!(message.contains("echo") && message.contains("queue is full"), "{message}");
    assert!(retry_after_ms.is_some());
    let ended = Call::new(["generate", "one more"]).to(daemon.socket()).run();
    assert_eq!((ended.code(), ended.stdout.as_str()), (4, ""));
    assert!(ended.complaint().ends_with("queue is full; try again in 1 s"), "{ended:?}");
    let model = daemon.model();
    assert_eq!((model.queue.length, model.queue.limit, model.totals.refused), (2, 2, 2));

    drop(running);
    drop(first);
    for waiting in waiting {
        assert_eq!(waiting.finish().unwrap().text, "wait");
    }
    assert_eq!(generate(&daemon, GenerateRequest::raw("now there is room")).unwrap().text, "now there is room");
    let totals = daemon.model().totals;
    assert_eq!((totals.accepted, totals.answered, totals.refused, totals.cancelled), (4, 3, 2, 1));
}

#[test]
fn without_a_queue_only_what_can_run_at_once_is_accepted() {
    let daemon = daemon("queue = 0", "");
    assert_eq!(generate(&daemon, GenerateRequest::raw("alone")).unwrap().text, "alone");
    daemon.settle();
    let mut client = daemon.client();
    let mut running = occupy(&mut client);
    assert_eq!(refused(&daemon).kind, FailureKind::Busy);
    let read = running.tokens().len();
    assert!(running.read(read + 1).unwrap(), "the one that runs goes on");
}

#[test]
fn a_request_that_waits_too_long_is_told_so() {
    let daemon = daemon("queue_timeout = \"100ms\"", "");
    let mut client = daemon.client();
    let mut running = occupy(&mut client);
    let failure = refused(&daemon);
    assert_eq!(failure.kind, FailureKind::TimedOut);
    assert!(failure.message.contains("no worker of echo became free"), "{failure:?}");
    let ended = Call::new(["generate", "--json", "one more"]).to(daemon.socket()).run();
    assert_eq!((ended.code(), ended.stdout.as_str()), (1, ""));
    assert!(ended.complaint().contains("became free"), "{ended:?}");
    let read = running.tokens().len();
    assert!(running.read(read + 1).unwrap(), "the one that runs goes on");
    let totals = daemon.model().totals;
    assert_eq!((totals.accepted, totals.timed_out, totals.cancelled), (3, 2, 0));
}

#[test]
fn a_request_that_runs_too_long_is_ended_and_the_next_one_served() {
    let daemon = daemon("", "request_timeout = \"1s\"");
    let mut client = daemon.client();
    let running = occupy(&mut client);
    match running.finish() {
        Err(ClientError::Failed(failure)) => assert_eq!(failure.kind, FailureKind::TimedOut, "{failure:?}"),
        other => panic!("{other:?} instead of an end"),
    }
    assert_eq!(generate(&daemon, GenerateRequest::raw("short")).unwrap().text, "short");
    let totals = daemon.model().totals;
    assert_eq!((totals.timed_out, totals.answered, totals.worker_crashes), (1, 1, 0));
}

#[test]
fn a_client_that_leaves_the_queue_takes_its_request_along() {
    let daemon = daemon("", "");
    let mut first = daemon.client();
    let _running = occupy(&mut first);
    let mut client = daemon.client();
    Running::begin(&mut client, GenerateRequest::raw("never served")).unwrap();
    assert_eq!(daemon.model().queue.length, 1);
    drop(client);
    let model = daemon.until_model("nobody waits", |model| model.queue.length == 0);
    assert_eq!((model.totals.cancelled, model.totals.answered), (1, 0));
}
