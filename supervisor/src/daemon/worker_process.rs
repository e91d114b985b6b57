//! A worker process, as the supervisor holds it: its socket, its board, what is known of its memory.
use super::{
    Input,
    stderr_tail::StderrTail,
    template_process::SendError,
    worker_board::WorkerBoard,
    worker_memory::{WorkerMemory, unless_gone},
};
use crate::process::{Exit, Process, ProcessError};
use ipc::{AsyncEnd, EndError, FromWorker, MAX_FRAME, ModelInfo, ModelKind, ToWorker};
use nix::{
    fcntl::OFlag,
    sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair},
    unistd::pipe2,
};
use policy::{Identity, Part, WorkerId};
use std::{
    io::{self, IoSlice},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream as StdStream,
    },
    sync::Arc,
    time::{Duration, Instant},
};
use system::{Board, SealedMemoryError, proc};
use thiserror::Error;
use tokio::{
    io::{AsyncWriteExt, Interest},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf, pipe},
    },
    sync::mpsc,
};

/// How likely the kernel is to choose a worker when memory runs out, before the template and the
/// supervisor.
const OOM_SCORE_ADJUSTMENT: i16 = 500;
/// How much nicer workers are that make vectors: a batch may keep as many of them busy as there are
/// cores, and a text that is generated beside them keeps its policy.
const EMBEDDING_NICE: i32 = 5;
/// How long what a dead worker had sent may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What a worker has said, or that it has ended.
#[derive(Debug)]
pub(crate) enum WorkerSaid {
    /// A message.
    Message(FromWorker),
    /// Something that is no message.
    Broken(EndError),
    /// It has ended, and all that it sent has been heard; the last lines on stderr.
    Exited(Exit, Vec<String>),
}

