//! The host's cores, shared by the requests that run. The workers are scripted ones that follow
//! their budgets at every token and compute with no thread at all, so what is seen is what the
//! supervisor decides.
use integration_tests::{Daemon, Running, Signal, process};
use ipc::{Client, GenerateRequest, status::Status};
use std::fs;

/// Workers of one model on a host of so many cores.
fn daemon(script: &str, cores: u32, settings: &str) -> Daemon {
    Daemon::scripted(&format!("{script}?token_us=2000"), &format!("{settings}\n[supervisor]\ncores = {cores}\n"))
}

/// A request that runs for as long as its connection lives.
fn occupy<'a>(client: &'a mut Client, prompt: &str) -> Running<'a> {
    let request = GenerateRequest { ignore_end: true, ..GenerateRequest::raw(prompt) };
    Running::begin(client, request).unwrap()
}

/// The threads of each worker that serves, in the order of the slots.
fn threads(status: &Status) -> Vec<u64> {
    let workers = status.models.iter().flat_map(|model| &model.workers);
    workers.filter(|worker| worker.state == "busy").map(|worker| worker.threads).collect()
}

#[test]
fn requests_share_the_cores_as_they_come_and_go() {
    for isolation in ["request", "worker"] {
        let daemon = daemon("ok", 4, &format!("workers = 3\nisolation = \"{isolation}\""));
        let (mut one, mut two, mut three) = (daemon.client(), daemon.client(), daemon.client());
        let first = occupy(&mut one, "first");
        daemon.until("one has all", |status| threads(status) == [4]);
        let second = occupy(&mut two, "second");
        daemon.until("two share", |status| threads(status) == [2, 2]);
        let third = occupy(&mut three, "third");
        daemon.until("three share", |status| threads(status) == [2, 1, 1]);
        drop(first);
        drop(one);
        daemon.until("two share again", |status| threads(status) == [2, 2]);
        drop((second, third));
        drop((two, three));
        daemon.until("nobody computes", |status| threads(status).is_empty());
    }
}

#[test]
fn a_worker_has_no_more_threads_than_its_model_may() {
    let daemon = daemon("ok", 8, "workers = 2\nthreads = 3");
    let mut client = daemon.client();
    let _running = occupy(&mut client, "text");
    daemon.until("it has as many as it may", |status| threads(status) == [3]);
}

#[test]
fn a_killed_workers_threads_are_free_for_others() {
    let daemon = daemon("ok", 4, "workers = 2\nmax_attempts = 1");
    let (mut one, mut two) = (daemon.client(), daemon.client());
    let _first = occupy(&mut one, "first");
    let second = occupy(&mut two, "second");
    daemon.until("two share", |status| threads(status) == [2, 2]);
    process::kill(daemon.pid_of(second.request()), Signal::SIGKILL);
    daemon.until("one has all", |status| threads(status) == [4]);
}

#[test]
fn one_that_gives_nothing_back_keeps_others_at_one_thread_and_no_more() {
    // It takes what it was given first and never looks again.
    let daemon = daemon("ok", 4, "workers = 2");
    let (mut one, mut two) = (daemon.client(), daemon.client());
    let _greedy = occupy(&mut one, "!tick and look at no budget again");
    daemon.until("it has all", |status| threads(status) == [4]);
    let second = occupy(&mut two, "second");
    daemon.until("the other one has come far", |status| {
        status.models[0]
            .workers
            .iter()
            .any(|worker| worker.request == Some(second.request().to_string()) && worker.tokens > 50)
    });
    assert_eq!(threads(&daemon.status()), [4, 1]);
}

/// The nice value of a process: the 19th field, of which the second may hold spaces.
fn nice(pid: u32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(16).unwrap().parse().unwrap()
}

#[test]
fn those_that_make_vectors_leave_the_processor_to_those_that_generate() {
    let own = nice(std::process::id());
    let daemon = Daemon::scripted("ok?embed=4", "workers = 2");
    let workers = daemon.model().workers;
    assert!(workers.iter().all(|worker| nice(worker.pid.unwrap()) == (own + 5).min(19)), "{workers:?}");
    let daemon = Daemon::scripted("ok", "workers = 2");
    let workers = daemon.model().workers;
    assert!(workers.iter().all(|worker| nice(worker.pid.unwrap()) == own), "{workers:?}");
}
