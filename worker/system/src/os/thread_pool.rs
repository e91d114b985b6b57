//! The threads of one worker: made after the fork, put to work for a fraction of a millisecond at a
//! time, and asleep in between.
//!
//! A task is cut into parts; whoever is free takes the next one. What the parts compute does not
//! depend on who computes them, so the number of threads may change from task to task. A thread
//! that finds nothing to do spins for a moment, because in the middle of a token the next task is
//! microseconds away, and then sleeps. How many threads may be used is not decided here.
use super::process::{PANICKED, exit_now};
use std::{
    hint::spin_loop,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
        },
    },
    thread::{self, Thread},
};

/// Bytes of a helper's stack; the kernels of a model need a few thousand.
const STACK: usize = 512 << 10;

/// Turns of a spin before a helper sleeps, or before the caller lets others run: about a tenth of a
/// millisecond.
const PATIENCE: usize = 4_000;

/// A caller and its helpers.
#[derive(Debug, Default)]
pub struct ThreadPool {
    helpers: Vec<Helper>,
    shared: Arc<Shared>,
    epoch: u64,
}

#[derive(Debug)]
struct Helper {
    thread: Thread,
    call: Arc<Call>,
}

/// Where a helper is called.
#[derive(Debug, Default)]
struct Call {
    /// The number of the last task it was called to.
    epoch: AtomicU64,
    asleep: AtomicBool,
}

#[derive(Debug, Default)]
struct Shared {
    task: Mutex<Option<Task>>,
    parts: AtomicUsize,
    /// The next part that nobody has taken.
    next: AtomicUsize,
    /// The number of the task in the upper half; then how many helpers are at work on it; in the
    /// lowest bit, whether no more may begin.
    gate: AtomicU64,
}

const CLOSED: u64 = 1;
const HELPER: u64 = 2;
const EPOCH: u32 = 32;

impl ThreadPool {
    /// A pool without helpers.
    pub fn new() -> ThreadPool {
        ThreadPool::default()
    }

    /// Has at least `threads` threads, the caller among them, if the system allows.
    pub fn grow(&mut self, threads: usize) -> io::Result<()> {
        while self.helpers.len() + 1 < threads {
            let (call, shared) = (Arc::<Call>::default(), Arc::clone(&self.shared));
            let of_helper = Arc::clone(&call);
            let spawned =
                thread::Builder::new().stack_size(STACK).spawn(move || help(&of_helper, &shared))?.thread().clone();
            self.helpers.push(Helper { thread: spawned, call });
        }
        Ok(())
    }

    /// Calls `task` once for each of `0..parts`, on at most `threads` threads at once, and returns
    /// when all calls have.
    pub fn run(&mut self, threads: usize, parts: usize, task: &(dyn Fn(usize) + Sync)) {
        let helpers = threads.min(parts).saturating_sub(1).min(self.helpers.len());
        if helpers == 0 {
            return (0..parts).for_each(task);
        }
        let shared = &self.shared;
        self.epoch = (self.epoch + 1) % (1 << EPOCH);
        *shared.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(Task::new(task));
        shared.parts.store(parts, Relaxed);
        shared.next.store(0, Relaxed);
        shared.gate.store(self.epoch << EPOCH, Release);
        // Also when `task` panics here, nobody uses it any more when this function is left.
        let closing = Closing(shared);
        for helper in &self.helpers[..helpers] {
            helper.call.epoch.store(self.epoch, SeqCst);
            if helper.call.asleep.load(SeqCst) {
                helper.thread.unpark();
            }
        }
        shared.take_parts(task);
        drop(closing);
    }
}

/// A closure that threads share while somebody waits for them.
#[derive(Clone, Copy)]
struct Task(*const (dyn Fn(usize) + Sync));

