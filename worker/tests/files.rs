//! Files as they come: in parts, broken, and of other kinds.
use crate::common::{gguf::Gguf, job, run};
use ipc::{ChatMessage, FailureKind, FromWorker, Job, ModelSpec, Prompt, Role, Sampling};
use sha2::Digest;
use std::{fs, path::Path};
use system::foreign_text::chain;
use tempfile::TempDir;
use worker::loaded_model::{load_generator, warm};

fn pocket() -> Gguf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pocket/pocket-q8_0.gguf");
    Gguf::read(&fs::read(path).unwrap())
}

fn question() -> Job {
    job(Prompt::Chat(vec![ChatMessage::new(Role::User, "What is the capital of France?")]))
}

fn spec(folder: &TempDir, name: &str) -> ModelSpec {
    ModelSpec::new("test", folder.path().join(name).to_str().unwrap())
}

fn written(files: &[(String, Vec<u8>)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn alone(file: &Gguf) -> TempDir {
    written(&[("model.gguf".to_owned(), file.bytes())])
}

fn refused(spec: &ModelSpec) -> String {
    let path = spec.source.to_string();
    match load_generator(spec) {
        Ok(_) => panic!("{path} was loaded"),
        Err(error) => chain(&error).replace(&path, "FILE"),
    }
}

fn answer(spec: &ModelSpec) -> String {
    let mut model = load_generator(spec).unwrap_or_else(|error| panic!("{}", chain(&error)));
    warm(&mut model).unwrap();
    let messages = run(&mut model, &question());
    let texts = messages.iter().map(|message| match message {
        FromWorker::Token { text, .. } | FromWorker::Done { text, .. } => text.as_str(),
        FromWorker::Prompt { .. } => "",
        other => panic!("{other:?}"),
    });
    texts.collect()
}

const ANSWER: &str = "The capital of France is Paris.";

#[test]
fn a_split_model_is_served_as_its_whole() {
    let whole = pocket();
    let folder = alone(&whole);
    let size = load_generator(&spec(&folder, "model.gguf")).unwrap().size;
    for count in [2, 3, 7] {
        let parts: Vec<_> = whole.split("pocket", count).into_iter().map(|(name, file)| (name, file.bytes())).collect();
        let folder = written(&parts);
        let first = spec(&folder, &parts[0].0);
        assert_eq!(answer(&first), ANSWER);
        let before = load_generator(&first).unwrap();
        assert!(before.size > size, "all parts are counted");
        // The hash is that of all parts, one after another.
        let all: Vec<u8> = parts.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        let hash: String = sha2::Sha256::digest(&all).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(answer(&ModelSpec { sha256: Some(hash.clone()), ..first.clone() }), ANSWER);
        let other = "0".repeat(64);
        let sentence = refused(&ModelSpec { sha256: Some(other.clone()), ..first.clone() });
        assert_eq!(sentence, format!("refused to load the model FILE: its SHA-256 is {hash}, not {other}"));

        for (index, (name, _)) in parts.iter().enumerate().skip(1) {
            let number = index + 1;
            let sentence =
                format!("cannot load the model FILE: it is part {number} of {count} of a split model; name the first");
            assert_eq!(refused(&spec(&folder, name)), sentence);
        }
        let (last, bytes) = &parts[count - 1];
        fs::write(folder.path().join(last), &bytes[..bytes.len() - 100]).unwrap();
        let cut = refused(&first);
        let begin =
            format!("cannot load the model FILE: its part {last} cannot be used: it is truncated: up to tensor ");
        assert!(cut.starts_with(&begin), "{cut}");
        fs::remove_file(folder.path().join(last)).unwrap();
        let missing = format!(
            "cannot load the model FILE: its part {last} cannot be opened: No such file or directory (os error 2)"
        );
        assert_eq!(refused(&first), missing);
        assert_eq!(refused(&ModelSpec { sha256: Some(hash), ..first.clone() }), missing);
        // One that has been replaced gives another identity, with which no cache is gone on with.
        fs::write(folder.path().join(last), bytes).unwrap();
        assert_ne!(load_generator(&first).unwrap().identity, before.identity);
    }
}

#[test]
fn a_first_part_by_another_name_says_how_it_must_be_called() {
    let (_, first) = pocket().split("pocket", 2).remove(0);
    let folder = alone(&first);
    assert_eq!(
        refused(&spec(&folder, "model.gguf")),
        "cannot load the model FILE: it is part 1 of 2 of a split model, but the others cannot be found: its name must \
         end with -00001-of-00002.gguf"
    );
}

#[test]
fn a_whole_model_with_the_name_of_a_part_is_served() {
    let folder = written(&[("pocket-00001-of-00002.gguf".to_owned(), pocket().bytes())]);
    assert_eq!(answer(&spec(&folder, "pocket-00001-of-00002.gguf")), ANSWER);
    let folder = written(&[("pocket-00002-of-00002.gguf".to_owned(), pocket().bytes())]);
    assert_eq!(answer(&spec(&folder, "pocket-00002-of-00002.gguf")), ANSWER);
}

#[test]
fn what_is_there_twice_is_refused() {
    let mut file = pocket();
    let mut again = file.tensor("token_embd.weight").clone();
    again.bytes.fill(0);
    file.tensors.push(again);
    let sentence = "cannot load the model FILE: it has two tensors named token_embd.weight";
    assert_eq!(refused(&spec(&alone(&file), "model.gguf")), sentence);
    let mut file = pocket();
    let again = file.values[3].clone();
    let sentence = format!("cannot load the model FILE: it has two values of {}", again.0);
    file.values.push(again);
    assert_eq!(refused(&spec(&alone(&file), "model.gguf")), sentence);
}

#[test]
fn special_ids_that_are_no_tokens_are_ignored_and_told() {
    let ids =
        |id: u32| format!("its tokenizer.ggml.eot_token_id is {id}, but it has only 1536 tokens: the key is ignored");
    for id in [u32::MAX, 1536] {
        let folder = alone(&pocket().unsigned("tokenizer.ggml.eot_token_id", id));
        let spec = spec(&folder, "model.gguf");
        assert_eq!(answer(&spec), ANSWER);
        assert_eq!(load_generator(&spec).unwrap().tokenizer.remarks(), [ids(id)]);
    }
    assert_eq!(load_generator(&ModelSpec::new("test", "builtin:pocket")).unwrap().tokenizer.remarks(), [""; 0]);
}

#[test]
fn what_is_no_model_is_called_what_it_is() {
    for (key, value, word) in [
        ("general.type", "adapter", "it is a LoRA adapter, "),
        ("general.type", "mmproj", "it is the projector (mmproj) "),
        ("general.architecture", "clip", "it is the projector (mmproj) "),
    ] {
        let sentence = refused(&spec(&alone(&pocket().text(key, value)), "model.gguf"));
        assert!(sentence.starts_with(&format!("cannot load the model FILE: {word}")), "{sentence}");
    }
    let mut file = pocket();
    file.tensor("blk.0.attn_output.weight").kind = 16;
    assert_eq!(
        refused(&spec(&alone(&file), "model.gguf")),
        "cannot load the model FILE: its tensor blk.0.attn_output.weight is in IQ2_XXS; supported are F32, F16, BF16, \
         Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K"
    );
}

#[test]
fn a_weight_that_is_no_number_ends_a_request_as_an_error_of_the_engine() {
    let mut whole = pocket();
    let sampled = Sampling { temperature: 1.0, ..Sampling::default() };
    let jobs = [question(), Job { sampling: sampled, max_tokens: Some(12), ..question() }];
    let expected = "the model's numbers are not finite, so there is no answer: its file is broken, or it is not made \
                    for this text";
    // An output layer of its own, the last norm, and each matrix of one block: of these the first
    // block's scale.
    let mut output = whole.tensor("token_embd.weight").clone();
    output.name = "output.weight".to_owned();
    whole.tensors.push(output);
    let names = whole.tensors.iter().map(|tensor| tensor.name.as_str());
    for name in names.filter(|name| name.starts_with("output") || name.starts_with("blk.1.")) {
        for (wide, half) in [(f32::NAN, 0x7E00_u16), (f32::INFINITY, 0x7C00)] {
            let mut file = whole.clone();
            let tensor = file.tensor(name);
            match tensor.kind {
                0 => tensor.bytes[..4].copy_from_slice(&wide.to_le_bytes()),
                8 => tensor.bytes[..2].copy_from_slice(&half.to_le_bytes()),
                other => panic!("{name} is of type {other}"),
            }
            let folder = alone(&file);
            let mut model = load_generator(&spec(&folder, "model.gguf")).unwrap();
            assert_eq!(warm(&mut model).unwrap_err().to_string(), expected, "{name}");
            for job in &jobs {
                let messages = run(&mut model, job);
                assert!(
                    matches!(messages.last(), Some(FromWorker::Failed { kind: FailureKind::Engine, message, .. })
                        if message == expected),
                    "{name}: {messages:?}"
                );
                assert!(!messages.iter().any(|message| matches!(message, FromWorker::Token { .. })), "{messages:?}");
            }
        }
    }
}
