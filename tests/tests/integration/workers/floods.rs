//! Whatever a worker sends, writes or takes, the daemon neither grows with it nor believes it.
use integration_tests::{Daemon, Running, generate, process};
use ipc::{BlockingEnd, GenerateRequest, MAX_FRAME, MAX_REQUEST, Request};
use std::os::unix::net::UnixStream;

const MIB: u64 = 1 << 20;

#[test]
fn a_flood_of_tokens_ends_with_the_context() {
    let daemon = Daemon::scripted("ok?context=2000", "workers = 1");
    let prompt = "!token-flood@3";
    // The lie is seen when the answer cannot have so many tokens; who takes it over finds it
    // complete.
    let finished = generate(&daemon, GenerateRequest::raw(prompt)).unwrap();
    assert_eq!(finished.tokens.len(), 2000 - prompt.len());
    assert_eq!(finished.text, format!("!to{}", "x".repeat(2000 - prompt.len() - 3)));
    let model = daemon.settle().models.remove(0);
    assert_eq!((model.totals.answered, model.totals.worker_crashes), (1, 1));
    assert_eq!(generate(&daemon, GenerateRequest::raw("well")).unwrap().text, "well");
}

#[test]
fn text_that_nobody_takes_is_not_kept_without_bound() {
    let daemon = Daemon::scripted("ok", "workers = 1");
    generate(&daemon, GenerateRequest::raw("to be warm")).unwrap();
    let before = process::resident(daemon.pid()).unwrap();
    let mut end = BlockingEnd::new(UnixStream::connect(daemon.socket()).unwrap(), MAX_FRAME, MAX_REQUEST);
    end.send(&Request::Generate(Box::new(GenerateRequest::raw("!text-flood@3")))).unwrap();
    // A mebibyte a token: the client is given up long before four gibibytes of them have come.
    let mut most = 0;
    daemon.until_model("the client is given up", |model| {
        most = most.max(process::resident(daemon.pid()).unwrap_or(0));
        model.totals.cancelled == 1
    });
    daemon.settle();
    most = most.max(process::resident(daemon.pid()).unwrap());
    assert!(most < before + 64 * MIB, "{before} bytes have become {most}");
    assert_eq!(generate(&daemon, GenerateRequest::raw("well")).unwrap().text, "well");
}

#[test]
fn text_that_is_taken_goes_through() {
    let daemon = Daemon::scripted("ok?context=64", "workers = 1");
    generate(&daemon, GenerateRequest::raw("to be warm")).unwrap();
    let before = process::resident(daemon.pid()).unwrap();
    let mut client = daemon.client();
    let mut running = Running::begin(&mut client, GenerateRequest::raw("!text-flood@3")).unwrap();
    while running.read(running.tokens().len() + 1).unwrap_or(false) {}
    daemon.settle();
    let after = process::resident(daemon.pid()).unwrap();
    assert!(after < before + 64 * MIB, "{before} bytes have become {after}");
}

#[test]
fn a_promise_of_four_gibibytes_is_not_prepared_for() {
    let daemon = Daemon::scripted("ok", "workers = 1");
    generate(&daemon, GenerateRequest::raw("to be warm")).unwrap();
    let before = process::resident(daemon.pid()).unwrap();
    assert_eq!(generate(&daemon, GenerateRequest::raw("!huge@3?times=1")).unwrap().done.attempts, 2);
    let after = process::resident(daemon.pid()).unwrap();
    assert!(after < before + 8 * MIB, "{before} bytes have become {after}");
}

#[test]
fn a_board_cannot_be_resized() {
    let daemon = Daemon::scripted("ok", "workers = 1");
    // The worker crashes if it can.
    let finished = generate(&daemon, GenerateRequest::raw("!truncate-board@3 and more")).unwrap();
    assert_eq!((finished.text.as_str(), finished.done.attempts), ("!truncate-board@3 and more", 1));
    assert_eq!(daemon.model().totals.worker_crashes, 0);
}

#[test]
fn a_scribbled_board_is_not_believed() {
    for isolation in ["request", "worker"] {
        let settings = format!("workers = 1\nisolation = \"{isolation}\"");
        let daemon = Daemon::scripted("ok?token_us=5000", &settings);
        let text = "!scribble-board@3 and more words, so that the status can be looked at";
        let mut client = daemon.client();
        let mut running = Running::begin(&mut client, GenerateRequest::raw(text)).unwrap();
        for count in 1..20 {
            running.read(count).unwrap();
            let worker = &daemon.model().workers[0];
            assert!(worker.tokens_per_s.is_none_or(f64::is_finite), "{worker:?}");
        }
        let finished = running.finish().unwrap();
        assert_eq!((finished.text.as_str(), finished.done.attempts), (text, 1));
        assert_eq!(generate(&daemon, GenerateRequest::raw("well")).unwrap().text, "well");
        assert_eq!(daemon.model().totals.worker_crashes, 0);
    }
}

#[test]
fn memory_beyond_the_limit_ends_a_worker() {
    let daemon = Daemon::scripted("ok", "workers = 1\nmemory_per_worker = \"128MiB\"");
    let finished = generate(&daemon, GenerateRequest::raw("!memory@3?times=1 and more")).unwrap();
    assert_eq!((finished.text.as_str(), finished.done.attempts), ("!memory@3?times=1 and more", 2));
    let crash = daemon.model().last_crash.unwrap();
    let (begin, end) = ("signal 9 (SIGKILL): it took ", " MiB of memory for itself, and 128.0 MiB are allowed");
    assert!(crash.cause.starts_with(begin) && crash.cause.ends_with(end), "{}", crash.cause);
}
