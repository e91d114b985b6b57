//! What else is in the log: one line for what happens, and not one each time for what happens again
//! and again.
use super::{all, number, text};
use integration_tests::{Call, Daemon, LIMIT, Signal, generate, process, until};
use ipc::GenerateRequest;

#[test]
fn a_crash_loop_is_told_of_but_not_each_time() {
    // Each worker says hello and dies.
    let daemon = Daemon::launch_scripted("kill@idle", "workers = 1\n[supervisor]\nlog_format = \"json\"");
    daemon.until_model("many have died", |model| model.totals.worker_crashes > 100);
    let lines = all(&daemon);
    let crashes: Vec<_> = lines.iter().filter(|line| text(line, "message").starts_with("a worker has ended")).collect();
    assert_eq!(crashes.len(), 10, "{crashes:#?}");
    assert!(number(crashes[9], "more_left_out_for_s") > 0.0, "{crashes:#?}");
}

#[test]
fn all_that_a_reload_has_changed_is_told() {
    const MODELS: usize = 14;
    let model = |number, workers| {
        format!("[[model]]\nname = \"m{number}\"\npath = \"builtin:echo\"\nload = \"lazy\"\nworkers = {workers}\n")
    };
    let config = |workers| (0..MODELS).map(|number| model(number, workers)).collect::<String>();
    let daemon = Daemon::start(&config(1));
    for workers in [2, 1] {
        daemon.configure(&config(workers));
        assert_eq!(Call::new(["reload"]).to(daemon.socket()).run().code(), 0);
    }
    // There are more than of lines that nobody has asked for, which are written ten times a minute.
    until("all is told", LIMIT, || daemon.log().matches("reloaded: ").count() == 2 * MODELS);
}

#[test]
fn nothing_that_a_model_or_a_worker_says_passes_for_a_line() {
    let daemon = Daemon::scripted("noise@go?times=1", "workers = 1");
    generate(
        &daemon,
        GenerateRequest { model: Some("x\n2026 ERROR fake\u{1b}[2J".to_owned()), ..GenerateRequest::raw("x") },
    )
    .unwrap_err();
    process::kill(daemon.model().template.unwrap().pid, Signal::SIGKILL);
    until("the template's end is told", LIMIT, || daemon.log().contains("the template has ended"));
    let log = daemon.log();
    assert!(log.contains("a worker has ended") && log.contains("fake"), "{log}");
    for line in log.lines() {
        let (time, _) = line.split_once(' ').unwrap_or_default();
        assert!(time.starts_with("20") && time.ends_with('Z'), "{line:?}");
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}
