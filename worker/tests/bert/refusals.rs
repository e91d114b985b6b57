//! One sentence for each folder that cannot be loaded.
use super::folder::{Folder, refused};
use ipc::{ModelSource, ModelSpec};
use serde_json::{Value, json};
use sha2::Digest;
use std::{fs, path::Path};
use worker::loaded_model::LoadedModel;
use worker::opening;

const CONFIG: &str = "config.json";
const POOLING: &str = "1_Pooling/config.json";

/// Why a folder whose configuration says something else is refused.
fn config(key: &str, value: Value) -> String {
    let reason = Folder::new().with(CONFIG, key, value).refused();
    reason.strip_prefix("cannot load the model FOLDER: ").unwrap().to_owned()
}

#[test]
fn what_is_not_computed_is_refused_by_name() {
    assert_eq!(
        config("model_type", json!("distil\nbert")),
        "config.json says model_type is \"distil\\nbert\", and only bert is supported"
    );
    assert_eq!(config("model_type", Value::Null), "config.json says model_type is \"\", and only bert is supported");
    assert_eq!(
        config("hidden_act", json!("swish")),
        "config.json says hidden_act is \"swish\", and only one of gelu, gelu_new, gelu_pytorch_tanh and relu is supported"
    );
    assert_eq!(
        config("position_embedding_type", json!("relative_key")),
        "config.json says position_embedding_type is \"relative_key\", and only absolute is supported"
    );
    assert_eq!(
        config("is_decoder", json!(true)),
        "config.json says is_decoder is \"true\", and only false is supported"
    );
    let pooling = |value: Value| Folder::new().file(POOLING, value).refused();
    let only = "and only one of mean and cls is supported";
    for (value, found) in [
        (json!({"pooling_mode_max_tokens": true}), "max_tokens"),
        (json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}), "cls_token and mean_tokens"),
        (json!({"pooling_mode": ["mean", "max"]}), "[\\\"mean\\\",\\\"max\\\"]"),
        (json!({}), ""),
    ] {
        let expected = format!("cannot load the model FOLDER: {POOLING} says pooling_mode is \"{found}\", {only}");
        assert_eq!(pooling(value), expected);
    }
    assert!(pooling(json!({"pooling_mode": "mean", "include_prompt": false})).contains("include_prompt is \"false\""));
    let modules = |kinds: &[&str]| {
        let modules: Vec<Value> = kinds.iter().map(|kind| json!({"path": "", "type": kind})).collect();
        Folder::new().file("modules.json", json!(modules)).refused()
    };
    let only = "and only Transformer, Pooling and after them Normalize are supported";
    for kinds in [&["Transformer", "Pooling", "Dense"][..], &["Pooling", "Transformer"], &["Transformer"], &[]] {
        let expected = format!("cannot load the model FOLDER: modules.json lists {}, {only}", kinds.join(", "));
        assert_eq!(modules(kinds), expected);
    }
}

#[test]
fn of_another_kind_of_model_nothing_else_is_looked_at() {
    for kind in ["modernbert", "distilbert", "t5", "roberta", "gemma3_text", "llama"] {
        let said = format!(
            "cannot load the model FOLDER: config.json says model_type is \"{kind}\", and only bert is supported"
        );
        // Its other keys, its modules and its weights are none of a BERT.
        let other = Folder::new().file(CONFIG, json!({"model_type": kind, "hidden_size": "large"}));
        assert_eq!(other.refused(), said);
        let module = |path: &str, kind: &str| json!({"path": path, "type": format!("some.path.{kind}")});
        let modules = json!([module("", "Transformer"), module("1_Pooling", "Pooling"), module("2_Dense", "Dense")]);
        let other = other.file("modules.json", modules).file(POOLING, Value::Null);
        assert_eq!(other.refused(), said);
        assert_eq!(other.file("tokenizer.json", Value::Null).refused(), said);
    }
    assert_eq!(
        config("model_type", json!(["bert"])),
        "config.json says model_type is \"[\\\"bert\\\"]\", and only bert is supported"
    );
}

#[test]
fn files_of_other_kinds_are_called_what_they_are() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 90868376\n";
    for name in ["config.json", "modules.json", POOLING, "tokenizer.json", "model.safetensors"] {
        for (bytes, words) in [
            (&pointer[..], "is a Git LFS pointer, not the file itself; git lfs pull fetches it"),
            (b"<!DOCTYPE html><html>Not found</html>", "is a web page (HTML), not the file itself; "),
            (b"", "is empty; download it again"),
            (b"GGUF\x03\0\0\0\0\0\0\0", "is a GGUF file, which is served by naming the file and not a folder"),
            (b"PK\x03\x04\x14\0\0\0\0\0\0\0", "is a zip archive, as PyTorch writes weights, "),
        ] {
            let written = Folder::new().write();
            fs::write(written.path().join(name), bytes).unwrap();
            let said = refused(written.path(), |_| {});
            let name = Path::new(name).file_name().unwrap().to_str().unwrap();
            assert!(said.starts_with(&format!("cannot load the model FOLDER: {name} {words}")), "{said}");
        }
    }
}

