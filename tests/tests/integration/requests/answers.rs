//! Right requests get right answers: the built-in model's known ones, whole characters, the limits
//! that were asked for, true counts.
use integration_tests::{Daemon, Finished, Running, Wire, generate};
use ipc::{ClientError, Done, FailureKind, FinishReason, GenerateRequest, Request, Response, Sampling};
use serde_json::Value;
use std::thread;

const POCKET: &str = "[[model]]\nname = \"pocket\"\npath = \"builtin:pocket\"\nworkers = 2\n";
const ECHO: &str = "[[model]]\nname = \"echo\"\npath = \"builtin:echo\"\nworkers = 2\n";

/// What the pocket model must answer, greedily, as llama.cpp did.
struct Golden {
    request: GenerateRequest,
    prompt_tokens: usize,
    text: String,
    tokens: Vec<u32>,
}

fn golden(line: usize) -> Golden {
    let line = include_str!("../../../../worker/pocket/golden.jsonl").lines().nth(line).unwrap();
    let value: Value = serde_json::from_str(line).unwrap();
    let ids = |key: &str| -> Vec<u32> { serde_json::from_value(value[key].clone()).unwrap() };
    let prompt = value["prompt"].as_str().unwrap();
    let request = if value["raw"] == true { GenerateRequest::raw(prompt) } else { GenerateRequest::chat(prompt) };
    let mut tokens = ids("q8_0_ids");
    // The end token is not part of an answer.
    assert_eq!((tokens.pop(), &value["q8_0_stop"]), (Some(0), &"eos".into()));
    Golden { request, prompt_tokens: ids("prompt_ids").len(), text: value["q8_0"].as_str().unwrap().to_owned(), tokens }
}

#[test]
fn pocket_answers_as_it_is_known_to() {
    let daemon = Daemon::start(POCKET);
    // Chats with words, sums and structure, and raw texts, one of them with characters of more than
    // one byte. Stories are left out: some of their words are as likely as others, to the last bits
    // of two programs that compute alike.
    for line in [0, 2, 6, 11, 20, 27, 35, 36, 37] {
        let golden = golden(line);
        let Finished { text, tokens, done, .. } = generate(&daemon, golden.request.clone()).unwrap();
        assert_eq!((text, &tokens), (golden.text, &golden.tokens), "line {line}");
        assert_eq!((done.finish, done.attempts), (FinishReason::Stop, 1), "line {line}");
        assert_eq!(
            (done.prompt_tokens as usize, done.completion_tokens as usize),
            (golden.prompt_tokens, tokens.len())
        );
        assert!(done.wait_us <= done.first_piece_us && done.first_piece_us <= done.total_us, "{done:?}");

        let shorter = generate(&daemon, GenerateRequest { max_tokens: Some(1), ..golden.request }).unwrap();
        assert_eq!((&shorter.tokens[..], shorter.done.finish), (&golden.tokens[..1], FinishReason::Length));
    }
}

/// A story, at random.
fn story(seed: Option<u64>) -> GenerateRequest {
    let sampling = Sampling { temperature: 1.5, top_k: 50, top_p: 0.95, seed, ..Sampling::default() };
    let request = GenerateRequest::chat("Write a short story about Yara the dog.");
    GenerateRequest { max_tokens: Some(24), ignore_end: true, sampling, ..request }
}

#[test]
fn a_seed_gives_the_same_answer_again_and_other_seeds_others() {
    let daemon = Daemon::start(POCKET);
    let answers: Vec<Finished> = (1..=4).map(|seed| generate(&daemon, story(Some(seed))).unwrap()).collect();
    for (answer, seed) in answers.iter().zip(1..) {
        assert_eq!(answer.done.seed, seed);
        assert_eq!(generate(&daemon, story(Some(seed))).unwrap().tokens, answer.tokens, "seed {seed}");
        let others = answers.iter().filter(|other| other.tokens != answer.tokens).count();
        assert_eq!(others, 3, "seed {seed} gives what another one gives");
    }
}

