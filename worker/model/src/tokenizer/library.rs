//! Hugging Face's `tokenizers`, which panics on some broken files: a panic becomes an error.
use crate::no_panic::without_panic;
use tokenizers::{Result, Tokenizer};

/// Reads a `tokenizer.json`. The library panics on some merges that no token is long enough for.
pub(crate) fn read(bytes: &[u8]) -> Result<Tokenizer> {
    guarded(|| Tokenizer::from_bytes(bytes))
}

/// What the library makes of something, where a panic says nothing and is an error.
pub(crate) fn guarded<T>(run: impl FnOnce() -> Result<T>) -> Result<T> {
    without_panic(run).unwrap_or_else(|| Err("the library fails on it".into()))
}
