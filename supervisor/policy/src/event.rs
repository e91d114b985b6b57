//! What goes into the policy and what comes out of it.
use super::memory::{Memory, MemoryShortage};
use super::reload::Reload;
use ipc::{Life, Needs, RequestId};
use std::time::Duration;

/// Monotonic time since the supervisor started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub Duration);

impl Time {
    /// This much later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Time {
        Time(self.0.saturating_add(duration))
    }

    /// How long after `earlier` this is; nothing if it is before.
    pub fn since(self, earlier: Time) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// One model's template, queue and workers. A model that is replaced by another of its name gets a
/// new one, and no number is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolId(pub usize);

/// One worker process, in the whole supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId {
    /// Its model.
    pub pool: PoolId,
    /// Its slot and which life of the slot.
    pub life: Life,
}

/// One template process, in the whole supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TemplateId {
    /// Its model.
    pub pool: PoolId,
    /// How many templates this model has had, this one included.
    pub generation: u64,
}

/// One front process. No number is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrontId(pub u64);

/// What a template has loaded: a number that differs where the same request may have another
/// answer. Nothing that was begun with one is gone on with another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Identity(pub u64);

/// How a request is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Parts that it is computed in, each by whichever worker is idle. At least 1.
    pub parts: u32,
    /// Most threads that a worker can use for it. At least 1.
    pub threads: u32,
}

impl Work {
    /// In one piece, with as many threads as the model may have.
    pub const WHOLE: Work = Work { parts: 1, threads: u32::MAX };

    /// In so many parts, on one thread each.
    pub const fn parts(parts: u32) -> Work {
        Work { parts, threads: 1 }
    }
}

/// One part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Part {
    /// The request.
    pub request: RequestId,
    /// Which part, from 0.
    pub number: u32,
}

