//! Whole requests that cannot be served.
use super::{echo, serves};
use integration_tests::{Call, Daemon, generate};
use ipc::{ClientError, Failure, FailureKind, FinishReason, GenerateRequest, MAX_REQUEST, Prompt, Sampling};

#[track_caller]
fn refused(daemon: &Daemon, request: GenerateRequest) -> Failure {
    match generate(daemon, request) {
        Err(ClientError::Failed(failure)) => {
            assert!(!failure.message.contains('\n') && !failure.message.is_empty(), "{failure:?}");
            failure
        }
        other => panic!("{other:?} instead of a refusal"),
    }
}

#[test]
fn a_prompt_must_leave_room_in_the_context() {
    let daemon = echo("context=64");
    let fits = generate(&daemon, GenerateRequest::raw("x".repeat(63))).unwrap();
    assert_eq!((fits.text.as_str(), fits.done.finish), ("x", FinishReason::Length));
    // So long a text is not even tokenised.
    for length in [64, 65, 1000, MAX_REQUEST - 100] {
        for request in [GenerateRequest::raw("x".repeat(length)), GenerateRequest::chat("x".repeat(length))] {
            let failure = refused(&daemon, request);
            assert_eq!(failure.kind, FailureKind::TooLong);
            assert!(failure.message.contains("a context of 64 leaves room for 63"), "{failure:?}");
        }
    }
    serves(&daemon);
    let totals = daemon.model().totals;
    assert_eq!((totals.failed, totals.answered, totals.worker_crashes), (8, 2, 0));
}

#[test]
fn the_built_in_model_refuses_a_prompt_that_is_too_long() {
    let daemon = Daemon::start("[[model]]\nname = \"pocket\"\npath = \"builtin:pocket\"\nworkers = 1\n");
    let failure = refused(&daemon, GenerateRequest::chat("The lamp is brown. ".repeat(200)));
    assert_eq!(failure.kind, FailureKind::TooLong);
    assert!(failure.message.contains("a context of 512"), "{failure:?}");
    let answer = generate(&daemon, GenerateRequest::chat("16 - 8 = ?")).unwrap();
    assert_eq!(answer.text, "16 - 8 = 8");
}

#[test]
fn a_request_is_refused_for_what_is_wrong_with_it() {
    let daemon = echo("");
    let broken = |change: fn(&mut GenerateRequest)| {
        let mut request = GenerateRequest::raw("x");
        change(&mut request);
        let failure = refused(&daemon, request);
        assert_eq!(failure.kind, FailureKind::BadRequest, "{failure:?}");
        failure.message
    };
    assert_eq!(broken(|request| request.prompt = Prompt::Raw(String::new())), "the prompt is empty");
    assert_eq!(broken(|request| request.prompt = Prompt::Chat(vec![])), "the prompt is empty");
    assert_eq!(broken(|request| *request = GenerateRequest::chat("")), "the prompt is empty");
    assert_eq!(broken(|request| request.max_tokens = Some(0)), "max_tokens must be at least 1");
    let sampling = |request: &mut GenerateRequest| request.sampling.top_p = f32::INFINITY;
    assert_eq!(broken(sampling), "top_p is inf, but must be from 0 to 1");
    let sampling = |request: &mut GenerateRequest| {
        request.sampling = Sampling { temperature: f32::NAN, ..Sampling::default() };
    };
    assert_eq!(broken(sampling), "temperature is NaN, but must be from 0 to 100");
    assert!(broken(|request| request.stop = vec!["x".into(); 17]).contains("17 stop strings"));
    assert!(broken(|request| request.stop = vec![String::new()]).contains("a stop string has 0 bytes"));
    assert!(broken(|request| request.stop = vec!["x".repeat(257)]).contains("a stop string has 257 bytes"));
    serves(&daemon);
}

#[test]
fn a_request_longer_than_a_frame_is_refused_before_it_is_sent() {
    let daemon = echo("");
    let failure = refused(&daemon, GenerateRequest::raw("x".repeat(MAX_REQUEST)));
    assert_eq!(failure.kind, FailureKind::BadRequest);
    assert!(failure.message.contains("too long"), "{failure:?}");
    let ended = Call::new(["generate", "--raw", "-"]).to(daemon.socket()).input(vec![b'x'; MAX_REQUEST + 99]).run();
    assert_eq!(ended.code(), 2, "{ended:?}");
    assert!(ended.complaint().contains("too long"), "{ended:?}");
    serves(&daemon);
}

#[test]
fn text_that_is_not_utf_8_is_refused_by_the_command_line() {
    let daemon = echo("");
    let ended = Call::new(["generate", "-"]).to(daemon.socket()).input(b"caf\xe9".as_slice()).run();
    assert_eq!((ended.code(), ended.stdout.as_str()), (2, ""));
    assert_eq!(ended.complaint(), "supervisor: the standard input is not valid UTF-8");
    assert_eq!(daemon.model().totals.accepted, 0);
}
