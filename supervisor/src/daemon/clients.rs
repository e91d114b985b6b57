//! What clients ask for, checked and turned into events.
use super::{
    ConnectionId, Daemon,
    access_log::{self, Peer},
    connection::{FromClient, Outbox, Speaks, to_frame},
    listener::is_operator,
    open_connections::Client,
    open_request::{ModelRequest, OpenRequest},
};
use crate::shortage::chain_with_limit;
use interprocess::local_socket::tokio::Stream;
use ipc::{Failure, FailureKind, ModelKind, Request, RequestId, Response};
use policy::{
    Event, PoolId,
    client_limits::{self, Place},
    routing::{self, Candidate, Unrouted},
};
use std::{
    hash::BuildHasher,
    io,
    sync::Arc,
    time::{Duration, Instant},
};
use system::foreign_text::{chain, shorten};
use tokio::net::UnixStream;

/// Characters of a model's name that a message repeats.
const NAME: usize = 64;

impl Daemon {
    /// Takes a new client in, or tells it why not.
    pub(super) fn connect(&mut self, accepted: io::Result<Result<Stream, Stream>>) {
        let (stream, refusal) = match accepted {
            Ok(Ok(stream)) => (stream, self.find_place().err()),
            Ok(Err(stream)) => {
                let text = "this user may not use the supervisor; see allow_users in its configuration";
                (stream, Some(Failure::new(FailureKind::NotAllowed, text)))
            }
            Err(error) => {
                if self.connections.note_accepting(false) {
                    tracing::warn!("cannot accept a client: {}", chain_with_limit(&error));
                }
                return;
            }
        };
        self.connections.note_accepting(true);
        let is_operator = is_operator(&stream);
        let Stream::UdSocket(stream) = stream;
        let stream = UnixStream::from(stream);
        let peer = Peer::of(&stream);
        if let Some(failure) = refusal {
            access_log::refused(&failure, None, peer.into());
            // Nothing has been sent yet, so there is room for this; a client that has gone needs no
            // reason.
            let _gone = to_frame(&Response::Failed(failure)).map(|frame| stream.try_write(&frame));
            return;
        }
        let id = self.connections.next_id();
        let longest = self.models.values().map(|model| model.config.client_timeout).max().unwrap_or(Duration::MAX);
        let (inputs, parser) = (self.children.inputs.clone(), self.children.helpers.parser.clone());
        let outbox =
            Outbox::open(stream, id, inputs, parser, Arc::clone(&self.connections.queued), longest, Speaks::ForItself);
        self.connections.clients.insert(id, Client::new(outbox, peer, is_operator));
    }

    /// Finds a place for one more client, if need be another's. `Err` says why there is none.
    fn find_place(&mut self) -> Result<(), Failure> {
        match self.connections.place(|moment| self.driver.time_of(moment)) {
            Place::Free => Ok(()),
            Place::Of(id) => {
                self.forget(id);
                Ok(())
            }
            Place::None => {
                let text = format!("{} clients are connected already", client_limits::CONNECTIONS);
                Err(Failure { retry_after_ms: Some(1000), ..Failure::new(FailureKind::Busy, text) })
            }
        }
    }

    /// A client's request has ended: it may ask for something else, unless nothing is begun any
    /// more.
    pub(super) fn rests(&mut self, id: ConnectionId) {
        let is_stopping = self.is_stopping();
        if let Some(client) = self.connections.clients.get_mut(&id) {
            (client.awaits, client.idle_since) = (false, Instant::now());
            client.caller = None;
            // A front says itself when it needs no more.
            if client.finished || is_stopping && client.front.is_none() {
                client.outbox.close();
            }
        }
    }

    pub(super) fn hear_client(&mut self, id: ConnectionId, said: FromClient) {
        let Some(client) = self.connections.clients.get_mut(&id) else { return };
        if client.outbox.is_closed() && !matches!(said, FromClient::Gone) {
            // It was said before the client could know.
            return;
        }
        let is_request = matches!(said, FromClient::Request(..) | FromClient::Invalid(..));
        let is_asking = is_request || matches!(said, FromClient::Undecodable(_));
        if is_asking && !client_limits::is_heard(client.outbox.queued()) {
            // It asks and asks and never listens, or has gone.
            return self.forget(id);
        }
        client.has_asked |= is_asking;
        match said {
            _ if is_request && !client.is_idle() => {
                let text = "a connection carries one request at a time, and the one before has not ended";
                self.dismiss(id, Failure::new(FailureKind::Protocol, text));
            }
            FromClient::Request(request, caller) => {
                client.caller = caller;
                self.ask(id, request);
            }
            FromClient::Invalid(kind, invalid, caller) => {
                client.caller = caller;
                self.refuse(id, kind, Failure::new(FailureKind::BadRequest, invalid.to_string()));
            }
            FromClient::Undecodable(error) => {
                let failure = Failure::new(FailureKind::BadRequest, chain(&error));
                access_log::refused(&failure, None, client.asker());
                self.reply(id, &Response::Failed(failure));
            }
            FromClient::Broken(error) => self.dismiss(id, Failure::new(FailureKind::Protocol, chain(&error))),
            FromClient::CaughtUp => {
                if let Some(request) = client.active {
                    self.feed(Event::Blocked { request, is_blocked: false });
                }
            }
            FromClient::Finished if !client.is_idle() => client.finished = true,
            FromClient::Finished => client.outbox.close(),
            FromClient::Gone => self.forget(id),
        }
    }

