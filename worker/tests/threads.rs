//! A template must have one thread, or what it forks would hang: loading, warming and computing
//! must start none.
//!
//! The libraries read their numbers of threads from the environment once. So each case is in a
//! process of its own, with the environment that a template gets.
use crate::common::{in_own_process, job, load, run};
use ipc::{FromWorker, Job, Prompt, Sampling};
use std::fs;

#[test]
fn nothing_that_a_template_does_starts_a_thread() {
    let started = |threads| -> Option<usize> {
        let variables =
            [("CANDLE_NUM_THREADS", threads), ("RAYON_NUM_THREADS", threads), ("TOKENIZERS_PARALLELISM", "false")];
        let said = in_own_process(&variables)?;
        Some(said.lines().find_map(|line| line.split_once("started: ")).unwrap().1.parse().unwrap())
    };
    match started("1") {
        None => {
            let before = threads();
            work();
            println!("started: {}", threads() - before);
        }
        Some(number) => {
            assert_eq!(number, 0);
            // What would be seen if a library had started a thread.
            assert!(started("2") >= Some(1));
        }
    }
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

/// Does all that a template and its workers do, in this thread.
fn work() {
    let mut model = load("builtin:pocket", None);
    let sampling = Sampling { temperature: 0.9, top_p: 0.95, ..Sampling::default() };
    // More than a chunk, and enough tokens that a loop over a table would be worth a thread.
    let prompt = Prompt::Raw("One morning the drum was gone. ".repeat(10));
    let messages = run(&mut model, &Job { sampling, max_tokens: Some(20), ignore_end: true, ..job(prompt) });
    assert!(matches!(messages.last(), Some(FromWorker::Done { .. })), "{messages:?}");
}
