//! Requests, asked and read to their end or piece by piece.
use crate::Daemon;
use ipc::{Answer, Client, ClientError, Done, GenerateRequest, RequestId, Response};

/// A complete answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// All of its text.
    pub text: String,
    /// The id of each token.
    pub tokens: Vec<u32>,
    /// How it ended.
    pub done: Done,
    /// The request's number.
    pub request: RequestId,
}

/// Asks `daemon` on a connection of its own and reads the whole answer.
pub fn generate(daemon: &Daemon, request: GenerateRequest) -> Result<Finished, ClientError> {
    Running::begin(&mut daemon.client(), request)?.finish()
}

/// A request that has been admitted, and what has been read of its answer.
#[derive(Debug)]
pub struct Running<'a> {
    answer: Answer<'a>,
    request: RequestId,
    text: String,
    tokens: Vec<u32>,
    done: Option<Done>,
}

impl<'a> Running<'a> {
    /// Asks, and waits until the request is admitted.
    pub fn begin(client: &'a mut Client, request: GenerateRequest) -> Result<Running<'a>, ClientError> {
        let mut answer = client.generate(request)?;
        match answer.next() {
            Some(Ok(Response::Accepted { request, .. })) => {
                Ok(Running { answer, request, text: String::new(), tokens: Vec::new(), done: None })
            }
            Some(Ok(_)) | None => Err(ClientError::Nonsense),
            Some(Err(error)) => Err(error),
        }
    }

    /// The request's number.
    pub fn request(&self) -> RequestId {
        self.request
    }

    /// The text that has been read so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The ids that have been read so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Reads until `count` pieces have been read in all. Says whether there were so many; the
    /// answer may end earlier.
    pub fn read(&mut self, count: usize) -> Result<bool, ClientError> {
        while self.tokens.len() < count && self.step()? {}
        Ok(self.tokens.len() >= count)
    }

    /// Reads to the end.
    pub fn finish(mut self) -> Result<Finished, ClientError> {
        while self.step()? {}
        let done = self.done.ok_or(ClientError::Closed)?;
        Ok(Finished { text: self.text, tokens: self.tokens, done, request: self.request })
    }

    /// Reads one message; `false` at the end.
    fn step(&mut self) -> Result<bool, ClientError> {
        match self.answer.next().transpose()? {
            Some(Response::Piece { text, token }) => {
                self.text.push_str(&text);
                self.tokens.push(token);
                Ok(true)
            }
            Some(Response::Done(done)) => {
                self.text.push_str(&done.text);
                self.done = Some(done);
                Ok(false)
            }
            Some(_) => Err(ClientError::Nonsense),
            None => Ok(false),
        }
    }
}
