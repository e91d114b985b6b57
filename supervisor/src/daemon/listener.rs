//! The client socket: who owns it, who may use it.
//!
//! An flock on `<socket>.lock`, held for life, decides who owns the socket; only its holder unlinks
//! and binds. So a stale socket file is replaced and a live one never is, also if whoever listens
//! there knows nothing of the lock. A socket that was handed over is somebody else's: it is
//! listened on, and its file is left alone.
use super::activation::Adopted;
use interprocess::{
    local_socket::{
        GenericFilePath, ListenerOptions, ToFsName,
        tokio::{Listener, Stream},
        traits::tokio::Listener as _,
    },
    os::unix::{local_socket::ListenerOptionsExt, uds_local_socket},
};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, Shutdown, SockFlag, SockType, UnixAddr, UnixCredentials, connect, getsockopt, shutdown, socket,
        sockopt,
    },
    unistd::Uid,
};
use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt},
        unix::net::UnixListener,
    },
    path::{Path, PathBuf},
    process,
};
use thiserror::Error;

/// The mode of the socket file: its owner and its group may connect.
const MODE: u32 = 0o660;

/// Why the socket cannot be served.
#[derive(Debug, Error)]
pub(crate) enum ListenError {
    /// The folder of the socket cannot be made.
    #[error("cannot make the folder of the socket {0}")]
    Folder(PathBuf, #[source] io::Error),
    /// The lock file cannot be used.
    #[error("cannot use the lock file {0}")]
    Lock(PathBuf, #[source] io::Error),
    /// Another daemon lives there.
    #[error("another daemon{0} already serves {1}; stop it first or choose another --socket")]
    Taken(String, PathBuf),
    /// Somebody who takes no part in locking lives there.
    #[error(
        "something listens on {0} already, a socket unit of systemd maybe; stop it first or choose another --socket"
    )]
    InUse(PathBuf),
    /// What is there is no socket.
    #[error("{0} is there already and is no socket")]
    NotASocket(PathBuf),
    /// The socket cannot be bound.
    #[error("cannot listen on {0}")]
    Bind(PathBuf, #[source] io::Error),
    /// The file of a socket that was handed over is not there.
    #[error("there is no {0}, and only who has bound the socket can make it; restart its socket unit")]
    Gone(PathBuf),
}

/// The client socket and the right to it.
#[derive(Debug)]
pub(crate) struct ClientSocket {
    path: PathBuf,
    listener: Listener,
    group: u32,
    allowed: Vec<u32>,
    hold: Hold,
}

/// Whose the socket file is.
#[derive(Debug)]
enum Hold {
    /// Ours, for as long as the lock is.
    Bound {
        /// Its device and inode.
        identity: (u64, u64),
        lock: Flock<File>,
    },
    /// Whoever has bound it looks after it.
    Adopted {
        /// Whether it was there when it was last looked for.
        is_there: bool,
    },
}

impl ClientSocket {
    /// Takes the socket at `path`; besides the daemon's own user, root and the socket's group only
    /// `allowed` may use it, and if `allowed` is not empty, the group may not.
    pub(crate) fn take(path: &Path, allowed: Vec<u32>) -> Result<ClientSocket, ListenError> {
        make_folder(path)?;
        let lock = lock(path)?;
        // Whoever held the lock before and was killed may take a moment to let the socket go, too.
        const MOMENT: u16 = 500;
        make_way(path, PollTimeout::from(MOMENT))?;
        let (listener, identity, group) = bind(path)?;
        Ok(ClientSocket { path: path.to_owned(), listener, group, allowed, hold: Hold::Bound { identity, lock } })
    }

