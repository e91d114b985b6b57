//! What it costs a process to be confined, and a system call to be looked at.
//!
//! A process confines itself as a template does and forks others, one after the other, which
//! confine themselves as workers do. Each takes the time of the steps and of a system call before
//! and after.
use crate::{
    Result,
    format::{duration, heading},
    sample::Sample,
};
use nix::{
    dir::Dir,
    fcntl::OFlag,
    sys::{stat::Mode, wait::waitpid},
    unistd::gettid,
};
use std::{
    env,
    hint::black_box,
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use system::foreign_text::chain;
use system::sandbox::Filters;
use system::sandbox::deny_paths;
use system::{Alone, Fork};

/// How many processes confine themselves.
const WORKERS: usize = 500;
/// How many system calls one figure is the mean of.
const CALLS: u32 = 20_000;
/// What is measured, in the order in which the processes print it.
const COLUMNS: [&str; 4] =
    ["Landlock", "seccomp", "a system call of an unconfined process", "the same of a confined worker"];

/// Starts the process and prints its figures.
pub(crate) fn measure() -> Result<()> {
    heading(
        "Sandbox: what a worker takes to confine itself, between `Go` and `Hello`, and what its system calls take",
        &["what", "p50", "p99"],
    );
    let output = Command::new(env::current_exe()?).arg("sandbox-run").stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8(output.stdout)?;
    let rows: Vec<Vec<Duration>> = text
        .lines()
        .map(|line| line.split(' ').map(|number| Ok(Duration::from_nanos(number.parse()?))).collect())
        .collect::<Result<_>>()?;
    if !output.status.success() || rows.len() != WORKERS || rows.iter().any(|row| row.len() != COLUMNS.len()) {
        return Err("the processes could not be confined".into());
    }
    for (column, name) in COLUMNS.iter().enumerate() {
        let sample = Sample::new(rows.iter().map(|row| row[column]).collect()).ok_or("nothing was measured")?;
        println!("| {name} | {} | {} |", duration(sample.median()), duration(sample.percentile(99)));
    }
    Ok(())
}

/// Lives as the process that forks.
pub(crate) fn run() -> Result<()> {
    let mut tasks = Dir::open("/proc/self/task", OFlag::O_RDONLY, Mode::empty())?;
    let unconfined = one_call();
    let filters = Filters::new().map_err(|error| chain(&error))?;
    confine(&filters, false)?;
    for _ in 0..WORKERS {
        match system::fork(Alone::check(&mut tasks)?)? {
            Fork::Parent(child) => drop(waitpid(child, None)?),
            Fork::Child => system::exit_now(i32::from(live(&filters, unconfined).is_err())),
        }
    }
    Ok(())
}

fn live(filters: &Filters, unconfined: Duration) -> Result<()> {
    let [paths, calls] = confine(filters, true)?;
    let times = [paths, calls, unconfined, one_call()];
    println!("{}", times.map(|time| time.as_nanos().to_string()).join(" "));
    Ok(())
}

/// Confines this process, and says how long each of the two took.
fn confine(filters: &Filters, is_worker: bool) -> Result<[Duration; 2]> {
    let began = Instant::now();
    deny_paths().map_err(|error| chain(&error))?;
    let paths = began.elapsed();
    let denied = if is_worker { filters.confine_worker() } else { filters.confine_template() };
    denied.map_err(|error| chain(&error))?;
    Ok([paths, began.elapsed() - paths])
}

/// The mean time of a system call that does nothing.
fn one_call() -> Duration {
    let began = Instant::now();
    for _ in 0..CALLS {
        black_box(gettid());
    }
    began.elapsed() / CALLS
}
