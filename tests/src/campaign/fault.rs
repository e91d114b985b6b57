//! The faults of a campaign, by name, and how many of each a round has.

/// What is done to the daemon, its processes or its sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// `kill -9` of a worker that serves.
    Kill,
    /// `kill -9` of any worker, whatever it does.
    KillAny,
    /// `kill -9` of two workers at once.
    KillTwo,
    /// SIGSEGV to a worker that serves.
    Segfault,
    /// SIGSTOP to a worker that serves, so that it makes no progress.
    Stop,
    /// `kill -9` of a template.
    KillTemplate,
    /// `kill -9` of a template and, right after it, of a worker that serves.
    KillTemplateAndWorker,
    /// A client leaves in the middle of its answer.
    Leave,
    /// A client sends half a frame and leaves.
    HalfFrame,
    /// The disk that the log is on is full.
    FullDisk,
    /// The socket file is deleted, with or without its lock.
    DeletedSocket,
    /// The supervisor may open no more descriptors.
    Descriptors,
    /// More clients connect than are served, and say nothing.
    Crowd,
    /// SIGSTOP to the supervisor, and SIGCONT: its clocks have jumped.
    StopSupervisor,
    /// A request has its worker compute for ever.
    Spin,
    /// A request has its worker take more memory than it may.
    Hog,
    /// A request has its worker crash.
    Crash,
}

/// What the first injector does in a round.
const OUTSIDE: [(Fault, usize); 14] = [
    (Fault::Kill, 5),
    (Fault::KillAny, 3),
    (Fault::KillTwo, 2),
    (Fault::Segfault, 3),
    (Fault::Stop, 1),
    (Fault::KillTemplate, 1),
    (Fault::KillTemplateAndWorker, 1),
    (Fault::Leave, 3),
    (Fault::HalfFrame, 2),
    (Fault::FullDisk, 1),
    (Fault::DeletedSocket, 1),
    (Fault::Descriptors, 1),
    (Fault::Crowd, 1),
    (Fault::StopSupervisor, 1),
];

/// What the second one does, by way of requests, in a round.
const INSIDE: [(Fault, usize); 3] = [(Fault::Crash, 3), (Fault::Spin, 1), (Fault::Hog, 1)];

impl Fault {
    /// All faults of a round that are done from outside, or all that come with requests.
    pub(crate) fn round(is_inside: bool) -> Vec<Fault> {
        let shares = if is_inside { &INSIDE[..] } else { &OUTSIDE[..] };
        shares.iter().flat_map(|(fault, count)| std::iter::repeat_n(*fault, *count)).collect()
    }

    /// What it is, and from when to when recovery is measured.
    pub(crate) fn describe(self) -> (&'static str, &'static str) {
        const SLOT: &str = "the signal to the slot's next life serving";
        const WHOLE: &str = "the signal to every slot serving, the new template warm";
        const ANSWER: &str = "the request to its answer";
        match self {
            Fault::Kill => ("kill -9 of a serving worker", SLOT),
            Fault::KillAny => ("kill -9 of any worker", SLOT),
            Fault::KillTwo => ("kill -9 of two workers at once", "the signals to both slots' next lives serving"),
            Fault::Segfault => ("SIGSEGV of a serving worker", SLOT),
            Fault::Stop => ("SIGSTOP of a serving worker", SLOT),
            Fault::KillTemplate => ("kill -9 of a template", WHOLE),
            Fault::KillTemplateAndWorker => ("kill -9 of a template and a worker", WHOLE),
            Fault::Leave => ("client leaves in its answer", "hanging up to its worker gone or at rest"),
            Fault::HalfFrame => ("half a frame, and away", "hanging up to a status on a new connection"),
            Fault::FullDisk => ("full disk for the log", "the full disk to every slot seen serving"),
            Fault::DeletedSocket => ("socket file deleted", "the deletion to a status on a new connection"),
            Fault::Descriptors => ("no descriptors left", "their return to every slot serving"),
            Fault::Crowd => ("300 silent connections", "their end to a status on a new connection"),
            Fault::StopSupervisor => ("supervisor stopped for 2.5 s", "SIGCONT to every slot seen serving"),
            Fault::Spin => ("worker spins", ANSWER),
            Fault::Hog => ("worker hogs memory", ANSWER),
            Fault::Crash => ("worker crashes by its request", ANSWER),
        }
    }
}
