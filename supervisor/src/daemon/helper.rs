//! Threads beside the loop, for what takes longer than the loop may.
//!
//! They are started once, at the daemon's start. One that is started when it is needed may not be
//! had then: a limit of threads can be reached at any time, and others may have reached it.
use crate::shortage::ThreadError;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc,
    thread,
};
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// A thread that does one thing after another. It ends when nobody can ask it any more.
#[derive(Clone, Debug)]
pub(crate) struct Helper {
    jobs: mpsc::Sender<Job>,
}

/// All of them. Each waits for something of its own, so that none holds another up.
#[derive(Clone, Debug)]
pub(crate) struct Helpers {
    /// Reads large requests.
    pub(crate) parser: Helper,
    /// Looks at the memory of processes.
    pub(crate) sampler: Helper,
}

impl Helpers {
    /// Starts them.
    pub(crate) fn start() -> Result<Helpers, ThreadError> {
        Ok(Helpers {
            parser: Helper::start("parser", "to read large requests")?,
            sampler: Helper::start("sampler", "to look at the memory of processes")?,
        })
    }
}

impl Helper {
    /// Starts a thread with this name, for this purpose.
    fn start(name: &str, purpose: &'static str) -> Result<Helper, ThreadError> {
        let (jobs, asked) = mpsc::channel::<Job>();
        let live = move || {
            while let Ok(job) = asked.recv() {
                // Whoever waits for it finds out; what comes next is done all the same.
                let _panicked = catch_unwind(AssertUnwindSafe(job));
            }
        };
        let started = thread::Builder::new().name(name.to_owned()).spawn(live);
        started.map(|_| Helper { jobs }).map_err(|error| ThreadError::new(purpose, error))
    }

    /// Has something done after all that it was asked for before. `None` if that has panicked.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (done, result) = oneshot::channel();
        let job = Box::new(move || {
            // Who has asked may have gone.
            let _gone = done.send(work());
        });
        // It ends after the last who can ask, so it is there.
        let _asked = self.jobs.send(job);
        result.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
    }

    #[test]
    fn one_thread_does_all_and_outlives_a_panic() {
        let helper = Helper::start("helper", "for a test").expect("a thread");
        let thread = || thread::current().id();
        let first = block_on(helper.run(thread));
        assert_eq!(block_on(helper.run(|| panic!("on purpose"))), None::<()>);
        assert!(first.is_some() && first != Some(thread::current().id()));
        assert_eq!(block_on(helper.run(thread)), first);
    }
}
