//! What the supervisor adds to a request: the echo engine asked through it and straight at a
//! worker's socket, in turns.
use crate::{
    Result,
    direct::Direct,
    format::{duration, heading, reach},
    process::environment,
    sample::Sample,
    server::{Server, Serving},
};
use ipc::{AsyncClient, Client, ClientError, GenerateRequest};
use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// What the supervisor may add to half of all requests.
const REACH: Duration = Duration::from_micros(60);
/// Turns, and requests of each turn. A process for each request takes longer, so there are fewer of
/// them.
const TURNS: usize = 20;
const REQUESTS: usize = 1000;
const REQUESTS_OF_FRESH: usize = 100;
/// Messages that answer one request, either way.
const MESSAGES: usize = 3;
pub(crate) const CLIENTS: usize = 32;

/// Measures round trips, then requests per second.
pub(crate) fn measure(seconds: Duration) -> Result<()> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let served = |workers, isolation| Server::start(Serving { isolation, ..Serving::new("builtin:echo", workers) });
    round_trips(&served(1, "worker")?, &served(cores, "request")?)?;
    heading(
        "Requests per second: as before, from as many clients at once, with a worker for each core",
        &["isolation", "clients", "workers", "requests", "requests / s", "p50", "p99"],
    );
    for isolation in ["worker", "request"] {
        let server = served(cores, isolation)?;
        let (count, elapsed, times) = flood(server.socket(), seconds)?;
        println!(
            "| {isolation} | {CLIENTS} | {cores} | {count} | {:.0} | {} | {} |",
            count as f64 / elapsed.as_secs_f64(),
            duration(times.median()),
            duration(times.percentile(99)),
        );
    }
    Ok(())
}

fn round_trips(kept: &Server, fresh: &Server) -> Result<()> {
    let mut direct = Direct::start(environment(&kept.settle()?)?)?;
    let (mut kept, mut fresh) = (kept.client()?, fresh.client()?);
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    let [straight, through, through_fresh] = &mut times;
    repeat(REQUESTS, &mut Vec::new(), || direct.ask())?;
    repeat(REQUESTS, &mut Vec::new(), || ask(&mut kept))?;
    repeat(REQUESTS_OF_FRESH, &mut Vec::new(), || ask(&mut fresh))?;
    for _ in 0..TURNS {
        repeat(REQUESTS, straight, || direct.ask())?;
        repeat(REQUESTS, through, || ask(&mut kept))?;
        repeat(REQUESTS_OF_FRESH, through_fresh, || ask(&mut fresh))?;
    }
    heading(
        "Round trip: the echo engine, a prompt of one byte answered with one token, one client",
        &["way", "requests", "p50", "p99", "added to p50", "reach"],
    );
    let [straight, through, fresh] = times.map(Sample::new);
    let straight = straight.ok_or("no round trips")?;
    for (way, sample, is_reached) in [
        ("straight to a worker's socket", &straight, None),
        ("supervisor, isolation = \"worker\"", &through.ok_or("no round trips")?, Some(REACH)),
        ("supervisor, isolation = \"request\"", &fresh.ok_or("no round trips")?, None),
    ] {
        let added = sample.median().saturating_sub(straight.median());
        let reached = is_reached.map(|most| reach(&format!("at most {} added", duration(most)), added <= most));
        println!(
            "| {way} | {} | {} | {} | {} | {} |",
            sample.count(),
            duration(sample.median()),
            duration(sample.percentile(99)),
            duration(added),
            reached.unwrap_or_else(|| "-".to_owned()),
        );
    }
    Ok(())
}

/// Times `count` requests.
fn repeat(count: usize, times: &mut Vec<Duration>, mut ask: impl FnMut() -> Result<usize>) -> Result<()> {
    for _ in 0..count {
        let began = Instant::now();
        let messages = ask()?;
        times.push(began.elapsed());
        if messages != MESSAGES {
            return Err(format!("a request was answered with {messages} messages, not {MESSAGES}").into());
        }
    }
    Ok(())
}

fn request() -> GenerateRequest {
    let mut request = GenerateRequest::raw("x");
    request.max_tokens = Some(1);
    request
}

/// Asks for one token and counts the messages of the answer.
pub(crate) fn ask(client: &mut Client) -> Result<usize> {
    let mut messages = 0;
    for response in client.generate(request())? {
        response?;
        messages += 1;
    }
    Ok(messages)
}

/// Keeps all clients asking for `length`. Returns how many requests were answered in which time,
/// and how long each took.
fn flood(socket: &Path, length: Duration) -> Result<(usize, Duration, Sample<Duration>)> {
    /// Requests that end in this time are not counted.
    const WARM_UP: Duration = Duration::from_millis(500);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let times = runtime.block_on(async {
        let mut clients = JoinSet::new();
        let began = Instant::now() + WARM_UP;
        for _ in 0..CLIENTS {
            clients.spawn(keep_asking(AsyncClient::connect(socket).await?, began, began + length));
        }
        let mut times = Vec::new();
        while let Some(ended) = clients.join_next().await {
            times.extend(ended??);
        }
        Result::Ok(times)
    })?;
    let sample = Sample::new(times).ok_or("no request was answered")?;
    Ok((sample.count(), length, sample))
}

/// Asks one request after another until `end`, and times those that end from `began` on.
async fn keep_asking(
    mut client: AsyncClient,
    began: Instant,
    end: Instant,
) -> std::result::Result<Vec<Duration>, ClientError> {
    let mut times = Vec::new();
    loop {
        let asked = Instant::now();
        let mut answer = client.generate(request()).await?;
        while let Some(response) = answer.next().await {
            response?;
        }
        match Instant::now() {
            now if now >= end => return Ok(times),
            now if now >= began => times.push(now - asked),
            _ => {}
        }
    }
}
