//! What clients ask for, checked and turned into events.
use super::{
    CONNECTIONS, Client, ConnectionId, Daemon,
    access_log::{self, Peer},
    connection::{FromClient, Outbox, to_frame},
    listener::is_operator,
    open_request::{ModelRequest, OpenRequest},
    served_model::ServedModel,
};
use crate::shortage::chain_with_limit;
use interprocess::local_socket::tokio::Stream;
use ipc::{Failure, FailureKind, ModelKind, RequestId, Response};
use policy::{Event, PoolId};
use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};
use system::foreign_text::{chain, shorten};
use tokio::net::UnixStream;

/// Characters of a model's name that a message repeats.
const NAME: usize = 64;

/// How long no client is accepted after accepting one has failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl Daemon {
    /// Takes a new client in, or tells it why not.
    pub(super) fn connect(&mut self, accepted: io::Result<Result<Stream, Stream>>) {
        let (stream, refusal) = match accepted {
            Ok(Ok(stream)) if self.clients.len() < CONNECTIONS || self.make_place() => (stream, None),
            Ok(Ok(stream)) => {
                let text = format!("{CONNECTIONS} clients are connected already");
                let retry_after_ms = Some(1000);
                (stream, Some(Failure { retry_after_ms, ..Failure::new(FailureKind::Busy, text) }))
            }
            Ok(Err(stream)) => {
                let text = "this user may not use the supervisor; see allow_users in its configuration";
                (stream, Some(Failure::new(FailureKind::NotAllowed, text)))
            }
            Err(error) => {
                // Most likely there is no descriptor left. The client waits in the backlog; to ask
                // again at once would spin.
                if !std::mem::replace(&mut self.accepting.has_failed, true) {
                    tracing::warn!("cannot accept a client: {}", chain_with_limit(&error));
                }
                self.accepting.from = tokio::time::Instant::now() + ACCEPT_PAUSE;
                return;
            }
        };
        self.accepting.has_failed = false;
        let is_operator = is_operator(&stream);
        let Stream::UdSocket(stream) = stream;
        let stream = UnixStream::from(stream);
        let peer = Peer::of(&stream);
        if let Some(failure) = refusal {
            access_log::refused(&failure, None, peer);
            // Nothing has been sent yet, so there is room for this; a client that has gone needs no
            // reason.
            let _gone = to_frame(&Response::Failed(failure)).map(|frame| stream.try_write(&frame));
            return;
        }
        self.connections += 1;
        let id = ConnectionId(self.connections);
        let longest = self.models.values().map(|model| model.config.client_timeout).max().unwrap_or(Duration::MAX);
        let (inputs, parser) = (self.inputs.clone(), self.helpers.parser.clone());
        let outbox = Outbox::open(stream, id, inputs, parser, Arc::clone(&self.queued), longest);
        let client = Client {
            outbox,
            peer,
            active: None,
            finished: false,
            is_operator,
            awaits: false,
            has_asked: false,
            idle_since: Instant::now(),
        };
        self.clients.insert(id, client);
    }

    /// Closes the connection that has carried no request for longest, so that another client finds
    /// a place. Says whether there was one.
    ///
    /// There is no other limit on that: an idle connection costs a descriptor, and there are never
    /// many.
    fn make_place(&mut self) -> bool {
        /// Who has just come is about to ask.
        const LONG: Duration = Duration::from_secs(5);
        let idle = self.clients.iter().filter(|(_, client)| client.is_idle() && client.idle_since.elapsed() > LONG);
        let longest = idle.min_by_key(|(_, client)| client.idle_since).map(|(id, _)| *id);
        longest.inspect(|id| self.forget(*id)).is_some()
    }

    /// A client's request has ended: it may ask for something else, unless nothing is begun any
    /// more.
    pub(super) fn rests(&mut self, id: ConnectionId) {
        let is_stopping = self.is_stopping();
        if let Some(client) = self.clients.get_mut(&id) {
            (client.awaits, client.idle_since) = (false, Instant::now());
            if client.finished || is_stopping {
                client.outbox.close();
            }
        }
    }

    pub(super) fn hear_client(&mut self, id: ConnectionId, said: FromClient) {
        /// Most bytes that may wait for a client which asks for more.
        const UNHEARD: usize = 1 << 20;
        let Some(client) = self.clients.get_mut(&id) else { return };
        if client.outbox.is_closed() && !matches!(said, FromClient::Gone) {
            // It was said before the client could know.
            return;
        }
        let is_request = matches!(
            said,
            FromClient::Request(_) | FromClient::Status | FromClient::Control(_) | FromClient::Invalid(..)
        );
        let is_asking = is_request || matches!(said, FromClient::Undecodable(_));
        if client.outbox.queued() > UNHEARD && is_asking {
            // It asks and asks and never listens, or has gone.
            return self.forget(id);
        }
        client.has_asked |= is_asking;
        match said {
            _ if is_request && !client.is_idle() => {
                let text = "a connection carries one request at a time, and the one before has not ended";
                self.dismiss(id, Failure::new(FailureKind::Protocol, text));
            }
            FromClient::Request(asked) => self.submit(id, asked),
            FromClient::Status => {
                let response = Response::Status(Box::new(self.report()));
                self.reply(id, &response);
            }
            FromClient::Control(control) => self.control(id, control),
            FromClient::Invalid(kind, invalid) => {
                self.refuse(id, kind, Failure::new(FailureKind::BadRequest, invalid.to_string()));
            }
            FromClient::Undecodable(error) => {
                let failure = Failure::new(FailureKind::BadRequest, chain(&error));
                access_log::refused(&failure, None, client.peer);
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

    /// Sends a client what its request ends with.
    pub(super) fn reply(&mut self, id: ConnectionId, response: &Response) {
        if let Some(client) = self.clients.get(&id) {
            client.outbox.send(response);
            self.rests(id);
        }
    }

    /// Tells a client why it is disconnected, and disconnects it.
    fn dismiss(&mut self, id: ConnectionId, failure: Failure) {
        self.withdraw(id);
        if let Some(client) = self.clients.get_mut(&id) {
            access_log::refused(&failure, None, client.peer);
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

    /// Refuses a request of this kind before any model sees it.
    fn refuse(&mut self, connection: ConnectionId, kind: &str, failure: Failure) {
        let peer = self.clients.get(&connection).map(|client| client.peer).unwrap_or_default();
        access_log::refused(&failure, Some(kind), peer);
        self.reply(connection, &Response::Failed(failure));
    }

    fn submit(&mut self, connection: ConnectionId, mut asked: ModelRequest) {
        let pool = match self.find_model(asked.model(), asked.kind()) {
            Ok(pool) => pool,
            Err(failure) => return self.refuse(connection, asked.name(), failure),
        };
        let Some(client) = self.clients.get_mut(&connection) else { return };
        self.submitted += 1;
        let id = RequestId(self.submitted);
        client.active = Some(id);
        client.outbox.patience = self.models[pool].config.client_timeout;
        asked.complete(&self.models[pool].config.template_vars);
        let fingerprint = asked.fingerprint(&self.fingerprints, pool);
        let noted = asked.noted(&self.prompts);
        let slots = self.models[pool].slots;
        let request = OpenRequest::new(id, pool, connection, asked, noted, slots, Instant::now());
        let work = request.work();
        self.requests.insert(id, request);
        self.feed(Event::Submitted { request: id, pool, fingerprint, work });
        if self.requests.contains_key(&id) {
            let model = &mut self.models[pool];
            model.totals.accepted += 1;
            let accepted = Response::Accepted { request: id, model: model.config.name.clone() };
            if let Some(client) = self.clients.get(&connection) {
                client.outbox.send(&accepted);
            }
        }
    }

    /// The model that a request means, which must be of this kind: the one that it names, or the
    /// only one.
    pub(super) fn find_model(&self, name: Option<&str>, kind: Option<ModelKind>) -> Result<PoolId, Failure> {
        let fits = |model: &ServedModel| kind.is_none_or(|kind| model.kind() == kind);
        let fitting = || self.models.served().filter(|(_, model)| fits(model));
        let names = fitting().map(|(_, model)| model.config.name.as_str()).collect::<Vec<_>>().join(", ");
        let refused = |kind, text| Err(Failure::new(kind, text));
        let does = match kind {
            Some(ModelKind::Generate) => "generates text",
            Some(ModelKind::Embed) => "makes vectors",
            None => "is served",
        };
        let Some(name) = name else {
            let mut only = fitting();
            return match (only.next(), only.next()) {
                (Some((id, _)), None) => Ok(id),
                (None, _) => refused(FailureKind::UnknownModel, format!("no model here {does}")),
                (Some(_), Some(_)) => refused(FailureKind::UnknownModel, format!("name one of the models: {names}")),
            };
        };
        match self.models.named(name) {
            // Why a model cannot be loaded is worth more than what it would have done.
            Some(id) if fits(&self.models[id]) || self.models[id].error.is_some() => Ok(id),
            Some(_) if names.is_empty() => {
                refused(FailureKind::BadRequest, format!("the model {name} cannot do that, and no other here {does}"))
            }
            Some(_) => {
                refused(FailureKind::BadRequest, format!("the model {name} cannot do that; what {does} is: {names}"))
            }
            None => {
                let all =
                    self.models.served().map(|(_, model)| model.config.name.as_str()).collect::<Vec<_>>().join(", ");
                refused(
                    FailureKind::UnknownModel,
                    format!("there is no model {:?}; there is: {all}", shorten(name, NAME)),
                )
            }
        }
    }
}
