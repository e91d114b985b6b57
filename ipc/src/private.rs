//! The private conversations: between the supervisor and its workers, and between it and its
//! templates.
//!
//! Both ends are one executable, so these messages have no versions and may change at any time.
mod bincode;
mod control;
mod work;

pub use control::{Forked, FromTemplate, ModelInfo, ModelKind, ModelSpec, Needs, Precision, ToTemplate};
pub use work::{EmbedJob, FromWorker, Go, Job, JobPrompt, Sandbox, ToWorker, TokenCounts, TokenizeJob};
