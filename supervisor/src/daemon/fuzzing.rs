//! What workers say and write, without workers: see [`crate::fuzzing`].
use super::{
    ConnectionId,
    connection::FromClient,
    open_request::{ModelRequest, OpenRequest, ServedBy, WorkerReply},
    worker_process::{Origin, WorkerProcess},
};
use crate::log::LoggedPrompt;
use ipc::{
    FromWorker, Life, ModelInfo, ModelKind, Request, RequestId, Sandbox,
    board::{Phase, WORDS, Word},
};
use policy::{Identity, Outcome, PoolId, Time, WorkerId};
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

/// A request and what its workers say of it.
pub(crate) fn hear(asked: ipc::Request, info: &ModelInfo, said: Vec<(u32, bool, FromWorker)>) {
    let kind = match FromClient::asked(asked, None) {
        FromClient::Request(Request::Generate(asked), _) => asked.open(2),
        FromClient::Request(Request::Embed(asked), _) => asked.open(2),
        FromClient::Request(Request::Tokenize(asked), _) => asked.open(2),
        _ => return,
    };
    let now = Instant::now();
    let origin = Origin { info: Arc::new(info.clone()), identity: Identity(0) };
    let server = ServedBy { life: Life { slot: 0, generation: 1 }, pid: None };
    let mut request = OpenRequest::new(RequestId(1), PoolId(0), ConnectionId(1), kind, LoggedPrompt::default(), now);
    let parts = request.work().parts;
    let mut outcome = Outcome::Cancelled;
    for (part, is_begun, message) in said {
        let part = part % parts;
        if is_begun {
            let _job = request.job(part, server, &origin, now);
        }
        match request.hear(part, message, info, now) {
            // The worker is condemned, and the next one begins.
            Err(_) | Ok(WorkerReply::Started { .. } | WorkerReply::More(_)) => {}
            Ok(WorkerReply::Done(_)) => outcome = Outcome::Answered,
            Ok(WorkerReply::Refused) => outcome = Outcome::Rejected,
        }
        assert!(request.outbox_limit(Some(info), 2) < 1 << 30, "what waits for a client has a bound");
    }
    let model = super::open_request::NamedModel {
        name: "model",
        error: None,
        shortage: None,
        expected_wait: Duration::from_secs(1),
    };
    let _last = request.last_message(outcome, &model, Time::default(), now);
}

/// A worker's board, looked at once a second.
pub(crate) fn look(looks: &[[u64; WORDS]]) {
    let life = Life { slot: 0, generation: 1 };
    let worker = WorkerId { pool: PoolId(0), life };
    let mut now = Instant::now();
    let info = ModelInfo {
        architecture: String::new(),
        context: 1,
        chat: false,
        load_ms: 0,
        chunk: 1,
        kind: ModelKind::Generate,
        cache: 0,
        weights: 0,
        dimensions: 0,
        sandbox: Sandbox::default(),
        remarks: Vec::new(),
    };
    let origin = Origin { info: Arc::new(info), identity: Identity(0) };
    let Ok((mut worker, _fds)) = WorkerProcess::prepare(worker, origin, 0, now) else { return };
    for words in looks {
        for word in [Word::Ticks, Word::Phase, Word::PromptDone, Word::Generated, Word::Threads] {
            worker.board.word(word).store(words[word as usize], Relaxed);
        }
        now += Duration::from_secs(1);
        worker.board.note_speed(now);
        assert!(worker.board.tokens_per_second().is_none_or(|speed| speed.is_finite() && speed >= 0.0));
        let _name = Phase::from_word(worker.board.word(Word::Phase).load(Relaxed)).map(Phase::name);
    }
}
