//! The fault campaign: a daemon under full load, faults of all kinds in a seeded order, and what
//! must be true afterwards.
//!
//! A real decoder, an embedding model and the scripted bad worker are served by one daemon; ten
//! clients ask without a pause; one injector does faults from outside, another sends requests that
//! harm their workers. Each answer must be the one that an undisturbed daemon gives, each request
//! must have one outcome, and afterwards the daemon must be as whole, as small and as quiet as
//! before.
//!
//! The order of faults follows from the seed; which request each of them hits depends on the
//! machine.

mod catalogue;
mod expected;
mod fault;
mod harness;
mod hogs;
mod injector;
mod leak_check;
mod load;
mod refusals;
mod report;
mod restarts;
mod secrets;
mod surroundings;

pub use fault::Fault;
pub use hogs::Hog;
pub use load::Tally;
pub use refusals::Refusals;
pub use report::Report;
pub use restarts::{Restarted, Restarts};
pub use secrets::{Kept, Secrets};

use crate::{Daemon, Signal, SmallDisk, bad_worker, minilm, process, random::Random, skipped, wait::pause_for};
use catalogue::{Catalogue, Pool};
use harness::Harness;
use injector::Injector;
use leak_check::{LeakCheck, Sums, sums};
use report::Throughput;
use std::{
    cell::Cell,
    env, fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

/// The seed that `CAMPAIGN_SEED` sets.
///
/// # Panics
///
/// If it sets none that is a number.
pub fn seed(otherwise: u64) -> u64 {
    let set = env::var("CAMPAIGN_SEED").ok();
    set.map_or(otherwise, |seed| seed.parse().unwrap_or_else(|_| panic!("CAMPAIGN_SEED is no number: {seed}")))
}

/// What a campaign is like.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// What the order of its faults and requests follows from.
    pub seed: u64,
    /// `request` or `worker`.
    pub isolation: &'static str,
    /// The model that generates text.
    pub model: String,
    /// The most tokens of a text.
    pub longest: u32,
    /// How long it goes on.
    pub extent: Extent,
    /// How long the same load goes on before it, undisturbed.
    pub undisturbed: Duration,
    /// Where the daemon's log is kept.
    pub log: Option<PathBuf>,
}

/// How long a campaign goes on.
#[derive(Clone, Copy, Debug)]
pub enum Extent {
    /// So many rounds of faults from outside, and of faults by requests.
    Rounds(usize, usize),
    /// So long, and then to the end of the round.
    Time(Duration),
}

impl Extent {
    /// It in parts, with a look at what the daemon holds between them.
    fn parts(self) -> Vec<Extent> {
        match self {
            Extent::Rounds(..) => vec![self],
            Extent::Time(time) => vec![Extent::Time(time / 2); 2],
        }
    }
}

impl Campaign {
    /// A short one, with the built-in model.
    pub fn new(isolation: &'static str, seed: u64) -> Campaign {
        Campaign {
            seed,
            isolation,
            model: "builtin:pocket".to_owned(),
            longest: 300,
            extent: Extent::Rounds(1, 1),
            undisturbed: Duration::from_secs(1),
            log: None,
        }
    }

    /// Runs it: what came of it, or what was wrong.
    ///
    /// # Panics
    ///
    /// If there is no daemon to be had.
    pub fn run(&self) -> Result<Report, String> {
        let mut disk = SmallDisk::new();
        if let Err(reason) = &disk {
            skipped(&format!("the fault of a full disk: {reason}"));
        }
        // That no deadline follows it is for clippy.toml to see to.
        let elsewhere = "it cannot be set for one process alone; tests/systemd/run does it in an emulated machine";
        skipped(&format!("the fault of a time of day that jumps: {elsewhere}"));
        self.with_daemon(&mut disk, |daemon, disk| self.run_with(daemon, disk))
    }

