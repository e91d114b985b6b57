//! The only unsafe code of this crate: what tokio and the standard library cannot check.
#![expect(unsafe_code, reason = "this module exists to hold it")]

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};
use tokio::io::{Interest, unix::AsyncFd};

/// Has the runtime watch a descriptor, which must be one that can be polled.
pub(crate) fn register(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by the value that is returned, which ends its registration
    // before it closes it.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}

/// Marks every descriptor from 3 on as not to be inherited: whatever this process was started with
/// is not its children's to have.
pub(crate) fn keep_descriptors() -> io::Result<()> {
    let flags = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: nothing is closed now; what is closed when a child executes a program is the child's
    // copy.
    match unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, flags) } {
        0 => Ok(()),
        // Linux before 5.11 does not know the flag, before 5.9 it does not know the call, and
        // profiles of containers that are as old do not allow it.
        _ => keep_each(),
    }
}

/// The same, one after the other.
fn keep_each() -> io::Result<()> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse::<libc::c_int>().ok());
        let Some(descriptor) = number.filter(|number| *number > libc::STDERR_FILENO) else { continue };
        // SAFETY: nothing is closed now; what is closed when a child executes a program is the
        // child's copy.
        if unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// What the service manager has opened for this process (sd_listen_fds(3)), with the names that it
/// has given. A second call finds nothing.
///
/// To be called before anything else is opened: what is announced and was not handed over must not
/// be something of ours.
pub(crate) fn handed_over() -> io::Result<Vec<(String, OwnedFd)>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Relaxed) {
        return Ok(Vec::new());
    }
    if sd_notify::listen_fds()?.len() == 0 {
        // There may be names all the same, for another process that had this environment before.
        return Ok(Vec::new());
    }
    let descriptors = sd_notify::listen_fds_with_names()?;
    // SAFETY: the descriptors are open, which was looked at; they came with this process, and
    // nothing else in it knows of them.
    Ok(descriptors.map(|(raw, name)| (name, unsafe { OwnedFd::from_raw_fd(raw) })).collect())
}

/// The groups that the process at the other end of a unix socket had when it connected, besides its
/// own.
pub(crate) fn peer_groups(socket: impl AsFd) -> io::Result<Vec<libc::gid_t>> {
    const GROUP: usize = size_of::<libc::gid_t>();
    let mut groups: Vec<libc::gid_t> = vec![0; 32];
    loop {
        let room = groups.len() * GROUP;
        let mut size = libc::socklen_t::try_from(room).map_err(io::Error::other)?;
        let (level, option) = (libc::SOL_SOCKET, libc::SO_PEERGROUPS);
        let socket = socket.as_fd().as_raw_fd();
        // SAFETY: `size` bytes can be written to `groups`, and any bytes are group ids.
        let result = unsafe { libc::getsockopt(socket, level, option, groups.as_mut_ptr().cast(), &raw mut size) };
        let error = io::Error::last_os_error();
        let needed = size as usize;
        if result == 0 {
            groups.truncate(needed / GROUP);
            return Ok(groups);
        }
        // The kernel says how much room it wants, which does not change any more.
        if error.raw_os_error() != Some(libc::ERANGE) || needed <= room {
            return Err(error);
        }
        groups.resize(needed / GROUP, 0);
    }
}
