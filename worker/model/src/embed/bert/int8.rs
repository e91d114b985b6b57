//! Products in eight bits: weights and rows are whole numbers from -127 to 127 in blocks of
//! [`BLOCK`] with a scale each; the sum of a block is exact, and blocks are added up in `f32`.
//!
//! Where the processor multiplies bytes four at a time (AVX-512 VNNI) this is much faster than
//! `f32`. Elsewhere plain loops make the same sums, which costs less memory than `f32` and no less
//! time.
#[cfg(target_arch = "x86_64")]
use crate::low_level;
use std::array;

/// Values that have one scale together.
const BLOCK: usize = 64;
/// Values that one instruction multiplies and adds.
const GROUP: usize = 4;
/// Columns of a panel.
const WIDTH: usize = 32;
/// Rows of a tile.
const ROWS: usize = 6;
/// The greatest of the whole numbers.
const MOST: f32 = 127.0;
/// Added to each whole number of a row: the instruction wants one side without signs.
const OFFSET: i32 = 128;

/// A matrix that others are multiplied by, with what is added to each column of the product.
pub(super) struct Int8Matrix {
    /// One panel after another.
    blocks: Vec<Block>,
    bias: Vec<f32>,
    depth: usize,
}

/// The values that [`WIDTH`] columns have in one block.
#[repr(C, align(64))]
struct Block {
    /// For each group of values and each column those values.
    values: [[[i8; GROUP]; WIDTH]; BLOCK / GROUP],
    /// For each column what [`OFFSET`] would add to its sum, with the other sign.
    begin: [i32; WIDTH],
    /// For each column.
    scales: [f32; WIDTH],
}

/// The values that a row has in one block.
#[derive(Clone, Copy)]
#[repr(C, align(4))]
pub(super) struct RowBlock {
    /// With [`OFFSET`] added.
    values: [[u8; GROUP]; BLOCK / GROUP],
    scale: f32,
}

impl Int8Matrix {
    /// Packs a matrix that is stored by its columns, each of `depth` values, as the weights of a
    /// linear layer are.
    pub(super) fn new(columns: &[f32], bias: Vec<f32>, depth: usize) -> Int8Matrix {
        let mut blocks = Vec::with_capacity(bias.len().div_ceil(WIDTH) * depth.div_ceil(BLOCK));
        for columns in columns.chunks(WIDTH * depth) {
            for first in (0..depth).step_by(BLOCK) {
                let end = depth.min(first + BLOCK);
                let parts = columns.chunks_exact(depth).map(|column| &column[first..end]);
                blocks.push(Block::new(parts));
            }
        }
        Int8Matrix { blocks, bias, depth }
    }

    /// Multiplies all rows of `left` by this matrix. `rows` is memory that is used again.
    pub(super) fn multiply(&self, left: &[f32], out: &mut [f32], rows: &mut Vec<RowBlock>) {
        rows.clear();
        for row in left.chunks_exact(self.depth) {
            rows.extend(row.chunks(BLOCK).map(RowBlock::new));
        }
        let (each, columns) = (self.depth.div_ceil(BLOCK), self.bias.len());
        for (index, panel) in self.blocks.chunks_exact(each).enumerate() {
            let first = index * WIDTH;
            let bias = &self.bias[first..columns.min(first + WIDTH)];
            for (rows, out) in rows.chunks(ROWS * each).zip(out.chunks_mut(ROWS * columns)) {
                match rows.len() / each {
                    6 => tile::<6>(rows, panel, bias, out, first, columns),
                    5 => tile::<5>(rows, panel, bias, out, first, columns),
                    4 => tile::<4>(rows, panel, bias, out, first, columns),
                    3 => tile::<3>(rows, panel, bias, out, first, columns),
                    2 => tile::<2>(rows, panel, bias, out, first, columns),
                    _ => tile::<1>(rows, panel, bias, out, first, columns),
                }
            }
        }
    }
}

impl Block {
    fn new<'a>(columns: impl Iterator<Item = &'a [f32]>) -> Block {
        let mut block = Block { values: [[[0; GROUP]; WIDTH]; BLOCK / GROUP], begin: [0; WIDTH], scales: [0.0; WIDTH] };
        for (index, column) in columns.enumerate() {
            let (scale, factor) = scale(column);
            for (at, value) in column.iter().enumerate() {
                let whole = whole(*value, factor);
                block.values[at / GROUP][index][at % GROUP] = whole;
                block.begin[index] -= OFFSET * i32::from(whole);
            }
            block.scales[index] = scale;
        }
        block
    }
}

impl RowBlock {
    fn new(row: &[f32]) -> RowBlock {
        let (scale, factor) = scale(row);
        let mut block = RowBlock { values: [[128; GROUP]; BLOCK / GROUP], scale };
        for (place, value) in block.values.as_flattened_mut().iter_mut().zip(row) {
            *place = whole(*value, factor).cast_unsigned() ^ 0x80;
        }
        block
    }
}

/// What whole numbers are multiplied by to be the values, and the reverse.
fn scale(values: &[f32]) -> (f32, f32) {
    // A whole number would hide what is none, and there would be a vector that means nothing.
    if !values.iter().fold(true, |all, value| all & value.is_finite()) {
        return (f32::NAN, 0.0);
    }
    let most = values.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    if most > 0.0 { (most / MOST, MOST / most) } else { (most, 0.0) }
}

#[expect(clippy::cast_possible_truncation, reason = "it is in range, and the cast saturates")]
fn whole(value: f32, factor: f32) -> i8 {
    // Adding and taking away a number whose last bit is worth one rounds to an even whole number,
    // in every lane of a vector alike.
    const ROUND: f32 = 12_582_912.0;
    ((value * factor + ROUND) - ROUND) as i8
}

