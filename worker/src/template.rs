//! The template: a single-threaded process that has loaded and warmed a model and then only forks.
//!
//! A model file is untrusted input. So all that is ever opened is opened first; then the process is
//! confined; and only then is a byte of the model read.
//!
//! It knows nothing of requests. A worker is its grandchild: the child in between exits at once, so
//! that the supervisor, which is a subreaper, becomes the worker's parent; it sees the worker's
//! exit status, and the worker outlives the template. That child shares the template's memory while
//! the template waits for its end, so page tables are copied once for each worker, and not twice.
//!
//! Invariant: the process has one thread at every fork; else it refuses.
use ipc::{Forked, FromTemplate, MAX_CONTROL, ModelInfo, ModelSpec, Needs, Sandbox, ToTemplate};
use model::Admit;
use nix::{
    sys::{
        prctl,
        resource::Resource,
        signal::{SigSet, SigmaskHow, Signal, sigprocmask},
        socket::{MsgFlags, send},
        wait::waitpid,
    },
    unistd::setsid,
};
use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsRawFd, OwnedFd},
};
use system::{
    Alone, CANNOT_CONFINE, ChildStack, Fork, exit_now,
    foreign_text::chain,
    limits, live_alone,
    proc::OwnProcess,
    sandbox::{Filters, SandboxError, deny_paths},
};
use thiserror::Error;

/// What a worker is born with.
#[derive(Debug)]
pub struct WorkerFds {
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
    Requested,
    /// In the child in between, before it forks the worker.
    Between,
    /// In the child in between, when the worker lives.
    Born,
    /// In the template, when the worker lives and its pid is known, but the supervisor has not been
    /// told.
    Known,
    /// In the template, when the supervisor has been told.
    Told,
}

/// A model and what was found out about it, or one sentence on why it cannot be loaded.
pub type Loaded<M> = Result<(M, ModelInfo), String>;

/// What a template does at its turning points, in order; the real one and the ones that tests make
/// differ only here.
pub trait TemplateHooks {
    /// What a model is read from.
    type Opened;
    /// A loaded model.
    type Model;

    /// Opens what the model is read from, and reads none of it.
    fn open(&self, spec: &ModelSpec) -> Result<Self::Opened, String>;

    /// Confines the process.
    fn confine(&self) -> Result<Sandbox, SandboxError>;

