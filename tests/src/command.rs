//! The executable, called as from a shell: its output, its exit status, and that no panic ever
//! shows in either.
use crate::{LIMIT, command, executables::without, process, supervisor, until};
use nix::sys::signal::Signal;
use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read, Write},
    mem,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

/// A call that has not been made yet.
#[derive(Debug)]
pub struct Call {
    command: Command,
    input: Vec<u8>,
    taken: u64,
}

impl Call {
    /// The supervisor's executable with these arguments.
    pub fn new(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Call {
        Call::by(command(supervisor()), arguments)
    }

    /// The same on a kernel that seems to be without something, as `without` names it.
    pub fn without(what: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Call {
        let mut command = command(without());
        command.arg(what).arg(supervisor());
        Call::by(command, arguments)
    }

    fn by(mut command: Command, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Call {
        command.args(arguments).env("RUST_BACKTRACE", "1").env("NO_COLOR", "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Call { command, input: Vec::new(), taken: u64::MAX }
    }

    /// With the daemon at this socket.
    pub fn to(mut self, socket: &Path) -> Call {
        self.command.env("SUPERVISOR_SOCKET", socket);
        self
    }

    /// With these bytes as its standard input.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Call {
        self.input = bytes.into();
        self
    }

    /// With a reader who closes the standard output after so many bytes.
    pub fn taken(mut self, bytes: u64) -> Call {
        self.taken = bytes;
        self
    }

    /// With a standard error that nothing can be written to.
    pub fn unheard(mut self) -> Call {
        let full = File::create("/dev/full").unwrap_or_else(|error| panic!("cannot open /dev/full: {error}"));
        self.command.stderr(full);
        self
    }

    /// Calls it.
    pub fn start(mut self) -> Called {
        if self.taken == 0 {
            // Nobody has ever been there, also for one who writes at once.
            let pipe = io::pipe().unwrap_or_else(|error| panic!("cannot make a pipe: {error}"));
            self.command.stdout(pipe.1);
        }
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("cannot call {:?}: {error}", self.command));
        let mut stdin = child.stdin.take();
        let input = mem::take(&mut self.input);
        // It may end without reading any of it.
        let input = thread::spawn(move || drop(stdin.as_mut().map(|stdin| stdin.write_all(&input))));
        let stdout = Collected::from(child.stdout.take().map(|stdout| stdout.take(self.taken)));
        let stderr = Collected::from(child.stderr.take());
        Called { child, input: Some(input), stdout, stderr }
    }

    /// Calls it and waits for its end.
    #[track_caller]
    pub fn run(self) -> Ended {
        self.start().wait()
    }
}

/// A call that has been made. If it is dropped before its end it is killed.
#[derive(Debug)]
pub struct Called {
    child: Child,
    input: Option<JoinHandle<()>>,
    stdout: Collected,
    stderr: Collected,
}

impl Called {
    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        process::kill(self.pid(), signal);
    }

    /// What it has printed so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has complained of so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(mut self) -> Ended {
        let mut status = None;
        until("the called executable has ended", LIMIT, || {
            status = self.child.try_wait().unwrap_or_else(|error| panic!("cannot wait for it: {error}"));
            status.is_some()
        });
        for reader in [self.input.take(), self.stdout.reader.take(), self.stderr.reader.take()].into_iter().flatten() {
            let _panicked = reader.join();
        }
        let status = status.unwrap_or_else(|| panic!("it has ended without a status"));
        let ended = Ended { status, stdout: self.stdout.text(), stderr: self.stderr.text() };
        for text in [&ended.stdout, &ended.stderr] {
            for word in ["panicked", "stack backtrace", "RUST_BACKTRACE"] {
                assert!(!text.contains(word), "a panic reached the user: {ended:?}");
            }
        }
        ended
    }
}

impl Drop for Called {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
        let _waited = self.child.wait();
    }
}

/// A call that has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Ended {
    /// The exit status as a shell shows it: 128 and the signal's number if a signal ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// The one line on stderr, without the newline.
    #[track_caller]
    pub fn complaint(&self) -> &str {
        let line = self.stderr.strip_suffix('\n').unwrap_or_else(|| panic!("no line on stderr: {self:?}"));
        assert!(!line.contains('\n'), "more than one line on stderr: {self:?}");
        line
    }
}

/// What a thread reads from a pipe.
#[derive(Debug)]
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Collected {
    fn from(pipe: Option<impl Read + Send + 'static>) -> Collected {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&bytes);
        let reader = pipe.map(|mut pipe| {
            thread::spawn(move || {
                let mut chunk = [0; 4096];
                while let Ok(count @ 1..) = pipe.read(&mut chunk) {
                    sink.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&chunk[..count]);
                }
            })
        });
        Collected { bytes, reader }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}