#[test]
fn numbers_must_be_ones_that_can_be() {
    for (key, value, most) in [
        ("hidden_size", 0_u64, 16_384),
        ("hidden_size", 1 << 60, 16_384),
        ("intermediate_size", 65_537, 65_536),
        ("num_hidden_layers", 0, 256),
        ("num_attention_heads", 0, 36),
        ("vocab_size", 1 << 40, 1 << 24),
        ("type_vocab_size", 0, 1024),
        ("max_position_embeddings", 0, 1 << 20),
    ] {
        let expected = format!("config.json says {key} is {value}, but it must be from 1 to {most}");
        assert_eq!(config(key, json!(value)), expected);
    }
    assert_eq!(
        config("num_attention_heads", json!(5)),
        "config.json says hidden_size is 36, which is no multiple of num_attention_heads, 5"
    );
    assert_eq!(
        config("layer_norm_eps", json!(-1)),
        "config.json says layer_norm_eps is -1, but it must be from 0 to 1"
    );
    assert!(config("hidden_size", json!(-1)).starts_with("config.json is not as expected: invalid value"));
    assert!(
        config("hidden_size", Value::Null).starts_with("config.json is not as expected: missing field `hidden_size`")
    );
}

#[test]
fn what_is_missing_is_named() {
    for file in [CONFIG, "tokenizer.json", POOLING] {
        assert_eq!(
            Folder::new().file(file, Value::Null).refused(),
            format!("cannot load the model FOLDER: the folder has no {file}")
        );
    }
    let written = Folder::new().write();
    fs::remove_file(written.path().join("model.safetensors")).unwrap();
    assert_eq!(refused(written.path(), |_| {}), "cannot load the model FOLDER: the folder has no model.safetensors");
    let mut folder = Folder::new();
    folder.tensors.remove("encoder.layer.1.output.dense.bias");
    assert_eq!(
        folder.refused(),
        "cannot load the model FOLDER: model.safetensors has no tensor encoder.layer.1.output.dense.bias"
    );
    let prompt = Folder::new().with("config_sentence_transformers.json", "default_prompt_name", json!("x"));
    assert_eq!(
        prompt.refused(),
        "cannot load the model FOLDER: config_sentence_transformers.json has no prompt \"x\", which is its default"
    );
    let outside = json!([{"path": "../other", "type": "Transformer"}, {"path": "1_Pooling", "type": "Pooling"}]);
    assert_eq!(
        Folder::new().file("modules.json", outside).refused(),
        "cannot load the model FOLDER: modules.json has the path \"../other\", which is not in the folder"
    );
}

