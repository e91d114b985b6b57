//! Who may use HTTP: keys, names in Host, origins; and in whose name a request is served.
use integration_tests::{Daemon, Http, chat, model};
use std::{fs, os::unix::fs::PermissionsExt};

const KEYS: &str = "# people\nana sk-ana-12345678\nroot sk-root-12345678 admin\n";

/// A daemon that wants keys.
fn with_keys() -> (Daemon, Http, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    fs::write(&path, KEYS).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let http = format!("[http]\nlisten = [\"127.0.0.1:0\"]\napi_keys_file = {path:?}\n");
    let daemon =
        Daemon::start(&format!("{http}{}", model("builtin:echo?token_us=1000&context=1000000", "workers = 1")));
    let http = Http::of(&daemon);
    (daemon, http, folder)
}

#[test]
fn with_keys_nobody_is_served_without_one() {
    let (daemon, http, _keys) = with_keys();
    let body = chat("model", "x").to_string();
    let ask = |headers: &[(&str, &str)]| http.ask("POST", "/v1/chat/completions", headers, &body);
    let refused = ask(&[]);
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (401, Some("invalid_api_key")));
    assert_eq!(refused.headers["www-authenticate"], "Bearer");
    assert_eq!(ask(&[("Authorization", "Bearer sk-wrong")]).status, 401);
    assert_eq!(ask(&[("Authorization", "Bearer sk-ana-12345678"), ("X-Api-Key", "sk-root-12345678")]).status, 400);
    assert_eq!(ask(&[("Authorization", "bearer sk-ana-12345678")]).status, 200);
    assert_eq!(ask(&[("X-Api-Key", "sk-ana-12345678"), ("X-Request-Id", "trace-7")]).status, 200);
    // Whether it lives, everybody may ask.
    assert_eq!((http.get("/health").status, http.get("/ready").status, http.get("/status").status), (200, 200, 401));
    let log = daemon.log();
    assert!(log.contains("owner=key:ana") && log.contains("http_request=trace-7"), "{log}");
    assert!(!log.contains("sk-ana"), "a key is never told");
}

#[test]
fn the_status_shows_who_asks_what_is_theirs() {
    let (daemon, http, _keys) = with_keys();
    let mut body = chat("model", "x");
    body["ignore_eos"] = true.into();
    body["max_tokens"] = 100_000.into();
    let headers = [("X-Api-Key", "sk-ana-12345678")];
    let _open = http.begin("POST", "/v1/chat/completions", &headers, &body.to_string());
    let status =
        daemon.until("it runs", |status| status.models[0].workers.iter().any(|worker| worker.request.is_some()));
    let owner = status.models[0].workers.iter().find_map(|worker| worker.owner.clone());
    assert_eq!(owner.as_deref(), Some("key:ana"));
    let shown = |key: &str| http.ask("GET", "/status", &[("X-Api-Key", key)], "").json();
    let requests = |status: &serde_json::Value| {
        let workers = status["models"][0]["workers"].as_array().unwrap();
        workers.iter().filter(|worker| worker["request"].is_string()).count()
    };
    assert_eq!((requests(&shown("sk-ana-12345678")), requests(&shown("sk-root-12345678"))), (1, 1));
    assert!(!shown("sk-ana-12345678").to_string().contains(daemon.folder().to_str().unwrap()), "no path is shown");
}

#[test]
fn without_keys_only_names_of_this_host_are_served() {
    let (daemon, http) = super::serve("builtin:echo", "");
    let host = |host: &str| http.ask("GET", "/v1/models", &[("Host", host)], "").status;
    assert_eq!((host("localhost"), host("127.0.0.1:1"), host("host.docker.internal")), (200, 200, 200));
    assert_eq!((host("evil.example"), host("localhost.evil.example")), (403, 403));
    // A page elsewhere is refused before its body is read.
    let body = chat("model", "x").to_string();
    let page = http.ask("POST", "/v1/chat/completions", &[("Origin", "http://evil.example")], &body);
    assert_eq!(page.status, 403, "{page:?}");
    assert_eq!(daemon.settle().models[0].totals.accepted, 0);
    let own = format!("http://{}", http.address());
    let page = http.ask("POST", "/v1/chat/completions", &[("Origin", &own), ("Host", http.address())], &body);
    assert_eq!((page.status, page.headers["access-control-allow-origin"].as_str()), (200, own.as_str()));
}

#[test]
fn keys_that_others_may_read_are_refused_before_anything_begins() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    fs::write(&path, KEYS).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let config = format!("[http]\nlisten = [\"127.0.0.1:0\"]\napi_keys_file = {path:?}\n{}", model("builtin:echo", ""));
    let mut daemon = Daemon::launch(&config, &[]);
    assert_eq!(daemon.wait().code(), Some(2));
    assert!(daemon.last_words().contains("chmod o-rwx"), "{}", daemon.last_words());
    let config = format!("[http]\nlisten = [\"0.0.0.0:0\"]\n{}", model("builtin:echo", ""));
    let mut daemon = Daemon::launch(&config, &[]);
    assert_eq!(daemon.wait().code(), Some(2));
    assert!(daemon.last_words().contains("set api_keys_file"), "{}", daemon.last_words());
}
