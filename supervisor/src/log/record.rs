//! One line of the log before it is written down: its time, its level, its message and its fields.
use jiff::Timestamp;
use std::fmt;
use system::foreign_text::shorten;
use tracing::{
    Event, Level,
    field::{Field, Visit},
};

/// Most characters of a text, whatever it is.
const LONGEST: usize = 8 << 10;

/// A line.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) time: Timestamp,
    pub(super) level: Level,
    pub(super) message: String,
    pub(super) fields: Vec<(&'static str, Value)>,
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Flag(bool),
}

impl Record {
    /// A line of now.
    #[expect(clippy::disallowed_methods, reason = "it is for people")]
    pub(super) fn new(level: Level, message: impl Into<String>) -> Record {
        Record { time: Timestamp::now(), level, message: message.into(), fields: Vec::new() }
    }

    pub(super) fn of(event: &Event<'_>) -> Record {
        let mut record = Record::new(*event.metadata().level(), String::new());
        event.record(&mut record);
        record
    }

    pub(super) fn add(&mut self, key: &'static str, value: Value) {
        self.fields.push((key, value));
    }

    /// About how many bytes it takes.
    pub(super) fn size(&self) -> usize {
        const EACH: usize = 64;
        let texts = self.fields.iter().map(|(_, value)| if let Value::Text(text) = value { text.len() } else { 0 });
        EACH * (self.fields.len() + 2) + self.message.len() + texts.sum::<usize>()
    }

    /// The text of a field.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.fields.iter().find_map(|(name, value)| match value {
            Value::Text(text) if *name == key => Some(text.as_str()),
            _ => None,
        })
    }
}

impl Visit for Record {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let text = shorten(value, LONGEST).into_owned();
        if field.name() == "message" { self.message = text } else { self.add(field.name(), Value::Text(text)) }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), Value::Unsigned(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), Value::Signed(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field.name(), Value::Float(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), Value::Flag(value));
    }
}