    /// Has a request served.
    fn ask(&mut self, id: ConnectionId, request: Request) {
        match request {
            Request::Generate(asked) => self.submit(id, *asked),
            Request::Embed(asked) => self.submit(id, *asked),
            Request::Tokenize(asked) => self.submit(id, *asked),
            Request::Status => {
                let response = Response::Status(Box::new(self.report()));
                self.reply(id, &response);
            }
            Request::Control(control) => self.control(id, control),
        }
    }

    /// Sends a client what its request ends with.
    pub(super) fn reply(&mut self, id: ConnectionId, response: &Response) {
        if let Some(client) = self.connections.clients.get(&id) {
            client.outbox.send(response);
            self.rests(id);
        }
    }

    /// Tells a client why it is disconnected, and disconnects it.
    fn dismiss(&mut self, id: ConnectionId, failure: Failure) {
        self.withdraw(id);
        if let Some(client) = self.connections.clients.get_mut(&id) {
            access_log::refused(&failure, None, client.asker());
            client.outbox.send(&Response::Failed(failure));
            client.outbox.close();
        }
    }

    /// Closes a client's connection and withdraws its request.
    pub(super) fn forget(&mut self, id: ConnectionId) {
        self.withdraw(id);
        self.connections.clients.remove(&id);
    }

    /// Withdraws a client's request. Nobody is told of its outcome.
    fn withdraw(&mut self, id: ConnectionId) {
        if let Some(request) = self.connections.clients.get_mut(&id).and_then(|client| client.active.take()) {
            self.feed(Event::Withdrawn(request));
        }
    }

    /// Refuses a request of this kind before any model sees it.
    fn refuse(&mut self, connection: ConnectionId, kind: &str, failure: Failure) {
        let asker = self.connections.clients.get(&connection).map(Client::asker).unwrap_or_default();
        access_log::refused(&failure, Some(kind), asker);
        self.reply(connection, &Response::Failed(failure));
    }

    fn submit<A: ModelRequest>(&mut self, connection: ConnectionId, mut asked: A) {
        let pool = match self.find_model(asked.model(), A::KIND) {
            Ok(pool) => pool,
            Err(failure) => return self.refuse(connection, A::NAME, failure),
        };
        let Some(client) = self.connections.clients.get_mut(&connection) else { return };
        let id = self.requests.next_id();
        let owner = self.requests.fingerprints.hash_one(client.asker().owner());
        let patience = client.caller.as_ref().and_then(|caller| caller.patience_ms).map(Duration::from_millis);
        client.active = Some(id);
        client.outbox.patience = self.models[pool].config.client_timeout;
        asked.complete(&self.models[pool].config.template_vars);
        let fingerprint = asked.fingerprint(&self.requests.fingerprints, pool);
        let noted = asked.noted(&self.requests.prompts);
        let slots = self.models[pool].slots;
        let request = OpenRequest::new(id, pool, connection, asked.open(slots), noted, Instant::now());
        let work = request.work();
        self.requests.open.insert(id, request);
        self.feed(Event::Submitted { request: id, pool, fingerprint, owner, patience, work });
    }

    /// A request was let in.
    pub(super) fn accepted(&mut self, id: RequestId) {
        let Some(request) = self.requests.open.get(&id) else { return };
        let model = &mut self.models[request.pool];
        model.history.totals.accepted += 1;
        let accepted = Response::Accepted { request: id, model: model.config.name.clone() };
        if let Some(client) = self.connections.clients.get(&request.client) {
            client.outbox.send(&accepted);
        }
    }

    /// The model that a request means, which must be of this kind: the one that it names, or the
    /// only one.
    pub(super) fn find_model(&self, name: Option<&str>, kind: Option<ModelKind>) -> Result<PoolId, Failure> {
        let served = || self.models.served().map(|(id, model)| model.candidate(id));
        routing::route(served(), name, kind).map_err(|why| {
            let does = match kind {
                Some(ModelKind::Generate) => "generates text",
                Some(ModelKind::Embed) => "makes vectors",
                None => "is served",
            };
            let names =
                |models: Vec<Candidate<'_>>| models.iter().map(|model| model.name).collect::<Vec<_>>().join(", ");
            let fitting = names(served().filter(|model| kind.is_none_or(|kind| model.kind == kind)).collect());
            let name = name.unwrap_or_default();
            match why {
                Unrouted::NoneDoes => Failure::new(FailureKind::UnknownModel, format!("no model here {does}")),
                Unrouted::NotNamed => {
                    Failure::new(FailureKind::UnknownModel, format!("name one of the models: {fitting}"))
                }
                Unrouted::OtherKind if fitting.is_empty() => {
                    let text = format!("the model {name} cannot do that, and no other here {does}");
                    Failure::new(FailureKind::BadRequest, text)
                }
                Unrouted::OtherKind => {
                    let text = format!("the model {name} cannot do that; what {does} is: {fitting}");
                    Failure::new(FailureKind::BadRequest, text)
                }
                Unrouted::Unknown => {
                    let all = names(served().collect());
                    let text = format!("there is no model {:?}; there is: {all}", shorten(name, NAME));
                    Failure::new(FailureKind::UnknownModel, text)
                }
            }
        })
    }
}
