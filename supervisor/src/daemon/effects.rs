//! The policy's effects, done.
use super::{
    Daemon,
    access_log::{self, Class},
    identity, memory_shortage,
    open_request::{NamedModel, ServedBy},
    template_process::TemplateProcess,
    worker_process::{MakeError, Origin, WorkerProcess},
};
use crate::{
    process::Process,
    shortage::{chain_with_limit, is_shortage},
};
use ipc::{RequestId, Response, ToTemplate, board::Word};
use policy::{Effect, Event, KillReason, Outcome, Part, TemplateId, WorkerId, client_limits};
use std::{
    sync::atomic::Ordering::{Acquire, Relaxed},
    time::Instant,
};

impl Daemon {
    /// Does one effect. What happens because of it is queued as an event.
    pub(super) fn act(&mut self, effect: Effect) {
        match effect {
            Effect::StartFront { front, is_staged } => self.start_front(front, is_staged),
            Effect::KillFront(id) => self.kill_front(id),
            Effect::FinishFront(id) => self.finish_front(id),
            Effect::Load(id) => self.start_template(id, false),
            Effect::Examine(id) => self.start_template(id, true),
            Effect::Admit(id) => {
                // One that has ended is about to be seen as such.
                let _sent = self.template(id).map(|template| template.send(&ToTemplate::Admit, &[]));
            }
            Effect::DoesNotFit(id, shortage) => self.not_loaded(id, memory_shortage::describe(&shortage)),
            Effect::ReadMemory(id) => self.driver.note(Event::MemoryRead(id, self.children.memory.get())),
            Effect::NoMemory(id, shortage) => self.note_shortage(id, &memory_shortage::describe(&shortage)),
            Effect::KillTemplate(id) => {
                if let Some(template) = self.template(id) {
                    template.process.kill();
                }
            }
            Effect::Fork { template, worker } => self.fork(template, worker),
            Effect::Dispatch { to, part, attempt } => self.dispatch(to, part, attempt),
            Effect::SetBudget { worker, threads } => {
                if let Some(worker) = self.worker(worker) {
                    worker.board.word(Word::Budget).store(threads.into(), Relaxed);
                }
            }
            Effect::ReadThreads(id) => {
                if let Some(worker) = self.worker(id) {
                    let threads = worker.board.word(Word::Threads).load(Acquire).try_into().unwrap_or(u32::MAX);
                    self.driver.note(Event::ThreadsUsed { worker: id, threads });
                }
            }
            Effect::StopRequest { worker, request } => {
                if let Some(worker) = self.worker(worker) {
                    worker.board.word(Word::Stop).store(request.0.saturating_add(1), Relaxed);
                }
            }
            Effect::Terminate(id) => {
                if let Some(worker) = self.worker(id) {
                    worker.terminate();
                }
            }
            Effect::Kill { worker, reason } => self.kill(worker, reason),
            Effect::Accepted(request) => self.accepted(request),
            Effect::Finish { request, outcome } => self.finish(request, outcome),
            Effect::Moved { request, to } => {
                if let Some(request) = self.requests.open.get_mut(&request) {
                    request.pool = to;
                }
            }
            Effect::Reloaded => self.reloaded(),
            Effect::ReloadRefused(refusal) => self.reload_refused(refusal),
            Effect::Removed(pool) => self.forget_pool(pool),
            Effect::Halt => self.halt(),
        }
    }

    pub(super) fn template(&mut self, id: TemplateId) -> Option<&mut TemplateProcess> {
        self.models.get_mut(id.pool)?.template.as_mut().filter(|template| template.id == id)
    }

    pub(super) fn worker(&mut self, id: WorkerId) -> Option<&mut WorkerProcess> {
        self.models.get_mut(id.pool)?.workers.get_mut(&id.life)
    }

