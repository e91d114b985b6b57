//! A weight matrix cut by rows into shards, each a tensor of its own, so that threads can share the
//! work of one product.
//!
//! Each output is computed from one row of weights, so who computes which shard changes no bit. The
//! shards are fixed when the matrix is loaded, and so are the blocks that a long input is cut into:
//! the number of threads may change, the bits may not. What this does not do: know what the matrix
//! is for, or read files.
use super::{rows::Rows, threads::Threads};
use crate::{
    kernels::{Dense, Kernels},
    low_level::Original,
};
use candle_core::{
    CpuStorage, CustomOp1, Error, Layout, Result, Shape,
    quantized::{GgmlDType, QStorage, QTensor, QuantizedType},
};
use half::f16;
use std::{borrow::Cow, mem, ops::Range, sync::Arc};

/// Rows of an input that are computed together.
const BLOCK: usize = 32;

/// Rows of weights that the fastest kernels compute together. They compute a matrix only if it is
/// made of whole tiles, so shards end where these do, and what is left of them is a shard of its
/// own: otherwise who computes a row, and its bits, would depend on the cut.
const TILE: usize = 16;

/// A weight matrix.
pub(super) struct Matrix {
    columns: usize,
    rows: usize,
    shards: Vec<Vec<Piece>>,
}

/// Rows of one element type in one shard.
struct Piece {
    /// Which rows of the whole these are, in order.
    rows: Vec<Range<usize>>,
    values: Values,
}

enum Values {
    Quantised { tensor: QTensor, weights: Arc<Original> },
    Dense(Dense),
}

impl Matrix {
    /// The rows of `parts`, one part below the other, in at most `shards` shards and one for the
    /// rest. Each part is cut on its own, so that a shard has the same share of each.
    pub(super) fn new(columns: usize, parts: &[Rows], shards: usize) -> Result<Matrix> {
        let rows = parts.iter().map(|part| part.count).sum();
        let tiles = parts.iter().map(|part| part.count / TILE).min().unwrap_or(0);
        let count = shards.min(tiles).max(1);
        let mut shards = (0..=count).map(|index| shard(columns, parts, index, count)).collect::<Result<Vec<_>>>()?;
        shards.retain(|shard| !shard.is_empty());
        Ok(Matrix { columns, rows, shards })
    }

    /// How many values a row of weights has.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// The products of `count` rows of `input` with each row of weights: for each row of the input,
    /// a value for each row of weights.
    pub(super) fn product(&self, threads: &mut Threads<'_>, input: &CpuStorage, count: usize) -> Result<Vec<f32>> {
        let kernels = threads.kernels;
        self.each_part(threads, count, self.rows, |block, shard| {
            let place =
                |piece: &Piece| Ok((piece.rows.clone(), piece.product(kernels, input, self.columns, block.clone())?));
            shard.iter().map(place).collect()
        })
    }

    /// For a matrix of two parts of the same size, `activate(gate, up)` of the products with the
    /// first and the second.
    pub(super) fn gated(
        &self,
        threads: &mut Threads<'_>,
        input: &CpuStorage,
        count: usize,
        activate: fn(Kernels, &mut [f32], &[f32]),
    ) -> Result<Vec<f32>> {
        let kernels = threads.kernels;
        let half = self.rows / 2;
        self.each_part(threads, count, half, |block, shard| {
            // Either one piece holds the rows of both parts, or each has one of its own.
            let mut values = Vec::with_capacity(2);
            let mut gates = Vec::new();
            for piece in shard {
                let all = piece.product(kernels, input, self.columns, block.clone())?;
                let width = piece.rows.iter().map(ExactSizeIterator::len).sum::<usize>();
                let mut first = 0;
                for rows in &piece.rows {
                    let of_part = |row: &[f32]| row[first..first + rows.len()].to_vec();
                    values.push(all.chunks_exact(width).flat_map(of_part).collect::<Vec<f32>>());
                    first += rows.len();
                    if rows.start < half {
                        gates.push(rows.clone());
                    }
                }
            }
            let [gate, up] = values.as_mut_slice() else {
                return Err(Error::Msg("a gate without its pair".to_owned()));
            };
            activate(kernels, gate, up);
            Ok(vec![(gates, mem::take(gate))])
        })
    }

