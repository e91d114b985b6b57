//! The configuration's file itself: whatever its path names, the daemon goes on and says why
//! nothing has changed.
use super::*;
use ipc::Control;
use nix::{sys::stat::Mode, unistd::mkfifo};

#[test]
fn what_cannot_be_read_to_its_end_does_not_stop_the_daemon() {
    let daemon = Daemon::start(&echo("echo", "", "workers = 1"));
    let path = daemon.folder().join("config.toml");
    let is_refused = |words: &str| {
        let ended = reload(&daemon);
        assert_eq!(ended.code(), 2, "{ended:?}");
        let expected = format!("supervisor: nothing has changed: {} cannot be read: {words}", path.display());
        assert_eq!(ended.complaint(), expected);
        assert_eq!(ask(&daemon, "echo").unwrap(), "text");
    };
    fs::remove_file(&path).unwrap();
    is_refused("No such file or directory (os error 2)");
    mkfifo(&path, Mode::S_IRWXU).unwrap();
    is_refused("it is not a file");
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    is_refused("it is not a file");
    fs::remove_file(&path).unwrap();
    fs::write(&path, vec![b'#'; (1 << 20) + 1]).unwrap();
    is_refused("it is longer than 1 MiB, as no configuration is");
}

#[test]
fn a_file_that_has_lost_its_models_changes_nothing() {
    let config = echo("echo", "", "workers = 1");
    let daemon = Daemon::start(&config);
    for text in ["", "[supervisor]\nqueue = 3\n", "model = []\n"] {
        refuses(&daemon, text, 2, "the configuration names no model any more");
        assert_eq!(ask(&daemon, "echo").unwrap(), "text");
    }
    let named = "[[model]]\npath = \"builtin:pocket\"\nworkers = 1\n";
    reloads(&daemon, named, &["pocket: added, loaded in TIME", "echo: removed; what was admitted is finished"]);
    // Models on the command line are no file's to lose.
    let daemon = Daemon::with("", &["--model", "echo=builtin:echo"]);
    reloads(&daemon, "[supervisor]\nqueue = 3\n", &["echo: changed in place (queue)"]);
}

#[test]
fn a_daemon_that_was_given_no_model_needs_none() {
    let daemon = Daemon::start("");
    reloads(&daemon, "", &["pocket: unchanged"]);
    reloads(&daemon, "# nothing", &["pocket: unchanged"]);
}

#[test]
fn settings_of_the_daemon_that_change_are_named() {
    let echo = echo("echo", "", "workers = 1");
    let daemon = Daemon::start(&echo);
    let config = format!("[supervisor]\nallow_users = [4294967294]\nshutdown_timeout = \"7s\"\ncores = 1\n{echo}");
    let lines = [
        "echo: unchanged",
        "[supervisor]: changed in place (allow_users and shutdown_timeout)",
        "cores: as before until the supervisor is started again",
    ];
    reloads(&daemon, &config, &lines);
    reloads(
        &daemon,
        &config.replace("7s", "8s"),
        &[lines[0], "[supervisor]: changed in place (shutdown_timeout)", lines[2]],
    );
    reloads(&daemon, &echo, &[lines[0], lines[1]]);
}

#[test]
fn who_does_not_wait_for_a_reload_any_more_does_no_harm() {
    let config = |options: &str| echo("echo", options, "workers = 1");
    let daemon = Daemon::start(&config(""));
    daemon.configure(&config("load_ms=700"));
    let waiting = Call::new(["reload"]).to(daemon.socket()).start();
    daemon.until("it loads", |status| status.state == "reloading" && status.models.len() == 2);
    // Who waits for this one, and who waits for the next.
    let mut next = daemon.client();
    let _unread = next.control(Control::Reload).unwrap();
    drop(next);
    waiting.signal(Signal::SIGINT);
    assert_eq!(waiting.wait().code(), 130);
    let loaded = daemon.until("it is in force all the same", |status| {
        status.state == "serving" && generation(&status.models[0]) == 2 && status.models.len() == 1
    });
    assert_eq!(loaded.reload_error, None);
    reloads(&daemon, &config("load_ms=700"), &["echo: unchanged"]);
    assert_eq!(ask(&daemon, "echo").unwrap(), "text");
    daemon.settle();
    daemon.has_only_its_own();
}
