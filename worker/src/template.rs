//! The template: a single-threaded process that has loaded and warmed a model and then only forks.
//!
//! A model file is untrusted input. So all that is ever opened is opened first; then the process is confined; and only then is a byte of
//! the model read.
//!
//! It knows nothing of requests. A worker is its grandchild: the child in between exits at once, so that the supervisor, which
//! is a subreaper, becomes the worker's parent; it sees the worker's exit status, and the worker outlives the template.
//!
//! Invariant: the process has one thread at every fork; else it refuses.
use crate::{
    chain,
    engine::Room,
    sandbox::{Filters, Role, SandboxError, deny_paths},
    sys::{self, Fork},
};
use ipc::{Forked, FromTemplate, Life, MAX_CONTROL, ModelInfo, ModelSpec, Needs, Sandbox, ToTemplate};
use nix::{
    dir::Dir,
    fcntl::OFlag,
    sys::{
        prctl,
        resource::{Resource, setrlimit},
        signal::{SigSet, SigmaskHow, Signal, sigprocmask},
        socket::{MsgFlags, send},
        stat::Mode,
        wait::waitpid,
    },
    unistd::{getppid, pipe2, setsid},
};
use std::{
    ffi::CString,
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::FileExt,
    },
    process,
};
use thiserror::Error;

/// What a worker is born with.
#[derive(Debug)]
pub struct Seat {
    /// Which life it is.
    pub life: Life,
    /// The supervisor's pid.
    pub supervisor: u32,
    /// Its socket to the supervisor.
    pub socket: OwnedFd,
    /// Its board.
    pub board: OwnedFd,
    /// What it must write its messages to.
    pub stderr: OwnedFd,
    /// What it inherits of the template.
    pub inherited: Inherited,
}

/// What a worker's limits of memory count besides what it may take.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inherited {
    /// Bytes of writable private memory.
    pub data: u64,
    /// Bytes of addresses that are mapped.
    pub addresses: u64,
    /// Bytes of a request's cache, which it maps whole.
    pub cache: u64,
}

/// The steps of making a worker, in order, named for tests that end processes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForkStep {
    /// In the template, before anything is forked.
    Asked,
    /// In the child in between, before it forks the worker.
    Between,
    /// In the child in between, when the worker lives.
    Born,
    /// In the template, when the worker lives and its pid is known, but the supervisor has not been told.
    Known,
    /// In the template, when the supervisor has been told.
    Told,
}

/// A model and what was found out about it, or one sentence on why it cannot be loaded.
pub type Loaded<M> = Result<(M, ModelInfo), String>;

/// What a template does at its turning points, in order; the real one and the ones that tests make differ only here.
pub struct Trade<'a, O, M> {
    /// Opens what the model is read from, and reads none of it.
    pub open: &'a dyn Fn(&ModelSpec) -> Result<O, String>,
    /// Confines the process.
    pub confine: &'a dyn Fn() -> Result<Sandbox, SandboxError>,
    /// Loads and warms the model, when the last argument has been told what it needs and has answered that there is room.
    pub load: &'a dyn Fn(O, &ModelSpec, Room<'_>) -> Loaded<M>,
    /// Lives a worker's life and returns its exit status.
    pub serve: &'a dyn Fn(&mut M, Seat) -> i32,
    /// Is told of each step of a fork.
    pub step: &'a dyn Fn(ForkStep),
}

impl<O, M> Trade<'_, O, M> {
    fn load(&self, spec: &ModelSpec, room: Room<'_>) -> Loaded<M> {
        let opened = (self.open)(spec)?;
        let confined = (self.confine)();
        let sandbox = confined.map_err(|error| {
            format!("cannot load the model {}: its process cannot be confined: {}", spec.path, chain(&error))
        })?;
        let (model, info) = (self.load)(opened, spec, room)?;
        Ok((model, ModelInfo { sandbox, ..info }))
    }
}

