//! Models that continue a text: the trait that all of them have, and loading one from a GGUF file.
//!
//! A text model computes logits. It does not tokenise, sample, stop or send; whoever serves a
//! request does.
mod decoder;
mod echo;
mod parts;
mod purpose;

pub use decoder::{ARCHITECTURES, HparamsError};
pub use parts::{Part, PartsError};

use crate::{
    ReadSeek, ThreadPool,
    chat::ChatTemplate,
    gguf::GgufError,
    read::sha256,
    tokenizer::{Tokenizer, TokenizerError},
};
use decoder::Decoder;
use echo::Echo;
use ipc::ModelSpec;
use parts::Joined;
use std::io;
use system::foreign_text::shown;
use thiserror::Error;

/// Tokens of a prompt that go through a model at once. It is part of a request: other chunks would
/// give other bits.
pub const CHUNK: u32 = 64;

/// A model in memory, with the state of at most one text.
///
/// The template warms a model and then forks: each worker shares the weights, and has a cache for
/// each text.
pub trait TextModel {
    /// Numbers of 16 bits that the cache of a text has.
    fn cache_length(&self) -> usize;

    /// Begins a new text whose prompt has `prompt` tokens, and forgets the one before.
    fn begin(&mut self, prompt: usize) {
        let _ = prompt;
    }

    /// Feeds `tokens` at the positions from `position` on, and returns the logits for the token
    /// after the last of them, one for each id of the vocabulary. `position` is the number of
    /// tokens fed since the text began; `cache` is of [`TextModel::cache_length`] numbers and holds
    /// what they left there.
    fn forward(
        &mut self,
        tokens: &[u32],
        position: usize,
        cache: &mut [u16],
        pace: &dyn Pace,
    ) -> Result<&[f32], ComputeError>;
}

/// Whom a model tells how it gets on, and asks how fast it may go.
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

/// A loaded text model, with its tokenizer and what is known about it.
pub struct Generator {
    /// Computes logits.
    pub model: Box<dyn TextModel>,
    /// Turns text into ids and ids into bytes.
    pub tokenizer: Tokenizer,
    /// The chat template in the file, if it has one.
    pub chat: Option<ChatTemplate>,
    /// The architecture that the file names.
    pub architecture: String,
    /// Most tokens of prompt and answer together.
    pub context: usize,
    /// A number that differs for different weights: a cache of other ones is not gone on with.
    pub identity: u64,
    /// Bytes of the model's files.
    pub size: u64,
}

impl Generator {
    /// Goes once through all that a request can make a worker compute, so that whatever is made
    /// lazily is made before the fork. `cache` is of [`TextModel::cache_length`] numbers.
    pub fn warm(&mut self, cache: &mut [u16]) -> Result<(), ComputeError> {
        let mut position = 0;
        for part in [2, 1] {
            let part = part.min(self.context - position);
            if part > 0 {
                self.model.forward(&vec![0; part], position, cache, &Alone)?;
            }
            position += part;
        }
        Ok(())
    }
}

/// A GGUF file, and what is known of it without reading it.
pub struct GgufFile {
    /// The file, or the bytes of one.
    pub reader: Box<dyn ReadSeek>,
    /// Its bytes.
    pub size: u64,
    /// The other parts of the same model, if the file's name says that it is the first of several.
    pub parts: Vec<Part>,
    /// A number that differs for different files.
    pub identity: u64,
    /// The `tokenizer.json` beside it.
    pub tokenizer: Option<Box<dyn ReadSeek>>,
}

