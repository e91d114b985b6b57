//! The demonstration's daemon: started, waited for, and ended with the value that holds it.
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
            // It is told when this thread ends, which is the last of this process.
            .args(["--parent", &std::process::id().to_string()])
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
    pub(super) fn wait_until_ready(&mut self, interrupt: &Interrupt) -> Result<Status, CliError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            interrupt.check()?;
            let has_ended = !matches!(self.process.try_wait(), Ok(None));
            match self.status() {
                Ok(status) if status.models.iter().all(|model| model.state == "failed") => break,
                Ok(status) if is_ready(&status) => return Ok(status),
                Ok(_) | Err(_) if !has_ended && Instant::now() < deadline => wait_a_little(),
                Ok(_) | Err(_) => break,
            }
        }
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        Err(CliError::DemoDaemon(log.lines().last().unwrap_or("nothing").to_owned()))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let Ok(pid) = i32::try_from(self.process.id()).map(Pid::from_raw) else { return };
        let deadline = Instant::now() + PATIENCE;
        // The second signal says that nothing need be finished. Two at once count as one.
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < deadline {
            let _told = kill(pid, Signal::SIGTERM);
            wait_a_little();
        }
        // Either way it is waited for, so that its folder can go.
        let _ended = self.process.kill().and_then(|()| self.process.wait());
    }
}

fn is_ready(status: &Status) -> bool {
    status
        .models
        .iter()
        .all(|model| !model.workers.is_empty() && model.workers.iter().all(|worker| worker.state == "idle"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "neither a socket that does not exist yet nor a child's end with a deadline can be waited on"
)]
fn wait_a_little() {
    thread::sleep(Duration::from_millis(10));
}
