//! A worker that dies under a request is invisible: the answer is the one that an undisturbed worker gives, token by token.
use integration_tests::{Daemon, Finished, Running, Signal, generate, model, process};
use ipc::{ClientError, FailureKind, FinishReason, GenerateRequest, Sampling, status::Model};

const MODES: [&str; 2] = ["request", "worker"];

fn pocket(isolation: &str) -> Daemon {
    Daemon::start(&model("builtin:pocket", &format!("workers = 1\nisolation = \"{isolation}\"")))
}

fn echo(isolation: &str, token_us: u32) -> Daemon {
    let path = format!("builtin:echo?token_us={token_us}");
    Daemon::start(&model(&path, &format!("workers = 1\nisolation = \"{isolation}\"")))
}

/// An answer that is long enough to be killed in.
fn long(sampling: Sampling) -> GenerateRequest {
    let request = GenerateRequest::chat("Tell me a story about a cat and a boat.");
    GenerateRequest { sampling, ignore_end: true, max_tokens: Some(160), ..request }
}

/// The pid of the one worker, which waits for a request.
fn idle(daemon: &Daemon) -> u32 {
    let is_idle = |model: &Model| model.workers[0].state == "idle";
    daemon.until_model("the worker is idle", is_idle).workers[0].pid.unwrap()
}

/// Asks, and kills the worker each time that so many pieces have been read. The machine decides whether a worker is faster than
/// its killer; then it is tried again.
fn killed_at(daemon: &Daemon, request: &GenerateRequest, positions: &[usize]) -> Finished {
    for _ in 0..20 {
        let first = idle(daemon);
        let mut client = daemon.client();
        let mut running = Running::begin(&mut client, request.clone()).unwrap();
        for (number, position) in positions.iter().enumerate() {
            running.read(*position).unwrap();
            if number == 0 {
                process::kill(first, Signal::SIGKILL);
            } else if let Some(pid) = serving(daemon, &running) {
                process::kill(pid, Signal::SIGKILL);
            }
        }
        let finished = running.finish().unwrap();
        if finished.done.attempts as usize == 1 + positions.len() {
            return finished;
        }
    }
    panic!("no kill at {positions:?} came in time");
}

/// The worker that serves a request at this moment, if it has not ended.
fn serving(daemon: &Daemon, running: &Running<'_>) -> Option<u32> {
    let name = running.request().to_string();
    let workers = daemon.model().workers;
    workers.into_iter().find(|worker| worker.request.as_ref() == Some(&name)).and_then(|worker| worker.pid)
}

#[track_caller]
fn assert_same(killed: &Finished, undisturbed: &Finished, what: &str) {
    assert_eq!(killed.tokens, undisturbed.tokens, "{what}");
    assert_eq!(killed.text, undisturbed.text, "{what}");
    assert_eq!(killed.done.finish, undisturbed.done.finish, "{what}");
    assert_eq!(killed.done.prompt_tokens, undisturbed.done.prompt_tokens, "{what}");
    assert_eq!(killed.done.completion_tokens, undisturbed.done.completion_tokens, "{what}");
    assert_eq!(killed.done.seed, undisturbed.done.seed, "{what}");
}

#[test]
fn a_killed_pocket_goes_on_with_the_same_tokens() {
    let daemon = pocket("request");
    for (name, sampling) in samplings() {
        let undisturbed = generate(&daemon, long(sampling)).unwrap();
        assert_eq!((undisturbed.tokens.len(), undisturbed.done.finish), (160, FinishReason::Length));
        for positions in [&[1][..], &[33], &[20, 90]] {
            let killed = killed_at(&daemon, &long(sampling), positions);
            assert_same(&killed, &undisturbed, &format!("{name}, killed at {positions:?}"));
        }
    }
}

#[test]
fn a_killed_pocket_goes_on_in_a_worker_of_many_requests() {
    let daemon = pocket("worker");
    let [_, _, (name, sampling)] = samplings();
    // To the end of the context, where room must be counted as if nothing had happened.
    let request = GenerateRequest { max_tokens: None, ..long(sampling) };
    let undisturbed = generate(&daemon, request.clone()).unwrap();
    assert!(undisturbed.tokens.len() > 400, "a long answer, not {}", undisturbed.tokens.len());
    for positions in [&[2][..], &[250, 300]] {
        let killed = killed_at(&daemon, &request, positions);
        assert_same(&killed, &undisturbed, &format!("{name}, killed at {positions:?}"));
    }
}

