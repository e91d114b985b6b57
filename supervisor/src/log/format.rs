//! How a line looks: to people, to programs, and to systemd's journal.
//!
//! Whatever a client, a model file or a worker has said may be in it. In a text nothing of that
//! ends the line, drives a terminal or passes for another field; JSON and the journal's protocol
//! have ways to write any text down.
use super::record::{Record, Value};
use jiff::{Timestamp, Unit};
use serde::{Serialize, Serializer, ser::SerializeMap};
use std::fmt::{self, Display, Formatter};
use system::foreign_text::Escaped;
use tracing::Level;

/// Messages are padded to this where fields follow.
const MESSAGE: usize = 22;

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// For people.
    Text { is_coloured: bool },
    /// For people, without the time and behind the priority, as a stream that ends in the journal
    /// has it.
    Prefixed,
    /// An object on each line.
    Json,
    /// Fields in the journal's own protocol.
    Journal,
}

impl Format {
    /// The bytes that are written for a line.
    pub(super) fn render(self, record: &Record) -> Vec<u8> {
        let text = match self {
            Format::Text { is_coloured } => text(record, is_coloured),
            Format::Prefixed => format!("<{}>{}\n", priority(record.level), Plain(record)),
            // Plain data always serialises.
            Format::Json => serde_json::to_string(record).unwrap_or_default() + "\n",
            Format::Journal => return journal(record),
        };
        text.into_bytes()
    }
}

fn text(record: &Record, is_coloured: bool) -> String {
    let colour = match record.level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        _ => "\x1b[2m",
    };
    let (before, after) = if is_coloured { (colour, "\x1b[0m") } else { ("", "") };
    format!("{} {before}{:<5}{after} {}\n", timestamp(record.time), record.level.as_str(), Plain(record))
}

/// A time in RFC 3339, always as long.
fn timestamp(time: Timestamp) -> String {
    let time = time.round(Unit::Millisecond).unwrap_or(time);
    format!("{time:.3}")
}

/// systemd's number for a level.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// Message and fields on one line.
struct Plain<'a>(&'a Record);

impl Display for Plain<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let message = Escaped(&self.0.message).to_string();
        if self.0.fields.is_empty() {
            return f.write_str(&message);
        }
        write!(f, "{message:<MESSAGE$} ")?;
        self.0.fields.iter().try_for_each(|(key, value)| write!(f, " {key}={value}"))
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => {
                let is_plain = |letter: char| !letter.is_whitespace() && !matches!(letter, '"' | '=' | '\'');
                let is_bare = !text.is_empty() && text.chars().all(is_plain);
                if is_bare { write!(f, "{}", Escaped(text)) } else { write!(f, "{text:?}") }
            }
            Value::Unsigned(number) => write!(f, "{number}"),
            Value::Signed(number) => write!(f, "{number}"),
            Value::Float(number) => write!(f, "{number}"),
            Value::Flag(flag) => write!(f, "{flag}"),
        }
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(None)?;
        object.serialize_entry("timestamp", &timestamp(self.time))?;
        object.serialize_entry("level", &self.level.as_str().to_ascii_lowercase())?;
        object.serialize_entry("message", &self.message)?;
        self.fields.iter().try_for_each(|(key, value)| object.serialize_entry(key, value))?;
        object.end()
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Text(text) => serializer.serialize_str(text),
            Value::Unsigned(number) => serializer.serialize_u64(*number),
            Value::Signed(number) => serializer.serialize_i64(*number),
            Value::Float(number) => serializer.serialize_f64(*number),
            Value::Flag(flag) => serializer.serialize_bool(*flag),
        }
    }
}

