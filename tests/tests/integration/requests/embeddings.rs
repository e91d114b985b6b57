//! Batches of texts that become vectors: in order, without gaps, whatever happens to the workers
//! that compute their parts.
use integration_tests::{Daemon, Signal, Wire, process, vector_of};
use ipc::{EmbedRequest, Embedded, Failure, FailureKind, Request, Response, TextRole, TokenizeRequest, status::Status};

const DIMENSIONS: usize = 5;
/// Workers of many requests.
const WORKER: &str = "isolation = \"worker\"";

fn daemon(script: &str, settings: &str) -> Daemon {
    let join = if script.contains('?') { '&' } else { '?' };
    Daemon::scripted(&format!("{script}{join}embed={DIMENSIONS}"), settings)
}

fn texts(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("text number {number}")).collect()
}

fn request(texts: &[String]) -> Request {
    Request::Embed(Box::new(EmbedRequest { model: None, texts: texts.to_vec(), role: TextRole::Plain }))
}

/// Reads the answer to a batch: its vectors, each of which must come in its turn, and how it ended.
#[track_caller]
fn read(wire: &mut Wire) -> (Vec<Vec<f32>>, Result<Embedded, Failure>) {
    let mut all = Vec::new();
    loop {
        match wire.receive() {
            Some(Response::Accepted { .. }) => assert!(all.is_empty()),
            Some(Response::Vectors { first, vectors }) => {
                assert_eq!(first as usize, all.len(), "a gap");
                all.extend(vectors);
            }
            Some(Response::Embedded(embedded)) => return (all, Ok(embedded)),
            Some(Response::Failed(failure)) => return (all, Err(failure)),
            other => panic!("{other:?}"),
        }
    }
}

#[track_caller]
fn embed(daemon: &Daemon, texts: &[String]) -> (Vec<Vec<f32>>, Result<Embedded, Failure>) {
    let mut wire = Wire::connect(daemon);
    wire.send(&request(texts));
    read(&mut wire)
}

/// Asks, and requires the vectors that these texts have.
#[track_caller]
fn embed_well(daemon: &Daemon, texts: &[String]) -> Embedded {
    let (vectors, end) = embed(daemon, texts);
    let embedded = end.unwrap();
    check(&vectors, texts);
    assert_eq!(embedded.texts as usize, texts.len());
    assert_eq!(embedded.tokens, texts.iter().map(|text| text.len() as u64).sum::<u64>());
    embedded
}

#[track_caller]
fn check(vectors: &[Vec<f32>], texts: &[String]) {
    let right: Vec<_> = texts.iter().map(|text| vector_of(text, DIMENSIONS)).collect();
    assert_eq!(vectors, right);
}

#[test]
fn batches_of_all_sizes_come_back_in_order() {
    for isolation in ["isolation = \"worker\"", "isolation = \"request\""] {
        let daemon = daemon("ok", &format!("workers = 3\n{isolation}"));
        for (count, parts) in [(1, 1), (7, 1), (8, 2), (30, 3), (200, 7)] {
            let embedded = embed_well(&daemon, &texts(count));
            assert_eq!((embedded.parts, embedded.attempts), (parts, parts), "{count} texts");
        }
        let model = daemon.model();
        assert_eq!((model.kind.as_str(), model.totals.answered, model.totals.worker_crashes), ("embed", 5, 0));
    }
}

#[test]
fn a_text_may_be_empty_or_long() {
    let daemon = daemon("ok", &format!("workers = 2\n{WORKER}"));
    let long = ["", "x", &"y".repeat(100_000), &"z".repeat(100_000), "", "\u{1f980}"].map(str::to_owned);
    assert_eq!(embed_well(&daemon, &long).parts, 4);
}

#[test]
fn a_batch_runs_on_all_idle_workers() {
    let daemon = daemon("ok?text_us=2000", &format!("workers = 3\n{WORKER}"));
    let wire = Wire::connect(&daemon);
    wire.send(&request(&texts(3000)));
    let busy = |status: &Status| {
        status.models[0].workers.iter().filter(|worker| worker.phase.as_deref() == Some("embed")).count() == 3
    };
    let status = daemon.until("all of them embed", busy);
    assert!(status.models[0].workers.iter().all(|worker| worker.request.as_deref() == Some("req-1")), "{status:#?}");
    drop(wire);
    let idle = daemon.until_model("all have stopped", |model| model.workers.iter().all(|w| w.state == "idle"));
    assert_eq!((idle.totals.cancelled, idle.totals.worker_crashes), (1, 0));
    assert_eq!(embed_well(&daemon, &texts(20)).texts, 20);
}

#[test]
fn a_small_batch_does_not_wait_for_a_large_one_that_came_before() {
    let daemon = daemon("ok?text_us=1000", &format!("workers = 1\n{WORKER}"));
    let wire = Wire::connect(&daemon);
    wire.send(&request(&texts(20_000)));
    daemon.until_model("it is begun", |model| model.workers[0].state == "busy");
    embed_well(&daemon, &texts(5));
    let model = daemon.model();
    assert_eq!((model.totals.answered, model.queue.length), (1, 0), "the large one is still there");
    assert_eq!(model.workers[0].request.as_deref(), Some("req-1"));
}

#[test]
fn a_part_whose_worker_dies_is_computed_again_alone() {
    for isolation in ["isolation = \"worker\"", "isolation = \"request\""] {
        for moment in ["start", "0", "3", "answer"] {
            let daemon = daemon(&format!("kill@{moment}?times=2"), &format!("workers = 2\n{isolation}"));
            let embedded = embed_well(&daemon, &texts(48));
            assert_eq!((embedded.parts, embedded.attempts), (2, if moment == "answer" { 2 } else { 4 }), "{moment}");
        }
    }
}

