//! A worker's board, mapped: one page that it shares with the supervisor.
use super::sealed_memory::{READ_WRITE, SealedMemoryError, sealed_memory};
use ipc::board::{self, Word};
use nix::sys::mman::{MapFlags, mmap, munmap};
use std::{ffi::c_void, io, num::NonZeroUsize, os::fd::OwnedFd, ptr::NonNull, sync::atomic::AtomicU64};

/// A board, mapped: see [`ipc::board`]. Both sides read and write it through atomics only.
#[derive(Debug)]
pub struct Board {
    words: NonNull<AtomicU64>,
}

impl Board {
    /// Makes a board's memory.
    pub fn create() -> Result<OwnedFd, SealedMemoryError> {
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
        // SAFETY: the mapping has `WORDS` words, lives as long as `self`, is aligned to a page, and
        // its size is sealed; atomics may be written by others at any time.
        unsafe { self.words.add(word as usize).as_ref() }
    }
}

// SAFETY: the board is shared memory that is touched through atomics only.
unsafe impl Send for Board {}
// SAFETY: as of one thread to another; all that can be done with a shared board is done with
// atomics.
unsafe impl Sync for Board {}

impl Drop for Board {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `map` made, and no reference into it outlives `self`.
        let unmapped = unsafe { munmap(self.words.cast::<c_void>(), board::SIZE) };
        debug_assert!(unmapped.is_ok());
    }
}
