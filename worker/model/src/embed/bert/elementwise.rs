//! What an encoder does to single values and rows: activations, exponentials, layer normalisation.
//! All in place.
use pulp::{Arch, Simd, WithSimd};

/// What is done to each value between the two products of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activation {
    /// Hendrycks and Gimpel 2016, "Gaussian Error Linear Units": `x` times the normal distribution
    /// function of `x`.
    Gelu,
    /// The same paper's approximation with a hyperbolic tangent.
    GeluTanh,
    /// The positive part.
    Relu,
}

impl Activation {
    /// The activation that a configuration names.
    pub(super) fn named(name: &str) -> Option<Activation> {
        match name {
            "gelu" => Some(Activation::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Some(Activation::GeluTanh),
            "relu" => Some(Activation::Relu),
            _ => None,
        }
    }

    /// Applies it to all of `values`.
    pub(super) fn apply(self, values: &mut [f32]) {
        Arch::new().dispatch(Apply { activation: self, values });
    }
}

struct Apply<'a> {
    activation: Activation,
    values: &'a mut [f32],
}

impl WithSimd for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.activation {
            Activation::Gelu => map(
                simd,
                self.values,
                #[inline(always)]
                |x| gelu(simd, x),
            ),
            Activation::GeluTanh => map(
                simd,
                self.values,
                #[inline(always)]
                |x| gelu_tanh(simd, x),
            ),
            Activation::Relu => map(
                simd,
                self.values,
                #[inline(always)]
                |x| simd.max_f32s(x, simd.splat_f32s(0.0)),
            ),
        }
    }
}

/// Replaces each value.
#[inline(always)]
fn map<S: Simd>(simd: S, values: &mut [f32], change: impl Fn(S::f32s) -> S::f32s) {
    let (vectors, rest) = S::as_mut_simd_f32s(values);
    for vector in vectors {
        *vector = change(*vector);
    }
    if !rest.is_empty() {
        let changed = change(simd.partial_load_f32s(rest));
        simd.partial_store_f32s(rest, changed);
    }
}

#[inline(always)]
fn polynomial<S: Simd, const N: usize>(simd: S, x: S::f32s, coefficients: [f32; N]) -> S::f32s {
    let mut value = simd.splat_f32s(coefficients[N - 1]);
    for n in (0..N - 1).rev() {
        value = simd.mul_add_e_f32s(value, x, simd.splat_f32s(coefficients[n]));
    }
    value
}

/// The normal distribution function, less a half, is odd: `x` times a rational function of its
/// square, fitted by least squares to within 1e-8 where it is not yet flat.
#[inline(always)]
fn gelu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    const FLAT: f32 = 5.6;
    const OVER: [f32; 6] =
        [0.398_942_22, 0.034_372_63, 0.004_707_029_6, 0.000_173_813_53, 6.356_106_4e-6, 2.214_689e-8];
    const UNDER: [f32; 6] = [1.0, 0.252_825_13, 0.028_938_055, 0.001_912_767_6, 7.508_914e-5, 1.180_227_1e-6];
    let near = simd.max_f32s(simd.min_f32s(x, simd.splat_f32s(FLAT)), simd.splat_f32s(-FLAT));
    let square = simd.mul_f32s(near, near);
    let ratio = simd.div_f32s(polynomial(simd, square, OVER), polynomial(simd, square, UNDER));
    simd.mul_f32s(x, simd.mul_add_e_f32s(near, ratio, simd.splat_f32s(0.5)))
}

/// `x (1 + tanh y) / 2` is `x / (1 + exp(-2 y))`.
#[inline(always)]
fn gelu_tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // -2 times the square root of 2 / pi, and that times 0.044715.
    const LINEAR: f32 = -1.595_769_2;
    const CUBIC: f32 = -0.071_354_816;
    let inner = simd.mul_add_e_f32s(simd.splat_f32s(CUBIC), simd.mul_f32s(x, x), simd.splat_f32s(LINEAR));
    let one = simd.splat_f32s(1.0);
    simd.div_f32s(x, simd.add_f32s(one, exp(simd, simd.mul_f32s(x, inner))))
}

/// The exponential, of what is between -87 and 87: a power of two, which is put into the exponent's
/// bits, times that of a number near zero, by its Taylor series.
#[inline(always)]
fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    const MOST: f32 = 87.0;
    /// What is added to this has its integer part in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const SERIES: [f32; 7] = [1.0, 1.0, 1.0 / 2.0, 1.0 / 6.0, 1.0 / 24.0, 1.0 / 120.0, 1.0 / 720.0];
    // The logarithm of 2 in two parts: the first has few bits, so that its products are exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let x = simd.max_f32s(simd.min_f32s(x, simd.splat_f32s(MOST)), simd.splat_f32s(-MOST));
    let rounded = simd.mul_add_e_f32s(x, simd.splat_f32s(std::f32::consts::LOG2_E), simd.splat_f32s(ROUND));
    let power = simd.sub_f32s(rounded, simd.splat_f32s(ROUND));
    let rest = simd.mul_add_e_f32s(power, simd.splat_f32s(-LN_2[0]), x);
    let rest = simd.mul_add_e_f32s(power, simd.splat_f32s(-LN_2[1]), rest);
    let factor = simd.transmute_u32s_f32s(polynomial(simd, rest, SERIES));
    let exponent = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(rounded), simd.splat_u32s(23));
    simd.transmute_f32s_u32s(simd.add_u32s(factor, exponent))
}

