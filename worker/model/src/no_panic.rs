//! Libraries that panic on some of what comes from strangers: a panic becomes a result.
use std::panic::{self, AssertUnwindSafe};

/// What `run` returns, or none if it panics, of which nothing is printed.
pub(crate) fn without_panic<T>(run: impl FnOnce() -> T) -> Option<T> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let made = panic::catch_unwind(AssertUnwindSafe(run));
    panic::set_hook(hook);
    made.ok()
}
