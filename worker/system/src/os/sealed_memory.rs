//! Memory that can be handed to another process, and memory that is mapped whole.
use crate::limits;
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::{
        memfd::{MFdFlags, memfd_create},
        mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap},
    },
    unistd::{Whence, ftruncate, lseek},
};
use std::{ffi::c_void, io, num::NonZeroUsize, os::fd::OwnedFd, ptr::NonNull, sync::atomic::AtomicU64};
use thiserror::Error;

/// Why there is no memory that can be handed over.
#[derive(Debug, Error)]
pub enum SealedMemoryError {
    /// To the kernel it is a file, and it would be too long for one.
    #[error("memory of {size} bytes is a file to the kernel, and {} (ulimit -f, LimitFSIZE= of a unit)", allowed(*limit))]
    FileSize {
        /// How long it was to be.
        size: u64,
        /// How long a file of this process may be, if that is limited.
        limit: Option<u64>,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It cannot be made.
    #[error("cannot make memory that can be handed over (memfd_create)")]
    Create(#[source] io::Error),
    /// It cannot be given its size.
    #[error("cannot give memory its size of {0} bytes (ftruncate)")]
    Resize(u64, #[source] io::Error),
    /// It cannot be sealed.
    #[error("cannot seal memory against resizing (F_ADD_SEALS)")]
    Seal(#[source] io::Error),
}

fn allowed(limit: Option<u64>) -> String {
    limit.map_or_else(|| "that is too long".to_owned(), |limit| format!("the limit of file sizes is {limit} bytes"))
}

/// Makes memory that can be handed over: full size, zeroed, sealed against resizing, so that nobody
/// who has it can make another's access fail. It takes no memory before it is written to. `name` is
/// what `/proc` calls it.
///
/// A process that has a limit of file sizes must not be ended by SIGXFSZ, or it ends here.
pub fn sealed_memory(name: &str, size: u64) -> Result<OwnedFd, SealedMemoryError> {
    let too_long = |source: io::Error| SealedMemoryError::FileSize { size, limit: limits::file_size(), source };
    let length = i64::try_from(size).map_err(|_| too_long(io::ErrorKind::FileTooLarge.into()))?;
    let memory = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)
        .map_err(|error| SealedMemoryError::Create(error.into()))?;
    ftruncate(&memory, length).map_err(|error| match error {
        Errno::EFBIG => too_long(error.into()),
        _ => SealedMemoryError::Resize(size, error.into()),
    })?;
    fcntl(&memory, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL))
        .map_err(|error| SealedMemoryError::Seal(error.into()))?;
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
