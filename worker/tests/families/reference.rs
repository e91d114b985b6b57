//! The forward pass as papers write it down: in 64 bits, token by token over the whole text, with
//! nothing kept and nothing shared with the decoder. Only keys and values are rounded to 16 bits,
//! as the cache does.
//!
//! RMS norm: Zhang and Sennrich 2019. Rotary positions: Su et al. 2021, as the multiplication of
//! complex numbers that they are. Grouped-query attention: Ainslie et al. 2023. Gated feed-forward
//! layers: Shazeer 2020. GELU: Hendrycks and Gimpel 2016.
use super::{
    file::Weights,
    plan::{Pairing, Plan},
};
use half::f16;
use std::ops::Range;

type Vector = Vec<f64>;

struct Reference<'a> {
    plan: &'a Plan,
    weights: &'a Weights,
}

/// The logits after each token of a text.
pub(crate) fn logits(plan: &Plan, weights: &Weights, text: &[u32]) -> Vec<Vector> {
    let reference = Reference { plan, weights };
    let embedding = &weights["token_embd.weight"];
    let mut stream: Vec<Vector> = text
        .iter()
        .map(|id| embedding[*id as usize].iter().map(|value| f64::from(*value) * plan.embedding_scale).collect())
        .collect();
    for block in 0..plan.blocks {
        reference.attention(block, &mut stream);
        stream.iter_mut().for_each(|token| reference.feed_forward(block, token));
    }
    let output = if plan.tied { "token_embd.weight" } else { "output.weight" };
    stream
        .iter()
        .map(|token| {
            let normed = reference.norm("output_norm.weight", token);
            let logits = reference.times(output, 0..plan.tokens, &normed);
            logits.into_iter().map(|logit| plan.logit_cap.map_or(logit, |cap| cap * (logit / cap).tanh())).collect()
        })
        .collect()
}

