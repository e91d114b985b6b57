//! Somebody who does one fault after the other and waits each time until the daemon has recovered
//! from it.
use super::{
    catalogue::{Case, Catalogue, Pool},
    fault::Fault,
    harness::{Harness, Watch},
    load::{Tally, ask_script},
};
use crate::{SmallDisk, exchange::Outcome, process, random::Random, wait::pause};
use ipc::status::{ModelStatus, Status, WorkerStatus};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

/// What one fault came to: how long the daemon took to recover, or nothing if its victim was gone
/// before.
pub(crate) type Struck = Result<Option<Duration>, String>;

/// The injector, and what it keeps count of.
pub(crate) struct Injector<'a> {
    pub(super) harness: &'a Harness<'a>,
    catalogue: &'a Catalogue,
    pub(super) disk: Option<&'a SmallDisk>,
    pub(super) watch: Watch<'a>,
    pub(super) random: Random,
    /// What has become of the requests of its own.
    pub(crate) tally: Tally,
    /// How long recovering from each fault took.
    pub(crate) recoveries: Vec<(Fault, Duration)>,
    /// Which part of the campaign it does.
    part: usize,
    scripts: u64,
}

/// A worker, as it was seen before it was struck.
struct Victim {
    slot: u32,
    generation: u64,
    pid: u32,
}

