//! What can go wrong in a worker, by name.
use crate::{pages::Pages, probe};
use integration_tests::{LIMIT, process::state, until};
use ipc::{
    BlockingEnd, FinishReason, FromWorker, RequestId, Sandbox, TokenCounts, VERSION,
    board::{self, Word},
};
use nix::{
    sys::signal::{SigSet, Signal, kill, raise},
    unistd::{ftruncate, getppid, pause},
};
use std::{
    fs::File,
    hint,
    io::Write,
    os::{fd::OwnedFd, unix::fs::FileExt},
    process,
    sync::atomic::Ordering::Relaxed,
};
use system::Board;
use worker::socket::WorkerSocket;

/// What an action can reach.
pub(crate) struct Body<'a> {
    pub(crate) end: &'a mut BlockingEnd<WorkerSocket>,
    pub(crate) board: &'a Board,
    /// The board's memory, if it kept it.
    pub(crate) memory: Option<&'a OwnedFd>,
    /// What it serves.
    pub(crate) request: RequestId,
    /// The tokens of the answer so far.
    pub(crate) index: u32,
    /// The length of its vectors.
    pub(crate) dimensions: usize,
    /// What it shares with its template.
    pub(crate) pages: Option<Pages>,
}

/// Does what needs no more than a process. Returns if the action is not one of these.
pub(crate) fn alone(action: &str) {
    probe::probe(action);
    match action {
        // Until there is no more, which ends it.
        "hog" => {
            // What is refused in the end is a block, and not room to note one more.
            let mut held = Vec::with_capacity(1 << 12);
            loop {
                held.push(hint::black_box(vec![1_u8; 1 << 20]));
            }
        }
        "kill" => die(Signal::SIGKILL),
        "segv" => die(Signal::SIGSEGV),
        "stop" => _ = raise(Signal::SIGSTOP),
        "freeze" => freeze(),
        "crash" => {
            eprintln!("this worker crashes as its script says");
            process::abort()
        }
        // What would drive a terminal, or pass for a line of the log.
        "noise" => {
            eprintln!("\x1b[2Ja\rworker\u{9b}says\n2026-01-01T00:00:00.000Z ERROR fake");
            process::abort()
        }
        "exit-0" => system::exit_now(0),
        "exit-7" => system::exit_now(7),
        "panic" => panic!("this worker panics as its script says"),
        // Without a handler, so that it ends when it is asked to.
        "hang" => loop {
            pause();
        },
        "spin" => loop {
            hint::spin_loop();
        },
        // The template, from the child in between.
        "kill-parent" => {
            let parent = getppid();
            let _gone = kill(parent, Signal::SIGKILL);
            // When it has ended, this process is somebody else's child.
            while getppid() == parent {
                hint::spin_loop();
            }
        }
        "flood-stderr" => {
            for line in 0..200_000 {
                eprintln!("line {line} of a flood on the standard error output");
            }
            process::abort()
        }
        _ => {}
    }
}

