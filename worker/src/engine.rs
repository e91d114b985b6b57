//! The boundary between the worker and the models: one small trait, and the only match on what kind of model a path names.
//!
//! An engine computes logits. It does not tokenise, sample, stop or send; [`crate::generate`] does that for all of them.

pub mod bert;
mod echo;
pub mod gguf;
mod llama;

pub use echo::EchoOptionError;
pub use llama::ShapeError;

use crate::{
    chat::ChatTemplate,
    vocabulary::{Vocabulary, VocabularyError},
};
use echo::{Echo, EchoOptions};
use gguf::{GgufError, Header};
use ipc::ModelSpec;
use llama::{Llama, Shape};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{self, BufReader, Cursor, Read, Seek, SeekFrom},
};
use thiserror::Error;

/// Tokens of a prompt that go through a model at once. It is part of a request: other chunks would give other bits.
pub const CHUNK: u32 = 32;

/// A model in memory, with the state of at most one text.
///
/// The template warms an engine and then forks: each worker has its own copy of the state and shares the weights.
pub trait Engine {
    /// Begins a new text whose prompt has `prompt` tokens, and forgets the one before.
    fn begin(&mut self, prompt: usize);

    /// Feeds `tokens` at the positions from `position` on, and returns the logits for the token after the last of them, one for each
    /// id of the vocabulary. `position` is the number of tokens fed since the text began.
    fn forward(&mut self, tokens: &[u32], position: usize) -> Result<&[f32], EngineError>;

    /// Forgets the text.
    fn reset(&mut self);
}

/// A loaded model: the engine, its vocabulary, and what is known about it.
pub struct Model {
    /// Computes logits.
    pub engine: Box<dyn Engine>,
    /// Turns text into ids and ids into bytes.
    pub vocabulary: Vocabulary,
    /// The chat template in the file, if it has one.
    pub chat: Option<ChatTemplate>,
    /// The architecture that the file names.
    pub architecture: String,
    /// Most tokens of prompt and answer together.
    pub context: usize,
}

impl Model {
    /// Goes once through all that a request can make a worker compute, so that whatever is packed lazily is packed before the fork:
    /// a whole chunk of a prompt, a part of one, and one token.
    pub fn warm(&mut self) -> Result<(), EngineError> {
        let chunk = CHUNK as usize;
        let parts = [chunk, 2, 1];
        let mut position = 0;
        for part in parts {
            let part = part.min(self.context - position);
            if part > 0 {
                self.engine.forward(&vec![0; part], position)?;
            }
            position += part;
        }
        self.engine.reset();
        Ok(())
    }
}

/// Loads the model that `spec` names: `builtin:pocket`, `builtin:echo`, `builtin:echo?key=value&key=value`, or a GGUF file.
pub fn load(spec: &ModelSpec) -> Result<Model, LoadError> {
    keep_to_this_thread();
    match spec.path.strip_prefix("builtin:") {
        None => load_file(spec),
        Some("pocket") => load_gguf(&mut Cursor::new(POCKET), POCKET.len() as u64, spec),
        Some(name) => match name.strip_prefix("echo") {
            Some("") => load_echo("", spec),
            Some(query) if query.starts_with('?') => load_echo(&query[1..], spec),
            _ => Err(LoadError::NoBuiltin(name.to_owned())),
        },
    }
}

/// Why a model could not be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// No built-in model has that name.
    #[error("there is no built-in model {0:?}, only pocket and echo")]
    NoBuiltin(String),
    /// An option of the built-in echo engine is wrong.
    #[error("cannot load {path}")]
    Echo {
        /// The model's path.
        path: String,
        /// Which option, and how.
        #[source]
        source: EchoOptionError,
    },
    /// The file cannot be opened.
    #[error("cannot open the model {path}")]
    Open {
        /// The model's path.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The path names a folder, a socket or something else that is no file.
    #[error("cannot load the model {0}: it is not a file")]
    NotFile(String),
    /// The file cannot be read.
    #[error("cannot read the model {path}")]
    Read {
        /// The model's path.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is not the one that was asked for.
    #[error("refused to load the model {path}: its SHA-256 is {found}, not {expected}")]
    Sha256 {
        /// The model's path.
        path: String,
        /// The file's.
        found: String,
        /// The one asked for.
        expected: String,
    },
    /// A hash was asked for, and there is no file.
    #[error("cannot check the SHA-256 of {0}: it has no file")]
    NothingToHash(String),
    /// The header cannot be read.
    #[error("cannot load the model {path}")]
    Gguf {
        /// The model's path.
        path: String,
        /// Why not.
        #[source]
        source: GgufError,
    },
    /// Nothing here computes that architecture.
    #[error(
        "cannot load the model {path}: its architecture is \"{found}\", and only {} is supported",
        llama::ARCHITECTURE
    )]
    Architecture {
        /// The model's path.
        path: String,
        /// What the file names.
        found: String,
    },
    /// The tokenizer cannot be made.
    #[error("cannot load the tokenizer of the model {path}")]
    Vocabulary {
        /// The model's path.
        path: String,
        /// Why not.
        #[source]
        source: VocabularyError,
    },
    /// The model is not what its architecture says.
    #[error("cannot load the model {path}")]
    Shape {
        /// The model's path.
        path: String,
        /// Why not.
        #[source]
        source: ShapeError,
    },
    /// The weights cannot be read.
    #[error("cannot load the weights of the model {path}")]
    Weights {
        /// The model's path.
        path: String,
        /// Why not.
        #[source]
        source: candle_core::Error,
    },
    /// The context asked for is not one that the model can have.
    #[error("cannot load the model {path}: a context of {asked} tokens was asked for, but it must be from 2 to {most}")]
    Context {
        /// The model's path.
        path: String,
        /// What was asked for.
        asked: u32,
        /// The most there can be.
        most: usize,
    },
}

