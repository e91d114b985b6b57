//! A text that a model continues, as it must be known for another worker to go on with it.
use super::{ProtocolViolation, Times, WorkerReply};
use ipc::{Done, FinishReason, FromWorker, GenerateRequest, Job, JobPrompt, Prompt, RequestId, Response, TokenCounts};
use policy::Identity;
use std::{
    mem,
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, Instant},
};
use system::{foreign_text::chain, sealed_memory};

/// What is kept of it.
#[derive(Debug)]
pub(crate) struct Generation {
    /// What it asks for; its prompt is the next field.
    asked: GenerateRequest,
    /// What the model reads, shared with the job that is being sent.
    prompt: Arc<Prompt>,
    seed: u64,
    /// Fixed by the first worker that read the prompt, for as long as the model is the same.
    prompt_ids: Option<Vec<u32>>,
    /// What the last worker had loaded.
    identity: Option<Identity>,
    generated: Vec<u32>,
    delivered: u64,
    /// When the newest worker was given the job.
    given: Option<Instant>,
    /// When the first and the last token were chosen.
    pieces: Option<(Instant, Instant)>,
    end: Option<End>,
    /// What its workers keep of it in memory, for the next one. It is never mapped here.
    cache: Option<Arc<OwnedFd>>,
    /// Whether the newest worker found one there.
    inherited: bool,
    /// Tokens, of the prompt and of the answer, that the workers have got through with this cache.
    reached: u64,
}

/// How its worker ended it.
#[derive(Debug)]
struct End {
    text: String,
    finish: FinishReason,
    counts: TokenCounts,
}

impl Generation {
    /// `seed` is used if the client has not chosen one.
    pub(super) fn new(mut asked: GenerateRequest, seed: u64) -> Generation {
        let prompt = Arc::new(mem::replace(&mut asked.prompt, Prompt::Raw(String::new())));
        Generation {
            prompt,
            seed: asked.sampling.seed.unwrap_or(seed),
            asked,
            prompt_ids: None,
            identity: None,
            generated: Vec::new(),
            delivered: 0,
            given: None,
            pieces: None,
            end: None,
            cache: None,
            inherited: false,
            reached: 0,
        }
    }

    /// Forgets what a worker has made of the prompt that had loaded something else. Of what that
    /// one had generated nobody goes on with anything.
    pub(super) fn begin_with(&mut self, identity: Identity) {
        if self.identity.replace(identity) != Some(identity) && !self.has_begun() {
            self.prompt_ids = None;
            self.cache = None;
        }
    }

    /// The cache that the next worker gets, of `size` bytes, with what the last one left there;
    /// none if there is none, or if it cannot be had.
    pub(super) fn cache(&mut self, id: RequestId, size: u64) -> Option<Arc<OwnedFd>> {
        self.inherited = self.cache.is_some();
        if self.cache.is_none() && size > 0 {
            match sealed_memory("cache", size) {
                Ok(memory) => self.cache = Some(Arc::new(memory)),
                Err(error) => tracing::warn!(%id, "it has to do without a cache: {}", chain(&error)),
            }
        }
        self.cache.clone()
    }

    /// Its worker has died, and says to have got through so many tokens. If it got no further than
    /// the one whose cache it went on with, what it found there may be why it died: the next one
    /// gets an empty one.
    pub(super) fn worker_died(&mut self, reached: u64) {
        self.reached = if self.inherited && reached <= self.reached {
            self.cache = None;
            0
        } else {
            reached
        };
    }

    /// What the next worker gets. A fresh job takes the prompt along; it is kept until the first
    /// token has come.
    pub(super) fn job(&mut self, request: RequestId, chunk: u32, cache: bool, now: Instant) -> Job {
        self.given = Some(now);
        let prompt = match &self.prompt_ids {
            Some(ids) => JobPrompt::Ids(ids.clone()),
            None => JobPrompt::Fresh(Arc::clone(&self.prompt)),
        };
        Job {
            request,
            prompt,
            generated: self.generated.clone(),
            delivered: self.delivered,
            chunk,
            max_tokens: self.asked.max_tokens,
            sampling: self.asked.sampling,
            seed: self.seed,
            stop: self.asked.stop.clone(),
            ignore_end: self.asked.ignore_end,
            // A map of texts has no key that JSON cannot say.
            template_vars: serde_json::to_string(&self.asked.template_vars).unwrap_or_default(),
            cache,
        }
    }

    /// How many tokens there are of the answer, and when the first and the last one were chosen.
    pub(super) fn generated(&self) -> (u64, Option<(Instant, Instant)>) {
        (self.generated.len() as u64, self.pieces)
    }

    /// When a token was chosen, as far as its worker can be believed: not after it was heard of,
    /// and not before the one that it follows.
    fn note_piece(&mut self, at_us: u64, now: Instant) {
        let said = self.given.and_then(|given| given.checked_add(Duration::from_micros(at_us)));
        let at = said.unwrap_or(now).min(now);
        let (first, last) = self.pieces.unwrap_or((at, at));
        self.pieces = Some((first, last.max(at)));
    }

