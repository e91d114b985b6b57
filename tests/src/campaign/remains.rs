//! What a daemon holds when it is at rest: descriptors, memory, processes. After a campaign it must be what it was before.
use crate::{Daemon, LIMIT, process, wait::pause};
use ipc::status::{Model, Totals};
use std::{collections::BTreeMap, time::Instant};

/// How much more memory the supervisor may have after a campaign: what the heap keeps of what it has once needed, and the stacks of the
/// threads that look at memory.
const MORE_MEMORY: u64 = 8 << 20;

/// What a daemon at rest holds.
#[derive(Clone, Debug)]
pub(crate) struct Remains {
    /// The supervisor's memory, in bytes.
    pub(crate) resident: u64,
    /// How many descriptors of each kind the supervisor has.
    supervisor: BTreeMap<String, usize>,
    /// The same of each model's template.
    templates: Vec<BTreeMap<String, usize>>,
}

impl Remains {
    fn look(daemon: &Daemon) -> Result<Remains, String> {
        let status = daemon.status();
        let resident = process::resident(daemon.pid()).ok_or("the supervisor has gone")?;
        let templates = status.models.iter().filter_map(|model| model.template.as_ref());
        let templates = templates.map(|template| kinds(template.pid)).collect();
        Ok(Remains { resident, supervisor: kinds(daemon.pid()), templates })
    }

    /// Looks at a daemon that comes to rest.
    pub(crate) fn at_rest(daemon: &Daemon) -> Result<Remains, String> {
        daemon.settle();
        daemon.has_only_its_own();
        Remains::look(daemon)
    }

    /// Looks at a daemon that comes to rest until it holds no more than it did then.
    pub(crate) fn as_before(daemon: &Daemon, before: &Remains) -> Result<Remains, String> {
        let began = Instant::now();
        loop {
            let now = Remains::at_rest(daemon)?;
            // The last connections may still be closing.
            if now.supervisor == before.supervisor && now.templates == before.templates {
                let most = before.resident + MORE_MEMORY;
                if now.resident > most {
                    return Err(format!(
                        "the supervisor's memory grew from {} to {} bytes",
                        before.resident, now.resident
                    ));
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
pub(crate) fn sums(models: &[Model]) -> Sums {
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
