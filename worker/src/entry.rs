//! Where a template process begins: its control socket is its standard input.
use crate::{
    loaded_model::{LoadedModel, WarmError},
    opening::{self, Opened},
    serve::serve,
    template::{self, Loaded, TemplateHooks, WorkerFds, confine},
};
use ipc::{ModelSpec, Sandbox};
use model::{Admit, text::ComputeError};
use std::{process::ExitCode, time::Instant};
use system::{
    foreign_text::chain,
    sandbox::{Filters, SandboxError},
};

/// Lives a template's life as a child of the process `supervisor`, and says why if it ends other
/// than by the end of its socket.
pub fn main(supervisor: u32) -> ExitCode {
    let ended = Filters::new().map_err(|error| chain(&error)).and_then(|filters| run(supervisor, &Real { filters }));
    match ended {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("template: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Lives a template's life with these hooks on the socket that is this process's standard input.
/// Returns the exit status, or one sentence.
pub fn run(supervisor: u32, hooks: &impl TemplateHooks) -> Result<i32, String> {
    let control = system::take_stdin().map_err(|error| format!("cannot take the control socket: {error}"))?;
    template::run(control, supervisor, hooks).map_err(|error| chain(&error))
}

/// What a template does when it is no test.
struct Real {
    filters: Filters,
}

impl TemplateHooks for Real {
    type Opened = Opened;
    type Model = LoadedModel;

    fn open(&self, spec: &ModelSpec) -> Result<Opened, String> {
        opening::open(spec).map_err(|error| chain(&error))
    }

    fn confine(&self) -> Result<Sandbox, SandboxError> {
        confine(&self.filters)
    }

    fn load(&self, opened: Opened, spec: &ModelSpec, admit: Admit<'_>) -> Loaded<LoadedModel> {
        let started = Instant::now();
        let mut model = LoadedModel::load(opened, spec, admit).map_err(|error| chain(&error))?;
        let warmed = model.warm();
        let mut info = model.info(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
        match warmed {
            // Other texts may fare better; those that do not are refused one by one.
            Err(error @ WarmError::Compute(ComputeError::NotFinite)) => info.remarks.push(chain(&error)),
            other => other.map_err(|error| chain(&error))?,
        }
        Ok((model, info))
    }

    fn serve(&self, model: &mut LoadedModel, fds: WorkerFds) -> i32 {
        serve(model, fds, &self.filters)
    }
}
