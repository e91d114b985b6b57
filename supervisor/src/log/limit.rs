//! Bounds what repeats: of the lines from one place in the program about one model only so many are
//! written in a while.
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use tracing::callsite::Identifier;

/// Lines that are written in each [`WINDOW`].
pub(super) const MOST: u64 = 10;
/// How long is counted for, from the first line.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// More kinds of lines than there are.
const KINDS: usize = 1 << 12;

/// What has been written lately.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    kinds: HashMap<(Identifier, String), Window>,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    count: u64,
}

/// What is to be done with a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Write,
    /// It is the last one for so long.
    Last(Duration),
    /// It is the first one again, after so many that were not written.
    Again {
        left_out: u64,
    },
    LeaveOut,
}

impl Limiter {
    /// Counts a line from this place, about this model.
    pub(super) fn admit(&mut self, place: Identifier, model: String, now: Instant) -> Verdict {
        if self.kinds.len() >= KINDS {
            self.kinds.retain(|_, window| now.duration_since(window.began) < WINDOW);
        }
        let window = self.kinds.entry((place, model)).or_insert(Window { began: now, count: 0 });
        let age = now.duration_since(window.began);
        if age >= WINDOW {
            let left_out = window.count.saturating_sub(MOST);
            *window = Window { began: now, count: 1 };
            return if left_out > 0 { Verdict::Again { left_out } } else { Verdict::Write };
        }
        window.count += 1;
        match window.count {
            MOST => Verdict::Last(WINDOW - age),
            count if count < MOST => Verdict::Write,
            _ => Verdict::LeaveOut,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::{Callsite, Metadata, subscriber::Interest};

    struct Place;

    impl Callsite for Place {
        fn set_interest(&self, _: Interest) {}
        fn metadata(&self) -> &Metadata<'_> {
            unreachable!("nobody asks")
        }
    }

    static HERE: Place = Place;

    #[test]
    fn of_what_repeats_some_is_written_and_the_rest_is_counted() {
        let mut limiter = Limiter::default();
        let begin = Instant::now();
        let mut admit = |model: &str, seconds| {
            limiter.admit(Identifier(&HERE), model.to_owned(), begin + Duration::from_secs(seconds))
        };
        for _ in 1..MOST {
            assert_eq!(admit("one", 5), Verdict::Write);
        }
        assert_eq!(admit("one", 20), Verdict::Last(Duration::from_secs(45)));
        for _ in 0..1000 {
            assert_eq!(admit("one", 30), Verdict::LeaveOut);
        }
        assert_eq!(admit("two", 30), Verdict::Write, "another model has its own count");
        assert_eq!(admit("one", 65), Verdict::Again { left_out: 1000 });
        assert_eq!(admit("one", 66), Verdict::Write);
        assert_eq!(admit("one", 500), Verdict::Write, "nothing was left out");
    }
}
