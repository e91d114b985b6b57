//! A process that forks, and one that was just forked.
use crate::limits::TASKS;
use nix::{
    dir::Dir,
    sys::{
        mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect, munmap},
        prctl,
        resource::{Resource, getrlimit},
        signal::{SigHandler, Signal},
    },
    unistd::{ForkResult, Pid, getppid},
};
use std::{
    ffi::{c_int, c_void},
    num::NonZeroUsize,
    os::fd::RawFd,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr::NonNull,
};
use thiserror::Error;

/// The exit status of a worker that could not serve.
pub const FAILED: i32 = 1;

/// The exit status of a process that panicked.
pub const PANICKED: i32 = 101;

/// The exit status of a process that could not be confined.
pub const CANNOT_CONFINE: i32 = 102;

/// Which side of a fork this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    /// The process that forked, with the child's pid.
    Parent(Pid),
    /// The new process.
    Child,
}

/// A stack for a process that shares another one's memory, and for what that process forks.
#[derive(Debug)]
pub struct ChildStack {
    bottom: NonNull<c_void>,
}

impl ChildStack {
    /// As large as the stack of a first thread usually may become.
    const SIZE: NonZeroUsize = NonZeroUsize::new(8 << 20).unwrap();
    /// What catches an overflow; a page of any machine fits into it.
    const GUARD: usize = 64 << 10;

    /// Reserves the addresses. Memory is taken when it is used.
    pub fn new() -> nix::Result<ChildStack> {
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_STACK | MapFlags::MAP_NORESERVE;
        // SAFETY: the kernel chooses the place, so nothing else is there.
        let bottom = unsafe { mmap_anonymous(None, Self::SIZE, ProtFlags::PROT_NONE, flags) }?;
        let stack = ChildStack { bottom };
        // SAFETY: the range is within what was just mapped, and nobody uses it yet.
        unsafe {
            let length = Self::SIZE.get() - Self::GUARD;
            mprotect(bottom.byte_add(Self::GUARD), length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)
        }?;
        Ok(stack)
    }

    /// Where it begins: it grows down.
    fn top(&self) -> *mut c_void {
        self.bottom.as_ptr().wrapping_byte_add(Self::SIZE.get())
    }
}

impl Drop for ChildStack {
    fn drop(&mut self) {
        // SAFETY: it was mapped in `new` with this size, and who ran on it has ended, because
        // `run_between` borrows it for as long.
        let _unmapped = unsafe { munmap(self.bottom, Self::SIZE.get()) };
    }
}

/// Why a process was not forked.
#[derive(Debug, Error)]
pub enum ForkError {
    /// Locks that another thread holds would stay locked in the child for ever.
    #[error("the template has {0} threads, so forking it is not safe")]
    Threads(usize),
    /// There are as many processes as there may be.
    #[error("cannot fork: no more processes or threads are allowed ({TASKS})")]
    Exhausted(#[source] nix::Error),
    /// The system refused.
    #[error("cannot fork")]
    Fork(#[source] nix::Error),
}

impl ForkError {
    /// Whether there is no room for another process now, which is nobody's fault.
    pub fn is_shortage(&self) -> bool {
        matches!(self, ForkError::Exhausted(_) | ForkError::Fork(nix::Error::ENOMEM))
    }
}

impl From<nix::Error> for ForkError {
    fn from(error: nix::Error) -> ForkError {
        match error {
            nix::Error::EAGAIN => ForkError::Exhausted(error),
            _ => ForkError::Fork(error),
        }
    }
}

/// Runs `between` in a child that shares this process's memory, while this process waits for the
/// child's end, and returns the child's pid. What it changes is changed here, too; its descriptors
/// are its own.
///
/// For a child that only forks another: it costs no page table, however large this process is.
pub fn run_between<F: FnOnce(Alone)>(alone: Alone, stack: &mut ChildStack, between: F) -> Result<Pid, ForkError> {
    extern "C" fn enter<F: FnOnce()>(between: *mut c_void) -> c_int {
        // SAFETY: it is the `Option<F>` below, whose owner waits until this process has ended.
        let between = unsafe { &mut *between.cast::<Option<F>>() }.take();
        // A panic must not unwind into C.
        catch_unwind(AssertUnwindSafe(|| between.map(|between| between()))).map_or(PANICKED, |_| 0)
    }
    fn start<F: FnOnce()>(stack: &mut ChildStack, between: F) -> c_int {
        let mut between = Some(between);
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        // SAFETY: nobody else runs on the stack. Nothing but the child runs until it ends, because
        // this process has one thread and waits (CLONE_VFORK): so the borrows of `between` are the
        // child's alone, and locks are as they were.
        unsafe { libc::clone(enter::<F>, stack.top(), flags, (&raw mut between).cast()) }
    }
    let pid = start(stack, || between(alone));
    Ok(Pid::from_raw(nix::Error::result(pid)?))
}

/// Forks this process.
pub fn fork(_alone: Alone) -> Result<Fork, ForkError> {
    // SAFETY: there is one thread, so the child has all of this process that there is. (A child of
    // such a process has one, too.)
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Fork::Parent(child)),
        ForkResult::Child => Ok(Fork::Child),
    }
}

