//! A worker's board as the daemon reads it, and what its numbers say of the worker's speed.
use ipc::board::{Phase, Word};
use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};
use system::Board;

/// How far back the live speed looks.
const SPEED_WINDOW: Duration = Duration::from_secs(5);

/// The board of one worker.
#[derive(Debug)]
pub(crate) struct WorkerBoard {
    board: Board,
    /// Tokens generated for the request at some instants, for the live speed.
    generated: VecDeque<(Instant, u64)>,
}

impl WorkerBoard {
    pub(crate) fn new(board: Board) -> WorkerBoard {
        WorkerBoard { board, generated: VecDeque::new() }
    }

    pub(crate) fn word(&self, word: Word) -> &AtomicU64 {
        self.board.word(word)
    }

    /// How many tokens, of prompt and answer, it says that the worker has got through.
    pub(crate) fn reached(&self) -> u64 {
        let word = |word| self.board.word(word).load(Relaxed);
        word(Word::PromptDone).saturating_add(word(Word::Generated))
    }

    /// Notes how many tokens it says the worker has generated.
    pub(crate) fn note_speed(&mut self, now: Instant) {
        // What it goes through again tells nothing of its speed.
        if Phase::from_word(self.board.word(Word::Phase).load(Relaxed)) != Some(Phase::Decode) {
            self.generated.clear();
            return;
        }
        let count = self.board.word(Word::Generated).load(Relaxed);
        if self.generated.back().is_some_and(|(_, before)| *before > count) {
            self.generated.clear();
        }
        self.generated.push_back((now, count));
        while self.generated.front().is_some_and(|(at, _)| now.duration_since(*at) > SPEED_WINDOW) {
            self.generated.pop_front();
        }
    }

    /// Forgets the speed of an earlier request.
    pub(crate) fn forget_speed(&mut self) {
        self.generated.clear();
    }

    /// Tokens a second over the last seconds.
    pub(crate) fn tokens_per_second(&self) -> Option<f64> {
        let (first, last) = (self.generated.iter().find(|(_, count)| *count > 0)?, self.generated.back()?);
        let seconds = last.0.duration_since(first.0).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let tokens = last.1.saturating_sub(first.1) as f64;
        (seconds > 0.0).then(|| tokens / seconds)
    }
}
