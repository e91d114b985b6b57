//! The fault campaign in its short form: a few rounds of all faults under full load, in both modes
//! of isolation.
//!
//! `CAMPAIGN_SEED` sets the seed, which a failing run prints. The long form is `cargo run --release
//! -p integration-tests --bin campaign`.
use integration_tests::campaign::{Campaign, Fault, seed};

fn faults(isolation: &'static str, seed: u64) {
    let report = Campaign::new(isolation, seed).run().unwrap_or_else(|wrong| panic!("{wrong}"));
    println!("{report}");
    let tally = report.tally();
    assert!(tally.repeated > 0 && tally.left > 0, "no fault has hit anybody: {tally:?}");
    for fault in [Fault::Stop, Fault::KillTemplate, Fault::DeletedSocket, Fault::Descriptors, Fault::Spin, Fault::Hog] {
        assert!(report.count(fault) > 0, "{fault:?} was not done");
    }
}

#[test]
fn no_fault_costs_an_answer_of_a_worker_for_each_request() {
    faults("request", seed(1));
}

#[test]
fn no_fault_costs_an_answer_of_workers_of_many_requests() {
    faults("worker", seed(2));
}

#[test]
fn a_request_that_costs_too_many_workers_is_refused_and_no_other() {
    for isolation in ["request", "worker"] {
        let refusals = Campaign::new(isolation, seed(3)).refusals(2).unwrap_or_else(|wrong| panic!("{wrong}"));
        println!("{refusals}");
        assert_eq!((refusals.tally.fatal, refusals.tally.refused), (4, 4));
        assert!(refusals.tally.answered > 0, "nobody else has asked");
    }
}
