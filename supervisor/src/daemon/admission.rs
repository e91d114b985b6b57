//! Whether a model or a worker fits into memory: arithmetic, and the sentence if it does not.
//!
//! What is counted is the worst case: the weights of every model that is loaded, and for each of
//! its slots what a worker may take and what a request keeps in its cache. Pages that templates and
//! workers share are counted once, with the weights. A template says what it needs before it reads
//! the weights; what it turns out to take, if that is more, counts from then on. While a reload is
//! under way, a model that another one is to be loaded beside counts with what it is now or with
//! what it is to be, whichever is more; one that grows in place counts others with what they are to
//! be (`reload.rs`), and is given workers when there is room for them.
use super::{Daemon, served_model::ServedModel};
use crate::config::ModelConfig;
use ipc::{FromTemplate, ModelInfo, Needs};
use policy::PoolId;
use system::{
    limits,
    proc::{self, HostMemory},
};

/// What a worker of any engine may take for itself: stacks, scratch memory, the tokens of a
/// request.
const PRIVATE: u64 = 64 << 20;

/// What a model may take of the machine's memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// All workers together, in the template.
    weights: u64,
    slots: u32,
    /// Of a worker alone.
    private: u64,
    /// Of a request.
    cache: u64,
}

impl Daemon {
    /// Makes room for a model that is about to be loaded. `Err` says why there is none.
    pub(super) fn admit(&mut self, id: PoolId, needs: Needs) -> Result<(), String> {
        let model = &self.models[id];
        let need = Need::of(&model.config, needs, model.slots);
        need.admit_addresses(limits::addresses())?;
        self.most_needed(id, need).admit_model(self.needed_by_others(id), need.weights, HostMemory::now())?;
        self.models[id].need = Some(need);
        Ok(())
    }

    /// Looks again, when it is loaded, at what it says and what it takes.
    pub(super) fn admit_loaded(&mut self, id: PoolId, info: &ModelInfo) -> Result<(), String> {
        let model = &self.models[id];
        let told = model.need.map_or(info.weights, |need| need.weights);
        let taken = model.template.as_ref().map_or(0, |template| proc::anonymous(template.process.pid()));
        let need = Need::of(&model.config, Needs { weights: told.max(taken), cache: info.cache }, model.slots);
        self.most_needed(id, need).admit_model(self.needed_by_others(id), 0, HostMemory::now())?;
        self.models[id].need = Some(need);
        Ok(())
    }

    /// What the other models that are loaded may take of the memory.
    pub(super) fn needed_by_others(&self, id: PoolId) -> u64 {
        let others = self.models.iter().filter(|(other, model)| *other != id && model.template.is_some());
        let needs = others.filter_map(|(id, model)| Some(self.most_needed(id, model.need?)));
        needs.map(|need| need.total()).fold(0, u64::saturating_add)
    }

    /// What a model that needs so much now may need in the course of the reload that is under way,
    /// if one is.
    fn most_needed(&self, id: PoolId, now: Need) -> Need {
        let planned = self.planned(id).map(|config| now.resized(config, ServedModel::slots_of(config, self.cores)));
        planned.filter(|planned| planned.total() > now.total()).unwrap_or(now)
    }
}

impl ServedModel {
    /// Whether it can be loaded if nothing else is there then, by the first word of a template that
    /// is only to open it. `Err` says why it never can.
    pub(super) fn can_be_loaded(&self, said: FromTemplate) -> Result<(), String> {
        match said {
            FromTemplate::Needs(needs) => {
                let need = Need::of(&self.config, needs, self.slots);
                need.admit_addresses(limits::addresses())?;
                need.fits(0, HostMemory::now())
            }
            // One that has nothing to ask for is loaded at once.
            FromTemplate::Ready(_) => Ok(()),
            FromTemplate::LoadFailed { message } => Err(message),
            FromTemplate::Forked(_) | FromTemplate::ForkFailed { .. } => {
                Err("its template speaks of a worker that it was not asked for".to_owned())
            }
        }
    }
}

impl Need {
    /// What a model of so many slots needs, by its configuration and by what its template says.
    pub(super) fn of(config: &ModelConfig, Needs { weights, cache }: Needs, slots: u32) -> Need {
        Need { weights, slots, private: Need::private(config), cache }
    }

    /// What a worker alone is counted to take.
    pub(super) fn private(config: &ModelConfig) -> u64 {
        PRIVATE.min(config.memory_per_worker)
    }

    /// What the same model needs with this configuration and so many slots.
    pub(super) fn resized(self, config: &ModelConfig, slots: u32) -> Need {
        Need::of(config, Needs { weights: self.weights, cache: self.cache }, slots)
    }

    /// All of it.
    pub(super) fn total(&self) -> u64 {
        self.weights.saturating_add(self.slot().saturating_mul(self.slots.into()))
    }

    fn slot(&self) -> u64 {
        self.private.saturating_add(self.cache)
    }

    /// Whether a model fits beside others which need so much, of whose weights so much is not in
    /// memory yet. `Err` says why it does not.
    pub(super) fn admit_model(&self, others: u64, unread: u64, memory: HostMemory) -> Result<(), String> {
        self.fits(others, memory)?;
        let (private, cache) = (size(self.private), size(self.cache));
        let now = unread.saturating_add(self.slot());
        if now > memory.available {
            let (unread, now, available) = (size(unread), size(now), size(memory.available));
            return Err(format!(
                "it does not fit into memory now: {unread} of weights, {private} for a worker and {cache} for a request's cache are {now}, but \
                 {available} are available; end something else, or set a smaller context"
            ));
        }
        Ok(())
    }