#[test]
fn a_seed_that_is_not_given_is_drawn_and_told() {
    let daemon = Daemon::start(POCKET);
    let (one, two) = (generate(&daemon, story(None)).unwrap(), generate(&daemon, story(None)).unwrap());
    assert_ne!(one.done.seed, two.done.seed);
    assert_ne!(one.tokens, two.tokens);
    assert_eq!(generate(&daemon, story(Some(one.done.seed))).unwrap().tokens, one.tokens);
}

/// Each piece of an answer, and its end.
fn pieces(daemon: &Daemon, request: GenerateRequest) -> (Vec<String>, Done) {
    let (mut client, mut pieces) = (daemon.client(), Vec::new());
    for response in client.generate(request).unwrap() {
        match response.unwrap() {
            Response::Accepted { model, .. } => assert_eq!((model.as_str(), pieces.len()), ("echo", 0)),
            Response::Piece { text, .. } => pieces.push(text),
            Response::Done(done) => return (pieces, done),
            other => panic!("{other:?}"),
        }
    }
    panic!("the answer has no end");
}

#[test]
fn pieces_are_whole_characters_and_make_the_text() {
    let daemon = Daemon::start(ECHO);
    let text = "a\u{e9}\u{20ac}\u{1f600}e\u{301}z";
    let (found, done) = pieces(&daemon, GenerateRequest::raw(text));
    // Each byte is a token, and a character comes with its last byte.
    let before = |character: char| vec![String::new(); character.len_utf8() - 1];
    let expected: Vec<String> = text.chars().flat_map(|c| [before(c), vec![c.to_string()]].concat()).collect();
    assert_eq!(found, expected);
    assert_eq!((done.text.as_str(), done.completion_tokens as usize), ("", text.len()));
}

/// What is asked for, the text it must give, the number of its tokens and why it ends.
fn answer(daemon: &Daemon, request: GenerateRequest) -> (String, u32, FinishReason) {
    let Finished { text, tokens, done, .. } = generate(daemon, request).unwrap();
    assert_eq!(done.completion_tokens as usize, tokens.len());
    (text, done.completion_tokens, done.finish)
}

#[test]
fn an_answer_ends_before_the_first_stop_string() {
    let daemon = Daemon::start(ECHO);
    let ask = |text: &str, stops: &[&str]| {
        let stop = stops.iter().map(|stop| (*stop).to_owned()).collect();
        answer(&daemon, GenerateRequest { stop, ..GenerateRequest::raw(text) })
    };
    assert_eq!(ask("one two three", &["two"]), ("one ".into(), 7, FinishReason::Stop));
    assert_eq!(ask("one two three", &["three", "two", "zero"]), ("one ".into(), 7, FinishReason::Stop));
    assert_eq!(ask("one two three", &["four"]), ("one two three".into(), 13, FinishReason::Stop));
    assert_eq!(ask("ein \u{1f600} mehr", &["\u{1f600}"]), ("ein ".into(), 8, FinishReason::Stop));
    assert_eq!(ask("stop", &["stop"]), (String::new(), 4, FinishReason::Stop));
}

#[test]
fn the_beginning_of_a_stop_string_is_held_back_until_it_is_known_to_be_none() {
    let daemon = Daemon::start(ECHO);
    let request = GenerateRequest { stop: vec!["two".into()], ..GenerateRequest::raw("a twin tw") };
    let (found, done) = pieces(&daemon, request);
    assert_eq!(found, ["a", " ", "", "", "twi", "n", " ", "", ""]);
    assert_eq!((done.text.as_str(), done.finish), ("tw", FinishReason::Stop));
}

#[test]
fn an_answer_has_the_tokens_that_it_may_and_no_more() {
    let context = "[[model]]\nname = \"echo\"\npath = \"builtin:echo?context=16\"\nworkers = 1\n";
    let daemon = Daemon::start(context);
    let ask = |max_tokens, ignore_end| {
        answer(&daemon, GenerateRequest { max_tokens, ignore_end, ..GenerateRequest::raw("abcdef") })
    };
    assert_eq!(ask(Some(1), false), ("a".into(), 1, FinishReason::Length));
    assert_eq!(ask(Some(6), false), ("abcdef".into(), 6, FinishReason::Length));
    assert_eq!(ask(Some(7), false), ("abcdef".into(), 6, FinishReason::Stop));
    assert_eq!(ask(None, false), ("abcdef".into(), 6, FinishReason::Stop));
    // The end has no text, but it is a token.
    assert_eq!(ask(Some(9), true), ("abcdefab".into(), 9, FinishReason::Length));
    assert_eq!(ask(None, true), ("abcdefabc".into(), 10, FinishReason::Length), "prompt and answer fill the context");
    assert_eq!(ask(Some(1000), true), ("abcdefabc".into(), 10, FinishReason::Length));
}

