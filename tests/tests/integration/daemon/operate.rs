//! Draining, restarted workers, and who may ask for them.
use integration_tests::{
    Call, Daemon, Held, LIMIT, Running, Signal, command, copy_of_supervisor, generate, held, model, until,
};
use ipc::{Client, ClientError, FailureKind, GenerateRequest, status::ModelStatus};
use nix::unistd::Uid;
use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    thread,
};

fn call(daemon: &Daemon, arguments: &[&str]) -> (i32, String, String) {
    let ended = Call::new(arguments).to(daemon.socket()).run();
    (ended.code(), ended.stdout.clone(), ended.stderr)
}

fn begin(client: &mut Client) -> Running<'_> {
    Running::begin(client, GenerateRequest::raw(held(1))).unwrap()
}

#[track_caller]
fn is_refused<T: std::fmt::Debug>(answer: Result<T, ClientError>) {
    match answer {
        Err(ClientError::Failed(failure)) => {
            assert_eq!(failure.kind, FailureKind::Draining, "{failure:?}");
            assert!(failure.retry_after_ms.is_some_and(|wait| wait > 0), "{failure:?}");
        }
        other => panic!("{other:?} instead of a refusal"),
    }
}

#[test]
fn draining_finishes_what_was_begun_and_refuses_the_rest() {
    let daemon = Daemon::scriptable(&model("script:ok", "workers = 1"));
    let (mut first, mut second) = (daemon.client(), daemon.client());
    let running = begin(&mut first);
    let busy = Held::wait(&daemon, running.request());
    let waiting = begin(&mut second);
    thread::scope(|scope| {
        let draining = scope.spawn(|| call(&daemon, &["drain"]));
        is_refused(waiting.finish());
        let status = daemon.status();
        assert_eq!((status.state.as_str(), status.models[0].state.as_str()), ("draining", "warm"));
        is_refused(generate(&daemon, GenerateRequest::raw("new")));
        let (code, _, error) = call(&daemon, &["generate", "new"]);
        let sentence = "supervisor: the supervisor is draining and begins no request; try again in 5 s\n";
        assert_eq!((code, error.as_str()), (4, sentence));
        busy.release();
        assert_eq!(running.finish().unwrap().text, held(1));
        let lines = "waiting for what was begun: 1 request\ndrained: nothing runs, and nothing is begun\n";
        assert_eq!(draining.join().unwrap(), (0, lines.to_owned(), String::new()));
    });
    // It can be told again, and told to stop draining.
    assert_eq!(call(&daemon, &["drain"]).1, "drained: nothing runs, and nothing is begun\n");
    is_refused(generate(&daemon, GenerateRequest::raw("new")));
    let undone = |line: &str| assert_eq!(call(&daemon, &["drain", "--undo"]), (0, format!("{line}\n"), String::new()));
    undone("no longer draining: requests are taken again");
    undone("there was no draining to be ended: requests are taken");
    assert_eq!(generate(&daemon, GenerateRequest::raw("new")).unwrap().text, "new");
    assert_eq!(daemon.status().state, "serving");
    assert_eq!(daemon.model().totals.refused, 4);
}

#[test]
fn who_waits_for_draining_is_told_that_it_was_ended() {
    let daemon = Daemon::scriptable(&model("script:ok", "workers = 1"));
    let mut client = daemon.client();
    let running = begin(&mut client);
    let busy = Held::wait(&daemon, running.request());
    thread::scope(|scope| {
        let draining = scope.spawn(|| call(&daemon, &["drain"]));
        daemon.until("it drains", |status| status.state == "draining");
        assert_eq!(call(&daemon, &["drain", "--undo"]).0, 0);
        let (code, _, error) = draining.join().unwrap();
        assert_eq!((code, error.as_str()), (1, "supervisor: somebody has ended the draining\n"));
    });
    busy.release();
    assert_eq!(running.finish().unwrap().text, held(1));
}

