//! What a worker can see of the cache that comes with a request.
use nix::{
    cmsg_space,
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::socket::{ControlMessageOwned, MsgFlags, recvmsg},
    unistd::close,
};
use std::{
    fs::File,
    io::{self, IoSliceMut, Write},
    os::{
        fd::{AsRawFd, RawFd},
        unix::{
            fs::{FileExt, MetadataExt},
            net::UnixStream,
        },
    },
    path::Path,
};

/// Waits for the next message and notes the descriptors that come with it in a file named `caches`:
/// a line for each with its inode, its size, how often a worker has had it before, and whether it
/// is sealed. The message itself stays to be read.
pub(crate) fn note(stream: &UnixStream, folder: &Path) -> io::Result<()> {
    let mut space = cmsg_space!([RawFd; 4]);
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let mut lines = String::new();
    for control in message.cmsgs()? {
        let ControlMessageOwned::ScmRights(descriptors) = control else { continue };
        for descriptor in descriptors {
            lines.push_str(&describe(descriptor)?);
            // Peeking has made a copy.
            close(descriptor)?;
        }
    }
    if lines.is_empty() {
        return Ok(());
    }
    File::options().append(true).create(true).open(folder.join("caches"))?.write_all(lines.as_bytes())
}

fn describe(descriptor: RawFd) -> io::Result<String> {
    let file = File::options().read(true).write(true).open(format!("/proc/self/fd/{descriptor}"))?;
    let (inode, size) = (file.metadata()?.ino(), file.metadata()?.size());
    let mut before = [0];
    file.read_exact_at(&mut before, size - 1)?;
    file.write_all_at(&[before[0] + 1], size - 1)?;
    let seals = SealFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GET_SEALS)?);
    let sealed = seals.contains(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL);
    Ok(format!("{inode} {size} {} {sealed}\n", before[0]))
}
