//! The client library: connect, ask, read the answer piece by piece. This is its blocking half; the
//! tokio half in `asynchronous.rs` has the same shape.
//!
//! It does not retry: only the caller knows whether a request may be sent again. Kinds of responses
//! that it does not know are left out.
use crate::{
    BlockingEnd, CodecError, Control, EmbedRequest, EndError, Failure, FailureKind, GenerateRequest, Request, Response,
    TokenizeRequest,
    frame::{MAX_FRAME, MAX_REQUEST},
    status::Status,
};
use interprocess::local_socket::{self, GenericFilePath, ToFsName};
use std::{
    env, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// Why a request has no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no daemon at {path}")]
    NoDaemon {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The socket is there, but cannot be connected to.
    #[error("cannot connect to {path}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// No socket is named and there is no usual place for one.
    #[error("no socket: neither SUPERVISOR_SOCKET nor XDG_RUNTIME_DIR is set")]
    NoSocket,
    /// The connection broke.
    #[error("the connection to the daemon broke")]
    Connection(#[source] EndError),
    /// The daemon hung up before the answer was complete.
    #[error("the daemon closed the connection before the answer was complete")]
    Closed,
    /// The daemon's answer is not one to this request.
    #[error("the daemon's answer makes no sense")]
    Nonsense,
    /// An earlier answer on this connection was not read to its end.
    #[error("an earlier answer on this connection was not read to its end")]
    Unfinished,
    /// The daemon says why there is no complete answer.
    #[error(transparent)]
    Failed(Failure),
}

/// The socket of the system's daemon.
pub const SYSTEM_SOCKET: &str = "/run/supervisor/supervisor.sock";

/// The socket that `SUPERVISOR_SOCKET` names; else the system's, if it is there or the user is
/// root; else the user's.
pub fn default_socket() -> Result<PathBuf, ClientError> {
    if let Some(named) = env::var_os("SUPERVISOR_SOCKET").filter(|name| !name.is_empty()) {
        return Ok(named.into());
    }
    let system = PathBuf::from(SYSTEM_SOCKET);
    let root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    if root || system.exists() {
        return Ok(system);
    }
    let runtime = env::var_os("XDG_RUNTIME_DIR").filter(|name| !name.is_empty());
    runtime.map(|folder| PathBuf::from(folder).join("supervisor/supervisor.sock")).ok_or(ClientError::NoSocket)
}

/// A blocking connection to the daemon.
#[derive(Debug)]
pub struct Client {
    end: BlockingEnd<local_socket::Stream>,
    unfinished: bool,
}

impl Client {
    /// Connects to the daemon at `socket`.
    pub fn connect(socket: &Path) -> Result<Client, ClientError> {
        use interprocess::local_socket::traits::Stream;
        let name = socket.to_fs_name::<GenericFilePath>().map_err(|error| connect_error(socket, error))?;
        let stream = local_socket::Stream::connect(name).map_err(|error| connect_error(socket, error))?;
        Ok(Client { end: BlockingEnd::new(stream, MAX_FRAME, MAX_REQUEST), unfinished: false })
    }

    /// The pid of who listens at the socket, as it is seen from here: the daemon, or the service
    /// manager that has bound the socket for it. `None` if that process cannot be seen from here.
    pub fn listener(&self) -> Option<u32> {
        use interprocess::local_socket::traits::StreamCommon;
        let peer = self.end.stream().peer_creds().ok()?;
        u32::try_from(peer.pid()?).ok()
    }

    /// Asks for a text. The answer is read with [`Answer::next`] or as an iterator.
    pub fn generate(&mut self, request: GenerateRequest) -> Result<Answer<'_>, ClientError> {
        self.send(Request::Generate(Box::new(request)))?;
        self.unfinished = true;
        Ok(Answer { client: self })
    }

    /// Asks for the ids of a text.
    pub fn tokenize(&mut self, request: TokenizeRequest) -> Result<Vec<u32>, ClientError> {
        self.send(Request::Tokenize(Box::new(request)))?;
        accepted(self.receive()?)?;
        tokenized(self.receive()?)
    }

    /// Asks for vectors. The answer is read with [`Answer::next`] or as an iterator.
    pub fn embed(&mut self, request: EmbedRequest) -> Result<Answer<'_>, ClientError> {
        self.send(Request::Embed(Box::new(request)))?;
        self.unfinished = true;
        Ok(Answer { client: self })
    }

    /// Has the daemon do something. What comes of it is read with [`Answer::next`] or as an
    /// iterator.
    pub fn control(&mut self, control: Control) -> Result<Answer<'_>, ClientError> {
        self.send(Request::Control(control))?;
        self.unfinished = true;
        Ok(Answer { client: self })
    }

    /// Asks what runs.
    pub fn status(&mut self) -> Result<Status, ClientError> {
        self.send(Request::Status)?;
        status(self.receive()?)
    }

    fn send(&mut self, request: Request) -> Result<(), ClientError> {
        if self.unfinished {
            return Err(ClientError::Unfinished);
        }
        match self.end.send(&request) {
            // The daemon may have refused this peer and hung up; what it said is still there to be
            // read.
            Err(EndError::Write(_)) => Ok(()),
            other => other.map_err(send_error),
        }
    }

    fn receive(&mut self) -> Result<Response, ClientError> {
        loop {
            if let Some(response) = received(self.end.receive())? {
                return Ok(response);
            }
        }
    }
}

