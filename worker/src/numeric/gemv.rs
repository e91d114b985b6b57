//! The products of one row with a matrix of Q4_K or Q6_K, straight from the file's blocks, on x86 with AVX2.
//!
//! Generating is reading weights: each token reads them all once. The tensor library reads a packed copy of Q4_K that is a third larger,
//! and has no fast way for Q6_K, so here the blocks are read as they are. Prompts, where each weight is used for many rows, are left to
//! the library. (The block formats are ggml's.)
use super::Numeric;
use candle_core::quantized::GgmlDType;

/// Values of a block.
const BLOCK: usize = 256;

/// Values whose sums are kept.
const GROUP: usize = 16;

/// One row in blocks of 8-bit values, each block with a scale.
pub(crate) struct Narrow {
    scales: Vec<f32>,
    values: Vec<[[i8; 32]; 8]>,
    /// The sum of each group of values.
    sums: Vec<[i16; BLOCK / GROUP]>,
}

impl Numeric {
    /// Whether rows of `columns` weights of this type can be multiplied here.
    pub(crate) fn has_gemv(self, kind: GgmlDType, columns: usize) -> bool {
        matches!(kind, GgmlDType::Q4K | GgmlDType::Q6K) && columns.is_multiple_of(BLOCK) && self.has_avx2()
    }

    /// The row in 8 bits.
    pub(crate) fn narrow(self, row: &[f32]) -> Narrow {
        let blocks = row.as_chunks::<BLOCK>().0;
        let mut narrow = Narrow {
            scales: vec![0.0; blocks.len()],
            values: vec![[[0; 32]; 8]; blocks.len()],
            sums: vec![[0; BLOCK / GROUP]; blocks.len()],
        };
        let Narrow { scales, values, sums } = &mut narrow;
        self.dispatch(
            #[inline(always)]
            || {
                for (((block, scale), values), sums) in blocks.iter().zip(scales).zip(values).zip(sums) {
                    *scale = narrow_block(block, values.as_flattened_mut(), sums);
                }
            },
        );
        narrow
    }
}

/// Turns a block into whole numbers from -127 to 127, with their sums, and returns what they are to be multiplied with.
#[inline(always)]
fn narrow_block(block: &[f32; BLOCK], values: &mut [i8], sums: &mut [i16; BLOCK / GROUP]) -> f32 {
    // Adding it leaves the nearest whole number in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    let mut most = [0.0_f32; 16];
    for chunk in block.as_chunks::<16>().0 {
        for lane in 0..16 {
            let size = chunk[lane].abs();
            most[lane] = if size > most[lane] { size } else { most[lane] };
        }
    }
    let most = most.into_iter().fold(0.0, f32::max);
    if most == 0.0 {
        return 0.0;
    }
    let scale = 127.0 / most;
    for (value, number) in values.iter_mut().zip(block) {
        *value = number.mul_add(scale, ROUND).to_bits() as i8;
    }
    for (sum, group) in sums.iter_mut().zip(values.as_chunks::<GROUP>().0) {
        *sum = group.iter().map(|value| i16::from(*value)).sum();
    }
    most / 127.0
}

#[cfg(not(target_arch = "x86_64"))]
impl Numeric {
    fn has_avx2(self) -> bool {
        false
    }

    /// Computes nothing: see [`Numeric::has_gemv`].
    pub(crate) fn gemv(self, _: GgmlDType, _: &[u8], _: &Narrow, _: &mut [f32]) {}
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{BLOCK, GROUP, Narrow};
    use crate::numeric::Numeric;
    use candle_core::quantized::GgmlDType;
    use half::f16;
    use pulp::{NullaryFnOnce, cast, x86::V3};
    use std::{arch::x86_64::__m256i, marker::PhantomData};

    impl Numeric {
        pub(super) fn has_avx2(self) -> bool {
            V3::try_new().is_some()
        }

        /// The products of `row` with each row of `weights`, which are blocks as a file has them. It must be possible: see
        /// [`Numeric::has_gemv`].
        pub(crate) fn gemv(self, kind: GgmlDType, weights: &[u8], row: &Narrow, output: &mut [f32]) {
            let Some(simd) = V3::try_new() else { return };
            match kind {
                GgmlDType::Q4K => simd.vectorize(Gemv::<Q4K, 144> { simd, weights, row, output, block: PhantomData }),
                GgmlDType::Q6K => simd.vectorize(Gemv::<Q6K, 210> { simd, weights, row, output, block: PhantomData }),
                _ => {}
            }
        }
    }

