//! A template and workers that misbehave as a script says: see `script.rs` for how it is written
//! and `act.rs` for what there is.
//!
//! It is started instead of the supervisor's own template with `supervisor run
//! --template-executable`, and lives in the tests only. Whatever its script does not spoil is done
//! by the real template and the real model `builtin:echo`: a request that is served answers with
//! its prompt, and a text that is embedded has the vector that [`integration_tests::vector_of`]
//! says. It confines itself only if its script says so. For a model whose path is no script it
//! becomes the supervisor's own template.

mod act;
mod cache;
mod job;
mod mapping;
mod pages;
mod probe;
mod real;
mod script;

use act::Body;
use ipc::{FromWorker, ModelInfo, ModelKind, ModelSource, ModelSpec, Needs, RequestId, Sandbox};
use model::{
    Admit,
    text::{CHUNK, Generator},
};
use nix::{
    sys::{prctl, signal::Signal},
    unistd::getppid,
};
use pages::Pages;
use script::{Confine, Moment, Script};
use std::{cell::OnceCell, env, path::PathBuf, process::ExitCode};
use system::{
    exit_now,
    foreign_text::chain,
    sandbox::{Filters, SandboxError, deny_paths},
};
use worker::{
    entry,
    loaded_model::{LoadedModel, cache_size},
    opening::{self, Opened},
    startup::{Started, confine, start, wait_for_go},
    template::{self, ForkStep, Loaded, TemplateHooks, WorkerFds},
};

fn main() -> ExitCode {
    let Some(supervisor) = env::args().nth(3).and_then(|pid| pid.parse().ok()) else {
        eprintln!("bad-worker: it is started by `supervisor run --template-executable`, not by hand");
        return ExitCode::from(2);
    };
    if let Err(message) = real::give_way(supervisor) {
        eprintln!("bad-worker: {message}");
        return ExitCode::FAILURE;
    }
    let filters = Filters::new().map_err(|error| chain(&error));
    let ended = filters.and_then(|filters| entry::run(supervisor, &Scripted { filters, script: OnceCell::new() }));
    match ended {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("bad-worker: {message}");
            ExitCode::FAILURE
        }
    }
}

/// What a template does that its script spoils.
struct Scripted {
    filters: Filters,
    /// There is one model in the life of a template.
    script: OnceCell<Script>,
}

impl TemplateHooks for Scripted {
    type Opened = (Script, Opened, ModelSpec);
    type Model = Bad;

    fn open(&self, spec: &ModelSpec) -> Result<Self::Opened, String> {
        let script = Script::in_path(&spec.source.to_string())?;
        let _first = self.script.set(script.clone());
        let path = script.model.clone().unwrap_or_else(|| format!("builtin:echo?{}", script.engine));
        let spec = ModelSpec { source: ModelSource::parse(&path), ..spec.clone() };
        let opened = opening::open(&spec).map_err(|error| chain(&error))?;
        Ok((script, opened, spec))
    }

    fn confine(&self) -> Result<Sandbox, SandboxError> {
        match self.script.get() {
            Some(Script { confine: Confine::Both, .. }) => template::confine(&self.filters),
            _ => Ok(Sandbox::default()),
        }
    }

    fn load(&self, opened: Self::Opened, spec: &ModelSpec, admit: Admit<'_>) -> Loaded<Bad> {
        load(opened, spec, admit)
    }

    fn serve(&self, bad: &mut Bad, fds: WorkerFds) -> i32 {
        match live(bad, fds, &self.filters) {
            Ok(()) => 0,
            Err(message) => {
                eprintln!("bad-worker: {message}");
                1
            }
        }
    }

    fn step(&self, step: ForkStep) {
        let moment = moment(step);
        if let Some(script) = self.script.get().filter(|script| script.strikes(moment)) {
            act::alone(&script.action);
        }
    }
}

/// The model and how it is served.
struct Bad {
    model: Box<Generator>,
    script: Script,
    /// Where scripts in prompts count.
    folder: PathBuf,
    /// What workers inherit besides.
    _kept: Vec<u8>,
}

impl Bad {
    fn kind(&self) -> ModelKind {
        self.script.kind()
    }
}

