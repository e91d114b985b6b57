//! Templates that die at each step of a fork, workers that die before they serve, models that do
//! not load.
use integration_tests::{Daemon, Signal, generate, process};
use ipc::{ClientError, FailureKind, GenerateRequest};
use std::thread;

#[track_caller]
fn assert_serves(daemon: &Daemon) {
    let finished = generate(daemon, GenerateRequest::raw("some words")).unwrap();
    assert_eq!((finished.text.as_str(), finished.done.attempts), ("some words", 1));
    daemon.has_only_its_own();
}

#[test]
fn a_template_killed_at_any_step_of_a_fork_is_replaced() {
    for step in ["asked", "known", "told"] {
        let daemon = Daemon::scripted(&format!("kill@{step}?times=1"), "workers = 2");
        assert_serves(&daemon);
        let model = daemon.model();
        assert_eq!(model.template.as_ref().map(|template| template.generation), Some(2), "{step}");
        let crash = model.last_crash.unwrap();
        let cause = "signal 9 (SIGKILL), most likely because the kernel had no memory left";
        assert_eq!((crash.cause.as_str(), crash.slot, crash.request), (cause, None, None), "{step}");
    }
}

#[test]
fn a_template_killed_while_its_child_forks_is_replaced() {
    for step in ["between", "born"] {
        let daemon = Daemon::scripted(&format!("kill-parent@{step}?times=1"), "workers = 2");
        assert_serves(&daemon);
        assert_eq!(daemon.model().template.unwrap().generation, 2, "{step}");
    }
}

#[test]
fn a_child_in_between_that_dies_before_it_forks_costs_one_fork() {
    // Once the worker lives, the template knows its pid.
    for (step, expected) in [("between", 3), ("born", 2)] {
        let daemon = Daemon::scripted(&format!("kill@{step}?times=1"), "workers = 2");
        let model = daemon.model();
        assert_eq!(model.template.unwrap().generation, 1, "{step}");
        let lives: u64 = model.workers.iter().map(|worker| worker.generation).sum();
        assert_eq!(lives, expected, "{step}: of two slots, one has had a second life at most");
        assert_serves(&daemon);
    }
}

#[test]
fn requests_are_answered_while_templates_and_forks_die() {
    for script in ["kill@asked", "kill@between", "kill@born", "kill@known", "kill@told", "kill-parent@born"] {
        // Not the first workers, and not too often to be given up.
        let daemon = Daemon::scripted(&format!("{script}?after=3&times=4"), "workers = 2");
        thread::scope(|scope| {
            for client in 0..3 {
                let daemon = &daemon;
                scope.spawn(move || {
                    for number in 0..4 {
                        let text = format!("client {client} asks number {number}");
                        let finished = generate(daemon, GenerateRequest::raw(&text)).unwrap();
                        assert_eq!((finished.text, finished.done.attempts), (text, 1), "{script}");
                    }
                });
            }
        });
        daemon.settle();
        daemon.has_only_its_own();
        let totals = daemon.model().totals;
        assert_eq!((totals.answered, totals.failed, totals.refused), (12, 0, 0), "{script}");
    }
}

#[test]
fn a_worker_that_dies_before_it_serves_is_replaced() {
    for script in [
        "kill@birth",
        "exit-0@birth",
        "panic@birth",
        "crash@go",
        "exit-7@go",
        "garbage@go",
        "huge@go",
        "wrong-version@go",
        "wrong-request@go",
        "kill@idle",
        "hello@idle",
        "garbage@idle",
        "cut-off@idle",
    ] {
        let daemon = Daemon::scripted(&format!("{script}?times=2"), "workers = 1");
        // An idle one that is about to die may still be given the request.
        let finished = generate(&daemon, GenerateRequest::raw("some words")).unwrap();
        assert_eq!(finished.text, "some words", "{script}");
        daemon.settle();
        daemon.has_only_its_own();
        assert_eq!(daemon.model().template.unwrap().generation, 1, "{script}");
    }
}

