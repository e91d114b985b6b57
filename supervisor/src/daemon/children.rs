//! What templates and workers say, checked and turned into events. Nothing that they say is
//! believed.
use super::{
    Daemon, Input,
    effects::describe,
    helper::Helpers,
    identity,
    memory_shortage::{self, RecentMemory},
    open_request::WorkerReply,
    template_process::{Starter, TemplateProcess, TemplateSaid},
    worker_process::{MakeError, WorkerSaid},
};
use crate::{
    config::Confinement,
    process::{Exit, Process},
};
use ipc::{Forked, FromTemplate, FromWorker, Go, ModelInfo, ModelKind, Needs, ToWorker, status::Crash};
use policy::{Event, Identity, Isolation, Loaded, PoolId, TemplateId, TemplateState, WorkerId};
use std::{collections::HashSet, process, sync::Arc, time::Instant};
use system::{foreign_text::chain, proc};
use tokio::sync::mpsc;

/// Most tokens of a request, whatever a template says that its model can.
const MOST_CONTEXT: u32 = 1 << 20;

/// The longest vector that a model may make.
const MOST_DIMENSIONS: u32 = 16_384;

/// Most remarks of a template about its model.
const MOST_REMARKS: usize = 20;

/// What is told of a worker that sends what cannot be.
const BROKEN: &str = "it broke the protocol";

/// Where Landlock is required, what is told of a process without it.
const UNCONFINED: &str = "Landlock does not confine it, and the configuration says sandbox = \"require-landlock\"";

/// What children are made with, and how they are heard.
#[derive(Debug)]
pub(super) struct Children {
    pub(super) starter: Starter,
    pub(super) helpers: Helpers,
    pub(super) inputs: mpsc::Sender<Input>,
    /// Whether some have ended that nobody has waited for yet.
    pub(super) have_ended: bool,
    pub(super) memory: RecentMemory,
    /// The models of which some worker's memory is being looked at.
    pub(super) sampled: HashSet<PoolId>,
}

impl Daemon {
    pub(super) fn hear_template(&mut self, id: TemplateId, said: TemplateSaid) {
        let Some(model) = self.models.get_mut(id.pool) else { return };
        let Some(template) = model.template.as_ref().filter(|template| template.id == id) else { return };
        if template.only_opens && !matches!(said, TemplateSaid::Exited(..)) {
            return self.hear_opened(id, said);
        }
        match said {
            TemplateSaid::Message(FromTemplate::Ready(mut info)) => {
                info.context = info.context.min(MOST_CONTEXT);
                if info.kind == ModelKind::Embed && !(1..=MOST_DIMENSIONS).contains(&info.dimensions) {
                    let message = format!("its vectors would have {} numbers, which is not possible", info.dimensions);
                    return self.refuse_model(id, message);
                }
                let sandbox = &info.sandbox;
                if self.settings.supervisor.sandbox == Confinement::RequireLandlock && sandbox.landlock.is_none() {
                    return self.refuse_model(id, UNCONFINED.to_owned());
                }
                tracing::info!(model = model.config.name, %sandbox, landlock_version = sandbox.landlock, "confined");
                let identity = identity::now(&model.spec);
                if model.identity != Some(identity) {
                    return self.refuse_model(id, "its files have changed while they were being loaded".to_owned());
                }
                self.template_ready(id, identity, info);
            }
            TemplateSaid::Message(FromTemplate::Needs(needs)) => self.needs(id, needs),
            TemplateSaid::Message(FromTemplate::LoadFailed { message }) => self.load_failed(id, message),
            TemplateSaid::Message(
                FromTemplate::Forked(Forked { life, .. }) | FromTemplate::ForkFailed { life, .. },
            ) if model.template.as_ref().and_then(TemplateProcess::asked_for) != Some(life) => {
                tracing::error!(model = model.config.name, "the template speaks of a worker that it was not asked for");
                model.template.as_ref().inspect(|template| template.process.kill());
            }
            TemplateSaid::Message(FromTemplate::Forked(forked)) => {
                self.forked(id, WorkerId { pool: id.pool, life: forked.life }, forked.pid);
            }
            TemplateSaid::Message(FromTemplate::ForkFailed { life, message, is_shortage }) => {
                let worker = WorkerId { pool: id.pool, life };
                if is_shortage {
                    self.no_room(worker, &message)
                } else {
                    self.not_forked(worker, &message)
                }
                self.next_fork(id);
            }
            TemplateSaid::Exited(exit, stderr) => self.template_exited(id, exit, stderr),
        }
    }

    /// Hears a template that is to open its model and no more.
    fn hear_opened(&mut self, id: TemplateId, said: TemplateSaid) {
        // After its first word nothing that it says matters.
        if self.driver.policy.pool(id.pool).state != TemplateState::Loading {
            return;
        }
        let TemplateSaid::Message(said) = said else { return };
        match memory_shortage::asked(said) {
            Ok(Some(needs)) => self.needs(id, needs),
            Ok(None) => self.feed(Event::Examined(id)),
            Err(message) => self.refuse_model(id, message),
        }
    }

