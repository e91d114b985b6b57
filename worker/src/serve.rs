//! A worker's life: take the seat, wait for `Go`, confine itself, say hello, serve jobs until the supervisor hangs up.
//!
//! It does not compute ([`crate::generate`] and [`crate::embed`] do) and decides nothing: what to do after an error is the supervisor's to say.
use crate::{
    embed,
    engine::Pace,
    generate::{self, Progress},
    loaded::Loaded,
    socket::WorkerSocket,
    sys::{self, Board},
    template::Seat,
};
use ipc::{
    BlockingEnd, EndError, FailureKind, FromWorker, Go, MAX_FRAME, RequestId, Sandbox, ToWorker,
    board::{Phase, Word},
};
use nix::{
    sched::sched_yield,
    sys::{
        prctl,
        resource::{Resource, setrlimit},
        signal::Signal,
    },
    unistd::{Pid, dup2_stderr, getppid, setpgid},
};
use std::{
    fs, io,
    ops::ControlFlow,
    sync::atomic::Ordering::{Relaxed, Release},
    time::{Duration, Instant},
};
use thiserror::Error;

/// Tokens that come faster than this are sent together.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// Exit status of a worker that could not serve.
const FAILED: i32 = 1;

/// Lives a worker's life in a process just forked, and returns its exit status.
pub fn serve(model: &mut Loaded, seat: Seat) -> i32 {
    match live(model, seat) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("worker: {}", crate::chain(&error));
            FAILED
        }
    }
}

/// A worker that has taken its seat: stderr is its own, the board is mapped.
#[derive(Debug)]
pub struct Seated {
    /// The socket to the supervisor.
    pub end: BlockingEnd<WorkerSocket>,
    /// The board.
    pub board: Board,
}