    /// Whether one process can map what each maps, with this limit of a process. `Err` says why not.
    fn admit_addresses(&self, limit: Option<u64>) -> Result<(), String> {
        let mapped = self.weights.saturating_add(self.cache);
        let Some(limit) = limit.filter(|limit| mapped > *limit) else { return Ok(()) };
        let (weights, cache, limit) = (size(self.weights), size(self.cache), size(limit));
        Err(format!(
            "it does not fit into a process: {weights} of weights and {cache} for a request's cache are more than the {limit} of addresses \
             that a process may have (ulimit -v, LimitAS= of a unit)"
        ))
    }

    /// Whether there is as much memory, whoever has it now. `Err` says why not.
    pub(super) fn fits(&self, others: u64, memory: HostMemory) -> Result<(), String> {
        let free = memory.total.saturating_sub(others);
        let (weights, private, cache) = (size(self.weights), size(self.private), size(self.cache));
        if self.total() > free {
            let (slots, total, free, all) = (self.slots, size(self.total()), size(free), size(memory.total));
            return Err(format!(
                "it does not fit into memory: {weights} of weights and {slots} x ({private} for a worker + {cache} for a request's cache) are \
                 {total}, and {free} of {all} are left by other models; set fewer workers or a smaller context"
            ));
        }
        Ok(())
    }

    /// Whether one more worker fits now, which will serve a request besides all that run if it is
    /// `first` in its slot.
    pub(crate) fn admit_worker(&self, first: bool, memory: HostMemory) -> Result<(), String> {
        let needed = if first { self.slot() } else { self.private };
        if needed <= memory.available {
            return Ok(());
        }
        let (private, cache, available) = (size(self.private), size(self.cache), size(memory.available));
        Err(format!(
            "a worker may take {private}, and a request's cache {cache}, but {available} are available; set a smaller context, or \
             fewer workers"
        ))
    }
}

/// Bytes, for people.
fn size(bytes: u64) -> String {
    bytesize::ByteSize::b(bytes).display().iec().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const NEED: Need = Need { weights: GIB, slots: 4, private: 64 << 20, cache: GIB / 2 };

    fn memory(total: u64, available: u64) -> HostMemory {
        HostMemory { total, available }
    }

    #[test]
    fn a_model_fits_with_all_its_workers_or_not_at_all() {
        let exactly = GIB + 4 * (GIB / 2 + (64 << 20));
        assert_eq!(NEED.total(), exactly);
        assert_eq!(NEED.admit_model(0, GIB, memory(exactly, 2 * GIB)), Ok(()));
        assert_eq!(NEED.admit_model(GIB, 0, memory(exactly + GIB, GIB)), Ok(()));
        let refused = NEED.admit_model(1, GIB, memory(exactly, 2 * GIB)).unwrap_err();
        assert_eq!(
            refused,
            "it does not fit into memory: 1.0 GiB of weights and 4 x (64.0 MiB for a worker + 512.0 MiB for a request's cache) are \
             3.2 GiB, and 3.2 GiB of 3.2 GiB are left by other models; set fewer workers or a smaller context"
        );
    }

    #[test]
    fn a_model_of_which_no_worker_fits_now_is_refused() {
        let refused = NEED.admit_model(0, 0, memory(8 * GIB, GIB / 2)).unwrap_err();
        assert_eq!(
            refused,
            "it does not fit into memory now: 0 B of weights, 64.0 MiB for a worker and 512.0 MiB for a request's cache are 576.0 MiB, but \
             512.0 MiB are available; end something else, or set a smaller context"
        );
        let refused = NEED.admit_model(0, GIB, memory(8 * GIB, GIB)).unwrap_err();
        assert!(refused.starts_with("it does not fit into memory now: 1.0 GiB of weights, "), "{refused}");
    }

    #[test]
    fn what_no_process_may_map_is_refused() {
        assert_eq!(NEED.admit_addresses(None), Ok(()));
        assert_eq!(NEED.admit_addresses(Some(GIB + GIB / 2)), Ok(()));
        assert_eq!(
            NEED.admit_addresses(Some(GIB)).unwrap_err(),
            "it does not fit into a process: 1.0 GiB of weights and 512.0 MiB for a request's cache are more than the 1.0 GiB of addresses \
             that a process may have (ulimit -v, LimitAS= of a unit)"
        );
    }

    #[test]
    fn a_spare_needs_no_cache_of_its_own() {
        assert_eq!(NEED.admit_worker(true, memory(8 * GIB, GIB)), Ok(()));
        assert!(NEED.admit_worker(true, memory(8 * GIB, 64 << 20)).is_err());
        assert_eq!(NEED.admit_worker(false, memory(8 * GIB, 64 << 20)), Ok(()));
        assert!(NEED.admit_worker(false, memory(8 * GIB, (64 << 20) - 1)).is_err());
    }

    #[test]
    fn no_claim_is_too_large_to_be_refused() {
        let need = Need { weights: u64::MAX, slots: u32::MAX, private: u64::MAX, cache: u64::MAX };
        assert!(need.admit_model(u64::MAX, u64::MAX, memory(GIB, GIB)).is_err());
        let config =
            ModelConfig { memory_per_worker: 1 << 20, ..ModelConfig::new("x".into(), ipc::ModelSource::parse("y")) };
        let need = Need::of(&config, Needs { weights: 7, cache: 3 }, 2);
        assert_eq!(need, Need { weights: 7, slots: 2, private: 1 << 20, cache: 3 });
    }
}
