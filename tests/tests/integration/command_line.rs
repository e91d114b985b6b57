//! The command line as a shell sees it: what is printed, what is complained of, and the exit
//! status.
mod demo;
mod embed;
mod generate;
mod run;
mod status;
mod tokenize;

use integration_tests::{Call, Daemon};

/// A daemon that answers with the prompt, with these options.
fn echo(options: &str) -> Daemon {
    Daemon::start(&format!("[[model]]\nname = \"echo\"\npath = \"builtin:echo?{options}\"\nworkers = 1\n"))
}

#[test]
fn every_command_has_help() {
    const COMMANDS: [&str; 11] =
        ["run", "demo", "status", "generate", "tokenize", "embed", "reload", "drain", "stop", "restart", "completions"];
    for command in std::iter::once(&[][..]).chain(COMMANDS.chunks(1)) {
        for help in ["--help", "-h"] {
            let ended = Call::new([command, &[help]].concat()).run();
            assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""), "{command:?}");
            let usage = ["Usage: supervisor", command.first().copied().unwrap_or("<COMMAND>")].join(" ");
            assert!(ended.stdout.contains(&usage), "{ended:?} does not say {usage:?}");
        }
        // It begins with what the command does.
        let text = Call::new([command, &["--help"]].concat()).run().stdout;
        assert!(!text.starts_with("Usage"), "{text}");
    }
    let all = Call::new(["help"]).run();
    assert_eq!(all.code(), 0);
    for command in COMMANDS {
        assert!(all.stdout.contains(&format!("\n  {command} ")), "{}", all.stdout);
    }
    assert!(!all.stdout.contains("template"), "what is not for people is not shown: {}", all.stdout);
}

#[test]
fn the_version_is_told() {
    let ended = Call::new(["--version"]).run();
    let expected = format!("supervisor {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((ended.code(), ended.stdout, ended.stderr), (0, expected, String::new()));
}

#[test]
fn wrong_usage_is_told_apart_from_failure() {
    let cases: [(&[&str], &str); 16] = [
        (&[], "Usage"),
        (&["genrate", "x"], "generate"),
        (&["generate"], "PROMPT"),
        (&["generate", "--tempreature", "1", "x"], "--temperature"),
        (&["generate", "--max-tokens", "many", "x"], "--max-tokens"),
        (&["generate", "--raw", "--system", "s", "x"], "--system"),
        (&["tokenize"], "TEXT"),
        (&["tokenize", "--model", "m", "--file", "f", "x"], "--file"),
        (&["embed"], "TEXT"),
        (&["embed", "--query", "--document", "x"], "--document"),
        (&["embed", "--format", "csv", "x"], "jsonl"),
        (&["status", "--json", "--watch"], "--watch"),
        (&["restart", "first"], "SLOT"),
        (&["stop", "--later"], "--later"),
        (&["completions", "basic"], "bash"),
        (&["run", "--workers", "-1"], "-1"),
    ];
    for (arguments, word) in cases {
        let ended = Call::new(arguments).run();
        assert_eq!((ended.code(), ended.stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(ended.stderr.contains(word), "{ended:?} does not say {word:?}");
    }
}

#[test]
fn without_a_daemon_the_exit_status_is_3_and_a_hint_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let (nothing, stale) = (folder.path().join("nothing"), folder.path().join("stale"));
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    for socket in [nothing, stale] {
        for arguments in [
            &["status"][..],
            &["status", "--json"],
            &["status", "--watch"],
            &["generate", "x"],
            &["embed", "x"],
            &["reload"],
            &["drain"],
            &["stop"],
            &["restart"],
        ] {
            let ended = Call::new(arguments).to(&socket).run();
            assert_eq!((ended.code(), ended.stdout.as_str()), (3, ""), "{ended:?}");
            let expected = format!("supervisor: no daemon at {}: ", socket.display());
            assert!(ended.stderr.starts_with(&expected), "{ended:?}");
            assert!(ended.stderr.contains("supervisor run"), "{ended:?}");
        }
    }
}

#[test]
fn the_option_counts_more_than_the_environment() {
    let daemon = echo("");
    let call = Call::new(["generate", "--socket", daemon.socket().to_str().unwrap(), "found"]);
    assert_eq!(call.to("/nowhere/else".as_ref()).run().stdout, "found\n");
}

#[test]
fn completions_are_for_a_shell() {
    for (shell, word) in [("bash", "complete -F _supervisor"), ("zsh", "#compdef supervisor"), ("fish", "complete -c")]
    {
        let ended = Call::new(["completions", shell]).run();
        assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""));
        for word in [word, "generate", "--max-tokens"] {
            // fish writes options without their dashes.
            assert!(ended.stdout.contains(word.trim_start_matches("--")), "{shell}: {word:?} is missing");
        }
    }
}

#[test]
fn a_reader_who_has_gone_is_no_error_to_speak_of() {
    let daemon = echo("");
    let commands = [
        &["status"][..],
        &["status", "--json"],
        &["status", "--watch"],
        &["generate", "x"],
        &["generate", "--json", "x"],
        &["tokenize", "--file", tokenize::VOCABULARY, "x"],
        &["completions", "bash"],
        &["run", "--check"],
        &["--help"],
        &["--version"],
    ];
    for arguments in commands {
        let ended = Call::new(arguments).to(daemon.socket()).taken(0).run();
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""), "{arguments:?}");
    }
}

#[test]
fn the_exit_status_is_right_also_if_nobody_can_be_told_why() {
    let socket = "/nowhere/at/all".as_ref();
    for (arguments, code) in [
        (&["status"][..], 3),
        (&["generate", "x"], 3),
        (&["generate", "--socket", "", "-"], 2),
        (&["tokenize", "x"], 3),
        (&["tokenize", "--file", "/nowhere", "x"], 2),
        (&["run", "--model", "bad=builtin:bad", "--workers", "0"], 2),
    ] {
        assert_eq!(Call::new(arguments).to(socket).input(*b"\xff").unheard().run().code(), code, "{arguments:?}");
    }
}
