//! How many texts a second one thread turns into vectors, alone and in batches, in both precisions.
//!
//! In this process and without the supervisor: `tests/peers/embed.py` measures other programs on
//! the same texts.
use crate::{Result, format::heading, sample::Sample};
use ipc::{ModelSpec, Precision, TextRole};
use model::embed::bert::Bert;
use serde_json::Value;
use std::{ops::ControlFlow, path::Path, time::Instant};
use system::foreign_text::chain;
use worker::loaded_model::load_embedder;

/// Texts of a few to 256 tokens; with all-MiniLM-L6-v2 each has a vector to compare with.
const SINGLES: &str = include_str!("../../../../worker/tests/minilm.jsonl");
/// A batch: texts of about twenty tokens.
const BATCH: &str = include_str!("../../../peers/sentences.txt");
/// How often each figure is measured.
const TURNS: usize = 9;

/// Measures the model in a folder.
pub(crate) fn measure(folder: &Path) -> Result<()> {
    let singles: Vec<Value> = SINGLES.lines().map(serde_json::from_str).collect::<std::result::Result<_, _>>()?;
    let singles: Vec<&str> = singles.iter().filter_map(|golden| golden["text"].as_str()).collect();
    let batch: Vec<&str> = BATCH.lines().collect();
    let mut models = [Precision::F32, Precision::Int8].map(|precision| load(folder, precision));
    heading(
        &format!("Embedding with {}: one process, one thread, texts / s", folder.display()),
        &[
            "precision",
            "one text, median (least - most)",
            "batches of 32",
            "tokens / s in batches",
            "least cosine to f32",
        ],
    );
    let (mut alone, mut together) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    // The machine's speed drifts, so the two take turns. The first turn does not count.
    for turn in 0..=TURNS {
        for (index, model) in models.iter_mut().enumerate() {
            let model = model.as_mut().map_err(|error| error.to_string())?;
            let one = speed(&singles, 1, model)?;
            let many = speed(&batch, batch.len(), model)?;
            if turn > 0 {
                alone[index].push(one);
                together[index].push(many);
            }
        }
    }
    let [exact, rounded] = models;
    let (mut exact, mut rounded) = (exact?, rounded?);
    let tokens = batch.iter().map(|text| Ok(exact.ids(text, TextRole::Plain)?.len())).sum::<Result<usize>>()?;
    let each = tokens as f64 / batch.len() as f64;
    let mut least: f64 = 1.0;
    for text in &singles {
        least = least.min(cosine(&embed(&mut exact, &[text])?[0], &embed(&mut rounded, &[text])?[0]));
    }
    let [f32_alone, int8_alone] = alone.map(Sample::new);
    let [f32_together, int8_together] = together.map(Sample::new);
    for (name, alone, together, least) in
        [("f32", f32_alone, f32_together, 1.0), ("int8", int8_alone, int8_together, least)]
    {
        let (alone, together) = (alone.ok_or("no turn")?, together.ok_or("no turn")?);
        println!(
            "| {name} | {} | {} | {:.0} | {least:.4} |",
            shown(&alone),
            shown(&together),
            together.median() * each
        );
    }
    Ok(())
}

fn load(folder: &Path, precision: Precision) -> Result<Bert> {
    let spec = ModelSpec { precision, ..ModelSpec::new("bench", folder.to_string_lossy()) };
    let mut bert = load_embedder(&spec).map_err(|error| chain(&error))?;
    bert.warm()?;
    Ok(bert)
}

/// Texts per second, so many at once.
fn speed(texts: &[&str], at_once: usize, bert: &mut Bert) -> Result<f64> {
    let began = Instant::now();
    for texts in texts.chunks(at_once) {
        embed(bert, texts)?;
    }
    Ok(texts.len() as f64 / began.elapsed().as_secs_f64())
}

fn embed(bert: &mut Bert, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
    let ids = texts.iter().map(|text| bert.ids(text, TextRole::Plain)).collect::<std::result::Result<Vec<_>, _>>()?;
    match bert.embed(&ids, &mut || ControlFlow::Continue(())) {
        ControlFlow::Continue(vectors) => Ok(vectors),
        ControlFlow::Break(()) => Err("it was stopped".into()),
    }
}

fn cosine(one: &[f32], other: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
}

fn shown(sample: &Sample<f64>) -> String {
    let (least, most) = sample.range();
    format!("{:.1} ({least:.1} - {most:.1})", sample.median())
}
