//! A front process, as the supervisor holds it: started, told how to serve, heard.
use super::{Input, stderr_tail::StderrTail, template_process::Starter};
use crate::process::{Exit, Process, ProcessError};
use ipc::{FromFront, FrontCounts, Listen, MAX_FRONT_CONTROL, ToFront};
use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair};
use policy::FrontId;
use std::{
    io::{self, IoSlice},
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    process::{self, Command, Stdio},
    sync::Arc,
    time::Duration,
};
use thiserror::Error;
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::unix::pipe,
    sync::mpsc,
};

/// What a front has said, or that it has ended.
#[derive(Debug)]
pub(crate) enum FrontSaid {
    /// A message, and the descriptors that came with it.
    Message(FromFront, Vec<OwnedFd>),
    /// It has ended, with these last lines on stderr.
    Exited(Exit, Vec<String>),
}

/// Why a front cannot be started, or not be told something.
#[derive(Debug, Error)]
pub(crate) enum FrontError {
    #[error("cannot make its socket")]
    Socket(#[source] io::Error),
    #[error("cannot start its process")]
    Spawn(#[source] io::Error),
    #[error("cannot take hold of its process")]
    Process(#[source] ProcessError),
    #[error("cannot listen to it")]
    Listen(#[source] io::Error),
    #[error("cannot send to its socket")]
    Send(#[source] io::Error),
}

/// How long what a dead front had sent may take to be read.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A front process.
#[derive(Debug)]
pub(crate) struct FrontProcess {
    pub(crate) process: Process,
    control: Arc<AsyncFd<OwnedFd>>,
    /// Where it listens, once it does.
    pub(crate) at: Vec<Listen>,
    pub(crate) counts: FrontCounts,
    pub(crate) sandbox: Option<String>,
}

impl FrontProcess {
    /// Starts one, which is to serve so, on these sockets or on ones that it makes.
    pub(crate) fn start(
        starter: &Starter,
        id: FrontId,
        serve: &ToFront,
        sockets: &[OwnedFd],
        inputs: mpsc::Sender<Input>,
    ) -> Result<FrontProcess, FrontError> {
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .map_err(|error| FrontError::Socket(error.into()))?;
        super::set_nonblocking(&ours).map_err(FrontError::Socket)?;
        let mut child = Command::new(starter.own())
            .arg0("supervisor")
            .args(["front", "--supervisor", &process::id().to_string()])
            .env_clear()
            .env("RUST_BACKTRACE", "0")
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(FrontError::Spawn)?;
        let process = Process::open(child.id()).map_err(FrontError::Process)?;
        let control = Arc::new(crate::sys::register(ours, Interest::READABLE).map_err(FrontError::Listen)?);
        let stderr = child.stderr.take().ok_or_else(|| FrontError::Listen(io::ErrorKind::BrokenPipe.into()))?;
        let stderr = pipe::Receiver::from_owned_fd(stderr.into()).map_err(FrontError::Listen)?;
        let tail = StderrTail::follow(stderr);
        let front = FrontProcess { process, control, at: Vec::new(), counts: FrontCounts::default(), sandbox: None };
        // If it cannot be sent, the front finds its socket closed.
        front.send(serve, sockets)?;
        tokio::spawn(attend(id, front.process.clone(), Arc::clone(&front.control), tail, inputs));
        Ok(front)
    }

    /// Sends one message with these descriptors; it never waits. A front that does not take its
    /// messages is found out by its silence.
    pub(crate) fn send(&self, message: &ToFront, descriptors: &[OwnedFd]) -> Result<(), FrontError> {
        let other = |error: &dyn std::error::Error| FrontError::Send(io::Error::other(error.to_string()));
        let payload = ipc::encode(message).map_err(|error| other(&error))?;
        let packet = ipc::frame(&payload, MAX_FRONT_CONTROL).map_err(|error| other(&error))?;
        let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[][..] } else { &rights[..] };
        let socket = self.control.get_ref().as_raw_fd();
        let sent = sendmsg::<()>(socket, &[IoSlice::new(&packet)], control, MsgFlags::MSG_NOSIGNAL, None);
        sent.map(drop).map_err(|error| FrontError::Send(error.into()))
    }
}

/// Hears a front until it ends.
async fn attend(
    id: FrontId,
    process: Process,
    control: Arc<AsyncFd<OwnedFd>>,
    tail: StderrTail,
    inputs: mpsc::Sender<Input>,
) {
    let hear = async {
        let mut buffer = vec![0; ipc::HEADER + MAX_FRONT_CONTROL];
        loop {
            match receive(&control, &mut buffer).await {
                Ok(Some((message, descriptors))) => {
                    let said = FrontSaid::Message(message, descriptors);
                    if inputs.send(Input::Front(id, said)).await.is_err() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::error!("front {} cannot be understood: {error}", process.pid());
                    return process.kill();
                }
            }
        }
    };
    let exit = process.exit_once_heard(hear, LAST_WORDS).await;
    let _stopped = inputs.send(Input::Front(id, FrontSaid::Exited(exit, tail.finish().await))).await;
}

/// The next message; `None` when the front has closed its end.
async fn receive(control: &AsyncFd<OwnedFd>, buffer: &mut [u8]) -> io::Result<Option<(FromFront, Vec<OwnedFd>)>> {
    let (size, descriptors) = control
        .async_io(Interest::READABLE, |socket| {
            loop {
                match system::receive_packet(socket, buffer) {
                    Err(nix::Error::EINTR) => {}
                    // The other side ended with something of ours unread.
                    Err(nix::Error::ECONNRESET) => return Ok((0, Vec::new())),
                    other => return Ok(other?),
                }
            }
        })
        .await?;
    if size == 0 {
        return Ok(None);
    }
    let payload = ipc::packet(&buffer[..size], MAX_FRONT_CONTROL).map_err(io::Error::other)?;
    Ok(Some((ipc::decode(payload).map_err(io::Error::other)?, descriptors)))
}
