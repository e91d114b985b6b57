//! A new configuration: all of it comes into force, or nothing of it.
//!
//! The daemon says which models are added, replaced, removed, or only live by other limits
//! ([`Change`]). What must be loaded is loaded beside what serves, and what is loaded when it is
//! asked for is opened; when all of that can be served, everything changes in one step. If any of
//! it cannot, what was loaded goes and nothing else has changed. What a pool does meanwhile and
//! afterwards is in `succession.rs`.
use super::event::{Effect, Load, PoolId, ReloadRefusal};
use super::front::FrontChange;
use super::lifecycle::{Proof, Successor};
use super::limits::PoolLimits;
use super::memory::Memory;
use super::pool::Pool;
use super::{Phase, Policy};
use std::{collections::BTreeSet, time::Duration};

/// What is to be different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// How long shutting down waits for what runs and what is queued.
    pub drain: Duration,
    /// What happens to which model; nothing happens to others.
    pub changes: Vec<Change>,
    /// The machine's memory now.
    pub memory: Memory,
    /// What becomes of the front.
    pub front: FrontChange,
}

impl Reload {
    /// The limits that a pool which stays is to live by, if they change.
    pub(super) fn limits(&self, id: PoolId) -> Option<&PoolLimits> {
        self.changes.iter().find_map(|change| match change {
            Change::Adjust { pool, limits } if *pool == id => Some(limits),
            Change::Add { .. } | Change::Replace { .. } | Change::Adjust { .. } | Change::Remove(_) => None,
        })
    }
}

/// What happens to a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is served from now on.
    Add {
        /// Its pool, with a number never used before.
        pool: PoolId,
        /// Its limits.
        limits: PoolLimits,
    },
    /// It is another one from now on.
    Replace {
        /// The pool that serves it, which must be there.
        old: PoolId,
        /// The one that is to serve it, with a number never used before.
        new: PoolId,
        /// Its limits.
        limits: PoolLimits,
    },
    /// It is the same, with other limits; isolation and threads are not among them.
    Adjust {
        /// Its pool, which must be there.
        pool: PoolId,
        /// The new limits.
        limits: PoolLimits,
    },
    /// It is served no more. What has been admitted is finished.
    Remove(PoolId),
}

impl Change {
    /// The pool that comes into being for it.
    fn staged(&self) -> Option<PoolId> {
        match self {
            Change::Add { pool, .. } | Change::Replace { new: pool, .. } => Some(*pool),
            Change::Adjust { .. } | Change::Remove(_) => None,
        }
    }
}

impl Policy {
    /// Begins to bring a new configuration into force.
    pub(super) fn begin_reload(&mut self, reload: Reload) {
        let now = self.context.now;
        if let Some((pool, shortage)) = self.outgrows(&reload) {
            self.context.emit(Effect::ReloadRefused(ReloadRefusal::Outgrows(pool, shortage)));
            for id in reload.changes.iter().filter_map(Change::staged) {
                self.context.emit(Effect::Removed(id));
            }
            return;
        }
        for change in &reload.changes {
            let staged = match *change {
                Change::Add { pool, limits } => {
                    Some(Pool::staged(pool, limits, 0, limits.load == Load::Eager, &mut self.context))
                }
                Change::Replace { old, new, limits } => self.pools.get(&old).map(|old| {
                    let is_there = old.is_resident && old.template.unavailable_until(now).is_none();
                    let loads = limits.load == Load::Eager || is_there;
                    Pool::staged(new, limits, old.template.id.generation, loads, &mut self.context)
                }),
                Change::Adjust { .. } | Change::Remove(_) => None,
            };
            self.pools.extend(staged.map(|pool| (pool.id, pool)));
        }
        self.fronts.stage(reload.front, &mut self.context);
        self.reload = Some(reload);
    }

    /// Ends the reload if it is known how.
    pub(super) fn conclude_reload(&mut self) {
        let Some(reload) = self.reload.take() else { return };
        let proofs = || {
            let staged = reload.changes.iter().filter_map(Change::staged);
            staged.filter_map(|id| self.pools.get(&id)).map(|pool| (pool.id, pool.proof()))
        };
        let failed = proofs().find(|(_, proof)| *proof == Proof::Failed).map(|(id, _)| id);
        // When the supervisor stops, nothing that is tried has a use.
        let refusal = match failed {
            _ if self.context.closing => Some(ReloadRefusal::ShuttingDown),
            None if self.fronts.proof() == Proof::Failed => Some(ReloadRefusal::NoFront),
            failed => failed.map(ReloadRefusal::NotServed),
        };
        if let Some(refusal) = refusal {
            self.context.emit(Effect::ReloadRefused(refusal));
            for id in reload.changes.iter().filter_map(Change::staged) {
                self.retire(id, None);
            }
            self.fronts.unstage(&mut self.context);
        } else if self.fronts.proof() == Proof::Awaited || proofs().any(|(_, proof)| proof == Proof::Awaited) {
            self.reload = Some(reload);
            return;
        } else {
            self.bring_into_force(&reload);
        }
        self.unsettled.extend(self.pools.keys());
    }

    fn bring_into_force(&mut self, reload: &Reload) {
        self.context.emit(Effect::Reloaded);
        self.context.limits.drain = reload.drain;
        self.fronts.switch(reload.front, &mut self.context);
        for change in &reload.changes {
            if let Some(pool) = change.staged().and_then(|id| self.pools.get_mut(&id)) {
                pool.take_over();
            }
            match *change {
                Change::Add { .. } => {}
                Change::Replace { old, new, .. } => {
                    let identity = self.pools.get(&new).and_then(|pool| pool.template.identity);
                    self.retire(old, Some(Successor { pool: new, identity }));
                }
                Change::Adjust { pool, limits } => {
                    if let Some(pool) = self.pools.get_mut(&pool) {
                        pool.adjust(limits);
                    }
                }
                Change::Remove(pool) => self.retire(pool, None),
            }
        }
    }

    fn retire(&mut self, id: PoolId, successor: Option<Successor>) {
        if let Some(pool) = self.pools.get_mut(&id) {
            pool.retire(successor);
        }
    }

    /// Lets those wait elsewhere who wait for a model that was replaced.
    pub(super) fn deliver_transfers(&mut self) {
        for moved in std::mem::take(&mut self.context.moves) {
            if let Some(pool) = self.pools.get_mut(&moved.to) {
                self.unsettled.insert(pool.id);
                pool.receive(moved, &mut self.context);
            }
        }
    }

    /// Has pools be there for as long as requests may come to them. Says whether anything may follow
    /// from that.
    pub(super) fn note_predecessors(&mut self) -> bool {
        let old = self.pools.values().filter(|pool| pool.successor().is_some() && pool.has_requests());
        let successors: BTreeSet<_> = old.filter_map(Pool::successor).map(|successor| successor.pool).collect();
        for pool in self.pools.values_mut() {
            let awaits_predecessor = successors.contains(&pool.id);
            if std::mem::replace(&mut pool.awaits_predecessor, awaits_predecessor) && !awaits_predecessor {
                self.unsettled.insert(pool.id);
            }
        }
        !self.unsettled.is_empty()
    }

    /// Forgets pools of which nothing is left.
    pub(super) fn remove_retired(&mut self) {
        if self.phase == Phase::Halted {
            return;
        }
        while let Some(id) = self.pools.values().find(|pool| pool.is_retired() && pool.is_over()).map(|pool| pool.id) {
            self.pools.remove(&id);
            self.context.emit(Effect::Removed(id));
        }
    }
}
