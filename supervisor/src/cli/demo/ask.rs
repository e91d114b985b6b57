//! One request on a connection of its own: what happens to it is told as it happens, the kill too.
use super::victim;
use ipc::{Client, ClientError, Done, GenerateRequest, RequestId, Response};
use std::{path::Path, thread, time::Duration};

/// What happens to a request.
#[derive(Debug)]
pub(super) enum Event {
    /// The daemon has taken it.
    Accepted(RequestId),
    /// This worker serves it from here on.
    Served(u32),
    /// The next piece of the answer.
    Piece(String),
    /// Its worker does nothing more, and is killed next.
    Stopped,
    /// Its worker is dead.
    Killed,
    /// There is nothing more to come.
    Ended(Result<Done, ClientError>),
}

/// When and how the worker is killed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kill {
    /// Pieces of the answer that the client has got by then.
    pub(super) after_pieces: usize,
    /// How long the worker is stopped before it dies, for people to see that it was alive.
    pub(super) stopped_for: Duration,
}

/// Asks, tells everything but the end, and returns that.
pub(super) fn ask(
    socket: &Path,
    request: GenerateRequest,
    kill: Option<Kill>,
    tell: &impl Fn(Event),
) -> Result<Done, ClientError> {
    let (mut id, mut worker, mut killed, mut pieces) = (None, None, None, 0);
    for response in Client::connect(socket)?.generate(request)? {
        match response? {
            Response::Accepted { request, .. } => {
                id = Some(request);
                tell(Event::Accepted(request));
            }
            Response::Piece { text, .. } => {
                let id = id.ok_or(ClientError::Nonsense)?;
                if worker.is_none() {
                    // The dead one may be listed for a moment.
                    worker = victim::worker_of(socket, id).filter(|pid| Some(*pid) != killed);
                    worker.into_iter().for_each(|pid| tell(Event::Served(pid)));
                }
                pieces += 1;
                tell(Event::Piece(text));
                // If the worker is not known yet, the next piece will do.
                if let (Some(kill), Some(pid), None) = (kill, worker, killed)
                    && pieces >= kill.after_pieces
                    && let Some(stopped) = victim::stop(socket, id, pid)
                {
                    tell(Event::Stopped);
                    pause(kill.stopped_for);
                    if stopped.kill() {
                        tell(Event::Killed);
                        killed = worker.take();
                    }
                }
            }
            Response::Done(done) => {
                if !done.text.is_empty() {
                    tell(Event::Piece(done.text.clone()));
                }
                return Ok(done);
            }
            _ => return Err(ClientError::Nonsense),
        }
    }
    Err(ClientError::Closed)
}

#[expect(clippy::disallowed_methods, reason = "people need time to see what is shown")]
fn pause(time: Duration) {
    thread::sleep(time);
}
