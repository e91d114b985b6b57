//! The ids of texts are llama.cpp's.
//!
//! `tokenizers/make.py` says what the files in that folder are and how they were made, and how the
//! vocabularies of real models, which are too large for the repository, are compared: with their
//! goldens in a folder that `SUPERVISOR_VOCABULARIES` names.

use model::gguf::Header;
use model::tokenizer::Tokenizer;
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashSet},
    env, fs,
    path::{Path, PathBuf},
};
use system::foreign_text::chain;

/// One file, and the ids that llama.cpp gives for each text.
#[derive(Deserialize)]
struct Golden {
    file: PathBuf,
    /// Added to the file's metadata.
    #[serde(default)]
    values: BTreeMap<String, Value>,
    /// The texts, if they are others than everybody's.
    #[serde(default)]
    texts: Vec<String>,
    plain: Vec<Vec<u32>>,
    /// Left out where it would be the same for many.
    #[serde(default)]
    special: Vec<Vec<u32>>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tokenizers")
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> T {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("cannot parse {}: {error}", path.display()))
}

/// The goldens in a folder, by their names.
fn goldens(folder: &Path) -> BTreeMap<String, Golden> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let named = files.map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), path));
    named.filter(|(name, _)| name != "texts").map(|(name, path)| (name, read(&path))).collect()
}

/// A GGUF file with more values in its metadata.
fn with_values(file: &[u8], values: &BTreeMap<String, Value>) -> Vec<u8> {
    let string = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let count = u64::from_le_bytes(file[16..24].try_into().unwrap()) + values.len() as u64;
    let mut made = [&file[..16], &count.to_le_bytes()].concat();
    for (key, value) in values {
        made.extend(string(key));
        match value {
            Value::Bool(flag) => made.extend([&7_u32.to_le_bytes()[..], &[u8::from(*flag)]].concat()),
            Value::String(text) => made.extend([&8_u32.to_le_bytes()[..], &string(text)].concat()),
            other => panic!("{key} is {other}"),
        }
    }
    made.extend(&file[24..]);
    made
}

fn tokenizer(folder: &Path, golden: &Golden) -> Tokenizer {
    let file = with_values(&fs::read(folder.join(&golden.file)).unwrap(), &golden.values);
    let header = Header::read(&file[..], file.len() as u64).unwrap_or_else(|error| panic!("{}", chain(&error)));
    Tokenizer::new(&header, None).unwrap_or_else(|error| panic!("{}: {}", golden.file.display(), chain(&error)))
}

/// How many texts have other ids than the golden says, with examples on stderr.
fn differences(name: &str, tokenizer: &Tokenizer, texts: &[String], golden: &Golden) -> usize {
    assert_eq!(golden.plain.len(), texts.len(), "{name}");
    assert!(golden.special.is_empty() || golden.special.len() == texts.len(), "{name}");
    let mut different = 0;
    for (special, expected) in [(false, &golden.plain), (true, &golden.special)] {
        for (text, expected) in texts.iter().zip(expected) {
            let ids = tokenizer.encode(text, special).unwrap();
            if ids != *expected {
                different += 1;
                if different <= 3 {
                    eprintln!("{name}: special={special} {text:?}\n  is       {ids:?}\n  should be {expected:?}");
                }
            }
        }
    }
    different
}

#[test]
fn ids_are_those_of_llama_cpp() {
    let texts: Vec<String> = read(&folder().join("texts.json"));
    let goldens = goldens(&folder());
    let with_special = goldens.values().filter(|golden| !golden.special.is_empty()).count();
    assert_eq!((goldens.len(), with_special, texts.len()), (22, 7, 175));
    let mut wrong = Vec::new();
    for (name, golden) in &goldens {
        let different = differences(name, &tokenizer(&folder(), golden), &texts, golden);
        if different > 0 {
            wrong.push(format!("{name}: {different}"));
        }
    }
    assert!(wrong.is_empty(), "texts differ: {}", wrong.join(", "));
}

#[test]
fn a_text_comes_back_byte_for_byte() {
    let texts: Vec<String> = read(&folder().join("texts.json"));
    for name in ["bytes-qwen2", "characters", "pieces-no-prefix"] {
        let tokenizer = tokenizer(&folder(), &goldens(&folder())[name]);
        for text in &texts {
            let ids = tokenizer.encode(text, false).unwrap();
            let bytes: Vec<u8> = ids.iter().flat_map(|id| tokenizer.bytes(*id).unwrap()).copied().collect();
            // What SentencePiece writes for a space is one to it. "<s>" and the like it makes of
            // their letters, and they have no text.
            let found = String::from_utf8(bytes).unwrap().replace('\u{2581}', " ");
            let control = name.starts_with("pieces") && (text.contains("s>") || text.contains("unk>"));
            assert!(control || found == text.replace('\u{2581}', " "), "{name}: {text:?} comes back as {found:?}");
        }
    }
}

#[test]
fn a_text_of_sentence_piece_begins_with_a_space() {
    let tokenizer = tokenizer(&folder(), &goldens(&folder())["pieces"]);
    let ids = tokenizer.encode("the", false).unwrap();
    assert_eq!(tokenizer.bytes(ids[0]), Some(&b" the"[..]));
}

#[test]
fn no_two_pre_tokenizers_would_pass_for_each_other() {
    let goldens = goldens(&folder());
    // It says the same as the other one in other words.
    let twins = ["bytes-bailingmoe", "bytes-added"];
    let mut seen = HashSet::new();
    for (name, golden) in goldens.iter().filter(|(name, _)| name.starts_with("bytes-")) {
        assert!(twins.contains(&name.as_str()) || seen.insert(&golden.plain), "{name} is like another one");
    }
    assert!(seen.len() >= 16, "{}", seen.len());
}

#[test]
fn ids_of_real_vocabularies_are_those_of_llama_cpp() {
    let Some(folder) = env::var_os("SUPERVISOR_VOCABULARIES").map(PathBuf::from) else { return };
    let mut wrong = Vec::new();
    let goldens = goldens(&folder);
    assert!(!goldens.is_empty(), "there are no goldens in {}", folder.display());
    for (name, golden) in &goldens {
        let tokenizer = worker::load_tokenizer(&golden.file).unwrap_or_else(|error| panic!("{}", chain(&error)));
        let different = differences(name, &tokenizer, &golden.texts, golden);
        let own = llama_cpps_own(&tokenizer, &golden.file);
        eprintln!("{name}: {different} of {} differ; llama.cpp's own: {own:?}", 2 * golden.texts.len());
        if different > 0 || own.is_some_and(|(different, _)| different > 0) {
            wrong.push(name.as_str());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join(", "));
}

/// How many of the texts beside the file, which llama.cpp's tests use, have other ids, and how many
/// there are.
fn llama_cpps_own(tokenizer: &Tokenizer, file: &Path) -> Option<(usize, usize)> {
    let beside = |ending: &str| fs::read_to_string(file.with_extension(ending)).ok();
    let (texts, ids) = (beside("gguf.inp")?, beside("gguf.out")?);
    let texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
    let ids: Vec<Vec<u32>> =
        ids.lines().map(|line| line.split_whitespace().map(|id| id.parse().unwrap()).collect()).collect();
    assert!(ids.len() <= texts.len() && texts.len() <= ids.len() + 1, "{} texts, {} lines", texts.len(), ids.len());
    let different = texts.iter().zip(&ids).filter(|(text, ids)| tokenizer.encode(text, false).unwrap() != **ids);
    Some((different.count(), ids.len()))
}