    /// Computes each block of the input with each shard and puts the results in their places.
    fn each_part(
        &self,
        threads: &mut Threads<'_>,
        count: usize,
        width: usize,
        compute: impl Fn(Range<usize>, &[Piece]) -> Result<Vec<Placed>> + Sync,
    ) -> Result<Vec<f32>> {
        let shards = self.shards.len();
        let results = threads.map(count.div_ceil(BLOCK) * shards, |part| {
            let first = part / shards * BLOCK;
            compute(first..count.min(first + BLOCK), &self.shards[part % shards])
        });
        let mut output = vec![0.0; count * width];
        for (part, result) in results.into_iter().enumerate() {
            let first = part / shards * BLOCK;
            for (ranges, values) in result? {
                let columns = ranges.iter().map(ExactSizeIterator::len).sum::<usize>();
                for (row, values) in values.chunks_exact(columns).enumerate() {
                    let output = &mut output[(first + row) * width..][..width];
                    let mut from = 0;
                    for range in &ranges {
                        output[range.clone()].copy_from_slice(&values[from..from + range.len()]);
                        from += range.len();
                    }
                }
            }
        }
        Ok(output)
    }

    /// One row of the weights themselves.
    pub(super) fn row(&self, index: usize, output: &mut [f32]) -> Result<()> {
        for piece in self.shards.iter().flatten() {
            let mut first = 0;
            for range in &piece.rows {
                if range.contains(&index) {
                    return piece.row(first + index - range.start, output);
                }
                first += range.len();
            }
        }
        Err(Error::Msg(format!("there is no row {index}")))
    }

    /// Keeps the weights as they were in the file, for [`Matrix::row`].
    pub(super) fn keep_rows(&self) -> Result<()> {
        self.quantised().try_for_each(|weights| weights.original().map(drop))
    }

    /// Lets go of what has been packed. To be called when the matrix has been used in all the ways
    /// that it will be.
    pub(super) fn release_what_is_packed(&self) {
        self.quantised().for_each(|weights| weights.release_if_packed());
    }

    fn quantised(&self) -> impl Iterator<Item = &Original> {
        self.shards.iter().flatten().filter_map(|piece| match &piece.values {
            Values::Quantised { weights, .. } => Some(weights.as_ref()),
            Values::Dense(_) => None,
        })
    }
}

/// Values of a block of the input, row by row, with the columns of the output that they belong to.
type Placed = (Vec<Range<usize>>, Vec<f32>);

/// The shard `index` of `count`. Neighbours of one element type become one tensor: its input is
/// quantised once.
fn shard(columns: usize, parts: &[Rows], index: usize, count: usize) -> Result<Vec<Piece>> {
    let mut pieces: Vec<(GgmlDType, Vec<Range<usize>>, Vec<u8>)> = Vec::new();
    let mut above = 0;
    for part in parts {
        let cut = cut(part.count, index, count);
        let row = part.bytes.len() / part.count.max(1);
        let bytes = part.bytes.get(cut.start * row..cut.end * row).unwrap_or_default();
        let rows = above + cut.start..above + cut.end;
        above += part.count;
        match pieces.last_mut() {
            _ if rows.is_empty() => {}
            Some((kind, ranges, all)) if *kind == part.kind && ranges.iter().all(|range| range.len() % TILE == 0) => {
                ranges.push(rows);
                all.extend_from_slice(bytes);
            }
            _ => pieces.push((part.kind, vec![rows], bytes.to_vec())),
        }
    }
    let piece = |(kind, rows, bytes): (GgmlDType, Vec<Range<usize>>, Vec<u8>)| -> Result<Piece> {
        let count = rows.iter().map(ExactSizeIterator::len).sum();
        Ok(Piece { rows, values: Values::new(kind, columns, count, &bytes)? })
    };
    pieces.into_iter().map(piece).collect()
}

