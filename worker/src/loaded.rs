//! A model of either kind: one that generates text, or one that turns texts into vectors. The only match on which of them a path names.
use crate::{
    engine::{self, CHUNK, EngineError, LoadError, Model, Room, bert::Bert, bert::BertError},
    files::Files,
    vocabulary::EncodeError,
};
use ipc::{ModelInfo, ModelKind, ModelSpec, Precision, Sandbox};
use std::path::Path;
use thiserror::Error;

/// What a model is read from: from then on nothing need be opened.
#[derive(Debug)]
pub struct Source(Kind);

#[derive(Debug)]
enum Kind {
    Generate(engine::Source),
    Embed(Files),
}

/// A loaded model.
pub enum Loaded {
    /// It generates text.
    Generate(Box<Model>),
    /// It turns texts into vectors.
    Embed(Box<Bert>),
}

/// Why a model could not be loaded.
#[derive(Debug, Error)]
pub enum LoadedError {
    /// One that generates text.
    #[error(transparent)]
    Generate(#[from] LoadError),
    /// One that turns texts into vectors.
    #[error(transparent)]
    Embed(#[from] BertError),
    /// Its file says what the weights of a model that generates are.
    #[error("cannot load the model {0}: precision is for models that make vectors")]
    Precision(String),
}

/// Why a model could not be warmed up.
#[derive(Debug, Error)]
pub enum WarmError {
    /// It could not compute.
    #[error(transparent)]
    Compute(#[from] EngineError),
    /// It could not tokenise.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Opens what the model that `spec` names is read from: a folder is an embedding model, and [`engine::open`] knows the others.
pub fn open(spec: &ModelSpec) -> Result<Source, LoadedError> {
    if !spec.path.starts_with("builtin:") && Path::new(&spec.path).is_dir() {
        return Ok(Source(Kind::Embed(Bert::open(spec)?)));
    }
    if spec.precision != Precision::F32 {
        return Err(LoadedError::Precision(spec.path.clone()));
    }
    Ok(Source(Kind::Generate(engine::open(spec)?)))
}

impl Loaded {
    /// Loads the model that `spec` names from its source, unless there is no room for what it needs.
    pub fn read(source: Source, spec: &ModelSpec, room: Room<'_>) -> Result<Loaded, LoadedError> {
        Ok(match source.0 {
            Kind::Embed(files) => Loaded::Embed(Box::new(Bert::read(files, spec, room)?)),
            Kind::Generate(source) => Loaded::Generate(Box::new(engine::read(source, spec, room)?)),
        })
    }

    /// Goes once through all that a request can make a worker compute, so that whatever is built lazily is built before the fork.
    pub fn warm(&mut self) -> Result<(), WarmError> {
        match self {
            Loaded::Generate(model) => Ok(model.warm()?),
            Loaded::Embed(bert) => Ok(bert.warm()?),
        }
    }

    /// What is known about the model, which took `load_ms` milliseconds to load and warm. Of its process it says nothing.
    pub fn info(&self, load_ms: u64) -> ModelInfo {
        match self {
            Loaded::Generate(model) => ModelInfo {
                architecture: model.architecture.clone(),
                context: u32::try_from(model.context).unwrap_or(u32::MAX),
                chat: model.chat.is_some(),
                load_ms,
                chunk: CHUNK,
                kind: ModelKind::Generate,
                cache: model.cache_size(),
                weights: model.size,
                dimensions: 0,
                sandbox: Sandbox::default(),
            },
            Loaded::Embed(bert) => ModelInfo {
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
            },
        }
    }

    /// The ids of a text. With `special`, the names of special tokens in it stand for those tokens, and what the model's file wants before and
    /// after a text is added; without, it is only text.
    pub fn tokenize(&mut self, text: &str, special: bool) -> Result<Vec<u32>, EncodeError> {
        match self {
            Loaded::Generate(model) => model.vocabulary.encode(text, special),
            Loaded::Embed(bert) => bert.tokenize(text, special),
        }
    }
}
