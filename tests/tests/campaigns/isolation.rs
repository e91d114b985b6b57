//! The isolation campaign in its short form: no secret of a request comes out in another, whoever
//! is killed meanwhile.
//!
//! `CAMPAIGN_SEED` sets the seed, which a failing run prints. The long form is
//! `cargo run --release -p integration-tests --bin campaign -- isolation`.
use integration_tests::campaign::{Kept, Secrets, seed};

/// The same requests in both modes of isolation.
fn both_modes(clients: usize) {
    let run = |isolation| -> Kept {
        let secrets = Secrets { seed: seed(7), isolation, generations: 120, clients };
        let kept = secrets.run().unwrap_or_else(|wrong| panic!("{wrong}"));
        println!("{kept}");
        // Else nothing would be there to be leaked.
        assert!(kept.recalled * 10 >= kept.told * 7 && kept.told > 30, "the model does not recall: {kept}");
        assert!(kept.killed > 0 && kept.vectors > 0, "{kept}");
        kept
    };
    assert_eq!(run("request").answers, run("worker").answers, "seed {}", seed(7));
}

#[test]
fn no_secret_leaks_from_one_request_to_the_next() {
    both_modes(1);
}

#[test]
fn no_secret_leaks_between_requests_at_the_same_time() {
    both_modes(6);
}