#[test]
fn weights_must_be_what_the_configuration_asks_for() {
    assert_eq!(
        config("vocab_size", json!(17)),
        "the tensor embeddings.word_embeddings.weight has the shape [16, 36], but config.json asks for [17, 36]"
    );
    assert_eq!(
        Folder { dtype: safetensors::Dtype::F64, ..Folder::new() }.refused(),
        "cannot load the model FOLDER: the tensor embeddings.word_embeddings.weight is of type F64, and only F32, F16 and BF16 are supported"
    );
    let mut tokenizer = Folder::new();
    tokenizer.files.get_mut("tokenizer.json").unwrap()["model"]["vocab"]["far"] = json!(16);
    assert_eq!(
        tokenizer.refused(),
        "cannot load the model FOLDER: tokenizer.json has a token 16, but config.json says that there are 16"
    );
    assert_eq!(
        Folder::new().with("sentence_bert_config.json", "max_seq_length", json!(2)).refused(),
        "cannot load the model FOLDER: tokenizer.json adds 2 special tokens to each text, but the model reads 2 tokens at most"
    );
    // The library panics on it.
    let merges = json!({"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["ab", "ab"]]});
    let mut tokenizer = Folder::new();
    tokenizer.files.get_mut("tokenizer.json").unwrap()["model"] = merges;
    assert_eq!(
        tokenizer.refused(),
        "cannot load the model FOLDER: tokenizer.json cannot be used: the library fails on it"
    );
    let text = Folder::new().file("tokenizer.json", json!({"version": "9"})).refused();
    assert!(text.starts_with("cannot load the model FOLDER: tokenizer.json cannot be used: "), "{text}");
}

#[test]
fn a_damaged_file_of_weights_is_refused() {
    let written = Folder::new().write();
    let path = written.path().join("model.safetensors");
    let good = fs::read(&path).unwrap();
    let with = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        refused(written.path(), |_| {})
    };
    let size = good.len();
    assert_eq!(with(b""), "cannot load the model FOLDER: model.safetensors is empty; download it again");
    assert_eq!(
        with(b"few"),
        "cannot load the model FOLDER: model.safetensors has 3 bytes and says that its header has 0"
    );
    let huge = [&u64::MAX.to_le_bytes()[..], &good[8..]].concat();
    assert_eq!(
        with(&huge),
        format!(
            "cannot load the model FOLDER: model.safetensors has {size} bytes and says that its header has {}",
            u64::MAX
        )
    );
    let text = [&good[..8], b"x", &good[9..]].concat();
    assert!(
        with(&text).starts_with("cannot load the model FOLDER: the header of model.safetensors is not as expected: ")
    );
    let short = with(&good[..size - 1]);
    assert!(
        short.starts_with("cannot load the model FOLDER: model.safetensors is truncated: up to tensor "),
        "{short}"
    );
    assert!(short.ends_with(&format!(", it needs {size} bytes, and has {}", size - 1)), "{short}");
    // Whatever byte of the header is wrong, it is refused or read, and nothing else happens.
    let header = u64::from_le_bytes(*good.first_chunk().unwrap()) as usize;
    for at in (0..8 + header).step_by(37) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x15;
        fs::write(&path, bytes).unwrap();
        let _either = super::folder::load(written.path(), |_| {});
    }
}

#[test]
fn a_layer_of_which_the_configuration_says_nothing_is_refused() {
    let written = Folder::new().write();
    let path = written.path().join("config.json");
    let config = fs::read_to_string(&path).unwrap();
    fs::write(&path, config.replace("\"num_hidden_layers\":2", "\"num_hidden_layers\":1")).unwrap();
    let sentence = refused(written.path(), |_| {});
    assert!(
        sentence.starts_with("cannot load the model FOLDER: model.safetensors has a tensor encoder.layer.1."),
        "{sentence}"
    );
    assert!(sentence.ends_with(", of which config.json says nothing"), "{sentence}");
    // What is there beside the model is no layer.
    let mut folder = Folder::new();
    folder.tensors.insert("pooler.dense.bias".to_owned(), (vec![1], vec![0.0]));
    folder.tensors.insert("embeddings.position_ids".to_owned(), (vec![1], vec![0.0]));
    assert!(super::folder::load(folder.write().path(), |_| {}).is_ok());
}

#[test]
fn another_file_or_a_context_that_cannot_be_is_refused() {
    let written = Folder::new().write();
    let weights = fs::read(written.path().join("model.safetensors")).unwrap();
    let hash: String = sha2::Sha256::digest(&weights).iter().map(|byte| format!("{byte:02X}")).collect();
    assert!(super::folder::load(written.path(), |spec| spec.sha256 = Some(hash.clone())).is_ok());
    let other = "0".repeat(64);
    assert_eq!(
        refused(written.path(), |spec| spec.sha256 = Some(other.clone())),
        format!(
            "refused to load the model FOLDER: the SHA-256 of model.safetensors is {}, not {other}",
            hash.to_lowercase()
        )
    );
    for asked in [0, 2, 141, u32::MAX] {
        assert_eq!(
            refused(written.path(), |spec| spec.context = Some(asked)),
            format!(
                "cannot load the model FOLDER: a context of {asked} tokens was asked for, but it must be from 3 to 140"
            )
        );
    }
    assert_eq!(
        refused(Path::new("/nowhere/at/all"), |spec| spec.source = ModelSource::Folder("/nowhere/at/all".into())),
        "cannot load the model FOLDER: cannot list the folder: No such file or directory (os error 2)"
    );
}

#[test]
fn what_is_wrong_beside_the_weights_is_found_before_they_are_read() {
    let asks_for_room = |folder: Folder, context| {
        let written = folder.write();
        let spec = ModelSpec { context, ..ModelSpec::new("tiny", written.path().to_str().unwrap()) };
        let mut is_asked = false;
        let loaded = LoadedModel::load(opening::open(&spec).unwrap(), &spec, &mut |_| {
            is_asked = true;
            false
        });
        assert!(loaded.is_err());
        is_asked
    };
    assert!(asks_for_room(Folder::new(), None));
    assert!(!asks_for_room(Folder::new(), Some(141)));
    assert!(!asks_for_room(Folder::new().file("tokenizer.json", json!({"version": "9"})), None));
}
