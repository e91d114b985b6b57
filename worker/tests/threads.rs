//! A template must have one thread, or what it forks would hang: loading, warming and computing must start none.
//!
//! The libraries read their numbers of threads from the environment once, and the test harness has threads of its own. So this is a
//! program without it, which starts itself again with the environment that a template gets.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod common;

use common::{job, load, run};
use ipc::{FromWorker, Job, Prompt, Sampling};
use std::{
    env, fs,
    process::{Command, ExitCode},
};

const ROLE: &str = "WORKER_TEST_THREADS";

fn main() -> ExitCode {
    if env::args().any(|argument| argument == "--list") {
        println!("one_thread: test");
        return ExitCode::SUCCESS;
    }
    if env::var_os(ROLE).is_some() {
        println!("{}", threads_after_work());
        return ExitCode::SUCCESS;
    }
    let template = threads_of_child("1");
    // What would be seen if a library had started a thread.
    let other = threads_of_child("2");
    if template != 1 || other < 2 {
        eprintln!("a template has {template} threads and should have 1; a process that starts one has {other}");
        return ExitCode::FAILURE;
    }
    println!("test one_thread ... ok");
    ExitCode::SUCCESS
}

/// Runs this program as a process that loads a model, and returns how many threads it had in the end.
fn threads_of_child(threads: &str) -> usize {
    let child = Command::new(env::current_exe().unwrap())
        .env(ROLE, "child")
        .env("CANDLE_NUM_THREADS", threads)
        .env("RAYON_NUM_THREADS", threads)
        .env("TOKENIZERS_PARALLELISM", "false")
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    String::from_utf8_lossy(&child.stdout).trim().parse().unwrap()
}

/// Does all that a template and its workers do, in this thread.
fn threads_after_work() -> usize {
    let mut model = load("builtin:pocket", None);
    let sampling = Sampling { temperature: 0.9, top_p: 0.95, ..Sampling::default() };
    // More than a chunk, and enough tokens that a loop over a table would be worth a thread.
    let prompt = Prompt::Raw("One morning the drum was gone. ".repeat(10));
    let messages = run(&mut model, &Job { sampling, max_tokens: Some(20), ignore_end: true, ..job(prompt) });
    assert!(matches!(messages.last(), Some(FromWorker::Done { .. })), "{messages:?}");
    fs::read_dir("/proc/self/task").unwrap().count()
}
