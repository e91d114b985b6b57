//! A cache that outlives the worker: wherever it dies, its successor goes on with the same bits and
//! computes no token twice; and what is not this text's cache is not believed.
use crate::common::{job, load, run, timeless};
use ipc::{FromWorker, Job, JobPrompt, Prompt, RequestId, board::Phase};
use model::text::Generator;
use model::text::Pace;
use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
    unistd::ftruncate,
};
use std::{
    cell::{Cell, RefCell},
    fs::{self, File},
    ops::ControlFlow,
    os::{fd::OwnedFd, unix::fs::FileExt},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::Path,
};
use system::MEMORY_HEAD;
use worker::cache::Cache;
use worker::cache::Text;
use worker::generate;
use worker::generate::Progress;
use worker::loaded_model::cache_size;

/// 39 tokens of the pocket model.
const PROMPT: &str = "Long ago, in a valley, lived a rabbit called Mia. Mia had a red candle and loved it very much. One morning \
                      the candle was gone. A rabbit named Rosa came out of the";

/// Memory as the supervisor gives it to a request.
fn memory(model: &Generator) -> OwnedFd {
    let memory = memfd_create("cache", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
    ftruncate(&memory, i64::try_from(cache_size(model)).unwrap()).unwrap();
    fcntl(&memory, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL))
        .unwrap();
    memory
}

/// What a worker does between two messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Layer,
    /// Something that may come between a step and the choice of its token.
    Fed,
    Other,
}

/// Counts what a worker does, and dies at one of these things.
struct Life {
    /// The number of the event at which it dies.
    end: usize,
    events: Cell<usize>,
    layers: Cell<usize>,
    last: Cell<Event>,
}

impl Life {
    fn until(end: usize) -> Life {
        Life { end, events: Cell::new(0), layers: Cell::new(0), last: Cell::new(Event::Other) }
    }

    fn event(&self, event: Event) {
        self.last.set(event);
        if self.events.replace(self.events.get() + 1) == self.end {
            // Unlike a panic, this says nothing.
            resume_unwind(Box::new("killed"));
        }
        if event == Event::Layer {
            self.layers.set(self.layers.get() + 1);
        }
    }
}

impl Pace for Life {
    fn layer(&self) -> usize {
        self.event(Event::Layer);
        // Another number of threads for each layer of each life.
        1 + (self.layers.get() % 3 + self.end % 3) % 3
    }
}

impl Progress for Life {
    fn phase(&self, _: Phase) {
        self.event(Event::Fed);
    }
    fn prompt(&self, _: u64) {
        self.event(Event::Fed);
    }
    fn generated(&self, _: u64) {
        self.event(Event::Other);
    }
    fn tick(&self) {
        self.event(Event::Fed);
    }
    fn stop_requested(&self, _: RequestId) -> bool {
        self.event(Event::Other);
        false
    }
}

/// All that a worker said before it ended, and whether it lived to the end of the job.
fn live(model: &mut Generator, job: &Job, memory: &OwnedFd, life: &Life) -> (Vec<FromWorker>, bool) {
    let messages = RefCell::new(Vec::new());
    let lived = catch_unwind(AssertUnwindSafe(|| {
        generate::run(model, job, Some(memory.try_clone().unwrap()), life, &mut |message| {
            messages.borrow_mut().push(timeless(message));
            ControlFlow::Continue(())
        });
    }));
    (messages.into_inner(), lived.is_ok())
}

/// The job as the next worker gets it, if `said` is all that the supervisor has got, but for the
/// last `lost` tokens.
fn next(job: &Job, prompt: &[u32], said: &[FromWorker], lost: usize) -> Job {
    let tokens: Vec<(u32, usize)> = said
        .iter()
        .filter_map(|message| match message {
            FromWorker::Token { id, text, .. } => Some((*id, text.len())),
            _ => None,
        })
        .collect();
    let heard = &tokens[..tokens.len().saturating_sub(lost)];
    Job {
        prompt: JobPrompt::Ids(prompt.to_vec()),
        generated: heard.iter().map(|(id, _)| *id).collect(),
        delivered: heard.iter().map(|(_, length)| *length as u64).sum(),
        ..job.clone()
    }
}

