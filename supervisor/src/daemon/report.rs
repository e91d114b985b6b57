//! The status document. Making it reads what is known already; it loads nothing and waits for
//! nothing.
use super::{Daemon, served_model::ServedModel, worker_process::WorkerProcess};
use ipc::{
    Life, ModelKind, RequestId,
    board::{Phase, Word},
    status::{ModelStatus, QueueStatus, Status, TemplateStatus, WorkerStatus},
};
use policy::{Isolation, PoolId, PoolView, TemplateState, Time, WorkerState, WorkerView};
use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

impl Daemon {
    /// The status.
    pub(super) fn report(&self) -> Status {
        let (now, policy_now) = (Instant::now(), self.driver.now());
        let models = self.models.iter();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: seconds(self.driver.started.elapsed()),
            cores: self.settings.cores as usize,
            models: models.map(|(id, served)| self.model(id, served, now, policy_now)).collect(),
            state: self.state().to_owned(),
            reload_error: self.reloads.error.clone(),
            http: self.fronts.status(self.driver.policy.front()),
        }
    }

    fn model(&self, id: PoolId, served: &ServedModel, now: Instant, policy_now: Time) -> ModelStatus {
        let mut model = model(served, &self.driver.policy.pool(id), self.settings.supervisor.queue, now, policy_now);
        for worker in &mut model.workers {
            let request = worker.request.as_ref().and_then(|name| name.strip_prefix("req-")?.parse().ok());
            let request = request.and_then(|number| self.requests.open.get(&RequestId(number)));
            let client = request.and_then(|request| self.connections.clients.get(&request.client));
            worker.owner = client.and_then(|client| client.asker().owner());
        }
        if !self.models.is_served(id) && !self.is_tried(id) {
            "draining".clone_into(&mut model.state);
        }
        model
    }

    /// What the daemon does.
    fn state(&self) -> &'static str {
        if self.is_stopping() {
            "stopping"
        } else if self.driver.policy.is_draining() {
            "draining"
        } else if self.reloads.under_way.is_some() {
            "reloading"
        } else {
            "serving"
        }
    }

    /// The status in one short line, however many models there are.
    pub(super) fn summary(&self) -> String {
        let (mut warm, mut loading, mut failed, mut cold) = (0, 0, 0, 0);
        let (mut busy, mut waiting, mut slots) = (0, 0, 0);
        for (id, served) in self.models.served() {
            let view = self.driver.policy.pool(id);
            *match view.state {
                TemplateState::Warm => &mut warm,
                TemplateState::Loading | TemplateState::Waiting { .. } => &mut loading,
                TemplateState::Failed { .. } | TemplateState::Parked { .. } => &mut failed,
                TemplateState::Cold | TemplateState::Stopped => &mut cold,
            } += 1;
            busy += view.workers.iter().filter(|worker| worker.state == WorkerState::Busy).count();
            waiting += view.queued;
            slots += served.slots;
        }
        let models = [(warm, "warm"), (loading, "loading"), (failed, "failed"), (cold, "cold")];
        let models =
            models.into_iter().filter(|(count, _)| *count > 0).map(|(count, state)| format!("{count} {state}"));
        let models = models.collect::<Vec<_>>().join(", ");
        format!("models: {models}; workers: {busy} of {slots} busy; requests waiting: {waiting}")
    }
}

fn model(served: &ServedModel, view: &PoolView, queue_limit: usize, now: Instant, policy_now: Time) -> ModelStatus {
    let (state, retry_at) = match view.state {
        TemplateState::Loading | TemplateState::Waiting { .. } => ("loading", None),
        TemplateState::Warm => ("warm", None),
        TemplateState::Failed { retry_at } => ("failed", Some(retry_at)),
        TemplateState::Parked { retry_at } => ("parked", Some(retry_at)),
        TemplateState::Cold | TemplateState::Stopped => ("cold", None),
    };
    let is_warm = view.state == TemplateState::Warm;
    let load_s = served.info.as_ref().map(|info| seconds(Duration::from_millis(info.load_ms)));
    let template = served.template.as_ref().map(|template| TemplateStatus {
        pid: template.process.pid(),
        load_s: load_s.filter(|_| is_warm),
        pss_bytes: template.memory.map(|(sample, _)| sample.proportional),
        generation: template.id.generation,
        sandbox: served.info.as_ref().filter(|_| is_warm).map(|info| info.sandbox.to_string()),
    });
    let kind = match served.kind() {
        ModelKind::Generate => "generate",
        ModelKind::Embed => "embed",
    };
    let isolation = match served.isolation() {
        Isolation::Request => "request",
        Isolation::Worker => "worker",
    };
    ModelStatus {
        name: served.config.name.clone(),
        kind: kind.to_owned(),
        state: state.to_owned(),
        error: served.error.clone().or_else(|| served.shortage.clone()),
        // One that is tried again when it is asked for may be late.
        retry_in_s: retry_at.filter(|at| *at > policy_now).map(|at| seconds(at.since(policy_now))),
        path: served.spec.source.to_string(),
        architecture: served.info.as_ref().map(|info| info.architecture.clone()),
        context: served.info.as_ref().map(|info| info.context),
        isolation: isolation.to_owned(),
        weights_bytes: served.info.as_ref().map(|info| info.weights),
        template,
        queue: QueueStatus {
            length: view.queued,
            limit: queue_limit,
            oldest_s: view.oldest.map_or(0.0, |at| seconds(policy_now.since(at))),
        },
        workers: view.workers.iter().map(|view| worker(view, served, now)).collect(),
        totals: served.history.totals,
        last_crash: served.history.last_crash.clone(),
    }
}

fn worker(view: &WorkerView, served: &ServedModel, now: Instant) -> WorkerStatus {
    let Life { slot, generation } = view.id.life;
    let process: Option<&WorkerProcess> = served.workers.get(&view.id.life);
    let word = |word| process.map_or(0, |process| process.board.word(word).load(Relaxed));
    let busy = view.request.is_some();
    let memory = process.and_then(|process| process.memory.seen);
    let state = match view.state {
        WorkerState::Starting => "starting",
        WorkerState::Idle => "idle",
        WorkerState::Busy => "busy",
        WorkerState::Spare => "spare",
        WorkerState::Stopping => "stopping",
        WorkerState::Waiting { .. } => "waiting",
    };
    WorkerStatus {
        slot,
        generation,
        pid: process.and_then(WorkerProcess::process).map(crate::process::Process::pid),
        state: state.to_owned(),
        request: view.request.map(|request| request.to_string()),
        owner: None,
        phase: Phase::from_word(word(Word::Phase)).filter(|_| busy).map(|phase| phase.name().to_owned()),
        age_s: process.map_or(0.0, |process| seconds(now.duration_since(process.forked_at))),
        prompt_tokens: if busy { word(Word::PromptDone) } else { 0 },
        tokens: if busy { word(Word::Generated) } else { 0 },
        tokens_per_s: process.filter(|_| busy).and_then(|process| process.board.tokens_per_second()),
        threads: word(Word::Threads),
        private_bytes: memory.map(|(sample, _)| sample.private),
        pss_bytes: memory.map(|(sample, _)| sample.proportional),
        memory_age_s: memory.map(|(_, taken)| seconds(now.duration_since(taken))),
        sandbox: process.and_then(|process| process.sandbox.clone()),
    }
}

/// To the millisecond, which is as much as people read.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e3).round() / 1e3
}
