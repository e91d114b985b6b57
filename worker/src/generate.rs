//! The life of one job: its prompt through the model, then one token after another until something
//! ends the answer.
//!
//! A job that a dead worker left goes on where the request's cache ends. Without one it goes the
//! same way again: the same chunks of the prompt, then the ids that were generated already, one by
//! one through the model, as they were the first time. Only then are the bits, and with them the
//! next ids, the same. What it does not do: decide what a failure means, keep anything for the next
//! job, or wait for whoever reads its messages.
use crate::cache::{Cache, Text};
use ipc::{FailureKind, FinishReason, FromWorker, Job, JobPrompt, Prompt, RequestId, TokenCounts, board::Phase};
use jiff::{Timestamp, Zoned, tz::TimeZone};
use model::{
    chat::Conversation,
    detokenizer::TextStream,
    sampling::Sampler,
    text::{Generator, Pace},
    tokenizer::Tokenizer,
};
use std::{io, mem, ops::ControlFlow, os::fd::OwnedFd, time::Instant};
use system::foreign_text::chain;

/// What a running job reports, and where it learns that it must stop.
pub trait Progress: Pace {
    /// It does something else now.
    fn phase(&self, phase: Phase);
    /// So many of the prompt's tokens are done.
    fn prompt(&self, done: u64);
    /// The answer has so many tokens now.
    fn generated(&self, count: u64);
    /// One more step is done.
    fn tick(&self);
    /// Whether this request must stop.
    fn stop_requested(&self, request: RequestId) -> bool;
}

/// Serves one job to its end and hands over what the supervisor must be told: the prompt's ids if
/// it was fresh, each token, and one end. It returns early, without an end, when `emit` breaks.
///
/// `memory` is the request's cache, if it has one: [`ModelInfo::cache`](ipc::ModelInfo::cache)
/// bytes.
pub fn run(
    model: &mut Generator,
    job: &Job,
    memory: Option<OwnedFd>,
    progress: &dyn Progress,
    emit: &mut dyn FnMut(FromWorker) -> ControlFlow<()>,
) {
    let request = job.request;
    let end = match serve(model, job, memory, progress, emit) {
        Ok(Answered { text, finish, counts }) => Some(FromWorker::Done { request, text, finish, counts }),
        Err(Ended::Failed(kind, message)) => Some(FromWorker::Failed { request, kind, message }),
        Err(Ended::Unheard) => None,
    };
    if let Some(end) = end {
        // It was the last message: whether anybody heard it makes no difference here.
        let _heard = emit(end);
    }
}

/// How an answer was completed.
struct Answered {
    text: String,
    finish: FinishReason,
    counts: TokenCounts,
}

/// Why there is no complete answer.
enum Ended {
    Failed(FailureKind, String),
    /// Nobody hears the messages any more.
    Unheard,
}

impl Ended {
    fn engine(error: &dyn std::error::Error) -> Ended {
        Ended::Failed(FailureKind::Engine, chain(error))
    }

    fn bad_request(message: impl Into<String>) -> Ended {
        Ended::Failed(FailureKind::BadRequest, message.into())
    }
}

fn serve(
    model: &mut Generator,
    job: &Job,
    memory: Option<OwnedFd>,
    progress: &dyn Progress,
    emit: &mut dyn FnMut(FromWorker) -> ControlFlow<()>,
) -> Result<Answered, Ended> {
    let mut emit = |message| match emit(message) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Ended::Unheard),
    };
    let go_on = || {
        if progress.stop_requested(job.request) {
            return Err(Ended::Failed(FailureKind::Cancelled, "the request was cancelled".to_owned()));
        }
        Ok(())
    };
    let request = job.request;
    let begun = Instant::now();

    progress.phase(Phase::Prompt);
    let prompt = prompt_ids(model, job)?;
    let room = check(model, job, &prompt)?;
    if let JobPrompt::Fresh(_) = job.prompt {
        emit(FromWorker::Prompt { request, ids: prompt.clone() })?;
    }
    let limit = job.max_tokens.map_or(room, |most| room.min(most as usize));

    let total = prompt.len();
    let text = Text { model: model.identity, prompt: &prompt, chunk: job.chunk };
    let mut cache = open_cache(model, memory).map_err(|error| Ended::engine(&error))?;
    let Generator { model, tokenizer, .. } = model;
    let mut found = cache.find(text, &job.generated);
    if !found.generated.iter().all(|id| (*id as usize) < tokenizer.len()) {
        found = Default::default();
    }
    if found.fed == 0 {
        cache.begin(text);
    }
    model.begin(total);
    let mut logits: &[f32] = &[];
    let mut done = found.fed.min(total);
    progress.prompt(done as u64);
    for chunk in prompt[done..].chunks(job.chunk as usize) {
        go_on()?;
        let computed = model.forward(chunk, done, cache.numbers(), progress);
        logits = computed.map_err(|error| Ended::engine(&error))?;
        done += chunk.len();
        if done < total {
            cache.commit_prompt(done);
        }
        progress.prompt(done as u64);
        progress.tick();
    }

    let mut sampler = Sampler::new(&job.sampling, job.seed);
    let mut stream = TextStream::new(&job.stop, job.delivered);
    let mut answer: Vec<u32> = Vec::new();
    // Text that no message has carried yet.
    let mut text = String::new();
    // What was generated before: the supervisor knows all of the first, and the keys and values of
    // all but the last of the second are there.
    let known = job.generated.len();
    let chosen = if found.generated.is_empty() { &job.generated } else { &found.generated };
    progress.phase(if chosen.is_empty() { Phase::Decode } else { Phase::Replay });
    let finish = loop {
        let index = answer.len();
        if index > 0 && index == chosen.len() {
            progress.phase(Phase::Decode);
        }
        let id = match chosen.get(index) {
            Some(id) => *id,
            None => sampler.sample(logits, index as u32, &prompt, &answer).map_err(|error| Ended::engine(&error))?,
        };
        if index >= found.generated.len() {
            cache.commit_token(total, index, id);
        }
        if tokenizer.is_end(id) && !job.ignore_end {
            break FinishReason::Stop;
        }
        answer.push(id);
        text.push_str(&stream.push(tokenizer.bytes(id).unwrap_or_default()));
        progress.generated(answer.len() as u64);
        if index >= known {
            let at_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            emit(FromWorker::Token { request, index: index as u32, id, text: mem::take(&mut text), at_us })?;
        }
        if stream.stopped() {
            break FinishReason::Stop;
        }
        if answer.len() >= limit {
            break FinishReason::Length;
        }
        go_on()?;
        if total + index < found.fed {
            continue;
        }
        // The last token of an answer is never fed: nothing asks what would come after it.
        let computed = model.forward(&[id], total + index, cache.numbers(), progress);
        logits = computed.map_err(|error| Ended::engine(&error))?;
        progress.tick();
    };
    text.push_str(&stream.finish());
    let counts = TokenCounts { prompt: total as u32, completion: answer.len() as u32 };
    Ok(Answered { text, finish, counts })
}

