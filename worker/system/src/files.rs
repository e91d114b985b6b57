//! The files that a model is read from, opened before a byte of them is read: whoever reads them
//! may open nothing any more.
//!
//! Nothing in a file decides what is opened. It reads nothing itself.
use nix::fcntl::OFlag;
use std::{
    collections::HashMap,
    fs::{self, File, Metadata},
    hash::{DefaultHasher, Hash, Hasher},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Most folders in a folder that files are looked for in.
const MOST_FOLDERS: usize = 16;

/// Opens a file, but nothing else that a path can name: to open a pipe would wait for its other
/// end, and to open a device may do something.
pub fn open(path: &Path) -> io::Result<File> {
    let other = || io::Error::other("it is not a file");
    if !fs::metadata(path)?.is_file() {
        return Err(other());
    }
    // A pipe that has come in its place since is not waited for either.
    let flags = OFlag::O_NONBLOCK.bits();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(other()) }
}

/// A number that differs for different files, and for a file whose content has changed: by device,
/// inode, length and time of change.
pub fn identity(about: &Metadata) -> u64 {
    // It has no keys, so that every process gets the same.
    let mut identity = DefaultHasher::new();
    (about.dev(), about.ino(), about.len(), about.mtime(), about.mtime_nsec()).hash(&mut identity);
    identity.finish()
}

/// The files of some names that a folder has, and that the folders in it have.
#[derive(Debug)]
pub struct Files {
    found: HashMap<PathBuf, io::Result<File>>,
}

impl Files {
    /// Opens them. One that cannot be opened is an error only for who asks for it.
    pub fn open(folder: &Path, names: &[&str]) -> io::Result<Files> {
        let mut folders = vec![];
        for entry in fs::read_dir(folder)? {
            let name = PathBuf::from(entry?.file_name());
            if folder.join(&name).is_dir() {
                folders.push(name);
            }
        }
        // Modules have numbers before their names, so they are the first.
        folders.sort_unstable();
        folders.truncate(MOST_FOLDERS);
        let mut found = HashMap::new();
        for inside in [PathBuf::new()].iter().chain(&folders) {
            for name in names {
                let path = inside.join(name);
                match open(&folder.join(&path)) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    opened => drop(found.insert(path, opened)),
                }
            }
        }
        Ok(Files { found })
    }

    /// The files by their paths in the folder.
    pub fn into_found(self) -> HashMap<PathBuf, io::Result<File>> {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn what_was_there_can_be_read_when_it_has_gone() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("1_Module");
        fs::create_dir(&inside).unwrap();
        for (path, text) in [("a", "one"), ("b", "two"), ("1_Module/a", "three")] {
            fs::write(folder.path().join(path), text).unwrap();
        }
        fs::create_dir(inside.join("b")).unwrap();
        let files = Files::open(folder.path(), &["a", "b", "c"]).unwrap();
        drop(folder);
        let mut found = files.into_found();
        let mut text = |path: &str| {
            let mut text = String::new();
            found.remove(Path::new(path))?.unwrap().read_to_string(&mut text).unwrap();
            Some(text)
        };
        assert_eq!(text("a").as_deref(), Some("one"));
        assert_eq!(text("b").as_deref(), Some("two"));
        assert_eq!(text("1_Module/a").as_deref(), Some("three"));
        assert_eq!((text("c"), text("2_Module/a")), (None, None));
        assert_eq!(found[Path::new("1_Module/b")].as_ref().unwrap_err().to_string(), "it is not a file");
    }
}
