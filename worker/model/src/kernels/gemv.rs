//! The products of one row with a matrix of Q4_K or Q6_K, straight from the file's blocks, on x86
//! with AVX2.
//!
//! Generating is reading weights: each token reads them all once. The tensor library reads a packed
//! copy of Q4_K that is a third larger, and has no fast way for Q6_K, so here the blocks are read
//! as they are. Prompts, where each weight is used for many rows, are left to the library. (The
//! block formats are ggml's.)
use super::Kernels;
use candle_core::quantized::GgmlDType;

/// Values of a block.
const BLOCK: usize = 256;

/// Values whose sums are kept.
const GROUP: usize = 16;

/// One row in blocks of 8-bit values.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only the products and tests read it"))]
pub(crate) struct Q8Row(Vec<Q8Block>);

#[derive(Clone)]
struct Q8Block {
    /// What the values are to be multiplied with.
    scale: f32,
    values: [[i8; 32]; 8],
    /// The sum of each group of values, and of each two groups.
    sums: [i16; BLOCK / GROUP],
    pair_sums: [i16; BLOCK / GROUP / 2],
}

const NO_VALUES: Q8Block = Q8Block { scale: 0.0, values: [[0; 32]; 8], sums: [0; 16], pair_sums: [0; 8] };

impl Kernels {
    /// Whether rows of `columns` weights of this type can be multiplied here.
    pub(crate) fn has_gemv(self, kind: GgmlDType, columns: usize) -> bool {
        matches!(kind, GgmlDType::Q4K | GgmlDType::Q6K) && columns.is_multiple_of(BLOCK) && self.has_avx2()
    }

    /// The row in 8 bits.
    pub(crate) fn quantize(self, row: &[f32]) -> Q8Row {
        let blocks = row.as_chunks::<BLOCK>().0;
        let mut quantized = vec![NO_VALUES; blocks.len()];
        self.dispatch(
            #[inline(always)]
            || blocks.iter().zip(&mut quantized).for_each(|(block, quantized)| quantize_block(block, quantized)),
        );
        Q8Row(quantized)
    }
}

/// Turns a block into whole numbers from -127 to 127, and into zeros if it has no other numbers.
#[inline(always)]
fn quantize_block(block: &[f32; BLOCK], quantized: &mut Q8Block) {
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
        return;
    }
    let scale = 127.0 / most;
    for (value, number) in quantized.values.as_flattened_mut().iter_mut().zip(block) {
        *value = number.mul_add(scale, ROUND).to_bits() as i8;
    }
    for (sum, group) in quantized.sums.iter_mut().zip(quantized.values.as_flattened().as_chunks::<GROUP>().0) {
        *sum = group.iter().map(|value| i16::from(*value)).sum();
    }
    for (sum, [one, other]) in quantized.pair_sums.iter_mut().zip(quantized.sums.as_chunks().0) {
        *sum = one + other;
    }
    quantized.scale = most / 127.0;
}

#[cfg(not(target_arch = "x86_64"))]
impl Kernels {
    fn has_avx2(self) -> bool {
        false
    }

    /// Computes nothing: see [`Kernels::has_gemv`].
    pub(crate) fn gemv(self, _: GgmlDType, _: &[u8], _: &Q8Row, _: &mut [f32]) {}
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{Q8Block, Q8Row};
    use crate::kernels::{Kernels, attention::widen_one};
    use candle_core::quantized::GgmlDType;
    use pulp::{NullaryFnOnce, cast, x86::V3};
    use std::{
        arch::x86_64::{__m128i, __m256, __m256i},
        marker::PhantomData,
    };

    impl Kernels {
        pub(super) fn has_avx2(self) -> bool {
            V3::try_new().is_some()
        }

        /// The products of `row` with each row of `weights`, which are blocks as a file has them.
        /// It must be possible: see [`Kernels::has_gemv`].
        pub(crate) fn gemv(self, kind: GgmlDType, weights: &[u8], row: &Q8Row, output: &mut [f32]) {
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
        /// Adds the products of the block's values with those of a row.
        fn add_products(simd: V3, block: &[u8; N], row: &Q8Block, sums: __m256) -> __m256;
    }

    struct Gemv<'a, B, const N: usize> {
        simd: V3,
        weights: &'a [u8],
        row: &'a Q8Row,
        output: &'a mut [f32],
        block: PhantomData<B>,
    }

    impl<B: Block<N>, const N: usize> NullaryFnOnce for Gemv<'_, B, N> {
        type Output = ();