/// Does what needs a worker that has its descriptors. Returns when it is well again, as far as it can be.
pub(crate) fn act_with(action: &str, body: &mut Body<'_>) {
    let Body { request, index, dimensions, .. } = *body;
    let vectors = |first: u32, count: usize, vector: Vec<f32>| FromWorker::Vectors {
        request,
        first,
        vectors: vec![vector; count],
    };
    let token = |request: RequestId, index: u32, text: &str| FromWorker::Token {
        request,
        index,
        id: 120,
        text: text.to_owned(),
        at_us: u64::MAX,
    };
    // A frame whose header promises so many bytes, and what comes of them.
    let frame = |version: u16, size: u32, payload: &[u8]| {
        [b"SV", version.to_le_bytes().as_slice(), &size.to_le_bytes(), payload].concat()
    };
    match action {
        "garbage" => body.write(b"GET / HTTP/1.1\r\n\r\n"),
        // A header that promises four gibibytes.
        "huge" => body.write(&frame(VERSION, u32::MAX, b"")),
        "wrong-version" => body.write(&frame(9, 1, b"\0")),
        // A variant that there is not.
        "undecodable" => body.write(&frame(VERSION, 1, b"\xfa")),
        "cut-off" => {
            body.write(&frame(VERSION, 16, b"half of"));
            system::exit_now(0)
        }
        "hang-up" => {
            let _gone = body.end.stream().stream().shutdown(std::net::Shutdown::Both);
            alone("hang");
        }
        "hello" => body.send(&FromWorker::Hello { sandbox: Sandbox::default() }),
        "wrong-request" => body.send(&token(RequestId(request.0 + 1000), index, "x")),
        "wrong-index" => body.send(&token(request, index + 5, "x")),
        "prompt-again" => body.send(&FromWorker::Prompt { request, ids: vec![1] }),
        "long-prompt" => body.send(&FromWorker::Prompt { request, ids: vec![1; 100_000] }),
        "done-again" => {
            let done = FromWorker::Done {
                request,
                text: "again".to_owned(),
                finish: FinishReason::Stop,
                counts: TokenCounts::default(),
            };
            body.send(&done);
        }
        "vector-gap" => body.send(&vectors(index + 5, 1, vec![0.5; dimensions])),
        "vector-nan" => body.send(&vectors(index, 1, vec![f32::NAN; dimensions])),
        "vector-short" => body.send(&vectors(index, 1, vec![0.5; dimensions - 1])),
        "vectors-many" => body.send(&vectors(index, 1000, vec![0.5; dimensions])),
        "embedded-early" => body.send(&FromWorker::Embedded { request, tokens: 1 }),
        "many-ids" => body.send(&FromWorker::Tokenized { request, ids: vec![1; 100_000] }),
        "token-flood" => {
            for index in index.. {
                body.send(&token(request, index, "x"));
            }
        }
        "text-flood" => {
            let text = "x".repeat(1 << 20);
            for index in index.. {
                body.send(&token(request, index, &text));
            }
        }
        // Not even the end of its socket and a signal end it.
        "linger" => {
            let _unblocked = SigSet::all().thread_block();
            alone("hang");
        }
        "tick" => loop {
            body.board.word(Word::Ticks).fetch_add(1, Relaxed);
            hint::spin_loop();
        },
        "memory" => {
            let mut held = Vec::new();
            held.resize(256 << 20, 1_u8);
            hint::black_box(&held);
            act_with("tick", body);
        }
        "write-inherited" => {
            let written = body.pages.take().map(Pages::write);
            if !matches!(written, Some(Ok(()))) {
                eprintln!("what is inherited cannot be written to: {written:?}");
                process::abort();
            }
            act_with("tick", body);
        }
        "truncate-board" => {
            let Some(memory) = body.memory else { process::abort() };
            let refused = [0, 1, 1 << 20].map(|size| ftruncate(memory, size).is_err());
            if refused.contains(&false) {
                eprintln!("the board could be resized");
                process::abort();
            }
        }
        "scribble-board" => body.scribble(),
        _ => {}
    }
}

impl Body<'_> {
    fn send(&mut self, message: &FromWorker) {
        if self.end.send(message).is_err() {
            system::exit_now(0);
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.end.stream().stream().write_all(bytes).is_err() {
            system::exit_now(0);
        }
    }

    /// Writes to every word of the board, also to those that are the supervisor's.
    fn scribble(&self) {
        let Some(Ok(memory)) = self.memory.map(OwnedFd::try_clone) else { process::abort() };
        let memory = File::from(memory);
        let mut word = 0x9E37_79B9_7F4A_7C15_u64;
        for _round in 0..2_000 {
            let mut page = Vec::with_capacity(board::SIZE);
            for place in 0..board::WORDS as u64 {
                word = word.rotate_left(13).wrapping_mul(0xBF58_476D_1CE4_E5B9).wrapping_add(place);
                page.extend_from_slice(&word.to_le_bytes());
            }
            if memory.write_all_at(&page, 0).is_err() {
                process::abort();
            }
        }
    }
}

/// Stops first the supervisor, then itself: neither does anything from this moment on.
fn freeze() {
    let supervisor = getppid();
    let _gone = kill(supervisor, Signal::SIGSTOP);
    let supervisor = supervisor.as_raw().unsigned_abs();
    until("the supervisor has stopped", LIMIT, || state(supervisor) == Some('T'));
    let _stopped = raise(Signal::SIGSTOP);
}

fn die(signal: Signal) -> ! {
    // The first one may only take away the handler that the runtime has for it.
    let _raised = raise(signal).and_then(|()| raise(signal));
    // Whoever blocks it ends all the same.
    process::abort()
}
