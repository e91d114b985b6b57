//! Workers of a model that take more memory than they may, confined as the real ones are: each is
//! stopped, and the next request is answered.
use crate::{Daemon, generate};
use ipc::{ClientError, FailureKind, GenerateRequest};
use std::fmt;

/// A way to take memory.
struct Way {
    /// What the script calls it.
    action: &'static str,
    /// What has to be confined so that it can be tried.
    confine: &'static str,
    /// What it is.
    name: &'static str,
    /// What shows that the limit has ended it, in what it says or in how it ends.
    sign: &'static str,
}

const WAYS: [Way; 2] = [
    Way { action: "hog", confine: "both", name: "allocates without end", sign: "memory allocation of" },
    Way {
        action: "write-inherited",
        confine: "worker",
        name: "writes to all that it inherited",
        sign: "of memory for itself, and",
    },
];

/// What became of a worker that took too much memory.
#[derive(Clone, Debug)]
pub struct Hog {
    way: &'static str,
    /// How it ended.
    cause: String,
    /// What it said first.
    first_word: String,
}

impl Hog {
    /// The heading of the table whose rows these are.
    pub const HEADING: &str = "| a worker that | ended by | its first word |\n|---|---|---|";

    /// Has workers of the model take memory in every way, where `allowed` is what each may take.
    ///
    /// # Panics
    ///
    /// If there is no daemon to be had.
    pub fn run_all(model: &str, allowed: &str) -> Result<Vec<Hog>, String> {
        WAYS.iter().map(|way| Hog::run(model, allowed, way)).collect()
    }

    fn run(model: &str, allowed: &str, way: &Way) -> Result<Hog, String> {
        let Way { action, confine, name: way, sign } = way;
        let settings = format!("workers = 1\nmax_attempts = 1\nmemory_per_worker = \"{allowed}\"");
        let daemon = Daemon::scripted(&format!("ok?confine={confine}&model={model}"), &settings);
        match generate(&daemon, GenerateRequest::raw(format!("!{action}@start and so on"))) {
            Err(ClientError::Failed(failure)) if failure.kind == FailureKind::WorkersDied => {}
            other => return Err(format!("a worker that {way} was not stopped: {other:?}")),
        }
        let seen = daemon.until_model("it has crashed", |model| model.last_crash.is_some());
        let Some(crash) = seen.last_crash else { return Err("it has crashed".to_owned()) };
        let first_word = crash.stderr.first().cloned().unwrap_or_default();
        if !crash.cause.contains(sign) && !first_word.contains(sign) {
            return Err(format!("a worker that {way} ended otherwise: {}, {first_word}", crash.cause));
        }
        let next = GenerateRequest { max_tokens: Some(4), ..GenerateRequest::raw("what comes next") };
        generate(&daemon, next).map_err(|error| format!("after a worker that {way}: {error}"))?;
        Ok(Hog { way, cause: crash.cause, first_word })
    }
}

impl fmt::Display for Hog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hog { way, cause, first_word } = self;
        write!(f, "| {way} | {cause} | {first_word} |")
    }
}
