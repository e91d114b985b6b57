//! The campaigns in their long form, by hand: `cargo run --release -p integration-tests --bin
//! campaign -- faults`, or `-- isolation`.
//!
//! They print tables in Markdown and end with a failure if anything was not as it must be, saying
//! what, and with which seed.

use clap::{Parser, Subcommand};
use integration_tests::campaign::{Campaign, Extent, Hog, Kept, Restarted, Restarts, Secrets};
use std::{path::PathBuf, process::ExitCode, time::Duration};

/// The modes of isolation.
const MODES: [&str; 2] = ["request", "worker"];

#[derive(Debug, Parser)]
#[command(about = "Proves by faults that no request is lost, and by secrets that none leaks.")]
struct Arguments {
    #[command(subcommand)]
    campaign: Kind,
    /// What the order of faults and requests follows from
    #[arg(long, value_name = "N", global = true, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Faults of all kinds under full load
    Faults {
        /// How long faults are done, for each mode of isolation
        #[arg(long, value_name = "N", default_value_t = 180)]
        seconds: u64,
        /// Only this mode of isolation
        #[arg(long, value_name = "MODE", value_parser = MODES)]
        isolation: Option<String>,
        /// The model that generates text
        #[arg(long, value_name = "FILE", default_value = "builtin:pocket")]
        model: String,
        /// The most tokens of a text
        #[arg(long, value_name = "N", default_value_t = 300)]
        longest: u32,
        /// Where the daemon's logs are kept; the mode of isolation is appended
        #[arg(long, value_name = "FILE")]
        log: Option<PathBuf>,
    },
    /// Requests that cost as many workers as they may
    Refusals {
        /// How many texts, and how many requests for what crashes
        #[arg(long, value_name = "N", default_value_t = 50)]
        times: usize,
    },
    /// Workers that take more memory than they may
    Hogs {
        /// The model that their template has loaded
        #[arg(long, value_name = "FILE", default_value = "builtin:pocket")]
        model: String,
        /// What each may take
        #[arg(long, value_name = "SIZE", default_value = "512MiB")]
        allowed: String,
    },
    /// Restarts of the daemon, of its model and of its workers under load
    Restarts {
        /// How many of each
        #[arg(long, value_name = "N", default_value_t = 50)]
        times: usize,
    },
    /// Secrets in many requests, and whether any comes out in another
    Isolation {
        /// How many texts are generated in all
        #[arg(long, value_name = "N", default_value_t = 10_000)]
        generations: usize,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if cfg!(debug_assertions) {
        eprintln!("campaign: this is not a release build; its figures say little");
    }
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(wrong) => {
            eprintln!("campaign: {wrong}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    match &arguments.campaign {
        Kind::Faults { seconds, isolation: only, model, longest, log } => {
            for isolation in MODES.into_iter().filter(|mode| only.as_deref().is_none_or(|only| only == *mode)) {
                let campaign = Campaign {
                    model: model.clone(),
                    longest: *longest,
                    extent: Extent::Time(Duration::from_secs(*seconds)),
                    undisturbed: Duration::from_secs((seconds / 4).max(1)),
                    log: log.as_ref().map(|path| format!("{}.{isolation}", path.display()).into()),
                    ..Campaign::new(isolation, arguments.seed)
                };
                println!("{}", campaign.run()?);
            }
            Ok(())
        }
        Kind::Refusals { times } => {
            for isolation in MODES {
                println!("{}", Campaign::new(isolation, arguments.seed).refusals(*times)?);
            }
            Ok(())
        }
        Kind::Hogs { model, allowed } => {
            println!("\n### Hogs of memory, {model}, {allowed} allowed\n\n{}", Hog::HEADING);
            Hog::run_all(model, allowed)?.iter().for_each(|hog| println!("{hog}"));
            Ok(())
        }
        Kind::Restarts { times } => {
            println!("\n### Restarts under load, seed {}\n\n{}", arguments.seed, Restarts::HEADING);
            for kind in [Restarted::Daemon, Restarted::Model, Restarted::Worker] {
                println!("{}", kind.run(*times, arguments.seed)?);
            }
            Ok(())
        }
        Kind::Isolation { generations } => isolation(arguments.seed, *generations),
    }
}

/// The same requests in both modes of isolation, one after the other and many at once: four times a
/// quarter of all.
fn isolation(seed: u64, generations: usize) -> Result<(), String> {
    println!("\n### Isolation, seed {seed}\n\n{}", Kept::HEADING);
    for clients in [1, 6] {
        let mut before: Option<Kept> = None;
        for isolation in MODES {
            let kept =
                Secrets { seed: seed + clients as u64, isolation, generations: generations / 4, clients }.run()?;
            println!("{kept}");
            if before.is_some_and(|before| before.answers != kept.answers) {
                return Err(format!(
                    "{clients} clients were answered otherwise in the other mode of isolation, seed {seed}"
                ));
            }
            before = Some(kept);
        }
    }
    Ok(())
}
