//! The life of the process that speaks HTTP: what it may do, and what its end costs.
use super::{LISTEN, serve};
use integration_tests::{Call, Daemon, Http, Signal, chat, model, process};
use nix::{sys::signal::kill, unistd::Pid};
use serde_json::json;

fn front(daemon: &Daemon) -> u32 {
    daemon
        .until("there is a front", |status| status.http.as_ref().is_some_and(|http| http.pid.is_some()))
        .http
        .unwrap()
        .pid
        .unwrap()
}

#[test]
fn its_end_costs_what_it_served_and_nothing_else() {
    let (daemon, http) = serve("builtin:echo?token_us=2000&context=1000000", "workers = 2");
    let mut body = chat("model", "x");
    body["ignore_eos"] = true.into();
    let _open = http.begin("POST", "/v1/chat/completions", &[], &body.to_string());
    daemon.until_model("it runs", |model| model.totals.accepted == 1);
    let before = front(&daemon);
    kill(Pid::from_raw(before.cast_signed()), Signal::SIGKILL).unwrap();
    // The sockets are still there, so whoever connects meanwhile waits.
    assert_eq!(http.post("/v1/completions", &json!({"prompt": "x"})).status, 200);
    daemon.until_model("what it served is cancelled", |model| model.totals.cancelled == 1);
    let status = daemon.status().http.unwrap();
    assert_ne!(status.pid, Some(before));
    assert_eq!(status.last_crash.unwrap().pid, before);
    assert_eq!(daemon.status().models[0].last_crash, None, "no worker is blamed");
}

#[test]
fn one_that_is_stuck_is_replaced() {
    let (daemon, http) = serve("builtin:echo", "");
    let before = front(&daemon);
    kill(Pid::from_raw(before.cast_signed()), Signal::SIGSTOP).unwrap();
    daemon.until("another one serves", |status| {
        status.http.as_ref().is_some_and(|http| http.pid.is_some_and(|pid| pid != before) && !http.listen.is_empty())
    });
    assert_eq!(http.get("/health").status, 200);
}

#[test]
fn it_can_do_nothing_but_talk() {
    let (daemon, http) = serve("builtin:echo", "");
    assert_eq!(http.get("/health").status, 200);
    let pid = front(&daemon);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!((field("NoNewPrivs:"), field("Seccomp:"), field("Threads:")), ("1".into(), "2".into(), "1".into()));
    let sandbox = daemon.status().http.unwrap().sandbox.unwrap();
    assert!(sandbox.starts_with("seccomp"), "{sandbox}");
    // It dies with the daemon, whatever it does then.
    drop(daemon);
    integration_tests::until("it has gone", integration_tests::LIMIT, || !process::lives(pid));
}

#[test]
fn a_reload_brings_a_new_one_into_force_or_nothing() {
    let (daemon, http) = serve("builtin:echo", "");
    let before = front(&daemon);
    let reload = || Call::new(["reload"]).to(daemon.socket()).run();
    daemon.configure(&format!("{LISTEN}connections = 9\n{}", model("builtin:echo", "")));
    assert!(reload().status.success());
    let after = front(&daemon);
    assert_ne!(before, after);
    assert_eq!(http.get("/health").status, 200, "on the same socket");
    // What another has taken cannot be listened on.
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    daemon.configure(&format!("[http]\nlisten = [\"{}\"]\n{}", other.local_addr().unwrap(), model("builtin:echo", "")));
    let refused = reload();
    assert!(!refused.status.success() && refused.stderr.contains("cannot listen on"), "{refused:?}");
    assert_eq!((front(&daemon), http.get("/health").status), (after, 200), "the one before goes on");
    daemon.configure(&model("builtin:echo", ""));
    assert!(reload().status.success());
    assert_eq!(daemon.status().http, None);
    assert!(std::net::TcpStream::connect(http.address()).is_err());
}

#[test]
fn what_is_admitted_is_finished_before_the_end() {
    let (mut daemon, http) = serve("builtin:echo?token_us=20000", "");
    let mut open = http.begin("POST", "/v1/completions", &[], &json!({"prompt": "abcdefgh"}).to_string());
    daemon.until_model("it runs", |model| model.totals.accepted == 1);
    daemon.signal(Signal::SIGTERM);
    let reply = integration_tests::read_reply(&mut std::io::BufReader::new(&mut open));
    assert_eq!((reply.status, reply.json()["choices"][0]["text"].as_str()), (200, Some("abcdefgh")));
    assert!(daemon.wait().success());
}

#[test]
fn a_place_that_cannot_be_had_ends_the_daemon_in_a_sentence() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let keys = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&keys, "ana secret-of-ana\n").unwrap();
    for (place, remedy) in [
        (taken.as_str(), "something else listens there"),
        // An address of those that are for documents only.
        ("192.0.2.1:8080", "this host has no such address"),
        ("unix:/no/such/folder/http.sock", "its folder must be there"),
    ] {
        let keys = keys.path().display();
        let config =
            format!("[http]\nlisten = [\"{place}\"]\napi_keys_file = \"{keys}\"\n{}", model("builtin:echo", ""));
        let mut daemon = Daemon::launch(&config, &[]);
        assert_eq!(daemon.wait().code(), Some(1));
        let words = format!("cannot listen on {place}; {remedy}: ");
        assert!(daemon.last_words().contains(&words), "{}", daemon.last_words());
    }
}

#[test]
fn drained_it_is_alive_and_not_ready() {
    let (daemon, http) = serve("builtin:echo", "");
    assert_eq!(http.get("/ready").status, 200);
    assert!(Call::new(["drain"]).to(daemon.socket()).run().status.success());
    let refused = http.post("/v1/completions", &json!({"prompt": "x"}));
    assert_eq!((http.get("/health").status, http.get("/ready").status, refused.status), (200, 503, 503));
    assert_eq!(refused.headers["x-should-retry"], "true");
    let _http = Http::of(&daemon);
}
