//! Workers that do under a request whatever a worker can do wrong: the client gets the right
//! outcome, the slot comes back.
use integration_tests::{Daemon, Finished, Running, generate, process};
use ipc::{ClientError, Failure, FailureKind, GenerateRequest, status::ModelStatus};

/// Ways to end, and what the status says of them.
const DEATHS: [(&str, &str); 7] = [
    ("crash", "signal 6 (SIGABRT)"),
    ("kill", "signal 9 (SIGKILL)"),
    ("segv", "signal 11 (SIGSEGV)"),
    ("exit-0", "exit status 0"),
    ("exit-7", "exit status 7"),
    ("panic", "exit status 101 (a panic)"),
    ("cut-off", "exit status 0"),
];

/// Things that cannot be true or are no messages.
const LIES: [&str; 8] =
    ["garbage", "huge", "wrong-version", "undecodable", "hello", "wrong-request", "wrong-index", "long-prompt"];

/// What the status says then. How the process ended comes before it: it may notice that nobody
/// hears it, and exit, before the kill.
const MISBEHAVED: &str = ": it broke the protocol: ";

/// Asks for an answer that is spoiled as a script says.
fn spoiled(daemon: &Daemon, script: &str) -> Result<Finished, ClientError> {
    generate(daemon, GenerateRequest::raw(format!("!{script} and some words more")))
}

fn failure(ended: Result<Finished, ClientError>) -> Failure {
    match ended {
        Err(ClientError::Failed(failure)) => failure,
        other => panic!("it should have failed: {other:?}"),
    }
}

/// The daemon's model, when all its slots are idle again.
#[track_caller]
fn settled(daemon: &Daemon) -> ModelStatus {
    daemon.has_only_its_own();
    daemon.settle().models.remove(0)
}

#[test]
fn a_death_before_the_first_piece_is_replayed() {
    for isolation in ["request", "worker"] {
        for moment in ["start", "prompt", "0"] {
            let daemon = Daemon::scripted("ok", &format!("workers = 1\nisolation = \"{isolation}\""));
            for (number, (action, cause)) in (1..).zip(DEATHS) {
                assert_recovers(&daemon, &format!("{action}@{moment}"), cause);
                let totals = daemon.model().totals;
                assert_eq!((totals.replayed, totals.resumed, totals.worker_crashes), (number, 0, number));
            }
        }
    }
}

#[test]
fn a_death_in_mid_stream_is_resumed() {
    for isolation in ["request", "worker"] {
        let daemon = Daemon::scripted("ok", &format!("workers = 1\nisolation = \"{isolation}\""));
        for (number, (action, cause)) in (1..).zip(DEATHS) {
            assert_recovers(&daemon, &format!("{action}@3"), cause);
            let totals = daemon.model().totals;
            assert_eq!((totals.replayed, totals.resumed, totals.worker_crashes), (0, number, number));
        }
    }
}

#[test]
fn a_worker_that_lies_is_ended_and_its_request_goes_on() {
    for isolation in ["request", "worker"] {
        let daemon = Daemon::scripted("ok", &format!("workers = 1\nisolation = \"{isolation}\""));
        for (number, action) in (1..).zip(LIES) {
            assert_recovers(&daemon, &format!("{action}@start"), MISBEHAVED);
            assert_recovers(&daemon, &format!("{action}@3"), MISBEHAVED);
            let totals = daemon.model().totals;
            assert_eq!((totals.replayed, totals.resumed, totals.worker_crashes), (number, number, 2 * number));
        }
        assert_recovers(&daemon, "prompt-again@3", MISBEHAVED);
    }
}

/// The first worker does it, the second answers.
#[track_caller]
fn assert_recovers(daemon: &Daemon, script: &str, cause: &str) {
    let finished = spoiled(daemon, &format!("{script}?times=1")).unwrap_or_else(|error| panic!("{script}: {error}"));
    assert_eq!(finished.text, format!("!{script}?times=1 and some words more"));
    assert_eq!(finished.done.attempts, 2, "{script}");
    let model = settled(daemon);
    let crash = model.last_crash.unwrap();
    let is_it = if cause == MISBEHAVED { crash.cause.contains(cause) } else { crash.cause == cause };
    assert!(is_it, "{script}: {}", crash.cause);
    assert_eq!(crash.slot, Some(0), "{script}");
    assert_eq!(crash.request, Some(finished.request.to_string()), "{script}");
    assert_eq!(model.workers.len(), 1, "{script}");
}

#[test]
fn what_comes_after_a_complete_answer_changes_nothing() {
    let daemon = Daemon::scripted("ok", "workers = 1");
    for action in ["kill", "crash", "exit-7", "garbage", "huge", "cut-off", "done-again", "wrong-index", "linger"] {
        let finished = spoiled(&daemon, &format!("{action}@answer")).unwrap();
        assert_eq!(finished.text, format!("!{action}@answer and some words more"));
        assert_eq!(finished.done.attempts, 1);
        settled(&daemon);
    }
    let model = daemon.model();
    assert_eq!((model.totals.answered, model.totals.replayed, model.totals.resumed), (9, 0, 0));
    let crash = model.last_crash.unwrap();
    assert_eq!((crash.cause.as_str(), crash.request), ("signal 9 (SIGKILL): it did not exit", None));
}

