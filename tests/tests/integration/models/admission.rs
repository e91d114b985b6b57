//! Models that do not fit into the machine's memory, and what the others take of it.
use integration_tests::{Call, Daemon, bad_worker, generate};
use ipc::{ClientError, FailureKind, GenerateRequest};

/// A daemon with a small model, `good`, and one that claims to need so much, `bad`.
fn daemon(claims: &str) -> Daemon {
    let good = "[[model]]\nname = \"good\"\npath = \"script:ok?weights=1000000\"\nworkers = 1\n";
    let bad = format!("[[model]]\nname = \"bad\"\npath = \"script:ok?{claims}\"\nworkers = 2\n");
    Daemon::with(&format!("{good}{bad}"), &["--template-executable", &bad_worker().to_string_lossy()])
}

#[test]
fn a_model_that_does_not_fit_is_refused_with_the_arithmetic() {
    for (claims, words) in [
        (
            format!("cache={}", 1_u64 << 50),
            "it does not fit into memory: 0 B of weights and 2 x (64.0 MiB for a worker + 1.0 PiB for a request's cache) are 2.0 PiB, and ",
        ),
        (
            format!("weights={}", 1_u64 << 50),
            "it does not fit into memory: 1.0 PiB of weights and 2 x (64.0 MiB for a worker + 0 B for a request's cache) are 1.0 PiB, and ",
        ),
        (
            format!("weights={0}&cache={0}", u64::MAX),
            "it does not fit into memory: 16.0 EiB of weights and 2 x (64.0 MiB for a worker + 16.0 EiB for a request's cache) are 16.0 EiB, and ",
        ),
    ] {
        let daemon = daemon(&claims);
        let status = daemon.status();
        let (good, bad) = (&status.models[0], &status.models[1]);
        assert_eq!(
            (bad.state.as_str(), bad.workers.iter().filter(|worker| worker.pid.is_some()).count()),
            ("failed", 0)
        );
        let error = bad.error.as_deref().unwrap_or_default();
        assert!(error.starts_with(words), "{error}");
        assert!(error.ends_with(" are left by other models; set fewer workers or a smaller context"), "{error}");
        let request = GenerateRequest { model: Some("bad".to_owned()), ..GenerateRequest::raw("text") };
        match generate(&daemon, request) {
            Err(ClientError::Failed(failure)) => {
                assert_eq!(failure.kind, FailureKind::Unavailable);
                assert!(
                    failure.message.starts_with(&format!("the model bad cannot be served now: {words}")),
                    "{failure}"
                );
            }
            other => panic!("it is served: {other:?}"),
        }
        assert_eq!((good.state.as_str(), good.weights_bytes), ("warm", Some(1_000_000)));
        let request = GenerateRequest { model: Some("good".to_owned()), ..GenerateRequest::raw("text") };
        assert_eq!(generate(&daemon, request).unwrap().text, "text", "the other one is served");
    }
}

#[test]
fn a_model_that_says_what_it_needs_only_when_it_is_loaded_is_refused_then() {
    let daemon = daemon(&format!("weights={}&silent=1", 1_u64 << 50));
    let error = daemon.status().models[1].error.clone().unwrap_or_default();
    assert!(error.starts_with("it does not fit into memory: 1.0 PiB of weights and 2 x ("), "{error}");
}

#[test]
fn a_model_that_does_not_fit_is_not_read() {
    // One that is loaded says why that fails; one that is refused before never comes so far.
    let daemon = daemon(&format!("weights={}&prompt_us=x", 1_u64 << 50));
    let error = daemon.status().models[1].error.clone().unwrap_or_default();
    assert!(error.starts_with("it does not fit into memory: 1.0 PiB of weights and 2 x ("), "{error}");
}

#[test]
fn what_other_models_take_is_counted() {
    let good = "[[model]]\nname = \"good\"\npath = \"script:ok?weights=700000000\"\nworkers = 1\n";
    let bad = format!(
        "[[model]]\nname = \"bad\"\npath = \"script:ok?weights={}\"\nworkers = 1\nload = \"lazy\"\n",
        1_u64 << 50
    );
    let daemon = Daemon::with(&format!("{good}{bad}"), &["--template-executable", &bad_worker().to_string_lossy()]);
    assert_eq!(daemon.status().models[0].state, "warm");
    let request = GenerateRequest { model: Some("bad".to_owned()), ..GenerateRequest::raw("text") };
    let Err(ClientError::Failed(failure)) = generate(&daemon, request) else { panic!("it is served") };
    let (_, left) = failure.message.split_once(" are 1.0 PiB, and ").unwrap();
    let (left, of) = left.split_once(" are left").unwrap().0.split_once(" of ").unwrap();
    assert_ne!(left, of, "{failure}");
}

#[test]
fn a_daemon_whose_only_model_does_not_fit_says_so_and_ends() {
    let mut daemon = Daemon::launch_scripted(&format!("ok?cache={}", 1_u64 << 50), "workers = 1");
    assert_eq!(daemon.wait().code(), Some(1), "nothing can be served");
    let log = daemon.log();
    assert!(
        log.contains("supervisor: nothing can be served: bad: it does not fit into memory: 0 B of weights"),
        "{log}"
    );
}

#[test]
fn memory_is_shown_against_the_files() {
    let daemon = Daemon::scripted("ok?weights=2000000", "workers = 1");
    let sampled = daemon.until_model("memory is known", |model| {
        model.template.as_ref().is_some_and(|template| template.pss_bytes.is_some())
            && model.workers.iter().all(|worker| worker.private_bytes.is_some())
    });
    assert_eq!(sampled.weights_bytes, Some(2_000_000));
    let page = Call::new(["status"]).to(daemon.socket()).run().stdout;
    assert!(page.contains("  memory     2.0 MB of files, "), "{page}");
}