/// Which of `rows` belong to shard `index` of `count`: whole tiles; and to the one after them, the
/// rest.
fn cut(rows: usize, index: usize, count: usize) -> Range<usize> {
    let at = |index: usize| if index > count { rows } else { rows / TILE * index / count * TILE };
    at(index)..at(index + 1)
}

impl Piece {
    fn product(&self, kernels: Kernels, input: &CpuStorage, columns: usize, block: Range<usize>) -> Result<Vec<f32>> {
        match &self.values {
            Values::Quantised { tensor, weights } => {
                let kind = weights.description().dtype();
                if block.len() == 1 && kernels.has_gemv(kind, columns) {
                    let row = &input.as_slice::<f32>()?[block.start * columns..block.end * columns];
                    let mut output = vec![0.0; self.rows.iter().map(ExactSizeIterator::len).sum()];
                    kernels.gemv(kind, weights.bytes()?, &kernels.quantize(row), &mut output);
                    return Ok(output);
                }
                let layout = Layout::contiguous_with_offset(Shape::from((block.len(), columns)), block.start * columns);
                match tensor.cpu_fwd(input, &layout)? {
                    (CpuStorage::F32(values), _) => Ok(values),
                    _ => Err(Error::Msg("a product is not in 32 bits".to_owned())),
                }
            }
            Values::Dense(dense) => {
                let input = input.as_slice::<f32>()?;
                Ok(kernels.product(dense, &input[block.start * columns..block.end * columns]))
            }
        }
    }

    fn row(&self, index: usize, output: &mut [f32]) -> Result<()> {
        match &self.values {
            Values::Quantised { weights, .. } => {
                let count = self.rows.iter().map(ExactSizeIterator::len).sum();
                let index = u32::try_from(index).map_err(|_| Error::Msg("a row's number is too large".to_owned()))?;
                let row = weights.original()?.embedding(&[index], count, output.len())?;
                output.copy_from_slice(row.as_slice::<f32>()?);
            }
            Values::Dense(dense) => dense.row(index, output),
        }
        Ok(())
    }
}

impl Values {
    fn new(kind: GgmlDType, columns: usize, count: usize, bytes: &[u8]) -> Result<Values> {
        if let Some(dense) = Dense::new(kind, columns, bytes) {
            return Ok(Values::Dense(dense));
        }
        let weights = Arc::new(Original::new(kind.from_data(Cow::Borrowed(bytes))));
        let storage = QStorage::Cpu(Box::new(Watched(Arc::clone(&weights))));
        Ok(Values::Quantised { tensor: QTensor::new(storage, (count, columns))?, weights })
    }
}

/// Weights as the tensor library sees them, so that it is noticed whether it computes with them or
/// with its packed copy.
struct Watched(Arc<Original>);

impl QuantizedType for Watched {
    fn dtype(&self) -> GgmlDType {
        self.0.description().dtype()
    }

    fn matmul_t(&self, mkn: (usize, usize, usize), lhs: &[f32], dst: &mut [f32]) -> Result<()> {
        self.0.original()?.matmul_t(mkn, lhs, dst)
    }

    fn matmul_t_f16(&self, mkn: (usize, usize, usize), lhs: &[f16], dst: &mut [f16]) -> Result<()> {
        self.0.original()?.matmul_t_f16(mkn, lhs, dst)
    }

    fn embedding(&self, ids: &[u32], rows: usize, hidden: usize) -> Result<CpuStorage> {
        self.0.original()?.embedding(ids, rows, hidden)
    }

    fn dequantize(&self, elem_count: usize) -> Result<CpuStorage> {
        self.0.original()?.dequantize(elem_count)
    }

    fn storage_size_in_bytes(&self) -> usize {
        self.0.description().storage_size_in_bytes()
    }

    fn as_ptr(&self) -> *const u8 {
        self.0.description().as_ptr()
    }

    fn block_size(&self) -> usize {
        self.0.description().block_size()
    }

    // Weights do not change.
    fn from_float(&mut self, _: &[f32]) {}

    fn from_float_imatrix(&mut self, _: &[f32], _: &[f32], _: usize) {}

    fn size(&self) -> usize {
        self.0.description().size()
    }
}
