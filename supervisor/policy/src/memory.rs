//! Whether a model or a worker fits into memory.
//!
//! What is counted is the worst case: the weights of every model that is loaded, and for each of
//! its slots what a worker may take and what a request keeps in its cache. Pages that templates and
//! workers share are counted once, with the weights. A template says what it needs before it reads
//! the weights; what it turns out to take, if that is more, counts from then on. While a reload is
//! under way, a model that another one is to be loaded beside counts with what it is now or with
//! what it is to be, whichever is more; one that grows in place counts others with what they are to
//! be, and is given workers when there is room for them.
use super::Policy;
use super::event::{Effect, Loaded, PoolId, TemplateId};
use super::limits::PoolLimits;
use super::pool::Pool;
use super::reload::{Change, Reload};
use ipc::Needs;

/// What a worker of any engine may take for itself: stacks, scratch memory, the tokens of a
/// request.
const PRIVATE: u64 = 64 << 20;

/// The machine's memory when it was looked at, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What there is.
    pub total: u64,
    /// What could be taken now without taking it from others.
    pub available: u64,
    /// What one process may map; no limit if `None`.
    pub addresses: Option<u64>,
}

/// Why something does not fit into memory. All numbers but `slots` are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryShortage {
    /// One process cannot map it.
    Addresses {
        /// What the model needs.
        need: Need,
        /// What one process may map.
        limit: u64,
    },
    /// There is less memory than the model needs with all its workers, whoever has it now.
    Total {
        /// What the model needs.
        need: Need,
        /// What other models leave.
        free: u64,
        /// What the machine has.
        all: u64,
    },
    /// There is less memory now than it takes to begin.
    Available {
        /// What the model needs.
        need: Need,
        /// Weights that are still to be read.
        unread: u64,
        /// What could be taken.
        available: u64,
    },
    /// There is less memory now than one more worker may take.
    Worker {
        /// What the model needs.
        need: Need,
        /// What could be taken.
        available: u64,
    },
}

/// What a model may take of the machine's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// All workers together, in the template; in bytes.
    pub weights: u64,
    /// How many requests run at once.
    pub slots: u32,
    /// Of a worker alone, in bytes.
    pub private: u64,
    /// Of a request, in bytes.
    pub cache: u64,
}

impl Need {
    /// What a model needs by its limits and by what its template says.
    pub fn of(limits: &PoolLimits, Needs { weights, cache }: Needs) -> Need {
        Need { weights, slots: limits.workers, private: Need::of_worker(limits.memory), cache }
    }

    /// What a worker alone is counted to take, of what it may.
    pub fn of_worker(memory: u64) -> u64 {
        PRIVATE.min(memory)
    }

    /// Whether it can be loaded if nothing else is there then.
    pub fn fits_alone(&self, memory: Memory) -> Result<(), MemoryShortage> {
        self.fits_into_addresses(memory)?;
        self.fits_beside(0, memory)
    }

    /// What the same model needs by other limits.
    pub(super) fn by(self, limits: &PoolLimits) -> Need {
        Need::of(limits, Needs { weights: self.weights, cache: self.cache })
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights.saturating_add(self.slot().saturating_mul(self.slots.into()))
    }

    /// What a worker takes with a request.
    pub fn slot(&self) -> u64 {
        self.private.saturating_add(self.cache)
    }

    /// Whether one process can map what each maps.
    fn fits_into_addresses(&self, memory: Memory) -> Result<(), MemoryShortage> {
        let mapped = self.weights.saturating_add(self.cache);
        match memory.addresses {
            Some(limit) if mapped > limit => Err(MemoryShortage::Addresses { need: *self, limit }),
            _ => Ok(()),
        }
    }

    /// Whether there is as much memory beside others which need so much, whoever has it now.
    fn fits_beside(&self, others: u64, memory: Memory) -> Result<(), MemoryShortage> {
        let free = memory.total.saturating_sub(others);
        if self.total() <= free { Ok(()) } else { Err(MemoryShortage::Total { need: *self, free, all: memory.total }) }
    }

    /// Whether it also fits now, if so much of its weights is not in memory yet.
    fn fits_now(&self, others: u64, unread: u64, memory: Memory) -> Result<(), MemoryShortage> {
        self.fits_beside(others, memory)?;
        if unread.saturating_add(self.slot()) <= memory.available {
            return Ok(());
        }
        Err(MemoryShortage::Available { need: *self, unread, available: memory.available })
    }

