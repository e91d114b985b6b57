//! Threads that a worker has and may not use cost no processor time. The test looks at all threads
//! of its process.
use crate::common::in_own_process;
use ipc::ModelSpec;
use model::text::Pace;
use std::{cell::Cell, collections::BTreeSet, fs};
use worker::cache::Cache;
use worker::loaded_model::load_generator;

/// As many threads as the test says.
struct Budget(Cell<usize>);

impl Pace for Budget {
    fn layer(&self) -> usize {
        self.0.get()
    }
}

fn threads() -> BTreeSet<String> {
    let entries = fs::read_dir("/proc/self/task").unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Whether it sleeps, and the nanoseconds for which it ran and the times that it was given a
/// processor.
fn seen(thread: &str) -> (bool, String, String) {
    let read = |name: &str| fs::read_to_string(format!("/proc/self/task/{thread}/{name}")).unwrap();
    let (stat, times) = (read("stat"), read("schedstat"));
    let mut times = times.split_ascii_whitespace().map(str::to_owned);
    let sleeps = stat.rsplit_once(") ").unwrap().1.starts_with('S');
    (sleeps, times.next().unwrap(), times.nth(1).unwrap())
}

#[test]
fn a_thread_without_a_budget_sleeps() {
    if in_own_process(&[]).is_some() {
        return;
    }
    let spec = ModelSpec { threads: 2, ..ModelSpec::new("pocket", "builtin:pocket") };
    let mut model = load_generator(&spec).unwrap();
    let mut cache = Cache::anonymous(model.context, model.model.cache_length()).unwrap();
    let before = threads();
    let budget = Budget(Cell::new(2));
    model.model.begin(128);
    model.model.forward(&[1; 64], 0, cache.numbers(), &budget).unwrap();
    let helpers: Vec<String> = threads().difference(&before).cloned().collect();
    assert_eq!(helpers.len(), 1, "it computes with two");
    let worked = seen(&helpers[0]);
    model.model.forward(&[1; 64], 64, cache.numbers(), &budget).unwrap();
    assert_ne!(seen(&helpers[0]).2, worked.2, "it is given a processor when there is work");

    budget.0.set(1);
    // It may take a moment to fall asleep; from then on it must not be woken.
    let mut last = seen(&helpers[0]);
    let mut unchanged = 0;
    for turn in 0.. {
        assert!(turn < 20_000, "it runs on and on: {last:?}");
        model.model.forward(&[1], 128, cache.numbers(), &budget).unwrap();
        let now = seen(&helpers[0]);
        unchanged = if now.0 && now == last { unchanged + 1 } else { 0 };
        last = now;
        if unchanged == 500 {
            break;
        }
    }
}
