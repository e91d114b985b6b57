//! all-MiniLM-L6-v2 against sentence-transformers: as many tokens, and the same vectors.
use crate::common;
use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert;
use ipc::{ModelSpec, Precision, TextRole};
use model::embed::bert::Bert;
use serde::Deserialize;
use std::{fs, ops::ControlFlow, path::PathBuf};
use system::foreign_text::chain;
use worker::loaded_model::load_embedder;

#[derive(Deserialize)]
struct Golden {
    text: String,
    tokens: usize,
    embedding: Vec<f32>,
}

fn goldens() -> Vec<Golden> {
    let goldens: Vec<Golden> =
        include_str!("minilm.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(goldens.len(), 24);
    goldens
}

/// The folder that `tests/set-up` makes.
fn folder() -> String {
    let folder = common::models().join("all-MiniLM-L6-v2");
    assert!(folder.is_dir(), "{} is not there: run tests/set-up", folder.display());
    folder.into_os_string().into_string().unwrap()
}

fn load(precision: Precision) -> Bert {
    let spec = ModelSpec { precision, ..ModelSpec::new("minilm", folder()) };
    let mut bert = load_embedder(&spec).unwrap_or_else(|error| panic!("{}", chain(&error)));
    bert.warm().unwrap();
    bert
}

fn embed(bert: &mut Bert, texts: &[Vec<u32>]) -> Vec<Vec<f32>> {
    match bert.embed(texts, &mut || ControlFlow::Continue(())) {
        ControlFlow::Continue(vectors) => vectors,
        ControlFlow::Break(()) => panic!("nobody stopped it"),
    }
}

fn cosine(one: &[f32], other: &[f32]) -> f64 {
    assert_eq!(one.len(), other.len());
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
}

/// The least cosine of all vectors with those of sentence-transformers, each text alone.
fn least_cosine(bert: &mut Bert) -> f64 {
    let cosines = goldens().into_iter().map(|golden| {
        let ids = bert.ids(&golden.text, TextRole::Plain).unwrap();
        assert_eq!(ids.len(), golden.tokens, "{:?}", golden.text);
        let vector = embed(bert, &[ids]).remove(0);
        let length = cosine(&vector, &vector) * vector.iter().map(|value| f64::from(value * value)).sum::<f64>().sqrt();
        assert!((length - 1.0).abs() < 1e-6, "{length}");
        cosine(&vector, &golden.embedding)
    });
    cosines.fold(f64::INFINITY, f64::min)
}

#[test]
fn the_vectors_are_those_of_sentence_transformers() {
    let mut bert = load(Precision::F32);
    assert_eq!((bert.context(), bert.dimensions(), bert.weights()), (256, 384, 90_868_376));
    let least = least_cosine(&mut bert);
    assert!(least >= 0.999_999, "{least}");
}

/// An independent forward pass over the same files, without pooling's and tokenising's code.
#[test]
fn the_vectors_are_those_of_candles_own_bert() {
    let folder = PathBuf::from(folder());
    let config: bert::Config = serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
    let weights = fs::read(folder.join("model.safetensors")).unwrap();
    let weights = VarBuilder::from_buffered_safetensors(weights, bert::DTYPE, &Device::Cpu).unwrap();
    let candles = bert::BertModel::load(weights, &config).unwrap();
    let mut ours = load(Precision::F32);
    for golden in goldens() {
        let ids = ours.ids(&golden.text, TextRole::Plain).unwrap();
        let input = Tensor::new(&ids[..], &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        let hidden = candles.forward(&input, &input.zeros_like().unwrap(), None).unwrap();
        let mean: Vec<f32> = hidden.squeeze(0).unwrap().mean(0).unwrap().to_vec1().unwrap();
        let found = cosine(&embed(&mut ours, &[ids]).remove(0), &mean);
        assert!(found >= 0.999_999, "{:?}: {found}", golden.text);
    }
}

#[test]
fn eight_bits_are_nearly_as_good() {
    let least = least_cosine(&mut load(Precision::Int8));
    assert!((0.99..0.999_999).contains(&least), "{least}");
}

#[test]
fn a_text_has_the_same_vector_in_every_company() {
    let mut bert = load(Precision::F32);
    let ids: Vec<Vec<u32>> = goldens().iter().map(|golden| bert.ids(&golden.text, TextRole::Plain).unwrap()).collect();
    let together = embed(&mut bert, &ids);
    for (ids, vector) in ids.into_iter().zip(together) {
        assert_eq!(embed(&mut bert, &[ids]), [vector]);
    }
}
