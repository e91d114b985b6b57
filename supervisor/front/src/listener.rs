//! The sockets that clients connect to.
use ipc::Listen;
use nix::{
    errno::Errno,
    sys::stat::{Mode, umask},
};
use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixListener,
    },
    path::PathBuf,
};
use thiserror::Error;
use tokio::net::{TcpStream, UnixStream};

/// Why nobody can connect.
#[derive(Debug, Error)]
pub(crate) enum ListenError {
    #[error("cannot listen on {0}{remedy}", remedy = remedy(.1))]
    Bind(Listen, #[source] io::Error),
    #[error("cannot use the socket that was handed over for {0}")]
    Handed(Listen, #[source] io::Error),
    #[error("{wanted} sockets are wanted, and {found} were handed over")]
    Number { wanted: usize, found: usize },
}

/// What is to be done about it, where that is known.
fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EADDRINUSE) => "; something else listens there",
        Some(Errno::EADDRNOTAVAIL) => "; this host has no such address",
        Some(Errno::EACCES) => "; ports below 1024 and folders of others are for whoever may use them",
        Some(Errno::ENOENT) => "; its folder must be there",
        // The unit keeps the whole service off the network.
        Some(Errno::EAFNOSUPPORT) => {
            "; this service may make no network sockets, so let systemd make them: enable supervisor-http.socket"
        }
        _ => "",
    }
}

/// A socket that listens.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// All of them, before the event loop knows them.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) listeners: Vec<Listener>,
}

impl Bound {
    /// Takes what was handed over, or makes them.
    pub(crate) fn new(listen: &[Listen], handed: Vec<OwnedFd>) -> Result<Bound, ListenError> {
        let listeners = if handed.is_empty() {
            listen.iter().map(|at| bind(at).map_err(|error| ListenError::Bind(at.clone(), error))).collect()
        } else if handed.len() == listen.len() {
            let pairs = listen.iter().zip(handed);
            pairs.map(|(at, fd)| adopt(at, fd).map_err(|error| ListenError::Handed(at.clone(), error))).collect()
        } else {
            Err(ListenError::Number { wanted: listen.len(), found: handed.len() })
        };
        Ok(Bound { listeners: listeners? })
    }

    /// Where they can be connected to: with the port that the kernel chose, where it did.
    pub(crate) fn at(&self) -> Vec<Listen> {
        let at = |listener: &Listener| match listener {
            Listener::Tcp(listener) => Listen::Tcp(listener.local_addr().unwrap_or(NOWHERE)),
            Listener::Unix(_, path) => Listen::Unix(path.clone()),
        };
        self.listeners.iter().map(at).collect()
    }

    /// Copies of their descriptors.
    pub(crate) fn copies(&self) -> io::Result<Vec<OwnedFd>> {
        let copy = |listener: &Listener| match listener {
            Listener::Tcp(listener) => listener.as_fd().try_clone_to_owned(),
            Listener::Unix(listener, _) => listener.as_fd().try_clone_to_owned(),
        };
        self.listeners.iter().map(copy).collect()
    }
}

const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

fn bind(at: &Listen) -> io::Result<Listener> {
    let listener = match at {
        Listen::Tcp(address) => Listener::Tcp(TcpListener::bind(address)?),
        Listen::Unix(path) => {
            remove_stale(path)?;
            // Nobody may connect before the mode is right.
            let before = umask(Mode::from_bits_truncate(0o117));
            let bound = UnixListener::bind(path);
            umask(before);
            Listener::Unix(bound?, path.clone())
        }
    };
    set_nonblocking(listener)
}

/// Removes a socket that nobody listens at any more.
fn remove_stale(path: &PathBuf) -> io::Result<()> {
    use std::os::unix::{fs::FileTypeExt, net::UnixStream};
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    if is_socket && UnixStream::connect(path).is_err_and(refused) { std::fs::remove_file(path) } else { Ok(()) }
}

fn adopt(at: &Listen, socket: OwnedFd) -> io::Result<Listener> {
    set_nonblocking(match at {
        Listen::Tcp(_) => Listener::Tcp(socket.into()),
        Listen::Unix(path) => Listener::Unix(socket.into(), path.clone()),
    })
}

fn set_nonblocking(listener: Listener) -> io::Result<Listener> {
    match &listener {
        Listener::Tcp(listener) => listener.set_nonblocking(true)?,
        Listener::Unix(listener, _) => listener.set_nonblocking(true)?,
    }
    Ok(listener)
}

/// A socket that the event loop listens at.
pub(crate) enum Accepting {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

/// A client that has connected.
pub(crate) enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl Accepting {
    pub(crate) fn new(listener: Listener) -> io::Result<Accepting> {
        Ok(match listener {
            Listener::Tcp(listener) => Accepting::Tcp(tokio::net::TcpListener::from_std(listener)?),
            Listener::Unix(listener, _) => Accepting::Unix(tokio::net::UnixListener::from_std(listener)?),
        })
    }

    pub(crate) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Accepting::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Each event of a stream is to go out when it is there.
                stream.set_nodelay(true)?;
                Ok(Accepted::Tcp(stream, address))
            }
            Accepting::Unix(listener) => Ok(Accepted::Unix(listener.accept().await?.0)),
        }
    }
}
