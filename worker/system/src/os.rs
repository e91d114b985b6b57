//! System calls that Rust cannot check: the only unsafe code of this package.
//!
//! Each function is safe to call or says what its caller must know. What nix and rustix offer as
//! safe is called where it is needed.
#![expect(unsafe_code, reason = "this module exists to hold it")]

mod board;
mod descriptors;
mod process;
mod sealed_memory;
mod thread_pool;

pub use board::Board;
pub use descriptors::{receive_packet, take_stdin};
pub use process::{
    Alone, CANNOT_CONFINE, ChildStack, FAILED, Fork, ForkError, PANICKED, die_with, exit_now, fork, ignore, live_alone,
    run_between, trim_heap,
};
pub use sealed_memory::{MEMORY_HEAD, Memory, SealedMemoryError, sealed_memory};
pub use thread_pool::ThreadPool;
