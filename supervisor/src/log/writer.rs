//! The thread that writes the log, and the bounded queue before it.
use super::{
    format::Format,
    journal::Journal,
    record::{Record, Value},
};
use crate::shortage::ThreadError;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    io::{self, Write},
    iter,
    os::fd::AsFd,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};
use thiserror::Error;
use tracing::Level;

/// Most lines that wait.
const LINES: usize = 4096;
/// Most bytes that wait.
const BYTES: usize = 4 << 20;
/// How long lines are gathered after some were written. Whoever puts a line while this thread waits
/// for one must wake it, which takes longer than all else about the line.
const PAUSE: Duration = Duration::from_millis(1);
/// How long the end of the process waits for what is not written.
const MOMENT: Duration = Duration::from_secs(1);

/// Why there is no log.
#[derive(Debug, Error)]
pub(crate) enum LogError {
    /// There is no way to the journal.
    #[error("cannot make a socket to the journal")]
    Journal(#[source] io::Error),
    /// Nobody can write it.
    #[error(transparent)]
    Thread(ThreadError),
}

/// Where lines are put.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    queue: SyncSender<Item>,
    counts: Arc<Counts>,
}

#[derive(Debug)]
enum Item {
    Record(Record),
    /// A line as it is.
    Line(String),
    /// All before this is written.
    Done(SyncSender<()>),
}

impl Item {
    /// About how many bytes it takes.
    fn size(&self) -> usize {
        match self {
            Item::Record(record) => record.size(),
            Item::Line(line) => line.len(),
            Item::Done(_) => 0,
        }
    }
}

#[derive(Debug, Default)]
struct Counts {
    /// Bytes that wait.
    waiting: AtomicUsize,
    /// Lines that were not written and have not been spoken of.
    lost: AtomicU64,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(format: Format, journal: PathBuf) -> Result<Writer, LogError> {
        let journal = (format == Format::Journal).then(|| Journal::new(&journal));
        let journal = journal.transpose().map_err(LogError::Journal)?;
        Writer::with(Output { format, journal, stream: io::stderr(), is_cut: false })
    }

    fn with<S: Write + AsFd + Send + 'static>(output: Output<S>) -> Result<Writer, LogError> {
        let (queue, items) = sync_channel(LINES);
        let counts = Arc::<Counts>::default();
        let writer = Writer { queue, counts: Arc::clone(&counts) };
        let started = thread::Builder::new().name("log".to_owned()).spawn(move || write_all(&items, &counts, output));
        started.map_err(|error| LogError::Thread(ThreadError::new("to write the log", error)))?;
        Ok(writer)
    }

    /// Has a line made and written of this; it never waits. Where there is no room, the line is
    /// lost.
    pub(super) fn put(&self, record: Record) {
        self.enqueue(Item::Record(record));
    }

    /// Has a line written as it is.
    pub(super) fn put_line(&self, line: String) {
        self.enqueue(Item::Line(line));
    }

    fn enqueue(&self, item: Item) {
        let size = item.size();
        let before = self.counts.waiting.fetch_add(size, Relaxed);
        if before + size > BYTES || self.queue.try_send(item).is_err() {
            self.counts.waiting.fetch_sub(size, Relaxed);
            self.counts.lost.fetch_add(1, Relaxed);
        }
    }

    /// Waits until all is written, but not for long.
    pub(super) fn flush(&self) {
        let (done, all) = sync_channel(1);
        let is_asked = match self.queue.try_send(Item::Done(done)) {
            Ok(()) => true,
            Err(TrySendError::Full(item)) => {
                let queue = self.queue.clone();
                // There may never be room in the queue.
                thread::Builder::new().spawn(move || queue.send(item)).is_ok()
            }
            Err(TrySendError::Disconnected(_)) => false,
        };
        if is_asked {
            // What is not written by then is lost with this process.
            let _not_written = all.recv_timeout(MOMENT);
        }
    }
}

fn write_all<S: Write + AsFd>(items: &Receiver<Item>, counts: &Counts, mut output: Output<S>) {
    while let Ok(first) = items.recv() {
        for item in iter::once(first).chain(items.try_iter()) {
            write_one(&item, counts, &mut output);
        }
        #[expect(clippy::disallowed_methods, reason = "it gathers; nothing is waited for")]
        thread::sleep(PAUSE);
    }
}

fn write_one<S: Write + AsFd>(item: &Item, counts: &Counts, output: &mut Output<S>) {
    counts.waiting.fetch_sub(item.size(), Relaxed);
    if let Item::Done(done) = item {
        // Who waited may have gone.
        let _gone = done.try_send(());
        return;
    }
    let lost = counts.lost.swap(0, Relaxed);
    let is_told = lost == 0 || output.write(&notice(lost)).is_ok();
    let is_written = match item {
        Item::Record(record) => output.write(record).is_ok(),
        Item::Line(line) => output.write_line(line.as_bytes()).is_ok(),
        Item::Done(_) => true,
    };
    counts.lost.fetch_add(if is_told { 0 } else { lost } + u64::from(!is_written), Relaxed);
}

