//! Child processes, named by pidfd: a pid can be reused, a descriptor cannot.
//!
//! Only the process that a [`Process`] names is ever waited for or signalled; nothing here waits
//! for "any child".
use nix::{
    errno::Errno,
    sys::wait::{Id, WaitPidFlag, WaitStatus, waitid},
};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::{
    fmt, io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};
use tokio::io::{Interest, unix::AsyncFd};

/// A child process of this one.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pid: u32,
    descriptor: Arc<AsyncFd<OwnedFd>>,
}

impl Process {
    /// The child with this pid, which nobody may have waited for yet.
    pub(crate) fn open(pid: u32) -> io::Result<Process> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        let descriptor = pidfd_open(raw, PidfdFlags::empty())?;
        // It fails unless the process is a child of ours.
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        waitid(Id::PIDFd(descriptor.as_fd()), flags)?;
        let descriptor = Arc::new(crate::sys::register(descriptor, Interest::READABLE)?);
        Ok(Process { pid, descriptor })
    }

    /// Its pid, for people.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends it at once. It may have ended already.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Asks it to end. It may have ended already.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    fn signal(&self, signal: Signal) {
        // The only way to fail is that it has ended.
        let _ended = pidfd_send_signal(self.descriptor.get_ref(), signal);
    }

    /// Waits for its end and takes its exit status. To be called once.
    pub(crate) async fn exit(&self) -> Exit {
        loop {
            let Ok(mut ready) = self.descriptor.readable().await else { return Exit::Unknown };
            match waitid(Id::PIDFd(self.descriptor.get_ref().as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
                Ok(WaitStatus::Exited(_, code)) => return Exit::Code(code),
                Ok(WaitStatus::Signaled(_, signal, _)) => return Exit::Signal(signal),
                Ok(_) => ready.clear_ready(),
                Err(_) => return Exit::Unknown,
            }
        }
    }

    /// Waits for its end and for the end of `hear`, which takes in what it says. When it has ended,
    /// `hear` has `last_words` left: a process that it had forked may still hold its socket, so
    /// that no end of file comes.
    pub(crate) async fn exit_once_heard(&self, hear: impl Future<Output = ()>, last_words: Duration) -> Exit {
        tokio::pin!(hear);
        tokio::select! {
            biased;
            () = &mut hear => self.exit().await,
            exit = self.exit() => {
                let _silenced = tokio::time::timeout(last_words, hear).await;
                exit
            }
        }
    }
}

/// Whether it is this process that lacks something, like descriptors, and not the one that
/// something was to be done with.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    const SHORTAGES: [Errno; 5] = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOBUFS, Errno::ETOOMANYREFS];
    error.raw_os_error().is_some_and(|number| SHORTAGES.contains(&Errno::from_raw(number)))
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It exited with this status.
    Code(i32),
    /// A signal ended it.
    Signal(nix::sys::signal::Signal),
    /// It ended, and nobody knows how.
    Unknown,
}

impl Exit {
    /// Whether it exited with status 0.
    pub(crate) fn is_clean(self) -> bool {
        self == Exit::Code(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(system::PANICKED) => write!(f, "exit status {} (a panic)", system::PANICKED),
            Exit::Code(system::CANNOT_CONFINE) => {
                write!(f, "exit status {} (it could not be confined)", system::CANNOT_CONFINE)
            }
            Exit::Code(code) => write!(f, "exit status {code}"),
            Exit::Signal(signal) => write!(f, "signal {} ({signal})", *signal as i32),
            Exit::Unknown => f.write_str("an unknown cause"),
        }
    }
}
