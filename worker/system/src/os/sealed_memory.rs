//! Memory that can be handed to another process, and memory that is mapped whole.
use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::{
        memfd::{MFdFlags, memfd_create},
        mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap},
    },
    unistd::{Whence, ftruncate, lseek},
};
use std::{ffi::c_void, io, num::NonZeroUsize, os::fd::OwnedFd, ptr::NonNull, sync::atomic::AtomicU64};

/// Makes memory that can be handed over: full size, zeroed, sealed against resizing, so that nobody
/// who has it can make another's access fail. It takes no memory before it is written to. `name` is
/// what `/proc` calls it.
pub fn sealed_memory(name: &str, size: u64) -> io::Result<OwnedFd> {
    let size = i64::try_from(size).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let memory = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    ftruncate(&memory, size)?;
    fcntl(&memory, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL))?;
    Ok(memory)
}

/// Memory that is mapped whole: one word that others may look at, and bytes behind it.
///
/// It holds what one request's workers leave for one another. They live one after the other, so
/// what a dead one wrote is there and nobody writes at the same time.
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
        // A C library's `fstat` may be a call that takes a path, which a worker may not make.
        let size = lseek(memory, 0, Whence::SeekEnd)?;
        if !seals.contains(SealFlag::F_SEAL_SHRINK) || u64::try_from(size).unwrap_or(0) < length.get() as u64 {
            return Err(io::Error::other("the memory is too small or can shrink"));
        }
        // SAFETY: a new mapping at an address that the kernel chooses overlaps nothing of ours.
        let start = unsafe { mmap(None, length, READ_WRITE, MapFlags::MAP_SHARED, memory, 0)? };
        Ok(Memory { start: start.cast(), length })
    }

    /// The word, and the bytes from [`MEMORY_HEAD`] on.
    pub fn parts(&mut self) -> (&AtomicU64, &mut [u8]) {
        // SAFETY: the mapping is at least `MEMORY_HEAD` long, aligned to a page, lives as long as
        // `self`, and cannot shrink; the word and the bytes do not overlap, and `self` is borrowed
        // mutably. Processes that had it mapped before have ended.
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
        // SAFETY: this is the mapping that the constructor made, and no reference into it outlives
        // `self`.
        let unmapped = unsafe { munmap(self.start.cast::<c_void>(), self.length.get()) };
        debug_assert!(unmapped.is_ok());
    }
}

pub(super) const READ_WRITE: ProtFlags = ProtFlags::PROT_READ.union(ProtFlags::PROT_WRITE);
