//! `supervisor template`: the hidden half of the executable, which the daemon starts with its
//! control socket as standard input.
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The pid of the daemon.
    #[arg(long)]
    pub(super) supervisor: u32,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    worker::main(arguments.supervisor)
}
