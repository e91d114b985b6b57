//! What is no frame, or a frame that holds no request.
use super::{echo, serves};
use integration_tests::{Daemon, Running, Wire};
use ipc::{EmbedRequest, Failure, FailureKind, GenerateRequest, HEADER, MAX_REQUEST, Request, Response, TextRole};

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
        (&header(1, 0), "the other side speaks version 1 of the protocol, this side speaks version 2"),
        (&[header(0, 1), vec![0]].concat(), "the other side speaks version 0"),
        (&header(2, limit + 1), &too_long),
        (&header(2, u32::MAX), &too_long),
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
    let frame = |payload: &[u8]| ipc::frame(payload, MAX_REQUEST).unwrap();
    let secret = "a secret that nobody repeats";
    let with = |field: &str| format!("{{\"generate\":{{\"prompt\":\"{secret}\",{field}}}}}").into_bytes();
    // What is long is read elsewhere, and answered in the same way.
    let long = with(&format!("\"model\":\"{}\",\"mood\":0.5", "x".repeat(1 << 20)));
    let cases: [(Vec<u8>, &str); 14] = [
        (b"{\"generate\":{\"prompt\":\"\xc3\x28\"}}".to_vec(), "no JSON: invalid unicode code point"),
        (b"\"status\"abc".to_vec(), "no JSON: trailing characters"),
        (b"{\"gene".to_vec(), "no JSON: EOF"),
        (b"".to_vec(), "no JSON: EOF"),
        (b"\x01".to_vec(), "no JSON: expected value"),
        (vec![b'['; MAX_REQUEST], "a message is a string or an object with one field, its kind"),
        (with("\"mood\":0.5"), "generate: unknown field \"mood\", expected one of model, prompt"),
        (long, "generate: unknown field \"mood\", expected one of model, prompt"),
        (with("\"seed\":1,\"seed\":2"), "generate: duplicate field \"seed\""),
        (with("\"max_tokens\":\"9\""), "generate.max_tokens: expected a whole number below 2^32, found a string"),
        (with("\"messages\":[]"), "generate: there are both a prompt and messages"),
        (b"{\"generate\":{\"prompt\":7}}".to_vec(), "generate.prompt: expected a string"),
        (
            b"{\"generate\":{\"messages\":[{\"role\":\"user\",\"content\":\"x\",\"mood\":\"sad\"}]}}".to_vec(),
            "generate.messages[0]: unknown field \"mood\"",
        ),
        (b"{\"summarise\":{\"text\":\"x\"}}".to_vec(), "unknown kind \"summarise\", expected one of generate, status"),
    ];
    for (payload, words) in cases {
        let frame = frame(&payload);
        assert!(wire.write(&frame));
        let Failure { kind, message, .. } = failure(&mut wire);
        assert_eq!(kind, FailureKind::BadRequest, "{message}");
        assert!(message.contains(words) && !message.contains('\n'), "{message:?} does not say {words:?}");
        assert!(!message.contains(secret) && message.len() < 1_000, "{message:?}");
        wire.send(&Request::Status);
        assert!(matches!(wire.receive(), Some(Response::Status(_))), "the connection does not go on");
    }
    serves(&daemon);
}

#[test]
fn what_no_model_is_told_yet_is_refused_and_not_dropped() {
    let daemon = echo("");
    let mut wire = Wire::connect(&daemon);
    let said =
        |turn: &str| format!("{{\"generate\":{{\"messages\":[{{\"role\":\"user\",\"content\":\"x\"}},{turn}]}}}}");
    for (turn, words) in [
        (r#"{"role":"tool","content":"x","tool_call_id":"1"}"#, "the role tool"),
        (
            r#"{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]}"#,
            "tool calls",
        ),
        (r#"{"role":"assistant","content":"x","reasoning_content":"y"}"#, "reasoning_content"),
        (r#"{"role":"user","content":"x","name":"Ada"}"#, "a name"),
        (r#"{"role":"user","content":null}"#, "no content"),
        (
            r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:,"}}]}"#,
            "a content part of the type image_url",
        ),
        (
            r#"{"role":"user","content":[{"type":"text","text":"x"},{"type":"text","text":"y"}]}"#,
            "several content parts",
        ),
    ] {
        assert!(wire.write(&ipc::frame(said(turn).as_bytes(), MAX_REQUEST).unwrap()));
        let Failure { kind, message, .. } = failure(&mut wire);
        assert_eq!(kind, FailureKind::BadRequest);
        assert_eq!(message, format!("messages[1] has {words}, which is not served yet"));
    }
    let part = said(r#"{"role":"user","content":[{"type":"text","text":"one part"}]}"#);
    assert!(wire.write(&ipc::frame(part.as_bytes(), MAX_REQUEST).unwrap()));
    let mut text = String::new();
    while let Some(Response::Accepted { .. } | Response::Piece { .. }) = wire.receive().inspect(|response| {
        if let Response::Piece { text: piece, .. } = response {
            text.push_str(piece);
        }
    }) {}
    assert_eq!(text, "one part");
}

#[test]
fn large_requests_are_answered_in_order_and_refused_by_what_is_wrong_with_them() {
    let daemon = echo("");
    let mut wire = Wire::connect(&daemon);
    let texts = vec!["x".to_owned(); 70_000];
    let many = Request::Embed(Box::new(EmbedRequest { model: None, texts, role: TextRole::Plain }));
    for _ in 0..3 {
        // The second one comes while the first is read.
        assert!(wire.write(&[Wire::frame(&many), Wire::frame(&Request::Status)].concat()));
        let Failure { kind, message, .. } = failure(&mut wire);
        assert_eq!(kind, FailureKind::BadRequest);
        assert_eq!(message, "70000 texts are more than the 65536 that one request may have");
        assert!(matches!(wire.receive(), Some(Response::Status(_))));
    }
    // One that nobody waits for any more is read and forgotten.
    let gone = Wire::connect(&daemon);
    gone.write(&Wire::frame(&many));
    drop(gone);
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
        let bytes = if round % 2 == 0 { noise } else { [header(2, round), noise].concat() };
        wire.write(&bytes);
    }
    serves(&daemon);
}
