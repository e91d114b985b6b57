//! A daemon to be measured: with its usual log, unlike that of the tests, and asked for its status
//! as fast as it answers if need be.
use crate::Result;
use integration_tests::{Signal, process, supervisor};
use ipc::{
    Client, ClientError,
    status::{ModelStatus, WorkerStatus},
};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long anything may take that a daemon is waited for.
const LIMIT: Duration = Duration::from_secs(120);
/// How long a daemon may live. Whoever waits for one that hangs is told of its end.
const LIFETIME: Duration = Duration::from_secs(600);

/// What a daemon serves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Serving<'a> {
    /// A file or a built-in model.
    pub(crate) path: &'a str,
    /// How many workers it has.
    pub(crate) workers: usize,
    /// `request` or `worker`.
    pub(crate) isolation: &'a str,
    /// More of the configuration: other models.
    pub(crate) also: &'a str,
}

impl<'a> Serving<'a> {
    /// A model with a fresh worker for each request.
    pub(crate) fn new(path: &'a str, workers: usize) -> Serving<'a> {
        Serving { path, workers, isolation: "request", also: "" }
    }
}

/// A running daemon.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    socket: PathBuf,
    folder: TempDir,
    _watchdog: Sender<()>,
}

impl Server {
    /// Starts a daemon, and returns it when all of its workers are idle.
    pub(crate) fn start(serving: Serving<'_>) -> Result<Server> {
        let server = Server::launch(serving)?;
        server.settle()?;
        Ok(server)
    }

    /// Starts a daemon and waits for nothing.
    pub(crate) fn launch(Serving { path, workers, isolation, also }: Serving<'_>) -> Result<Server> {
        let folder = tempfile::tempdir().map_err(|error| format!("cannot make a folder: {error}"))?;
        let (file, socket) = (folder.path().join("config.toml"), folder.path().join("supervisor.sock"));
        // A TOML string is quoted as a Rust string is, as far as names of files need it.
        let config = format!("[[model]]\npath = {path:?}\nworkers = {workers}\nisolation = {isolation:?}\n{also}");
        fs::write(&file, config)?;
        let mut command = Command::new(supervisor());
        command
            .arg("run")
            .arg("--config")
            .arg(&file)
            .arg("--socket")
            .arg(&socket)
            .env_remove("SUPERVISOR_LOG")
            .env_remove("JOURNAL_STREAM");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(folder.path().join("log"))?);
        let child = command.spawn().map_err(|error| format!("cannot start the supervisor: {error}"))?;
        let watchdog = watch(child.id());
        Ok(Server { child, socket, folder, _watchdog: watchdog })
    }

    /// Its client socket.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// A new connection.
    pub(crate) fn client(&self) -> Result<Client> {
        Ok(Client::connect(&self.socket)?)
    }

    /// Waits until all workers are idle and nothing is done about them any more.
    pub(crate) fn settle(&self) -> Result<ModelStatus> {
        /// A new worker's memory is looked at. If that has not happened at this age, it will not
        /// happen soon.
        const OLD: f64 = 0.1;
        self.until("its workers are idle", |model| {
            let is_quiet = |worker: &WorkerStatus| {
                worker.state == "idle" && (worker.private_bytes.is_some() || worker.age_s > OLD)
            };
            model.state == "warm" && !model.workers.is_empty() && model.workers.iter().all(is_quiet)
        })
    }

    /// Waits until a worker is idle.
    pub(crate) fn first_idle(&self) -> Result<ModelStatus> {
        self.until("a worker is idle", |model| model.workers.iter().any(|worker| worker.state == "idle"))
    }

    fn until(&self, what: &str, condition: impl Fn(&ModelStatus) -> bool) -> Result<ModelStatus> {
        let began = Instant::now();
        loop {
            match Client::connect(&self.socket).and_then(|mut client| client.status()) {
                Ok(status) => {
                    let model = status.models.into_iter().next().ok_or("the daemon serves no model")?;
                    if let Some(error) = &model.error {
                        return Err(error.clone().into());
                    }
                    if condition(&model) {
                        return Ok(model);
                    }
                }
                // It does not listen yet.
                Err(ClientError::NoDaemon { .. }) if process::lives(self.child.id()) => {}
                Err(error) => return Err(format!("{error}; the daemon's log:\n{}", self.log()).into()),
            }
            if began.elapsed() > LIMIT {
                return Err(format!("waited in vain until {what}; the daemon's log:\n{}", self.log()).into());
            }
            pause();
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    /// Ends the daemon and waits until it has ended all that it started, so that nothing of it
    /// disturbs the next measurement.
    fn drop(&mut self) {
        let began = Instant::now();
        process::kill(self.child.id(), Signal::SIGTERM);
        while matches!(self.child.try_wait(), Ok(None)) && began.elapsed() < Duration::from_secs(10) {
            pause();
        }
        // It has ended if all is well.
        let _ended = self.child.kill();
        let _waited = self.child.wait();
    }
}

/// Kills the daemon if it outlives its time. Dropping what is returned stops the watch.
fn watch(pid: u32) -> Sender<()> {
    let (stop, stopped) = mpsc::channel();
    thread::spawn(move || {
        if stopped.recv_timeout(LIFETIME) == Err(RecvTimeoutError::Timeout) {
            process::kill(pid, Signal::SIGKILL);
        }
    });
    stop
}

/// Lets a moment pass between two looks: short against what is measured so, long enough to leave
/// the processor to others.
#[expect(clippy::disallowed_methods, reason = "the one place that waits between two looks at a condition")]
fn pause() {
    thread::sleep(Duration::from_micros(500));
}
