//! Prompts and answers are not in the log, unless that is asked for.
use super::{echo, number, requests, text};
use integration_tests::{Daemon, bad_worker, generate};
use ipc::{ChatMessage, EmbedRequest, GenerateRequest, Prompt, Role, TextRole, TokenizeRequest};

const SECRET: &str = "the code is X7K2P";

/// Asks for all that can be asked for with the secret in it, and returns the log with a line for
/// each.
fn told(daemon: &Daemon) -> String {
    generate(daemon, GenerateRequest::raw(SECRET)).unwrap();
    generate(daemon, GenerateRequest::chat(SECRET)).unwrap();
    daemon.client().tokenize(TokenizeRequest { model: None, text: SECRET.to_owned(), special: false }).unwrap();
    generate(daemon, GenerateRequest::raw(SECRET.repeat(1000))).unwrap_err();
    requests(daemon, 4);
    daemon.log()
}

#[test]
fn nothing_is_said_of_prompts() {
    let daemon = echo("", "");
    let log = told(&daemon);
    assert!(!log.contains("X7K2P") && !log.contains("prompt\":") && !log.contains("prompt_hash"), "{log}");
}

#[test]
fn nothing_is_said_of_prompts_and_texts_even_where_everything_is_said() {
    let model = |name, path| format!("[[model]]\nname = \"{name}\"\npath = \"{path}\"\nworkers = 1\n");
    let models = [model("text", "builtin:echo"), model("vectors", "script:ok?embed=4")].concat();
    let config = format!("[supervisor]\nlog_format = \"json\"\n{models}");
    let scripted = ["--log-level", "trace", "--template-executable", &bad_worker().to_string_lossy()];
    let daemon = Daemon::with(&config, &scripted);
    generate(&daemon, GenerateRequest::raw(SECRET)).unwrap();
    let texts = vec![SECRET.to_owned(), SECRET.to_lowercase()];
    let embed = EmbedRequest { model: None, texts, role: TextRole::Plain };
    let mut client = daemon.client();
    client.embed(embed).unwrap().for_each(|response| drop(response.unwrap()));
    requests(&daemon, 2);
    let log = daemon.log();
    assert!(log.contains("\"trace\"") && !log.to_lowercase().contains("x7k2p"), "{log}");
}

#[test]
fn equal_prompts_have_equal_marks() {
    let marks = |daemon: &Daemon| {
        for prompt in [SECRET, "another", SECRET] {
            generate(daemon, GenerateRequest::raw(prompt)).unwrap();
        }
        assert!(!daemon.log().contains("X7K2P"));
        requests(daemon, 3).iter().map(|line| text(line, "prompt_hash").to_owned()).collect::<Vec<_>>()
    };
    let first = marks(&echo("", "log_prompts = \"hash\""));
    assert_eq!((first[0] == first[2], first[0] == first[1]), (true, false), "{first:?}");
    // Another daemon's marks say nothing of this one's.
    assert_ne!(marks(&echo("", "log_prompts = \"hash\""))[0], first[0]);
}

#[test]
fn whole_prompts_are_said_where_that_is_asked_for() {
    let daemon = echo("", "log_prompts = \"full\"");
    generate(&daemon, GenerateRequest::raw("two\n\u{1b}[2Jlines")).unwrap();
    let turn = |role, content: &str| ChatMessage::new(role, content);
    let messages = vec![turn(Role::System, "be brief"), turn(Role::User, "hello")];
    generate(&daemon, GenerateRequest::new(Prompt::Chat(messages))).unwrap();
    generate(&daemon, GenerateRequest::raw("x".repeat(9000))).unwrap_err();
    let lines = requests(&daemon, 3);
    assert_eq!(text(&lines[0], "prompt"), r#""two\n\u001b[2Jlines""#);
    assert_eq!(
        text(&lines[1], "prompt"),
        r#"[{"role":"system","content":"be brief"},{"role":"user","content":"hello"}]"#
    );
    assert_eq!(text(&lines[2], "prompt").len(), 4096);
    // Then a worker's words can be said, too.
    assert!(text(&lines[2], "error").starts_with("the prompt has"), "{:#?}", lines[2]);
    assert!(number(&lines[2], "attempts") > 0.0);
}

#[test]
fn what_a_dying_worker_says_is_told_only_where_no_prompt_can_be_in_it() {
    let script = "[supervisor]\nlog_format = \"json\"";
    let crash = |daemon: &Daemon| {
        let crashes =
            || super::all(daemon).into_iter().find(|line| text(line, "message").starts_with("a worker has ended"));
        integration_tests::until("a crash is told", integration_tests::LIMIT, || crashes().is_some());
        crashes().unwrap()
    };
    let daemon = Daemon::launch_scripted("panic@start?times=1", &format!("workers = 1\n{script}"));
    daemon.settle();
    generate(&daemon, GenerateRequest::raw(SECRET)).unwrap();
    let line = crash(&daemon);
    assert!(!line.contains_key("stderr") && number(&line, "stderr_lines") > 0.0, "{line:#?}");
    assert!(!daemon.model().last_crash.unwrap().stderr.is_empty(), "the status has it");
    let full = format!("workers = 1\n{script}\nlog_prompts = \"full\"");
    let daemon = Daemon::launch_scripted("panic@start?times=1", &full);
    daemon.settle();
    generate(&daemon, GenerateRequest::raw(SECRET)).unwrap();
    assert!(text(&crash(&daemon), "stderr").contains("panicked"));
    let daemon = Daemon::launch_scripted("panic@go?times=1", &format!("workers = 1\n{script}"));
    daemon.settle();
    let line = crash(&daemon);
    assert!(text(&line, "stderr").contains("panicked"), "{line:#?}");
}
