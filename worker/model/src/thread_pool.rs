//! The threads that a model may compute on, as whoever runs it provides them.

/// Threads that work on one task at a time. What the parts of a task compute does not depend on who
/// computes them.
pub trait ThreadPool {
    /// Has at least `threads` threads, the caller among them, or as many as the system gives: with
    /// fewer the same is computed, only later.
    fn grow(&mut self, threads: usize);

    /// Calls `task` once for each of `0..parts`, on at most `threads` threads at once, and returns
    /// when all calls have.
    fn run(&mut self, threads: usize, parts: usize, task: &(dyn Fn(usize) + Sync));
}

/// The caller's thread alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct SingleThread;

impl ThreadPool for SingleThread {
    fn grow(&mut self, _threads: usize) {}

    fn run(&mut self, _threads: usize, parts: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..parts).for_each(task);
    }
}
