//! What computes: the threads that may be used right now, and the instructions that this processor
//! has.
use crate::{ThreadPool, kernels::Kernels};
use std::sync::OnceLock;

/// A pool of threads with the number of them that may work now.
pub(super) struct Threads<'a> {
    /// The threads.
    pub(super) pool: &'a mut dyn ThreadPool,
    /// How many of them may work, the caller among them.
    pub(super) count: usize,
    /// The loops.
    pub(super) kernels: Kernels,
}

impl Threads<'_> {
    /// Has `count` threads work from now on, or as many as the pool has.
    pub(super) fn use_threads(&mut self, count: usize) {
        self.pool.grow(count);
        self.count = count;
    }

    /// The results of `task` for each of `0..parts`, in this order.
    pub(super) fn map<T: Send + Sync>(&mut self, parts: usize, task: impl Fn(usize) -> T + Sync) -> Vec<T> {
        let results: Vec<OnceLock<T>> = (0..parts).map(|_| OnceLock::new()).collect();
        self.pool.run(self.count, parts, &|part| {
            // Each part is done once.
            let _first = results[part].set(task(part));
        });
        results.into_iter().filter_map(OnceLock::into_inner).collect()
    }
}
