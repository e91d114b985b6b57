//! A worker's life: it starts, says hello, and serves jobs until the supervisor hangs up.
//!
//! It does not compute ([`crate::generate`] and [`crate::embed`] do) and decides nothing: what to
//! do after an error is the supervisor's to say.
use crate::{
    embed,
    generate::{self, Progress},
    loaded_model::LoadedModel,
    startup::{Started, StartupError, confine, start, tie_to, wait_for_go},
    template::WorkerFds,
};
use ipc::{
    EndError, FailureKind, FromWorker, RequestId, ToWorker,
    board::{Phase, Word},
};
use model::text::Pace;
use std::{
    ops::ControlFlow,
    sync::atomic::Ordering::{Relaxed, Release},
    time::{Duration, Instant},
};
use system::{Board, foreign_text::chain, sandbox::Filters};
use thiserror::Error;

/// Tokens that come faster than this are sent together.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// Lives a worker's life in a process just forked, and returns its exit status.
pub fn serve(model: &mut LoadedModel, fds: WorkerFds, filters: &Filters) -> i32 {
    let Err(error) = live(model, fds, filters) else { return 0 };
    eprintln!("worker: {}", chain(&error));
    match error {
        ServeError::Startup(error) => error.exit_status(),
        ServeError::Socket(_) | ServeError::Order => system::FAILED,
    }
}

/// Why a worker stopped serving.
#[derive(Debug, Error)]
enum ServeError {
    /// It did not come to serve.
    #[error(transparent)]
    Startup(#[from] StartupError),
    /// The socket failed.
    #[error("the supervisor cannot be heard")]
    Socket(#[source] EndError),
    /// `Go` came again.
    #[error("the messages are out of order")]
    Order,
}

fn live(model: &mut LoadedModel, fds: WorkerFds, filters: &Filters) -> Result<(), ServeError> {
    let supervisor = fds.supervisor;
    let mut started = start(fds)?;
    // If it does not work yet, end of file on the socket tells of the supervisor's end.
    tie_to(supervisor)?;
    let Some(go) = wait_for_go(&mut started)? else { return Ok(()) };
    let Started { mut end, board, inherited } = started;
    let sandbox = confine(&go, inherited, filters)?;
    board.word(Word::Threads).store(1, Relaxed);
    end.send(&FromWorker::Hello { sandbox }).map_err(ServeError::Socket)?;
    while let Some(message) = end.receive().map_err(ServeError::Socket)? {
        let memory = end.stream().take_descriptor();
        let mut broken = None;
        let mut last_token: Option<Instant> = None;
        let mut emit = |message| {
            // Waking the supervisor takes longer than a small model takes for a token. A token that
            // is put off waits for the next one.
            let is_token = matches!(message, FromWorker::Token { .. });
            let put_off = is_token && last_token.is_some_and(|sent| sent.elapsed() < SHORTEST_PAUSE);
            let sent = if put_off { end.put_off(&message) } else { end.send(&message) };
            if is_token && !put_off {
                last_token = Some(Instant::now());
            }
            match sent {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    broken = Some(error);
                    ControlFlow::Break(())
                }
            }
        };
        match message {
            ToWorker::Go(_) => return Err(ServeError::Order),
            ToWorker::Run(job) => match model {
                LoadedModel::Generator(model) => {
                    let memory = memory.filter(|_| job.cache);
                    generate::run(model, &job, memory, &BoardProgress(&board), &mut emit);
                }
                LoadedModel::Embedder(_) => {
                    let message = "the model makes vectors and generates no text".to_owned();
                    let _heard = emit(bad_request(job.request, message));
                }
            },
            ToWorker::Embed(job) => match model {
                LoadedModel::Embedder(bert) => embed::run(bert, &job, &BoardProgress(&board), &mut emit),
                LoadedModel::Generator(_) => {
                    let message = "the model generates text and makes no vectors".to_owned();
                    let _heard = emit(bad_request(job.request, message));
                }
            },
            ToWorker::Tokenize(job) => {
                let answer = match model.tokenize(&job.text, job.special) {
                    Ok(ids) => FromWorker::Tokenized { request: job.request, ids },
                    Err(error) => bad_request(job.request, chain(&error)),
                };
                let _heard = emit(answer);
            }
        }
        BoardProgress(&board).phase(Phase::Idle);
        board.word(Word::Threads).store(1, Relaxed);
        if let Some(error) = broken {
            return Err(ServeError::Socket(error));
        }
        if go.single {
            return Ok(());
        }
        // What one request needed is not kept for the next.
        system::trim_heap();
    }
    Ok(())
}

fn bad_request(request: RequestId, message: String) -> FromWorker {
    FromWorker::Failed { request, kind: FailureKind::BadRequest, message }
}

/// Progress, published on the board.
#[derive(Debug)]
pub struct BoardProgress<'a>(pub &'a Board);

impl Pace for BoardProgress<'_> {
    fn layer(&self) -> usize {
        let threads = self.0.word(Word::Budget).load(Relaxed).max(1);
        self.0.word(Word::Threads).store(threads, Relaxed);
        self.tick();
        usize::try_from(threads).unwrap_or(1)
    }
}

impl Progress for BoardProgress<'_> {
    fn phase(&self, phase: Phase) {
        self.0.word(Word::Phase).store(phase as u64, Relaxed);
    }

    fn prompt(&self, done: u64) {
        self.0.word(Word::PromptDone).store(done, Relaxed);
    }

    fn generated(&self, count: u64) {
        self.0.word(Word::Generated).store(count, Relaxed);
    }

    fn tick(&self) {
        self.0.word(Word::Ticks).fetch_add(1, Release);
    }

    fn stop_requested(&self, request: RequestId) -> bool {
        self.0.word(Word::Stop).load(Relaxed) == request.0.saturating_add(1)
    }
}
