//! A log that cannot be written: requests are answered all the same.
use super::text;
use integration_tests::{Daemon, LIMIT, Signal, generate, process, until};
use ipc::GenerateRequest;
use nix::{
    fcntl::{FcntlArg, fcntl},
    unistd::pipe,
};
use std::{
    fs::File,
    io::Read,
    process::{Command, Stdio},
    thread,
};

const CONFIG: &str = "[supervisor]\nlog_format = \"json\"\nlog_prompts = \"full\"\n[[model]]\nname = \"echo\"\npath = \"builtin:echo?context=8192\"\nworkers = 2\n";

/// A daemon whose log is this.
fn with_log(log: impl Into<Stdio>) -> Daemon {
    let daemon = Daemon::launch_as(CONFIG, &[], |command: &mut Command, _| {
        command.stderr(log);
    });
    daemon.settle();
    daemon
}

/// Has a thousand requests answered, each of which has a long line in the log.
fn load(daemon: &Daemon) {
    let prompt = "x".repeat(3000);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..250 {
                    let request = GenerateRequest { max_tokens: Some(1), ..GenerateRequest::raw(prompt.as_str()) };
                    assert_eq!(generate(daemon, request).unwrap().text, "x");
                }
            });
        }
    });
}

/// Bytes that the daemon has in use.
fn memory(daemon: &Daemon) -> u64 {
    process::resident(daemon.pid()).unwrap()
}

#[test]
fn on_a_full_disk() {
    let mut daemon = with_log(File::create("/dev/full").unwrap());
    load(&daemon);
    assert!(memory(&daemon) < 100 << 20, "{} bytes", memory(&daemon));
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.wait().success());
}

#[test]
fn with_stderr_closed() {
    let daemon = Daemon::launch_as(CONFIG, &[], |command, _| {
        let (read, write) = pipe().unwrap();
        drop(read);
        command.stderr(write);
    });
    daemon.settle();
    load(&daemon);
}

#[test]
fn into_a_pipe_that_nobody_reads() {
    let (read, write) = pipe().unwrap();
    // As little as a pipe can hold.
    fcntl(&write, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    let mut daemon = with_log(write);
    load(&daemon);
    load(&daemon);
    assert!(memory(&daemon) < 100 << 20, "{} bytes", memory(&daemon));
    process::kill(daemon.model().template.unwrap().pid, Signal::SIGKILL);
    load(&daemon);

    // Somebody reads again, and is told what is missing.
    let reader = thread::spawn(move || {
        let mut log = Vec::new();
        File::from(read).read_to_end(&mut log).map(|_| log)
    });
    let before = daemon.model().totals.answered;
    until("the pipe is read", LIMIT, || {
        generate(&daemon, GenerateRequest::raw("x")).is_ok() && daemon.model().totals.answered > before + 20
    });
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.wait().success());
    let log = String::from_utf8(reader.join().unwrap().unwrap()).unwrap();
    let lines: Vec<super::Line> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    let lost: u64 = lines.iter().filter_map(|line| line.get("lost")?.as_u64()).sum();
    assert!(lost > 1000, "{lost} lines were lost");
    assert_eq!(text(lines.last().unwrap(), "message"), "stopped");
}

#[test]
fn a_daemon_ends_whose_last_words_nobody_reads() {
    let (read, write) = pipe().unwrap();
    fcntl(&write, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    // It is full from the beginning.
    nix::unistd::write(&write, &[b'x'; 4096]).unwrap();
    let missing = "[[model]]\nname = \"none\"\npath = \"/no/such/file\"\n";
    let mut daemon = Daemon::launch_as(missing, &[], |command, _| {
        command.stderr(write);
    });
    assert_eq!(daemon.wait().code(), Some(1));
    drop(read);
}
