//! The system calls and instructions that Rust cannot check: the only unsafe code of this crate, and of the supervisor, which uses it too.
//!
//! Each function is safe to call or says what its caller must know. What nix and rustix offer as safe is called where it is needed.
#![expect(unsafe_code, reason = "this module exists to hold it")]

#[cfg(target_arch = "x86_64")]
use crate::engine::bert::bytes;
use candle_core::quantized::QuantizedType;
use ipc::board::{self, Word};
use nix::{
    cmsg_space,
    dir::Dir,
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::{
        memfd::{MFdFlags, memfd_create},
        mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap},
        socket::{ControlMessageOwned, MsgFlags, recvmsg},
    },
    unistd::{ForkResult, Pid, SysconfVar, ftruncate, sysconf},
};
use std::{
    ffi::c_void,
    io::{self, IoSliceMut},
    num::NonZeroUsize,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    panic::{AssertUnwindSafe, catch_unwind},
    ptr::NonNull,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};
use thiserror::Error;

/// The exit status of a process that panicked.
pub const PANICKED: i32 = 101;

/// The exit status of a process that could not be confined.
pub const CANNOT_CONFINE: i32 = 102;

/// Most descriptors that come with one packet.
const MOST_DESCRIPTORS: usize = 4;

/// Makes memory that can be handed over: full size, zeroed, sealed against resizing, so that nobody who has it can make another's
/// access fail. It takes no memory before it is written to. `name` is what `/proc` calls it.
pub fn sealed_memory(name: &str, size: u64) -> io::Result<OwnedFd> {
    let size = i64::try_from(size).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let memory = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    ftruncate(&memory, size)?;
    fcntl(&memory, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL))?;
    Ok(memory)
}

/// A board, mapped: see [`ipc::board`]. Both sides read and write it through atomics only.
#[derive(Debug)]
pub struct Board {
    words: NonNull<AtomicU64>,
}

impl Board {
    /// Makes a board's memory.
    pub fn create() -> io::Result<OwnedFd> {
        sealed_memory("board", board::SIZE as u64)
    }

    /// Maps a board that [`Board::create`] made.
    pub fn map(memory: &OwnedFd) -> io::Result<Board> {
        let size = NonZeroUsize::new(board::SIZE).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping at an address that the kernel chooses overlaps nothing of ours.
        let start = unsafe { mmap(None, size, READ_WRITE, MapFlags::MAP_SHARED, memory, 0)? };
        Ok(Board { words: start.cast() })
    }

    /// One word of it.
    pub fn word(&self, word: Word) -> &AtomicU64 {
        const { assert!(Word::Stop as usize + 1 < board::WORDS) };
        // SAFETY: the mapping has `WORDS` words, lives as long as `self`, is aligned to a page, and its size is sealed; atomics may
        // be written by others at any time.
        unsafe { self.words.add(word as usize).as_ref() }
    }
}

// SAFETY: the board is shared memory that is touched through atomics only.
unsafe impl Send for Board {}

impl Drop for Board {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `map` made, and no reference into it outlives `self`.
        let unmapped = unsafe { munmap(self.words.cast::<c_void>(), board::SIZE) };
        debug_assert!(unmapped.is_ok());
    }
}

/// Memory that is mapped whole: one word that others may look at, and bytes behind it.
///
/// It holds what one request's workers leave for one another. They live one after the other, so what a dead one wrote is there and
/// nobody writes at the same time.
#[derive(Debug)]
pub struct Memory {
    start: NonNull<u8>,
    length: NonZeroUsize,
}

/// Bytes before the data of a [`Memory`], the word among them.
pub const MEMORY_HEAD: usize = 64;

impl Memory {
    /// Memory of this process alone, zeroed.
    pub fn anonymous(length: usize) -> io::Result<Memory> {
        let length = NonZeroUsize::new(length.max(MEMORY_HEAD)).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping at an address that the kernel chooses overlaps nothing of ours.
        let start = unsafe { mmap_anonymous(None, length, READ_WRITE, MapFlags::MAP_PRIVATE)? };
        Ok(Memory { start: start.cast(), length })
    }