        #[inline(always)]
        fn call(self) {
            let Gemv { simd, weights, row, output, .. } = self;
            let rows = weights.as_chunks::<N>().0.chunks_exact(row.0.len());
            for (output, blocks) in output.iter_mut().zip(rows) {
                let mut sums = simd.avx._mm256_setzero_ps();
                for (block, row) in blocks.iter().zip(&row.0) {
                    sums = B::add_products(simd, block, row, sums);
                }
                *output = crate::kernels::sum(&cast::<__m256, [f32; 8]>(sums));
            }
        }
    }

    /// `sums + scale * values`.
    #[inline(always)]
    fn add_scaled(simd: V3, scale: f32, values: __m256i, sums: __m256) -> __m256 {
        simd.fma._mm256_fmadd_ps(simd.avx._mm256_set1_ps(scale), simd.avx._mm256_cvtepi32_ps(values), sums)
    }

    /// 8 groups of 32 values of 4 bits, each group with a scale and an offset of 6 bits, which have
    /// a scale of 16 bits each.
    struct Q4K;

    impl Block<144> for Q4K {
        #[inline(always)]
        fn add_products(simd: V3, block: &[u8; 144], row: &Q8Block, sums: __m256) -> __m256 {
            let (sse2, avx, avx2) = (simd.sse2, simd.avx, simd.avx2);
            let word = |at: usize| u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
            let (a, b, c) = (word(4), word(8), word(12));
            // Six bits of the first four groups lie together; of the last four, four bits, and two
            // in the others' spare bits.
            let low = u64::from(a & 0x3f3f_3f3f) | u64::from(c & 0x0f0f_0f0f | (a >> 2 & 0x3030_3030)) << 32;
            let high = u64::from(b & 0x3f3f_3f3f) | u64::from(c >> 4 & 0x0f0f_0f0f | (b >> 2 & 0x3030_3030)) << 32;
            let scales = avx2._mm256_cvtepu8_epi16(cast([low, 0]));
            let scales: [__m128i; 2] = cast(scales);
            let offsets: [__m128i; 2] = cast(avx2._mm256_cvtepu8_epi16(cast([high, 0])));
            let scales = avx2._mm256_broadcastsi128_si256(scales[0]);
            let nibble = avx._mm256_set1_epi8(15);
            let mut products = avx._mm256_setzero_si256();
            for (pair, bytes) in block[16..].as_chunks::<32>().0.iter().enumerate() {
                let bytes: __m256i = cast(*bytes);
                let lower = avx2._mm256_and_si256(bytes, nibble);
                let upper = avx2._mm256_and_si256(avx2._mm256_srli_epi16::<4>(bytes), nibble);
                for (group, quants) in [(2 * pair, lower), (2 * pair + 1, upper)] {
                    // Both bytes of this group's scale, again and again.
                    let both = i16::from_le_bytes([2 * group as u8, 2 * group as u8 + 1]);
                    let scale = avx2._mm256_shuffle_epi8(scales, avx._mm256_set1_epi16(both));
                    let added = avx2._mm256_maddubs_epi16(quants, cast(row.values[group]));
                    products = avx2._mm256_add_epi32(products, avx2._mm256_madd_epi16(added, scale));
                }
            }
            let below = sse2._mm_madd_epi16(offsets[0], cast(row.pair_sums));
            let below: __m256i = cast([below, sse2._mm_setzero_si128()]);
            let sums =
                add_scaled(simd, row.scale * widen_one(u16::from_le_bytes([block[0], block[1]])), products, sums);
            add_scaled(simd, -row.scale * widen_one(u16::from_le_bytes([block[2], block[3]])), below, sums)
        }
    }

    /// 16 groups of 16 values of 6 bits from -32 on, each group with a scale of 8 bits, which have
    /// a scale of 16 bits.
    struct Q6K;

    impl Block<210> for Q6K {
        #[inline(always)]
        fn add_products(simd: V3, block: &[u8; 210], row: &Q8Block, sums: __m256) -> __m256 {
            let (avx, avx2) = (simd.avx, simd.avx2);
            let (parts, rest) = block.as_chunks::<32>();
            let part = |index: usize| cast::<[u8; 32], __m256i>(parts[index]);
            let scales: [u8; 16] = *rest.first_chunk().unwrap_or(&[0; 16]);
            let scales = avx2._mm256_cvtepi8_epi16(cast(scales));
            let halves: [__m128i; 2] = cast(scales);
            let halves = halves.map(|half| avx2._mm256_broadcastsi128_si256(half));
            let (four, two) = (avx._mm256_set1_epi8(15), avx._mm256_set1_epi8(0x30));
            let mut products = avx._mm256_setzero_si256();
            for (side, scales) in halves.into_iter().enumerate() {
                let (first, second, upper) = (part(2 * side), part(2 * side + 1), part(4 + side));
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
                    let added = avx2._mm256_maddubs_epi16(quants, cast(row.values[4 * side + index]));
                    // Both bytes of one group's scale in the lower half, of the next group's in the
                    // upper.
                    let at = 4 * index as u8;
                    let both = |at: u8| [i16::from_le_bytes([at, at + 1]); 8];
                    let scale = avx2._mm256_shuffle_epi8(scales, cast([both(at), both(at + 2)]));
                    products = avx2._mm256_add_epi32(products, avx2._mm256_madd_epi16(added, scale));
                }
            }
            let below = avx2._mm256_madd_epi16(scales, cast(row.sums));
            let products = avx2._mm256_sub_epi32(products, avx2._mm256_slli_epi32::<5>(below));
            let scale = u16::from_le_bytes([block[208], block[209]]);
            add_scaled(simd, row.scale * widen_one(scale), products, sums)
        }
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
        let kernels = Kernels::new();
        for kind in [GgmlDType::Q4K, GgmlDType::Q6K] {
            if !kernels.has_gemv(kind, 512) {
                continue;
            }
            let (bytes, weights) = rows(kind, 5, 512);
            let row: Vec<f32> = (0..512).map(|index| ((index * 37 % 101) as f32 - 50.0) / 25.0).collect();
            let quantized = kernels.quantize(&row);
            let mut output = [0.0; 5];
            kernels.gemv(kind, &bytes, &quantized, &mut output);
            let meant = |index: usize| {
                f64::from(quantized.0[index / 256].values.as_flattened()[index % 256])
                    * f64::from(quantized.0[index / 256].scale)
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
        let quantized = Kernels::new().quantize(&[0.0; 256]);
        assert_eq!((quantized.0[0].scale, quantized.0[0].values), (0.0, [[0; 32]; 8]));
    }
}
