//! What the status shows of a pool. Nothing here decides anything.
use super::event::{TemplateId, Time, WorkerId};
use ipc::RequestId;

/// One model's template, queue and workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolView {
    /// The newest template, whether or not it still lives.
    pub template: TemplateId,
    /// What it does.
    pub state: TemplateState,
    /// Requests that wait.
    pub queued: usize,
    /// When the request at the front of the queue was submitted.
    pub oldest: Option<Time>,
    /// Each slot's serving life, and its spare after it.
    pub workers: Vec<WorkerView>,
}

/// What a template does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateState {
    /// There is none before a request comes.
    Cold,
    /// It loads the model.
    Loading,
    /// It forks workers.
    Warm,
    /// It could not load the model.
    Failed {
        /// When the next one is loaded.
        retry_at: Time,
    },
    /// Too much has crashed.
    Parked {
        /// When the next one is loaded.
        retry_at: Time,
    },
    /// It has ended unexpectedly, or was killed because it was stuck.
    Waiting {
        /// When the next one is loaded.
        until: Time,
    },
    /// There will be no other.
    Stopped,
}

/// One worker, or a slot that waits for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerView {
    /// The worker; of a slot that waits, the one that is to come.
    pub id: WorkerId,
    /// What it does.
    pub state: WorkerState,
    /// The open request that it computes, or that awaits its exit to be replayed.
    pub request: Option<RequestId>,
}

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerState {
    /// It is being forked and confined.
    Starting,
    /// It may be dispatched to now.
    Idle,
    /// It serves its request, or is stopping one that was cancelled.
    Busy,
    /// It stands by for its slot.
    Spare,
    /// It exits, or was killed.
    Stopping,
    /// There is none yet.
    Waiting {
        /// The end of the back-off.
        until: Time,
    },
}