impl Task {
    /// Takes the closure's address.
    fn new<'a>(task: &'a (dyn Fn(usize) + Sync + 'a)) -> Task {
        let pointer: *const (dyn Fn(usize) + Sync + 'a) = task;
        // SAFETY: only the lifetime in the type of a pointer changes; whoever uses it keeps to the
        // real one.
        Task(unsafe {
            std::mem::transmute::<*const (dyn Fn(usize) + Sync + 'a), *const (dyn Fn(usize) + Sync + 'static)>(pointer)
        })
    }

    /// The closure.
    ///
    /// # Safety
    ///
    /// It has not ended, and does not before the caller has done with it.
    unsafe fn get<'a>(self) -> &'a (dyn Fn(usize) + Sync) {
        // SAFETY: as the caller vouches.
        unsafe { &*self.0 }
    }
}

// SAFETY: the closure is `Sync`, so a reference to it may go to another thread.
unsafe impl Send for Task {}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Task")
    }
}

/// Ends a task: waits for the helpers that are at work on it, but not for those that have not
/// begun. Where other programs want the processor, a helper may begin milliseconds late; by then
/// the others have done its parts.
struct Closing<'a>(&'a Shared);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let gate = &self.0.gate;
        let mut at_work = gate.fetch_or(CLOSED, AcqRel) & u64::from(u32::MAX) & !CLOSED;
        let mut turns = 0;
        while at_work > 0 {
            turns += 1;
            if turns < PATIENCE {
                spin_loop()
            } else {
                thread::yield_now()
            }
            at_work = gate.load(Acquire) & u64::from(u32::MAX) & !CLOSED;
        }
        *self.0.task.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Shared {
    /// Begins work on the task with this number, if it still may be begun.
    fn enter(&self, epoch: u64) -> bool {
        let open = |gate: u64| (gate >> EPOCH == epoch && gate & CLOSED == 0).then_some(gate + HELPER);
        self.gate.fetch_update(AcqRel, Acquire, open).is_ok()
    }

    fn take_parts(&self, task: &(dyn Fn(usize) + Sync)) {
        let parts = self.parts.load(Relaxed);
        loop {
            let part = self.next.fetch_add(1, Relaxed);
            if part >= parts {
                return;
            }
            task(part);
        }
    }
}

/// Waits for calls and answers them, until the process ends.
fn help(call: &Call, shared: &Shared) {
    let mut done = 0;
    loop {
        let called = (0..PATIENCE).any(|_| {
            spin_loop();
            call.epoch.load(Acquire) != done
        });
        if !called {
            call.asleep.store(true, SeqCst);
            while call.epoch.load(SeqCst) == done {
                thread::park();
            }
            call.asleep.store(false, Relaxed);
        }
        done = call.epoch.load(Acquire);
        if !shared.enter(done) {
            continue;
        }
        let task = *shared.task.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task {
            // SAFETY: the gate let this helper in, so `ThreadPool::run` neither returns nor unwinds
            // before the gate is told that it is done.
            let task = unsafe { task.get() };
            // A panic ends the process: its part would be missing.
            if catch_unwind(AssertUnwindSafe(|| shared.take_parts(task))).is_err() {
                exit_now(PANICKED);
            }
        }
        shared.gate.fetch_sub(HELPER, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_part_is_done_once_whoever_does_it() {
        let mut pool = ThreadPool::new();
        pool.grow(4).unwrap();
        for round in 0..2_000_usize {
            let parts = round % 17;
            let counts: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
            pool.run(1 + round % 5, parts, &|part| {
                counts[part].fetch_add(1, Relaxed);
            });
            assert!(counts.iter().all(|count| count.load(Relaxed) == 1), "{round}");
        }
    }

    #[test]
    fn no_more_threads_work_than_are_allowed() {
        let mut pool = ThreadPool::new();
        pool.grow(4).unwrap();
        for threads in [1, 2, 3] {
            let seen = Mutex::new(HashSet::new());
            pool.run(threads, 1_000, &|_| {
                seen.lock().unwrap().insert(thread::current().id());
            });
            assert!(seen.into_inner().unwrap().len() <= threads);
        }
    }

    #[test]
    fn a_sleeping_pool_wakes() {
        let mut pool = ThreadPool::new();
        pool.grow(2).unwrap();
        for _ in 0..3 {
            while !pool.helpers[0].call.asleep.load(SeqCst) {
                thread::yield_now();
            }
            // Each part waits for the other, so both threads must take one.
            let meeting = std::sync::Barrier::new(2);
            pool.run(2, 2, &|_| {
                meeting.wait();
            });
        }
    }
}
