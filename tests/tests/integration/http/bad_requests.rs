//! What is no HTTP, or too much of it: the right status, and others are served meanwhile.
use super::serve;
use integration_tests::{LIMIT, chat, until};
use serde_json::json;
use std::{io::Write, net::Shutdown};

const HEAD: &str = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n";

#[test]
fn what_is_no_request_gets_a_status() {
    let (_daemon, http) = serve("builtin:echo", "");
    for (what, bytes, status) in [
        ("no HTTP", "\u{0}\u{1}\r\n\r\n".to_owned(), "400"),
        ("two lengths", format!("{HEAD}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"), "400"),
        (
            "a length and chunks",
            format!("{HEAD}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            "400",
        ),
        ("a long header", format!("{HEAD}X: {}\r\n\r\n", "a".repeat(20_000)), "431"),
        ("a folded header", format!("{HEAD}X: a\r\n b\r\nContent-Length: 0\r\n\r\n"), "400"),
        ("no chunk", format!("{HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\n"), "400"),
        ("compressed", format!("{HEAD}Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{{}}"), "415"),
        ("too long", format!("{HEAD}Content-Length: 99999999\r\n\r\n{{}}"), "413"),
        ("many headers", format!("{HEAD}{}\r\n", "X: 1\r\n".repeat(200)), "431"),
        ("two hosts", format!("{HEAD}Host: localhost\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}"), "400"),
    ] {
        let answer = http.raw(bytes.as_bytes());
        assert_eq!(answer.split(' ').nth(1), Some(status), "{what}: {answer}");
        assert!(answer.contains(r#""type":"invalid_request_error""#), "{what}: {answer}");
    }
    let close = [("Connection", "close")];
    for (body, words) in [
        ("", "there is no body"),
        ("{", "EOF"),
        ("[]", "no object"),
        ("{\"prompt\": \"x\", \"prompt\": \"y\"}", "occurs twice"),
        ("{\"prompt\": NaN}", "JSON"),
    ] {
        let reply = http.ask("POST", "/v1/completions", &close, body);
        assert_eq!(reply.status, 400, "{body}");
        assert!(reply.error().contains(words), "{body}: {reply:?}");
    }
    let deep = format!("{{\"prompt\": \"x\", \"user\": {}1{}}}", "[".repeat(300), "]".repeat(300));
    assert_eq!(http.ask("POST", "/v1/completions", &close, &deep).status, 400);
    assert_eq!(http.get("/v1/none").status, 404);
    assert_eq!(http.get("/v1/models/").status, 404);
    let wrong = http.get("/v1/chat/completions");
    assert_eq!((wrong.status, wrong.headers["allow"].as_str()), (405, "POST"));
    assert_eq!(http.post("/v1/completions", &json!({"prompt": "still served"})).status, 200);
}

#[test]
fn half_a_character_is_replaced_and_nothing_breaks() {
    let (_daemon, http) = serve("builtin:echo", "");
    let reply = http.ask("POST", "/v1/completions", &[], r#"{"prompt": "a\ud83dz", "max_tokens": 9}"#);
    assert_eq!(reply.json()["choices"][0]["text"], "a\u{fffd}z");
}

#[test]
fn a_client_that_sends_no_more_still_gets_its_answer() {
    let (_daemon, http) = serve("builtin:echo?token_us=20000", "");
    let mut stream = http.begin("POST", "/v1/completions", &[], &json!({"prompt": "abcdef"}).to_string());
    stream.shutdown(Shutdown::Write).unwrap();
    let reply = integration_tests::read_reply(&mut std::io::BufReader::new(&mut stream));
    assert_eq!((reply.status, reply.json()["choices"][0]["text"].as_str()), (200, Some("abcdef")));
}

#[test]
fn a_client_that_hangs_up_frees_its_slot_wherever_its_request_is() {
    let endless = "builtin:echo?token_us=2000&prompt_us=2000&context=1000000";
    let (daemon, http) = serve(endless, "workers = 1");
    let mut body = chat("model", &"p".repeat(100_000));
    body["stream"] = true.into();
    // One that is computed, one that waits, and one that waits with another request behind it.
    let mut open: Vec<_> = (0..3).map(|_| http.begin("POST", "/v1/chat/completions", &[], &body.to_string())).collect();
    open[2].write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    daemon.until_model("one runs and two wait", |model| model.totals.accepted == 3 && model.queue.length == 2);
    drop(open);
    daemon.until_model("all are cancelled", |model| model.totals.cancelled == 3);
    let totals = daemon.settle().models[0].totals;
    assert_eq!((totals.answered, totals.worker_crashes), (0, 0));
}

#[test]
fn a_full_queue_says_when_to_come_again() {
    let (daemon, http) = serve("builtin:echo?token_us=2000&context=1000000", "workers = 1\n[supervisor]\nqueue = 1");
    let mut body = chat("model", "x");
    body["ignore_eos"] = true.into();
    let _open: Vec<_> = (0..2).map(|_| http.begin("POST", "/v1/chat/completions", &[], &body.to_string())).collect();
    daemon.until_model("one runs and one waits", |model| model.totals.accepted == 2);
    let refused = http.post("/v1/chat/completions", &body);
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (429, Some("queue_full")));
    assert!(refused.headers["retry-after"].parse::<u64>().is_ok_and(|seconds| (1..=60).contains(&seconds)));
    assert!(refused.headers["retry-after-ms"].parse::<u64>().is_ok());
    assert_eq!(refused.headers["x-should-retry"], "true");
}

#[test]
fn nothing_is_begun_that_its_client_would_not_wait_for() {
    let (daemon, http) = serve("builtin:echo?token_us=2000&context=1000000", "workers = 1");
    let mut body = chat("model", "x");
    body["ignore_eos"] = true.into();
    let _open = http.begin("POST", "/v1/chat/completions", &[], &body.to_string());
    daemon.until_model("it runs", |model| model.totals.accepted == 1);
    let patience = [("x-stainless-read-timeout", "0.05")];
    let given_up = http.ask("POST", "/v1/chat/completions", &patience, &body.to_string());
    assert_eq!((given_up.status, given_up.json()["error"]["type"].as_str()), (504, Some("timeout_error")));
    assert_eq!(daemon.status().models[0].totals.timed_out, 1);
}

#[test]
fn connections_that_send_nothing_keep_nobody_out() {
    let daemon = integration_tests::Daemon::start(&format!(
        "[http]\nlisten = [\"127.0.0.1:0\"]\nconnections = 20\n{}",
        integration_tests::model("builtin:echo", "")
    ));
    let http = integration_tests::Http::of(&daemon);
    let silent: Vec<_> = (0..100).map(|_| http.connect()).collect();
    assert_eq!(http.post("/v1/completions", &json!({"prompt": "x"})).status, 200);
    until("the front says how many there are", LIMIT, || {
        daemon.status().http.is_some_and(|http| (1..=20).contains(&http.connections))
    });
    drop(silent);
}
