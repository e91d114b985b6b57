//! What a model is read from, found and opened. Of what is in it nothing is known here.
use super::LoadError;
use crate::{files, vocabulary};
use ipc::ModelSpec;
use std::{
    fs::{self, File, Metadata},
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::MetadataExt,
    path::Path,
};

/// What the model that a path names is read from: from then on nothing need be opened.
#[derive(Debug)]
pub struct Source(pub(super) Kind);

#[derive(Debug)]
pub(super) enum Kind {
    /// A model in this program, by its name.
    Builtin(String),
    /// A file.
    File(Opened),
}

/// A file, and what is known of it without reading it.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    /// Its bytes.
    pub(super) size: u64,
    /// A number that differs for different files.
    pub(super) identity: u64,
    /// The `tokenizer.json` beside it.
    pub(super) tokenizer: Option<File>,
}

/// Opens what the model that `spec` names is read from.
pub fn open(spec: &ModelSpec) -> Result<Source, LoadError> {
    keep_to_this_thread();
    match spec.path.strip_prefix("builtin:") {
        Some(name) => Ok(Source(Kind::Builtin(name.to_owned()))),
        None => Ok(Source(Kind::File(Opened::open(spec.path.as_ref())?))),
    }
}

impl Opened {
    pub(super) fn open(path: &Path) -> Result<Opened, LoadError> {
        let shown = || path.display().to_string();
        let open_error = |source| LoadError::Open { path: shown(), source };
        if !fs::metadata(path).map_err(open_error)?.is_file() {
            return Err(LoadError::NotFile(shown()));
        }
        let file = files::open(path).map_err(open_error)?;
        let about = file.metadata().map_err(open_error)?;
        let tokenizer =
            vocabulary::open_beside(path).map_err(|source| LoadError::Vocabulary { path: shown(), source })?;
        Ok(Opened { file, size: about.len(), identity: identity(&about), tokenizer })
    }
}

fn identity(about: &Metadata) -> u64 {
    let mut identity = DefaultHasher::new();
    (about.dev(), about.ino(), about.len(), about.mtime(), about.mtime_nsec()).hash(&mut identity);
    identity.finish()
}

/// In a process with one thread, makes that thread the whole of rayon's pool: a template will fork, and its children would wait for
/// ever for threads that they do not have. A process with more threads does not fork, and there the pool must have a thread of
/// its own, because the one that loads a model may be gone when another one computes.
fn keep_to_this_thread() {
    let threads = fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    if threads == 1 {
        // It fails when there is a pool already, which then is this one.
        let _exists = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global();
    }
}
