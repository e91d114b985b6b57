//! The threads that a worker computes on, as models want them.
use model::ThreadPool;

/// A worker's threads, made when they are first asked for, after the fork.
#[derive(Debug, Default)]
pub struct WorkerThreads(system::ThreadPool);

impl ThreadPool for WorkerThreads {
    fn grow(&mut self, threads: usize) {
        // With fewer threads the same is computed, only later.
        let _fewer = self.0.grow(threads);
    }

    fn run(&mut self, threads: usize, parts: usize, task: &(dyn Fn(usize) + Sync)) {
        self.0.run(threads, parts, task);
    }
}
