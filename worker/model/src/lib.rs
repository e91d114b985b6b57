//! Models as computations: file formats, tokenizers, chat templates, sampling, kernels, text models
//! and embedders.
//!
//! This package opens no file, maps no memory and reads no clock. It is given readers, slices, a
//! [`ThreadPool`] and today's date, and knows nothing of processes. It is deterministic: the same
//! input gives the same ids and the same bits, whoever computes.
//!
//! [`gguf`] reads headers; [`tokenizer`] and [`chat`] turn what a client sent into token ids;
//! [`text`] computes logits; [`sampling`] chooses the next id; [`detokenizer`] turns ids' bytes
//! back into text that can be sent; [`embed`] makes vectors.
#![deny(unsafe_code)]

pub mod chat;
pub mod detokenizer;
pub mod embed;
mod foreign_file;
pub mod gguf;
mod kernels;
mod low_level;
mod no_panic;
mod read;
pub mod sampling;
pub mod text;
mod thread_pool;
pub mod tokenizer;

pub use foreign_file::ForeignFile;
pub use ipc::Needs;
pub use read::ReadSeek;
pub use thread_pool::{SingleThread, ThreadPool};

/// Is told what a model needs before its weights are read, and says whether there is room for it.
pub type Admit<'a> = &'a mut dyn FnMut(Needs) -> bool;
