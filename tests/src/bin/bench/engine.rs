//! How fast the decoder reads and generates, against llama.cpp on the same file, machine and number
//! of threads, in turns.
//!
//! Both compute in a process of their own without a server around. `tests/peers/llama.cpp.sh`
//! builds llama.cpp's `llama-bench`.
use crate::{
    Model, Result,
    format::{heading, reach},
    sample::Sample,
};
use ipc::ModelSpec;
use model::text::CHUNK;
use model::text::Generator;
use model::text::Pace;
use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};
use system::foreign_text::chain;
use worker::cache::Cache;
use worker::loaded_model::load_generator;
use worker::loaded_model::warm;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// llama.cpp's benchmark, to compare with
    #[arg(long, value_name = "FILE")]
    llama_bench: Option<PathBuf>,
    /// How many turns each takes
    #[arg(long, default_value_t = 5)]
    turns: usize,
    /// Numbers of threads
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2])]
    threads: Vec<usize>,
}

/// What the process that computes is told.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    file: PathBuf,
    threads: usize,
    /// Tokens that are there before.
    depth: usize,
    prompt: usize,
    generate: usize,
    turns: usize,
}

/// Tokens per second of reading and of generating.
type Speeds = (f64, f64);

/// Measures all models.
pub(crate) fn measure(models: &[Model], options: &Options) -> Result<()> {
    const PROMPT: usize = 512;
    heading(
        &format!("Reading {PROMPT} tokens and generating 64, tokens per second, {} turns, medians", options.turns),
        &["model", "threads", "reads", "llama.cpp", "ratio", "generates", "llama.cpp", "ratio", "reach"],
    );
    for model in models {
        let prompt = PROMPT.min(if model.is_large { PROMPT } else { 256 });
        for threads in &options.threads {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for _ in 0..options.turns {
                ours.push(own(&model.file, *threads, 0, prompt, 64)?);
                if let Some(bench) = &options.llama_bench {
                    theirs.push(llama_bench(bench, &model.file, *threads, prompt, 64)?);
                }
            }
            let ratio = |of: fn(&Speeds) -> f64| {
                let ratios = ours.iter().zip(&theirs).map(|(ours, theirs)| of(ours) / of(theirs)).collect();
                Sample::new(ratios).map(|ratios| ratios.median())
            };
            let median = |speeds: &[Speeds], of: fn(&Speeds) -> f64| {
                Sample::new(speeds.iter().map(of).collect())
                    .map_or("-".to_owned(), |sample| format!("{:.1}", sample.median()))
            };
            let shown = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
            let (reads, generates) = (ratio(|speeds| speeds.0), ratio(|speeds| speeds.1));
            let met = reads.is_none_or(|ratio| ratio >= 1.0) && generates.is_none_or(|ratio| ratio >= 1.0);
            println!(
                "| {} | {threads} | {} | {} | {} | {} | {} | {} | {} |",
                model.name,
                median(&ours, |speeds| speeds.0),
                median(&theirs, |speeds| speeds.0),
                shown(reads),
                median(&ours, |speeds| speeds.1),
                median(&theirs, |speeds| speeds.1),
                shown(generates),
                reach("1.0 and 1.0", met),
            );
        }
    }
    depths(models, options)
}

/// Generating behind a long text against generating behind a short one.
fn depths(models: &[Model], options: &Options) -> Result<()> {
    heading(
        &format!("Generating 32 tokens at a depth, tokens per second, {} turns, medians", options.turns),
        &["model", "threads", "at 100", "at 2000", "ratio", "reach"],
    );
    for model in models.iter().filter(|model| model.is_large) {
        for threads in &options.threads {
            let mut pairs = Vec::new();
            for _ in 0..options.turns {
                pairs.push((own(&model.file, *threads, 100, 0, 32)?.1, own(&model.file, *threads, 2000, 0, 32)?.1));
            }
            let median = |of: fn(&Speeds) -> f64| {
                Sample::new(pairs.iter().map(of).collect()).ok_or("no turn").map(|s| s.median())
            };
            let ratio = median(|pair| pair.1 / pair.0)?;
            println!(
                "| {} | {threads} | {:.1} | {:.1} | {ratio:.2} | {} |",
                model.name,
                median(|pair| pair.0)?,
                median(|pair| pair.1)?,
                reach("at least 0.8", ratio >= 0.8),
            );
        }
    }
    Ok(())
}

