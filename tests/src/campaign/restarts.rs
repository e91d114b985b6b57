//! Restarts under load: of the whole daemon, with its socket handed over by a service manager; of a
//! model, by reloading a changed configuration; of one worker. No request may fail, and each answer
//! must be the one of a daemon that is never restarted.
use super::{
    catalogue::{Case, Catalogue},
    load::Tally,
};
use crate::{
    Daemon, LIMIT, Manager, Signal,
    exchange::{Line, Outcome},
    random::Random,
    wait::pause,
};
use ipc::{Client, Control, status::Status};
use std::{
    fmt,
    os::unix::net::UnixListener,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// More than there are workers, so that there is always somebody who waits.
const CLIENTS: usize = 6;
const WORKERS: usize = 3;

/// What is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restarted {
    /// The daemon, as `systemctl restart` does it.
    Daemon,
    /// The model, as `supervisor reload` does it.
    Model,
    /// One worker, as `supervisor restart SLOT` does it.
    Worker,
}

/// What came of restarts of a kind.
#[derive(Clone, Debug)]
pub struct Restarts {
    kind: Restarted,
    /// How long each took.
    took: Vec<Duration>,
    /// Requests that were answered meanwhile.
    pub answered: usize,
    /// The longest that one of them took.
    longest: Duration,
}

/// What the clients share.
struct Load<'a> {
    socket: &'a Path,
    cases: &'a [Case],
    over: AtomicBool,
    answered: AtomicUsize,
    longest: Mutex<Duration>,
    wrong: Mutex<Vec<String>>,
}

impl Restarted {
    /// Restarts it so often under load: what came of it, or what was wrong.
    ///
    /// # Panics
    ///
    /// If there is no daemon to be had.
    pub fn run(self, times: usize, seed: u64) -> Result<Restarts, String> {
        let manager = Manager::new();
        let socket = manager.path("supervisor.sock");
        let listener = UnixListener::bind(&socket).map_err(|error| format!("cannot listen: {error}"))?;
        let manager = manager.handing_over("supervisor.sock", listener);
        let mut daemon = Daemon::managed(&manager, &configuration(0), Some(&socket));
        daemon.live_for(2 * LIMIT * u32::try_from(times).unwrap_or(1));
        daemon.settle();
        let cases = Catalogue::record_texts(&daemon, 100)?;
        let load = Load {
            socket: &socket,
            cases: &cases,
            over: AtomicBool::new(false),
            answered: AtomicUsize::new(0),
            longest: Mutex::default(),
            wrong: Mutex::default(),
        };
        let took = thread::scope(|scope| {
            for number in 0..CLIENTS {
                let load = &load;
                scope.spawn(move || load.ask_all(Random::of(seed, number)));
            }
            let mut random = Random::of(seed, CLIENTS);
            let took: Result<Vec<Duration>, String> = (0..times)
                .map(|number| {
                    load.go_on(5 + random.below(20))?;
                    let began = Instant::now();
                    match self {
                        Restarted::Daemon => {
                            daemon.signal(Signal::SIGTERM);
                            let status = daemon.wait();
                            if !status.success() {
                                return Err(format!("the daemon has ended by {status}"));
                            }
                            daemon = Daemon::managed(&manager, &configuration(0), Some(&socket));
                            daemon.live_for(2 * LIMIT);
                            manager.until("READY=1");
                        }
                        Restarted::Model => {
                            daemon.configure(&configuration(number + 1));
                            control(&daemon, Control::Reload)?;
                        }
                        Restarted::Worker => {
                            let slot = number % WORKERS;
                            let before = newest(&daemon.status(), slot);
                            let slot_number = u32::try_from(slot).ok();
                            control(&daemon, Control::Restart { model: None, slot: slot_number })?;
                            daemon.until("another worker serves", |status| newest(status, slot) > before);
                        }
                    }
                    Ok(began.elapsed())
                })
                .collect();
            let rest = load.go_on(5);
            load.over.store(true, Relaxed);
            rest.and(took)
        });
        let wrong = load.wrong.into_inner().unwrap_or_else(PoisonError::into_inner);
        let took = match (took, wrong.is_empty()) {
            (Ok(took), true) => took,
            (took, _) => {
                let what = took.err().into_iter().chain(wrong).collect::<Vec<_>>().join("\n");
                return Err(format!("{}\n{what}\nthe restarts of {self:?} had the seed {seed}", daemon.last_words()));
            }
        };
        daemon.settle();
        daemon.has_only_its_own();
        let longest = load.longest.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Restarts { kind: self, took, answered: load.answered.into_inner(), longest })
    }
}

