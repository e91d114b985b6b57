//! One client connection: two tasks that move frames and watch for the client's going away. They
//! decide nothing.
//!
//! What is sent to a client is queued here without bound of its own: a request can send only so
//! much as its context allows, and the daemon looks at [`Outbox::queued`] before it adds more.
use super::{ConnectionId, Input, helper::Helper, open_request::ModelRequest};
use ipc::{
    AsyncEnd, Caller, EndError, Failure, FailureKind, FrontRequest, InvalidRequest, MAX_FRAME, MAX_REQUEST, Request,
    Response,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncWriteExt, Interest},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Semaphore, mpsc},
    task::JoinHandle,
    time::timeout,
};

/// Longer payloads are read beside the loop, which nothing may hold for more than 10 ms.
///
/// The slowest payloads that are known take 30 ns a byte, and a Raspberry Pi is four times slower:
/// 10 ms are enough for 81 KiB there. `cargo run --release -p ipc --example parse_times` measures
/// it.
const LARGE: usize = 64 << 10;

/// Large payloads are read one at a time, whoever sends them, for reading one takes memory of many
/// times its size.
static READER: Semaphore = Semaphore::const_new(1);

/// Frames that are sent with one call, if so many wait.
const TOGETHER: usize = 16;

/// A client that has not taken fewer bytes than this has caught up.
const LITTLE: usize = 1 << 20;

/// What a client has said.
#[derive(Debug)]
pub(crate) enum FromClient {
    /// A request. If it is for a model, one may be able to serve it. Of a front also who asks it.
    Request(Request, Option<Caller>),
    /// The name of a request that no model could serve, and why. The request itself is forgotten
    /// already, for that takes long, too, where it is large.
    Invalid(&'static str, InvalidRequest, Option<Caller>),
    /// A frame that holds no request. The connection goes on.
    Undecodable(EndError),
    /// Something that is no frame. The connection cannot go on.
    Broken(EndError),
    /// The client has shut its sending side down; it may still wait for an answer.
    Finished,
    /// The client has taken most of what it had not.
    CaughtUp,
    /// The client has gone, or takes nothing.
    Gone,
}

/// What the other side of a connection sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// Requests of its own.
    ForItself,
    /// Requests of others, in their names.
    ForOthers,
}

impl FromClient {
    /// A request, checked.
    pub(crate) fn asked(request: Request, caller: Option<Caller>) -> FromClient {
        fn check<A: ModelRequest>(asked: &A) -> Option<(&'static str, InvalidRequest)> {
            asked.validate().err().map(|invalid| (A::NAME, invalid))
        }
        let invalid = match &request {
            Request::Generate(asked) => check(&**asked),
            Request::Embed(asked) => check(&**asked),
            Request::Tokenize(asked) => check(&**asked),
            Request::Status | Request::Control(_) => None,
        };
        match invalid {
            Some((name, invalid)) => FromClient::Invalid(name, invalid, caller),
            None => FromClient::Request(request, caller),
        }
    }
}

/// Where answers to a client are put. Dropped, it closes the connection at once.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// None when nothing more will be sent.
    frames: Option<mpsc::UnboundedSender<Outgoing>>,
    queued: Arc<AtomicUsize>,
    total: Arc<AtomicUsize>,
    /// Whether it is to be told when the client has caught up.
    watched: Arc<AtomicBool>,
    reader: JoinHandle<()>,
    writer: JoinHandle<()>,
    /// How long the client may take nothing of what is sent from now on.
    pub(crate) patience: Duration,
}

/// A frame on its way, counted for as long as it is.
#[derive(Debug)]
struct Outgoing {
    frame: Vec<u8>,
    patience: Duration,
    queued: Arc<AtomicUsize>,
    total: Arc<AtomicUsize>,
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.queued.fetch_sub(self.frame.len(), Relaxed);
        self.total.fetch_sub(self.frame.len(), Relaxed);
    }
}

impl Outbox {
    /// Serves `stream` from now on. `parser` reads large requests; `total` counts the queued bytes
    /// of all connections.
    pub(crate) fn open(
        stream: UnixStream,
        id: ConnectionId,
        inputs: mpsc::Sender<Input>,
        parser: Helper,
        total: Arc<AtomicUsize>,
        patience: Duration,
        speaks: Speaks,
    ) -> Outbox {
        let (read, write) = stream.into_split();
        let (frames, outgoing) = mpsc::unbounded_channel();
        let (queued, watched) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let catching_up = (Arc::clone(&queued), Arc::clone(&watched));
        let writer = tokio::spawn(send_all(write, outgoing, catching_up, id, inputs.clone()));
        let reader = tokio::spawn(receive_all(read, id, inputs, parser, speaks));
        Outbox { frames: Some(frames), queued, total, watched, reader, writer, patience }
    }

    /// Whether nothing more will be sent.
    pub(crate) fn is_closed(&self) -> bool {
        self.frames.is_none()
    }

    /// Queues one message.
    pub(crate) fn send(&self, response: &Response) {
        let (Some(frames), Some(frame)) = (&self.frames, to_frame(response)) else { return };
        self.queued.fetch_add(frame.len(), Relaxed);
        self.total.fetch_add(frame.len(), Relaxed);
        let (queued, total) = (Arc::clone(&self.queued), Arc::clone(&self.total));
        // The sending task may have ended because the client has gone; then `Gone` is on its way.
        let _gone = frames.send(Outgoing { frame, patience: self.patience, queued, total });
    }