/// Why a worker cannot be made, or not be held.
#[derive(Debug, Error)]
pub(crate) enum MakeError {
    /// Its socket cannot be made.
    #[error("cannot make its socket")]
    Socket(#[source] io::Error),
    /// The pipe of its stderr cannot be made.
    #[error("cannot make the pipe of its stderr")]
    Pipe(#[source] io::Error),
    /// Its board cannot be made.
    #[error("cannot make its board")]
    Board(#[source] SealedMemoryError),
    /// Its board cannot be looked at.
    #[error("cannot map its board")]
    Map(#[source] io::Error),
    /// Nobody is there who could fork it.
    #[error("its template has ended")]
    NoTemplate,
    /// Its template cannot be asked to fork it.
    #[error("cannot ask its template")]
    Ask(#[source] SendError),
    /// It was spoken of before.
    #[error("it lives already")]
    Alive,
    /// It cannot be held.
    #[error("cannot take hold of its process")]
    Process(#[source] ProcessError),
    /// What `/proc` says of it cannot be opened.
    #[error("cannot open what /proc says of it")]
    Proc(#[source] io::Error),
    /// It cannot be heard.
    #[error("cannot listen to it")]
    Listen(#[source] io::Error),
}

/// The worker's ends of what it is born with.
#[derive(Debug)]
pub(crate) struct FdsForWorker {
    pub(crate) socket: OwnedFd,
    pub(crate) board: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// The supervisor's ends, until the worker is known to live.
#[derive(Debug)]
struct Ends {
    socket: StdStream,
    stderr: OwnedFd,
}

/// A frame on its way, and the descriptor that goes with its first byte.
#[derive(Debug)]
struct Outgoing {
    frame: Vec<u8>,
    descriptor: Option<Arc<OwnedFd>>,
}

/// What a worker was forked from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) info: Arc<ModelInfo>,
    pub(crate) identity: Identity,
}

/// A worker process.
#[derive(Debug)]
pub(crate) struct WorkerProcess {
    pub(crate) id: WorkerId,
    pub(crate) origin: Origin,
    body: Body,
    pub(crate) board: WorkerBoard,
    pub(crate) memory: WorkerMemory,
    pub(crate) forked_at: Instant,
    pub(crate) part: Option<Part>,
    /// Whether what it writes may tell of requests.
    pub(crate) has_seen_requests: bool,
    /// What it did wrong, if it was found to do something wrong.
    pub(crate) misbehaviour: Option<String>,
    pub(crate) sandbox: Option<String>,
}

/// Its process and the way to it.
#[derive(Debug)]
enum Body {
    /// It has not been heard of; without ends, it is not to live.
    Unborn(Option<Ends>),
    /// Closing the way to its socket asks it to exit.
    Alive { process: Process, outgoing: Option<mpsc::UnboundedSender<Outgoing>> },
}

impl WorkerProcess {
    /// Makes what a worker is born with.
    pub(crate) fn prepare(
        id: WorkerId,
        origin: Origin,
        memory_limit: u64,
        now: Instant,
    ) -> Result<(WorkerProcess, FdsForWorker), MakeError> {
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
            .map_err(|error| MakeError::Socket(error.into()))?;
        super::set_nonblocking(&ours).map_err(MakeError::Socket)?;
        let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(|error| MakeError::Pipe(error.into()))?;
        super::set_nonblocking(&read).map_err(MakeError::Pipe)?;
        let shared = Board::create().map_err(MakeError::Board)?;
        let worker = WorkerProcess {
            id,
            origin,
            body: Body::Unborn(Some(Ends { socket: ours.into(), stderr: read })),
            board: WorkerBoard::new(Board::map(&shared).map_err(MakeError::Map)?),
            memory: WorkerMemory::new(memory_limit, now),
            forked_at: now,
            part: None,
            has_seen_requests: false,
            misbehaviour: None,
            sandbox: None,
        };
        Ok((worker, FdsForWorker { socket: theirs, board: shared, stderr: write }))
    }

    /// Notes that the worker lives as `pid`: takes hold of it and begins to hear it.
    pub(crate) fn adopt(&mut self, pid: u32, kind: ModelKind, inputs: &mpsc::Sender<Input>) -> Result<(), MakeError> {
        let Body::Unborn(Some(ends)) = std::mem::replace(&mut self.body, Body::Unborn(None)) else {
            return Err(MakeError::Alive);
        };
        let process = Process::open(pid).map_err(MakeError::Process)?;
        unless_gone(proc::set_oom_score(pid, OOM_SCORE_ADJUSTMENT)).map_err(MakeError::Proc)?;
        if kind == ModelKind::Embed {
            let pid = rustix::process::Pid::from_raw(pid.cast_signed());
            let nice = rustix::process::getpriority_process(pid).map(|nice| (nice + EMBEDDING_NICE).min(19));
            let _gone = nice.and_then(|nice| rustix::process::setpriority_process(pid, nice));
        }
        self.memory.open(pid).map_err(MakeError::Proc)?;
        let (read, mut write) = UnixStream::from_std(ends.socket).map_err(MakeError::Listen)?.into_split();
        let stderr = pipe::Receiver::from_owned_fd(ends.stderr).map_err(MakeError::Listen)?;
        let tail = StderrTail::follow(stderr);
        let (outgoing, mut frames) = mpsc::unbounded_channel::<Outgoing>();
        tokio::spawn(async move {
            while let Some(outgoing) = frames.recv().await {
                // A worker that cannot be written to has ended or will be found stuck.
                if write_one(&mut write, outgoing).await.is_err() {
                    break;
                }
            }
        });
        tokio::spawn(attend(self.id, read, process.clone(), tail, inputs.clone()));
        self.body = Body::Alive { process, outgoing: Some(outgoing) };
        Ok(())
    }

    /// Its process, once the template has said that it lives.
    pub(crate) fn process(&self) -> Option<&Process> {
        match &self.body {
            Body::Unborn(_) => None,
            Body::Alive { process, .. } => Some(process),
        }
    }

    /// Sends one message; it never waits.
    pub(crate) fn send(&self, message: &ToWorker) {
        self.send_with(message, None);
    }

    /// Sends one message and a descriptor with its first byte; it never waits.
    pub(crate) fn send_with(&self, message: &ToWorker, descriptor: Option<Arc<OwnedFd>>) {
        let framed = ipc::to_frame(message, MAX_FRAME).ok();
        match (framed, &self.body) {
            (Some(frame), Body::Alive { outgoing: Some(outgoing), .. }) => {
                // If the writing task has ended, so has the worker, which is seen elsewhere.
                let _ended = outgoing.send(Outgoing { frame, descriptor });
            }
            (None, _) => tracing::error!("a message to a worker does not fit into a frame"),
            (_, Body::Unborn(_) | Body::Alive { outgoing: None, .. }) => {}
        }
    }

    /// Asks it to exit.
    pub(crate) fn terminate(&mut self) {
        match &mut self.body {
            Body::Alive { process, outgoing } => {
                *outgoing = None;
                process.terminate();
            }
            // It finds its socket closed when it is born.
            Body::Unborn(ends) => *ends = None,
        }
    }

    /// Ends it, if it is known to live.
    pub(crate) fn kill(&self) {
        if let Some(process) = self.process() {
            process.kill();
        }
    }
}

/// Writes one frame. Its descriptor goes with the first byte that the kernel takes, and so it goes
/// once.
async fn write_one(write: &mut OwnedWriteHalf, Outgoing { frame, descriptor }: Outgoing) -> io::Result<()> {
    let Some(descriptor) = descriptor else { return write.write_all(&frame).await };
    let rights = [descriptor.as_raw_fd()];
    let socket: &UnixStream = write.as_ref();
    let first = || {
        let control = [ControlMessage::ScmRights(&rights)];
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        Ok(sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&frame)], &control, flags, None)?)
    };
    let sent = socket.async_io(Interest::WRITABLE, first).await?;
    drop(descriptor);
    write.write_all(frame.get(sent..).unwrap_or_default()).await
}

/// Hears a worker until it has ended and nothing that it said is left.
async fn attend(id: WorkerId, read: OwnedReadHalf, process: Process, tail: StderrTail, inputs: mpsc::Sender<Input>) {
    let mut end = AsyncEnd::new(read, MAX_FRAME, MAX_FRAME);
    let hear = async {
        loop {
            let said = match end.receive().await {
                Ok(Some(message)) => WorkerSaid::Message(message),
                // A process that dies in the middle of a frame leaves it cut off; its end says the
                // rest.
                Ok(None) | Err(EndError::Read(_) | EndError::Write(_) | EndError::Frame(ipc::FrameError::CutOff)) => {
                    return;
                }
                Err(error) => WorkerSaid::Broken(error),
            };
            let broken = matches!(said, WorkerSaid::Broken(_));
            if inputs.send(Input::Worker(id, said)).await.is_err() || broken {
                return;
            }
        }
    };
    let exit = process.exit_once_heard(hear, LAST_WORDS).await;
    let _stopped = inputs.send(Input::Worker(id, WorkerSaid::Exited(exit, tail.finish().await))).await;
}
