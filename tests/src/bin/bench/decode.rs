//! How fast one worker decodes, against candle's own loop on the same file and with as many threads: one.
use crate::{
    Model, Result,
    candle_loop::{CandleLoop, Run},
    format::{heading, reach},
    process::environment,
    sample::Sample,
    server::{Server, Serving},
};
use ipc::{Client, GenerateRequest, Response};
use std::time::Instant;

/// The part of candle's speed that a worker is to reach.
const REACH: f64 = 0.95;
/// Tokens of an answer.
const TOKENS: u32 = 128;

/// Measures all models.
pub(crate) fn measure(models: &[Model]) -> Result<()> {
    heading(
        &format!("Decoding: {TOKENS} tokens after a prompt of 32, greedy, one thread; the first token is not counted"),
        &[
            "model",
            "turns each",
            "worker, median (least - most) tokens / s",
            "candle's loop",
            "worker / candle, median of turns",
            "same tokens",
            "reach",
        ],
    );
    for model in models {
        let path = model.file.to_string_lossy();
        let turns = if model.is_large { 5 } else { 40 };
        let server = Server::start(Serving { path: &path, workers: 1, isolation: "request" })?;
        let mut client = server.client()?;
        let mut candle = CandleLoop::start(&model.file, TOKENS as usize, environment(&server.settle()?)?)?;
        let prompt = candle.prompt.clone();
        let (mut ours, mut theirs, mut ratios, mut same) = (Vec::new(), Vec::new(), Vec::new(), true);
        for turn in 0..turns {
            let (worker, candle) = in_turn(
                turn % 2 == 0,
                || {
                    server.settle()?;
                    ask(&mut client, &prompt)
                },
                || candle.run(),
            )?;
            same &= worker.ids == candle.ids;
            ours.push(speed(&worker));
            theirs.push(speed(&candle));
            ratios.push(speed(&worker) / speed(&candle));
        }
        let (ours, theirs) = (Sample::new(ours).ok_or("no turn")?, Sample::new(theirs).ok_or("no turn")?);
        // The machine's speed drifts; within one turn it is much the same for both.
        let ratio = Sample::new(ratios).ok_or("no turn")?.median();
        println!(
            "| {} | {turns} | {} | {} | {ratio:.3} | {} | {} |",
            model.name,
            shown(&ours),
            shown(&theirs),
            if same { "yes" } else { "NO" },
            reach(&format!("at least {REACH}"), ratio >= REACH),
        );
    }
    Ok(())
}

/// Does both, the first one first if `in_order`.
fn in_turn<A, B>(in_order: bool, one: impl FnOnce() -> Result<A>, other: impl FnOnce() -> Result<B>) -> Result<(A, B)> {
    if in_order {
        let one = one()?;
        Ok((one, other()?))
    } else {
        let other = other()?;
        Ok((one()?, other))
    }
}

/// One answer through the supervisor.
fn ask(client: &mut Client, prompt: &str) -> Result<Run> {
    let mut request = GenerateRequest::raw(prompt);
    request.max_tokens = Some(TOKENS);
    request.ignore_end = true;
    let (mut ids, mut first, mut last) = (Vec::new(), None, Instant::now());
    for response in client.generate(request)? {
        if let Response::Piece { token, .. } = response? {
            last = Instant::now();
            first.get_or_insert(last);
            ids.push(token);
        }
    }
    match first {
        Some(first) if ids.len() == TOKENS as usize => Ok(Run { took: last - first, ids }),
        _ => Err(format!("the answer has {} tokens, not {TOKENS}", ids.len()).into()),
    }
}

/// Tokens per second after the first.
fn speed(run: &Run) -> f64 {
    (run.ids.len() - 1) as f64 / run.took.as_secs_f64()
}

fn shown(sample: &Sample<f64>) -> String {
    let (least, most) = sample.range();
    format!("{:.1} ({least:.1} - {most:.1})", sample.median())
}
