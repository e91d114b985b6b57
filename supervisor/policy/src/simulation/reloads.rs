//! What operators do to a supervisor: new configurations, draining, restarted workers.
use super::super::{Change, FrontChange, Reload};
use super::{Effect, Event, Isolation, PoolId, Simulation, pool_limits};
use std::time::Duration;

impl Simulation {
    /// A new configuration, unless one is on its way: what the daemon promises too.
    pub(super) fn reload(&mut self) {
        if self.reloading.is_some() || self.policy.is_closing() {
            return;
        }
        let mut changes = Vec::new();
        let mut served = Vec::new();
        let mut next = self.rules.pools();
        for pool in self.served.clone() {
            let limits = self.rules.limits(pool);
            match self.below(8) {
                0..=1 => {
                    let isolation = if self.below(2) == 0 { limits.isolation } else { Isolation::Worker };
                    let limits = pool_limits(isolation, &mut self.random);
                    let has_old_files = self.below(3) == 0;
                    let new = PoolId(next);
                    next += 1;
                    self.world.add(limits, has_old_files.then_some(pool));
                    changes.push(Change::Replace { old: pool, new, limits });
                    served.push(new);
                }
                2 => {
                    let mut other = pool_limits(limits.isolation, &mut self.random);
                    other.threads = limits.threads;
                    other.memory = if self.below(3) == 0 { other.memory } else { limits.memory };
                    // What is to be loaded from now on must show that it can be.
                    let needs_load = other.load != limits.load;
                    other.load = if needs_load { limits.load } else { other.load };
                    changes.push(Change::Adjust { pool, limits: other });
                    served.push(pool);
                }
                3 if self.below(3) == 0 && self.served.len() > 1 => changes.push(Change::Remove(pool)),
                _ => served.push(pool),
            }
        }
        if self.below(8) == 0 || served.is_empty() {
            let limits = pool_limits(Isolation::Request, &mut self.random);
            let pool = PoolId(next);
            self.world.add(limits, None);
            changes.push(Change::Add { pool, limits });
            served.push(pool);
        }
        let drain = Duration::from_millis(100 + self.below(2_000));
        self.reloading = Some(served);
        let front = match self.below(8) {
            0 => FrontChange::Remove,
            1..=3 => FrontChange::Replace,
            _ => FrontChange::Keep,
        };
        self.feed(Event::Reload(Reload { drain, changes, memory: self.world.memory, front }));
    }

    pub(super) fn note_reload(&mut self, effect: Effect) {
        match effect {
            Effect::Reloaded => self.served = self.reloading.take().expect("one is under way"),
            Effect::ReloadRefused(_) => self.reloading = None,
            _ => {}
        }
    }

    pub(super) fn operate(&mut self) {
        let pool = self.any_pool();
        match self.below(8) {
            0..=1 => self.feed(Event::Restart { pool, slot: None }),
            2..=4 => {
                let slot = Some(self.below(4) as u32);
                self.feed(Event::Restart { pool, slot });
            }
            5 if self.below(4) == 0 => self.feed(Event::Drain(true)),
            _ => self.feed(Event::Drain(false)),
        }
    }
}
