//! What operators ask the daemon to do, and what they are told of it. Reloading is in `reload.rs`,
//! stopping in `stop.rs`.
use super::{ConnectionId, Daemon};
use crate::log::OPERATION;
use ipc::{Control, Failure, FailureKind, Response};
use policy::{Event, PoolId, WorkerState, WorkerView};

impl Daemon {
    pub(super) fn control(&mut self, id: ConnectionId, control: Control) {
        let Some(client) = self.connections.clients.get_mut(&id) else { return };
        if !client.is_operator {
            let text = "only root and the daemon's own user may do that";
            return self.reply(id, &Response::Failed(Failure::new(FailureKind::NotAllowed, text)));
        }
        client.awaits = true;
        match control {
            Control::Reload => self.reload(Some(id)),
            Control::Drain => self.drain(id),
            Control::EndDrain => {
                let line = match self.driver.policy.is_draining() {
                    true => "no longer draining: requests are taken again",
                    false => "there was no draining to be ended: requests are taken",
                };
                tracing::info!(target: OPERATION, "{line}");
                self.feed(Event::Drain(false));
                let ended = Failure::new(FailureKind::Cancelled, "somebody has ended the draining");
                for waiting in std::mem::take(&mut self.stopping.drains) {
                    self.reply(waiting, &Response::Failed(ended.clone()));
                }
                self.done(id, &[line.to_owned()]);
            }
            Control::Stop { now } => {
                self.stopping.stops.push(id);
                self.stop(now);
            }
            Control::Restart { model, slot } => match self.restart(model.as_deref(), slot) {
                Ok(lines) => self.done(id, &lines),
                Err(failure) => self.reply(id, &Response::Failed(failure)),
            },
        }
    }

    /// One line for somebody who waits for something.
    pub(super) fn notice(&self, id: ConnectionId, line: impl Into<String>) {
        if let Some(client) = self.connections.clients.get(&id) {
            client.outbox.send(&Response::Notice(line.into()));
        }
    }

    /// Tells somebody what was done, a line each.
    pub(super) fn done(&mut self, id: ConnectionId, lines: &[String]) {
        for line in lines {
            self.notice(id, line);
        }
        self.reply(id, &Response::Controlled);
    }

    fn drain(&mut self, id: ConnectionId) {
        tracing::info!(target: OPERATION, "draining");
        self.feed(Event::Drain(true));
        let (begun, _) = self.driver.policy.open_requests();
        if begun > 0 {
            self.notice(id, format!("waiting for what was begun: {}", count(begun, "request")));
        }
        self.stopping.drains.push(id);
    }

    /// Something that was begun is not finished: tells those who wait for that.
    pub(super) fn drained_in_vain(&mut self) {
        let text = "the supervisor was stopped before all was finished that had been begun";
        for id in std::mem::take(&mut self.stopping.drains) {
            self.reply(id, &Response::Failed(Failure::new(FailureKind::ShuttingDown, text)));
        }
    }

    /// Answers those who wait for something that has come about.
    pub(super) fn after_turn(&mut self) {
        if self.driver.policy.is_draining() && self.driver.policy.open_requests() == (0, 0) {
            for id in std::mem::take(&mut self.stopping.drains) {
                self.done(id, &["drained: nothing runs, and nothing is begun".to_owned()]);
            }
        }
        self.gather();
        if self.reloads.under_way.is_none()
            && let Some(askers) = self.reloads.again.take()
        {
            self.reload_for(askers);
        }
    }

    fn restart(&mut self, model: Option<&str>, slot: Option<u32>) -> Result<Vec<String>, Failure> {
        let pools = match (model, slot) {
            (None, None) => self.models.served().map(|(id, _)| id).collect(),
            _ => vec![self.find_model(model, None)?],
        };
        if let (Some(slot), [id]) = (slot, &pools[..]) {
            let pool = &self.models[*id];
            if slot >= pool.slots {
                let (name, last) = (&pool.config.name, pool.slots - 1);
                let text = format!("{name} has no slot {slot}; its slots are 0 to {last}");
                return Err(Failure::new(FailureKind::BadRequest, text));
            }
        }
        let lines = pools.iter().map(|id| self.describe_restart(*id, slot)).collect();
        for pool in pools {
            tracing::info!(target: OPERATION, model = self.models[pool].config.name, slot, "restarting workers");
            self.feed(Event::Restart { pool, slot });
        }
        Ok(lines)
    }

    /// What a restart is about to do.
    fn describe_restart(&self, id: PoolId, slot: Option<u32>) -> String {
        let (name, view) = (&self.models[id].config.name, self.driver.policy.pool(id));
        if !view.workers.iter().any(|worker| self.models[id].workers.contains_key(&worker.id.life)) {
            return format!("{name}: there is no worker now that could be replaced");
        }
        let Some(slot) = slot else {
            let there =
                view.workers.iter().filter(|worker| self.models[id].workers.contains_key(&worker.id.life)).count();
            let busy = view.workers.iter().filter(|worker| worker.request.is_some()).count();
            let workers = count(there, "worker");
            return match busy {
                0 => format!("{name}: {workers} to be replaced"),
                busy => format!("{name}: {workers} to be replaced, {busy} of them busy and first to finish"),
            };
        };
        let serving = view.workers.iter().find(|worker| worker.id.life.slot == slot);
        match serving.filter(|worker| !matches!(worker.state, WorkerState::Waiting { .. })) {
            None => format!("{name}: slot {slot} has no worker now that could be replaced"),
            Some(WorkerView { request: None, .. }) => format!("{name}: the worker of slot {slot} is replaced"),
            Some(WorkerView { request: Some(request), .. }) => {
                format!("{name}: the worker of slot {slot} is replaced; {request} goes on with another")
            }
        }
    }
}

/// So many of something.
pub(super) fn count(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}
