//! The attention of one block: keys and values go into the cache in 16 bits, and queries see what
//! is there.
//!
//! It splits the work between threads; the loops over numbers are in `kernels/attention.rs`.
use super::{hparams::Hparams, rope::Rope, threads::Threads, weights::Block};
use crate::kernels::{
    Kernels,
    attention::{Head, ROWS, key_at, to_f16},
};
use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
};

/// The attention of one block for the tokens of one call.
pub(super) struct Attention<'a> {
    pub(super) hparams: &'a Hparams,
    pub(super) block: &'a Block,
    pub(super) kernels: Kernels,
    pub(super) rope: &'a Rope,
    pub(super) angles: &'a [(f32, f32)],
    pub(super) position: usize,
    pub(super) count: usize,
    /// How many tokens back each token sees, itself included.
    pub(super) window: usize,
    pub(super) head_room: usize,
}

impl Attention<'_> {
    /// Adds the keys and values of `projected` to the block's cache, and returns what its queries
    /// see: for each token, all heads.
    pub(super) fn run(&self, threads: &mut Threads<'_>, projected: &[f32], cache: &mut [u16]) -> Vec<f32> {
        let Hparams { heads, heads_kv, head, .. } = *self.hparams;
        let group = heads / heads_kv;
        let rows = self.count * group;
        let parts = rows.div_ceil(ROWS);
        let queries = {
            let caches: Vec<_> = cache.chunks_exact_mut(2 * self.head_room).map(Mutex::new).collect();
            let prepare = |shared: usize| {
                let mut cache = caches[shared].lock().unwrap_or_else(PoisonError::into_inner);
                self.store(shared, projected, &mut cache);
                self.queries(shared, projected)
            };
            // For one token this is less work than to call a helper.
            if self.count == 1 { (0..heads_kv).map(prepare).collect() } else { threads.map(heads_kv, prepare) }
        };
        let seen = threads.map(heads_kv * parts, |part| {
            let (shared, block) = (part / parts, part % parts);
            let range = block * ROWS..rows.min((block + 1) * ROWS);
            let (keys, values) = cache[shared * 2 * self.head_room..][..2 * self.head_room].split_at(self.head_room);
            let head_of = Head { length: head, keys, values };
            let visible: Vec<Range<usize>> = range.clone().map(|row| self.visible(row / group)).collect();
            let mut output = vec![0.0; range.len() * head];
            self.kernels.attend(head_of, &queries[shared][range.start * head..range.end * head], &visible, &mut output);
            output
        });
        let mut output = vec![0.0; rows * heads_kv * head];
        for (part, seen) in seen.into_iter().enumerate() {
            let (shared, block) = (part / parts, part % parts);
            for (row, seen) in (block * ROWS..).zip(seen.chunks_exact(head)) {
                let place = row / group * heads + shared * group + row % group;
                output[place * head..][..head].copy_from_slice(seen);
            }
        }
        output
    }

    /// The positions that the token with this number sees.
    fn visible(&self, token: usize) -> Range<usize> {
        let end = self.position + token + 1;
        end.saturating_sub(self.window)..end
    }

    /// The part of one token's projections that begins at head `first`, of `count` heads; keys come
    /// after queries, values after keys.
    fn heads<'a>(&self, projected: &'a [f32], token: usize, first: usize, count: usize) -> &'a [f32] {
        let Hparams { heads, heads_kv, head, .. } = *self.hparams;
        let row = (heads + 2 * heads_kv) * head;
        &projected[token * row + first * head..][..count * head]
    }

    fn angles(&self, token: usize) -> &[(f32, f32)] {
        &self.angles[token * self.rope.pair_count()..][..self.rope.pair_count()]
    }

    /// Writes one head's keys and values to its cache.
    fn store(&self, shared: usize, projected: &[f32], cache: &mut [u16]) {
        let Hparams { heads, heads_kv, head, epsilon, .. } = *self.hparams;
        let (keys, values) = cache.split_at_mut(self.head_room);
        for token in 0..self.count {
            let position = self.position + token;
            let mut key = self.heads(projected, token, heads + shared, 1).to_vec();
            if let Some((_, norm)) = &self.block.head_norms {
                self.kernels.rms_norm_in_place(&mut key, norm, epsilon);
            }
            self.rope.turn(&mut key, self.angles(token));
            for (index, number) in key.iter().enumerate() {
                keys[key_at(head, position, index)] = to_f16(*number);
            }
            let value = self.heads(projected, token, heads + heads_kv + shared, 1);
            for (place, number) in values[position * head..].iter_mut().zip(value) {
                *place = to_f16(*number);
            }
        }
    }

    /// The queries of the heads that share one key, token by token, turned and scaled.
    fn queries(&self, shared: usize, projected: &[f32]) -> Vec<f32> {
        let Hparams { heads, heads_kv, head, epsilon, attention_scale, .. } = *self.hparams;
        let group = heads / heads_kv;
        let mut all = Vec::with_capacity(self.count * group * head);
        for token in 0..self.count {
            let first = all.len();
            all.extend_from_slice(self.heads(projected, token, shared * group, group));
            let queries = &mut all[first..];
            if let Some((norm, _)) = &self.block.head_norms {
                self.kernels.rms_norm_in_place(queries, norm, epsilon);
            }
            for query in queries.chunks_exact_mut(head) {
                self.rope.turn(query, self.angles(token));
                query.iter_mut().for_each(|number| *number *= attention_scale);
            }
        }
        all
    }
}
