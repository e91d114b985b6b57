//! A small disk of its own for a daemon's log, which can be filled and emptied.
use crate::{LIMIT, command, until};
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// A disk that only the daemon which was started with it has mounted.
#[derive(Debug)]
pub struct SmallDisk {
    /// Where it is mounted. To everybody else this is an empty folder.
    folder: TempDir,
    daemon: u32,
}

impl SmallDisk {
    /// One for a daemon; `Err` says why this machine cannot have it. It takes the right to mount.
    pub fn new() -> Result<SmallDisk, String> {
        let tried = command("unshare").args(["--mount", "true"]).output();
        match tried {
            Ok(output) if output.status.success() => {
                let folder = tempfile::tempdir().map_err(|error| format!("cannot make a folder: {error}"))?;
                Ok(SmallDisk { folder, daemon: 0 })
            }
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(format!("cannot run unshare: {error}")),
        }
    }

    /// Has a command start in a mount namespace of its own, with the disk and with its standard
    /// error output on it.
    pub(crate) fn wrap(&self, inner: &Command) -> Command {
        const MOUNT_AND_RUN: &str = "mount -t tmpfs -o size=32m tmpfs \"$0\" && exec \"$@\" 2> \"$0/log\"";
        let mut wrapped = command("unshare");
        wrapped.args(["--mount", "sh", "-c", MOUNT_AND_RUN]).arg(self.folder.path());
        wrapped.arg(inner.get_program()).args(inner.get_args());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => wrapped.env(name, value),
                None => wrapped.env_remove(name),
            };
        }
        wrapped
    }

    /// Notes whose disk it is, and opens the log on it.
    pub(crate) fn open_log(&mut self, daemon: u32) -> File {
        self.daemon = daemon;
        let mut log = None;
        until("the daemon has its disk", LIMIT, || {
            log = File::open(self.path("log")).ok();
            log.is_some()
        });
        log.unwrap_or_else(|| panic!("there is no log"))
    }

    /// Fills it to the last byte.
    pub fn fill(&self) -> io::Result<()> {
        let mut file = File::create(self.path("filler"))?;
        let block = vec![0; 1 << 20];
        loop {
            match file.write_all(&block) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives back what [`SmallDisk::fill`] took.
    pub fn empty(&self) -> io::Result<()> {
        fs::remove_file(self.path("filler"))
    }

    /// A file on it, as it is seen from here.
    fn path(&self, name: &str) -> PathBuf {
        let root = format!("/proc/{}/root", self.daemon);
        let inside = self.folder.path().strip_prefix("/").unwrap_or(self.folder.path());
        Path::new(&root).join(inside).join(name)
    }
}
