//! The one thing that the bad worker does and that is unsafe: to map memory in ways that no library
//! has a name for.
#![expect(unsafe_code, reason = "memory is mapped by a plain system call")]

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use std::num::NonZeroUsize;

/// Maps fresh memory that nobody uses.
pub(crate) fn map(length: usize, rights: ProtFlags, flags: MapFlags) -> nix::Result<()> {
    let length = NonZeroUsize::new(length).ok_or(nix::Error::EINVAL)?;
    // SAFETY: a new mapping at an address that the kernel chooses overlaps nothing of ours.
    unsafe { mmap_anonymous(None, length, rights, flags).map(|_| ()) }
}
