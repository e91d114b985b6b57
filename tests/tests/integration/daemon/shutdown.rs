//! The end of a daemon: nobody can connect any more, what runs and waits is finished, and nothing
//! is left.
use integration_tests::{Call, Daemon, Finished, LIMIT, Running, Signal, Wire, process, until};
use ipc::{Client, ClientError, FailureKind, GenerateRequest, Request, Response};
use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
};

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

/// Whether nobody can connect any more.
#[track_caller]
fn refuses(daemon: &Daemon) -> bool {
    match Client::connect(daemon.socket()) {
        Ok(_) => false,
        Err(ClientError::NoDaemon { .. }) => true,
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
            until("nobody can connect", LIMIT, || refuses(&daemon));
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
    until("nobody can connect", LIMIT, || refuses(&daemon));
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
    until("nobody can connect", LIMIT, || refuses(&daemon));
    assert_eq!(waiting.finish().unwrap().text, "patient");
    ends_well(daemon);
}

#[test]
fn who_had_connected_before_is_served_and_disconnected() {
    let daemon = Daemon::start(SLOW);
    let mut known = daemon.client();
    assert_eq!(known.status().unwrap().state, "serving");
    let mut running = daemon.client();
    let mut running = Running::begin(&mut running, GenerateRequest::raw("x".repeat(100))).unwrap();
    // While the daemon stands still others connect and ask; then it learns of the signal, and of
    // them, at once.
    daemon.signal(Signal::SIGSTOP);
    let mut wire = Wire::connect(&daemon);
    wire.send(&Request::Generate(Box::new(GenerateRequest::raw("in time"))));
    daemon.signal(Signal::SIGTERM);
    daemon.signal(Signal::SIGCONT);
    assert!(matches!(wire.receive(), Some(Response::Accepted { .. })), "{}", daemon.log());
    let mut text = String::new();
    loop {
        match wire.receive() {
            Some(Response::Piece { text: piece, .. }) => text.push_str(&piece),
            Some(Response::Done(_)) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((text.as_str(), wire.receive()), ("in time", None));
    // Who had waited for nothing was disconnected at once.
    assert!(matches!(known.status(), Err(ClientError::Closed | ClientError::Connection(_))));
    assert!(running.read(100).unwrap());
    assert_eq!(running.finish().unwrap().text.len(), 100);
    ends_well(daemon);
}

#[test]
fn stop_waits_for_the_end_and_can_be_told_not_to_finish() {
    for (arguments, is_finished) in [(&["stop"][..], true), (&["stop", "--now"][..], false)] {
        let mut daemon = Daemon::start(SLOW);
        let (mut first, mut second) = (daemon.client(), daemon.client());
        let mut running = Running::begin(&mut first, GenerateRequest::raw("x".repeat(200))).unwrap();
        assert!(running.read(1).unwrap());
        let waiting = Running::begin(&mut second, GenerateRequest::raw("patient")).unwrap();
        thread::scope(|scope| {
            let stopping = scope.spawn(|| Call::new(arguments).to(daemon.socket()).run());
            let answers = (running.finish(), waiting.finish());
            let ended = stopping.join().unwrap();
            assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""), "{ended:?}");
            if is_finished {
                assert_eq!((answers.0.unwrap().text.len(), answers.1.unwrap().text.as_str()), (200, "patient"));
                assert_eq!(ended.stdout, "finishing 2 requests, of which 1 waits, for at most 30s\n");
            } else {
                is_told_of_the_end(answers.0);
                is_told_of_the_end(answers.1);
            }
        });
        // It is not there any more, so that another can take its place.
        assert!(!process::lives(daemon.pid()));
        assert!(daemon.wait().success());
        assert_eq!(Call::new(arguments).to(daemon.socket()).run().code(), 3);
        ends_well(daemon);
    }
}

#[test]
fn no_request_fails_while_daemons_follow_each_other() {
    const CLIENTS: usize = 6;
    const DAEMONS: usize = 5;
    let config = "[[model]]\nname = \"echo\"\npath = \"builtin:echo?token_us=200\"\nworkers = 2\n";
    let mut daemon = Daemon::start(config);
    let (socket, answered, is_over) = (daemon.socket().to_owned(), AtomicUsize::new(0), AtomicBool::new(false));
    let ask = |number: usize| -> Result<(), ClientError> {
        let text = format!("request {number}, which takes a while");
        let mut client = Client::connect(&socket)?;
        let finished = Running::begin(&mut client, GenerateRequest::raw(text.as_str()))?.finish()?;
        assert_eq!(finished.text, text);
        Ok(())
    };
    thread::scope(|scope| {
        let _over = Over(&is_over);
        for client in 0..CLIENTS {
            let (ask, answered, is_over) = (&ask, &answered, &is_over);
            scope.spawn(move || {
                let mut number = client;
                while !is_over.load(Relaxed) {
                    match ask(number) {
                        Ok(()) => {
                            answered.fetch_add(1, Relaxed);
                            number += CLIENTS;
                        }
                        // There is nobody for a moment; everything else is a failure.
                        Err(ClientError::NoDaemon { .. }) => thread::yield_now(),
                        Err(error) => {
                            is_over.store(true, Relaxed);
                            panic!("request {number} has failed: {error:?}");
                        }
                    }
                }
            });
        }
        for number in 1..=DAEMONS {
            let before = answered.load(Relaxed);
            until("some are answered", LIMIT, || answered.load(Relaxed) >= before + 20 || is_over.load(Relaxed));
            assert!(daemon.restart().success(), "daemon {number}");
        }
        let before = answered.load(Relaxed);
        until("the last one answers too", LIMIT, || answered.load(Relaxed) >= before + 20 || is_over.load(Relaxed));
    });
    ends_well_when_told(daemon);
}

/// Ends the clients, also when the test has failed.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[track_caller]
fn ends_well_when_told(daemon: Daemon) {
    daemon.signal(Signal::SIGTERM);
    ends_well(daemon);
}
