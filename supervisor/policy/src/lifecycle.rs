//! The stages of a pool's life: its model is tried, serves, or goes.
use super::event::{Identity, PoolId};

/// What part a pool plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifecycle {
    /// It shows whether its model can be served. Nobody asks for it yet, and it has one try.
    Staged(Proof),
    /// It is asked for.
    Serving,
    /// It is asked for no more, and finishes what it has begun.
    Retired {
        /// What takes its place; nothing if the model was removed.
        successor: Option<Successor>,
    },
}

/// Whether a model can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// It is not known yet.
    Awaited,
    /// A worker has become ready.
    Given,
    /// It could be opened, and need not be loaded now.
    Examined,
    Failed,
}

/// The pool that takes another's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Successor {
    pub(super) pool: PoolId,
    /// What it had loaded when it took over.
    pub(super) identity: Option<Identity>,
}
