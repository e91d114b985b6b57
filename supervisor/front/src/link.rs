//! The way to the supervisor: a control socket, and connections that it makes when they are asked
//! for there. A connection that has carried a request to its end carries another.
use ipc::{
    AsyncEnd, Caller, EndError, Failure, FailureKind, FromFront, FrontCounts, FrontRequest, MAX_FRAME,
    MAX_FRONT_CONTROL, MAX_REQUEST, Request, Response, ToFront,
};
use nix::{
    errno::Errno,
    sys::socket::{ControlMessage, MsgFlags, sendmsg},
};
use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::net::UnixStream as StdStream,
    },
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::UnixStream,
    sync::{mpsc, oneshot, watch},
};

/// How often the supervisor is told that this process lives.
pub(crate) const BEAT: Duration = Duration::from_secs(1);

/// The control socket.
#[derive(Debug)]
pub(crate) struct Control {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Control {
    pub(crate) fn new(socket: OwnedFd) -> Control {
        Control { socket, buffer: vec![0; ipc::HEADER + MAX_FRONT_CONTROL] }
    }

    /// The next message and its descriptors, waited for; `None` when the supervisor has hung up.
    pub(crate) fn wait(&mut self) -> io::Result<Option<(ToFront, Vec<OwnedFd>)>> {
        loop {
            match receive(&self.socket, &mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// From now on it never blocks. Once confined, this process cannot change that any more.
    pub(crate) fn never_block(&self) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.socket, true)?)
    }

    /// Sends one message with these descriptors.
    pub(crate) fn send(&self, message: &FromFront, descriptors: &[OwnedFd]) -> io::Result<()> {
        send(&self.socket, message, descriptors)
    }
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<(ToFront, Vec<OwnedFd>)>> {
    let (size, descriptors) = system::receive_packet(socket, buffer)?;
    if size == 0 {
        return Ok(None);
    }
    let payload = ipc::packet(&buffer[..size], MAX_FRONT_CONTROL).map_err(io::Error::other)?;
    Ok(Some((ipc::decode(payload).map_err(io::Error::other)?, descriptors)))
}

fn send(socket: &OwnedFd, message: &FromFront, descriptors: &[OwnedFd]) -> io::Result<()> {
    let payload = ipc::encode(message).map_err(io::Error::other)?;
    let packet = ipc::frame(&payload, MAX_FRONT_CONTROL).map_err(io::Error::other)?;
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[][..] } else { &rights[..] };
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&packet)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// What the supervisor wants of the whole front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// To serve.
    Serve,
    /// To accept nobody any more, and to end when all have been answered.
    Finish,
    /// Nothing: it has gone.
    Gone,
}

/// The way to the supervisor.
#[derive(Debug)]
pub(crate) struct Link {
    asks: mpsc::UnboundedSender<oneshot::Sender<Option<OwnedFd>>>,
    idle: Arc<Idle>,
    counts: watch::Sender<FrontCounts>,
}

/// Connections that carry no request.
#[derive(Debug, Default)]
struct Idle(Mutex<Vec<AsyncEnd<UnixStream>>>);

impl Idle {
    fn take(&self) -> Option<AsyncEnd<UnixStream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn put(&self, end: AsyncEnd<UnixStream>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(end);
    }
}

impl Link {
    /// Serves the control socket from now on.
    pub(crate) fn start(control: Control) -> io::Result<(Link, watch::Receiver<Told>)> {
        let (asks, asked) = mpsc::unbounded_channel();
        let (tell, told) = watch::channel(Told::Serve);
        let (counts, counted) = watch::channel(FrontCounts::default());
        let Control { socket, buffer } = control;
        let socket = crate::sys::register(socket)?;
        tokio::spawn(attend(socket, buffer, asked, tell, counted));
        Ok((Link { asks, idle: Arc::default(), counts }, told))
    }

    /// Changes what the supervisor is told of with the next beat.
    pub(crate) fn count(&self, change: impl FnOnce(&mut FrontCounts)) {
        self.counts.send_modify(change);
    }

