//! A short memory of the requests that workers died under, so that one prompt cannot take a pool
//! down again and again.
use super::event::Time;
use std::{collections::VecDeque, time::Duration};

/// Most requests remembered; the oldest is forgotten for a new one.
pub(super) const CAPACITY: usize = 1024;

/// Fingerprints, oldest first, each with the time at which it is forgotten.
#[derive(Debug, Default)]
pub(super) struct Poison {
    remembered: VecDeque<(u64, Time)>,
}

impl Poison {
    pub(super) fn remember(&mut self, fingerprint: u64, now: Time, duration: Duration) {
        self.forget(now);
        self.remembered.retain(|(known, _)| *known != fingerprint);
        if self.remembered.len() == CAPACITY {
            self.remembered.pop_front();
        }
        self.remembered.push_back((fingerprint, now.after(duration)));
    }

    /// Until when such a request is refused, if it is.
    pub(super) fn until(&mut self, fingerprint: u64, now: Time) -> Option<Time> {
        self.forget(now);
        self.remembered.iter().find(|(known, _)| *known == fingerprint).map(|(_, until)| *until)
    }

    /// All are remembered for the same duration, so the oldest are the first to go.
    fn forget(&mut self, now: Time) {
        while self.remembered.front().is_some_and(|(_, until)| *until <= now) {
            self.remembered.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Time {
        Time(Duration::from_secs(seconds))
    }

    #[test]
    fn forgets_at_the_end_of_the_time() {
        let mut poison = Poison::default();
        poison.remember(1, at(0), MINUTE);
        assert_eq!(poison.until(1, at(59)), Some(at(60)));
        assert_eq!(poison.until(2, at(59)), None);
        assert_eq!(poison.until(1, at(60)), None);
        assert!(poison.remembered.is_empty(), "what has expired takes no room");
    }

    #[test]
    fn forgets_the_oldest_for_a_new_one() {
        let mut poison = Poison::default();
        for fingerprint in 0..=CAPACITY as u64 {
            poison.remember(fingerprint, at(0), MINUTE);
        }
        assert_eq!(poison.remembered.len(), CAPACITY);
        assert_eq!(poison.until(0, at(1)), None);
        assert_eq!(poison.until(1, at(1)), Some(at(60)));
        assert_eq!(poison.until(CAPACITY as u64, at(1)), Some(at(60)));
    }

    #[test]
    fn remembers_a_second_time_for_longer_and_only_once() {
        let mut poison = Poison::default();
        poison.remember(1, at(0), MINUTE);
        poison.remember(2, at(10), MINUTE);
        poison.remember(1, at(30), MINUTE);
        assert_eq!(poison.remembered.len(), 2);
        assert_eq!(poison.until(1, at(60)), Some(at(90)));
        assert_eq!(poison.until(2, at(70)), None, "order is kept, so expiry still is");
        assert_eq!(poison.until(1, at(70)), Some(at(90)));
    }
}
