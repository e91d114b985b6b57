//! What is no frame, or a frame that holds no request.
use super::{echo, serves};
use integration_tests::{Daemon, Running, Wire};
use ipc::{Failure, FailureKind, GenerateRequest, HEADER, MAX_REQUEST, Request, Response};

fn raw(text: &str) -> Request {
    Request::Generate(Box::new(GenerateRequest::raw(text)))
}

/// A header that promises `size` bytes.
fn header(version: u16, size: u32) -> Vec<u8> {
    [b"SV".as_slice(), &version.to_le_bytes(), &size.to_le_bytes()].concat()
}

#[track_caller]
fn failure(wire: &mut Wire) -> Failure {
    match wire.receive() {
        Some(Response::Failed(failure)) => failure,
        other => panic!("{other:?} instead of a failure"),
    }
}

/// Writes bytes that are no frame, and returns what the daemon says before it hangs up.
#[track_caller]
fn dismissed(daemon: &Daemon, bytes: &[u8]) -> String {
    let mut wire = Wire::connect(daemon);
    // It may hang up before it has taken them all.
    wire.write(bytes);
    let Failure { kind, message, .. } = failure(&mut wire);
    assert_eq!(kind, FailureKind::Protocol, "{message}");
    assert_eq!(wire.receive(), None, "it does not hang up after {message:?}");
    message
}

#[test]
fn what_is_no_frame_is_refused_and_the_connection_closed() {
    let daemon = echo("token_us=1000");
    let mut other = daemon.client();
    let running = Running::begin(&mut other, GenerateRequest::raw("all the while")).unwrap();

    let no_frame = "these bytes are no frame";
    let too_long = format!("longer than the limit of {MAX_REQUEST}");
    let limit = u32::try_from(MAX_REQUEST).unwrap();
    let status = Wire::frame(&Request::Status);
    let cases: [(&[u8], &str); 9] = [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", no_frame),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", no_frame),
        (b"\0", no_frame),
        (b"SX", no_frame),
        (&vec![b'x'; 1 << 20], no_frame),
        (&header(2, 0), "the other side speaks version 2 of the protocol, this side speaks version 1"),
        (&[header(0, 1), vec![0]].concat(), "the other side speaks version 0"),
        (&header(1, limit + 1), &too_long),
        (&header(1, u32::MAX), &too_long),
    ];
    for (bytes, words) in cases {
        let message = dismissed(&daemon, bytes);
        assert!(message.contains(words) && !message.contains('\n'), "{message:?} does not say {words:?}");
    }

    // What came before the noise is answered.
    let mut wire = Wire::connect(&daemon);
    wire.write(&[status.clone(), b"noise".to_vec()].concat());
    assert!(matches!(wire.receive(), Some(Response::Status(_))));
    assert_eq!(failure(&mut wire).kind, FailureKind::Protocol);
    assert_eq!(wire.receive(), None);

    assert_eq!(running.finish().unwrap().text, "all the while");
    serves(&daemon);
}

#[test]
fn a_frame_without_a_request_is_refused_and_the_connection_goes_on() {
    let daemon = echo("");
    let mut wire = Wire::connect(&daemon);
    let damaged = |change: fn(&mut Vec<u8>)| {
        let mut payload = ipc::encode(&raw("<<text>>")).unwrap();
        change(&mut payload);
        ipc::frame(&payload, MAX_REQUEST).unwrap()
    };
    let not_text = |payload: &mut Vec<u8>| {
        let at = payload.windows(2).position(|bytes| bytes == b"<<").unwrap();
        payload[at..at + 2].copy_from_slice(b"\xc3\x28");
    };
    let cases: [(Vec<u8>, &str); 6] = [
        (damaged(not_text), "does not decode"),
        (damaged(|payload| payload.extend_from_slice(b"abc")), "3 bytes too many"),
        (damaged(|payload| payload.truncate(5)), "does not decode"),
        (damaged(|payload| payload.clear()), "does not decode"),
        (damaged(|payload| payload[0] = 77), "does not decode"),
        // The length of the text is 2^64 - 1.
        (damaged(|payload| *payload = [&[0, 0, 0, 0xfd][..], &[0xff; 8]].concat()), "does not decode"),
    ];
    for (frame, words) in cases {
        assert!(wire.write(&frame));
        let Failure { kind, message, .. } = failure(&mut wire);
        assert_eq!(kind, FailureKind::BadRequest, "{message}");
        assert!(message.contains(words) && !message.contains('\n'), "{message:?} does not say {words:?}");
        wire.send(&Request::Status);
        assert!(matches!(wire.receive(), Some(Response::Status(_))), "the connection does not go on");
    }
    serves(&daemon);
}

#[test]
fn a_frame_may_come_byte_by_byte() {
    let daemon = echo("");
    let mut wire = Wire::connect(&daemon);
    for byte in Wire::frame(&Request::Status) {
        assert!(wire.write(&[byte]));
        // It has had time to look at it: it answers another one in between.
        daemon.status();
    }
    assert!(matches!(wire.receive(), Some(Response::Status(_))));
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_frame_is_forgotten() {
    let daemon = echo("");
    let frame = Wire::frame(&raw("never whole"));
    for cut in [1, HEADER - 1, HEADER, frame.len() - 1] {
        let wire = Wire::connect(&daemon);
        assert!(wire.write(&frame[..cut]));
        drop(wire);
        // One that could still listen learns from the end that there will be no answer.
        let mut wire = Wire::connect(&daemon);
        assert!(wire.write(&frame[..cut]));
        wire.shut_sending();
        match wire.receive() {
            None | Some(Response::Failed(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    serves(&daemon);
    assert_eq!(daemon.model().totals.accepted, 1);
}

#[test]
fn a_second_request_while_one_runs_ends_both() {
    let daemon = echo("token_us=1000000");
    for second in [Request::Status, raw("and me?")] {
        let mut wire = Wire::connect(&daemon);
        wire.send(&raw("this takes long"));
        assert!(matches!(wire.receive(), Some(Response::Accepted { .. })));
        wire.send(&second);
        let failure = loop {
            match wire.receive() {
                Some(Response::Piece { .. }) => {}
                Some(Response::Failed(failure)) => break failure,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(failure.kind, FailureKind::Protocol);
        assert!(failure.message.contains("one request at a time"), "{failure:?}");
        assert_eq!(wire.receive(), None);
    }
    let model = daemon.until_model("both requests are cancelled", |model| model.totals.cancelled == 2);
    assert_eq!((model.totals.accepted, model.totals.worker_crashes), (2, 0));
}

#[test]
fn noise_from_many_connections_changes_nothing() {
    let daemon = echo("");
    let mut state = 1_u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_le_bytes()[7]
    };
    for round in 0..200 {
        let wire = Wire::connect(&daemon);
        let noise: Vec<u8> = (0..round).map(|_| byte()).collect();
        // Half of them begin as a frame does.
        let bytes = if round % 2 == 0 { noise } else { [header(1, round), noise].concat() };
        wire.write(&bytes);
    }
    serves(&daemon);
}
