//! A client library: connect, ask, read the answer piece by piece. Blocking and tokio, the same shape.
//!
//! It does not retry: whether a request may be sent again is the caller's to know.
use crate::{
    AsyncEnd, BlockingEnd, Control, EmbedRequest, EndError, Failure, FailureKind, GenerateRequest, Request, Response,
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
    /// The status does not have the expected shape.
    #[error("the daemon's status does not have the expected shape")]
    Status(#[source] serde_json::Error),
    /// An earlier answer on this connection was not read to its end.
    #[error("an earlier answer on this connection was not read to its end")]
    Unfinished,
    /// The daemon says why there is no complete answer.
    #[error(transparent)]
    Failed(Failure),
}

/// The socket of the system's daemon.
pub const SYSTEM_SOCKET: &str = "/run/supervisor/supervisor.sock";

/// The socket that `SUPERVISOR_SOCKET` names; else the system's, if it is there or the user is root; else the user's.
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

    /// Has the daemon do something. What comes of it is read with [`Answer::next`] or as an iterator.
    pub fn control(&mut self, control: Control) -> Result<Answer<'_>, ClientError> {
        self.send(Request::Control(control))?;
        self.unfinished = true;
        Ok(Answer { client: self })
    }

    /// Asks what runs.
    pub fn status(&mut self) -> Result<Status, ClientError> {
        self.send(Request::Status)?;
        parse_status(self.receive()?)
    }

    fn send(&mut self, request: Request) -> Result<(), ClientError> {
        if self.unfinished {
            return Err(ClientError::Unfinished);
        }
        match self.end.send(&request) {
            // The daemon may have refused this peer and hung up; what it said is still there to be read.
            Err(EndError::Write(_)) => Ok(()),
            other => other.map_err(send_error),
        }
    }

    fn receive(&mut self) -> Result<Response, ClientError> {
        received(self.end.receive())
    }
}

/// An answer that is still coming in, on a blocking connection.
#[derive(Debug)]
pub struct Answer<'a> {
    client: &'a mut Client,
}

impl Iterator for Answer<'_> {
    type Item = Result<Response, ClientError>;

    /// [`Response::Accepted`], each [`Response::Piece`], [`Response::Vectors`] or [`Response::Notice`], the end; `None` after it or after an error.
    fn next(&mut self) -> Option<Self::Item> {
        self.client.unfinished.then(|| {
            let response = self.client.receive();
            self.client.unfinished = goes_on(&response);
            response
        })
    }
}

/// A tokio connection to the daemon.
#[derive(Debug)]
pub struct AsyncClient {
    end: AsyncEnd<local_socket::tokio::Stream>,
    unfinished: bool,
}

impl AsyncClient {
    /// Connects to the daemon at `socket`.
    pub async fn connect(socket: &Path) -> Result<AsyncClient, ClientError> {
        use interprocess::local_socket::traits::tokio::Stream;
        let name = socket.to_fs_name::<GenericFilePath>().map_err(|error| connect_error(socket, error))?;
        let stream = local_socket::tokio::Stream::connect(name).await.map_err(|error| connect_error(socket, error))?;
        Ok(AsyncClient { end: AsyncEnd::new(stream, MAX_FRAME, MAX_REQUEST), unfinished: false })
    }

    /// Asks for a text. The answer is read with [`AsyncAnswer::next`].
    pub async fn generate(&mut self, request: GenerateRequest) -> Result<AsyncAnswer<'_>, ClientError> {
        self.send(Request::Generate(Box::new(request))).await?;
        self.unfinished = true;
        Ok(AsyncAnswer { client: self })
    }

    /// Asks for the ids of a text.
    pub async fn tokenize(&mut self, request: TokenizeRequest) -> Result<Vec<u32>, ClientError> {
        self.send(Request::Tokenize(Box::new(request))).await?;
        accepted(self.receive().await?)?;
        tokenized(self.receive().await?)
    }

    /// Asks for vectors. The answer is read with [`AsyncAnswer::next`].
    pub async fn embed(&mut self, request: EmbedRequest) -> Result<AsyncAnswer<'_>, ClientError> {
        self.send(Request::Embed(Box::new(request))).await?;
        self.unfinished = true;
        Ok(AsyncAnswer { client: self })
    }

    /// Has the daemon do something. What comes of it is read with [`AsyncAnswer::next`].
    pub async fn control(&mut self, control: Control) -> Result<AsyncAnswer<'_>, ClientError> {
        self.send(Request::Control(control)).await?;
        self.unfinished = true;
        Ok(AsyncAnswer { client: self })
    }

    /// Asks what runs.
    pub async fn status(&mut self) -> Result<Status, ClientError> {
        self.send(Request::Status).await?;
        parse_status(self.receive().await?)
    }

    async fn send(&mut self, request: Request) -> Result<(), ClientError> {
        if self.unfinished {
            return Err(ClientError::Unfinished);
        }
        match self.end.send(&request).await {
            Err(EndError::Write(_)) => Ok(()),
            other => other.map_err(send_error),
        }
    }

    async fn receive(&mut self) -> Result<Response, ClientError> {
        received(self.end.receive().await)
    }
}

/// An answer that is still coming in, on a tokio connection.
#[derive(Debug)]
pub struct AsyncAnswer<'a> {
    client: &'a mut AsyncClient,
}

impl AsyncAnswer<'_> {
    /// [`Response::Accepted`], each [`Response::Piece`], [`Response::Vectors`] or [`Response::Notice`], the end; `None` after it or after an error.
    pub async fn next(&mut self) -> Option<Result<Response, ClientError>> {
        if !self.client.unfinished {
            return None;
        }
        let response = self.client.receive().await;
        self.client.unfinished = goes_on(&response);
        Some(response)
    }
}

fn connect_error(socket: &Path, source: io::Error) -> ClientError {
    let path = socket.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NoDaemon { path, source },
        _ => ClientError::Connect { path, source },
    }
}

/// A request that is longer than the protocol allows is refused in the daemon's words, without bothering it.
fn send_error(error: EndError) -> ClientError {
    match error {
        EndError::Frame(error) => {
            ClientError::Failed(Failure::new(FailureKind::BadRequest, format!("the request is too long: {error}")))
        }
        error => ClientError::Connection(error),
    }
}

fn received(message: Result<Option<Response>, EndError>) -> Result<Response, ClientError> {
    match message {
        Ok(Some(Response::Failed(failure))) => Err(ClientError::Failed(failure)),
        Ok(Some(response)) => Ok(response),
        Ok(None) => Err(ClientError::Closed),
        Err(error) => Err(ClientError::Connection(error)),
    }
}

fn goes_on(response: &Result<Response, ClientError>) -> bool {
    use Response::{Accepted, Notice, Piece, Vectors};
    matches!(response, Ok(Accepted { .. } | Piece { .. } | Vectors { .. } | Notice(_)))
}

fn accepted(response: Response) -> Result<(), ClientError> {
    if let Response::Accepted { .. } = response { Ok(()) } else { Err(ClientError::Nonsense) }
}

fn tokenized(response: Response) -> Result<Vec<u32>, ClientError> {
    if let Response::Tokenized { ids } = response { Ok(ids) } else { Err(ClientError::Nonsense) }
}

fn parse_status(response: Response) -> Result<Status, ClientError> {
    match response {
        Response::Status(document) => serde_json::from_str(&document).map_err(ClientError::Status),
        _ => Err(ClientError::Nonsense),
    }
}
