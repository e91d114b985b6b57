//! A worker that dies under a request is invisible: the answer is the one that an undisturbed
//! worker gives, token by token.
use integration_tests::{Daemon, Finished, LIMIT, Running, Signal, generate, model, process, until};
use ipc::{ClientError, FailureKind, FinishReason, GenerateRequest, Sampling, status::ModelStatus};

const MODES: [&str; 2] = ["request", "worker"];

fn pocket(isolation: &str) -> Daemon {
    Daemon::start(&model("builtin:pocket", &format!("workers = 1\nisolation = \"{isolation}\"")))
}

/// Workers that do what prompts say and else serve the same model, from request's caches as well.
fn scripted_pocket(isolation: &str) -> Daemon {
    let script = "ok?model=builtin:pocket&cache=model";
    Daemon::scripted(script, &format!("workers = 1\nisolation = \"{isolation}\""))
}

fn scripted(isolation: &str) -> Daemon {
    Daemon::scripted("ok", &format!("workers = 1\nisolation = \"{isolation}\""))
}

/// An answer that is long enough to be killed in, by a prompt that has a scripted worker killed in
/// its first attempt when so many tokens have been sent, in its second when so many, and so on.
fn long(sampling: Sampling, kills: &[usize]) -> GenerateRequest {
    let request = GenerateRequest::chat(format!("{} Tell me a story about a cat and a boat.", scripts(kills)));
    GenerateRequest { sampling, ignore_end: true, max_tokens: Some(160), ..request }
}

fn scripts(kills: &[usize]) -> String {
    kills.iter().map(|at| format!("!kill@{at}?times=1")).collect::<Vec<_>>().join(" ")
}

/// The pid of the one worker, which waits for a request.
fn idle(daemon: &Daemon) -> u32 {
    let is_idle = |model: &ModelStatus| model.workers[0].state == "idle";
    daemon.until_model("the worker is idle", is_idle).workers[0].pid.unwrap()
}

/// The worker that serves a request at this moment, if it has not ended.
fn serving(daemon: &Daemon, running: &Running<'_>) -> Option<u32> {
    let name = running.request().to_string();
    let workers = daemon.model().workers;
    workers.into_iter().find(|worker| worker.request.as_ref() == Some(&name)).and_then(|worker| worker.pid)
}

/// What was killed so often, and at these places, is what was not.
#[track_caller]
fn assert_same(killed: &Finished, undisturbed: &Finished, kills: &[usize], what: &str) {
    let what = format!("{what}, killed at {kills:?}");
    assert_eq!((killed.done.attempts as usize, undisturbed.done.attempts), (1 + kills.len(), 1), "{what}");
    assert_eq!(killed.tokens, undisturbed.tokens, "{what}");
    assert_eq!(killed.text, undisturbed.text, "{what}");
    assert_eq!(killed.done.finish, undisturbed.done.finish, "{what}");
    assert_eq!(killed.done.prompt_tokens, undisturbed.done.prompt_tokens, "{what}");
    assert_eq!(killed.done.completion_tokens, undisturbed.done.completion_tokens, "{what}");
    assert_eq!(killed.done.seed, undisturbed.done.seed, "{what}");
}

#[test]
fn a_killed_pocket_goes_on_with_the_same_tokens() {
    let undisturbed = pocket("request");
    for (name, sampling) in samplings() {
        // Each daemon counts for itself what its workers have done.
        for kills in [&[1][..], &[33], &[20, 90]] {
            let undisturbed = generate(&undisturbed, long(sampling, kills)).unwrap();
            assert_eq!((undisturbed.tokens.len(), undisturbed.done.finish), (160, FinishReason::Length));
            let killed = generate(&scripted_pocket("request"), long(sampling, kills)).unwrap();
            assert_same(&killed, &undisturbed, kills, name);
        }
    }
}

