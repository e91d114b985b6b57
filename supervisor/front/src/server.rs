//! All clients together: who is let in, how many there may be, and how serving ends.
use crate::{
    access::{Access, Origin, Owner},
    body::Bodies,
    connection,
    link::{Link, Told},
    listener::{Accepted, Accepting, Bound},
};
use ipc::{Caller, FrontConfig};
use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};

/// How long nobody is accepted after accepting somebody has failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) access: Access,
    pub(crate) bodies: Bodies,
    pub(crate) link: Link,
    connections: Connections,
    patience: Duration,
}

/// One request's surroundings.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) server: Arc<Server>,
    pub(crate) owner: Owner,
    pub(crate) caller: Caller,
}

impl Context {
    pub(crate) fn link(&self) -> &Link {
        &self.server.link
    }

    /// How long a client may take nothing of its answer.
    pub(crate) fn patience(&self) -> Duration {
        self.server.patience
    }
}

impl Server {
    pub(crate) fn new(config: FrontConfig, link: Link) -> Server {
        Server {
            access: Access::new(&config),
            bodies: Bodies::new(config.max_body),
            link,
            connections: Connections::new(config.connections as usize),
            patience: config.client_timeout,
        }
    }

    /// Serves until it is told to finish, and then until all have been answered.
    pub(crate) async fn serve(self: Arc<Self>, bound: Bound, mut told: watch::Receiver<Told>) -> io::Result<()> {
        let mut accepting = JoinSet::new();
        for listener in bound.listeners {
            accepting.spawn(Arc::clone(&self).accept(Accepting::new(listener)?, told.clone()));
        }
        let wish = told.wait_for(|told| *told != Told::Serve).await.map_or(Told::Gone, |told| *told);
        // With these tasks the listening sockets go; whoever waits in their backlog is a successor's.
        accepting.abort_all();
        while accepting.join_next().await.is_some() {}
        if wish == Told::Finish {
            tokio::select! {
                () = self.connections.none_left() => {}
                _ = told.wait_for(|told| *told == Told::Gone) => {}
            }
        }
        Ok(())
    }

    async fn accept(self: Arc<Self>, listener: Accepting, told: watch::Receiver<Told>) {
        loop {
            match listener.accept().await {
                Ok(accepted) => self.take(accepted, told.clone()),
                // Most likely there is no descriptor left; to ask again at once would spin.
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    fn take(self: &Arc<Self>, accepted: Accepted, told: watch::Receiver<Told>) {
        let origin = match &accepted {
            Accepted::Tcp(_, address) => Origin::Address(address.ip()),
            Accepted::Unix(stream) => Origin::User(stream.peer_cred().ok().map(|peer| peer.uid())),
        };
        let Some(place) = self.connections.place() else { return };
        self.link.count(|counts| counts.connections = self.connections.count());
        let server = Arc::clone(self);
        tokio::spawn(async move {
            match accepted {
                Accepted::Tcp(stream, _) => connection::serve(&server, stream, origin, &place, told).await,
                Accepted::Unix(stream) => connection::serve(&server, stream, origin, &place, told).await,
            }
            drop(place);
            server.link.count(|counts| counts.connections = server.connections.count());
        });
    }
}

/// The connections that there are.
#[derive(Debug)]
struct Connections {
    most: usize,
    open: Arc<Mutex<HashMap<u64, Open>>>,
    numbers: AtomicU64,
    changed: Arc<Notify>,
}

/// One of them.
#[derive(Debug)]
struct Open {
    /// Since when it carries no request.
    idle_since: Option<Instant>,
    /// Told to go.
    ended: Arc<Notify>,
}

/// A connection's place among all.
#[derive(Debug)]
pub(crate) struct Place {
    number: u64,
    open: Arc<Mutex<HashMap<u64, Open>>>,
    changed: Arc<Notify>,
    pub(crate) ended: Arc<Notify>,
}

impl Connections {
    fn new(most: usize) -> Connections {
        Connections { most, open: Arc::default(), numbers: AtomicU64::new(0), changed: Arc::default() }
    }

    fn count(&self) -> u64 {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    /// A place for one more, be it that of the one that has carried no request for longest.
    fn place(&self) -> Option<Place> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= self.most {
            let idle = open.iter().filter_map(|(number, one)| Some((one.idle_since?, *number)));
            let (_, number) = idle.min()?;
            let gone = open.remove(&number)?;
            gone.ended.notify_one();
        }
        let number = self.numbers.fetch_add(1, Relaxed);
        let ended = Arc::new(Notify::new());
        open.insert(number, Open { idle_since: Some(Instant::now()), ended: Arc::clone(&ended) });
        Some(Place { number, open: Arc::clone(&self.open), changed: Arc::clone(&self.changed), ended })
    }

    async fn none_left(&self) {
        while self.count() > 0 {
            self.changed.notified().await;
        }
    }
}

impl Place {
    /// Notes whether a request is under way.
    pub(crate) fn note(&self, is_busy: bool) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(one) = open.get_mut(&self.number) {
            one.idle_since = (!is_busy).then(Instant::now);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
        self.changed.notify_one();
    }
}
