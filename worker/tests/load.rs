//! Models that can be loaded, and one sentence for each that cannot.
use ipc::{ModelSource, ModelSpec};
use model::text::{Alone, Generator, LoadError};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use std::{fs, path::Path};
use system::foreign_text::chain;
use tempfile::TempDir;
use worker::loaded_model::{LoadModelError, load_generator, warm};

fn spec(path: &str) -> ModelSpec {
    ModelSpec::new("test", path)
}

fn refused(spec: &ModelSpec) -> String {
    match load_generator(spec) {
        Ok(_) => panic!("{} was loaded", spec.source),
        Err(error) => chain(&error),
    }
}

fn pocket() -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("pocket/pocket-q4_k_m.gguf")).unwrap()
}

/// A folder with one file in it.
struct File {
    _folder: TempDir,
    path: String,
}

fn file(bytes: &[u8]) -> File {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, bytes).unwrap();
    File { path: path.to_str().unwrap().to_owned(), _folder: folder }
}

/// Writes over the value of a key, which must be as long.
fn patch(bytes: &mut [u8], key: &str, value: &[u8]) {
    let needle = [&(key.len() as u64).to_le_bytes(), key.as_bytes()].concat();
    let at = bytes.windows(needle.len()).position(|window| window == needle).unwrap();
    // After the key comes the value's type.
    let begin = at + needle.len() + 4;
    bytes[begin..begin + value.len()].copy_from_slice(value);
}

fn patched(key: &str, value: &[u8]) -> String {
    let mut bytes = pocket();
    patch(&mut bytes, key, value);
    let file = file(&bytes);
    let reason = refused(&spec(&file.path));
    reason.replace(&file.path, "FILE")
}

#[test]
fn built_in_models_and_files_are_loaded() {
    let model = load_generator(&spec("builtin:pocket")).unwrap();
    assert_eq!((model.architecture.as_str(), model.context, model.chat.is_some()), ("llama", 512, true));
    let file = file(&pocket());
    let model = load_generator(&ModelSpec { context: Some(100), ..spec(&file.path) }).unwrap();
    assert_eq!((model.architecture.as_str(), model.context, model.chat.is_some()), ("llama", 100, true));
    let model = load_generator(&spec("builtin:echo?context=100000&load_ms=0")).unwrap();
    assert_eq!((model.architecture.as_str(), model.context, model.chat.is_some()), ("echo", 100_000, true));
    assert_eq!(load_generator(&spec("builtin:echo")).unwrap().context, 4096);
}

#[test]
fn a_warm_model_has_no_text() {
    for context in [2, 33, 34, 512] {
        let logits = |model: &mut Generator| {
            let mut cache = vec![0; model.model.cache_length()];
            model.model.forward(&[300], 0, &mut cache, &Alone).unwrap().to_vec()
        };
        let load = || load_generator(&ModelSpec { context: Some(context), ..spec("builtin:pocket") }).unwrap();
        let (mut warmed, mut cold) = (load(), load());
        warm(&mut warmed).unwrap();
        assert_eq!(logits(&mut warmed), logits(&mut cold), "with a context of {context}");
    }
}