#[test]
fn a_killed_pocket_goes_on_in_a_worker_of_many_requests() {
    let [_, _, (name, sampling)] = samplings();
    for kills in [&[2][..], &[250, 300]] {
        // To the end of the context, where room must be counted as if nothing had happened.
        let request = GenerateRequest { max_tokens: None, ..long(sampling, kills) };
        let undisturbed = generate(&pocket("worker"), request.clone()).unwrap();
        assert!(undisturbed.tokens.len() > 400, "a long answer, not {}", undisturbed.tokens.len());
        let killed = generate(&scripted_pocket("worker"), request).unwrap();
        assert_same(&killed, &undisturbed, kills, name);
    }
}

/// Ways to choose the next token: the likeliest, by chance, and by chance with all penalties.
fn samplings() -> [(&'static str, Sampling); 3] {
    let sampled = Sampling { temperature: 0.9, top_k: 40, top_p: 0.95, ..seeded(7) };
    let punished =
        Sampling { min_p: 0.02, repeat_penalty: 1.3, frequency_penalty: 0.5, presence_penalty: 0.4, ..sampled };
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
        let answer = generate(&daemon, long(sampling, &[33])).unwrap().tokens;
        assert!(!answers.contains(&answer), "{name} is like one before, so resuming it would prove nothing");
        answers.push(answer);
    }
}

#[test]
fn a_seed_that_the_supervisor_drew_survives_the_worker() {
    let sampling = Sampling { temperature: 0.9, ..Sampling::default() };
    let killed = generate(&scripted_pocket("request"), long(sampling, &[60])).unwrap();
    let again = long(Sampling { seed: Some(killed.done.seed), ..sampling }, &[60]);
    let undisturbed = generate(&pocket("request"), again).unwrap();
    assert_same(&killed, &undisturbed, &[60], "the reported seed");
}

#[test]
fn a_worker_killed_before_its_first_piece_is_replayed() {
    for isolation in MODES {
        let daemon = pocket(isolation);
        let request = GenerateRequest { max_tokens: Some(20), ..long(seeded(3), &[]) };
        let undisturbed = generate(&daemon, request.clone()).unwrap();
        let pid = idle(&daemon);
        // It gets the request and can do nothing with it.
        process::kill(pid, Signal::SIGSTOP);
        let mut client = daemon.client();
        let running = Running::begin(&mut client, request).unwrap();
        assert_eq!(daemon.pid_of(running.request()), pid);
        process::kill(pid, Signal::SIGKILL);
        let killed = running.finish().unwrap();
        assert_same(&killed, &undisturbed, &[0], isolation);
        let totals = daemon.model().totals;
        assert_eq!((totals.replayed, totals.resumed, totals.worker_crashes), (1, 0, 1));
        assert_eq!((totals.accepted, totals.answered, totals.failed), (2, 2, 0));
    }
}

#[test]
fn a_worker_killed_in_mid_stream_is_resumed_and_counted_so() {
    for isolation in MODES {
        let settings = format!("workers = 1\nisolation = \"{isolation}\"");
        let daemon = Daemon::start(&model("builtin:echo?token_us=1000&context=1000000", &settings));
        let mut client = daemon.client();
        // It does not end, so that a kill is never too late.
        let text = "again and again ";
        let endless = GenerateRequest { ignore_end: true, ..GenerateRequest::raw(text) };
        let mut running = Running::begin(&mut client, endless).unwrap();
        assert!(running.read(5).unwrap());
        let request = running.request();
        let pid = daemon.pid_of(request);
        process::kill(pid, Signal::SIGKILL);
        let second = next_pid(&daemon, &running, &[pid]);
        let is_far =
            |model: &ModelStatus| model.workers.iter().any(|worker| worker.pid == Some(second) && worker.tokens > 0);
        daemon.until_model("its successor has said something", is_far);
        let totals = daemon.model().totals;
        assert_eq!((totals.replayed, totals.resumed, totals.worker_crashes), (0, 1, 1));
        let crash = daemon.model().last_crash.unwrap();
        assert_eq!((crash.pid, crash.slot, crash.cause.as_str()), (pid, Some(0), "signal 9 (SIGKILL)"));
        assert_eq!(crash.request, Some(request.to_string()));
        // No more than this was said before that look, and twice as much shows where one took over.
        let said = daemon.worker_of(request).tokens as usize;
        assert!(running.read(2 * said).unwrap());
        let expected: String = text.chars().cycle().take(running.text().len()).collect();
        assert_eq!(running.text(), expected, "{isolation}");
    }
}

