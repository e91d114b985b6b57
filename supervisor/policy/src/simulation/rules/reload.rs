//! What must hold of new configurations: all of it or nothing, what did not change is left alone,
//! and no answer goes on with another model.
use super::super::super::event::{Effect, Load, PoolId, ReloadRefusal};
use super::super::super::{Change, Policy, Reload, TemplateState};
use super::{Lifecycle, Pool, Rules};
use ipc::RequestId;
use std::collections::BTreeSet;

impl Rules {
    /// Records the configuration that the policy is about to be told.
    pub(super) fn before_reload(&mut self, reload: &Reload, policy: &Policy) {
        for change in &reload.changes {
            let (limits, loads, loaded) = match *change {
                Change::Add { limits, .. } => (limits, limits.load == Load::Eager, 0),
                Change::Replace { old, limits, .. } => {
                    let state = policy.pool(old).state;
                    let is_given_up = matches!(state, TemplateState::Failed { .. } | TemplateState::Parked { .. });
                    let is_there = self.pools[old.0].is_resident && !is_given_up;
                    (limits, limits.load == Load::Eager || is_there, self.pools[old.0].loaded)
                }
                Change::Adjust { .. } | Change::Remove(_) => continue,
            };
            let pool = Pool::new(limits, Lifecycle::Staged);
            self.pools.push(Pool { loaded, is_only_opened: !loads, is_resident: loads, ..pool });
        }
        self.note_outgrowing(reload);
        self.reload = Some(reload.clone());
    }

    fn concerned(&self, changes: &[Change]) -> BTreeSet<PoolId> {
        let concerned = changes.iter().flat_map(|change| match *change {
            Change::Add { pool, .. } | Change::Adjust { pool, .. } | Change::Remove(pool) => [pool, pool],
            Change::Replace { old, new, .. } => [old, new],
        });
        concerned.collect()
    }

    /// Whether it may be retired in the step that is under way.
    pub(super) fn may_retire(&self, pool: PoolId) -> bool {
        let changes = self.reload.iter().flat_map(|reload| &reload.changes);
        let mut retired = changes.filter_map(|change| match *change {
            Change::Replace { old, .. } => Some(old),
            Change::Remove(pool) => Some(pool),
            Change::Add { .. } | Change::Adjust { .. } => None,
        });
        retired.any(|retired| retired == pool)
    }

    fn staged(changes: &[Change]) -> impl Iterator<Item = PoolId> {
        changes.iter().filter_map(|change| match *change {
            Change::Add { pool, .. } | Change::Replace { new: pool, .. } => Some(pool),
            Change::Adjust { .. } | Change::Remove(_) => None,
        })
    }

    pub(super) fn reloaded(&mut self) {
        let Reload { drain, changes, front, .. } = self.reload.take().expect("a reload was under way");
        assert_eq!(self.closing, 0);
        self.limits.drain = drain;
        self.front_switched(front);
        self.decided = Some(self.concerned(&changes));
        for pool in Rules::staged(&changes) {
            let pool = &mut self.pools[pool.0];
            assert!(pool.is_proven && !pool.has_failed, "what cannot be served comes into force");
            pool.lifecycle = Lifecycle::Serving;
            pool.used = self.now;
        }
        for change in changes {
            match change {
                Change::Add { .. } => {}
                Change::Replace { old, new, .. } => {
                    let identity = self.pools[new.0].identity;
                    let old = &mut self.pools[old.0];
                    (old.lifecycle, old.successor, old.successor_identity) = (Lifecycle::Retired, Some(new), identity);
                }
                Change::Adjust { pool, limits } => {
                    let old = &mut self.pools[pool.0];
                    let has_old_workers = old.limits.memory != limits.memory;
                    old.limits = limits;
                    old.longest = old.longest.max(limits.queue);
                    old.most_attempts = old.most_attempts.max(limits.max_attempts);
                    old.is_resident |= limits.load == Load::Eager && limits.idle_unload.is_none();
                    if has_old_workers {
                        let there = self.workers.iter_mut().filter(|(id, worker)| id.pool == pool && worker.is_ready);
                        there.for_each(|(_, worker)| worker.replace_when_idle = true);
                    }
                }
                Change::Remove(pool) => self.pools[pool.0].lifecycle = Lifecycle::Retired,
            }
        }
    }

