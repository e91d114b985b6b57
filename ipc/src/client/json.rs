//! Requests and responses to JSON and back, and what is wrong with JSON in words.
use super::{FrontRequest, Request, Response};
use crate::codec::{CodecError, Message, ShapeError, sealed::Sealed};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, DeserializeOwned, IgnoredAny, MapAccess, Visitor},
};
use std::fmt;

impl Sealed for Request {}

impl Message for Request {
    fn encode_into(&self, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
        check(self)?;
        write(self, bytes)
    }

    fn decode(payload: &[u8]) -> Result<Request, CodecError> {
        read(payload)
    }
}

impl Sealed for FrontRequest {}

impl Message for FrontRequest {
    fn encode_into(&self, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
        check(&self.request)?;
        write(self, bytes)
    }

    fn decode(payload: &[u8]) -> Result<FrontRequest, CodecError> {
        read(payload)
    }
}

/// Refuses numbers of which JSON would say null, which is the default to the other side.
fn check(request: &Request) -> Result<(), CodecError> {
    let Request::Generate(asked) = request else { return Ok(()) };
    asked.sampling.check_finite().map_err(CodecError::Unspeakable)
}

impl Sealed for Response {}

impl Message for Response {
    fn encode_into(&self, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
        write(self, bytes)
    }

    /// A kind that is not known becomes [`Response::Other`].
    fn decode(payload: &[u8]) -> Result<Response, CodecError> {
        read(payload).or_else(|error| match serde_json::from_slice(payload) {
            Ok(Kind(kind)) if !Response::KINDS.contains(&kind.as_str()) => Ok(Response::Other(kind)),
            _ => Err(error),
        })
    }
}

/// Bytes of a string in JSON, with its quotes, as it is written here.
pub fn json_length(text: &str) -> usize {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    };
    2 + text.bytes().map(escaped).sum::<usize>()
}

fn write<T: Serialize>(value: &T, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
    serde_json::to_writer(bytes, value).map_err(CodecError::Write)
}

fn read<T: DeserializeOwned>(payload: &[u8]) -> Result<T, CodecError> {
    serde_json::from_slice(payload).map_err(|error| explain::<T>(payload, error))
}

/// Finds out where the error is, which is slower and so is not done for every message.
fn explain<T: DeserializeOwned>(payload: &[u8], error: serde_json::Error) -> CodecError {
    if !error.is_data() {
        // Two kinds in one message, a number or a list are JSON all the same.
        return match serde_json::from_slice::<Kind>(payload) {
            Err(error) if error.is_data() => CodecError::Shape(ShapeError(NO_KIND.to_owned())),
            _ => CodecError::Json(error),
        };
    }
    let mut deserializer = serde_json::Deserializer::from_slice(payload);
    match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Err(found) => {
            let place = found.path().to_string();
            CodecError::Shape(ShapeError(sentence(&place, &found.into_inner().to_string())))
        }
        Ok(_) => CodecError::Json(error),
    }
}

/// What serde says is wrong, and where, in a sentence that repeats nothing of the message but a
/// name.
fn sentence(place: &str, reason: &str) -> String {
    // Where it was in the text is said by its place.
    let reason = reason.rfind(" at line ").map_or(reason, |end| &reason[..end]);
    let named = |start: &str, word: &str| {
        let rest = reason.strip_prefix(start)?;
        // The name is the other side's and may hold anything; what follows is ours.
        let end = rest.rfind("`, expected ").or_else(|| rest.rfind("`, there are no "))?;
        let known = rest[end + 1..].replace('`', "");
        Some((format!("unknown {word} \"{}\"{known}", shorten(&rest[..end], NAME)), &rest[..end]))
    };
    let wrong = |start: &str| {
        let (found, expected) = reason.strip_prefix(start)?.rsplit_once(", expected ")?;
        let found = found.split(['"', '`', '\'']).next().unwrap_or_default().trim();
        Some(format!("expected {}, found {}", in_words(expected), in_words(found)))
    };
    let kind = if place.contains('.') && place != "." { "value" } else { "kind" };
    let (what, name) = if let Some((what, name)) = named("unknown field `", "field") {
        (what, name)
    } else if let Some((what, name)) = named("unknown variant `", kind) {
        (what, name)
    } else if let Some(what) = wrong("invalid type: ").or_else(|| wrong("invalid value: ")) {
        (what, "")
    } else {
        (shorten(&reason.replace('`', "\""), 300), "")
    };
    // A field that does not exist is named once.
    let place = place.strip_suffix(name).filter(|_| !name.is_empty()).unwrap_or(place).trim_matches('.');
    if place.is_empty() { what } else { format!("{}: {what}", shorten(place, 2 * NAME)) }
}

/// The names of types as people know them.
fn in_words(what: &str) -> &str {
    match what {
        "u32" => "a whole number below 2^32",
        "u64" => "a whole number below 2^64",
        "f32" => "a number",
        "a sequence" | "sequence" => "a list",
        "map" => "an object",
        "unit" | "unit variant" => "nothing more",
        "newtype variant" | "struct variant" => "an object with what is asked",
        "string" => "a string",
        "integer" | "floating point" => "another number",
        "boolean" => "true or false",
        other => other,
    }
}

const NO_KIND: &str = "a message is a string or an object with one field, its kind";

/// Most characters of a name that are repeated.
const NAME: usize = 64;

/// The first `most` characters of what the other side wrote, as a message can repeat them.
fn shorten(text: &str, most: usize) -> String {
    let rest = if text.chars().nth(most).is_some() { "..." } else { "" };
    // What cannot be seen, or turns the direction in which others are read, is escaped.
    let shown = text.chars().take(most).map(|letter| match letter {
        '"' | '\'' | '\\' => letter.to_string(),
        _ => letter.escape_debug().to_string(),
    });
    shown.collect::<String>() + rest
}

/// The name of a message's kind: the message itself, if it is a string, or its only field.
struct Kind(String);

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Kind, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Kind;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an object of one field")
            }

            fn visit_str<E: de::Error>(self, kind: &str) -> Result<Kind, E> {
                Ok(Kind(kind.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kind, A::Error> {
                let Some((kind, IgnoredAny)) = map.next_entry()? else {
                    return Err(de::Error::invalid_length(0, &self));
                };
                match map.next_key::<IgnoredAny>()? {
                    Some(IgnoredAny) => Err(de::Error::invalid_length(2, &self)),
                    None => Ok(Kind(kind)),
                }
            }
        }

        deserializer.deserialize_any(Any)
    }
}
