//! `supervisor generate`.
use super::echo;
use integration_tests::{Call, Daemon, LIMIT, Signal, generate, until};
use ipc::GenerateRequest;
use serde_json::{Value, json};
use std::io::Write;
use tempfile::NamedTempFile;

#[test]
fn the_answer_is_the_only_thing_printed() {
    let daemon = echo("");
    let call = |arguments: &[&str]| Call::new([&["generate"], arguments].concat()).to(daemon.socket());
    let prints = |call: Call, text: &str| {
        let ended = call.run();
        assert_eq!((ended.code(), ended.stdout.as_str(), ended.stderr.as_str()), (0, text, ""));
    };
    prints(call(&["hello"]), "hello\n");
    prints(call(&["several", "words", "are one"]), "several words are one\n");
    prints(call(&["a line\n"]), "a line\n");
    prints(call(&["h\u{e9}llo \u{1f600}"]), "h\u{e9}llo \u{1f600}\n");
    prints(call(&["--raw", "--", "--json"]), "--json\n");
    prints(call(&["-"]).input("from a\nfile\n"), "from a\nfile\n");
    prints(call(&["--max-tokens", "3", "abcdef"]), "abc\n");
    prints(call(&["--stop", "zero", "--stop", "two", "one two three"]), "one \n");
    prints(call(&["--model", "echo", "--system", "be brief", "x"]), "x\n");
    let sampling = ["--temperature", "0.5", "--top-p", "0.9", "--top-k", "4", "--seed", "7"];
    let penalties = ["--repeat-penalty", "1.1", "--frequency-penalty", "-0.5", "--presence-penalty", "0.5"];
    prints(call(&[&sampling[..], &penalties, &["x"]].concat()), "x\n");
}

#[test]
fn json_is_one_object_with_all_that_is_known() {
    let daemon = echo("");
    let ended =
        Call::new(["generate", "--json", "--seed", "7", "--max-tokens", "4", "\"quoted\""]).to(daemon.socket()).run();
    assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""));
    assert_eq!(ended.stdout.lines().count(), 1, "{}", ended.stdout);
    let mut value: Value = serde_json::from_str(&ended.stdout).unwrap();
    let timing = value.as_object_mut().unwrap().remove("timing").unwrap();
    let expected = json!({
        "id": "req-1", "model": "echo", "text": "\"quo", "finish_reason": "length", "seed": 7, "attempts": 1,
        "usage": {"prompt_tokens": 8, "completion_tokens": 4, "total_tokens": 12},
    });
    assert_eq!(value, expected);
    let seconds: Vec<f64> =
        ["wait_s", "first_piece_s", "total_s"].iter().map(|key| timing[key].as_f64().unwrap()).collect();
    assert!(seconds.is_sorted() && seconds[0] >= 0.0, "{timing}");
}

#[test]
fn what_is_piped_is_the_same_as_an_argument() {
    let daemon = echo("");
    for raw in [&[][..], &["--raw"]] {
        for (piped, text) in
            [("a b", "a b"), ("a b\n", "a b"), ("a b\r\n", "a b"), ("\u{feff}a b\n", "a b"), ("a b\n\n", "a b\n")]
        {
            let call = Call::new([&["generate", "--json"], raw, &["-"]].concat()).to(daemon.socket());
            let ended = call.input(piped).run();
            let value: Value = serde_json::from_str(&ended.stdout).unwrap();
            assert_eq!(value["text"], text, "{piped:?} {raw:?}");
        }
    }
}

#[test]
fn a_seed_that_is_drawn_can_be_read_as_a_double() {
    let daemon = echo("");
    let seed = |arguments: &[&str]| {
        let ended = Call::new([&["generate", "--json"], arguments, &["x"]].concat()).to(daemon.socket()).run();
        serde_json::from_str::<Value>(&ended.stdout).unwrap()["seed"].as_u64().unwrap()
    };
    for _ in 0..8 {
        assert!(seed(&[]) < 1 << 53);
    }
    // Who asks for one gets it whole.
    assert_eq!(seed(&["--seed", &u64::MAX.to_string()]), u64::MAX);
}

