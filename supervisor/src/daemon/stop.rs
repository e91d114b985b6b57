//! The daemon's end: who is still let in, who is told what, and what is left behind.
//!
//! First nobody is accepted any more. Those who had connected before and have not asked for
//! anything yet have a moment to; whoever waits for nothing is disconnected. Then the policy
//! finishes what was admitted, for as long as the configuration says.
use super::{Client, Daemon, control::count};
use crate::log::OPERATION;
use ipc::Response;
use policy::Event;
use std::time::Duration;

/// How long those may take to ask who had connected before.
const MOMENT: Duration = Duration::from_secs(2);

impl Daemon {
    /// Whether the daemon has been told to stop.
    pub(super) fn is_stopping(&self) -> bool {
        !self.is_accepting
    }

    /// Stops, in order; a second time, or at once, without finishing anything.
    pub(super) fn stop(&mut self, at_once: bool) {
        let again = self.is_stopping();
        tracing::info!(target: OPERATION, again, at_once, "told to stop");
        if !again {
            self.is_accepting = false;
            match self.socket.close() {
                Ok(waiting) => waiting.into_iter().for_each(|client| self.connect(Ok(client))),
                Err(error) => tracing::warn!("cannot close the socket: {error}"),
            }
            self.gathering = Some(tokio::time::Instant::now() + MOMENT);
            for client in self.clients.values_mut().filter(|client| client.is_idle() && !is_about_to_ask(client)) {
                client.outbox.close();
            }
        }
        let (begun, waiting) = self.policy.open_requests();
        for id in &self.stops {
            if !again && !at_once && begun + waiting > 0 {
                let limit = humantime::format_duration(self.supervisor.shutdown_timeout);
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
        if self.gathering.is_some() && !self.clients.values().any(is_about_to_ask) {
            self.gathered();
        }
    }

    /// Nobody else is served.
    pub(super) fn gathered(&mut self) {
        if self.gathering.take().is_none() {
            return;
        }
        for client in self.clients.values_mut().filter(|client| client.is_idle()) {
            client.outbox.close();
        }
        self.feed(Event::ShutdownRequested);
    }

    /// Everything has ended, or cannot be ended.
    pub(super) fn halt(&mut self) {
        self.halted = true;
        let workers = self.models.values().flat_map(|model| model.workers.values());
        let workers = workers.filter_map(|worker| worker.process.as_ref());
        let templates = self.models.values().filter_map(|model| model.template.as_ref());
        for process in workers.chain(templates.map(|template| &template.process)) {
            tracing::error!(target: OPERATION, pid = process.pid(), "a process has not ended although it was killed; it is left behind");
        }
        for id in std::mem::take(&mut self.stops) {
            self.reply(id, &Response::Controlled);
        }
    }
}

/// Whether a client has connected a moment ago and has not asked for anything yet.
fn is_about_to_ask(client: &Client) -> bool {
    client.is_idle() && !client.has_asked && client.idle_since.elapsed() < MOMENT
}
