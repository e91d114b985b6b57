//! One model, as the daemon holds it: its template, its workers, its counts.
use super::{template_process::TemplateProcess, worker_process::WorkerProcess};
use crate::config::{Auto, ModelConfig, SupervisorConfig};
use ipc::{
    Life, ModelInfo, ModelKind, ModelSource, ModelSpec,
    status::{Crash, Totals},
};
use policy::{Identity, Isolation, PoolId, PoolLimits, routing::Candidate};
use std::{collections::HashMap, sync::Arc, time::Duration};

/// One model.
#[derive(Debug)]
pub(crate) struct ServedModel {
    pub(crate) config: ModelConfig,
    pub(crate) spec: ModelSpec,
    pub(crate) slots: u32,
    pub(crate) template: Option<TemplateProcess>,
    /// What the template found out, once there has been one that could load the model.
    pub(crate) info: Option<Arc<ModelInfo>>,
    /// What the last template was to load.
    pub(crate) identity: Option<Identity>,
    /// Why a worker is missing that there is no memory for.
    pub(crate) shortage: Option<String>,
    /// Why the last template could not load the model.
    pub(crate) error: Option<String>,
    pub(crate) workers: HashMap<Life, WorkerProcess>,
    pub(crate) history: History,
}

/// What is remembered of a model. It goes on with the model's name when the model changes.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) totals: Totals,
    pub(crate) last_crash: Option<Crash>,
    /// How long a request takes from its first dispatch to its end, on average over the last ones.
    service: Option<Duration>,
}

impl History {
    /// Goes on with what was before.
    pub(crate) fn add(&mut self, before: History) {
        self.totals.add(before.totals);
        self.last_crash = self.last_crash.take().or(before.last_crash);
        self.service = self.service.or(before.service);
    }

    /// Notes how long a request took that was answered.
    pub(crate) fn note_service(&mut self, took: Duration) {
        // The last eight or so count most.
        self.service = Some(self.service.map_or(took, |mean| mean * 7 / 8 + took / 8));
    }

    /// When a place may be free for who comes behind so many that wait, by what was measured.
    pub(crate) fn expected_wait(&self, waiting: usize, workers: u32) -> Duration {
        const SHORTEST: Duration = Duration::from_secs(1);
        const LONGEST: Duration = Duration::from_secs(60);
        let ahead = u32::try_from(waiting + 1).unwrap_or(u32::MAX);
        let wait = self.service.map(|mean| mean.saturating_mul(ahead) / workers.max(1));
        wait.unwrap_or(SHORTEST).clamp(SHORTEST, LONGEST)
    }
}

impl ServedModel {
    pub(crate) fn new(config: ModelConfig, cores: u32) -> ServedModel {
        let slots = ServedModel::slots_of(&config, cores);
        let threads = match config.threads {
            Auto::Fixed(threads) => threads.min(cores),
            Auto::Auto => cores,
        };
        let spec = ModelSpec {
            name: config.name.clone(),
            source: config.source.clone(),
            context: config.context,
            sha256: config.sha256.clone(),
            threads,
            precision: config.precision,
        };
        ServedModel {
            config,
            spec,
            slots,
            template: None,
            info: None,
            identity: None,
            shortage: None,
            error: None,
            workers: HashMap::new(),
            history: History::default(),
        }
    }

    /// How many requests of a model run at once.
    pub(crate) fn slots_of(config: &ModelConfig, cores: u32) -> u32 {
        match config.workers {
            Auto::Fixed(workers) => workers,
            Auto::Auto => cores,
        }
    }

    /// Takes settings over that need no other template.
    pub(crate) fn adjust(&mut self, config: ModelConfig, cores: u32) {
        self.slots = ServedModel::slots_of(&config, cores);
        self.config = config;
    }

    /// Why a reload that tried it was refused.
    pub(crate) fn why_refused(&self) -> String {
        let crash = self.history.last_crash.as_ref().map(|crash| match last_word(crash) {
            Some(line) => format!("a process of it ended by {}: {line}", crash.cause),
            None => format!("a process of it ended by {}", crash.cause),
        });
        let reason = self.error.clone().or_else(|| self.shortage.clone()).or(crash);
        reason.unwrap_or_else(|| "it could not be loaded and made ready in time".to_owned())
    }

    /// What the policy must know of it.
    pub(crate) fn limits(&self, supervisor: &SupervisorConfig) -> PoolLimits {
        PoolLimits {
            workers: self.slots,
            queue: supervisor.queue,
            isolation: self.isolation(),
            threads: self.spec.threads,
            load: self.config.load,
            idle_unload: self.config.idle_unload,
            max_attempts: self.config.max_attempts,
            memory: self.config.memory_per_worker,
            queue_timeout: supervisor.queue_timeout,
            progress_timeout: self.config.progress_timeout,
            request_timeout: self.config.request_timeout,
        }
    }

    /// What a request may ask for.
    pub(crate) fn candidate(&self, pool: PoolId) -> Candidate<'_> {
        Candidate { pool, name: &self.config.name, kind: self.kind(), has_failed: self.error.is_some() }
    }

    /// What it does, as its template says, or as its path suggests before that.
    pub(crate) fn kind(&self) -> ModelKind {
        self.info.as_ref().map_or_else(|| self.guess(), |info| info.kind)
    }

    /// What it does, by its path: a model of one file generates; one that makes vectors has a
    /// folder.
    fn guess(&self) -> ModelKind {
        match self.config.source {
            ModelSource::Folder(_) => ModelKind::Embed,
            ModelSource::File(_) | ModelSource::BuiltIn { .. } => ModelKind::Generate,
        }
    }

    pub(crate) fn isolation(&self) -> Isolation {
        match (self.config.isolation, self.guess()) {
            (Auto::Fixed(isolation), _) => isolation,
            // What makes vectors keeps nothing of one request for the next.
            (Auto::Auto, ModelKind::Embed) => Isolation::Worker,
            (Auto::Auto, ModelKind::Generate) => Isolation::Request,
        }
    }

    /// Why nothing can be served with it.
    pub(crate) fn why_hopeless(&self) -> String {
        let crash = self.history.last_crash.as_ref().map(|crash| match last_word(crash) {
            Some(line) => format!("its processes crash again and again, by {}: {line}", crash.cause),
            None => format!("its processes crash again and again, by {}", crash.cause),
        });
        let reason = self.error.clone().or(crash).unwrap_or_else(|| "it cannot be loaded".to_owned());
        format!("{}: {reason}", self.config.name)
    }
}

/// The last line that a process wrote which says something of its end. Rust's advice does not.
fn last_word(crash: &Crash) -> Option<&String> {
    crash.stderr.iter().rfind(|line| !line.starts_with("note: run with `RUST_BACKTRACE="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_refused_is_told_when_a_place_may_be_free() {
        let mut history = History::default();
        let seconds = Duration::from_secs;
        assert_eq!(history.expected_wait(64, 2), seconds(1), "nothing is known yet");
        for _ in 0..100 {
            history.note_service(seconds(4));
        }
        assert_eq!(history.expected_wait(5, 2), seconds(12));
        assert_eq!((history.expected_wait(0, 8), history.expected_wait(10_000, 1)), (seconds(1), seconds(60)));
        history.note_service(seconds(12));
        assert_eq!(history.expected_wait(0, 1), seconds(5));
    }
}
