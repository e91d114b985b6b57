//! How much memory workers and templates take, and when it is looked at. What follows if it is too
//! much is the policy's to say.
//!
//! A worker's limit of private memory (RLIMIT_DATA) stops what it allocates at once, but not what
//! it takes by writing to pages that it shares with its template. Those are counted by looking into
//! its page tables, which takes milliseconds on a large model and holds a lock that its exit needs.
//! So what is looked at often is its number of page faults, which takes microseconds: each page
//! that it makes its own costs one, and only when there have been enough of them to be too much are
//! the tables looked at.
use super::{Daemon, Input, Sampled, worker_process::WorkerProcess};
use nix::unistd::{SysconfVar, sysconf};
use policy::{Event, PoolId, TemplateId};
use std::{
    fs::File,
    sync::Arc,
    time::{Duration, Instant},
};
use system::proc::{self, Sample};

/// How often the faults of workers that compute are looked at.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);
/// How old the last look at a worker's memory may become.
const AGE: Duration = Duration::from_secs(10);
/// How old a worker is when its memory is looked at first.
const INFANCY: Duration = Duration::from_secs(1);
/// How old the last look at a template's memory may become; while it is looked at, it cannot fork.
const TEMPLATE_AGE: Duration = Duration::from_secs(60);

impl Daemon {
    /// Whether any worker computes.
    pub(super) fn computes(&self) -> bool {
        self.models.iter().flat_map(|(_, model)| model.workers.values()).any(|worker| worker.part.is_some())
    }

    /// Looks at the memory of workers that compute and may have taken too much.
    pub(super) fn sample_memory(&mut self) {
        for id in self.models.ids() {
            self.look(id, |worker| worker.part.is_some() && may_exceed(worker));
        }
    }

    /// Looks at the memory of all that have not been looked at for a while, and of those that may
    /// have taken too much.
    pub(super) fn watch_all(&mut self) {
        for id in self.models.ids() {
            let stale = |taken: Option<Instant>| taken.is_none_or(|taken| taken.elapsed() > TEMPLATE_AGE);
            let model = &self.models[id];
            let template = model.template.as_ref().filter(|_| stale(model.template_memory.map(|(_, taken)| taken)));
            if let Some(template) = template.map(|template| template.id) {
                self.sample_template(template);
            }
            self.look(id, |worker| is_due(worker) || may_exceed(worker));
        }
    }

    /// Has the memory of the next worker for which this holds looked at, one of a model at a time.
    fn look(&mut self, id: PoolId, wanted: impl Fn(&WorkerProcess) -> bool) {
        let Some(model) = self.models.get_mut(id).filter(|model| !model.sampling) else { return };
        let found = model.workers.values_mut().find(|worker| worker.memory_file.is_some() && wanted(worker));
        let Some((worker, file)) = found.and_then(|worker| worker.memory_file.clone().map(|file| (worker, file)))
        else {
            return;
        };
        worker.faults_seen = worker.faults();
        let whose = Sampled::Worker(worker.id);
        model.sampling = true;
        self.sample(file, whose);
    }

    /// Has the template's memory looked at.
    pub(super) fn sample_template(&self, id: TemplateId) {
        if let Some(file) = self.models[id.pool].template_memory_file.clone() {
            self.sample(file, Sampled::Template(id));
        }
    }

    fn sample(&self, file: Arc<File>, whose: Sampled) {
        let (inputs, sampler) = (self.children.inputs.clone(), self.children.helpers.sampler.clone());
        tokio::spawn(async move {
            let read = sampler.run(move || proc::read(&file)).await;
            // A process that has ended has no memory.
            let sample = read.and_then(Result::ok).unwrap_or_default();
            let _stopped = inputs.send(Input::Memory(whose, sample)).await;
        });
    }

    pub(super) fn note_memory(&mut self, whose: Sampled, sample: Sample) {
        let taken = Some((sample, Instant::now()));
        match whose {
            Sampled::Template(id) => {
                let Some(model) = self.models.get_mut(id.pool) else { return };
                if model.template.as_ref().is_some_and(|template| template.id == id) {
                    model.template_memory = taken;
                }
            }
            Sampled::Worker(id) => {
                let Some(model) = self.models.get_mut(id.pool) else { return };
                model.sampling = false;
                if let Some(worker) = model.workers.get_mut(&id.life) {
                    worker.memory = taken;
                    self.feed(Event::MemoryTaken { worker: id, bytes: sample.own() });
                }
                self.look(id.pool, |worker| is_due(worker) || may_exceed(worker));
            }
        }
    }
}

/// Whether it has not been looked at for a while. Those that have just been born are left alone.
fn is_due(worker: &WorkerProcess) -> bool {
    match worker.memory {
        Some((_, taken)) => taken.elapsed() > AGE,
        None => worker.forked_at.elapsed() > INFANCY,
    }
}

fn may_exceed(worker: &WorkerProcess) -> bool {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|size| u64::try_from(size).ok()).unwrap_or(4096);
    let taken = worker.faults().saturating_sub(worker.faults_seen).saturating_mul(page);
    let own = worker.memory.map_or(0, |(sample, _)| sample.own());
    taken > threshold(own, worker.memory_limit)
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
