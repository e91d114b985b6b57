//! Threads: how many each worker that computes may use, so that all of them together use the host's
//! cores and no more.
//!
//! A worker is told its budget and follows it when it gets to its next layer; until then it may use
//! as many threads as it was granted before. So budgets are lowered first, and only what has been
//! given back is granted again: because the worker says that it uses less, or because it does not
//! compute any more. A newcomer has one thread at once. What fair shares are is max-min fairness
//! (Bertsekas and Gallager, "Data Networks", 6.5.2), in whole threads.
use super::event::{Effect, Time, WorkerId};
use std::{collections::VecDeque, time::Duration};

/// How long after a budget was lowered the worker is first looked at; each further look waits twice
/// as long.
const FIRST_LOOK: Duration = Duration::from_millis(1);
/// The longest of those waits.
const LONGEST_LOOK: Duration = Duration::from_millis(16);

#[derive(Debug)]
pub(super) struct Threads {
    cores: u32,
    /// Those that compute, in the order in which they began.
    shares: Vec<Share>,
    /// Something has changed since budgets were last set.
    has_changed: bool,
    /// When those that have not given back what they must are looked at, and how long it took until
    /// then.
    look: Option<(Time, Duration)>,
}

#[derive(Debug)]
struct Share {
    worker: WorkerId,
    /// More than this it cannot use.
    most: u32,
    /// Its budget.
    granted: u32,
    /// What it may still be using: its budget, or more if that was lowered.
    held: u32,
}

impl Threads {
    pub(super) fn new(cores: u32) -> Threads {
        Threads { cores: cores.max(1), shares: Vec::new(), has_changed: false, look: None }
    }

    /// A worker begins to compute, with one thread, which is the budget of all that do not.
    pub(super) fn begin(&mut self, worker: WorkerId, most: u32) {
        self.shares.push(Share { worker, most: most.max(1), granted: 1, held: 1 });
        self.has_changed = true;
    }

    /// A worker is to stop what it computes, for which one thread is enough.
    pub(super) fn stopping(&mut self, worker: WorkerId) {
        if let Some(share) = self.share(worker) {
            share.most = 1;
            self.has_changed = true;
        }
    }

    /// A worker computes no more. The budget that it had.
    pub(super) fn end(&mut self, worker: WorkerId) -> Option<u32> {
        let position = self.shares.iter().position(|share| share.worker == worker)?;
        self.has_changed = true;
        Some(self.shares.remove(position).granted)
    }

    /// A worker says that it uses so many. It is not believed that they are more than it was
    /// granted.
    pub(super) fn used(&mut self, worker: WorkerId, threads: u32) {
        let Some(share) = self.share(worker) else { return };
        let held = threads.clamp(share.granted, share.held);
        if held != share.held {
            share.held = held;
            self.has_changed = true;
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.look.map(|(time, _)| time)
    }

    /// Looks at those that have not given back what they must, if it is time to.
    pub(super) fn expire(&mut self, now: Time, effects: &mut VecDeque<Effect>) {
        let Some((_, waited)) = self.look.filter(|(time, _)| *time <= now) else { return };
        effects.extend(self.shares.iter().filter(|share| share.owes()).map(|share| Effect::ReadThreads(share.worker)));
        let wait = (waited * 2).min(LONGEST_LOOK);
        self.look = Some((now.after(wait), wait));
    }

    /// Sets the budgets that follow from who computes and what was given back.
    pub(super) fn settle(&mut self, now: Time, effects: &mut VecDeque<Effect>) {
        if !std::mem::take(&mut self.has_changed) {
            return;
        }
        let before: Vec<u32> = self.shares.iter().map(|share| share.granted).collect();
        let targets = self.targets();
        let mut has_lowered = false;
        for (share, target) in self.shares.iter_mut().zip(&targets) {
            has_lowered |= share.granted > *target;
            share.granted = share.granted.min(*target);
        }
        self.grant(&targets);
        for (share, before) in self.shares.iter().zip(before) {
            if share.granted != before {
                effects.push_back(Effect::SetBudget { worker: share.worker, threads: share.granted });
            }
        }
        if !self.shares.iter().any(Share::owes) {
            self.look = None;
        } else if self.look.is_none() || has_lowered {
            self.look = Some((now.after(FIRST_LOOK), FIRST_LOOK));
        }
    }

    /// Everybody's fair share: one each; then one more for each that can use it, from the first to
    /// the last, while cores are left.
    fn targets(&self) -> Vec<u32> {
        let mut targets = vec![1; self.shares.len()];
        let mut left = self.cores.saturating_sub(u32::try_from(self.shares.len()).unwrap_or(u32::MAX));
        loop {
            let before = left;
            for (target, share) in targets.iter_mut().zip(&self.shares) {
                if left > 0 && *target < share.most {
                    *target += 1;
                    left -= 1;
                }
            }
            if left == before {
                return targets;
            }
        }
    }

    /// Grants what nobody holds, to those that have least of those that are below their share.
    fn grant(&mut self, targets: &[u32]) {
        let held: u32 = self.shares.iter().map(|share| share.held).sum();
        let mut free = self.cores.saturating_sub(held);
        loop {
            let below = self.shares.iter_mut().zip(targets).filter(|(share, target)| share.granted < **target);
            // What it was granted before and has not given back costs nothing.
            let possible = below.filter(|(share, _)| share.owes() || free > 0);
            let Some((share, _)) = possible.min_by_key(|(share, _)| share.granted) else { return };
            share.granted += 1;
            if share.granted > share.held {
                share.held = share.granted;
                free -= 1;
            }
        }
    }

    fn share(&mut self, worker: WorkerId) -> Option<&mut Share> {
        self.shares.iter_mut().find(|share| share.worker == worker)
    }
}

impl Share {
    /// Whether it has not given back what it must.
    fn owes(&self) -> bool {
        self.held > self.granted
    }
}
