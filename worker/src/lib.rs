//! What runs in the processes that hold a model: the template that loads it once and forks, and the
//! workers.
//!
//! [`entry`] is where a template begins, [`template`] its life. A worker starts in [`startup`] and
//! lives in [`serve`]; [`generate`] is the life of one job, [`embed`] that of a batch of texts.
//! [`opening`] opens what a model is read from, and [`loaded_model`] has the package `model` read
//! it. A template must stay single-threaded.
#![deny(unsafe_code)]

pub mod built_in;
pub mod cache;
pub mod embed;
pub mod entry;
pub mod generate;
pub mod loaded_model;
pub mod opening;
pub mod serve;
pub mod socket;
pub mod startup;
pub mod template;
pub mod threads;

pub use entry::main;
pub use model::tokenizer::EncodeError;

use model::{
    text::{self, LoadError},
    tokenizer::Tokenizer,
};
use opening::OpenError;
use std::path::Path;
use thiserror::Error;

/// Why the tokenizer of a file could not be loaded.
#[derive(Debug, Error)]
pub enum LoadTokenizerError {
    /// The file cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// The tokenizer of the GGUF file at `path`, which need have nothing else.
pub fn load_tokenizer(path: &Path) -> Result<Tokenizer, LoadTokenizerError> {
    Ok(text::load_tokenizer(opening::open_file(path)?, &path.display().to_string())?)
}
