//! The decoder: one forward pass for all the families of `hparams`, on the tensor library's
//! quantised kernels and our own threads.
//!
//! It keeps nothing of a text but what it writes into the cache it is given, so a cache that one
//! worker left can be gone on with by another, with the same bits. Those depend on how a prompt is
//! cut into calls, and on nothing else: not on the number of threads, not on what was computed
//! before. What this does not do: sample, or decide when a position counts as done.
mod attention;
mod footprint;
mod hparams;
mod matrix;
mod rope;
mod rows;
mod threads;
mod weights;

pub use hparams::{ARCHITECTURES, HparamsError};

use super::{ComputeError, Pace, TextModel};
use crate::{ThreadPool, gguf::Header, kernels::Kernels};
use attention::Attention;
use candle_core::CpuStorage;
use footprint::footprint;
use hparams::{Activation, Hparams};
use rope::Rope;
use std::io::{Read, Seek};
use threads::Threads;
use weights::Weights;

/// A model in memory.
pub(super) struct Decoder {
    hparams: Hparams,
    weights: Weights,
    /// Most tokens of a text.
    context: usize,
    /// Numbers of all keys, or of all values, of one head.
    head_room: usize,
    cache_length: usize,
    rope: Rope,
    /// For the blocks that see only the last tokens.
    local_rope: Option<Rope>,
    kernels: Kernels,
    pool: Box<dyn ThreadPool>,
    /// Most threads that it may compute with.
    most_threads: usize,
    logits: Vec<f32>,
}

impl Decoder {
    /// Compares a header with what its architecture needs; `tokens` is the size of the vocabulary.
    /// Returns the tokens that the model was made for and the decoder's
    /// hyperparameters.
    pub(super) fn check(header: &Header, architecture: &str, tokens: usize) -> Result<Checked, HparamsError> {
        Hparams::read(header, architecture, tokens).map(Checked)
    }

    /// Reads the weights, for texts of at most `context` tokens and at most `threads` threads of
    /// `pool`.
    pub(super) fn load(
        Checked(hparams): Checked,
        header: &Header,
        reader: &mut (impl Read + Seek),
        context: usize,
        threads: usize,
        pool: Box<dyn ThreadPool>,
    ) -> candle_core::Result<Decoder> {
        let lengths = hparams.head_room(context).zip(hparams.cache_length(context));
        let too_long = || candle_core::Error::Msg(format!("no cache can be as long as {context} tokens need"));
        let (head_room, cache_length) = lengths.ok_or_else(too_long)?;
        let weights = Weights::read(&hparams, header, reader, threads, context)?;
        let of = &hparams.rope;
        let factors = weights.rope_factors.as_deref();
        let rope = Rope::new(of.pairs, of.dimensions, of.base, of.scale, factors, of.magnitude);
        let local_rope =
            hparams.local.map(|local| Rope::new(of.pairs, of.dimensions, local.base, 1.0, None, of.magnitude));
        let kernels = Kernels::new();
        let logits = Vec::new();
        let most_threads = threads.max(1);
        Ok(Decoder {
            hparams,
            weights,
            context,
            head_room,
            cache_length,
            rope,
            local_rope,
            kernels,
            pool,
            most_threads,
            logits,
        })
    }
}

/// Hyperparameters that fit the file they were read from.
pub(super) struct Checked(Hparams);

impl Checked {
    /// Tokens that the model was made for.
    pub(super) fn context(&self) -> usize {
        self.0.context
    }

    /// Numbers of the cache of a text of at most `context` tokens, if they can be counted.
    pub(super) fn cache_length(&self, context: usize) -> Option<usize> {
        self.0.cache_length(context)
    }

    /// Bytes that the weights of the file with this header take in memory.
    pub(super) fn memory(&self, header: &Header) -> u64 {
        footprint(header)
    }
}

impl TextModel for Decoder {
    fn cache_length(&self) -> usize {
        self.cache_length
    }

    fn forward(
        &mut self,
        tokens: &[u32],
        position: usize,
        cache: &mut [u16],
        pace: &dyn Pace,
    ) -> Result<&[f32], ComputeError> {
        if tokens.is_empty() {
            return Err(ComputeError::NoTokens);
        }
        let room = self.context.checked_sub(position);
        if room.is_none_or(|room| tokens.len() > room) || cache.len() < self.cache_length {
            return Err(ComputeError::TooManyTokens);
        }
        self.logits = self.pass(tokens, position, cache, pace)?;
        Ok(&self.logits)
    }
}

