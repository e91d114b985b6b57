//! The policy, its clock, and what it has not been told yet.
use policy::{Effect, Event, Limits, Policy, PoolLimits, Time};
use std::{collections::VecDeque, time::Instant};

#[derive(Debug)]
pub(super) struct PolicyDriver {
    pub(super) policy: Policy,
    pub(super) started: Instant,
    events: VecDeque<Event>,
}

impl PolicyDriver {
    pub(super) fn new(limits: Limits, pools: Vec<PoolLimits>, seed: u64, has_front: bool) -> PolicyDriver {
        let policy = Policy::new(limits, pools, seed);
        let policy = if has_front { policy.with_front() } else { policy };
        PolicyDriver { policy, started: Instant::now(), events: VecDeque::new() }
    }

    /// The policy's time.
    pub(super) fn now(&self) -> Time {
        self.time_of(Instant::now())
    }

    /// A moment as the policy counts time.
    pub(super) fn time_of(&self, moment: Instant) -> Time {
        Time(moment.saturating_duration_since(self.started))
    }

    /// When the policy wants to be told what time it is.
    pub(super) fn deadline(&self) -> Option<tokio::time::Instant> {
        self.policy.next_deadline().map(|time| tokio::time::Instant::from_std(self.started + time.0))
    }

    /// Notes what has happened. The policy is told when it is asked for the next thing to do.
    pub(super) fn note(&mut self, event: Event) {
        self.events.push_back(event);
    }

    /// Has the policy do what follows from all that it has been told. Says whether there was any.
    pub(super) fn settle(&mut self) -> bool {
        let is_unsettled = self.policy.is_unsettled();
        self.policy.settle(self.now());
        is_unsettled
    }

    /// Tells the policy what time it is.
    pub(super) fn time_out(&mut self) {
        self.policy.handle_timeout(self.now());
    }

    /// The next thing to do; none when the policy knows all that has happened. What follows from
    /// that is yet to be asked for.
    pub(super) fn next(&mut self) -> Option<Effect> {
        loop {
            if let Some(effect) = self.policy.poll_effect() {
                tracing::trace!(?effect);
                return Some(effect);
            }
            let event = self.events.pop_front()?;
            tracing::trace!(?event);
            self.policy.handle(self.now(), event);
        }
    }
}
