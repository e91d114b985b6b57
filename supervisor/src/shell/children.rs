//! What templates and workers say, checked and turned into events. Nothing that they say is believed.
use super::{
    Shell,
    act::{describe, is_fault},
    request::Heard,
    template::{Template, TemplateSaid},
    worker::WorkerSaid,
};
use crate::{
    core::{Event, Isolation, TemplateId, TemplateState, WorkerId},
    process::{Exit, Process},
};
use ipc::{Forked, FromTemplate, FromWorker, Go, ModelKind, ToTemplate, ToWorker, status::Crash};
use std::{process, time::Instant};
use worker::chain;

/// Most tokens of a request, whatever a template says that its model can.
const MOST_CONTEXT: u32 = 1 << 20;

/// The longest vector that a model may make.
const MOST_DIMENSIONS: u32 = 16_384;

impl Shell {
    pub(super) fn hear_template(&mut self, id: TemplateId, said: TemplateSaid) {
        let pool = &mut self.pools[id.pool.0];
        if pool.template.as_ref().is_none_or(|template| template.id != id) {
            return;
        }
        match said {
            TemplateSaid::Message(FromTemplate::Ready(mut info)) => {
                info.context = info.context.min(MOST_CONTEXT);
                if info.kind == ModelKind::Embed && !(1..=MOST_DIMENSIONS).contains(&info.dimensions) {
                    let message = format!("its vectors would have {} numbers, which is not possible", info.dimensions);
                    return self.refuse_model(id, message);
                }
                if let Err(message) = self.admit_loaded(id.pool, &info) {
                    return self.refuse_model(id, message);
                }
                let pool = &mut self.pools[id.pool.0];
                tracing::info!(model = pool.config.name, load_ms = info.load_ms, context = info.context, "ready");
                pool.error = None;
                pool.info = Some(info);
                self.sample_template(id);
                self.feed(Event::TemplateReady(id));
            }
            TemplateSaid::Message(FromTemplate::Needs(needs)) => {
                if let Err(message) = self.admit(id.pool, needs) {
                    return self.refuse_model(id, message);
                }
                // One that has ended is about to be seen as such.
                let _sent = self.template(id).map(|template| template.send(&ToTemplate::Admit, &[]));
            }
            TemplateSaid::Message(FromTemplate::LoadFailed { message }) => self.load_failed(id, message),
            TemplateSaid::Message(
                FromTemplate::Forked(Forked { life, .. }) | FromTemplate::ForkFailed { life, .. },
            ) if pool.template.as_ref().and_then(Template::asked_for) != Some(life) => {
                tracing::error!(model = pool.config.name, "the template speaks of a worker that it was not asked for");
                pool.template.as_ref().inspect(|template| template.process.kill());
            }
            TemplateSaid::Message(FromTemplate::Forked(forked)) => {
                self.forked(id, WorkerId { pool: id.pool, life: forked.life }, forked.pid);
            }
            TemplateSaid::Message(FromTemplate::ForkFailed { life, message }) => {
                self.not_forked(WorkerId { pool: id.pool, life }, &message);
                self.next_fork(id);
            }
            TemplateSaid::Exited(exit, stderr) => self.template_exited(id, exit, stderr),
        }
    }

    fn load_failed(&mut self, id: TemplateId, message: String) {
        let pool = &mut self.pools[id.pool.0];
        tracing::error!(model = pool.config.name, "{message}");
        pool.error = Some(message);
        self.feed(Event::LoadFailed(id));
    }

    /// Does without a model that its template has loaded.
    fn refuse_model(&mut self, id: TemplateId, message: String) {
        if let Some(template) = self.template(id) {
            template.process.kill();
        }
        self.load_failed(id, message);
    }

    fn forked(&mut self, template: TemplateId, id: WorkerId, pid: u32) {
        let inputs = self.inputs.clone();
        let kind = self.pools[id.pool.0].kind();
        let Some(worker) = self.worker(id) else { return self.next_fork(template) };
        if worker.terminated {
            // It finds its socket closed.
            self.pools[id.pool.0].workers.remove(&id.life);
            self.events.push_back(Event::ForkFailed(id));
            return self.next_fork(template);
        }
        match worker.adopt(pid, kind, &inputs) {
            Ok(()) => {
                let pool = &self.pools[id.pool.0];
                let single = pool.isolation == Isolation::Request;
                let memory = pool.config.memory_per_worker;
                let go = Go { life: id.life, supervisor: process::id(), memory, single, threads: pool.spec.threads };
                if let Some(worker) = self.worker(id) {
                    worker.send(&ToWorker::Go(go));
                }
                self.events.push_back(Event::Forked(id));
            }
            // There is no descriptor to hold it by, it has ended already, or a stranger's pid was reported; what it was born with is closed, so
            // it ends.
            Err(error) => self.not_made(id, &error),
        }
        self.next_fork(template);
    }

