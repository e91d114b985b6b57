//! What computes: the threads that may be used right now, and the instructions that this processor has.
use crate::{numeric::Numeric, team::Team};

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

    /// Calls `task` once for each of `0..parts` and returns when all calls have.
    pub(super) fn run(&mut self, parts: usize, task: &(dyn Fn(usize) + Sync)) {
        self.team.run(self.threads, parts, task);
    }
}
