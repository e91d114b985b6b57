//! What may be loaded and forked by the memory that there is, by arithmetic of its own.
use super::super::super::event::{Event, Load, Loaded, PoolId, TemplateId, WorkerId};
use super::super::super::limits::PoolLimits;
use super::super::super::{Change, Memory, MemoryShortage, Policy, Reload, TemplateState};
use super::{Lifecycle, Rules};
use ipc::Needs;

/// What is to be said of a template's needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    Admit,
    Refuse,
}

fn slot(needs: Needs, limits: &PoolLimits) -> u64 {
    limits.memory.min(64 << 20) + needs.cache
}

fn total(needs: Needs, limits: &PoolLimits) -> u64 {
    needs.weights + u64::from(limits.workers) * slot(needs, limits)
}

impl Rules {
    fn planned(&self, id: PoolId) -> Option<PoolLimits> {
        self.reload.iter().flat_map(|reload| &reload.changes).find_map(|change| match *change {
            Change::Adjust { pool, limits } if pool == id => Some(limits),
            _ => None,
        })
    }

    /// The most that a model with these needs may take, now or once a reload is in force.
    fn may_take(&self, id: PoolId, needs: Needs) -> u64 {
        let limits = [Some(self.pools[id.0].limits), self.planned(id)];
        limits.iter().flatten().map(|limits| total(needs, limits)).max().expect("it has limits")
    }

    /// Whether it fits beside all others, also now, if so much of it is still to be read.
    fn has_place(&self, id: PoolId, needs: Needs, unread: u64, memory: Memory) -> bool {
        let others = self.there().into_iter().filter(|other| *other != id);
        let others: u64 = others.filter_map(|other| Some(self.may_take(other, self.pools[other.0].need?))).sum();
        let by = |limits: PoolLimits| total(needs, &limits) == self.may_take(id, needs);
        let limits = self.planned(id).filter(|limits| by(*limits)).unwrap_or(self.pools[id.0].limits);
        memory.total >= others + self.may_take(id, needs) && memory.available >= unread + slot(needs, &limits)
    }

    /// A template says what it needs, or what it has loaded.
    fn judge(&mut self, id: TemplateId, fits: bool) {
        let verdict = if fits { Verdict::Admit } else { Verdict::Refuse };
        self.verdict = Some((id, verdict));
        if !fits {
            self.template(id, |template| template.has_failed = true);
            self.pools[id.pool.0].has_failed = true;
            self.load_ended(id.pool);
        }
    }

    /// Whether anybody waits for what this template says of its model.
    fn is_heard(&self, id: TemplateId) -> bool {
        let template = self.pools[id.pool.0].template.as_ref();
        template.is_some_and(|template| template.killed.is_none() && !template.has_failed && !template.is_ready)
    }

    pub(super) fn before_needs(&mut self, id: TemplateId, needs: Needs, memory: Memory) {
        if !self.is_heard(id) {
            return;
        }
        let mut only_opens = false;
        self.template(id, |template| only_opens = template.only_opens);
        let is_mappable = memory.addresses.is_none_or(|most| needs.weights + needs.cache <= most);
        if only_opens {
            let fits = is_mappable && total(needs, &self.pools[id.pool.0].limits) <= memory.total;
            self.judge(id, fits);
            self.template(id, |template| template.has_opened = fits);
            let pool = &mut self.pools[id.pool.0];
            pool.is_proven |= fits && !pool.has_failed;
        } else {
            let fits = is_mappable && self.has_place(id.pool, needs, needs.weights, memory);
            self.judge(id, fits);
            self.pools[id.pool.0].need = Some(needs).filter(|_| fits);
        }
    }

    pub(super) fn before_ready(&mut self, id: TemplateId, loaded: Loaded) {
        if !self.is_heard(id) {
            return;
        }
        let told = self.pools[id.pool.0].need.map_or(loaded.needs.weights, |needs| needs.weights);
        let needs = Needs { weights: told.max(loaded.taken), ..loaded.needs };
        let fits = self.has_place(id.pool, needs, 0, loaded.memory);
        self.judge(id, fits);
        if fits {
            self.template(id, |template| template.is_ready = true);
            let now = self.now;
            let pool = &mut self.pools[id.pool.0];
            (pool.identity, pool.need, pool.used) = (Some(loaded.identity), Some(needs), now);
            self.has_served = true;
            self.load_ended(id.pool);
        }
    }

