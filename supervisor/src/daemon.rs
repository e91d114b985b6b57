//! The daemon: one loop (`event_loop.rs`) that turns what happens into the policy's events, and the
//! policy's effects into actions.
//!
//! It owns every process, socket and record, and decides nothing: who runs, waits, dies or crashed,
//! what fits into memory, which model a request means and which clients find a place is for the
//! policy to say. What children and clients send is checked here; nothing of it can make this loop
//! wait, panic or grow without bound.
//!
//! ```text
//!  client tasks ──┐                         ┌── Load, Fork, KillTemplate ──> template
//!  template tasks ┼─ Input ─> Event ─> policy ┼── Dispatch, Kill, Terminate ─> worker
//!  worker tasks ──┘                         └── Finish ────────────────────> client
//! ```

mod access_log;
mod activation;
mod admission;
mod children;
mod clients;
mod connection;
mod control;
mod effects;
mod event_loop;
mod examination;
mod fuzzing;
mod helper;
mod housekeeping;
mod identity;
mod listener;
mod memory_watch;
mod models;
mod notify;
mod open_request;
mod reload;
mod report;
mod requirements;
mod served_model;
mod signals;
mod stderr_tail;
mod stop;
mod template_process;
mod worker_process;

pub(crate) use activation::{ActivationError, Adopted};
pub(crate) use event_loop::{Setup, SocketSource, run};
pub(crate) use examination::{ExaminationError, examine};
pub(crate) use fuzzing::{hear, look};
pub(crate) use listener::ListenError;

use crate::{
    config::{Config, ConfigSource, SupervisorConfig},
    log::Prompts,
};
use access_log::Peer;
use connection::{FromClient, Outbox};
use helper::Helpers;
use interprocess::local_socket::tokio::Stream;
use ipc::RequestId;
use listener::ClientSocket;
use models::Models;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use notify::Notify;
use open_request::OpenRequest;
use policy::{Event, Limits, Policy, Time};
use reload::Reloading;
use served_model::ServedModel;
use std::{
    collections::{HashMap, VecDeque},
    hash::RandomState,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use system::proc::Sample;
use template_process::{Starter, TemplateSaid};
use tokio::sync::mpsc;
pub(crate) use worker_process::FdsForWorker;
use worker_process::WorkerSaid;

/// One connection of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ConnectionId(u64);

/// What the daemon's tasks tell it.
#[derive(Debug)]
pub(crate) enum Input {
    /// A client has said something.
    Client(ConnectionId, FromClient),
    /// A template has said something.
    Template(policy::TemplateId, TemplateSaid),
    /// A worker has said something.
    Worker(policy::WorkerId, WorkerSaid),
    /// The memory of a worker, or of its pool's template, has been looked at.
    Memory(Sampled, Sample),
}

/// Whose memory has been looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sampled {
    /// A worker's.
    Worker(policy::WorkerId),
    /// A template's.
    Template(policy::TemplateId),
}

/// The daemon's state.
#[derive(Debug)]
struct Daemon {
    policy: Policy,
    started: Instant,
    cores: u32,
    /// The part of the configuration that is no model's.
    supervisor: SupervisorConfig,
    source: ConfigSource,
    /// Whether the configuration names models.
    names_models: bool,
    models: Models,
    requests: HashMap<RequestId, OpenRequest>,
    clients: HashMap<ConnectionId, Client>,
    socket: ClientSocket,
    notify: Notify,
    starter: Starter,
    helpers: Helpers,
    inputs: mpsc::Sender<Input>,
    /// What has happened and has not been told to the policy yet.
    events: VecDeque<Event>,
    /// Bytes that wait for clients, of all connections.
    queued: Arc<AtomicUsize>,
    fingerprints: RandomState,
    prompts: Prompts,
    connections: u64,
    submitted: u64,
    accepting: Accepting,
    children_ended: bool,
    /// The configuration that is to come into force.
    reloading: Option<Reloading>,
    /// Whether it is to be read once more then, and who waits for that.
    reload_again: Option<Vec<ConnectionId>>,
    /// Why the last reload changed nothing.
    reload_error: Option<String>,
    /// Whether the models' limits are others than before.
    has_new_limits: bool,
    /// Who waits until nothing is left to be finished.
    drains: Vec<ConnectionId>,
    /// Who waits for the end.
    stops: Vec<ConnectionId>,
    is_accepting: bool,
    /// The end of the time in which those who had connected before the daemon was told to stop may
    /// still ask.
    gathering: Option<tokio::time::Instant>,
    halted: bool,
}

/// When clients are accepted.
#[derive(Debug)]
struct Accepting {
    /// None is before.
    from: tokio::time::Instant,
    /// Whether the last one could not be, which is told once.
    has_failed: bool,
}

/// A client that is connected.
#[derive(Debug)]
struct Client {
    outbox: Outbox,
    peer: Peer,
    /// The request that it waits for.
    active: Option<RequestId>,
    /// Whether it has shut its sending side down.
    finished: bool,
    /// Whether it may change what the daemon does.
    is_operator: bool,
    /// Whether it waits for what it has asked the daemon to do.
    awaits: bool,
    /// Whether it has ever sent a whole message.
    has_asked: bool,
    /// Since when nothing is done for it.
    idle_since: Instant,
}