/// The request's cache, or one that nobody will go on with. Once it is mapped, its descriptor is
/// not needed.
fn open_cache(model: &Generator, memory: Option<OwnedFd>) -> io::Result<Cache> {
    let length = model.model.cache_length();
    match memory {
        Some(memory) => Cache::shared(&memory, model.context, length),
        None => Cache::anonymous(model.context, length),
    }
}

/// The prompt's ids, as they were fixed or as they are now.
fn prompt_ids(model: &Generator, job: &Job) -> Result<Vec<u32>, Ended> {
    let tokenizer = &model.tokenizer;
    // Whatever a text is, it has this many tokens at least: one that is much too long need not be
    // tokenised to know that.
    let check = |text: &str| match text.len() / tokenizer.longest() {
        least if least >= model.context => Err(too_long(format!("at least {least}"), model.context)),
        _ => Ok(()),
    };
    let ids = match &job.prompt {
        JobPrompt::Ids(ids) => return Ok(ids.clone()),
        JobPrompt::Fresh(prompt) => match prompt.as_ref() {
            Prompt::Raw(text) => {
                check(text)?;
                tokenizer.encode(text, true)
            }
            Prompt::Chat(messages) => {
                let Some(chat) = &model.chat else {
                    return Err(Ended::bad_request("the model has no chat template; send a raw prompt instead"));
                };
                let variables = Some(job.template_vars.as_str()).filter(|variables| !variables.is_empty());
                let conversation = Conversation { messages, variables, tools: None };
                let rendered = chat.render(&conversation, &today(), tokenizer);
                let rendered = rendered.map_err(|error| Ended::bad_request(chain(&error)))?;
                check(&rendered.text)?;
                tokenizer.encode_chat(&rendered)
            }
        },
    };
    ids.map_err(|error| Ended::bad_request(chain(&error)))
}

/// The time of day, which some models are told.
#[expect(clippy::disallowed_methods, reason = "it is for a model to read")]
fn today() -> Zoned {
    Timestamp::now().to_zoned(TimeZone::UTC)
}

/// Refuses what cannot be served, and returns how many tokens the answer may have.
fn check(model: &Generator, job: &Job, prompt: &[u32]) -> Result<usize, Ended> {
    if prompt.is_empty() {
        return Err(Ended::bad_request("the prompt has no tokens"));
    }
    if job.chunk == 0 {
        return Err(Ended::bad_request("a prompt cannot be read in chunks of no tokens"));
    }
    known(&model.tokenizer, prompt)?;
    known(&model.tokenizer, &job.generated)?;
    match model.context.checked_sub(prompt.len()) {
        None | Some(0) => Err(too_long(prompt.len().to_string(), model.context)),
        Some(room) => Ok(room),
    }
}

fn known(tokenizer: &Tokenizer, ids: &[u32]) -> Result<(), Ended> {
    match ids.iter().find(|id| **id as usize >= tokenizer.len()) {
        Some(id) => {
            let most = tokenizer.len();
            Err(Ended::bad_request(format!("there is no token {id}: the vocabulary has {most} tokens")))
        }
        None => Ok(()),
    }
}

fn too_long(tokens: String, context: usize) -> Ended {
    let most = context.saturating_sub(1);
    let message = format!("the prompt has {tokens} tokens, but a context of {context} leaves room for {most} at most");
    Ended::Failed(FailureKind::TooLong, message)
}