    /// Has a daemon, whose log is on the disk if there is one, until `act` is done with it.
    fn with_daemon<T>(
        &self,
        disk: &mut Result<SmallDisk, String>,
        act: impl FnOnce(&Daemon, Option<&SmallDisk>) -> Result<T, String>,
    ) -> Result<T, String> {
        let bad_worker = bad_worker().to_string_lossy();
        let arguments = ["--template-executable", &*bad_worker];
        let mut daemon = match disk {
            Ok(disk) => Daemon::launch_on(disk, &self.configuration(), &arguments),
            Err(_) => Daemon::launch(&self.configuration(), &arguments),
        };
        daemon.live_for(self.lifetime());
        daemon.settle();
        let ran = act(&daemon, disk.as_ref().ok());
        if let Some(path) = &self.log {
            fs::write(path, daemon.log()).map_err(|error| format!("cannot keep the log: {error}"))?;
        }
        ran.map_err(|wrong| format!("{}\n{wrong}\n{}", daemon.last_words(), self.how_to_repeat()))
    }

    /// What to say to have the same campaign again.
    fn how_to_repeat(&self) -> String {
        let Campaign { seed, isolation, .. } = self;
        format!("the campaign of isolation {isolation} had the seed {seed}")
    }

    fn lifetime(&self) -> Duration {
        const AT_LEAST: Duration = Duration::from_secs(360);
        match self.extent {
            Extent::Rounds(..) => AT_LEAST,
            Extent::Time(time) => 2 * time + self.undisturbed + AT_LEAST,
        }
    }

    fn configuration(&self) -> String {
        let isolation = self.isolation;
        let minilm = minilm();
        let attempts = expected::MAX_ATTEMPTS;
        let common = format!("isolation = \"{isolation}\"\nprogress_timeout = \"2s\"\nmax_attempts = {attempts}");
        let model = |pool: Pool, path: &str, settings: &str| {
            format!("[[model]]\nname = {:?}\npath = {path:?}\n{settings}\n{common}\n", pool.name())
        };
        let text = model(Pool::Text, &self.model, "workers = 3");
        let vectors = model(Pool::Vectors, &minilm.to_string_lossy(), "workers = 2");
        let bad = model(Pool::Bad, "script:ok?token_us=200", "workers = 2\nmemory_per_worker = \"64MiB\"");
        format!("{text}{vectors}{bad}")
    }

