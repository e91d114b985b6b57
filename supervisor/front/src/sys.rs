//! The only unsafe code of this crate: what tokio cannot check.
#![expect(unsafe_code, reason = "this module exists to hold it")]

use std::{io, os::fd::OwnedFd};
use tokio::io::{Interest, unix::AsyncFd};

/// Has the runtime watch whether a descriptor can be read.
pub(crate) fn register(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by the value that is returned, which ends its registration
    // before it closes it.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?)
}