impl<'a> Injector<'a> {
    pub(crate) fn new(
        harness: &'a Harness<'a>,
        catalogue: &'a Catalogue,
        disk: Option<&'a SmallDisk>,
        part: usize,
        random: Random,
    ) -> Injector<'a> {
        let (tally, recoveries) = (Tally::default(), Vec::new());
        Injector { harness, catalogue, disk, watch: Watch::new(harness), random, tally, recoveries, part, scripts: 0 }
    }

    /// Does rounds of faults, in any order, while `goes_on` says so and nothing is wrong.
    pub(crate) fn strike(&mut self, is_inside: bool, mut goes_on: impl FnMut() -> bool) {
        while goes_on() && !self.harness.is_over() {
            let mut round = Fault::round(is_inside);
            self.random.shuffle(&mut round);
            for fault in round {
                self.let_work();
                if self.harness.is_over() {
                    return;
                }
                match self.once(fault) {
                    Ok(Some(took)) => self.recoveries.push((fault, took)),
                    Ok(None) => {}
                    Err(what) => self.harness.wrong(format!("{fault:?}: {what}")),
                }
            }
        }
    }

    /// Lets clients go on for a while.
    pub(crate) fn let_work(&mut self) {
        self.harness.let_work(&mut self.random);
    }

    fn once(&mut self, fault: Fault) -> Struck {
        match fault {
            Fault::Kill => self.hit(Signal::SIGKILL, 1, true),
            Fault::KillAny => self.hit(Signal::SIGKILL, 1, false),
            Fault::KillTwo => self.hit(Signal::SIGKILL, 2, false),
            Fault::Segfault => self.hit(Signal::SIGSEGV, 1, true),
            Fault::Stop => self.hit(Signal::SIGSTOP, 1, true),
            Fault::KillTemplate => self.kill_template(false),
            Fault::KillTemplateAndWorker => self.kill_template(true),
            Fault::Leave => self.leave(),
            Fault::HalfFrame => self.half_frame(),
            Fault::FullDisk => self.full_disk(),
            Fault::DeletedSocket => self.delete_socket(),
            Fault::Descriptors => self.no_descriptors(),
            Fault::Crowd => self.crowd(),
            Fault::StopSupervisor => self.stop_supervisor(),
            Fault::Spin => self.script("spin@3"),
            Fault::Hog => self.script("memory@3"),
            Fault::Crash => {
                let action = *self.random.choose(&["segv", "kill", "crash", "exit-7", "garbage"]);
                let moment = *self.random.choose(&["start", "prompt", "1", "9"]);
                self.script(&format!("{action}@{moment}"))
            }
        }
    }

    /// One of the models whose requests are counted.
    fn pool(&mut self) -> Pool {
        *self.random.choose(&[Pool::Text, Pool::Text, Pool::Text, Pool::Vectors])
    }

    /// Sends a signal to so many workers of a model, and waits until their slots have other lives
    /// that serve.
    pub(crate) fn hit(&mut self, signal: Signal, count: usize, only_busy: bool) -> Struck {
        let pool = self.pool();
        let harness = self.harness;
        let _charged = harness.expected(pool).strike(count as u32);
        let mut victims = Vec::new();
        let is_victim = |worker: &&WorkerStatus| worker.pid.is_some() && (!only_busy || worker.state == "busy");
        let status = self.watch.until("there is somebody to strike", |status| {
            harness.is_over() || model(status, pool).workers.iter().filter(is_victim).count() >= count
        })?;
        let mut workers: Vec<&WorkerStatus> = model(&status, pool).workers.iter().filter(is_victim).collect();
        self.random.shuffle(&mut workers);
        let began = Instant::now();
        for worker in workers.into_iter().take(count) {
            let victim = Victim { slot: worker.slot, generation: worker.generation, pid: worker.pid.unwrap_or(0) };
            if self.signal(victim.pid, signal) {
                victims.push(victim);
            }
        }
        let is_over = |status: &Status| {
            victims.iter().all(|victim| {
                if signal == Signal::SIGSEGV {
                    // The first one may only take away the handler that the runtime has for it.
                    process::kill(victim.pid, signal);
                }
                is_replaced(model(status, pool), victim)
            })
        };
        self.watch.until("the next lives serve", is_over)?;
        Ok((!victims.is_empty()).then(|| began.elapsed()))
    }

    fn kill_template(&mut self, and_worker: bool) -> Struck {
        let pool = self.pool();
        let harness = self.harness;
        let _charged = and_worker.then(|| harness.expected(pool).strike(1));
        let status = self.watch.until("there is a template", |status| model(status, pool).template.is_some())?;
        let Some(template) = &model(&status, pool).template else { return Ok(None) };
        let began = Instant::now();
        if !self.signal(template.pid, Signal::SIGKILL) {
            return Ok(None);
        }
        if and_worker {
            let busy = model(&status, pool).workers.iter().filter(|worker| worker.state == "busy");
            let pids: Vec<u32> = busy.filter_map(|worker| worker.pid).collect();
            if !pids.is_empty() {
                let pid = *self.random.choose(&pids);
                self.signal(pid, Signal::SIGKILL);
            }
        }
        let generation = template.generation;
        self.watch.until("there is another template", |status| {
            let model = model(status, pool);
            model.state == "warm" && model.template.as_ref().is_some_and(|template| template.generation > generation)
        })?;
        self.watch.until_whole()?;
        Ok(Some(began.elapsed()))
    }

    /// Sends a signal to a child of the daemon's, and to nobody else who has got its pid meanwhile.
    fn signal(&self, pid: u32, signal: Signal) -> bool {
        process::children(self.harness.daemon.pid()).contains(&pid) && process::kill(pid, signal)
    }

    /// Leaves in the middle of an answer.
    fn leave(&mut self) -> Struck {
        let case: Case = self.random.choose(&self.catalogue.texts).clone();
        let mut line = self.harness.connect()?;
        line.ask(&case.request, false)?;
        let open = self.harness.expected(case.pool).begin();
        let mut name = None;
        let after = 1 + self.random.below(20);
        let outcome = line.hear(Some(after), &mut |request| name = Some(request.to_string()));
        self.tally.accepted += u64::from(name.is_some());
        let has_left = matches!(outcome, Outcome::Left);
        self.tally.note(outcome, &case)?;
        drop(line);
        let began = Instant::now();
        self.watch.until("nobody serves a client that has left", |status| {
            model(status, case.pool).workers.iter().all(|worker| worker.request != name || name.is_none())
        })?;
        drop(open);
        Ok(has_left.then(|| began.elapsed()))
    }

    /// Asks for what goes wrong once, and requires the right answer.
    fn script(&mut self, script: &str) -> Struck {
        self.scripts += 1;
        let script = format!("{script}?times=1&as=script-{}-{}", self.part, self.scripts);
        loop {
            let began = Instant::now();
            let tally = ask_script(self.harness, &script, &mut self.random)?;
            let (is_taken, has_harmed) = (tally.accepted > 0, tally.repeated > 0);
            self.tally.add(tally);
            match (is_taken, has_harmed) {
                (true, true) => return Ok(Some(began.elapsed())),
                (true, false) => return Err(format!("{script} has harmed nobody")),
                // There were too many clients.
                (false, _) => pause(),
            }
        }
    }
}

/// The campaign's models are always there.
fn model(status: &Status, pool: Pool) -> &ModelStatus {
    &status.models[pool as usize]
}

/// Whether a later life serves in the victim's slot, or could.
fn is_replaced(model: &ModelStatus, victim: &Victim) -> bool {
    let in_slot = || model.workers.iter().filter(|worker| worker.slot == victim.slot);
    in_slot().all(|worker| worker.pid != Some(victim.pid))
        && in_slot()
            .any(|worker| worker.generation > victim.generation && matches!(worker.state.as_str(), "idle" | "busy"))
}