/// The same model each time, but for what makes it another one to the daemon.
fn configuration(number: usize) -> String {
    let context = 512 - number % 2;
    format!("[[model]]\nname = \"text\"\npath = \"builtin:pocket\"\nworkers = {WORKERS}\ncontext = {context}\n")
}

/// The newest life of a slot that serves or could.
fn newest(status: &Status, slot: usize) -> u64 {
    let workers = status.models[0].workers.iter();
    let workers = workers.filter(|worker| worker.slot as usize == slot && ["idle", "busy"].contains(&&*worker.state));
    workers.map(|worker| worker.generation).max().unwrap_or(0)
}

fn control(daemon: &Daemon, control: Control) -> Result<(), String> {
    let mut client = Client::connect(daemon.socket()).map_err(|error| error.to_string())?;
    let answer = client.control(control.clone()).map_err(|error| error.to_string())?;
    for response in answer {
        response.map_err(|error| format!("{control:?}: {error}"))?;
    }
    Ok(())
}

impl Load<'_> {
    /// One client, each of whose requests has a connection of its own.
    fn ask_all(&self, mut random: Random) {
        while !self.over.load(Relaxed) {
            let case = random.choose(self.cases);
            let began = Instant::now();
            let outcome = Line::open(self.socket).map_err(|error| error.to_string()).and_then(|mut line| {
                line.ask(&case.request, false)?;
                Ok(line.hear(None, &mut |_| {}))
            });
            let mut longest = self.longest.lock().unwrap_or_else(PoisonError::into_inner);
            *longest = longest.max(began.elapsed());
            drop(longest);
            let noted = match outcome {
                Ok(Outcome::NotAdmitted(why)) => Err(format!("not taken in: {why}")),
                Ok(outcome) => Tally::default().note(outcome, case),
                Err(why) => Err(why),
            };
            match noted {
                Ok(()) => _ = self.answered.fetch_add(1, Relaxed),
                Err(what) => {
                    self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(what);
                    return self.over.store(true, Relaxed);
                }
            }
        }
    }

    /// Waits until so many more requests have been answered.
    fn go_on(&self, count: usize) -> Result<(), String> {
        let (until, began) = (self.answered.load(Relaxed) + count, Instant::now());
        while self.answered.load(Relaxed) < until {
            if self.over.load(Relaxed) {
                return Err("the load has ended".to_owned());
            }
            if began.elapsed() > LIMIT {
                return Err(format!("no {count} requests were answered within {LIMIT:?}"));
            }
            pause();
        }
        Ok(())
    }
}

impl fmt::Display for Restarts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Restarts { kind, took, answered, longest } = self;
        let what = match kind {
            Restarted::Daemon => "the daemon, its socket handed over: SIGTERM to READY=1 of the next",
            Restarted::Model => "the model: a reload of a changed configuration",
            Restarted::Worker => "one worker: `restart SLOT` to the next one serving",
        };
        let mut took = took.clone();
        took.sort_unstable();
        let at = |percent: usize| super::report::Show(took[(took.len() * percent).div_ceil(100).max(1) - 1]);
        let longest = super::report::Show(*longest);
        write!(f, "| {what} | {} | {answered} | 0 | {} | {} | {longest} |", took.len(), at(50), at(99))
    }
}

impl Restarts {
    /// The heading of the table whose rows these are.
    pub const HEADING: &str = "| restarted | times | requests meanwhile | failed | a restart, p50 | p99 | longest request |\n\
                               |---|---|---|---|---|---|---|";
}
