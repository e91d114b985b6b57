//! The life of one batch of texts: ids, group by group through the model, vectors back in order.
//!
//! It keeps nothing for the next batch, decides nothing about failures, and does not split a batch
//! between workers.
use crate::generate::Progress;
use ipc::{EmbedJob, FailureKind, FromWorker, TextRole, board::Phase};
use model::embed::bert::Bert;
use std::ops::ControlFlow;
use system::foreign_text::chain;

/// Tokens that go through the model together: enough that its weights are worth fetching, few
/// enough that vectors come steadily.
const TOKENS: usize = 512;
/// Numbers in one message, far below what a frame holds.
const NUMBERS: usize = 256 << 10;

/// Serves one batch to its end: vectors in order and without gaps, then one end. It returns early,
/// without an end, when `emit` breaks.
pub fn run(
    bert: &mut Bert,
    job: &EmbedJob,
    progress: &dyn Progress,
    emit: &mut dyn FnMut(FromWorker) -> ControlFlow<()>,
) {
    let request = job.request;
    let end = match serve(bert, job, progress, emit) {
        Ok(tokens) => FromWorker::Embedded { request, tokens },
        Err(Ended::Failed(kind, message)) => FromWorker::Failed { request, kind, message },
        Err(Ended::Unheard) => return,
    };
    // It was the last message: whether anybody heard it makes no difference here.
    let _heard = emit(end);
}

/// Why there are not all vectors.
enum Ended {
    Failed(FailureKind, String),
    /// Nobody hears the messages any more.
    Unheard,
}

/// Returns how many tokens the model has read.
fn serve(
    bert: &mut Bert,
    job: &EmbedJob,
    progress: &dyn Progress,
    emit: &mut dyn FnMut(FromWorker) -> ControlFlow<()>,
) -> Result<u64, Ended> {
    let cancelled = || Ended::Failed(FailureKind::Cancelled, "the request was cancelled".to_owned());
    let mut go_on = || {
        progress.tick();
        if progress.stop_requested(job.request) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    progress.phase(Phase::Embed);
    let total = job.texts.len();
    progress.prompt(0);
    let (mut done, mut tokens) = (0, 0);
    while done < total {
        let group = group(bert, &job.texts[done..], job.role, &mut go_on)?.ok_or_else(cancelled)?;
        let ControlFlow::Continue(vectors) = bert.embed(&group, &mut go_on) else { return Err(cancelled()) };
        for (number, (vector, ids)) in (done..).zip(vectors.iter().zip(&group)) {
            let wrong = if !vector.iter().all(|value| value.is_finite()) {
                "is not of finite numbers"
            } else if !ids.is_empty() && vector.iter().all(|value| *value == 0.0) {
                "has no length: its file is broken"
            } else {
                continue;
            };
            let message = format!("the model's vector of text {number} {wrong}");
            return Err(Ended::Failed(FailureKind::Engine, message));
        }
        let first = done;
        done += vectors.len();
        tokens += group.iter().map(|text| text.len() as u64).sum::<u64>();
        progress.prompt(done as u64);
        let message = FromWorker::Vectors { request: job.request, first: first as u32, vectors };
        if emit(message).is_break() {
            return Err(Ended::Unheard);
        }
    }
    Ok(tokens)
}

/// The ids of the next texts, at least of one; `None` if the batch must stop.
fn group(
    bert: &Bert,
    texts: &[String],
    role: TextRole,
    go_on: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Option<Vec<Vec<u32>>>, Ended> {
    let most = (NUMBERS / bert.dimensions()).max(1);
    let mut group = Vec::new();
    let mut tokens = 0;
    for text in texts.iter().take(most) {
        let ids = bert.ids(text, role).map_err(|error| Ended::Failed(FailureKind::BadRequest, chain(&error)))?;
        tokens += ids.len();
        group.push(ids);
        // A long text takes a while to tokenise.
        if go_on().is_break() {
            return Ok(None);
        }
        if tokens >= TOKENS {
            break;
        }
    }
    Ok(Some(group))
}
