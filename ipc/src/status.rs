//! The status document, as `supervisor status --json` prints it. Fields are only ever added.
use serde::{Deserialize, Serialize};

/// The whole daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// Its pid.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_s: f64,
    /// The thread budget of the host.
    pub cores: usize,
    /// Each model, in the configuration's order; after them those that are being loaded by a
    /// reload, and those that go.
    pub models: Vec<ModelStatus>,
    /// `serving`, `reloading`, `draining` or `stopping`.
    #[serde(default)]
    pub state: String,
    /// Why the last reload changed nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload_error: Option<String>,
    /// The front, if there is to be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpStatus>,
}

/// The process that speaks HTTP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HttpStatus {
    /// Its pid; none while there is none.
    pub pid: Option<u32>,
    /// Where it listens.
    pub listen: Vec<String>,
    /// Connections that are open.
    pub connections: u64,
    /// Requests since it began.
    pub requests: u64,
    /// What confines it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    /// The last one that ended otherwise than it should.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_crash: Option<Crash>,
}

/// One model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelStatus {
    /// Its name.
    pub name: String,
    /// `generate` or `embed`.
    pub kind: String,
    /// `cold`, `loading`, `warm`, `failed` or `parked`; `draining` if it was replaced or removed
    /// and finishes what it had begun.
    pub state: String,
    /// Why it is `failed`, or has fewer workers than it should.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Seconds until a `failed` or `parked` model is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_in_s: Option<f64>,
    /// Where it was loaded from.
    pub path: String,
    /// The architecture that its file names, once loaded.
    pub architecture: Option<String>,
    /// Tokens of prompt and answer together, once loaded.
    pub context: Option<u32>,
    /// `request` or `worker`.
    pub isolation: String,
    /// Bytes of the model's files, once loaded: what a template and its workers share should not
    /// take much more.
    #[serde(default)]
    pub weights_bytes: Option<u64>,
    /// The template, while there is one.
    pub template: Option<TemplateStatus>,
    /// Requests that wait.
    pub queue: QueueStatus,
    /// Each slot's serving life, and its spare after it.
    pub workers: Vec<WorkerStatus>,
    /// Counts since the daemon started.
    pub totals: Totals,
    /// The last worker or template that ended otherwise than it should.
    pub last_crash: Option<Crash>,
}

/// The process that holds a model and forks its workers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TemplateStatus {
    /// Its pid.
    pub pid: u32,
    /// Seconds that loading and warming took; none while it loads.
    pub load_s: Option<f64>,
    /// Proportional memory, sampled when it became ready and now and then since.
    pub pss_bytes: Option<u64>,
    /// How many templates the model has had; one that a reload loads beside another is the next.
    pub generation: u64,
    /// What confines it, once it is ready.
    #[serde(default)]
    pub sandbox: Option<String>,
}

/// Requests that wait for a worker.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// How many wait.
    pub length: usize,
    /// How many may.
    pub limit: usize,
    /// Seconds that the one at the front has waited.
    pub oldest_s: f64,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its slot.
    pub slot: u32,
    /// Which life of the slot.
    pub generation: u64,
    /// Its pid; none while it is being forked or waits to be.
    pub pid: Option<u32>,
    /// `starting`, `idle`, `busy`, `spare`, `stopping` or `waiting`.
    pub state: String,
    /// The request it serves.
    pub request: Option<String>,
    /// Whose it is, as `uid:1000` or `key:ana`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// `prompt`, `replay` or `decode` while it serves.
    pub phase: Option<String>,
    /// Seconds since it was forked.
    pub age_s: f64,
    /// Tokens of the prompt that are done.
    pub prompt_tokens: u64,
    /// Tokens generated for the request.
    pub tokens: u64,
    /// Tokens a second, over the last seconds of decoding.
    pub tokens_per_s: Option<f64>,
    /// Threads it computes with.
    pub threads: u64,
    /// Memory that is its alone.
    pub private_bytes: Option<u64>,
    /// Its proportional share of memory.
    pub pss_bytes: Option<u64>,
    /// Seconds since memory was sampled.
    pub memory_age_s: Option<f64>,
    /// What confines it.
    pub sandbox: Option<String>,
}

/// Counts since the daemon started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Requests admitted.
    pub accepted: u64,
    /// Requests answered.
    pub answered: u64,
    /// Requests refused, before or after they were admitted, but before a worker was given them.
    pub refused: u64,
    /// Requests that ended in an error, or whose worker had to end when the daemon stopped.
    pub failed: u64,
    /// Requests whose client went away.
    pub cancelled: u64,
    /// Requests that waited or ran too long.
    pub timed_out: u64,
    /// Times that a request was begun again after its worker had died without sending anything.
    pub replayed: u64,
    /// Times that a half-sent answer was taken up by another worker.
    pub resumed: u64,
    /// Workers that ended.
    pub worker_exits: u64,
    /// Workers that ended otherwise than they should.
    pub worker_crashes: u64,
}

impl Totals {
    /// Counts those of another, too.
    pub fn add(&mut self, other: Totals) {
        self.accepted += other.accepted;
        self.answered += other.answered;
        self.refused += other.refused;
        self.failed += other.failed;
        self.cancelled += other.cancelled;
        self.timed_out += other.timed_out;
        self.replayed += other.replayed;
        self.resumed += other.resumed;
        self.worker_exits += other.worker_exits;
        self.worker_crashes += other.worker_crashes;
    }
}

/// A process that ended otherwise than it should.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Crash {
    /// Its pid.
    pub pid: u32,
    /// Its slot; none for a template.
    pub slot: Option<u32>,
    /// The signal, the exit status, or why the supervisor ended it.
    pub cause: String,
    /// When, in RFC 3339.
    pub at: String,
    /// The request it served.
    pub request: Option<String>,
    /// The last lines it wrote to stderr.
    pub stderr: Vec<String>,
}
