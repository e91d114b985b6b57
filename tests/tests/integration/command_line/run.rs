//! `supervisor run`: its configuration, checked before anything is started.
use integration_tests::{Call, LIMIT, Signal, process, until};
use ipc::Client;
use std::{fs, path::Path};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/supervisor.toml");

#[test]
fn a_good_configuration_passes() {
    for arguments in [&["run", "--check"][..], &["run", "--check", "--config", EXAMPLE]] {
        let ended = Call::new(arguments).run();
        assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""));
        assert_eq!(ended.stdout, "the configuration is valid\n");
    }
}

#[test]
fn the_example_shows_the_defaults_and_can_be_served() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("supervisor.sock");
    let daemon = Call::new(["run", "--config", EXAMPLE]).to(&socket).start();
    let status = || Client::connect(&socket).and_then(|mut client| client.status());
    until("the model is served", LIMIT, || status().is_ok_and(|status| status.models[0].state == "warm"));
    assert_eq!(status().unwrap().models[0].name, "pocket");
    daemon.signal(Signal::SIGINT);
    assert_eq!(daemon.wait().code(), 0);
}

#[test]
fn a_bad_configuration_is_refused_by_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    let model = "[[model]]\nname = \"echo\"\npath = \"builtin:echo\"\n";
    let cases = [
        (
            "[supervisor]\nqueue = 3\nquue_timeout = \"1s\"\n".to_owned(),
            ":3: unknown key \"quue_timeout\" in [supervisor]; did you mean \"queue_timeout\"?",
        ),
        (format!("{model}worker = 2\n"), ":4: unknown key \"worker\" in [[model]]; did you mean \"workers\"?"),
        (format!("{model}queue = 2\n"), ":4: unknown key \"queue\" in [[model]]; \"queue\" belongs in [supervisor]"),
        ("[supervisior]\n".to_owned(), ":1: unknown key \"supervisior\" in the file; did you mean \"supervisor\"?"),
        (format!("{model}workers = 0\n"), ":4: workers is 0, but must be \"auto\" or a whole number from 1 to 256"),
        (
            format!("{model}progress_timeout = 30\n"),
            ":4: progress_timeout is 30, but must be a duration like \"30s\" or \"10m\"",
        ),
        (format!("{model}\n{model}"), ":6: two models have the name \"echo\""),
        ("[[model]]\nname = \"x\"\n".to_owned(), ":1: [[model]] has no path; set path to a GGUF file"),
        ("[supervisor\n".to_owned(), ":1: not valid TOML: "),
    ];
    for (text, words) in cases {
        fs::write(&file, &text).unwrap();
        for check in [&["--check"][..], &[]] {
            let ended = Call::new([&["run", "--config", file.to_str().unwrap()], check].concat()).run();
            assert_eq!((ended.code(), ended.stdout.as_str()), (2, ""), "{text:?}");
            let expected = format!("supervisor: {}{words}", file.display());
            assert!(ended.complaint().starts_with(&expected), "{ended:?} does not say {expected:?}");
        }
    }
    fs::write(&file, b"[supervisor]\n# \xff\n").unwrap();
    let ended = Call::new(["run", "--check", "--config", file.to_str().unwrap()]).run();
    assert_eq!(ended.complaint(), format!("supervisor: {}:2: not valid UTF-8", file.display()));
    assert_eq!(ended.code(), 2);
}

#[test]
fn a_configuration_that_cannot_be_read_is_wrong_usage() {
    for (path, words) in
        [("/nowhere/config.toml", "No such file"), ("/", "it is not a file"), ("/dev/zero", "it is not a file")]
    {
        let ended = Call::new(["run", "--config", path]).run();
        assert_eq!(ended.code(), 2, "{ended:?}");
        let complaint = ended.complaint();
        assert!(complaint.contains(&format!("{path} cannot be read")) && complaint.contains(words), "{ended:?}");
    }
}

#[test]
fn a_model_on_the_command_line_must_have_a_name_and_a_path() {
    let cases: [(&[&str], &str); 8] = [
        (&["pocket"], "a model is given as NAME=PATH"),
        (&["=builtin:pocket"], "a model is given as NAME=PATH"),
        (&["pocket="], "a model is given as NAME=PATH"),
        (&[""], "a model is given as NAME=PATH"),
        (&["two words=builtin:echo"], "--model: name is \"two words\", but must be 1 to 64 characters"),
        (&["a/b=builtin:echo"], "--model: name is \"a/b\""),
        (&["a=builtin:echo", "a=builtin:pocket"], "--model: two models have the name \"a\""),
        (&["a=builtin:echo", "b"], "a model is given as NAME=PATH"),
    ];
    for (models, words) in cases {
        let options = models.iter().flat_map(|model| ["--model", model]);
        let ended = Call::new(["run", "--check"].into_iter().chain(options)).run();
        assert_eq!((ended.code(), ended.stdout.as_str()), (2, ""), "{models:?}");
        assert!(ended.stderr.contains(words), "{ended:?} does not say {words:?}");
    }
    // The first = ends the name.
    let ended = Call::new(["run", "--check", "--model", "a=/x=y.gguf"]).run();
    assert!(ended.complaint().contains(": a: cannot open the model /x=y.gguf: "), "{ended:?}");
}

