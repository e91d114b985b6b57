//! The front: a process that speaks HTTP with clients and the client conversation with the
//! supervisor.
//!
//! It parses what strangers send, so it can be thrown away: it holds nothing but the requests that
//! it passes on, and it is confined before its first client. It opens no file and no socket then.
//! What it asks the supervisor for goes over connections that the supervisor has made
//! (`link.rs`), and says in whose name it asks.
//!
//! ```text
//! clients --- HTTP ---> server --> routes --> openai --> link --- client conversation ---> supervisor
//! ```
//!
//! Nothing here knows of processes, workers or queues.
#![deny(unsafe_code)]

mod access;
mod body;
mod caller;
mod connection;
#[doc(hidden)]
pub mod fuzzing;
mod guard;
mod hang_up;
mod json;
mod link;
mod listener;
mod openai;
mod process;
mod reply;
mod routes;
mod server;
mod sys;

pub use access::digest;
pub use process::main;
