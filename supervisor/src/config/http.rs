//! HTTP as it is configured: where, for whom, and with which keys.
use super::value::{self, Value};
use ipc::Listen;
use serde::Deserialize;
use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// Where `--http` without an address listens.
pub(crate) const USUAL: &str = "127.0.0.1:8080";
/// Most keys: all of them go to the front in one message.
const MOST_KEYS: usize = 512;

/// The table `[http]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, rename = "[http]", expecting = "a table, which begins with [http]")]
pub(crate) struct HttpConfig {
    /// Where to listen; nowhere if it is empty.
    #[serde(deserialize_with = "value::listens")]
    pub(crate) listen: Vec<Listen>,
    /// The file of keys; without one nobody needs a key who may connect at all.
    #[serde(deserialize_with = "value::keys_file")]
    pub(crate) api_keys_file: Option<PathBuf>,
    /// Addresses that need no key.
    #[serde(deserialize_with = "value::addresses")]
    pub(crate) trusted: Vec<IpAddr>,
    /// Most connections at once.
    #[serde(deserialize_with = "value::connections")]
    pub(crate) connections: u32,
    /// Names that clients may call this host, besides the usual ones.
    #[serde(deserialize_with = "value::names")]
    pub(crate) hosts: Vec<String>,
    /// Other origins that browsers may come from.
    #[serde(deserialize_with = "value::names")]
    pub(crate) origins: Vec<String>,
    /// Most bytes of a request's body.
    #[serde(deserialize_with = "value::body")]
    pub(crate) max_body: u64,
    /// What the file of keys holds.
    #[serde(skip)]
    pub(crate) keys: Vec<ApiKey>,
}

impl Default for HttpConfig {
    fn default() -> HttpConfig {
        HttpConfig {
            listen: Vec::new(),
            api_keys_file: None,
            trusted: Vec::new(),
            connections: 1024,
            hosts: Vec::new(),
            origins: Vec::new(),
            max_body: 4 << 20,
            keys: Vec::new(),
        }
    }
}

