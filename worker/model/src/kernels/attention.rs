//! Attention of some rows over the keys and values of one head, kept in 16 bits and never copied.
//!
//! Keys lie in blocks of [`LANES`] positions with the lanes innermost, so that the scores of a
//! block are computed side by side; values lie position by position. Rows that share a head
//! (grouped-query attention: Ainslie et al. 2023, "GQA") are computed together, so a key is turned
//! into 32 bits once for all of them. What this does not do: know of layers, or cut the work into
//! parts.
use super::{Kernels, LANES, exp};
use half::f16;
use std::ops::Range;

/// Rows that are computed together.
pub(crate) const ROWS: usize = 8;

/// The keys and values of one head, as bits of 16-bit floating-point numbers.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    /// Numbers of a key and of a value.
    pub(crate) length: usize,
    /// Blocks of `LANES` positions: the first number of each of them, then the second, and so on.
    pub(crate) keys: &'a [u16],
    /// Position by position.
    pub(crate) values: &'a [u16],
}

/// Where number `index` of the key at `position` lies among a head's keys.
pub(crate) fn key_at(length: usize, position: usize, index: usize) -> usize {
    (position / LANES * length + index) * LANES + position % LANES
}

impl Kernels {
    /// For each row of `queries`, at most [`ROWS`], the mean of the values at the positions in
    /// `seen`, weighted by the softmax of the row's products with their keys.
    pub(crate) fn attend(self, head: Head<'_>, queries: &[f32], seen: &[Range<usize>], output: &mut [f32]) {
        match seen.len() {
            0 => {}
            1 => self.attend_rows::<1>(head, queries, seen, output),
            2 => self.attend_rows::<2>(head, queries, seen, output),
            3 | 4 => self.attend_rows::<4>(head, queries, seen, output),
            _ => self.attend_rows::<ROWS>(head, queries, seen, output),
        }
    }

    fn attend_rows<const N: usize>(self, head: Head<'_>, queries: &[f32], seen: &[Range<usize>], output: &mut [f32]) {
        let length = head.length;
        let rows = seen.len();
        let first = seen.iter().map(|range| range.start).min().unwrap_or(0) / LANES;
        let last = seen.iter().map(|range| range.end).max().unwrap_or(0).div_ceil(LANES);
        let width = (last - first) * LANES;
        let mut scratch = vec![0.0; N * (width + length)];
        let (scores, padded) = scratch.split_at_mut(N * width);
        // Rows that are not there are rows of zeros.
        padded[..rows * length].copy_from_slice(queries);
        self.dispatch(
            #[inline(always)]
            || {
                let blocks = head.keys[first * LANES * length..].chunks_exact(LANES * length);
                for (block, keys) in blocks.take(last - first).enumerate() {
                    let sums = scores_of_block::<N>(keys, padded, length);
                    for row in 0..N {
                        scores[row * width + block * LANES..][..LANES].copy_from_slice(&sums[row]);
                    }
                }
                for (row, seen) in seen.iter().enumerate() {
                    let range = seen.start - first * LANES..seen.end - first * LANES;
                    softmax(&mut scores[row * width..][..width], range);
                }
                let start = first * LANES;
                let values = &head.values[start * length..];
                let end = seen.iter().map(|range| range.end - start).max().unwrap_or(0);
                for (chunk, from) in (0..length).step_by(LANES).enumerate() {
                    let sums = weighted::<N>(&values[from..], length, scores, width, end);
                    for (row, sums) in sums.iter().take(rows).enumerate() {
                        output[row * length + chunk * LANES..][..LANES].copy_from_slice(sums);
                    }
                }
            },
        );
    }
}

/// The products of `N` queries with the keys of one block.
#[inline(always)]
fn scores_of_block<const N: usize>(keys: &[u16], queries: &[f32], length: usize) -> [[f32; LANES]; N] {
    let mut sums = [[0.0; LANES]; N];
    for (index, keys) in keys.as_chunks::<LANES>().0.iter().enumerate() {
        let keys = widen(keys);
        for row in 0..N {
            let query = queries[row * length + index];
            for lane in 0..LANES {
                sums[row][lane] = query.mul_add(keys[lane], sums[row][lane]);
            }
        }
    }
    sums
}

/// Turns the scores within `range` into weights that sum up to 1, and the others into 0.
#[inline(always)]
fn softmax(scores: &mut [f32], range: Range<usize>) {
    let (before, rest) = scores.split_at_mut(range.start);
    let (scores, after) = rest.split_at_mut(range.end - range.start);
    before.fill(0.0);
    after.fill(0.0);
    let (chunks, tail) = scores.as_chunks_mut::<LANES>();
    let mut most = [f32::NEG_INFINITY; LANES];
    for chunk in chunks.iter() {
        for lane in 0..LANES {
            most[lane] = if chunk[lane] > most[lane] { chunk[lane] } else { most[lane] };
        }
    }
    let most = most.iter().chain(tail.iter()).fold(f32::NEG_INFINITY, |most, score| most.max(*score));
    let mut sums = [0.0; LANES];
    for chunk in chunks.iter_mut() {
        for lane in 0..LANES {
            chunk[lane] = exp(chunk[lane] - most);
            sums[lane] += chunk[lane];
        }
    }
    let mut total = super::sum(&sums);
    for score in tail.iter_mut() {
        *score = exp(*score - most);
        total += *score;
    }
    let scale = 1.0 / total;
    for score in scores {
        *score *= scale;
    }
}