/// The line about lines that were lost.
fn notice(lost: u64) -> Record {
    let mut record =
        Record::new(Level::WARN, "lines of this log were lost: they came faster than they could be written");
    record.add("lost", Value::Unsigned(lost));
    record
}

/// Where lines go.
#[derive(Debug)]
struct Output<S> {
    format: Format,
    journal: Option<Journal>,
    stream: S,
    /// Whether the last line was written in part.
    is_cut: bool,
}

impl<S: Write + AsFd> Output<S> {
    fn write(&mut self, record: &Record) -> io::Result<()> {
        match &self.journal {
            Some(journal) if journal.send(&self.format.render(record)).is_ok() => Ok(()),
            // The journal reads the stream, too.
            Some(_) => self.write_line(&Format::Prefixed.render(record)),
            None => self.write_line(&self.format.render(record)),
        }
    }

    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        if std::mem::take(&mut self.is_cut) {
            self.write_bytes(b"\n")?;
        }
        self.write_bytes(line)
    }

    fn write_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Whoever shares the stream may have made it so that it does not wait; this thread
                // can.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::new(self.stream.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE)?;
                }
                Err(error) => {
                    self.is_cut |= rest.len() < bytes.len();
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::pipe;
    use std::{
        fs::{self, File},
        io::{Read, Seek},
        os::unix::net::UnixDatagram,
    };

    const TEXT: Format = Format::Text { is_coloured: false };

    fn writer(format: Format, journal: Option<Journal>, stream: File) -> Writer {
        Writer::with(Output { format, journal, stream, is_cut: false }).expect("a thread")
    }

    fn record(message: &str) -> Record {
        Record::new(Level::INFO, message)
    }

    fn read(mut file: &File) -> String {
        let mut text = String::new();
        file.rewind().and_then(|()| file.read_to_string(&mut text)).expect("a text");
        text
    }

    #[test]
    fn what_is_put_is_written_in_order() {
        let file = tempfile::tempfile().expect("a file");
        let writer = writer(TEXT, None, file.try_clone().expect("a file"));
        (0..100).for_each(|number| writer.put(record(&format!("line {number}"))));
        writer.put_line("as it is\n".to_owned());
        writer.flush();
        let text = read(&file);
        let lines: Vec<&str> = text.lines().map(|line| line.rsplit("  ").next().unwrap_or_default()).collect();
        let expected: Vec<String> =
            (0..100).map(|number| format!("line {number}")).chain(["as it is".to_owned()]).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_pipe_that_nobody_reads_holds_nobody_up_and_what_is_lost_is_counted() {
        let (read, write) = pipe().expect("a pipe");
        let writer = writer(TEXT, None, write.into());
        let line = "x".repeat(4000);
        (0..10 * LINES).for_each(|_| writer.put(record(&line)));
        assert!(writer.counts.waiting.load(Relaxed) <= BYTES);
        let lost = writer.counts.lost.load(Relaxed);
        assert!(lost > 0);
        // Somebody reads again.
        let reader = thread::spawn(move || {
            let mut text = String::new();
            File::from(read).read_to_string(&mut text).map(|_| text)
        });
        while writer.counts.waiting.load(Relaxed) > 0 {
            thread::yield_now();
        }
        writer.put(record("the last"));
        writer.flush();
        drop(writer);
        let text = reader.join().expect("no panic").expect("a text");
        assert!(text.ends_with("INFO  the last\n"));
        let told: u64 = text.lines().filter_map(|line| line.split_once(" lost=")?.1.parse::<u64>().ok()).sum();
        let written = text.lines().filter(|line| line.contains("xxx")).count();
        assert_eq!(told + written as u64, 10 * LINES as u64);
    }

    #[test]
    fn a_full_disk_loses_lines_and_nothing_else() {
        let full = File::options().write(true).open("/dev/full").expect("/dev/full");
        let writer = writer(Format::Json, None, full);
        (0..100).for_each(|_| writer.put(record("line")));
        writer.flush();
        assert_eq!(writer.counts.lost.load(Relaxed), 100);
    }

    #[test]
    fn the_journal_is_sent_records_and_where_it_is_not_the_stream_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let journal = UnixDatagram::bind(&path).expect("a socket");
        let file = tempfile::tempfile().expect("a file");
        let way = Journal::new(&path).expect("a socket");
        let writer = writer(Format::Journal, Some(way), file.try_clone().expect("a file"));
        writer.put(record("one"));
        writer.flush();
        let mut buffer = [0; 1000];
        let count = journal.recv(&mut buffer).expect("a record");
        assert_eq!(&buffer[..count], b"PRIORITY=6\nSYSLOG_IDENTIFIER=supervisor\nMESSAGE=one\n");
        fs::remove_file(&path).expect("it is there");
        writer.put(record("two"));
        writer.flush();
        assert_eq!(read(&file), "<6>two\n");
    }
}
