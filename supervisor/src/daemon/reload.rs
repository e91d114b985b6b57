//! A new configuration: what is different in it, and what people are told of that.
//!
//! The file is read and compared here; a mistake in it changes nothing. The policy then brings all
//! of it into force or nothing (`policy/src/reload.rs`), and here the records follow. A reload that
//! is asked for while one is under way begins when that has ended, so that it reads what the file
//! says by then.
mod difference;

use super::{ConnectionId, Daemon, identity, memory_shortage, served_model::ServedModel};
use crate::{
    config::{Config, ModelConfig, SupervisorConfig},
    log::OPERATION,
};
use difference::{Difference, named};
use ipc::{Failure, FailureKind, Response};
use policy::{Change, Event, FrontChange, PoolId, Reload, ReloadRefusal, TemplateState};
use std::time::Duration;
use system::foreign_text::chain;

/// What is told of a configuration that has lost its models.
const NO_MODELS: &str = "the configuration names no model any more; to serve the built-in one alone, name it: [[model]] with path = \"builtin:pocket\"";

/// New configurations.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    /// The one that is to come into force.
    pub(super) under_way: Option<Reloading>,
    /// Whether the file is to be read once more then, and who waits for that.
    pub(super) again: Option<Vec<ConnectionId>>,
    /// Why the last one changed nothing.
    pub(super) error: Option<String>,
}

/// A configuration that is to come into force.
#[derive(Debug)]
pub(crate) struct Reloading {
    supervisor: SupervisorConfig,
    front: FrontChange,
    names_models: bool,
    models: Vec<Planned>,
    removed: Vec<PoolId>,
    /// What is told besides.
    remarks: Vec<String>,
    /// Who waits for it.
    askers: Vec<ConnectionId>,
}

/// A model of the new configuration, and how it is different from the one of its name that is
/// served, if there is one.
#[derive(Debug)]
struct Compared {
    new: ServedModel,
    old: Option<(PoolId, Difference)>,
}

/// What becomes of a model of the new configuration.
#[derive(Debug)]
struct Planned {
    pool: PoolId,
    /// How it is different from the one of its name that was served; none if there was none.
    difference: Option<Difference>,
    /// The pool whose place it takes.
    old: Option<PoolId>,
    /// What it is to be, if its pool stays.
    adjusted: Option<ModelConfig>,
}

impl Daemon {
    /// Reads the configuration again, now or when the reload that is under way has ended.
    pub(super) fn reload(&mut self, asker: Option<ConnectionId>) {
        match self.reloads.under_way {
            Some(_) => self.reloads.again.get_or_insert_default().extend(asker),
            None => self.reload_for(asker.into_iter().collect()),
        }
    }

    pub(super) fn reload_for(&mut self, askers: Vec<ConnectionId>) {
        tracing::info!(target: OPERATION, "reading the configuration again");
        if self.is_stopping() {
            let failure = Failure::new(FailureKind::ShuttingDown, "the supervisor is shutting down");
            return self.refuse_reload(askers, failure);
        }
        let planned = match self.settings.source.read() {
            // A file that was emptied, or is only half written, is no wish for another model.
            Ok(config) if self.settings.names_models && !config.names_models => {
                Err(Failure::new(FailureKind::BadRequest, NO_MODELS))
            }
            Ok(config) => Ok(self.plan(config)),
            Err(error) => Err(Failure::new(FailureKind::BadRequest, chain(&error))),
        };
        match planned {
            Ok((reloading, changes)) => {
                // The service manager hears that it is ready when that has ended.
                self.notify.reloading();
                self.reloads.under_way = Some(Reloading { askers, ..reloading });
                let front = self.reloads.under_way.as_ref().map_or(FrontChange::Keep, |new| new.front);
                let drain = self
                    .reloads
                    .under_way
                    .as_ref()
                    .map_or_else(Default::default, |new| new.supervisor.shutdown_timeout);
                self.feed(Event::Reload(Reload { drain, changes, memory: memory_shortage::memory(), front }));
            }
            Err(failure) => self.refuse_reload(askers, failure),
        }
    }