    /// Whether one more worker fits now, which will serve a request besides all that run if it is
    /// `first` in its slot.
    pub(super) fn has_room_for_worker(&self, first: bool, memory: Memory) -> Result<(), MemoryShortage> {
        let needed = if first { self.slot() } else { self.private };
        if needed <= memory.available {
            return Ok(());
        }
        Err(MemoryShortage::Worker { need: *self, available: memory.available })
    }
}

impl Policy {
    /// A template has opened its model, and waits to be told whether to load it.
    pub(super) fn needs(&mut self, id: TemplateId, needs: Needs, memory: Memory) {
        let Some(pool) = self.pools.get(&id.pool).filter(|pool| pool.template.id == id) else { return };
        let need = Need::of(&pool.limits, needs);
        let is_examining = pool.template.is_examining();
        if !is_examining && !pool.template.is_loading() {
            return;
        }
        let fits = if is_examining {
            need.fits_alone(memory)
        } else {
            need.fits_into_addresses(memory).and_then(|()| {
                let most = self.most_needed(id.pool, need);
                most.fits_now(self.needed_by_others(id.pool), need.weights, memory)
            })
        };
        let Some(pool) = self.pools.get_mut(&id.pool) else { return };
        match fits {
            Ok(()) if is_examining => pool.examined(&mut self.context),
            Ok(()) => {
                pool.need = Some(need);
                self.context.emit(Effect::Admit(id));
            }
            Err(shortage) => pool.does_not_fit(shortage, &mut self.context),
        }
    }

    /// A template has loaded its model.
    pub(super) fn loaded(&mut self, id: TemplateId, loaded: Loaded) {
        let Loaded { identity, needs, taken, memory } = loaded;
        let Some(pool) = self.pools.get(&id.pool).filter(|pool| pool.template.id == id) else { return };
        if !pool.template.is_loading() {
            return;
        }
        let told = pool.need.map_or(needs.weights, |need| need.weights);
        let need = Need::of(&pool.limits, Needs { weights: told.max(taken), cache: needs.cache });
        let fits = self.most_needed(id.pool, need).fits_now(self.needed_by_others(id.pool), 0, memory);
        let Some(pool) = self.pools.get_mut(&id.pool) else { return };
        match fits {
            Ok(()) => {
                pool.need = Some(need);
                pool.template.ready(identity);
                self.has_served = true;
            }
            Err(shortage) => pool.does_not_fit(shortage, &mut self.context),
        }
    }

    /// What the other models that are there may take of the memory.
    fn needed_by_others(&self, id: PoolId) -> u64 {
        let others = self.pools.values().filter(|pool| pool.id != id);
        let needs = others.filter_map(|pool| Some(self.most_needed(pool.id, pool.need?).total()));
        needs.fold(0, u64::saturating_add)
    }

    /// What a model that needs so much now may need in the course of the reload that is under way,
    /// if one is.
    fn most_needed(&self, id: PoolId, now: Need) -> Need {
        let planned = self.reload.as_ref().and_then(|reload| reload.limits(id)).map(|limits| now.by(limits));
        planned.filter(|planned| planned.total() > now.total()).unwrap_or(now)
    }

    /// A model that a reload would have take more memory in place than there is beside what the
    /// others are to need. What is loaded anew is looked at when it says what it needs, and what it
    /// replaces is there until then.
    pub(super) fn outgrows(&self, reload: &Reload) -> Option<(PoolId, MemoryShortage)> {
        let stays = |pool: &&Pool| pool.is_serving() && !reload.changes.contains(&Change::Remove(pool.id));
        let planned = self.pools.values().filter(stays).filter_map(|pool| {
            let now = pool.need?;
            Some((pool.id, now, reload.limits(pool.id).map_or(now, |limits| now.by(limits))))
        });
        let planned: Vec<_> = planned.collect();
        planned.iter().filter(|(_, now, then)| then.total() > now.total()).find_map(|(id, _, then)| {
            let others = planned.iter().filter(|(other, ..)| other != id).map(|(.., then)| then.total());
            let fits = then.fits_now(others.fold(0, u64::saturating_add), 0, reload.memory);
            fits.err().map(|shortage| (*id, shortage))
        })
    }
}
