//! What is in model files.
use super::workers::Silent;
use ipc::{ChatMessage, EmbedJob, ModelSpec, RequestId, Role, TextRole};
use jiff::Zoned;
use model::{
    ReadSeek,
    chat::{ChatError, ChatTemplate, ControlTokens, Conversation},
    gguf::Header,
    tokenizer::Tokenizer,
};
use std::{
    fs::{self, File},
    ops::{ControlFlow, Range},
    path::Path,
    sync::OnceLock,
};
use system::foreign_text::chain;
use tempfile::TempDir;
use worker::{
    embed,
    loaded_model::{load_embedder, load_generator, warm},
};

/// Texts with what tokenizers stumble over.
const TEXTS: [&str; 4] =
    ["", "Once upon a time, 1234567  times\n\n\t", "\u{e9}\u{1f600}\u{0}\u{202e} \u{4f60}", "a<s></s>|<|end|>"];

/// The header of a GGUF file, of this size and of a size that makes each promise of it possible.
pub fn gguf(bytes: &[u8]) {
    const LARGE: u64 = 1 << 40;
    for size in [bytes.len() as u64, LARGE] {
        match Header::read(bytes, size) {
            Ok(header) => {
                assert!(header.data <= size.saturating_add(1 << 20), "the data begin at {}", header.data);
                for key in
                    ["general.architecture", "tokenizer.ggml.tokens", "tokenizer.ggml.scores", "general.alignment"]
                {
                    for wrong in [
                        header.text(key).err(),
                        header.unsigned(key).err(),
                        header.texts(key).err(),
                        header.integers(key).err(),
                        header.floats(key).err(),
                        header.float(key).err(),
                        header.flag(key).err(),
                    ] {
                        is_a_sentence(wrong.map(|error| chain(&error)));
                    }
                }
            }
            Err(error) => is_a_sentence(Some(chain(&error))),
        }
    }
}

/// The tokenizer of a GGUF file that has nothing else, and a text behind its header.
pub fn vocabulary(bytes: &[u8]) {
    let Ok(header) = Header::read(bytes, bytes.len() as u64) else { return };
    let own = usize::try_from(header.data).ok().and_then(|begin| bytes.get(begin..)).unwrap_or_default();
    match Tokenizer::new(&header, None) {
        Ok(tokenizer) => tokenise(&tokenizer, &String::from_utf8_lossy(own)),
        Err(error) => is_a_sentence(Some(chain(&error))),
    }
}

/// Every id is one of the vocabulary's.
fn tokenise(tokenizer: &Tokenizer, own: &str) {
    for text in TEXTS.into_iter().chain([own]) {
        for special in [false, true] {
            match tokenizer.encode(text, special) {
                Ok(ids) => {
                    for id in ids {
                        assert!(tokenizer.bytes(id).is_some(), "there is no token {id}");
                        let _ends = tokenizer.is_end(id);
                    }
                }
                Err(error) => is_a_sentence(Some(chain(&error))),
            }
        }
    }
    assert_eq!(tokenizer.bytes(u32::MAX), None);
}

/// A whole GGUF file, loaded, warmed and asked for a text.
pub fn model(bytes: &[u8]) {
    let folder = folder();
    let path = folder.join("model.gguf");
    write(&path, bytes);
    let spec = ModelSpec { threads: 1, ..ModelSpec::new("model", path.to_string_lossy()) };
    let warmed = load_generator(&spec).map_err(|error| chain(&error));
    match warmed.and_then(|mut model| warm(&mut model).map(|()| model).map_err(|error| chain(&error))) {
        Ok(model) => tokenise(&model.tokenizer, "text"),
        Err(sentence) => is_a_sentence(Some(sentence)),
    }
}

/// A `tokenizer.json` beside a GGUF file.
pub fn tokenizer(bytes: &[u8]) {
    const MODEL: &[u8] = include_bytes!("../../fuzz/seeds/vocabulary/bytes");
    let path = folder().join("tokenizer.json");
    write(&path, bytes);
    let Ok(header) = Header::read(MODEL, MODEL.len() as u64) else { panic!("the model beside it is broken") };
    let json: Option<Box<dyn ReadSeek>> = File::open(&path).ok().map(|file| Box::new(file) as _);
    let found = Tokenizer::new(&header, json);
    fs::remove_file(path).unwrap_or_else(|error| panic!("{error}"));
    match found {
        Ok(tokenizer) => tokenise(&tokenizer, "text"),
        Err(error) => is_a_sentence(Some(chain(&error))),
    }
}

