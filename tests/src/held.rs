//! Answers that stand still until a test lets them go on, however long what it does meanwhile
//! takes.
use crate::{Daemon, LIMIT, process, until};
use ipc::RequestId;
use nix::sys::signal::Signal;

/// A prompt by which a scripted worker stands still after three tokens; so do the first so many.
pub fn held(times: usize) -> String {
    format!("!stop@3?times={times} and on to the end")
}

/// The worker that stands still.
#[derive(Debug)]
#[must_use = "it is to be let go on"]
pub struct Held {
    pid: u32,
}

impl Held {
    /// Waits until the worker of a request stands still.
    #[track_caller]
    pub fn wait(daemon: &Daemon, request: RequestId) -> Held {
        let pid = daemon.pid_of(request);
        until("the worker stands still", LIMIT, || process::state(pid) == Some('T'));
        Held { pid }
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Lets it go on.
    #[track_caller]
    pub fn release(self) {
        assert!(process::kill(self.pid, Signal::SIGCONT), "the worker that stood still has ended");
    }
}
