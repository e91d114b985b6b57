//! What is not trusted, given to what reads it: a function for each kind, which takes any bytes at
//! all.
//!
//! Fuzzers call them (`tests/fuzz`), and so does the test that replays what fuzzers have found
//! (`tests/tests/corpus.rs`). None may panic, take memory out of proportion to what it is given, or
//! take long. What must hold besides is asserted.
mod files;
mod wire;
mod workers;

pub use files::{chat, embedding, gguf, model, tokenizer, vocabulary};
pub use wire::{client, configuration, frames, http, http_stream, messages};
pub use workers::{board, cache, worker};

/// A function that takes any bytes at all.
pub type Target = fn(&[u8]);

/// Each target and its name.
pub const TARGETS: [(&str, Target); 15] = [
    ("board", board),
    ("cache", cache),
    ("chat", chat),
    ("client", client),
    ("configuration", configuration),
    ("embedding", embedding),
    ("frames", frames),
    ("gguf", gguf),
    ("http", http),
    ("http_stream", http_stream),
    ("messages", messages),
    ("model", model),
    ("tokenizer", tokenizer),
    ("vocabulary", vocabulary),
    ("worker", worker),
];
