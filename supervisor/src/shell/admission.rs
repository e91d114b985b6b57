//! Whether a model or a worker fits into memory: arithmetic, and the sentence if it does not.
//!
//! What is counted is the worst case: the files of every model that is loaded, and for each of its slots what a worker may take and
//! what a request keeps in its cache. Pages that templates and workers share are counted once, with the files.
use super::machine::Memory;
use crate::config::ModelConfig;
use ipc::ModelInfo;

/// What a worker of any engine may take for itself: stacks, scratch memory, the tokens of a request.
const PRIVATE: u64 = 64 << 20;

/// What a model may take of the machine's memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    files: u64,
    slots: u32,
    /// Of a worker alone.
    private: u64,
    /// Of a request.
    cache: u64,
}

impl Need {
    /// What a model of so many slots needs, by its configuration and by what its template says.
    pub(crate) fn of(config: &ModelConfig, info: &ModelInfo, slots: u32) -> Need {
        Need { files: info.weights, slots, private: PRIVATE.min(config.memory_per_worker), cache: info.cache }
    }

    /// All of it.
    pub(crate) fn total(&self) -> u64 {
        self.files.saturating_add(self.slot().saturating_mul(self.slots.into()))
    }

    fn slot(&self) -> u64 {
        self.private.saturating_add(self.cache)
    }

    /// Whether a model fits that has just been loaded, beside others which need so much. `Err` says why it does not.
    pub(crate) fn admit_model(&self, others: u64, memory: Memory) -> Result<(), String> {
        let free = memory.total.saturating_sub(others);
        let (files, private, cache) = (size(self.files), size(self.private), size(self.cache));
        let (total, free_size, all) = (size(self.total()), size(free), size(memory.total));
        if self.total() > free {
            let slots = self.slots;
            return Err(format!(
                "it does not fit into memory: {files} of files and {slots} x ({private} for a worker + {cache} for a request's cache) are \
                 {total}, and {free_size} of {all} are left by other models; set fewer workers or a smaller context"
            ));
        }
        self.admit_worker(true, memory).map_err(|reason| format!("it does not fit into memory now: {reason}"))
    }

    /// Whether one more worker fits now, which will serve a request besides all that run if it is `first` in its slot.
    pub(crate) fn admit_worker(&self, first: bool, memory: Memory) -> Result<(), String> {
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
    const NEED: Need = Need { files: GIB, slots: 4, private: 64 << 20, cache: GIB / 2 };

    fn memory(total: u64, available: u64) -> Memory {
        Memory { total, available }
    }

    #[test]
    fn a_model_fits_with_all_its_workers_or_not_at_all() {
        let exactly = GIB + 4 * (GIB / 2 + (64 << 20));
        assert_eq!(NEED.total(), exactly);
        assert_eq!(NEED.admit_model(0, memory(exactly, GIB)), Ok(()));
        assert_eq!(NEED.admit_model(GIB, memory(exactly + GIB, GIB)), Ok(()));
        let refused = NEED.admit_model(1, memory(exactly, GIB)).unwrap_err();
        assert_eq!(
            refused,
            "it does not fit into memory: 1.0 GiB of files and 4 x (64.0 MiB for a worker + 512.0 MiB for a request's cache) are \
             3.2 GiB, and 3.2 GiB of 3.2 GiB are left by other models; set fewer workers or a smaller context"
        );
    }

    #[test]
    fn a_model_of_which_no_worker_fits_now_is_refused() {
        let refused = NEED.admit_model(0, memory(8 * GIB, GIB / 2)).unwrap_err();
        assert_eq!(
            refused,
            "it does not fit into memory now: a worker may take 64.0 MiB, and a request's cache 512.0 MiB, but 512.0 MiB are \
             available; set a smaller context, or fewer workers"
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
        let need = Need { files: u64::MAX, slots: u32::MAX, private: u64::MAX, cache: u64::MAX };
        assert!(need.admit_model(u64::MAX, memory(GIB, GIB)).is_err());
        let config = ModelConfig { memory_per_worker: 1 << 20, ..ModelConfig::new("x".into(), "y".into()) };
        let info = ModelInfo {
            architecture: "x".into(),
            context: 1,
            chat: false,
            load_ms: 0,
            chunk: 1,
            kind: ipc::ModelKind::Generate,
            cache: 3,
            weights: 7,
            dimensions: 0,
            sandbox: ipc::Sandbox::default(),
        };
        assert_eq!(Need::of(&config, &info, 2), Need { files: 7, slots: 2, private: 1 << 20, cache: 3 });
    }
}
