//! `supervisor embed`, as far as it needs no embedding model.
use super::echo;
use integration_tests::Call;

#[test]
fn no_text_is_no_request() {
    let daemon = echo("");
    for (format, complaint) in [("jsonl", ""), ("head", ""), ("none", "0 texts, 0 tokens\n")] {
        let ended = Call::new(["embed", "--format", format, "-"]).to(daemon.socket()).input("").run();
        assert_eq!((ended.code(), ended.stdout.as_str(), ended.stderr.as_str()), (0, "", complaint));
    }
    assert_eq!(daemon.model().totals.accepted, 0);
}

#[test]
fn what_is_no_text_is_wrong_usage() {
    let daemon = echo("");
    let ended = Call::new(["embed", "-"]).to(daemon.socket()).input(*b"\xff\n").run();
    assert_eq!((ended.code(), ended.stdout.as_str()), (2, ""));
    assert_eq!(ended.complaint(), "supervisor: the standard input is not valid UTF-8");
    // A text that no request could hold.
    let ended = Call::new(["embed", "-"]).to(daemon.socket()).input(vec![b'a'; 5 << 20]).run();
    assert_eq!((ended.code(), ended.stdout.as_str()), (2, ""));
    assert!(ended.complaint().starts_with("supervisor: the request is too long"), "{ended:?}");
}

#[test]
fn a_model_that_generates_makes_no_vectors() {
    let daemon = echo("");
    let ended = Call::new(["embed", "--model", "echo", "x"]).to(daemon.socket()).run();
    assert_ne!(ended.code(), 0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.lines().count()), ("", 1), "{ended:?}");
}
