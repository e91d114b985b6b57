//! A linear layer in the precision that was asked for.
use super::{
    int8::{Int8Matrix, RowBlock},
    matrix::Panels,
};
use ipc::Precision;

/// A linear layer: a product with the weights, and what is added to it.
pub(super) enum Linear {
    /// In `f32`.
    F32(Panels),
    /// In eight bits.
    Int8(Int8Matrix),
}

impl Linear {
    /// A layer of `weights` stored by outputs, each of `depth` values, with a bias for each output.
    pub(super) fn new(weights: &[f32], bias: Vec<f32>, depth: usize, precision: Precision) -> Linear {
        match precision {
            Precision::F32 => Linear::F32(Panels::new(weights, bias, depth)),
            Precision::Int8 => Linear::Int8(Int8Matrix::new(weights, bias, depth)),
        }
    }

    /// Puts the layer's outputs for all rows of `left` into `out`. `rounded` is memory that is used
    /// again.
    pub(super) fn multiply(&self, left: &[f32], out: &mut [f32], rounded: &mut Vec<RowBlock>) {
        match self {
            Linear::F32(panels) => panels.multiply(left, out),
            Linear::Int8(matrix) => matrix.multiply(left, out, rounded),
        }
    }
}
