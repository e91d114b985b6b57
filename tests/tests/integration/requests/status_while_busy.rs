//! The status while requests run: asking for it disturbs nobody, and what it shows is what happens.
use integration_tests::{Daemon, Running, generate};
use ipc::{
    GenerateRequest,
    status::{Status, WorkerStatus},
};
use std::thread;

/// Two workers that take their time.
fn daemon() -> Daemon {
    Daemon::start("[[model]]\nname = \"echo\"\npath = \"builtin:echo?token_us=2000&prompt_us=2000\"\nworkers = 2\n")
}

/// Asserts what must hold of every status, and counts the busy workers.
#[track_caller]
fn check(status: &Status) -> usize {
    const MODEL_STATES: [&str; 5] = ["cold", "loading", "warm", "failed", "parked"];
    const WORKER_STATES: [&str; 6] = ["starting", "idle", "busy", "spare", "stopping", "waiting"];
    for model in &status.models {
        assert!(MODEL_STATES.contains(&model.state.as_str()), "{model:?}");
        assert!(model.queue.length <= model.queue.limit, "{model:?}");
        assert_eq!(model.totals.worker_crashes, 0);
        for worker in &model.workers {
            assert!(WORKER_STATES.contains(&worker.state.as_str()), "{worker:?}");
            let phases: &[Option<&str>] = match worker.request {
                // It may have ended its work and not been told so yet, or have not begun it.
                Some(_) => &[Some("idle"), Some("prompt"), Some("decode"), None],
                None => &[None],
            };
            assert!(phases.contains(&worker.phase.as_deref()), "{worker:?}");
            assert!(worker.request.is_some() || worker.tokens == 0, "{worker:?}");
            assert!(worker.state != "idle" || worker.request.is_none(), "{worker:?}");
        }
        // A slot has one life that serves and at most one that comes after it.
        for worker in &model.workers {
            let lives = model.workers.iter().filter(|other| other.slot == worker.slot);
            assert!(lives.count() <= 2 && worker.slot < 2, "{model:?}");
        }
    }
    status.models.iter().flat_map(|model| &model.workers).filter(|worker| worker.state == "busy").count()
}

#[test]
fn asking_for_the_status_again_and_again_disturbs_nobody() {
    let daemon = daemon();
    let text = "as if nobody looked ".repeat(25);
    thread::scope(|scope| {
        let ask = || generate(&daemon, GenerateRequest::raw(text.as_str())).unwrap();
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        daemon.until("both workers are at work", |status| check(status) == 2);
        let mut client = daemon.client();
        for _ in 0..200 {
            check(&client.status().unwrap());
            check(&daemon.status());
        }
        for client in clients {
            assert_eq!(client.join().unwrap().text, text);
        }
    });
    let totals = daemon.model().totals;
    assert_eq!((totals.accepted, totals.answered, totals.cancelled), (4, 4, 0));
}

#[test]
fn what_a_worker_does_is_shown_while_it_does_it() {
    let daemon = daemon();
    let prompt = "forty letters, which is more than a chunk";
    let request = GenerateRequest { ignore_end: true, ..GenerateRequest::raw(prompt) };
    let mut client = daemon.client();
    let running = Running::begin(&mut client, request).unwrap();
    let name = running.request().to_string();
    let find = |status: &Status| -> Option<WorkerStatus> {
        check(status);
        status.models[0].workers.iter().find(|worker| worker.request.as_ref() == Some(&name)).cloned()
    };
    let mut tokens = 0;
    let status = daemon.until("everything about it is known", |status| {
        find(status).is_some_and(|worker| {
            assert!(worker.tokens >= tokens, "{} tokens after {tokens}", worker.tokens);
            tokens = worker.tokens;
            worker.tokens > 100 && worker.tokens_per_s.is_some() && worker.private_bytes.is_some()
        })
    });
    let worker = find(&status).unwrap();
    assert_eq!((worker.state.as_str(), worker.phase.as_deref()), ("busy", Some("decode")));
    assert_eq!(worker.prompt_tokens as usize, prompt.len());
    assert_eq!(worker.threads, 1);
    // It waits 2 ms for each token; the bound is far from that, because nobody looks at an exact
    // time.
    let speed = worker.tokens_per_s.unwrap();
    assert!(speed > 0.0 && speed < 10_000.0, "{speed} tokens a second");
    let (private, shared) = (worker.private_bytes.unwrap(), worker.pss_bytes.unwrap());
    assert!((1 << 12..64 << 20).contains(&private), "{private} bytes");
    assert!(shared >= private, "{shared} bytes");
    assert!(worker.memory_age_s.is_some_and(|age| age >= 0.0) && worker.age_s >= 0.0);
    let confined = worker.sandbox.as_deref();
    assert!(matches!(confined, Some("seccomp+landlock" | "seccomp")), "{worker:?}");
    let spare = status.models[0].workers.iter().find(|other| other.slot == worker.slot && other.state == "spare");
    assert_eq!(spare.map(|spare| spare.generation), Some(worker.generation + 1), "{status:#?}");
    let template = status.models[0].template.as_ref().unwrap();
    assert_eq!(template.sandbox.as_deref(), confined);
    assert!(template.load_s.is_some() && template.pss_bytes.is_some_and(|bytes| bytes > 0), "{template:?}");
    drop(running);
    drop(client);

    let model = daemon.until_model("it is forgotten", |model| model.workers.iter().all(|w| w.state == "idle"));
    assert!(model.workers.iter().all(|worker| worker.tokens == 0 && worker.tokens_per_s.is_none()), "{model:?}");
}

#[test]
fn the_status_waits_for_nothing() {
    // Nothing of this model will ever be there.
    let never = "[[model]]\nname = \"never\"\npath = \"builtin:echo?load_ms=3600000\"\nworkers = 2\n";
    let failed = "[[model]]\nname = \"failed\"\npath = \"/nowhere\"\n";
    let daemon = Daemon::launch(&format!("{never}{failed}"), &[]);
    let status = daemon.until("one has failed", |status| status.models[1].state == "failed");
    check(&status);
    let model = &status.models[0];
    assert_eq!((model.state.as_str(), model.context, model.architecture.as_ref()), ("loading", None, None));
    assert!(model.template.as_ref().is_some_and(|template| template.load_s.is_none()), "{model:?}");
    assert!(model.workers.iter().all(|worker| worker.state == "waiting" && worker.pid.is_none()), "{model:?}");
    assert_eq!(model.workers.len(), 2);
}
