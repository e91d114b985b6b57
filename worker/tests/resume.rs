//! A job that is taken over: wherever the worker before died, the rest is what an undisturbed
//! worker would have sent.
use crate::common::{job, load, run};
use ipc::{FinishReason, FromWorker, Job, JobPrompt, Prompt, Sampling};
use model::text::Generator;

/// What an undisturbed worker says, taken apart.
struct Whole {
    prompt: Vec<u32>,
    tokens: Vec<FromWorker>,
    ids: Vec<u32>,
    texts: Vec<String>,
    done: FromWorker,
}

fn undisturbed(model: &mut Generator, job: &Job) -> Whole {
    let mut messages = run(model, job);
    let Some(done @ FromWorker::Done { .. }) = messages.pop() else { panic!("it did not end well") };
    let FromWorker::Prompt { ids: prompt, .. } = messages.remove(0) else { panic!("it did not begin with the prompt") };
    let parts = messages.iter().enumerate().map(|(position, message)| match message {
        FromWorker::Token { index, id, text, .. } if *index as usize == position => (*id, text.clone()),
        other => panic!("{other:?} is no token at {position}"),
    });
    let (ids, texts) = parts.unzip();
    Whole { prompt, tokens: messages, ids, texts, done }
}

/// Cuts the job after each number of tokens, and after each number of pieces that the client might
/// have got of them.
fn taken_over_anywhere(model: &mut Generator, job: &Job) -> Whole {
    let whole = undisturbed(model, job);
    for cut in 0..=whole.ids.len() {
        let delivered: usize = whole.texts[..cut].iter().map(String::len).sum();
        let taken_over = Job {
            prompt: JobPrompt::Ids(whole.prompt.clone()),
            generated: whole.ids[..cut].to_vec(),
            delivered: delivered as u64,
            ..job.clone()
        };
        let mut rest = whole.tokens[cut..].to_vec();
        rest.push(whole.done.clone());
        assert_eq!(run(model, &taken_over), rest, "after {cut} of {} tokens", whole.ids.len());
    }
    // The client may have got less than the worker sent: what is missing comes with the next
    // message.
    let cut = whole.ids.len() / 2;
    for got in 0..=cut {
        let delivered: usize = whole.texts[..got].iter().map(String::len).sum();
        let taken_over = Job {
            prompt: JobPrompt::Ids(whole.prompt.clone()),
            generated: whole.ids[..cut].to_vec(),
            delivered: delivered as u64,
            ..job.clone()
        };
        let text: String = run(model, &taken_over).iter().map(text_of).collect();
        let expected: String = whole.texts[got..].iter().cloned().chain([text_of(&whole.done)]).collect();
        assert_eq!(text, expected, "after {got} of {cut} pieces");
    }
    whole
}

fn text_of(message: &FromWorker) -> String {
    match message {
        FromWorker::Token { text, .. } | FromWorker::Done { text, .. } => text.clone(),
        other => panic!("{other:?} has no text"),
    }
}

fn finish(whole: &Whole) -> FinishReason {
    let FromWorker::Done { finish, .. } = whole.done else { panic!("it is not done") };
    finish
}

fn raw(text: &str) -> Prompt {
    Prompt::Raw(text.into())
}

/// 33 tokens of the pocket model and more: one chunk and a part of one.
const LONG: &str = "Long ago, in a valley, lived a rabbit called Mia. Mia had a red candle and loved it very much. One morning \
                    the candle was gone. A rabbit named Rosa came out of the";

#[test]
fn the_likeliest_tokens_are_the_same() {
    let mut model = load("builtin:pocket", None);
    let whole = taken_over_anywhere(&mut model, &Job { max_tokens: Some(20), ..job(raw(LONG)) });
    assert!(whole.prompt.len() > 33, "the prompt has {} tokens", whole.prompt.len());
    assert_eq!((whole.ids.len(), finish(&whole)), (20, FinishReason::Length));
}

