//! The daemon's end: who is still let in, who is told what, and what is left behind.
//!
//! First nobody is accepted any more. Those who had connected before and have not asked for
//! anything yet have a moment to; whoever waits for nothing is disconnected. Then the policy
//! finishes what was admitted, for as long as the configuration says.
use super::{ConnectionId, Daemon, control::count, open_connections::Client};
use crate::log::OPERATION;
use ipc::Response;
use policy::Event;
use std::time::Duration;

/// How long those may take to ask who had connected before.
const MOMENT: Duration = Duration::from_secs(2);

/// The end, and what operators wait for until then.
#[derive(Debug, Default)]
pub(super) struct Stopping {
    /// The end of the time in which those who had connected before may still ask.
    pub(super) gathering: Option<tokio::time::Instant>,
    /// Whether nothing is left to be done.
    pub(super) has_halted: bool,
    /// Who waits until nothing is left to be finished.
    pub(super) drains: Vec<ConnectionId>,
    /// Who waits for the end.
    pub(super) stops: Vec<ConnectionId>,
}

impl Daemon {
    /// Whether the daemon has been told to stop.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.gathering.is_some() || self.driver.policy.is_closing()
    }

    /// Stops, in order; a second time, or at once, without finishing anything.
    pub(super) fn stop(&mut self, at_once: bool) {
        let again = self.is_stopping();
        tracing::info!(target: OPERATION, again, at_once, "told to stop");
        if !again {
            self.stopping.gathering = Some(tokio::time::Instant::now() + MOMENT);
            match self.connections.socket.close() {
                Ok(waiting) => waiting.into_iter().for_each(|client| self.connect(Ok(client))),
                Err(error) => tracing::warn!("cannot close the socket: {error}"),
            }
            for client in
                self.connections.clients.values_mut().filter(|client| may_be_let_go(client) && !is_about_to_ask(client))
            {
                client.outbox.close();
            }
        }
        let (begun, waiting) = self.driver.policy.open_requests();
        for id in &self.stopping.stops {
            if !again && !at_once && begun + waiting > 0 {
                let limit = humantime::format_duration(self.settings.supervisor.shutdown_timeout);
                let requests = count(begun + waiting, "request");
                let waits = match waiting {
                    0 => String::new(),
                    1 => ", of which 1 waits".to_owned(),
                    waiting => format!(", of which {waiting} wait"),
                };
                self.notice(*id, format!("finishing {requests}{waits}, for at most {limit}"));
            }
        }
        if again || at_once {
            self.gathered();
            self.feed(Event::ShutdownRequested);
        }
    }

    /// Goes on with stopping when nobody is left who might ask.
    pub(super) fn gather(&mut self) {
        if self.stopping.gathering.is_some() && !self.connections.clients.values().any(is_about_to_ask) {
            self.gathered();
        }
    }

    /// Nobody else is served.
    pub(super) fn gathered(&mut self) {
        if self.stopping.gathering.take().is_none() {
            return;
        }
        for client in self.connections.clients.values_mut().filter(|client| may_be_let_go(client)) {
            client.outbox.close();
        }
        self.feed(Event::ShutdownRequested);
    }

    /// Everything has ended, or cannot be ended.
    pub(super) fn halt(&mut self) {
        self.stopping.has_halted = true;
        let workers = self.models.values().flat_map(|model| model.workers.values());
        let workers = workers.filter_map(|worker| worker.process());
        let templates = self.models.values().filter_map(|model| model.template.as_ref());
        let templates = templates.map(|template| &template.process);
        for process in workers.chain(templates).chain(self.fronts.processes()) {
            tracing::error!(target: OPERATION, pid = process.pid(), "a process has not ended although it was killed; it is left behind");
        }
        for id in std::mem::take(&mut self.stopping.stops) {
            self.reply(id, &Response::Controlled);
        }
    }
}

/// Whether a client waits for nothing, and will not. A front waits for its own clients.
fn may_be_let_go(client: &Client) -> bool {
    client.is_idle() && client.front.is_none()
}

/// Whether a client has connected a moment ago and has not asked for anything yet.
fn is_about_to_ask(client: &Client) -> bool {
    may_be_let_go(client) && !client.has_asked && client.idle_since.elapsed() < MOMENT
}
