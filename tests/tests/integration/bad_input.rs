//! Wrong input gets one clear sentence and harms nobody else: frames, requests, models' files, and
//! what lies where the socket should.
mod frames;
mod greedy;
mod models;
mod requests;
mod socket;

use integration_tests::{Daemon, generate};
use ipc::GenerateRequest;

/// A daemon that answers with the prompt, with these options.
fn echo(options: &str) -> Daemon {
    Daemon::start(&format!("[[model]]\nname = \"echo\"\npath = \"builtin:echo?{options}\"\nworkers = 1\n"))
}

/// Asks on a connection of its own: the daemon must be well.
#[track_caller]
fn serves(daemon: &Daemon) {
    match generate(daemon, GenerateRequest::raw("still there?")) {
        Ok(answer) => assert_eq!(answer.text, "still there?"),
        Err(error) => panic!("{error}\n{}", daemon.log()),
    }
}