#[test]
fn names_that_lead_nowhere_are_refused_in_words() {
    assert_eq!(refused(&spec("builtin:big")), "there is no built-in model \"big\", only pocket and echo");
    assert_eq!(refused(&spec("builtin:echoes")), "there is no built-in model \"echoes\", only pocket and echo");
    assert_eq!(
        refused(&spec("builtin:echo?speed=9")),
        "cannot load builtin:echo?speed=9: echo has no option \"speed\", only token_us, prompt_us, load_ms and context"
    );
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let file = ModelSpec { source: ModelSource::File(folder.into()), ..spec("") };
    assert_eq!(refused(&file), format!("cannot load the model {folder}: it is not a file"));
    let nothing = format!("{folder}/nothing.gguf");
    assert_eq!(
        refused(&spec(&nothing)),
        format!("cannot open the model {nothing}: No such file or directory (os error 2)")
    );
    let pipe = format!("{folder}/pipe");
    nix::unistd::mkfifo(pipe.as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(refused(&spec(&pipe)), format!("cannot load the model {pipe}: it is not a file"));
}

#[test]
fn files_that_are_no_model_are_refused_in_words() {
    let refused = |bytes: &[u8]| {
        let file = file(bytes);
        refused(&spec(&file.path)).replace(&file.path, "FILE")
    };
    assert_eq!(refused(b"a letter"), "cannot load the model FILE: it is not a GGUF file");
    assert_eq!(refused(b""), "cannot load the model FILE: it is empty; download it again");
    assert_eq!(
        refused(b"version https://git-lfs.github.com/spec/v1"),
        "cannot load the model FILE: it is a Git LFS pointer, not the file itself; git lfs pull fetches it"
    );
    let big = refused(b"GGUF\0\0\0\x03\0\0\0\0");
    assert!(
        big.starts_with("cannot load the model FILE: it is a big-endian file, and only little-endian ones "),
        "{big}"
    );
    let whole = pocket();
    for length in [10, 1000, 20_000] {
        let error = refused(&whole[..length]);
        assert!(error.starts_with("cannot load the model FILE: it is truncated: "), "{error}");
    }
    let error = refused(&whole[..whole.len() - 1000]);
    assert!(error.starts_with("cannot load the model FILE: it is truncated: up to tensor "), "{error}");
    let architecture = [&5_u64.to_le_bytes()[..], b"rwkv7"].concat();
    assert_eq!(
        patched("general.architecture", &architecture),
        "cannot load the model FILE: its architecture is \"rwkv7\", and only llama, qwen2, qwen3, gemma3, phi3 are supported"
    );
    let kind = [&4_u64.to_le_bytes()[..], b"bert"].concat();
    assert_eq!(
        patched("tokenizer.ggml.model", &kind),
        "cannot load the tokenizer of the model FILE: it is of the kind \"bert\", and only gpt2 and gemma4 (BPE) and llama (SentencePiece) are supported"
    );
    assert_eq!(
        patched("llama.attention.head_count", &0_u32.to_le_bytes()),
        "cannot load the model FILE: its llama.attention.head_count is 0, which cannot be"
    );
}

#[test]
fn a_tokenizer_json_beside_the_file_is_read() {
    let file = file(&pocket());
    let beside = Path::new(&file.path).with_file_name("tokenizer.json");
    fs::write(&beside, "{}").unwrap();
    let error = refused(&spec(&file.path)).replace(&file.path, "FILE");
    let said =
        "cannot load the tokenizer of the model FILE: cannot use the tokenizer.json beside it: it cannot be parsed: ";
    assert!(error.starts_with(said), "{error}");
    fs::remove_file(beside).unwrap();
    assert!(load_generator(&spec(&file.path)).is_ok());
}

#[test]
fn a_context_must_be_one_that_the_model_can_have() {
    let refused = |path: &str, context| refused(&ModelSpec { context: Some(context), ..spec(path) });
    assert_eq!(
        refused("builtin:pocket", 513),
        "cannot load the model builtin:pocket: a context of 513 tokens was asked for, but it must be from 2 to 512"
    );
    for context in [0, 1, 4097] {
        let sentence = format!(
            "cannot load the model builtin:echo: a context of {context} tokens was asked for, but it must be from 2 to 4096"
        );
        assert_eq!(refused("builtin:echo", context), sentence);
    }
    // The default is no more than most machines have memory for, but the model's own limit can be
    // asked for.
    let mut bytes = pocket();
    patch(&mut bytes, "llama.context_length", &131_072_u32.to_le_bytes());
    let file = file(&bytes);
    assert_eq!(load_generator(&spec(&file.path)).unwrap().context, 4096);
    let long = ModelSpec { context: Some(131_072), ..spec(&file.path) };
    assert_eq!(load_generator(&long).unwrap().context, 131_072);
    assert!(refused(&file.path, 131_073).ends_with("but it must be from 2 to 131072"));
}

#[test]
fn another_file_than_the_one_asked_for_is_refused() {
    // sha256sum pocket/pocket-q8_0.gguf
    let hash = "902ad20e209b9bed84c3acdc2d71bcbc1010c91d89fbfa84a9a708cdda79a27b";
    let with = |path: &str, hash: &str| ModelSpec { sha256: Some(hash.into()), ..spec(path) };
    assert!(load_generator(&with("builtin:pocket", hash)).is_ok());
    assert!(load_generator(&with("builtin:pocket", &hash.to_uppercase())).is_ok());
    let whole = pocket();
    let other = file(&whole);
    let error = load_generator(&with(&other.path, hash)).err().unwrap();
    assert!(
        matches!(&error, LoadModelError::Generator(LoadError::Sha256 { expected, .. }) if expected == hash),
        "{error}"
    );
    let sentence = chain(&error);
    assert!(sentence.starts_with("refused to load the model ") && sentence.ends_with(&format!(", not {hash}")));
    assert_eq!(
        chain(&load_generator(&with("builtin:echo", hash)).err().unwrap()),
        "cannot check the SHA-256 of builtin:echo: it has no file"
    );
}

#[test]
fn no_damaged_header_makes_loading_or_computing_panic() {
    let whole = pocket();
    let header = 24_000;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut below = |limit: usize| (random.next_u64() % limit as u64) as usize;
    let (mut loaded, mut failed) = (0, 0);
    for _ in 0..400 {
        let mut bytes = whole.clone();
        for _ in 0..=below(3) {
            // The numbers are in the first thousand bytes and behind the tokenizer, which takes up
            // the most.
            let at = if below(2) == 0 { below(1000) } else { below(header) };
            match below(3) {
                0 => bytes[at] ^= 1 << below(8),
                1 => bytes[at..at + 4].fill([0, 0xFF][below(2)]),
                _ => bytes[at..at + 8].copy_from_slice(&(u64::MAX >> below(64)).to_le_bytes()),
            }
        }
        let file = file(&bytes);
        match load_generator(&spec(&file.path)) {
            Ok(mut model) => {
                loaded += 1;
                // Nonsense in, nonsense or an error out.
                let _computed = warm(&mut model);
            }
            Err(error) => {
                failed += 1;
                assert!(!chain(&error).contains('\n'), "{}", chain(&error));
            }
        }
    }
    assert!(loaded > 20 && failed > 20, "{loaded} were loaded and {failed} failed");
}
