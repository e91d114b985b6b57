//! The only unsafe code of this crate: what tokio cannot check.
#![expect(unsafe_code, reason = "this module exists to hold it")]

use std::{io, os::fd::OwnedFd};
use tokio::io::{Interest, unix::AsyncFd};

/// Has the runtime watch a descriptor, which must be one that can be polled.
pub(crate) fn watch(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by the value that is returned, which ends its registration before it closes it.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}

/// Marks every descriptor from 3 on as not to be inherited: whatever this process was started with is not its children's to have.
pub(crate) fn keep_descriptors() -> io::Result<()> {
    let flags = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: nothing is closed now; what is closed when a child executes a program is the child's copy.
    match unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
