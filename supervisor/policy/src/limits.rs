//! What each model and the supervisor as a whole may take: times, numbers and memory.
use super::event::{Isolation, Load};
use std::time::Duration;

/// The limits of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Most requests that run at once: the slots. At least 1.
    pub workers: u32,
    /// Most requests that wait.
    pub queue: usize,
    /// One process for each request, or not.
    pub isolation: Isolation,
    /// Most threads that one worker can use. At least 1.
    pub threads: u32,
    /// When the model is loaded first.
    pub load: Load,
    /// How long it is kept with no request; always if `None`.
    pub idle_unload: Option<Duration>,
    /// Workers that may die under one request, or under one part of it. At least 1.
    pub max_attempts: u32,
    /// Most memory that a worker may take for itself, in bytes. Workers that were forked before it
    /// changed keep the old limit until others have taken their place.
    pub memory: u64,
    /// Longest wait in the queue. It does not run while the model is being loaded and there is no
    /// worker.
    pub queue_timeout: Duration,
    /// Longest time without progress.
    pub progress_timeout: Duration,
    /// Longest time from a request's first dispatch to its end.
    pub request_timeout: Duration,
}

/// The limits of the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Threads for all workers that compute.
    pub cores: u32,
    /// Longest time from asking for a worker to its being ready.
    pub start: Duration,
    /// How long nothing is forked for a slot that there was no memory for.
    pub room: Duration,
    /// Longest time for a template to load its model.
    pub load: Duration,
    /// Longest time for a worker to exit after its answer or after it was asked to.
    pub grace: Duration,
    /// Longest time for a worker of many requests to stop the one that was cancelled.
    pub cancel: Duration,
    /// The first back-off; each further one doubles it.
    pub backoff: Duration,
    /// The longest back-off.
    pub backoff_max: Duration,
    /// Lives in a row that end before they are ready until the pool is parked.
    pub crash_loop: u32,
    /// How long a pool is parked.
    pub park: Duration,
    /// How long the front may not be heard of.
    pub silence: Duration,
    /// How long a poisonous request is remembered.
    pub poison: Duration,
    /// How long shutting down waits for what runs and what is queued.
    pub drain: Duration,
    /// How long what was killed in the end may take to end, until nobody waits for it any more.
    pub last: Duration,
    /// How long after the last thing that was to happen to a pool it counts as one that does not
    /// move.
    pub stall: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            cores: 1,
            start: Duration::from_secs(10),
            room: Duration::from_secs(1),
            load: Duration::from_secs(600),
            grace: Duration::from_secs(2),
            cancel: Duration::from_millis(40),
            backoff: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
            crash_loop: 8,
            park: Duration::from_secs(30),
            silence: Duration::from_secs(10),
            poison: Duration::from_secs(600),
            drain: Duration::from_secs(30),
            last: Duration::from_secs(5),
            stall: Duration::from_secs(60),
        }
    }
}
