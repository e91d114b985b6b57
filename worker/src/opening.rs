//! Finds and opens what a model is read from. Of what is in it nothing is known here.
use ipc::{ModelSource, ModelSpec, Precision};
use model::{
    ReadSeek,
    embed::bert::{FILE_NAMES, ModelFolder},
    text::{GgufFile, Part},
};
use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::Path,
};
use system::{
    files::{self, Files},
    proc,
};
use thiserror::Error;

/// What a model is read from: from then on nothing need be opened.
pub enum Opened {
    /// A model that is part of this program, by its name and options.
    BuiltIn(String, String),
    /// A file.
    File(GgufFile),
    /// The files of a folder.
    Folder(ModelFolder),
}

/// Why a model could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The file cannot be opened.
    #[error("cannot open the model {path}")]
    File {
        /// The model's path.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// What is in the folder cannot be found out.
    #[error("cannot load the model {path}: cannot list the folder")]
    Folder {
        /// The model's path.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The path names a folder, a socket or something else that is no file.
    #[error("cannot load the model {0}: it is not a file")]
    NotFile(String),
    /// The `tokenizer.json` beside the file cannot be opened.
    #[error(
        "cannot load the tokenizer of the model {path}: cannot use the tokenizer.json beside it: it cannot be read"
    )]
    Tokenizer {
        /// The model's path.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file says what the weights of a model that generates are.
    #[error("cannot load the model {0}: precision is for models that make vectors")]
    Precision(String),
}

/// Opens what the model that `spec` names is read from.
pub fn open(spec: &ModelSpec) -> Result<Opened, OpenError> {
    keep_to_this_thread();
    if spec.precision != Precision::F32 && !matches!(spec.source, ModelSource::Folder(_)) {
        return Err(OpenError::Precision(spec.source.to_string()));
    }
    match &spec.source {
        ModelSource::BuiltIn { name, options } => Ok(Opened::BuiltIn(name.clone(), options.clone())),
        ModelSource::File(path) => open_file(path).map(Opened::File),
        ModelSource::Folder(path) => open_folder(path).map(Opened::Folder),
    }
}

/// Opens a GGUF file, the other parts of the same model, and the `tokenizer.json` beside it.
pub(crate) fn open_file(path: &Path) -> Result<GgufFile, OpenError> {
    let shown = || path.display().to_string();
    let open_error = |source| OpenError::File { path: shown(), source };
    if !fs::metadata(path).map_err(open_error)?.is_file() {
        return Err(OpenError::NotFile(shown()));
    }
    let file = files::open(path).map_err(open_error)?;
    let about = file.metadata().map_err(open_error)?;
    let tokenizer = open_beside(path).map_err(|source| OpenError::Tokenizer { path: shown(), source })?;
    // It has no keys, so that every process gets the same.
    let mut identity = DefaultHasher::new();
    files::identity(&about).hash(&mut identity);
    let parts = ipc::split_parts(path).iter().map(|path| open_part(path, &mut identity)).collect();
    let (reader, identity) = (Box::new(file), identity.finish());
    Ok(GgufFile { reader, size: about.len(), parts, identity, tokenizer })
}

/// Opens another part. One that is not there is for those to miss who read the first.
fn open_part(path: &Path, identity: &mut impl Hasher) -> Part {
    let mut open = || -> io::Result<(Box<dyn ReadSeek>, u64)> {
        let file = files::open(path)?;
        let about = file.metadata()?;
        files::identity(&about).hash(identity);
        Ok((Box::new(file), about.len()))
    };
    Part { file: open(), name: path.file_name().unwrap_or_default().display().to_string() }
}

/// Opens the tokenizer in the folder of the model's file, if there is one.
fn open_beside(model: &Path) -> io::Result<Option<Box<dyn ReadSeek>>> {
    let path = model.with_file_name("tokenizer.json");
    match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(found) if !found.is_file() => Ok(None),
        Ok(_) => Ok(Some(Box::new(files::open(&path)?))),
    }
}

fn open_folder(path: &Path) -> Result<ModelFolder, OpenError> {
    let files = Files::open(path, &FILE_NAMES);
    let files = files.map_err(|source| OpenError::Folder { path: path.display().to_string(), source })?;
    let read_seek = |file| -> Box<dyn ReadSeek> { Box::new(file) };
    Ok(ModelFolder(files.into_found().into_iter().map(|(path, file)| (path, file.map(read_seek))).collect()))
}

/// In a process with one thread, makes that thread the whole of rayon's pool: a template will fork,
/// and its children would wait for ever for threads that they do not have. A process with more
/// threads does not fork, and there the pool must have a thread of its own, because the one that
/// loads a model may be gone when another one computes.
fn keep_to_this_thread() {
    if proc::thread_count() == 1 {
        // It fails when there is a pool already, which then is this one.
        let _exists = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global();
    }
}