    /// How many tokens the prompt has, once a worker has read it.
    pub(super) fn prompt_tokens(&self) -> Option<u64> {
        self.prompt_ids.as_ref().map(|ids| ids.len() as u64)
    }

    /// Whether anything has been generated.
    pub(super) fn has_begun(&self) -> bool {
        !self.generated.is_empty()
    }

    /// Takes in what a worker says whose model reads and writes at most `context` tokens.
    pub(super) fn hear(
        &mut self,
        message: FromWorker,
        context: u32,
        now: Instant,
    ) -> Result<WorkerReply, ProtocolViolation> {
        let context = context as usize;
        match message {
            FromWorker::Prompt { ids, .. } if self.prompt_ids.is_none() && ids.len() <= context => {
                let prompt_tokens = u32::try_from(ids.len()).unwrap_or(u32::MAX);
                self.prompt_ids = Some(ids);
                Ok(WorkerReply::Started { prompt_tokens })
            }
            FromWorker::Token { index, id, text, at_us, .. } => {
                let read = self.prompt_ids.as_ref().map_or(0, Vec::len);
                let is_next = index as usize == self.generated.len() && self.end.is_none();
                if !is_next || self.generated.len() + read >= context {
                    return Err(ProtocolViolation);
                }
                if self.pieces.is_none() {
                    // The text has served: its ids are not forgotten any more.
                    self.prompt = Arc::new(Prompt::Raw(String::new()));
                }
                self.note_piece(at_us, now);
                self.generated.push(id);
                self.delivered += text.len() as u64;
                Ok(WorkerReply::More(vec![Response::Piece { text, token: id }]))
            }
            FromWorker::Done { text, finish, counts, .. } => {
                self.end.get_or_insert(End { text, finish, counts });
                Ok(WorkerReply::Done(Vec::new()))
            }
            _ => Err(ProtocolViolation),
        }
    }

    pub(super) fn answer(&mut self, times: Times, attempts: u32, now: Instant) -> Option<Response> {
        let End { text, finish, counts } = self.end.take()?;
        Some(Response::Done(Done {
            text,
            finish,
            prompt_tokens: counts.prompt,
            completion_tokens: counts.completion,
            attempts,
            seed: self.seed,
            wait_us: times.after(times.dispatched, now),
            first_piece_us: times.after(self.pieces.map(|(first, _)| first), now),
            last_piece_us: self.pieces.map(|(_, last)| times.after(Some(last), now)),
            total_us: times.after(None, now),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: RequestId = RequestId(1);

    /// A generation whose worker was given it at `given` and says its tokens' times.
    fn heard(given: Instant, said: &[(u64, Instant)]) -> Generation {
        let mut generation = Generation::new(GenerateRequest::raw("ab"), 1);
        generation.job(REQUEST, 1, false, given);
        let prompt = FromWorker::Prompt { request: REQUEST, ids: vec![1, 2] };
        generation.hear(prompt, 100, given).unwrap();
        for (index, (at_us, now)) in (0..).zip(said) {
            let token = FromWorker::Token { request: REQUEST, index, id: 7, text: "x".into(), at_us: *at_us };
            generation.hear(token, 100, *now).unwrap();
        }
        generation
    }

    fn times(generation: &Generation, given: Instant) -> (u128, u128) {
        let (first, last) = generation.generated().1.unwrap();
        (first.duration_since(given).as_micros(), last.duration_since(given).as_micros())
    }

    #[test]
    fn tokens_that_are_heard_together_have_their_own_times() {
        let given = Instant::now();
        let now = given + Duration::from_micros(900);
        let generation = heard(given, &[(100, now), (300, now), (800, now)]);
        assert_eq!(times(&generation, given), (100, 800));
    }

    #[test]
    fn a_time_that_cannot_be_true_is_not_believed() {
        let given = Instant::now();
        let now = given + Duration::from_micros(900);
        assert_eq!(times(&heard(given, &[(u64::MAX, now)]), given), (900, 900));
        assert_eq!(times(&heard(given, &[(901, now), (5, now)]), given), (900, 900), "back in time");
        assert_eq!(times(&heard(given, &[(500, now), (5, now)]), given), (500, 500));
    }

    #[test]
    fn the_next_worker_counts_from_when_it_was_given_the_job() {
        let given = Instant::now();
        let mut generation = heard(given, &[(100, given + Duration::from_micros(200))]);
        let again = given + Duration::from_micros(1000);
        generation.job(REQUEST, 1, false, again);
        let token = FromWorker::Token { request: REQUEST, index: 1, id: 7, text: "x".into(), at_us: 50 };
        generation.hear(token, 100, again + Duration::from_secs(1)).unwrap();
        assert_eq!(times(&generation, given), (100, 1050));
    }
}