impl Reference<'_> {
    /// These rows of a matrix times a vector.
    fn times(&self, name: &str, rows: Range<usize>, vector: &[f64]) -> Vector {
        let product =
            |row: &Vec<f32>| row.iter().zip(vector).map(|(weight, value)| f64::from(*weight) * value).sum::<f64>();
        self.weights[name][rows].iter().map(product).collect()
    }

    fn norm(&self, name: &str, vector: &[f64]) -> Vector {
        let square = vector.iter().map(|value| value.powi(2)).sum::<f64>() / vector.len() as f64;
        let root = (square + f64::from(self.plan.epsilon)).sqrt();
        self.weights[name][0].iter().zip(vector).map(|(weight, value)| f64::from(*weight) * value / root).collect()
    }

    /// What a block's layer makes of a token, with its bias.
    fn layer(&self, block: usize, name: &str, rows: Range<usize>, token: &[f64]) -> Vector {
        let mut made = self.times(&format!("blk.{block}.{name}.weight"), rows, token);
        if self.plan.biases.contains(&name) {
            let bias = &self.weights[&format!("blk.{block}.{name}.bias")][0];
            made.iter_mut().zip(bias).for_each(|(value, bias)| *value += f64::from(*bias));
        }
        made
    }

    /// How far the token at `position` turns each pair of a head.
    fn angles(&self, block: usize, position: usize) -> Vector {
        let (base, linear, divisors) = match self.local(block) {
            Some((_, base)) => (base, 1.0, None),
            None => (self.plan.rope_base, self.plan.linear, self.plan.divisors.as_ref()),
        };
        let pairs = self.plan.turned / 2;
        (0..pairs)
            .map(|pair| {
                let wavelength = f64::from(base).powf(pair as f64 / pairs as f64);
                let divisor = divisors.map_or(1.0, |divisors| f64::from(divisors[pair]));
                position as f64 / linear / wavelength / divisor
            })
            .collect()
    }

    /// The window and the base of a block that sees only the last tokens.
    fn local(&self, block: usize) -> Option<(usize, f32)> {
        let (window, every, base) = self.plan.local?;
        (!(block + 1).is_multiple_of(every)).then_some((window, base))
    }

    /// A head's query or key: normed if the family does, and turned.
    fn placed(&self, block: usize, norm: &str, head: &[f64], position: usize) -> Vector {
        let mut head =
            if self.plan.head_norms { self.norm(&format!("blk.{block}.{norm}.weight"), head) } else { head.to_vec() };
        let pairs = self.plan.turned / 2;
        for (pair, angle) in self.angles(block, position).into_iter().enumerate() {
            let (real, imaginary) = match self.plan.pairing {
                Pairing::Neighbours => (2 * pair, 2 * pair + 1),
                Pairing::Halves => (pair, pair + pairs),
            };
            let (length, direction) = (head[real].hypot(head[imaginary]), head[imaginary].atan2(head[real]));
            head[real] = self.plan.magnitude * length * (direction + angle).cos();
            head[imaginary] = self.plan.magnitude * length * (direction + angle).sin();
        }
        head
    }

    fn attention(&self, block: usize, stream: &mut [Vector]) {
        let plan = self.plan;
        let (queries, shared) = (plan.queries(), plan.shared());
        let parts = if plan.fused {
            let keys = queries + shared;
            [("attn_qkv", 0..queries), ("attn_qkv", queries..keys), ("attn_qkv", keys..keys + shared)]
        } else {
            [("attn_q", 0..queries), ("attn_k", 0..shared), ("attn_v", 0..shared)]
        };
        let project = |part: usize, token: &[f64]| -> Vector {
            let normed = self.norm(&format!("blk.{block}.attn_norm.weight"), token);
            let (name, rows) = &parts[part];
            self.layer(block, name, rows.clone(), &normed)
        };
        let rounded =
            |values: Vector| -> Vector { values.into_iter().map(|value| f16::from_f64(value).to_f64()).collect() };
        let heads = |token: Vector| -> Vec<Vector> { token.chunks(plan.head).map(<[f64]>::to_vec).collect() };
        let keys: Vec<Vec<Vector>> = stream
            .iter()
            .enumerate()
            .map(|(position, token)| {
                let turned = |key: Vector| rounded(self.placed(block, "attn_k_norm", &key, position));
                heads(project(1, token)).into_iter().map(turned).collect()
            })
            .collect();
        let values: Vec<Vec<Vector>> = stream.iter().map(|token| heads(rounded(project(2, token)))).collect();
        for (position, token) in stream.iter_mut().enumerate() {
            let first = self.local(block).map_or(0, |(window, _)| (position + 1).saturating_sub(window));
            let mut seen = Vec::new();
            for (head, query) in heads(project(0, token)).into_iter().enumerate() {
                let group = head / (plan.heads / plan.heads_kv);
                let query = self.placed(block, "attn_q_norm", &query, position);
                let score = |other: usize| -> f64 {
                    let product: f64 = query.iter().zip(&keys[other][group]).map(|(a, b)| a * b).sum();
                    product / (plan.head as f64).sqrt()
                };
                let weights: Vector = (first..=position).map(|other| score(other).exp()).collect();
                let total: f64 = weights.iter().sum();
                seen.extend((0..plan.head).map(|number| {
                    let weighted =
                        (first..=position).zip(&weights).map(|(other, weight)| weight * values[other][group][number]);
                    weighted.sum::<f64>() / total
                }));
            }
            self.add(block, "post_attention_norm", self.layer(block, "attn_output", 0..plan.width, &seen), token);
        }
    }

    fn feed_forward(&self, block: usize, token: &mut Vector) {
        let hidden = self.plan.feed_forward;
        let normed = self.norm(&format!("blk.{block}.ffn_norm.weight"), token);
        let (gate, up) = if self.plan.fused {
            (self.layer(block, "ffn_up", 0..hidden, &normed), self.layer(block, "ffn_up", hidden..2 * hidden, &normed))
        } else {
            (self.layer(block, "ffn_gate", 0..hidden, &normed), self.layer(block, "ffn_up", 0..hidden, &normed))
        };
        let active = |x: f64| {
            if self.plan.gelu {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
                0.5 * x * (1.0 + inner.tanh())
            } else {
                x / (1.0 + (-x).exp())
            }
        };
        let gated: Vector = gate.into_iter().zip(up).map(|(gate, up)| active(gate) * up).collect();
        self.add(block, "post_ffw_norm", self.layer(block, "ffn_down", 0..self.plan.width, &gated), token);
    }

    /// Adds what a layer made to a token, normed if the family does.
    fn add(&self, block: usize, norm: &str, made: Vector, token: &mut Vector) {
        let made = if self.plan.post_norms { self.norm(&format!("blk.{block}.{norm}.weight"), &made) } else { made };
        token.iter_mut().zip(made).for_each(|(value, made)| *value += made);
    }
}
