//! What comes from outside, given to what reads it in the daemon and its commands. It is for
//! fuzzing and for nothing else; what must hold of it is asserted here or by whoever calls.
use crate::{cli, config::Config, daemon};
use ipc::{FromWorker, ModelInfo, Request, board, status::Status};
use std::path::Path;

/// Reads a configuration; `Err` is the sentence that says what is wrong.
pub fn configuration(text: &str) -> Result<(), String> {
    Config::parse(text, Path::new("/etc/supervisor.toml")).map(drop).map_err(|error| error.to_string())
}

/// Shows a status as `supervisor status` does.
pub fn page(status: &Status, width: Option<usize>) -> String {
    cli::page(status, width)
}

/// Has a request heard what its workers say: each message is of the worker that computes this part,
/// which is begun anew where the number says so.
pub fn request(asked: Request, info: &ModelInfo, said: Vec<(u32, bool, FromWorker)>) {
    daemon::hear(asked, info, said);
}

/// Looks at a worker's board with these words, one after the other, as the daemon does.
pub fn board(looks: &[[u64; board::WORDS]]) {
    daemon::look(looks);
}
