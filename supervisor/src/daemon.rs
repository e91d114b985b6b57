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
mod children;
mod clients;
mod connection;
mod control;
mod effects;
mod event_loop;
mod examination;
mod front_process;
mod fronts;
mod fuzzing;
mod helper;
mod housekeeping;
mod identity;
mod listener;
mod memory_shortage;
mod memory_watch;
mod models;
mod notify;
mod open_connections;
mod open_request;
mod policy_driver;
mod reload;
mod report;
mod requests;
mod requirements;
mod served_model;
mod settings;
mod signals;
mod stderr_tail;
mod stop;
mod template_process;
mod worker_board;
mod worker_memory;
mod worker_process;

pub(crate) use activation::{ActivationError, Adopted, place_of};
pub(crate) use event_loop::{Setup, SocketSource, run};
pub(crate) use examination::{ExaminationError, examine};
pub(crate) use fuzzing::{hear, look};
pub(crate) use listener::ListenError;

use crate::{
    config::{Config, ConfigSource},
    log::Prompts,
};
use children::Children;
use connection::FromClient;
use front_process::FrontSaid;
use fronts::Fronts;
use interprocess::local_socket::tokio::Stream;
use listener::ClientSocket;
use models::Models;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use notify::Notify;
use open_connections::Connections;
use policy::{Event, Limits};
use policy_driver::PolicyDriver;
use reload::Reloads;
use requests::Requests;
use served_model::ServedModel;
use settings::Settings;
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};
use stop::Stopping;
use system::proc::Sample;
use template_process::TemplateSaid;
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
    /// A front has said something.
    Front(policy::FrontId, FrontSaid),
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

/// The daemon's state, in parts that own what is theirs.
#[derive(Debug)]
struct Daemon {
    driver: PolicyDriver,
    settings: Settings,
    models: Models,
    requests: Requests,
    connections: Connections,
    children: Children,
    reloads: Reloads,
    fronts: Fronts,
    stopping: Stopping,
    notify: Notify,
}

/// The sockets that a daemon begins with, and what it hashes keys with.
struct Sockets {
    clients: ClientSocket,
    http: Vec<OwnedFd>,
    secret: [u8; 32],
}

impl Daemon {
    fn new(setup: (Config, ConfigSource), sockets: Sockets, children: Children, prompts: Prompts) -> Daemon {
        let ((config, source), Sockets { clients: socket, http: http_sockets, secret }) = (setup, sockets);
        let has_front = config.http.is_on();
        let cores = config.supervisor.cores.or_all();
        let limits = Limits { cores, drain: config.supervisor.shutdown_timeout, ..Limits::default() };
        let pools: Vec<ServedModel> = config.models.into_iter().map(|model| ServedModel::new(model, cores)).collect();
        let pool_limits = pools.iter().map(|pool| pool.limits(&config.supervisor)).collect();
        let settings = Settings {
            supervisor: config.supervisor,
            source,
            names_models: config.names_models,
            cores,
            has_new_limits: false,
        };
        Daemon {
            driver: PolicyDriver::new(limits, pool_limits, open_request::draw_seed(), has_front),
            settings,
            models: Models::new(pools),
            requests: Requests::new(prompts),
            connections: Connections::new(socket),
            children,
            reloads: Reloads::default(),
            fronts: Fronts::new(config.http, http_sockets, secret),
            stopping: Stopping::default(),
            notify: Notify::from_environment(),
        }
    }

    /// Tells the policy what has happened, and does what must be done at once. What follows comes
    /// when the policy settles, at the end of the turn.
    fn feed(&mut self, event: Event) {
        self.driver.note(event);
        self.act_all();
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
        self.settle();
        self.driver.time_out();
        self.settle();
    }

    /// Has the policy settle, and does what it wants, until nothing is left to be done.
    fn settle(&mut self) {
        self.act_all();
        while self.driver.settle() {
            self.act_all();
        }
    }

    /// Does what the policy wants by now, and tells it what comes of that.
    fn act_all(&mut self) {
        while let Some(effect) = self.driver.next() {
            self.act(effect);
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Client(id, said) => self.hear_client(id, said),
            Input::Template(id, said) => self.hear_template(id, said),
            Input::Worker(id, said) => self.hear_worker(id, said),
            Input::Front(id, said) => self.hear_front(id, said),
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
        let http = || self.fronts.error.clone().unwrap_or_else(|| reasons().join("; "));
        self.driver.policy.is_hopeless().then(http)
    }

    async fn accept(&self) -> io::Result<Result<Stream, Stream>> {
        if self.is_stopping() {
            return std::future::pending().await;
        }
        self.connections.accept().await
    }
}

fn set_nonblocking(descriptor: &OwnedFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(descriptor.as_fd(), FcntlArg::F_GETFL)?);
    fcntl(descriptor.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
