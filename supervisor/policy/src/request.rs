//! What is kept of a request until its one outcome: which of its parts are done, with a worker, or
//! still to be begun.
//!
//! Most requests have one part. A batch has many, which several workers may compute at once. Parts
//! are begun in order and end in any; only so many are begun before the first of them is done,
//! because what is done must wait for it.
use super::event::{Identity, Part, PoolId, Time, Work, WorkerId};
use ipc::RequestId;
use std::{collections::BTreeMap, time::Duration};

/// A request that has no outcome yet.
#[derive(Debug)]
pub(super) struct RequestRecord {
    pub(super) id: RequestId,
    pub(super) pool: PoolId,
    pub(super) fingerprint: u64,
    /// Whose it is.
    pub(super) owner: u64,
    pub(super) work: Work,
    pub(super) submitted: Time,
    /// When its client gives up.
    pub(super) gives_up: Option<Time>,
    /// The end of its wait in the queue; from its first dispatch on, of its whole run.
    pub(super) deadline: Time,
    /// What has computed some of its answer already.
    computed_with: Option<Identity>,
    /// Whether its client takes nothing, so that no further part is begun.
    pub(super) is_blocked: bool,
    /// The first part that was never begun.
    next: u32,
    /// The parts that were begun and are not done.
    begun: BTreeMap<u32, Begun>,
}

/// A part that was begun and is not done.
#[derive(Debug, Default)]
struct Begun {
    /// Workers that died under it.
    deaths: u32,
    /// The worker that computes it, or whose exit it awaits to be replayed, and what that has
    /// loaded; none while it waits in the queue.
    holder: Option<(WorkerId, Identity)>,
}

impl RequestRecord {
    pub(super) fn new(id: RequestId, pool: PoolId, fingerprint: u64, work: Work, now: Time) -> RequestRecord {
        let work = Work { parts: work.parts.max(1), ..work };
        RequestRecord {
            id,
            pool,
            fingerprint,
            owner: 0,
            gives_up: None,
            work,
            submitted: now,
            deadline: now,
            computed_with: None,
            is_blocked: false,
            next: 0,
            begun: BTreeMap::new(),
        }
    }

    /// Begins its wait of so long at most; returns whether its client gives up before that.
    pub(super) fn begin_wait(&mut self, now: Time, longest: Duration) -> bool {
        let limit = now.after(longest);
        let client = self.gives_up.filter(|client| *client < limit);
        self.deadline = client.unwrap_or(limit);
        client.is_some()
    }

    /// Whether no worker has been given any of it yet.
    pub(super) fn is_new(&self) -> bool {
        self.next == 0
    }

    /// Whether parts of it are left that were never begun.
    pub(super) fn has_more(&self) -> bool {
        self.next < self.work.parts
    }

    /// Whether the next part may be begun, when at most `window` parts may be begun beyond the
    /// first that is not done.
    pub(super) fn may_begin(&self, window: u32) -> bool {
        let first = self.begun.keys().next().copied().unwrap_or(self.next);
        (self.is_new() || !self.is_blocked) && self.has_more() && self.next - first < window
    }

    /// The part that is begun next.
    pub(super) fn next_part(&self) -> Part {
        Part { request: self.id, number: self.next }
    }

    /// Gives a part to a worker: the attempt that this is.
    pub(super) fn give(&mut self, number: u32, worker: WorkerId, identity: Identity) -> u32 {
        self.next = self.next.max(number.saturating_add(1));
        let begun = self.begun.entry(number).or_default();
        begun.holder = Some((worker, identity));
        begun.deaths + 1
    }

    /// A worker has computed the part. Whether that was the last.
    pub(super) fn done(&mut self, number: u32) -> bool {
        self.begun.remove(&number);
        self.begun.is_empty() && !self.has_more()
    }

    /// A worker has died under the part: how many have.
    pub(super) fn died(&mut self, number: u32) -> u32 {
        let Some(begun) = self.begun.get_mut(&number) else { return 0 };
        begun.deaths += 1;
        begun.deaths
    }

    /// The part waits for another worker.
    pub(super) fn waits(&mut self, number: u32) {
        if let Some(begun) = self.begun.get_mut(&number) {
            begun.holder = None;
        }
    }

    /// The workers that compute parts of it or whose exits parts of it await.
    pub(super) fn holders(&self) -> impl Iterator<Item = WorkerId> {
        self.begun.values().filter_map(|begun| begun.holder.map(|(worker, _)| worker))
    }

    /// What its answer is computed with: nothing else may go on with it.
    pub(super) fn identity(&self) -> Option<Identity> {
        let held = || self.begun.values().find_map(|begun| begun.holder.map(|(_, identity)| identity));
        self.computed_with.or_else(held)
    }

    /// Something of its answer was computed with this.
    pub(super) fn bind(&mut self, identity: Identity) {
        self.computed_with.get_or_insert(identity);
    }
}
