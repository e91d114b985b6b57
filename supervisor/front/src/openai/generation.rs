//! A text that is generated: asked for, and sent back whole or as it comes.
use super::{chat::Chat, completions::Completion, sampling::Streaming};
use crate::{
    link::Exchange,
    reply::{Code, Refusal, Reply, event, event_stream, json_reply},
    server::Context,
};
use bytes::Bytes;
use hyper::StatusCode;
use ipc::{FinishReason, GenerateRequest, Request, Response};
use serde_json::Value;
use std::time::Duration;
use tokio::sync::mpsc;

/// Events that wait for a client to take them. What comes then waits in the supervisor.
const WAITING: usize = 64;
/// How long a stream is silent at most: proxies take a silent one for dead.
const SILENCE: Duration = Duration::from_secs(15);
/// What ends a stream.
const DONE: &[u8] = b"data: [DONE]\n\n";
/// What means nothing in a stream.
const COMMENT: &[u8] = b":\n\n";

/// What is asked for, and how it is to be answered.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(super) asked: GenerateRequest,
    pub(super) streaming: Streaming,
    pub(super) dialect: Dialect,
}

/// In which words.
#[derive(Debug)]
pub(super) enum Dialect {
    Chat(Chat),
    Completion(Completion),
}

/// How an answer ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) finish: &'static str,
    pub(super) prompt_tokens: u32,
    pub(super) completion_tokens: u32,
}

impl Generation {
    /// The answer. Its head says how it went, so there is none before a worker has read the prompt.
    pub(crate) async fn answer(self, context: &Context) -> Result<Reply, Refusal> {
        let Generation { asked, streaming, dialect } = self;
        let mut exchange = context.link().ask(&context.caller, Request::Generate(Box::new(asked))).await?;
        let mut model = String::new();
        let mut early = None;
        loop {
            match exchange.next().await? {
                Response::Accepted { model: name, .. } => model = name,
                Response::Started { .. } => break,
                // A worker that takes over had begun before.
                other @ (Response::Piece { .. } | Response::Done(_)) => {
                    early = Some(other);
                    break;
                }
                _ => return Err(nonsense()),
            }
        }
        let answer = Answer { dialect, model, includes_usage: streaming.includes_usage };
        if streaming.is_on {
            let (sender, events) = mpsc::channel(WAITING);
            let patience = context.patience();
            tokio::spawn(async move {
                // The client has gone; with the exchange, its request is dropped.
                let _gone = answer.stream(exchange, early, &Events { sender, patience }).await;
            });
            return Ok(event_stream(events));
        }
        answer.whole(exchange, early).await
    }
}

fn nonsense() -> Refusal {
    Refusal::new(Code::Failed, "the supervisor has said what nobody understands")
}

struct Answer {
    dialect: Dialect,
    model: String,
    includes_usage: bool,
}

/// The client has gone, or takes nothing.
struct Gone;

struct Events {
    sender: mpsc::Sender<Bytes>,
    /// How long a client may take nothing.
    patience: Duration,
}

impl Events {
    async fn send(&self, bytes: impl Into<Bytes>) -> Result<(), Gone> {
        self.sender.send_timeout(bytes.into(), self.patience).await.map_err(|_| Gone)
    }
}

impl Answer {
    async fn whole(self, mut exchange: Exchange, early: Option<Response>) -> Result<Reply, Refusal> {
        let mut text = String::new();
        let mut next = early;
        loop {
            let response = match next.take() {
                Some(response) => response,
                None => exchange.next().await?,
            };
            match response {
                Response::Piece { text: piece, .. } => text.push_str(&piece),
                Response::Done(done) => {
                    text.push_str(&done.text);
                    let ended = ended(&done);
                    let value = match &self.dialect {
                        Dialect::Chat(chat) => chat.answer(&self.model, &text, &ended),
                        Dialect::Completion(completion) => completion.answer(&self.model, &text, &ended),
                    };
                    return Ok(json_reply(StatusCode::OK, &value));
                }
                Response::Started { .. } => {}
                _ => return Err(nonsense()),
            }
        }
    }

    async fn stream(self, mut exchange: Exchange, early: Option<Response>, events: &Events) -> Result<(), Gone> {
        if let Dialect::Chat(chat) = &self.dialect {
            events.send(event(&chat.first(&self.model, self.includes_usage))).await?;
        }
        let mut next = early;
        loop {
            let response = match next.take() {
                Some(response) => Ok(response),
                None => tokio::select! {
                    response = exchange.next() => response,
                    () = tokio::time::sleep(SILENCE) => {
                        events.send(COMMENT).await?;
                        continue;
                    }
                    () = events.sender.closed() => return Err(Gone),
                },
            };
            match response {
                Ok(Response::Piece { text, .. }) => self.send_piece(&text, events).await?,
                Ok(Response::Done(done)) => {
                    self.send_piece(&done.text, events).await?;
                    return self.end(&ended(&done), events).await;
                }
                Ok(Response::Started { .. }) => {}
                Ok(_) => return events.send(event(&nonsense().json())).await,
                // The head has gone out; a body that just ends would pass for a whole answer.
                Err(failure) => return events.send(event(&Refusal::from(failure).json())).await,
            }
        }
    }

    async fn send_piece(&self, text: &str, events: &Events) -> Result<(), Gone> {
        // Half a character is no text yet.
        if text.is_empty() {
            return Ok(());
        }
        events.send(event(&self.piece(text))).await
    }

    fn piece(&self, text: &str) -> Value {
        match &self.dialect {
            Dialect::Chat(chat) => chat.piece(&self.model, text, self.includes_usage),
            Dialect::Completion(completion) => completion.piece(&self.model, text, None, self.includes_usage),
        }
    }

    async fn end(&self, ended: &Ended, events: &Events) -> Result<(), Gone> {
        let last = match &self.dialect {
            Dialect::Chat(chat) => chat.last(&self.model, ended.finish, self.includes_usage),
            Dialect::Completion(completion) => {
                completion.piece(&self.model, "", Some(ended.finish), self.includes_usage)
            }
        };
        events.send(event(&last)).await?;
        if self.includes_usage {
            let usage = match &self.dialect {
                Dialect::Chat(chat) => chat.usage(&self.model, ended),
                Dialect::Completion(completion) => completion.usage(&self.model, ended),
            };
            events.send(event(&usage)).await?;
        }
        events.send(DONE).await
    }
}

fn ended(done: &ipc::Done) -> Ended {
    let finish = match done.finish {
        FinishReason::Length => "length",
        FinishReason::Stop | FinishReason::Other => "stop",
    };
    Ended { finish, prompt_tokens: done.prompt_tokens, completion_tokens: done.completion_tokens }
}
