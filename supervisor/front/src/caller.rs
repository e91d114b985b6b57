//! What a client says of its request besides what it asks for.
//!
//! A request's name is the client's, if it has given one that can be repeated in a log, or a new
//! one.
use hyper::HeaderMap;
use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Most characters of a client's name.
const LONGEST: usize = 128;
/// More milliseconds than any request may take.
const LONGEST_PATIENCE: f64 = 1e12;

/// The name that the client gives, or a new one.
pub(crate) fn request_name(headers: &HeaderMap) -> String {
    let given = headers.get("x-request-id").and_then(|value| value.to_str().ok());
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
    let given = given.filter(|name| (1..=LONGEST).contains(&name.len()) && name.bytes().all(is_plain));
    given.map_or_else(|| unique("req_"), str::to_owned)
}

/// How many milliseconds the client waits for the next byte: OpenAI's libraries say it in seconds.
/// What is no time says nothing.
pub(crate) fn patience(headers: &HeaderMap) -> Option<u64> {
    let seconds: f64 = headers.get("x-stainless-read-timeout")?.to_str().ok()?.parse().ok()?;
    (seconds > 0.0).then(|| (seconds * 1000.0).ceil().min(LONGEST_PATIENCE) as u64)
}

/// A name that nobody has had and nobody can guess.
pub(crate) fn unique(prefix: &str) -> String {
    static STATE: OnceLock<RandomState> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let (state, count) = (STATE.get_or_init(RandomState::new), COUNT.fetch_add(1, Relaxed));
    format!("{prefix}{:016x}{:016x}", state.hash_one((count, 0)), state.hash_one((count, 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_over_if_it_is_plain() {
        let named = |name: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-request-id", name.parse().unwrap());
            request_name(&headers)
        };
        assert_eq!(named("a-1:2.3_Z"), "a-1:2.3_Z");
        for name in ["", "a b", "x\"y", &"x".repeat(129)] {
            assert_ne!(named(name), name);
        }
        assert_ne!(request_name(&HeaderMap::new()), request_name(&HeaderMap::new()));
    }

    #[test]
    fn a_clients_patience_is_a_time_or_nothing() {
        let said = |seconds: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-stainless-read-timeout", seconds.parse().unwrap());
            patience(&headers)
        };
        assert_eq!(said("600"), Some(600_000));
        assert_eq!(said("0.0004"), Some(1));
        assert_eq!(said("inf"), Some(1_000_000_000_000));
        for nothing in ["", "0", "-1", "NaN", "None", "soon"] {
            assert_eq!(said(nothing), None, "{nothing}");
        }
        assert_eq!(patience(&HeaderMap::new()), None);
    }
}
