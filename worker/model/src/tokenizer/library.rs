//! Hugging Face's `tokenizers`, which panics on some broken files: a panic becomes an error.
use std::panic::{self, AssertUnwindSafe};
use tokenizers::{Result, Tokenizer};

/// Reads a `tokenizer.json`. The library panics on some merges that no token is long enough for.
pub(crate) fn read(bytes: &[u8]) -> Result<Tokenizer> {
    guarded(|| Tokenizer::from_bytes(bytes))
}

/// What the library makes of something, where a panic says nothing and is an error.
pub(crate) fn guarded<T>(run: impl FnOnce() -> Result<T>) -> Result<T> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let made = panic::catch_unwind(AssertUnwindSafe(run));
    panic::set_hook(hook);
    made.unwrap_or_else(|_| Err("the library fails on it".into()))
}