/// Makes one row of scores sum to one (the softmax). It has whole vectors; behind the scores there
/// is negative infinity.
#[inline(always)]
pub(super) fn softmax<S: Simd>(simd: S, row: &mut [f32]) {
    let (vectors, _) = S::as_mut_simd_f32s(row);
    let mut most = simd.splat_f32s(f32::NEG_INFINITY);
    for vector in &*vectors {
        most = simd.max_f32s(most, *vector);
    }
    let most = simd.splat_f32s(simd.reduce_max_f32s(most));
    let mut total = simd.splat_f32s(0.0);
    for vector in &mut *vectors {
        *vector = exp(simd, simd.sub_f32s(*vector, most));
        total = simd.add_f32s(total, *vector);
    }
    let factor = simd.splat_f32s(1.0 / simd.reduce_sum_f32s(total));
    for vector in vectors {
        *vector = simd.mul_f32s(*vector, factor);
    }
}

/// Layer normalisation (Ba, Kiros and Hinton 2016).
pub(super) struct Norm {
    /// What each value of a normalised row is multiplied by.
    pub(super) scale: Vec<f32>,
    /// What is added to it then.
    pub(super) shift: Vec<f32>,
    /// What keeps a row without variance from a division by zero.
    pub(super) epsilon: f32,
}

impl Norm {
    /// Adds to each row of `rows` that of `others`, and normalises the sum.
    pub(super) fn add_and_normalise(&self, rows: &mut [f32], others: &[f32]) {
        Arch::new().dispatch(AddAndNormalise { norm: self, rows, others });
    }
}

struct AddAndNormalise<'a> {
    norm: &'a Norm,
    rows: &'a mut [f32],
    others: &'a [f32],
}

impl WithSimd for AddAndNormalise<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Norm { scale, shift, epsilon } = self.norm;
        let count = scale.len() as f32;
        for (row, other) in self.rows.chunks_exact_mut(scale.len()).zip(self.others.chunks_exact(scale.len())) {
            let mean = add(simd, row, other) / count;
            let variance = squares(simd, row, mean) / count;
            let factor = 1.0 / (variance + epsilon).sqrt();
            let (vectors, rest) = S::as_mut_simd_f32s(row);
            let ((scales, scale_rest), (shifts, shift_rest)) = (S::as_simd_f32s(scale), S::as_simd_f32s(shift));
            let (means, factors) = (simd.splat_f32s(mean), simd.splat_f32s(factor));
            for ((vector, scale), shift) in vectors.iter_mut().zip(scales).zip(shifts) {
                let normal = simd.mul_f32s(simd.sub_f32s(*vector, means), factors);
                *vector = simd.mul_add_e_f32s(normal, *scale, *shift);
            }
            for ((value, scale), shift) in rest.iter_mut().zip(scale_rest).zip(shift_rest) {
                *value = (*value - mean) * factor * scale + shift;
            }
        }
    }
}

/// Adds `other` to `row` and returns the sum of all values.
#[inline(always)]
fn add<S: Simd>(simd: S, row: &mut [f32], other: &[f32]) -> f32 {
    let ((vectors, rest), (others, other_rest)) = (S::as_mut_simd_f32s(row), S::as_simd_f32s(other));
    let mut sums = simd.splat_f32s(0.0);
    for (vector, other) in vectors.iter_mut().zip(others) {
        *vector = simd.add_f32s(*vector, *other);
        sums = simd.add_f32s(sums, *vector);
    }
    let mut sum = simd.reduce_sum_f32s(sums);
    for (value, other) in rest.iter_mut().zip(other_rest) {
        *value += other;
        sum += *value;
    }
    sum
}

/// The sum of the squared distances from the mean.
#[inline(always)]
fn squares<S: Simd>(simd: S, row: &[f32], mean: f32) -> f32 {
    let (vectors, rest) = S::as_simd_f32s(row);
    let means = simd.splat_f32s(mean);
    let mut sums = simd.splat_f32s(0.0);
    for vector in vectors {
        let distance = simd.sub_f32s(*vector, means);
        sums = simd.mul_add_e_f32s(distance, distance, sums);
    }
    simd.reduce_sum_f32s(sums) + rest.iter().map(|value| (value - mean) * (value - mean)).sum::<f32>()
}