#[test]
fn a_prompt_is_a_chat_unless_it_is_raw() {
    let daemon = Daemon::start("[[model]]\nname = \"pocket\"\npath = \"builtin:pocket\"\nworkers = 1\n");
    let answer = |arguments: &[&str]| Call::new([&["generate"], arguments].concat()).to(daemon.socket()).run().stdout;
    assert_eq!(answer(&["16 - 8 = ?"]), "16 - 8 = 8\n");
    assert_eq!(answer(&["--raw", "1 2 3 4 5 6"]), " 7 8 9 10\n");
    assert_ne!(answer(&["--max-tokens", "20", "1 2 3 4 5 6"]), " 7 8 9 10\n");
}

#[test]
fn a_conversation_is_read_as_json() {
    let daemon = echo("");
    let call = |text: &str| Call::new(["generate", "--messages", "-"]).to(daemon.socket()).input(text).run();
    let list = r#"[{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]"#;
    assert_eq!(call(list).stdout, "one\n");
    assert_eq!(call(&format!(r#"{{"messages": {list}}}"#)).stdout, "one\n");
    for (wrong, words) in [
        ("[", "--messages takes a JSON list of messages like {\"role\": \"user\", \"content\": \"Hello\"}: EOF"),
        ("7", "--messages takes a JSON list"),
        // What would be left out is refused.
        (
            r#"{"messages": [], "tools": []}"#,
            "--messages takes a JSON list of messages like {\"role\": \"user\", \"content\": \"Hello\"}: unknown field `tools`",
        ),
        (
            r#"[{"role": "clown"}]"#,
            "--messages takes a JSON list of messages like {\"role\": \"user\", \"content\": \"Hello\"}: unknown variant `clown`",
        ),
        (r#"[{"role": "tool", "content": "x"}]"#, "messages[0] has the role tool, which is not served yet"),
        ("[]", "the prompt is empty"),
    ] {
        let ended = call(wrong);
        assert_eq!(ended.code(), 2, "{ended:?}");
        assert!(ended.complaint().starts_with(&format!("supervisor: {words}")), "{ended:?}");
    }
}

/// The built-in model's file with another chat template, which must be as long at most.
fn with_template(template: &str) -> NamedTempFile {
    const POCKET: &[u8] = include_bytes!("../../../../worker/pocket/pocket-q8_0.gguf");
    let key = b"tokenizer.chat_template";
    let at = POCKET.windows(key.len()).position(|bytes| bytes == key).unwrap() + key.len() + 4;
    let length = u64::from_le_bytes(POCKET[at..at + 8].try_into().unwrap()) as usize;
    let comment = format!("{{#{}#}}", " ".repeat(length - template.len() - 4));
    let made = [&POCKET[..at + 8], template.as_bytes(), comment.as_bytes(), &POCKET[at + 8 + length..]].concat();
    let mut file = NamedTempFile::with_suffix(".gguf").unwrap();
    file.write_all(&made).unwrap();
    file
}

#[test]
fn a_template_is_told_what_the_configuration_and_the_request_say() {
    let model = with_template("{{ raise_exception([mood, level, more] | tojson) }}");
    let daemon = Daemon::start(&format!(
        "[[model]]\nname = \"model\"\npath = {:?}\nworkers = 1\ntemplate_vars = {{ mood = \"glad\", level = 1 }}\n",
        model.path()
    ));
    let said = |arguments: &[&str]| {
        let ended = Call::new([&["generate"], arguments, &["x"]].concat()).to(daemon.socket()).run();
        assert_eq!(ended.code(), 2, "{ended:?}");
        ended
            .complaint()
            .trim_start_matches("supervisor: the model's chat template refuses the conversation: ")
            .to_owned()
    };
    let more = "--template-var=more={\"a\": [true]}";
    assert_eq!(said(&[more]), r#"["glad", 1, {"a": [true]}]"#);
    let two = ["--template-var", "level=2", "--template-var", "mood=so so", more];
    assert_eq!(said(&two), r#"["so so", 2, {"a": [true]}]"#);
    // In the order in which they are written, which a template may see.
    let ordered = "more={\"z\": 1, \"a\": {\"y\": 2, \"b\": 3}}";
    assert_eq!(said(&["--template-var", ordered]), format!("[\"glad\", 1, {}]", &ordered[5..]));
    let python = Call::new(["generate", "--template-var", "think=False", "x"]).to(daemon.socket()).run();
    assert_eq!(python.code(), 2);
    assert!(python.stderr.contains("values are JSON: write false, or '\"False\"' for the text"), "{python:?}");
    let taken = said(&["--template-var", "messages=[]"]);
    assert!(taken.starts_with("supervisor: template_vars cannot set messages"), "{taken}");
    let template_vars = [("a".to_owned(), 1.into())].into_iter().collect();
    let raw = generate(&daemon, GenerateRequest { template_vars, ..GenerateRequest::raw("x") }).unwrap_err();
    assert!(raw.to_string().contains("a raw prompt has no template"), "{raw}");
}

#[test]
fn a_request_that_cannot_be_served_is_wrong_usage() {
    let daemon = echo("context=16");
    let cases: [(&[&str], &str); 6] = [
        (&[""], "the prompt is empty"),
        (&["--max-tokens", "0", "x"], "max_tokens must be at least 1"),
        (&["--temperature", "NaN", "x"], "temperature is NaN, but must be from 0 to 100"),
        (&["--top-p", "2", "x"], "top_p is 2, but must be from 0 to 1"),
        (&["--model", "other", "x"], "there is no model \"other\"; there is: echo"),
        (&["a prompt that is longer than the context"], "the prompt has at least 40 tokens, but a context of 16"),
    ];
    for (arguments, words) in cases {
        let ended = Call::new([&["generate"], arguments].concat()).to(daemon.socket()).run();
        assert_eq!((ended.code(), ended.stdout.as_str()), (2, ""), "{ended:?}");
        assert!(ended.complaint().starts_with(&format!("supervisor: {words}")), "{ended:?}");
    }
}

#[test]
fn what_the_daemon_cannot_do_is_a_failure() {
    let bad = "[[model]]\nname = \"bad\"\npath = \"/nowhere\"\n[[model]]\nname = \"echo\"\npath = \"builtin:echo\"\n";
    let daemon = Daemon::start(bad);
    let ended = Call::new(["generate", "--model", "bad", "x"]).to(daemon.socket()).run();
    assert_eq!((ended.code(), ended.stdout.as_str()), (1, ""));
    assert!(ended.complaint().contains("cannot open the model /nowhere"), "{ended:?}");
}

#[test]
fn an_answer_comes_piece_by_piece_and_can_be_interrupted() {
    let daemon = echo("token_us=2000");
    let call = Call::new(["generate", &"forever and ever ".repeat(200)]).to(daemon.socket()).start();
    until("something has been printed", LIMIT, || call.stdout().starts_with("forever and"));
    call.signal(Signal::SIGINT);
    let ended = call.wait();
    assert_eq!((ended.code(), ended.stderr.as_str()), (130, ""));
    let model = daemon.until_model("its request is cancelled", |model| model.totals.cancelled == 1);
    assert_eq!((model.totals.answered, model.totals.failed, model.totals.worker_crashes), (0, 0, 0));
}

#[test]
fn a_reader_who_has_seen_enough_ends_it_quietly() {
    let daemon = echo("token_us=200");
    let prompt = "on and on ".repeat(100);
    for json in [false, true] {
        let options: &[&str] = if json { &["--json"] } else { &[] };
        let arguments = [&["generate"], options, &[prompt.as_str()]].concat();
        let ended = Call::new(arguments).to(daemon.socket()).taken(u64::from(!json)).run();
        let expected = if json { "" } else { "o" };
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), (expected, ""));
        assert_ne!(ended.code(), 0, "the answer was not taken");
    }
    assert!(daemon.until_model("its request has ended", |model| model.totals.cancelled == 1).totals.accepted == 2);
}

#[test]
fn a_daemon_that_dies_under_it_is_a_failure() {
    let mut daemon = echo("token_us=2000");
    let call = Call::new(["generate", &"forever and ever ".repeat(200)]).to(daemon.socket()).start();
    until("something has been printed", LIMIT, || call.stdout().starts_with("forever"));
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    let ended = call.wait();
    assert_eq!(ended.code(), 1);
    let complaint = ended.stderr.lines().last().unwrap();
    assert!(complaint.contains("connection"), "{ended:?}");
}