    pub(super) fn reload_refused(&mut self, refusal: ReloadRefusal) {
        let Reload { changes, .. } = self.reload.take().expect("a reload was under way");
        match refusal {
            ReloadRefusal::NotServed(pool) => assert!(self.pools[pool.0].has_failed, "{pool:?} can be served"),
            ReloadRefusal::Outgrows(pool, _) => {
                assert!(self.outgrown.contains(&pool), "there is room for {pool:?}");
                self.outgrown.clear();
            }
            ReloadRefusal::NoFront => assert!(self.has_no_front(), "HTTP can be served"),
            ReloadRefusal::ShuttingDown => assert!(self.closing > 0),
        }
        self.decided = Some(Rules::staged(&changes).collect());
        for pool in Rules::staged(&changes) {
            self.pools[pool.0].lifecycle = Lifecycle::Retired;
        }
    }

    /// What a decision does not concern goes on as if nothing had happened.
    pub(super) fn check_left_alone(&self, effect: Effect) {
        let Some(decided) = self.decided.as_ref().filter(|_| self.closing == 0) else { return };
        let pool = match effect {
            Effect::KillTemplate(id) => id.pool,
            Effect::Terminate(id) | Effect::Kill { worker: id, .. } | Effect::StopRequest { worker: id, .. } => id.pool,
            _ => return,
        };
        assert!(decided.contains(&pool), "{effect:?} although nothing has changed");
    }

    pub(super) fn moved(&mut self, request: RequestId, to: PoolId) {
        let now = self.now;
        let is_held = self.workers.values().any(|worker| {
            let is_its = worker.part.is_some_and(|part| part.request == request);
            is_its && worker.killed.is_none()
        });
        assert!(!is_held, "{request:?} is computed");
        assert!(self.open.contains(&request), "{request:?} has ended");
        let record = self.requests.get_mut(&request).expect("it was submitted");
        let from = &self.pools[record.pool.0];
        assert_eq!(from.successor, Some(to));
        assert!(
            record.identity.is_none() || record.identity == from.successor_identity,
            "{request:?} goes on elsewhere"
        );
        let most_attempts = from.most_attempts;
        if from.is_first_load && record.dispatched.is_none() {
            (record.waits, record.may_wait) = (now, self.pools[to.0].limits.queue_timeout);
        }
        (record.pool, record.has_moved) = (to, true);
        self.turns += 1;
        record.turn = self.turns;
        let to = &mut self.pools[to.0];
        (to.used, to.most_attempts) = (now, to.most_attempts.max(most_attempts));
    }

    pub(super) fn gone(&mut self, id: PoolId) {
        let pool = &mut self.pools[id.0];
        assert_eq!(pool.lifecycle, Lifecycle::Retired);
        assert!(pool.template.is_none(), "its template is left");
        pool.lifecycle = Lifecycle::Gone;
        assert!(!self.workers.keys().any(|worker| worker.pool == id), "workers are left");
        assert!(!self.open.iter().any(|request| self.requests[request].pool == id), "requests are left");
    }

    /// What must hold between two steps of a model that is tried, or that goes.
    pub(super) fn check_standing(&self, id: PoolId, policy: &Policy) {
        let pool = &self.pools[id.0];
        let is_kept = pool.template.as_ref().is_some_and(|template| template.has_opened && template.killed.is_none());
        assert!(!is_kept, "{id:?} has shown what it can and is kept");
        let here = || self.open.iter().map(|request| &self.requests[request]).filter(|request| request.pool == id);
        match pool.lifecycle {
            Lifecycle::Staged => {
                assert!(self.reload.is_some(), "{id:?} is tried for nobody");
                assert!(!pool.has_failed, "a reload goes on that has failed");
                assert!(pool.template.is_some() || pool.is_proven, "{id:?} shows nothing");
                assert_eq!(here().count(), 0);
            }
            Lifecycle::Serving => {}
            Lifecycle::Retired => {
                let is_left = pool.template.is_some() || self.workers.keys().any(|worker| worker.pool == id);
                // What it was to replace may still send it requests, which it passes on.
                let mut others = self.there().into_iter();
                let is_awaited = others.any(|other| self.pools[other.0].successor == Some(id) && self.has_open(other));
                assert!(
                    is_left || here().count() > 0 || is_awaited || self.halts > 0,
                    "nothing is left of {id:?}, which is still there"
                );
                let waits = here().any(|request| request.dispatched.is_none());
                assert!(!waits || pool.successor.is_none(), "a request waits for what is no more");
            }
            Lifecycle::Gone => panic!("{id:?} is gone: {policy:?}"),
        }
    }
}
