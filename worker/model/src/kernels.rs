//! The loops over numbers that the tensor library's quantised kernels do not cover, compiled for
//! what this processor can do.
//!
//! They are plain loops over small arrays, which the compiler turns into vector instructions; which
//! instructions there are is found out at run time, by `pulp`. They use no thread but the caller's.
//! Attention has a file of its own.
use candle_core::quantized::GgmlDType;
use half::{bf16, f16, slice::HalfFloatSliceExt};
use pulp::Arch;

pub(crate) mod attention;
pub(crate) mod gemv;

/// Values that are computed together.
pub(crate) const LANES: usize = 16;

/// The loops, for this processor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernels {
    arch: Arch,
}

impl Kernels {
    /// Finds out what this processor can do.
    pub(crate) fn new() -> Kernels {
        Kernels { arch: Arch::new() }
    }

    /// Runs a loop with the processor's best instructions. The loop must be inlined into it.
    #[inline(always)]
    pub(crate) fn dispatch<R>(self, task: impl FnOnce() -> R) -> R {
        self.arch.dispatch(task)
    }

    /// `output = input / rms(input) * weight`, row by row (Zhang and Sennrich 2019, "Root Mean
    /// Square Layer Normalization").
    pub(crate) fn rms_norm(self, input: &[f32], weight: &[f32], epsilon: f32, output: &mut [f32]) {
        output.copy_from_slice(input);
        self.rms_norm_in_place(output, weight, epsilon);
    }

    /// The same in place.
    pub(crate) fn rms_norm_in_place(self, values: &mut [f32], weight: &[f32], epsilon: f32) {
        self.dispatch(
            #[inline(always)]
            || {
                for values in values.chunks_exact_mut(weight.len()) {
                    let mean = dot(values, values) / weight.len() as f32;
                    let scale = 1.0 / (mean + epsilon).sqrt();
                    for (value, weight) in values.iter_mut().zip(weight) {
                        *value = *value * scale * weight;
                    }
                }
            },
        );
    }

    /// Whether all values are numbers and none is infinite.
    pub(crate) fn all_finite(self, values: &[f32]) -> bool {
        self.dispatch(
            #[inline(always)]
            // Not to end early keeps it without branches.
            || values.iter().fold(true, |all, value| all & value.is_finite()),
        )
    }

    /// Adds `other` to `values`, repeating `other` if it is shorter.
    pub(crate) fn add(self, values: &mut [f32], other: &[f32]) {
        self.dispatch(
            #[inline(always)]
            || {
                for values in values.chunks_exact_mut(other.len()) {
                    for (value, other) in values.iter_mut().zip(other) {
                        *value += other;
                    }
                }
            },
        );
    }

    /// `gate = silu(gate) * up` (Shazeer 2020, "GLU Variants Improve Transformer").
    pub(crate) fn silu_gate(self, gate: &mut [f32], up: &[f32]) {
        self.dispatch(
            #[inline(always)]
            || {
                for (gate, up) in gate.iter_mut().zip(up) {
                    *gate = *gate / (1.0 + exp(-*gate)) * up;
                }
            },
        );
    }

    /// `gate = gelu(gate) * up`, with the approximation by tanh (Hendrycks and Gimpel 2016,
    /// "Gaussian Error Linear Units").
    pub(crate) fn gelu_gate(self, gate: &mut [f32], up: &[f32]) {
        self.dispatch(
            #[inline(always)]
            || {
                const ROOT: f32 = 0.797_884_6;
                for (gate, up) in gate.iter_mut().zip(up) {
                    let x = *gate;
                    let inner = ROOT * x * (1.0 + 0.044_715 * x * x);
                    // (1 + tanh(y)) / 2 is 1 / (1 + exp(-2 y)).
                    *gate = x / (1.0 + exp(-2.0 * inner)) * up;
                }
            },
        );
    }

    /// The products of the rows of `input` with the rows of `weights`.
    pub(crate) fn product(self, weights: &Dense, input: &[f32]) -> Vec<f32> {
        let columns = weights.columns;
        let rows = weights.rows();
        let count = input.len() / columns;
        let mut output = vec![0.0; count * rows];
        let mut row = vec![0.0; columns];
        for index in 0..rows {
            weights.row(index, &mut row);
            self.dispatch(
                #[inline(always)]
                || {
                    for (number, input) in input.chunks_exact(columns).enumerate() {
                        output[number * rows + index] = dot(&row, input);
                    }
                },
            );
        }
        output
    }
}

