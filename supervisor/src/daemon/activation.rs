//! Sockets that the service manager has bound for this daemon and hands over (systemd's socket
//! activation, sd_listen_fds(3)).
//!
//! Each is for what its name says. What nothing here is for is refused: clients would wait at it
//! for ever.
use ipc::Listen;
use nix::sys::socket::{SockType, getsockopt, sockopt};
use std::{
    io,
    net::TcpListener,
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::PathBuf,
};
use thiserror::Error;

/// The name of the client socket, as `FileDescriptorName=` of the socket unit gives it.
const CLIENT_SOCKET: &str = "supervisor.sock";

/// The name of sockets for HTTP.
const HTTP_SOCKET: &str = "http";

/// Why what was handed over cannot be used.
#[derive(Debug, Error)]
pub(crate) enum ActivationError {
    /// What the environment says of it is not so.
    #[error("cannot take over the sockets that LISTEN_FDS announces")]
    Take(#[source] io::Error),
    /// There is no use for it.
    #[error(
        "there is no use for the socket {0:?} that was handed over; the client socket needs FileDescriptorName={CLIENT_SOCKET}, one for HTTP FileDescriptorName={HTTP_SOCKET}"
    )]
    Unknown(String),
    /// It is not the only one.
    #[error(
        "two sockets {CLIENT_SOCKET:?} were handed over, and there is one client socket; give its unit one ListenStream="
    )]
    Surplus,
    /// It is something else.
    #[error(
        "what was handed over as {0:?} is no unix stream socket that listens on a path; give its unit a path as ListenStream="
    )]
    Unsuitable(String),
}

/// A client socket that somebody else has bound, and looks after.
#[derive(Debug)]
pub(crate) struct Adopted {
    pub(crate) listener: UnixListener,
    pub(crate) path: PathBuf,
}

impl Adopted {
    /// The client socket, if one was handed over, and sockets for HTTP. To be called before anything is opened.
    pub(crate) fn take() -> Result<(Option<Adopted>, Vec<OwnedFd>), ActivationError> {
        let (mut adopted, mut http) = (None, Vec::new());
        for (name, descriptor) in crate::sys::handed_over().map_err(ActivationError::Take)? {
            if name == HTTP_SOCKET {
                http.push(descriptor);
                continue;
            }
            if name != CLIENT_SOCKET {
                return Err(ActivationError::Unknown(name));
            }
            let socket = suitable(descriptor).ok_or(ActivationError::Unsuitable(name))?;
            if adopted.replace(socket).is_some() {
                return Err(ActivationError::Surplus);
            }
        }
        Ok((adopted, http))
    }
}

/// Where a socket for HTTP listens.
pub(crate) fn place_of(socket: &OwnedFd) -> Result<Listen, ActivationError> {
    let unsuitable = || ActivationError::Unsuitable(HTTP_SOCKET.to_owned());
    if getsockopt(socket, sockopt::SockType) != Ok(SockType::Stream)
        || getsockopt(socket, sockopt::AcceptConn) != Ok(true)
    {
        return Err(unsuitable());
    }
    let copy = socket.try_clone().map_err(ActivationError::Take)?;
    if let Ok(address) = TcpListener::from(copy).local_addr() {
        return Ok(Listen::Tcp(address));
    }
    let copy = socket.try_clone().map_err(ActivationError::Take)?;
    let path = UnixListener::from(copy).local_addr().ok().and_then(|at| Some(at.as_pathname()?.to_owned()));
    path.map(Listen::Unix).ok_or_else(unsuitable)
}

fn suitable(descriptor: OwnedFd) -> Option<Adopted> {
    let is_stream = getsockopt(&descriptor, sockopt::SockType) == Ok(SockType::Stream);
    let listens = getsockopt(&descriptor, sockopt::AcceptConn) == Ok(true);
    let listener = UnixListener::from(descriptor);
    // It has none of another family, and a name that is no file's has no mode and no group.
    let path = listener.local_addr().ok()?.as_pathname()?.to_owned();
    (is_stream && listens).then_some(Adopted { listener, path })
}