    /// Takes over a socket that is listened on already. Whoever has bound it has decided by its
    /// file's group and mode who may use it, and may have made it for the next daemon too, so
    /// nothing of it is changed.
    pub(crate) fn adopt(adopted: Adopted, allowed: Vec<u32>) -> Result<ClientSocket, ListenError> {
        let Adopted { listener, path } = adopted;
        let Ok(file) = fs::symlink_metadata(&path) else { return Err(ListenError::Gone(path)) };
        let listener = uds_local_socket::tokio::Listener::try_from(uds_local_socket::Listener::from(listener));
        let listener = listener.map_err(|error| ListenError::Bind(path.clone(), error))?.into();
        Ok(ClientSocket { path, listener, group: file.gid(), allowed, hold: Hold::Adopted { is_there: true } })
    }

    /// Where its file is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for the next client that may use the socket; `Err` holds one that may not.
    pub(crate) async fn accept(&self) -> io::Result<Result<Stream, Stream>> {
        let stream = self.listener.accept().await?;
        Ok(if self.admits(&stream) { Ok(stream) } else { Err(stream) })
    }

    /// Who else may use it from now on.
    pub(crate) fn allow(&mut self, allowed: Vec<u32>) {
        self.allowed = allowed;
    }

    /// Lets nobody connect any more, and returns those who had connected and have not been
    /// accepted; `Err` holds one that may not use the socket.
    ///
    /// One that was handed over is left alone: whoever connects there waits for who is started
    /// next.
    pub(crate) fn close(&self) -> io::Result<Vec<Result<Stream, Stream>>> {
        let Hold::Bound { identity: bound, .. } = &self.hold else { return Ok(Vec::new()) };
        if identity(&self.path) == Some(*bound) {
            // Who finds no file need not be refused.
            let _refused_instead = fs::remove_file(&self.path);
        }
        let Listener::UdSocket(listener) = &self.listener;
        shutdown(listener.as_fd().as_raw_fd(), Shutdown::Read)?;
        // The runtime would wait for ever for more; the system says when there are none.
        let listener = UnixListener::from(listener.as_fd().try_clone_to_owned()?);
        listener.set_nonblocking(true)?;
        let mut waiting = Vec::new();
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true)?;
            let stream = Stream::from(uds_local_socket::tokio::Stream::try_from(OwnedFd::from(stream))?);
            waiting.push(if self.admits(&stream) { Ok(stream) } else { Err(stream) });
        }
        Ok(waiting)
    }

    fn admits(&self, stream: &Stream) -> bool {
        if is_operator(stream) {
            return true;
        }
        let Some(peer) = credentials(stream) else { return false };
        if self.allowed.contains(&peer.uid()) {
            return true;
        }
        let Stream::UdSocket(socket) = stream;
        let in_others = || crate::sys::peer_groups(socket).is_ok_and(|groups| groups.contains(&self.group));
        let in_group = || peer.gid() == self.group || in_others();
        self.allowed.is_empty() && in_group()
    }

    /// Binds again if somebody has deleted the socket file. Says whether it had to. That the file
    /// of a socket is gone which was handed over is an error, once.
    pub(crate) fn heal(&mut self) -> Result<bool, ListenError> {
        let found = identity(&self.path);
        let (old, lock_held) = match &mut self.hold {
            Hold::Bound { identity, lock } => (identity, lock),
            Hold::Adopted { is_there } => {
                let was_there = std::mem::replace(is_there, found.is_some());
                let has_gone = was_there && found.is_none();
                return if has_gone { Err(ListenError::Gone(self.path.clone())) } else { Ok(false) };
            }
        };
        if found == Some(*old) {
            return Ok(false);
        }
        // Who has deleted the socket may have deleted the lock too, and somebody else may hold a
        // new one.
        let held = lock_held.metadata().map_err(|error| ListenError::Lock(lock_path(&self.path), error))?;
        if identity(&lock_path(&self.path)) != Some((held.dev(), held.ino())) {
            make_folder(&self.path)?;
            *lock_held = lock(&self.path)?;
        }
        make_way(&self.path, PollTimeout::ZERO)?;
        (self.listener, *old, self.group) = bind(&self.path)?;
        Ok(true)
    }
}