fn taken_over_anywhere(path: &str, chunk: u32, lost: usize) {
    let mut models = [load(path, None), load(path, None)];
    let job = Job { chunk, max_tokens: Some(9), ignore_end: true, ..job(Prompt::Raw(PROMPT.into())) };
    let whole = run(&mut models[0], &job);
    let FromWorker::Prompt { ids: prompt, .. } = &whole[0] else { panic!("{whole:?}") };
    let prompt = prompt.clone();
    let counted = Life::until(usize::MAX);
    let own = memory(&models[0]);
    assert_eq!(live(&mut models[0], &job, &own, &counted), (whole.clone(), true));
    let (events, layers) = (counted.events.get(), counted.layers.get());
    let steps = prompt.len().div_ceil(chunk as usize) + 8;
    let blocks = layers / steps;
    assert_eq!((layers % steps, whole.len()), (0, 11), "{layers} layers in {steps} steps");
    for end in 0..events {
        let memory = memory(&models[0]);
        let first = Life::until(end);
        let (said, lived) = live(&mut models[0], &job, &memory, &first);
        assert!(!lived);
        let second = Life::until(usize::MAX);
        let rest = next(&job, &prompt, &said, lost);
        let (found, _) = live(&mut models[1], &rest, &memory, &second);
        let expected = whole.len() - 1 - rest.generated.len();
        assert_eq!(found, whole[whole.len() - expected..], "after event {end}");
        // A step is done when its token has been chosen; between the two the step is lost.
        let done = first.layers.get() / blocks * blocks;
        let again = done + second.layers.get() - layers;
        assert!(
            again == 0 || (first.last.get() == Event::Fed && again == blocks),
            "after event {end}: {again} layers again"
        );
    }
}

#[test]
fn a_killed_worker_is_followed_anywhere() {
    taken_over_anywhere("builtin:pocket", 32, 0);
}

#[test]
fn a_prompt_in_small_chunks_is_gone_on_with() {
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("pocket/pocket-q4_k_m.gguf");
    taken_over_anywhere(packed.to_str().unwrap(), 9, 0);
}

#[test]
fn tokens_that_the_supervisor_has_not_heard_of_come_again() {
    taken_over_anywhere("builtin:pocket", 18, 2);
}

/// A cache in which the job has gone to its end, what the job says, and how many layers it took.
fn complete(model: &mut Generator, job: &Job) -> (OwnedFd, Vec<FromWorker>, usize) {
    let memory = memory(model);
    let life = Life::until(usize::MAX);
    let (messages, _) = live(model, job, &memory, &life);
    (memory, messages, life.layers.get())
}

fn ids(ids: &[u32]) -> Job {
    Job {
        prompt: JobPrompt::Ids(ids.to_vec()),
        max_tokens: Some(4),
        ignore_end: true,
        chunk: 4,
        ..job(Prompt::Raw(String::new()))
    }
}

#[test]
fn what_is_of_another_text_is_not_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let bytes = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("pocket/pocket-q8_0.gguf")).unwrap();
    for name in ["one", "other"] {
        fs::write(path(name), &bytes).unwrap();
    }
    let (mut one, mut other) = (load(&path("one"), None), load(&path("other"), None));
    let job = ids(&[300, 301, 302, 303, 304, 305]);
    let (memory, right, all) = complete(&mut one, &job);
    let layers = |model: &mut Generator, job: &Job| {
        let life = Life::until(usize::MAX);
        let (found, _) = live(model, job, &memory, &life);
        (found, life.layers.get())
    };
    // Its own text is complete: nothing is computed.
    assert_eq!(layers(&mut one, &job), (right.clone(), 0));
    assert_eq!(layers(&mut other, &job), (right.clone(), all));
    let changed = ids(&[300, 301, 302, 303, 304, 306]);
    let expected = complete(&mut one, &changed).1;
    assert_eq!(layers(&mut one, &changed), (expected, all));
    let shorter = ids(&[300, 301, 302, 303, 304]);
    let expected = complete(&mut one, &shorter).1;
    assert_eq!(layers(&mut one, &shorter), (expected, all));
    let chunks = Job { chunk: 2, ..job.clone() };
    let expected = complete(&mut one, &chunks);
    assert_eq!(layers(&mut one, &chunks), (expected.1, expected.2));
    // An answer that the supervisor does not know.
    let FromWorker::Token { id, .. } = right[0] else { panic!("{right:?}") };
    let known = Job { generated: vec![id + 1], ..chunks };
    let expected = complete(&mut one, &known);
    assert_eq!(layers(&mut one, &known), (expected.1, expected.2));
}

