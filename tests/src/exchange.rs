//! One request on a connection, and what became of it: exactly one outcome, or a sentence on what
//! was wrong with it.
use crate::LIMIT;
use ipc::{BlockingEnd, Done, EndError, FailureKind, MAX_FRAME, MAX_REQUEST, Request, Response};
use std::{
    io::{self, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::Path,
};

/// What a request asked for, without what differs from one time to the next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    /// A text: all of it, its ids, and the end without its times.
    Text { text: String, tokens: Vec<u32>, done: Done },
    /// Vectors.
    Vectors(Vec<Vec<f32>>),
    /// Ids.
    Ids(Vec<u32>),
}

/// What became of a request.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// It was answered, after so many attempts.
    Answered(Content, u32),
    /// Its client left in the middle, as it was told to.
    Left,
    /// The supervisor did not take it in, and says or shows why.
    NotAdmitted(String),
    /// It was taken in and has no whole answer.
    Lost {
        /// Whether some of the answer had come.
        streamed: bool,
        /// What came instead.
        why: String,
    },
}

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Line {
    end: BlockingEnd<UnixStream>,
}

impl Line {
    pub(crate) fn open(socket: &Path) -> io::Result<Line> {
        let stream = UnixStream::connect(socket)?;
        // Whoever waits for what never comes must end, and is told so.
        stream.set_read_timeout(Some(2 * LIMIT))?;
        stream.set_write_timeout(Some(2 * LIMIT))?;
        Ok(Line { end: BlockingEnd::new(stream, MAX_FRAME, MAX_REQUEST) })
    }

    /// Asks. If `is_last`, nothing more will be sent, and the supervisor is told so.
    pub(crate) fn ask(&mut self, request: &Request, is_last: bool) -> Result<(), String> {
        self.end.send(request).map_err(|error| describe(&error))?;
        if is_last {
            self.end.stream().shutdown(Shutdown::Write).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Sends bytes as they are. The other side may not take them all.
    pub(crate) fn write(&self, bytes: &[u8]) {
        let mut stream = self.end.stream();
        let _taken = stream.write_all(bytes);
    }

    /// The next message; `Err` if there is none.
    pub(crate) fn receive(&mut self) -> Result<Response, String> {
        match self.end.receive() {
            Ok(Some(response)) => Ok(response),
            Ok(None) => Err("the connection was closed".to_owned()),
            Err(error) => Err(describe(&error)),
        }
    }

    /// Reads the answer to its end, or until `leaves` messages of it have come. `accepted` is told
    /// when the request has been taken in.
    pub(crate) fn hear(&mut self, leaves: Option<usize>, accepted: &mut dyn FnMut(ipc::RequestId)) -> Outcome {
        match self.receive() {
            Ok(Response::Accepted { request, .. }) => accepted(request),
            Ok(Response::Failed(failure)) if failure.kind == FailureKind::Busy => {
                return Outcome::NotAdmitted(failure.message);
            }
            Ok(other) => return Outcome::Lost { streamed: false, why: format!("it came first: {other:?}") },
            Err(why) => return Outcome::NotAdmitted(why),
        }
        let mut received = Received::default();
        loop {
            if leaves.is_some_and(|most| received.messages >= most) {
                return Outcome::Left;
            }
            let step = self.receive().and_then(|response| received.take(response));
            match step {
                Ok(None) => received.messages += 1,
                Ok(Some((content, attempts))) => return Outcome::Answered(content, attempts),
                Err(why) => return Outcome::Lost { streamed: received.messages > 0, why },
            }
        }
    }
}

/// What has come of an answer.
#[derive(Default)]
struct Received {
    messages: usize,
    text: String,
    tokens: Vec<u32>,
    vectors: Vec<Vec<f32>>,
}

impl Received {
    /// Takes in one message: the whole answer and its attempts, if this is its end.
    fn take(&mut self, response: Response) -> Result<Option<(Content, u32)>, String> {
        match response {
            Response::Piece { text, token } => {
                self.text.push_str(&text);
                self.tokens.push(token);
                Ok(None)
            }
            Response::Vectors { first, vectors } if first as usize == self.vectors.len() => {
                self.vectors.extend(vectors);
                Ok(None)
            }
            Response::Done(done) => {
                let (text, tokens) = (std::mem::take(&mut self.text) + &done.text, std::mem::take(&mut self.tokens));
                let attempts = done.attempts;
                let done = Done {
                    attempts: 1,
                    wait_us: 0,
                    first_piece_us: 0,
                    last_piece_us: None,
                    total_us: 0,
                    text: String::new(),
                    ..done
                };
                Ok(Some((Content::Text { text, tokens, done }, attempts)))
            }
            Response::Embedded(end) if end.texts as usize == self.vectors.len() => {
                // Each part counts one.
                let attempts = 1 + end.attempts - end.parts;
                Ok(Some((Content::Vectors(std::mem::take(&mut self.vectors)), attempts)))
            }
            Response::Tokenized { ids } => Ok(Some((Content::Ids(ids), 1))),
            Response::Failed(failure) => Err(format!("{:?}: {}", failure.kind, failure.message)),
            other => Err(format!("out of order: {other:?}")),
        }
    }
}

fn describe(error: &EndError) -> String {
    system::foreign_text::chain(error)
}
