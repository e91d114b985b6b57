//! `supervisor demo`: the first thing that anybody runs.
use integration_tests::{Call, Ended, LIMIT, Signal, process, until};

/// The answers that it must show, by their secrets.
const SECRETS: [&str; 8] = ["Wren", "Rosa", "B8CV3", "RK42P", "T7HNX", "W9QDE", "violin", "M3ZKA"];

#[track_caller]
fn check(ended: &Ended) {
    assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""), "{ended:?}");
    let right: Vec<&str> = ended.stdout.lines().filter(|line| line.starts_with("right ")).collect();
    assert_eq!(right.len(), SECRETS.len(), "{}", ended.stdout);
    for secret in SECRETS {
        let line = right.iter().find(|line| line.split_whitespace().nth(3) == Some(secret));
        assert!(
            line.is_some_and(|line| line.matches(secret).count() == 2),
            "{secret} is not answered:\n{}",
            ended.stdout
        );
    }
    for words in ["kill -9 ", "byte for byte", "8 answers in ", "pocket: warm", "1 resumed", "last crash"] {
        assert!(ended.stdout.contains(words), "it does not say {words:?}:\n{}", ended.stdout);
    }
    for word in ["WRONG", "LOST", "\x1b", "\r"] {
        assert!(!ended.stdout.contains(word), "{}", ended.stdout);
    }
}

#[test]
fn it_shows_eight_right_answers_and_what_was_recovered() {
    let ended = Call::new(["demo", "--fast"]).run();
    check(&ended);
    assert!(ended.stdout.contains("waits 5 ms before each token"), "{}", ended.stdout);
}

#[test]
fn people_are_shown_it_slowly() {
    let ended = Call::new(["demo"]).run();
    check(&ended);
    let lines: Vec<&str> = ended.stdout.lines().collect();
    let place = |words: &str| {
        let found = lines.iter().position(|line| line.starts_with("req-1: ") && line.contains(words));
        found.unwrap_or_else(|| panic!("it does not say {words:?}:\n{}", ended.stdout))
    };
    let happened = [" answers ", "kill -9 ", " goes on", "complete after 82 tokens"].map(place);
    assert!(happened.is_sorted(), "{}", ended.stdout);
    assert!(ended.stdout.contains("waits 40 ms before each token"), "{}", ended.stdout);
}

#[test]
fn it_takes_more_workers_or_only_one_and_no_nonsense() {
    for (workers, words) in [("4", "4 workers were forked from it"), ("1", "One worker was forked from it")] {
        let ended = Call::new(["demo", "--fast", "--workers", workers]).run();
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert!(ended.stdout.contains(words), "{}", ended.stdout);
    }
    for workers in ["0", "65", "two"] {
        assert_eq!(Call::new(["demo", "--workers", workers]).run().code(), 2);
    }
}

#[test]
fn an_interrupt_leaves_no_process_behind() {
    for (signal, status) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let demo = Call::new(["demo"]).start();
        until("the first worker answers", LIMIT, || demo.stdout().contains("req-1: worker "));
        let daemons = process::children(demo.pid());
        let workers: Vec<u32> = daemons.iter().flat_map(|daemon| process::started_by(*daemon)).collect();
        assert!(daemons.len() == 1 && workers.len() >= 3, "{daemons:?} {workers:?}");
        demo.signal(signal);
        let ended = demo.wait();
        assert_eq!((ended.code(), ended.stderr.as_str()), (status, ""), "{ended:?}");
        until("all processes have ended", LIMIT, || !daemons.iter().chain(&workers).any(|pid| process::lives(*pid)));
    }
}

#[test]
fn a_kill_leaves_no_process_behind() {
    let demo = Call::new(["demo"]).start();
    until("the first worker answers", LIMIT, || demo.stdout().contains("req-1: worker "));
    let daemons = process::children(demo.pid());
    let workers: Vec<u32> = daemons.iter().flat_map(|daemon| process::started_by(*daemon)).collect();
    assert!(daemons.len() == 1 && workers.len() >= 3, "{daemons:?} {workers:?}");
    demo.signal(Signal::SIGKILL);
    let _killed = demo.wait();
    until("all processes have ended", LIMIT, || !daemons.iter().chain(&workers).any(|pid| process::lives(*pid)));
}

#[test]
fn a_reader_who_has_gone_ends_it() {
    for bytes in [0, 1] {
        let ended = Call::new(["demo", "--fast"]).taken(bytes).run();
        assert_eq!((ended.code(), ended.stderr.as_str()), (1, ""), "{ended:?}");
    }
}
