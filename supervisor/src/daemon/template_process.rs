//! A template process, as the supervisor holds it: started, heard, asked to fork one worker at a
//! time.
use super::{FdsForWorker, Input, stderr_tail::StderrTail};
use crate::process::{Exit, Process, ProcessError};
use ipc::{FromTemplate, Life, MAX_CONTROL, ModelSpec, ToTemplate};
use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recv, sendmsg, socketpair},
};
use policy::TemplateId;
use std::{
    collections::VecDeque,
    fs::File,
    io::{self, IoSlice},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use system::{
    limits::TASKS,
    proc::{self, Sample},
};
use thiserror::Error;
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::unix::pipe,
    sync::mpsc,
};

/// What a template has said, or that it has ended.
#[derive(Debug)]
pub(crate) enum TemplateSaid {
    /// A message.
    Message(FromTemplate),
    /// It has ended, with these last lines on stderr.
    Exited(Exit, Vec<String>),
}

/// How templates are started: with the executable that this supervisor was started from, even if
/// its file has been replaced.
#[derive(Debug)]
pub(crate) struct Starter {
    /// The executable of templates.
    pub(crate) executable: PathBuf,
    /// This process's own.
    own: File,
}

/// The environment of a template, and nothing else: no threads, no locale, huge pages for cheap
/// forks, nothing of ours.
const ENVIRONMENT: [(&str, &str); 7] = [
    ("CANDLE_NUM_THREADS", "1"),
    ("RAYON_NUM_THREADS", "1"),
    ("TOKENIZERS_PARALLELISM", "false"),
    ("MALLOC_ARENA_MAX", "1"),
    // Huge pages make forks cheap; a heap that is not given back at once is not zeroed again for
    // each token.
    (
        "GLIBC_TUNABLES",
        "glibc.malloc.hugetlb=1:glibc.malloc.trim_threshold=67108864:glibc.malloc.mmap_threshold=33554432",
    ),
    ("LC_ALL", "C.UTF-8"),
    ("RUST_BACKTRACE", "0"),
];