impl Client {
    /// Whether it waits for nothing.
    fn is_idle(&self) -> bool {
        self.active.is_none() && !self.awaits
    }
}

impl Daemon {
    fn new(
        config: Config,
        source: ConfigSource,
        socket: ClientSocket,
        starter: Starter,
        helpers: Helpers,
        prompts: Prompts,
        inputs: mpsc::Sender<Input>,
    ) -> Daemon {
        let cores = config.supervisor.cores.or_all();
        let limits = Limits { cores, drain: config.supervisor.shutdown_timeout, ..Limits::default() };
        let pools: Vec<ServedModel> = config.models.into_iter().map(|model| ServedModel::new(model, cores)).collect();
        let pool_limits = pools.iter().map(|pool| pool.limits(&config.supervisor)).collect();
        Daemon {
            policy: Policy::new(limits, pool_limits, open_request::draw_seed()),
            started: Instant::now(),
            cores,
            supervisor: config.supervisor,
            source,
            names_models: config.names_models,
            models: Models::new(pools),
            requests: HashMap::new(),
            clients: HashMap::new(),
            socket,
            notify: Notify::from_environment(),
            starter,
            helpers,
            inputs,
            events: VecDeque::new(),
            queued: Arc::new(AtomicUsize::new(0)),
            fingerprints: RandomState::new(),
            prompts,
            connections: 0,
            submitted: 0,
            accepting: Accepting { from: tokio::time::Instant::now(), has_failed: false },
            children_ended: false,
            reloading: None,
            reload_again: None,
            reload_error: None,
            has_new_limits: false,
            drains: Vec::new(),
            stops: Vec::new(),
            is_accepting: true,
            gathering: None,
            halted: false,
        }
    }

    fn now(&self) -> Time {
        self.time_of(Instant::now())
    }

    /// A moment as the policy counts time.
    fn time_of(&self, moment: Instant) -> Time {
        Time(moment.saturating_duration_since(self.started))
    }

    /// Tells the policy what has happened, and does what it wants.
    fn feed(&mut self, event: Event) {
        self.events.push_back(event);
        self.settle();
    }

    /// Takes in what has happened by now. If this process was not running for a while, others may
    /// have been in time all the same.
    async fn catch_up(&mut self, inputs: &mut mpsc::Receiver<Input>) {
        /// From the end of a process to its being told of here, its tasks run this often at most.
        const ROUNDS: usize = 8;
        for _ in 0..ROUNDS {
            tokio::task::yield_now().await;
            while let Ok(input) = inputs.try_recv() {
                self.take(input);
            }
        }
    }

    /// Has the policy do what has come due, once all that was said before is heard.
    async fn time_out(&mut self, inputs: &mut mpsc::Receiver<Input>) {
        self.catch_up(inputs).await;
        // Who has moved since the last look is not stuck.
        self.observe();
        self.policy.handle_timeout(self.now());
        self.settle();
    }

    /// Does what the policy wants and tells it what comes of that, until there is nothing left to
    /// do.
    fn settle(&mut self) {
        loop {
            while let Some(effect) = self.policy.poll_effect() {
                tracing::trace!(?effect);
                self.act(effect);
            }
            let Some(event) = self.events.pop_front() else { return };
            tracing::trace!(?event);
            self.policy.handle(self.now(), event);
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Client(id, said) => self.hear_client(id, said),
            Input::Template(id, said) => self.hear_template(id, said),
            Input::Worker(id, said) => self.hear_worker(id, said),
            Input::Memory(whose, sample) => self.note_memory(whose, sample),
        }
    }

    /// How often boards are looked at: often enough for the shortest progress timeout.
    fn observation_interval(&self) -> tokio::time::Interval {
        const LONGEST: Duration = Duration::from_millis(500);
        const SHORTEST: Duration = Duration::from_millis(20);
        let shortest_timeout = self.models.values().map(|pool| pool.config.progress_timeout).min().unwrap_or(LONGEST);
        let mut interval = tokio::time::interval((shortest_timeout / 8).clamp(SHORTEST, LONGEST));
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        interval
    }

    /// Why nothing can be served, if nothing can.
    fn nothing_served(&self) -> Option<String> {
        let reasons = || self.models.served().map(|(_, pool)| pool.why_hopeless()).collect::<Vec<_>>();
        self.policy.is_hopeless().then(|| reasons().join("; "))
    }

    async fn accept(&self) -> io::Result<Result<Stream, Stream>> {
        if !self.is_accepting {
            return std::future::pending().await;
        }
        tokio::time::sleep_until(self.accepting.from).await;
        self.socket.accept().await
    }

    /// Gives the last messages to clients a moment to be taken.
    async fn say_goodbye(mut self) {
        const MOMENT: Duration = Duration::from_secs(1);
        self.clients.values_mut().for_each(|client| client.outbox.close());
        let taken = async {
            while self.queued.load(Relaxed) > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let _not_taken = tokio::time::timeout(MOMENT, taken).await;
    }
}

fn set_nonblocking(descriptor: &OwnedFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(descriptor.as_fd(), FcntlArg::F_GETFL)?);
    fcntl(descriptor.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
