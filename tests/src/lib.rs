//! The harness of the integration tests: real daemons, each in a folder of its own, real clients
//! and a look at real processes.
//!
//! It waits for conditions only and knows nothing of what a test is about. A daemon that hangs is
//! killed by its [`Daemon`]'s watchdog, so that whoever waits for it fails instead of waiting for
//! ever.

mod answer;
pub mod campaign;
mod command;
mod daemon;
mod disk;
mod exchange;
mod executables;
mod held;
mod http;
mod inherited;
mod manager;
mod minilm;
mod own_process;
pub mod process;
mod random;
pub mod untrusted;
mod vectors;
mod wait;
mod wire;

pub use answer::{Finished, Running, generate};
pub use command::{Call, Called, Ended};
pub use daemon::Daemon;
pub use disk::SmallDisk;
pub use executables::{bad_worker, client_example, copy_of_supervisor, documents, supervisor};
pub use held::{Held, held};
pub use http::{Http, HttpReply, chat, read_reply};
pub use inherited::command;
pub use manager::Manager;
pub use minilm::{minilm, models_folder};
pub use nix::sys::signal::Signal;
pub use own_process::has_own_process;
pub use random::Random;
pub use vectors::vector_of;
pub use wait::{LIMIT, until};
pub use wire::Wire;

use std::io::{self, Write};

/// Says that a test, or a part of one, cannot be done on this machine: past the harness, which
/// keeps what a passing test prints to itself.
pub fn skipped(why: &str) {
    let _unheard = writeln!(io::stderr(), "skipped: {why}");
}

/// A configuration's table of one model named `model`; `settings` are more lines of it.
pub fn model(path: &str, settings: &str) -> String {
    format!("[[model]]\nname = \"model\"\npath = \"{path}\"\n{settings}\n")
}
