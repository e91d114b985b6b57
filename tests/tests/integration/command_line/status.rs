//! `supervisor status`.
use super::echo;
use integration_tests::{Call, LIMIT, Running, Signal, until};
use ipc::GenerateRequest;
use serde_json::Value;

#[test]
fn the_table_shows_every_worker() {
    let daemon = echo("");
    let ended = Call::new(["status"]).to(daemon.socket()).run();
    assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""));
    let status = daemon.status();
    let head = format!("supervisor {}, pid {}, up ", env!("CARGO_PKG_VERSION"), daemon.pid());
    assert!(ended.stdout.starts_with(&head), "{}", ended.stdout);
    assert!(ended.stdout.contains("\necho: warm\n"), "{}", ended.stdout);
    let template = status.models[0].template.as_ref().unwrap().pid;
    let worker = status.models[0].workers[0].pid.unwrap();
    assert!(ended.stdout.contains(&format!("pid {template}, loaded in")), "{}", ended.stdout);
    let row = ended.stdout.lines().find(|line| line.contains(&worker.to_string())).unwrap();
    assert!(row.contains("idle"), "{row}");
    assert!(!ended.stdout.contains('\x1b'), "what is no terminal gets no control characters");
}

/// The keys of a value that must be there, each of which may hold more.
fn has(value: &Value, keys: &[&str]) {
    for key in keys {
        assert!(value.get(key).is_some(), "{key:?} is missing in {value:#}");
    }
}

#[test]
fn json_has_the_shape_that_is_promised() {
    let daemon = echo("token_us=1000");
    let mut client = daemon.client();
    let running =
        Running::begin(&mut client, GenerateRequest { ignore_end: true, ..GenerateRequest::raw("x") }).unwrap();
    let request = running.request().to_string();
    let victim = daemon.pid_of(running.request());
    integration_tests::process::kill(victim, Signal::SIGKILL);
    daemon.until_model("a crash is shown and all is well again", |model| {
        let busy = |worker: &ipc::status::WorkerStatus| worker.state == "busy" && worker.private_bytes.is_some();
        model.last_crash.is_some() && model.workers.iter().any(busy)
    });
    let ended = Call::new(["status", "--json"]).to(daemon.socket()).run();
    assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""));
    let value: Value = serde_json::from_str(&ended.stdout).unwrap();
    has(&value, &["version", "pid", "uptime_s", "cores", "models"]);
    let model = &value["models"][0];
    has(
        model,
        &["name", "kind", "state", "path", "architecture", "template", "queue", "workers", "totals", "last_crash"],
    );
    has(&model["template"], &["pid", "load_s", "pss_bytes", "generation"]);
    has(&model["queue"], &["length", "limit", "oldest_s"]);
    let busy = model["workers"].as_array().unwrap().iter().find(|worker| worker["state"] == "busy").unwrap();
    let keys = ["slot", "generation", "pid", "state", "request", "phase", "age_s", "tokens", "tokens_per_s", "threads"];
    has(busy, &keys);
    has(busy, &["private_bytes", "sandbox"]);
    let totals = ["accepted", "answered", "refused", "failed", "cancelled", "timed_out", "replayed", "resumed"];
    has(&model["totals"], &totals);
    has(&model["totals"], &["worker_exits", "worker_crashes"]);
    has(&model["last_crash"], &["pid", "slot", "cause", "at", "request", "stderr"]);

    assert_eq!((&value["version"], &value["pid"]), (&env!("CARGO_PKG_VERSION").into(), &daemon.pid().into()));
    assert_eq!(
        (&model["kind"], &model["state"], &model["path"]),
        (&"generate".into(), &"warm".into(), &"builtin:echo?token_us=1000".into())
    );
    assert_eq!((&busy["request"], &busy["generation"]), (&request.as_str().into(), &2.into()));
    let crash = &model["last_crash"];
    assert_eq!(
        (&crash["pid"], &crash["slot"], &crash["request"]),
        (&victim.into(), &0.into(), &request.as_str().into())
    );
    assert_eq!(crash["cause"], "signal 9 (SIGKILL)");
    assert!(crash["at"].as_str().is_some_and(|at| at.ends_with('Z') && at.as_bytes()[10] == b'T'), "{crash}");
}

#[test]
fn a_watched_status_is_shown_again_until_it_is_interrupted() {
    let daemon = echo("");
    let call = Call::new(["status", "--watch"]).to(daemon.socket()).start();
    let head = format!("supervisor {}, pid {}, up ", env!("CARGO_PKG_VERSION"), daemon.pid());
    until("two pages have been printed", LIMIT, || call.stdout().matches(&head).count() >= 2);
    call.signal(Signal::SIGINT);
    let ended = call.wait();
    assert_eq!((ended.code(), ended.stderr.as_str()), (130, ""));
    assert!(!ended.stdout.contains('\x1b'), "what is no terminal gets no control characters");
}

#[test]
fn a_watched_daemon_may_go_away() {
    let daemon = echo("");
    let call = Call::new(["status", "--watch"]).to(daemon.socket()).start();
    until("a page has been printed", LIMIT, || call.stdout().contains("echo: warm"));
    daemon.signal(Signal::SIGTERM);
    until("the watcher says so", LIMIT, || call.stdout().contains("no daemon at"));
    call.signal(Signal::SIGINT);
    assert_eq!(call.wait().code(), 130);
}
