//! What clients ask for, checked and turned into events.
use super::{
    CONNECTIONS, Client, ConnectionId, Shell,
    connection::{FromClient, Outbox, to_frame},
    request::{self, Request},
};
use crate::core::{Event, PoolId, Work};
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
        let stream = UnixStream::from(stream);
        if let Some(failure) = refusal {
            // Nothing has been sent yet, so there is room for this; a client that has gone needs no reason.
            let _gone = to_frame(&Response::Failed(failure)).map(|frame| stream.try_write(&frame));
            return;
        }
        self.connections += 1;
        let id = ConnectionId(self.connections);
        let longest = self.pools.iter().map(|pool| pool.config.client_timeout).max().unwrap_or(Duration::MAX);
        let outbox = Outbox::open(stream, id, self.inputs.clone(), Arc::clone(&self.queued), longest);
        self.clients.insert(id, Client { outbox, active: None, finished: false });
    }

    pub(super) fn hear_client(&mut self, id: ConnectionId, said: FromClient) {
        /// Most bytes that may wait for a client which asks for more.
        const UNHEARD: usize = 1 << 20;
        let Some(client) = self.clients.get_mut(&id) else { return };
        if client.outbox.queued() > UNHEARD && !matches!(said, FromClient::Finished) {
            // It asks and asks and never listens, or has gone.
            return self.forget(id);
        }
        match said {
            FromClient::Request(_) if client.active.is_some() => {
                let text = "a connection carries one request at a time, and the one before has not ended";
                self.dismiss(id, Failure::new(FailureKind::Protocol, text));
            }
            FromClient::Request(ipc::Request::Generate(asked)) => self.submit(id, *asked),
            FromClient::Request(ipc::Request::Embed(_) | ipc::Request::Tokenize(_)) => {
                let failure = Failure::new(FailureKind::BadRequest, "no model here can do that");
                client.outbox.send(&Response::Failed(failure));
            }
            FromClient::Request(ipc::Request::Status) => {
                let response = Response::Status(self.report());
                self.reply(id, &response);
            }
            FromClient::Undecodable(error) => {
                client.outbox.send(&Response::Failed(Failure::new(FailureKind::BadRequest, chain(&error))));
            }
            FromClient::Broken(error) => self.dismiss(id, Failure::new(FailureKind::Protocol, chain(&error))),
            FromClient::Finished if client.active.is_some() => client.finished = true,
            FromClient::Finished => client.outbox.close(),
            FromClient::Gone => self.forget(id),
        }
    }

    fn reply(&self, id: ConnectionId, response: &Response) {
        if let Some(client) = self.clients.get(&id) {
            client.outbox.send(response);
        }
    }

    /// Tells a client why it is disconnected, and disconnects it.
    fn dismiss(&mut self, id: ConnectionId, failure: Failure) {
        self.withdraw(id);
        if let Some(client) = self.clients.get_mut(&id) {
            client.outbox.send(&Response::Failed(failure));
            client.outbox.close();
        }
    }

    /// Closes a client's connection and withdraws its request.
    pub(super) fn forget(&mut self, id: ConnectionId) {
        self.withdraw(id);
        self.clients.remove(&id);
    }

    /// Withdraws a client's request. Nobody is told of its outcome.
    fn withdraw(&mut self, id: ConnectionId) {
        if let Some(request) = self.clients.get_mut(&id).and_then(|client| client.active.take()) {
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
        self.feed(Event::Submitted { request: id, pool, fingerprint, work: Work::WHOLE });
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