/// An answer that is still coming in, on a blocking connection.
#[derive(Debug)]
pub struct Answer<'a> {
    client: &'a mut Client,
}

impl Iterator for Answer<'_> {
    type Item = Result<Response, ClientError>;

    /// [`Response::Accepted`], each [`Response::Piece`], [`Response::Vectors`] or
    /// [`Response::Notice`], the end; `None` after it or after an error.
    fn next(&mut self) -> Option<Self::Item> {
        self.client.unfinished.then(|| {
            let response = self.client.receive();
            self.client.unfinished = goes_on(&response);
            response
        })
    }
}

pub(super) fn connect_error(socket: &Path, source: io::Error) -> ClientError {
    let path = socket.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NoDaemon { path, source },
        _ => ClientError::Connect { path, source },
    }
}

/// A request that cannot be sent is refused in the daemon's words, without bothering it.
pub(super) fn send_error(error: EndError) -> ClientError {
    match error {
        EndError::Codec(CodecError::Unspeakable(invalid)) => {
            ClientError::Failed(Failure::new(FailureKind::BadRequest, invalid.to_string()))
        }
        EndError::Frame(error) => {
            ClientError::Failed(Failure::new(FailureKind::BadRequest, format!("the request is too long: {error}")))
        }
        error => ClientError::Connection(error),
    }
}

/// What was received; `None` if only a newer client would understand it.
pub(super) fn received(message: Result<Option<Response>, EndError>) -> Result<Option<Response>, ClientError> {
    match message {
        Ok(Some(Response::Failed(failure))) => Err(ClientError::Failed(failure)),
        Ok(Some(Response::Other(_))) => Ok(None),
        Ok(Some(response)) => Ok(Some(response)),
        Ok(None) => Err(ClientError::Closed),
        Err(error) => Err(ClientError::Connection(error)),
    }
}

pub(super) fn goes_on(response: &Result<Response, ClientError>) -> bool {
    use Response::{Accepted, Notice, Piece, Started, Vectors};
    matches!(response, Ok(Accepted { .. } | Started { .. } | Piece { .. } | Vectors { .. } | Notice(_)))
}

pub(super) fn accepted(response: Response) -> Result<(), ClientError> {
    if let Response::Accepted { .. } = response { Ok(()) } else { Err(ClientError::Nonsense) }
}

pub(super) fn tokenized(response: Response) -> Result<Vec<u32>, ClientError> {
    if let Response::Tokenized { ids } = response { Ok(ids) } else { Err(ClientError::Nonsense) }
}

pub(super) fn status(response: Response) -> Result<Status, ClientError> {
    if let Response::Status(status) = response { Ok(*status) } else { Err(ClientError::Nonsense) }
}
