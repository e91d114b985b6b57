//! What computes: the threads that may be used right now, and the instructions that this processor has.
use crate::{numeric::Numeric, sys::team::Team};
use std::sync::OnceLock;

/// A team with the number of its threads that may work now.
pub(super) struct Crew<'a> {
    /// The threads.
    pub(super) team: &'a mut Team,
    /// How many of them may work, the caller among them.
    pub(super) threads: usize,
    /// The loops.
    pub(super) numeric: Numeric,
}

impl Crew<'_> {
    /// Has `threads` threads work from now on, or as many as the system gives.
    pub(super) fn use_threads(&mut self, threads: usize) {
        // With fewer threads the same is computed, only later.
        let _fewer = self.team.grow(threads);
        self.threads = threads;
    }

    /// The results of `task` for each of `0..parts`, in this order.
    pub(super) fn map<T: Send + Sync>(&mut self, parts: usize, task: impl Fn(usize) -> T + Sync) -> Vec<T> {
        let results: Vec<OnceLock<T>> = (0..parts).map(|_| OnceLock::new()).collect();
        self.team.run(self.threads, parts, &|part| {
            // Each part is done once.
            let _first = results[part].set(task(part));
        });
        results.into_iter().filter_map(OnceLock::into_inner).collect()
    }
}
