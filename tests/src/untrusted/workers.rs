//! What workers leave and say: each may have been taken over by the model file that it serves.
use ipc::{
    EmbedRequest, FrameBuffer, FromWorker, GenerateRequest, Job, JobPrompt, ModelInfo, ModelKind, ModelSpec, Request,
    RequestId, Sampling, TextRole, TokenizeRequest,
    board::{Phase, WORDS},
};
use model::text::CHUNK;
use model::text::Generator;
use model::text::Pace;
use std::{
    cell::RefCell,
    fs::{self, File},
    ops::ControlFlow,
    os::{fd::OwnedFd, unix::fs::FileExt},
};
use supervisor::fuzzing;
use system::MEMORY_HEAD;
use system::foreign_text::chain;
use system::sealed_memory;
use tempfile::TempDir;
use worker::generate;
use worker::generate::Progress;
use worker::loaded_model::cache_size;
use worker::loaded_model::load_generator;

/// A request of the kind that the first byte names, and frames of messages from its workers. The
/// byte before each frame says which part the message is of, and whether that is begun anew.
pub fn worker(bytes: &[u8]) {
    let Some((kind, said)) = bytes.split_first() else { return };
    let texts = |count: usize| (0..count).map(|number| format!("text {number}")).collect();
    let model = None;
    let asked = match kind % 3 {
        0 => Request::Generate(Box::new(GenerateRequest::raw("a prompt"))),
        1 => Request::Embed(Box::new(EmbedRequest { model, texts: texts(20), role: TextRole::Plain })),
        _ => Request::Tokenize(Box::new(TokenizeRequest { model, text: "a text".to_owned(), special: true })),
    };
    let info = ModelInfo {
        architecture: "llama".to_owned(),
        context: 16,
        chat: true,
        load_ms: 0,
        chunk: 64,
        kind: ModelKind::Generate,
        cache: 0,
        weights: 0,
        dimensions: 2,
        sandbox: ipc::Sandbox::default(),
        remarks: Vec::new(),
    };
    let mut messages = Vec::new();
    let mut rest = said;
    while let Some((about, frames)) = rest.split_first() {
        let mut buffer = FrameBuffer::new(ipc::MAX_FRAME);
        buffer.space().extend_from_slice(frames);
        let Ok(Some(payload)) = buffer.next_payload() else { break };
        rest = frames.get(ipc::HEADER + payload.len()..).unwrap_or_default();
        if let Ok(message) = ipc::decode::<FromWorker>(payload) {
            messages.push((u32::from(about >> 1), about & 1 == 1, message));
        }
    }
    fuzzing::request(asked, &info, messages);
}

/// The words of a board at several times.
pub fn board(bytes: &[u8]) {
    const WORD: usize = size_of::<u64>();
    // Only the first words are the worker's.
    let looks = bytes.chunks(6 * WORD).take(64).map(|look| {
        let mut words = [0; WORDS];
        for (word, bytes) in words.iter_mut().zip(look.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        words
    });
    fuzzing::board(&looks.collect::<Vec<_>>());
}

/// What a dead worker left in a request's cache, which the next one goes on with.
pub fn cache(bytes: &[u8]) {
    thread_local! {
        static MODEL: RefCell<(Generator, TempDir)> = RefCell::new(small());
    }
    MODEL.with_borrow_mut(|(model, _file)| {
        let job = Job {
            request: RequestId(1),
            prompt: JobPrompt::Ids(vec![1, 2, 3, 4, 5, 6]),
            generated: Vec::new(),
            delivered: 0,
            chunk: CHUNK,
            max_tokens: Some(4),
            sampling: Sampling::default(),
            seed: 0,
            stop: Vec::new(),
            ignore_end: true,
            template_vars: String::new(),
            cache: true,
        };
        let memory = left(bytes, model);
        let mut ends = 0;
        generate::run(model, &job, Some(memory), &Silent, &mut |message| {
            match message {
                FromWorker::Token { index, id, .. } => {
                    assert!(index < 4 && id < TOKENS, "token {index} is {id}");
                }
                FromWorker::Done { .. } | FromWorker::Failed { .. } => ends += 1,
                other => panic!("{other:?} is not expected"),
            }
            ControlFlow::Continue(())
        });
        assert_eq!(ends, 1, "a job has one end");
    });
}

/// Tokens of one request of the small model.
const CONTEXT: u32 = 32;
/// Tokens that the small model knows.
const TOKENS: u32 = 11;

/// A model that computes in no time, and its file.
fn small() -> (Generator, TempDir) {
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("cannot make a folder: {error}"));
    let path = folder.path().join("model.gguf");
    let written = fs::write(&path, include_bytes!("../../fuzz/seeds/model/llama"));
    written.unwrap_or_else(|error| panic!("cannot write the model: {error}"));
    let spec = ModelSpec { context: Some(CONTEXT), ..ModelSpec::new("small", path.to_string_lossy()) };
    (load_generator(&spec).unwrap_or_else(|error| panic!("{}", chain(&error))), folder)
}

/// A cache of this model with these bytes, which say of themselves that they are this model's.
fn left(bytes: &[u8], model: &Generator) -> OwnedFd {
    /// Where a cache says of which model it is: behind the first word of its record.
    const IDENTITY: u64 = MEMORY_HEAD as u64 + 4;
    let size = cache_size(model);
    let memory = sealed_memory("cache", size).unwrap_or_else(|error| panic!("no memory: {error}"));
    let file = File::from(memory);
    let most = bytes.len().min(usize::try_from(size).unwrap_or(usize::MAX));
    let written = file.write_all_at(&bytes[..most], 0);
    let written = written.and_then(|()| file.write_all_at(&model.identity.to_le_bytes(), IDENTITY));
    written.unwrap_or_else(|error| panic!("cannot write memory: {error}"));
    file.into()
}

/// Progress that nobody watches.
pub(super) struct Silent;

impl Pace for Silent {
    fn layer(&self) -> usize {
        1
    }
}

impl Progress for Silent {
    fn phase(&self, _: Phase) {}
    fn prompt(&self, _: u64) {}
    fn generated(&self, _: u64) {}
    fn tick(&self) {}
    fn stop_requested(&self, _: RequestId) -> bool {
        false
    }
}
