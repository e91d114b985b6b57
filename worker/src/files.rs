//! The files that a model is read from, opened before a byte of them is read: whoever reads them may open nothing any more.
//!
//! Nothing in a file decides what is opened. It reads nothing itself.
use nix::fcntl::OFlag;
use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Most folders in a folder that files are looked for in.
const MOST_FOLDERS: usize = 16;

/// Opens a file, but nothing else that a path can name: to open a pipe would wait for its other end, and to open a device may do
/// something.
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

/// The files of some names that a folder has, and that the folders in it have.
#[derive(Debug)]
pub(crate) struct Files {
    found: HashMap<PathBuf, io::Result<File>>,
}

impl Files {
    /// Opens them. One that cannot be opened is an error only for who asks for it.
    pub(crate) fn open(folder: &Path, names: &[&str]) -> io::Result<Files> {
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

    /// The file at a path in the folder, if it has one there.
    pub(crate) fn get(&self, path: &Path) -> io::Result<Option<&File>> {
        match self.found.get(path) {
            None => Ok(None),
            Some(Ok(file)) => Ok(Some(file)),
            Some(Err(error)) => Err(io::Error::new(error.kind(), error.to_string())),
        }
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
        let text = |path: &str| {
            let mut text = String::new();
            files.get(Path::new(path)).unwrap().map(|mut file| file.read_to_string(&mut text).unwrap())?;
            Some(text)
        };
        assert_eq!(text("a").as_deref(), Some("one"));
        assert_eq!(text("b").as_deref(), Some("two"));
        assert_eq!(text("1_Module/a").as_deref(), Some("three"));
        assert_eq!((text("c"), text("2_Module/a")), (None, None));
        assert_eq!(files.get(Path::new("1_Module/b")).unwrap_err().to_string(), "it is not a file");
    }
}
