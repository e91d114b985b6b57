//! The clients that `ipc/examples` shows, of a real daemon: whoever copies one has one that works.

use integration_tests::{Daemon, client_example, skipped};
use std::{
    path::Path,
    process::{Command, Output},
};

const CONFIG: &str = "[[model]]\nname = \"echo\"\npath = \"builtin:echo\"\nworkers = 2\n";

/// Runs a client and returns what it printed.
#[track_caller]
fn run(command: &mut Command, daemon: &Daemon) -> String {
    let run = command.env("SUPERVISOR_SOCKET", daemon.socket()).output();
    let Output { status, stdout, stderr } = run.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8_lossy(&stderr).into_owned());
    assert!(status.success() && stderr.is_empty(), "{status}: {stdout}{stderr}");
    stdout
}

fn python(script: &Path) -> Command {
    let mut command = Command::new("python3");
    command.arg(script);
    command
}

fn script() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../ipc/examples/client.py"))
}

fn has_python() -> bool {
    let found = Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        skipped("there is no python3 to run ipc/examples/client.py with");
    }
    found
}

#[test]
fn the_blocking_example_prints_an_answer_and_the_status() {
    let daemon = Daemon::start(CONFIG);
    let said = run(Command::new(client_example("blocking")).arg("caf\u{e9} \u{1f600}"), &daemon);
    assert_eq!(said, "caf\u{e9} \u{1f600}\necho: warm\n");
}

#[test]
fn the_tokio_example_prints_two_answers_and_the_length_of_a_vector() {
    let daemon = Daemon::start(CONFIG);
    let example = client_example("asynchronous");
    assert_eq!(run(Command::new(example).args(["one", "two"]), &daemon), "one\ntwo\n");
}

#[test]
fn the_python_example_prints_an_answer_and_the_status() {
    if has_python() {
        let daemon = Daemon::start(CONFIG);
        let said = run(python(script()).arg("caf\u{e9} \u{1f600} \"\\"), &daemon);
        assert_eq!(said, "caf\u{e9} \u{1f600} \"\\\necho: warm\n");
    }
}

#[test]
fn clients_print_the_lengths_of_vectors() {
    let scripted = "bad: a vector of 7 numbers\n";
    let daemon =
        Daemon::scripted("ok?embed=7", "workers = 1\n[[model]]\nname = \"echo\"\npath = \"builtin:echo\"\nworkers = 1");
    let said = run(&mut Command::new(client_example("asynchronous")), &daemon);
    assert_eq!(said, format!("Spell cloud.\nSpell rain.\n{scripted}"));
    if has_python() {
        let said = run(python(script()).arg("x"), &daemon);
        assert_eq!(said, format!("x\n{scripted}echo: warm\n"));
    }
}

#[test]
fn clients_say_why_there_is_no_answer() {
    if has_python() {
        let daemon = Daemon::start(CONFIG);
        let ended = python(script()).arg("").env("SUPERVISOR_SOCKET", daemon.socket()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&ended.stderr), "the daemon says: the prompt is empty\n");
        assert_eq!(ended.status.code(), Some(1));
    }
}
