//! Notices that a client has gone, also while nothing is read from it or written to it.
//!
//! A client that has closed its socket and one that has only shut its sending side down look the
//! same at first: the end of its requests is read. The second one waits for its answer, which is
//! legal. So a client that may have gone is sent something that means nothing; if it has gone, the
//! kernel says so in return.
use nix::sys::socket::{MsgFlags, send};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Duration,
};
use tokio::io::unix::AsyncFd;

/// What may come before the answer and means that there is none yet (RFC 9110, section 15.2).
const NOT_YET: &[u8] = b"HTTP/1.1 102 Processing\r\n\r\n";
/// How long until a client that may have gone is looked at again.
const PAUSE: Duration = Duration::from_millis(10);
/// How often it is.
const LOOKS: usize = 3;

/// A client's socket, watched.
#[derive(Debug)]
pub(crate) struct HangUp {
    socket: AsyncFd<OwnedFd>,
}

impl HangUp {
    /// Watches this socket, of which it keeps a copy.
    pub(crate) fn of(socket: &impl AsFd) -> io::Result<HangUp> {
        let copy = socket.as_fd().try_clone_to_owned()?;
        Ok(HangUp { socket: crate::sys::register(copy)? })
    }

    /// Waits until the client has gone. `may_be_told` says whether it may be sent that its answer
    /// is still to come: no answer has begun, and its HTTP has such words.
    pub(crate) async fn gone(&self, may_be_told: bool) {
        loop {
            match self.look() {
                Seen::Gone => return,
                // Whether it reads on will be seen once more is sent to it.
                Seen::Finished if !may_be_told => std::future::pending().await,
                Seen::Finished => {
                    let _gone = send(self.socket.as_raw_fd(), NOT_YET, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT);
                    for _ in 0..LOOKS {
                        tokio::time::sleep(PAUSE).await;
                        if self.look() == Seen::Gone {
                            return;
                        }
                    }
                    // It waits for its answer.
                    std::future::pending().await
                }
                Seen::There => {}
            }
            match self.socket.readable().await {
                Ok(mut ready) => ready.clear_ready(),
                // The runtime is ending.
                Err(_) => std::future::pending().await,
            }
        }
    }

    fn look(&self) -> Seen {
        let mut watched = [PollFd::new(self.socket.get_ref(), PollFlags::RDHUP)];
        if poll(&mut watched, Some(&Timespec::default())).is_err() {
            return Seen::There;
        }
        let seen = watched[0].revents();
        if seen.intersects(PollFlags::HUP | PollFlags::ERR) {
            Seen::Gone
        } else if seen.contains(PollFlags::RDHUP) {
            Seen::Finished
        } else {
            Seen::There
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// Nothing has happened to it.
    There,
    /// It sends no more.
    Finished,
    /// It neither sends nor reads.
    Gone,
}
