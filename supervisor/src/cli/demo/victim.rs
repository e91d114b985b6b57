//! The worker that is killed: it is stopped first, so that it cannot finish its answer meanwhile.
use super::PATIENCE;
use ipc::{Client, RequestId};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};
use system::proc;

/// The pid of the worker that serves this request, if one does now.
pub(super) fn worker_of(socket: &Path, request: RequestId) -> Option<u32> {
    let status = Client::connect(socket).ok()?.status().ok()?;
    let name = request.to_string();
    let mut workers = status.models.iter().flat_map(|model| &model.workers);
    workers.find(|worker| worker.request.as_deref() == Some(&name))?.pid
}

/// Stops the worker in the middle of this request; nothing if it does not serve it any more.
pub(super) fn stop(socket: &Path, request: RequestId, pid: u32) -> Option<Stopped> {
    let process = Pid::from_raw(i32::try_from(pid).ok()?);
    kill(process, Signal::SIGSTOP).ok()?;
    let stopped = Stopped { process, lives: true };
    let is_in_the_middle = stands_still(pid) && worker_of(socket, request) == Some(pid);
    is_in_the_middle.then_some(stopped)
}

/// A worker that does nothing more. Unless it is killed, it goes on when this value is dropped.
pub(super) struct Stopped {
    process: Pid,
    lives: bool,
}

impl Stopped {
    /// Ends the worker, as an administrator or the kernel might. Says whether it did.
    pub(super) fn kill(mut self) -> bool {
        let killed = kill(self.process, Signal::SIGKILL).is_ok();
        self.lives = !killed;
        killed
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if self.lives {
            // It may have been ended by others.
            let _gone = kill(self.process, Signal::SIGCONT);
        }
    }
}

/// Waits until the kernel has stopped the process; `false` if it has ended.
fn stands_still(pid: u32) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match proc::state(pid) {
            Some('T') => return true,
            Some('Z' | 'X') | None => return false,
            Some(_) if Instant::now() < deadline => wait_a_little(),
            Some(_) => return false,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "only a parent can wait for a process to be stopped")]
fn wait_a_little() {
    thread::sleep(Duration::from_millis(1));
}
