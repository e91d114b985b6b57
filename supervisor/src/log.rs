//! The daemon's log: lines for people, for programs, or for systemd's journal, on stderr or in the
//! journal's socket.
//!
//! Whoever logs never waits: what is to be logged is put into a bounded queue, and made a line and
//! written by a thread of its own. What nobody takes, because the disk is full or a pipe is not
//! read, is lost and counted. What repeats is bounded too ([`limit`]), but for the lines about
//! requests, of which each has one. What it does not do: read the time of anything, keep files, or
//! know what a request is.
mod format;
mod journal;
mod limit;
mod prompt;
mod record;
mod writer;

pub(crate) use prompt::{LoggedPrompt, Prompts};
pub(crate) use writer::LogError;

use crate::config::{Auto, LogFormat};
use format::Format;
use limit::{Limiter, Verdict};
use record::{Record, Value};
use std::{
    env,
    error::Error,
    io::{self, IsTerminal},
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Instant,
};
use tracing::{Event, Level, Metadata, Subscriber, level_filters::LevelFilter, span};
use writer::Writer;

/// The target of the lines about requests: each request has one, so they are all written.
pub(crate) const REQUEST: &str = "request";
/// The target of the lines about what an operator has the daemon do: there are as many as operators
/// want, so they are all written.
pub(crate) const OPERATION: &str = "operation";

/// What to log and how.
pub(crate) struct Settings {
    pub(crate) level: LevelFilter,
    pub(crate) format: Auto<LogFormat>,
    /// The socket of systemd's journal.
    pub(crate) journal: PathBuf,
}

/// The log of this process, until it ends.
pub(crate) struct Log {
    format: Format,
    writer: Writer,
}

impl Log {
    /// Has everything logged from now on. Only the first log of a process is used.
    pub(crate) fn start(settings: Settings) -> Result<Log, LogError> {
        let is_journal = journal::is_stderr(env::var_os("JOURNAL_STREAM").as_deref());
        let terminal = || io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let format = match settings.format {
            Auto::Auto if is_journal => Format::Journal,
            Auto::Fixed(LogFormat::Json) => Format::Json,
            Auto::Auto | Auto::Fixed(LogFormat::Text) if is_journal => Format::Prefixed,
            Auto::Auto | Auto::Fixed(LogFormat::Text) => Format::Text { is_coloured: terminal() },
        };
        let writer = Writer::start(format, settings.journal)?;
        let collector = Collector { level: settings.level, writer: writer.clone(), limiter: Mutex::default() };
        // There is one already in tests that run in one process.
        let _another = tracing::subscriber::set_global_default(collector);
        Ok(Log { format, writer })
    }

    /// Tells why the daemon ends, as all commands do or as a line of the log, and waits a moment
    /// until all is written.
    pub(crate) fn fail(self, error: &dyn Error) {
        let reason = system::foreign_text::chain(error);
        match self.format {
            Format::Text { .. } => self.writer.put_line(format!("supervisor: {reason}\n")),
            _ => tracing::error!("{reason}"),
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.writer.flush();
    }
}

/// What turns events into lines.
struct Collector {
    level: LevelFilter,
    writer: Writer,
    limiter: Mutex<Limiter>,
}

impl Collector {
    /// Whether this line is one too many; one that is not may say that others were.
    fn is_too_many(&self, metadata: &Metadata<'_>, record: &mut Record) -> bool {
        if matches!(metadata.target(), REQUEST | OPERATION) || *metadata.level() > Level::INFO {
            return false;
        }
        let about = record.text("model").unwrap_or_default().to_owned();
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        match limiter.admit(metadata.callsite(), about, Instant::now()) {
            Verdict::Write => {}
            Verdict::Last(pause) => record.add("more_left_out_for_s", Value::Unsigned(pause.as_secs())),
            Verdict::Again { left_out } => record.add("left_out", Value::Unsigned(left_out)),
            Verdict::LeaveOut => return true,
        }
        false
    }
}

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn event(&self, event: &Event<'_>) {
        let mut record = Record::of(event);
        if !self.is_too_many(event.metadata(), &mut record) {
            self.writer.put(record);
        }
    }

    // There are no spans here.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}