/// A record of <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>: what people read is its message, and
/// each field stands alone besides.
fn journal(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut add = |key: &str, value: &str| {
        bytes.extend_from_slice(key.as_bytes());
        if value.contains('\n') {
            bytes.push(b'\n');
            bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            bytes.push(b'=');
        }
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(b'\n');
    };
    add("PRIORITY", &priority(record.level).to_string());
    add("SYSLOG_IDENTIFIER", "supervisor");
    add("MESSAGE", &Plain(record).to_string());
    for (key, value) in &record.fields {
        let value = match value {
            Value::Text(text) => text.clone(),
            other => other.to_string(),
        };
        add(&format!("SUPERVISOR_{}", key.to_ascii_uppercase()), &value);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value as Json;

    fn record(message: &str, fields: &[(&'static str, Value)]) -> Record {
        let time = "2026-01-02T03:04:05.6Z".parse().expect("a time");
        Record { time, fields: fields.to_vec(), ..Record::new(Level::WARN, message) }
    }

    fn rendered(format: Format, record: &Record) -> String {
        String::from_utf8(format.render(record)).expect("UTF-8")
    }

    const TEXT: Format = Format::Text { is_coloured: false };

    fn text(content: &str) -> Value {
        Value::Text(content.to_owned())
    }

    #[test]
    fn people_read_aligned_fields() {
        let fields =
            [("model", text("pocket")), ("wait_s", Value::Float(0.25)), ("error", text("why not")), ("n", text(""))];
        let line = rendered(TEXT, &record("it ends", &fields));
        let expected = "2026-01-02T03:04:05.600Z WARN  it ends                 model=pocket wait_s=0.25 error=\"why not\" n=\"\"\n";
        assert_eq!(line, expected);
        assert_eq!(rendered(TEXT, &record("alone", &[])), "2026-01-02T03:04:05.600Z WARN  alone\n");
        let coloured = rendered(Format::Text { is_coloured: true }, &record("alone", &[]));
        assert_eq!(coloured, "2026-01-02T03:04:05.600Z \x1b[33mWARN \x1b[0m alone\n");
        assert_eq!(rendered(Format::Prefixed, &record("alone", &[])), "<4>alone\n");
    }

    #[test]
    fn nothing_that_was_said_passes_for_a_line_a_field_or_a_command_of_the_terminal() {
        let evil = "x\n2026 ERROR fake\r\x1b[2J\u{9b}\u{202e} a=b \"q\"";
        for format in [TEXT, Format::Prefixed] {
            let line =
                rendered(format, &record(evil, &[("a", text(evil)), ("b", text("x\u{1b}y")), ("c", text("d=e"))]));
            assert_eq!(line.matches('\n').count(), 1, "{line:?}");
            assert!(line.chars().all(|letter| letter == '\n' || !letter.is_control()), "{line:?}");
            assert!(!line.contains('\u{202e}'), "{line:?}");
            assert!(line.contains(r"b=x\u{1b}y") && line.contains("c=\"d=e\""), "{line:?}");
        }
    }

    #[test]
    fn programs_read_one_object_a_line() {
        let evil = "x\n\x1b\u{202e}\"";
        let fields = [("a", text(evil)), ("b", Value::Unsigned(7)), ("c", Value::Float(0.5)), ("d", Value::Flag(true))];
        let line = rendered(Format::Json, &record(evil, &fields));
        assert_eq!(line.matches('\n').count(), 1, "{line:?}");
        let object: Json = serde_json::from_str(&line).expect("JSON");
        let expected = serde_json::json!({"timestamp": "2026-01-02T03:04:05.600Z", "level": "warn", "message": evil, "a": evil, "b": 7, "c": 0.5, "d": true});
        assert_eq!(object, expected);
        assert!(
            line.starts_with("{\"timestamp\":\"2026-01-02T03:04:05.600Z\",\"level\":\"warn\",\"message\":"),
            "{line}"
        );
        let nothing = rendered(Format::Json, &record("x", &[("e", Value::Float(f64::NAN))]));
        assert!(nothing.ends_with("\"e\":null}\n"), "{nothing}");
    }

    #[test]
    fn the_journal_gets_fields() {
        let bytes =
            Format::Journal.render(&record("it\nends", &[("request", text("req-1")), ("stderr", text("a\nb"))]));
        let expected = [
            &b"PRIORITY=4\nSYSLOG_IDENTIFIER=supervisor\nMESSAGE=it\\nends                request=req-1 stderr=\"a\\nb\"\n"[..],
            b"SUPERVISOR_REQUEST=req-1\nSUPERVISOR_STDERR\n\x03\0\0\0\0\0\0\0a\nb\n",
        ];
        assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(&expected.concat()));
    }
}
