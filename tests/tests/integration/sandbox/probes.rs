//! From inside: the bad worker, confined as the real one is, tries what it must not do.
use super::crash;
use integration_tests::{Daemon, skipped};
use std::fs;
use system::sandbox::has_landlock;

/// What neither a template nor a worker may do, and what is said to it.
const REFUSED: [&str; 19] = [
    "open",
    "open-own",
    "create",
    "stat",
    "list",
    "mkdir",
    "remove",
    "chdir",
    "socket",
    "socket-inet",
    "socketpair",
    "connect",
    "kill",
    "kill-own",
    "kill-all",
    "memfd",
    "executable",
    "uncounted",
    "core",
];

fn refused() -> Vec<String> {
    REFUSED.iter().map(|what| format!("{what}: EPERM")).collect()
}

#[test]
fn a_worker_has_no_files_no_network_and_no_other_process() {
    let crash = crash("probe?confine=both", "");
    assert_eq!(crash.cause, "exit status 7");
    let expected = [refused(), vec!["descriptors: files [0, 1, 2], sockets 1".to_owned()]].concat();
    assert_eq!(crash.stderr, expected);
    // Without the filter these are two that would have worked.
    assert!(fs::metadata("/tmp/created-by-a-worker").is_err() && fs::metadata("/tmp/made-by-a-worker").is_err());
}

#[test]
fn a_worker_makes_threads_but_no_processes() {
    let crash = crash("probe-worker?confine=both", "");
    assert_eq!(crash.cause, "exit status 7");
    let expected = [
        "fork: EPERM",
        "spawn: EPERM",
        "wait: EPERM",
        "pipe: EPERM",
        "inspect: EPERM",
        "untie: EPERM",
        "addresses: ENOMEM",
        "thread: allowed",
        "memory: allowed",
    ];
    assert_eq!(crash.stderr, expected);
}

#[test]
fn what_nobody_does_by_mistake_ends_a_worker() {
    for action in ["exec", "trace", "unshare"] {
        let crash = crash(&format!("{action}?confine=both"), "");
        assert_eq!((crash.cause.as_str(), crash.stderr.len()), ("signal 31 (SIGSYS)", 0), "{action}");
    }
}

#[test]
fn a_template_has_no_files_and_no_network_when_it_reads_the_model() {
    let crash = template_crash("probe");
    assert_eq!(crash.cause, "exit status 7");
    // Its control socket, what `/proc` says of it, and the standard ones.
    let expected = [refused(), vec!["descriptors: files [0, 1, 2, 4, 5], sockets 1".to_owned()]].concat();
    assert_eq!(crash.stderr, expected);
    for action in ["exec", "trace", "unshare"] {
        assert_eq!(template_crash(action).cause, "signal 31 (SIGSYS)", "{action}");
    }
}

/// How a template ends that does this while it loads.
fn template_crash(action: &str) -> ipc::status::Crash {
    let daemon = Daemon::launch_scripted(&format!("{action}@load?confine=both"), "workers = 1");
    let crash = daemon.until_model("it has crashed", |model| model.last_crash.is_some()).last_crash.unwrap();
    assert_eq!(crash.slot, None);
    crash
}

#[test]
fn landlock_alone_denies_paths_ports_and_signals() {
    if !has_landlock() {
        skipped("this kernel has no Landlock");
        return;
    }
    let crash = crash("probe-paths?confine=paths", "");
    assert_eq!(crash.stderr[..2], ["open: EACCES", "list: EACCES"]);
    if !is_at_least(6, 12) {
        skipped("the Landlock of this kernel knows no ports or no signals");
        return;
    }
    assert_eq!(crash.stderr[2..], ["bind-tcp: EACCES", "connect-tcp: EACCES", "signal: EPERM"]);
}

/// Whether the kernel has this version or a newer one.
fn is_at_least(major: u32, minor: u32) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).filter_map(|number| number.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}
