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
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use thiserror::Error;
use tokio::io::{Interest, unix::AsyncFd};

/// Why a child process cannot be held.
#[derive(Debug, Error)]
pub(crate) enum ProcessError {
    /// No process can have this pid.
    #[error("{0} is no pid")]
    NotAPid(u32),
    /// There is no such process, or no descriptor for it.
    #[error("cannot open the process (pidfd_open)")]
    Open(#[source] io::Error),
    /// It is a stranger.
    #[error("it is no child of the supervisor (waitid)")]
    Stranger(#[source] Errno),
    /// Its end cannot be waited for.
    #[error("cannot watch the process")]
    Watch(#[source] io::Error),
}

/// A child process of this one.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pid: u32,
    descriptor: Arc<AsyncFd<OwnedFd>>,
    killed: Arc<AtomicBool>,
}

impl Process {
    /// The child with this pid, which nobody may have waited for yet.
    pub(crate) fn open(pid: u32) -> Result<Process, ProcessError> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(ProcessError::NotAPid(pid))?;
        let descriptor = pidfd_open(raw, PidfdFlags::empty()).map_err(|error| ProcessError::Open(error.into()))?;
        // It fails unless the process is a child of ours.
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        waitid(Id::PIDFd(descriptor.as_fd()), flags).map_err(ProcessError::Stranger)?;
        let descriptor = crate::sys::register(descriptor, Interest::READABLE).map_err(ProcessError::Watch)?;
        Ok(Process { pid, descriptor: Arc::new(descriptor), killed: Arc::default() })
    }

    /// Its pid, for people.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends it at once. It may have ended already.
    pub(crate) fn kill(&self) {
        self.killed.store(true, Relaxed);
        self.signal(Signal::KILL);
    }

    /// Whether it was ended from here.
    pub(crate) fn was_killed(&self) -> bool {
        self.killed.load(Relaxed)
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
    /// How a process ended that nobody here has killed, in words. Nearly always it is the kernel that
    /// ends one so, for want of memory.
    pub(crate) fn unasked(self) -> String {
        match self {
            Exit::Signal(nix::sys::signal::Signal::SIGKILL) => {
                format!("{self}, most likely because the kernel had no memory left")
            }
            _ => self.to_string(),
        }
    }

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
