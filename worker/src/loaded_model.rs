//! A model of either kind, loaded: one that generates text, or one that turns texts into vectors.
use crate::{
    built_in::{self, BuiltInError},
    cache::Cache,
    opening::{self, OpenError, Opened},
    threads::WorkerThreads,
};
use ipc::{ModelInfo, ModelKind, ModelSpec, Needs, Sandbox};
use model::{
    Admit,
    embed::bert::{Bert, BertError},
    text::{self, CHUNK, ComputeError, Generator, LoadError, TextNeeds},
    tokenizer::EncodeError,
};
use std::io;
use thiserror::Error;

/// A loaded model.
pub enum LoadedModel {
    /// It generates text.
    Generator(Box<Generator>),
    /// It turns texts into vectors.
    Embedder(Box<Bert>),
}

/// Why a model could not be loaded.
#[derive(Debug, Error)]
pub enum LoadModelError {
    /// It could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It is of the other kind.
    #[error("the model {0} is of another kind than was asked for")]
    Kind(String),
    /// One that is part of this program.
    #[error(transparent)]
    BuiltIn(#[from] BuiltInError),
    /// One that generates text.
    #[error(transparent)]
    Generator(#[from] LoadError),
    /// One that turns texts into vectors.
    #[error(transparent)]
    Embedder(#[from] BertError),
}

/// Why a model could not be warmed up.
#[derive(Debug, Error)]
pub enum WarmError {
    /// There is no memory for a cache.
    #[error("there is no memory for the cache")]
    Cache(#[source] io::Error),
    /// It could not compute.
    #[error(transparent)]
    Compute(#[from] ComputeError),
    /// It could not tokenise.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl LoadedModel {
    /// Loads the model that `spec` names from what was opened, unless `admit` says that there is no
    /// room for what it needs.
    pub fn load(opened: Opened, spec: &ModelSpec, admit: Admit<'_>) -> Result<LoadedModel, LoadModelError> {
        let mut admit_text = |needs: TextNeeds| {
            let cache = needs.cache_length.map_or(0, |length| Cache::size(needs.context, length) as u64);
            admit(Needs { weights: needs.weights, cache })
        };
        let pool = || Box::<WorkerThreads>::default();
        Ok(match opened {
            Opened::BuiltIn(name, options) => {
                let generator = built_in::load(&name, &options, spec, pool(), &mut admit_text)?;
                LoadedModel::Generator(Box::new(generator))
            }
            Opened::File(file) => LoadedModel::Generator(Box::new(text::load(file, spec, pool(), &mut admit_text)?)),
            Opened::Folder(folder) => LoadedModel::Embedder(Box::new(Bert::load(folder, spec, admit)?)),
        })
    }

    /// Goes once through all that a request can make a worker compute, so that whatever is built
    /// lazily is built before the fork.
    pub fn warm(&mut self) -> Result<(), WarmError> {
        match self {
            LoadedModel::Generator(generator) => warm(generator),
            LoadedModel::Embedder(bert) => Ok(bert.warm()?),
        }
    }

    /// What is known about the model, which took `load_ms` milliseconds to load and warm. Of its
    /// process it says nothing.
    pub fn info(&self, load_ms: u64) -> ModelInfo {
        match self {
            LoadedModel::Generator(generator) => ModelInfo {
                architecture: generator.architecture.clone(),
                context: u32::try_from(generator.context).unwrap_or(u32::MAX),
                chat: generator.chat.is_some(),
                load_ms,
                chunk: CHUNK,
                kind: ModelKind::Generate,
                cache: cache_size(generator),
                weights: generator.size,
                dimensions: 0,
                sandbox: Sandbox::default(),
                remarks: generator.tokenizer.remarks().to_vec(),
            },
            LoadedModel::Embedder(bert) => ModelInfo {
                architecture: "bert".to_owned(),
                context: u32::try_from(bert.context()).unwrap_or(u32::MAX),
                chat: false,
                load_ms,
                chunk: CHUNK,
                kind: ModelKind::Embed,
                cache: 0,
                weights: bert.weights(),
                dimensions: u32::try_from(bert.dimensions()).unwrap_or(u32::MAX),
                sandbox: Sandbox::default(),
                remarks: Vec::new(),
            },
        }
    }

    /// The ids of a text. With `special`, the names of special tokens in it stand for those tokens,
    /// and what the model's file wants before and after a text is added; without, it is only text.
    pub fn tokenize(&mut self, text: &str, special: bool) -> Result<Vec<u32>, EncodeError> {
        match self {
            LoadedModel::Generator(generator) => generator.tokenizer.encode(text, special),
            LoadedModel::Embedder(bert) => bert.tokenize(text, special),
        }
    }
}

/// Opens and loads the text model that `spec` names, whatever it needs.
pub fn load_generator(spec: &ModelSpec) -> Result<Generator, LoadModelError> {
    match LoadedModel::load(opening::open(spec)?, spec, &mut |_| true)? {
        LoadedModel::Generator(generator) => Ok(*generator),
        LoadedModel::Embedder(_) => Err(LoadModelError::Kind(spec.source.to_string())),
    }
}

/// Opens and loads the embedding model that `spec` names, whatever it needs.
pub fn load_embedder(spec: &ModelSpec) -> Result<Bert, LoadModelError> {
    match LoadedModel::load(opening::open(spec)?, spec, &mut |_| true)? {
        LoadedModel::Embedder(bert) => Ok(*bert),
        LoadedModel::Generator(_) => Err(LoadModelError::Kind(spec.source.to_string())),
    }
}

/// Goes once through all that a request can make a worker compute with this model.
pub fn warm(generator: &mut Generator) -> Result<(), WarmError> {
    let length = generator.model.cache_length();
    let mut cache = Cache::anonymous(generator.context, length).map_err(WarmError::Cache)?;
    Ok(generator.warm(cache.numbers())?)
}

/// Bytes of the memory in which a request's workers leave its cache for one another; 0 if the model
/// has none.
pub fn cache_size(generator: &Generator) -> u64 {
    match generator.model.cache_length() {
        0 => 0,
        length => Cache::size(generator.context, length) as u64,
    }
}
