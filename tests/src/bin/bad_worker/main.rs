//! A template and workers that misbehave as a script says: see `script.rs` for how it is written and `act.rs` for what there is.
//!
//! It is started instead of the supervisor's own template with `supervisor run --template-executable`, and lives in the tests only.
//! Whatever its script does not spoil is done by the real template and the real engine `builtin:echo`: a request that is
//! served answers with its prompt, and a text that is embedded has the vector that [`integration_tests::vector_of`] says. It confines itself
//! only if its script says so. For a model whose path is no script it becomes the supervisor's own template.

mod act;
mod cache;
mod job;
mod mapping;
mod pages;
mod probe;
mod real;
mod script;

use act::Body;
use ipc::{FromWorker, ModelInfo, ModelKind, ModelSpec, Needs, RequestId, Sandbox};
use nix::{
    sys::{prctl, signal::Signal},
    unistd::{dup2_stdin, getppid},
};
use pages::Pages;
use script::{Confine, Moment, Script};
use std::{
    cell::OnceCell,
    env,
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    process::ExitCode,
};
use worker::{
    chain,
    engine::{self, CHUNK, Model, Room, Source},
    sandbox::{Filters, deny_paths},
    seat::{Seated, confine, take_seat, wait_for_go},
    sys::exit_now,
    template::{self, ForkStep, Seat, Trade},
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
    let loaded = OnceCell::new();
    let open = |spec: &ModelSpec| {
        let script = Script::in_path(&spec.path)?;
        // There is one model in the life of a template.
        let _first = loaded.set(script.clone());
        let path = script.model.clone().unwrap_or_else(|| format!("builtin:echo?{}", script.engine));
        let spec = ModelSpec { path, ..spec.clone() };
        let source = engine::open(&spec).map_err(|error| chain(&error))?;
        Ok((script, source, spec))
    };
    let step = |step| {
        let moment = moment(step);
        if let Some(script) = loaded.get().filter(|script: &&Script| script.strikes(moment)) {
            act::alone(&script.action);
        }
    };
    let filters = match Filters::new() {
        Ok(filters) => filters,
        Err(error) => {
            eprintln!("bad-worker: {}", chain(&error));
            return ExitCode::FAILURE;
        }
    };
    let confine = || match loaded.get() {
        Some(Script { confine: Confine::Both, .. }) => template::confine(&filters),
        _ => Ok(Sandbox::default()),
    };
    let serve = |bad: &mut Bad, seat| serve(bad, seat, &filters);
    let trade = Trade { open: &open, confine: &confine, load: &load, serve: &serve, step: &step };
    let ended = take_control()
        .map_err(|error| error.to_string())
        .and_then(|control| template::run(control, supervisor, &trade).map_err(|error| chain(&error)));
    match ended {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("bad-worker: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The model and how it is served.
struct Bad {
    model: Model,
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

fn take_control() -> io::Result<OwnedFd> {
    let control = io::stdin().as_fd().try_clone_to_owned()?;
    dup2_stdin(File::open("/dev/null")?)?;
    Ok(control)
}

fn moment(step: ForkStep) -> Moment {
    match step {
        ForkStep::Asked => Moment::Asked,
        ForkStep::Between => Moment::Between,
        ForkStep::Born => Moment::Born,
        ForkStep::Known => Moment::Known,
        ForkStep::Told => Moment::Told,
    }
}

fn load(
    (script, source, real): (Script, Source, ModelSpec),
    spec: &ModelSpec,
    room: Room<'_>,
) -> Result<(Bad, ModelInfo), String> {
    if !script.silent && !room(Needs { weights: script.weights, cache: script.cache.unwrap_or_default() }) {
        return Err("there is no room for this model".to_owned());
    }
    if script.strikes(Moment::Load) {
        if script.action == "fail" {
            return Err("this model fails to load as its script says".to_owned());
        }
        act::alone(&script.action);
    }
    let mut model = engine::read(source, &real, &mut |_| true).map_err(|error| chain(&error))?;
    model.warm().map_err(|error| chain(&error))?;
    let context = u32::try_from(model.context).unwrap_or(u32::MAX);
    let info = ModelInfo {
        architecture: "bad".to_owned(),
        context,
        chat: true,
        load_ms: 0,
        chunk: CHUNK,
        kind: script.kind(),
        cache: script.cache.unwrap_or_else(|| model.cache_size()),
        weights: script.weights,
        dimensions: script.dimensions,
        sandbox: Sandbox::default(),
    };
    let folder = spec.path.split_once("script:").map(|(folder, _)| folder.into()).unwrap_or_default();
    let kept = vec![1; script.inherit << 20];
    Ok((Bad { model, script, folder, _kept: kept }, info))
}

fn serve(bad: &mut Bad, seat: Seat, filters: &Filters) -> i32 {
    match live(bad, seat, filters) {
        Ok(()) => 0,
        Err(message) => {
            eprintln!("bad-worker: {message}");
            1
        }
    }
}

fn live(bad: &mut Bad, seat: Seat, filters: &Filters) -> Result<(), String> {
    let is_confined = bad.script.confine != Confine::Nobody;
    let memory = if is_confined { None } else { Some(seat.board.try_clone().map_err(|error| error.to_string())?) };
    let mut seated = take_seat(seat).map_err(|error| chain(&error))?;
    if bad.script.strikes(Moment::Birth) {
        act::alone(&bad.script.action);
    }
    let Some(go) = wait_for_go(&mut seated).map_err(|error| chain(&error))? else { return Ok(()) };
    let Seated { mut end, board, inherited } = seated;
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
    end.send(&FromWorker::Hello { sandbox, threads: 1 }).map_err(|error| chain(&error))?;
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
