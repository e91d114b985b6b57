//! The configuration: what can be set, the defaults, and what the command line overrides.
//!
//! Every value in a [`Config`] has been checked, whether it comes from a file, the command line or
//! the defaults. What depends on the machine or on a model's file (`auto`, a context that the model
//! cannot have, the default socket) is left to those who know it. Nothing here opens a model.
mod error;
mod file;
mod http;
mod source;
#[cfg(test)]
mod tests;
mod value;

pub(crate) use error::{ConfigError, Place};
pub(crate) use http::{ApiKey, HttpConfig, USUAL as USUAL_HTTP};
pub(crate) use source::ConfigSource;

use ipc::{ModelSource, Precision, TemplateVars};
use policy::{Isolation, Load};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use value::Value;

/// The built-in model, which needs no file.
const BUILTIN_MODEL: &str = "builtin:pocket";

/// The whole configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// The table `[supervisor]`.
    pub(crate) supervisor: SupervisorConfig,
    /// The table `[http]`.
    pub(crate) http: HttpConfig,
    /// The tables `[[model]]`: at least one, with different names.
    pub(crate) models: Vec<ModelConfig>,
    /// Whether somebody has named them. If nobody has, there is the built-in one.
    pub(crate) names_models: bool,
}

/// What concerns the daemon as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, rename = "[supervisor]", expecting = "a table, which begins with [supervisor]")]
pub(crate) struct SupervisorConfig {
    /// The socket to listen on; the default one if `None`.
    #[serde(deserialize_with = "value::socket")]
    pub(crate) socket: Option<PathBuf>,
    /// Most requests that wait, for each model.
    #[serde(deserialize_with = "value::queue")]
    pub(crate) queue: usize,
    /// Longest wait in the queue.
    #[serde(deserialize_with = "value::duration")]
    pub(crate) queue_timeout: Duration,
    /// The thread budget of the host.
    #[serde(deserialize_with = "value::cores")]
    pub(crate) cores: Auto<u32>,
    /// Uids that may connect besides the daemon's own user and root; if there are none, the
    /// socket's group may too.
    #[serde(deserialize_with = "value::users")]
    pub(crate) allow_users: Vec<u32>,
    /// How long a shutdown waits for the requests that run and wait.
    #[serde(deserialize_with = "value::duration")]
    pub(crate) shutdown_timeout: Duration,
    /// What must confine templates and workers.
    #[serde(deserialize_with = "value::sandbox")]
    pub(crate) sandbox: Confinement,
    /// How lines of the log look; `auto` depends on where they go.
    #[serde(deserialize_with = "value::log_format")]
    pub(crate) log_format: Auto<LogFormat>,
    /// What the log says of prompts.
    #[serde(deserialize_with = "value::log_prompts")]
    pub(crate) log_prompts: LogPrompts,
}

/// What must confine templates and workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Confinement {
    /// A filter of system calls, and Landlock if the kernel has it.
    On,
    /// Both.
    RequireLandlock,
}

