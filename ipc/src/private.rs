//! The private conversations: between the supervisor and its workers, its templates and its front.
//!
//! Both ends are one executable, so these messages have no versions and may change at any time.
mod bincode;
mod control;
mod front;
mod work;

pub use control::{Forked, FromTemplate, ModelInfo, ModelKind, ModelSpec, Needs, Precision, ToTemplate};
pub use front::{FromFront, FrontConfig, FrontCounts, Key, Listen, MAX_FRONT_CONTROL, ToFront};
pub use work::{EmbedJob, FromWorker, Go, Job, JobPrompt, Sandbox, ToWorker, TokenCounts, TokenizeJob};