#[test]
fn all_that_a_worker_has_said_counts_after_its_end() {
    let daemon = Daemon::scripted("ok?context=10000", "workers = 1");
    // It says all of it as fast as it can, and is gone before half of it has been heard.
    let words = "w".repeat(3_000);
    for number in 0..20 {
        let text = format!("!kill@answer {number} {words}");
        let finished = generate(&daemon, GenerateRequest::raw(&text)).unwrap();
        assert_eq!(finished.done.attempts, 1);
        assert_eq!(finished.text, text);
    }
    assert_eq!(settled(&daemon).totals.answered, 20);
}

#[test]
fn a_request_that_kills_each_worker_is_refused_in_words() {
    for moment in ["start", "3"] {
        let daemon = Daemon::scripted("ok", "workers = 1");
        let script = format!("crash@{moment}");
        let died = failure(spoiled(&daemon, &script));
        assert_eq!(died.kind, FailureKind::WorkersDied);
        assert_eq!(died.message, "3 workers died while serving this request; it is not tried again");
        assert_eq!(settled(&daemon).totals.worker_crashes, 3);
        let refused = failure(spoiled(&daemon, &script));
        assert_eq!(refused.kind, FailureKind::Poisonous);
        assert_eq!(refused.message, "refused: workers died under this same request a short while ago");
        assert!(refused.retry_after_ms.is_some_and(|wait| wait > 0));
        let finished = spoiled(&daemon, "ok").unwrap();
        assert_eq!(finished.done.attempts, 1, "another request is served at once");
        let totals = daemon.model().totals;
        assert_eq!((totals.accepted, totals.answered, totals.failed, totals.refused), (2, 1, 1, 1));
        assert_eq!(totals.worker_crashes, 3, "a refused request costs no worker");
    }
}

#[test]
fn one_worker_may_be_all_that_a_request_may_cost() {
    let daemon = Daemon::scripted("ok", "workers = 1\nmax_attempts = 1");
    let died = failure(spoiled(&daemon, "kill@3"));
    assert_eq!(died.kind, FailureKind::WorkersDied);
    assert_eq!(died.message, "the worker that served this request died, and no more than one may");
    let totals = settled(&daemon).totals;
    assert_eq!((totals.replayed, totals.resumed, totals.worker_crashes), (0, 0, 1));
}

#[test]
fn other_requests_go_on_beside_one_that_kills_its_workers() {
    let daemon = Daemon::scripted("ok?token_us=5000", "workers = 2");
    let text = "a long and healthy answer ".repeat(8);
    let mut client = daemon.client();
    let mut healthy = Running::begin(&mut client, GenerateRequest::raw(&text)).unwrap();
    assert!(healthy.read(1).unwrap());
    for script in ["crash@start?as=1", "garbage@3?as=2", "exit-0@4?as=3"] {
        assert_eq!(failure(spoiled(&daemon, script)).kind, FailureKind::WorkersDied);
    }
    let finished = healthy.finish().unwrap();
    assert_eq!((finished.text, finished.done.attempts), (text, 1));
    let totals = settled(&daemon).totals;
    assert_eq!((totals.answered, totals.failed, totals.worker_crashes), (1, 3, 9));
}

#[test]
fn the_last_words_of_a_worker_are_kept_and_bounded() {
    let daemon = Daemon::scripted("ok", "workers = 1");
    spoiled(&daemon, "crash@3?times=1").unwrap();
    let crash = settled(&daemon).last_crash.unwrap();
    assert_eq!(crash.stderr, ["this worker crashes as its script says"]);

    let before = process::resident(daemon.pid()).unwrap();
    let finished = spoiled(&daemon, "flood-stderr@3?times=1").unwrap();
    assert_eq!(finished.done.attempts, 2);
    let crash = settled(&daemon).last_crash.unwrap();
    assert_eq!(crash.stderr.len(), 20);
    assert_eq!(crash.stderr[19], "line 199999 of a flood on the standard error output");
    let after = process::resident(daemon.pid()).unwrap();
    assert!(after < before + (8 << 20), "{before} bytes have become {after}");

    spoiled(&daemon, "panic@3?times=1").unwrap();
    let crash = settled(&daemon).last_crash.unwrap();
    assert!(crash.stderr.iter().any(|line| line == "this worker panics as its script says"), "{:?}", crash.stderr);
}

#[test]
fn progress_for_ever_ends_with_the_request_timeout() {
    let daemon = Daemon::scripted("ok", "workers = 1\nprogress_timeout = \"1s\"\nrequest_timeout = \"2s\"");
    let late = failure(spoiled(&daemon, "tick@3"));
    assert_eq!(
        (late.kind, late.message.as_str()),
        (FailureKind::TimedOut, "the answer took longer than a request may")
    );
    let model = settled(&daemon);
    assert_eq!((model.totals.timed_out, model.totals.worker_crashes), (1, 0));
    assert_eq!(model.last_crash, None);
    assert_eq!(spoiled(&daemon, "ok").unwrap().done.attempts, 1);
}