/// A key and whose it is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ApiKey {
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) is_admin: bool,
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What is wrong with HTTP as it is configured.
#[derive(Debug, Error)]
pub(crate) enum HttpError {
    #[error("[http] listens on {0}, which others can reach; set api_keys_file, or listen on 127.0.0.1")]
    NoKeys(Listen),
    #[error("the keys of {0} cannot be read (api_keys_file in [http])")]
    Read(PathBuf, #[source] io::Error),
    #[error("{0} holds keys, so only its owner and its group may read it: chmod o-rwx {0}")]
    Mode(PathBuf),
    #[error("{0} holds keys, so it must belong to root or to the daemon's user")]
    Owner(PathBuf),
    #[error("{path}:{line}: {rule}")]
    Line { path: PathBuf, line: usize, rule: &'static str },
}

impl HttpConfig {
    /// Reads the keys, and looks whether all of it is good together.
    pub(super) fn complete(&mut self) -> Result<(), HttpError> {
        if let Some(path) = &self.api_keys_file {
            self.keys = read_keys(path)?;
        } else if let Some(open) = self.listen.iter().find(|listen| is_open(listen)) {
            return Err(HttpError::NoKeys(open.clone()));
        }
        Ok(())
    }

    /// Whether there is HTTP at all.
    pub(crate) fn is_on(&self) -> bool {
        !self.listen.is_empty()
    }
}

/// Whether other hosts can connect there.
fn is_open(listen: &Listen) -> bool {
    matches!(listen, Listen::Tcp(address) if !address.ip().to_canonical().is_loopback())
}

/// An address, a port alone, or `unix:` and a path.
pub(super) fn listen(value: &Value) -> Result<Listen, String> {
    const RULE: &str = "must be an address and a port like \"127.0.0.1:8080\", or \"unix:\" and a path";
    let text = value.text().ok_or(RULE)?;
    if let Some(path) = text.strip_prefix("unix:") {
        return value::socket_at(PathBuf::from(path)).map(Listen::Unix);
    }
    if let Some(port) = text.strip_prefix("localhost:").and_then(|port| port.parse().ok()) {
        return Ok(Listen::Tcp(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)));
    }
    Ok(Listen::Tcp(text.parse().map_err(|_| RULE)?))
}

fn read_keys(path: &Path) -> Result<Vec<ApiKey>, HttpError> {
    let read = |error| HttpError::Read(path.to_owned(), error);
    let bytes = super::source::bytes(path).map_err(read)?;
    let about = path.metadata().map_err(read)?;
    if about.mode() & 0o007 != 0 {
        return Err(HttpError::Mode(path.to_owned()));
    }
    if about.uid() != 0 && about.uid() != nix::unistd::geteuid().as_raw() {
        return Err(HttpError::Owner(path.to_owned()));
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut keys = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |rule| HttpError::Line { path: path.to_owned(), line: number + 1, rule };
        keys.push(key(line).map_err(wrong)?);
        if keys.len() > MOST_KEYS {
            return Err(wrong("there are more than 512 keys"));
        }
    }
    Ok(keys)
}

fn key(line: &str) -> Result<ApiKey, &'static str> {
    let mut words = line.split_whitespace();
    let (Some(name), Some(key)) = (words.next(), words.next()) else {
        return Err("a line must be a name and a key, as in \"ana sk-1234\"");
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.len() > 64 || !name.bytes().all(is_plain) {
        return Err("a name must be 1 to 64 characters out of A-Z, a-z, 0-9, '.', '_' and '-'");
    }
    if key.len() < 8 || key.len() > 256 {
        return Err("a key must have 8 to 256 characters");
    }
    let mut is_admin = false;
    for word in words {
        match word {
            "admin" => is_admin = true,
            _ => return Err("after a name and a key there may be \"admin\" and nothing else"),
        }
    }
    Ok(ApiKey { name: name.to_owned(), key: key.to_owned(), is_admin })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn places_to_listen_are_addresses_and_paths() {
        let place = |text: &str| listen(&Value::Text(text.to_owned()));
        assert_eq!(place("127.0.0.1:8080").unwrap().to_string(), "127.0.0.1:8080");
        assert_eq!(place("localhost:1").unwrap().to_string(), "127.0.0.1:1");
        assert_eq!(place("[::1]:8080").unwrap().to_string(), "[::1]:8080");
        assert_eq!(place("unix:/run/x").unwrap().to_string(), "unix:/run/x");
        for text in ["8080", "", "example.org:80", "127.0.0.1", "127.0.0.1:99999"] {
            assert!(place(text).is_err(), "{text}");
        }
    }

    #[test]
    fn keys_are_read_only_from_a_file_that_nobody_else_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let write = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            read_keys(&path)
        };
        let keys = write("# people\nana sk-12345678\n\n root sk-abcdefgh admin\n", 0o640).unwrap();
        assert_eq!(
            keys.iter().map(|key| (key.name.as_str(), key.is_admin)).collect::<Vec<_>>(),
            [("ana", false), ("root", true)]
        );
        assert!(!format!("{keys:?}").contains("sk-"), "a key is never shown");
        assert!(matches!(write("ana sk-12345678\n", 0o644), Err(HttpError::Mode(_))));
        for (text, at) in [("ana\n", 1), ("\nana short\n", 2), ("a/b sk-12345678\n", 1), ("ana sk-12345678 x\n", 1)] {
            assert!(matches!(write(text, 0o600), Err(HttpError::Line { line, .. }) if line == at), "{text:?}");
        }
    }

    #[test]
    fn whoever_listens_for_others_has_keys() {
        let on = |text: &str| HttpConfig {
            listen: vec![listen(&Value::Text(text.to_owned())).unwrap()],
            ..HttpConfig::default()
        };
        assert!(on("127.0.0.1:1").complete().is_ok() && on("[::1]:1").complete().is_ok());
        assert!(on("unix:/x").complete().is_ok());
        assert!(matches!(on("0.0.0.0:1").complete(), Err(HttpError::NoKeys(_))));
        assert!(matches!(on("[::]:1").complete(), Err(HttpError::NoKeys(_))));
    }
}