#[test]
fn drawn_tokens_are_the_same() {
    let mut model = load("builtin:pocket", None);
    let sampling = Sampling {
        temperature: 0.9,
        top_k: 50,
        top_p: 0.95,
        min_p: 0.01,
        seed: None,
        repeat_penalty: 1.1,
        frequency_penalty: 0.2,
        presence_penalty: 0.1,
    };
    let mut answers = Vec::new();
    for seed in [1, 2] {
        let job = Job { max_tokens: Some(14), sampling, seed, ignore_end: true, ..job(raw("One day Mia the fox")) };
        let whole = taken_over_anywhere(&mut model, &job);
        assert_eq!(whole.ids.len(), 14);
        answers.push(whole.ids);
    }
    assert_ne!(answers[0], answers[1], "seeds make no difference");
}

#[test]
fn a_stop_string_is_found_across_the_cut() {
    let mut model = load("builtin:pocket", None);
    let free = undisturbed(&mut model, &Job { max_tokens: Some(20), ..job(raw(LONG)) });
    let text = free.texts.concat();
    // From the middle of one token to the middle of a later one, and a string that begins alike and
    // never comes.
    let (begin, end) = (text.len() / 2, text.len() / 2 + 9);
    let stop = text[begin..end].to_owned();
    let never = format!("{}#", &text[begin..end - 2]);
    let stopped = Job { max_tokens: Some(20), stop: vec![never, stop], ..job(raw(LONG)) };
    let whole = taken_over_anywhere(&mut model, &stopped);
    assert_eq!(finish(&whole), FinishReason::Stop);
    assert_eq!(whole.texts.concat() + &text_of(&whole.done), text[..begin]);
    assert!(whole.ids.len() < free.ids.len());
}

#[test]
fn characters_and_stop_strings_of_many_bytes_are_not_cut() {
    let mut model = load("builtin:echo", None);
    let text = "Gr\u{FC}\u{DF}e \u{1F642} an alle \u{2014} \u{65E5}\u{672C}\u{8A9E}. Ende";
    let whole = taken_over_anywhere(&mut model, &job(raw(text)));
    assert_eq!(whole.texts.concat() + &text_of(&whole.done), text);
    assert_eq!((whole.ids.len(), finish(&whole)), (text.len(), FinishReason::Stop));
    for (stop, rest) in
        [("\u{672C}\u{8A9E}", "Gr\u{FC}\u{DF}e \u{1F642} an alle \u{2014} \u{65E5}"), ("\u{1F642}", "Gr\u{FC}\u{DF}e ")]
    {
        let whole = taken_over_anywhere(&mut model, &Job { stop: vec![stop.into(), "alle!".into()], ..job(raw(text)) });
        assert_eq!(whole.texts.concat() + &text_of(&whole.done), rest);
    }
    // The limit falls into the middle of a character.
    let whole = taken_over_anywhere(&mut model, &Job { max_tokens: Some(9), ..job(raw(text)) });
    assert_eq!(whole.texts.concat() + &text_of(&whole.done), "Gr\u{FC}\u{DF}e \u{FFFD}");
}

#[test]
fn an_answer_may_go_on_after_its_end() {
    let mut model = load("builtin:echo", None);
    let whole = taken_over_anywhere(&mut model, &Job { max_tokens: Some(9), ignore_end: true, ..job(raw("abc")) });
    assert_eq!(whole.texts.concat(), "abcabca");
    assert_eq!((whole.ids[3], whole.ids[7]), (256, 256));
}

#[test]
fn the_end_of_the_context_ends_an_answer() {
    let mut model = load("builtin:pocket", Some(20));
    let whole = taken_over_anywhere(&mut model, &job(raw("One day Mia the fox")));
    assert_eq!((whole.prompt.len(), whole.ids.len(), finish(&whole)), (5, 15, FinishReason::Length));
}

#[test]
fn a_prompt_in_other_chunks_is_still_a_job_of_its_own() {
    let mut model = load("builtin:pocket", None);
    for chunk in [1, 5, 64] {
        taken_over_anywhere(&mut model, &Job { chunk, max_tokens: Some(6), ..job(raw(LONG)) });
    }
}