#[test]
fn models_that_cannot_be_loaded_are_found_before_anything_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let pointer = folder.path().join("pointer.gguf");
    fs::write(&pointer, "version https://git-lfs.github.com/spec/v1\n").unwrap();
    let pocket = concat!(env!("CARGO_MANIFEST_DIR"), "/../worker/pocket/pocket-q8_0.gguf");
    let models = [
        format!("good={pocket}"),
        format!("pointer={}", pointer.display()),
        "echo=builtin:echo".to_owned(),
        "missing=/nowhere/x.gguf".to_owned(),
    ];
    let check = |models: &[String]| {
        let options = models.iter().flat_map(|model| ["--model", model]);
        Call::new(["run", "--check"].into_iter().chain(options)).run()
    };
    let ended = check(&models);
    assert_eq!((ended.code(), ended.stdout.as_str()), (1, ""), "{ended:?}");
    let expected = format!(
        "supervisor: the configuration is valid, but not all of its models can be loaded: pointer: cannot load the model {}: \
         it is a Git LFS pointer, not the file itself; git lfs pull fetches it; missing: cannot open the model \
         /nowhere/x.gguf: No such file or directory (os error 2)",
        pointer.display()
    );
    assert_eq!(ended.complaint(), expected);
    let ended = check(&[models[0].clone(), models[2].clone()]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (0, "the configuration is valid\n"), "{ended:?}");
    // What was asked of a model is looked at, too.
    let config = folder.path().join("config.toml");
    fs::write(&config, format!("[[model]]\npath = {pocket:?}\ncontext = 513\n")).unwrap();
    let ended = Call::new(["run", "--check", "--config", config.to_str().unwrap()]).run();
    assert_eq!(ended.code(), 1, "{ended:?}");
    assert!(ended.complaint().ends_with("it must be from 2 to 512"), "{ended:?}");
}

#[test]
fn other_options_are_checked_too() {
    let long = format!("/tmp/{}", "x".repeat(120));
    let cases: [(&[&str], &str); 5] = [
        (&["--workers", "0"], "--workers: workers is 0"),
        (&["--workers", "257"], "--workers: workers is 257"),
        (&["--threads", "0"], "--threads: threads is 0"),
        (&["--threads", "some"], "the number of threads, or auto"),
        (&["--socket", &long], "but must be a path of 1 to 107 bytes"),
    ];
    for (options, words) in cases {
        let ended = Call::new([&["run", "--check"], options].concat()).run();
        assert_eq!(ended.code(), 2, "{options:?}");
        assert!(ended.stderr.contains(words), "{ended:?} does not say {words:?}");
    }
}

#[test]
fn a_log_that_cannot_be_written_keeps_nobody_from_being_served() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("supervisor.sock");
    let arguments = ["run", "--model", "echo=builtin:echo", "--model", "bad=/nowhere"];
    let daemon = Call::new(arguments).to(&socket).unheard().start();
    let status = || Client::connect(&socket).and_then(|mut client| client.status());
    until("one model has failed", LIMIT, || {
        assert!(process::lives(daemon.pid()), "the daemon has ended");
        status().is_ok_and(|status| status.models[1].state == "failed")
    });
    assert_eq!(Call::new(["generate", "--model", "echo", "x"]).to(&socket).run().stdout, "x\n");
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait().code(), 0);
}

#[test]
fn a_relative_path_is_found_from_where_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let pocket = Path::new(env!("CARGO_MANIFEST_DIR")).join("../worker/pocket/pocket-q4_k_m.gguf");
    fs::copy(pocket, folder.path().join("small.gguf")).unwrap();
    let file = folder.path().join("config.toml");
    fs::write(&file, "[supervisor]\nsocket = \"s.sock\"\n[[model]]\npath = \"small.gguf\"\nworkers = 1\n").unwrap();
    let daemon = Call::new(["run", "--config", file.to_str().unwrap()]).start();
    let socket = folder.path().join("s.sock");
    let status = || Client::connect(&socket).and_then(|mut client| client.status());
    until("the model is served", LIMIT, || status().is_ok_and(|status| status.models[0].state == "warm"));
    assert_eq!(status().unwrap().models[0].name, "small");
    let ended = Call::new(["generate", "16 - 8 = ?"]).to(&socket).run();
    assert_eq!(ended.stdout, "16 - 8 = 8\n");
    drop(daemon);
}
