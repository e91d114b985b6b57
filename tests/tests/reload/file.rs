//! The configuration's file itself: whatever its path names, the daemon goes on and says why nothing has changed.
use super::*;
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
    is_refused("it is not a regular file");
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    is_refused("it is not a regular file");
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
