//! HTTP as the daemon sees it: the front processes, the sockets that each hands on to the next, and
//! the connections that are made for them. When one comes and goes is the policy's to say.
use super::{
    ConnectionId, Daemon,
    access_log::Peer,
    children::timestamp,
    connection::{Outbox, Speaks},
    front_process::{FrontError, FrontProcess, FrontSaid},
    open_connections::Client,
};
use crate::{
    config::HttpConfig,
    log::OPERATION,
    process::{Exit, Process},
    shortage::chain_with_limit,
};
use ipc::{
    FromFront, FrontConfig, Key, Listen, ToFront,
    status::{Crash, HttpStatus},
};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use policy::{Event, FrontChange, FrontId};
use std::{
    collections::HashMap,
    io,
    os::{fd::OwnedFd, unix::net::UnixStream as StdStream},
    sync::Arc,
    time::Duration,
};
use tokio::net::UnixStream;

/// Most connections of one front: each carries one request at a time.
const CONNECTIONS: usize = 512;

/// The fronts.
#[derive(Debug)]
pub(super) struct Fronts {
    processes: HashMap<FrontId, FrontProcess>,
    /// How those that serve do.
    config: HttpConfig,
    /// How the one is to serve that is tried.
    tried: Option<HttpConfig>,
    /// The sockets that clients connect to, for where the configuration says that they are.
    sockets: Vec<OwnedFd>,
    /// Whether somebody else has made them, and looks after them.
    are_handed_over: bool,
    /// What keys are hashed with.
    secret: [u8; 32],
    /// Why the last one could not serve.
    pub(super) error: Option<String>,
    last_crash: Option<Crash>,
}

impl Fronts {
    /// None yet. `handed` are sockets that the service manager has made.
    pub(super) fn new(config: HttpConfig, handed: Vec<OwnedFd>, secret: [u8; 32]) -> Fronts {
        Fronts {
            processes: HashMap::new(),
            config,
            tried: None,
            are_handed_over: !handed.is_empty(),
            sockets: handed,
            secret,
            error: None,
            last_crash: None,
        }
    }

    /// What a new configuration means for the front.
    pub(super) fn change(&mut self, mut new: HttpConfig) -> FrontChange {
        if self.are_handed_over {
            // Where they are is for the socket's unit to say.
            new.listen.clone_from(&self.config.listen);
        }
        if new == self.config {
            return FrontChange::Keep;
        }
        let change = match (self.config.is_on(), new.is_on()) {
            (false, false) => FrontChange::Keep,
            (true, false) => FrontChange::Remove,
            (_, true) => FrontChange::Replace,
        };
        self.tried = Some(new);
        change
    }

    /// The configuration that was tried is in force.
    pub(super) fn switched(&mut self) {
        let Some(new) = self.tried.take() else { return };
        if new.listen != self.config.listen && !self.are_handed_over {
            self.sockets.clear();
        }
        self.config = new;
    }

    /// It is not.
    pub(super) fn not_switched(&mut self) {
        self.tried = None;
    }

    pub(super) fn processes(&self) -> impl Iterator<Item = &Process> {
        self.processes.values().map(|front| &front.process)
    }

    /// What the status says of the one that serves.
    pub(super) fn status(&self, serving: Option<FrontId>) -> Option<HttpStatus> {
        if !self.config.is_on() {
            return None;
        }
        let front = serving.and_then(|id| self.processes.get(&id));
        Some(HttpStatus {
            pid: front.map(|front| front.process.pid()),
            listen: front.map(|front| front.at.iter().map(Listen::to_string).collect()).unwrap_or_default(),
            connections: front.map_or(0, |front| front.counts.connections),
            requests: front.map_or(0, |front| front.counts.requests),
            sandbox: front.and_then(|front| front.sandbox.clone()),
            last_crash: self.last_crash.clone(),
        })
    }
}

impl Daemon {
    pub(super) fn start_front(&mut self, id: FrontId, is_staged: bool) {
        let fronts = &self.fronts;
        let config = fronts.tried.as_ref().filter(|_| is_staged).unwrap_or(&fronts.config);
        let has_sockets = config.listen == fronts.config.listen;
        let key = |key: &crate::config::ApiKey| Key {
            name: key.name.clone(),
            digest: front::digest(&fronts.secret, key.key.as_bytes()),
            is_admin: key.is_admin,
        };
        let longest = self.models.values().map(|model| model.config.client_timeout).max();
        let serve = FrontConfig {
            listen: config.listen.clone(),
            keys: config.keys.iter().map(key).collect(),
            wants_keys: config.api_keys_file.is_some(),
            secret: fronts.secret,
            trusted: config.trusted.clone(),
            hosts: config.hosts.clone(),
            origins: config.origins.clone(),
            allow_users: self.settings.supervisor.allow_users.clone(),
            connections: config.connections,
            max_body: config.max_body,
            client_timeout: longest.unwrap_or(Duration::from_secs(30)),
        };
        let sockets = if has_sockets { &fronts.sockets[..] } else { &[] };
        let inputs = self.children.inputs.clone();
        let serve = ToFront::Serve(Box::new(serve));
        match FrontProcess::start(&self.children.starter, id, &serve, sockets, inputs) {
            Ok(front) => _ = self.fronts.processes.insert(id, front),
            Err(error) => {
                self.front_failed(format!("cannot start the front: {}", chain_with_limit(&error)));
                // What hinders it may pass.
                self.driver.note(Event::FrontExited(id));
            }
        }
    }

