//! Requests that cost as many workers as they may: each is told so, is refused when it comes again,
//! and harms no other one.
//!
//! Under the same load as that of the faults, but with no other blows: who kills every worker of
//! one request must not hit another request.
use super::{
    Campaign, Phase,
    catalogue::{Case, Catalogue, Pool, repeated},
    expected::MAX_ATTEMPTS,
    harness::{Harness, Watch},
    leak_check::{LeakCheck, sums},
    load::Tally,
    look_afterwards,
};
use crate::{Signal, exchange::Outcome, process, random::Random, wait::pause};
use ipc::{GenerateRequest, Request, Sampling};
use std::{collections::BTreeSet, fmt, sync::OnceLock, thread};

/// The model of the texts: it waits before each token, so that each of their workers is there for far
/// longer than it takes to find it.
const PACED: &str = "builtin:pocket?token_us=2000";

/// What came of such requests.
#[derive(Clone, Debug)]
pub struct Refusals {
    isolation: &'static str,
    seed: u64,
    /// What has become of the requests.
    pub tally: Tally,
    /// Workers that died.
    crashes: u64,
}

impl Campaign {
    /// Has so many texts and so many requests for what crashes its worker cost all workers that
    /// they may: what came of it, or what was wrong.
    ///
    /// # Panics
    ///
    /// If there is no daemon to be had.
    pub fn refusals(&self, times: usize) -> Result<Refusals, String> {
        let paced = Campaign { model: PACED.to_owned(), log: self.log.clone(), ..*self };
        paced.with_daemon(&mut Err("it is not needed".to_owned()), |daemon, _| {
            let catalogue = Catalogue::record(daemon, self.longest)?;
            let before = LeakCheck::at_rest(daemon)?;
            let start = sums(&daemon.status().models);
            let mut died = 0;
            let phase = self.phase(daemon, &catalogue, |harness, phase| {
                let mut doom =
                    Doom { harness, watch: Watch::new(harness), random: Random::of(self.seed, 1002), died: 0 };
                for number in 0..times {
                    let done = doom.kill_all(number, self.longest, phase).and_then(|()| doom.crash_all(number, phase));
                    if let Err(what) = done {
                        harness.wrong(what);
                    }
                    if harness.is_over() {
                        break;
                    }
                }
                died = doom.died;
            })?;
            let (_, end) = look_afterwards(daemon, &catalogue, &before, &phase.tally, start)?;
            let crashes = end.crashes - start.crashes;
            // Whoever was found in the last moment of its life may have ended well.
            if !(u64::from(MAX_ATTEMPTS) * phase.tally.fatal..=died).contains(&crashes) {
                return Err(format!("{died} workers were to die, and {crashes} have"));
            }
            Ok(Refusals { isolation: self.isolation, seed: self.seed, tally: phase.tally, crashes })
        })
    }
}

/// Somebody who has requests cost all workers that they may.
struct Doom<'a> {
    harness: &'a Harness<'a>,
    watch: Watch<'a>,
    random: Random,
    /// Workers that have died of it, or were about to end.
    died: u64,
}

impl Doom<'_> {
    /// Kills each worker of a long text.
    fn kill_all(&mut self, number: usize, longest: u32, phase: &mut Phase) -> Result<(), String> {
        self.harness.let_work(&mut self.random);
        let request = GenerateRequest {
            model: Some(Pool::Text.name().to_owned()),
            sampling: Sampling { seed: Some(7), ..Sampling::default() },
            max_tokens: Some(longest),
            ignore_end: true,
            ..GenerateRequest::raw(format!("Story {number}:"))
        };
        let request = Request::Generate(Box::new(request));
        let (outcome, died) = self.ask(Pool::Text, &request, true, phase)?;
        self.died += died;
        self.check(Pool::Text, &request, outcome, died, phase)
    }

    /// Asks for what crashes each worker.
    fn crash_all(&mut self, number: usize, phase: &mut Phase) -> Result<(), String> {
        self.harness.let_work(&mut self.random);
        // At the end of a prompt only the first worker crashes: its successors find it read.
        let moment = *self.random.choose(&["start", "9"]);
        let script = format!("crash@{moment}?times={}&as=doom-{number}", 2 * MAX_ATTEMPTS);
        let Case { request, .. } = repeated(Some(&script), &mut self.random);
        let (outcome, _) = self.ask(Pool::Bad, &request, false, phase)?;
        self.died += u64::from(MAX_ATTEMPTS);
        self.check(Pool::Bad, &request, outcome, MAX_ATTEMPTS.into(), phase)
    }

    /// Asks, and kills each worker that serves it if it `kills`: the outcome, and how many were
    /// killed.
    fn ask(&mut self, pool: Pool, request: &Request, kills: bool, phase: &mut Phase) -> Result<(Outcome, u64), String> {
        let mut line = self.harness.connect()?;
        line.ask(request, false)?;
        let name = OnceLock::new();
        let mut killed = BTreeSet::new();
        let outcome = thread::scope(|scope| {
            let hears = scope.spawn(|| line.hear(None, &mut |request| _ = name.set(request.to_string())));
            while kills && !hears.is_finished() {
                let status = self.watch.status()?;
                let workers = &status.models[pool as usize].workers;
                let serves =
                    workers.iter().filter(|worker| name.get().is_some() && worker.request.as_ref() == name.get());
                for pid in serves.filter_map(|worker| worker.pid) {
                    // Whoever serves it serves nothing else until it has ended.
                    if !killed.contains(&pid) && process::kill(pid, Signal::SIGKILL) {
                        killed.insert(pid);
                    }
                }
                pause();
            }
            hears.join().map_err(|_| "who listens has panicked".to_owned())
        })?;
        phase.tally.accepted += u64::from(name.get().is_some());
        Ok((outcome, killed.len() as u64))
    }

    /// The request must have cost as many workers as it may, and must be refused when it comes
    /// again.
    fn check(
        &mut self,
        pool: Pool,
        request: &Request,
        outcome: Outcome,
        died: u64,
        phase: &mut Phase,
    ) -> Result<(), String> {
        let told = format!("WorkersDied: {MAX_ATTEMPTS} workers died");
        match outcome {
            Outcome::Lost { why, .. } if why.starts_with(&told) && died == u64::from(MAX_ATTEMPTS) => {
                phase.tally.fatal += 1
            }
            other => return Err(format!("{died} workers died under {request:?}, and it was told {other:?}")),
        }
        match self.ask(pool, request, false, phase)? {
            (Outcome::Lost { streamed: false, why }, _) if why.contains("kind: Poisonous") => phase.tally.refused += 1,
            (other, _) => return Err(format!("what has cost {died} workers was let in again: {other:?}")),
        }
        Ok(())
    }
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusals { isolation, seed, tally, crashes } = self;
        let Tally { fatal, refused, answered, left, lost, half_lost, .. } = tally;
        writeln!(f, "\n### Refusals, isolation = \"{isolation}\", seed {seed}\n")?;
        writeln!(
            f,
            "| requests under which {MAX_ATTEMPTS} workers died, and that were told so | {fatal} |\n|---|---|"
        )?;
        writeln!(f, "| of these refused when they came again | {refused} |")?;
        writeln!(f, "| workers that died | {crashes} |")?;
        writeln!(f, "| other requests, answered as if undisturbed | {answered} |")?;
        writeln!(f, "| given up by their clients | {left} |")?;
        writeln!(f, "| lost before, after their first token | {lost}, {half_lost} |")
    }
}
