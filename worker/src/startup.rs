//! From a worker's birth to its `Hello`: it takes its descriptors, waits for `Go`, ties itself to
//! the supervisor and confines itself.
//!
//! It opens nothing. What it has then is its socket, its board's page and its stderr; what it can
//! do is compute.
use crate::{
    socket::WorkerSocket,
    template::{Inherited, WorkerFds},
};
use ipc::{BlockingEnd, EndError, Go, MAX_FRAME, Sandbox, ToWorker};
use nix::{
    sched::sched_yield,
    sys::{prctl, resource::Resource, signal::Signal},
    unistd::{Pid, dup2_stderr, getppid, setpgid},
};
use std::io;
use system::{
    Board, CANNOT_CONFINE, FAILED, limits,
    sandbox::{Filters, SandboxError, deny_paths},
};
use thiserror::Error;

/// A worker that has taken its descriptors: stderr is its own, the board is mapped.
#[derive(Debug)]
pub struct Started {
    /// The socket to the supervisor.
    pub end: BlockingEnd<WorkerSocket>,
    /// The board.
    pub board: Board,
    /// What it was born with.
    pub inherited: Inherited,
}

/// Why a worker does not come to serve.
#[derive(Debug, Error)]
pub enum StartupError {
    /// The descriptors could not be taken.
    #[error("cannot take its descriptors")]
    Take(#[source] io::Error),
    /// The socket failed.
    #[error("the supervisor cannot be heard")]
    Socket(#[source] EndError),
    /// `Go` is not the first message.
    #[error("the first message is not the right one")]
    NotGo,
    /// The worker could not be tied to the supervisor's life.
    #[error("cannot be tied to the supervisor")]
    Tie(#[source] nix::Error),
    /// The supervisor is not this worker's parent.
    #[error("the supervisor is not the parent")]
    Orphaned,
    /// A limit could not be set.
    #[error("cannot limit {0}")]
    Limit(&'static str, #[source] nix::Error),
    /// The process could not be closed to inspection, or could not renounce privileges.
    #[error("cannot renounce privileges")]
    Privileges(#[source] nix::Error),
    /// The process could not be confined.
    #[error("cannot be confined")]
    Sandbox(#[source] SandboxError),
}

impl StartupError {
    /// The exit status that says it.
    pub fn exit_status(&self) -> i32 {
        match self {
            StartupError::Limit(..) | StartupError::Privileges(_) | StartupError::Sandbox(_) => CANNOT_CONFINE,
            StartupError::Take(_)
            | StartupError::Socket(_)
            | StartupError::NotGo
            | StartupError::Tie(_)
            | StartupError::Orphaned => FAILED,
        }
    }
}

/// Makes the new stderr this process's own and maps the board.
pub fn start(fds: WorkerFds) -> Result<Started, StartupError> {
    dup2_stderr(&fds.stderr).map_err(|error| StartupError::Take(error.into()))?;
    drop(fds.stderr);
    let board = Board::map(&fds.board).map_err(StartupError::Take)?;
    let end = BlockingEnd::new(WorkerSocket::new(fds.socket), MAX_FRAME, MAX_FRAME);
    Ok(Started { end, board, inherited: fds.inherited })
}

/// Has this process die with the supervisor, once the supervisor is its parent, which takes a
/// moment: until the process in between has ended. Before that, its end would be the parent's
/// death.
pub(crate) fn tie_to(supervisor: u32) -> Result<bool, StartupError> {
    const MOMENT: usize = 10_000;
    let is_parent = || getppid().as_raw().unsigned_abs() == supervisor;
    if !(0..MOMENT).any(|_| is_parent() || sched_yield().is_err()) {
        return Ok(false);
    }
    system::die_with(supervisor, Signal::SIGKILL).map_err(StartupError::Tie)
}

/// Waits for the supervisor's `Go`; `None` if it hangs up first, as it does when it does not want
/// this worker any more.
pub fn wait_for_go(started: &mut Started) -> Result<Option<Go>, StartupError> {
    match started.end.receive().map_err(StartupError::Socket)? {
        Some(ToWorker::Go(go)) => Ok(Some(go)),
        Some(_) => Err(StartupError::NotGo),
        None => Ok(None),
    }
}

/// Ties this process to the supervisor's life and gives up what a worker does not need. `inherited`
/// is what it was born with.
pub fn confine(go: &Go, inherited: Inherited, filters: &Filters) -> Result<Sandbox, StartupError> {
    // Nothing counts the page tables of what is mapped and only read: a five-hundredth of it. This
    // much is there for stacks and arenas.
    const ADDRESSES: u64 = 16 << 30;
    let addresses =
        [inherited.addresses, inherited.cache, go.memory, ADDRESSES].into_iter().fold(0, u64::saturating_add);
    // It is the leader of its own process group, so that nothing sent to another group reaches it.
    setpgid(Pid::from_raw(0), Pid::from_raw(0)).map_err(StartupError::Tie)?;
    if !tie_to(go.supervisor)? {
        return Err(StartupError::Orphaned);
    }
    for (name, resource, limit) in [
        ("core dumps", Resource::RLIMIT_CORE, 0),
        ("file sizes", Resource::RLIMIT_FSIZE, 0),
        ("open files", Resource::RLIMIT_NOFILE, 16),
        ("locked memory", Resource::RLIMIT_MEMLOCK, 0),
        ("private memory", Resource::RLIMIT_DATA, inherited.data.saturating_add(go.memory)),
        ("addresses", Resource::RLIMIT_AS, addresses),
    ] {
        limits::lower(resource, limit).map_err(|error| StartupError::Limit(name, error))?;
    }
    // Other processes of the same user cannot look into it from now on; the supervisor has opened
    // what it looks at.
    prctl::set_dumpable(false).map_err(StartupError::Privileges)?;
    prctl::set_no_new_privs().map_err(StartupError::Privileges)?;
    let landlock = deny_paths().map_err(StartupError::Sandbox)?;
    filters.confine_worker().map_err(StartupError::Sandbox)?;
    Ok(Sandbox { seccomp: true, landlock })
}