    /// A template says what its model needs, and waits.
    fn needs(&mut self, template: TemplateId, needs: Needs) {
        self.feed(Event::Needs { template, needs, memory: memory_shortage::memory() });
    }

    /// A template has loaded its model, and the daemon has nothing against that.
    fn template_ready(&mut self, id: TemplateId, identity: Identity, mut info: ModelInfo) {
        let model = &mut self.models[id.pool];
        let remarks = info.remarks.drain(..).take(MOST_REMARKS).collect::<Vec<_>>();
        let taken = model.template.as_ref().map_or(0, |template| proc::anonymous(template.process.pid()));
        let needs = Needs { weights: info.weights, cache: info.cache };
        let loaded = Loaded { identity, needs, taken, memory: memory_shortage::memory() };
        let info = Arc::new(info);
        model.error = None;
        model.info = Some(Arc::clone(&info));
        self.feed(Event::TemplateReady(id, loaded));
        if self.driver.policy.pool(id.pool).state != TemplateState::Warm {
            return;
        }
        let name = &self.models[id.pool].config.name;
        for remark in remarks {
            tracing::warn!(model = name, "{remark}");
        }
        #[expect(clippy::cast_precision_loss, reason = "milliseconds for people")]
        let load_s = info.load_ms as f64 / 1e3;
        tracing::info!(model = name, load_s, context = info.context, "ready");
        self.sample_template(id);
    }

    fn load_failed(&mut self, id: TemplateId, message: String) {
        self.not_loaded(id, message);
        self.feed(Event::LoadFailed(id));
    }

    /// Notes why a model is not there.
    pub(super) fn not_loaded(&mut self, id: TemplateId, message: String) {
        let model = &mut self.models[id.pool];
        tracing::error!(model = model.config.name, "{message}");
        model.error = Some(message);
    }

    /// Does without a model that its template has loaded.
    fn refuse_model(&mut self, id: TemplateId, message: String) {
        if let Some(template) = self.template(id) {
            template.process.kill();
        }
        self.load_failed(id, message);
    }

    fn forked(&mut self, template: TemplateId, id: WorkerId, pid: u32) {
        let inputs = self.children.inputs.clone();
        let model = &self.models[id.pool];
        let (kind, single) = (model.kind(), model.isolation() == Isolation::Request);
        let is_terminating = self.driver.policy.is_terminating(id);
        let is_killed = self.driver.policy.kill_reason(id).is_some();
        let Some(worker) = self.worker(id) else { return self.next_fork(template) };
        if is_terminating {
            // It finds its socket closed.
            self.models[id.pool].workers.remove(&id.life);
            self.driver.note(Event::ForkFailed(id));
            return self.next_fork(template);
        }
        match worker.adopt(pid, kind, &inputs) {
            Ok(()) => {
                let go = Go { supervisor: process::id(), memory: worker.memory.limit, single };
                worker.send(&ToWorker::Go(go));
                if is_killed {
                    worker.kill();
                }
                self.driver.note(Event::Forked(id));
            }
            // There is no descriptor to hold it by, it has ended already, or a stranger's pid was
            // reported; what it was born with is closed, so it ends.
            Err(error) => self.not_made(id, &error),
        }
        self.next_fork(template);
    }

    /// Has the template make the next worker that waits, and tells the policy what has happened.
    fn next_fork(&mut self, id: TemplateId) {
        while let Some(Err((life, error))) = self.template(id).map(|template| template.answered()) {
            self.not_made(WorkerId { pool: id.pool, life }, &MakeError::Ask(error));
        }
        self.act_all();
    }

    fn template_exited(&mut self, id: TemplateId, exit: Exit, stderr: Vec<String>) {
        let is_crash = self.driver.policy.is_template_crash(id);
        let model = &mut self.models[id.pool];
        if let Some(template) = model.template.take().filter(|_| is_crash) {
            let pid = template.process.pid();
            let cause = if template.process.was_killed() { exit.to_string() } else { exit.unasked() };
            let said = Some(stderr.join("\n")).filter(|said| !said.is_empty());
            tracing::error!(
                model = model.config.name,
                template_pid = pid,
                stderr = said,
                "the template has ended by {cause}"
            );
            model.history.last_crash = Some(Crash { pid, slot: None, cause, at: timestamp(), request: None, stderr });
        }
        model.shortage = None;
        // Workers that have not been heard of end with it: their sockets are closed.
        model.workers.retain(|_, worker| worker.process().is_some());
        self.feed(Event::TemplateExited(id));
    }

    pub(super) fn hear_worker(&mut self, id: WorkerId, said: WorkerSaid) {
        if self.worker(id).is_none() {
            return;
        }
        match said {
            WorkerSaid::Exited(exit, stderr) => self.worker_exited(id, exit, stderr),
            // What it says after it was condemned does not count.
            WorkerSaid::Message(_) | WorkerSaid::Broken(_) if self.driver.policy.kill_reason(id).is_some() => {}
            WorkerSaid::Message(message) => {
                if let Err(reason) = self.hear_message(id, message) {
                    self.misbehaved(id, format!("{BROKEN}: {reason}"));
                }
            }
            WorkerSaid::Broken(error) => self.misbehaved(id, format!("{BROKEN}: {}", chain(&error))),
        }
    }

