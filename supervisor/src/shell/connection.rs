//! One client connection: two tasks that move frames and watch for the client's going away. They decide nothing.
//!
//! What is sent to a client is queued here without bound of its own: a request can send only so much as its context allows, and the
//! shell looks at [`Outbox::queued`] before it adds more.
use super::{ConnectionId, Input};
use ipc::{AsyncEnd, EndError, Failure, FailureKind, MAX_FRAME, MAX_REQUEST, Request, Response};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncWriteExt, Interest},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};

/// What a client has said.
#[derive(Debug)]
pub(crate) enum FromClient {
    /// A request.
    Request(Request),
    /// A frame that holds no request. The connection goes on.
    Undecodable(EndError),
    /// Something that is no frame. The connection cannot go on.
    Broken(EndError),
    /// The client has shut its sending side down; it may still wait for an answer.
    Finished,
    /// The client has gone, or takes nothing.
    Gone,
}

/// Where answers to a client are put.
#[derive(Debug)]
pub(crate) struct Outbox {
    frames: mpsc::UnboundedSender<Outgoing>,
    queued: Arc<AtomicUsize>,
    total: Arc<AtomicUsize>,
    reader: JoinHandle<()>,
    /// How long the client may take nothing of what is sent from now on.
    pub(crate) patience: Duration,
}

#[derive(Debug)]
struct Outgoing {
    frame: Vec<u8>,
    patience: Duration,
}

impl Outbox {
    /// Serves `stream` from now on. `total` counts the queued bytes of all connections.
    pub(crate) fn open(
        stream: UnixStream,
        id: ConnectionId,
        inputs: mpsc::Sender<Input>,
        total: Arc<AtomicUsize>,
        patience: Duration,
    ) -> Outbox {
        let (read, write) = stream.into_split();
        let (frames, outgoing) = mpsc::unbounded_channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let counters = (Arc::clone(&queued), Arc::clone(&total));
        tokio::spawn(send_all(write, outgoing, counters, id, inputs.clone()));
        let reader = tokio::spawn(receive_all(read, id, inputs));
        Outbox { frames, queued, total, reader, patience }
    }

    /// Queues one message.
    pub(crate) fn send(&self, response: &Response) {
        let framed = |response: &Response| ipc::frame(&ipc::encode(response).ok()?, MAX_FRAME).ok();
        // A client waits for something, whatever it is.
        let too_long = Failure::new(FailureKind::Engine, "the response is too long to be sent");
        let frame = framed(response).or_else(|| framed(&Response::Failed(too_long)));
        let Some(frame) = frame else { return };
        self.queued.fetch_add(frame.len(), Relaxed);
        self.total.fetch_add(frame.len(), Relaxed);
        // The sending task may have ended because the client has gone; then `Gone` is on its way.
        let _gone = self.frames.send(Outgoing { frame, patience: self.patience });
    }

    /// Bytes that the client has not taken yet.
    pub(crate) fn queued(&self) -> usize {
        self.queued.load(Relaxed)
    }
}

impl Drop for Outbox {
    /// What is queued is still sent; nothing more is read.
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn receive_all(read: OwnedReadHalf, id: ConnectionId, inputs: mpsc::Sender<Input>) {
    let mut end = AsyncEnd::new(read, MAX_REQUEST, MAX_FRAME);
    loop {
        let said = match end.receive().await {
            Ok(Some(request)) => FromClient::Request(request),
            Err(error @ EndError::Codec(_)) => FromClient::Undecodable(error),
            Err(error @ EndError::Frame(ipc::FrameError::CutOff)) => {
                tracing::debug!("a client left in the middle of a frame: {error}");
                FromClient::Gone
            }
            Err(error @ EndError::Frame(_)) => FromClient::Broken(error),
            Ok(None) => {
                if inputs.send(Input::Client(id, FromClient::Finished)).await.is_err() {
                    return;
                }
                if let Err(error) = hung_up(end.stream().as_ref()).await {
                    tracing::warn!("cannot watch a connection: {error}");
                }
                FromClient::Gone
            }
            Err(EndError::Read(_) | EndError::Write(_)) => FromClient::Gone,
        };
        let last = matches!(said, FromClient::Gone | FromClient::Broken(_));
        if inputs.send(Input::Client(id, said)).await.is_err() || last {
            return;
        }
    }
}

async fn send_all(
    mut write: OwnedWriteHalf,
    mut outgoing: mpsc::UnboundedReceiver<Outgoing>,
    (queued, total): (Arc<AtomicUsize>, Arc<AtomicUsize>),
    id: ConnectionId,
    inputs: mpsc::Sender<Input>,
) {
    let mut open = true;
    while let Some(Outgoing { frame, patience }) = outgoing.recv().await {
        // After the client has gone, what is still queued is only counted off.
        if open && !send_one(&mut write, &frame, patience).await {
            open = false;
            let _stopped = inputs.send(Input::Client(id, FromClient::Gone)).await;
        }
        queued.fetch_sub(frame.len(), Relaxed);
        total.fetch_sub(frame.len(), Relaxed);
    }
}

/// Sends `frame`, however slowly it is taken; `false` if the client has gone or has taken nothing for `patience`.
async fn send_one(write: &mut OwnedWriteHalf, frame: &[u8], patience: Duration) -> bool {
    let mut rest = frame;
    while !rest.is_empty() {
        match timeout(patience, write.write(rest)).await {
            Ok(Ok(count)) if count > 0 => rest = &rest[count..],
            Ok(_) | Err(_) => return false,
        }
    }
    true
}

/// Waits until the other side has closed the connection altogether.
async fn hung_up(stream: &UnixStream) -> io::Result<()> {
    if is_hung_up(stream.as_fd())? {
        return Ok(());
    }
    // A registration of its own: forgetting that the socket is writable here must not make the sending task wait.
    let watch = crate::sys::watch(stream.as_fd().try_clone_to_owned()?, Interest::WRITABLE)?;
    loop {
        watch.writable().await?.clear_ready();
        if is_hung_up(stream.as_fd())? {
            return Ok(());
        }
    }
}

fn is_hung_up(stream: BorrowedFd<'_>) -> io::Result<bool> {
    let mut watched = [PollFd::new(stream, PollFlags::empty())];
    poll(&mut watched, PollTimeout::ZERO)?;
    let seen = watched[0].revents().unwrap_or(PollFlags::empty());
    Ok(seen.intersects(PollFlags::POLLHUP | PollFlags::POLLERR))
}