    /// Maps `length` bytes of a memfd that has at least so many and cannot shrink.
    pub fn shared(memory: &OwnedFd, length: usize) -> io::Result<Memory> {
        let length = NonZeroUsize::new(length.max(MEMORY_HEAD)).ok_or(io::ErrorKind::InvalidInput)?;
        let seals = SealFlag::from_bits_truncate(fcntl(memory, FcntlArg::F_GET_SEALS)?);
        let size = nix::sys::stat::fstat(memory)?.st_size;
        if !seals.contains(SealFlag::F_SEAL_SHRINK) || u64::try_from(size).unwrap_or(0) < length.get() as u64 {
            return Err(io::Error::other("the memory is too small or can shrink"));
        }
        // SAFETY: a new mapping at an address that the kernel chooses overlaps nothing of ours.
        let start = unsafe { mmap(None, length, READ_WRITE, MapFlags::MAP_SHARED, memory, 0)? };
        Ok(Memory { start: start.cast(), length })
    }

    /// The word, and the bytes from [`MEMORY_HEAD`] on.
    pub fn parts(&mut self) -> (&AtomicU64, &mut [u8]) {
        // SAFETY: the mapping is at least `MEMORY_HEAD` long, aligned to a page, lives as long as `self`, and cannot shrink; the word and
        // the bytes do not overlap, and `self` is borrowed mutably. Processes that had it mapped before have ended.
        unsafe {
            let word = self.start.cast::<AtomicU64>().as_ref();
            let bytes = self.start.add(MEMORY_HEAD).as_ptr();
            (word, std::slice::from_raw_parts_mut(bytes, self.length.get() - MEMORY_HEAD))
        }
    }
}

// SAFETY: the memory belongs to whoever has the value.
unsafe impl Send for Memory {}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that the constructor made, and no reference into it outlives `self`.
        let unmapped = unsafe { munmap(self.start.cast::<c_void>(), self.length.get()) };
        debug_assert!(unmapped.is_ok());
    }
}

const READ_WRITE: ProtFlags = ProtFlags::PROT_READ.union(ProtFlags::PROT_WRITE);

/// A closure that threads share while somebody waits for them; only [`crate::team`] makes and uses it.
#[derive(Clone, Copy)]
pub(crate) struct Task(*const (dyn Fn(usize) + Sync));

impl Task {
    /// Takes the closure's address. Whoever calls this must see to it that nobody calls [`Task::with`] after the closure's end.
    pub(crate) fn new<'a>(task: &'a (dyn Fn(usize) + Sync + 'a)) -> Task {
        let pointer: *const (dyn Fn(usize) + Sync + 'a) = task;
        // SAFETY: only the lifetime in the type changes; `team` keeps to the real one.
        Task(unsafe {
            std::mem::transmute::<*const (dyn Fn(usize) + Sync + 'a), *const (dyn Fn(usize) + Sync + 'static)>(pointer)
        })
    }

    /// Lends the closure.
    pub(crate) fn with<R>(self, user: impl FnOnce(&(dyn Fn(usize) + Sync)) -> R) -> R {
        // SAFETY: `team::Team::run` does not return, nor unwind, before all helpers that have begun have finished, and then none
        // begins.
        user(unsafe { &*self.0 })
    }
}

// SAFETY: the closure is `Sync`, so a reference to it may go to another thread.
unsafe impl Send for Task {}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Task")
    }
}

/// Quantised weights that can be let go when the tensor library has made a packed copy of them.
///
/// The library keeps the original beside the packed copy and offers no way to drop it. This tells whether it ever computed with the
/// original, and gives the original's pages back to the system if it did not.
pub(crate) struct Weights {
    original: Box<dyn QuantizedType>,
    /// Whether the original was computed with.
    used: AtomicBool,
    released: AtomicBool,
}

impl Weights {
    /// Takes over weights as they are in a file.
    pub(crate) fn new(original: Box<dyn QuantizedType>) -> Weights {
        Weights { original, used: AtomicBool::new(false), released: AtomicBool::new(false) }
    }

    /// Gives the original back, unless it was ever computed with. To be called when all paths of a computation have been gone.
    pub(crate) fn release_if_packed(&self) {
        if self.used.load(Relaxed) || self.released.swap(true, Relaxed) {
            return;
        }
        let Ok(Some(page)) = sysconf(SysconfVar::PAGE_SIZE) else { return };
        let Ok(page) = usize::try_from(page) else { return };
        let start = self.original.as_ptr();
        let first = start.addr().next_multiple_of(page);
        let end = (start.addr() + self.original.storage_size_in_bytes()) / page * page;
        if first < end {
            let pages = start.with_addr(first).cast_mut().cast::<c_void>();
            // SAFETY: the pages lie within an allocation that `original` owns and nothing else uses. They are zeros afterwards, which are
            // valid blocks, and `released` keeps everybody from computing with them. If it fails, the memory stays.
            let _kept = unsafe { libc::madvise(pages, end - first, libc::MADV_DONTNEED) };
        }
    }