    /// Says why nothing has changed.
    fn refuse_reload(&mut self, askers: Vec<ConnectionId>, mut failure: Failure) {
        tracing::error!(target: OPERATION, "nothing has changed: {}", failure.message);
        self.reloads.error = Some(failure.message.clone());
        failure.message = format!("nothing has changed: {}", failure.message);
        for asker in askers {
            self.reply(asker, &Response::Failed(failure.clone()));
        }
    }

    /// What is different in this configuration, and what the policy must do about it.
    fn plan(&mut self, config: Config) -> (Reloading, Vec<Change>) {
        let (supervisor, names_models) = (config.supervisor, config.names_models);
        let front = self.fronts.change(config.http);
        let compared: Vec<_> = config.models.into_iter().map(|model| self.compare(model, &supervisor)).collect();
        let mut changes = Vec::new();
        let mut models = Vec::new();
        for model in compared {
            models.push(self.plan_model(model, &supervisor, &mut changes));
        }
        let stays = |id: PoolId| models.iter().any(|model| model.pool == id || model.old == Some(id));
        let removed: Vec<_> = self.models.served().map(|(id, _)| id).filter(|id| !stays(*id)).collect();
        changes.extend(removed.iter().copied().map(Change::Remove));
        let remarks = self.remarks(&supervisor);
        (Reloading { supervisor, front, names_models, models, removed, remarks, askers: Vec::new() }, changes)
    }

