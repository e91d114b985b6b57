//! JSON as clients send it, read strictly, and its fields taken one by one: each is served, means
//! nothing, or is refused by its name.
use crate::reply::{Code, Refusal};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};
use std::{fmt, ops::RangeInclusive};

/// A body's object. A key that occurs twice is refused: nobody knows which one is meant.
pub(crate) fn parse(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    let wrong = |error: serde_json::Error| {
        Refusal::new(Code::BadRequest, format!("the body is not the JSON that is wanted: {error}"))
    };
    let parsed = serde_json::from_slice::<Strict>(body).or_else(|error| {
        // JavaScript's strings may hold half a character.
        if error.is_syntax() && error.to_string().contains("surrogate") || error.to_string().contains("hex escape") {
            serde_json::from_slice(&without_lone_surrogates(body))
        } else {
            Err(error)
        }
    });
    match parsed.map_err(wrong)?.0 {
        Value::Object(map) => Ok(map),
        _ => Err(Refusal::new(Code::BadRequest, "the body is JSON, but no object")),
    }
}

/// A value in which no key occurs twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Strict, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Strict;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Strict, E> {
                Ok(Strict(Value::Null))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Strict, E> {
                Ok(Strict(Value::Bool(value)))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Strict, E> {
                let number = Number::from_f64(value).ok_or_else(|| E::custom("a number is too large"))?;
                Ok(Strict(Value::Number(number)))
            }

            fn visit_str<E>(self, value: &str) -> Result<Strict, E> {
                Ok(Strict(Value::String(value.to_owned())))
            }

            fn visit_string<E>(self, value: String) -> Result<Strict, E> {
                Ok(Strict(Value::String(value)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Strict, A::Error> {
                let mut values = Vec::new();
                while let Some(Strict(value)) = list.next_element()? {
                    values.push(value);
                }
                Ok(Strict(Value::Array(values)))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Strict, A::Error> {
                let mut map = Map::new();
                while let Some((key, Strict(value))) = object.next_entry::<String, Strict>()? {
                    if map.contains_key(&key) {
                        let key: String = key.chars().take(64).collect();
                        return Err(A::Error::custom(format!("the key {key:?} occurs twice in an object")));
                    }
                    map.insert(key, value);
                }
                Ok(Strict(Value::Object(map)))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// The same text with U+FFFD for each escape that is one half of a character without the other.
fn without_lone_surrogates(text: &[u8]) -> Vec<u8> {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6).filter(|escape| escape.starts_with(b"\\u"))?;
        u16::from_str_radix(str::from_utf8(&digits[2..]).ok()?, 16).ok()
    };
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let length = match (unit(at), unit(at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                out.extend_from_slice(b"\\ufffd");
                at += 6;
                continue;
            }
            // Whatever is escaped is no beginning of another escape.
            _ if text[at] == b'\\' => 2.min(text.len() - at),
            _ => 1,
        };
        out.extend_from_slice(&text[at..at + length]);
        at += length;
    }
    out
}

/// The fields of a request that are not yet accounted for. `null` is as good as nothing.
#[derive(Debug)]
pub(crate) struct Fields {
    map: Map<String, Value>,
    /// All that were asked for, to name the nearest one.
    known: Vec<&'static str>,
}

impl Fields {
    pub(crate) fn new(map: Map<String, Value>) -> Fields {
        Fields { map, known: Vec::new() }
    }

    /// A field's value.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.map.remove(name).filter(|value| !value.is_null())
    }

    pub(crate) fn string(&mut self, name: &'static str) -> Result<Option<String>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Refusal::value(name, format!("{name} must be a string"))),
        }
    }

    pub(crate) fn boolean(&mut self, name: &'static str) -> Result<Option<bool>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(_) => Err(Refusal::value(name, format!("{name} must be true or false"))),
        }
    }

    /// A whole number, be it written with a fraction of nothing.
    pub(crate) fn integer(&mut self, name: &'static str, range: RangeInclusive<i64>) -> Result<Option<i64>, Refusal> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = whole(&value).filter(|number| range.contains(number));
        let (least, most) = range.into_inner();
        let message = || match most {
            i64::MAX => format!("{name} must be a whole number from {least}"),
            most => format!("{name} must be a whole number from {least} to {most}"),
        };
        number.map(Some).ok_or_else(|| Refusal::value(name, message()))
    }

    pub(crate) fn number(&mut self, name: &'static str, range: RangeInclusive<f64>) -> Result<Option<f32>, Refusal> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = value.as_f64().filter(|number| range.contains(number));
        let message = || format!("{name} must be a number from {} to {}", range.start(), range.end());
        #[expect(clippy::cast_possible_truncation, reason = "the model computes with 32 bits")]
        number.map(|number| Some(number as f32)).ok_or_else(|| Refusal::value(name, message()))
    }

    pub(crate) fn object(&mut self, name: &'static str) -> Result<Option<Map<String, Value>>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(_) => Err(Refusal::value(name, format!("{name} must be an object"))),
        }
    }

    /// Fields that change nothing about an answer.
    pub(crate) fn inert(&mut self, names: &[&'static str]) {
        for name in names {
            self.take(name);
        }
    }

    /// A field that may only be what it is without being said.
    pub(crate) fn neutral(&mut self, name: &'static str, is_neutral: impl Fn(&Value) -> bool) -> Result<(), Refusal> {
        match self.take(name) {
            Some(value) if !is_neutral(&value) => Err(not_served(name)),
            _ => Ok(()),
        }
    }

    /// Refuses what is left.
    pub(crate) fn finish(self) -> Result<(), Refusal> {
        let Some(name) = self.map.keys().next() else { return Ok(()) };
        let shown: String = name.chars().take(64).collect();
        let near = self.known.iter().map(|known| (strsim::jaro_winkler(known, name), known));
        let near = near.max_by(|one, other| one.0.total_cmp(&other.0)).filter(|(likeness, _)| *likeness > 0.85);
        let hint = near.map(|(_, known)| format!("; is {known} meant?")).unwrap_or_default();
        let message = format!("there is no parameter {shown:?}{hint}");
        Err(Refusal { param: Some(shown), ..Refusal::new(Code::UnknownParameter, message) })
    }
}

