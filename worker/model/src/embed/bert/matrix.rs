//! Products of `f32` matrices: the right-hand one is packed once, in the order in which it will be
//! read.
//!
//! Panels of a few vectors' width, with tiles of [`ROWS`] rows whose sums stay in registers, after
//! Goto and van de Geijn 2008, "Anatomy of High-Performance Matrix Multiplication". The left-hand
//! matrix of an encoder has few columns and is not packed. Nothing here starts a thread or takes
//! memory for each product; which instructions are used is decided when the program runs.
use pulp::{Arch, Simd, WithSimd};

/// Rows of a tile.
const ROWS: usize = 6;

/// A matrix that others are multiplied by, with what is added to each column of the product.
pub(super) struct Panels {
    /// One panel after another; in each, the values of one row after another.
    values: Vec<f32>,
    /// One for each column, and zeros up to whole panels.
    bias: Vec<f32>,
    depth: usize,
    columns: usize,
}

impl Panels {
    /// Packs a matrix that is stored by its columns, each of `depth` values, as the weights of a
    /// linear layer are.
    pub(super) fn new(columns: &[f32], mut bias: Vec<f32>, depth: usize) -> Panels {
        let width = Arch::new().dispatch(Width);
        let count = bias.len();
        bias.resize(count.next_multiple_of(width), 0.0);
        let mut values = vec![0.0; bias.len() * depth];
        for (panel, columns) in values.chunks_exact_mut(width * depth).zip(columns.chunks(width * depth)) {
            for (index, column) in columns.chunks_exact(depth).enumerate() {
                for (row, value) in panel.chunks_exact_mut(width).zip(column) {
                    row[index] = *value;
                }
            }
        }
        Panels { values, bias, depth, columns: count }
    }

    /// Multiplies all rows of `left` by this matrix.
    pub(super) fn multiply(&self, left: &[f32], out: &mut [f32]) {
        let left = Left { values: left, stride: self.depth, depth: self.depth, rows: out.len() / self.columns };
        Arch::new().dispatch(Multiply { right: self, left, out });
    }
}

/// The rows of a left-hand matrix, `stride` values from one to the next.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    pub(super) values: &'a [f32],
    pub(super) stride: usize,
    pub(super) depth: usize,
    pub(super) rows: usize,
}

/// The rows of a product, `stride` values from one to the next.
pub(super) struct Out<'a> {
    pub(super) values: &'a mut [f32],
    pub(super) stride: usize,
    pub(super) columns: usize,
}

/// How many vectors wide a panel of weights is: what registers hold beside the rest of a tile.
const fn vectors<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 4 } else { 2 }
}

struct Width;

impl WithSimd for Width {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        vectors::<S>() * S::F32_LANES
    }
}

struct Multiply<'a> {
    right: &'a Panels,
    left: Left<'a>,
    out: &'a mut [f32],
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Multiply { right, left, out } = self;
        let mut out = Out { values: out, stride: right.columns, columns: right.columns };
        match vectors::<S>() {
            4 => multiply::<S, 4>(simd, left, &right.values, Some(&right.bias), &mut out),
            _ => multiply::<S, 2>(simd, left, &right.values, Some(&right.bias), &mut out),
        }
    }
}

/// Multiplies the rows of `left` by a matrix in panels `V` vectors wide. `bias` has a value for
/// each column of each panel.
#[inline(always)]
pub(super) fn multiply<S: Simd, const V: usize>(
    simd: S,
    left: Left<'_>,
    panels: &[f32],
    bias: Option<&[f32]>,
    out: &mut Out<'_>,
) {
    let width = V * S::F32_LANES;
    for (index, panel) in panels.chunks_exact(width * left.depth).enumerate() {
        let column = index * width;
        let zero = [simd.splat_f32s(0.0); V];
        let begin = bias.map_or(zero, |bias| vector_array(S::as_simd_f32s(&bias[column..column + width]).0, zero));
        let mut row = 0;
        while row + ROWS <= left.rows {
            tile::<S, ROWS, V>(simd, left, panel, begin, out, row, column);
            row += ROWS;
        }
        match left.rows - row {
            1 => tile::<S, 1, V>(simd, left, panel, begin, out, row, column),
            2 => tile::<S, 2, V>(simd, left, panel, begin, out, row, column),
            3 => tile::<S, 3, V>(simd, left, panel, begin, out, row, column),
            4 => tile::<S, 4, V>(simd, left, panel, begin, out, row, column),
            5 => tile::<S, 5, V>(simd, left, panel, begin, out, row, column),
            _ => {}
        }
    }
}

/// The first vectors of `found`, or `other` if there are not as many.
#[inline(always)]
fn vector_array<T: Copy, const V: usize>(found: &[T], other: [T; V]) -> [T; V] {
    found.first_chunk().copied().unwrap_or(other)
}

/// `R` rows of the product in one panel's columns.
#[inline(always)]
fn tile<S: Simd, const R: usize, const V: usize>(
    simd: S,
    left: Left<'_>,
    panel: &[f32],
    begin: [S::f32s; V],
    out: &mut Out<'_>,
    row: usize,
    column: usize,
) {
    let (steps, _) = S::as_simd_f32s(panel).0.as_chunks::<V>();
    let depth = steps.len();
    let rows: [&[f32]; R] = std::array::from_fn(|r| &left.values[(row + r) * left.stride..][..depth]);
    let mut sums = [begin; R];
    for (at, step) in steps.iter().enumerate() {
        for r in 0..R {
            let value = simd.splat_f32s(rows[r][at]);
            for v in 0..V {
                sums[r][v] = simd.mul_add_e_f32s(value, step[v], sums[r][v]);
            }
        }
    }
    let count = (out.columns - column).min(V * S::F32_LANES);
    for (r, sums) in sums.iter().enumerate() {
        let begin = (row + r) * out.stride + column;
        let part = &mut out.values[begin..begin + count];
        for (v, sum) in sums.iter().enumerate() {
            let first = v * S::F32_LANES;
            if first + S::F32_LANES <= count {
                S::as_mut_simd_f32s(&mut part[first..first + S::F32_LANES]).0[0] = *sum;
            } else if first < count {
                simd.partial_store_f32s(&mut part[first..], *sum);
            }
        }
    }
}