impl Decoder {
    fn pass(
        &mut self,
        tokens: &[u32],
        position: usize,
        cache: &mut [u16],
        pace: &dyn Pace,
    ) -> Result<Vec<f32>, ComputeError> {
        let (count, hidden_size, head_room) = (tokens.len(), self.hparams.hidden_size, self.head_room);
        let Decoder { hparams, weights, rope, local_rope, kernels, pool, most_threads, .. } = self;
        let kernels = *kernels;
        let mut hidden = vec![0.0; count * hidden_size];
        for (token, row) in tokens.iter().zip(hidden.chunks_exact_mut(hidden_size)) {
            weights.embedding.row(*token as usize, row)?;
        }
        if hparams.embedding_scale != 1.0 {
            hidden.iter_mut().for_each(|value| *value *= hparams.embedding_scale);
        }
        let angles = rope.angles(position, count);
        let local_angles = local_rope.as_ref().map(|rope| rope.angles(position, count));
        let activate = match hparams.activation {
            Activation::Silu => Kernels::silu_gate,
            Activation::Gelu => Kernels::gelu_gate,
        };
        // Whatever goes into a product or into the cache is looked at: products of quantised weights
        // make 0 of what is no number, and the cache has none.
        let finite = |values: &[f32]| if kernels.all_finite(values) { Ok(()) } else { Err(ComputeError::NotFinite) };
        let mut threads = Threads { pool: &mut **pool, count: 1, kernels };
        let mut normed = CpuStorage::F32(vec![0.0; count * hidden_size]);
        let caches = cache.chunks_exact_mut(hparams.heads_kv * 2 * head_room);
        for (index, (block, cache)) in weights.blocks.iter().zip(caches).enumerate() {
            threads.use_threads(pace.layer().min(*most_threads));
            let norm = |weight: &[f32], hidden: &[f32], normed: &mut CpuStorage| {
                if let CpuStorage::F32(normed) = normed {
                    kernels.rms_norm(hidden, weight, hparams.epsilon, normed);
                }
            };
            norm(&block.attention_norm, &hidden, &mut normed);
            finite(normed.as_slice()?)?;
            let mut projected = block.queries_keys_values.product(&mut threads, &normed, count)?;
            if let Some(bias) = &block.queries_keys_values_bias {
                kernels.add(&mut projected, bias);
            }
            finite(&projected)?;
            block.head_norms.as_ref().map_or(Ok(()), |(_, keys)| finite(keys))?;
            let local = hparams.local.filter(|local| index % local.every != local.every - 1);
            let (rope, angles, window) = match (local, &*local_rope, &local_angles) {
                (Some(local), Some(rope), Some(angles)) => (rope, angles, local.window),
                _ => (&*rope, &angles, usize::MAX),
            };
            let attention = Attention { hparams, block, kernels, rope, angles, position, count, window, head_room };
            let attended = CpuStorage::F32(attention.run(&mut threads, &projected, cache));
            finite(attended.as_slice()?)?;
            let mut output = block.attention_output.product(&mut threads, &attended, count)?;
            if let Some(bias) = &block.attention_output_bias {
                kernels.add(&mut output, bias);
            }
            if let Some((norm, _)) = &block.post_norms {
                kernels.rms_norm_in_place(&mut output, norm, hparams.epsilon);
            }
            kernels.add(&mut hidden, &output);

            norm(&block.feed_forward_norm, &hidden, &mut normed);
            finite(normed.as_slice()?)?;
            let gated = CpuStorage::F32(block.gate_up.gated(&mut threads, &normed, count, activate)?);
            finite(gated.as_slice()?)?;
            let mut output = block.down.product(&mut threads, &gated, count)?;
            if let Some((_, norm)) = &block.post_norms {
                kernels.rms_norm_in_place(&mut output, norm, hparams.epsilon);
            }
            kernels.add(&mut hidden, &output);
        }
        let mut last = vec![0.0; hidden_size];
        kernels.rms_norm(&hidden[(count - 1) * hidden_size..], &weights.output_norm, hparams.epsilon, &mut last);
        finite(&last)?;
        let last = CpuStorage::F32(last);
        let output = weights.output.as_ref().unwrap_or(&weights.embedding);
        let mut logits = output.product(&mut threads, &last, 1)?;
        finite(&logits)?;
        if let Some(cap) = hparams.logit_cap {
            logits.iter_mut().for_each(|logit| *logit = cap * (*logit / cap).tanh());
        }
        Ok(logits)
    }
}