/// Control tokens of which each pair of small letters is one.
struct Pairs;

impl ControlTokens for Pairs {
    fn find(&self, text: &str) -> Vec<Range<usize>> {
        let pairs = text.as_bytes().windows(2).enumerate();
        let pairs = pairs.filter(|(_, pair)| pair.iter().all(u8::is_ascii_lowercase));
        pairs.map(|(start, _)| start..start + 2).collect()
    }

    fn has_letter(&self, letter: char) -> bool {
        letter.is_ascii_lowercase()
    }
}

/// A chat template, and behind a zero byte what the user says.
pub fn chat(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (source, said) = text.split_once('\0').unwrap_or((&text, "hello"));
    let turn = |role, content: &str| ChatMessage::new(role, content);
    let messages =
        [turn(Role::System, "be brief"), turn(Role::User, said), turn(Role::Assistant, "yes"), turn(Role::User, said)];
    let conversation = Conversation { messages: &messages, ..Conversation::default() };
    match ChatTemplate::new(source, "<s>", "</s>").render(&conversation, &Zoned::default(), &Pairs) {
        Ok(_) | Err(ChatError::TooLong) => {}
        Err(error) => is_a_sentence(Some(error.to_string())),
    }
}

/// The files of a folder with an embedding model.
const FILES: [(&str, &[u8]); 6] = [
    ("config.json", include_bytes!("../../fuzz/folder/config.json")),
    ("modules.json", include_bytes!("../../fuzz/folder/modules.json")),
    ("1_Pooling/config.json", include_bytes!("../../fuzz/folder/1_Pooling/config.json")),
    ("config_sentence_transformers.json", include_bytes!("../../fuzz/folder/config_sentence_transformers.json")),
    ("tokenizer.json", include_bytes!("../../fuzz/folder/tokenizer.json")),
    ("model.safetensors", include_bytes!("../../fuzz/folder/model.safetensors")),
];

/// A folder with an embedding model, in which the file that the first byte names is this one.
pub fn embedding(bytes: &[u8]) {
    let Some((which, bytes)) = bytes.split_first() else { return };
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("cannot make a folder: {error}"));
        fs::create_dir(folder.path().join("1_Pooling")).unwrap_or_else(|error| panic!("{error}"));
        FILES.iter().for_each(|(name, content)| write(&folder.path().join(name), content));
        folder
    });
    let (name, right) = FILES[usize::from(*which) % FILES.len()];
    let path = folder.path().join(name);
    write(&path, bytes);
    let spec = ModelSpec::new("model", folder.path().to_string_lossy());
    let loaded = load_embedder(&spec);
    write(&path, right);
    match loaded {
        Ok(mut bert) => {
            let texts = TEXTS.map(str::to_owned).to_vec();
            let mut vectors = 0;
            let mut ends = 0;
            let job = EmbedJob { request: RequestId(1), texts, role: TextRole::Query };
            embed::run(&mut bert, &job, &Silent, &mut |message| {
                match message {
                    ipc::FromWorker::Vectors { vectors: found, .. } => vectors += found.len(),
                    _ => ends += 1,
                }
                ControlFlow::Continue(())
            });
            assert!(ends == 1 && vectors <= TEXTS.len(), "{ends} ends, {vectors} vectors");
        }
        Err(error) => is_a_sentence(Some(chain(&error))),
    }
}

/// A folder for the files of this thread.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER.get_or_init(|| tempfile::tempdir().unwrap_or_else(|error| panic!("cannot make a folder: {error}"))).path()
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

/// What is wrong is told in one line that drives no terminal.
#[track_caller]
fn is_a_sentence(text: Option<String>) {
    if let Some(text) = text {
        assert!(!text.is_empty() && text.len() < 4_000 && !text.chars().any(char::is_control), "{text:?}");
    }
}
