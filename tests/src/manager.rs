//! A service manager such as systemd, as a daemon sees it: it listens to what it is told, watches,
//! and hands sockets over.
use crate::{LIMIT, command};
use std::{
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A service manager. It can start any number of daemons, one after the other.
#[derive(Debug)]
pub struct Manager {
    folder: TempDir,
    notifications: UnixDatagram,
    patience: Option<Duration>,
    handed_over: Vec<(String, OwnedFd)>,
}

impl Manager {
    /// One that hands nothing over and does not watch.
    #[track_caller]
    pub fn new() -> Manager {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("cannot make a folder: {error}"));
        let notifications = UnixDatagram::bind(folder.path().join("notify"))
            .unwrap_or_else(|error| panic!("cannot listen to notifications: {error}"));
        Manager { folder, notifications, patience: None, handed_over: Vec::new() }
    }

    /// Counts a daemon as dead that says nothing for so long, or so it tells it.
    #[must_use]
    pub fn watching(mut self, patience: Duration) -> Manager {
        self.patience = Some(patience);
        self
    }

    /// Hands this descriptor over, under this name. There are at most two.
    #[must_use]
    pub fn handing_over(mut self, name: &str, descriptor: impl Into<OwnedFd>) -> Manager {
        assert!(self.handed_over.len() < 2, "the wrapper knows two");
        self.handed_over.push((name.to_owned(), descriptor.into()));
        self
    }

    /// Where something of its own can be put.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder of all of it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The command with what this manager adds to it: its environment and, from 3 on, the
    /// descriptors. Its pid is that of what was commanded. What comes out of it goes nowhere, but
    /// for the complaints.
    pub fn wrap(&self, inner: &Command) -> Command {
        // The standard library gives a child no descriptors but the first three.
        let script = "exec 3<&0 4>&1 </dev/null >/dev/null; export LISTEN_PID=$$; exec \"$0\" \"$@\"";
        let mut wrapped = command("sh");
        wrapped.args(["-c", script]).arg(inner.get_program()).args(inner.get_args());
        for (key, value) in inner.get_envs() {
            match value {
                Some(value) => wrapped.env(key, value),
                None => wrapped.env_remove(key),
            };
        }
        wrapped.env("NOTIFY_SOCKET", self.path("notify"));
        if let Some(patience) = self.patience {
            wrapped.env("WATCHDOG_USEC", patience.as_micros().to_string());
        }
        let names: Vec<&str> = self.handed_over.iter().map(|(name, _)| name.as_str()).collect();
        if !names.is_empty() {
            wrapped.env("LISTEN_FDS", names.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        }
        let stdio = |at: usize| {
            let descriptor = self.handed_over.get(at).map(|(_, descriptor)| descriptor.try_clone());
            descriptor.map_or_else(Stdio::null, |copy| {
                copy.unwrap_or_else(|error| panic!("cannot copy a descriptor: {error}")).into()
            })
        };
        wrapped.stdin(stdio(0)).stdout(stdio(1));
        wrapped
    }

    /// Waits for the next message.
    #[track_caller]
    pub fn next(&self) -> String {
        self.next_within(LIMIT).unwrap_or_else(|| panic!("waited {LIMIT:?} in vain for a notification"))
    }

    /// Waits until a message has this line, and returns all messages up to it.
    #[track_caller]
    pub fn until(&self, line: &str) -> Vec<String> {
        let mut heard = Vec::new();
        let began = Instant::now();
        loop {
            let left = LIMIT.saturating_sub(began.elapsed()).max(Duration::from_millis(1));
            let Some(message) = self.next_within(left) else {
                panic!("waited {LIMIT:?} in vain for {line:?}, and heard {heard:?}");
            };
            let is_it = message.lines().any(|other| other == line);
            heard.push(message);
            if is_it {
                return heard;
            }
            assert!(began.elapsed() < LIMIT, "waited {LIMIT:?} in vain for {line:?}, and heard {heard:?}");
        }
    }

    /// All messages that have come and were not read yet.
    pub fn rest(&self) -> Vec<String> {
        std::iter::from_fn(|| self.next_within(Duration::from_millis(1))).collect()
    }

    fn next_within(&self, limit: Duration) -> Option<String> {
        let mut buffer = [0; 4096];
        self.notifications
            .set_read_timeout(Some(limit))
            .unwrap_or_else(|error| panic!("cannot set a timeout: {error}"));
        let size = self.notifications.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..size]).into_owned())
    }
}

impl Default for Manager {
    fn default() -> Manager {
        Manager::new()
    }
}