/// What a template has loaded, and what that takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What it is.
    pub identity: Identity,
    /// What the template says that it needs.
    pub needs: Needs,
    /// What it was seen to have taken of memory that is no file's, in bytes.
    pub taken: u64,
    /// The machine's memory now.
    pub memory: Memory,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A client asks. `fingerprint` is equal for the same model, input and parameters.
    Submitted {
        /// Its number, never used before.
        request: RequestId,
        /// The model.
        pool: PoolId,
        /// A keyed hash of model, input and parameters.
        fingerprint: u64,
        /// Whose it is: equal for requests of the same owner.
        owner: u64,
        /// How long its client waits, if that is known.
        patience: Option<Duration>,
        /// How it is computed.
        work: Work,
    },
    /// The client has gone, or has taken nothing for too long.
    Withdrawn(RequestId),
    /// The client takes less than it is sent, so that no further part shall be begun; or it has
    /// caught up.
    Blocked {
        /// The request.
        request: RequestId,
        /// Whether nothing shall be begun.
        is_blocked: bool,
    },
    /// The template has opened its model and says what it needs. It does not load it before it is
    /// told to.
    Needs {
        /// The template.
        template: TemplateId,
        /// What its model needs.
        needs: Needs,
        /// The machine's memory now.
        memory: Memory,
    },
    /// The template that was only to open its model has found nothing to ask for: it can be loaded.
    Examined(TemplateId),
    /// The template has loaded and warmed its model.
    TemplateReady(TemplateId, Loaded),
    /// The template said that the model cannot be loaded, with a reason that the daemon keeps.
    LoadFailed(TemplateId),
    /// The template process has ended.
    TemplateExited(TemplateId),
    /// The template has forked the worker, which waits for `Go`.
    Forked(WorkerId),
    /// The template could not fork the worker.
    ForkFailed(WorkerId),
    /// The supervisor has no memory or no descriptor for the worker now, so the template has not
    /// been asked for it or it could not be taken hold of.
    Shortage(WorkerId),
    /// The worker is confined and may be given work.
    Ready(WorkerId),
    /// The worker has sent a token or a vector, which went to the request's record.
    Streamed(WorkerId),
    /// The daemon has looked at the worker's board and found this tick count there.
    Observed {
        /// The worker.
        worker: WorkerId,
        /// Its count of progress; only a change means anything.
        ticks: u64,
    },
    /// The daemon has looked how many threads the worker says that it computes with.
    ThreadsUsed {
        /// The worker.
        worker: WorkerId,
        /// How many.
        threads: u32,
    },
    /// The worker has sent the end of its part of an answer.
    Answered(WorkerId),
    /// The worker has said that its part of a request cannot be served, and so the request cannot.
    /// The worker is well.
    Rejected(WorkerId),
    /// The worker has sent what is no message.
    Misbehaved(WorkerId),
    /// The daemon has looked how much memory the worker has taken for itself.
    MemoryTaken {
        /// The worker.
        worker: WorkerId,
        /// Memory that it shares with nobody, in bytes.
        bytes: u64,
    },
    /// The machine's memory was looked at for this model, as [`Effect::ReadMemory`] asks.
    MemoryRead(PoolId, Memory),
    /// The worker process has ended and all that it sent has been read.
    Exited(WorkerId),
    /// The front listens.
    FrontListening(FrontId),
    /// The front has said that it cannot serve; it exits.
    FrontFailed(FrontId),
    /// The front has said that it lives.
    FrontBeat(FrontId),
    /// The front process has ended.
    FrontExited(FrontId),
    /// Finish what was begun and refuse all else; or, with `false`, take requests again.
    Drain(bool),
    /// Replace the workers of a model.
    Restart {
        /// The model.
        pool: PoolId,
        /// Only the one that serves this slot, and at once: what it computes goes on with another.
        /// If `None`, all that are there, each when it has nothing to do.
        slot: Option<u32>,
    },
    /// Bring this configuration into force, all of it or nothing. [`Effect::Reloaded`] or
    /// [`Effect::ReloadRefused`] says how that ends, at once or later; another one must wait for
    /// it.
    Reload(Reload),
    /// Finish what runs and waits within the limit, refuse the rest, then stop. A second time: stop
    /// at once.
    ShutdownRequested,
}

/// What must be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Start a front process, with the configuration that is in force or the one that is tried.
    StartFront {
        /// The front.
        front: FrontId,
        /// Whether it is tried.
        is_staged: bool,
    },
    /// End the front process with SIGKILL.
    KillFront(FrontId),
    /// Have the front accept nobody any more, finish what it was asked for, and exit.
    FinishFront(FrontId),
    /// Start a template process and have it load the model.
    Load(TemplateId),
    /// Start a template process and have it open the model and say what it needs, but not load it.
    Examine(TemplateId),
    /// Tell the template that it may load its model.
    Admit(TemplateId),
    /// Note why the template's model is not loaded, or not served.
    DoesNotFit(TemplateId, MemoryShortage),
    /// End the template process with SIGKILL.
    KillTemplate(TemplateId),
    /// Look at the machine's memory, because this model is to have another worker.
    ReadMemory(PoolId),
    /// Note why this worker, which would have been the next one of its slot, is not forked now.
    NoMemory(WorkerId, MemoryShortage),
    /// Ask the template to fork a worker.
    Fork {
        /// The template, which is warm.
        template: TemplateId,
        /// The worker to make.
        worker: WorkerId,
    },
    /// Give the worker a part of a request, from its beginning or from where a dead worker left it.
    Dispatch {
        /// The worker, which is idle.
        to: WorkerId,
        /// The part.
        part: Part,
        /// 1 for the first attempt.
        attempt: u32,
    },
    /// Tell the worker, through its board, how many threads it may compute with. The board of one
    /// that was not told says 1.
    SetBudget {
        /// The worker.
        worker: WorkerId,
        /// How many.
        threads: u32,
    },
    /// Look at once how many threads the worker says that it computes with.
    ReadThreads(WorkerId),
    /// Ask the worker, through its board, to stop computing this request.
    StopRequest {
        /// The worker.
        worker: WorkerId,
        /// The request that nobody waits for any more.
        request: RequestId,
    },
    /// Ask the worker to exit: close its socket and send SIGTERM.
    Terminate(WorkerId),
    /// End the worker with SIGKILL, now or as soon as its pid is known.
    Kill {
        /// The worker.
        worker: WorkerId,
        /// Why, for the status and the log.
        reason: KillReason,
    },
    /// Tell the client that its request was let in.
    Accepted(RequestId),
    /// Tell the client how its request ended.
    Finish {
        /// The request.
        request: RequestId,
        /// How it ended.
        outcome: Outcome,
    },
    /// The request waits for workers of this model from now on.
    Moved {
        /// The request, which no worker computes.
        request: RequestId,
        /// The model that takes the place of the one that it waited for.
        to: PoolId,
    },
    /// The reload is in force.
    Reloaded,
    /// The reload changes nothing.
    ReloadRefused(ReloadRefusal),
    /// Nothing is left of a model that was replaced or removed, or that could not be loaded.
    Removed(PoolId),
    /// Everything has ended, or cannot be ended: exit.
    Halt,
}