    /// Has a worker that did something wrong ended.
    pub(super) fn misbehaved(&mut self, id: WorkerId, misbehaviour: String) {
        if let Some(worker) = self.worker(id) {
            worker.misbehaviour.get_or_insert(misbehaviour);
        }
        self.feed(Event::Misbehaved(id));
    }

    /// Acts on a message from a worker that is not condemned; `Err` says why it cannot be true.
    fn hear_message(&mut self, id: WorkerId, message: FromWorker) -> Result<(), &'static str> {
        const LIE: &str = "what it says of its request cannot be true";
        let model = &mut self.models[id.pool];
        let Some(worker) = model.workers.get_mut(&id.life) else { return Ok(()) };
        let about = match &message {
            FromWorker::Hello { sandbox, .. } if worker.sandbox.is_none() => {
                if self.settings.supervisor.sandbox == Confinement::RequireLandlock && sandbox.landlock.is_none() {
                    self.misbehaved(id, UNCONFINED.to_owned());
                    return Ok(());
                }
                worker.sandbox = Some(sandbox.to_string());
                self.feed(Event::Ready(id));
                return Ok(());
            }
            FromWorker::Hello { .. } => return Err("it says hello again"),
            FromWorker::Prompt { request, .. }
            | FromWorker::Token { request, .. }
            | FromWorker::Done { request, .. }
            | FromWorker::Failed { request, .. }
            | FromWorker::Vectors { request, .. }
            | FromWorker::Embedded { request, .. }
            | FromWorker::Tokenized { request, .. } => *request,
        };
        let Some(part) = worker.part.filter(|part| part.request == about) else {
            return Err("it speaks of a request that it does not serve");
        };
        let Some(request) = self.requests.open.get_mut(&about) else {
            // It has ended, by its client's leaving; its worker may not know that yet.
            match message {
                FromWorker::Hello { .. }
                | FromWorker::Prompt { .. }
                | FromWorker::Token { .. }
                | FromWorker::Vectors { .. } => {}
                FromWorker::Done { .. } | FromWorker::Embedded { .. } | FromWorker::Tokenized { .. } => {
                    self.ended(id, Event::Answered(id));
                }
                FromWorker::Failed { .. } => self.ended(id, Event::Rejected(id)),
            }
            return Ok(());
        };
        match request.hear(part.number, message, &worker.origin.info, Instant::now()).map_err(|_| LIE)? {
            WorkerReply::Started { prompt_tokens } => self.started(about, prompt_tokens),
            WorkerReply::More(pieces) => {
                self.feed(Event::Streamed(id));
                self.deliver_all(about, &pieces);
            }
            WorkerReply::Done(pieces) => {
                self.deliver_all(about, &pieces);
                self.ended(id, Event::Answered(id));
            }
            WorkerReply::Refused => self.ended(id, Event::Rejected(id)),
        }
        Ok(())
    }

    /// Notes that a worker is done with its part of a request.
    fn ended(&mut self, id: WorkerId, event: Event) {
        if let Some(worker) = self.worker(id) {
            worker.part = None;
        }
        self.feed(event);
    }

    fn worker_exited(&mut self, id: WorkerId, exit: Exit, stderr: Vec<String>) {
        let model = &mut self.models[id.pool];
        let Some(worker) = model.workers.remove(&id.life) else { return };
        model.history.totals.worker_exits += 1;
        if let Some(request) = worker.part.and_then(|part| self.requests.open.get_mut(&part.request)) {
            request.worker_died(worker.board.reached());
        }
        if self.driver.policy.is_worker_crash(id, exit.is_clean()) {
            model.history.totals.worker_crashes += 1;
            let cause = match self.driver.policy.kill_reason(id) {
                Some(reason) => format!("{exit}: {}", worker.misbehaviour.as_deref().unwrap_or(describe(reason))),
                None => exit.to_string(),
            };
            let pid = worker.process().map_or(0, Process::pid);
            let request = worker.part.map(|part| tracing::field::display(part.request));
            // What has seen prompts may repeat them.
            let tells = !worker.has_seen_requests || self.requests.prompts.are_full();
            let stderr_lines = Some(stderr.len()).filter(|lines| !tells && *lines > 0);
            let said = Some(stderr.join("\n")).filter(|said| tells && !said.is_empty());
            tracing::warn!(
                model = model.config.name,
                worker = %id.life,
                worker_pid = pid,
                request,
                stderr_lines,
                stderr = said,
                "a worker has ended by {cause}"
            );
            model.history.last_crash = Some(Crash {
                pid,
                slot: Some(id.life.slot),
                cause,
                at: timestamp(),
                request: worker.part.map(|part| part.request.to_string()),
                stderr,
            });
        }
        self.feed(Event::Exited(id));
    }
}

/// This instant, in RFC 3339, to the millisecond.
#[expect(clippy::disallowed_methods, reason = "it is for people")]
pub(super) fn timestamp() -> String {
    let now = jiff::Timestamp::now();
    now.round(jiff::Unit::Millisecond).unwrap_or(now).to_string()
}
