//! A worker without a supervisor: this process starts a template, has it fork one worker and speaks
//! to its socket itself.
use crate::Result;
use integration_tests::supervisor;
use ipc::{
    BlockingEnd, Forked, FromTemplate, FromWorker, Go, Job, JobPrompt, Life, MAX_CONTROL, MAX_FRAME, ModelSpec, Prompt,
    RequestId, Sampling, ToTemplate, ToWorker,
};
use nix::{
    sys::{
        prctl,
        socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recv, sendmsg, socketpair},
        wait::waitpid,
    },
    unistd::Pid,
};
use std::{
    ffi::OsString,
    io::{self, IoSlice},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::{self, Child, Command, Stdio},
    time::Duration,
};
use system::Board;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A worker of the echo engine, as a child of this process.
#[derive(Debug)]
pub(crate) struct Direct {
    /// Dropped first: its end tells the worker to exit.
    socket: Option<BlockingEnd<UnixStream>>,
    control: Option<OwnedFd>,
    worker: u32,
    template: Child,
    chunk: u32,
    requests: u64,
}

impl Direct {
    /// Starts the template, with the environment that a supervisor gives one, and the worker.
    pub(crate) fn start(environment: Vec<(OsString, OsString)>) -> Result<Direct> {
        // The worker is the template's grandchild; this makes it this process's child when the one
        // in between has ended.
        prctl::set_child_subreaper(true)?;
        let (control, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        let template = Command::new(supervisor())
            .args(["template", "--supervisor", &process::id().to_string()])
            .env_clear()
            .envs(environment)
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start a template: {error}"))?;
        let mut direct = Direct { socket: None, control: Some(control), worker: 0, template, chunk: 1, requests: 0 };
        let spec = ModelSpec::new("echo", "builtin:echo");
        let mut answer = direct.tell(&ToTemplate::Load(spec), &[])?;
        if let FromTemplate::Needs(_) = answer {
            answer = direct.tell(&ToTemplate::Admit, &[])?;
        }
        match answer {
            FromTemplate::Ready(info) => direct.chunk = info.chunk,
            other => return Err(format!("the template cannot load the echo engine: {other:?}").into()),
        }
        let (ours, theirs) = UnixStream::pair()?;
        let (board, stderr) = (Board::create()?, io::stderr().as_fd().try_clone_to_owned()?);
        let life = Life { slot: 0, generation: 1 };
        let seat = [theirs.as_raw_fd(), board.as_raw_fd(), stderr.as_raw_fd()];
        match direct.tell(&ToTemplate::Fork(life), &seat)? {
            FromTemplate::Forked(Forked { pid, .. }) => direct.worker = pid,
            other => return Err(format!("the template cannot fork: {other:?}").into()),
        }
        ours.set_read_timeout(Some(LIMIT))?;
        let mut socket = BlockingEnd::new(ours, MAX_FRAME, MAX_FRAME);
        socket.send(&ToWorker::Go(Go { supervisor: process::id(), memory: 512 << 20, single: false }))?;
        match socket.receive::<FromWorker>()? {
            Some(FromWorker::Hello { .. }) => {}
            other => return Err(format!("the worker does not say hello: {other:?}").into()),
        }
        direct.socket = Some(socket);
        Ok(direct)
    }

    /// Has the worker answer one request with one token. Returns how many messages that took.
    pub(crate) fn ask(&mut self) -> Result<usize> {
        self.requests += 1;
        let request = RequestId(self.requests);
        let job = Job {
            request,
            prompt: JobPrompt::Fresh(Prompt::Raw("x".to_owned()).into()),
            generated: Vec::new(),
            delivered: 0,
            chunk: self.chunk,
            max_tokens: Some(1),
            sampling: Sampling::default(),
            seed: 1,
            stop: Vec::new(),
            ignore_end: false,
            template_vars: String::new(),
            cache: false,
        };
        let socket = self.socket.as_mut().ok_or("the worker is not there")?;
        socket.send(&ToWorker::Run(Box::new(job)))?;
        let mut messages = 0;
        loop {
            messages += 1;
            match socket.receive::<FromWorker>()? {
                Some(FromWorker::Prompt { .. } | FromWorker::Token { .. }) => {}
                Some(FromWorker::Done { .. }) => return Ok(messages),
                other => return Err(format!("the worker does not answer: {other:?}").into()),
            }
        }
    }

    /// Sends the template one message and waits for its answer.
    fn tell(&self, message: &ToTemplate, descriptors: &[i32]) -> Result<FromTemplate> {
        let control = self.control.as_ref().ok_or("the template is not there")?;
        let packet = ipc::frame(&ipc::encode(message)?, MAX_CONTROL)?;
        let rights = [ControlMessage::ScmRights(descriptors)];
        let rights = if descriptors.is_empty() { &[][..] } else { &rights[..] };
        sendmsg::<()>(control.as_raw_fd(), &[IoSlice::new(&packet)], rights, MsgFlags::MSG_NOSIGNAL, None)?;
        let mut buffer = vec![0; ipc::HEADER + MAX_CONTROL];
        let size = recv(control.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        Ok(ipc::decode(ipc::packet(&buffer[..size], MAX_CONTROL)?)?)
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        drop((self.socket.take(), self.control.take()));
        let _waited = self.template.wait();
        if let Ok(pid @ 1..) = i32::try_from(self.worker) {
            let _waited = waitpid(Pid::from_raw(pid), None);
        }
    }
}
