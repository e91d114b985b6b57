//! `supervisor template`: the hidden half of the executable, which the daemon starts with its control socket as standard input.
use ipc::{ModelInfo, ModelSpec};
use nix::unistd::dup2_stdin;
use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    process::ExitCode,
    time::Instant,
};
use worker::{
    chain,
    engine::Room,
    loaded::{self, Loaded, Source},
    sandbox::Locks,
    serve::serve,
    template::{self, Trade},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The pid of the daemon.
    #[arg(long)]
    supervisor: u32,
}

pub(crate) fn run(arguments: Arguments) -> ExitCode {
    let ended =
        take_control().map_err(|error| format!("cannot take the control socket: {error}")).and_then(|control| {
            let locks = Locks::new().map_err(|error| chain(&error))?;
            let trade = Trade {
                open: &|spec: &ModelSpec| loaded::open(spec).map_err(|error| chain(&error)),
                confine: &|| template::confine(&locks),
                load: &load,
                serve: &|model: &mut Loaded, seat| serve(model, seat, &locks),
                step: &|_| {},
            };
            template::run(control, arguments.supervisor, &trade).map_err(|error| chain(&error))
        });
    match ended {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("template: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The control socket, which was the standard input; workers inherit nothing there.
fn take_control() -> io::Result<OwnedFd> {
    let control = io::stdin().as_fd().try_clone_to_owned()?;
    dup2_stdin(File::open("/dev/null")?)?;
    Ok(control)
}

fn load(source: Source, spec: &ModelSpec, room: Room<'_>) -> Result<(Loaded, ModelInfo), String> {
    let started = Instant::now();
    let mut model = Loaded::read(source, spec, room).map_err(|error| chain(&error))?;
    model.warm().map_err(|error| chain(&error))?;
    let info = model.info(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
    Ok((model, info))
}
