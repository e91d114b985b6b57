//! The demonstration's daemon: started in its folder, waited for, and ended with the value that holds it.
use super::{CliError, Interrupt, PATIENCE};
use ipc::{Client, ClientError, status::Status};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    env, fs,
    fs::File,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A daemon of our own.
pub(super) struct Daemon {
    process: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Starts it in `folder`, on the built-in model, which waits for `token` before each token.
    pub(super) fn start(folder: &Path, workers: u32, token: Duration) -> Result<Daemon, CliError> {
        let (socket, log) = (folder.join("supervisor.sock"), folder.join("log"));
        let failed = |error| CliError::Demo("start a daemon", error);
        let executable = env::current_exe().map_err(failed)?;
        let stderr = File::create(&log).map_err(failed)?;
        let model = format!("pocket=builtin:pocket?token_us={}", token.as_micros());
        let process = Command::new(executable)
            .args(["run", "--model", &model, "--workers", &workers.to_string(), "--socket"])
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            // Ctrl-C is for the demonstration, which ends the daemon.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        Ok(Daemon { process, socket, log })
    }

    /// Its socket.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// What runs now.
    pub(super) fn status(&self) -> Result<Status, ClientError> {
        Client::connect(&self.socket)?.status()
    }

    /// Waits until every slot has an idle worker.
    pub(super) fn wait_until_ready(&self, interrupt: &Interrupt) -> Result<Status, CliError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            interrupt.check()?;
            match self.status() {
                Ok(status) if status.models.iter().all(|model| model.state == "failed") => break,
                Ok(status) if is_ready(&status) => return Ok(status),
                Ok(_) | Err(_) if Instant::now() < deadline => wait_a_little(),
                Ok(_) | Err(_) => break,
            }
        }
        Err(CliError::DemoDaemon(fs::read_to_string(&self.log).unwrap_or_default()))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let Ok(pid) = i32::try_from(self.process.id()).map(Pid::from_raw) else { return };
        // The second signal says that nothing need be finished. It may have ended already; either
        // way it is waited for, so that its folder can go.
        let _told = kill(pid, Signal::SIGTERM).and_then(|()| kill(pid, Signal::SIGTERM));
        let _ended = self.process.wait();
    }
}

fn is_ready(status: &Status) -> bool {
    status
        .models
        .iter()
        .all(|model| !model.workers.is_empty() && model.workers.iter().all(|worker| worker.state == "idle"))
}

#[expect(clippy::disallowed_methods, reason = "the daemon's socket does not exist yet, so there is nothing to wait on")]
fn wait_a_little() {
    thread::sleep(Duration::from_millis(10));
}