/// Why a template ends other than by end of file.
#[derive(Debug, Error)]
pub enum TemplateError {
    /// The supervisor that started it has gone.
    #[error("the supervisor has gone")]
    Orphaned,
    /// The process could not be set up.
    #[error("cannot set the process up")]
    SetUp(#[source] nix::Error),
    /// The control socket failed.
    #[error("the control socket failed")]
    Socket(#[source] nix::Error),
    /// What came is no frame.
    #[error("a packet on the control socket is broken")]
    Frame(#[source] ipc::FrameError),
    /// What came is no message, or one that cannot be sent.
    #[error("a message on the control socket is broken")]
    Message(#[source] ipc::CodecError),
    /// What came is not what must come now.
    #[error("a message on the control socket is out of order")]
    Order,
    /// What `/proc` says of the process cannot be opened.
    #[error("cannot open /proc/self/status")]
    Status(#[source] io::Error),
}

/// Lives a template's life on the control socket `control`, as a child of process `supervisor`, and returns the exit status.
///
/// The process must have been started for this: it leaves its session and dies with the supervisor.
pub fn run<O, M>(control: OwnedFd, supervisor: u32, trade: &Trade<'_, O, M>) -> Result<i32, TemplateError> {
    let own = set_up(supervisor)?;
    let control = Control { socket: control };
    let Some((ToTemplate::Load(spec), _)) = control.receive()? else { return Err(TemplateError::Order) };
    name_process("template", &spec.name);
    let (mut model, info) = match trade.load(&spec, &mut |needs| control.ask(needs)) {
        Ok(loaded) => loaded,
        Err(message) => {
            control.send(&FromTemplate::LoadFailed { message })?;
            return Ok(1);
        }
    };
    sys::trim_heap();
    let cache = info.cache;
    control.send(&FromTemplate::Ready(info))?;
    let mut template = Template { control, own, name: spec.name, cache };
    while let Some((message, descriptors)) = template.control.receive()? {
        let ToTemplate::Fork(life) = message else { return Err(TemplateError::Order) };
        let Ok([socket, board, stderr]) = <[OwnedFd; 3]>::try_from(descriptors) else {
            return Err(TemplateError::Order);
        };
        (trade.step)(ForkStep::Asked);
        let seat = Seat { life, supervisor, socket, board, stderr, inherited: Inherited::default() };
        let answer = match template.fork(seat, &mut model, trade) {
            Ok(pid) => FromTemplate::Forked(Forked { life, pid }),
            Err(error) => FromTemplate::ForkFailed { life, message: chain(&error) },
        };
        (trade.step)(ForkStep::Known);
        template.control.send(&answer)?;
        (trade.step)(ForkStep::Told);
    }
    Ok(0)
}

struct Template {
    control: Control,
    own: Own,
    name: String,
    /// Bytes of a request's cache.
    cache: u64,
}

/// What `/proc` says of this process, opened while it may still open something.
struct Own {
    /// Its threads.
    tasks: Dir,
    status: File,
}

impl Own {
    /// What a fork of it inherits.
    fn memory(&self) -> io::Result<Inherited> {
        let mut text = [0; 4096];
        let length = self.status.read_at(&mut text, 0)?;
        let text = String::from_utf8_lossy(&text[..length]);
        let bytes = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix("kB"));
            let kibibytes = value.and_then(|value| value.trim().parse::<u64>().ok());
            kibibytes.map(|count| count * 1024).ok_or_else(|| io::Error::other(format!("it has no {name}")))
        };
        Ok(Inherited { data: bytes("VmData:")?, addresses: bytes("VmSize:")?, cache: 0 })
    }
}

#[derive(Debug, Error)]
enum ForkError {
    #[error("cannot make a pipe")]
    Pipe(#[source] nix::Error),
    #[error("cannot block signals")]
    Signals(#[source] nix::Error),
    #[error("cannot read how much memory the worker will inherit")]
    Inherited(#[source] io::Error),
    #[error(transparent)]
    Fork(sys::ForkError),
    #[error("cannot wait for the process in between")]
    Wait(#[source] nix::Error),
    #[error("cannot read the worker's pid")]
    Pid(#[source] io::Error),
    #[error("the process in between cannot fork: {0}")]
    Between(nix::Error),
}

impl Template {
    /// Forks a worker and returns its pid. In the worker it does not return.
    fn fork<O, M>(&mut self, mut seat: Seat, model: &mut M, trade: &Trade<'_, O, M>) -> Result<u32, ForkError> {
        seat.inherited = self.own.memory().map_err(ForkError::Inherited)?;
        seat.inherited.cache = self.cache;
        let (told, tell) = pipe2(OFlag::O_CLOEXEC).map_err(ForkError::Pipe)?;
        let mut before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before)).map_err(ForkError::Signals)?;
        let forked = sys::fork(&mut self.own.tasks);
        if let Ok(Fork::Child) = forked {
            self.between(tell, before, seat, model, trade);
        }
        drop((tell, seat));
        let reaped = match forked {
            Ok(Fork::Parent(between)) => waitpid(between, None).map(drop).map_err(ForkError::Wait),
            Ok(Fork::Child) => unreachable!("the child has become a worker or has ended"),
            Err(error) => Err(ForkError::Fork(error)),
        };
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None).map_err(ForkError::Signals)?;
        reaped?;
        let mut answer = [[0; 4]; 2];
        File::from(told).read_exact(answer.as_flattened_mut()).map_err(ForkError::Pid)?;
        match u32::from_le_bytes(answer[0]) {
            0 => Err(ForkError::Between(nix::Error::from_raw(i32::from_le_bytes(answer[1])))),
            pid => Ok(pid),
        }
    }

    /// The child in between: forks the worker, tells the template its pid, and ends, which makes the worker the supervisor's.
    fn between<O, M>(
        &mut self,
        tell: OwnedFd,
        before: SigSet,
        seat: Seat,
        model: &mut M,
        trade: &Trade<'_, O, M>,
    ) -> ! {
        // Whatever keeps this process, it does not outlive the template. The worker does not inherit this.
        let _untied = prctl::set_pdeathsig(Signal::SIGKILL);
        (trade.step)(ForkStep::Between);
        let (pid, error) = match sys::fork(&mut self.own.tasks) {
            Ok(Fork::Child) => self.worker(before, seat, model, trade),
            Ok(Fork::Parent(worker)) => (worker.as_raw().unsigned_abs(), 0),
            Err(sys::ForkError::Fork(error)) => (0, error as i32),
            Err(sys::ForkError::Threads(_)) => (0, nix::Error::EBUSY as i32),
        };
        (trade.step)(ForkStep::Born);
        let answer = [pid.to_le_bytes(), error.to_le_bytes()].concat();
        sys::exit_now(i32::from(File::from(tell).write_all(&answer).is_err()))
    }

    fn worker<O, M>(&self, before: SigSet, seat: Seat, model: &mut M, trade: &Trade<'_, O, M>) -> ! {
        name_process("worker", &self.name);
        let keep = [seat.socket.as_raw_fd(), seat.board.as_raw_fd(), seat.stderr.as_raw_fd()];
        sys::live_alone(&keep, || match sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None) {
            Ok(()) => (trade.serve)(model, seat),
            Err(_) => sys::CANNOT_CONFINE,
        })
    }
}

struct Control {
    socket: OwnedFd,
}

impl Control {
    fn receive(&self) -> Result<Option<(ToTemplate, Vec<OwnedFd>)>, TemplateError> {
        let mut buffer = vec![0; ipc::HEADER + MAX_CONTROL];
        let (size, descriptors) = loop {
            match sys::receive_packet(&self.socket, &mut buffer) {
                Err(nix::Error::EINTR) => {}
                other => break other.map_err(TemplateError::Socket)?,
            }
        };
        if size == 0 {
            return Ok(None);
        }
        let payload = ipc::packet(&buffer[..size], MAX_CONTROL).map_err(TemplateError::Frame)?;
        Ok(Some((ipc::decode(payload).map_err(TemplateError::Message)?, descriptors)))
    }

    /// Whether the supervisor has room for a model. One that has not ends the template.
    fn ask(&self, needs: Needs) -> bool {
        let asked = self.send(&FromTemplate::Needs(needs));
        asked.is_ok() && matches!(self.receive(), Ok(Some((ToTemplate::Admit, _))))
    }

    fn send(&self, message: &FromTemplate) -> Result<(), TemplateError> {
        let payload = ipc::encode(message).map_err(TemplateError::Message)?;
        let packet = ipc::frame(&payload, MAX_CONTROL).map_err(TemplateError::Frame)?;
        send(self.socket.as_raw_fd(), &packet, MsgFlags::MSG_NOSIGNAL).map_err(TemplateError::Socket)?;
        Ok(())
    }
}

/// Confines this process as a template is. It has opened all that it needs.
pub fn confine(filters: &Filters) -> Result<Sandbox, SandboxError> {
    let landlock = deny_paths()?;
    filters.deny_calls(Role::Template)?;
    Ok(Sandbox { no_new_privileges: true, resource_limits: false, seccomp: true, landlock })
}

/// Ties this process's life to the supervisor's.
fn set_up(supervisor: u32) -> Result<Own, TemplateError> {
    // It fails only for the leader of a process group, who has a session of its own or asked for none.
    let _already_leader = setsid();
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(TemplateError::SetUp)?;
    // The signal comes only for a parent that dies from now on.
    if getppid().as_raw().unsigned_abs() != supervisor {
        return Err(TemplateError::Orphaned);
    }
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(TemplateError::SetUp)?;
    let folder = format!("/proc/{}", process::id());
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let tasks = Dir::open(format!("{folder}/task").as_str(), flags, Mode::empty()).map_err(TemplateError::SetUp)?;
    let status = File::open(format!("{folder}/status")).map_err(TemplateError::Status)?;
    Ok(Own { tasks, status })
}

/// Names the process for `ps`; the kernel keeps 15 bytes.
fn name_process(role: &str, model: &str) {
    if let Ok(name) = CString::new(format!("{role}:{model}")) {
        // A name is a convenience.
        let _unnamed = prctl::set_name(&name);
    }
}
