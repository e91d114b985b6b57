//! Two ends of different age: what either does with what it does not know.
//!
//! A daemon refuses a request's unknown field by name; a client leaves out what it does not know of
//! a response.
use ipc::{
    AsyncClient, Client, ClientError, Control, Failure, FailureKind, FinishReason, GenerateRequest, Message, Prompt,
    Request, Response, Role,
};
use std::{
    io::{Read, Write},
    os::unix::net::UnixListener,
    path::PathBuf,
    thread::{self, JoinHandle},
};

#[track_caller]
fn refused(payload: &str) -> String {
    let error = Request::decode(payload.as_bytes()).expect_err(payload);
    let mut words = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(error) = source {
        words = format!("{words}: {error}");
        source = error.source();
    }
    assert!(words.len() < 700 && !words.chars().any(char::is_control), "{words:?}");
    words
}

#[test]
fn what_a_request_has_and_the_daemon_does_not_know_is_refused_by_name() {
    let generate = |fields: &str| refused(&format!("{{\"generate\":{{{fields}}}}}"));
    let known = "expected one of model, prompt, messages, max_tokens, temperature, top_p, top_k, min_p, seed, \
                 repeat_penalty, frequency_penalty, presence_penalty, stop, ignore_end, template_vars";
    assert_eq!(generate(r#""prompt":"secret","mood":0.1"#), format!("generate: unknown field \"mood\", {known}"));
    assert_eq!(
        generate(r#""messages":[{"role":"user","content":"secret"},{"role":"user","content":"x","mood":1}]"#),
        "generate.messages[1]: unknown field \"mood\", expected one of role, content, tool_calls, tool_call_id, \
         reasoning_content, name, refusal, audio, function_call, annotations"
    );
    assert_eq!(
        generate(r#""messages":[{"role":"assistant","content":"x","refusal":"secret"}]"#),
        "generate.messages[0].refusal: expected null, because it is not served, found a string"
    );
    assert_eq!(
        generate(r#""messages":[{"role":"assistant","content":"x","annotations":[{}]}]"#),
        "generate.messages[0].annotations: expected null, because it is not served, found a list"
    );
    // As OpenAI's libraries write an answer, which comes back in the next turn.
    let dumped = r#"{"generate":{"messages":[{"role":"assistant","content":"x","refusal":null,"annotations":[],
        "audio":null,"function_call":null,"tool_calls":null}]}}"#;
    assert!(Request::decode(dumped.as_bytes()).is_ok());
    assert_eq!(
        generate(
            r#""messages":[{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":
               {"name":"f","arguments":"{}","strict":true}}]}]"#
        ),
        "generate.messages[0].tool_calls[0].function: unknown field \"strict\", expected name or arguments"
    );
    assert_eq!(
        generate(r#""messages":[{"role":"user","content":[{"type":"text","text":"x","cache":1}]}]"#),
        "generate.messages[0].content[0]: unknown field \"cache\", expected one of type, text, refusal, image_url, \
         input_audio"
    );
    assert_eq!(
        generate(r#""messages":[{"role":"developer","content":"x"}]"#),
        "generate.messages[0].role: unknown value \"developer\", expected one of system, user, assistant, tool"
    );
    assert_eq!(
        generate(r#""messages":[{"role":"user","content":[{"type":"video_url"}]}]"#),
        "generate.messages[0].content[0].type: unknown value \"video_url\", expected one of text, refusal, image_url, \
         input_audio"
    );
    assert_eq!(
        refused(r#"{"summarise":{"text":"secret"}}"#),
        "unknown kind \"summarise\", expected one of generate, status, embed, tokenize, control"
    );
    assert_eq!(
        refused(r#"{"embed":{"texts":["secret"],"dimensions":3}}"#),
        "embed: unknown field \"dimensions\", expected one of model, texts, role"
    );
    assert_eq!(
        refused(r#"{"control":"explode"}"#),
        "control: unknown kind \"explode\", expected one of reload, drain, end_drain, stop, restart"
    );
    assert_eq!(refused(r#"{"control":{"stop":{"when":"now"}}}"#), "control.stop: unknown field \"when\", expected now");
    assert_eq!(refused(r#"{"status":{"models":["a"]}}"#), "status: expected nothing more, found an object");
}

#[test]
fn each_field_that_is_known_is_in_the_specification() {
    let specification = include_str!("../src/lib.rs");
    for asked in ["generate", "embed", "tokenize"] {
        let words = refused(&format!("{{\"{asked}\":{{\"?\":0}}}}"));
        let (_, known) = words.split_once("expected one of ").unwrap();
        for field in known.split(", ") {
            assert!(specification.contains(&format!("`{field}`")), "{asked}: {field}");
        }
    }
}

#[test]
fn a_name_is_repeated_shortened_and_in_one_line() {
    let long = format!("{{\"{}\":1}}", "\\n`, expected ".repeat(100_000));
    let words = refused(&format!("{{\"generate\":{long}}}"));
    assert!(words.starts_with("generate: unknown field \"\\n`, expected \\n") && words.contains("...\", "), "{words}");
    let words = refused(&long);
    assert!(words.starts_with("unknown kind ") && words.len() < 300, "{words}");
}

#[test]
fn a_field_that_is_wrong_is_named_and_its_value_is_not_repeated() {
    let cases = [
        (
            r#"{"generate":{"prompt":"x","max_tokens":"secret"}}"#,
            "generate.max_tokens: expected a whole number below 2^32, found a string",
        ),
        (
            r#"{"generate":{"prompt":"x","max_tokens":-1}}"#,
            "generate.max_tokens: expected a whole number below 2^32, found another number",
        ),
        (
            r#"{"generate":{"prompt":"x","seed":1.5}}"#,
            "generate.seed: expected a whole number below 2^64, found another number",
        ),
        (r#"{"generate":{"prompt":"x","top_p":true}}"#, "generate.top_p: expected a number, found true or false"),
        (r#"{"generate":{"prompt":["secret"]}}"#, "generate.prompt: expected a string, found a list"),
        (
            r#"{"generate":{"prompt":"x","stop":"secret, expected one"}}"#,
            "generate.stop: expected a list, found a string",
        ),
        (r#"{"generate":{"messages":"secret"}}"#, "generate.messages: expected a list of messages, found a string"),
        (r#"{"generate":{"messages":["secret"]}}"#, "generate.messages[0]: expected an object, found a string"),
        (
            r#"{"generate":{"messages":[{"role":"user","content":7}]}}"#,
            "generate.messages[0].content: expected a string, null or a list of parts, found another number",
        ),
        (r#"{"generate":{"messages":[{"content":"secret"}]}}"#, "generate.messages[0]: missing field \"role\""),
        (r#"{"generate":{"prompt":"x","prompt":"secret"}}"#, "generate: duplicate field \"prompt\""),
        (
            r#"{"generate":{"messages":[{"role":"user","role":"user"}]}}"#,
            "generate.messages[0]: duplicate field \"role\"",
        ),
        (
            r#"{"generate":{"messages":[{"role":"user","content":[{"type":"text","refusal":"secret"}]}]}}"#,
            "generate.messages[0].content[0]: a content part has the field that its type names and no other",
        ),
        (r#"{"generate":{}}"#, "generate: there is neither a prompt nor messages"),
        (r#"{"generate":{"prompt":"secret","messages":[]}}"#, "generate: there are both a prompt and messages"),
        (
            r#"{"generate":{"prompt":"x","temperature":1e39}}"#,
            "generate: temperature is inf, but must be from 0 to 100",
        ),
        (r#"{"generate":"secret"}"#, "generate: expected an object, found a string"),
        (r#"{"embed":{}}"#, "embed: missing field \"texts\""),
        (r#"{"tokenize":{"text":null}}"#, "tokenize.text: expected a string, found null"),
    ];
    for (payload, words) in cases {
        assert_eq!(refused(payload), words, "{payload}");
    }
    for (payload, words) in [
        ("", "a message is no JSON: EOF while parsing a value at line 1 column 0"),
        ("{\"generate\":{\"prompt\":\"secret", "a message is no JSON: EOF while parsing a string at line 1 column 29"),
        (
            r#"{"generate":{"prompt":"\ud800 secret"}}"#,
            "a message is no JSON: unexpected end of hex escape at line 1 column 30",
        ),
        ("\"status\"secret", "a message is no JSON: trailing characters at line 1 column 9"),
        (r#"{"generate":{"prompt":"x"},"status":null}"#, "a message is a string or an object with one field, its kind"),
    ] {
        assert_eq!(refused(payload), words, "{payload}");
    }
}

#[test]
fn what_is_left_out_or_null_has_its_default() {
    let decode = |payload: &str| Request::decode(payload.as_bytes()).unwrap();
    let plain = Request::Generate(Box::new(GenerateRequest::raw("x")));
    assert_eq!(decode(r#"{"generate":{"prompt":"x"}}"#), plain);
    let null = r#"{ "generate" : {"model":null,"prompt":"x","messages":null,"max_tokens":null,"temperature":null,
        "top_p":null,"top_k":null,"min_p":null,"seed":null,"repeat_penalty":null,"frequency_penalty":null,"presence_penalty":null,
        "stop":null,"ignore_end":null} }"#;
    assert_eq!(decode(null), plain);
    let neutral =
        r#"{"generate":{"prompt":"x","temperature":0,"top_p":1,"top_k":0,"min_p":0,"repeat_penalty":1.0,"stop":[]}}"#;
    assert_eq!(decode(neutral), plain);
    assert_eq!(decode(r#"{"status":null}"#), Request::Status);
    assert_eq!(decode(r#"{"control":{"stop":{}}}"#), Request::Control(Control::Stop { now: false }));
    let Request::Generate(asked) = decode(r#"{"generate":{"messages":[{"role":"tool","tool_call_id":"1"}]}}"#) else {
        panic!("another request")
    };
    let Prompt::Chat(messages) = asked.prompt else { panic!("another prompt") };
    assert_eq!((messages[0].role, messages[0].text()), (Role::Tool, ""));
}

#[test]
fn numbers_keep_their_bits() {
    let mut state = 1_u64;
    for _ in 0..200_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let number = f32::from_bits((state >> 32) as u32);
        if number.is_finite() {
            let mut asked = GenerateRequest::raw("x");
            (asked.sampling.temperature, asked.sampling.seed) = (number, Some(state));
            let payload = Request::Generate(Box::new(asked)).encode().unwrap();
            let Request::Generate(heard) = Request::decode(&payload).unwrap() else { panic!("another request") };
            assert_eq!(heard.sampling.temperature.to_bits(), number.to_bits(), "{number}");
            assert_eq!(heard.sampling.seed, Some(state));
        }
    }
    let bits = [0_u32, 1 << 31, 1, 0x7f80_0000, 0x7fc0_1234, u32::MAX, 0x3f80_0000];
    let vectors = vec![bits.map(f32::from_bits).to_vec(), vec![]];
    let payload = Response::Vectors { first: 0, vectors }.encode().unwrap();
    let Response::Vectors { vectors, .. } = Response::decode(&payload).unwrap() else { panic!("another response") };
    assert_eq!(vectors[0].iter().map(|number| number.to_bits()).collect::<Vec<_>>(), bits);
    assert!(vectors[1].is_empty());
}

#[test]
fn the_length_of_a_string_in_json_is_known() {
    let every: String = (0..0x300).filter_map(char::from_u32).chain("\u{2028}\u{1f600}".chars()).collect();
    for text in ["", "x", "\"\\/", every.as_str()] {
        assert_eq!(ipc::json_length(text), serde_json::to_string(text).unwrap().len(), "{text:?}");
    }
}

#[test]
fn a_number_that_json_cannot_say_is_refused_before_it_is_sent() {
    let mut asked = GenerateRequest::raw("x");
    asked.sampling.top_p = f32::INFINITY;
    let error = Request::Generate(Box::new(asked)).encode().unwrap_err();
    assert_eq!(error.to_string(), "top_p is inf, but must be from 0 to 1");
}

/// What a daemon of a later version might say to a request for a text.
const LATER: [&str; 6] = [
    r#"{"warming":{"prompt_tokens":3}}"#,
    r#"{"accepted":{"request":1,"model":"m","priority":{"deep":[[1]]}}}"#,
    r#"{"piece":{"text":"a","token":5,"logprob":-0.5}}"#,
    r#""heartbeat""#,
    r#"{"piece":{"text":"b","token":6}}"#,
    r#"{"done":{"text":"","finish":"tool_calls","prompt_tokens":1,"completion_tokens":2,"attempts":1,"seed":0,"wait_us":1,"first_piece_us":2,"total_us":3,"load_us":4}}"#,
];

fn frame(payload: &str) -> Vec<u8> {
    ipc::frame(payload.as_bytes(), ipc::MAX_FRAME).unwrap()
}

/// A daemon that takes one connection and answers its first request so, and then its second.
fn daemon(answers: [Vec<&'static str>; 2]) -> (PathBuf, JoinHandle<()>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for answer in answers {
            let mut header = [0; ipc::HEADER];
            stream.read_exact(&mut header).unwrap();
            let size = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
            let mut payload = vec![0; size as usize];
            stream.read_exact(&mut payload).unwrap();
            Request::decode(&payload).unwrap();
            stream.write_all(&answer.into_iter().flat_map(frame).collect::<Vec<_>>()).unwrap();
        }
    });
    (socket, served, folder)
}

const FAILED: &str = r#"{"failed":{"kind":"quota_exceeded","message":"come back tomorrow","owner":"you"}}"#;

#[test]
fn a_client_leaves_out_what_only_a_newer_one_knows() {
    let (socket, served, _folder) = daemon([LATER.to_vec(), vec![r#"{"later":0}"#, FAILED]]);
    let mut client = Client::connect(&socket).unwrap();
    let answer = client.generate(GenerateRequest::raw("x")).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    check(&answer);
    let Err(ClientError::Failed(failure)) = client.status() else { panic!("no failure") };
    check_failure(&failure);
    served.join().unwrap();
}

#[test]
fn a_tokio_client_leaves_out_what_only_a_newer_one_knows() {
    let (socket, served, _folder) = daemon([LATER.to_vec(), vec![r#"{"later":0}"#, FAILED]]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut client = AsyncClient::connect(&socket).await.unwrap();
        let mut heard = Vec::new();
        let mut answer = client.generate(GenerateRequest::raw("x")).await.unwrap();
        while let Some(response) = answer.next().await {
            heard.push(response.unwrap());
        }
        check(&heard);
        let Err(ClientError::Failed(failure)) = client.status().await else { panic!("no failure") };
        check_failure(&failure);
    });
    served.join().unwrap();
}

fn check(answer: &[Response]) {
    let [
        Response::Accepted { .. },
        Response::Piece { text: a, .. },
        Response::Piece { text: b, .. },
        Response::Done(done),
    ] = answer
    else {
        panic!("{answer:?}")
    };
    assert_eq!((a.as_str(), b.as_str(), done.finish), ("a", "b", FinishReason::Other));
}

fn check_failure(failure: &Failure) {
    assert_eq!((failure.kind, failure.to_string().as_str()), (FailureKind::Other, "come back tomorrow"));
}

#[test]
fn a_known_kind_of_another_shape_is_an_error() {
    for payload in [r#"{"piece":{"text":"x"}}"#, r#"{"piece":5}"#, r#"{"a":1,"b":2}"#, "{}", "[]", "5"] {
        assert!(Response::decode(payload.as_bytes()).is_err(), "{payload}");
    }
    for (wrong, words) in [
        (r#"{"vectors":{"first":0,"vectors":["AAA"]}}"#, "vectors.vectors[0]: this is no base64"),
        (r#"{"vectors":{"first":0,"vectors":["AAAA"]}}"#, "vectors.vectors[0]: these are no 32-bit floats"),
    ] {
        assert_eq!(Response::decode(wrong.as_bytes()).unwrap_err().to_string(), words);
    }
}
