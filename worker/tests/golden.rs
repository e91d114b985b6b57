//! The pocket model's answers against llama.cpp's, for both files: the ids of each prompt, the
//! greedy ids of each answer, its text.
//!
//! 31 of the 38 answers can be checked and must be the same. The other 7 are stories, in which the
//! model has no opinion on whether a rabbit loses a drum or a candle: llama.cpp's two likeliest
//! tokens are as close together there as the rounding of a kernel. llama.cpp itself gives 66 to 75
//! of the 76 answers again, depending on whether flash attention is on, whether its cache has 16 or
//! 32 bits, and whether it repacks weights (no such choice gives all of them), and an exact forward
//! pass in 64 bits takes other turns, too, by up to 0.027. Ours is at most 0.052 away: candle
//! narrows activations for Q8_0 in blocks of 256, llama.cpp in blocks of 32. There each of
//! llama.cpp's ids must be within [`TIE`] of the likeliest one. In the other answers the next best
//! token is at least 0.15 away.
use crate::common::{self, Silent};
use ipc::{ChatMessage, FinishReason, FromWorker, Job, Prompt, Role};
use model::text::Alone;
use model::text::CHUNK;
use model::text::Generator;
use serde::Deserialize;
use std::{ops::ControlFlow, path::Path};
use worker::generate;

#[derive(Deserialize)]
struct Golden {
    raw: bool,
    prompt: String,
    prompt_ids: Vec<u32>,
    q8_0: String,
    q8_0_ids: Vec<u32>,
    q8_0_stop: String,
    q4_k_m: String,
    q4_k_m_ids: Vec<u32>,
    q4_k_m_stop: String,
}

/// llama.cpp's answer: its text, its ids with the end token if there is one, and why it ended.
struct Answer<'a> {
    text: &'a str,
    ids: &'a [u32],
    stop: &'a str,
}

/// The end token of the pocket model.
const END: u32 = 0;
/// As many tokens as the goldens have at most.
const MOST: u32 = 80;
/// How far behind the likeliest token one may be and still be called as likely.
const TIE: f32 = 0.1;
/// How the prompts of stories begin.
const STORIES: [&str; 5] = ["Tell me a story", "Write a short story", "Once upon a time", "Long ago", "One day"];

#[test]
fn the_built_in_model_answers_as_llama_cpp_does() {
    check("builtin:pocket", |golden| Answer { text: &golden.q8_0, ids: &golden.q8_0_ids, stop: &golden.q8_0_stop });
}

#[test]
fn the_smaller_file_answers_as_llama_cpp_does() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("pocket/pocket-q4_k_m.gguf");
    check(file.to_str().unwrap(), |golden| Answer {
        text: &golden.q4_k_m,
        ids: &golden.q4_k_m_ids,
        stop: &golden.q4_k_m_stop,
    });
}

fn check(path: &str, answer: fn(&Golden) -> Answer<'_>) {
    let mut model = common::load(path, None);
    let goldens = include_str!("../pocket/golden.jsonl").lines().map(|line| serde_json::from_str(line).unwrap());
    let goldens: Vec<Golden> = goldens.collect();
    assert_eq!(goldens.len(), 38);
    let is_story = |golden: &Golden| STORIES.iter().any(|beginning| golden.prompt.starts_with(beginning));
    assert_eq!(goldens.iter().filter(|golden| is_story(golden)).count(), 7);
    let wrong = goldens.iter().filter_map(|golden| {
        let check = if is_story(golden) { follow } else { compare };
        check(&mut model, golden, &answer(golden)).err()
    });
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{} of 38 are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Goes llama.cpp's way and looks at how likely each of its steps was.
fn follow(model: &mut Generator, golden: &Golden, expected: &Answer<'_>) -> Result<(), String> {
    let mut prompt_ids = Vec::new();
    generate::run(model, &job(golden), None, &Silent, &mut |message| {
        if let FromWorker::Prompt { ids, .. } = message {
            prompt_ids = ids;
        }
        ControlFlow::Break(())
    });
    if prompt_ids != golden.prompt_ids {
        return Err(format!("{:?}: the prompt's ids are {prompt_ids:?}", golden.prompt));
    }
    model.model.begin(prompt_ids.len());
    let mut cache = vec![0; model.model.cache_length()];
    let mut position = 0;
    let mut next = expected.ids.iter();
    for part in prompt_ids.chunks(CHUNK as usize).chain(expected.ids.chunks(1)) {
        let logits = model.model.forward(part, position, &mut cache, &Alone).unwrap();
        position += part.len();
        if position < prompt_ids.len() {
            continue;
        }
        let Some(id) = next.next() else { break };
        let likeliest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let behind = likeliest - logits[*id as usize];
        if behind.is_nan() || behind > TIE {
            return Err(format!("{:?}: the token at {position}, {id}, is behind by {behind}", golden.prompt));
        }
    }
    Ok(())
}

fn compare(model: &mut Generator, golden: &Golden, expected: &Answer<'_>) -> Result<(), String> {
    let mut prompt_ids = Vec::new();
    let mut ids = Vec::new();
    let mut text = String::new();
    let mut stop = String::new();
    for message in common::run(model, &job(golden)) {
        match message {
            FromWorker::Prompt { ids, .. } => prompt_ids = ids,
            FromWorker::Token { id, text: more, .. } => {
                ids.push(id);
                text.push_str(&more);
            }
            FromWorker::Done { text: rest, finish, .. } => {
                text.push_str(&rest);
                stop = match finish {
                    FinishReason::Stop => "eos".into(),
                    FinishReason::Length => "limit".into(),
                    FinishReason::Other => "other".into(),
                };
            }
            other => stop = format!("{other:?}"),
        }
    }
    if stop == "eos" {
        ids.push(END);
    }
    let found = (&prompt_ids[..], &ids[..], &text[..], &stop[..]);
    let wanted = (&golden.prompt_ids[..], expected.ids, expected.text, expected.stop);
    if found == wanted { Ok(()) } else { Err(format!("{:?}\n  found  {found:?}\n  wanted {wanted:?}", golden.prompt)) }
}

fn job(golden: &Golden) -> Job {
    let prompt = if golden.raw {
        Prompt::Raw(golden.prompt.clone())
    } else {
        Prompt::Chat(vec![ChatMessage::new(Role::User, golden.prompt.clone())])
    };
    Job { max_tokens: Some(MOST), ..common::job(prompt) }
}
