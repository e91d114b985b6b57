//! What clients and faults of a campaign share: the daemon, the ledgers, how far it is, and what
//! was found to be wrong.
use super::{catalogue::Pool, expected::Expected};
use crate::{Daemon, LIMIT, exchange::Line, random::Random, wait::pause_for};
use ipc::{Request, Response, status::Status};
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// How long what is measured is left alone between two looks at it.
const LOOK: Duration = Duration::from_millis(1);

/// A daemon under load.
#[derive(Debug)]
pub(crate) struct Harness<'a> {
    pub(crate) daemon: &'a Daemon,
    ledgers: [Expected; 3],
    /// Requests that have had their outcome.
    ended: AtomicU64,
    over: AtomicBool,
    wrong: Mutex<Vec<String>>,
}

impl<'a> Harness<'a> {
    pub(crate) fn new(daemon: &'a Daemon) -> Harness<'a> {
        Harness {
            daemon,
            ledgers: Default::default(),
            ended: AtomicU64::new(0),
            over: AtomicBool::new(false),
            wrong: Mutex::default(),
        }
    }

    pub(crate) fn expected(&self, pool: Pool) -> &Expected {
        &self.ledgers[pool as usize]
    }

    /// Notes that a request has had its outcome.
    pub(crate) fn ended(&self) {
        self.ended.fetch_add(1, Relaxed);
    }

    /// Notes what must not be. The campaign ends.
    pub(crate) fn wrong(&self, what: String) {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(what);
        self.end();
    }

    /// All that must not be and was.
    pub(crate) fn take_wrong(&self) -> Vec<String> {
        std::mem::take(&mut self.wrong.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has the clients stop after the requests that they have sent.
    pub(crate) fn end(&self) {
        self.over.store(true, Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    /// A new connection, waited for while there is no socket.
    pub(crate) fn connect(&self) -> Result<Line, String> {
        let began = Instant::now();
        loop {
            match Line::open(self.daemon.socket()) {
                Ok(line) => return Ok(line),
                Err(error) if began.elapsed() > LIMIT => return Err(error.to_string()),
                Err(_) => pause_for(LOOK),
            }
        }
    }

    /// Lets clients go on for a while: until some requests have ended, or the campaign is over.
    pub(crate) fn let_work(&self, random: &mut Random) {
        let until = self.ended.load(Relaxed) + 1 + random.below(12) as u64;
        let began = Instant::now();
        while self.ended.load(Relaxed) < until && !self.is_over() {
            if began.elapsed() > LIMIT {
                return self.wrong(format!("no {until} requests have ended within {LIMIT:?}"));
            }
            pause_for(LOOK);
        }
    }
}

/// Somebody who looks at the status, again and again on one connection.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    harness: &'a Harness<'a>,
    line: Option<Line>,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(harness: &'a Harness<'a>) -> Watch<'a> {
        Watch { harness, line: None }
    }

    /// Has the next status come on a new connection.
    pub(crate) fn hang_up(&mut self) {
        self.line = None;
    }

    /// One status; `Err` if none can be had now.
    fn try_status(&mut self) -> Result<Status, String> {
        let mut line = match self.line.take() {
            Some(line) => line,
            None => Line::open(self.harness.daemon.socket()).map_err(|error| error.to_string())?,
        };
        line.ask(&Request::Status, false)?;
        let Response::Status(status) = line.receive()? else { return Err("no status".to_owned()) };
        self.line = Some(line);
        Ok(*status)
    }

    /// Looks until `condition` holds.
    pub(crate) fn until(&mut self, what: &str, mut condition: impl FnMut(&Status) -> bool) -> Result<Status, String> {
        let began = Instant::now();
        loop {
            let status = self.try_status();
            match status {
                Ok(status) if condition(&status) => return Ok(status),
                Ok(status) if began.elapsed() > LIMIT => {
                    return Err(format!("waited {LIMIT:?} in vain until {what}: {status:#?}"));
                }
                Err(error) if began.elapsed() > LIMIT => {
                    return Err(format!("waited {LIMIT:?} in vain until {what}: {error}"));
                }
                Ok(_) | Err(_) => pause_for(LOOK),
            }
        }
    }

    /// The status now.
    pub(crate) fn status(&mut self) -> Result<Status, String> {
        self.until("there is a status", |_| true)
    }

    /// Waits until every model is warm and each of its slots has been seen with a worker that
    /// serves or could.
    pub(crate) fn until_whole(&mut self) -> Result<(), String> {
        let mut seen = std::collections::HashSet::new();
        let whole = |status: &Status| {
            for (at, model) in status.models.iter().enumerate() {
                for worker in model.workers.iter().filter(|worker| matches!(worker.state.as_str(), "idle" | "busy")) {
                    seen.insert((at, worker.slot));
                }
            }
            status.models.iter().enumerate().all(|(at, model)| {
                model.state == "warm" && model.workers.iter().all(|worker| seen.contains(&(at, worker.slot)))
            })
        };
        self.until("all pools are whole", whole).map(|_| ())
    }
}
