//! Real models, which `tests/set-up` fetches, against llama.cpp: `real_models/make.py` has written
//! what it makes of them.
//!
//! With all weights widened to 32 bits the greedy texts are the same, token by token. As the files
//! are, with weights and activations narrowed, no two programs round alike. There the exact logits
//! are the measure: our choice behind each token of a passage may be a little less likely than the
//! best, and on average not less likely than llama.cpp's.
use crate::common::{self, fetched, gguf::Gguf, load};
use candle_core::{Device, quantized::gguf_file::Content};
use ipc::{FromWorker, Job, Prompt};
use model::text::Alone;
use serde::Deserialize;
use std::{collections::HashMap, fs, io::Cursor, path::Path};

#[derive(Deserialize)]
struct Golden {
    answers: Vec<Answer>,
    positions: Positions,
}

#[derive(Deserialize)]
struct Answer {
    prompt: String,
    prompt_ids: Vec<u32>,
    ids: Vec<u32>,
    text: String,
}

/// A passage, and what comes behind each of its tokens.
#[derive(Deserialize)]
struct Positions {
    ids: Vec<u32>,
    /// The likeliest ids by the exact logits, and by how much each is behind the first.
    likely: Vec<Vec<(u32, f64)>>,
    /// What llama.cpp chooses with the file as it is.
    llama_cpp: Vec<u32>,
}

/// As many tokens as an answer has at most.
const MOST: u32 = 24;
/// GGUF's number of 32-bit floats.
const F32: u32 = 0;

const SMOLLM2: (&str, &str) = ("smollm2-135m.gguf", include_str!("real_models/smollm2-135m.json"));
const GEMMA_3: (&str, &str) = ("gemma-3-270m.gguf", include_str!("real_models/gemma-3-270m.json"));

#[test]
fn smollm2_answers_as_llama_cpp_does() {
    answers(SMOLLM2);
}

#[test]
fn gemma_3_answers_as_llama_cpp_does() {
    answers(GEMMA_3);
}

#[test]
fn smollm2_as_it_is_stays_as_near_to_the_exact_logits_as_llama_cpp() {
    positions(SMOLLM2, 0.5);
}

#[test]
fn gemma_3_as_it_is_stays_as_near_to_the_exact_logits_as_llama_cpp() {
    positions(GEMMA_3, 0.5);
}

/// Compares the greedy answers in 32 bits.
fn answers((name, golden): (&str, &str)) {
    let Some(path) = fetched(name) else { return };
    let golden: Golden = serde_json::from_str(golden).unwrap();
    assert_eq!(golden.answers.len(), 12);
    let folder = tempfile::tempdir_in(path.parent().unwrap()).unwrap();
    let wide = folder.path().join("wide.gguf");
    widen(&path, &wide);
    let mut model = load(wide.to_str().unwrap(), Some(1024));
    let wrong: Vec<String> = golden
        .answers
        .iter()
        .filter_map(|answer| {
            let job = Job { max_tokens: Some(MOST), ..common::job(Prompt::Raw(answer.prompt.clone())) };
            let (mut prompt_ids, mut found, mut text) = (Vec::new(), Vec::new(), String::new());
            for message in common::run(&mut model, &job) {
                match message {
                    FromWorker::Prompt { ids, .. } => prompt_ids = ids,
                    FromWorker::Token { id, text: more, .. } => {
                        found.push(id);
                        text.push_str(&more);
                    }
                    FromWorker::Done { text: rest, .. } => text.push_str(&rest),
                    other => text = format!("{other:?}"),
                }
            }
            let is_right = prompt_ids == answer.prompt_ids && found == answer.ids && text == answer.text;
            (!is_right).then(|| {
                let Answer { prompt, ids, text: wanted, .. } = answer;
                format!("{prompt:?}\n  found  {text:?} {found:?}\n  wanted {wanted:?} {ids:?}")
            })
        })
        .collect();
    assert!(wrong.is_empty(), "{} of 12 are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Writes a file again with all its weights in 32 bits.
fn widen(path: &Path, wide: &Path) {
    let bytes = fs::read(path).unwrap();
    let mut file = Gguf::read(&bytes);
    let mut source = Cursor::new(&bytes);
    let content = Content::read(&mut source).unwrap();
    for tensor in &mut file.tensors {
        let weights = content.tensor(&mut source, &tensor.name, &Device::Cpu).unwrap();
        let weights = weights.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        tensor.kind = F32;
        tensor.bytes = weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
    }
    fs::write(wide, file.bytes()).unwrap();
}

/// Measures how far our choices are behind the exact best, of which none may be further than
/// `most` logits, and that they are not further than llama.cpp's on average.
fn positions((name, golden): (&str, &str), most: f64) {
    let Some(path) = fetched(name) else { return };
    let Golden { positions: Positions { ids, likely, llama_cpp }, .. } = serde_json::from_str(golden).unwrap();
    assert!(ids.len() == 200 && likely.len() == 200 && llama_cpp.len() == 200);
    let likely: Vec<HashMap<u32, f64>> = likely.into_iter().map(|likely| likely.into_iter().collect()).collect();
    let mut model = load(path.to_str().unwrap(), Some(1024));
    model.model.begin(ids.len());
    let mut cache = vec![0; model.model.cache_length()];
    let mut ours = Vec::new();
    for (position, id) in ids.iter().enumerate() {
        let logits = model.model.forward(&[*id], position, &mut cache, &Alone).unwrap();
        let best = (0..).zip(logits).max_by(|(_, one), (_, other)| one.total_cmp(other)).unwrap();
        ours.push(best.0);
    }
    let behind = |chosen: &[u32]| -> Vec<f64> {
        let behind = chosen.iter().zip(&likely).map(|(id, likely)| likely.get(id).copied().unwrap_or(f64::INFINITY));
        behind.collect()
    };
    let mean = |behind: &[f64]| behind.iter().sum::<f64>() / 200.0;
    let (ours, theirs) = (behind(&ours), behind(&llama_cpp));
    let worst = ours.iter().copied().fold(0.0, f64::max);
    println!("{name}: behind by {:.5} on average, {worst} at most; llama.cpp by {:.5}", mean(&ours), mean(&theirs));
    assert!(worst <= most, "a choice is behind by {worst}");
    assert!(mean(&ours) <= mean(&theirs), "{} on average, llama.cpp {}", mean(&ours), mean(&theirs));
}
