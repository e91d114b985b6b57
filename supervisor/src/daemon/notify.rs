//! What the service manager is told, and what it wants to be told: systemd's notification protocol
//! (sd_notify(3)).
//!
//! Owns the notification socket, and remembers what has been said so that nothing is said twice. It
//! does not decide what is true. Without a service manager nothing is said.
use sd_notify::NotifyState;
use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

/// The way to the service manager.
#[derive(Debug)]
pub(crate) struct Notify {
    manager: Option<(UnixDatagram, SocketAddr)>,
    /// How long it may hear nothing from this process, if it minds.
    patience: Option<Duration>,
    is_ready: bool,
    is_stopping: bool,
    status: String,
}

impl Notify {
    /// To whoever started this process, if it wants to be told anything.
    pub(crate) fn from_environment() -> Notify {
        let patience = sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero());
        Notify::to(env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()), patience)
    }

    fn to(name: Option<OsString>, patience: Option<Duration>) -> Notify {
        let manager = name.and_then(|name| match open(&name) {
            Ok(manager) => Some(manager),
            Err(error) => {
                tracing::warn!("the service manager at {name:?} cannot be told anything: {error}");
                None
            }
        });
        let patience = patience.filter(|_| manager.is_some());
        Notify { manager, patience, is_ready: false, is_stopping: false, status: String::new() }
    }

    /// How often [`Notify::watchdog`] must be called, if it must: three times in the time after
    /// which the daemon counts as dead.
    pub(crate) fn watchdog_interval(&self) -> Option<Duration> {
        self.patience.map(|patience| (patience / 3).max(Duration::from_millis(1)))
    }

    /// Whether it has been said that the daemon serves.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// The daemon serves.
    pub(crate) fn ready(&mut self) {
        self.is_ready = self.is_ready || self.say(&[NotifyState::Ready]);
    }

    /// The daemon reads its configuration again, until [`Notify::ready`].
    pub(crate) fn reloading(&mut self) {
        self.is_ready = false;
        // Whoever pairs it with the `READY=1` that follows needs to know when it was said.
        let now = NotifyState::monotonic_usec_now();
        self.say(&[Some(NotifyState::Reloading), now.ok()].into_iter().flatten().collect::<Vec<_>>());
    }

    /// The daemon ends.
    pub(crate) fn stopping(&mut self) {
        self.is_stopping = self.is_stopping || self.say(&[NotifyState::Stopping]);
    }

    /// What the daemon does, for people, in one line.
    pub(crate) fn status(&mut self, line: String) {
        if self.status != line && self.say(&[NotifyState::Status(&line)]) {
            self.status = line;
        }
    }

    /// Starting or ending may take this much longer from now.
    pub(crate) fn extend(&self, by: Duration) {
        self.say(&[NotifyState::ExtendTimeoutUsec(by.as_micros().try_into().unwrap_or(u32::MAX))]);
    }

    /// The daemon lives.
    pub(crate) fn watchdog(&self) {
        self.say(&[NotifyState::Watchdog]);
    }

    /// Says something, and never waits. What could not be said is `false`; whoever has to say it
    /// says it again.
    fn say(&self, what: &[NotifyState<'_>]) -> bool {
        // Nobody minds what is said if nobody listens.
        let Some((socket, address)) = &self.manager else { return true };
        let message: String = what.iter().map(|state| format!("{state}\n")).collect();
        let said = socket.send_to_addr(message.as_bytes(), address);
        if let Err(error) = &said {
            tracing::debug!("the service manager does not listen: {error}");
        }
        said.is_ok()
    }
}

/// A socket, and the address of the one that is bound under this name: a path, or after an `@` a
/// name that is no file's.
fn open(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// A service manager, and the way to it.
    fn manager(patience: Option<Duration>) -> (TempDir, UnixDatagram, Notify) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        (folder, manager, Notify::to(Some(path.into()), patience))
    }

    /// All that has been said.
    fn heard(manager: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 4096];
        std::iter::from_fn(|| {
            manager.recv(&mut buffer).ok().map(|size| String::from_utf8_lossy(&buffer[..size]).into())
        })
        .collect()
    }

    #[test]
    fn everything_is_said_once() {
        let (_folder, manager, mut notify) = manager(None);
        for _ in 0..2 {
            notify.ready();
            notify.status("1 model".to_owned());
            notify.stopping();
        }
        assert!(notify.is_ready());
        assert_eq!(heard(&manager), ["READY=1\n", "STATUS=1 model\n", "STOPPING=1\n"]);
        notify.status("2 models".to_owned());
        notify.extend(Duration::from_secs(7));
        notify.extend(Duration::MAX);
        notify.watchdog();
        let extended = ["EXTEND_TIMEOUT_USEC=7000000\n", "EXTEND_TIMEOUT_USEC=4294967295\n"];
        assert_eq!(heard(&manager), ["STATUS=2 models\n", extended[0], extended[1], "WATCHDOG=1\n"]);
    }

    #[test]
    fn what_could_not_be_said_is_said_again() {
        let (_folder, manager, mut notify) = manager(None);
        // Nobody reads, and nobody waits for that.
        while notify.say(&[NotifyState::Watchdog]) {}
        notify.ready();
        assert!(!notify.is_ready());
        heard(&manager);
        notify.ready();
        assert!(notify.is_ready());
        assert_eq!(heard(&manager), ["READY=1\n"]);
    }

    #[test]
    fn a_manager_may_have_a_name_that_is_no_files() {
        let name = format!("supervisor-test-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        manager.set_nonblocking(true).unwrap();
        Notify::to(Some(format!("@{name}").into()), None).watchdog();
        assert_eq!(heard(&manager), ["WATCHDOG=1\n"]);
    }

    #[test]
    fn nobody_has_to_be_told() {
        let long = "/".repeat(200);
        for name in [None, Some(OsString::from(long))] {
            let mut notify = Notify::to(name, Some(Duration::from_secs(1)));
            notify.ready();
            assert!(notify.is_ready());
            assert_eq!(notify.watchdog_interval(), None);
        }
    }

    #[test]
    fn the_watchdog_is_fed_three_times_as_often_as_it_must_be() {
        let (_folder, _manager, notify) = manager(Some(Duration::from_secs(30)));
        assert_eq!(notify.watchdog_interval(), Some(Duration::from_secs(10)));
        let notify = Notify { patience: Some(Duration::from_micros(1)), ..notify };
        assert_eq!(notify.watchdog_interval(), Some(Duration::from_millis(1)));
    }
}