/// Why a template cannot be started.
#[derive(Debug, Error)]
pub(crate) enum StartError {
    /// Its socket cannot be made.
    #[error("cannot make its socket")]
    Socket(#[source] io::Error),
    /// There are as many processes as there may be.
    #[error("cannot start its process: no more processes or threads are allowed ({TASKS})")]
    Exhausted(#[source] io::Error),
    /// Its executable cannot be started.
    #[error("cannot start its process")]
    Spawn(#[source] io::Error),
    /// It cannot be held.
    #[error("cannot take hold of its process")]
    Process(#[source] ProcessError),
    /// It cannot be heard.
    #[error("cannot listen to it")]
    Listen(#[source] io::Error),
    /// It cannot be told what to load.
    #[error("cannot tell it what to load")]
    Send(#[source] SendError),
}

/// Why a template cannot be told something.
#[derive(Debug, Error)]
pub(crate) enum SendError {
    /// It is no message.
    #[error("the message cannot be encoded")]
    Encode(#[source] ipc::CodecError),
    /// It is too long.
    #[error("the message does not fit into a packet")]
    Frame(#[source] ipc::FrameError),
    /// The socket does not take it.
    #[error("cannot send to its socket")]
    Send(#[source] Errno),
}

/// How long what a dead template had sent may take to be read.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A template process.
#[derive(Debug)]
pub(crate) struct TemplateProcess {
    pub(crate) id: TemplateId,
    pub(crate) process: Process,
    /// Whether it is to open its model and say what it needs, and no more.
    pub(crate) only_opens: bool,
    control: Arc<AsyncFd<OwnedFd>>,
    /// Workers to be forked; the first one has been asked for.
    forks: VecDeque<(Life, FdsForWorker)>,
    /// The last look at its memory, and what to look into.
    pub(crate) memory: Option<(Sample, Instant)>,
    pub(crate) memory_file: Option<Arc<File>>,
}

impl Starter {
    /// `executable`, or this process's own: what is running, also when its file has been replaced
    /// since.
    pub(super) fn new(executable: Option<PathBuf>) -> io::Result<Starter> {
        let own = File::open("/proc/self/exe")?;
        Ok(Starter { executable: executable.unwrap_or_else(|| path_of(&own)), own })
    }

    /// This process's own executable.
    pub(super) fn own(&self) -> PathBuf {
        path_of(&self.own)
    }
}

/// The path of what this process has open.
fn path_of(file: &File) -> PathBuf {
    Path::new("/proc/self/fd").join(file.as_raw_fd().to_string())
}

impl TemplateProcess {
    /// Starts a template and has it load `spec`. Must be called on the main thread: the template
    /// dies with the thread that starts it.
    pub(crate) fn start(
        starter: &Starter,
        id: TemplateId,
        spec: &ModelSpec,
        only_opens: bool,
        inputs: mpsc::Sender<Input>,
    ) -> Result<TemplateProcess, StartError> {
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .map_err(|error| StartError::Socket(error.into()))?;
        super::set_nonblocking(&ours).map_err(StartError::Socket)?;
        let mut child = Command::new(&starter.executable)
            .arg0("supervisor")
            .args(["template", "--supervisor", &process::id().to_string()])
            .env_clear()
            .envs(ENVIRONMENT)
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => StartError::Exhausted(error),
                _ => StartError::Spawn(error),
            })?;
        let process = Process::open(child.id()).map_err(StartError::Process)?;
        let control = Arc::new(crate::sys::register(ours, Interest::READABLE).map_err(StartError::Listen)?);
        let stderr = child.stderr.take().ok_or_else(|| StartError::Listen(io::ErrorKind::BrokenPipe.into()))?;
        let stderr = pipe::Receiver::from_owned_fd(stderr.into()).map_err(StartError::Listen)?;
        let tail = StderrTail::follow(stderr);
        let memory_file = proc::open_memory(process.pid()).ok().map(Arc::new);
        let forks = VecDeque::new();
        let template = TemplateProcess { id, process, only_opens, control, forks, memory: None, memory_file };
        // If it cannot be sent, the template finds its socket closed; nobody else needs to know of
        // it.
        template.send(&ToTemplate::Load(spec.clone()), &[]).map_err(StartError::Send)?;
        tokio::spawn(attend(id, template.process.clone(), Arc::clone(&template.control), tail, inputs));
        Ok(template)
    }

    /// Asks for a worker, after those that have been asked for already. `Err` gives back a life
    /// that cannot be asked for.
    pub(crate) fn fork(&mut self, life: Life, fds: FdsForWorker) -> Result<(), (Life, SendError)> {
        self.forks.push_back((life, fds));
        if self.forks.len() == 1 { self.ask() } else { Ok(()) }
    }

    /// The worker that the next answer must be about.
    pub(crate) fn asked_for(&self) -> Option<Life> {
        self.forks.front().map(|(life, _)| *life)
    }

    /// Notes the answer to the first question and asks the next. `Err` gives back a life that
    /// cannot be asked for.
    pub(crate) fn answered(&mut self) -> Result<(), (Life, SendError)> {
        self.forks.pop_front();
        self.ask()
    }

    /// Whether a worker may have been born that has not been heard of.
    pub(crate) fn is_forking(&self) -> bool {
        !self.forks.is_empty()
    }

    fn ask(&mut self) -> Result<(), (Life, SendError)> {
        let Some((life, fds)) = self.forks.front() else { return Ok(()) };
        let life = *life;
        let raw = [fds.socket.as_raw_fd(), fds.board.as_raw_fd(), fds.stderr.as_raw_fd()];
        match self.send(&ToTemplate::Fork(life), &raw) {
            Ok(()) => Ok(()),
            // It has ended, which is about to be seen; those that it was asked for end with it.
            Err(SendError::Send(Errno::EPIPE | Errno::ECONNRESET)) => Ok(()),
            Err(error) => {
                self.forks.pop_front();
                Err((life, error))
            }
        }
    }

    pub(super) fn send(&self, message: &ToTemplate, descriptors: &[i32]) -> Result<(), SendError> {
        let payload = ipc::encode(message).map_err(SendError::Encode)?;
        let packet = ipc::frame(&payload, MAX_CONTROL).map_err(SendError::Frame)?;
        let rights = [ControlMessage::ScmRights(descriptors)];
        let control = if descriptors.is_empty() { &[][..] } else { &rights[..] };
        let parts = [IoSlice::new(&packet)];
        let socket = self.control.get_ref().as_raw_fd();
        sendmsg::<()>(socket, &parts, control, MsgFlags::MSG_NOSIGNAL, None).map(drop).map_err(SendError::Send)
    }
}

/// Hears a template until it ends.
async fn attend(
    id: TemplateId,
    process: Process,
    control: Arc<AsyncFd<OwnedFd>>,
    tail: StderrTail,
    inputs: mpsc::Sender<Input>,
) {
    let hear = async {
        let mut buffer = vec![0; ipc::HEADER + MAX_CONTROL];
        loop {
            match receive(&control, &mut buffer).await {
                Ok(Some(message)) => {
                    if inputs.send(Input::Template(id, TemplateSaid::Message(message))).await.is_err() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::error!("template {} cannot be understood: {error}", process.pid());
                    return process.kill();
                }
            }
        }
    };
    let exit = process.exit_once_heard(hear, LAST_WORDS).await;
    let _stopped = inputs.send(Input::Template(id, TemplateSaid::Exited(exit, tail.finish().await))).await;
}

/// The next message; `None` when the template has closed its end. Descriptors that come along are
/// dropped by the kernel.
async fn receive(control: &AsyncFd<OwnedFd>, buffer: &mut [u8]) -> io::Result<Option<FromTemplate>> {
    let size = control
        .async_io(Interest::READABLE, |socket| {
            loop {
                match recv(socket.as_raw_fd(), buffer, MsgFlags::empty()) {
                    Err(Errno::EINTR) => {}
                    // The other side ended with something of ours unread.
                    Err(Errno::ECONNRESET) => return Ok(0),
                    other => return Ok(other?),
                }
            }
        })
        .await?;
    if size == 0 {
        return Ok(None);
    }
    let payload = ipc::packet(&buffer[..size], MAX_CONTROL).map_err(io::Error::other)?;
    ipc::decode(payload).map(Some).map_err(io::Error::other)
}