#[test]
fn a_worker_that_never_becomes_ready_is_given_up() {
    let daemon = Daemon::scripted("hang@go?times=1", "workers = 1");
    assert_serves(&daemon);
    let crash = daemon.model().last_crash.unwrap();
    assert_eq!(crash.cause, "signal 9 (SIGKILL): it did not become ready in time");
}

#[test]
fn a_template_that_is_stuck_in_a_fork_is_replaced() {
    thread::scope(|scope| {
        for step in ["asked", "between", "born", "known"] {
            scope.spawn(move || {
                let daemon = Daemon::scripted(&format!("hang@{step}?times=1"), "workers = 2");
                assert_serves(&daemon);
                assert_eq!(daemon.model().template.unwrap().generation, 2, "{step}");
            });
        }
    });
}

#[test]
fn a_crash_loop_parks_the_model_and_says_so() {
    for script in ["kill@birth", "kill@asked", "kill@between"] {
        let daemon = Daemon::scripted(script, "workers = 1");
        let model = daemon.until_model("the model is parked", |model| model.state == "parked");
        assert!(model.retry_in_s.is_some_and(|wait| wait > 0.0 && wait <= 30.0), "{script}: {model:?}");
        match generate(&daemon, GenerateRequest::raw("some words")) {
            Err(ClientError::Failed(failure)) => {
                assert_eq!(failure.kind, FailureKind::Unavailable);
                let text = "the model bad cannot be served now; `supervisor status` says why";
                assert_eq!(failure.message, text);
                assert!(failure.retry_after_ms.is_some_and(|wait| wait <= 30_000));
            }
            other => panic!("a parked model serves nobody: {other:?}"),
        }
        daemon.has_only_its_own();
    }
}

#[test]
fn a_template_that_dies_while_it_loads_is_loaded_again() {
    for script in ["kill@load", "exit-0@load", "exit-7@load", "panic@load"] {
        let daemon = Daemon::scripted(&format!("{script}?times=2"), "workers = 1");
        assert_serves(&daemon);
        assert_eq!(daemon.model().template.unwrap().generation, 3, "{script}");
    }
}

#[test]
fn what_cannot_be_loaded_at_all_ends_the_daemon() {
    let mut daemon = Daemon::launch_scripted("fail@load", "");
    assert_eq!(daemon.wait().code(), Some(1));
    let log = daemon.log();
    assert!(log.contains("nothing can be served: bad: this model fails to load as its script says"), "{log}");
}

#[test]
fn a_model_that_could_not_be_loaded_is_tried_again() {
    let daemon = Daemon::launch_scripted("fail@load?times=1&after=1", "workers = 1");
    daemon.settle();
    process::kill(daemon.model().template.unwrap().pid, Signal::SIGKILL);
    let model = daemon.until_model("loading has failed", |model| model.state == "failed");
    assert_eq!(model.error.as_deref(), Some("this model fails to load as its script says"));
    let served = |model: &ipc::status::ModelStatus| model.state == "warm" && model.error.is_none();
    assert_eq!(daemon.until_model("it is served", served).template.unwrap().generation, 3);
    daemon.settle();
    assert_serves(&daemon);
}

#[test]
fn a_daemon_told_to_stop_ends_also_what_does_not_want_to() {
    for script in ["linger@idle", "spin@idle", "hang@go", "hang@load", "linger@birth"] {
        let mut daemon = Daemon::launch_scripted(script, "workers = 2");
        let begun = |model: &ipc::status::ModelStatus| match script {
            "hang@load" => model.template.is_some(),
            _ => model.workers.iter().all(|worker| worker.pid.is_some()),
        };
        daemon.until_model("its processes live", begun);
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.wait().code(), Some(0), "{script}");
        assert_eq!(process::started_by(daemon.pid()), [0; 0], "{script}");
    }
}
