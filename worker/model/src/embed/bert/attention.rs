//! Scaled dot-product attention of each text to itself (Vaswani et al. 2017, "Attention Is All You
//! Need"), without a mask: texts are never padded, and no text sees another.
use super::{
    elementwise::softmax,
    matrix::{Left, Out, multiply},
};
use pulp::{Arch, Simd, WithSimd};

/// Rows of scores that are kept at once, so that the memory does not grow with the square of a
/// text's length.
const ROWS: usize = 48;

/// Memory that one text after another uses.
#[derive(Default)]
pub(super) struct Buffers {
    keys: Vec<f32>,
    values: Vec<f32>,
    scores: Vec<f32>,
}

/// The attention of one text.
pub(super) struct Attention<'a> {
    /// For each token its query, which has been scaled, its key and its value, of all heads.
    pub(super) inputs: &'a [f32],
    /// For each token, all heads.
    pub(super) out: &'a mut [f32],
    pub(super) heads: usize,
    /// The length of a query, of all heads.
    pub(super) hidden_size: usize,
    pub(super) buffers: &'a mut Buffers,
}

impl Attention<'_> {
    /// Computes `out`.
    pub(super) fn run(self) {
        Arch::new().dispatch(self);
    }
}

impl WithSimd for Attention<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Attention { inputs, out, heads, hidden_size, buffers: Buffers { keys, values, scores } } = self;
        let lanes = S::F32_LANES;
        let (tokens, each, stride) = (out.len() / hidden_size, hidden_size / heads, 3 * hidden_size);
        let padded = tokens.next_multiple_of(lanes);
        // What is left of an earlier text in the padding is multiplied, but never read.
        keys.resize(padded * each, 0.0);
        values.resize(each.next_multiple_of(lanes) * tokens, 0.0);
        scores.resize(ROWS.min(tokens) * padded, 0.0);
        for head in 0..heads {
            let (query, key, value) = (head * each, hidden_size + head * each, 2 * hidden_size + head * each);
            // A panel has `lanes` tokens beside each other, and below each other the values of a
            // key.
            for (panel, tokens) in keys.chunks_exact_mut(lanes * each).zip(inputs.chunks(lanes * stride)) {
                for (column, token) in tokens.chunks_exact(stride).enumerate() {
                    for (row, value) in panel.chunks_exact_mut(lanes).zip(&token[key..key + each]) {
                        row[column] = *value;
                    }
                }
            }
            // A panel has `lanes` values of a value beside each other, and below each other the
            // tokens.
            for (index, panel) in values.chunks_exact_mut(lanes * tokens).enumerate() {
                let count = lanes.min(each - index * lanes);
                for (row, token) in panel.chunks_exact_mut(lanes).zip(inputs.chunks_exact(stride)) {
                    row[..count].copy_from_slice(&token[value + index * lanes..][..count]);
                }
            }
            for first in (0..tokens).step_by(ROWS) {
                let rows = ROWS.min(tokens - first);
                let queries = Left { values: &inputs[first * stride + query..], stride, depth: each, rows };
                let scores = &mut scores[..rows * padded];
                let mut product = Out { values: &mut *scores, stride: padded, columns: padded };
                multiply::<S, 1>(simd, queries, keys, None, &mut product);
                for row in scores.chunks_exact_mut(padded) {
                    row[tokens..].fill(f32::NEG_INFINITY);
                    softmax(simd, row);
                }
                let weights = Left { values: scores, stride: padded, depth: tokens, rows };
                let mut product =
                    Out { values: &mut out[first * hidden_size + query..], stride: hidden_size, columns: each };
                multiply::<S, 1>(simd, weights, values, None, &mut product);
            }
        }
    }
}
