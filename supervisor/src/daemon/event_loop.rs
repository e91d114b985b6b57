//! The daemon's life: what it begins with, the loop in which everything happens, and its end.
//!
//! What follows from each input is elsewhere; here is only when each is looked at.
use super::{
    Adopted, Daemon, ListenError, Sockets,
    children::Children,
    helper::Helpers,
    housekeeping,
    listener::ClientSocket,
    memory_shortage::RecentMemory,
    memory_watch,
    requirements::{self, Missing},
    signals::Signals,
    template_process::Starter,
};
use crate::{
    config::{Config, ConfigSource},
    log::Prompts,
    shortage::ThreadError,
};
use std::{collections::HashSet, io, os::fd::OwnedFd, path::PathBuf};
use thiserror::Error;
use tokio::sync::mpsc;

/// Why a daemon cannot run.
#[derive(Debug, Error)]
pub(crate) enum RunError {
    /// Something is not there that it cannot do without.
    #[error("cannot start")]
    Missing(#[source] Missing),
    /// A thread cannot be had.
    #[error("cannot start")]
    Thread(#[source] ThreadError),
    /// The daemon itself cannot be set up.
    #[error("cannot start: cannot {0}")]
    SetUp(&'static str, #[source] io::Error),
    /// The client socket cannot be had.
    #[error(transparent)]
    Listen(ListenError),
    /// No model could be loaded.
    #[error("nothing can be served: {0}")]
    NothingServed(String),
}

/// Where clients connect.
pub(crate) enum SocketSource {
    /// At a socket that the daemon makes here.
    Path(PathBuf),
    /// At a socket that was handed over.
    Adopted(Adopted),
}

/// What a daemon runs with.
pub(crate) struct Setup {
    /// The configuration.
    pub(crate) config: Config,
    /// Where to read it again.
    pub(crate) source: ConfigSource,
    /// The client socket.
    pub(crate) socket: SocketSource,
    /// Sockets for HTTP that were handed over.
    pub(crate) http: Vec<OwnedFd>,
    /// The executable of templates; this process's own if `None`.
    pub(crate) template: Option<PathBuf>,
}

/// Runs the daemon until it is told to stop.
pub(crate) fn run(setup: Setup) -> Result<(), RunError> {
    // Everything runs on this thread, which lives as long as the process: templates die with the
    // thread that starts them.
    requirements::check().map_err(RunError::Missing)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(cannot("make the event loop"))?;
    // A task of its own, so that what wakes it is taken up in the turn in which it came.
    match runtime.block_on(async { tokio::spawn(serve(setup)).await }) {
        Ok(served) => served,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// The error of setting something up.
fn cannot<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> RunError {
    move |error| RunError::SetUp(what, error.into())
}

/// Most inputs that wait; a task that has more to say waits itself.
const INPUTS: usize = 256;
/// Inputs that are handled before time is looked at again.
const BATCH: usize = 64;
async fn serve(setup: Setup) -> Result<(), RunError> {
    nix::sys::prctl::set_child_subreaper(true)
        .map_err(cannot("become the parent of workers (PR_SET_CHILD_SUBREAPER)"))?;
    crate::sys::keep_descriptors().map_err(cannot("keep its descriptors from its children"))?;
    raise_descriptor_limit();
    let starter = Starter::new(setup.template).map_err(cannot("open its own executable (/proc/self/exe)"))?;
    let mut signals = Signals::catch().map_err(cannot("catch signals"))?;
    let helpers = Helpers::start().map_err(RunError::Thread)?;
    let allowed = setup.config.supervisor.allow_users.clone();
    let socket = match setup.socket {
        SocketSource::Path(path) => ClientSocket::take(&path, allowed),
        SocketSource::Adopted(adopted) => ClientSocket::adopt(adopted, allowed),
    };
    let socket = socket.map_err(RunError::Listen)?;
    tracing::info!(socket = %socket.path().display(), "listening");
    let prompts = Prompts::new(setup.config.supervisor.log_prompts).map_err(cannot("draw random numbers"))?;
    let (sender, mut inputs) = mpsc::channel(INPUTS);
    let children = Children {
        starter,
        helpers,
        inputs: sender,
        have_ended: false,
        memory: RecentMemory::default(),
        sampled: HashSet::new(),
    };
    let mut secret = [0; 32];
    rustix::rand::getrandom(&mut secret[..], rustix::rand::GetRandomFlags::empty())
        .map_err(|error| RunError::SetUp("draw random numbers", error.into()))?;
    let sockets = Sockets { clients: socket, http: setup.http, secret };
    let mut daemon = Daemon::new((setup.config, setup.source), sockets, children, prompts);
    let mut observe = daemon.observation_interval();
    let mut housekeeping = tokio::time::interval(housekeeping::INTERVAL);
    let mut memory_watch = tokio::time::interval(memory_watch::INTERVAL);
    memory_watch.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut watchdog = daemon.notify.watchdog_interval().map(tokio::time::interval);
    let mut batch = Vec::with_capacity(BATCH);
    daemon.settle();
    while !daemon.stopping.has_halted {
        let deadline = daemon.driver.deadline();
        tokio::select! {
            count = inputs.recv_many(&mut batch, BATCH) => {
                debug_assert!(count > 0, "the daemon holds a sender");
                for input in batch.drain(..) {
                    daemon.take(input);
                }
            }
            accepted = daemon.accept() => daemon.connect(accepted),
            signal = signals.next() => daemon.signalled(signal),
            () = until(deadline) => daemon.time_out(&mut inputs).await,
            () = until(daemon.stopping.gathering) => daemon.gathered(),
            _ = observe.tick() => daemon.observe(),
            _ = memory_watch.tick(), if daemon.computes() => daemon.sample_memory(),
            _ = housekeeping.tick() => daemon.keep_house().await,
            // Here and nowhere else: a loop that does not come round is not to be fed.
            () = tick(watchdog.as_mut()) => {
                // After a long sleep, what has come due is due only now.
                daemon.time_out(&mut inputs).await;
                daemon.feed_watchdog();
            }
        }
        daemon.settle();
        daemon.after_turn();
        daemon.settle();
        daemon.announce();
        if std::mem::take(&mut daemon.settings.has_new_limits) {
            observe = daemon.observation_interval();
        }
        if let Some(reason) = daemon.nothing_served() {
            daemon.connections.say_goodbye().await;
            return Err(RunError::NothingServed(reason));
        }
    }
    daemon.connections.say_goodbye().await;
    Ok(())
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn tick(interval: Option<&mut tokio::time::Interval>) {
    match interval {
        Some(interval) => _ = interval.tick().await,
        None => std::future::pending().await,
    }
}

/// A worker takes five descriptors and a client one: as many as the system lets this process have.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // With fewer, fewer clients are served at once.
        let _kept = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}
