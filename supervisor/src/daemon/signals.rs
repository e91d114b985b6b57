//! The signals that the daemon acts on, as something to wait for.
use nix::sys::signal::Signal;
use std::{io, os::unix::net::UnixStream as StdStream};
use tokio::{io::AsyncReadExt, net::UnixStream};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signalled {
    /// Stop; a second time: at once.
    Stop,
    /// Read the configuration again.
    Reload,
    /// A child has ended.
    ChildEnded,
    /// Nothing. Such signals end a process that does not catch them, and some send them to have
    /// others open their logs again.
    Nothing,
}

/// The signals that are caught, each with the stream that its handler writes to.
#[derive(Debug)]
pub(crate) struct Signals {
    stop: UnixStream,
    reload: UnixStream,
    children: UnixStream,
    meaningless: UnixStream,
}

impl Signals {
    /// Catches SIGTERM, SIGINT, SIGHUP, SIGCHLD, SIGUSR1 and SIGUSR2 from now on.
    pub(crate) fn catch() -> io::Result<Signals> {
        Ok(Signals {
            stop: stream(&[Signal::SIGTERM, Signal::SIGINT])?,
            reload: stream(&[Signal::SIGHUP])?,
            children: stream(&[Signal::SIGCHLD])?,
            meaningless: stream(&[Signal::SIGUSR1, Signal::SIGUSR2])?,
        })
    }

    /// Waits for the next one. Each signal to stop counts; children that end together may be
    /// reported once.
    pub(crate) async fn next(&mut self) -> Signalled {
        let (mut one, mut one_more, mut many, mut others) = ([0; 1], [0; 1], [0; 64], [0; 64]);
        loop {
            let (read, signalled) = tokio::select! {
                read = self.stop.read(&mut one) => (read, Signalled::Stop),
                read = self.reload.read(&mut one_more) => (read, Signalled::Reload),
                read = self.children.read(&mut many) => (read, Signalled::ChildEnded),
                read = self.meaningless.read(&mut others) => (read, Signalled::Nothing),
            };
            match read {
                Ok(1..) => return signalled,
                // The handlers keep the other ends for ever.
                Ok(0) | Err(_) => std::future::pending().await,
            }
        }
    }
}

fn stream(signals: &[Signal]) -> io::Result<UnixStream> {
    let (ours, handlers) = StdStream::pair()?;
    for signal in signals {
        signal_hook::low_level::pipe::register(*signal as i32, handlers.try_clone()?)?;
    }
    ours.set_nonblocking(true)?;
    UnixStream::from_std(ours)
}