#[test]
fn a_drain_that_is_cut_short_by_a_stop_has_failed() {
    let mut daemon = Daemon::start(&model("builtin:echo?token_us=10000", "workers = 1"));
    let mut client = daemon.client();
    let asked = GenerateRequest { ignore_end: true, ..GenerateRequest::raw("endless") };
    let mut running = Running::begin(&mut client, asked).unwrap();
    assert!(running.read(1).unwrap());
    let draining = Call::new(["drain"]).to(daemon.socket()).start();
    daemon.until("it drains", |status| status.state == "draining");
    until("it waits", LIMIT, || draining.stdout() == "waiting for what was begun: 1 request\n");
    daemon.signal(Signal::SIGTERM);
    until("it stops", LIMIT, || Client::connect(daemon.socket()).is_err());
    daemon.signal(Signal::SIGTERM);
    let ended = draining.wait();
    assert_eq!((ended.code(), ended.stdout.as_str()), (1, "waiting for what was begun: 1 request\n"));
    let sentence = "supervisor: the supervisor was stopped before all was finished that had been begun";
    assert_eq!(ended.complaint(), sentence);
    assert!(running.finish().is_err());
    assert!(daemon.wait().success());
}

fn lives(model: &ModelStatus) -> Vec<(u32, u64)> {
    model.workers.iter().map(|worker| (worker.slot, worker.generation)).collect()
}

#[test]
fn all_workers_are_replaced_when_they_have_nothing_to_do() {
    for isolation in ["request", "worker"] {
        let settings = format!("workers = 2\nisolation = \"{isolation}\"");
        let daemon = Daemon::scriptable(&model("script:ok", &settings));
        let template = daemon.model().template;
        let mut client = daemon.client();
        let running = begin(&mut client);
        let busy = Held::wait(&daemon, running.request());
        let (code, output, error) = call(&daemon, &["restart"]);
        assert_eq!((code, error.as_str()), (0, ""));
        assert!(output.starts_with("model: ") && output.ends_with("1 of them busy and first to finish\n"), "{output}");
        daemon.until_model("the idle one is replaced", |model| {
            model.workers.iter().any(|worker| worker.slot == 1 && worker.generation == 2 && worker.state == "idle")
        });
        busy.release();
        let finished = running.finish().unwrap();
        assert_eq!((finished.text, finished.done.attempts), (held(1), 1), "{isolation}");
        let model = daemon.until_model("both are replaced", |model| {
            let idle = model.workers.iter().filter(|worker| worker.state == "idle");
            model.workers.len() == 2 && idle.filter(|worker| worker.generation >= 2).count() == 2
        });
        assert_eq!((model.template.map(|new| new.pid), model.totals.worker_crashes), (template.map(|old| old.pid), 0));
        daemon.has_only_its_own();
    }
}

#[test]
fn the_worker_of_a_slot_is_replaced_under_its_request() {
    for isolation in ["request", "worker"] {
        let settings = format!("workers = 2\nisolation = \"{isolation}\"\nmax_attempts = 1");
        let daemon = Daemon::scriptable(&model("script:ok", &settings));
        let mut client = daemon.client();
        // What serves it stands still at four places, and is replaced at three.
        let text = "!stop@3?times=1 !stop@6?times=1 !stop@9?times=1 !stop@12?times=1 and more";
        let mut running = Running::begin(&mut client, GenerateRequest::raw(text)).unwrap();
        let request = running.request();
        for times in 1..=3 {
            assert!(running.read(3 * times).unwrap());
            let standing = Held::wait(&daemon, request);
            let before = daemon.worker_of(request);
            assert_eq!(before.pid, Some(standing.pid()));
            let slot = before.slot.to_string();
            let (code, output, _) = call(&daemon, &["restart", "--model", "model", &slot]);
            let line = format!("model: the worker of slot {slot} is replaced; {request} goes on with another\n");
            assert_eq!((code, output), (0, line));
            daemon.until_model("another one serves", |model| {
                let mut busy = model.workers.iter().filter(|worker| worker.state == "busy" && worker.request.is_some());
                busy.any(|worker| worker.pid.is_some() && worker.pid != before.pid)
            });
        }
        Held::wait(&daemon, request).release();
        let finished = running.finish().unwrap();
        assert_eq!((finished.text.as_str(), finished.done.attempts), (text, 4), "{isolation}");
        let totals = daemon.settle().models.remove(0).totals;
        assert_eq!((totals.answered, totals.resumed, totals.worker_crashes), (1, 3, 0), "it is nobody's fault");
        daemon.has_only_its_own();
    }
}

