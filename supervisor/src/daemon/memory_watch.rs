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
use policy::{Event, PoolId, TemplateId};
use std::{
    fs::File,
    sync::Arc,
    time::{Duration, Instant},
};
use system::proc::{self, Sample};

/// How often the faults of workers that compute are looked at.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);
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
            self.look(id, |worker| worker.part.is_some() && worker.memory.may_exceed());
        }
    }

    /// Looks at the memory of all that have not been looked at for a while, and of those that may
    /// have taken too much.
    pub(super) fn watch_all(&mut self) {
        for id in self.models.ids() {
            let stale = |taken: Option<Instant>| taken.is_none_or(|taken| taken.elapsed() > TEMPLATE_AGE);
            let template = self.models[id].template.as_ref();
            let template = template.filter(|template| stale(template.memory.map(|(_, taken)| taken)));
            if let Some(template) = template.map(|template| template.id) {
                self.sample_template(template);
            }
            self.look(id, |worker| worker.memory.is_due() || worker.memory.may_exceed());
        }
    }

    /// Has the memory of the next worker for which this holds looked at, one of a model at a time.
    fn look(&mut self, id: PoolId, wanted: impl Fn(&WorkerProcess) -> bool) {
        let Some(model) = self.models.get_mut(id).filter(|_| !self.children.sampled.contains(&id)) else { return };
        let mut wanted = model.workers.values_mut().filter(|worker| wanted(worker));
        let found = wanted.find_map(|worker| Some((Sampled::Worker(worker.id), worker.memory.file_to_look_into()?)));
        if let Some((whose, file)) = found {
            self.children.sampled.insert(id);
            self.sample(file, whose);
        }
    }

    /// Has the template's memory looked at.
    pub(super) fn sample_template(&self, id: TemplateId) {
        if let Some(file) = self.models[id.pool].template.as_ref().and_then(|template| template.memory_file.clone()) {
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
                if let Some(template) = self.template(id) {
                    template.memory = taken;
                }
            }
            Sampled::Worker(id) => {
                self.children.sampled.remove(&id.pool);
                if let Some(worker) = self.worker(id) {
                    worker.memory.seen = taken;
                    self.feed(Event::MemoryTaken { worker: id, bytes: sample.own() });
                }
                self.look(id.pool, |worker| worker.memory.is_due() || worker.memory.may_exceed());
            }
        }
    }
}
