//! systemd's journal: whether stderr ends there, and its socket.
//!
//! The crates that log to it send in the thread that logs, which would wait for a journal that
//! hangs.
use std::{
    ffi::OsStr,
    io,
    os::{fd::AsFd, unix::net::UnixDatagram},
    path::{Path, PathBuf},
};

/// Whether this process's stderr is the stream that the value of `JOURNAL_STREAM` names: a device
/// and an inode.
pub(super) fn is_stderr(stream: Option<&OsStr>) -> bool {
    let named = stream.and_then(|stream| stream.to_str()?.split_once(':'));
    let Some((device, inode)) = named.and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)))
    else {
        return false;
    };
    let found = nix::sys::stat::fstat(io::stderr().as_fd());
    found.is_ok_and(|found| (found.st_dev, found.st_ino) == (device, inode))
}

/// A way to the journal.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    socket: UnixDatagram,
}

impl Journal {
    pub(super) fn new(path: &Path) -> io::Result<Journal> {
        Ok(Journal { path: path.to_owned(), socket: UnixDatagram::unbound()? })
    }

    /// Sends one record. It is addressed each time: the journal may have been restarted.
    pub(super) fn send(&self, record: &[u8]) -> io::Result<()> {
        self.socket.send_to(record, &self.path).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn only_the_stream_itself_is_the_journals() {
        let own = std::fs::metadata("/proc/self/fd/2").expect("stderr");
        let is_it = |named: String| is_stderr(Some(OsStr::new(&named)));
        assert!(is_it(format!("{}:{}", own.dev(), own.ino())));
        assert!(!is_it(format!("{}:{}", own.dev(), own.ino() + 1)));
        for wrong in ["", ":", "1", "1:", "a:b", "1:2:3", "-1:-1"] {
            assert!(!is_it(wrong.to_owned()), "{wrong:?}");
        }
        assert!(!is_stderr(None));
    }
}
