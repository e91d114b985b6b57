//! A client that goes away frees its slot at once, and nobody is blamed for it.
use integration_tests::{Daemon, LIMIT, Running, generate, model, until};
use ipc::{BlockingEnd, GenerateRequest, MAX_FRAME, MAX_REQUEST, Request, Response, status::ModelStatus};
use std::{net::Shutdown, os::unix::net::UnixStream};

/// Longer than any test lasts.
const ENDLESS: &str = "builtin:echo?token_us=2000&context=1000000";

fn endless() -> GenerateRequest {
    GenerateRequest { ignore_end: true, ..GenerateRequest::raw("again and again") }
}

fn start(path: &str, isolation: &str) -> Daemon {
    Daemon::start(&model(path, &format!("workers = 1\nisolation = \"{isolation}\"")))
}

#[track_caller]
fn assert_no_crash(model: &ModelStatus, cancelled: u64) {
    let totals = model.totals;
    assert_eq!((totals.cancelled, totals.answered, totals.failed), (cancelled, 0, 0));
    assert_eq!((totals.worker_crashes, totals.replayed, totals.resumed), (0, 0, 0));
    assert_eq!(model.last_crash, None);
}

#[test]
fn leaving_while_the_answer_comes_frees_the_slot() {
    let daemon = start(ENDLESS, "request");
    let before = daemon.model().workers[0].pid;
    for number in 1..=5 {
        let mut client = daemon.client();
        let mut running = Running::begin(&mut client, endless()).unwrap();
        assert!(running.read(3).unwrap());
        drop(client);
        daemon.until_model("it is cancelled", |model| model.totals.cancelled == number);
        let model = daemon.settle().models.remove(0);
        assert_no_crash(&model, number);
        assert_ne!(model.workers[0].pid, before, "a process that has seen a request serves no other");
    }
    daemon.has_only_its_own();
}

#[test]
fn leaving_while_the_prompt_is_read_frees_the_slot() {
    let daemon = start("builtin:echo?prompt_us=20000&context=1000000", "request");
    let mut client = daemon.client();
    let running = Running::begin(&mut client, GenerateRequest::raw("p".repeat(200_000))).unwrap();
    let worker = daemon.worker_of(running.request());
    daemon.until_model("the prompt is being read", |model| model.workers[0].prompt_tokens > 0);
    assert_eq!(daemon.model().workers[0].phase.as_deref(), Some("prompt"));
    drop(client);
    daemon.until_model("it is cancelled", |model| model.totals.cancelled == 1);
    let model = daemon.settle().models.remove(0);
    assert_no_crash(&model, 1);
    assert_ne!(model.workers[0].pid, worker.pid);
}

#[test]
fn a_worker_of_many_requests_that_stops_in_time_goes_on() {
    let prompt = GenerateRequest::raw("p".repeat(200_000));
    for (path, request) in [(ENDLESS, endless()), ("builtin:echo?prompt_us=2000&context=1000000", prompt)] {
        let daemon = start(path, "worker");
        // It has 40 ms to stop. It may get no time at all within them, and then the next one is
        // asked.
        let mut number = 0;
        until("a worker has stopped in time", LIMIT, || {
            number += 1;
            let mut client = daemon.client();
            let running = Running::begin(&mut client, request.clone()).unwrap();
            let worker = daemon.worker_of(running.request());
            daemon.until_model("it computes", |model| model.workers[0].tokens + model.workers[0].prompt_tokens > 0);
            drop(client);
            daemon.until_model("it is cancelled", |model| model.totals.cancelled == number);
            let model = daemon.settle().models.remove(0);
            assert_no_crash(&model, number);
            let stays = model.workers[0].pid == worker.pid;
            assert_eq!(stays, model.workers[0].generation == worker.generation);
            stays
        });
        let finished =
            generate(&daemon, GenerateRequest { max_tokens: Some(5), ..GenerateRequest::raw("hello") }).unwrap();
        assert_eq!((finished.text.as_str(), finished.done.attempts), ("hello", 1));
    }
}

