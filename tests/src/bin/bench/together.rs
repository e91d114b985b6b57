//! Two clients at once against one after the other: what sharing the cores costs, and whether each
//! gets its share.
use crate::{
    Model, Result,
    format::{heading, reach},
    sample::Sample,
    server::{Server, Serving},
};
use ipc::GenerateRequest;
use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// Measures all models.
pub(crate) fn measure(models: &[Model]) -> Result<()> {
    const TURNS: usize = 7;
    heading(
        &format!("Two clients at once against one after the other, {TURNS} turns, medians"),
        &[
            "model",
            "tokens each",
            "one after the other, tokens / s",
            "at once",
            "ratio",
            "slower / faster client",
            "reach",
        ],
    );
    for model in models {
        let path = model.file.to_string_lossy();
        let tokens = if model.is_large { 64 } else { 400 };
        let server = Server::start(Serving::new(&path, 2))?;
        let (mut apart, mut together, mut ratios, mut shares) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..TURNS {
            let speed = |took: Duration| f64::from(2 * tokens) / took.as_secs_f64();
            server.settle()?;
            let began = Instant::now();
            ask(server.socket(), tokens)?;
            ask(server.socket(), tokens)?;
            let one_by_one = speed(began.elapsed());
            server.settle()?;
            let began = Instant::now();
            let (one, other) = thread::scope(|scope| {
                let other = scope.spawn(|| ask(server.socket(), tokens).map_err(|error| error.to_string()));
                (ask(server.socket(), tokens), other.join())
            });
            let at_once = speed(began.elapsed());
            let (one, other) = (one?, other.map_err(|_| "a client panicked")??);
            apart.push(one_by_one);
            together.push(at_once);
            ratios.push(at_once / one_by_one);
            shares.push(one.max(other).as_secs_f64() / one.min(other).as_secs_f64());
        }
        let median = |measured: Vec<f64>| Sample::new(measured).map(|sample| sample.median()).ok_or("no turn");
        let (ratio, share) = (median(ratios)?, median(shares)?);
        println!(
            "| {} | {tokens} | {:.1} | {:.1} | {ratio:.2} | {share:.2} | {} |",
            model.name,
            median(apart)?,
            median(together)?,
            reach("at least 0.95", ratio >= 0.95),
        );
    }
    Ok(())
}

/// One answer; how long it took.
fn ask(socket: &Path, tokens: u32) -> Result<Duration> {
    let mut request = GenerateRequest::raw("Once upon a time");
    request.max_tokens = Some(tokens);
    request.ignore_end = true;
    let began = Instant::now();
    for response in ipc::Client::connect(socket)?.generate(request)? {
        response?;
    }
    Ok(began.elapsed())
}
