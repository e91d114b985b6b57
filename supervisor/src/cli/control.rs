//! `supervisor reload`, `drain`, `stop` and `restart`: what an operator has the running daemon do.
use super::{SocketArgument, error::CliError, exit_when_interrupted, print};
use ipc::{Client, ClientError, Control, Response};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::os::fd::OwnedFd;
use system::proc;

#[derive(Debug, clap::Args)]
pub(crate) struct Reload {
    #[command(flatten)]
    socket: SocketArgument,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Drain {
    #[command(flatten)]
    socket: SocketArgument,
    /// Take requests again
    #[arg(long)]
    undo: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Stop {
    #[command(flatten)]
    socket: SocketArgument,
    /// Without finishing anything
    #[arg(long)]
    now: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Restart {
    #[command(flatten)]
    socket: SocketArgument,
    /// The model [default: all, or the only one whose slot is named]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Only the worker of this slot, and at once: what it computes goes on with another
    slot: Option<u32>,
}

pub(crate) fn reload(arguments: Reload) -> Result<(), CliError> {
    have_done(&mut connect(&arguments.socket)?, Control::Reload)
}

pub(crate) fn drain(arguments: Drain) -> Result<(), CliError> {
    let control = if arguments.undo { Control::EndDrain } else { Control::Drain };
    have_done(&mut connect(&arguments.socket)?, control)
}

pub(crate) fn restart(arguments: Restart) -> Result<(), CliError> {
    let Restart { socket, model, slot } = arguments;
    have_done(&mut connect(&socket)?, Control::Restart { model, slot })
}

/// Has the daemon stop, and waits until its process has ended, so that another one can be started.
pub(crate) fn stop(arguments: Stop) -> Result<(), CliError> {
    let mut client = connect(&arguments.socket)?;
    // A daemon that cannot be taken hold of, in a namespace of its own, is waited for by its
    // connection alone. Its pid is another's here.
    let pid = client.status()?.pid;
    let is_seen = client.listener().is_some_and(|listener| listener == pid || proc::parent(pid) == Some(listener));
    let daemon = i32::try_from(pid).ok().filter(|_| is_seen).and_then(Pid::from_raw);
    let daemon = daemon.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    have_done(&mut client, Control::Stop { now: arguments.now })?;
    if let Some(daemon) = daemon {
        wait_for(&daemon);
    }
    Ok(())
}

fn connect(socket: &SocketArgument) -> Result<Client, CliError> {
    exit_when_interrupted()?;
    Ok(Client::connect(&socket.path()?)?)
}

/// Prints what the daemon says of it, until it is done.
fn have_done(client: &mut Client, control: Control) -> Result<(), CliError> {
    for response in client.control(control)? {
        match response? {
            Response::Notice(line) => print(&format!("{line}\n"))?,
            Response::Controlled => return Ok(()),
            _ => return Err(ClientError::Nonsense.into()),
        }
    }
    Err(ClientError::Closed.into())
}

/// Waits until a process has ended that has said that it is about to.
fn wait_for(process: &OwnedFd) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    /// In milliseconds; longer than the daemon's last moment.
    const LONG: u16 = 10_000;
    let mut watched = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    // Who waits no longer finds out by what comes next.
    let _late = poll(&mut watched, PollTimeout::from(LONG));
}
