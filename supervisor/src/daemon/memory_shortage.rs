//! Whether a model or a worker fits into memory: what the policy is told of the machine, and its
//! verdicts in words.
use ipc::{FromTemplate, Needs};
use policy::{Memory, MemoryShortage, Need, PoolLimits};
use std::time::{Duration, Instant};
use system::{limits, proc::HostMemory};

/// What the machine has now.
pub(super) fn memory() -> Memory {
    let HostMemory { total, available } = HostMemory::now();
    Memory { total, available, addresses: limits::addresses() }
}

/// What the machine had at the last look.
#[derive(Debug, Default)]
pub(super) struct RecentMemory(Option<(Instant, Memory)>);

impl RecentMemory {
    /// A look takes a twentieth of what a short life takes, and in so little time nobody takes much.
    const AGE: Duration = Duration::from_millis(10);

    /// What the machine has now, or had a moment ago.
    pub(super) fn get(&mut self) -> Memory {
        match self.0 {
            Some((at, memory)) if at.elapsed() < Self::AGE => memory,
            _ => self.0.insert((Instant::now(), memory())).1,
        }
    }
}

/// What the first word of a template that is only to open its model asks for; none if the model can
/// be loaded without asking. `Err` says why it cannot be loaded.
pub(super) fn asked(said: FromTemplate) -> Result<Option<Needs>, String> {
    match said {
        FromTemplate::Needs(needs) => Ok(Some(needs)),
        FromTemplate::Ready(_) => Ok(None),
        FromTemplate::LoadFailed { message } => Err(message),
        FromTemplate::Forked(_) | FromTemplate::ForkFailed { .. } => {
            Err("its template speaks of a worker that it was not asked for".to_owned())
        }
    }
}

/// Whether a model can be loaded if nothing else is there then, by such a word. `Err` says why it
/// never can.
pub(super) fn can_be_loaded(limits: &PoolLimits, said: FromTemplate) -> Result<(), String> {
    let fits = |needs| Need::of(limits, needs).fits_alone(memory());
    asked(said)?.map_or(Ok(()), fits).map_err(|shortage| describe(&shortage))
}

/// Why there is no room.
pub(super) fn describe(shortage: &MemoryShortage) -> String {
    match *shortage {
        MemoryShortage::Addresses { need, limit } => {
            let (weights, cache, limit) = (size(need.weights), size(need.cache), size(limit));
            format!(
                "it does not fit into a process: {weights} of weights and {cache} for a request's cache are more than the {limit} of \
                 addresses that a process may have (ulimit -v, LimitAS= of a unit)"
            )
        }
        MemoryShortage::Total { need, free, all } => {
            let (weights, private, cache) = (size(need.weights), size(need.private), size(need.cache));
            let (slots, total, free, all) = (need.slots, size(need.total()), size(free), size(all));
            format!(
                "it does not fit into memory: {weights} of weights and {slots} x ({private} for a worker + {cache} for a request's \
                 cache) are {total}, and {free} of {all} are left by other models; set fewer workers or a smaller context"
            )
        }
        MemoryShortage::Available { need, unread, available } => {
            let (private, cache) = (size(need.private), size(need.cache));
            let (now, unread, available) = (size(unread.saturating_add(need.slot())), size(unread), size(available));
            format!(
                "it does not fit into memory now: {unread} of weights, {private} for a worker and {cache} for a request's cache are \
                 {now}, but {available} are available; end something else, or set a smaller context"
            )
        }
        MemoryShortage::Worker { need, available } => {
            let (private, cache, available) = (size(need.private), size(need.cache), size(available));
            format!(
                "a worker may take {private}, and a request's cache {cache}, but {available} are available; set a smaller context, \
                 or fewer workers"
            )
        }
    }
}

/// Bytes, for people.
fn size(bytes: u64) -> String {
    bytesize::ByteSize::b(bytes).display().iec().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const NEED: Need = Need { weights: GIB, slots: 4, private: 64 << 20, cache: GIB / 2 };

    #[test]
    fn each_shortage_is_a_sentence_with_its_arithmetic_and_its_remedy() {
        let all = GIB + 4 * (GIB / 2 + (64 << 20));
        let cases = [
            (
                MemoryShortage::Total { need: NEED, free: all - 1, all },
                "it does not fit into memory: 1.0 GiB of weights and 4 x (64.0 MiB for a worker + 512.0 MiB for a request's cache) are \
                 3.2 GiB, and 3.2 GiB of 3.2 GiB are left by other models; set fewer workers or a smaller context",
            ),
            (
                MemoryShortage::Available { need: NEED, unread: 0, available: GIB / 2 },
                "it does not fit into memory now: 0 B of weights, 64.0 MiB for a worker and 512.0 MiB for a request's cache are \
                 576.0 MiB, but 512.0 MiB are available; end something else, or set a smaller context",
            ),
            (
                MemoryShortage::Addresses { need: NEED, limit: GIB },
                "it does not fit into a process: 1.0 GiB of weights and 512.0 MiB for a request's cache are more than the 1.0 GiB of \
                 addresses that a process may have (ulimit -v, LimitAS= of a unit)",
            ),
            (
                MemoryShortage::Worker { need: NEED, available: GIB / 2 },
                "a worker may take 64.0 MiB, and a request's cache 512.0 MiB, but 512.0 MiB are available; set a smaller context, or \
                 fewer workers",
            ),
        ];
        for (shortage, sentence) in cases {
            assert_eq!(describe(&shortage), sentence);
        }
        let need = Need { weights: u64::MAX, slots: u32::MAX, private: u64::MAX, cache: u64::MAX };
        let none = MemoryShortage::Available { need, unread: u64::MAX, available: 0 };
        assert!(describe(&none).starts_with("it does not fit into memory now: 16.0 EiB of weights"));
    }
}