/// A parameter that is known and not served.
pub(crate) fn not_served(name: &'static str) -> Refusal {
    let message = format!("{name} is not served here; leave it out");
    Refusal { param: Some(name.to_owned()), ..Refusal::new(Code::UnknownParameter, message) }
}

/// A number without a fraction.
pub(crate) fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| {
        let number = value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 9e15)?;
        #[expect(clippy::cast_possible_truncation, reason = "it is whole, and small enough")]
        Some(number as i64)
    })
}

/// Whether it is nothing: an empty list, an empty object, an empty string or false.
pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Fields {
        Fields::new(parse(text.as_bytes()).unwrap())
    }

    fn wrong(text: &str) -> String {
        parse(text.as_bytes()).unwrap_err().message
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert!(wrong("").contains("EOF"));
        assert!(wrong("[1]").contains("no object"));
        assert!(wrong("{\"a\": NaN}").contains("line 1 column"));
        assert!(wrong("{\"a\": 1e999}").contains("number"));
        assert!(wrong("{\"a\": {\"b\": 1, \"b\": 2}}").contains("\"b\" occurs twice"));
        assert!(wrong(&"[".repeat(200)).contains("recursion limit"));
        assert!(parse(format!("{{\"a\": {}1{}}}", "[".repeat(120), "]".repeat(120)).as_bytes()).is_ok());
    }

    #[test]
    fn half_a_character_becomes_a_replacement() {
        let text = |json: &str| parse(json.as_bytes()).unwrap()["a"].as_str().unwrap().to_owned();
        assert_eq!(text(r#"{"a": "x\ud83dy"}"#), "x\u{fffd}y");
        assert_eq!(text(r#"{"a": "\ude00"}"#), "\u{fffd}");
        assert_eq!(text(r#"{"a": "\ud83d\ude00 \ud83d"}"#), "\u{1f600} \u{fffd}");
        assert_eq!(text(r#"{"a": "\\ud83d \ud83d"}"#), "\\ud83d \u{fffd}");
        assert_eq!(text("{\"a\": \"\\u0000\"}"), "\0");
    }

    #[test]
    fn values_are_what_they_must_be() {
        assert_eq!(fields(r#"{"n": 3}"#).integer("n", 1..=8).unwrap(), Some(3));
        assert_eq!(fields(r#"{"n": 3.0}"#).integer("n", 1..=8).unwrap(), Some(3));
        assert_eq!(fields(r#"{"n": null}"#).integer("n", 1..=8).unwrap(), None);
        for text in [r#"{"n": "3"}"#, r#"{"n": 0}"#, r#"{"n": 3.5}"#, r#"{"n": true}"#] {
            let refusal = fields(text).integer("n", 1..=8).unwrap_err();
            assert_eq!(refusal.message, "n must be a whole number from 1 to 8", "{text}");
            assert_eq!(refusal.param.as_deref(), Some("n"));
        }
        assert_eq!(fields(r#"{"t": 2}"#).number("t", 0.0..=2.0).unwrap(), Some(2.0));
        assert!(fields(r#"{"t": 2.1}"#).number("t", 0.0..=2.0).is_err());
    }

    #[test]
    fn what_nobody_knows_is_refused_by_name_with_the_nearest_one() {
        let mut some = fields(r#"{"temperatur": 1}"#);
        some.inert(&["temperature", "top_p"]);
        let refusal = some.finish().unwrap_err();
        assert_eq!(refusal.message, "there is no parameter \"temperatur\"; is temperature meant?");
        let mut others = fields(r#"{"zzz": 1, "top_p": null}"#);
        others.inert(&["top_p"]);
        assert_eq!(others.finish().unwrap_err().message, "there is no parameter \"zzz\"");
    }
}
