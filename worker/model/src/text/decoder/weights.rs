//! Reads a decoder's weights from its file, tensor by tensor, and has them packed at once.
//!
//! The tensor library packs a matrix when it is first multiplied. That is done here for each matrix
//! as soon as it is read, in all the ways in which it will be used, and the original is let go
//! where only the packed copy is used from then on: so the memory that loading takes is little more
//! than the memory that the model keeps.
use super::{
    hparams::{EMBEDDING, Factors, Hparams, OUTPUT, OUTPUT_NORM, ROPE_FACTORS, ROPE_FACTORS_LONG, ROPE_FACTORS_SHORT},
    matrix::Matrix,
    rows::Rows,
    threads::Threads,
};
use crate::{
    SingleThread,
    gguf::{Header, dtype},
    kernels::Kernels,
};
use candle_core::{CpuStorage, Error, Result};
use std::io::{Read, Seek, SeekFrom};

/// What one block is made of.
pub(super) struct Block {
    pub(super) attention_norm: Vec<f32>,
    /// Queries, keys and values, one below the other.
    pub(super) queries_keys_values: Matrix,
    pub(super) queries_keys_values_bias: Option<Vec<f32>>,
    /// For the queries and for the keys.
    pub(super) head_norms: Option<(Vec<f32>, Vec<f32>)>,
    pub(super) attention_output: Matrix,
    pub(super) attention_output_bias: Option<Vec<f32>>,
    /// After attention and after the feed-forward layer.
    pub(super) post_norms: Option<(Vec<f32>, Vec<f32>)>,
    pub(super) feed_forward_norm: Vec<f32>,
    /// Gates and values, one below the other.
    pub(super) gate_up: Matrix,
    pub(super) down: Matrix,
}

/// All weights.
pub(super) struct Weights {
    pub(super) embedding: Matrix,
    pub(super) blocks: Vec<Block>,
    pub(super) output_norm: Vec<f32>,
    /// The embedding's, if there is none of its own.
    pub(super) output: Option<Matrix>,
    /// What the angles of positions are divided by.
    pub(super) rope_factors: Option<Vec<f32>>,
}

impl Weights {
    /// Reads the weights of the file that has this header and `hparams`, for at most `threads`
    /// threads and `context` tokens.
    pub(super) fn read(
        hparams: &Hparams,
        header: &Header,
        reader: &mut (impl Read + Seek),
        threads: usize,
        context: usize,
    ) -> Result<Weights> {
        let mut loader = Loader { header, reader, threads, kernels: Kernels::new() };
        let factors = match hparams.rope.factors {
            Factors::None => None,
            Factors::Always => Some(ROPE_FACTORS),
            Factors::ByContext(original) if context > original => Some(ROPE_FACTORS_LONG),
            Factors::ByContext(_) => Some(ROPE_FACTORS_SHORT),
        };
        let rope_factors = factors.map(|name| loader.vector(name)).transpose()?;
        if let Some(factor) = rope_factors.iter().flatten().find(|factor| !factor.is_finite() || **factor <= 0.0) {
            let name = factors.unwrap_or_default();
            return Err(Error::Msg(format!("its tensor {name} has {factor} in it, which cannot be")));
        }
        let mut embedding = loader.matrix(hparams.hidden_size, &[EMBEDDING])?;
        embedding.keep_rows()?;
        // An embedding that is only looked up is never multiplied, so it need not be packed.
        let mut output = None;
        if loader.has(OUTPUT) {
            output = Some(loader.packed_matrix(hparams.hidden_size, &[OUTPUT])?);
        } else {
            embedding = loader.packed(embedding)?;
        }
        let blocks = (0..hparams.blocks).map(|index| loader.block(hparams, index)).collect::<Result<_>>()?;
        let output_norm = loader.vector(OUTPUT_NORM)?;
        Ok(Weights { embedding, blocks, output_norm, output, rope_factors })
    }
}

struct Loader<'a, R> {
    header: &'a Header,
    reader: &'a mut R,
    threads: usize,
    kernels: Kernels,
}

