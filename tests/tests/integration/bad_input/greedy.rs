//! Clients that ask for more than is good for others.
use super::{echo, serves};
use integration_tests::{Daemon, Running, Wire, process};
use ipc::{FailureKind, GenerateRequest, MAX_REQUEST, Request, Response};

/// Asks with this frame again and again and never listens, until the daemon takes no more or has
/// taken very much.
fn flood(daemon: &Daemon, frame: &[u8]) -> Wire {
    let wire = Wire::connect(daemon);
    let many = frame.repeat(1000);
    for _ in 0..300 {
        if !wire.write(&many) {
            break;
        }
    }
    wire
}

#[test]
fn a_client_that_asks_and_never_listens_harms_nobody() {
    let nothing = Wire::frame(&Request::Generate(Box::new(GenerateRequest::raw(""))));
    let undecodable = ipc::frame(b"\x63", MAX_REQUEST).unwrap();
    for frame in [Wire::frame(&Request::Status), undecodable, nothing] {
        let daemon = echo("token_us=500");
        let mut other = daemon.client();
        let running = Running::begin(&mut other, GenerateRequest::raw("all the while ".repeat(40))).unwrap();
        let before = process::resident(daemon.pid()).unwrap();
        let greedy = flood(&daemon, &frame);
        serves(&daemon);
        let answer = running.finish().unwrap_or_else(|error| panic!("{error}\n{}", daemon.log()));
        assert_eq!(answer.text, "all the while ".repeat(40));
        let more = process::resident(daemon.pid()).unwrap().saturating_sub(before);
        assert!(more < 32 << 20, "{more} bytes are kept for a client that takes nothing");
        drop(greedy);
        serves(&daemon);
    }
}

#[test]
fn a_name_of_any_length_gets_a_short_answer() {
    let daemon = echo("");
    for length in [65, 10_000, (MAX_REQUEST - 100) / r"\u0001".len()] {
        let mut wire = Wire::connect(&daemon);
        let model = Some("\u{1}".repeat(length));
        wire.send(&Request::Generate(Box::new(GenerateRequest { model, ..GenerateRequest::raw("x") })));
        match wire.receive() {
            Some(Response::Failed(failure)) => {
                assert_eq!(failure.kind, FailureKind::UnknownModel);
                assert!(failure.message.len() < 1000, "{} bytes", failure.message.len());
                assert!(failure.message.ends_with("there is: echo"), "{failure:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    serves(&daemon);
}
