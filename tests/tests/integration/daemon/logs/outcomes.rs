//! Each request has one line, whatever becomes of it.
use super::{Line, all, echo, number, requests, text};
use integration_tests::{Daemon, Running, Signal, Wire, generate, process};
use ipc::{Client, GenerateRequest, Prompt, Request, TokenizeRequest};

/// A request that goes on for as long as its connection lives.
fn endless(client: &mut Client) -> Running<'_> {
    let request = GenerateRequest { ignore_end: true, ..GenerateRequest::raw("endless") };
    let mut running = Running::begin(client, request).unwrap();
    assert!(running.read(1).unwrap());
    running
}

/// The fields that lines about requests of this kind have, besides those that say why there is no
/// answer.
fn has_fields(line: &Line, expected: &[&str]) {
    let mut found: Vec<&str> = line.keys().map(String::as_str).collect();
    let mut expected: Vec<&str> = expected
        .iter()
        .chain(&["timestamp", "level", "message", "outcome", "client_uid", "client_pid", "owner"])
        .copied()
        .collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected, "{line:#?}");
    assert_eq!(number(line, "client_pid"), f64::from(std::process::id()));
    assert_eq!(text(line, "owner"), format!("uid:{}", number(line, "client_uid")));
}

const TAKEN: [&str; 6] = ["request", "model", "kind", "wait_s", "total_s", "attempts"];
const SERVED: [&str; 2] = ["worker", "worker_pid"];

#[test]
fn an_answer_is_measured() {
    let daemon = echo("", "");
    let answer = generate(&daemon, GenerateRequest::raw("eight by")).unwrap();
    let ids =
        daemon.client().tokenize(TokenizeRequest { model: None, text: "four".to_owned(), special: true }).unwrap();
    let [generated, tokenized] = &requests(&daemon, 2)[..] else { panic!("two lines") };
    let generation = ["first_token_s", "prompt_tokens", "tokens", "tokens_per_s"];
    has_fields(generated, &[&TAKEN[..], &SERVED, &generation].concat());
    let words = |line, keys: [&str; 5]| keys.map(|key| text(line, key).to_owned());
    let expected = ["answered", "answered", "info", "generate", "echo"];
    assert_eq!(words(generated, ["message", "outcome", "level", "kind", "model"]), expected);
    assert_eq!(text(generated, "request"), answer.request.to_string());
    assert_eq!((number(generated, "prompt_tokens"), number(generated, "tokens")), (8.0, 8.0));
    assert_eq!((text(generated, "worker"), number(generated, "attempts")), ("0.1", 1.0));
    let (wait, first, total) =
        (number(generated, "wait_s"), number(generated, "first_token_s"), number(generated, "total_s"));
    assert!(
        0.0 <= wait && wait <= first && first <= total && number(generated, "tokens_per_s") > 0.0,
        "{generated:#?}"
    );
    has_fields(tokenized, &[&TAKEN[..], &SERVED, &["tokens"]].concat());
    assert_eq!(words(tokenized, ["message", "outcome", "level", "kind", "model"])[3], "tokenize");
    assert_eq!(number(tokenized, "tokens"), ids.len() as f64);
}

#[test]
fn a_batch_is_measured() {
    let daemon = Daemon::launch_scripted("ok?embed=4", "workers = 1\n[supervisor]\nlog_format = \"json\"");
    daemon.settle();
    let texts = vec!["text".to_owned(); 3];
    let asked = ipc::EmbedRequest { model: None, texts, role: ipc::TextRole::Plain };
    assert_eq!(daemon.client().embed(asked).unwrap().filter(Result::is_err).count(), 0);
    let lines = requests(&daemon, 1);
    has_fields(&lines[0], &[&TAKEN[..], &SERVED, &["texts", "prompt_tokens"]].concat());
    assert_eq!((text(&lines[0], "kind"), number(&lines[0], "texts")), ("embed", 3.0));
}

#[test]
fn a_request_that_was_answered_by_another_worker_has_one_line_and_two_attempts() {
    let daemon = echo("token_us=2000", "");
    let mut client = daemon.client();
    let words = GenerateRequest::raw("this text is long enough for a worker to be killed under it");
    let mut running = Running::begin(&mut client, words).unwrap();
    assert!(running.read(3).unwrap());
    process::kill(daemon.pid_of(running.request()), Signal::SIGKILL);
    running.finish().unwrap();
    let lines = requests(&daemon, 1);
    assert_eq!((text(&lines[0], "worker"), number(&lines[0], "attempts")), ("0.2", 2.0));
    // Which is told of apart, with the request that it served.
    let crash = all(&daemon).into_iter().find(|line| text(line, "message").starts_with("a worker has ended")).unwrap();
    assert_eq!((text(&crash, "request"), text(&crash, "level"), text(&crash, "worker")), ("req-1", "warn", "0.1"));
}

