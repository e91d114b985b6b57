//! A worker's socket to the supervisor: a stream of bytes, with which a descriptor may come.
use std::{
    cell::RefCell,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

/// The socket, and the last descriptor that came.
#[derive(Debug)]
pub struct WorkerSocket {
    stream: UnixStream,
    descriptor: RefCell<Option<OwnedFd>>,
}

impl WorkerSocket {
    /// A socket that nothing has come from yet.
    pub fn new(socket: OwnedFd) -> WorkerSocket {
        WorkerSocket { stream: socket.into(), descriptor: RefCell::new(None) }
    }

    /// The descriptor that came since this was last asked; the last, if there were several. Those
    /// that nobody asks for are closed.
    pub fn take_descriptor(&self) -> Option<OwnedFd> {
        self.descriptor.borrow_mut().take()
    }

    /// The stream alone.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }
}

impl AsFd for WorkerSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Read for WorkerSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (size, mut descriptors) = system::receive_packet(&self.stream, buffer)?;
        if let Some(last) = descriptors.pop() {
            *self.descriptor.get_mut() = Some(last);
        }
        Ok(size)
    }
}

impl Write for WorkerSocket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
