//! How long an idle worker that was killed is missing, and how long a daemon takes from its start
//! to its first worker.
use crate::{
    Model, Result,
    format::{duration, heading, reach},
    sample::Sample,
    server::{Server, Serving},
};
use integration_tests::{Signal, process};
use ipc::{Client, status};
use std::{
    fs::File,
    io,
    time::{Duration, Instant},
};

/// What half of all replacements may take.
const REACH: Duration = Duration::from_millis(20);
/// How many times faster than a cold start a replacement is to be.
const REACH_FASTER: f64 = 50.0;
/// How long one replacement may take at all.
const LIMIT: Duration = Duration::from_secs(60);

/// Measures all models.
pub(crate) fn measure(models: &[Model]) -> Result<()> {
    heading(
        "Respawn: from kill -9 of an idle worker to its replacement being idle",
        &[
            "model",
            "kills",
            "p50",
            "p99",
            "status round trip, p50",
            "cold start, median",
            "of which loading",
            "cold / respawn",
            "reach",
        ],
    );
    for model in models {
        let path = model.file.to_string_lossy();
        let serving = Serving::new(&path, 1);
        // The page cache is to hold the file in every start.
        io::copy(&mut File::open(&model.file)?, &mut io::sink())?;
        let (kills, starts) = if model.is_large { (100, 5) } else { (400, 15) };
        let (cold, loading) = cold_starts(serving, starts)?;
        let server = Server::start(serving)?;
        let mut client = server.client()?;
        let mut took = Vec::new();
        for _ in 0..kills {
            took.push(replace(&server, &mut client)?);
        }
        let status =
            Sample::new((0..kills).map(|_| timed(&mut client)).collect::<Result<_>>()?).ok_or("no round trip")?;
        let took = Sample::new(took).ok_or("no worker was killed")?;
        let faster = cold.as_secs_f64() / took.median().as_secs_f64();
        let reached = if model.is_large {
            let ratio =
                reach(&format!("at least {REACH_FASTER} times faster than a cold start"), faster >= REACH_FASTER);
            format!("{}; {ratio}", reach(&format!("at most {} p50", duration(REACH)), took.median() <= REACH))
        } else {
            "-".to_owned()
        };
        println!(
            "| {} | {} | {} | {} | {} | {} | {} | {faster:.0} | {reached} |",
            model.name,
            took.count(),
            duration(took.median()),
            duration(took.percentile(99)),
            duration(status.median()),
            duration(cold),
            duration(loading),
        );
    }
    println!(
        "\nThe replacement is seen by asking for the status without a pause, so each figure holds up to one status round trip too much,\n\
         and what the daemon spends on answering. A cold start is from the exec of `supervisor run` to the first idle worker, with the\n\
         file in the page cache; loading is what the template says of itself. A fork copies page tables: it takes about ten times as long\n\
         if the template's memory is not in huge pages, which the part `memory` shows."
    );
    Ok(())
}

/// Median time of a cold start, and of the loading in it.
fn cold_starts(serving: Serving<'_>, count: usize) -> Result<(Duration, Duration)> {
    let mut starts = Vec::new();
    let mut loads = Vec::new();
    for _ in 0..count {
        let began = Instant::now();
        let server = Server::launch(serving)?;
        let model = server.first_idle()?;
        starts.push(began.elapsed());
        let load =
            model.template.and_then(|template| template.load_s).ok_or("the template does not say how long it took")?;
        loads.push(Duration::from_secs_f64(load));
    }
    let median = |times| Sample::new(times).map(|times| times.median()).ok_or("no cold start");
    Ok((median(starts)?, median(loads)?))
}

/// Kills the idle worker and times its replacement.
fn replace(server: &Server, client: &mut Client) -> Result<Duration> {
    let model = server.settle()?;
    let worker = model.workers.first().ok_or("there is no worker")?;
    let (pid, generation) = (worker.pid.ok_or("the worker has no pid")?, worker.generation);
    let is_new = |worker: &status::WorkerStatus| worker.state == "idle" && worker.generation > generation;
    let began = Instant::now();
    if !process::kill(pid, Signal::SIGKILL) {
        return Err("the worker has ended by itself".into());
    }
    loop {
        let status = client.status()?;
        let took = began.elapsed();
        if status.models.iter().flat_map(|model| &model.workers).any(is_new) {
            return Ok(took);
        }
        if took > LIMIT {
            return Err("the worker that was killed has no replacement".into());
        }
    }
}

fn timed(client: &mut Client) -> Result<Duration> {
    let began = Instant::now();
    client.status()?;
    Ok(began.elapsed())
}
