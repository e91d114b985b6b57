//! Who is connected, and when somebody else may be.
use super::{
    ConnectionId,
    access_log::{Asker, Peer},
    connection::Outbox,
    listener::ClientSocket,
};
use interprocess::local_socket::tokio::Stream;
use ipc::{Caller, RequestId};
use policy::{
    FrontId,
    client_limits::{self, Place},
};
use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// How long no client is accepted after accepting one has failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Connections {
    pub(super) clients: HashMap<ConnectionId, Client>,
    pub(super) socket: ClientSocket,
    /// Bytes that wait for clients, of all connections.
    pub(super) queued: Arc<AtomicUsize>,
    /// How many there have been.
    count: u64,
    /// None is accepted before.
    accept_from: tokio::time::Instant,
    /// Whether the last one could not be accepted, which is told once.
    has_failed: bool,
}

/// A client that is connected.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) outbox: Outbox,
    pub(super) peer: Peer,
    /// The request that it waits for.
    pub(super) active: Option<RequestId>,
    /// Whether it has shut its sending side down.
    pub(super) finished: bool,
    /// Whether it may change what the daemon does.
    pub(super) is_operator: bool,
    /// The front that it was made for, if it is no client of its own.
    pub(super) front: Option<FrontId>,
    /// Who has asked for what it waits for, as the front says.
    pub(super) caller: Option<Caller>,
    /// Whether it waits for what it has asked the daemon to do.
    pub(super) awaits: bool,
    /// Whether it has ever sent a whole message.
    pub(super) has_asked: bool,
    /// Since when nothing is done for it.
    pub(super) idle_since: Instant,
}

impl Client {
    /// A client that has not asked for anything yet.
    pub(super) fn new(outbox: Outbox, peer: Peer, is_operator: bool) -> Client {
        let idle_since = Instant::now();
        Client {
            outbox,
            peer,
            active: None,
            finished: false,
            is_operator,
            front: None,
            caller: None,
            awaits: false,
            has_asked: false,
            idle_since,
        }
    }

    /// Who asks.
    pub(super) fn asker(&self) -> Asker<'_> {
        Asker { peer: self.peer, caller: self.caller.as_ref() }
    }

    /// Whether it waits for nothing.
    pub(super) fn is_idle(&self) -> bool {
        self.active.is_none() && !self.awaits
    }
}

impl Connections {
    pub(super) fn new(socket: ClientSocket) -> Connections {
        Connections {
            clients: HashMap::new(),
            socket,
            queued: Arc::new(AtomicUsize::new(0)),
            count: 0,
            accept_from: tokio::time::Instant::now(),
            has_failed: false,
        }
    }

    /// The name of the next one.
    pub(super) fn next_id(&mut self) -> ConnectionId {
        self.count += 1;
        ConnectionId(self.count)
    }

    /// Whether there is a place for one more, if need be another's.
    pub(super) fn place(&self, time_of: impl Fn(Instant) -> policy::Time) -> Place<ConnectionId> {
        let idle_since = |client: &Client| client.is_idle().then(|| time_of(client.idle_since));
        // A front's connections take nobody's place, and nobody takes theirs.
        let clients = self.clients.iter().filter(|(_, client)| client.front.is_none());
        let clients: Vec<_> = clients.map(|(id, client)| (*id, idle_since(client))).collect();
        client_limits::place(clients.into_iter(), time_of(Instant::now()))
    }

    pub(super) async fn accept(&self) -> io::Result<Result<Stream, Stream>> {
        tokio::time::sleep_until(self.accept_from).await;
        self.socket.accept().await
    }

    /// Notes whether a client could be accepted. Says whether that it could not is news.
    pub(super) fn note_accepting(&mut self, could: bool) -> bool {
        if !could {
            // Most likely there is no descriptor left. The client waits in the backlog; to ask again
            // at once would spin.
            self.accept_from = tokio::time::Instant::now() + ACCEPT_PAUSE;
        }
        !std::mem::replace(&mut self.has_failed, !could) && !could
    }

    /// Gives the last messages to clients a moment to be taken.
    pub(super) async fn say_goodbye(&mut self) {
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