/// `R` rows of the product in one panel's columns.
fn tile<const R: usize>(
    rows: &[RowBlock],
    panel: &[Block],
    bias: &[f32],
    out: &mut [f32],
    first: usize,
    columns: usize,
) {
    let rows: [&[RowBlock]; R] = array::from_fn(|r| &rows[r * panel.len()..][..panel.len()]);
    #[cfg(target_arch = "x86_64")]
    let sums = low_level::with_vnni(vnni::<R>, (rows, panel)).unwrap_or_else(|| plain(rows, panel));
    #[cfg(not(target_arch = "x86_64"))]
    let sums = plain(rows, panel);
    for (sums, out) in sums.iter().zip(out.chunks_exact_mut(columns)) {
        for ((out, sum), bias) in out[first..].iter_mut().zip(sums).zip(bias) {
            *out = sum + bias;
        }
    }
}

/// The sums of a tile, by plain loops.
fn plain<const R: usize>(rows: [&[RowBlock]; R], panel: &[Block]) -> [[f32; WIDTH]; R] {
    rows.map(|row| {
        let mut totals = [0.0; WIDTH];
        for (left, right) in row.iter().zip(panel) {
            let mut sums = right.begin;
            for (left, right) in left.values.iter().zip(&right.values) {
                for (sum, right) in sums.iter_mut().zip(right) {
                    for (left, right) in left.iter().zip(right) {
                        *sum += i32::from(*left) * i32::from(*right);
                    }
                }
            }
            for ((total, sum), scale) in totals.iter_mut().zip(sums).zip(right.scales) {
                *total = (left.scale * scale).mul_add(sum as f32, *total);
            }
        }
        totals
    })
}

/// The sums of a tile, in the processor's instructions for them.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
fn vnni<const R: usize>((rows, panel): ([&[RowBlock]; R], &[Block])) -> [[f32; WIDTH]; R] {
    use pulp::cast;
    use std::arch::x86_64::{
        __m512, __m512i, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_mul_ps, _mm512_set1_epi32,
        _mm512_set1_ps,
    };
    const VECTORS: usize = WIDTH / 16;
    let mut totals: [[__m512; VECTORS]; R] = [[_mm512_set1_ps(0.0); VECTORS]; R];
    let rows = rows.map(|row| &row[..panel.len()]);
    for (at, right) in panel.iter().enumerate() {
        let begin: [__m512i; VECTORS] = cast(right.begin);
        let scales: [__m512; VECTORS] = cast(right.scales);
        let mut sums = [begin; R];
        for (group, right) in right.values.iter().enumerate() {
            let right: [__m512i; VECTORS] = cast(*right);
            for (r, sums) in sums.iter_mut().enumerate() {
                let left = _mm512_set1_epi32(i32::from_ne_bytes(rows[r][at].values[group]));
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = _mm512_dpbusd_epi32(*sum, left, right);
                }
            }
        }
        for (r, (totals, sums)) in totals.iter_mut().zip(sums).enumerate() {
            let scale = _mm512_set1_ps(rows[r][at].scale);
            for ((total, sum), scales) in totals.iter_mut().zip(sums).zip(scales) {
                *total = _mm512_fmadd_ps(_mm512_mul_ps(scale, scales), _mm512_cvtepi32_ps(sum), *total);
            }
        }
    }
    totals.map(cast)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that repeat after a prime number.
    fn values(count: usize, step: usize) -> Vec<f32> {
        (0..count).map(|index| ((index * step % 251) as f32 - 125.0) / 100.0).collect()
    }

    #[test]
    fn a_product_is_nearly_that_of_the_values() {
        for (rows, depth, columns) in [(1, 64, 32), (6, 192, 64), (7, 70, 33), (11, 3, 5), (2, 384, 96)] {
            let (left, right) = (values(rows * depth, 7), values(columns * depth, 11));
            let bias = values(columns, 13);
            let mut out = vec![f32::NAN; rows * columns];
            Int8Matrix::new(&right, bias.clone(), depth).multiply(&left, &mut out, &mut Vec::new());
            for (index, found) in out.into_iter().enumerate() {
                let (row, column) =
                    (&left[index / columns * depth..][..depth], &right[index % columns * depth..][..depth]);
                let exact = bias[index % columns] + row.iter().zip(column).map(|(a, b)| a * b).sum::<f32>();
                // Each product is wrong by a half of 1/127 of the greatest value on both sides at
                // most.
                assert!((found - exact).abs() < 0.013 * depth as f32, "{found} for {exact}");
            }
        }
    }

    #[test]
    fn both_ways_give_the_same_bits() {
        let panel: Vec<Block> = [3, 5].map(|step| Block::new(values(WIDTH * BLOCK, step).chunks_exact(BLOCK))).into();
        let row: Vec<RowBlock> = values(2 * BLOCK, 17).chunks(BLOCK).map(RowBlock::new).collect();
        let found = plain([&row[..], &row[..]], &panel);
        assert_eq!(found[0], found[1]);
        #[cfg(target_arch = "x86_64")]
        if let Some(sums) = low_level::with_vnni(vnni::<2>, ([&row[..], &row[..]], &panel[..])) {
            assert_eq!(sums, found);
        }
    }

    #[test]
    fn nothing_is_divided_by_zero() {
        let mut out = [f32::NAN];
        Int8Matrix::new(&[0.0; 64], vec![0.5], 64).multiply(&[1.0; 64], &mut out, &mut Vec::new());
        assert_eq!(out, [0.5]);
        Int8Matrix::new(&[1.0; 64], vec![0.5], 64).multiply(&[0.0; 64], &mut out, &mut Vec::new());
        assert_eq!(out, [0.5]);
    }
}
