//! `supervisor`: serves language models on one host from isolated, single-request worker processes.
//!
//! * `daemon` acts: one loop that owns every process and socket. What it does is decided by the
//!   package `policy`.
//! * `cli` is what people type; `config` is what they write down; `log` is what they read
//!   afterwards.
//!
//! The wires are in the package `ipc`, what runs in templates and workers in the package `worker`.
#![deny(unsafe_code)]

mod cli;
mod config;
mod daemon;
#[doc(hidden)]
pub mod fuzzing;
mod log;
mod process;
mod shortage;
mod sys;

pub use cli::{command, main};
