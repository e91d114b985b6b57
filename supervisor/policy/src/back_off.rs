//! When to try again what ended too early: at once, after a back-off, or after a long pause. Pure
//! arithmetic.
use super::event::Time;
use super::limits::Limits;
use std::time::Duration;

/// The first wait after a model could not be loaded; each further one doubles it.
const LOAD_RETRY: Duration = Duration::from_secs(1);
/// The longest of those waits.
const LOAD_RETRY_MAX: Duration = Duration::from_secs(60);

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(super) struct BackOff {
    in_a_row: u32,
}

/// What follows from one more failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterFailure {
    /// Try again at this time.
    RetryAt(Time),
    /// Too many in a row.
    Park,
}

impl BackOff {
    /// Records a failure. The first in a row costs nothing, each further one doubles the wait, and
    /// the last one that the limits allow parks. After that the next failure parks again, unless a
    /// success came first.
    pub(super) fn failed(&mut self, limits: &Limits, now: Time, random: &mut Random) -> AfterFailure {
        self.in_a_row += 1;
        if self.in_a_row >= limits.crash_loop {
            self.in_a_row = limits.crash_loop.saturating_sub(1);
            return AfterFailure::Park;
        }
        let Some(doublings) = self.in_a_row.checked_sub(2) else { return AfterFailure::RetryAt(now) };
        let longest = limits.backoff.saturating_mul(2_u32.saturating_pow(doublings)).min(limits.backoff_max);
        let half = longest / 2;
        AfterFailure::RetryAt(now.after(half).after(half.mul_f64(random.fraction())))
    }

    pub(super) fn succeeded(&mut self) {
        self.in_a_row = 0;
    }
}

/// How long to wait after loading has failed this many times in a row.
pub(super) fn load_retry(failures: u32) -> Duration {
    LOAD_RETRY.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(LOAD_RETRY_MAX)
}

/// A small deterministic generator (SplitMix64), so that workers that died together do not come
/// back together.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A number in [0, 1).
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(Duration::from_secs(7));

    fn wait(restart: &mut BackOff, limits: &Limits, random: &mut Random) -> Option<Duration> {
        match restart.failed(limits, NOW, random) {
            AfterFailure::RetryAt(time) => Some(time.since(NOW)),
            AfterFailure::Park => None,
        }
    }

    #[test]
    fn waits_nothing_then_twice_as_long_each_time_up_to_the_cap() {
        let limits = Limits { crash_loop: 12, ..Limits::default() };
        let longest = [0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000].map(Duration::from_millis);
        let (mut lowest_share, mut highest_share) = (1.0_f64, 0.0_f64);
        for seed in 0..200 {
            let (mut restart, mut random) = (BackOff::default(), Random::new(seed));
            for longest in longest {
                let wait = wait(&mut restart, &limits, &mut random).expect("not parked yet");
                assert!(longest / 2 <= wait && wait <= longest, "{wait:?} of {longest:?}");
                if !longest.is_zero() {
                    let share = wait.as_secs_f64() / longest.as_secs_f64();
                    (lowest_share, highest_share) = (lowest_share.min(share), highest_share.max(share));
                }
            }
            assert_eq!(wait(&mut restart, &limits, &mut random), None, "the twelfth parks");
        }
        assert!(lowest_share < 0.51 && highest_share > 0.99, "jitter fills its range: {lowest_share}..{highest_share}");
    }

    #[test]
    fn parks_again_at_the_next_failure_unless_something_succeeded() {
        let (limits, mut random) = (Limits { crash_loop: 3, ..Limits::default() }, Random::new(1));
        let mut restart = BackOff::default();
        assert_eq!(wait(&mut restart, &limits, &mut random), Some(Duration::ZERO));
        assert!(wait(&mut restart, &limits, &mut random).is_some());
        assert_eq!(wait(&mut restart, &limits, &mut random), None);
        assert_eq!(wait(&mut restart, &limits, &mut random), None, "half open");
        restart.succeeded();
        assert_eq!(wait(&mut restart, &limits, &mut random), Some(Duration::ZERO));
    }

    /// The first numbers of the reference implementation (Vigna, `splitmix64.c`) for this seed.
    #[test]
    fn random_numbers_are_those_of_splitmix64() {
        let mut random = Random::new(1_234_567);
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([random.next(), random.next(), random.next()], expected);
    }

    #[test]
    fn waits_longer_after_each_failure_to_load() {
        let waits = [1, 2, 3, 6, 7, 8, u32::MAX].map(|failures| load_retry(failures).as_secs());
        assert_eq!(waits, [1, 2, 4, 32, 60, 60, 60]);
    }
}
