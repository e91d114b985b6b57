//! A linear layer in the precision that was asked for.
use super::{
    bytes::{Bytes, RowBlock},
    matrix::Panels,
};
use ipc::Precision;

/// A linear layer: a product with the weights, and what is added to it.
pub(super) enum Linear {
    /// In `f32`.
    Exact(Panels),
    /// In eight bits.
    Rounded(Bytes),
}

impl Linear {
    /// A layer of `weights` stored by outputs, each of `depth` values, with a bias for each output.
    pub(super) fn new(weights: &[f32], bias: Vec<f32>, depth: usize, precision: Precision) -> Linear {
        match precision {
            Precision::F32 => Linear::Exact(Panels::new(weights, bias, depth)),
            Precision::Int8 => Linear::Rounded(Bytes::new(weights, bias, depth)),
        }
    }

    /// Puts the layer's outputs for all rows of `left` into `out`. `rounded` is memory that is used again.
    pub(super) fn multiply(&self, left: &[f32], out: &mut [f32], rounded: &mut Vec<RowBlock>) {
        match self {
            Linear::Exact(panels) => panels.multiply(left, out),
            Linear::Rounded(bytes) => bytes.multiply(left, out, rounded),
        }
    }
}
