//! What is done now and then, and what signals ask for: boards are looked at, the socket file is
//! looked after, orphans are reaped, the service manager is told how things are.
use super::{Daemon, signals::Signalled};
use ipc::board::Word;
use nix::{
    sys::wait::{WaitPidFlag, waitpid},
    unistd::Pid,
};
use policy::Event;
use std::{
    collections::HashSet,
    sync::atomic::Ordering::Acquire,
    time::{Duration, Instant},
};
use system::proc;

/// How often the house is kept.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);
/// How long the service manager waits for what takes its time, from each time the house is kept.
const EXTENSION: Duration = Duration::from_secs(15);

impl Daemon {
    pub(super) fn signalled(&mut self, signal: Signalled) {
        match signal {
            Signalled::Stop => self.stop(false),
            Signalled::Reload => self.reload(None),
            // Children that are known are waited for by name; strangers can wait for the next
            // round.
            Signalled::ChildEnded => self.children.have_ended = true,
            Signalled::Nothing => tracing::info!("SIGUSR1 and SIGUSR2 mean nothing to the daemon"),
        }
    }

    /// Looks at the boards of the workers that serve.
    pub(super) fn observe(&mut self) {
        let now = Instant::now();
        let mut seen = Vec::new();
        for worker in self.models.values_mut().flat_map(|model| model.workers.values_mut()) {
            if worker.part.is_some() && self.driver.policy.kill_reason(worker.id).is_none() {
                worker.board.note_speed(now);
                seen.push((worker.id, worker.board.word(Word::Ticks).load(Acquire)));
            }
        }
        for (worker, ticks) in seen {
            self.feed(Event::Observed { worker, ticks });
        }
    }

    pub(super) async fn keep_house(&mut self) {
        if !self.is_stopping() {
            match self.connections.socket.heal() {
                Ok(false) => {}
                Ok(true) => tracing::warn!("the socket file had gone; listening on a new one"),
                Err(error) => tracing::error!("the socket file has gone: {}", system::foreign_text::chain(&error)),
            }
        }
        if std::mem::take(&mut self.children.have_ended) {
            self.reap_orphans();
        }
        self.watch_all();
        if self.driver.policy.needs_time() && (self.driver.policy.is_closing() || !self.notify.is_ready()) {
            self.notify.extend(EXTENSION);
        }
        self.say_status();
    }

    fn say_status(&mut self) {
        let line = self.summary();
        self.notify.status(line);
    }

    /// Tells the service manager what it waits for, once it is so.
    pub(super) fn announce(&mut self) {
        if self.is_stopping() {
            self.notify.stopping();
        } else if !self.notify.is_ready() && self.reloads.under_way.is_none() && self.driver.policy.is_ready() {
            // Who has waited for this looks at the status next.
            self.say_status();
            self.notify.ready();
        }
    }

    /// Tells the service manager that the daemon lives, if it does.
    pub(super) fn feed_watchdog(&mut self) {
        match self.driver.policy.stalled(self.driver.now()) {
            None => self.notify.watchdog(),
            Some(id) => {
                let model = &self.models[id].config.name;
                tracing::error!(model, "nothing moves any more: its processes were killed and do not end");
            }
        }
    }

    /// Reaps children that nobody knows: workers whose template died before it could speak of them.
    fn reap_orphans(&mut self) {
        if self.models.values().any(|model| model.template.as_ref().is_some_and(|template| template.is_forking())) {
            // One of them may be about to be introduced.
            self.children.have_ended = true;
            return;
        }
        let templates =
            self.models.values().filter_map(|model| model.template.as_ref().map(|template| &template.process));
        let workers =
            self.models.values().flat_map(|model| model.workers.values().filter_map(|worker| worker.process()));
        let known: HashSet<u32> =
            templates.chain(workers).chain(self.fronts.processes()).map(crate::process::Process::pid).collect();
        let Ok(children) = proc::children() else {
            // There is no descriptor left to look with.
            self.children.have_ended = true;
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
