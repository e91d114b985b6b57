//! The boundary between the worker and the models: one small trait, and the only match on what kind of model a path names.
//!
//! An engine computes logits. It does not tokenise, sample, stop or send; [`crate::generate`] does that for all of them.

pub mod bert;
mod decoder;
mod echo;
pub mod gguf;
mod source;

pub use decoder::{ARCHITECTURES, ShapeError};
pub use echo::EchoOptionError;
pub use source::{Source, open};

use crate::{
    cache::Cache,
    chat::ChatTemplate,
    vocabulary::{Vocabulary, VocabularyError},
};
use decoder::Decoder;
use echo::{Echo, EchoOptions};
use gguf::{GgufError, Header};
use ipc::{ModelSpec, Needs};
use sha2::{Digest, Sha256};
use source::{Kind, Opened};
use std::{
    fs::File,
    io::{self, BufReader, Cursor, Read, Seek, SeekFrom},
    path::Path,
};
use thiserror::Error;

/// Tokens of a prompt that go through a model at once. It is part of a request: other chunks would give other bits.
pub const CHUNK: u32 = 64;

/// A model in memory, with the state of at most one text.
///
/// The template warms an engine and then forks: each worker shares the weights, and has a cache for each text.
pub trait Engine {
    /// Numbers of 16 bits that the cache of a text has.
    fn cache_length(&self) -> usize;

    /// Begins a new text whose prompt has `prompt` tokens, and forgets the one before.
    fn begin(&mut self, prompt: usize);

    /// Feeds `tokens` at the positions from `position` on, and returns the logits for the token after the last of them, one for each
    /// id of the vocabulary. `position` is the number of tokens fed since the text began; `cache` is of [`Engine::cache_length`]
    /// numbers and holds what they left there.
    fn forward(
        &mut self,
        tokens: &[u32],
        position: usize,
        cache: &mut [u16],
        pace: &dyn Pace,
    ) -> Result<&[f32], EngineError>;

    /// Forgets the text.
    fn reset(&mut self);
}

/// Whom an engine tells how it gets on, and asks how fast it may go.
pub trait Pace {
    /// Another layer begins. Returns with how many threads it may be computed, at least 1.
    fn layer(&self) -> usize;
}

/// One thread, and nobody watches.
#[derive(Clone, Copy, Debug)]
pub struct Alone;

impl Pace for Alone {
    fn layer(&self) -> usize {
        1
    }
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
    /// A number that differs for different weights: a cache of other ones is not gone on with.
    pub identity: u64,
    /// Bytes of the model's file.
    pub size: u64,
}

impl Model {
    /// Goes once through all that a request can make a worker compute, so that whatever is made lazily is made before the fork.
    pub fn warm(&mut self) -> Result<(), EngineError> {
        let mut cache = Cache::anonymous(self.context, self.engine.cache_length()).map_err(EngineError::Cache)?;
        let mut position = 0;
        for part in [2, 1] {
            let part = part.min(self.context - position);
            if part > 0 {
                self.engine.forward(&vec![0; part], position, cache.numbers(), &Alone)?;
            }
            position += part;
        }
        self.engine.reset();
        Ok(())
    }

    /// Bytes of the memory in which a request's workers leave its cache for one another; 0 if the model has none.
    pub fn cache_size(&self) -> u64 {
        match self.engine.cache_length() {
            0 => 0,
            length => Cache::size(self.context, length) as u64,
        }
    }
}

/// Loads the model that `spec` names: `builtin:pocket`, `builtin:echo`, `builtin:echo?key=value&key=value`, or a GGUF file.
pub fn load(spec: &ModelSpec) -> Result<Model, LoadError> {
    read(open(spec)?, spec, &mut |_| true)
}