/// What concerns one model.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, rename = "[[model]]", expecting = "a list of tables, each of which begins with [[model]]")]
pub(crate) struct ModelConfig {
    /// What clients call it.
    #[serde(deserialize_with = "value::name")]
    pub(crate) name: String,
    /// What it is read from.
    #[serde(rename = "path", deserialize_with = "value::model_source")]
    pub(crate) source: ModelSource,
    /// Most requests that run at once; `auto` is one for each core.
    #[serde(deserialize_with = "value::workers")]
    pub(crate) workers: Auto<u32>,
    /// Most threads that one worker may use.
    #[serde(deserialize_with = "value::cores")]
    pub(crate) threads: Auto<u32>,
    /// A fresh process for each request, or one for many; `auto` depends on what the model does.
    #[serde(deserialize_with = "value::isolation")]
    pub(crate) isolation: Auto<Isolation>,
    /// Most tokens of prompt and answer together; the model's own limit if `None`.
    #[serde(deserialize_with = "value::context")]
    pub(crate) context: Option<u32>,
    /// When the model is loaded.
    #[serde(deserialize_with = "value::load")]
    pub(crate) load: Load,
    /// How long the model is kept with no request; always if `None`.
    #[serde(deserialize_with = "value::idle_unload")]
    pub(crate) idle_unload: Option<Duration>,
    /// What an embedding model computes in; others take no notice.
    #[serde(deserialize_with = "value::precision")]
    pub(crate) precision: Precision,
    /// Bytes of memory that a worker may have for itself.
    #[serde(deserialize_with = "value::memory")]
    pub(crate) memory_per_worker: u64,
    /// Longest time without progress.
    #[serde(deserialize_with = "value::duration")]
    pub(crate) progress_timeout: Duration,
    /// Longest time from a request's first dispatch to its end.
    #[serde(deserialize_with = "value::duration")]
    pub(crate) request_timeout: Duration,
    /// Longest time for a client to take nothing.
    #[serde(deserialize_with = "value::duration")]
    pub(crate) client_timeout: Duration,
    /// Workers that may die under one request.
    #[serde(deserialize_with = "value::attempts")]
    pub(crate) max_attempts: u32,
    /// The only SHA-256 that the model's file may have, in lowercase hexadecimal.
    #[serde(deserialize_with = "value::sha256")]
    pub(crate) sha256: Option<String>,
    /// What the chat template can name besides the conversation, unless a request says otherwise.
    #[serde(deserialize_with = "value::template_vars")]
    pub(crate) template_vars: TemplateVars,
}

/// A number, or the one that fits the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Auto<T> {
    /// Whatever fits.
    Auto,
    /// Exactly this.
    Fixed(T),
}

impl Auto<u32> {
    /// So many of the machine's cores: what is set, or all.
    pub(crate) fn or_all(self) -> u32 {
        match self {
            Auto::Fixed(cores) => cores,
            Auto::Auto => std::thread::available_parallelism().map_or(1, |count| count.get().try_into().unwrap_or(1)),
        }
    }
}

/// How lines of the log look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// An object on each line.
    Json,
}

/// What the log says of prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogPrompts {
    /// Nothing.
    None,
    /// A keyed hash, by which equal ones are recognised.
    Hash,
    /// Their beginnings.
    Full,
}

/// What the command line sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Overrides {
    /// Names and paths of `--model`, which replace the file's models. Paths are relative to the
    /// working directory.
    pub(crate) models: Vec<(String, String)>,
    /// `--workers`, for every model.
    pub(crate) workers: Option<u32>,
    /// `--threads`, for every model.
    pub(crate) threads: Option<Auto<u32>>,
    /// `--socket`.
    pub(crate) socket: Option<PathBuf>,
    /// `--http`, each in place of the file's `listen`.
    pub(crate) http: Vec<String>,
    /// `--log-format`.
    pub(crate) log_format: Option<LogFormat>,
}

impl Config {
    /// The configuration of a daemon that was given none: the built-in model and every default.
    pub(crate) fn builtin() -> Config {
        Config {
            supervisor: SupervisorConfig::default(),
            http: HttpConfig::default(),
            models: vec![ModelConfig::new("pocket".to_string(), ModelSource::parse(BUILTIN_MODEL))],
            names_models: false,
        }
    }

    /// Reads the file at `path`.
    pub(crate) fn load(path: &Path) -> Result<Config, ConfigError> {
        let file = path.display().to_string();
        let bytes = source::bytes(path).map_err(|source| ConfigError::Read { file: file.clone(), source })?;
        let text = str::from_utf8(&bytes).map_err(|error| {
            let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
            ConfigError::NotUtf8 { place: Place::line(&file, line) }
        })?;
        let mut config = Config::parse(text, path)?;
        for model in &mut config.models {
            // Templates have another working directory.
            model.source = model.source.clone().absolute();
        }
        Ok(config)
    }

