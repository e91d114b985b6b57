//! What the daemon cannot do without. Each is tried once before anything else is done, so that what
//! an old kernel, a container's profile or a bare folder lacks is named together with its remedy,
//! and not met later, again and again.
use ipc::board;
use nix::{
    errno::Errno,
    sys::wait::{Id, WaitPidFlag, waitid},
};
use rustix::process::{PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};
use std::{
    fs::{self, File},
    io,
    os::fd::AsFd,
};
use system::{Board, SealedMemoryError, limits};
use thiserror::Error;

/// What is missing.
#[derive(Debug, Error)]
pub(crate) enum Missing {
    /// What the kernel says of processes.
    #[error(
        "/proc is not mounted here, or not that of this namespace of processes; `mount -t proc proc /proc` mounts it"
    )]
    Proc(#[source] io::Error),
    /// It tells of others.
    #[error("/proc is that of another namespace of processes; `mount -t proc proc /proc` mounts this one's")]
    OwnProc,
    /// It is there, and cannot be read.
    #[error("cannot read /proc/self")]
    ReadProc(#[source] io::Error),
    /// The file that has nothing in it.
    #[error("cannot open /dev/null")]
    Null(#[source] io::Error),
    /// A system call that the kernel does not know, or that a filter denies.
    #[error(
        "the system call {0} is denied or not known: Linux 5.4 or newer is needed, and in a container a profile that allows the call"
    )]
    Call(&'static str, #[source] io::Error),
    /// A system call that fails for another reason.
    #[error("the system call {0} fails")]
    Failed(&'static str, #[source] io::Error),
    /// Memory for the least that a worker needs.
    #[error("no memory can be shared with workers")]
    Memory(#[source] SealedMemoryError),
    /// A limit under which no worker can be made.
    #[error(
        "the limit of file sizes is {0} bytes (ulimit -f, LimitFSIZE= of a unit), and memory that is shared with workers counts as files: \
         {needed} bytes for each worker, and more for the cache of each request",
        needed = board::SIZE
    )]
    FileSize(u64),
}

/// Looks for all of it.
pub(crate) fn check() -> Result<(), Missing> {
    let own = fs::read_link("/proc/self").map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Missing::Proc(error),
        _ => Missing::ReadProc(error),
    })?;
    if own.to_str() != Some(&std::process::id().to_string()) {
        return Err(Missing::OwnProc);
    }
    File::open("/dev/null").map_err(Missing::Null)?;
    if let Some(limit) = limits::file_size().filter(|limit| *limit < board::SIZE as u64) {
        return Err(Missing::FileSize(limit));
    }
    Board::create().map_err(|error| match error {
        SealedMemoryError::Create(error) => failed("memfd_create")(error),
        other => Missing::Memory(other),
    })?;
    let process = pidfd_open(getpid(), PidfdFlags::empty()).map_err(|error| failed("pidfd_open")(error.into()))?;
    // A signal that does nothing to a process that runs.
    pidfd_send_signal(&process, Signal::CONT).map_err(|error| failed("pidfd_send_signal")(error.into()))?;
    match waitid(Id::PIDFd(process.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
        // It is no child of its own, which is known only where the call is.
        Ok(_) | Err(Errno::ECHILD) => Ok(()),
        Err(error) => Err(failed("waitid of a pidfd")(error.into())),
    }
}

/// What to make of an error of this system call.
fn failed(call: &'static str) -> impl Fn(io::Error) -> Missing {
    move |error| match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOSYS | Errno::EPERM | Errno::EACCES | Errno::EINVAL) => Missing::Call(call, error),
        _ => Missing::Failed(call, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_missing_here() {
        assert!(check().is_ok());
    }

    #[test]
    fn a_call_that_is_not_there_is_not_one_that_fails() {
        let shown = |errno: Errno| system::foreign_text::chain(&failed("pidfd_open")(errno.into()));
        let denied = "the system call pidfd_open is denied or not known: Linux 5.4 or newer is needed, and in a container a profile that \
                      allows the call: ";
        for errno in [Errno::ENOSYS, Errno::EPERM] {
            assert_eq!(shown(errno), format!("{denied}{}", io::Error::from(errno)));
        }
        assert_eq!(shown(Errno::EMFILE), "the system call pidfd_open fails: Too many open files (os error 24)");
    }
}