/// Sums of `LANES` neighbouring numbers of the first `end` values, weighted.
#[inline(always)]
fn weighted<const N: usize>(
    values: &[u16],
    length: usize,
    weights: &[f32],
    width: usize,
    end: usize,
) -> [[f32; LANES]; N] {
    let mut sums = [[0.0; LANES]; N];
    for (position, values) in values.chunks(length).take(end).enumerate() {
        let Some(values) = values.first_chunk::<LANES>() else { break };
        let values = widen(values);
        for row in 0..N {
            let weight = weights[row * width + position];
            for lane in 0..LANES {
                sums[row][lane] = weight.mul_add(values[lane], sums[row][lane]);
            }
        }
    }
    sums
}

/// 16-bit floating-point numbers in 32 bits. None of them is infinite or no number: [`to_f16`]
/// makes none.
#[inline(always)]
fn widen(values: &[u16; LANES]) -> [f32; LANES] {
    let mut wide = [0.0; LANES];
    for lane in 0..LANES {
        wide[lane] = widen_one(values[lane]);
    }
    wide
}

/// One such number.
#[inline(always)]
pub(crate) fn widen_one(value: u16) -> f32 {
    let bits = u32::from(value);
    let magnitude = (bits & 0x7FFF) << 13;
    // The exponents differ by 112 in their zero points. Where the exponent is 0 there is no leading
    // one to be understood.
    let normal = f32::from_bits(magnitude + (112 << 23));
    let small = normal.mul_add(2.0, -6.103_515_6e-5);
    let magnitude = if magnitude < 1 << 23 { small } else { normal };
    f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16)
}

/// The bits of the nearest 16-bit floating-point number that is finite.
pub(crate) fn to_f16(value: f32) -> u16 {
    f16::from_f32(value.clamp(-65_504.0, 65_504.0)).to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_number_is_widened_exactly() {
        for bits in 0..=u16::MAX {
            let right = f16::from_bits(bits).to_f32();
            if right.is_finite() {
                assert_eq!(widen(&[bits; LANES])[3].to_bits(), right.to_bits(), "{bits:#x}");
            }
        }
        assert_eq!(f16::from_bits(to_f16(1e9)), f16::MAX);
        assert_eq!(to_f16(f32::NAN) & 0x7C00, 0x7C00);
    }

    /// The same in 64 bits, as the formula says.
    fn reference(keys: &[Vec<f32>], values: &[Vec<f32>], query: &[f32], seen: Range<usize>) -> Vec<f64> {
        let product = |key: &[f32]| key.iter().zip(query).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let weights: Vec<f64> = keys[seen.clone()].iter().map(|key| product(key).exp()).collect();
        let total: f64 = weights.iter().sum();
        let number = |index: usize| {
            let weighted =
                weights.iter().zip(&values[seen.clone()]).map(|(weight, value)| weight * f64::from(value[index]));
            weighted.sum::<f64>() / total
        };
        (0..query.len()).map(number).collect()
    }

    #[test]
    fn attention_is_what_its_formula_says() {
        let kernels = Kernels::new();
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        for (length, positions, rows) in [(16, 1, 1), (32, 17, 3), (64, 100, 8), (80, 33, 5), (16, 64, 2)] {
            let mut rows_of = |count: usize| -> Vec<Vec<f32>> {
                let rounded = |value: f32| f16::from_f32(value).to_f32();
                (0..count).map(|_| (0..length).map(|_| rounded(random())).collect()).collect()
            };
            let (keys, values, queries) = (rows_of(positions), rows_of(positions), rows_of(rows));
            let room = positions.next_multiple_of(LANES) * length;
            let (mut key_bits, mut value_bits) = (vec![0; room], vec![0; room]);
            for position in 0..positions {
                for index in 0..length {
                    key_bits[key_at(length, position, index)] = to_f16(keys[position][index]);
                    value_bits[position * length + index] = to_f16(values[position][index]);
                }
            }
            let seen: Vec<Range<usize>> = (0..rows)
                .map(|row| row.min(positions - 1)..positions.saturating_sub(row).max(1))
                .map(|range| range.start.min(range.end - 1)..range.end)
                .collect();
            let mut output = vec![0.0; rows * length];
            let head = Head { length, keys: &key_bits, values: &value_bits };
            kernels.attend(head, &queries.concat(), &seen, &mut output);
            for row in 0..rows {
                let right = reference(&keys, &values, &queries[row], seen[row].clone());
                for (found, right) in output[row * length..][..length].iter().zip(right) {
                    assert!((f64::from(*found) - right).abs() < 1e-5, "{length} {positions} {row}: {found} {right}");
                }
            }
        }
    }
}
