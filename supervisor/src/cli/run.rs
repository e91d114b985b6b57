//! `supervisor run`: the daemon, in the foreground.
use super::{error::CliError, print};
use crate::{
    config::{Auto, ConfigSource, Confinement, LogFormat, Overrides, USUAL_HTTP},
    daemon::{self, Adopted, Setup, SocketSource},
    log::{Log, Settings},
};
use nix::sys::signal::Signal;
use std::{path::PathBuf, sync::Arc};
use system::sandbox::has_landlock;
use tracing::level_filters::LevelFilter;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The configuration file; without one every default holds
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A model to serve, instead of those of the configuration; may be given more than once
    #[arg(long, value_name = "NAME=PATH", value_parser = parse_model)]
    model: Vec<(String, String)>,
    /// Most requests of a model that run at once
    #[arg(long, value_name = "N")]
    workers: Option<u32>,
    /// Most threads that one worker may use
    #[arg(long, value_name = "N|auto", value_parser = parse_threads)]
    threads: Option<Auto<u32>>,
    /// The client socket [default: /run/supervisor/supervisor.sock, or the user's own]
    #[arg(long, env = "SUPERVISOR_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Serve HTTP, at this address [default: 127.0.0.1:8080]; may be given more than once
    #[arg(long, value_name = "ADDR", num_args = 0..=1, require_equals = true, default_missing_value = USUAL_HTTP)]
    http: Vec<String>,
    /// How lines of the log look [default: fields in systemd's journal, text elsewhere]
    #[arg(long, value_enum, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// How much is logged
    #[arg(long, value_enum, env = "SUPERVISOR_LOG", default_value_t = Level::Info, value_name = "LEVEL")]
    log_level: Level,
    /// Only validate the configuration, and look whether each model can be loaded
    #[arg(long)]
    check: bool,
    /// Stop when this process ends, which has started this one
    #[arg(long, hide = true, value_name = "PID")]
    parent: Option<u32>,
    /// Start this instead of the executable itself as template, for tests
    #[arg(long, hide = true, value_name = "FILE")]
    template_executable: Option<PathBuf>,
    /// The socket of systemd's journal, for tests
    #[arg(long, hide = true, default_value = "/run/systemd/journal/socket", value_name = "PATH")]
    journal_socket: PathBuf,
}

/// How much is logged: this and whatever is worse.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Level {
    /// What is broken.
    Error,
    /// What went wrong and was dealt with.
    Warn,
    /// What happens, and a line for each request.
    Info,
    /// What helps to find a fault.
    Debug,
    /// Each step.
    Trace,
}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> LevelFilter {
        match level {
            Level::Error => LevelFilter::ERROR,
            Level::Warn => LevelFilter::WARN,
            Level::Info => LevelFilter::INFO,
            Level::Debug => LevelFilter::DEBUG,
            Level::Trace => LevelFilter::TRACE,
        }
    }
}

fn parse_model(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.to_owned(), path.to_owned())),
        _ => Err("a model is given as NAME=PATH, as in pocket=builtin:pocket".to_owned()),
    }
}

fn parse_threads(text: &str) -> Result<Auto<u32>, String> {
    match text {
        "auto" => Ok(Auto::Auto),
        number => number.parse().map(Auto::Fixed).map_err(|_| "the number of threads, or auto".to_owned()),
    }
}

/// Has this process told to stop when its parent ends, however that may be.
fn tie_to(parent: u32) -> Result<(), CliError> {
    let is_tied = system::die_with(parent, Signal::SIGTERM).map_err(|error| CliError::Tie(error.into()))?;
    if is_tied { Ok(()) } else { Err(CliError::Orphaned) }
}

pub(crate) fn run(arguments: Arguments) -> Result<(), CliError> {
    if let Some(parent) = arguments.parent {
        tie_to(parent)?;
    }
    // Before anything is opened.
    let (adopted, http) = Adopted::take()?;
    let overrides = Overrides {
        models: arguments.model,
        workers: arguments.workers,
        threads: arguments.threads,
        socket: arguments.socket.filter(|path| !path.as_os_str().is_empty()),
        http: arguments.http,
        log_format: arguments.log_format,
    };
    let source = ConfigSource { file: arguments.config, overrides };
    let mut config = source.read()?;
    if !http.is_empty() {
        // Where they are is for the sockets' unit to say.
        config.http.listen = http.iter().map(daemon::place_of).collect::<Result<_, _>>()?;
    }
    if let Some(executable) = arguments.template_executable.as_ref().filter(|path| !path.is_file()) {
        return Err(CliError::NoExecutable(executable.clone()));
    }
    if arguments.check {
        let refused = daemon::examine(config, arguments.template_executable).map_err(CliError::Examination)?;
        if !refused.is_empty() {
            return Err(CliError::Refused(refused.join("; ")));
        }
        return print("the configuration is valid\n");
    }
    if config.supervisor.sandbox == Confinement::RequireLandlock && !has_landlock() {
        return Err(CliError::NoLandlock);
    }
    let place = match (adopted, &config.supervisor.socket) {
        // Where it is bound is for the socket's unit to say.
        (Some(adopted), _) => SocketSource::Adopted(adopted),
        (None, Some(path)) => SocketSource::Path(path.clone()),
        (None, None) => SocketSource::Path(ipc::default_socket()?),
    };
    let settings = Settings {
        level: arguments.log_level.into(),
        format: config.supervisor.log_format,
        journal: arguments.journal_socket,
    };
    // A file that is too long for a limit is to be an error, of the log as of memory, and no end.
    let caught = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
    caught.map_err(CliError::Signal)?;
    let log = Log::start(settings).map_err(CliError::Log)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "starting");
    if let Err(error) =
        daemon::run(Setup { config, source, socket: place, http, template: arguments.template_executable })
    {
        log.fail(&error);
        return Err(CliError::Told);
    }
    tracing::info!("stopped");
    Ok(())
}