#[test]
fn ids_that_no_token_has_are_not_gone_on_with() {
    let mut model = load("builtin:pocket", None);
    let prompt = [300, 301, 302];
    let (_, right, all) = complete(&mut model, &ids(&prompt));
    for id in [1536, u32::MAX] {
        let memory = memory(&model);
        let mut cache = Cache::shared(&memory, model.context, model.model.cache_length()).unwrap();
        let text = Text { model: model.identity, prompt: &prompt, chunk: 4 };
        cache.begin(text);
        cache.commit_token(3, 0, id);
        assert_eq!(cache.find(text, &[]).generated, [id]);
        drop(cache);
        let life = Life::until(usize::MAX);
        assert_eq!(live(&mut model, &ids(&prompt), &memory, &life), (right.clone(), true));
        assert_eq!(life.layers.get(), all);
    }
}

#[test]
fn rubbish_is_no_cache() {
    let mut model = load("builtin:pocket", Some(32));
    let job = ids(&[300, 301, 302, 303, 304, 305]);
    let (memory, right, all) = complete(&mut model, &job);
    let numbers = 2 * model.model.cache_length();
    let record = usize::try_from(cache_size(&model)).unwrap() - numbers;
    let file = File::from(memory.try_clone().unwrap());
    let mut good = vec![0; record + numbers];
    file.read_exact_at(&mut good, 0).unwrap();
    let mut again = |bytes: &[u8]| {
        file.write_all_at(bytes, 0).unwrap();
        let life = Life::until(usize::MAX);
        let (found, lived) = live(&mut model, &job, &memory, &life);
        assert!(lived);
        (found, life.layers.get())
    };
    assert_eq!(again(&good), (right.clone(), 0));
    // Each byte of the record, the number before it included, in several wrong ways.
    for at in 0..record {
        for flip in [1, 0x80, 0xFF] {
            let mut bad = good.clone();
            bad[at] ^= flip;
            let (found, layers) = again(&bad);
            assert!(matches!(found.last(), Some(FromWorker::Done { .. })), "{at}: {found:?}");
            // The record says what text the cache is of before it has the answer's ids, whose place
            // another context would change.
            if (MEMORY_HEAD..MEMORY_HEAD + 4 * (6 + 6)).contains(&at) {
                assert_eq!((found, layers), (right.clone(), all), "{at}");
            }
        }
    }
    let noise: Vec<u8> = (0..good.len() as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    assert_eq!(again(&noise), (right.clone(), all));
    assert_eq!(again(&vec![0xFF; good.len()]), (right, all));
}

#[test]
fn memory_that_could_fail_is_refused() {
    let mut model = load("builtin:pocket", None);
    let job = ids(&[300]);
    let small = memfd_create("small", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
    ftruncate(&small, i64::try_from(cache_size(&model)).unwrap() - 1).unwrap();
    let unsealed = memfd_create("unsealed", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
    ftruncate(&unsealed, i64::try_from(cache_size(&model)).unwrap()).unwrap();
    fcntl(&small, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).unwrap();
    let file = OwnedFd::from(tempfile::tempfile().unwrap());
    for memory in [small, unsealed, file] {
        let (found, _) = live(&mut model, &job, &memory, &Life::until(usize::MAX));
        assert!(matches!(found[..], [FromWorker::Failed { .. }]), "{found:?}");
    }
}