fn moment(step: ForkStep) -> Moment {
    match step {
        ForkStep::Requested => Moment::Asked,
        ForkStep::Between => Moment::Between,
        ForkStep::Born => Moment::Born,
        ForkStep::Known => Moment::Known,
        ForkStep::Told => Moment::Told,
    }
}

fn load(
    (script, opened, real): (Script, Opened, ModelSpec),
    spec: &ModelSpec,
    admit: Admit<'_>,
) -> Result<(Bad, ModelInfo), String> {
    if !script.silent && !admit(Needs { weights: script.weights, cache: script.cache.unwrap_or_default() }) {
        return Err("there is no room for this model".to_owned());
    }
    if script.strikes(Moment::Load) {
        if script.action == "fail" {
            return Err("this model fails to load as its script says".to_owned());
        }
        act::alone(&script.action);
    }
    let mut loaded = LoadedModel::load(opened, &real, &mut |_| true).map_err(|error| chain(&error))?;
    loaded.warm().map_err(|error| chain(&error))?;
    let LoadedModel::Generator(model) = loaded else { return Err("its model generates no text".to_owned()) };
    let context = u32::try_from(model.context).unwrap_or(u32::MAX);
    let info = ModelInfo {
        architecture: "bad".to_owned(),
        context,
        chat: true,
        load_ms: 0,
        chunk: CHUNK,
        kind: script.kind(),
        cache: script.cache.unwrap_or_else(|| cache_size(&model)),
        weights: script.weights,
        dimensions: script.dimensions,
        sandbox: Sandbox::default(),
        remarks: Vec::new(),
    };
    let folder = spec.source.to_string().split_once("script:").map(|(folder, _)| folder.into()).unwrap_or_default();
    let kept = vec![1; script.inherit << 20];
    Ok((Bad { model, script, folder, _kept: kept }, info))
}

fn live(bad: &mut Bad, fds: WorkerFds, filters: &Filters) -> Result<(), String> {
    let is_confined = bad.script.confine != Confine::Nobody;
    let memory = if is_confined { None } else { Some(fds.board.try_clone().map_err(|error| error.to_string())?) };
    let mut started = start(fds).map_err(|error| chain(&error))?;
    if bad.script.strikes(Moment::Birth) {
        act::alone(&bad.script.action);
    }
    let Some(go) = wait_for_go(&mut started).map_err(|error| chain(&error))? else { return Ok(()) };
    let Started { mut end, board, inherited } = started;
    let mut pages = None;
    if bad.script.confine == Confine::Worker {
        pages = Some(Pages::find().map_err(|error| error.to_string())?);
    }
    let sandbox = match bad.script.confine {
        Confine::Worker | Confine::Both => confine(&go, inherited, filters).unwrap_or_else(|error| {
            eprintln!("bad-worker: {}", chain(&error));
            exit_now(error.exit_status())
        }),
        Confine::Paths => Sandbox { landlock: deny_paths().map_err(|error| chain(&error))?, ..Sandbox::default() },
        Confine::Nobody => Sandbox::default(),
    };
    // However it hangs, it does not outlive its test.
    if !matches!(bad.script.confine, Confine::Worker | Confine::Both) {
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| error.to_string())?;
        if getppid().as_raw().unsigned_abs() != go.supervisor {
            return Err("the supervisor is not the parent".to_owned());
        }
    }
    let nothing = RequestId(0);
    let memory = memory.as_ref();
    let life = |moment, end: &mut _| {
        let mut body = Body { end, board: &board, memory, request: nothing, index: 0, dimensions: 0, pages: None };
        job::strike(&[&bad.script], moment, &mut body);
    };
    life(Moment::Go, &mut end);
    end.send(&FromWorker::Hello { sandbox }).map_err(|error| chain(&error))?;
    life(Moment::Idle, &mut end);
    loop {
        cache::note(end.stream().stream(), &bad.folder).map_err(|error| error.to_string())?;
        let Some(job) = end.receive().map_err(|error| chain(&error))? else { break };
        let dimensions = bad.script.dimensions as usize;
        let pages = pages.take();
        let body = Body { end: &mut end, board: &board, memory, request: nothing, index: 0, dimensions, pages };
        if job::run(bad, &job, body)?.is_break() || go.single {
            break;
        }
    }
    Ok(())
}
