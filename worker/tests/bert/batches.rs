//! The life of a batch: vectors in order, progress, and an end wherever it is asked for.
use super::{embed as vectors, folder::Folder};
use ipc::{EmbedJob, FailureKind, FromWorker, Precision, RequestId, TextRole, board::Phase};
use model::embed::bert::Bert;
use model::text::Pace;
use serde_json::json;
use std::{cell::RefCell, ops::ControlFlow};
use worker::embed;
use worker::generate::Progress;

fn job(texts: &[&str]) -> EmbedJob {
    let texts = texts.iter().map(|text| (*text).to_owned()).collect();
    EmbedJob { request: RequestId(1), texts, role: TextRole::Plain }
}

/// Writes down what a batch reports, and asks it to stop after some ticks.
#[derive(Default)]
struct Diary {
    progress: RefCell<Vec<u64>>,
    phases: RefCell<Vec<Phase>>,
    ticks: RefCell<usize>,
    stop_after: Option<usize>,
}

impl Pace for Diary {
    fn layer(&self) -> usize {
        1
    }
}

impl Progress for Diary {
    fn phase(&self, phase: Phase) {
        self.phases.borrow_mut().push(phase);
    }
    fn prompt(&self, done: u64) {
        self.progress.borrow_mut().push(done);
    }
    fn generated(&self, _: u64) {
        panic!("nothing is generated");
    }
    fn tick(&self) {
        *self.ticks.borrow_mut() += 1;
    }
    fn stop_requested(&self, request: RequestId) -> bool {
        request == RequestId(1) && self.stop_after.is_some_and(|ticks| *self.ticks.borrow() >= ticks)
    }
}

fn run(bert: &mut Bert, job: &EmbedJob, diary: &Diary) -> Vec<FromWorker> {
    let mut messages = Vec::new();
    embed::run(bert, job, diary, &mut |message| {
        messages.push(message);
        ControlFlow::Continue(())
    });
    messages
}

/// Texts of 12 tokens, so that a few dozen of them are a group.
fn many(count: usize) -> Vec<&'static str> {
    ["a b c a b c a b c a", "one two three one two three one two three c"].into_iter().cycle().take(count).collect()
}

#[test]
fn vectors_come_in_order_and_in_groups() {
    let mut bert = Folder::new().load();
    let texts = many(100);
    let expected: Vec<Vec<f32>> = texts.iter().map(|text| vector(&mut bert, text)).collect();
    let diary = Diary::default();
    let messages = run(&mut bert, &job(&texts), &diary);
    let (end, groups) = messages.split_last().unwrap();
    assert_eq!(*end, FromWorker::Embedded { request: RequestId(1), tokens: 1200 });
    assert_eq!(groups.len(), 3, "a group has 512 tokens or one text more");
    let mut found = Vec::new();
    let mut progress = vec![0];
    for group in groups {
        let FromWorker::Vectors { request: RequestId(1), first, vectors } = group else { panic!("{group:?}") };
        assert_eq!(*first as usize, found.len());
        found.extend_from_slice(vectors);
        progress.push(found.len() as u64);
    }
    assert_eq!(found, expected);
    assert_eq!((diary.progress.into_inner(), diary.phases.into_inner()), (progress, vec![Phase::Embed]));
    // Each text; and twice in each layer each 96 tokens, of which the groups have five times as
    // many and a bit, twice, and less than twice.
    assert_eq!(diary.ticks.into_inner(), 100 + 2 * super::folder::LAYERS * (6 + 6 + 2));
}

#[test]
fn one_text_none_and_an_empty_one_are_batches() {
    let mut bert = Folder::new().load();
    let mut run = |texts: &[&str]| run(&mut bert, &job(texts), &Diary::default());
    let end = |tokens| FromWorker::Embedded { request: RequestId(1), tokens };
    assert_eq!(run(&[]), [end(0)]);
    for (text, tokens) in [("", 2), ("a", 3)] {
        let messages = run(&[text]);
        assert!(matches!(&messages[0], FromWorker::Vectors { first: 0, vectors, .. } if vectors.len() == 1));
        assert_eq!(messages[1..], [end(tokens)]);
    }
}

#[test]
fn a_text_of_no_tokens_has_a_vector_of_zeros() {
    for pooling in ["mean", "cls"] {
        let folder = Folder::new().file("1_Pooling/config.json", json!({"pooling_mode": pooling}));
        let mut bare = folder.with("tokenizer.json", "post_processor", json!(null)).load();
        let messages = run(&mut bare, &job(&["a", "", "b"]), &Diary::default());
        let FromWorker::Vectors { first: 0, vectors, .. } = &messages[0] else { panic!("{messages:?}") };
        assert_eq!(vectors[1], [0.0; super::folder::WIDTH]);
        assert_eq!(vectors[2], vector(&mut bare, "b"));
        assert_eq!(messages[1..], [FromWorker::Embedded { request: RequestId(1), tokens: 2 }]);
    }
}

