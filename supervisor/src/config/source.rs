//! Where the configuration comes from, and its bytes: nothing that the path names can keep whoever
//! reads it, or fill their memory.
use super::{Config, ConfigError, Overrides};
use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Most bytes of a configuration.
const MOST: u64 = 1 << 20;

/// Where a daemon's configuration comes from, to be read once more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConfigSource {
    /// `--config`; every default holds if `None`.
    pub(crate) file: Option<PathBuf>,
    /// What the command line sets.
    pub(crate) overrides: Overrides,
}

impl ConfigSource {
    /// Reads the configuration.
    pub(crate) fn read(&self) -> Result<Config, ConfigError> {
        let config = self.file.as_deref().map_or_else(|| Ok(Config::builtin()), Config::load)?;
        let mut config = config.with_overrides(&self.overrides)?;
        config.http.complete()?;
        Ok(config)
    }
}

/// The bytes of a file, if there are so many at most.
pub(super) fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    system::files::open(path)?.take(MOST + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 {
        0..=MOST => Ok(bytes),
        _ => Err(io::Error::other("it is longer than 1 MiB, as no configuration is")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::{sys::stat::Mode, unistd::mkfifo};
    use std::fs::{self, File};

    #[test]
    fn what_could_keep_or_fill_its_reader_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let [file, pipe, link] = ["file", "pipe", "link"].map(|name| folder.path().join(name));
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        for other in [&pipe, &link, Path::new("/dev/zero"), Path::new("/")] {
            assert_eq!(bytes(other).unwrap_err().to_string(), "it is not a file", "{other:?}");
        }
        let longest = vec![b'#'; 1 << 20];
        fs::write(&file, &longest).unwrap();
        assert_eq!(bytes(&file).unwrap(), longest);
        File::options().append(true).open(&file).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(bytes(&file).unwrap_err().to_string(), "it is longer than 1 MiB, as no configuration is");
    }
}
