//! `supervisor`: serves language models on one host from isolated, single-request worker processes.
//!
//! * `core` decides: a state machine without I/O, tested under simulated time.
//! * `shell` acts: one loop that owns every process and socket.
//! * `cli` is what people type; `config` is what they write down.
//!
//! The wire is in the crate `ipc`, what runs in templates and workers in the crate `worker`.
#![deny(unsafe_code)]

mod cli;
mod config;
pub mod core;
mod log;
mod process;
mod shell;
mod sys;
#[doc(hidden)]
pub mod untrusted;

pub use cli::main;