#[test]
fn a_real_kill_loses_no_vector() {
    let daemon = daemon("ok?text_us=1000", &format!("workers = 2\n{WORKER}"));
    let mut wire = Wire::connect(&daemon);
    let texts = texts(400);
    wire.send(&request(&texts));
    let mut killed = Vec::new();
    for _ in 0..2 {
        let next = |status: &Status| {
            let busy = status.models[0].workers.iter().filter(|worker| worker.phase.as_deref() == Some("embed"));
            busy.filter_map(|worker| worker.pid).find(|pid| !killed.contains(pid))
        };
        let status = daemon.until("a worker embeds", |status| next(status).is_some());
        killed.extend(next(&status));
        process::kill(killed[killed.len() - 1], Signal::SIGKILL);
    }
    let (vectors, end) = read(&mut wire);
    check(&vectors, &texts);
    let embedded = end.unwrap();
    assert_eq!((embedded.parts, embedded.tokens), (13, texts.iter().map(|text| text.len() as u64).sum()));
    assert_eq!(daemon.model().totals.worker_crashes, 2);
}

#[test]
fn a_text_that_kills_each_worker_ends_its_batch_and_is_remembered() {
    let daemon = daemon("ok", &format!("workers = 2\n{WORKER}"));
    let mut batch = texts(40);
    batch[33] = "!kill@0".to_owned();
    let (vectors, end) = embed(&daemon, &batch);
    let failure = end.unwrap_err();
    assert_eq!(failure.kind, FailureKind::WorkersDied);
    check(&vectors, &batch[..vectors.len()]);
    assert!(vectors.len() <= 20);
    assert_eq!(embed(&daemon, &batch).1.unwrap_err().kind, FailureKind::Poisonous);
    daemon.settle();
    embed_well(&daemon, &texts(40));
}

#[test]
fn what_cannot_be_true_is_not_passed_on() {
    for lie in ["vector-gap", "vector-nan", "vector-short", "vectors-many", "embedded-early", "many-ids"] {
        let daemon = daemon(&format!("{lie}@3?times=1"), &format!("workers = 2\n{WORKER}"));
        let embedded = embed_well(&daemon, &texts(20));
        assert_eq!(embedded.attempts, embedded.parts + 1, "{lie}");
        assert_eq!(daemon.model().totals.worker_crashes, 1, "{lie}");
    }
}

#[test]
fn a_client_that_does_not_listen_gets_nothing_begun_and_then_everything() {
    // 16 KiB for each vector, so that a part is half a megabyte.
    let daemon = Daemon::scripted("ok?embed=4096", &format!("workers = 2\n{WORKER}"));
    let texts = texts(2_000);
    let mut wire = Wire::connect(&daemon);
    wire.send(&request(&texts));
    let model = daemon.until_model("nothing is computed for it any more", |model| model.queue.length == 1);
    assert_eq!((model.totals.answered, model.totals.cancelled), (0, 0));
    let taken = process::resident(daemon.pid()).unwrap();
    assert!(taken < 64 << 20, "{taken} bytes");
    let (vectors, end) = read(&mut wire);
    assert_eq!(end.unwrap().texts, 2_000);
    assert!(vectors.iter().zip(&texts).all(|(vector, text)| *vector == vector_of(text, 4096)));
}

#[test]
fn requests_of_the_wrong_kind_are_refused_by_name() {
    let text = || vec!["text".to_owned()];
    let generating = Daemon::scripted("ok", "workers = 1");
    let failure = embed(&generating, &text()).1.unwrap_err();
    assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::UnknownModel, "no model here makes vectors"));
    let failure = embed(&generating, &[]).1.unwrap_err();
    assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::BadRequest, "there are no texts to embed"));
    let mut wire = Wire::connect(&generating);
    wire.send(&Request::Embed(Box::new(EmbedRequest {
        model: Some("bad".into()),
        texts: text(),
        role: TextRole::Query,
    })));
    let Some(Response::Failed(failure)) = wire.receive() else { panic!("served") };
    assert_eq!(failure.message, "the model bad cannot do that, and no other here makes vectors");
}

#[test]
fn a_text_is_tokenised_by_a_model_of_either_kind() {
    for script in ["ok", "ok?embed=3"] {
        let daemon = Daemon::scripted(script, "workers = 1");
        let mut wire = Wire::connect(&daemon);
        wire.send(&Request::Tokenize(Box::new(TokenizeRequest { model: None, text: "abc".into(), special: false })));
        assert!(matches!(wire.receive(), Some(Response::Accepted { .. })));
        assert_eq!(wire.receive(), Some(Response::Tokenized { ids: vec![97, 98, 99] }));
        let text = "x".repeat(TokenizeRequest::LONGEST + 1);
        wire.send(&Request::Tokenize(Box::new(TokenizeRequest { model: None, text, special: false })));
        let Some(Response::Failed(failure)) = wire.receive() else { panic!("served") };
        assert_eq!(failure.message, "the text has 2097134 bytes, but must have 2097133 at most");
        let text = "!many-ids?times=1".to_owned();
        wire.send(&Request::Tokenize(Box::new(TokenizeRequest { model: None, text: text.clone(), special: false })));
        assert!(matches!(wire.receive(), Some(Response::Accepted { .. })));
        assert_eq!(wire.receive(), Some(Response::Tokenized { ids: text.bytes().map(u32::from).collect() }));
    }
}
