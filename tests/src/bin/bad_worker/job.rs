//! One job, done right but for what the scripts spoil.
use crate::{
    Bad, act,
    act::Body,
    script::{Moment, Script},
};
use integration_tests::vector_of;
use ipc::{
    EmbedJob, FailureKind, FromWorker, Job, JobPrompt, ModelKind, Prompt, RequestId, ToWorker, TokenizeJob,
    board::{Phase, Word},
};
use std::{
    ops::ControlFlow,
    sync::atomic::Ordering::{Relaxed, Release},
    thread,
    time::Duration,
};
use system::Board;
use system::foreign_text::chain;
use worker::generate::{self, Progress};
use worker::serve::BoardProgress;

/// Vectors that are sent in one message.
const AT_ONCE: usize = 3;

/// Does one job. `Break`: the supervisor has hung up.
pub(crate) fn run(bad: &mut Bad, job: &ToWorker, mut body: Body<'_>) -> Result<ControlFlow<()>, String> {
    let Some((request, text)) = about(job, bad) else { return Err("the messages are out of order".to_owned()) };
    body.request = request;
    let of_prompt = Script::in_prompt(&text, &bad.folder)?;
    let of_path = bad.script.clone();
    let scripts: Vec<&Script> = [&of_path].into_iter().chain(&of_prompt).collect();
    let progress = BoardProgress(body.board);
    let mut teller = Teller { body, scripts };
    teller.strike(Moment::Start);
    Ok(match (job, bad.kind()) {
        (ToWorker::Run(job), ModelKind::Generate) => {
            let mut said = ControlFlow::Continue(());
            let memory = teller.body.end.stream().take_descriptor();
            let memory = memory.filter(|_| job.cache && bad.script.cache.is_none());
            generate::run(&mut bad.model, job, memory, &progress, &mut |message| {
                said = teller.say(message);
                said
            });
            said
        }
        (ToWorker::Embed(job), ModelKind::Embed) => embed(job, bad.script.text_time, &mut teller),
        (ToWorker::Tokenize(job), _) => teller.say(tokenize(bad, job)),
        _ => {
            let message = "this model cannot do that".to_owned();
            teller.say(FromWorker::Failed { request, kind: FailureKind::BadRequest, message })
        }
    })
}

/// What a job is about, and the text that may be a script.
fn about(job: &ToWorker, bad: &Bad) -> Option<(RequestId, String)> {
    match job {
        ToWorker::Go(_) => None,
        ToWorker::Run(job) => Some((job.request, prompt(job, bad))),
        ToWorker::Embed(job) => {
            let script = job.texts.iter().find(|text| text.starts_with('!'));
            Some((job.request, script.cloned().unwrap_or_default()))
        }
        ToWorker::Tokenize(job) => Some((job.request, job.text.clone())),
    }
}

/// The text of a prompt, which its ids hold as well.
fn prompt(job: &Job, bad: &Bad) -> String {
    match &job.prompt {
        JobPrompt::Fresh(prompt) => match prompt.as_ref() {
            Prompt::Raw(text) => text.clone(),
            Prompt::Chat(messages) => messages.last().map(|last| last.text().to_owned()).unwrap_or_default(),
        },
        JobPrompt::Ids(ids) => {
            let bytes: Vec<u8> =
                ids.iter().filter_map(|id| bad.model.tokenizer.bytes(*id)).flatten().copied().collect();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            // Before a message there are the words of a chat template, unless it is the echo
            // engine's.
            let begin = text.find('!').filter(|_| bad.script.model.is_some());
            text[begin.unwrap_or(0)..].to_owned()
        }
    }
}

fn embed(job: &EmbedJob, time: Duration, teller: &mut Teller<'_>) -> ControlFlow<()> {
    let progress = BoardProgress(teller.body.board);
    progress.phase(Phase::Embed);
    for (number, texts) in job.texts.chunks(AT_ONCE).enumerate() {
        for _ in texts {
            wait(time);
            if progress.stop_requested(job.request) {
                // Nobody waits for it, but the supervisor wants to know that it has stopped.
                let message = "it was stopped".to_owned();
                return teller.say(FromWorker::Failed { request: job.request, kind: FailureKind::Cancelled, message });
            }
            progress.tick();
        }
        let first = number * AT_ONCE;
        progress.prompt((first + texts.len()) as u64);
        let vectors = texts.iter().map(|text| vector_of(text, teller.body.dimensions)).collect();
        teller.say(FromWorker::Vectors { request: job.request, first: first as u32, vectors })?;
    }
    let tokens = job.texts.iter().map(|text| text.len() as u64).sum();
    progress.phase(Phase::Idle);
    teller.say(FromWorker::Embedded { request: job.request, tokens })
}

fn tokenize(bad: &Bad, job: &TokenizeJob) -> FromWorker {
    let request = job.request;
    match bad.model.tokenizer.encode(&job.text, job.special) {
        Ok(ids) => FromWorker::Tokenized { request, ids },
        Err(error) => FromWorker::Failed { request, kind: FailureKind::BadRequest, message: chain(&error) },
    }
}

#[expect(clippy::disallowed_methods, reason = "to take time is what this worker is told to do")]
fn wait(time: Duration) {
    if !time.is_zero() {
        thread::sleep(time);
    }
}

/// Says what is to be said, and does what the scripts say for each moment.
struct Teller<'a> {
    body: Body<'a>,
    scripts: Vec<&'a Script>,
}

impl Teller<'_> {
    fn say(&mut self, message: FromWorker) -> ControlFlow<()> {
        follow(self.body.board);
        // The moment of a token or a vector is before it is sent, all others are after what they
        // are named for.
        let (index, moment) = match &message {
            FromWorker::Token { index, .. } | FromWorker::Vectors { first: index, .. } => {
                (Some(*index), Moment::Token(*index))
            }
            FromWorker::Hello { .. } | FromWorker::Prompt { .. } => (None, Moment::Prompt),
            FromWorker::Done { .. }
            | FromWorker::Failed { .. }
            | FromWorker::Embedded { .. }
            | FromWorker::Tokenized { .. } => (None, Moment::Answer),
        };
        if let Some(index) = index {
            self.body.index = index;
            self.strike(moment);
        }
        if self.body.end.send(&message).is_err() {
            return ControlFlow::Break(());
        }
        if index.is_none() {
            self.strike(moment);
        }
        ControlFlow::Continue(())
    }

    fn strike(&mut self, moment: Moment) {
        follow(self.body.board);
        strike(&self.scripts, moment, &mut self.body);
    }
}

/// Does what the scripts say for this moment.
pub(crate) fn strike(scripts: &[&Script], moment: Moment, body: &mut Body<'_>) {
    for script in scripts.iter().filter(|script| script.strikes(moment)) {
        act::alone(&script.action);
        act::act_with(&script.action, body);
    }
}

/// Says that it computes with as many threads as it may.
fn follow(board: &Board) {
    let budget = board.word(Word::Budget).load(Relaxed).max(1);
    board.word(Word::Threads).store(budget, Release);
}