/// Why a reload changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadRefusal {
    /// This model cannot be served.
    NotServed(PoolId),
    /// HTTP cannot be served.
    NoFront,
    /// This model would take more memory in place than there is.
    Outgrows(PoolId, MemoryShortage),
    /// The supervisor stops.
    ShuttingDown,
}

/// Why the policy ends a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillReason {
    /// It did not become ready in time.
    StartTimeout,
    /// It made no progress for too long.
    ProgressTimeout,
    /// Its request took longer than it may.
    RequestTimeout,
    /// Its request has ended otherwise: its client has gone, or another part of it has failed.
    Cancelled,
    /// It sent what is no message.
    Misbehaved,
    /// It took more memory than it may.
    TooMuchMemory,
    /// It had answered, or had been asked to exit, and did not exit.
    Lingered,
    /// The supervisor is stopping.
    Shutdown,
    /// Somebody wants another in its place.
    Restarted,
}

impl KillReason {
    /// Whether a worker that is killed for this has done something wrong.
    pub fn is_fault(self) -> bool {
        match self {
            KillReason::StartTimeout
            | KillReason::ProgressTimeout
            | KillReason::Misbehaved
            | KillReason::TooMuchMemory
            | KillReason::Lingered => true,
            KillReason::RequestTimeout | KillReason::Cancelled | KillReason::Shutdown | KillReason::Restarted => false,
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The worker's answer is complete.
    Answered,
    /// The worker said why it cannot be served.
    Rejected,
    /// The client went away.
    Cancelled,
    /// The queue was full.
    QueueFull,
    /// Half of the queue was its owner's already, and others wait too.
    ShareFull,
    /// It waited in the queue for longer than it may.
    QueueTimeout,
    /// It ran for longer than it may.
    RequestTimeout,
    /// As many workers died under it, or under one of its parts, as may.
    WorkersDied {
        /// How many died.
        attempts: u32,
    },
    /// Refused: workers died under the same request a while ago.
    Poisonous {
        /// When it may be tried again.
        until: Time,
    },
    /// The model cannot be served now: loading failed, or it is parked after a crash loop.
    Unavailable {
        /// When the supervisor tries to load it again.
        until: Time,
    },
    /// The supervisor is stopping.
    ShuttingDown,
    /// The supervisor is draining, and the request had not begun.
    Draining,
    /// A part of the answer was given, by a model that is no more.
    ModelChanged,
}

/// Whether a worker serves one request or many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// One request, then it exits; its successor stands by.
    Request,
    /// Many requests, one after another.
    Worker,
}

/// When a model is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// At the start, and again when it is gone.
    Eager,
    /// When a request comes for it.
    Lazy,
}
