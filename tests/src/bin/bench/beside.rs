//! A text that is generated beside a burst of vectors: how fast it is against alone, and so which
//! share of the cores it has.
use crate::{
    Model, Result,
    format::{heading, reach},
    sample::Sample,
    server::{Server, Serving},
};
use ipc::{Client, EmbedRequest, GenerateRequest, TextRole};
use std::{
    path::Path,
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Instant,
};

/// Where `tests/set-up` puts the embedding model.
const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/models/all-MiniLM-L6-v2");
/// Texts of about twenty tokens.
const BATCH: &str = include_str!("../../../peers/sentences.txt");
/// More than there are workers, so that some always wait.
const CLIENTS: usize = 4;
const TURNS: usize = 7;

/// Measures all models.
pub(crate) fn measure(models: &[Model]) -> Result<()> {
    let heads = ["model", "alone, tokens / s", "beside the burst", "ratio", "texts / s of the burst", "reach"];
    heading(&format!("A text beside {CLIENTS} clients that embed batches without end, {TURNS} turns, medians"), &heads);
    let vectors = Path::new(VECTORS).canonicalize().map_err(|_| "tests/set-up has not been run")?;
    for model in models {
        let path = model.file.to_string_lossy();
        let also = format!("[[model]]\nname = \"vectors\"\npath = {:?}\n", vectors.to_string_lossy());
        let server = Server::start(Serving { also: &also, ..Serving::new(&path, 1) })?;
        let tokens = if model.is_large { 48 } else { 400 };
        let (mut alone, mut beside, mut ratios, mut texts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..TURNS {
            let by_itself = speed(server.socket(), tokens)?;
            let (with_others, embedded) = in_a_burst(server.socket(), || speed(server.socket(), tokens))?;
            alone.push(by_itself);
            beside.push(with_others);
            ratios.push(with_others / by_itself);
            texts.push(embedded);
        }
        let median = |measured: Vec<f64>| Sample::new(measured).map(|sample| sample.median()).ok_or("no turn");
        let ratio = median(ratios)?;
        println!(
            "| {} | {:.1} | {:.1} | {ratio:.2} | {:.0} | {} |",
            model.name,
            median(alone)?,
            median(beside)?,
            median(texts)?,
            // Two models compute, so each has half of the cores.
            reach("at least 0.5", ratio >= 0.5),
        );
    }
    Ok(())
}

/// Tokens per second of one answer.
fn speed(socket: &Path, tokens: u32) -> Result<f64> {
    let mut request = GenerateRequest::raw("Once upon a time");
    (request.max_tokens, request.ignore_end) = (Some(tokens), true);
    let mut client = Client::connect(socket)?;
    let began = Instant::now();
    for response in client.generate(request)? {
        response?;
    }
    Ok(f64::from(tokens) / began.elapsed().as_secs_f64())
}

/// What `measured` gives while others embed, and how many texts a second they get.
fn in_a_burst(socket: &Path, measured: impl Fn() -> Result<f64>) -> Result<(f64, f64)> {
    let (stop, started) = (AtomicBool::new(false), Barrier::new(CLIENTS + 1));
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| batches(socket, &stop, &started).map_err(|error| error.to_string())))
            .collect();
        started.wait();
        let began = Instant::now();
        let found = measured();
        let seconds = began.elapsed().as_secs_f64();
        stop.store(true, Relaxed);
        let mut embedded = 0;
        for client in clients {
            embedded += client.join().map_err(|_| "a client panicked")??;
        }
        Ok((found?, embedded as f64 / seconds))
    })
}

/// Embeds batches until it is stopped. The first does not count.
fn batches(socket: &Path, stop: &AtomicBool, started: &Barrier) -> Result<usize> {
    let texts: Vec<String> = BATCH.lines().map(str::to_owned).collect();
    let embed = || -> Result<usize> {
        let request = EmbedRequest { model: None, texts: texts.clone(), role: TextRole::Plain };
        Client::connect(socket)?.embed(request)?.try_for_each(|response| response.map(drop))?;
        Ok(texts.len())
    };
    let first = embed();
    started.wait();
    first?;
    let mut embedded = 0;
    while !stop.load(Relaxed) {
        embedded += embed()?;
    }
    Ok(embedded)
}
