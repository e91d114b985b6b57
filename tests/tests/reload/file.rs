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