impl Drop for ClientSocket {
    fn drop(&mut self) {
        match self.hold {
            Hold::Bound { identity: ours, .. } if identity(&self.path) == Some(ours) => {
                // Nobody is left to be told.
                let _left_behind = fs::remove_file(&self.path);
            }
            Hold::Bound { .. } | Hold::Adopted { .. } => {}
        }
    }
}

/// Whether a client may change what the daemon does: root and the daemon's own user may.
pub(crate) fn is_operator(stream: &Stream) -> bool {
    credentials(stream).is_some_and(|peer| peer.uid() == 0 || peer.uid() == Uid::effective().as_raw())
}

/// Who has connected. The pid is 0 where the client's process cannot be seen from here, as that of
/// a client outside of the daemon's container; who it is, is known all the same.
fn credentials(stream: &Stream) -> Option<UnixCredentials> {
    let Stream::UdSocket(socket) = stream;
    getsockopt(socket, sockopt::PeerCredentials).ok()
}

/// Device and inode of what lies at `path`.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

fn make_folder(socket: &Path) -> Result<(), ListenError> {
    let folder = socket.parent().map_or(Ok(()), fs::create_dir_all);
    folder.map_err(|error| ListenError::Folder(socket.to_owned(), error))
}

fn lock_path(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

fn lock(socket: &Path) -> Result<Flock<File>, ListenError> {
    let path = lock_path(socket);
    let failed = |error| ListenError::Lock(path.clone(), error);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    let mut holder = String::new();
    // Who holds it is for the message only.
    let _unreadable = (&file).take(20).read_to_string(&mut holder);
    let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err((_, nix::Error::EWOULDBLOCK)) => {
            let pid = holder.trim().parse::<u32>().map_or_else(|_| String::new(), |pid| format!(" (pid {pid})"));
            return Err(ListenError::Taken(pid, socket.to_owned()));
        }
        Err((_, error)) => return Err(failed(error.into())),
    };
    let pid = format!("{}\n", process::id());
    lock.set_len(0).and_then(|()| lock.write_all_at(pid.as_bytes(), 0)).map_err(failed)?;
    Ok(lock)
}

/// Removes a socket file that nobody listens at. To be called by who holds the lock. `patience` is
/// how long somebody may take to stop.
fn make_way(path: &Path, patience: PollTimeout) -> Result<(), ListenError> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => Err(ListenError::NotASocket(path.to_owned())),
        Ok(_) if is_served(path, patience) => Err(ListenError::InUse(path.to_owned())),
        Ok(_) => fs::remove_file(path).map_err(|error| ListenError::Bind(path.to_owned(), error)),
        Err(_) => Ok(()),
    }
}

/// Whether somebody listens there who goes on to: a connection can be made and is not reset.
fn is_served(path: &Path, patience: PollTimeout) -> bool {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let Ok(client) = socket(AddressFamily::Unix, SockType::Stream, flags, None) else { return false };
    let Ok(address) = UnixAddr::new(path) else { return false };
    match connect(client.as_raw_fd(), &address) {
        Ok(()) => {}
        // So many wait there already that there is no room for one more.
        Err(Errno::EAGAIN) => return true,
        Err(_) => return false,
    }
    let mut watched = [PollFd::new(client.as_fd(), PollFlags::empty())];
    // Nothing else is waited for than that it is hung up.
    poll(&mut watched, patience) == Ok(0)
}

fn bind(path: &Path) -> Result<(Listener, (u64, u64), u32), ListenError> {
    let failed = |error| ListenError::Bind(path.to_owned(), error);
    let name = path.to_fs_name::<GenericFilePath>().map_err(failed)?;
    // The file is removed by `Drop`, which makes sure that it is ours.
    let options = ListenerOptions::new().name(name).mode(MODE).reclaim_name(false).try_overwrite(false);
    let listener = options.create_tokio().map_err(failed)?;
    // The umask has narrowed it.
    fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(failed)?;
    let file = fs::symlink_metadata(path).map_err(failed)?;
    Ok((listener, (file.dev(), file.ino()), file.gid()))
}
