//! `supervisor status`: what runs, as a table, as JSON, or again and again.
use super::{SocketArgument, error::CliError, print, table};
use ipc::{Client, ClientError, status::Status};
use std::{
    io::{self, IsTerminal},
    path::Path,
    time::Duration,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    socket: SocketArgument,
    /// Print the status document
    #[arg(long, conflicts_with = "watch")]
    json: bool,
    /// Show it again every second, until interrupted
    #[arg(long)]
    watch: bool,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), CliError> {
    let socket = arguments.socket.path()?;
    let status = ask(&socket)?;
    if arguments.json {
        let document = serde_json::to_string_pretty(&status).map_err(|error| CliError::Output(error.into()))?;
        return print(&format!("{document}\n"));
    }
    if arguments.watch {
        return watch(&socket, status);
    }
    print(&table::render(&status, width()))
}

fn ask(socket: &Path) -> Result<Status, ClientError> {
    Client::connect(socket)?.status()
}

/// Shows the status until interrupted. A daemon that is restarted is found again.
fn watch(socket: &Path, first: Status) -> Result<(), CliError> {
    const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";
    let clear = if io::stdout().is_terminal() { CLEAR } else { "" };
    let mut asked = Ok(first);
    loop {
        let page = match &asked {
            Ok(status) => table::render(status, width()),
            Err(error) => format!("{}; asking again every second\n", system::foreign_text::chain(error)),
        };
        print(&format!("{clear}{page}"))?;
        pause();
        asked = ask(socket);
    }
}

#[expect(clippy::disallowed_methods, reason = "a display that shows the present has nothing else to wait for")]
fn pause() {
    std::thread::sleep(Duration::from_secs(1));
}

/// The width of the terminal, if the output is one.
fn width() -> Option<usize> {
    let output = io::stdout();
    let size = output.is_terminal().then(|| rustix::termios::tcgetwinsize(&output).ok()).flatten()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}
