//! A stuck worker is noticed by its lack of progress; one that is slow, or whose client is, is left
//! alone.
use integration_tests::{Daemon, LIMIT, Running, Signal, bad_worker, generate, model, process, until};
use ipc::{BlockingEnd, ClientError, FailureKind, GenerateRequest, MAX_FRAME, MAX_REQUEST, Request, Response};
use std::{
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

const STUCK: &str = "signal 9 (SIGKILL): it made no progress";
/// Longer than any process waits for a processor on a machine that is very busy.
const SETTINGS: &str = "workers = 1\nprogress_timeout = \"1s\"";

#[test]
fn a_stopped_worker_is_killed_and_its_request_goes_on() {
    for isolation in ["request", "worker"] {
        let daemon = Daemon::scripted("ok", &format!("{SETTINGS}\nisolation = \"{isolation}\""));
        let pid = daemon.model().workers[0].pid.unwrap();
        let text = "!stop@5?times=1 and more";
        let finished = generate(&daemon, GenerateRequest::raw(text)).unwrap();
        assert_eq!((finished.text.as_str(), finished.done.attempts), (text, 2), "{isolation}");
        let model = daemon.model();
        assert_eq!((model.totals.resumed, model.totals.worker_crashes), (1, 1));
        let crash = model.last_crash.unwrap();
        assert_eq!((crash.pid, crash.cause.as_str()), (pid, STUCK));
        assert_eq!(crash.request, Some(finished.request.to_string()));
        daemon.has_only_its_own();
    }
}

#[test]
fn a_worker_that_is_stopped_before_its_first_word_is_killed_too() {
    let daemon = Daemon::start(&model("builtin:echo", SETTINGS));
    let pid = daemon.model().workers[0].pid.unwrap();
    process::kill(pid, Signal::SIGSTOP);
    let finished = generate(&daemon, GenerateRequest::raw("a text")).unwrap();
    assert_eq!((finished.text.as_str(), finished.done.attempts), ("a text", 2));
    let model = daemon.model();
    assert_eq!((model.totals.replayed, model.totals.resumed), (1, 0));
    assert_eq!(model.last_crash.unwrap().cause, STUCK);
}

#[test]
fn spinning_waiting_and_hanging_up_are_no_progress_before_the_first_word() {
    are_no_progress("start", (3, 0));
}

#[test]
fn spinning_waiting_and_hanging_up_are_no_progress_in_an_answer() {
    are_no_progress("3", (0, 3));
}

/// Three ways not to go on at this moment, and how many requests are then replayed and resumed.
fn are_no_progress(moment: &str, again: (u64, u64)) {
    let daemon = Daemon::scripted("ok", SETTINGS);
    for action in ["spin", "hang", "hang-up"] {
        let text = format!("!{action}@{moment}?times=1 and more");
        let finished = generate(&daemon, GenerateRequest::raw(&text)).unwrap();
        assert_eq!((&finished.text, finished.done.attempts), (&text, 2));
        let crash = daemon.model().last_crash.unwrap();
        assert_eq!((crash.cause.as_str(), crash.request), (STUCK, Some(finished.request.to_string())), "{text}");
    }
    let totals = daemon.settle().models[0].totals;
    assert_eq!((totals.replayed, totals.resumed, totals.worker_crashes), (again.0, again.1, 3));
}

#[test]
fn a_request_that_hangs_each_worker_is_refused() {
    let daemon = Daemon::scripted("ok", SETTINGS);
    match generate(&daemon, GenerateRequest::raw("!hang@3 and more")) {
        Err(ClientError::Failed(failure)) => assert_eq!(failure.kind, FailureKind::WorkersDied),
        other => panic!("each of its workers hangs: {other:?}"),
    }
    let model = daemon.settle().models.remove(0);
    assert_eq!((model.totals.failed, model.totals.resumed, model.totals.worker_crashes), (1, 2, 3));
    assert_eq!(model.last_crash.unwrap().cause, STUCK);
}

#[test]
fn a_stopped_worker_does_not_keep_the_daemon_from_stopping() {
    let mut daemon = Daemon::scripted("ok", SETTINGS);
    let pid = daemon.model().workers[0].pid.unwrap();
    let text = "!stop@5?times=1 and more";
    let mut client = daemon.client();
    let running = Running::begin(&mut client, GenerateRequest::raw(text)).unwrap();
    until("its worker has stopped", LIMIT, || process::state(pid) == Some('T'));
    daemon.signal(Signal::SIGTERM);
    let finished = running.finish().unwrap();
    assert_eq!((finished.text.as_str(), finished.done.attempts), (text, 2));
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn an_idle_worker_need_not_make_progress() {
    let settings = "workers = 2\nisolation = \"worker\"\nprogress_timeout = \"1s\"";
    let daemon = Daemon::start(&model("builtin:echo?token_us=10000&context=1000000", settings));
    let pids = |daemon: &Daemon| daemon.model().workers.iter().map(|worker| worker.pid).collect::<Vec<_>>();
    let before = pids(&daemon);
    let mut client = daemon.client();
    let endless = GenerateRequest { ignore_end: true, ..GenerateRequest::raw("x") };
    let mut running = Running::begin(&mut client, endless).unwrap();
    // While one works, the other has nothing to do for twice as long as nothing may happen.
    let began = daemon.status().uptime_s;
    daemon.until("twice that time has passed", |status| status.uptime_s > began + 2.0);
    assert!(running.read(running.tokens().len() + 5).unwrap());
    assert_eq!(pids(&daemon), before);
    assert_eq!(daemon.model().totals.worker_exits, 0);
}

#[test]
fn a_long_prompt_that_makes_progress_is_never_killed() {
    let daemon = Daemon::start(&model("builtin:echo?prompt_us=100000", SETTINGS));
    // 64 tokens at once, a tenth of a second each: three times as long as nothing may happen.
    let text = "p".repeat(64 * 30);
    let finished = generate(&daemon, GenerateRequest::raw(&text)).unwrap();
    assert_eq!((finished.text, finished.done.attempts), (text, 1));
    assert!(finished.done.first_piece_us > 2_500_000, "the prompt took {} us", finished.done.first_piece_us);
    assert_eq!(daemon.model().totals.worker_crashes, 0);
}

#[test]
fn a_worker_is_not_blamed_for_a_client_that_reads_late() {
    let daemon = Daemon::start(&model("builtin:echo?token_us=300", SETTINGS));
    // More pieces than the socket holds; the worker is done with them before the first is read.
    let text = "t".repeat(2_000);
    let mut client = daemon.client();
    let running = Running::begin(&mut client, GenerateRequest::raw(&text)).unwrap();
    daemon.until_model("the worker is done", |model| model.totals.answered == 1);
    let finished = running.finish().unwrap();
    assert_eq!((finished.text, finished.done.attempts), (text, 1));
    let totals = daemon.model().totals;
    assert_eq!((totals.worker_crashes, totals.cancelled), (0, 0));
}

#[test]
fn a_client_that_takes_nothing_is_gone() {
    for isolation in ["request", "worker"] {
        let settings = format!("workers = 1\nisolation = \"{isolation}\"\nclient_timeout = \"300ms\"");
        let daemon = Daemon::start(&model("builtin:echo?token_us=100&context=65536", &settings));
        let mut end = BlockingEnd::new(UnixStream::connect(daemon.socket()).unwrap(), MAX_FRAME, MAX_REQUEST);
        let request = GenerateRequest::raw("x".repeat(30_000));
        end.send(&Request::Generate(Box::new(request))).unwrap();
        daemon.until_model("the request is cancelled", |model| model.totals.cancelled == 1);
        daemon.settle();
        let finished = generate(&daemon, GenerateRequest::raw("another")).unwrap();
        assert_eq!((finished.text.as_str(), finished.done.attempts), ("another", 1));
        // What had been sent can still be read; then the connection ends without an end of the
        // answer.
        let mut pieces = 0;
        while let Ok(Some(response)) = end.receive::<Response>() {
            match response {
                Response::Accepted { .. } => {}
                Response::Piece { .. } => pieces += 1,
                other => panic!("an answer that nobody took has an end: {other:?}"),
            }
        }
        assert!((1..30_000).contains(&pieces), "{pieces} pieces were sent");
        let totals = daemon.model().totals;
        assert_eq!((totals.accepted, totals.answered, totals.cancelled), (2, 1, 1));
        assert_eq!((totals.worker_crashes, totals.failed), (0, 0));
    }
}

/// A scripted worker behind a service manager who would see the supervisor miss its time.
fn watched() -> Daemon {
    let config = format!("[[model]]\nname = \"bad\"\npath = \"script:ok\"\n{SETTINGS}\n");
    let scripted = ["--template-executable", &bad_worker().to_string_lossy()];
    Daemon::launch_as(&config, &scripted, |command, folder| {
        command.env("NOTIFY_SOCKET", folder.join("notify")).env("WATCHDOG_USEC", "300000");
    })
}

#[test]
fn a_supervisor_that_was_stopped_in_an_answer_blames_nobody_for_it() {
    let daemon = Daemon::scripted("ok", SETTINGS);
    let text = "!freeze@3?times=1 and more";
    let pid = daemon.model().workers[0].pid.unwrap();
    let finished = thread::scope(|scope| {
        let asked = scope.spawn(|| generate(&daemon, GenerateRequest::raw(text)).unwrap());
        until("both have stopped", LIMIT, || [daemon.pid(), pid].map(process::state) == [Some('T'); 2]);
        wait_while_stopped(&daemon, pid, Duration::from_millis(1100));
        asked.join().unwrap()
    });
    assert_eq!((finished.text.as_str(), finished.done.attempts), (text, 1));
    let after = daemon.settle().models.remove(0);
    assert_eq!(after.totals.worker_crashes, 0, "{:?}", after.last_crash);
}

#[test]
fn a_supervisor_that_was_stopped_after_an_answer_blames_nobody_for_it() {
    blames_nobody(&Daemon::scripted("ok", SETTINGS));
}

#[test]
fn a_supervisor_that_was_stopped_and_is_watched_blames_nobody_for_it() {
    // A service manager's watchdog has come due then, too, and either may be looked at first.
    for _ in 0..3 {
        blames_nobody(&watched());
    }
}

/// Stops a daemon while its worker should exit, for longer than that may take, and has the worker
/// exit meanwhile.
fn blames_nobody(daemon: &Daemon) {
    let mut before = daemon.settle().models.remove(0);
    // The worker stands still before it exits, for which it has two seconds from the end of its
    // answer on. Only if this process stood still as long would it be killed before this looks.
    until("both have stopped in time", LIMIT, || {
        before = daemon.settle().models.remove(0);
        let pid = before.workers[0].pid.unwrap();
        generate(daemon, GenerateRequest::raw("!stop@answer")).unwrap();
        daemon.signal(Signal::SIGSTOP);
        until("the supervisor has stopped", LIMIT, || process::state(daemon.pid()) == Some('T'));
        until("its worker has stopped or was killed", LIMIT, || matches!(process::state(pid), Some('T' | 'Z')));
        let is_in_time = process::state(pid) == Some('T');
        wait_while_stopped(daemon, pid, Duration::from_millis(2100));
        is_in_time
    });
    let after = daemon.settle().models.remove(0);
    assert_eq!(after.totals.worker_crashes, before.totals.worker_crashes, "{:?}", after.last_crash);
}

/// Lets a stopped worker go on to its end, and its stopped supervisor when so much time has passed.
fn wait_while_stopped(daemon: &Daemon, worker: u32, time: Duration) {
    let began = Instant::now();
    process::kill(worker, Signal::SIGCONT);
    until("the worker has ended", LIMIT, || process::state(worker) == Some('Z'));
    until("the worker could have been waited for in vain", LIMIT, || began.elapsed() > time);
    daemon.signal(Signal::SIGCONT);
}