/// Our speeds, in a process of their own with the environment of a template.
fn own(file: &Path, threads: usize, depth: usize, prompt: usize, generate: usize) -> Result<Speeds> {
    let numbers = [threads, depth, prompt, generate, 1].map(|number| number.to_string());
    let output = Command::new(env::current_exe()?)
        .arg("engine-run")
        .arg(file)
        .args(numbers)
        .env_clear()
        .envs([
            ("CANDLE_NUM_THREADS", "1"),
            ("RAYON_NUM_THREADS", "1"),
            (
                "GLIBC_TUNABLES",
                "glibc.malloc.hugetlb=1:glibc.malloc.trim_threshold=67108864:glibc.malloc.mmap_threshold=33554432",
            ),
        ])
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let mut words = text.split_ascii_whitespace().map(str::parse::<f64>);
    match (words.next(), words.next()) {
        (Some(Ok(reads)), Some(Ok(generates))) => Ok((reads, generates)),
        _ => Err(format!("the process that computes said {text:?}").into()),
    }
}

/// llama.cpp's speeds.
fn llama_bench(bench: &Path, file: &Path, threads: usize, prompt: usize, generate: usize) -> Result<Speeds> {
    let output = Command::new(bench)
        .arg("-m")
        .arg(file)
        .args(["-r", "1", "-o", "json", "-t", &threads.to_string()])
        .args(["-p", &prompt.to_string(), "-n", &generate.to_string()])
        .stderr(Stdio::null())
        .output()?;
    let tests: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout)?;
    let speed = |key: &str| {
        let test = tests.iter().find(|test| test[key].as_u64() > Some(0));
        test.and_then(|test| test["avg_ts"].as_f64()).ok_or("llama-bench gives no speed")
    };
    Ok((speed("n_prompt")?, speed("n_gen")?))
}

struct Fixed(usize);

impl Pace for Fixed {
    fn layer(&self) -> usize {
        self.0
    }
}

/// Lives as the process that computes.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { file, threads, depth, prompt, generate, turns } = arguments;
    let mut spec = ModelSpec::new("bench", file.to_string_lossy());
    spec.threads = u32::try_from(*threads)?;
    let mut model = load_generator(&spec).map_err(|error| chain(&error))?;
    warm(&mut model)?;
    let pace = Fixed(*threads);
    let mut cache = Cache::anonymous(model.context, model.model.cache_length())?;
    let mut read = |model: &mut Generator, tokens: usize, from: usize| -> Result<f64> {
        let ids: Vec<u32> = (0..tokens as u32).map(|index| index * 7919 % model.tokenizer.len() as u32).collect();
        let began = Instant::now();
        let mut done = from;
        for chunk in ids.chunks(CHUNK as usize) {
            model.model.forward(chunk, done, cache.numbers(), &pace)?;
            done += chunk.len();
        }
        Ok(tokens as f64 / began.elapsed().as_secs_f64())
    };
    for _ in 0..*turns {
        read(&mut model, (*depth).max(1), 0)?;
        let reads = if *prompt > 0 { read(&mut model, *prompt, *depth)? } else { 0.0 };
        let mut one_by_one = Instant::now();
        for index in 0..=*generate {
            if index == 1 {
                // The first one also wakes the threads.
                one_by_one = Instant::now();
            }
            read(&mut model, 1, *depth + index)?;
        }
        println!("{reads} {}", *generate as f64 / one_by_one.elapsed().as_secs_f64());
    }
    Ok(())
}