#[test]
fn no_answer_has_a_reason() {
    let daemon = echo("token_us=2000", "queue = 1\nqueue_timeout = \"1s\"");
    let mut first = daemon.client();
    let running = endless(&mut first);
    // One waits, one more is refused, and the one that waits waits in vain.
    let mut second = daemon.client();
    let waiting = Running::begin(&mut second, GenerateRequest::raw("in vain")).unwrap();
    generate(&daemon, GenerateRequest::raw("one too many")).unwrap_err();
    waiting.finish().unwrap_err();
    drop(running);
    drop(first);
    // What no worker can serve, what no model is asked, and what is no request.
    generate(&daemon, GenerateRequest::raw("x".repeat(5000))).unwrap_err();
    generate(&daemon, GenerateRequest { model: Some("a\nb".to_owned()), ..GenerateRequest::raw("x") }).unwrap_err();
    generate(&daemon, GenerateRequest::new(Prompt::Raw(String::new()))).unwrap_err();
    let mut wire = Wire::connect(&daemon);
    assert!(wire.write(&ipc::frame(&[99], 10).unwrap()));
    assert!(wire.receive().is_some());
    wire.send(&Request::Status);
    assert!(wire.receive().is_some());
    assert!(wire.write(b"GET / HTTP/1.1\r\n\r\n"));
    while wire.receive().is_some() {}

    let lines = requests(&daemon, 8);
    let find = |outcome: &str, kind: &str| {
        let is_it = |line: &&Line| {
            text(line, "outcome") == outcome && line.get("error_kind").and_then(|kind| kind.as_str()) == Some(kind)
        };
        lines.iter().find(is_it).unwrap_or_else(|| panic!("{outcome}, {kind}: {lines:#?}"))
    };
    let taken = |also: &[&'static str]| [&TAKEN[..], &["error_kind"], also].concat();
    let late = find("timed_out", "timed_out");
    has_fields(late, &taken(&["error"]));
    assert_eq!((text(late, "message"), text(late, "level"), number(late, "attempts")), ("timed out", "warn", 0.0));
    assert_eq!(number(late, "wait_s"), number(late, "total_s"));
    has_fields(find("refused", "busy"), &taken(&["error"]));
    has_fields(
        find("cancelled", "cancelled"),
        &taken(&["error", "worker", "worker_pid", "first_token_s", "prompt_tokens", "tokens", "tokens_per_s"]),
    );
    // What a worker says of a prompt may repeat it.
    has_fields(find("failed", "too_long"), &taken(&["worker", "worker_pid", "tokens"]));
    has_fields(find("refused", "bad_request"), &["kind", "error", "error_kind"]);
    let unknown = find("refused", "unknown_model");
    assert_eq!(text(unknown, "error"), "there is no model \"a\\nb\"; there is: echo");
    has_fields(find("refused", "protocol"), &["error", "error_kind"]);
}

#[test]
fn what_was_begun_and_is_not_finished_has_failed() {
    let mut daemon = echo("token_us=2000", "shutdown_timeout = \"100ms\"");
    let mut first = daemon.client();
    let running = endless(&mut first);
    let mut second = daemon.client();
    let waiting = Running::begin(&mut second, GenerateRequest::raw("never served")).unwrap();
    daemon.signal(Signal::SIGTERM);
    running.finish().unwrap_err();
    waiting.finish().unwrap_err();
    daemon.wait();
    let lines = requests(&daemon, 2);
    let said = |begun: bool| {
        let line = lines.iter().find(|line| (number(line, "attempts") > 0.0) == begun).unwrap();
        assert_eq!(text(line, "error_kind"), "shutting_down");
        (text(line, "outcome"), text(line, "level"))
    };
    assert_eq!((said(true), said(false)), (("failed", "warn"), ("refused", "info")));
}

#[test]
fn the_counts_in_the_status_are_those_of_the_lines() {
    let daemon = echo("", "");
    for number in 0..200 {
        let mut client = daemon.client();
        let running = Running::begin(&mut client, GenerateRequest::raw("text")).unwrap();
        match number % 3 {
            0 => drop(running),
            _ => drop(running.finish().unwrap()),
        }
    }
    let lines = requests(&daemon, 200);
    let count = |outcome| lines.iter().filter(|line| text(line, "outcome") == outcome).count() as u64;
    let totals = daemon.model().totals;
    assert_eq!((totals.answered, totals.cancelled), (count("answered"), count("cancelled")));
    let mut ids: Vec<&str> = lines.iter().map(|line| text(line, "request")).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 200, "each has one line");
}