    pub(super) fn admitted(&mut self, id: TemplateId) {
        assert_eq!(self.verdict.take(), Some((id, Verdict::Admit)), "there is no room for what {id:?} loads");
        assert!(matches!(self.batch.last(), Some(Event::Needs { .. })));
    }

    pub(super) fn does_not_fit(&mut self, id: TemplateId, shortage: MemoryShortage) {
        assert_eq!(self.verdict.take(), Some((id, Verdict::Refuse)), "there is room for {id:?}: {shortage:?}");
    }

    /// That what was to be said of a template's needs was said.
    pub(super) fn check_verdict(&mut self) {
        let left = self.verdict.take();
        let only_opens = |id: TemplateId| {
            self.pools[id.pool.0].template.as_ref().is_some_and(|template| template.only_opens || template.is_ready)
        };
        assert!(left.is_none_or(|(id, verdict)| verdict == Verdict::Admit && only_opens(id)), "nothing said: {left:?}");
    }

    pub(super) fn asks_memory(&mut self, id: PoolId) {
        assert!(!std::mem::replace(&mut self.pools[id.0].asks_memory, true), "{id:?} asks twice");
    }

    pub(super) fn before_memory(&mut self, id: PoolId) {
        if let Some(pool) = self.pools.get_mut(id.0) {
            pool.asks_memory = false;
        }
    }

    /// Whether one more worker of this slot fits, if the memory is being told.
    fn has_room(&self, id: WorkerId) -> bool {
        let Some(&Event::MemoryRead(pool, memory)) = self.batch.last() else {
            panic!("nobody has looked at the memory")
        };
        assert_eq!(pool, id.pool);
        let pool = &self.pools[id.pool.0];
        let needs = pool.need.expect("its template has said what it needs");
        let is_spare = self.workers.keys().any(|other| (other.pool, other.life.slot) == (id.pool, id.life.slot));
        let needs = if is_spare { Needs { cache: 0, ..needs } } else { needs };
        slot(needs, &pool.limits) <= memory.available
    }

    pub(super) fn check_room(&self, id: WorkerId) {
        assert!(self.has_room(id), "{id:?} is forked without room");
    }

    pub(super) fn has_no_memory(&mut self, id: WorkerId) {
        assert!(!self.has_room(id), "there is room for {id:?}");
        let until = self.now.after(self.limits.room);
        let pool = &mut self.pools[id.pool.0];
        assert!(pool.no_room.get(&id.life.slot).is_none_or(|time| *time <= self.now));
        pool.no_room.insert(id.life.slot, until);
        pool.has_failed |= !pool.is_proven;
    }

    /// Models that are to grow in place beyond what there is.
    pub(super) fn note_outgrowing(&mut self, reload: &Reload) {
        let then = |id: PoolId| {
            let pool = &self.pools[id.0];
            let needs = pool.need.filter(|_| pool.lifecycle == Lifecycle::Serving)?;
            let mut limits = pool.limits;
            for change in &reload.changes {
                match *change {
                    Change::Adjust { pool, limits: new } if pool == id => limits = new,
                    Change::Remove(pool) if pool == id => return None,
                    _ => {}
                }
            }
            let grows = total(needs, &limits) > total(needs, &pool.limits);
            Some((id, total(needs, &limits), slot(needs, &limits), grows))
        };
        let all: Vec<_> = self.there().into_iter().filter_map(then).collect();
        let sum: u64 = all.iter().map(|(_, total, ..)| total).sum();
        let memory = reload.memory;
        let is_over = |slot: u64| sum > memory.total || slot > memory.available;
        self.outgrown = all.iter().filter(|(.., slot, grows)| *grows && is_over(*slot)).map(|(id, ..)| *id).collect();
    }

    /// Whether nothing can be served.
    pub(super) fn check_hope(&self, policy: &Policy) {
        let serving = self.there().into_iter().filter(|id| self.pools[id.0].lifecycle == Lifecycle::Serving);
        let mut states = serving.map(|id| (self.pools[id.0].limits.load, policy.pool(id).state));
        let is_away = |state| matches!(state, TemplateState::Failed { .. } | TemplateState::Parked { .. });
        let is_hopeless = states.all(|(load, state)| load == Load::Eager && is_away(state))
            && !self.has_served
            && self.reload.is_none();
        assert_eq!(policy.is_hopeless(), is_hopeless || self.is_front_hopeless());
    }
}
