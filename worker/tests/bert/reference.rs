//! The forward pass of BERT in 64 bits, as the formulas say it, with nothing in common with the one
//! it is compared with.
use super::folder::{Folder, HEADS, LAYERS, WIDTH};
use std::f64::consts::{FRAC_2_SQRT_PI, PI};

/// A row for each token.
type Rows = Vec<Vec<f64>>;

/// The rows of a text after the last layer.
pub(crate) fn rows(folder: &Folder, ids: &[u32], activation: fn(f64) -> f64) -> Rows {
    let tensor = |name: &str| -> Vec<f64> { folder.tensors[name].1.iter().map(|value| f64::from(*value)).collect() };
    let row = |name: &str, index: usize| tensor(name)[index * WIDTH..][..WIDTH].to_vec();
    let linear = |name: &str, rows: &Rows| -> Rows {
        let (weights, bias) = (tensor(&format!("{name}.weight")), tensor(&format!("{name}.bias")));
        let output = |row: &Vec<f64>, (index, bias): (usize, &f64)| {
            bias + weights[index * row.len()..].iter().zip(row).map(|(weight, value)| weight * value).sum::<f64>()
        };
        rows.iter().map(|row| bias.iter().enumerate().map(|at| output(row, at)).collect()).collect()
    };
    let norm = |name: &str, rows: Rows| -> Rows {
        let (scale, shift) = (tensor(&format!("{name}.weight")), tensor(&format!("{name}.bias")));
        let each = |row: Vec<f64>| {
            let mean = row.iter().sum::<f64>() / WIDTH as f64;
            let variance = row.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / WIDTH as f64;
            let normal = row.iter().map(|value| (value - mean) / (variance + 1e-12).sqrt());
            normal.zip(&scale).zip(&shift).map(|((value, scale), shift)| value * scale + shift).collect()
        };
        rows.into_iter().map(each).collect()
    };

    let input = |(position, id): (usize, &u32)| {
        let word = row("embeddings.word_embeddings.weight", *id as usize);
        let place = row("embeddings.position_embeddings.weight", position);
        let kind = row("embeddings.token_type_embeddings.weight", 0);
        word.iter().zip(place).zip(kind).map(|((word, place), kind)| word + place + kind).collect()
    };
    let mut rows = norm("embeddings.LayerNorm", ids.iter().enumerate().map(input).collect());
    for layer in 0..LAYERS {
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        let part = |part: &str| linear(&name(&format!("attention.self.{part}")), &rows);
        let context = attention(&part("query"), &part("key"), &part("value"));
        let output = linear(&name("attention.output.dense"), &context);
        rows = norm(&name("attention.output.LayerNorm"), add(rows, output));
        let mut inner = linear(&name("intermediate.dense"), &rows);
        inner.iter_mut().flatten().for_each(|value| *value = activation(*value));
        let output = linear(&name("output.dense"), &inner);
        rows = norm(&name("output.LayerNorm"), add(rows, output));
    }
    rows
}

fn add(one: Rows, other: Rows) -> Rows {
    one.into_iter().zip(other).map(|(one, other)| one.iter().zip(other).map(|(a, b)| a + b).collect()).collect()
}

fn attention(queries: &Rows, keys: &Rows, values: &Rows) -> Rows {
    let each = WIDTH / HEADS;
    let head = |query: &Vec<f64>, head: usize| -> Vec<f64> {
        let part = head * each..(head + 1) * each;
        let dot = |key: &Vec<f64>| query[part.clone()].iter().zip(&key[part.clone()]).map(|(a, b)| a * b).sum::<f64>();
        let scores: Vec<f64> = keys.iter().map(|key| (dot(key) / (each as f64).sqrt()).exp()).collect();
        let total: f64 = scores.iter().sum();
        part.map(|at| scores.iter().zip(values).map(|(score, value)| score / total * value[at]).sum()).collect()
    };
    queries.iter().map(|query| (0..HEADS).flat_map(|index| head(query, index)).collect()).collect()
}

/// The mean of rows.
pub(crate) fn mean(rows: &Rows) -> Vec<f64> {
    (0..WIDTH).map(|at| rows.iter().map(|row| row[at]).sum::<f64>() / rows.len() as f64).collect()
}

/// A vector divided by its length.
pub(crate) fn normalised(vector: &[f64]) -> Vec<f64> {
    let length = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
    vector.iter().map(|value| value / length).collect()
}

/// With the error function by the series of Kummer, all of whose terms have the same sign; where it
/// is one to the last bit, that.
pub(crate) fn gelu(x: f64) -> f64 {
    let z = x / 2.0_f64.sqrt();
    if z.abs() > 6.0 {
        return relu(x);
    }
    let (mut term, mut sum) = (z, z);
    for n in 1..500 {
        term *= 2.0 * z * z / f64::from(2 * n + 1);
        sum += term;
    }
    0.5 * x * (1.0 + FRAC_2_SQRT_PI * (-z * z).exp() * sum)
}

pub(crate) fn gelu_tanh(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
}

pub(crate) fn relu(x: f64) -> f64 {
    x.max(0.0)
}