    fn start_template(&mut self, id: TemplateId, only_opens: bool) {
        let model = &mut self.models[id.pool];
        let what = if only_opens { "looking whether it can be loaded" } else { "loading" };
        tracing::info!(model = model.config.name, path = %model.spec.source, "{what}");
        model.identity = Some(identity::now(&model.spec));
        match TemplateProcess::start(&self.children.starter, id, &model.spec, only_opens, self.children.inputs.clone())
        {
            Ok(template) => {
                model.error = None;
                model.template = Some(template);
            }
            Err(error) => {
                self.not_loaded(id, format!("cannot start a template: {}", chain_with_limit(&error)));
                self.driver.note(Event::LoadFailed(id));
                self.driver.note(Event::TemplateExited(id));
            }
        }
    }

    fn fork(&mut self, template: TemplateId, id: WorkerId) {
        let model = &mut self.models[id.pool];
        let (Some(info), Some(identity)) = (model.info.clone(), model.identity) else {
            return self.not_forked(id, "its template has loaded nothing");
        };
        let origin = Origin { info, identity };
        let fds = match WorkerProcess::prepare(id, origin, model.config.memory_per_worker, Instant::now()) {
            Ok((worker, fds)) => {
                model.workers.insert(id.life, worker);
                fds
            }
            Err(error) => return self.no_room(id, &chain_with_limit(&error)),
        };
        let asked = match self.template(template) {
            Some(template) => template.fork(id.life, fds).map_err(|(_, error)| MakeError::Ask(error)),
            None => Err(MakeError::NoTemplate),
        };
        match asked {
            Ok(()) => self.models[id.pool].shortage = None,
            Err(error) => self.not_made(id, &error),
        }
    }

    /// Notes that a worker will not come, for this reason.
    pub(super) fn not_made(&mut self, id: WorkerId, error: &MakeError) {
        let reason = chain_with_limit(error);
        if is_shortage(error) { self.no_room(id, &reason) } else { self.not_forked(id, &reason) }
    }

    /// Notes that there is nothing to make a worker of now.
    pub(super) fn no_room(&mut self, id: WorkerId, reason: &str) {
        self.note_shortage(id, reason);
        self.models[id.pool].workers.remove(&id.life);
        self.driver.note(Event::Shortage(id));
    }

    /// Notes why a worker is missing.
    fn note_shortage(&mut self, id: WorkerId, reason: &str) {
        let model = &mut self.models[id.pool];
        if model.shortage.is_none() {
            tracing::warn!(model = model.config.name, worker = %id.life, "no room for a worker: {reason}");
        }
        model.shortage = Some(format!("no room for another worker now: {reason}"));
    }

    /// Notes that a worker will not come.
    pub(super) fn not_forked(&mut self, id: WorkerId, reason: &str) {
        let model = &mut self.models[id.pool];
        tracing::error!(model = model.config.name, worker = %id.life, "cannot fork a worker: {reason}");
        model.workers.remove(&id.life);
        self.driver.note(Event::ForkFailed(id));
    }

    fn dispatch(&mut self, to: WorkerId, part: Part, attempt: u32) {
        let Some(request) = self.requests.open.get_mut(&part.request) else { return };
        let model = &mut self.models[to.pool];
        let Some(worker) = model.workers.get_mut(&to.life) else { return };
        if request.has_begun(part.number) {
            model.history.totals.resumed += 1;
        } else if attempt > 1 {
            model.history.totals.replayed += 1;
        }
        let server = ServedBy { life: to.life, pid: worker.process().map(Process::pid) };
        let (job, cache) = request.job(part.number, server, &worker.origin, Instant::now());
        worker.board.forget_speed();
        worker.part = Some(part);
        worker.has_seen_requests = true;
        worker.send_with(&job, cache);
    }

    fn kill(&mut self, id: WorkerId, reason: KillReason) {
        let model = &mut self.models[id.pool];
        let Some(worker) = model.workers.get_mut(&id.life) else { return };
        if reason == KillReason::TooMuchMemory {
            let size = |bytes| bytesize::ByteSize::b(bytes).display().iec();
            let (taken, limit) = (size(worker.memory.own()), size(worker.memory.limit));
            worker.misbehaviour = Some(format!("it took {taken} of memory for itself, and {limit} are allowed"));
        }
        if reason.is_fault() {
            let why = worker.misbehaviour.as_deref().unwrap_or(describe(reason));
            // That it has ended, and why, is told when it has.
            tracing::debug!(model = model.config.name, worker = %id.life, "killing a worker: {why}");
        }
        worker.kill();
    }

