//! Real processes, real clients, real kills: a module for each subject. How to run a part is in
//! `tests/README.md`.
#![cfg(test)]

mod bad_input;
mod clients;
mod command_line;
mod daemon;
#[path = "../../../worker/tests/common/gguf.rs"]
mod gguf;
mod http;
mod models;
mod requests;
mod sandbox;
mod workers;