    /// Sends a request. `Err` if it could not be.
    pub(crate) async fn ask(&self, caller: &Caller, request: Request) -> Result<Exchange, Failure> {
        let asked = FrontRequest { caller: caller.clone(), request };
        loop {
            let (mut end, is_fresh) = match self.idle.take() {
                Some(end) => (end, false),
                None => (self.connect().await?, true),
            };
            match end.send(&asked).await {
                Ok(()) => return Ok(Exchange { end: Some(end), idle: Arc::clone(&self.idle) }),
                Err(EndError::Write(_)) if !is_fresh => {}
                Err(EndError::Write(_)) => return Err(gone()),
                Err(error) => return Err(Failure::new(FailureKind::BadRequest, system::foreign_text::chain(&error))),
            }
        }
    }

    async fn connect(&self) -> Result<AsyncEnd<UnixStream>, Failure> {
        let (give, given) = oneshot::channel();
        self.asks.send(give).map_err(|_| gone())?;
        let busy = || Failure {
            retry_after_ms: Some(1000),
            ..Failure::new(FailureKind::Busy, "as many requests are open as there may be; try again")
        };
        let socket = given.await.map_err(|_| gone())?.ok_or_else(busy)?;
        // It was made so that it never blocks, and this process may not change that.
        let stream = UnixStream::from_std(StdStream::from(socket)).map_err(|_| gone())?;
        Ok(AsyncEnd::new(stream, MAX_FRAME, MAX_REQUEST))
    }
}

fn gone() -> Failure {
    Failure { retry_after_ms: Some(1000), ..Failure::new(FailureKind::ShuttingDown, "the supervisor has gone") }
}

/// Hears and tells the supervisor until it has gone.
async fn attend(
    socket: AsyncFd<OwnedFd>,
    mut buffer: Vec<u8>,
    mut asked: mpsc::UnboundedReceiver<oneshot::Sender<Option<OwnedFd>>>,
    tell: watch::Sender<Told>,
    counted: watch::Receiver<FrontCounts>,
) {
    let mut waiting: VecDeque<oneshot::Sender<Option<OwnedFd>>> = VecDeque::new();
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let heard = tokio::select! {
            heard = socket.async_io(Interest::READABLE, |socket| receive(socket, &mut buffer)) => heard,
            Some(give) = asked.recv() => {
                if send(socket.get_ref(), &FromFront::Connect, &[]).is_err() {
                    break;
                }
                waiting.push_back(give);
                continue;
            }
            _ = beat.tick() => {
                let counts = *counted.borrow();
                // If the supervisor does not keep up, it hears the next one.
                match send(socket.get_ref(), &FromFront::Beat(counts), &[]) {
                    Err(error) if error.raw_os_error() == Some(Errno::EPIPE as i32) => break,
                    _ => continue,
                }
            }
        };
        match heard {
            Ok(Some((ToFront::Connection, mut descriptors))) => {
                // If nobody waits any more, the supervisor sees it closed.
                let _not_wanted = waiting.pop_front().map(|give| give.send(descriptors.pop()));
            }
            Ok(Some((ToFront::NoConnection, _))) => {
                let _not_wanted = waiting.pop_front().map(|give| give.send(None));
            }
            Ok(Some((ToFront::Finish, _))) => _ = tell.send(Told::Finish),
            Ok(Some((ToFront::Serve(_), _)) | None) | Err(_) => break,
        }
    }
    let _nobody = tell.send(Told::Gone);
}

/// A request under way. Dropped before its end, it is cancelled.
#[derive(Debug)]
pub(crate) struct Exchange {
    end: Option<AsyncEnd<UnixStream>>,
    idle: Arc<Idle>,
}

impl Exchange {
    /// The next response. `Err` ends it, also with [`Response::Failed`]'s failure.
    pub(crate) async fn next(&mut self) -> Result<Response, Failure> {
        let Some(end) = &mut self.end else { return Err(gone()) };
        loop {
            match end.receive::<Response>().await {
                Ok(Some(Response::Other(_))) => {}
                Ok(Some(response)) => {
                    let goes_on = matches!(
                        response,
                        Response::Accepted { .. }
                            | Response::Started { .. }
                            | Response::Piece { .. }
                            | Response::Vectors { .. }
                            | Response::Notice(_)
                    );
                    if !goes_on && let Some(end) = self.end.take() {
                        self.idle.put(end);
                    }
                    return match response {
                        Response::Failed(failure) => Err(failure),
                        response => Ok(response),
                    };
                }
                Ok(None) | Err(_) => {
                    self.end = None;
                    return Err(gone());
                }
            }
        }
    }
}