/// Ways to choose the next token: the likeliest, by chance, and by chance with all penalties.
fn samplings() -> [(&'static str, Sampling); 3] {
    let sampled = Sampling { temperature: 0.9, top_k: 40, top_p: 0.95, ..seeded(7) };
    let punished = Sampling { repeat_penalty: 1.3, frequency_penalty: 0.5, presence_penalty: 0.4, ..sampled };
    [("greedy", seeded(1)), ("sampled", sampled), ("punished", punished)]
}

fn seeded(seed: u64) -> Sampling {
    Sampling { seed: Some(seed), ..Sampling::default() }
}

#[test]
fn penalties_and_seeds_make_a_difference_at_all() {
    let daemon = pocket("request");
    let other = ("sampled with another seed", Sampling { seed: Some(8), ..samplings()[1].1 });
    let mut answers: Vec<Vec<u32>> = Vec::new();
    for (name, sampling) in samplings().into_iter().chain([other]) {
        let answer = generate(&daemon, long(sampling)).unwrap().tokens;
        assert!(!answers.contains(&answer), "{name} is like one before, so resuming it would prove nothing");
        answers.push(answer);
    }
}

#[test]
fn a_seed_that_the_supervisor_drew_survives_the_worker() {
    let daemon = pocket("request");
    let sampling = Sampling { temperature: 0.9, ..Sampling::default() };
    let killed = killed_at(&daemon, &long(sampling), &[60]);
    let again = long(Sampling { seed: Some(killed.done.seed), ..sampling });
    let undisturbed = generate(&daemon, again).unwrap();
    assert_eq!(undisturbed.done.attempts, 1);
    assert_same(&killed, &undisturbed, "the reported seed");
}

#[test]
fn a_worker_killed_before_its_first_piece_is_replayed() {
    for isolation in MODES {
        let daemon = pocket(isolation);
        let request = GenerateRequest { max_tokens: Some(20), ..long(seeded(3)) };
        let undisturbed = generate(&daemon, request.clone()).unwrap();
        let pid = idle(&daemon);
        // It gets the request and can do nothing with it.
        process::kill(pid, Signal::SIGSTOP);
        let mut client = daemon.client();
        let running = Running::begin(&mut client, request).unwrap();
        assert_eq!(daemon.pid_of(running.request()), pid);
        process::kill(pid, Signal::SIGKILL);
        let killed = running.finish().unwrap();
        assert_same(&killed, &undisturbed, isolation);
        assert_eq!(killed.done.attempts, 2);
        let totals = daemon.model().totals;
        assert_eq!((totals.replayed, totals.resumed, totals.worker_crashes), (1, 0, 1));
        assert_eq!((totals.accepted, totals.answered, totals.failed), (2, 2, 0));
    }
}

#[test]
fn a_worker_killed_in_mid_stream_is_resumed_and_counted_so() {
    for isolation in MODES {
        let daemon = echo(isolation, 10_000);
        let mut client = daemon.client();
        let text = "a text of some length, so that a kill comes before its end";
        let mut running = Running::begin(&mut client, GenerateRequest::raw(text)).unwrap();
        assert!(running.read(5).unwrap());
        let pid = daemon.pid_of(running.request());
        process::kill(pid, Signal::SIGKILL);
        let request = running.request();
        let finished = running.finish().unwrap();
        assert_eq!((finished.text.as_str(), finished.done.attempts), (text, 2));
        let model = daemon.model();
        let totals = model.totals;
        assert_eq!((totals.replayed, totals.resumed, totals.worker_crashes), (0, 1, 1));
        let crash = model.last_crash.unwrap();
        assert_eq!((crash.pid, crash.slot, crash.cause.as_str()), (pid, Some(0), "signal 9 (SIGKILL)"));
        assert_eq!(crash.request, Some(request.to_string()));
    }
}

#[test]
fn a_stop_string_that_was_half_there_is_found_or_given_up() {
    let daemon = echo("worker", 3_000);
    let found = "one <<<END>>> two";
    let given_up = "one <<<EN two <<< three <<<EN";
    for text in [found, given_up] {
        let stop = vec!["<<<END>>>".to_owned()];
        let request = GenerateRequest { stop, sampling: seeded(1), ..GenerateRequest::raw(text) };
        let undisturbed = generate(&daemon, request.clone()).unwrap();
        assert_eq!(undisturbed.text, text.strip_suffix("<<<END>>> two").unwrap_or(text));
        for position in 3..12 {
            let killed = killed_at(&daemon, &request, &[position]);
            assert_same(&killed, &undisturbed, &format!("{text:?} killed at {position}"));
        }
    }
}

#[test]
fn a_character_that_was_half_there_is_completed() {
    let text = "\u{1f980}\u{4e16}\u{754c} \u{e9}";
    for isolation in MODES {
        let daemon = echo(isolation, 3_000);
        let request = GenerateRequest::raw(text);
        for position in 1..=10 {
            let killed = killed_at(&daemon, &request, &[position]);
            assert_eq!(killed.text, text, "{isolation}, killed at {position}");
            assert_eq!(killed.tokens, text.bytes().map(u32::from).collect::<Vec<_>>());
        }
    }
}

#[test]
fn whoever_was_begun_is_finished_before_whoever_waits() {
    for isolation in MODES {
        let daemon = echo(isolation, 10_000);
        let (mut one, mut two) = (daemon.client(), daemon.client());
        let text = "a text of some length, so that a kill comes before its end";
        let mut begun = Running::begin(&mut one, GenerateRequest::raw(text)).unwrap();
        let waiting = Running::begin(&mut two, GenerateRequest::raw("another text")).unwrap();
        assert!(begun.read(3).unwrap());
        process::kill(daemon.pid_of(begun.request()), Signal::SIGKILL);
        let model = daemon.until_model("it is taken up again", |model| model.totals.resumed == 1);
        assert_eq!((model.totals.answered, model.queue.length), (0, 1), "{isolation}");
        assert!(serving(&daemon, &begun).is_some() && serving(&daemon, &waiting).is_none());
        let (begun, waiting) = (begun.finish().unwrap(), waiting.finish().unwrap());
        assert_eq!((begun.text.as_str(), begun.done.attempts), (text, 2));
        assert_eq!((waiting.text.as_str(), waiting.done.attempts), ("another text", 1));
    }
}

#[test]
fn the_third_death_under_a_request_is_its_last() {
    for isolation in MODES {
        let daemon = echo(isolation, 20_000);
        let request = GenerateRequest::raw("a text of some length, so that three kills come before its end");
        let mut client = daemon.client();
        let mut running = Running::begin(&mut client, request.clone()).unwrap();
        let mut pids = Vec::new();
        for death in 1..=3 {
            running.read(2 * death).unwrap();
            pids.push(next_pid(&daemon, &running, &pids));
            process::kill(pids[death - 1], Signal::SIGKILL);
        }
        let failure = failure(running.finish());
        assert_eq!(failure.kind, FailureKind::WorkersDied);
        assert_eq!(failure.message, "3 workers died while serving this request; it is not tried again");
        let refused = failure_of(&daemon, request);
        assert_eq!(refused.kind, FailureKind::Poisonous);
        assert_eq!(refused.message, "refused: workers died under this same request a short while ago");
        assert!(refused.retry_after_ms.is_some_and(|wait| wait > 0));
        let other = generate(&daemon, GenerateRequest::raw("another text")).unwrap();
        assert_eq!((other.text.as_str(), other.done.attempts), ("another text", 1));
        let totals = daemon.model().totals;
        assert_eq!((totals.accepted, totals.answered, totals.failed, totals.refused), (2, 1, 1, 1));
        assert_eq!((totals.resumed, totals.worker_crashes), (2, 3));
    }
}

/// The worker that serves a request and is none of those.
fn next_pid(daemon: &Daemon, running: &Running<'_>, dead: &[u32]) -> u32 {
    let mut pid = 0;
    daemon.until("another worker serves", |_| {
        pid = serving(daemon, running).unwrap_or(0);
        pid > 0 && !dead.contains(&pid)
    });
    pid
}

fn failure(ended: Result<Finished, ClientError>) -> ipc::Failure {
    match ended {
        Err(ClientError::Failed(failure)) => failure,
        other => panic!("it should have been refused: {other:?}"),
    }
}

fn failure_of(daemon: &Daemon, request: GenerateRequest) -> ipc::Failure {
    failure(generate(daemon, request))
}
