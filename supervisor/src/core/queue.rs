//! The requests of one pool that wait for a worker, first come first served; those whose worker has died go first.
//!
//! The queue has no bound of its own: the pool asks for the number of waiters that the bound is about before it lets
//! one in.
use ipc::RequestId;
use std::collections::VecDeque;

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Never more than the pool has slots, because a newcomer is dispatched only when none of these waits.
    replays: VecDeque<RequestId>,
    newcomers: VecDeque<RequestId>,
}

impl Queue {
    pub(super) fn push(&mut self, request: RequestId) {
        self.newcomers.push_back(request);
    }

    /// Puts a request whose worker has died in front of all others.
    pub(super) fn push_front(&mut self, request: RequestId) {
        self.replays.push_front(request);
    }

    pub(super) fn pop(&mut self) -> Option<RequestId> {
        self.replays.pop_front().or_else(|| self.newcomers.pop_front())
    }

    pub(super) fn front(&self) -> Option<RequestId> {
        self.replays.front().or(self.newcomers.front()).copied()
    }

    pub(super) fn remove(&mut self, request: RequestId) {
        self.replays.retain(|waiting| *waiting != request);
        if let Some(position) = self.newcomers.iter().position(|waiting| *waiting == request) {
            self.newcomers.remove(position);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.replays.len() + self.newcomers.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.replays.is_empty() && self.newcomers.is_empty()
    }

    /// How many wait that were never dispatched: those that the pool's bound is about.
    pub(super) fn newcomers(&self) -> usize {
        self.newcomers.len()
    }

    /// The one that has waited longest of those that were never dispatched. They all may wait equally long.
    pub(super) fn oldest_newcomer(&self) -> Option<RequestId> {
        self.newcomers.front().copied()
    }

    pub(super) fn replays(&self) -> impl Iterator<Item = RequestId> {
        self.replays.iter().copied()
    }
}
