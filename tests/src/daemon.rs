//! A running `supervisor run` in a folder of its own, and the certainty that nothing of it is left
//! afterwards.
use crate::{
    LIMIT, Manager, SmallDisk, bad_worker, command, executables::without, process, supervisor, until, wait::pause,
};
use ipc::{
    Client, ClientError, RequestId,
    status::{ModelStatus, Status, WorkerStatus},
};
use nix::{
    sys::{
        signal::Signal,
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
    unistd::Pid,
};
use std::{
    ffi::OsString,
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long a daemon may live in a test. Only one that hangs lives so long; its end is what its
/// test then fails by.
const LIFETIME: Duration = Duration::from_secs(240);
/// The end of a log that is shown when something has gone wrong.
const SHOWN: usize = 64 << 10;
/// How long its processes may take to end after it has.
const LAST_MOMENT: Duration = Duration::from_secs(5);

/// A daemon. When it is dropped it is killed, and nothing of it may be left.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    socket: PathBuf,
    folder: TempDir,
    log: File,
    arguments: Vec<OsString>,
    watchdog: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Daemon {
    /// Starts a daemon with a configuration, and waits until its models are served or have failed.
    #[track_caller]
    pub fn start(config: &str) -> Daemon {
        Daemon::with(config, &[])
    }

    /// Starts a daemon with more arguments, too.
    #[track_caller]
    pub fn with(config: &str, arguments: &[&str]) -> Daemon {
        let daemon = Daemon::launch(config, arguments);
        daemon.settle();
        daemon
    }

    /// Starts a daemon whose models are scripted bad workers where their paths are scripts.
    #[track_caller]
    pub fn scriptable(config: &str) -> Daemon {
        Daemon::with(config, &["--template-executable", &bad_worker().to_string_lossy()])
    }

    /// Starts a daemon whose one model, `bad`, is the scripted bad worker with this script.
    /// `settings` are more lines of the model's table.
    #[track_caller]
    pub fn scripted(script: &str, settings: &str) -> Daemon {
        let daemon = Daemon::launch_scripted(script, settings);
        daemon.settle();
        daemon
    }

    /// Like [`Daemon::scripted`], but does not wait.
    pub fn launch_scripted(script: &str, settings: &str) -> Daemon {
        let config = format!("[[model]]\nname = \"bad\"\npath = \"script:{script}\"\n{settings}\n");
        Daemon::launch(&config, &["--template-executable", &bad_worker().to_string_lossy()])
    }

    /// Starts a daemon and does not wait for anything.
    pub fn launch(config: &str, arguments: &[&str]) -> Daemon {
        Daemon::launch_as(config, arguments, |_, _| {})
    }

    /// Starts a daemon whose command is changed before that, with its folder and its log at hand,
    /// and does not wait for anything.
    pub fn launch_as(config: &str, arguments: &[&str], change: impl FnOnce(&mut Command, &Path)) -> Daemon {
        Daemon::launch_by(command(supervisor()), config, arguments, |mut command, folder| {
            change(&mut command, folder);
            command
        })
    }

    /// Starts a daemon whose log is on a disk of its own, and does not wait for anything else.
    pub fn launch_on(disk: &mut SmallDisk, config: &str, arguments: &[&str]) -> Daemon {
        let command = command(supervisor());
        let mut daemon = Daemon::launch_by(command, config, arguments, |command, folder| {
            let mut command = disk.wrap(&command);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log_of(folder));
            command
        });
        daemon.log = disk.open_log(daemon.pid());
        daemon
    }

    /// Lets it live for longer than a test takes.
    pub fn live_for(&mut self, lifetime: Duration) {
        self.watchdog = Some(watch(self.pid(), lifetime));
    }

    /// Starts a daemon on a kernel that seems to be without something, as `without` names it, and
    /// does not wait for anything.
    pub fn launch_without(what: &str, config: &str, arguments: &[&str]) -> Daemon {
        let mut command = command(without());
        command.arg(what).arg(supervisor());
        Daemon::launch_by(command, config, arguments, |command, _| command)
    }

    /// Starts a daemon whose command comes after these words, as `prlimit --as=...` and its like, and
    /// does not wait for anything.
    pub fn launch_under(words: &[&str], config: &str, arguments: &[&str]) -> Daemon {
        let [program, rest @ ..] = words else { return Daemon::launch(config, arguments) };
        let mut command = command(program);
        command.args(rest).arg(supervisor());
        Daemon::launch_by(command, config, arguments, |command, _| command)
    }

    /// Has a service manager start a daemon, and does not wait for anything. If it is handed a
    /// client socket, that one is at `socket`.
    pub fn managed(manager: &Manager, config: &str, socket: Option<&Path>) -> Daemon {
        let mut daemon = Daemon::launch_by(command(supervisor()), config, &[], |command, folder| {
            let mut command = manager.wrap(&command);
            command.stderr(log_of(folder));
            command
        });
        if let Some(socket) = socket {
            socket.clone_into(&mut daemon.socket);
        }
        daemon
    }

    fn launch_by(
        mut command: Command,
        config: &str,
        arguments: &[&str],
        wrap: impl FnOnce(Command, &Path) -> Command,
    ) -> Daemon {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("cannot make a folder: {error}"));
        let (file, socket) = (folder.path().join("config.toml"), folder.path().join("supervisor.sock"));
        let prepared = fs::write(&file, config).and_then(|()| File::create(folder.path().join("log")));
        let log = prepared.and_then(|_| File::open(folder.path().join("log")));
        let log = log.unwrap_or_else(|error| panic!("cannot prepare a daemon: {error}"));
        let mut all: Vec<OsString> = vec!["run".into(), "--config".into(), file.into(), "--socket".into()];
        all.push(socket.clone().into());
        all.extend(arguments.iter().map(OsString::from));
        command.args(&all);
        let child = spawn(folder.path(), command, wrap);
        let watchdog = Some(watch(child.id(), LIFETIME));
        Daemon { child, socket, folder, log, arguments: all, watchdog }
    }

    /// Tells it to stop, waits for its end, and starts another in its place.
    #[track_caller]
    pub fn restart(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        let status = self.wait();
        let mut command = command(supervisor());
        command.args(&self.arguments);
        self.child = spawn(self.folder.path(), command, |command, _| command);
        if let Some((stop, watchdog)) = self.watchdog.replace(watch(self.child.id(), LIFETIME)) {
            drop(stop);
            let _panicked = watchdog.join();
        }
        status
    }

    /// Another configuration, which it does not know of yet.
    #[track_caller]
    pub fn configure(&self, config: &str) {
        let written = fs::write(self.folder.path().join("config.toml"), config);
        written.unwrap_or_else(|error| panic!("cannot write the configuration: {error}"));
    }

    /// Its client socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its folder, which holds its configuration, its log and its socket.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A new connection to it.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(&self.socket).unwrap_or_else(|error| panic!("{error}\n{}", self.last_words()))
    }

    /// Its status.
    #[track_caller]
    pub fn status(&self) -> Status {
        self.ask().unwrap_or_else(|error| panic!("{error}\n{}", self.last_words()))
    }

    /// The status of its only model.
    #[track_caller]
    pub fn model(&self) -> ModelStatus {
        only(self.status())
    }

    /// Looks at its status until `condition` holds, and returns the status for which it did.
    #[track_caller]
    pub fn until(&self, what: &str, mut condition: impl FnMut(&Status) -> bool) -> Status {
        let began = Instant::now();
        loop {
            let status = self.ask();
            match status {
                Ok(status) if condition(&status) => return status,
                // It has not begun to listen yet.
                Err(ClientError::NoDaemon { .. }) if self.runs() && began.elapsed() < LIMIT => {}
                Ok(_) if began.elapsed() < LIMIT => {}
                Ok(status) => panic!("waited {LIMIT:?} in vain until {what}: {status:#?}\n{}", self.last_words()),
                Err(error) => panic!("waited in vain until {what}: {error}\n{}", self.last_words()),
            }
            pause();
        }
    }

    /// Looks at its only model until `condition` holds.
    #[track_caller]
    pub fn until_model(&self, what: &str, mut condition: impl FnMut(&ModelStatus) -> bool) -> ModelStatus {
        only(self.until(what, |status| status.models.first().is_some_and(&mut condition)))
    }

    /// Waits until every model is served, is not wanted or has failed, and every slot of those that
    /// are served is idle.
    #[track_caller]
    pub fn settle(&self) -> Status {
        let is_idle = |worker: &WorkerStatus| matches!(worker.state.as_str(), "idle" | "spare");
        self.until("every model is served and idle, or cold, or has failed", |status| {
            status.models.iter().all(|model| match model.state.as_str() {
                "warm" => model.workers.iter().all(is_idle),
                "cold" | "failed" | "parked" => true,
                _ => false,
            })
        })
    }

    /// The worker that serves a request, waited for.
    #[track_caller]
    pub fn worker_of(&self, request: RequestId) -> WorkerStatus {
        let name = request.to_string();
        let serves = |worker: &&WorkerStatus| {
            worker.request.as_deref() == Some(&name) && worker.pid.is_some() && worker.state == "busy"
        };
        let found = |status: &Status| status.models.iter().flat_map(|model| &model.workers).find(serves).cloned();
        let status = self.until(&format!("a worker serves {name}"), |status| found(status).is_some());
        found(&status).unwrap_or_else(|| panic!("no worker serves {name}"))
    }

    /// The pid of the worker that serves a request, waited for.
    #[track_caller]
    pub fn pid_of(&self, request: RequestId) -> u32 {
        self.worker_of(request).pid.unwrap_or_else(|| panic!("no worker serves {request}"))
    }

    /// Waits until its children are those that its status names, and no others; so no zombie and no
    /// orphan is left.
    #[track_caller]
    pub fn has_only_its_own(&self) {
        let began = Instant::now();
        loop {
            let status = self.status();
            let templates =
                status.models.iter().filter_map(|model| model.template.as_ref().map(|template| template.pid));
            let workers = status.models.iter().flat_map(|model| &model.workers).filter_map(|worker| worker.pid);
            let mut known: Vec<u32> = templates.chain(workers).collect();
            let mut children = process::children(self.pid());
            known.sort_unstable();
            children.sort_unstable();
            let live = children.iter().all(|pid| process::lives(*pid));
            let mut started = process::started_by(self.pid());
            started.sort_unstable();
            if live && known == children && known == started {
                return;
            }
            let different = format!("{known:?} are known, {children:?} are children, {started:?} are its own");
            assert!(began.elapsed() < LIMIT, "{different}: {:#?}\n{}", self.status(), self.last_words());
            pause();
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        process::kill(self.pid(), signal);
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        until("the daemon has ended", LIMIT, || {
            status = self.child.try_wait().unwrap_or_else(|error| panic!("cannot wait for the daemon: {error}"));
            status.is_some()
        });
        status.unwrap_or_else(|| panic!("the daemon has ended without a status"))
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        let mut log = Vec::new();
        let mut chunk = vec![0; 64 << 10];
        while let Ok(count @ 1..) = self.log.read_at(&mut chunk, log.len() as u64) {
            log.extend_from_slice(&chunk[..count]);
        }
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let log = self.log();
        let mut from = log.len().saturating_sub(SHOWN);
        while !log.is_char_boundary(from) {
            from += 1;
        }
        format!("the daemon's log, from byte {from} on:\n{}", &log[from..])
    }

    fn ask(&self) -> Result<Status, ClientError> {
        Client::connect(&self.socket)?.status()
    }

    fn runs(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let pid = i32::try_from(self.pid()).unwrap_or(-1);
        matches!(waitid(Id::Pid(Pid::from_raw(pid)), flags), Ok(WaitStatus::StillAlive))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some((stop, watchdog)) = self.watchdog.take() {
            drop(stop);
            let _panicked = watchdog.join();
        }
        // It may have ended already.
        let _ended = self.child.kill();
        let _waited = self.child.wait();
        let log = self.log();
        if thread::panicking() {
            eprintln!("{}", self.last_words());
            return;
        }
        let panicked = log.lines().any(|line| line.starts_with("thread '") && line.contains("panicked at"));
        assert!(!panicked, "the daemon has panicked:\n{log}");
        let pid = self.pid();
        until("nothing of the daemon is left", LAST_MOMENT, || process::started_by(pid).is_empty());
    }
}

fn log_of(folder: &Path) -> File {
    let log = File::options().append(true).open(folder.join("log"));
    log.unwrap_or_else(|error| panic!("cannot open the log: {error}"))
}

fn spawn(folder: &Path, mut command: Command, wrap: impl FnOnce(Command, &Path) -> Command) -> Child {
    command.env("SUPERVISOR_LOG", "debug").env("RUST_BACKTRACE", "1");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log_of(folder));
    let mut command = wrap(command, folder);
    command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"))
}

fn only(status: Status) -> ModelStatus {
    assert_eq!(status.models.len(), 1, "the daemon serves one model");
    status.models.into_iter().next().unwrap_or_else(|| panic!("there is no model"))
}

/// Kills the daemon if it is not given up in time: its end ends whatever waits for it.
fn watch(pid: u32, lifetime: Duration) -> (Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = mpsc::channel();
    let watchdog = thread::spawn(move || {
        if stopped.recv_timeout(lifetime) == Err(RecvTimeoutError::Timeout) {
            eprintln!("the daemon {pid} is killed: its test has taken longer than {lifetime:?}");
            process::kill(pid, Signal::SIGKILL);
        }
    });
    (stop, watchdog)
}