    /// A type of block, of `N` bytes.
    trait Block<const N: usize> {
        /// The sum of the products of the block's values with those of a row, in eight parts, but for the row's scale.
        fn product(simd: V3, block: &[u8; N], values: &[[i8; 32]; 8], sums: [i16; BLOCK / GROUP]) -> [f32; 8];
    }

    struct Gemv<'a, B, const N: usize> {
        simd: V3,
        weights: &'a [u8],
        row: &'a Narrow,
        output: &'a mut [f32],
        block: PhantomData<B>,
    }

    impl<B: Block<N>, const N: usize> NullaryFnOnce for Gemv<'_, B, N> {
        type Output = ();

        #[inline(always)]
        fn call(self) {
            let Gemv { simd, weights, row, output, .. } = self;
            let rows = weights.as_chunks::<N>().0.chunks_exact(row.scales.len());
            for (output, blocks) in output.iter_mut().zip(rows) {
                let mut parts = [0.0_f32; 8];
                let of_row = row.scales.iter().zip(&row.values).zip(&row.sums);
                for (block, ((scale, values), sums)) in blocks.iter().zip(of_row) {
                    let products = B::product(simd, block, values, *sums);
                    for lane in 0..8 {
                        parts[lane] = products[lane].mul_add(*scale, parts[lane]);
                    }
                }
                *output = crate::numeric::sum(&parts);
            }
        }
    }

    /// 8 groups of 32 values of 4 bits, each group with a scale and an offset of 6 bits, which have a scale of 16 bits each.
    struct Q4K;

    impl Block<144> for Q4K {
        #[inline(always)]
        fn product(simd: V3, block: &[u8; 144], values: &[[i8; 32]; 8], sums: [i16; 16]) -> [f32; 8] {
            let (avx, avx2) = (simd.avx, simd.avx2);
            let scale = half(block[0], block[1]);
            let offset = half(block[2], block[3]);
            let [a, b, c] = [4, 8, 12]
                .map(|at: usize| u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]));
            // Six bits of the first four groups lie together; of the last four, four bits, and two in the others' spare bits.
            let scales = [a & 0x3f3f_3f3f, c & 0x0f0f_0f0f | (a >> 6 & 0x0303_0303) << 4];
            let offsets = [b & 0x3f3f_3f3f, c >> 4 & 0x0f0f_0f0f | (b >> 6 & 0x0303_0303) << 4];
            let scales: [u8; 8] = cast(scales);
            let offsets: [u8; 8] = cast(offsets);
            let low = avx._mm256_set1_epi8(15);
            let mut sum = avx._mm256_setzero_si256();
            for pair in 0..4 {
                let mut bytes = [0; 32];
                bytes.copy_from_slice(&block[16 + 32 * pair..][..32]);
                let bytes: __m256i = cast(bytes);
                let lower = avx2._mm256_and_si256(bytes, low);
                let upper = avx2._mm256_and_si256(avx2._mm256_srli_epi16::<4>(bytes), low);
                for (group, quants) in [(2 * pair, lower), (2 * pair + 1, upper)] {
                    let products = avx2._mm256_maddubs_epi16(quants, cast(values[group]));
                    let scale = avx._mm256_set1_epi16(i16::from(scales[group]));
                    sum = avx2._mm256_add_epi32(sum, avx2._mm256_madd_epi16(products, scale));
                }
            }
            let mut weights = [0_i16; 16];
            for group in 0..8 {
                weights[2 * group] = i16::from(offsets[group]);
                weights[2 * group + 1] = i16::from(offsets[group]);
            }
            let below: [i32; 8] = cast(avx2._mm256_madd_epi16(cast(weights), cast(sums)));
            let sum: [i32; 8] = cast(sum);
            let mut parts = [0.0; 8];
            for lane in 0..8 {
                parts[lane] = scale * sum[lane] as f32 - offset * below[lane] as f32;
            }
            parts
        }
    }

    /// 16 groups of 16 values of 6 bits from -32 on, each group with a scale of 8 bits, which have a scale of 16 bits.
    struct Q6K;

    impl Block<210> for Q6K {
        #[inline(always)]
        fn product(simd: V3, block: &[u8; 210], values: &[[i8; 32]; 8], sums: [i16; 16]) -> [f32; 8] {
            let (avx, avx2) = (simd.avx, simd.avx2);
            let part = |at: usize| {
                let mut bytes = [0; 32];
                bytes.copy_from_slice(&block[at..at + 32]);
                cast::<_, __m256i>(bytes)
            };
            let mut scales = [0_i16; 16];
            for (scale, byte) in scales.iter_mut().zip(&block[192..208]) {
                *scale = i16::from(*byte as i8);
            }
            let (four, two) = (avx._mm256_set1_epi8(15), avx._mm256_set1_epi8(0x30));
            let mut sum = avx._mm256_setzero_si256();
            for side in 0..2 {
                let (first, second, upper) = (part(64 * side), part(64 * side + 32), part(128 + 32 * side));
                let quants = [
                    (avx2._mm256_and_si256(first, four), avx2._mm256_slli_epi16::<4>(upper)),
                    (avx2._mm256_and_si256(second, four), avx2._mm256_slli_epi16::<2>(upper)),
                    (avx2._mm256_and_si256(avx2._mm256_srli_epi16::<4>(first), four), upper),
                    (
                        avx2._mm256_and_si256(avx2._mm256_srli_epi16::<4>(second), four),
                        avx2._mm256_srli_epi16::<2>(upper),
                    ),
                ];
                for (index, (lower, upper)) in quants.into_iter().enumerate() {
                    let quants = avx2._mm256_or_si256(lower, avx2._mm256_and_si256(upper, two));
                    let group = 4 * side + index;
                    let products = avx2._mm256_maddubs_epi16(quants, cast(values[group]));
                    let [a, b] = [scales[2 * group], scales[2 * group + 1]];
                    let scale = avx._mm256_setr_epi16(a, a, a, a, a, a, a, a, b, b, b, b, b, b, b, b);
                    sum = avx2._mm256_add_epi32(sum, avx2._mm256_madd_epi16(products, scale));
                }
            }
            let below: [i32; 8] = cast(avx2._mm256_madd_epi16(cast(scales), cast(sums)));
            let sum: [i32; 8] = cast(sum);
            let scale = half(block[208], block[209]);
            let mut parts = [0.0; 8];
            for lane in 0..8 {
                parts[lane] = scale * (sum[lane] - 32 * below[lane]) as f32;
            }
            parts
        }
    }

    #[inline(always)]
    fn half(low: u8, high: u8) -> f32 {
        f16::from_bits(u16::from_le_bytes([low, high])).to_f32()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor, quantized::QTensor};

    /// Rows of some numbers, as blocks of a type and as the numbers that those mean.
    fn rows(kind: GgmlDType, count: usize, columns: usize) -> (Vec<u8>, Vec<Vec<f32>>) {
        let mut state = 7_u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 0.9
        };
        let numbers: Vec<f32> = (0..count * columns).map(|_| random()).collect();
        let tensor = Tensor::from_vec(numbers, (count, columns), &Device::Cpu).unwrap();
        let tensor = QTensor::quantize(&tensor, kind).unwrap();
        let meant = tensor.dequantize(&Device::Cpu).unwrap().to_vec2().unwrap();
        (tensor.data().unwrap().into_owned(), meant)
    }

    #[test]
    fn products_are_those_of_what_the_blocks_mean() {
        let numeric = Numeric::new();
        for kind in [GgmlDType::Q4K, GgmlDType::Q6K] {
            if !numeric.has_gemv(kind, 512) {
                continue;
            }
            let (bytes, weights) = rows(kind, 5, 512);
            let row: Vec<f32> = (0..512).map(|index| ((index * 37 % 101) as f32 - 50.0) / 25.0).collect();
            let narrow = numeric.narrow(&row);
            let mut output = [0.0; 5];
            numeric.gemv(kind, &bytes, &narrow, &mut output);
            let meant = |index: usize| {
                f64::from(narrow.values[index / 256].as_flattened()[index % 256])
                    * f64::from(narrow.scales[index / 256])
            };
            for (weights, found) in weights.iter().zip(output) {
                let right: f64 =
                    weights.iter().enumerate().map(|(index, weight)| f64::from(*weight) * meant(index)).sum();
                assert!((f64::from(found) - right).abs() < 2e-3, "{kind:?}: {found} {right}");
                let exact: f64 =
                    weights.iter().zip(&row).map(|(weight, number)| f64::from(*weight) * f64::from(*number)).sum();
                assert!((right - exact).abs() < 2.0, "{kind:?}: {right} {exact}");
            }
        }
    }

    #[test]
    fn a_row_of_zeros_stays_one() {
        let narrow = Numeric::new().narrow(&[0.0; 256]);
        assert_eq!((narrow.scales[0], narrow.values[0]), (0.0, [[0; 32]; 8]));
    }
}
