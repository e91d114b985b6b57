//! What a process gives up once it has all that it needs: every file, every network, every other
//! process.
//!
//! Two things confine a process, each for good and for all that it forks. Landlock, where the
//! kernel has it, takes away every path, every port, and signals to processes outside. A seccomp
//! filter (`calls`) leaves only the system calls of the process's role. What the filter forbids it
//! forbids alone, so a kernel without Landlock loses the second lock and not the first. Limits of
//! memory and the like are not set here.
//!
//! It holds for the calling thread and for the threads and processes that it makes later, so it
//! comes before any other thread.
mod calls;

use ipc::Sandbox;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, Ruleset, RulesetAttr, RulesetError,
    RulesetStatus, Scope,
};
use seccompiler::BpfProgram;
use std::io;
use thiserror::Error;

/// What a process is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It reads files that are open, forks, and passes on what it is sent.
    Template,
    /// It computes, on threads of its own, and talks on one socket.
    Worker,
    /// It talks with strangers: it accepts them on sockets that listen already.
    Front,
}

/// Why a process could not be confined.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// The kernel has Landlock, but refuses it.
    #[error("the kernel refuses Landlock")]
    Landlock(#[source] RulesetError),
    /// The filter is none for this machine.
    #[error("cannot make the filter of system calls")]
    Filter(#[source] seccompiler::BackendError),
    /// The kernel does not take the filter.
    #[error("the kernel refuses the filter of system calls")]
    Seccomp(#[source] io::Error),
}

/// The newest version of Landlock that is known here.
const NEWEST: ABI = ABI::V9;

/// The filters of templates and workers. They are made once, in a template, and what is forked from
/// it only installs its own.
#[derive(Debug)]
pub struct Filters {
    both: [BpfProgram; 2],
    template: BpfProgram,
    worker: BpfProgram,
}

impl Filters {
    /// Makes the filters for this machine.
    pub fn new() -> Result<Filters, SandboxError> {
        let own = |role| calls::filter(role).map_err(SandboxError::Filter);
        let both = calls::filters_of_both().map_err(SandboxError::Filter)?;
        Ok(Filters { both, template: own(Role::Template)?, worker: own(Role::Worker)? })
    }

    /// Leaves a template only the system calls that it needs. It can gain no privileges any more
    /// either.
    pub fn confine_template(&self) -> Result<(), SandboxError> {
        self.both.iter().chain([&self.template]).try_for_each(install)
    }

    /// Leaves a worker only the system calls that it needs. A template has forked it, so it has
    /// inherited what holds for all.
    pub fn confine_worker(&self) -> Result<(), SandboxError> {
        install(&self.worker)
    }
}

/// Confines this process as the front is, before its first client.
pub fn confine_front() -> Result<Sandbox, SandboxError> {
    let landlock = deny_paths()?;
    calls::filters_of_both().map_err(SandboxError::Filter)?.iter().try_for_each(install)?;
    install(&calls::filter(Role::Front).map_err(SandboxError::Filter)?)?;
    Ok(Sandbox { seccomp: true, landlock })
}

fn install(filter: &BpfProgram) -> Result<(), SandboxError> {
    seccompiler::apply_filter(filter).map_err(|error| {
        SandboxError::Seccomp(match error {
            seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => error,
            other => io::Error::other(other.to_string()),
        })
    })
}

/// Denies this process every file that is not open, every port, and signals and abstract sockets of
/// others, as far as the kernel's version of Landlock can. Returns that version; `None` if the
/// kernel has no Landlock.
pub fn deny_paths() -> Result<Option<u32>, SandboxError> {
    let restrict = || {
        Ruleset::default()
            .handle_access(AccessFs::from_all(NEWEST))?
            .handle_access(AccessNet::from_all(NEWEST))?
            .scope(Scope::from_all(NEWEST))?
            .create()?
            .restrict_self()
    };
    let status = restrict().map_err(SandboxError::Landlock)?;
    // What the kernel lacks is left out without an error, be it everything.
    Ok(match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => None,
        (_, LandlockStatus::Available { effective_abi, .. }) => Some(effective_abi as u32),
        (_, LandlockStatus::NotEnabled | LandlockStatus::NotImplemented) => None,
    })
}

/// Whether the kernel has Landlock. It restricts nothing.
pub fn has_landlock() -> bool {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    ruleset.handle_access(AccessFs::from_all(ABI::V1)).and_then(|ruleset| ruleset.create()).is_ok()
}
