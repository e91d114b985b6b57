//! The memory that belongs to a request: which workers get it, and what it is.
use integration_tests::{Daemon, generate, process};
use ipc::GenerateRequest;
use std::fs;

/// What a worker noted of a cache that it was given.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    inode: u64,
    size: u64,
    /// Workers that had it before.
    before: u64,
    sealed: bool,
}

fn seen(daemon: &Daemon) -> Vec<Seen> {
    let text = fs::read_to_string(daemon.folder().join("caches")).unwrap_or_default();
    let parse = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse().unwrap();
        Seen { inode: number(0), size: number(1), before: number(2), sealed: words[3] == "true" }
    };
    text.lines().map(parse).collect()
}

/// The memory files that the daemon holds for requests.
fn held(daemon: &Daemon) -> usize {
    let descriptors = process::descriptors(daemon.pid());
    descriptors.values().filter(|what| what.starts_with("/memfd:cache")).count()
}

#[test]
fn a_successor_goes_on_with_the_cache_unless_it_is_what_kills() {
    for isolation in ["request", "worker"] {
        // The second gets no further than the first, and the third begins anew.
        let daemon = Daemon::scripted(
            "kill@3?times=3&cache=70000",
            &format!("workers = 1\nisolation = \"{isolation}\"\nmax_attempts = 4"),
        );
        let answer = generate(&daemon, GenerateRequest::raw("some text")).unwrap();
        assert_eq!((answer.text.as_str(), answer.done.attempts), ("some text", 4));
        let seen = seen(&daemon);
        assert_eq!(seen.len(), 4, "{seen:?}");
        assert!(seen.iter().all(|cache| cache.size == 70_000 && cache.sealed), "{seen:?}");
        assert_eq!(seen.iter().map(|cache| cache.before).collect::<Vec<_>>(), [0, 1, 0, 1]);
        assert_eq!((seen[0].inode, seen[2].inode), (seen[1].inode, seen[3].inode));
        assert_ne!(seen[1].inode, seen[2].inode);
        assert_eq!(held(&daemon), 0, "it ends with its request");
    }
}

#[test]
fn a_cache_is_gone_on_with_as_long_as_each_worker_gets_further() {
    let daemon = Daemon::scripted("kill@2?times=1&cache=70000", "workers = 1");
    let answer = generate(&daemon, GenerateRequest::raw("!kill@9?times=1 some text")).unwrap();
    assert_eq!(answer.done.attempts, 3);
    let seen = seen(&daemon);
    assert_eq!(seen.iter().map(|cache| cache.before).collect::<Vec<_>>(), [0, 1, 2], "{seen:?}");
    assert!(seen.iter().all(|cache| cache.inode == seen[0].inode), "{seen:?}");
}

#[test]
fn each_request_has_a_cache_of_its_own() {
    let daemon = Daemon::scripted("ok?cache=5000", "workers = 1\nisolation = \"worker\"");
    for text in ["one", "two", "three"] {
        assert_eq!(generate(&daemon, GenerateRequest::raw(text)).unwrap().text, text);
    }
    let seen = seen(&daemon);
    assert!(seen.len() == 3 && seen.iter().all(|cache| cache.before == 0), "{seen:?}");
    assert_eq!(held(&daemon), 0);
    assert_eq!(daemon.model().totals.worker_crashes, 0);
}

#[test]
fn a_cache_goes_once_with_a_job_that_is_sent_in_pieces() {
    let daemon = Daemon::scripted("ok?cache=5000&context=1000000", "workers = 1\nisolation = \"worker\"");
    // Far more than a socket takes at once.
    let prompt = "many words ".repeat(60_000);
    for number in 1..=2 {
        let request = GenerateRequest { max_tokens: Some(4), ..GenerateRequest::raw(prompt.as_str()) };
        assert_eq!(generate(&daemon, request).unwrap().text, "many");
        assert_eq!(seen(&daemon).len(), number);
    }
    assert_eq!(generate(&daemon, GenerateRequest::raw("few")).unwrap().text, "few");
    assert_eq!(daemon.model().totals.worker_crashes, 0);
}

#[test]
fn a_request_without_a_cache_gets_no_descriptor() {
    let daemon = Daemon::scripted("ok", "workers = 1");
    assert_eq!(generate(&daemon, GenerateRequest::raw("text")).unwrap().text, "text");
    assert_eq!(seen(&daemon), []);
}