fn vector(bert: &mut Bert, text: &str) -> Vec<f32> {
    let ids = bert.ids(text, TextRole::Plain).unwrap();
    vectors(bert, &[ids]).remove(0)
}

#[test]
fn a_batch_that_must_stop_stops_at_the_next_step_wherever_it_is() {
    let mut bert = Folder::new().load();
    let batch = job(&many(60));
    let diary = Diary::default();
    let whole = run(&mut bert, &batch, &diary);
    let steps = diary.ticks.into_inner();
    let cancelled = FromWorker::Failed {
        request: RequestId(1),
        kind: FailureKind::Cancelled,
        message: "the request was cancelled".into(),
    };
    for stop_after in 1..=steps {
        let diary = Diary { stop_after: Some(stop_after), ..Diary::default() };
        let messages = run(&mut bert, &batch, &diary);
        assert_eq!((diary.ticks.into_inner(), messages.last()), (stop_after, Some(&cancelled)));
    }
    // The next batch is not concerned.
    assert_eq!(run(&mut bert, &batch, &Diary::default()), whole);
}

#[test]
fn nothing_more_is_said_when_nobody_hears() {
    let mut bert = Folder::new().load();
    let mut messages = 0;
    embed::run(&mut bert, &job(&many(100)), &Diary::default(), &mut |_| {
        messages += 1;
        if messages == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(messages, 2);
}

#[test]
fn a_vector_that_is_none_is_an_error_of_the_model() {
    let mut folder = Folder::new();
    folder.tensors.get_mut("embeddings.word_embeddings.weight").unwrap().1[4 * super::folder::WIDTH] = f32::NAN;
    let messages = run(&mut folder.load(), &job(&["b", "a"]), &Diary::default());
    let expected = "the model's vector of text 1 is not of finite numbers";
    assert!(
        matches!(&messages[..], [FromWorker::Failed { kind: FailureKind::Engine, message, .. }] if message == expected),
        "{messages:?}"
    );
}

#[test]
fn a_vector_of_no_length_is_an_error_of_the_model() {
    // As where the end of a file was not downloaded.
    let mut folder = Folder::new();
    for (name, (_, values)) in &mut folder.tensors {
        if name.starts_with("encoder.layer.1.output.LayerNorm") {
            values.fill(0.0);
        }
    }
    let messages = run(&mut folder.load(), &job(&["b", "a"]), &Diary::default());
    let expected = "the model's vector of text 0 has no length: its file is broken";
    assert!(
        matches!(&messages[..], [FromWorker::Failed { kind: FailureKind::Engine, message, .. }] if message == expected),
        "{messages:?}"
    );
}

#[test]
fn no_weight_that_is_no_number_is_made_one_again() {
    let job = job(&["a b c", "b"]);
    for (name, (_, values)) in &Folder::new().tensors {
        if name.starts_with("embeddings.") && name.contains("_embeddings") {
            // Those are of one word or place, and not of these.
            continue;
        }
        for (place, wrong) in [(0, f32::NAN), (values.len() - 1, f32::INFINITY)] {
            for precision in [Precision::F32, Precision::Int8] {
                let mut folder = Folder::new();
                folder.files.insert("1_Pooling/config.json", json!({"pooling_mode_cls_token": true}));
                folder.tensors.get_mut(name).unwrap().1[place] = wrong;
                let written = folder.write();
                let mut bert = super::folder::load(written.path(), |spec| spec.precision = precision).unwrap();
                let messages = run(&mut bert, &job, &Diary::default());
                assert!(
                    matches!(&messages[..], [FromWorker::Failed { kind: FailureKind::Engine, .. }]),
                    "{name}, {wrong}, {precision:?}: {messages:?}"
                );
            }
        }
    }
}

#[test]
fn a_text_that_cannot_be_tokenised_is_a_bad_request() {
    let mut folder = Folder::new();
    folder.files.get_mut("tokenizer.json").unwrap()["model"]["unk_token"] = json!("[none]");
    let messages = run(&mut folder.load(), &job(&["z"]), &Diary::default());
    assert!(
        matches!(&messages[..], [FromWorker::Failed { kind: FailureKind::BadRequest, message, .. }]
            if message.starts_with("the text cannot be tokenised: ")),
        "{messages:?}"
    );
}
