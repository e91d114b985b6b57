//! What must hold of a model's coming and going: who wants it, and for how long it is kept.
use super::super::super::event::{Event, Load, PoolId};
use super::super::super::{Policy, TemplateState};
use super::{Lifecycle, Rules};

impl Rules {
    /// Notes which models are used up to now.
    pub(super) fn note_use(&mut self) {
        for request in &self.open {
            let pool = self.requests[request].pool;
            if let Some(pool) = self.pools.get_mut(pool.0) {
                pool.used = self.now;
            }
        }
    }

    pub(super) fn has_open(&self, pool: PoolId) -> bool {
        self.open.iter().any(|request| self.requests[request].pool == pool)
    }

    /// Whether no request was there for so long that the model may go.
    pub(super) fn is_idle(&self, id: PoolId) -> bool {
        let pool = &self.pools[id.0];
        let is_over = |limit| pool.used.after(limit) <= self.now;
        !self.has_open(id) && pool.limits.idle_unload.is_some_and(is_over)
    }

    /// A model may be loaded that is to be there always, or that a request has come for.
    pub(super) fn check_wanted(&self, id: PoolId) {
        let has_come =
            self.closing == 0 && self.was_told(|event| matches!(*event, Event::Submitted { pool, .. } if pool == id));
        let pool = &self.pools[id.0];
        let is_tried = pool.lifecycle == Lifecycle::Staged && self.was_told(|event| matches!(event, Event::Reload(_)));
        assert!(!is_tried || !pool.is_only_opened, "{id:?} is loaded for nobody");
        assert!(is_tried || pool.is_resident || has_come || self.has_open(id), "nobody wants {id:?}");
        assert!(is_tried || pool.lifecycle != Lifecycle::Staged, "{id:?} has one try");
        assert!(pool.successor.is_none(), "{id:?} has a successor");
    }

    /// A model that is to be loaded when it is asked for must be one, before it comes into force.
    pub(super) fn check_examined(&self, id: PoolId) {
        let pool = &self.pools[id.0];
        let is_tried = pool.lifecycle == Lifecycle::Staged && self.was_told(|event| matches!(event, Event::Reload(_)));
        assert!(is_tried && pool.is_only_opened, "nobody wants to know whether {id:?} can be loaded");
    }

    /// The load has ended: those that wait may wait for as long again.
    pub(super) fn load_ended(&mut self, id: PoolId) {
        if std::mem::take(&mut self.pools[id.0].is_first_load) {
            let may_wait = self.pools[id.0].limits.queue_timeout;
            for request in &self.open {
                let record = self.requests.get_mut(request).expect("it was submitted");
                if record.pool == id && record.dispatched.is_none() {
                    (record.waits, record.may_wait) = (self.now, may_wait);
                }
            }
        }
    }

    pub(super) fn check_residence(&mut self, id: PoolId, policy: &Policy) {
        let state = policy.pool(id).state;
        let given_up = matches!(state, TemplateState::Failed { .. } | TemplateState::Parked { .. });
        let has_open = self.has_open(id);
        let pool = &mut self.pools[id.0];
        if given_up && pool.limits.load == Load::Lazy {
            pool.is_resident = false;
        }
        if pool.lifecycle != Lifecycle::Serving {
            return;
        }
        let is_cold = state == TemplateState::Cold;
        assert!(!is_cold || !pool.is_resident || pool.template.is_some(), "{id:?} is not there");
        // Until the process that was let go has ended, no other is loaded.
        assert!(!is_cold || !has_open || pool.template.is_some(), "requests wait for nothing");
    }

    /// Nothing may be kept for longer than it may be idle.
    pub(super) fn check_idleness(&self, id: PoolId) {
        let template = self.pools[id.0].template.as_ref();
        let is_warm = template.is_some_and(|template| template.is_ready && template.killed.is_none());
        let is_asked_for = self.pools[id.0].lifecycle == Lifecycle::Serving && self.closing == 0;
        assert!(!is_warm || !is_asked_for || !self.is_idle(id), "{id:?} is kept for nobody");
    }

    /// What is left of a model when nothing is to be done, now or later.
    pub(in super::super) fn check_resting(&self, id: PoolId, state: TemplateState) {
        let pool = &self.pools[id.0];
        let is_right = match state {
            TemplateState::Cold => pool.limits.load == Load::Lazy || pool.limits.idle_unload.is_some(),
            TemplateState::Warm => pool.limits.idle_unload.is_none(),
            TemplateState::Failed { .. } | TemplateState::Parked { .. } => pool.limits.load == Load::Lazy,
            TemplateState::Loading | TemplateState::Waiting { .. } | TemplateState::Stopped => false,
        };
        assert!(is_right, "{id:?} rests {state:?}");
    }
}