/// Loads the model that `spec` names from its source, unless there is no room for what it needs, which is known before the weights are read.
pub fn read(source: Source, spec: &ModelSpec, room: Room<'_>) -> Result<Model, LoadError> {
    match source.0 {
        Kind::File(Opened { mut file, size, identity, tokenizer }) => {
            load_gguf(&mut file, About { size, identity }, tokenizer, spec, room)
        }
        Kind::Builtin(name) if name == "pocket" => {
            let about = About { size: POCKET.len() as u64, identity: 0 };
            load_gguf(&mut Cursor::new(POCKET), about, None, spec, room)
        }
        Kind::Builtin(name) => match name.strip_prefix("echo") {
            Some("") => load_echo("", spec),
            Some(query) if query.starts_with('?') => load_echo(&query[1..], spec),
            _ => Err(LoadError::NoBuiltin(name)),
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
    #[error("cannot load the model {path}: its architecture is {found:?}, and only {} are supported", ARCHITECTURES.join(", "))]
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
    /// Whoever asked for it has no room for what it needs.
    #[error("cannot load the model {0}: there is no room for it in memory")]
    NoRoom(String),
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
    /// It was given more than the context holds, or a cache that is too small.
    #[error("the model was given more than its context holds")]
    NoRoom,
    /// There is no memory for a cache.
    #[error("there is no memory for the cache")]
    Cache(#[source] io::Error),
}

/// Is told what a model needs before its weights are read, and says whether there is room for it.
pub type Room<'a> = &'a mut dyn FnMut(Needs) -> bool;

/// The model that is always there: `pocket/README.md` says what it is.
const POCKET: &[u8] = include_bytes!("../pocket/pocket-q8_0.gguf");

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
        identity: 0,
        size: 0,
    })
}

/// The vocabulary of a GGUF file, which need have nothing else.
pub fn load_vocabulary(path: &Path) -> Result<Vocabulary, LoadError> {
    let shown = || path.display().to_string();
    let Opened { file, size, tokenizer, .. } = Opened::open(path)?;
    let header = Header::read(BufReader::with_capacity(BUFFER, file), size);
    let header = header.map_err(|source| LoadError::Gguf { path: shown(), source })?;
    Vocabulary::new(&header, tokenizer).map_err(|source| LoadError::Vocabulary { path: shown(), source })
}

/// What is known of a file without reading it.
struct About {
    /// Its bytes.
    size: u64,
    /// A number that differs for different files.
    identity: u64,
}

fn load_gguf(
    reader: &mut (impl Read + Seek),
    About { size, identity }: About,
    tokenizer: Option<File>,
    spec: &ModelSpec,
    room: Room<'_>,
) -> Result<Model, LoadError> {
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
    if !ARCHITECTURES.contains(&architecture) {
        return Err(LoadError::Architecture { path: path(), found: gguf::shown(architecture) });
    }
    let vocabulary =
        Vocabulary::new(&header, tokenizer).map_err(|source| LoadError::Vocabulary { path: path(), source })?;
    let checked = Decoder::check(&header, architecture, vocabulary.len(), size)
        .map_err(|source| LoadError::Shape { path: path(), source })?;
    let most = checked.context().min(MOST_CONTEXT);
    let context = match spec.context {
        None => most.min(DEFAULT_CONTEXT),
        Some(_) => context(spec, most)?,
    };
    let chat = header.text("tokenizer.chat_template").map_err(gguf_error)?;
    let chat = chat.map(|source| ChatTemplate::new(source, vocabulary.start_text(), vocabulary.end_text()));
    let cache = checked.cache_length(context).map_or(0, |length| Cache::size(context, length) as u64);
    if !room(Needs { weights: checked.memory(&header), cache }) {
        return Err(LoadError::NoRoom(path()));
    }
    let decoder = Decoder::load(checked, &header, reader, context, spec.threads as usize)
        .map_err(|source| LoadError::Weights { path: path(), source })?;
    let (engine, architecture) = (Box::new(decoder), architecture.to_owned());
    Ok(Model { engine, vocabulary, chat, architecture, context, identity, size })
}

/// The context asked for, or the most there can be.
fn context(spec: &ModelSpec, most: usize) -> Result<usize, LoadError> {
    match spec.context {
        None => Ok(most),
        Some(asked) if (2..=most).contains(&(asked as usize)) => Ok(asked as usize),
        Some(asked) => Err(LoadError::Context { path: spec.path.clone(), asked, most }),
    }
}

/// The context of a model that was made for more, if none is asked for: each request's cache is as long.
const DEFAULT_CONTEXT: usize = 4096;

/// The supervisor keeps the ids of no longer texts.
const MOST_CONTEXT: usize = 1 << 20;

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