    /// Bytes that the client has not taken yet.
    pub(crate) fn queued(&self) -> usize {
        self.queued.load(Relaxed)
    }

    /// Has [`FromClient::CaughtUp`] said when little is left that the client has not taken.
    pub(crate) fn tell_when_caught_up(&self) {
        self.watched.store(true, Relaxed);
    }

    /// Reads no more, sends what is queued, and then says [`FromClient::Gone`].
    pub(crate) fn close(&mut self) {
        self.reader.abort();
        self.frames = None;
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.reader.abort();
        self.writer.abort();
    }
}

/// The frame of a response, or of a failure if it is too long for one: a client waits for
/// something, whatever it is.
pub(crate) fn to_frame(response: &Response) -> Option<Vec<u8>> {
    let framed = |response: &Response| ipc::to_frame(response, MAX_FRAME).ok();
    let too_long = Failure::new(FailureKind::Engine, "the response is too long to be sent");
    framed(response).or_else(|| framed(&Response::Failed(too_long)))
}

async fn receive_all(
    read: OwnedReadHalf,
    id: ConnectionId,
    inputs: mpsc::Sender<Input>,
    parser: Helper,
    speaks: Speaks,
) {
    let mut end = AsyncEnd::new(read, MAX_REQUEST, MAX_FRAME);
    loop {
        let said = match end.receive_payload().await {
            Ok(Some(payload)) if payload.len() > LARGE => read_aside(payload, &parser, speaks).await,
            Ok(Some(payload)) => read_here(payload, speaks),
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
                hung_up(end.stream().as_ref()).await;
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

/// Reads a payload, and checks the request.
fn read_here(payload: &[u8], speaks: Speaks) -> FromClient {
    let read = match speaks {
        Speaks::ForItself => ipc::decode::<Request>(payload).map(|request| (request, None)),
        Speaks::ForOthers => ipc::decode::<FrontRequest>(payload).map(|asked| (asked.request, Some(asked.caller))),
    };
    match read {
        Ok((request, caller)) => FromClient::asked(request, caller),
        Err(error) => FromClient::Undecodable(EndError::Codec(error)),
    }
}

/// Reads a payload on another thread. Nothing more of this client is read meanwhile.
async fn read_aside(payload: &[u8], parser: &Helper, speaks: Speaks) -> FromClient {
    let Ok(permit) = READER.acquire().await else { return FromClient::Gone };
    let payload = payload.to_vec();
    let read = parser.run(move || {
        // Given back when the thread is done, even if the client has gone.
        let _permit = permit;
        read_here(&payload, speaks)
    });
    // It ends without a result only by a panic.
    read.await.unwrap_or(FromClient::Gone)
}

async fn send_all(
    mut write: OwnedWriteHalf,
    mut outgoing: mpsc::UnboundedReceiver<Outgoing>,
    (queued, watched): (Arc<AtomicUsize>, Arc<AtomicBool>),
    id: ConnectionId,
    inputs: mpsc::Sender<Input>,
) {
    let mut ready = Vec::with_capacity(TOGETHER);
    while outgoing.recv_many(&mut ready, TOGETHER).await > 0 {
        if !send_together(&mut write, &mut ready).await {
            break;
        }
        if queued.load(Relaxed) < LITTLE
            && watched.swap(false, Relaxed)
            && inputs.send(Input::Client(id, FromClient::CaughtUp)).await.is_err()
        {
            return;
        }
    }
    let _stopped = inputs.send(Input::Client(id, FromClient::Gone)).await;
}

/// Sends frames, however slowly they are taken, and each is forgotten when it is; `false` if the
/// client has gone or has taken nothing for as long as the first that is left allows.
async fn send_together(write: &mut OwnedWriteHalf, frames: &mut Vec<Outgoing>) -> bool {
    // Bytes of the first frame that are taken.
    let mut taken = 0;
    while let Some(patience) = frames.first().map(|first| first.patience) {
        let slices = frames.iter().enumerate().map(|(at, outgoing)| match at {
            0 => IoSlice::new(&outgoing.frame[taken..]),
            _ => IoSlice::new(&outgoing.frame),
        });
        let slices: Vec<_> = slices.collect();
        match timeout(patience, write.write_vectored(&slices)).await {
            Ok(Ok(count)) if count > 0 => taken += count,
            Ok(_) | Err(_) => return false,
        }
        let mut whole = 0;
        while let Some(length) =
            frames.get(whole).map(|outgoing| outgoing.frame.len()).filter(|length| taken >= *length)
        {
            (whole, taken) = (whole + 1, taken - length);
        }
        frames.drain(..whole);
    }
    true
}

/// Waits until the other side has closed the connection altogether.
async fn hung_up(stream: &UnixStream) {
    /// How long until the connection is looked at again if it cannot be watched.
    const PAUSE: Duration = Duration::from_millis(50);
    while let Err(error) = wait_for_hang_up(stream).await {
        // Most likely there is no descriptor left, which is no reason to take the client for gone.
        tracing::debug!("cannot watch a connection: {error}");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn wait_for_hang_up(stream: &UnixStream) -> io::Result<()> {
    if is_hung_up(stream.as_fd())? {
        return Ok(());
    }
    // A registration of its own: forgetting that the socket is writable here must not make the
    // sending task wait.
    let registered = crate::sys::register(stream.as_fd().try_clone_to_owned()?, Interest::WRITABLE)?;
    loop {
        registered.writable().await?.clear_ready();
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
