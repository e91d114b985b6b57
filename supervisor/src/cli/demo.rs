//! `supervisor demo`: the whole system in one command, on the built-in model, in its own folder.
//!
//! It is a client like any other: what it shows is what the daemon's socket and `kill -9` give to
//! everybody. This file says what happens in which order; the files below do it and show it.
mod ask;
mod column;
mod conversation;
mod daemon;
mod interrupt;
mod report;
mod screen;
mod task;
mod victim;

use super::{error::CliError, print};
use crate::shortage::ThreadError;
use ask::{Event, Kill};
use column::wrapped;
use conversation::Conversation;
use daemon::Daemon;
use interrupt::Interrupt;
use ipc::{ClientError, status::Status};
use screen::Screen;
use std::{
    path::Path,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};
use task::TASKS;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Serve this many requests at once
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// As quick as the kill allows, without a picture: for scripts
    #[arg(long)]
    fast: bool,
}

/// How fast the show goes.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// How long the model holds each token back.
    token: Duration,
    /// What is done to the first request's worker. Its answer has about 80 pieces, so what is left
    /// takes many times as long as the kill, also on a busy machine.
    kill: Kill,
}

/// For people.
const SLOW: Pace =
    Pace { token: Duration::from_millis(40), kill: Kill { after_pieces: 24, stopped_for: Duration::from_millis(700) } };
/// For scripts.
const FAST: Pace =
    Pace { token: Duration::from_millis(5), kill: Kill { after_pieces: 8, stopped_for: Duration::ZERO } };

/// The request that loses its worker, and the one that is shown beside it.
const SHOWN: [usize; 2] = [0, 1];
/// Where the first request is asked once more, without a kill.
const AGAIN: usize = TASKS.len();
/// How often the first request is asked for a kill in the middle of its answer. Once is enough,
/// unless the machine keeps this process waiting for as long as a whole answer takes.
const MOST_TRIES: usize = 5;
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);
/// How soon an interrupt is noticed.
const NOTICED: Duration = Duration::from_millis(50);

pub(crate) fn run(arguments: Arguments) -> Result<(), CliError> {
    let interrupt = Interrupt::watch()?;
    let pace = if arguments.fast { FAST } else { SLOW };
    let folder = tempfile::Builder::new()
        .prefix("supervisor-demo-")
        .tempdir()
        .map_err(|error| CliError::Demo("make a temporary folder", error))?;
    let mut daemon = Daemon::start(folder.path(), arguments.workers, pace.token)?;
    let ready = daemon.wait_until_ready(&interrupt)?;
    let mut screen = Screen::new(arguments.fast);
    print(&introduction(&ready, arguments.workers, pace, screen.width()))?;
    let mut show = Show::new(daemon.socket(), pace, &interrupt);
    let played = show.play(&mut screen);
    screen.leave()?;
    played?;
    let status = daemon.status()?;
    report::report(&show.conversations, show.seconds, pace.token, &status, screen.width())
}

/// What is being asked, and what has come of it.
struct Show<'a> {
    socket: &'a Path,
    pace: Pace,
    interrupt: &'a Interrupt,
    /// One for each task; and at [`AGAIN`], the first task's once more.
    conversations: Vec<Conversation>,
    /// How long the eight answers took.
    seconds: f64,
    tell: Sender<(usize, Event)>,
    told: Receiver<(usize, Event)>,
}

impl<'a> Show<'a> {
    fn new(socket: &'a Path, pace: Pace, interrupt: &'a Interrupt) -> Show<'a> {
        let (tell, told) = mpsc::channel();
        let conversations = TASKS.iter().chain([&TASKS[0]]).map(Conversation::new).collect();
        Show { socket, pace, interrupt, conversations, seconds: 0.0, tell, told }
    }

    /// Asks everything, kills one worker, and reads all answers to their end.
    fn play(&mut self, screen: &mut Screen) -> Result<(), CliError> {
        let started = Instant::now();
        // The long answers are asked for first, so that they get the first workers.
        for number in SHOWN {
            self.ask(number)?;
            while !self.conversations[number].is_accepted() {
                self.follow(screen)?;
            }
        }
        (SHOWN.len()..TASKS.len()).try_for_each(|number| self.ask(number))?;
        let mut tries = 1;
        while self.conversations.iter().any(|conversation| !conversation.has_ended()) {
            let number = self.follow(screen)?;
            if number == 0 && self.conversations[0].has_ended() {
                if self.conversations[0].was_answered_without_a_kill() && tries < MOST_TRIES {
                    tries += 1;
                    self.conversations[0] = Conversation::new(&TASKS[0]);
                    self.ask(0)?;
                } else {
                    self.ask(AGAIN)?;
                }
            }
            if self.conversations[..AGAIN].iter().any(|conversation| !conversation.has_ended()) {
                self.seconds = started.elapsed().as_secs_f64();
            }
        }
        Ok(())
    }

    /// Begins one request, on a thread that ends with its answer.
    fn ask(&self, number: usize) -> Result<(), CliError> {
        let (socket, tell) = (self.socket.to_owned(), self.tell.clone());
        let kill = (number == 0).then_some(self.pace.kill);
        let asking = move || {
            let tell = |event| {
                // After an interrupt nobody listens.
                let _unheard = tell.send((number, event));
            };
            tell(Event::Ended(ask::ask(&socket, task::request(&TASKS[number % AGAIN]), kill, &tell)));
        };
        let started = thread::Builder::new().spawn(asking);
        started.map(drop).map_err(|error| CliError::Thread(ThreadError::new("for a request", error)))
    }

    /// Waits until something has happened to a request, shows it, and says which request it was.
    fn follow(&mut self, screen: &mut Screen) -> Result<usize, CliError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.interrupt.check()?;
            match self.told.recv_timeout(NOTICED) {
                Ok((number, event)) => {
                    self.conversations[number].take(event);
                    screen.show(&self.conversations, number)?;
                    return Ok(number);
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                Err(_) => return Err(ClientError::Closed.into()),
            }
        }
    }
}

fn introduction(status: &Status, workers: u32, pace: Pace, width: Option<usize>) -> String {
    let mut text = String::new();
    for model in &status.models {
        let pids: Vec<String> =
            model.workers.iter().filter_map(|worker| worker.pid).map(|pid| pid.to_string()).collect();
        if let Some(template) = &model.template {
            let words = format!(
                "Process {} has loaded the model {} once, in {:.2} s. {} forked from it: {}.",
                template.pid,
                model.name,
                template.load_s.unwrap_or_default(),
                if workers == 1 { "One worker was".to_owned() } else { format!("{workers} workers were") },
                pids.join(", ")
            );
            text += &wrapped(&words, width);
        }
    }
    let why = if pace.kill.stopped_for.is_zero() { "there is time for the kill" } else { "you can watch" };
    let pause = pace.token.as_millis();
    let slowed = format!("The model is slowed down so that {why}: it waits {pause} ms before each token.");
    let many = TASKS.len();
    let plan = format!(
        "Now {many} requests come at once, each with a secret that no other request may see. \
         One worker is killed in the middle of its answer."
    );
    text + &wrapped(&slowed, width) + "\n" + &wrapped(&plan, width) + "\n"
}
