//! What the path of a model names.
use serde::{Deserialize, Serialize};
use std::{
    fmt::{self, Display, Formatter},
    path::{Path, PathBuf},
};

/// What a model is read from: a path, parsed once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ModelSource {
    /// A model that is part of the executable, with its options: `builtin:NAME` or
    /// `builtin:NAME?OPTIONS`.
    BuiltIn {
        /// Its name.
        name: String,
        /// What follows the `?`: `key=value` with `&` between.
        options: String,
    },
    /// A GGUF file, which generates text.
    File(PathBuf),
    /// A folder as sentence-transformers writes it, which makes vectors.
    Folder(PathBuf),
}

impl ModelSource {
    /// What `path` names now: a path that is not there, or that cannot be looked at, names a file.
    pub fn parse(path: &str) -> ModelSource {
        ModelSource::parse_in(path, Path::new(""))
    }

    /// The same, where a path that is not absolute begins in `folder`.
    pub fn parse_in(path: &str, folder: &Path) -> ModelSource {
        match path.strip_prefix("builtin:") {
            Some(rest) => {
                let (name, options) = rest.split_once('?').unwrap_or((rest, ""));
                ModelSource::BuiltIn { name: name.to_owned(), options: options.to_owned() }
            }
            None => ModelSource::at(folder.join(path)),
        }
    }

    /// The file or folder; `None` for what is part of the executable.
    pub fn path(&self) -> Option<&Path> {
        match self {
            ModelSource::File(path) | ModelSource::Folder(path) => Some(path),
            ModelSource::BuiltIn { .. } => None,
        }
    }

    /// The same from any working directory.
    #[must_use]
    pub fn absolute(self) -> ModelSource {
        match self.path().map(std::path::absolute) {
            Some(Ok(path)) => ModelSource::at(path),
            Some(Err(_)) | None => self,
        }
    }

    fn at(path: PathBuf) -> ModelSource {
        if path.is_dir() { ModelSource::Folder(path) } else { ModelSource::File(path) }
    }
}

/// As it is written in a configuration.
impl Display for ModelSource {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            ModelSource::BuiltIn { name, options } if options.is_empty() => write!(f, "builtin:{name}"),
            ModelSource::BuiltIn { name, options } => write!(f, "builtin:{name}?{options}"),
            ModelSource::File(path) | ModelSource::Folder(path) => path.display().fmt(f),
        }
    }
}

/// Most parts that [`split_parts`] knows of.
pub const MOST_PARTS: usize = 1000;

/// The files that belong to the one at `path` by their names: those from the second on, if it is
/// called `NAME-00001-of-00003.gguf`.
pub fn split_parts(path: &Path) -> Vec<PathBuf> {
    let named = || {
        let (name, rest) = path.file_name()?.to_str()?.rsplit_once("-00001-of-")?;
        let count = rest.strip_suffix(".gguf").filter(|digits| digits.len() == 5)?;
        let count: usize = count.bytes().all(|digit| digit.is_ascii_digit()).then(|| count.parse().ok())??;
        let parts = 2..=count.min(MOST_PARTS);
        Some(parts.map(|number| path.with_file_name(format!("{name}-{number:05}-of-{rest}"))).collect())
    };
    named().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_shown_as_it_was_written() {
        for path in ["builtin:pocket", "builtin:echo?token_us=5&context=8", "/models/tiny.gguf", "tiny.gguf", "/"] {
            assert_eq!(ModelSource::parse(path).to_string(), path);
        }
    }

    #[test]
    fn only_a_folder_that_is_there_is_one() {
        assert_eq!(ModelSource::parse("/"), ModelSource::Folder("/".into()));
        assert_eq!(ModelSource::parse("/not/there"), ModelSource::File("/not/there".into()));
        let built_in = ModelSource::BuiltIn { name: "echo".into(), options: "context=8".into() };
        assert_eq!(ModelSource::parse("builtin:echo?context=8"), built_in);
        assert_eq!(built_in.path(), None);
        assert_eq!(ModelSource::parse_in("builtin:echo?context=8", Path::new("/x")), built_in);
    }

    #[test]
    fn a_path_that_is_not_absolute_begins_in_a_folder() {
        let within = |path: &str| ModelSource::parse_in(path, Path::new("/"));
        assert_eq!(within("proc"), ModelSource::Folder("/proc".into()));
        assert_eq!(within("/proc"), ModelSource::Folder("/proc".into()));
        assert_eq!(within("not-there"), ModelSource::File("/not-there".into()));
    }

    #[test]
    fn parts_are_known_by_their_names() {
        let parts = |path: &str| -> Vec<String> {
            super::split_parts(Path::new(path)).iter().map(|part| part.display().to_string()).collect()
        };
        assert_eq!(
            parts("/m/a-00001-of-00001-00001-of-00003.gguf"),
            ["/m/a-00001-of-00001-00002-of-00003.gguf", "/m/a-00001-of-00001-00003-of-00003.gguf"]
        );
        assert_eq!(parts("-00001-of-00002.gguf"), ["-00002-of-00002.gguf"]);
        for other in [
            "a.gguf",
            "a-00002-of-00003.gguf",
            "a-00001-of-00001.gguf",
            "a-00001-of-00000.gguf",
            "a-00001-of-3.gguf",
            "a-00001-of-+0003.gguf",
            "a-00001-of-00003.bin",
            "a-00001-of-00003",
            "/",
            "",
        ] {
            assert_eq!(parts(other), Vec::<String>::new(), "{other}");
        }
        assert_eq!(parts("a-00001-of-99999.gguf").len(), MOST_PARTS - 1);
    }
}
