//! The forms that the log can have, and who chooses.
use super::text;
use integration_tests::{Call, Daemon, LIMIT, generate, process, until};
use ipc::GenerateRequest;
use std::{
    fs,
    os::unix::{fs::MetadataExt, net::UnixDatagram},
    path::Path,
    process::Command,
    time::Duration,
};

const ECHO: &str = "[[model]]\nname = \"echo\"\npath = \"builtin:echo\"\nworkers = 1\n";

/// Has the daemon believe that its log is a stream into the journal, whose socket is `journal` in
/// its folder.
fn under_systemd(command: &mut Command, folder: &Path) {
    let log = fs::metadata(folder.join("log")).unwrap();
    command.env("JOURNAL_STREAM", format!("{}:{}", log.dev(), log.ino()));
    command.arg("--journal-socket").arg(folder.join("journal"));
}

#[test]
fn people_read_text() {
    let daemon = Daemon::start(ECHO);
    generate(&daemon, GenerateRequest::raw("text")).unwrap();
    until("the request is in the log", LIMIT, || daemon.log().contains("outcome="));
    let log = daemon.log();
    assert!(!log.contains('\u{1b}'), "a file has no colours: {log}");
    let line = log.lines().find(|line| line.contains("outcome=")).unwrap();
    let (time, rest) = line.split_once(' ').unwrap();
    assert!(time.len() == "2026-01-02T03:04:05.678Z".len() && time.ends_with('Z'), "{line}");
    let words = "INFO  answered                request=req-1 model=echo kind=generate outcome=answered client_uid=";
    assert!(rest.starts_with(words), "{line}");
}

#[test]
fn the_command_line_wins() {
    let config = format!("[supervisor]\nlog_format = \"json\"\n{ECHO}");
    let daemon = Daemon::with(&config, &["--log-format", "text", "--log-level", "info"]);
    let log = daemon.log();
    assert!(log.contains(" INFO  starting ") && !log.contains(" DEBUG "), "{log}");
    let daemon = Daemon::with(ECHO, &["--log-format", "json"]);
    assert_eq!(text(&super::all(&daemon)[0], "message"), "starting");
}

#[test]
fn wrong_choices_are_refused_in_a_sentence() {
    for (option, value) in [("--log-format", "xml"), ("--log-level", "loud")] {
        let ended = Call::new(["run", option, value]).run();
        assert_eq!(ended.code(), 2, "{ended:?}");
        assert!(ended.stderr.contains(&format!("invalid value '{value}' for '{option}")), "{ended:?}");
    }
}

#[test]
fn a_daemon_that_cannot_run_says_so_in_its_form() {
    let config = "[supervisor]\nlog_format = \"json\"\n[[model]]\nname = \"none\"\npath = \"/no/such/file\"\n";
    let mut daemon = Daemon::launch(config, &[]);
    assert_eq!(daemon.wait().code(), Some(1));
    let lines = super::all(&daemon);
    let last = lines.last().unwrap();
    assert_eq!(text(last, "level"), "error");
    assert!(text(last, "message").starts_with("nothing can be served: none: cannot open the model"), "{last:#?}");
}

#[test]
fn systemds_journal_gets_fields() {
    let mut journal = None;
    let daemon = Daemon::launch_as(ECHO, &[], |command, folder| {
        let socket = UnixDatagram::bind(folder.join("journal")).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        journal = Some(socket);
        under_systemd(command, folder);
    });
    daemon.settle();
    generate(&daemon, GenerateRequest::raw("text")).unwrap();
    let journal = journal.unwrap();
    let mut buffer = vec![0; 1 << 16];
    let record = loop {
        let count = journal.recv(&mut buffer).unwrap();
        let record = String::from_utf8_lossy(&buffer[..count]).into_owned();
        if record.contains("\nSUPERVISOR_OUTCOME=") {
            break record;
        }
    };
    for field in [
        "PRIORITY=6",
        "SYSLOG_IDENTIFIER=supervisor",
        "SUPERVISOR_REQUEST=req-1",
        "SUPERVISOR_MODEL=echo",
        "SUPERVISOR_TOKENS=4",
    ] {
        assert!(record.lines().any(|line| line == field), "{field} is not in {record}");
    }
    let message = record.lines().find_map(|line| line.strip_prefix("MESSAGE=")).unwrap();
    assert!(message.starts_with("answered ") && message.contains(" tokens=4 "), "{message}");
    assert_eq!(daemon.log(), "", "nothing is told twice");
    // A template has what it has without a journal.
    let template = daemon.model().template.unwrap().pid;
    let plain = Daemon::start(ECHO);
    let other = plain.model().template.unwrap().pid;
    let descriptors = |pid| process::descriptors(pid).len();
    until("both templates have forked", LIMIT, || descriptors(template) == descriptors(other));
}

#[test]
fn without_the_journals_socket_its_stream_gets_lines_with_priorities() {
    let daemon = Daemon::launch_as(ECHO, &[], under_systemd);
    daemon.settle();
    let log = daemon.log();
    assert!(log.starts_with("<6>starting  "), "{log}");
    assert!(log.lines().all(|line| line.starts_with("<6>") || line.starts_with("<7>")), "{log}");
}

#[test]
fn a_journal_that_hangs_holds_nobody_up() {
    let mut journal = None;
    let daemon = Daemon::launch_as(ECHO, &[], |command, folder| {
        // Nobody receives what is sent here; soon nothing more can be sent.
        journal = Some(UnixDatagram::bind(folder.join("journal")).unwrap());
        under_systemd(command, folder);
    });
    daemon.settle();
    for _ in 0..1000 {
        assert_eq!(generate(&daemon, GenerateRequest::raw("text")).unwrap().text, "text");
    }
    let journal = journal.unwrap();
    journal.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert!(journal.recv(&mut [0; 100]).is_ok(), "it was sent to");
}