impl<R: Read + Seek> Loader<'_, R> {
    fn block(&mut self, hparams: &Hparams, index: usize) -> Result<Block> {
        let name = |name: &str| format!("blk.{index}.{name}");
        let pair = |loader: &mut Self, wanted: bool, first: &str, second: &str| {
            let both =
                wanted.then(|| -> Result<_> { Ok((loader.vector(&name(first))?, loader.vector(&name(second))?)) });
            both.transpose()
        };
        let (queries, gate_up) = if hparams.fused {
            let gate_up = self.rows(&name("ffn_up.weight"))?.halves();
            (vec!["attn_qkv.weight"], Matrix::new(hparams.hidden_size, &gate_up, self.threads)?)
        } else {
            let names = [name("ffn_gate.weight"), name("ffn_up.weight")];
            (vec!["attn_q.weight", "attn_k.weight", "attn_v.weight"], self.matrix(hparams.hidden_size, &names)?)
        };
        let queries: Vec<String> = queries.into_iter().map(name).collect();
        Ok(Block {
            attention_norm: self.vector(&name("attn_norm.weight"))?,
            queries_keys_values: self.packed_matrix(hparams.hidden_size, &queries)?,
            queries_keys_values_bias: self.biases(hparams, &name)?,
            head_norms: pair(self, hparams.head_norms, "attn_q_norm.weight", "attn_k_norm.weight")?,
            attention_output: self.packed_matrix(hparams.heads * hparams.head, &[name("attn_output.weight")])?,
            attention_output_bias: self.vector_if_any(&name("attn_output.bias"))?,
            post_norms: pair(self, hparams.post_norms, "post_attention_norm.weight", "post_ffw_norm.weight")?,
            feed_forward_norm: self.vector(&name("ffn_norm.weight"))?,
            gate_up: self.packed(gate_up)?,
            down: self.packed_matrix(hparams.feed_forward, &[name("ffn_down.weight")])?,
        })
    }

    /// The biases of queries, keys and values in one; those that are not there are zeros.
    fn biases(&mut self, hparams: &Hparams, name: &dyn Fn(&str) -> String) -> Result<Option<Vec<f32>>> {
        let shared = hparams.heads_kv * hparams.head;
        let parts = [("attn_q.bias", hparams.heads * hparams.head), ("attn_k.bias", shared), ("attn_v.bias", shared)];
        if !parts.iter().any(|(tensor, _)| self.has(&name(tensor))) {
            return Ok(None);
        }
        let mut all = Vec::new();
        for (tensor, length) in parts {
            all.extend(self.vector_if_any(&name(tensor))?.unwrap_or_else(|| vec![0.0; length]));
        }
        Ok(Some(all))
    }

    fn has(&self, name: &str) -> bool {
        self.header.tensors.contains_key(name)
    }

    fn vector_if_any(&mut self, name: &str) -> Result<Option<Vec<f32>>> {
        if self.has(name) { self.vector(name).map(Some) } else { Ok(None) }
    }

    fn vector(&mut self, name: &str) -> Result<Vec<f32>> {
        let rows = self.rows(name)?;
        let elements = rows.bytes.len() / rows.kind.type_size() * rows.kind.block_size();
        let tensor = rows.kind.from_data(rows.bytes.as_slice().into());
        match tensor.dequantize(elements)? {
            CpuStorage::F32(values) => Ok(values),
            _ => Err(Error::Msg(format!("{name} does not become numbers of 32 bits"))),
        }
    }

    /// The rows of one tensor.
    fn rows(&mut self, name: &str) -> Result<Rows> {
        let missing = || Error::Msg(format!("there is no tensor {name}"));
        let tensor = self.header.tensors.get(name).ok_or_else(missing)?;
        let kind = dtype(tensor.kind).ok_or_else(missing)?;
        let size = tensor.size(kind).and_then(|size| usize::try_from(size).ok()).ok_or_else(missing)?;
        let count = tensor.dimensions.get(1).copied().unwrap_or(1) as usize;
        self.reader.seek(SeekFrom::Start(self.header.data + tensor.offset))?;
        let mut bytes = vec![0; size];
        self.reader.read_exact(&mut bytes)?;
        Rows { kind, count, bytes }.computable().multipliable()
    }

    /// The matrix of these tensors, one below the other.
    fn matrix(&mut self, columns: usize, names: &[impl AsRef<str>]) -> Result<Matrix> {
        let rows = names.iter().map(|name| self.rows(name.as_ref())).collect::<Result<Vec<_>>>()?;
        Matrix::new(columns, &rows, self.threads)
    }

    fn packed_matrix(&mut self, columns: usize, names: &[impl AsRef<str>]) -> Result<Matrix> {
        let matrix = self.matrix(columns, names)?;
        self.packed(matrix)
    }

    /// Has a matrix packed, and what is not needed any more let go.
    fn packed(&self, matrix: Matrix) -> Result<Matrix> {
        let mut threads = Threads { pool: &mut SingleThread, count: 1, kernels: self.kernels };
        // One row, whole blocks, and the odd rows at the end of a prompt take different ways.
        for rows in [1, 2, 3, 6, 32] {
            matrix.product(&mut threads, &CpuStorage::F32(vec![0.0; rows * matrix.columns()]), rows)?;
        }
        matrix.release_what_is_packed();
        Ok(matrix)
    }
}
