//! The client socket: who owns it, who may use it.
//!
//! An flock on `<socket>.lock`, held for life, decides who owns the socket; only its holder unlinks and binds. So a stale socket
//! file is replaced and a live one never is.
use interprocess::{
    local_socket::{
        GenericFilePath, ListenerOptions, ToFsName,
        tokio::{Listener, Stream},
        traits::{StreamCommon, tokio::Listener as _},
    },
    os::unix::{local_socket::ListenerOptionsExt, uds_local_socket},
};
use nix::{
    fcntl::{Flock, FlockArg},
    sys::socket::{Shutdown, shutdown},
    unistd::Uid,
};
use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    os::unix::net::UnixListener,
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
    /// What is there is no socket.
    #[error("{0} is there already and is no socket")]
    NotASocket(PathBuf),
    /// The socket cannot be bound.
    #[error("cannot listen on {0}")]
    Bind(PathBuf, #[source] io::Error),
}

/// The client socket and the right to it.
#[derive(Debug)]
pub(crate) struct ClientSocket {
    path: PathBuf,
    listener: Listener,
    /// Device and inode of the socket file that is ours.
    identity: (u64, u64),
    group: u32,
    allowed: Vec<u32>,
    lock: Flock<File>,
}

impl ClientSocket {
    /// Takes the socket at `path`; besides the daemon's own user, root and the socket's group only `allowed` may use it, and if
    /// `allowed` is not empty, the group may not.
    pub(crate) fn take(path: &Path, allowed: Vec<u32>) -> Result<ClientSocket, ListenError> {
        make_folder(path)?;
        let lock = lock(path)?;
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Err(ListenError::NotASocket(path.to_owned())),
            Ok(_) => fs::remove_file(path).map_err(|error| ListenError::Bind(path.to_owned(), error))?,
            Err(_) => {}
        }
        let (listener, identity, group) = bind(path)?;
        Ok(ClientSocket { path: path.to_owned(), listener, identity, group, allowed, lock })
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

    /// Lets nobody connect any more, and returns those who had connected and have not been accepted; `Err` holds one that may not use
    /// the socket.
    ///
    /// This is for a socket of our own: one that another process holds too, which keeps clients waiting for who comes next, must not be
    /// shut down but only not accepted from any more.
    pub(crate) fn close(&self) -> io::Result<Vec<Result<Stream, Stream>>> {
        if identity(&self.path) == Some(self.identity) {
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
        let Ok(peer) = stream.peer_creds() else { return false };
        let Some(user) = peer.euid() else { return false };
        if self.allowed.contains(&user) {
            return true;
        }
        let in_group =
            || peer.egid() == Some(self.group) || peer.groups().is_some_and(|groups| groups.contains(&self.group));
        self.allowed.is_empty() && in_group()
    }

    /// Binds again if somebody has deleted the socket file. Says whether it had to.
    pub(crate) fn heal(&mut self) -> Result<bool, ListenError> {
        if identity(&self.path) == Some(self.identity) {
            return Ok(false);
        }
        // Who has deleted the socket may have deleted the lock too, and somebody else may hold a new one.
        let held = self.lock.metadata().map_err(|error| ListenError::Lock(lock_path(&self.path), error))?;
        if identity(&lock_path(&self.path)) != Some((held.dev(), held.ino())) {
            make_folder(&self.path)?;
            self.lock = lock(&self.path)?;
        }
        // The lock is still ours, so whatever lies there now is nobody's live socket.
        match fs::symlink_metadata(&self.path) {
            Ok(found) if !found.file_type().is_socket() => return Err(ListenError::NotASocket(self.path.clone())),
            Ok(_) => fs::remove_file(&self.path).map_err(|error| ListenError::Bind(self.path.clone(), error))?,
            Err(_) => {}
        }
        (self.listener, self.identity, self.group) = bind(&self.path)?;
        Ok(true)
    }
}

impl Drop for ClientSocket {
    fn drop(&mut self) {
        if identity(&self.path) == Some(self.identity) {
            // Nobody is left to be told.
            let _left_behind = fs::remove_file(&self.path);
        }
    }
}

/// Whether a client may change what the daemon does: root and the daemon's own user may.
pub(crate) fn is_operator(stream: &Stream) -> bool {
    let user = stream.peer_creds().ok().and_then(|peer| peer.euid());
    user.is_some_and(|user| user == 0 || user == Uid::effective().as_raw())
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
