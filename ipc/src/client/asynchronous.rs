//! The tokio half of the client library.
use super::library::{ClientError, accepted, connect_error, goes_on, received, send_error, status, tokenized};
use crate::{
    AsyncEnd, Control, EmbedRequest, EndError, GenerateRequest, Request, Response, TokenizeRequest,
    frame::{MAX_FRAME, MAX_REQUEST},
    status::Status,
};
use interprocess::local_socket::{self, GenericFilePath, ToFsName};
use std::path::Path;

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
        status(self.receive().await?)
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
        loop {
            if let Some(response) = received(self.end.receive().await)? {
                return Ok(response);
            }
        }
    }
}

/// An answer that is still coming in, on a tokio connection.
#[derive(Debug)]
pub struct AsyncAnswer<'a> {
    client: &'a mut AsyncClient,
}

impl AsyncAnswer<'_> {
    /// [`Response::Accepted`], each [`Response::Piece`], [`Response::Vectors`] or
    /// [`Response::Notice`], the end; `None` after it or after an error.
    pub async fn next(&mut self) -> Option<Result<Response, ClientError>> {
        if !self.client.unfinished {
            return None;
        }
        let response = self.client.receive().await;
        self.client.unfinished = goes_on(&response);
        Some(response)
    }
}
