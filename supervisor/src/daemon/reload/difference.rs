//! How a model of a new configuration is different from the one that is served, by the names of the
//! settings.
use super::super::served_model::ServedModel;
use crate::config::SupervisorConfig;
use policy::Load;
use policy::Need;

/// What is different of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// The settings that are.
    pub(super) keys: Vec<&'static str>,
    /// Whether it cannot be had without loading the model again.
    pub(super) needs_template: bool,
}

impl Difference {
    /// What is different between the model that is served and the one that is to be, each with what
    /// holds for all models. The former may be cold: let go, or not asked for yet.
    pub(super) fn between(
        (old, old_common): (&ServedModel, &SupervisorConfig),
        (new, new_common): (&ServedModel, &SupervisorConfig),
        has_new_files: bool,
        is_cold: bool,
    ) -> Difference {
        let (before, after) = (&old.config, &new.config);
        // One that is not loaded yet, and is to be from now on, must show that it can be.
        let is_awaited = is_cold && before.load == Load::Lazy && after.load == Load::Eager;
        // What it takes is known only while it is loaded: one that is to take more must show that
        // this fits.
        let takes_more = is_cold
            && (old.slots < new.slots
                || Need::of_worker(before.memory_per_worker) < Need::of_worker(after.memory_per_worker));
        let template = [
            ("path", old.spec.source != new.spec.source),
            ("the files themselves", has_new_files && old.spec.source == new.spec.source),
            ("context", old.spec.context != new.spec.context),
            ("precision", old.spec.precision != new.spec.precision),
            ("sha256", old.spec.sha256 != new.spec.sha256),
            ("threads", old.spec.threads != new.spec.threads),
            ("isolation", old.isolation() != new.isolation()),
            ("load", is_awaited),
        ];
        let place = [
            ("workers", old.slots != new.slots),
            ("load", before.load != after.load && !is_awaited),
            ("idle_unload", before.idle_unload != after.idle_unload),
            ("memory_per_worker", before.memory_per_worker != after.memory_per_worker),
            ("progress_timeout", before.progress_timeout != after.progress_timeout),
            ("request_timeout", before.request_timeout != after.request_timeout),
            ("client_timeout", before.client_timeout != after.client_timeout),
            ("template_vars", before.template_vars != after.template_vars),
            ("max_attempts", before.max_attempts != after.max_attempts),
            ("queue", old_common.queue != new_common.queue),
            ("queue_timeout", old_common.queue_timeout != new_common.queue_timeout),
        ];
        let needs_template = takes_more || template.iter().any(|(_, is_different)| *is_different);
        let different = template.into_iter().chain(place).filter(|(_, is_different)| *is_different);
        Difference { keys: different.map(|(key, _)| key).collect(), needs_template }
    }
}

/// The names of settings, for a sentence; none if there are none.
pub(super) fn named(keys: &[&str]) -> Option<String> {
    let (last, others) = keys.split_last()?;
    Some(if others.is_empty() { (*last).to_owned() } else { format!("{} and {last}", others.join(", ")) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Auto, ModelConfig};
    use ipc::ModelSource;
    use std::time::Duration;

    fn difference(change: impl FnOnce(&mut ModelConfig, &mut SupervisorConfig)) -> (String, bool) {
        let config =
            ModelConfig { load: Load::Lazy, ..ModelConfig::new("x".into(), ModelSource::parse("builtin:pocket")) };
        let (mut model, mut common) = (config.clone(), SupervisorConfig::default());
        change(&mut model, &mut common);
        let [old, new] = [config, model].map(|config| ServedModel::new(config, 4));
        let found = Difference::between((&old, &SupervisorConfig::default()), (&new, &common), false, true);
        (named(&found.keys).unwrap_or_default(), found.needs_template)
    }

    #[test]
    fn each_setting_is_named_and_known_to_need_a_template_or_not() {
        assert_eq!(difference(|_, _| {}), (String::new(), false));
        assert_eq!(difference(|model, _| model.workers = Auto::Fixed(4)), (String::new(), false), "as many as before");
        assert_eq!(difference(|model, _| model.workers = Auto::Fixed(3)), ("workers".into(), false));
        let more = difference(|model, _| model.workers = Auto::Fixed(5));
        assert_eq!(more, ("workers".into(), true), "it is not loaded, so nobody knows whether that fits");
        assert!(!difference(|model, _| model.memory_per_worker <<= 1).1, "it is not counted to take as much");
        let timeouts = |model: &mut ModelConfig, common: &mut SupervisorConfig| {
            let time = Duration::from_secs(7);
            (model.progress_timeout, model.request_timeout, model.client_timeout) = (time, time, time);
            (common.queue, common.queue_timeout) = (7, time);
        };
        let names = "progress_timeout, request_timeout, client_timeout, queue and queue_timeout";
        assert_eq!(difference(timeouts), (names.into(), false));
        let others = |model: &mut ModelConfig, _: &mut SupervisorConfig| {
            (model.max_attempts, model.memory_per_worker) = (7, 1 << 21);
            model.template_vars.insert("enable_thinking".into(), false.into());
            model.idle_unload = Some(Duration::from_secs(7));
        };
        assert_eq!(
            difference(others),
            ("idle_unload, memory_per_worker, template_vars and max_attempts".into(), false)
        );
        assert_eq!(difference(|model, _| model.source = ModelSource::parse("builtin:echo")), ("path".into(), true));
        let all = |model: &mut ModelConfig, _: &mut SupervisorConfig| {
            (model.context, model.sha256) = (Some(7), Some("7".into()));
            (model.precision, model.threads) = (ipc::Precision::Int8, Auto::Fixed(2));
            model.isolation = Auto::Fixed(policy::Isolation::Worker);
        };
        assert_eq!(difference(all), ("context, precision, sha256, threads and isolation".into(), true));
        assert_eq!(difference(|model, _| model.load = Load::Eager), ("load".into(), true), "it must show that it can");
    }

    #[test]
    fn new_files_are_another_model() {
        let [old, new] = [0, 1].map(|_| ServedModel::new(ModelConfig::new("x".into(), ModelSource::parse("y")), 4));
        let common = SupervisorConfig::default();
        let found = Difference::between((&old, &common), (&new, &common), true, false);
        assert_eq!(found, Difference { keys: vec!["the files themselves"], needs_template: true });
    }
}
