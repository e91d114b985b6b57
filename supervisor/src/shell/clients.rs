//! What clients ask for, checked and turned into events.
use super::{
    CONNECTIONS, Client, ConnectionId, Shell,
    connection::{FromClient, Outbox},
    request::{self, Request},
};
use crate::core::{Event, PoolId};
use interprocess::local_socket::tokio::Stream;
use ipc::{Failure, FailureKind, GenerateRequest, RequestId, Response};
use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::net::UnixStream;
use worker::chain;

/// How long no client is accepted after accepting one has failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
impl Shell {
    /// Takes a new client in, or tells it why not.
    pub(super) fn connect(&mut self, accepted: io::Result<Result<Stream, Stream>>) {
        let (stream, refusal) = match accepted {
            Ok(Ok(stream)) if self.clients.len() < CONNECTIONS => (stream, None),
            Ok(Ok(stream)) => {
                let text = format!("{CONNECTIONS} clients are connected already");
                (stream, Some(Failure::new(FailureKind::Busy, text)))
            }
            Ok(Err(stream)) => {
                let text = "this user may not use the supervisor; see allow_users in its configuration";
                (stream, Some(Failure::new(FailureKind::NotAllowed, text)))
            }
            Err(error) => {
                // Most likely there is no descriptor left. The client waits in the backlog; to ask again at once would spin.
                tracing::warn!("cannot accept a client: {error}");
                self.accept_from = tokio::time::Instant::now() + ACCEPT_PAUSE;
                return;
            }
        };
        let Stream::UdSocket(stream) = stream;
        self.connections += 1;
        let id = ConnectionId(self.connections);
        let longest = self.pools.iter().map(|pool| pool.config.client_timeout).max().unwrap_or(Duration::MAX);
        let total = Arc::clone(&self.queued);
        let outbox = Outbox::open(UnixStream::from(stream), id, self.inputs.clone(), total, longest);
        match refusal {
            // Dropped after this, the outbox still sends what it holds and then closes.
            Some(failure) => outbox.send(&Response::Failed(failure)),
            None => {
                self.clients.insert(id, Client { outbox, active: None, finished: false });
            }
        }
    }

    pub(super) fn hear_client(&mut self, id: ConnectionId, said: FromClient) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        match said {
            FromClient::Request(_) if client.active.is_some() => {
                let text = "a connection carries one request at a time, and the one before has not ended";
                self.dismiss(id, Failure::new(FailureKind::Protocol, text));
            }
            FromClient::Request(ipc::Request::Generate(asked)) => self.submit(id, *asked),
            FromClient::Request(ipc::Request::Status) => {
                let response = Response::Status(self.report());
                self.reply(id, &response);
            }
            FromClient::Undecodable(error) => {
                self.reply(id, &Response::Failed(Failure::new(FailureKind::BadRequest, chain(&error))));
            }
            FromClient::Broken(error) => self.dismiss(id, Failure::new(FailureKind::Protocol, chain(&error))),
            FromClient::Finished if client.active.is_some() => client.finished = true,
            FromClient::Finished | FromClient::Gone => self.forget(id),
        }
    }

    /// Answers a client, or disconnects it if it asks and asks and never listens.
    fn reply(&mut self, id: ConnectionId, response: &Response) {
        const UNHEARD: usize = 1 << 20;
        match self.clients.get(&id) {
            Some(client) if client.outbox.queued() <= UNHEARD => client.outbox.send(response),
            Some(_) => self.forget(id),
            None => {}
        }
    }

    /// Tells a client why it is disconnected, and disconnects it.
    fn dismiss(&mut self, id: ConnectionId, failure: Failure) {
        if let Some(client) = self.clients.get(&id) {
            client.outbox.send(&Response::Failed(failure));
        }
        self.forget(id);
    }

    /// Forgets a client and withdraws its request.
    pub(super) fn forget(&mut self, id: ConnectionId) {
        if let Some(request) = self.clients.remove(&id).and_then(|client| client.active) {
            self.feed(Event::Withdrawn(request));
        }
    }

    fn submit(&mut self, connection: ConnectionId, asked: GenerateRequest) {
        let found = match asked.validate() {
            Ok(()) => self.find_model(asked.model.as_deref()),
            Err(invalid) => Err(Failure::new(FailureKind::BadRequest, invalid.to_string())),
        };
        let pool = match found {
            Ok(pool) => pool,
            Err(failure) => return self.reply(connection, &Response::Failed(failure)),
        };
        let Some(client) = self.clients.get_mut(&connection) else { return };
        self.submitted += 1;
        let id = RequestId(self.submitted);
        client.active = Some(id);
        client.outbox.patience = self.pools[pool.0].config.client_timeout;
        let fingerprint = request::fingerprint(&self.fingerprints, pool, &asked);
        let request = Request::new(id, pool, connection, asked, request::draw_seed(), Instant::now());
        self.requests.insert(id, request);
        self.feed(Event::Submitted { request: id, pool, fingerprint });
        if self.requests.contains_key(&id) {
            let pool = &mut self.pools[pool.0];
            pool.totals.accepted += 1;
            let accepted = Response::Accepted { request: id, model: pool.config.name.clone() };
            if let Some(client) = self.clients.get(&connection) {
                client.outbox.send(&accepted);
            }
        }
    }

    fn find_model(&self, name: Option<&str>) -> Result<PoolId, Failure> {
        let names = || self.pools.iter().map(|pool| pool.config.name.as_str()).collect::<Vec<_>>().join(", ");
        let (at, text) = match name {
            Some(name) => (
                self.pools.iter().position(|pool| pool.config.name == name),
                format!("there is no model {:?}; there is: {}", shorten(name), names()),
            ),
            None if self.pools.len() == 1 => (Some(0), String::new()),
            None => (None, format!("name one of the models: {}", names())),
        };
        at.map(PoolId).ok_or_else(|| Failure::new(FailureKind::UnknownModel, text))
    }
}

/// A name as a message can repeat it.
fn shorten(name: &str) -> String {
    const MOST: usize = 64;
    match name.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name.to_owned(),
    }
}