    /// Loads and warms the model, when `admit` has been told what it needs and has answered that
    /// there is room.
    fn load(&self, opened: Self::Opened, spec: &ModelSpec, admit: Admit<'_>) -> Loaded<Self::Model>;

    /// Lives a worker's life and returns its exit status.
    fn serve(&self, model: &mut Self::Model, fds: WorkerFds) -> i32;

    /// Is told of each step of a fork.
    fn step(&self, step: ForkStep) {
        let _ = step;
    }
}

fn load<H: TemplateHooks>(hooks: &H, spec: &ModelSpec, admit: Admit<'_>) -> Loaded<H::Model> {
    let opened = hooks.open(spec)?;
    let sandbox = hooks.confine().map_err(|error| {
        format!("cannot load the model {}: its process cannot be confined: {}", spec.source, chain(&error))
    })?;
    let (model, info) = hooks.load(opened, spec, admit)?;
    Ok((model, ModelInfo { sandbox, ..info }))
}

/// Why a template ends other than by end of file.
#[derive(Debug, Error)]
pub enum TemplateError {
    /// The supervisor that started it has gone.
    #[error("the supervisor has gone")]
    Orphaned,
    /// The process could not be tied to the supervisor's life.
    #[error("cannot be tied to the supervisor")]
    Tie(#[source] nix::Error),
    /// Signals could not be ignored.
    #[error("cannot ignore a signal")]
    Ignore(#[source] nix::Error),
    /// A limit could not be set.
    #[error("cannot limit {0}")]
    Limit(&'static str, #[source] nix::Error),
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
    #[error("cannot open /proc/self")]
    OwnProcess(#[source] io::Error),
    /// There are no addresses for a stack.
    #[error("cannot reserve addresses for a worker's stack")]
    Stack(#[source] nix::Error),
}

/// Lives a template's life on the control socket `control`, as a child of process `supervisor`, and
/// returns the exit status.
///
/// The process must have been started for this: it leaves its session and dies with the supervisor.
pub fn run<H: TemplateHooks>(control: OwnedFd, supervisor: u32, hooks: &H) -> Result<i32, TemplateError> {
    let own = set_up(supervisor)?;
    let stack = ChildStack::new().map_err(TemplateError::Stack)?;
    let mut control = Control { socket: control, buffer: vec![0; ipc::HEADER + MAX_CONTROL] };
    let Some((ToTemplate::Load(spec), _)) = control.receive()? else { return Err(TemplateError::Order) };
    take_name(&process_name("template", &spec.name));
    let (mut model, info) = match load(hooks, &spec, &mut |needs| control.ask(needs)) {
        Ok(loaded) => loaded,
        Err(message) => {
            control.send(&FromTemplate::LoadFailed { message })?;
            return Ok(1);
        }
    };
    system::trim_heap();
    let cache = info.cache;
    control.send(&FromTemplate::Ready(info))?;
    let mut template = Template { control, own, stack, name: process_name("worker", &spec.name), cache };
    while let Some((message, descriptors)) = template.control.receive()? {
        let ToTemplate::Fork(life) = message else { return Err(TemplateError::Order) };
        let Ok([socket, board, stderr]) = <[OwnedFd; 3]>::try_from(descriptors) else {
            return Err(TemplateError::Order);
        };
        hooks.step(ForkStep::Requested);
        let fds = WorkerFds { supervisor, socket, board, stderr, inherited: Inherited::default() };
        let answer = match template.fork(fds, &mut model, hooks) {
            Ok(pid) => FromTemplate::Forked(Forked { life, pid }),
            Err(error) => {
                let is_shortage = error.is_shortage();
                FromTemplate::ForkFailed { life, message: chain(&error), is_shortage }
            }
        };
        hooks.step(ForkStep::Known);
        template.control.send(&answer)?;
        hooks.step(ForkStep::Told);
    }
    Ok(0)
}

struct Template {
    control: Control,
    own: OwnProcess,
    /// Of the child in between, and of the worker.
    stack: ChildStack,
    /// Of its workers.
    name: CString,
    /// Bytes of a request's cache.
    cache: u64,
}

#[derive(Debug, Error)]
enum ForkError {
    #[error("cannot block signals")]
    Signals(#[source] nix::Error),
    #[error("cannot read how much memory the worker will inherit")]
    Inherited(#[source] io::Error),
    #[error(transparent)]
    Fork(system::ForkError),
    #[error("cannot wait for the process in between")]
    Wait(#[source] nix::Error),
    #[error("the process in between")]
    Between(#[source] system::ForkError),
    #[error("the process in between has ended before it forked")]
    Ended,
}

impl ForkError {
    fn is_shortage(&self) -> bool {
        matches!(self, ForkError::Fork(error) | ForkError::Between(error) if error.is_shortage())
    }
}

impl Template {
    /// Forks a worker and returns its pid. In the worker it does not return.
    fn fork<H: TemplateHooks>(
        &mut self,
        mut fds: WorkerFds,
        model: &mut H::Model,
        hooks: &H,
    ) -> Result<u32, ForkError> {
        let (data, addresses) = self.own.data_and_addresses().map_err(ForkError::Inherited)?;
        fds.inherited = Inherited { data, addresses, cache: self.cache };
        let mut before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before)).map_err(ForkError::Signals)?;
        let mut fds = Some(fds);
        let mut forked = None;
        let Template { own, stack, name, .. } = self;
        // The child in between forks the worker and ends, which makes the worker the supervisor's.
        let between = |alone| {
            // Whatever keeps this process, it does not outlive the template. The worker does not
            // inherit this.
            let _untied = prctl::set_pdeathsig(Signal::SIGKILL);
            hooks.step(ForkStep::Between);
            match system::fork(alone) {
                Ok(Fork::Child) => live(name, before, fds.take(), model, hooks),
                Ok(Fork::Parent(worker)) => forked = Some(Ok(worker.as_raw().unsigned_abs())),
                Err(error) => forked = Some(Err(error)),
            }
            hooks.step(ForkStep::Born);
        };
        let forking = Alone::check(&mut own.tasks).and_then(|alone| system::run_between(alone, stack, between));
        let reaped = match forking {
            Ok(between) => waitpid(between, None).map(drop).map_err(ForkError::Wait),
            Err(error) => Err(ForkError::Fork(error)),
        };
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None).map_err(ForkError::Signals)?;
        reaped?;
        forked.ok_or(ForkError::Ended)?.map_err(ForkError::Between)
    }
}

/// Lives a worker's life, with what it is born with.
fn live<H: TemplateHooks>(name: &CStr, before: SigSet, fds: Option<WorkerFds>, model: &mut H::Model, hooks: &H) -> ! {
    let Some(fds) = fds else { exit_now(system::FAILED) };
    take_name(name);
    let keep = [fds.socket.as_raw_fd(), fds.board.as_raw_fd(), fds.stderr.as_raw_fd()];
    live_alone(&keep, || match sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None) {
        Ok(()) => hooks.serve(model, fds),
        Err(_) => CANNOT_CONFINE,
    })
}

struct Control {
    socket: OwnedFd,
    /// Of the largest packet.
    buffer: Vec<u8>,
}

impl Control {
    fn receive(&mut self) -> Result<Option<(ToTemplate, Vec<OwnedFd>)>, TemplateError> {
        let (size, descriptors) = loop {
            match system::receive_packet(&self.socket, &mut self.buffer) {
                Err(nix::Error::EINTR) => {}
                other => break other.map_err(TemplateError::Socket)?,
            }
        };
        if size == 0 {
            return Ok(None);
        }
        let payload = ipc::packet(&self.buffer[..size], MAX_CONTROL).map_err(TemplateError::Frame)?;
        Ok(Some((ipc::decode(payload).map_err(TemplateError::Message)?, descriptors)))
    }

    /// Whether the supervisor has room for a model. One that has not ends the template.
    fn ask(&mut self, needs: Needs) -> bool {
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
    filters.confine_template()?;
    Ok(Sandbox { seccomp: true, landlock })
}

/// Most descriptors of a template: its model's files and a few more. Where the kernel cannot close
/// many at once, a worker closes all up to here, one by one.
const DESCRIPTORS: u64 = 1024;

/// Ties this process's life to the supervisor's.
fn set_up(supervisor: u32) -> Result<OwnProcess, TemplateError> {
    // It fails only for the leader of a process group, who has a session of its own or asked for
    // none.
    let _already_leader = setsid();
    if !system::die_with(supervisor, Signal::SIGKILL).map_err(TemplateError::Tie)? {
        return Err(TemplateError::Orphaned);
    }
    // A service manager may send these to every process of a service.
    for signal in [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2] {
        system::ignore(signal).map_err(TemplateError::Ignore)?;
    }
    for (name, resource, most) in
        [("core dumps", Resource::RLIMIT_CORE, 0), ("open files", Resource::RLIMIT_NOFILE, DESCRIPTORS)]
    {
        limits::lower(resource, most).map_err(|error| TemplateError::Limit(name, error))?;
    }
    OwnProcess::open().map_err(TemplateError::OwnProcess)
}

/// The name of a process for `ps`; the kernel keeps 15 bytes.
fn process_name(role: &str, model: &str) -> CString {
    CString::new(format!("{role}:{model}")).unwrap_or_default()
}

/// Names this process.
fn take_name(name: &CStr) {
    // A name is a convenience.
    let _unnamed = prctl::set_name(name);
}
