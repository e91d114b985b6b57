//! The forward pass of BERT (Devlin et al. 2018): texts in, one vector for each out.
//!
//! All texts of a group stand below each other in one matrix, a row for each token and none for
//! padding, so that each layer is a few large products. It uses one thread, the caller's, and
//! reuses its memory. It does not tokenise.
use super::{
    attention::{Attention, Buffers},
    elementwise::{Activation, Norm},
    int8::RowBlock,
    linear::Linear,
};
use std::ops::{ControlFlow, Range};

/// Rows that go through products together, so that what is between two of them stays in the cache.
const ROWS: usize = 96;

/// The weights.
pub(super) struct Encoder {
    /// A row for each id.
    pub(super) words: Vec<f32>,
    /// A row for each position, with that of the first kind of text added.
    pub(super) positions: Vec<f32>,
    pub(super) norm: Norm,
    pub(super) layers: Vec<Layer>,
    pub(super) hparams: Hparams,
}

/// One layer.
pub(super) struct Layer {
    /// Queries, keys and values; the queries are scaled already.
    pub(super) inputs: Linear,
    pub(super) output: Linear,
    pub(super) attention_norm: Norm,
    pub(super) up: Linear,
    pub(super) down: Linear,
    pub(super) norm: Norm,
}

/// What is not in the weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hparams {
    /// The length of a token's row.
    pub(super) hidden_size: usize,
    /// The length of a row between the two products of a layer's second half.
    pub(super) inner: usize,
    pub(super) heads: usize,
    pub(super) activation: Activation,
    pub(super) pooling: Pooling,
    /// Whether vectors are divided by their length.
    pub(super) is_normalised: bool,
}

/// How the rows of a text become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pooling {
    /// Their mean.
    Mean,
    /// The first, which is that of the token `[CLS]`.
    First,
}

/// Memory that one group after another uses.
#[derive(Default)]
pub(super) struct Scratch {
    rows: Vec<f32>,
    inputs: Vec<f32>,
    context: Vec<f32>,
    inner: Vec<f32>,
    product: Vec<f32>,
    rounded: Vec<RowBlock>,
    buffers: Buffers,
}

impl Encoder {
    /// One vector for each text, of zeros for one of no ids. The ids are known, and at most as many
    /// as there are positions. After a few dozen rows in each layer `go_on` is asked; if it breaks,
    /// there are none.
    pub(super) fn embed(
        &self,
        texts: &[Vec<u32>],
        scratch: &mut Scratch,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> ControlFlow<(), Vec<Vec<f32>>> {
        let Hparams { hidden_size, .. } = self.hparams;
        self.look_up(texts, scratch);
        let mut ranges: Vec<Range<usize>> = Vec::with_capacity(texts.len());
        for text in texts {
            let begin = ranges.last().map_or(0, |range| range.end);
            ranges.push(begin..begin + text.len() * hidden_size);
        }
        for layer in &self.layers {
            self.layer(layer, &ranges, scratch, go_on)?;
        }
        ControlFlow::Continue(ranges.into_iter().map(|range| self.pool(&scratch.rows[range])).collect())
    }

    /// Fills the rows with the embeddings of words and positions.
    fn look_up(&self, texts: &[Vec<u32>], scratch: &mut Scratch) {
        let hidden_size = self.hparams.hidden_size;
        let Scratch { rows, context, .. } = scratch;
        rows.clear();
        context.clear();
        for text in texts {
            for id in text {
                rows.extend_from_slice(&self.words[*id as usize * hidden_size..][..hidden_size]);
            }
            context.extend_from_slice(&self.positions[..text.len() * hidden_size]);
        }
        self.norm.add_and_normalise(rows, context);
    }

    fn layer(
        &self,
        layer: &Layer,
        texts: &[Range<usize>],
        scratch: &mut Scratch,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let Hparams { hidden_size, inner: inner_width, heads, activation, .. } = self.hparams;
        let Scratch { rows, inputs, context, inner, product, rounded, buffers } = scratch;
        inputs.resize(rows.len() * 3, 0.0);
        for (rows, inputs) in rows.chunks_mut(ROWS * hidden_size).zip(inputs.chunks_mut(ROWS * hidden_size * 3)) {
            layer.inputs.multiply(rows, inputs, rounded);
            keep_what_is_no_number(rows, hidden_size, inputs);
            go_on()?;
        }
        for range in texts.iter().filter(|range| !range.is_empty()) {
            let inputs = &inputs[range.start * 3..range.end * 3];
            Attention { inputs, out: &mut context[range.clone()], heads, hidden_size, buffers: &mut *buffers }.run();
        }
        inner.resize(ROWS * inner_width, 0.0);
        product.resize(ROWS * hidden_size, 0.0);
        for (rows, context) in rows.chunks_mut(ROWS * hidden_size).zip(context.chunks(ROWS * hidden_size)) {
            let inner = &mut inner[..rows.len() / hidden_size * inner_width];
            let product = &mut product[..rows.len()];
            layer.output.multiply(context, product, rounded);
            layer.attention_norm.add_and_normalise(rows, product);
            layer.up.multiply(rows, inner, rounded);
            keep_what_is_no_number(rows, hidden_size, inner);
            activation.apply(inner);
            layer.down.multiply(inner, product, rounded);
            layer.norm.add_and_normalise(rows, product);
            go_on()?;
        }
        ControlFlow::Continue(())
    }

    /// The vector of a text with these rows, of no numbers if one of theirs is none.
    fn pool(&self, rows: &[f32]) -> Vec<f32> {
        let Hparams { hidden_size, pooling, is_normalised, .. } = self.hparams;
        let mut vector = match pooling {
            _ if rows.is_empty() => vec![0.0; hidden_size],
            _ if !rows.iter().fold(true, |all, value| all & value.is_finite()) => vec![f32::NAN; hidden_size],
            Pooling::First => rows[..hidden_size].to_vec(),
            Pooling::Mean => {
                let mut sum = vec![0.0; hidden_size];
                for row in rows.chunks_exact(hidden_size) {
                    sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
                }
                let count = (rows.len() / hidden_size) as f32;
                sum.iter_mut().for_each(|value| *value /= count);
                sum
            }
        };
        if is_normalised {
            // As the models' own library does: a vector of no length stays one.
            const LEAST: f32 = 1e-12;
            let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt().max(LEAST);
            vector.iter_mut().for_each(|value| *value /= length);
        }
        vector
    }
}

/// Makes rows of no numbers of those that a product has made none of: what comes next, a softmax or
/// an activation, may make numbers of them again, and a vector that means nothing.
fn keep_what_is_no_number(rows: &mut [f32], hidden_size: usize, products: &[f32]) {
    let width = products.len() / (rows.len() / hidden_size).max(1);
    for (row, product) in rows.chunks_exact_mut(hidden_size).zip(products.chunks_exact(width.max(1))) {
        if !product.iter().fold(true, |all, value| all & value.is_finite()) {
            row.fill(f32::NAN);
        }
    }
}
