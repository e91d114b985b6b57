//! What a process asks of Linux, for every package that asks: descriptors, shared memory, the
//! board, the sandbox, opening files, `/proc`; and [`foreign_text`], foreign text made fit to
//! print.
//!
//! It decides nothing and knows no model and no request. Without the feature `process` only
//! [`foreign_text`] is there.
#![deny(unsafe_code)]

#[cfg(feature = "process")]
pub mod files;
pub mod foreign_text;
#[cfg(feature = "process")]
pub mod limits;
#[cfg(feature = "process")]
mod os;
#[cfg(feature = "process")]
pub mod proc;
#[cfg(feature = "process")]
pub mod sandbox;

#[cfg(feature = "process")]
pub use os::{
    Alone, Board, CANNOT_CONFINE, ChildStack, FAILED, Fork, ForkError, MEMORY_HEAD, Memory, PANICKED,
    SealedMemoryError, ThreadPool, die_with, exit_now, fork, ignore, live_alone, receive_packet, run_between,
    sealed_memory, take_stdin, trim_heap,
};
