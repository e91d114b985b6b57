//! Many clients, and somebody who kills and stops processes at random: every answer is whole and nothing is left over.
#![cfg(test)]

use integration_tests::{Daemon, Running, Signal, generate, model, process};
use ipc::GenerateRequest;
use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

const CLIENTS: usize = 4;
const REQUESTS: usize = 20;

/// A small deterministic generator (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap() % limit
    }
}

fn ask(daemon: &Daemon, client: usize, number: usize, seed: u64) {
    let mut random = Random(seed + (client * REQUESTS + number) as u64);
    let text = format!("client {client} asks number {number}: ") + &"\u{1f980}x".repeat(1 + random.below(20));
    if random.below(5) == 0 {
        // It leaves, at any moment.
        let mut connection = daemon.client();
        let mut running = Running::begin(&mut connection, GenerateRequest::raw(text)).unwrap();
        running.read(random.below(30)).unwrap();
    } else {
        let finished = generate(daemon, GenerateRequest::raw(&text)).unwrap();
        assert_eq!(finished.text, text);
        assert_eq!(finished.tokens, text.bytes().map(u32::from).collect::<Vec<_>>());
    }
}

/// Kills any process of the daemon's, or stops one that serves: what is stopped elsewhere is missed only after longer times.
fn strike(daemon: &Daemon, random: &mut Random) {
    if random.below(6) == 0 {
        let workers = daemon.model().workers;
        if let Some(pid) = workers.iter().find(|worker| worker.state == "busy").and_then(|worker| worker.pid) {
            process::kill(pid, Signal::SIGSTOP);
        }
        return;
    }
    let alive = process::started_by(daemon.pid());
    if !alive.is_empty() {
        process::kill(alive[random.below(alive.len())], Signal::SIGKILL);
    }
}

fn chaos(isolation: &str, seed: u64) {
    let limits = "max_attempts = 100\nprogress_timeout = \"400ms\"";
    let settings = format!("workers = 3\nisolation = \"{isolation}\"\n{limits}");
    let daemon = Daemon::start(&model("builtin:echo?token_us=1000&load_ms=20", &settings));
    let asked = AtomicUsize::new(0);
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (daemon, asked) = (&daemon, &asked);
            scope.spawn(move || {
                for number in 0..REQUESTS {
                    ask(daemon, client, number, seed);
                    asked.fetch_add(1, Relaxed);
                }
            });
        }
        let mut random = Random(seed);
        let mut before = 0;
        while before < CLIENTS * REQUESTS {
            strike(&daemon, &mut random);
            // One blow for each request that has ended since the last one.
            daemon.until("a request ends", |_| asked.load(Relaxed) > before);
            before += 1;
        }
    });
    // What was stopped after its answer is found when it is given a request.
    for pid in process::started_by(daemon.pid()) {
        process::kill(pid, Signal::SIGCONT);
    }
    daemon.settle();
    daemon.has_only_its_own();
    let totals = daemon.model().totals;
    assert_eq!((totals.failed, totals.refused, totals.timed_out), (0, 0, 0), "{totals:?}");
    assert_eq!(totals.answered + totals.cancelled, (CLIENTS * REQUESTS) as u64, "{totals:?}");
}

#[test]
fn whatever_is_killed_each_answer_is_whole() {
    chaos("request", 1);
}

#[test]
fn whatever_is_killed_each_answer_of_lasting_workers_is_whole() {
    chaos("worker", 2);
}