#[test]
fn an_idle_slot_is_restarted_and_one_that_is_not_there_is_refused() {
    let daemon = Daemon::start(&model("builtin:echo", "workers = 2"));
    let before = lives(&daemon.model());
    assert_eq!(call(&daemon, &["restart", "1"]).1, "model: the worker of slot 1 is replaced\n");
    let after = daemon.until_model("it is replaced", |model| {
        model.workers.iter().all(|worker| worker.state == "idle") && lives(model) != before
    });
    assert_eq!(lives(&after), [(0, 1), (1, 2)]);
    let (code, _, error) = call(&daemon, &["restart", "2"]);
    assert_eq!((code, error.as_str()), (2, "supervisor: model has no slot 2; its slots are 0 to 1\n"));
    assert_eq!(call(&daemon, &["restart", "--model", "other"]).0, 2);
    assert_eq!(call(&daemon, &["restart", "x"]).0, 2);
}

#[test]
fn where_there_is_no_worker_none_is_said_to_be_replaced() {
    let lazy = model("builtin:echo", "workers = 1\nload = \"lazy\"");
    let bad = "[[model]]\nname = \"bad\"\npath = \"/nowhere\"\nworkers = 2\n";
    let daemon = Daemon::start(&format!("{lazy}{bad}"));
    for arguments in [&["restart", "--model", "model", "0"][..], &["restart", "--model", "model"]] {
        let said = call(&daemon, arguments).1;
        assert_eq!(said, "model: there is no worker now that could be replaced\n", "{arguments:?}");
    }
    let said = call(&daemon, &["restart", "--model", "bad", "1"]).1;
    assert_eq!(said, "bad: there is no worker now that could be replaced\n");
}

#[test]
fn only_operators_may_ask_for_it() {
    if !Uid::effective().is_root() {
        eprintln!("skipped: only root can be somebody else");
        return;
    }
    const NOBODY: u32 = 65534;
    let config = format!("[supervisor]\nallow_users = [{NOBODY}]\n{}", model("builtin:echo", "workers = 1"));
    let daemon = Daemon::start(&config);
    // Others may come as far as the socket and the executable.
    fs::set_permissions(daemon.folder(), Permissions::from_mode(0o711)).unwrap();
    fs::set_permissions(daemon.socket(), Permissions::from_mode(0o666)).unwrap();
    let executable = copy_of_supervisor(daemon.folder());
    for (arguments, is_allowed) in [
        (&["generate", "x"][..], true),
        (&["status"][..], true),
        (&["reload"][..], false),
        (&["drain"][..], false),
        (&["drain", "--undo"][..], false),
        (&["restart"][..], false),
        (&["stop", "--now"][..], false),
    ] {
        let mut client = command(&executable);
        client.args(arguments).env("SUPERVISOR_SOCKET", daemon.socket()).current_dir("/").uid(NOBODY).gid(NOBODY);
        let output = client.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let expected = if is_allowed { "" } else { "supervisor: only root and the daemon's own user may do that\n" };
        assert_eq!((output.status.code(), said.as_str()), (Some(i32::from(!is_allowed)), expected), "{arguments:?}");
    }
    // The one that has served is still there for a moment.
    let status = daemon.settle();
    assert_eq!((lives(&status.models[0]), status.state.as_str()), (vec![(0, 2)], "serving"), "nothing has happened");
}

#[test]
fn who_has_asked_for_nothing_for_long_makes_place() {
    const MOST: usize = 256;
    let daemon = Daemon::start(&model("builtin:echo?token_us=10000", "workers = 1"));
    let mut busy = daemon.client();
    let mut running =
        Running::begin(&mut busy, GenerateRequest { ignore_end: true, ..GenerateRequest::raw("endless") }).unwrap();
    let _idle: Vec<Client> = (1..MOST).map(|_| daemon.client()).collect();
    let Err(ClientError::Failed(failure)) = daemon.client().status() else { panic!("there is a place") };
    assert_eq!((failure.kind, failure.retry_after_ms), (FailureKind::Busy, Some(1000)));
    until("there is a place", LIMIT, || daemon.client().status().is_ok());
    assert!(running.read(running.tokens().len() + 3).unwrap(), "who waits for something keeps it");
}