    fn finish(&mut self, id: RequestId, outcome: Outcome) {
        let Some(mut request) = self.requests.open.remove(&id) else { return };
        let model = &mut self.models[request.pool];
        *Class::of(outcome, request.was_begun()).count(&mut model.history.totals) += 1;
        if outcome == Outcome::ShuttingDown && request.was_begun() {
            self.drained_in_vain();
        }
        let now = Instant::now();
        if let Some(took) = request.service(now).filter(|_| outcome == Outcome::Answered) {
            self.models[request.pool].history.note_service(took);
        }
        let policy_now = self.driver.now();
        let model = &self.models[request.pool];
        let waiting = self.driver.policy.queued(request.pool);
        let model = NamedModel {
            name: &model.config.name,
            error: model.error.as_deref(),
            shortage: model.shortage.as_deref(),
            expected_wait: model.history.expected_wait(waiting, model.slots),
        };
        let response = request.last_message(outcome, &model, policy_now, now);
        let client = self.connections.clients.get(&request.client);
        access_log::ended(&request, outcome, &response, model.name, client, &self.requests.prompts, now);
        // A client whose request was withdrawn is told nothing more of it.
        let client = self.connections.clients.get_mut(&request.client).filter(|client| client.active == Some(id));
        if let Some(client) = client {
            client.active = None;
            client.outbox.send(&response);
            self.rests(request.client);
        }
    }

    /// Tells a front, which answers its own clients late, that a request will be computed.
    pub(super) fn started(&self, id: RequestId, prompt_tokens: u32) {
        let client = self.requests.open.get(&id).and_then(|request| self.connections.clients.get(&request.client));
        if let Some(client) = client.filter(|client| client.front.is_some()) {
            client.outbox.send(&Response::Started { prompt_tokens });
        }
    }

    /// Sends pieces to the request's client. No more of a batch is begun for one that takes them
    /// slowly; one that does not take them is forgotten.
    pub(super) fn deliver_all(&mut self, id: RequestId, pieces: &[Response]) {
        for piece in pieces {
            if !self.deliver(id, piece) {
                if let Some(client) = self.requests.open.get(&id).map(|request| request.client) {
                    self.forget(client);
                }
                return;
            }
        }
        let Some(request) = self.requests.open.get(&id) else { return };
        let outbox = self.connections.clients.get(&request.client).map(|client| &client.outbox);
        if let Some(outbox) = outbox.filter(|outbox| request.is_blocked_by(outbox.queued())) {
            outbox.tell_when_caught_up();
            self.feed(Event::Blocked { request: id, is_blocked: true });
        }
    }

    /// Sends one piece to the request's client, unless it has too much that it has not taken. Says
    /// whether it could.
    fn deliver(&self, id: RequestId, piece: &Response) -> bool {
        let Some(request) = self.requests.open.get(&id) else { return false };
        let model = &self.models[request.pool];
        let limit = request.outbox_limit(model.info.as_deref(), model.slots);
        let Some(client) = self.connections.clients.get(&request.client) else { return false };
        let queued = client.outbox.queued();
        let fits = client_limits::may_be_sent_more(queued, limit, self.connections.queued.load(Relaxed));
        if fits {
            client.outbox.send(piece);
        }
        fits
    }
}

/// The reason in words.
pub(super) fn describe(reason: KillReason) -> &'static str {
    match reason {
        KillReason::StartTimeout => "it did not become ready in time",
        KillReason::ProgressTimeout => "it made no progress",
        KillReason::RequestTimeout => "its request took too long",
        KillReason::Cancelled => "its request has ended",
        KillReason::Misbehaved => "it misbehaved",
        KillReason::TooMuchMemory => "it took too much memory",
        KillReason::Lingered => "it did not exit",
        KillReason::Shutdown => "the supervisor is stopping",
        KillReason::Restarted => "another is to take its place",
    }
}
