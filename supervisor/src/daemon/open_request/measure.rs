//! What the log says of a request when it has ended: who served it, how long that took, and how
//! much there was of it.
use super::{Kind, OpenRequest};
use crate::log::LoggedPrompt;
use ipc::Life;
use std::time::{Duration, Instant};

/// A worker as the log speaks of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServedBy {
    pub(crate) life: Life,
    pub(crate) pid: Option<u32>,
}

/// What is known of a request.
#[derive(Debug)]
pub(crate) struct Measure<'a> {
    pub(crate) kind: &'static str,
    /// From its submission to its first dispatch; to its end if there was none.
    pub(crate) wait: Duration,
    /// From its submission to its first token.
    pub(crate) first_token: Option<Duration>,
    pub(crate) total: Duration,
    pub(crate) prompt_tokens: Option<u64>,
    /// Tokens generated, or ids found.
    pub(crate) tokens: Option<u64>,
    /// Tokens a second, from the first to the last one.
    pub(crate) speed: Option<f64>,
    /// Vectors that have gone to the client.
    pub(crate) texts: Option<u64>,
    pub(crate) attempts: u32,
    pub(crate) server: Option<ServedBy>,
    pub(crate) noted: &'a LoggedPrompt,
}

impl OpenRequest {
    /// What is known of it now.
    pub(crate) fn measure(&self, now: Instant) -> Measure<'_> {
        let since = |then: Instant| then.duration_since(self.times.submitted);
        let mut measure = Measure {
            kind: "generate",
            wait: since(self.times.dispatched.unwrap_or(now)),
            first_token: None,
            total: since(now),
            prompt_tokens: None,
            tokens: None,
            speed: None,
            texts: None,
            attempts: self.attempts,
            server: self.server,
            noted: &self.noted,
        };
        match &self.kind {
            Kind::Generation(generation) => {
                let (tokens, pieces) = generation.generated();
                measure.first_token = pieces.map(|(first, _)| since(first));
                measure.prompt_tokens = generation.prompt_tokens();
                measure.tokens = self.server.map(|_| tokens);
                let seconds = pieces.map_or(0.0, |(first, last)| last.duration_since(first).as_secs_f64());
                #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
                let speed = tokens.saturating_sub(1) as f64 / seconds;
                measure.speed = (tokens > 1 && seconds > 0.0).then_some(speed);
            }
            Kind::Embedding(embedding) => {
                measure.kind = "embed";
                let (texts, tokens) = embedding.done();
                (measure.texts, measure.prompt_tokens) = self.server.map(|_| (texts, tokens)).unzip();
            }
            Kind::Tokenization(tokenization) => {
                measure.kind = "tokenize";
                measure.tokens = tokenization.count();
            }
        }
        measure
    }
}
