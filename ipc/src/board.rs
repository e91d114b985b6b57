//! The board: one page that a worker and the supervisor share, and nobody else.
//!
//! It is a memfd of [`SIZE`] bytes, sealed against resizing before it is handed over. It holds
//! 64-bit words in the host's byte order, each written by one side only and read through atomics by
//! the other, who believes no value. Counting there costs a worker one store and no message.

/// Bytes of a board. Mapped whole; the kernel rounds up to a page.
pub const SIZE: usize = 4096;
/// The words there are.
pub const WORDS: usize = SIZE / 8;

/// The words of a board, by their index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Word {
    /// Worker: increases with every step of progress, and with nothing else.
    Ticks = 0,
    /// Worker: a [`Phase`].
    Phase = 1,
    /// Worker: tokens of the prompt, or texts of the batch, that are done.
    PromptDone = 2,
    /// Worker: tokens generated.
    Generated = 4,
    /// Worker: threads it computes with now.
    Threads = 5,
    /// Supervisor: the number of the request that must stop, plus 1; 0 for none.
    Stop = 16,
    /// Supervisor: threads that the worker may compute with; 0 is read as 1. The worker looks at it
    /// before every layer.
    Budget = 17,
}

/// What a worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Phase {
    /// Nothing.
    Idle = 0,
    /// It reads the prompt.
    Prompt = 1,
    /// It goes through tokens again that a dead worker had generated.
    Replay = 2,
    /// It generates.
    Decode = 3,
    /// It embeds.
    Embed = 4,
}

impl Phase {
    /// The phase that a word names, if it names one.
    pub fn from_word(word: u64) -> Option<Phase> {
        [Phase::Idle, Phase::Prompt, Phase::Replay, Phase::Decode, Phase::Embed]
            .into_iter()
            .find(|phase| *phase as u64 == word)
    }

    /// Its name in the status.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Idle => "idle",
            Phase::Prompt => "prompt",
            Phase::Replay => "replay",
            Phase::Decode => "decode",
            Phase::Embed => "embed",
        }
    }
}
