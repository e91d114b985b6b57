//! The requests that have no end yet, and what new ones are known by.
use super::open_request::OpenRequest;
use crate::log::Prompts;
use ipc::RequestId;
use std::{collections::HashMap, hash::RandomState};

#[derive(Debug)]
pub(super) struct Requests {
    pub(super) open: HashMap<RequestId, OpenRequest>,
    /// The key of their fingerprints.
    pub(super) fingerprints: RandomState,
    /// What the log says of their prompts.
    pub(super) prompts: Prompts,
    /// How many there have been.
    submitted: u64,
}

impl Requests {
    pub(super) fn new(prompts: Prompts) -> Requests {
        Requests { open: HashMap::new(), fingerprints: RandomState::new(), prompts, submitted: 0 }
    }

    /// The name of the next one.
    pub(super) fn next_id(&mut self) -> RequestId {
        self.submitted += 1;
        RequestId(self.submitted)
    }
}
