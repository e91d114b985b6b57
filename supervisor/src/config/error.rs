//! What can be wrong with a configuration, each as one sentence that says where.
use std::fmt::{self, Display, Formatter};
use std::io;

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("{file} cannot be read")]
    Read {
        /// Its path.
        file: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is not text.
    #[error("{place}: not valid UTF-8")]
    NotUtf8 {
        /// The first line that is not.
        place: Place,
    },
    /// The file is not TOML; a key that is there twice is such an error too.
    #[error("{place}: not valid TOML: {message}")]
    Syntax {
        /// Where the parser stopped.
        place: Place,
        /// What the parser says.
        message: String,
    },
    /// A key that does not exist.
    #[error("{place}: unknown key {key:?} in {table}{hint}")]
    UnknownKey {
        /// The key's line.
        place: Place,
        /// The key.
        key: String,
        /// The table that it is in.
        table: &'static str,
        /// What may have been meant, after a semicolon, or nothing.
        hint: String,
    },
    /// A value that its key cannot have.
    #[error("{place}: {key} is {value}, but {rule}")]
    Value {
        /// The value's line.
        place: Place,
        /// The key.
        key: String,
        /// The value as it would be written.
        value: String,
        /// What it must be.
        rule: String,
    },
    /// A model without a path.
    #[error("{place}: [[model]] has no path; set path to a GGUF file or to \"builtin:pocket\"")]
    NoPath {
        /// The model's first line.
        place: Place,
    },
    /// HTTP cannot be served so.
    #[error(transparent)]
    Http(#[from] super::http::HttpError),
    /// Two models with one name.
    #[error("{place}: two models have the name {name:?}")]
    DuplicateName {
        /// The second one's line.
        place: Place,
        /// The name.
        name: String,
    },
}

/// A line of a file, or an option of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    name: String,
    line: Option<usize>,
}

impl Place {
    /// A line, counted from 1, of the file with this name.
    pub(crate) fn line(file: &str, line: usize) -> Place {
        Place { name: file.to_string(), line: Some(line) }
    }

    /// An option of the command line.
    pub(crate) fn option(name: &str) -> Place {
        Place { name: name.to_string(), line: None }
    }
}

impl Display for Place {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(formatter, "{}:{line}", self.name),
            None => formatter.write_str(&self.name),
        }
    }
}