/// A text for the echo model that has its worker killed when so much of `text` has been sent.
fn killed_in(text: &str, at: usize, name: &str) -> (String, usize) {
    let script = |at: usize| format!("!kill@{at:04}?times=1&as={name}-{at:04} ");
    let at = script(0).len() + at;
    (format!("{}{text}", script(at)), at)
}

#[test]
fn a_stop_string_that_was_half_there_is_found_or_given_up() {
    let daemon = scripted("worker");
    let found = "one <<<END>>> two";
    let given_up = "one <<<EN two <<< three <<<EN";
    for (name, text) in [("found", found), ("given-up", given_up)] {
        for position in 3..12 {
            let (text, at) = killed_in(text, position, name);
            let stop = vec!["<<<END>>>".to_owned()];
            let request = GenerateRequest { stop, sampling: seeded(1), ..GenerateRequest::raw(text.as_str()) };
            let killed = generate(&daemon, request.clone()).unwrap();
            // It strikes once.
            let undisturbed = generate(&daemon, request).unwrap();
            assert_eq!(undisturbed.text, text.strip_suffix("<<<END>>> two").unwrap_or(&text));
            assert_same(&killed, &undisturbed, &[at], name);
        }
    }
}

#[test]
fn a_character_that_was_half_there_is_completed() {
    let text = "\u{1f980}\u{4e16}\u{754c} \u{e9}";
    for isolation in MODES {
        let daemon = scripted(isolation);
        for position in 1..=10 {
            let (text, at) = killed_in(text, position, "half");
            let killed = generate(&daemon, GenerateRequest::raw(text.as_str())).unwrap();
            assert_eq!((killed.text.as_str(), killed.done.attempts), (text.as_str(), 2), "{isolation}, killed at {at}");
            assert_eq!(killed.tokens, text.bytes().map(u32::from).collect::<Vec<_>>());
        }
    }
}

#[test]
fn whoever_was_begun_is_finished_before_whoever_waits() {
    for isolation in MODES {
        let daemon = scripted(isolation);
        let first = idle(&daemon);
        let (mut one, mut two) = (daemon.client(), daemon.client());
        // It stands still until somebody waits, and its successor until that has been looked at.
        let text = "!stop@3?times=1 !kill@4?times=1 !stop@5?times=1 a text";
        let begun = Running::begin(&mut one, GenerateRequest::raw(text)).unwrap();
        let has_stopped = |pid| until("a worker has stopped", LIMIT, || process::state(pid) == Some('T'));
        has_stopped(first);
        let waiting = Running::begin(&mut two, GenerateRequest::raw("another text")).unwrap();
        process::kill(first, Signal::SIGCONT);
        let second = next_pid(&daemon, &begun, &[first]);
        has_stopped(second);
        let model = daemon.model();
        assert_eq!((model.totals.resumed, model.totals.answered, model.queue.length), (1, 0, 1), "{isolation}");
        assert!(serving(&daemon, &begun).is_some() && serving(&daemon, &waiting).is_none());
        process::kill(second, Signal::SIGCONT);
        let (begun, waiting) = (begun.finish().unwrap(), waiting.finish().unwrap());
        assert_eq!((begun.text.as_str(), begun.done.attempts), (text, 2));
        assert_eq!((waiting.text.as_str(), waiting.done.attempts), ("another text", 1));
    }
}

#[test]
fn the_third_death_under_a_request_is_its_last() {
    for isolation in MODES {
        let daemon = scripted(isolation);
        let request = GenerateRequest::raw(format!("{} a text", scripts(&[2, 4, 6])));
        let failure = failure_of(&daemon, request.clone());
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

fn failure_of(daemon: &Daemon, request: GenerateRequest) -> ipc::Failure {
    match generate(daemon, request) {
        Err(ClientError::Failed(failure)) => failure,
        other => panic!("it should have been refused: {other:?}"),
    }
}