#[test]
fn one_connection_carries_one_request_after_another() {
    let daemon = Daemon::start(ECHO);
    let mut client = daemon.client();
    let mut last = None;
    for number in 0..6 {
        let text = format!("request number {number}");
        let finished = Running::begin(&mut client, GenerateRequest::raw(text.as_str())).unwrap().finish().unwrap();
        assert_eq!((finished.text, finished.done.prompt_tokens as usize), (text.clone(), text.len()));
        assert!(last < Some(finished.request), "{last:?} and then {}", finished.request);
        last = Some(finished.request);
        assert_eq!(client.status().unwrap().models[0].totals.answered, number + 1);
    }
    assert!(Running::begin(&mut client, GenerateRequest::raw("unread")).unwrap().read(1).unwrap());
    assert!(matches!(client.status(), Err(ClientError::Unfinished)));
}

#[test]
fn a_connection_that_only_receives_still_gets_its_answer() {
    let daemon = Daemon::start(ECHO);
    let mut wire = Wire::connect(&daemon);
    wire.send(&Request::Generate(Box::new(GenerateRequest::raw("half"))));
    wire.shut_sending();
    let mut text = String::new();
    loop {
        match wire.receive() {
            Some(Response::Accepted { .. }) => {}
            Some(Response::Piece { text: piece, .. }) => text.push_str(&piece),
            Some(Response::Done(_)) => break,
            other => panic!("{other:?} after {text:?}"),
        }
    }
    assert_eq!(text, "half");
    assert_eq!(daemon.model().totals.cancelled, 0);
}

#[test]
fn each_of_many_clients_at_once_gets_its_own_answer() {
    const CLIENTS: usize = 32;
    let daemon = Daemon::start(
        "[[model]]\nname = \"echo\"\npath = \"builtin:echo?token_us=200\"\nworkers = 3\n[supervisor]\nqueue = 32\n",
    );
    thread::scope(|scope| {
        let clients = (0..CLIENTS).map(|number| {
            let daemon = &daemon;
            scope.spawn(move || {
                let text = format!("<{number}> {}", "x".repeat(number));
                assert_eq!(generate(daemon, GenerateRequest::raw(text.as_str())).unwrap().text, text);
            })
        });
        clients.collect::<Vec<_>>().into_iter().for_each(|client| client.join().unwrap());
    });
    let totals = daemon.model().totals;
    assert_eq!((totals.accepted, totals.answered, totals.worker_crashes), (32, 32, 0));
}

#[test]
fn the_model_that_is_named_answers() {
    let daemon = Daemon::start(&format!("{POCKET}{ECHO}"));
    let ask = |model: Option<&str>| {
        let request = GenerateRequest::raw("1 2 3 4 5 6");
        generate(&daemon, GenerateRequest { model: model.map(str::to_owned), ..request }).map(|answer| answer.text)
    };
    assert_eq!(ask(Some("echo")).unwrap(), "1 2 3 4 5 6");
    assert_eq!(ask(Some("pocket")).unwrap(), " 7 8 9 10");
    let answered: Vec<u64> = daemon.status().models.iter().map(|model| model.totals.answered).collect();
    assert_eq!(answered, [1, 1]);
    for (model, word) in [(None, "name one"), (Some("ech"), "\"ech\"")] {
        let Err(ClientError::Failed(failure)) = ask(model) else { panic!("{model:?} was served") };
        assert_eq!(failure.kind, FailureKind::UnknownModel);
        for word in [word, "pocket", "echo"] {
            assert!(failure.message.contains(word), "{failure:?}");
        }
    }
}
