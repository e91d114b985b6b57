//! `supervisor demo`: the first thing that anybody runs.
use integration_tests::Call;

/// The answers that it must show, by their secrets.
const SECRETS: [&str; 8] = ["Wren", "B8CV3", "RK42P", "T7HNX", "W9QDE", "violin", "M3ZKA", "J6UYC"];

#[test]
fn it_shows_eight_right_answers_and_what_was_recovered() {
    let ended = Call::new(["demo"]).run();
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
    for word in ["WRONG", "LOST"] {
        assert!(!ended.stdout.contains(word), "{}", ended.stdout);
    }
}

#[test]
fn it_takes_more_workers_and_no_nonsense() {
    let ended = Call::new(["demo", "--workers", "4"]).run();
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert!(ended.stdout.contains("4 workers were forked from it"), "{}", ended.stdout);
    for workers in ["0", "65", "two"] {
        assert_eq!(Call::new(["demo", "--workers", workers]).run().code(), 2);
    }
}
