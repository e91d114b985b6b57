//! Models that cannot be loaded: alone they end the daemon, beside a good one they are shown as
//! failed.
use super::serves;
use crate::gguf::Gguf;
use integration_tests::{Call, Daemon, generate};
use ipc::{ClientError, FailureKind, GenerateRequest, Sampling};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// Bad models, each with a word that the error must hold.
struct Models {
    folder: TempDir,
    bad: Vec<(PathBuf, &'static str)>,
}

fn pocket() -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../worker/pocket/pocket-q8_0.gguf")).unwrap()
}

/// The file with another architecture in its metadata, and nothing else changed.
fn with_architecture(mut file: Vec<u8>, name: &[u8; 5]) -> Vec<u8> {
    // The key, the type of a string, its length, the string.
    let entry = [b"general.architecture".as_slice(), &8_u32.to_le_bytes(), &5_u64.to_le_bytes(), b"llama"].concat();
    let places: Vec<usize> =
        file.windows(entry.len()).enumerate().filter(|(_, at)| *at == entry).map(|(at, _)| at).collect();
    assert_eq!(places.len(), 1, "the file names its architecture once");
    let end = places[0] + entry.len();
    file[end - 5..end].copy_from_slice(name);
    file
}

fn models() -> Models {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let good = pocket();
    let adapter = Gguf::read(&good).text("general.type", "adapter").bytes();
    let (_, second) = Gguf::read(&good).split("pocket", 2).remove(1);
    let files: [(&str, &[u8], &str); 13] = [
        ("empty.gguf", b"", "it is empty"),
        ("pointer.gguf", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull fetches it"),
        ("page.gguf", b"<!DOCTYPE html>\n<html>", "it is a web page"),
        ("big.gguf", b"GGUF\0\0\0\x03aaaaaaaaaaaaaaaa", "it is a big-endian file"),
        ("adapter.gguf", &adapter, "it is a LoRA adapter"),
        ("part.gguf", &second.bytes(), "it is part 2 of 2 of a split model; name the first"),
        ("text.gguf", b"Dear model,\nplease answer.\n", "not a GGUF file"),
        ("magic.gguf", b"GGUF", "truncated"),
        ("version.gguf", b"GGUF\x01\0\0\0aaaaaaaaaaaaaaaa", "version 1"),
        ("huge.gguf", &[b"GGUF\x03\0\0\0".as_slice(), &[0xff; 16]].concat(), "truncated"),
        ("header.gguf", &good[..2000], "truncated"),
        ("weights.gguf", &good[..good.len() - 1000], "truncated"),
        ("architecture.gguf", &with_architecture(good.clone(), b"lama2"), "its architecture is \"lama2\""),
    ];
    let mut bad = vec![
        (path("missing.gguf"), "No such file"),
        (folder.path().to_owned(), "the folder has no config.json"),
        ("builtin:socket".into(), "no built-in model"),
        ("builtin:echo?speed=9".into(), "no option \"speed\""),
    ];
    for (name, bytes, word) in files {
        fs::write(path(name), bytes).unwrap();
        bad.push((path(name), word));
    }
    Models { folder, bad }
}

#[test]
fn a_daemon_that_can_serve_nothing_says_why_and_ends() {
    let Models { folder, bad } = models();
    for (path, word) in bad {
        let model = format!("wanted={}", path.display());
        let socket = folder.path().join("supervisor.sock");
        let ended = Call::new(["run", "--model", &model]).to(&socket).run();
        assert_eq!((ended.code(), ended.stdout.as_str()), (1, ""), "{ended:?}");
        let last = ended.stderr.lines().last().unwrap();
        let known = "supervisor: nothing can be served: wanted: ";
        assert!(last.starts_with(known) && last.contains(word), "{last:?} does not say {word:?}");
        assert!(
            last.contains(path.to_str().unwrap().trim_start_matches("builtin:")),
            "{last:?} does not name the file"
        );
        assert!(!socket.exists(), "the socket file is left");
    }
}

#[test]
fn bad_models_beside_a_good_one_are_shown_as_failed() {
    let Models { folder: _kept, bad } = models();
    let mut config = String::from("[[model]]\nname = \"good\"\npath = \"builtin:echo\"\nworkers = 1\n");
    for (number, (path, _)) in bad.iter().enumerate() {
        config += &format!("[[model]]\nname = \"bad-{number}\"\npath = {:?}\nworkers = 1\n", path.to_str().unwrap());
    }
    let daemon = Daemon::start(&config);
    // A template that has refused its file is shown until it has ended.
    let status = daemon
        .until("the templates have ended", |status| status.models[1..].iter().all(|model| model.template.is_none()));
    assert_eq!(status.models[0].state, "warm");
    for ((path, word), model) in bad.iter().zip(&status.models[1..]) {
        assert_eq!((model.state.as_str(), model.template.is_some()), ("failed", false), "{model:?}");
        assert!(model.error.as_ref().is_some_and(|error| error.contains(word)), "{model:?} does not say {word:?}");
        assert!(model.retry_in_s.is_some(), "{model:?}");
        assert_eq!((model.path.as_str(), model.architecture.as_ref()), (path.to_str().unwrap(), None));
        assert_eq!(model.last_crash, None, "to refuse a file is no crash");

        let request = GenerateRequest { model: Some(model.name.clone()), ..GenerateRequest::raw("x") };
        let Err(ClientError::Failed(failure)) = generate(&daemon, request) else { panic!("{} serves", model.name) };
        assert_eq!(failure.kind, FailureKind::Unavailable);
        assert!(failure.message.contains(&model.name) && failure.retry_after_ms.is_some(), "{failure:?}");
    }
    let request = GenerateRequest { model: Some("good".into()), ..GenerateRequest::raw("x") };
    assert_eq!(generate(&daemon, request).unwrap().text, "x");
}

#[test]
fn a_file_that_has_become_good_is_served_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("late.gguf");
    let config = format!(
        "[[model]]\nname = \"late\"\npath = {:?}\nworkers = 1\n[[model]]\nname = \"echo\"\npath = \"builtin:echo\"\n",
        path.to_str().unwrap()
    );
    let daemon = Daemon::start(&config);
    assert_eq!(daemon.status().models[0].state, "failed");
    fs::write(&path, pocket()).unwrap();
    let status = daemon.until("the model is served", |status| status.models[0].state == "warm");
    assert_eq!((&status.models[0].error, status.models[0].retry_in_s), (&None, None));
    let request = GenerateRequest { model: Some("late".into()), ..GenerateRequest::chat("16 - 8 = ?") };
    assert_eq!(generate(&daemon, request).unwrap().text, "16 - 8 = 8");
}

