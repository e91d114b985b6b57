//! What a daemon holds when it is at rest: descriptors, memory, processes. After a campaign it must
//! be what it was before.
use crate::{Daemon, LIMIT, process, wait::pause};
use ipc::status::{ModelStatus, Totals};
use std::{collections::BTreeMap, time::Instant};

/// How much more memory the supervisor may have after a campaign: what the heap keeps of what it
/// has once needed, and the stacks of the threads that look at memory.
const MORE_MEMORY: u64 = 8 << 20;

/// How much it may grow from one half of a campaign to the other, when all that is needed once is
/// there.
const STILL_MORE_MEMORY: u64 = 1 << 20;

/// What a daemon at rest holds.
#[derive(Clone, Debug)]
pub(crate) struct LeakCheck {
    /// The supervisor's memory, in bytes.
    pub(crate) resident: u64,
    /// How many descriptors of each kind the supervisor has.
    supervisor: BTreeMap<String, usize>,
    /// The same of each model's template.
    templates: Vec<BTreeMap<String, usize>>,
    /// Each template's memory, in bytes.
    loaded: Vec<u64>,
}

impl LeakCheck {
    fn look(daemon: &Daemon) -> Result<LeakCheck, String> {
        let status = daemon.status();
        let resident = process::resident(daemon.pid()).ok_or("the supervisor has gone")?;
        let pids = status.models.iter().filter_map(|model| model.template.as_ref()).map(|template| template.pid);
        let pids: Vec<u32> = pids.collect();
        let loaded = pids.iter().map(|pid| process::resident(*pid).ok_or("a template has gone"));
        Ok(LeakCheck {
            resident,
            supervisor: kinds(daemon.pid()),
            templates: pids.iter().map(|pid| kinds(*pid)).collect(),
            loaded: loaded.collect::<Result<_, _>>()?,
        })
    }

    /// Looks at a daemon that comes to rest.
    pub(crate) fn at_rest(daemon: &Daemon) -> Result<LeakCheck, String> {
        daemon.settle();
        daemon.has_only_its_own();
        LeakCheck::look(daemon)
    }

    /// Looks at a daemon that comes to rest until it holds no more than it did then.
    pub(crate) fn as_before(daemon: &Daemon, before: &LeakCheck) -> Result<LeakCheck, String> {
        let began = Instant::now();
        loop {
            let now = LeakCheck::at_rest(daemon)?;
            // The last connections may still be closing.
            if now.supervisor == before.supervisor && now.templates == before.templates {
                let grown = |(before, now): (&u64, &u64)| *now > before + MORE_MEMORY;
                if grown((&before.resident, &now.resident)) || before.loaded.iter().zip(&now.loaded).any(grown) {
                    return Err(format!("memory has leaked: before {before:#?}, now {now:#?}"));
                }
                return Ok(now);
            }
            if began.elapsed() > LIMIT / 4 {
                return Err(format!("descriptors have leaked: before {before:#?}, now {now:#?}"));
            }
            pause();
        }
    }
}

/// The supervisor's memory before a campaign and after each part of it must not go on growing.
pub(crate) fn check_growth(memory: &[u64]) -> Result<(), String> {
    match memory {
        [_, middle, end] if *end > middle + STILL_MORE_MEMORY => {
            Err(format!("the supervisor's memory goes on growing: {memory:?} bytes"))
        }
        _ => Ok(()),
    }
}

/// How many descriptors of each kind a process has.
fn kinds(pid: u32) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for link in process::descriptors(pid).into_values() {
        let kind: String =
            link.chars().map(|character| if character.is_ascii_digit() { '#' } else { character }).collect();
        let mut kind = kind;
        while kind.contains("##") {
            kind = kind.replace("##", "#");
        }
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
}

/// Counts of all models together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) accepted: u64,
    pub(crate) answered: u64,
    pub(crate) cancelled: u64,
    /// Refused, failed or timed out.
    pub(crate) not_answered: u64,
    pub(crate) crashes: u64,
}

/// The daemon's counts now.
pub(crate) fn sums(models: &[ModelStatus]) -> Sums {
    let mut sums = Sums::default();
    for Totals { accepted, answered, refused, failed, cancelled, timed_out, worker_crashes, .. } in
        models.iter().map(|model| model.totals)
    {
        sums.accepted += accepted;
        sums.answered += answered;
        sums.cancelled += cancelled;
        sums.not_answered += refused + failed + timed_out;
        sums.crashes += worker_crashes;
    }
    sums
}
