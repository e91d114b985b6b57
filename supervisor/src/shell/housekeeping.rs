//! What is done now and then: boards and memory are looked at, the socket file is looked after, orphans are buried.
use super::{Input, Sampled, Shell, memory::Sample, signals::Signalled, worker::Worker};
use crate::core::{Event, PoolId, TemplateId};
use ipc::board::Word;
use nix::{
    errno::Errno,
    sys::wait::{WaitPidFlag, waitpid},
    unistd::Pid,
};
use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    sync::{Arc, atomic::Ordering::Acquire},
    time::{Duration, Instant},
};

/// How often the house is kept.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);
/// How old the last look at a worker's memory may become.
const MEMORY_AGE: Duration = Duration::from_secs(10);
/// How old the last look at a template's memory may become; while it is looked at, it cannot fork.
const TEMPLATE_MEMORY_AGE: Duration = Duration::from_secs(60);

impl Shell {
    pub(super) fn signalled(&mut self, signal: Signalled) {
        match signal {
            Signalled::Stop => {
                tracing::info!(again = self.core.is_closing(), "told to stop");
                self.feed(Event::ShutdownRequested);
            }
            // Children that are known are waited for by name; strangers can wait for the next round.
            Signalled::ChildEnded => self.children_ended = true,
        }
    }

    /// Looks at the boards of the workers that serve.
    pub(super) fn observe(&mut self) {
        let now = Instant::now();
        let mut seen = Vec::new();
        for worker in self.pools.iter_mut().flat_map(|pool| pool.workers.values_mut()) {
            if worker.part.is_some() && worker.killed.is_none() {
                worker.note_speed(now);
                seen.push((worker.id, worker.board.word(Word::Ticks).load(Acquire)));
            }
        }
        for (worker, ticks) in seen {
            self.feed(Event::Observed { worker, ticks });
        }
    }

    pub(super) async fn keep_house(&mut self) {
        match self.socket.heal() {
            Ok(false) => {}
            Ok(true) => tracing::warn!("the socket file had gone; listening on a new one"),
            Err(error) => tracing::error!("the socket file has gone: {}", worker::chain(&error)),
        }
        if std::mem::take(&mut self.children_ended) {
            self.bury_orphans();
        }
        for at in 0..self.pools.len() {
            let stale = |taken: Option<Instant>| taken.is_none_or(|taken| taken.elapsed() > TEMPLATE_MEMORY_AGE);
            let pool = &self.pools[at];
            let template = pool.template.as_ref().filter(|_| stale(pool.template_memory.map(|(_, taken)| taken)));
            if let Some(id) = template.map(|template| template.id) {
                self.sample_template(id);
            }
            self.sample_workers(PoolId(at));
        }
    }

    /// Has the memory of the next worker that has not been looked at for a while looked at, one of a model at a time. Looking walks page
    /// tables and holds a lock that the worker's exit needs too, so those that have just been born are left alone.
    fn sample_workers(&mut self, id: PoolId) {
        let pool = &mut self.pools[id.0];
        let is_due = |worker: &&Worker| match worker.memory {
            Some((_, taken)) => taken.elapsed() > MEMORY_AGE,
            None => worker.forked_at.elapsed() > INTERVAL,
        };
        let next =
            pool.workers.values().filter(is_due).find_map(|worker| Some((worker.id, worker.memory_file.clone()?)));
        if let Some((worker, file)) = next.filter(|_| !pool.sampling) {
            pool.sampling = true;
            self.sample(file, Sampled::Worker(worker));
        }
    }

    /// Has the template's memory looked at.
    pub(super) fn sample_template(&self, id: TemplateId) {
        if let Some(file) = self.pools[id.pool.0].template_memory_file.clone() {
            self.sample(file, Sampled::Template(id));
        }
    }

    fn sample(&self, file: Arc<File>, whose: Sampled) {
        let inputs = self.inputs.clone();
        tokio::spawn(async move {
            let read = tokio::task::spawn_blocking(move || super::memory::read(&file)).await;
            // A process that has ended has no memory.
            let sample = read.ok().and_then(Result::ok).unwrap_or_default();
            let _stopped = inputs.send(Input::Memory(whose, sample)).await;
        });
    }

    pub(super) fn note_memory(&mut self, whose: Sampled, sample: Sample) {
        let taken = Some((sample, Instant::now()));
        match whose {
            Sampled::Template(id) => {
                let pool = &mut self.pools[id.pool.0];
                if pool.template.as_ref().is_some_and(|template| template.id == id) {
                    pool.template_memory = taken;
                }
            }
            Sampled::Worker(id) => {
                let pool = &mut self.pools[id.pool.0];
                pool.sampling = false;
                let limit = pool.config.memory_per_worker;
                if let Some(worker) = pool.workers.get_mut(&id.life) {
                    worker.memory = taken;
                    // When the template has ended, its pages belong to whoever still shares them, which is nobody's fault.
                    let shares = pool.template.as_ref().is_some_and(|template| template.id == worker.template);
                    if shares && sample.own() > limit && worker.killed.is_none() {
                        let reason = format!("it takes {} bytes of memory, {limit} are allowed", sample.own());
                        self.misbehaved(id, &reason);
                    }
                }
                self.sample_workers(id.pool);
            }
        }
    }

    /// Reaps children that nobody knows: workers whose template died before it could speak of them.
    fn bury_orphans(&mut self) {
        if self.pools.iter().any(|pool| pool.template.as_ref().is_some_and(|template| template.is_forking())) {
            // One of them may be about to be introduced.
            self.children_ended = true;
            return;
        }
        let templates = self.pools.iter().filter_map(|pool| pool.template.as_ref().map(|template| &template.process));
        let workers =
            self.pools.iter().flat_map(|pool| pool.workers.values().filter_map(|worker| worker.process.as_ref()));
        let known: HashSet<u32> = templates.chain(workers).map(crate::process::Process::pid).collect();
        let Ok(children) = children() else {
            // There is no descriptor left to look with.
            self.children_ended = true;
            return;
        };
        for pid in children.into_iter().filter(|pid| !known.contains(pid)) {
            let Ok(raw) = i32::try_from(pid) else { continue };
            if waitpid(Pid::from_raw(raw), Some(WaitPidFlag::WNOHANG)).is_ok() {
                tracing::debug!(pid, "an orphan has ended or is about to");
            }
        }
    }
}

/// The pids of this process's children, of whichever thread.
fn children() -> io::Result<Vec<u32>> {
    let mut children = Vec::new();
    for thread in fs::read_dir("/proc/self/task")? {
        match fs::read_to_string(thread?.path().join("children")) {
            Ok(list) => children.extend(list.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok())),
            // The thread has ended.
            Err(error) => match Errno::try_from(error) {
                Ok(Errno::ENOENT | Errno::ESRCH) => {}
                Ok(errno) => return Err(errno.into()),
                Err(error) => return Err(error),
            },
        }
    }
    Ok(children)
}