/// Why a model could not compute.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The tensor library refused.
    #[error("the model could not compute")]
    Compute(#[source] candle_core::Error),
    /// It was given nothing to read.
    #[error("the model was given no token")]
    NoTokens,
}

/// The model that is always there: `pocket/README.md` says what it is.
const POCKET: &[u8] = include_bytes!("../pocket/pocket-q8_0.gguf");

/// In a process with one thread, makes that thread the whole of rayon's pool: a template will fork, and its children would wait for
/// ever for threads that they do not have. A process with more threads does not fork, and there the pool must have a thread of
/// its own, because the one that loads a model may be gone when another one computes.
fn keep_to_this_thread() {
    let threads = fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    if threads == 1 {
        // It fails when there is a pool already, which then is this one.
        let _exists = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global();
    }
}

fn load_echo(query: &str, spec: &ModelSpec) -> Result<Model, LoadError> {
    let path = || spec.path.clone();
    let options: EchoOptions = query.parse().map_err(|source| LoadError::Echo { path: path(), source })?;
    if spec.sha256.is_some() {
        return Err(LoadError::NothingToHash(path()));
    }
    let context = context(spec, options.context as usize)?;
    Ok(Model {
        engine: Box::new(Echo::load(options)),
        vocabulary: Vocabulary::byte_values(),
        chat: Some(ChatTemplate::last_message()),
        architecture: "echo".to_owned(),
        context,
    })
}

fn load_file(spec: &ModelSpec) -> Result<Model, LoadError> {
    let path = || spec.path.clone();
    let open_error = |source| LoadError::Open { path: path(), source };
    // Asked before it is opened: to open a pipe would wait for its other end.
    if !fs::metadata(&spec.path).map_err(open_error)?.is_file() {
        return Err(LoadError::NotFile(path()));
    }
    let mut file = File::open(&spec.path).map_err(open_error)?;
    let size = file.metadata().map_err(open_error)?.len();
    load_gguf(&mut file, size, spec)
}

fn load_gguf(reader: &mut (impl Read + Seek), size: u64, spec: &ModelSpec) -> Result<Model, LoadError> {
    let path = || spec.path.clone();
    let read_error = |source| LoadError::Read { path: path(), source };
    if let Some(expected) = &spec.sha256 {
        let found = sha256(reader).map_err(read_error)?;
        if !found.eq_ignore_ascii_case(expected) {
            return Err(LoadError::Sha256 { path: path(), found, expected: expected.clone() });
        }
        reader.seek(SeekFrom::Start(0)).map_err(read_error)?;
    }
    let gguf_error = |source| LoadError::Gguf { path: path(), source };
    let header = Header::read(BufReader::with_capacity(BUFFER, &mut *reader), size).map_err(gguf_error)?;
    let architecture = header.text("general.architecture").map_err(gguf_error)?.unwrap_or_default();
    if architecture != llama::ARCHITECTURE {
        return Err(LoadError::Architecture { path: path(), found: gguf::shown(architecture) });
    }
    let vocabulary =
        Vocabulary::from_header(&header).map_err(|source| LoadError::Vocabulary { path: path(), source })?;
    let shape =
        Shape::read(&header, vocabulary.len(), size).map_err(|source| LoadError::Shape { path: path(), source })?;
    let context = context(spec, llama::MOST_CONTEXT.min(shape.context as usize))?;
    let chat = header.text("tokenizer.chat_template").map_err(gguf_error)?;
    let chat = chat.map(|source| ChatTemplate::new(source, vocabulary.start_text(), vocabulary.end_text()));
    let llama = Llama::load(&shape, &header, reader).map_err(|source| LoadError::Weights { path: path(), source })?;
    Ok(Model { engine: Box::new(llama), vocabulary, chat, architecture: architecture.to_owned(), context })
}

/// The context asked for, or the most there can be.
fn context(spec: &ModelSpec, most: usize) -> Result<usize, LoadError> {
    match spec.context {
        None => Ok(most),
        Some(asked) if (2..=most).contains(&(asked as usize)) => Ok(asked as usize),
        Some(asked) => Err(LoadError::Context { path: spec.path.clone(), asked, most }),
    }
}

const BUFFER: usize = 1 << 20;

/// The SHA-256 of all that the reader gives, in hexadecimal.
pub(crate) fn sha256(reader: &mut impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            Ok(read) => hash.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