/// Why a worker could not serve.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The seat could not be taken.
    #[error("cannot take the seat")]
    Seat(#[source] io::Error),
    /// The socket failed.
    #[error("the supervisor cannot be heard")]
    Socket(#[source] EndError),
    /// `Go` is not the first message, or not the only one.
    #[error("the messages are out of order")]
    NotGo,
    /// The worker could not be tied to the supervisor's life.
    #[error("cannot be tied to the supervisor")]
    Tie(#[source] nix::Error),
    /// The supervisor is not this worker's parent.
    #[error("the supervisor is not the parent")]
    Orphaned,
    /// A limit could not be set.
    #[error("cannot limit {0}")]
    Limit(&'static str, #[source] nix::Error),
    /// How much memory was inherited could not be found out.
    #[error("cannot read how much memory was inherited")]
    Inherited(#[source] io::Error),
    /// Privileges could not be renounced.
    #[error("cannot renounce privileges")]
    Privileges(#[source] nix::Error),
}

/// Makes the seat's stderr this process's own and maps the board.
pub fn take_seat(seat: Seat) -> Result<Seated, ServeError> {
    dup2_stderr(&seat.stderr).map_err(|error| ServeError::Seat(error.into()))?;
    drop(seat.stderr);
    let board = Board::map(&seat.board).map_err(ServeError::Seat)?;
    Ok(Seated { end: BlockingEnd::new(WorkerSocket::new(seat.socket), MAX_FRAME, MAX_FRAME), board })
}

/// Has this process die with the supervisor, once the supervisor is its parent, which takes a moment: until the process in between
/// has ended. Before that, its end would be the parent's death.
fn tie_to(supervisor: u32) -> nix::Result<bool> {
    const MOMENT: usize = 10_000;
    let is_parent = || getppid().as_raw().unsigned_abs() == supervisor;
    if !(0..MOMENT).any(|_| is_parent() || sched_yield().is_err()) {
        return Ok(false);
    }
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // The signal comes only for a parent that dies from now on.
    Ok(is_parent())
}

/// Waits for the supervisor's `Go`; `None` if it hangs up first, as it does when it does not want this worker any more.
pub fn wait_for_go(seated: &mut Seated) -> Result<Option<Go>, ServeError> {
    match seated.end.receive().map_err(ServeError::Socket)? {
        Some(ToWorker::Go(go)) => Ok(Some(go)),
        Some(_) => Err(ServeError::NotGo),
        None => Ok(None),
    }
}

fn live(model: &mut Loaded, seat: Seat) -> Result<(), ServeError> {
    let supervisor = seat.supervisor;
    let mut seated = take_seat(seat)?;
    // If it does not work yet, end of file on the socket tells of the supervisor's end.
    tie_to(supervisor).map_err(ServeError::Tie)?;
    let Some(go) = wait_for_go(&mut seated)? else { return Ok(()) };
    let sandbox = confine(&go)?;
    seated.board.word(Word::Threads).store(1, Relaxed);
    let hello = FromWorker::Hello { sandbox, threads: go.threads };
    seated.end.send(&hello).map_err(ServeError::Socket)?;
    let Seated { mut end, board } = seated;
    while let Some(message) = end.receive().map_err(ServeError::Socket)? {
        let memory = end.stream().take_descriptor();
        let mut broken = None;
        let mut last_token: Option<Instant> = None;
        let mut emit = |message| {
            // Waking the supervisor takes longer than a small model takes for a token. A token that is put off waits for the next one.
            let is_token = matches!(message, FromWorker::Token { .. });
            let put_off = is_token && last_token.is_some_and(|sent| sent.elapsed() < SHORTEST_PAUSE);
            let sent = if put_off { end.put_off(&message) } else { end.send(&message) };
            if is_token && !put_off {
                last_token = Some(Instant::now());
            }
            match sent {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    broken = Some(error);
                    ControlFlow::Break(())
                }
            }
        };
        match message {
            ToWorker::Go(_) => return Err(ServeError::NotGo),
            ToWorker::Run(job) => match model {
                Loaded::Generate(model) => {
                    let memory = memory.filter(|_| job.cache);
                    generate::run(model, &job, memory, &BoardProgress(&board), &mut emit);
                }
                Loaded::Embed(_) => {
                    let message = "the model makes vectors and generates no text".to_owned();
                    let _heard = emit(bad_request(job.request, message));
                }
            },
            ToWorker::Embed(job) => match model {
                Loaded::Embed(bert) => embed::run(bert, &job, &BoardProgress(&board), &mut emit),
                Loaded::Generate(_) => {
                    let message = "the model generates text and makes no vectors".to_owned();
                    let _heard = emit(bad_request(job.request, message));
                }
            },
            ToWorker::Tokenize(job) => {
                let answer = match model.tokenize(&job.text, job.special) {
                    Ok(ids) => FromWorker::Tokenized { request: job.request, ids },
                    Err(error) => bad_request(job.request, crate::chain(&error)),
                };
                let _heard = emit(answer);
            }
        }
        BoardProgress(&board).phase(Phase::Idle);
        board.word(Word::Threads).store(1, Relaxed);
        if let Some(error) = broken {
            return Err(ServeError::Socket(error));
        }
        if go.single {
            return Ok(());
        }
        // What one request needed is not kept for the next.
        sys::trim_heap();
    }
    Ok(())
}

fn bad_request(request: RequestId, message: String) -> FromWorker {
    FromWorker::Failed { request, kind: FailureKind::BadRequest, message }
}

/// Ties this process to the supervisor's life and gives up what a worker does not need.
fn confine(go: &Go) -> Result<Sandbox, ServeError> {
    // It is the leader of its own process group, so that nothing sent to another group reaches it.
    setpgid(Pid::from_raw(0), Pid::from_raw(0)).map_err(ServeError::Tie)?;
    if !tie_to(go.supervisor).map_err(ServeError::Tie)? {
        return Err(ServeError::Orphaned);
    }
    let data = inherited_data().map_err(ServeError::Inherited)?.saturating_add(go.memory);
    for (name, resource, limit) in [
        ("core dumps", Resource::RLIMIT_CORE, 0),
        ("file sizes", Resource::RLIMIT_FSIZE, 0),
        ("open files", Resource::RLIMIT_NOFILE, 16),
        ("private memory", Resource::RLIMIT_DATA, data),
    ] {
        setrlimit(resource, limit, limit).map_err(|error| ServeError::Limit(name, error))?;
    }
    prctl::set_no_new_privs().map_err(ServeError::Privileges)?;
    Ok(Sandbox { no_new_privileges: true, resource_limits: true, seccomp: false, landlock: None })
}

/// The writable private memory that this process was born with, in bytes: RLIMIT_DATA counts it too.
fn inherited_data() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let kibibytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmData:"))
        .and_then(|value| value.trim().strip_suffix("kB"))
        .and_then(|value| value.trim().parse::<u64>().ok());
    kibibytes.map(|count| count * 1024).ok_or_else(|| io::Error::other("no VmData in /proc/self/status"))
}

/// Progress, published on the board.
#[derive(Debug)]
pub struct BoardProgress<'a>(pub &'a Board);

impl Pace for BoardProgress<'_> {
    fn layer(&self) -> usize {
        let threads = self.0.word(Word::Budget).load(Relaxed).max(1);
        self.0.word(Word::Threads).store(threads, Relaxed);
        self.tick();
        usize::try_from(threads).unwrap_or(1)
    }
}

impl Progress for BoardProgress<'_> {
    fn phase(&self, phase: Phase) {
        self.0.word(Word::Phase).store(phase as u64, Relaxed);
    }

    fn prompt(&self, done: u64, total: u64) {
        self.0.word(Word::PromptTotal).store(total, Relaxed);
        self.0.word(Word::PromptDone).store(done, Relaxed);
    }

    fn generated(&self, count: u64) {
        self.0.word(Word::Generated).store(count, Relaxed);
    }

    fn tick(&self) {
        self.0.word(Word::Ticks).fetch_add(1, Release);
    }

    fn stop_requested(&self, request: RequestId) -> bool {
        self.0.word(Word::Stop).load(Relaxed) == request.0.saturating_add(1)
    }
}
