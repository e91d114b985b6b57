//! Measures how long the daemon takes to read the largest requests, in several shapes.
//!
//! `cargo run --release -p ipc --example parse_times` prints a table in Markdown. The daemon reads
//! requests that are longer than 64 KiB beside its loop; `supervisor/src/daemon/connection.rs` says
//! how that size follows from this table.
use ipc::{Job, JobPrompt, MAX_REQUEST, Message, Prompt, Request, RequestId, ToWorker};
use std::{
    hash::{BuildHasher, RandomState},
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

/// What may hold the daemon's loop.
const REACH: Duration = Duration::from_millis(10);
/// How much slower a Raspberry Pi is than the machines that this was written on.
const SLOWER: u32 = 4;
const ROUNDS: usize = 9;

/// A payload of `size` bytes at most that repeats `piece` between `start` and `end`.
fn repeated(start: &str, piece: &str, end: &str, size: usize) -> Vec<u8> {
    let count = (size - start.len() - end.len()) / piece.len();
    [start, &piece.repeat(count), end].concat().into_bytes()
}

/// The same, with so many pieces at most.
fn counted(start: &str, piece: &str, end: &str, count: usize, size: usize) -> Vec<u8> {
    repeated(start, piece, end, size.min(start.len() + end.len() + count * piece.len()))
}

fn shapes(size: usize) -> [(&'static str, Vec<u8>); 12] {
    let messages = "{\"generate\":{\"messages\":[{\"role\":\"user\"}";
    let junk = "{\"generate\":{\"messages\":[{\"role\":\"user\",\"content\":";
    [
        ("one string", repeated("{\"generate\":{\"prompt\":\"", "x", "\"}}", size)),
        ("one string, other letters", repeated("{\"generate\":{\"prompt\":\"", "\u{e9}\u{4f60}", "\"}}", size)),
        ("one string, all escaped", repeated("{\"generate\":{\"prompt\":\"", "\\n", "\"}}", size)),
        ("one string, all \\u", repeated("{\"generate\":{\"prompt\":\"", "\\u00e9", "\"}}", size)),
        ("65,536 texts", counted("{\"embed\":{\"texts\":[\"x\"", ",\"x\"", "]}}", 65_535, size)),
        ("as many texts as fit", repeated("{\"embed\":{\"texts\":[\"x\"", ",\"x\"", "]}}", size)),
        ("as many empty texts as fit", repeated("{\"embed\":{\"texts\":[\"\"", ",\"\"", "]}}", size)),
        ("100,000 messages", counted(messages, ",{\"role\":\"user\",\"content\":\"x\"}", "]}}", 100_000, size)),
        ("as many messages as fit", repeated(messages, ",{\"role\":\"user\"}", "]}}", size)),
        (
            "one part each",
            repeated(messages, ",{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"x\"}]}", "]}}", size),
        ),
        ("wrong at its end", repeated(messages, ",{\"role\":\"user\",\"content\":\"x\"}", ",{\"mood\":1}]}}", size)),
        ("nested lists", repeated(junk, "[", "", size)),
    ]
}

/// The shortest and the median time of reading it, the time of serving it, and that of forgetting
/// it.
fn measure(payload: &[u8]) -> [Duration; 4] {
    let mut reads = Vec::new();
    let (mut serves, mut drops) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let request = black_box(Request::decode(black_box(payload)));
        reads.push(began.elapsed());
        let (served, prompt) = request.map_or_else(|_| (Duration::ZERO, Arc::new(Prompt::Raw(String::new()))), serve);
        serves.push(served);
        let began = Instant::now();
        drop(prompt);
        drops.push(began.elapsed());
    }
    reads.sort();
    serves.sort();
    drops.sort();
    [reads[0], reads[ROUNDS / 2], serves[ROUNDS / 2], drops[ROUNDS / 2]]
}

/// What the loop does with a request for a text besides: it makes a fingerprint and a job's frame.
fn serve(request: Request) -> (Duration, Arc<Prompt>) {
    let nothing = Arc::new(Prompt::Raw(String::new()));
    let Request::Generate(asked) = request else { return (Duration::ZERO, nothing) };
    let began = Instant::now();
    black_box(RandomState::new().hash_one(&asked.prompt));
    let prompt = Arc::new(asked.prompt);
    let job = Job {
        request: RequestId(1),
        prompt: JobPrompt::Fresh(Arc::clone(&prompt)),
        generated: Vec::new(),
        delivered: 0,
        chunk: 32,
        max_tokens: asked.max_tokens,
        sampling: asked.sampling,
        seed: 0,
        stop: asked.stop.clone(),
        ignore_end: asked.ignore_end,
        template_vars: String::new(),
        cache: true,
    };
    drop(black_box(ipc::to_frame(&ToWorker::Run(Box::new(job)), ipc::MAX_FRAME)));
    (began.elapsed(), prompt)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn main() {
    if cfg!(debug_assertions) {
        eprintln!("parse_times: this is not a release build; its figures say little");
    }
    let mut slowest = 0.0_f64;
    println!("| request of 4 MiB | bytes | fastest | median | ns / byte | job made | forgotten |");
    println!("|---|---|---|---|---|---|---|");
    for (name, payload) in shapes(MAX_REQUEST) {
        let [fastest, median, served, forgotten] = measure(&payload);
        let each = median.as_secs_f64() * 1e9 / payload.len() as f64;
        slowest = slowest.max(each);
        println!(
            "| {name} | {} | {:.2} ms | {:.2} ms | {each:.2} | {:.2} ms | {:.2} ms |",
            payload.len(),
            milliseconds(fastest),
            milliseconds(median),
            milliseconds(served),
            milliseconds(forgotten),
        );
    }
    let most = REACH.as_secs_f64() * 1e9 / (slowest * f64::from(SLOWER));
    println!();
    println!(
        "At {slowest:.2} ns a byte, on a machine {SLOWER} times slower, {} KiB are read in {} ms.",
        most as u64 / 1024,
        REACH.as_millis()
    );
    let [_, median, ..] =
        measure(&shapes(64 << 10).into_iter().map(|(_, payload)| payload).nth(10).unwrap_or_default());
    println!("64 KiB of messages that are wrong at their end are read in {:.2} ms here.", milliseconds(median));
}
