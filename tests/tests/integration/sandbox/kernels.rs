//! Kernels that lack something.
use super::failure;
use integration_tests::{Call, Daemon, bad_worker, generate, model, process, skipped};
use ipc::{FailureKind, GenerateRequest};
use std::fs;
use system::sandbox::has_landlock;

const REQUIRED: &str = "[supervisor]\nsandbox = \"require-landlock\"\n";

#[test]
fn without_landlock_seccomp_confines_alone() {
    let daemon = Daemon::launch_without("landlock", &model("builtin:pocket", "workers = 2"), &[]);
    daemon.settle();
    let finished = generate(&daemon, GenerateRequest { max_tokens: Some(5), ..GenerateRequest::raw("One morning") });
    assert_eq!(finished.unwrap().done.attempts, 1);
    let model = daemon.settle().models.remove(0);
    assert_eq!(model.template.unwrap().sandbox.as_deref(), Some("seccomp"));
    let confined: Vec<_> = model.workers.iter().map(|worker| worker.sandbox.as_deref()).collect();
    assert_eq!(confined, [Some("seccomp"); 2]);
}

#[test]
fn landlock_that_is_required_and_not_there_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    fs::write(&file, REQUIRED).unwrap();
    let ended = Call::without("landlock", ["run", "--config", file.to_str().unwrap()]).run();
    assert_eq!((ended.code(), ended.stdout.as_str()), (2, ""));
    assert_eq!(
        ended.complaint(),
        "supervisor: this kernel has no Landlock, and the configuration says sandbox = \"require-landlock\"; \
         sandbox = \"on\" does with seccomp alone"
    );
}

#[test]
fn landlock_that_is_required_and_there_confines() {
    if !has_landlock() {
        skipped("this kernel has no Landlock");
        return;
    }
    let daemon = Daemon::start(&format!("{REQUIRED}{}", model("builtin:echo", "workers = 1")));
    let model = daemon.model();
    assert_eq!(model.state, "warm");
    assert_eq!(model.template.unwrap().sandbox.as_deref(), Some("seccomp+landlock"));
    assert_eq!(model.workers[0].sandbox.as_deref(), Some("seccomp+landlock"));
}

#[test]
fn a_template_that_says_it_is_not_confined_is_refused_where_landlock_is_required() {
    if !has_landlock() {
        skipped("this kernel has no Landlock");
        return;
    }
    let good = model("script:ok?confine=both", "workers = 1");
    let bad = "[[model]]\nname = \"bad\"\npath = \"script:ok\"\nworkers = 1\n";
    let arguments = ["--template-executable", &bad_worker().to_string_lossy()];
    let daemon = Daemon::with(&format!("{REQUIRED}{good}{bad}"), &arguments);
    let status = daemon.status();
    assert_eq!((status.models[0].state.as_str(), status.models[1].state.as_str()), ("warm", "failed"));
    assert_eq!(
        status.models[1].error.as_deref(),
        Some("Landlock does not confine it, and the configuration says sandbox = \"require-landlock\"")
    );
}

#[test]
fn without_seccomp_nothing_is_served() {
    const WHY: &str = "cannot load the model builtin:echo: its process cannot be confined: the kernel refuses the filter of system calls: \
                       Function not implemented (os error 38)";
    let mut daemon = Daemon::launch_without("seccomp", &model("builtin:echo", "workers = 1"), &[]);
    assert_eq!(daemon.wait().code(), Some(1));
    assert!(daemon.log().contains(&format!("nothing can be served: model: {WHY}")), "{}", daemon.log());

    let daemon = Daemon::launch_without("seccomp", &model("builtin:echo", "workers = 1\nload = \"lazy\""), &[]);
    daemon.settle();
    let refused = failure(generate(&daemon, GenerateRequest::raw("some words")));
    assert_eq!(refused.kind, FailureKind::Unavailable, "{}", refused.message);
    assert_eq!(daemon.model().error.as_deref(), Some(WHY));
}

#[test]
fn workers_that_cannot_be_confined_do_not_serve_and_are_given_up() {
    // Its template is not confined, so that the failure is the worker's.
    let config = model("script:ok?confine=worker", "workers = 1");
    let arguments = ["--template-executable", &bad_worker().to_string_lossy()];
    let daemon = Daemon::launch_without("seccomp", &config, &arguments);
    let model = daemon.until_model("it is given up", |model| model.state == "parked");
    assert!(model.workers.iter().all(|worker| worker.state != "idle"), "{model:?}");
    let crash = model.last_crash.unwrap();
    assert_eq!(crash.cause, "exit status 102 (it could not be confined)");
    let why = "bad-worker: cannot be confined: the kernel refuses the filter of system calls: Function not implemented (os error 38)";
    assert_eq!(crash.stderr, [why]);
}

/// A daemon on a kernel without this does all the same, and its processes have what they are to have.
fn serves_without(what: &str) {
    let daemon = Daemon::launch_without(what, &model("builtin:pocket", "workers = 1\nisolation = \"worker\""), &[]);
    daemon.settle();
    let finished = generate(&daemon, GenerateRequest { max_tokens: Some(5), ..GenerateRequest::raw("One morning") });
    assert_eq!(finished.unwrap().done.attempts, 1, "{what}");
    let model = daemon.settle().models.remove(0);
    let worker = model.workers[0].pid.unwrap();
    if !process::may_look_into(worker) {
        return;
    }
    // Nothing is inherited: the standard ones, and the socket.
    for (pid, others) in [(worker, 0), (model.template.unwrap().pid, 2)] {
        assert_eq!(process::descriptors(pid).len(), 4 + others, "{what}: {:?}", process::descriptors(pid));
    }
}

#[test]
fn descriptors_are_closed_without_close_range_too() {
    serves_without("close_range");
    serves_without("close_range=EPERM");
}

#[test]
fn linux_5_4_is_enough() {
    serves_without("newer-than-5.4");
    // The demonstration is a client, and kills.
    let ended = Call::without("newer-than-5.4", ["demo", "--fast"]).run();
    assert_eq!(ended.code(), 0, "{ended:?}");
}

#[test]
fn a_call_that_is_needed_is_named_with_the_remedy() {
    for (what, call, error) in [
        ("pidfd_open", "pidfd_open", "Function not implemented (os error 38)"),
        ("pidfd_open=EPERM", "pidfd_open", "Operation not permitted (os error 1)"),
        ("pidfd_send_signal", "pidfd_send_signal", "Function not implemented (os error 38)"),
        ("memfd_create=EPERM", "memfd_create", "Operation not permitted (os error 1)"),
        ("waitid", "waitid of a pidfd", "Function not implemented (os error 38)"),
    ] {
        let mut daemon = Daemon::launch_without(what, &model("builtin:echo", "workers = 1"), &[]);
        assert_eq!(daemon.wait().code(), Some(1));
        let expected = format!(
            "supervisor: cannot start: the system call {call} is denied or not known: Linux 5.4 or newer is needed, and in a container a \
             profile that allows the call: {error}"
        );
        assert!(daemon.log().lines().any(|line| line == expected), "{}", daemon.log());
    }
    // A C library that is newer than the container's profile.
    let mut daemon = Daemon::launch_without("clone3=EPERM", &model("builtin:echo", "workers = 1"), &[]);
    let said = "supervisor: cannot start the log: cannot start a thread to write the log: a filter of system calls denies clone3 ";
    if daemon.wait().success() || !daemon.log().contains(said) {
        panic!("{}", daemon.log());
    }
}
