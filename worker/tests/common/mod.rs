//! What the tests of the model side share.
pub(crate) mod gguf;

use ipc::{FromWorker, Job, JobPrompt, ModelSpec, Prompt, RequestId, Sampling, board::Phase};
use model::text::CHUNK;
use model::text::Generator;
use model::text::Pace;
use std::{
    env,
    ops::ControlFlow,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
};
use system::foreign_text::chain;
use worker::generate;
use worker::generate::Progress;
use worker::loaded_model::load_generator;
use worker::loaded_model::warm;

/// Where `tests/set-up` puts what it fetches.
pub(crate) fn models() -> PathBuf {
    env::var_os("SUPERVISOR_TEST_MODELS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/models")), PathBuf::from)
}

/// What `tests/set-up` has fetched under this name. It may not be there: not everybody can fetch it.
pub(crate) fn fetched(name: &str) -> Option<PathBuf> {
    let path = models().join(name);
    if !path.exists() {
        eprintln!("skipped: {} is not there; tests/set-up fetches it", path.display());
    }
    path.exists().then_some(path)
}

/// Loads and warms a model.
pub(crate) fn load(path: &str, context: Option<u32>) -> Generator {
    let spec = ModelSpec { context, ..ModelSpec::new("test", path) };
    let mut model = load_generator(&spec).unwrap_or_else(|error| panic!("{}", chain(&error)));
    warm(&mut model).unwrap();
    model
}

/// A fresh, greedy job without limits.
pub(crate) fn job(prompt: Prompt) -> Job {
    Job {
        request: RequestId(1),
        prompt: JobPrompt::Fresh(prompt.into()),
        generated: Vec::new(),
        delivered: 0,
        chunk: CHUNK,
        max_tokens: None,
        sampling: Sampling::default(),
        seed: 0,
        stop: Vec::new(),
        ignore_end: false,
        template_vars: String::new(),
        cache: false,
    }
}

/// All that a job says.
pub(crate) fn run(model: &mut Generator, job: &Job) -> Vec<FromWorker> {
    let mut messages = Vec::new();
    generate::run(model, job, None, &Silent, &mut |message| {
        messages.push(timeless(message));
        ControlFlow::Continue(())
    });
    messages
}

/// The message without the time in it, which is another each time.
pub(crate) fn timeless(mut message: FromWorker) -> FromWorker {
    if let FromWorker::Token { at_us, .. } = &mut message {
        *at_us = 0;
    }
    message
}

/// Progress that nobody watches.
pub(crate) struct Silent;

impl Pace for Silent {
    fn layer(&self) -> usize {
        1
    }
}

impl Progress for Silent {
    fn phase(&self, _: Phase) {}
    fn prompt(&self, _: u64) {}
    fn generated(&self, _: u64) {}
    fn tick(&self) {}
    fn stop_requested(&self, _: RequestId) -> bool {
        false
    }
}

/// What the calling test prints in a process of its own, which has these variables as well. In that
/// process there is nothing to tell.
#[track_caller]
pub(crate) fn in_own_process(variables: &[(&str, &str)]) -> Option<String> {
    /// Tells a process that it is a test's own.
    const MARK: &str = "TEST_IN_ITS_OWN_PROCESS";
    if env::var_os(MARK).is_some() {
        return None;
    }
    let this = thread::current();
    let name = this.name().unwrap();
    let mut test = Command::new(env::current_exe().unwrap());
    test.args(["--exact", name, "--nocapture"]).env(MARK, "1").envs(variables.iter().copied());
    let output = test.stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.contains("test result: ok. 1 passed"), "{said}");
    Some(said)
}
