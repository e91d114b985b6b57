//! What is known of one worker's memory, and when it must be looked at again.
//!
//! The files in /proc are opened before the worker closes itself to inspection.
use crate::shortage::is_shortage;
use nix::unistd::{SysconfVar, sysconf};
use std::{
    fs::File,
    io,
    sync::Arc,
    time::{Duration, Instant},
};
use system::proc::{self, Sample};

/// How old the last look may become.
const AGE: Duration = Duration::from_secs(10);
/// How old a worker is when its memory is looked at first.
const INFANCY: Duration = Duration::from_secs(1);

/// The memory of one worker.
#[derive(Debug)]
pub(crate) struct WorkerMemory {
    /// Most bytes that it may have for itself.
    pub(crate) limit: u64,
    /// The last look.
    pub(crate) seen: Option<(Sample, Instant)>,
    file: Option<Arc<File>>,
    faults: Option<File>,
    /// Its page faults at the last look. Those that it was born with are few.
    faults_seen: u64,
    since: Instant,
}

impl WorkerMemory {
    pub(crate) fn new(limit: u64, now: Instant) -> WorkerMemory {
        WorkerMemory { limit, seen: None, file: None, faults: None, faults_seen: 0, since: now }
    }

    /// Opens what `/proc` says of it.
    pub(crate) fn open(&mut self, pid: u32) -> io::Result<()> {
        self.file = unless_gone(proc::open_memory(pid))?.map(Arc::new);
        self.faults = unless_gone(proc::open_faults(pid))?;
        Ok(())
    }

    /// The file to look into; none if there is nothing to be seen.
    pub(crate) fn file_to_look_into(&mut self) -> Option<Arc<File>> {
        let file = self.file.clone()?;
        self.faults_seen = self.count_faults();
        Some(file)
    }

    /// Whether it has not been looked at for a while. Those that have just been born are left alone.
    pub(crate) fn is_due(&self) -> bool {
        match self.seen {
            Some((_, at)) => at.elapsed() > AGE,
            None => self.since.elapsed() > INFANCY,
        }
    }

    /// Whether it may have become too much since the last look.
    pub(crate) fn may_exceed(&self) -> bool {
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
        let page = page.and_then(|size| u64::try_from(size).ok()).unwrap_or(4096);
        let taken = self.count_faults().saturating_sub(self.faults_seen).saturating_mul(page);
        taken > threshold(self.own(), self.limit)
    }

    /// How much it had for itself at the last look.
    pub(crate) fn own(&self) -> u64 {
        self.seen.map_or(0, |(sample, _)| sample.own())
    }

    /// How many page faults it has had; none if it has ended.
    fn count_faults(&self) -> u64 {
        self.faults.as_ref().and_then(|file| proc::faults(file).ok()).unwrap_or(0)
    }
}

/// What was done with a file of a worker's. It may end at any time; then its files are gone, and
/// its end is seen soon. That there is no descriptor for them is another matter: it would never be
/// looked at again.
pub(super) fn unless_gone<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(error) if is_shortage(&error) => Err(error),
        Err(_) => Ok(None),
    }
}

/// How much a worker may have taken since it was found to have `own` before it must be looked at
/// again: half of what is left to it, because what it has allocated in huge pages is more than its
/// faults tell; but not so little that one near its limit is looked at all the time.
fn threshold(own: u64, limit: u64) -> u64 {
    (limit.saturating_sub(own) / 2).max(limit / 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_more_is_looked_at_sooner_but_not_all_the_time() {
        assert_eq!(threshold(0, 512), 256);
        assert_eq!(threshold(412, 512), 50);
        assert_eq!(threshold(511, 512), 32);
        assert_eq!(threshold(9999, 512), 32);
    }
}