    fn front_failed(&mut self, message: String) {
        tracing::error!(target: OPERATION, "HTTP cannot be served: {message}");
        self.fronts.error = Some(message);
    }

    pub(super) fn kill_front(&mut self, id: FrontId) {
        if let Some(front) = self.fronts.processes.get(&id) {
            front.process.kill();
        }
    }

    pub(super) fn finish_front(&mut self, id: FrontId) {
        if let Some(front) = self.fronts.processes.get(&id) {
            // One that has ended is about to be seen as such.
            let _sent = front.send(&ToFront::Finish, &[]);
        }
    }

    pub(super) fn hear_front(&mut self, id: FrontId, said: FrontSaid) {
        let Some(front) = self.fronts.processes.get_mut(&id) else { return };
        match said {
            FrontSaid::Message(FromFront::Listening { at, sandbox }, sockets) => {
                let places = at.iter().map(Listen::to_string).collect::<Vec<_>>().join(", ");
                tracing::info!(target: OPERATION, at = places, %sandbox, "serving HTTP");
                (front.at, front.sandbox) = (at, Some(sandbox.to_string()));
                if !self.fronts.are_handed_over {
                    self.fronts.sockets = sockets;
                }
                self.fronts.error = None;
                self.feed(Event::FrontListening(id));
            }
            FrontSaid::Message(FromFront::Failed { message }, _) => {
                self.front_failed(message);
                self.feed(Event::FrontFailed(id));
            }
            FrontSaid::Message(FromFront::Connect, _) => self.connect_front(id),
            FrontSaid::Message(FromFront::Beat(counts), _) => {
                front.counts = counts;
                self.feed(Event::FrontBeat(id));
            }
            FrontSaid::Exited(exit, stderr) => self.front_exited(id, exit, stderr),
        }
    }

    /// Makes a connection for a front.
    fn connect_front(&mut self, id: FrontId) {
        let open = self.connections.clients.values().filter(|client| client.front == Some(id)).count();
        let made = if open < CONNECTIONS { self.make_connection(id) } else { Ok(None) };
        let Some(front) = self.fronts.processes.get(&id) else { return };
        let sent = match made {
            Ok(Some(theirs)) => front.send(&ToFront::Connection, &[theirs]),
            Ok(None) => front.send(&ToFront::NoConnection, &[]),
            Err(error) => {
                tracing::warn!("cannot connect the front: {}", chain_with_limit(&FrontError::Socket(error)));
                front.send(&ToFront::NoConnection, &[])
            }
        };
        if let Err(error) = sent {
            // Who waits for it would wait for ever.
            tracing::error!("the front does not take what it is told: {}", chain_with_limit(&error));
            front.process.kill();
        }
    }

    /// Both ends are made here and made never to block: whoever passes a descriptor on keeps the
    /// open file.
    fn make_connection(&mut self, front: FrontId) -> io::Result<Option<OwnedFd>> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags)?;
        let stream = UnixStream::from_std(StdStream::from(ours))?;
        let id: ConnectionId = self.connections.next_id();
        let (inputs, parser) = (self.children.inputs.clone(), self.children.helpers.parser.clone());
        let longest = self.models.values().map(|model| model.config.client_timeout).max().unwrap_or(Duration::MAX);
        let total = Arc::clone(&self.connections.queued);
        let outbox = Outbox::open(stream, id, inputs, parser, total, longest, Speaks::ForOthers);
        let client = Client { front: Some(front), ..Client::new(outbox, Peer::default(), false) };
        self.connections.clients.insert(id, client);
        Ok(Some(theirs))
    }

    fn front_exited(&mut self, id: FrontId, exit: Exit, stderr: Vec<String>) {
        let Some(front) = self.fronts.processes.remove(&id) else { return };
        if self.driver.policy.is_front_crash(id) {
            let pid = front.process.pid();
            let cause = if front.process.was_killed() { exit.to_string() } else { exit.unasked() };
            tracing::error!(target: OPERATION, front_pid = pid, stderr = stderr.join("\n"), "the front has ended by {cause}");
            self.fronts.last_crash = Some(Crash { pid, slot: None, cause, at: timestamp(), request: None, stderr });
        }
        self.feed(Event::FrontExited(id));
    }
}