    fn run_with(&self, daemon: &Daemon, disk: Option<&SmallDisk>) -> Result<Report, String> {
        let catalogue = Catalogue::record(daemon, self.longest)?;
        let calm = self.phase(daemon, &catalogue, |_, _| pause_for(self.undisturbed))?;
        let before = LeakCheck::at_rest(daemon)?;
        let mut report =
            Report { isolation: self.isolation, seed: self.seed, undisturbed: calm.throughput(), ..Report::default() };
        let mut start = sums(&daemon.status().models);
        report.memory.push(before.resident);
        let mut storm = Phase::default();
        for (number, extent) in self.extent.parts().into_iter().enumerate() {
            let strike = |harness: &Harness<'_>, phase: &mut Phase| {
                self.strike(harness, &catalogue, disk, (number, extent), phase);
            };
            storm.add(self.phase(daemon, &catalogue, strike)?);
            // What was stopped after its answer is found when it is given a request.
            for pid in process::started_by(daemon.pid()) {
                process::kill(pid, Signal::SIGCONT);
            }
            let (after, end) = look_afterwards(daemon, &catalogue, &before, &storm.tally, start)?;
            report.crashes = end.crashes - start.crashes;
            report.memory.push(after.resident);
            start.answered += catalogue.cases().count() as u64;
            start.accepted += catalogue.cases().count() as u64;
        }
        leak_check::check_growth(&report.memory)?;
        report.disturbed = storm.throughput();
        report.tally = storm.tally;
        report.recoveries = storm.recoveries;
        Ok(report)
    }

    /// The load, until `act` has been done.
    fn phase(
        &self,
        daemon: &Daemon,
        catalogue: &Catalogue,
        act: impl FnOnce(&Harness<'_>, &mut Phase),
    ) -> Result<Phase, String> {
        let harness = Harness::new(daemon);
        let began = Instant::now();
        let phase = thread::scope(|scope| {
            let clients = scope.spawn(|| load::drive(&harness, catalogue, self.seed));
            let mut phase = Phase::default();
            act(&harness, &mut phase);
            harness.end();
            phase.took = began.elapsed();
            match clients.join() {
                Ok(tally) => phase.tally.add(tally),
                Err(_) => harness.wrong("the clients have panicked".to_owned()),
            }
            phase
        });
        let wrong = harness.take_wrong();
        if wrong.is_empty() { Ok(phase) } else { Err(wrong.join("\n")) }
    }

    /// Does the faults of one part of the campaign.
    fn strike(
        &self,
        harness: &Harness<'_>,
        catalogue: &Catalogue,
        disk: Option<&SmallDisk>,
        (part, extent): (usize, Extent),
        phase: &mut Phase,
    ) {
        let began = Instant::now();
        let injector = |is_inside: bool| {
            let random = Random::of(self.seed, 1000 + 10 * part + usize::from(is_inside));
            let mut injector = Injector::new(harness, catalogue, disk, part, random);
            let done = Cell::new(0);
            injector.strike(is_inside, || {
                done.set(done.get() + 1);
                match extent {
                    Extent::Rounds(outside, inside) => done.get() <= if is_inside { inside } else { outside },
                    Extent::Time(time) => began.elapsed() < time,
                }
            });
            (injector.tally, injector.recoveries)
        };
        thread::scope(|scope| {
            for handle in [scope.spawn(|| injector(false)), scope.spawn(|| injector(true))] {
                match handle.join() {
                    Ok((tally, recoveries)) => {
                        phase.tally.add(tally);
                        phase.recoveries.extend(recoveries);
                    }
                    Err(_) => harness.wrong("an injector has panicked".to_owned()),
                }
            }
        });
    }
}

/// What came of a phase.
#[derive(Default)]
struct Phase {
    tally: Tally,
    took: Duration,
    recoveries: Vec<(Fault, Duration)>,
}

impl Phase {
    fn add(&mut self, other: Phase) {
        self.tally.add(other.tally);
        self.took += other.took;
        self.recoveries.extend(other.recoveries);
    }

    fn throughput(&self) -> Throughput {
        Throughput::of(self.tally.answered, self.tally.tokens, self.took)
    }
}

/// The daemon must be as before, must have counted what its clients have seen, and must answer as
/// ever.
fn look_afterwards(
    daemon: &Daemon,
    catalogue: &Catalogue,
    before: &LeakCheck,
    seen: &Tally,
    start: Sums,
) -> Result<(LeakCheck, Sums), String> {
    let after = LeakCheck::as_before(daemon, before)?;
    let end = sums(&daemon.status().models);
    check_sums(seen, start, end)?;
    let harness = Harness::new(daemon);
    load::ask_all(&harness, catalogue);
    harness.take_wrong().into_iter().try_for_each(|what| Err(format!("after the campaign: {what}")))?;
    Ok((after, end))
}

/// The daemon must have counted what its clients have seen.
fn check_sums(seen: &Tally, start: Sums, end: Sums) -> Result<(), String> {
    let accepted = end.accepted - start.accepted;
    let (answered, cancelled) = (end.answered - start.answered, end.cancelled - start.cancelled);
    let whole = end.not_answered - start.not_answered == seen.fatal + seen.refused
        && accepted == seen.accepted
        && accepted == answered + cancelled + seen.fatal
        // Who leaves may have been answered by then.
        && answered >= seen.answered
        && cancelled <= seen.left;
    if whole { Ok(()) } else { Err(format!("the counts do not add up: {seen:?} was seen, {start:?} became {end:?}")) }
}
