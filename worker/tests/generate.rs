//! What a job says about itself, and how it ends when it cannot be served.
use crate::common::{Silent, job, load, run};
use ipc::{
    ChatMessage, FailureKind, FinishReason, FromWorker, Job, JobPrompt, Prompt, RequestId, Role, TokenCounts,
    board::Phase,
};
use model::text::Pace;
use std::{cell::RefCell, ops::ControlFlow};
use worker::generate;
use worker::generate::Progress;

fn raw(text: &str) -> Job {
    job(Prompt::Raw(text.into()))
}

fn ids(ids: &[u32]) -> Job {
    Job { prompt: JobPrompt::Ids(ids.to_vec()), ..raw("") }
}

/// Why a job of a model was refused.
fn refused(path: &str, context: Option<u32>, job: &Job) -> (FailureKind, String) {
    let messages = run(&mut load(path, context), job);
    let [FromWorker::Failed { request: RequestId(1), kind, message }] = &messages[..] else {
        panic!("it was not refused at once: {messages:?}")
    };
    (*kind, message.clone())
}

fn done(text: &str, finish: FinishReason, prompt: u32, completion: u32) -> FromWorker {
    let counts = TokenCounts { prompt, completion };
    FromWorker::Done { request: RequestId(1), text: text.into(), finish, counts }
}

fn token(index: u32, id: u32, text: &str) -> FromWorker {
    FromWorker::Token { request: RequestId(1), index, id, text: text.into(), at_us: 0 }
}

fn prompt(ids: &[u32]) -> FromWorker {
    FromWorker::Prompt { request: RequestId(1), ids: ids.to_vec() }
}

#[test]
fn a_job_says_its_prompt_each_token_and_its_end() {
    let mut model = load("builtin:echo", None);
    let a = u32::from(b'a');
    let b = u32::from(b'b');
    assert_eq!(
        run(&mut model, &raw("ab")),
        [prompt(&[a, b]), token(0, a, "a"), token(1, b, "b"), done("", FinishReason::Stop, 2, 2)]
    );
    // Fixed ids are not reported again.
    assert_eq!(run(&mut model, &ids(&[a])), [token(0, a, "a"), done("", FinishReason::Stop, 1, 1)]);
    // What might have become a stop string comes with the end; the token that completes one is
    // still a token.
    let held = Job { stop: vec!["b!".into()], ..raw("ab") };
    assert_eq!(
        run(&mut model, &held),
        [prompt(&[a, b]), token(0, a, "a"), token(1, b, ""), done("b", FinishReason::Stop, 2, 2)]
    );
    let stopped = Job { stop: vec!["b".into()], ..raw("aba") };
    assert_eq!(
        run(&mut model, &stopped),
        [prompt(&[a, b, a]), token(0, a, "a"), token(1, b, ""), done("", FinishReason::Stop, 3, 2)]
    );
    let short = Job { max_tokens: Some(1), ..raw("ab") };
    assert_eq!(run(&mut model, &short), [prompt(&[a, b]), token(0, a, "a"), done("", FinishReason::Length, 2, 1)]);
}

#[test]
fn a_conversation_is_read_through_the_chat_template() {
    let say = |content: &str| Prompt::Chat(vec![ChatMessage::new(Role::User, content)]);
    let messages = run(&mut load("builtin:echo", None), &job(say("x")));
    assert_eq!(messages[0], prompt(&[u32::from(b'x')]));
    let messages = run(&mut load("builtin:pocket", None), &Job { max_tokens: Some(1), ..job(say("What is 2 + 13?")) });
    assert_eq!(messages[0], prompt(&[2, 202, 394, 277, 224, 21, 402, 224, 20, 22, 34, 0, 202, 3, 202]));
    let mut mute = load("builtin:echo", None);
    mute.chat = None;
    let [FromWorker::Failed { kind: FailureKind::BadRequest, message, .. }] = &run(&mut mute, &job(say("x")))[..]
    else {
        panic!("a model without a chat template had a conversation")
    };
    assert_eq!(message, "the model has no chat template; send a raw prompt instead");
}

#[test]
fn a_prompt_that_leaves_no_room_is_refused_with_both_numbers() {
    let too_long = |job: &Job| {
        let (kind, message) = refused("builtin:echo", Some(8), job);
        assert_eq!(kind, FailureKind::TooLong);
        message
    };
    assert_eq!(too_long(&ids(&[1; 8])), "the prompt has 8 tokens, but a context of 8 leaves room for 7 at most");
    assert_eq!(
        too_long(&raw("123456789")),
        "the prompt has at least 9 tokens, but a context of 8 leaves room for 7 at most"
    );
    let most = run(&mut load("builtin:echo", Some(8)), &raw("1234567"));
    assert_eq!(most[2..], [done("", FinishReason::Length, 7, 1)]);
    // The pocket model's tokens have several letters: how many they are is known only when they
    // have been counted.
    let (kind, message) = refused("builtin:pocket", Some(4), &raw("One day Mia the fox"));
    assert_eq!(
        (kind, message.as_str()),
        (FailureKind::TooLong, "the prompt has 5 tokens, but a context of 4 leaves room for 3 at most")
    );
}

