//! What the supervisor and the front, the process that speaks HTTP, tell each other. Requests do
//! not go this way: they have connections of their own, which are made here.
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// Most bytes of a packet to or from the front.
pub const MAX_FRONT_CONTROL: usize = 96 << 10;

/// The supervisor's message to the front.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToFront {
    /// Serve. The packet carries the listening sockets in the order of [`FrontConfig::listen`]; if
    /// it carries none, the front makes them.
    Serve(Box<FrontConfig>),
    /// A connection that was asked for; the packet carries it.
    Connection,
    /// There are as many connections as there may be.
    NoConnection,
    /// Accept nobody any more, finish what was begun, and end.
    Finish,
}

/// How the front serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontConfig {
    /// Where to listen.
    pub listen: Vec<Listen>,
    /// Who may use it where that is not everybody.
    pub keys: Vec<Key>,
    /// Whether a key is wanted on every network socket, loopback too.
    pub wants_keys: bool,
    /// What keys are hashed with.
    pub secret: [u8; 32],
    /// Addresses that need no key.
    pub trusted: Vec<IpAddr>,
    /// Names that the header Host may have besides addresses, localhost and the host's own.
    pub hosts: Vec<String>,
    /// Other origins that browsers may come from.
    pub origins: Vec<String>,
    /// The uids that may connect to a Unix socket; all that its mode lets in if there are none.
    pub allow_users: Vec<u32>,
    /// Most connections at once.
    pub connections: u32,
    /// Most bytes of a request's body.
    pub max_body: u64,
    /// How long a client may take nothing of its answer.
    pub client_timeout: Duration,
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Listen {
    /// At an address.
    Tcp(SocketAddr),
    /// At a path.
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp(address) => write!(f, "{address}"),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// One key, without the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Whose it is.
    pub name: String,
    /// The SHA-256 of the secret and the key.
    pub digest: [u8; 32],
    /// Whether it may see everybody's requests.
    pub is_admin: bool,
}

/// The front's message to the supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromFront {
    /// It listens, and is confined. The packet carries copies of the sockets that it made.
    Listening {
        /// Where, as it can be connected to.
        at: Vec<Listen>,
        /// What confines it.
        sandbox: crate::Sandbox,
    },
    /// It cannot; it exits.
    Failed {
        /// One sentence.
        message: String,
    },
    /// It wants one more connection.
    Connect,
    /// It lives.
    Beat(FrontCounts),
}

/// What the front counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontCounts {
    /// Connections that are open.
    pub connections: u64,
    /// Requests since it began.
    pub requests: u64,
}
