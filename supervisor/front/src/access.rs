//! Who may ask for something, and in whose name: keys, addresses, names in Host, origins.
//!
//! All of it is decided by a request's head, before a byte of its body is read.
use crate::reply::{Code, Refusal};
use hyper::{HeaderMap, Method, header};
use ipc::{FrontConfig, Key};
use sha2::{Digest, Sha256};
use std::net::IpAddr;

/// What is kept of a key: the SHA-256 of the secret and the key.
pub fn digest(secret: &[u8; 32], key: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(secret).chain_update(key).finalize().into()
}

/// Where a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A network socket.
    Address(IpAddr),
    /// A Unix socket: the user at its other end, if that is known.
    User(Option<u32>),
}

/// In whose name a request is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// `key:ana`, `uid:1000` or `address:127.0.0.1`.
    pub(crate) name: String,
    /// Whether everybody's requests are shown to it.
    pub(crate) is_admin: bool,
}

/// The rules.
#[derive(Debug)]
pub(crate) struct Access {
    secret: [u8; 32],
    keys: Vec<Key>,
    wants_keys: bool,
    trusted: Vec<IpAddr>,
    hosts: Vec<String>,
    origins: Vec<String>,
    allow_users: Vec<u32>,
}

impl Access {
    pub(crate) fn new(config: &FrontConfig) -> Access {
        let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_lowercase();
        let known = ["localhost", "host.docker.internal", "host.containers.internal"].map(str::to_owned);
        let mut hosts: Vec<String> = config.hosts.iter().map(|name| name.to_lowercase()).chain(known).collect();
        if !own.is_empty() {
            hosts.extend([format!("{own}.local"), own]);
        }
        Access {
            secret: config.secret,
            keys: config.keys.clone(),
            wants_keys: config.wants_keys,
            trusted: config.trusted.clone(),
            hosts,
            origins: config.origins.clone(),
            allow_users: config.allow_users.clone(),
        }
    }

    /// Whether who comes from there must show a key.
    fn wants_key(&self, origin: Origin) -> bool {
        match origin {
            Origin::User(_) => false,
            Origin::Address(address) => {
                let address = address.to_canonical();
                !self.trusted.contains(&address) && (self.wants_keys || !address.is_loopback())
            }
        }
    }

    /// Whether this user may use a Unix socket that lets it in.
    fn may_use(&self, uid: Option<u32>) -> bool {
        let own = nix::unistd::geteuid().as_raw();
        self.allow_users.is_empty() || uid.is_some_and(|uid| uid == 0 || uid == own || self.allow_users.contains(&uid))
    }

    /// The owner of a request, or why it is not served.
    pub(crate) fn owner(&self, origin: Origin, headers: &HeaderMap) -> Result<Owner, Refusal> {
        if let Origin::User(uid) = origin
            && !self.may_use(uid)
        {
            let message = "this user may not use the supervisor; see allow_users in its configuration";
            return Err(Refusal::new(Code::Forbidden, message));
        }
        let shown = shown_key(headers)?;
        // A key that is shown where none is wanted still says whose request it is.
        let known = shown.and_then(|key| self.find(key));
        if let Some(key) = known {
            return Ok(Owner { name: format!("key:{}", key.name), is_admin: key.is_admin });
        }
        if self.wants_key(origin) {
            let message = match shown {
                Some(_) => "this API key is not known here; see api_keys_file in the supervisor's configuration",
                None => {
                    "an API key is wanted, as in \"Authorization: Bearer KEY\"; see api_keys_file in the supervisor's configuration"
                }
            };
            return Err(Refusal::new(Code::InvalidApiKey, message));
        }
        Ok(match origin {
            Origin::Address(address) => Owner { name: format!("address:{}", address.to_canonical()), is_admin: false },
            // Root may see everything anyway.
            Origin::User(Some(uid)) => Owner { name: format!("uid:{uid}"), is_admin: uid == 0 },
            Origin::User(None) => Owner { name: "uid:unknown".to_owned(), is_admin: false },
        })
    }

    /// Compares with all keys, whichever is the right one.
    fn find(&self, key: &[u8]) -> Option<&Key> {
        let digest = digest(&self.secret, key);
        self.keys.iter().fold(None, |found, key| if key.digest == digest { Some(key) } else { found })
    }

    /// Refuses a name in Host that nobody would call this host: a page elsewhere may have had its
    /// own name resolve to this address. Where a key is wanted, no page has it.
    pub(crate) fn check_host(&self, origin: Origin, headers: &HeaderMap) -> Result<(), Refusal> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = hosts.next();
        if hosts.next().is_some() {
            return Err(Refusal::new(Code::BadRequest, "there are two Host headers"));
        }
        if matches!(origin, Origin::User(_)) || self.wants_key(origin) {
            return Ok(());
        }
        let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
        if self.is_ours(host) {
            return Ok(());
        }
        Err(Refusal::new(
            Code::Forbidden,
            "the name in the Host header is none of this host's; use its address, or add the name to hosts in [http]",
        ))
    }

    fn is_ours(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        };
        let name = name.to_lowercase();
        name.parse::<IpAddr>().is_ok() || name.ends_with(".localhost") || self.hosts.contains(&name)
    }

    /// The origin that a browser says its page has, if pages of it may use this; none if it says
    /// none. A page of this host's own is of the origin that Host names.
    pub(crate) fn origin<'a>(&self, headers: &'a HeaderMap) -> Result<Option<&'a str>, Refusal> {
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(None) };
        let refused = || {
            Err(Refusal::new(
                Code::Forbidden,
                "pages of this origin may not use the supervisor; add it to origins in [http]",
            ))
        };
        let Ok(origin) = origin.to_str() else { return refused() };
        let own = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let is_own = own.is_some_and(|own| origin.strip_prefix("http://") == Some(own));
        let is_allowed = self.origins.iter().any(|allowed| allowed == origin || allowed == "*");
        if is_own || is_allowed { Ok(Some(origin)) } else { refused() }
    }
}

