//! `supervisor tokenize`: by a file with nothing but a vocabulary and without a daemon, and by what
//! a scripted daemon answers.
use integration_tests::{Call, Ended};
use ipc::{BlockingEnd, Failure, FailureKind, MAX_FRAME, MAX_REQUEST, Request, RequestId, Response, TokenizeRequest};
use serde_json::Value;
use std::{
    fs,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    thread,
};

/// A SentencePiece vocabulary; the worker's tests say where it comes from, and what llama.cpp makes
/// of texts with it.
pub(crate) const VOCABULARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../worker/tests/tokenizers/pieces.gguf");

fn call(arguments: &[&str]) -> Call {
    Call::new([&["tokenize", "--file", VOCABULARY], arguments].concat())
}

#[track_caller]
fn printed(call: Call) -> String {
    let ended = call.run();
    assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""));
    ended.stdout
}

#[track_caller]
fn refused(ended: &Ended, words: &str) {
    assert_eq!((ended.code(), ended.stdout.as_str()), (2, ""), "{ended:?}");
    assert!(ended.complaint().starts_with(&format!("supervisor: {words}")), "{ended:?} does not say {words:?}");
}

#[test]
fn the_ids_of_a_text_are_llama_cpps_byte_for_byte() {
    let folder = Path::new(VOCABULARY).parent().unwrap();
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    let texts: Vec<String> = serde_json::from_slice(&read("texts.json")).unwrap();
    let golden: Value = serde_json::from_slice(&read("pieces.json")).unwrap();
    let line = |ids: &Value| {
        let ids = ids.as_array().unwrap().iter().map(Value::to_string);
        ids.collect::<Vec<_>>().join(" ") + "\n"
    };
    for at in (0..texts.len()).step_by(9) {
        let text = texts[at].as_str();
        assert_eq!(printed(call(&["-"]).input(text)), line(&golden["plain"][at]), "{text:?}");
        let special = printed(call(&["--special", "--json", "-"]).input(text));
        assert_eq!(serde_json::from_str::<Value>(&special).unwrap(), golden["special"][at], "{text:?}");
    }
}

#[test]
fn words_are_one_text_with_single_spaces_between_them() {
    let whole = printed(call(&["Hello world of  words"]));
    assert_eq!(printed(call(&["Hello", "world of ", "words"])), whole);
    assert_eq!(printed(call(&["-"]).input("Hello world of  words")), whole);
    assert_ne!(printed(call(&["-"]).input("Hello world of  words\n")), whole);
    assert_eq!(printed(call(&["--", "-", "-"])), printed(call(&["-"]).input("- -")));
}

#[test]
fn an_empty_text_is_an_empty_line() {
    assert_eq!(printed(call(&[""])), "\n");
    assert_eq!(printed(call(&["-"])), "\n");
    assert_eq!(printed(call(&["--json", ""])), "[]\n");
    assert_eq!(printed(call(&["--special", ""])), "1\n");
}

#[test]
fn what_has_no_ids_is_wrong_usage() {
    refused(&call(&["-"]).input(*b"a\xFF").run(), "the standard input is not valid UTF-8");
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let with = |file: &str| Call::new(["tokenize", "--file", file, "x"]).run();
    refused(&with(&path("none.gguf")), &format!("cannot open the model {}: No such file", path("none.gguf")));
    refused(&with(&path("")), &format!("cannot load the model {}: it is not a file", path("")));
    fs::write(path("text.gguf"), "no model").unwrap();
    refused(&with(&path("text.gguf")), &format!("cannot load the model {}: it is not a GGUF file", path("text.gguf")));
    fs::copy(VOCABULARY, path("pieces.gguf")).unwrap();
    fs::write(path("tokenizer.json"), "{}").unwrap();
    let words =
        format!("cannot load the tokenizer of the model {}: cannot use the tokenizer.json", path("pieces.gguf"));
    refused(&with(&path("pieces.gguf")), &words);
}

/// Calls with these arguments while a daemon waits that gives these answers, and returns what it
/// was asked for.
fn answered(arguments: &[&str], answers: Vec<Response>) -> (Ended, Request) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let daemon = thread::spawn(move || {
        let mut end = BlockingEnd::new(listener.accept().unwrap().0, MAX_REQUEST, MAX_FRAME);
        let request = end.receive::<Request>().unwrap().unwrap();
        answers.iter().for_each(|answer| end.send(answer).unwrap());
        request
    });
    let ended = Call::new([&["tokenize"], arguments].concat()).to(&socket).run();
    // If it never connected, the daemon need not wait for it.
    let _nobody = UnixStream::connect(&socket);
    (ended, daemon.join().unwrap())
}

#[test]
fn without_a_file_the_daemon_is_asked() {
    let accepted = Response::Accepted { request: RequestId(1), model: "m".to_owned() };
    let tokenized = |ids: &[u32]| Response::Tokenized { ids: ids.to_vec() };
    let failed = |kind, words: &str| Response::Failed(Failure::new(kind, words));
    let arguments = ["--model", "m", "--special", "a", "text"];
    let (ended, request) = answered(&arguments, vec![accepted.clone(), tokenized(&[7, 1 << 31])]);
    assert_eq!((ended.code(), ended.stdout.as_str(), ended.stderr.as_str()), (0, "7 2147483648\n", ""));
    let expected = TokenizeRequest { model: Some("m".to_owned()), text: "a text".to_owned(), special: true };
    assert_eq!(request, Request::Tokenize(Box::new(expected)));

    let (ended, request) = answered(&["--json", ""], vec![accepted.clone(), tokenized(&[])]);
    assert_eq!((ended.code(), ended.stdout.as_str(), ended.stderr.as_str()), (0, "[]\n", ""));
    let expected = TokenizeRequest { model: None, text: String::new(), special: false };
    assert_eq!(request, Request::Tokenize(Box::new(expected)));

    refused(&answered(&["x"], vec![failed(FailureKind::UnknownModel, "there is no model")]).0, "there is no model");
    for (answers, words) in [
        (vec![accepted.clone(), failed(FailureKind::Unavailable, "it crashes")], "it crashes"),
        (vec![tokenized(&[1])], "the daemon's answer makes no sense"),
        (vec![accepted.clone(), accepted.clone()], "the daemon's answer makes no sense"),
        (vec![accepted], "the daemon closed the connection"),
    ] {
        let (ended, _) = answered(&["x"], answers);
        assert_eq!((ended.code(), ended.stdout.as_str()), (1, ""), "{ended:?}");
        assert!(ended.complaint().starts_with(&format!("supervisor: {words}")), "{ended:?} does not say {words:?}");
    }
}