#[test]
fn what_cannot_be_a_job_is_refused_in_words() {
    let bad = |job: &Job| {
        let (kind, message) = refused("builtin:echo", None, job);
        assert_eq!(kind, FailureKind::BadRequest);
        message
    };
    assert_eq!(bad(&raw("")), "the prompt has no tokens");
    assert_eq!(bad(&ids(&[])), "the prompt has no tokens");
    assert_eq!(bad(&ids(&[1, 257])), "there is no token 257: the vocabulary has 257 tokens");
    let generated = Job { generated: vec![u32::MAX], ..ids(&[1]) };
    assert_eq!(bad(&generated), "there is no token 4294967295: the vocabulary has 257 tokens");
    assert_eq!(bad(&Job { chunk: 0, ..ids(&[1]) }), "a prompt cannot be read in chunks of no tokens");
}

#[test]
fn a_taken_over_job_that_has_ended_already_ends_at_once() {
    let mut model = load("builtin:echo", None);
    let [a, b, end] = [u32::from(b'a'), u32::from(b'b'), 256];
    let full = Job { generated: vec![a, b], delivered: 1, max_tokens: Some(2), ..ids(&[a, b]) };
    assert_eq!(run(&mut model, &full), [done("b", FinishReason::Length, 2, 2)]);
    let more = Job { generated: vec![a, b, a], delivered: 2, max_tokens: Some(2), ..ids(&[a, b]) };
    assert_eq!(run(&mut model, &more), [done("", FinishReason::Length, 2, 2)]);
    let stopped = Job { generated: vec![a, b], delivered: 1, stop: vec!["b".into()], ..ids(&[a, b]) };
    assert_eq!(run(&mut model, &stopped), [done("", FinishReason::Stop, 2, 2)]);
    let ended = Job { generated: vec![a, b, end], delivered: 2, ..ids(&[a, b]) };
    assert_eq!(run(&mut model, &ended), [done("", FinishReason::Stop, 2, 2)]);
}

/// Writes down what a job reports, and asks it to stop after some ticks.
#[derive(Default)]
struct Diary {
    lines: RefCell<Vec<String>>,
    stop_after: Option<usize>,
}

impl Diary {
    fn note(&self, line: String) {
        self.lines.borrow_mut().push(line);
    }

    fn ticks(&self) -> usize {
        self.lines.borrow().iter().filter(|line| *line == "tick").count()
    }
}

impl Pace for Diary {
    fn layer(&self) -> usize {
        1
    }
}

impl Progress for Diary {
    fn phase(&self, phase: Phase) {
        self.note(phase.name().to_owned());
    }
    fn prompt(&self, done: u64) {
        self.note(format!("read {done}"));
    }
    fn generated(&self, count: u64) {
        self.note(format!("{count}"));
    }
    fn tick(&self) {
        self.note("tick".to_owned());
    }
    fn stop_requested(&self, request: RequestId) -> bool {
        request == RequestId(1) && self.stop_after.is_some_and(|ticks| self.ticks() >= ticks)
    }
}

#[test]
fn each_step_is_reported_and_ticks() {
    let mut model = load("builtin:echo", None);
    let report = |model: &mut _, job: &Job| {
        let diary = Diary::default();
        generate::run(model, job, None, &diary, &mut |_| ControlFlow::Continue(()));
        diary.lines.into_inner().join(" ")
    };
    assert_eq!(
        report(&mut model, &Job { chunk: 2, ..raw("abc") }),
        "prompt read 0 read 2 tick read 3 tick decode 1 tick 2 tick 3 tick"
    );
    let taken_over = Job { generated: vec![97, 98], chunk: 8, ..ids(&[97, 98, 99]) };
    assert_eq!(report(&mut model, &taken_over), "prompt read 0 read 3 tick replay 1 tick 2 tick decode 3 tick");
}

#[test]
fn a_job_that_must_stop_stops_at_the_next_step_wherever_it_is() {
    let mut model = load("builtin:echo", None);
    let taken_over = Job { generated: vec![97, 98], chunk: 2, ..ids(&[97, 98, 99, 100]) };
    // Two chunks, two replayed tokens, two new ones: the end comes before a seventh step.
    for stop_after in 0..6 {
        let diary = Diary { stop_after: Some(stop_after), ..Diary::default() };
        let mut messages = Vec::new();
        generate::run(&mut model, &taken_over, None, &diary, &mut |message| {
            messages.push(message);
            ControlFlow::Continue(())
        });
        assert_eq!(diary.ticks(), stop_after);
        let expected = FromWorker::Failed {
            request: RequestId(1),
            kind: FailureKind::Cancelled,
            message: "the request was cancelled".into(),
        };
        assert_eq!(messages.last(), Some(&expected), "after {stop_after} steps");
    }
    // The next job is not concerned.
    assert_eq!(run(&mut model, &ids(&[97])).len(), 2);
}

#[test]
fn nothing_more_is_said_when_nobody_hears() {
    let mut model = load("builtin:echo", None);
    for hears in 0..4 {
        let mut messages = 0;
        generate::run(&mut model, &raw("abc"), None, &Silent, &mut |_| {
            messages += 1;
            if messages > hears { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(messages, hears + 1);
    }
}

#[test]
fn a_worker_that_served_others_answers_as_a_new_one() {
    let question = || raw("One day Mia the fox");
    let mut fresh = load("builtin:pocket", None);
    let expected = run(&mut fresh, &question());
    let mut used = load("builtin:pocket", None);
    run(&mut used, &raw("hello"));
    let cancelled = Diary { stop_after: Some(2), ..Diary::default() };
    generate::run(&mut used, &raw("Once upon a time"), None, &cancelled, &mut |_| ControlFlow::Continue(()));
    assert_eq!(run(&mut used, &question()), expected);
    assert_eq!(run(&mut used, &question()), expected);
}