/// That this process has one thread. One that a process like this made has one, too.
#[derive(Debug)]
pub struct Alone(());

impl Alone {
    /// Counts the threads, which `tasks` lists.
    pub fn check(tasks: &mut Dir) -> Result<Alone, ForkError> {
        let is_dot = |name: &[u8]| name.starts_with(b".");
        let threads = tasks
            .iter()
            .filter(|entry| !entry.as_ref().is_ok_and(|entry| is_dot(entry.file_name().to_bytes())))
            .count();
        if threads == 1 { Ok(Alone(())) } else { Err(ForkError::Threads(threads)) }
    }
}

/// Ends the process at once: no destructors, no exit handlers, no flushing of what a parent had
/// buffered.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Closes every descriptor from 3 on but those of `keep`, lives `life`, and ends the process with
/// its result.
///
/// For a process just forked: what it inherited is its parent's. `life` must not use descriptors
/// other than those of `keep`.
pub fn live_alone(keep: &[RawFd], life: impl FnOnce() -> i32) -> ! {
    let mut kept: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).filter(|fd| *fd > 2).collect();
    kept.sort_unstable();
    let mut first = 3;
    for last in kept.into_iter().map(|fd| fd - 1).chain([u32::MAX]) {
        if first <= last {
            close_all(first, last);
        }
        first = last.saturating_add(2);
    }
    // A panic must not unwind into the parent's code.
    exit_now(catch_unwind(AssertUnwindSafe(life)).unwrap_or(PANICKED))
}

/// Closes the descriptors from `first` to `last`, in a process that ends without ever using one of
/// them again.
fn close_all(first: u32, last: u32) {
    // SAFETY: the caller does not return, so no owner of what is closed here is ever used or
    // dropped again.
    if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0 {
        return;
    }
    // Linux before 5.9 does not know the call, nor do profiles of containers that are as old. The
    // numbers in use can be listed no more, but none is at the limit or above it.
    let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) else { exit_now(CANNOT_CONFINE) };
    let last = u64::from(last).min(limit.saturating_sub(1));
    for descriptor in (first..).map_while(|number| i32::try_from(number).ok()) {
        if u64::from(descriptor.unsigned_abs()) > last {
            return;
        }
        // SAFETY: as above. That most of them are not open is no harm.
        unsafe { libc::close(descriptor) };
    }
}

/// Has this process, and those that it forks, take no notice of a signal.
pub fn ignore(signal: Signal) -> nix::Result<()> {
    // SAFETY: no handler of this process is replaced that somebody relies on, and to ignore runs no
    // code.
    unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) }.map(drop)
}

/// Has this process sent a signal when its parent ends, if that is `parent`. `false` if it is not, or
/// no more: the signal comes only for a parent that ends from now on.
pub fn die_with(parent: u32, signal: Signal) -> nix::Result<bool> {
    prctl::set_pdeathsig(signal)?;
    Ok(getppid().as_raw().unsigned_abs() == parent)
}

/// Gives the memory that loading has freed back to the system, so that workers do not inherit it.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `malloc_trim` has no preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
}
