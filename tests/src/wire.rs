//! A connection on which anything can be sent, right or wrong.
use crate::{Daemon, LIMIT};
use ipc::{BlockingEnd, EndError, MAX_FRAME, MAX_REQUEST, Request, Response};
use std::{
    io::{ErrorKind, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    time::Duration,
};

/// After this long without taking a byte the daemon is said to take no more.
const HELD_BACK: Duration = Duration::from_secs(2);

/// The connection.
#[derive(Debug)]
pub struct Wire {
    end: BlockingEnd<UnixStream>,
}

impl Wire {
    /// Connects to a daemon.
    #[track_caller]
    pub fn connect(daemon: &Daemon) -> Wire {
        let failed = |error| panic!("cannot connect: {error}\n{}", daemon.log());
        let stream = UnixStream::connect(daemon.socket()).unwrap_or_else(failed);
        // Whoever waits for what never comes shall fail, and whoever is held back shall go on.
        let timeouts = stream.set_read_timeout(Some(LIMIT)).and_then(|()| stream.set_write_timeout(Some(HELD_BACK)));
        timeouts.unwrap_or_else(|error| panic!("cannot set a timeout: {error}"));
        Wire { end: BlockingEnd::new(stream, MAX_FRAME, MAX_REQUEST) }
    }

    /// The frame that carries a request.
    pub fn frame(request: &Request) -> Vec<u8> {
        let payload = ipc::encode(request).unwrap_or_else(|error| panic!("{error}"));
        ipc::frame(&payload, MAX_REQUEST).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Writes bytes as they are. Says whether the other side could take them all.
    pub fn write(&self, bytes: &[u8]) -> bool {
        self.end.stream().write_all(bytes).is_ok()
    }

    /// Sends a request.
    #[track_caller]
    pub fn send(&self, request: &Request) {
        assert!(self.write(&Wire::frame(request)), "the daemon has closed the connection");
    }

    /// Says that nothing more will be sent.
    pub fn shut_sending(&self) {
        self.end.stream().shutdown(Shutdown::Write).unwrap_or_else(|error| panic!("cannot shut: {error}"));
    }

    /// The next message; `None` once the daemon has closed the connection.
    #[track_caller]
    pub fn receive(&mut self) -> Option<Response> {
        match self.end.receive() {
            Ok(message) => message,
            // It had not read all that was sent when it closed the connection.
            Err(EndError::Read(error)) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("waited in vain for a message: {error:?}"),
        }
    }
}