    /// The original, for computing.
    pub(crate) fn original(&self) -> candle_core::Result<&dyn QuantizedType> {
        if self.released.load(Relaxed) {
            return Err(candle_core::Error::Msg("weights are needed in a form that was let go".to_owned()));
        }
        self.used.store(true, Relaxed);
        Ok(self.original.as_ref())
    }

    /// The bytes of the original, as the file has them.
    pub(crate) fn bytes(&self) -> candle_core::Result<&[u8]> {
        let original = self.original()?;
        // SAFETY: `original` owns so many bytes there, which live as long as it does and do not change: they are not released, because
        // `used` is set by now.
        Ok(unsafe { std::slice::from_raw_parts(original.as_ptr(), original.storage_size_in_bytes()) })
    }

    /// What the tensor library asks of weights without computing with them.
    pub(crate) fn description(&self) -> &dyn QuantizedType {
        self.original.as_ref()
    }
}

/// Which side of a fork this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    /// The process that forked, with the child's pid.
    Parent(Pid),
    /// The new process.
    Child,
}

/// Why a process was not forked.
#[derive(Debug, Error)]
pub enum ForkError {
    /// Locks that another thread holds would stay locked in the child for ever.
    #[error("the template has {0} threads, so forking it is not safe")]
    Threads(usize),
    /// The system refused.
    #[error("cannot fork")]
    Fork(#[source] nix::Error),
}

/// Forks this process, whose threads `tasks` lists, or whose parent's it lists if this process was itself just forked.
pub fn fork(tasks: &mut Dir) -> Result<Fork, ForkError> {
    let is_dot = |name: &[u8]| name.starts_with(b".");
    let threads =
        tasks.iter().filter(|entry| !entry.as_ref().is_ok_and(|entry| is_dot(entry.file_name().to_bytes()))).count();
    if threads != 1 {
        return Err(ForkError::Threads(threads));
    }
    // SAFETY: there is one thread, so the child has all of this process that there is. (A child of such a process has one, too.)
    match unsafe { nix::unistd::fork() }.map_err(ForkError::Fork)? {
        ForkResult::Parent { child } => Ok(Fork::Parent(child)),
        ForkResult::Child => Ok(Fork::Child),
    }
}

/// Ends the process at once: no destructors, no exit handlers, no flushing of what a parent had buffered.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Closes every descriptor from 3 on but those of `keep`, lives `life`, and ends the process with its result.
///
/// For a process just forked: what it inherited is its parent's. `life` must not use descriptors other than those of `keep`.
pub fn live_alone(keep: &[RawFd], life: impl FnOnce() -> i32) -> ! {
    let mut kept: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).filter(|fd| *fd > 2).collect();
    kept.sort_unstable();
    let mut first = 3;
    for last in kept.into_iter().map(|fd| fd - 1).chain([u32::MAX]) {
        if first <= last {
            // SAFETY: this function does not return, so no owner of what is closed here is ever used or dropped again.
            let closed = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
            if closed != 0 {
                exit_now(CANNOT_CONFINE);
            }
        }
        first = last.saturating_add(2);
    }
    // A panic must not unwind into the parent's code.
    exit_now(catch_unwind(AssertUnwindSafe(life)).unwrap_or(PANICKED))
}

/// Reads one packet, or some bytes of a stream, and the descriptors that came with it, which are close-on-exec. No bytes: the other side has hung up.
pub fn receive_packet(socket: &impl AsRawFd, buffer: &mut [u8]) -> nix::Result<(usize, Vec<OwnedFd>)> {
    let mut space = cmsg_space!([RawFd; MOST_DESCRIPTORS]);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = control {
            // SAFETY: the kernel has just made these descriptors for us, and nobody else knows them.
            descriptors.extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok((message.bytes, descriptors))
}

/// The sums of a tile in eight bits by the processor's own instructions for them; `None` if it has none.
#[cfg(target_arch = "x86_64")]
pub(crate) fn multiply_bytes<const R: usize>(
    rows: [&[bytes::RowBlock]; R],
    panel: &[bytes::Block],
) -> Option<[[f32; bytes::WIDTH]; R]> {
    let can = std::is_x86_feature_detected!("avx512f") && std::is_x86_feature_detected!("avx512vnni");
    // SAFETY: the processor has the features that the function is compiled for.
    can.then(|| unsafe { bytes::vnni(rows, panel) })
}

/// Gives the memory that loading has freed back to the system, so that workers do not inherit it.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `malloc_trim` has no preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
}