#[test]
fn only_the_file_with_the_right_hash_is_served() {
    let right = "[[model]]\nname = \"echo\"\npath = \"builtin:echo\"\nworkers = 1\n";
    let wrong = "[[model]]\nname = \"other\"\npath = \"builtin:pocket\"\nworkers = 1\nsha256 = ";
    let daemon = Daemon::start(&format!("{right}{wrong}{:?}\n", "0".repeat(64)));
    let error = daemon.status().models[1].error.clone().unwrap();
    let found = error.split_once("its SHA-256 is ").and_then(|(_, rest)| rest.get(..64)).unwrap();
    assert!(error.ends_with(&format!("not {}", "0".repeat(64))), "{error}");

    let daemon = Daemon::start(&format!("{right}{wrong}{:?}\n", found.to_uppercase()));
    assert_eq!(daemon.status().models[1].state, "warm");
}

#[test]
fn a_context_that_the_model_cannot_have_is_refused() {
    let model = |name: &str, context: u32| {
        format!("[[model]]\nname = \"{name}\"\npath = \"builtin:pocket\"\nworkers = 1\ncontext = {context}\n")
    };
    let daemon = Daemon::start(&(model("most", 512) + &model("more", 513) + &model("one", 1)));
    let status = daemon.status();
    assert_eq!((status.models[0].state.as_str(), status.models[0].context), ("warm", Some(512)));
    for (model, asked) in status.models[1..].iter().zip([513, 1]) {
        let error = model.error.as_ref().unwrap();
        assert!(error.contains(&format!("a context of {asked} tokens")) && error.contains("from 2 to 512"), "{error}");
    }
    let echo = Daemon::start("[[model]]\nname = \"echo\"\npath = \"builtin:echo\"\nworkers = 1\n");
    serves(&echo);
}

#[test]
fn numbers_that_are_not_finite_end_a_request_and_nothing_else() {
    let mut file = Gguf::read(&pocket());
    file.tensor("output_norm.weight").bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken.gguf");
    fs::write(&path, file.bytes()).unwrap();
    let daemon = Daemon::start(&format!("[[model]]\nname = \"broken\"\npath = {path:?}\nworkers = 1\n"));
    for temperature in [0.0, 1.0] {
        let sampling = Sampling { temperature, ..Sampling::default() };
        let request = GenerateRequest { sampling, ..GenerateRequest::chat("16 - 8 = ?") };
        let Err(ClientError::Failed(failure)) = generate(&daemon, request) else { panic!("there was an answer") };
        assert_eq!(failure.kind, FailureKind::Engine);
        assert!(failure.message.contains("not finite"), "{failure:?}");
    }
    let ended = Call::new(["generate", "16 - 8 = ?"]).to(daemon.socket()).run();
    assert_eq!((ended.code(), ended.stdout.as_str()), (1, ""), "{ended:?}");
    let model = &daemon.status().models[0];
    assert_eq!((model.state.as_str(), &model.last_crash), ("warm", &None), "{model:?}");
    assert!(daemon.log().contains("the model's numbers are not finite"), "it is told before anybody asks");
}

#[test]
fn a_special_id_that_is_no_token_is_told_and_ignored() {
    let file = Gguf::read(&pocket()).unsigned("tokenizer.ggml.eot_token_id", u32::MAX);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd.gguf");
    fs::write(&path, file.bytes()).unwrap();
    let daemon = Daemon::start(&format!("[[model]]\nname = \"odd\"\npath = {path:?}\nworkers = 1\n"));
    assert_eq!(generate(&daemon, GenerateRequest::chat("16 - 8 = ?")).unwrap().text, "16 - 8 = 8");
    let log = daemon.log();
    let line = log.lines().find(|line| line.contains("tokenizer.ggml.eot_token_id is 4294967295")).unwrap_or_default();
    assert!(line.contains("WARN") && line.contains("but it has only 1536 tokens: the key is ignored"), "{log}");
}
