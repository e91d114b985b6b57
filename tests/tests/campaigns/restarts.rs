//! Restarts under load, in the short form: whatever is restarted, no request fails. The long form
//! is `cargo run --release -p integration-tests --bin campaign -- restarts`.
use integration_tests::campaign::{Restarted, seed};

fn restarts(kind: Restarted) {
    let restarts = kind.run(3, seed(1)).unwrap_or_else(|wrong| panic!("{wrong}"));
    println!("{restarts}");
    assert!(restarts.answered >= 15, "there was no load: {restarts}");
}

#[test]
fn no_request_fails_by_a_restart_of_the_daemon() {
    restarts(Restarted::Daemon);
}

#[test]
fn no_request_fails_by_a_model_that_is_replaced() {
    restarts(Restarted::Model);
}

#[test]
fn no_request_fails_by_workers_that_are_restarted() {
    restarts(Restarted::Worker);
}