/// Why a model could not be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
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
    /// The header says something of another type than it must be.
    #[error("cannot load the model {path}")]
    Gguf {
        /// The model's path.
        path: String,
        /// Why not.
        #[source]
        source: GgufError,
    },
    /// A part of the model is missing, or is not one.
    #[error("cannot load the model {path}")]
    Parts {
        /// The model's path.
        path: String,
        /// Which, and why not.
        #[source]
        source: PartsError,
    },
    /// The file is for something else.
    #[error("cannot load the model {path}: it is {what}")]
    NoModel {
        /// The model's path.
        path: String,
        /// What the file is, and what to do instead.
        what: &'static str,
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
    Tokenizer {
        /// The model's path.
        path: String,
        /// Why not.
        #[source]
        source: TokenizerError,
    },
    /// The model is not what its architecture says.
    #[error("cannot load the model {path}")]
    Hparams {
        /// The model's path.
        path: String,
        /// Why not.
        #[source]
        source: HparamsError,
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
    Memory(String),
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
pub enum ComputeError {
    /// The tensor library refused.
    #[error("the model could not compute")]
    Compute(#[from] candle_core::Error),
    /// It came to infinity or to nothing that is a number. The next product could make an ordinary
    /// number of that, and an answer that means nothing.
    #[error(
        "the model's numbers are not finite, so there is no answer: its file is broken, or it is not made for this text"
    )]
    NotFinite,
    /// It was given nothing to read.
    #[error("the model was given no token")]
    NoTokens,
    /// It was given more than the context holds, or a cache that is too small.
    #[error("the model was given more than its context holds")]
    TooManyTokens,
}

/// Makes the echo model, which has no weights, for at most `most` tokens of a text.
pub fn echo(spec: &ModelSpec, most: usize) -> Result<Generator, LoadError> {
    if spec.sha256.is_some() {
        return Err(LoadError::NothingToHash(spec.source.to_string()));
    }
    let context = context(spec, most)?;
    Ok(Generator {
        model: Box::new(Echo::new()),
        tokenizer: Tokenizer::byte_values(),
        chat: Some(ChatTemplate::last_message()),
        architecture: "echo".to_owned(),
        context,
        identity: 0,
        size: 0,
    })
}

/// The tokenizer of a GGUF file, which need have nothing else. `path` is what messages call it.
pub fn load_tokenizer(file: GgufFile, path: &str) -> Result<Tokenizer, LoadError> {
    let path = || path.to_owned();
    let header = Joined::new(file.reader, file.size, file.parts).header();
    let header = header.map_err(|source| LoadError::Parts { path: path(), source })?;
    Tokenizer::new(&header, file.tokenizer).map_err(|source| LoadError::Tokenizer { path: path(), source })
}

/// Loads the model in `file`, unless `admit` says that there is no room for what it needs. The
/// cache that it is asked about is in numbers of 16 bits for the context that is served:
/// [`TextModel::cache_length`].
///
/// It will compute on `pool`.
pub fn load(
    file: GgufFile,
    spec: &ModelSpec,
    pool: Box<dyn ThreadPool>,
    admit: &mut dyn FnMut(TextNeeds) -> bool,
) -> Result<Generator, LoadError> {
    let GgufFile { reader, size, parts, identity, tokenizer } = file;
    let path = || spec.source.to_string();
    let parts_error = |source| LoadError::Parts { path: path(), source };
    let mut reader = Joined::new(reader, size, parts);
    if let Some(expected) = &spec.sha256 {
        // It is that of all parts, one after another.
        reader.all_opened().map_err(parts_error)?;
        let found = sha256(&mut reader).map_err(|source| LoadError::Read { path: path(), source })?;
        if !found.eq_ignore_ascii_case(expected) {
            return Err(LoadError::Sha256 { path: path(), found, expected: expected.clone() });
        }
    }
    let gguf_error = |source| LoadError::Gguf { path: path(), source };
    let header = reader.header().map_err(parts_error)?;
    let size = reader.size();
    if let Some(what) = purpose::other_than_a_model(&header).map_err(gguf_error)? {
        return Err(LoadError::NoModel { path: path(), what });
    }
    let architecture = header.text("general.architecture").map_err(gguf_error)?.unwrap_or_default();
    if !ARCHITECTURES.contains(&architecture) {
        return Err(LoadError::Architecture { path: path(), found: shown(architecture) });
    }
    let tokenizer =
        Tokenizer::new(&header, tokenizer).map_err(|source| LoadError::Tokenizer { path: path(), source })?;
    let checked = Decoder::check(&header, architecture, tokenizer.len())
        .map_err(|source| LoadError::Hparams { path: path(), source })?;
    let most = checked.context().min(MOST_CONTEXT);
    let context = match spec.context {
        None => most.min(DEFAULT_CONTEXT),
        Some(_) => context(spec, most)?,
    };
    let chat = header.text("tokenizer.chat_template").map_err(gguf_error)?;
    let chat = chat.map(|source| ChatTemplate::new(source, tokenizer.start_text(), tokenizer.end_text()));
    let needs = TextNeeds { weights: checked.memory(&header), context, cache_length: checked.cache_length(context) };
    if !admit(needs) {
        return Err(LoadError::Memory(path()));
    }
    let decoder = Decoder::load(checked, &header, &mut reader, context, spec.threads as usize, pool)
        .map_err(|source| LoadError::Weights { path: path(), source })?;
    let (model, architecture) = (Box::new(decoder), architecture.to_owned());
    Ok(Generator { model, tokenizer, chat, architecture, context, identity, size })
}

/// What a text model needs, as its file's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextNeeds {
    /// Bytes of the weights, in the form that they are computed with.
    pub weights: u64,
    /// Most tokens of prompt and answer together.
    pub context: usize,
    /// Numbers of 16 bits in the cache of one text; `None` if they cannot be counted.
    pub cache_length: Option<usize>,
}

/// The context asked for, or the most there can be.
fn context(spec: &ModelSpec, most: usize) -> Result<usize, LoadError> {
    match spec.context {
        None => Ok(most),
        Some(asked) if (2..=most).contains(&(asked as usize)) => Ok(asked as usize),
        Some(asked) => Err(LoadError::Context { path: spec.source.to_string(), asked, most }),
    }
}

/// The context of a model that was made for more, if none is asked for: each request's cache is as
/// long.
const DEFAULT_CONTEXT: usize = 4096;

/// The supervisor keeps the ids of no longer texts.
const MOST_CONTEXT: usize = 1 << 20;