    /// What is different of what holds for the daemon as a whole.
    fn remarks(&self, new: &SupervisorConfig) -> Vec<String> {
        let old = &self.settings.supervisor;
        let changed = [
            ("allow_users", new.allow_users != old.allow_users),
            ("shutdown_timeout", new.shutdown_timeout != old.shutdown_timeout),
        ];
        let kept = [
            ("socket", new.socket != old.socket),
            ("cores", new.cores != old.cores),
            ("sandbox", new.sandbox != old.sandbox),
            ("log_format", new.log_format != old.log_format),
            ("log_prompts", new.log_prompts != old.log_prompts),
        ];
        let names = |settings: &[(&'static str, bool)]| {
            named(&settings.iter().filter(|(_, is_different)| *is_different).map(|(name, _)| *name).collect::<Vec<_>>())
        };
        let changed = names(&changed).map(|names| format!("[supervisor]: changed in place ({names})"));
        let kept = names(&kept).map(|names| format!("{names}: as before until the supervisor is started again"));
        changed.into_iter().chain(kept).collect()
    }

    /// A model of the new configuration beside the one of its name that is served.
    fn compare(&self, config: ModelConfig, supervisor: &SupervisorConfig) -> Compared {
        let new = ServedModel::new(config, self.settings.cores);
        let old = self.models.named(&new.config.name).map(|old| {
            let before = &self.models[old];
            let has_new_files = before.identity.is_some_and(|identity| identity != identity::now(&before.spec));
            let is_cold = self.driver.policy.pool(old).state == TemplateState::Cold;
            (old, Difference::between((before, &self.settings.supervisor), (&new, supervisor), has_new_files, is_cold))
        });
        Compared { new, old }
    }

    fn plan_model(&mut self, compared: Compared, supervisor: &SupervisorConfig, changes: &mut Vec<Change>) -> Planned {
        let Compared { new, old } = compared;
        let limits = new.limits(supervisor);
        let Some((old, difference)) = old else {
            let pool = self.models.insert(new);
            changes.push(Change::Add { pool, limits });
            return Planned { pool, difference: None, old: None, adjusted: None };
        };
        if difference.needs_template {
            let pool = self.models.insert(new);
            changes.push(Change::Replace { old, new: pool, limits });
            return Planned { pool, difference: Some(difference), old: Some(old), adjusted: None };
        }
        if !difference.keys.is_empty() {
            changes.push(Change::Adjust { pool: old, limits });
        }
        Planned { pool: old, difference: Some(difference), old: None, adjusted: Some(new.config) }
    }

    /// The new configuration is in force.
    pub(super) fn reloaded(&mut self) {
        let Some(reloading) = self.reloads.under_way.take() else { return };
        let mut lines = Vec::new();
        for model in &reloading.models {
            if let Some(old) = model.old {
                // What is counted goes on with the model's name.
                let before = std::mem::take(&mut self.models[old].history);
                self.models[model.pool].history.add(before);
            }
            let pool = &mut self.models[model.pool];
            if let Some(config) = &model.adjusted {
                pool.adjust(config.clone(), self.settings.cores);
            }
            lines.push(format!("{}: {}", pool.config.name, describe(model, pool)));
        }
        for id in &reloading.removed {
            lines.push(format!("{}: removed; what was admitted is finished", self.models[*id].config.name));
        }
        lines.extend(reloading.remarks);
        self.models.serve(reloading.models.iter().map(|model| model.pool).collect());
        match reloading.front {
            FrontChange::Keep => {}
            FrontChange::Replace => lines.push("[http]: in force".to_owned()),
            FrontChange::Remove => lines.push("[http]: no HTTP any more".to_owned()),
        }
        self.fronts.switched();
        self.settings.reloaded(reloading.supervisor, reloading.names_models);
        self.connections.socket.allow(self.settings.supervisor.allow_users.clone());
        self.reloads.error = None;
        for line in &lines {
            tracing::info!(target: OPERATION, "reloaded: {line}");
        }
        for asker in reloading.askers {
            self.done(asker, &lines);
        }
    }

    /// The new configuration is not in force.
    pub(super) fn reload_refused(&mut self, refusal: ReloadRefusal) {
        let Some(reloading) = self.reloads.under_way.take() else { return };
        self.fronts.not_switched();
        let because_of = |id: PoolId, reason: String| {
            Failure::new(FailureKind::Unavailable, format!("{}: {reason}", self.models[id].config.name))
        };
        let failure = match refusal {
            ReloadRefusal::NotServed(id) => because_of(id, self.models[id].why_refused()),
            ReloadRefusal::Outgrows(id, shortage) => because_of(id, memory_shortage::describe(&shortage)),
            ReloadRefusal::NoFront => {
                let reason = self.fronts.error.clone().unwrap_or_else(|| "the front did not come to listen".to_owned());
                Failure::new(FailureKind::Unavailable, format!("HTTP cannot be served: {reason}"))
            }
            ReloadRefusal::ShuttingDown => Failure::new(FailureKind::ShuttingDown, "the supervisor is shutting down"),
        };
        self.refuse_reload(reloading.askers, failure);
    }

    /// Whether a reload tries this model.
    pub(super) fn is_tried(&self, id: PoolId) -> bool {
        self.reloads.under_way.as_ref().is_some_and(|reloading| reloading.models.iter().any(|model| model.pool == id))
    }

    /// Nothing is left of a model: what was counted goes on with its name.
    pub(super) fn forget_pool(&mut self, id: PoolId) {
        let Some(pool) = self.models.remove(id) else { return };
        let successor = self.models.named(&pool.config.name);
        let what = match successor {
            // Later ones have higher numbers.
            Some(served) if served < id => "what was tried",
            Some(_) => "the one before",
            None => "it",
        };
        tracing::info!(target: OPERATION, model = pool.config.name, "nothing is left of {what}");
        if let Some(successor) = successor {
            self.models[successor].history.add(pool.history);
        }
    }
}

/// What has become of a model.
fn describe(model: &Planned, pool: &ServedModel) -> String {
    let loaded = pool.info.as_ref().filter(|_| pool.template.is_some());
    let loaded = loaded.map(|info| humantime::format_duration(Duration::from_millis(info.load_ms)));
    let loaded = loaded.map(|time| format!("loaded in {time}"));
    let loaded = loaded.unwrap_or_else(|| "to be loaded when it is asked for".to_owned());
    match &model.difference {
        None => format!("added, {loaded}"),
        Some(difference) => match named(&difference.keys) {
            None => "unchanged".to_owned(),
            Some(keys) if model.old.is_some() => format!("replaced, {loaded} ({keys})"),
            Some(keys) => format!("changed in place ({keys})"),
        },
    }
}