/// Weights that are not quantised.
pub(crate) struct Dense {
    columns: usize,
    values: DenseValues,
}

enum DenseValues {
    F32(Vec<f32>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
}

impl Dense {
    /// Weights of that type, if it is no quantised one. `bytes` are little-endian, as in a file.
    pub(crate) fn new(kind: GgmlDType, columns: usize, bytes: &[u8]) -> Option<Dense> {
        let pairs = || bytes.as_chunks().0.iter().map(|pair| u16::from_le_bytes(*pair));
        let values = match kind {
            GgmlDType::F32 => {
                DenseValues::F32(bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect())
            }
            GgmlDType::F16 => DenseValues::F16(pairs().map(f16::from_bits).collect()),
            GgmlDType::BF16 => DenseValues::BF16(pairs().map(bf16::from_bits).collect()),
            _ => return None,
        };
        Some(Dense { columns, values })
    }

    fn rows(&self) -> usize {
        let values = match &self.values {
            DenseValues::F32(values) => values.len(),
            DenseValues::F16(values) => values.len(),
            DenseValues::BF16(values) => values.len(),
        };
        values / self.columns
    }

    /// One row.
    pub(crate) fn row(&self, index: usize, output: &mut [f32]) {
        let range = index * self.columns..(index + 1) * self.columns;
        match &self.values {
            DenseValues::F32(values) => output.copy_from_slice(&values[range]),
            DenseValues::F16(values) => values[range].convert_to_f32_slice(output),
            DenseValues::BF16(values) => values[range].convert_to_f32_slice(output),
        }
    }
}

/// The sum of the products, in an order that does not depend on the processor's vectors.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = a.as_chunks::<{ 2 * LANES }>();
    let (b, b_rest) = b.as_chunks::<{ 2 * LANES }>();
    let mut sums = [0.0; 2 * LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..2 * LANES {
            sums[lane] = a[lane].mul_add(b[lane], sums[lane]);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sum(&sums) + rest
}

/// The sum of the values, pair by pair.
#[inline(always)]
fn sum<const N: usize>(values: &[f32; N]) -> f32 {
    let mut values = *values;
    let mut half = N / 2;
    while half > 0 {
        for lane in 0..half {
            values[lane] += values[lane + half];
        }
        half /= 2;
    }
    values[0]
}

/// The exponential, to about 2 units in the last place, without branches; 0 comes out as a tiny
/// number and infinity as a huge one. (The reduction by powers of two and the polynomial are
/// Cephes' `expf`.)
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding it leaves the nearest whole number in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let whole = shifted - ROUND;
    let rest = whole.mul_add(-0.693_359_4, x);
    let rest = whole.mul_add(2.121_944_4e-4, rest);
    let mut sum = 1.987_569_1e-4_f32;
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        sum = sum.mul_add(rest, coefficient);
    }
    let power = sum.mul_add(rest * rest, rest) + 1.0;
    f32::from_bits(power.to_bits().wrapping_add(shifted.to_bits() << 23))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_right_everywhere() {
        for step in -87_000..88_000 {
            let x = step as f32 / 1000.0;
            let (found, right) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((found - right).abs() <= 3e-7 * right, "{x}: {found} {right}");
        }
        assert!(exp(-1e30) < 1e-37 && exp(1e30) > 1e38);
    }

    #[test]
    fn a_dot_product_takes_every_value() {
        for length in [1, 5, 32, 33, 100] {
            let a: Vec<f32> = (0..length).map(|index| index as f32 + 1.0).collect();
            let b: Vec<f32> = (0..length).map(|index| 0.5 - index as f32).collect();
            let right: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            assert!((f64::from(dot(&a, &b)) - right).abs() <= right.abs() * 1e-5, "{length}");
        }
    }

    #[test]
    fn gates_are_what_their_formulas_say() {
        let kernels = Kernels::new();
        let values: Vec<f32> = (-40..40).map(|index| index as f32 / 5.0).collect();
        let up = vec![2.0; values.len()];
        let (mut silu, mut gelu) = (values.clone(), values.clone());
        kernels.silu_gate(&mut silu, &up);
        kernels.gelu_gate(&mut gelu, &up);
        for (index, x) in values.iter().map(|x| f64::from(*x)).enumerate() {
            let right = 2.0 * x / (1.0 + (-x).exp());
            assert!((f64::from(silu[index]) - right).abs() < 1e-5);
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            assert!((f64::from(gelu[index]) - x * (1.0 + inner.tanh())).abs() < 1e-5);
        }
    }
}