/// The key that a request shows; two that differ are one too many.
fn shown_key(headers: &HeaderMap) -> Result<Option<&[u8]>, Refusal> {
    let bearer = headers.get_all(header::AUTHORIZATION).iter().filter_map(|value| {
        let value = value.as_bytes();
        let (scheme, key) = value.split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then(|| key.trim_ascii())
    });
    let plain = headers.get_all("x-api-key").iter().map(|value| value.as_bytes());
    let mut keys = bearer.chain(plain).filter(|key| !key.is_empty());
    let Some(first) = keys.next() else { return Ok(None) };
    if keys.any(|key| key != first) {
        return Err(Refusal::new(Code::BadRequest, "two different API keys are shown"));
    }
    Ok(Some(first))
}

/// Whether it is a browser's question whether it may ask.
pub(crate) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    const HERE: Origin = Origin::Address(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
    const THERE: Origin = Origin::Address(IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 7)));

    fn access(wants_keys: bool) -> Access {
        let secret = [7; 32];
        let key = |name: &str, text: &str, is_admin| Key {
            name: name.to_owned(),
            digest: digest(&secret, text.as_bytes()),
            is_admin,
        };
        Access {
            secret,
            keys: vec![key("ana", "one", false), key("root", "two", true)],
            wants_keys,
            trusted: vec!["10.0.0.9".parse().unwrap()],
            hosts: vec!["localhost".to_owned(), "pi".to_owned()],
            origins: vec!["https://app.example".to_owned()],
            allow_users: Vec::new(),
        }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_key_names_its_owner_wherever_it_comes_from() {
        let owner = |origin, pairs: &[(&'static str, &str)]| access(false).owner(origin, &headers(pairs));
        assert_eq!(owner(THERE, &[("authorization", "Bearer one")]).unwrap().name, "key:ana");
        assert_eq!(owner(THERE, &[("authorization", "bearer  one")]).unwrap().name, "key:ana");
        assert_eq!(owner(HERE, &[("x-api-key", "two")]).unwrap(), Owner { name: "key:root".into(), is_admin: true });
        assert_eq!(owner(Origin::User(Some(1000)), &[]).unwrap().name, "uid:1000");
        assert!(owner(HERE, &[("x-api-key", "two"), ("authorization", "Bearer one")]).is_err());
        assert!(owner(HERE, &[("x-api-key", "one"), ("authorization", "Bearer one")]).is_ok());
    }

    #[test]
    fn only_loopback_and_trusted_addresses_need_no_key() {
        let owner = |access: Access, origin| access.owner(origin, &HeaderMap::new()).map(|owner| owner.name);
        assert_eq!(owner(access(false), HERE).unwrap(), "address:127.0.0.1");
        assert!(owner(access(true), HERE).is_err(), "with keys, loopback wants one too");
        assert!(owner(access(false), THERE).is_err());
        assert_eq!(owner(access(true), Origin::Address("10.0.0.9".parse().unwrap())).unwrap(), "address:10.0.0.9");
        let mapped = Origin::Address("::ffff:10.0.0.9".parse().unwrap());
        assert_eq!(owner(access(true), mapped).unwrap(), "address:10.0.0.9");
    }

    #[test]
    fn only_allowed_users_are_served_on_a_unix_socket() {
        let own = nix::unistd::geteuid().as_raw();
        let other = own + 1001;
        let allowing = |allow_users: &[u32], uid| {
            let access = Access { allow_users: allow_users.to_vec(), ..access(false) };
            access.owner(Origin::User(uid), &headers(&[("x-api-key", "one")])).is_ok()
        };
        for (allowed, uid, is_served) in [
            (&[][..], Some(other), true),
            (&[], None, true),
            (&[other], Some(other), true),
            (&[other], Some(other + 1), false),
            (&[other], None, false),
            (&[other], Some(0), true),
            (&[other], Some(own), true),
        ] {
            assert_eq!(allowing(allowed, uid), is_served, "{uid:?} where {allowed:?} may");
        }
    }

    #[test]
    fn a_name_that_is_not_this_hosts_is_refused() {
        let check = |host: &str| access(false).check_host(HERE, &headers(&[("host", host)])).is_ok();
        for host in ["localhost:8080", "127.0.0.1", "127.0.0.1:80", "[::1]:8080", "PI:8080", "a.localhost"] {
            assert!(check(host), "{host}");
        }
        for host in ["evil.example", "evil.example:8080", "", "localhost.evil.example", "127.0.0.1.evil.example"] {
            assert!(!check(host), "{host}");
        }
        assert!(access(false).check_host(HERE, &HeaderMap::new()).is_err(), "no Host at all");
        assert!(access(false).check_host(HERE, &headers(&[("host", "pi"), ("host", "pi")])).is_err());
        assert!(access(false).check_host(Origin::User(None), &HeaderMap::new()).is_ok());
        assert!(access(true).check_host(HERE, &headers(&[("host", "any.example")])).is_ok(), "a page has no key");
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        let origin =
            |pairs: &[(&'static str, &str)]| access(false).origin(&headers(pairs)).map(|found| found.is_some());
        assert!(!origin(&[]).unwrap());
        assert!(origin(&[("origin", "https://app.example")]).unwrap());
        assert!(origin(&[("origin", "http://pi:8080"), ("host", "pi:8080")]).unwrap());
        assert!(origin(&[("origin", "http://evil.example"), ("host", "pi:8080")]).is_err());
        assert!(origin(&[("origin", "null")]).is_err());
    }
}
