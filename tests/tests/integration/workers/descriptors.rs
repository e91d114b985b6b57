//! A supervisor that may open no more descriptors: whoever waits goes on waiting, and is served
//! when there are some again.
use integration_tests::{Daemon, Running, Signal, Wire, model, process, until};
use ipc::{Client, GenerateRequest, Request, Response, status::ModelStatus};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// Lets the daemon open nothing more, also in place of what it closes: how many descriptors it
/// might have.
fn exhaust(daemon: &Daemon) -> u64 {
    process::limit_descriptors(daemon.pid(), 0)
}

fn status(client: &mut Client) -> ModelStatus {
    client.status().unwrap().models.remove(0)
}

#[test]
fn workers_that_cannot_be_made_are_no_crash_loop() {
    for isolation in ["request", "worker"] {
        // More than may end before they are ready.
        let daemon = Daemon::start(&model("builtin:echo", &format!("workers = 10\nisolation = \"{isolation}\"")));
        let (mut watching, mut asking) = (daemon.client(), daemon.client());
        let pids: Vec<u32> = status(&mut watching).workers.iter().filter_map(|worker| worker.pid).collect();
        status(&mut asking);
        let usual = exhaust(&daemon);
        assert_eq!(pids.len(), 10);
        for pid in pids {
            assert!(process::kill(pid, Signal::SIGKILL));
        }
        until("each slot lacks its worker", PATIENCE, || {
            let model = status(&mut watching);
            model.workers.iter().all(|worker| worker.pid.is_none() && worker.generation > 2)
        });
        let running = Running::begin(&mut asking, GenerateRequest::raw("text")).unwrap();
        let model = status(&mut watching);
        assert_eq!((model.state.as_str(), model.queue.length), ("warm", 1), "{isolation}: {model:?}");
        let error = model.error.unwrap_or_default();
        // What there is no descriptor for depends on how many are left.
        let (begin, end) = (
            "no room for another worker now: cannot ",
            ": Too many open files (os error 24) (ulimit -n, LimitNOFILE= of a unit)",
        );
        assert!(error.starts_with(begin) && error.ends_with(end), "{error}");
        process::limit_descriptors(daemon.pid(), usual);
        let finished = running.finish().unwrap();
        assert_eq!((finished.text.as_str(), finished.done.attempts), ("text", 1));
        let model = daemon.settle().models.remove(0);
        assert_eq!(model.error, None);
        daemon.has_only_its_own();
    }
}

#[test]
fn a_client_that_cannot_be_watched_is_not_taken_for_gone() {
    let daemon = Daemon::start(&model("builtin:echo?token_us=20000", "workers = 1\nisolation = \"worker\""));
    let mut wire = Wire::connect(&daemon);
    wire.send(&Request::Status);
    assert!(matches!(wire.receive(), Some(Response::Status(_))));
    let usual = exhaust(&daemon);
    let text = "it says right away that it will say nothing more";
    wire.send(&Request::Generate(Box::new(GenerateRequest::raw(text))));
    wire.shut_sending();
    let mut answer = String::new();
    loop {
        match wire.receive() {
            Some(Response::Accepted { .. }) => {}
            Some(Response::Piece { text, .. }) => answer.push_str(&text),
            Some(Response::Done(_)) => break,
            other => panic!("{other:?} after {answer:?}"),
        }
    }
    assert_eq!(answer, text);
    process::limit_descriptors(daemon.pid(), usual);
    // It is noticed all the same when one has gone.
    let mut wire = Wire::connect(&daemon);
    wire.send(&Request::Status);
    assert!(matches!(wire.receive(), Some(Response::Status(_))));
    let mut watching = daemon.client();
    status(&mut watching);
    let usual = exhaust(&daemon);
    wire.send(&Request::Generate(Box::new(GenerateRequest::raw(text.repeat(20)))));
    wire.shut_sending();
    assert!(matches!(wire.receive(), Some(Response::Accepted { .. })));
    drop(wire);
    until("its request is cancelled", PATIENCE, || status(&mut watching).totals.cancelled == 1);
    process::limit_descriptors(daemon.pid(), usual);
}
