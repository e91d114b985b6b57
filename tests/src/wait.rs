//! Waiting for a condition: the only place that lets time pass between two looks.
use std::time::{Duration, Instant};

/// How long a condition may take to come true. It is for a machine that is very busy; no test waits
/// so long if all is well.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Looks until `condition` holds.
///
/// # Panics
///
/// If it does not within `limit`; `what` says what was waited for.
#[track_caller]
pub fn until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < limit, "waited {limit:?} in vain until {what}");
        pause();
    }
}

/// Lets a moment pass between two looks.
pub(crate) fn pause() {
    pause_for(Duration::from_millis(5));
}

/// Lets so much time pass.
#[expect(clippy::disallowed_methods, reason = "the one place that waits between two looks at a condition")]
pub(crate) fn pause_for(duration: Duration) {
    std::thread::sleep(duration);
}
