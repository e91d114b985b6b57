//! The benchmark: what a worker costs in memory and time, what the supervisor adds to a request,
//! and how fast the engines are.
//!
//! `cargo run --release -p integration-tests --bin bench -- all [--model FILE.gguf]` prints
//! Markdown. Each part starts daemons of its own and ends them. Figures with a reach are compared
//! with it; nothing fails because one is missed.

mod beside;
mod direct;
mod embed;
mod engine;
mod format;
mod http;
mod machine;
mod memory;
mod overhead;
mod process;
mod respawn;
mod resume;
mod sample;
mod sandbox;
mod server;
mod together;

use clap::{Parser, Subcommand};
use std::{error::Error, path::PathBuf, process::ExitCode, time::Duration};

/// What a measurement gives, or one sentence on why it could not be made.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Debug, Parser)]
#[command(about = "Measures what the supervisor and its workers cost.")]
struct Arguments {
    #[command(subcommand)]
    part: Part,
    /// A GGUF file to measure besides the pocket model, or an embedding model's folder;
    /// worker/pocket/synthetic.py makes one of TinyLlama-1.1B's shape
    #[arg(long, value_name = "FILE", global = true)]
    model: Option<PathBuf>,
    /// How long requests are counted for each figure in requests per second
    #[arg(long, value_name = "N", global = true, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
}

#[derive(Clone, Debug, Subcommand)]
enum Part {
    /// Private memory of a worker, and of several
    Memory,
    /// Time from kill -9 to the replacement, against a cold start
    Respawn,
    /// What the supervisor adds to a request, and requests per second
    Overhead,
    /// What HTTP adds to a request, and requests per second
    Http,
    /// Tokens per second of the engine, against llama.cpp
    Engine(engine::Options),
    /// Time from kill -9 to the next token, behind a long prompt
    Resume,
    /// Two clients at once against one after the other
    Together,
    /// A text beside a burst of vectors, which tests/set-up fetches a model for
    Beside,
    /// What it costs a worker to be confined
    Sandbox,
    /// Texts per second of an embedding model, the folder that --model names
    Embed,
    /// All but the engines alone
    All,
    #[command(hide = true)]
    EngineRun(engine::Arguments),
    #[command(hide = true)]
    SandboxRun,
}

/// A model to measure.
#[derive(Debug)]
struct Model {
    name: String,
    file: PathBuf,
    bytes: u64,
    /// Whether what is to be reached with a model of about a gigabyte counts for it.
    is_large: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    if let Part::EngineRun(arguments) = &arguments.part {
        return engine::run(arguments);
    }
    if let Part::SandboxRun = arguments.part {
        return sandbox::run();
    }
    if cfg!(debug_assertions) {
        eprintln!("bench: this is not a release build; its figures say little");
    }
    if let Part::Embed = arguments.part {
        let folder = arguments.model.as_deref().ok_or("an embedding model's folder must be named with --model")?;
        machine::describe(&[]);
        return embed::measure(folder);
    }
    if let Part::Sandbox = arguments.part {
        machine::describe(&[]);
        return sandbox::measure();
    }
    let models = models(arguments)?;
    eprintln!("bench: building the supervisor, unless it has been built");
    integration_tests::supervisor();
    machine::describe(&models);
    let seconds = Duration::from_secs(arguments.seconds);
    match &arguments.part {
        Part::Memory => memory::measure(&models),
        Part::Respawn => respawn::measure(&models),
        Part::Overhead => overhead::measure(seconds),
        Part::Http => http::measure(seconds),
        Part::Resume => resume::measure(&models),
        Part::Together => together::measure(&models),
        Part::Beside => beside::measure(&models),
        Part::Engine(options) => engine::measure(&models, options),
        Part::All => {
            memory::measure(&models)?;
            respawn::measure(&models)?;
            overhead::measure(seconds)?;
            resume::measure(&models)?;
            together::measure(&models)?;
            beside::measure(&models)?;
            sandbox::measure()
        }
        Part::Sandbox | Part::Embed | Part::EngineRun(_) | Part::SandboxRun => Ok(()),
    }
}

/// The pocket model, and the one that was asked for.
fn models(arguments: &Arguments) -> Result<Vec<Model>> {
    /// A smaller file is no model of a gigabyte.
    const LARGE: u64 = 256 << 20;
    let pocket = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../worker/pocket/pocket-q8_0.gguf"));
    let describe = |file: PathBuf| -> Result<Model> {
        let told = |error| format!("cannot find the model {}: {error}", file.display());
        let file = file.canonicalize().map_err(told)?;
        let bytes = file.metadata().map_err(told)?.len();
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Model { name, bytes, is_large: bytes >= LARGE, file })
    };
    std::iter::once(pocket).chain(arguments.model.clone()).map(describe).collect()
}
