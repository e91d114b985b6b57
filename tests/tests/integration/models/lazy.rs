//! Models that are loaded when they are asked for and let go when they are not.
use integration_tests::{Call, Daemon, LIMIT, Running, Signal, generate, process, until};
use ipc::{Client, ClientError, FailureKind, GenerateRequest, status::ModelStatus};
use std::thread;

fn text(daemon: &Daemon, text: &str) -> Result<String, ClientError> {
    generate(daemon, GenerateRequest::raw(text)).map(|answer| answer.text)
}

#[track_caller]
fn is_cold(daemon: &Daemon, model: &ModelStatus) {
    assert_eq!((model.state.as_str(), model.workers.len()), ("cold", 0), "{model:?}");
    assert_eq!((&model.template, &model.last_crash, &model.error), (&None, &None, &None));
    until("its processes have gone", LIMIT, || process::children(daemon.pid()).is_empty());
}

#[test]
fn a_lazy_model_is_loaded_once_by_whoever_asks_first() {
    let daemon = Daemon::start(
        "[[model]]\nname = \"echo\"\npath = \"builtin:echo?load_ms=300&token_us=100\"\nworkers = 2\nload = \"lazy\"\n",
    );
    for _ in 0..20 {
        is_cold(&daemon, &daemon.model());
    }
    let page = Call::new(["status"]).to(daemon.socket()).run();
    assert!(page.stdout.contains("echo: cold"), "{page:?}");
    thread::scope(|scope| {
        let ask = || text(&daemon, "all at once").unwrap();
        let clients: Vec<_> = (0..6).map(|_| scope.spawn(ask)).collect();
        daemon.until_model("they wait", |model| model.state == "loading" && model.queue.length == 6);
        for client in clients {
            assert_eq!(client.join().unwrap(), "all at once");
        }
    });
    let model = daemon.model();
    assert_eq!((model.state.as_str(), model.template.map(|template| template.generation)), ("warm", Some(1)));
    assert_eq!((model.totals.answered, model.totals.timed_out), (6, 0));
}

#[test]
fn loading_takes_no_time_from_the_queue() {
    let daemon = Daemon::start(
        "[[model]]\nname = \"echo\"\npath = \"builtin:echo?load_ms=1500\"\nworkers = 1\nload = \"lazy\"\n\
         [supervisor]\nqueue_timeout = \"1s\"\n",
    );
    assert_eq!(text(&daemon, "patience").unwrap(), "patience");
}

#[test]
fn a_model_that_nobody_asks_for_is_let_go_and_comes_back() {
    for load in ["eager", "lazy"] {
        let settings = format!("workers = 2\nload = \"{load}\"\nidle_unload = \"100ms\"");
        let daemon = Daemon::launch_scripted("ok", &settings);
        let cold = |model: &ModelStatus| model.state == "cold" && model.template.is_none() && model.workers.is_empty();
        let is_loaded = u64::from(load == "eager");
        for round in 0..3 {
            is_cold(&daemon, &daemon.until_model("it is let go", cold));
            assert_eq!(text(&daemon, "again").unwrap(), "again");
            let model = daemon.until_model("it is let go", cold);
            assert_eq!(model.totals.answered, round + 1);
            assert_eq!(model.totals.worker_crashes, 0, "to be let go is no crash");
        }
        // The log is written a moment later.
        let loaded = || daemon.log().lines().filter(|line| line.contains("loading")).count() as u64;
        until("each load is in the log", LIMIT, || loaded() >= 3 + is_loaded);
        assert_eq!(loaded(), 3 + is_loaded, "{load}");
    }
}

#[test]
fn a_model_that_serves_is_not_let_go() {
    let daemon = Daemon::scripted("ok?token_us=5000", "workers = 1\nidle_unload = \"20ms\"\nload = \"lazy\"");
    let words = "a text that takes ten times as long as the model may be idle";
    assert_eq!(text(&daemon, words).unwrap(), words);
}

#[test]
fn a_load_that_fails_is_told_to_those_who_wait_and_tried_again_for_others() {
    let daemon = Daemon::scripted("fail@load?times=1", "workers = 1\nload = \"lazy\"");
    is_cold(&daemon, &daemon.model());
    match text(&daemon, "text") {
        Err(ClientError::Failed(failure)) => {
            assert_eq!(failure.kind, FailureKind::Unavailable);
            let words = "the model bad cannot be served now: this model fails to load as its script says";
            assert_eq!(failure.message, words);
            assert!(failure.retry_after_ms.is_some());
        }
        other => panic!("served by nobody: {other:?}"),
    }
    let model = daemon.model();
    assert_eq!(model.state, "failed", "the daemon lives and says so");
    assert_eq!(model.error.as_deref(), Some("this model fails to load as its script says"));
    let mut last = None;
    until("it is loaded for somebody else", LIMIT, || {
        last = text(&daemon, "text").ok();
        last.is_some()
    });
    assert_eq!(last.as_deref(), Some("text"));
    assert_eq!(daemon.model().template.map(|template| template.generation), Some(2));
}

#[test]
fn a_daemon_of_models_that_are_not_loaded_stops_like_any_other() {
    let mut daemon = Daemon::scripted("ok", "load = \"lazy\"");
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn an_eager_model_that_fails_does_not_end_a_daemon_that_may_still_serve() {
    let lazy = "[[model]]\nname = \"lazy\"\npath = \"builtin:echo\"\nload = \"lazy\"\nworkers = 1\n";
    let failed = "[[model]]\nname = \"failed\"\npath = \"/nowhere\"\n";
    let daemon = Daemon::launch(&format!("{failed}{lazy}"), &[]);
    daemon.until("one has failed", |status| status.models[0].state == "failed");
    let mut client: Client = daemon.client();
    let request = GenerateRequest { model: Some("lazy".to_owned()), ..GenerateRequest::raw("served") };
    assert_eq!(Running::begin(&mut client, request).unwrap().finish().unwrap().text, "served");
}
