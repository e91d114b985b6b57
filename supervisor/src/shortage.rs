//! What this process cannot have now: descriptors, memory, threads, processes. Whose fault it is,
//! and which limit it is that was reached.
use nix::errno::Errno;
use std::{error::Error, io};
use system::limits::TASKS;
use thiserror::Error;

/// Why a thread cannot be had.
#[derive(Debug, Error)]
pub(crate) enum ThreadError {
    /// There are as many as there may be.
    #[error(
        "cannot start a thread {0}: no more processes or threads are allowed ({TASKS}), or there is no memory for one (ulimit -v)"
    )]
    Exhausted(&'static str, #[source] io::Error),
    /// A profile of a container that is older than the C library.
    #[error(
        "cannot start a thread {0}: a filter of system calls denies clone3 or clone; a container needs a profile that allows them, or \
         that says of clone3 that it is not known (ENOSYS)"
    )]
    Denied(&'static str, #[source] io::Error),
    /// The system refuses it for another reason.
    #[error("cannot start a thread {0}")]
    Refused(&'static str, #[source] io::Error),
}

impl ThreadError {
    /// Why the thread for this purpose could not be started.
    pub(crate) fn new(purpose: &'static str, error: io::Error) -> ThreadError {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => ThreadError::Exhausted(purpose, error),
            io::ErrorKind::PermissionDenied => ThreadError::Denied(purpose, error),
            _ => ThreadError::Refused(purpose, error),
        }
    }
}

/// An error and its causes, with the limit that was reached if it is one of descriptors.
pub(crate) fn chain_with_limit(error: &(dyn Error + 'static)) -> String {
    let limit = match errno(error) {
        Some(Errno::EMFILE) => " (ulimit -n, LimitNOFILE= of a unit)",
        Some(Errno::ENFILE) => " (the sysctl fs.file-max)",
        _ => "",
    };
    system::foreign_text::chain(error) + limit
}

/// Whether it is this process that lacks something, like descriptors, and not the one that
/// something was to be done with.
pub(crate) fn is_shortage(error: &(dyn Error + 'static)) -> bool {
    const SHORTAGES: [Errno; 5] = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOBUFS, Errno::ETOOMANYREFS];
    errno(error).is_some_and(|number| SHORTAGES.contains(&number))
}

/// What the kernel said, if an error or one of its causes is the kernel's.
fn errno(error: &(dyn Error + 'static)) -> Option<Errno> {
    let number = |error: &(dyn Error + 'static)| {
        let of_kernel = error.downcast_ref::<Errno>().copied();
        of_kernel.or_else(|| error.downcast_ref::<io::Error>()?.raw_os_error().map(Errno::from_raw))
    };
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(number) = number(cause) {
            return Some(number);
        }
        next = cause.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exhausted_is_named() {
        let shown = |errno: Errno| system::foreign_text::chain(&ThreadError::new("for a test", errno.into()));
        let exhausted = shown(Errno::EAGAIN);
        let begin = "cannot start a thread for a test: no more processes or threads are allowed (ulimit -u, TasksMax= of a unit, ";
        assert!(exhausted.starts_with(begin) && exhausted.ends_with("(os error 11)"), "{exhausted}");
        assert!(
            shown(Errno::EPERM)
                .starts_with("cannot start a thread for a test: a filter of system calls denies clone3 ")
        );
        assert_eq!(shown(Errno::EINVAL), "cannot start a thread for a test: Invalid argument (os error 22)");
    }

    #[test]
    fn a_shortage_is_one_however_it_is_told() {
        #[derive(Debug, Error)]
        #[error("outer")]
        struct Outer(#[source] io::Error);
        assert!(is_shortage(&Errno::EMFILE) && is_shortage(&io::Error::from(Errno::ENFILE)));
        assert!(is_shortage(&Outer(Errno::ENOMEM.into())));
        let limit = "outer: Too many open files (os error 24) (ulimit -n, LimitNOFILE= of a unit)";
        assert_eq!(chain_with_limit(&Outer(Errno::EMFILE.into())), limit);
        assert!(!is_shortage(&Errno::ESRCH) && !is_shortage(&Outer(io::ErrorKind::NotFound.into())));
    }
}