    /// Has the template make the next worker that waits, and tells the core what has happened.
    fn next_fork(&mut self, id: TemplateId) {
        while let Some(Err((life, error))) = self.template(id).map(|template| template.answered()) {
            self.not_made(WorkerId { pool: id.pool, life }, &error);
        }
        self.settle();
    }

    fn template_exited(&mut self, id: TemplateId, exit: Exit, stderr: Vec<String>) {
        // That one which was let go ends is no crash.
        let is_unwanted = self.core.is_closing() || self.core.pool(id.pool).state == TemplateState::Cold;
        let pool = &mut self.pools[id.pool.0];
        let expected = pool.error.is_some() || is_unwanted;
        if let Some(template) = pool.template.take().filter(|_| !expected) {
            tracing::error!(model = pool.config.name, "the template has ended by {exit}");
            let pid = template.process.pid();
            pool.last_crash =
                Some(Crash { pid, slot: None, cause: exit.to_string(), at: timestamp(), request: None, stderr });
        }
        pool.template_memory = None;
        pool.template_memory_file = None;
        pool.need = None;
        pool.shortage = None;
        // Workers that have not been heard of end with it: their sockets are closed.
        pool.workers.retain(|_, worker| worker.process.is_some());
        self.feed(Event::TemplateExited(id));
    }

    pub(super) fn hear_worker(&mut self, id: WorkerId, said: WorkerSaid) {
        let Some(worker) = self.worker(id) else { return };
        match said {
            WorkerSaid::Exited(exit, stderr) => self.worker_exited(id, exit, stderr),
            // What it says after it was condemned does not count.
            WorkerSaid::Message(_) | WorkerSaid::Broken(_) if worker.killed.is_some() => {}
            WorkerSaid::Message(message) => {
                if let Err(reason) = self.hear_message(id, message) {
                    self.misbehaved(id, reason);
                }
            }
            WorkerSaid::Broken(error) => self.misbehaved(id, &chain(&error)),
        }
    }

    pub(super) fn misbehaved(&mut self, id: WorkerId, reason: &str) {
        tracing::warn!(model = self.pools[id.pool.0].config.name, worker = %id.life, "a worker misbehaves: {reason}");
        self.feed(Event::Misbehaved(id));
    }

    /// Acts on a message from a worker that is not condemned; `Err` says why it cannot be true.
    fn hear_message(&mut self, id: WorkerId, message: FromWorker) -> Result<(), &'static str> {
        const LIE: &str = "what it says of its request cannot be true";
        let pool = &mut self.pools[id.pool.0];
        let (Some(worker), Some(info)) = (pool.workers.get_mut(&id.life), &pool.info) else { return Ok(()) };
        let about = match &message {
            FromWorker::Hello { sandbox, .. } if worker.sandbox.is_none() => {
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
        let Some(request) = self.requests.get_mut(&about) else {
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
        match request.hear(part.number, message, info, Instant::now()).map_err(|_| LIE)? {
            Heard::Nothing => {}
            Heard::More(pieces) => {
                self.feed(Event::Streamed(id));
                self.deliver_all(about, &pieces);
            }
            Heard::Done(pieces) => {
                self.deliver_all(about, &pieces);
                self.ended(id, Event::Answered(id));
            }
            Heard::Refused => self.ended(id, Event::Rejected(id)),
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
        let pool = &mut self.pools[id.pool.0];
        let Some(worker) = pool.workers.remove(&id.life) else { return };
        pool.totals.worker_exits += 1;
        if let Some(request) = worker.part.and_then(|part| self.requests.get_mut(&part.request)) {
            request.worker_died(worker.reached());
        }
        let chosen = worker.killed.is_some_and(|reason| !is_fault(reason)) || worker.terminated;
        let crashed = !chosen && (!exit.is_clean() || worker.part.is_some() || worker.killed.is_some());
        if crashed {
            pool.totals.worker_crashes += 1;
            let cause = match worker.killed {
                Some(reason) => format!("{exit}: {}", describe(reason)),
                None => exit.to_string(),
            };
            tracing::warn!(model = pool.config.name, worker = %id.life, ?stderr, "a worker has ended by {cause}");
            pool.last_crash = Some(Crash {
                pid: worker.process.as_ref().map_or(0, Process::pid),
                slot: Some(id.life.slot),
                cause,
                at: timestamp(),
                request: worker.part.map(|part| part.request.to_string()),
                stderr,
            });
        }
        self.feed(Event::Exited { worker: id, clean: exit.is_clean() });
    }
}

/// This instant, in RFC 3339, to the millisecond.
fn timestamp() -> String {
    let now = jiff::Timestamp::now();
    now.round(jiff::Unit::Millisecond).unwrap_or(now).to_string()
}