    /// Parses the text of the file at `path`, which is named in errors and whose folder relative
    /// paths start from.
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        let mut config = file::parse(text, path)?;
        config.names_models = !config.models.is_empty();
        if !config.names_models {
            config.models = Config::builtin().models;
        }
        Ok(config)
    }

    /// This configuration with what the command line sets.
    pub(crate) fn with_overrides(mut self, overrides: &Overrides) -> Result<Config, ConfigError> {
        if !overrides.models.is_empty() {
            let option = Place::option("--model");
            self.models.clear();
            self.names_models = true;
            for (name, path) in &overrides.models {
                let text = |text: &String| Value::Text(text.clone());
                let refused = |key, text: &str| {
                    let (place, value) = (option.clone(), value::quoted(text));
                    move |rule| value::refused(&place, key, value, rule)
                };
                let model_name = text(name).name().map_err(refused("name", name))?;
                let source = text(path).model_source().map_err(refused("path", path))?;
                self.add(ModelConfig::new(model_name, source.absolute()), &option)?;
            }
        }
        let refused = |option, key, value: String| move |rule| value::refused(&Place::option(option), key, value, rule);
        if let Some(workers) = overrides.workers {
            let value = Value::Integer(workers.into());
            let workers = value.workers().map_err(refused("--workers", "workers", workers.to_string()))?;
            self.models.iter_mut().for_each(|model| model.workers = workers);
        }
        if let Some(threads) = overrides.threads {
            let threads = match threads {
                Auto::Auto => Auto::Auto,
                Auto::Fixed(threads) => Value::Integer(threads.into()).cores().map_err(refused(
                    "--threads",
                    "threads",
                    threads.to_string(),
                ))?,
            };
            self.models.iter_mut().for_each(|model| model.threads = threads);
        }
        if let Some(socket) = &overrides.socket {
            let value = value::quoted(&socket.to_string_lossy());
            let socket = value::socket_at(socket.clone()).map_err(refused("--socket", "socket", value))?;
            self.supervisor.socket = Some(socket);
        }
        if !overrides.http.is_empty() {
            let listen = |text: &String| {
                let value = Value::Text(text.clone());
                http::listen(&value).map_err(refused("--http", "listen", value::quoted(text)))
            };
            self.http.listen = overrides.http.iter().map(listen).collect::<Result<_, _>>()?;
        }
        if let Some(format) = overrides.log_format {
            self.supervisor.log_format = Auto::Fixed(format);
        }
        Ok(self)
    }

    /// Adds a model, whose name comes from `place`.
    fn add(&mut self, model: ModelConfig, place: &Place) -> Result<(), ConfigError> {
        if self.models.iter().any(|other| other.name == model.name) {
            return Err(ConfigError::DuplicateName { place: place.clone(), name: model.name });
        }
        self.models.push(model);
        Ok(())
    }
}

impl Default for SupervisorConfig {
    fn default() -> SupervisorConfig {
        SupervisorConfig {
            socket: None,
            queue: 64,
            queue_timeout: Duration::from_secs(60),
            cores: Auto::Auto,
            allow_users: Vec::new(),
            shutdown_timeout: Duration::from_secs(30),
            sandbox: Confinement::On,
            log_format: Auto::Auto,
            log_prompts: LogPrompts::None,
        }
    }
}

impl Default for ModelConfig {
    /// A model that has neither a name nor a path yet.
    fn default() -> ModelConfig {
        ModelConfig::new(String::new(), ModelSource::parse(""))
    }
}

impl ModelConfig {
    /// A model with every default.
    pub(crate) fn new(name: String, source: ModelSource) -> ModelConfig {
        ModelConfig {
            name,
            source,
            workers: Auto::Auto,
            threads: Auto::Auto,
            isolation: Auto::Auto,
            context: None,
            load: Load::Eager,
            idle_unload: None,
            precision: Precision::F32,
            memory_per_worker: 512 << 20,
            progress_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(600),
            client_timeout: Duration::from_secs(30),
            max_attempts: 3,
            sha256: None,
            template_vars: TemplateVars::new(),
        }
    }
}
