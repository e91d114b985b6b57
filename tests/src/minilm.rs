//! What `tests/set-up` fetches.
use std::{env, path::PathBuf};

/// The folder of it all.
pub fn models_folder() -> PathBuf {
    env::var_os("SUPERVISOR_TEST_MODELS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/models")), PathBuf::from)
}

/// The folder of the embedding model. Whoever asks for it without having set the tests up is told to.
///
/// # Panics
///
/// Panics if it is not there.
pub fn minilm() -> PathBuf {
    let folder = models_folder().join("all-MiniLM-L6-v2");
    assert!(folder.is_dir(), "{} is not there: run tests/set-up", folder.display());
    folder
}
