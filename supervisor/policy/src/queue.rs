//! The requests of one pool that wait for a worker. Parts whose worker has died go first; then each
//! request in its turn.
//!
//! A turn is one part. A request that has more parts goes to the end of the line, so that a large
//! batch does not keep others waiting; requests of one part are served first come, first served.
//! The queue has no bound of its own: the pool asks for the number of waiters that the bound is
//! about before it lets one in.
use super::event::{Part, PoolId};
use super::request::RequestRecord;
use ipc::RequestId;
use std::collections::{BTreeMap, VecDeque};

/// How a request waits.
#[derive(Debug)]
pub(super) struct QueuePosition {
    /// Its parts whose workers have died.
    replays: Vec<Part>,
    is_newcomer: bool,
    is_batch: bool,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Never many more than the pool has slots, because nothing that a worker could begin is
    /// dispatched while one of these waits that it could go on with.
    replays: VecDeque<Part>,
    /// Those that were never dispatched, each with its place in the line.
    newcomers: VecDeque<(u64, RequestId)>,
    /// Those of which more parts are to be begun, each with its place in the line.
    batches: VecDeque<(u64, RequestId)>,
    /// The last place that was taken.
    last: u64,
}

/// A request that goes to another pool.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) request: RequestId,
    pub(super) to: PoolId,
    pub(super) place: QueuePosition,
    /// Whether its wait in the queue has cost no time, and does from now on.
    pub(super) restarts_clock: bool,
}

impl Queue {
    pub(super) fn push(&mut self, request: RequestId) {
        self.last += 1;
        self.newcomers.push_back((self.last, request));
    }

    /// Puts a part whose worker has died in front of all others.
    pub(super) fn push_front(&mut self, part: Part) {
        self.replays.push_front(part);
    }

    /// Takes the part that goes next, of those that may and that are of a request which `fits`.
    pub(super) fn pop(
        &mut self,
        requests: &BTreeMap<RequestId, RequestRecord>,
        window: u32,
        fits: impl Fn(&RequestRecord) -> bool,
    ) -> Option<Part> {
        let fits = |id: &RequestId| requests.get(id).is_some_and(&fits);
        if let Some(position) = self.replays.iter().position(|part| fits(&part.request)) {
            return self.replays.remove(position);
        }
        let may_begin = |(_, id): &(u64, RequestId)| fits(id) && may_begin(requests, *id, window);
        let newcomer = self.newcomers.front().copied().filter(may_begin);
        let batch = self.batches.iter().copied().find(may_begin);
        let (_, id) = newcomer.into_iter().chain(batch).min()?;
        if newcomer.is_some_and(|(_, newcomer)| newcomer == id) {
            self.newcomers.pop_front();
        } else {
            self.batches.retain(|(_, other)| *other != id);
        }
        let request = requests.get(&id)?;
        let part = request.next_part();
        if part.number + 1 < request.work.parts {
            self.last += 1;
            self.batches.push_back((self.last, id));
        }
        Some(part)
    }

    /// Takes a request out, and says how it waited.
    pub(super) fn take(&mut self, request: RequestId) -> QueuePosition {
        let replays = self.replays.iter().copied().filter(|part| part.request == request).collect();
        let is_newcomer = self.newcomers.iter().any(|(_, waiting)| *waiting == request);
        let is_batch = self.batches.iter().any(|(_, waiting)| *waiting == request);
        self.remove(request);
        QueuePosition { replays, is_newcomer, is_batch }
    }

    /// Lets a request wait as it waited elsewhere, behind those that are here.
    pub(super) fn put(&mut self, request: RequestId, place: QueuePosition) {
        self.replays.extend(place.replays);
        self.last += 1;
        if place.is_newcomer {
            self.newcomers.push_back((self.last, request));
        }
        if place.is_batch {
            self.batches.push_back((self.last, request));
        }
    }

    pub(super) fn remove(&mut self, request: RequestId) {
        self.replays.retain(|part| part.request != request);
        self.batches.retain(|(_, waiting)| *waiting != request);
        if let Some(position) = self.newcomers.iter().position(|(_, waiting)| *waiting == request) {
            self.newcomers.remove(position);
        }
    }

    /// Whether nothing waits, now or once other parts are done.
    pub(super) fn is_empty(&self) -> bool {
        self.replays.is_empty() && self.newcomers.is_empty() && self.batches.is_empty()
    }

    /// How many wait that were never dispatched: those that the pool's bound is about.
    pub(super) fn newcomers(&self) -> usize {
        self.newcomers.len()
    }

    /// Those of which more parts are to be begun.
    pub(super) fn batches(&self) -> impl Iterator<Item = RequestId> {
        self.batches.iter().map(|(_, request)| *request)
    }

    /// Those that were never dispatched.
    pub(super) fn all_newcomers(&self) -> impl Iterator<Item = RequestId> {
        self.newcomers.iter().map(|(_, request)| *request)
    }

    /// The one that has waited longest of those that were never dispatched.
    pub(super) fn oldest_newcomer(&self) -> Option<RequestId> {
        self.newcomers.front().map(|(_, request)| *request)
    }
}

fn may_begin(requests: &BTreeMap<RequestId, RequestRecord>, id: RequestId, window: u32) -> bool {
    requests.get(&id).is_some_and(|request| request.may_begin(window))
}
