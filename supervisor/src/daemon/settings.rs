//! What holds for the daemon as a whole, and where it was read.
use crate::config::{ConfigSource, SupervisorConfig};

#[derive(Debug)]
pub(super) struct Settings {
    /// The part of the configuration that is no model's.
    pub(super) supervisor: SupervisorConfig,
    pub(super) source: ConfigSource,
    /// Whether the configuration names models.
    pub(super) names_models: bool,
    /// Threads for all workers.
    pub(super) cores: u32,
    /// Whether the models' limits are others than before.
    pub(super) has_new_limits: bool,
}

impl Settings {
    /// Takes over what can be changed while the daemon runs.
    pub(super) fn reloaded(&mut self, supervisor: SupervisorConfig, names_models: bool) {
        let old = std::mem::replace(&mut self.supervisor, supervisor);
        self.supervisor.socket = old.socket;
        (self.supervisor.cores, self.supervisor.sandbox) = (old.cores, old.sandbox);
        (self.supervisor.log_format, self.supervisor.log_prompts) = (old.log_format, old.log_prompts);
        (self.names_models, self.has_new_limits) = (names_models, true);
    }
}
