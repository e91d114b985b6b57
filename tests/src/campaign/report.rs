//! What came of a campaign, as a table.
use super::{Fault, Tally};
use std::{collections::BTreeMap, fmt, time::Duration};

/// How much was answered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Throughput {
    requests: f64,
    tokens: f64,
}

impl Throughput {
    #[expect(clippy::cast_precision_loss, reason = "rates for people")]
    pub(crate) fn of(requests: u64, tokens: u64, took: Duration) -> Throughput {
        let seconds = took.as_secs_f64().max(f64::MIN_POSITIVE);
        Throughput { requests: requests as f64 / seconds, tokens: tokens as f64 / seconds }
    }
}

/// What came of a campaign in which nothing was wrong.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub(crate) isolation: &'static str,
    pub(crate) seed: u64,
    pub(crate) undisturbed: Throughput,
    pub(crate) disturbed: Throughput,
    pub(crate) tally: Tally,
    pub(crate) recoveries: Vec<(Fault, Duration)>,
    pub(crate) crashes: u64,
    /// The supervisor's, before and after each part.
    pub(crate) memory: Vec<u64>,
}

impl Report {
    /// How many faults of a kind were done.
    pub fn count(&self, fault: Fault) -> usize {
        self.recoveries.iter().filter(|(done, _)| *done == fault).count()
    }

    /// What became of the requests.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { isolation, seed, undisturbed, disturbed, tally, recoveries, crashes, memory } = self;
        let Tally { accepted, answered, left, lost, half_lost, not_admitted, repeated, most_attempts, .. } = tally;
        let mut kinds: BTreeMap<Fault, Vec<Duration>> = BTreeMap::new();
        for (fault, took) in recoveries {
            kinds.entry(*fault).or_default().push(*took);
        }
        writeln!(f, "\n### Faults, isolation = \"{isolation}\", seed {seed}\n")?;
        writeln!(f, "| fault | times | recovery p50 | p99 | measured from ... to |\n|---|---|---|---|---|")?;
        for (fault, mut times) in kinds {
            times.sort_unstable();
            let at = |percent: usize| Show(times[(times.len() * percent).div_ceil(100).max(1) - 1]);
            let (name, measured) = fault.describe();
            writeln!(f, "| {name} | {} | {} | {} | {measured} |", times.len(), at(50), at(99))?;
        }
        writeln!(f, "\n| {} faults | |\n|---|---|", recoveries.len())?;
        writeln!(f, "| requests taken in | {accepted} |")?;
        writeln!(f, "| of these answered, each as if undisturbed | {answered} |")?;
        writeln!(f, "| given up by their clients | {left} |")?;
        writeln!(f, "| lost before, after their first token | {lost}, {half_lost} |")?;
        writeln!(f, "| answered by more than one worker; most workers of one | {repeated}; {most_attempts} |")?;
        writeln!(f, "| workers that ended otherwise than they should | {crashes} |")?;
        for (why, count) in not_admitted {
            writeln!(f, "| not taken in, and asked again: {why} | {count} |")?;
        }
        let share = 100.0 * disturbed.tokens / undisturbed.tokens.max(f64::MIN_POSITIVE);
        writeln!(
            f,
            "| requests, tokens and vectors a second, undisturbed | {:.0}, {:.0} |\n| the same under the campaign | {:.0}, {:.0} ({share:.0} %) |",
            undisturbed.requests, undisturbed.tokens, disturbed.requests, disturbed.tokens
        )?;
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let memory: Vec<_> = memory.iter().map(|bytes| format!("{:.1}", mebibytes(*bytes))).collect();
        writeln!(f, "| the supervisor's memory before, and after each part | {} MiB |", memory.join(", "))
    }
}

/// A duration in milliseconds, or in seconds.
pub(crate) struct Show(pub(crate) Duration);

impl fmt::Display for Show {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        if seconds < 1.0 { write!(f, "{:.1} ms", seconds * 1e3) } else { write!(f, "{seconds:.2} s") }
    }
}