#[test]
fn a_worker_of_many_requests_that_does_not_stop_is_replaced() {
    let daemon = Daemon::scripted("ok", "workers = 1\nisolation = \"worker\"");
    for (number, action) in (1..).zip(["hang", "spin", "tick", "linger"]) {
        let mut client = daemon.client();
        // From the beginning: later it might be stopped in time, before it does what it should not.
        let running = Running::begin(&mut client, GenerateRequest::raw(format!("!{action}@start and more"))).unwrap();
        let worker = daemon.worker_of(running.request());
        drop(client);
        daemon.until_model("it is cancelled", |model| model.totals.cancelled == number);
        let model = daemon.settle().models.remove(0);
        assert_no_crash(&model, number);
        assert_ne!(model.workers[0].pid, worker.pid, "{action}");
    }
    assert_eq!(generate(&daemon, GenerateRequest::raw("well again")).unwrap().text, "well again");
    daemon.has_only_its_own();
}

#[test]
fn a_request_that_waits_leaves_the_queue() {
    let daemon = start(ENDLESS, "request");
    let (mut first, mut second, mut third) = (daemon.client(), daemon.client(), daemon.client());
    let text = "a text of some length";
    let serving = Running::begin(&mut first, endless()).unwrap();
    let leaving = Running::begin(&mut second, endless()).unwrap();
    let staying = Running::begin(&mut third, GenerateRequest::raw(text)).unwrap();
    let model = daemon.until_model("two wait", |model| model.queue.length == 2);
    assert_eq!(model.workers[0].request, Some(serving.request().to_string()));
    assert_ne!(model.workers[0].request, Some(leaving.request().to_string()));
    drop(second);
    let model = daemon.until_model("one waits", |model| model.queue.length == 1);
    assert_no_crash(&model, 1);
    assert_eq!(model.workers[0].request, Some(serving.request().to_string()), "the one that runs goes on");
    drop(first);
    let finished = staying.finish().unwrap();
    assert_eq!((finished.text.as_str(), finished.done.attempts), (text, 1));
    let model = daemon.settle().models.remove(0);
    assert_eq!((model.totals.accepted, model.totals.answered, model.totals.cancelled), (3, 1, 2));
}

#[test]
fn leaving_ends_a_request_whose_worker_has_died() {
    // The second worker never becomes ready, so the request waits for it when its client leaves.
    let daemon = Daemon::scripted("hang@go?after=1&times=1", "workers = 1\nisolation = \"worker\"");
    let mut client = daemon.client();
    let running = Running::begin(&mut client, GenerateRequest::raw("!kill@3 and more")).unwrap();
    let name = running.request().to_string();
    let model =
        daemon.until_model("it waits again", |model| model.queue.length == 1 && model.totals.worker_crashes == 1);
    assert_eq!(model.last_crash.unwrap().request, Some(name));
    drop(client);
    let model = daemon.until_model("it is cancelled", |model| model.totals.cancelled == 1);
    assert_eq!((model.queue.length, model.totals.resumed, model.totals.failed), (0, 0, 0));
}

#[test]
fn a_client_that_only_stops_sending_gets_its_answer() {
    let daemon = start("builtin:echo?token_us=3000", "request");
    let text = "a text of some length, so that the shutting down comes before its end";
    let stream = UnixStream::connect(daemon.socket()).unwrap();
    let mut end = BlockingEnd::new(stream, MAX_FRAME, MAX_REQUEST);
    end.send(&Request::Generate(Box::new(GenerateRequest::raw(text)))).unwrap();
    end.stream().shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    loop {
        match end.receive::<Response>().unwrap() {
            Some(Response::Accepted { .. }) => {}
            Some(Response::Piece { text, .. }) => answer.push_str(&text),
            Some(Response::Done(done)) => break answer.push_str(&done.text),
            other => panic!("no answer: {other:?}"),
        }
    }
    assert_eq!(answer, text);
    drop(end);
    let model = daemon.model();
    assert_eq!((model.totals.answered, model.totals.cancelled), (1, 0));
}

#[test]
fn a_client_that_stops_sending_and_then_leaves_is_gone() {
    let daemon = start(ENDLESS, "request");
    let stream = UnixStream::connect(daemon.socket()).unwrap();
    let mut end = BlockingEnd::new(stream, MAX_FRAME, MAX_REQUEST);
    end.send(&Request::Generate(Box::new(endless()))).unwrap();
    end.stream().shutdown(Shutdown::Write).unwrap();
    for _ in 0..4 {
        assert!(matches!(end.receive::<Response>(), Ok(Some(Response::Accepted { .. } | Response::Piece { .. }))));
    }
    assert_eq!(daemon.model().totals.cancelled, 0);
    drop(end);
    daemon.until_model("it is cancelled", |model| model.totals.cancelled == 1);
    assert_no_crash(&daemon.settle().models[0], 1);
}
