//! What a GGUF file says of its decoder, checked before anything is believed: numbers, tensors,
//! their dimensions and sizes.
//!
//! One decoder computes several families; what differs between them is written down here and
//! nowhere else. A file that needs something that would be left out is refused, because its answers
//! would be made up. What this does not do: read weights.
#[cfg(test)]
mod tests;

use super::rope::Pairs;
use crate::{
    gguf::{ElementType, GgufError, Header, dtype},
    kernels::LANES,
};
use std::collections::HashSet;
use system::foreign_text::shown;
use thiserror::Error;

/// The architectures that can be computed, by their names in a file. Mistral's files say `llama`.
pub const ARCHITECTURES: [&str; 5] = ["llama", "qwen2", "qwen3", "gemma3", "phi3"];

/// The numbers that say what a decoder computes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Hparams {
    pub(super) blocks: usize,
    pub(super) hidden_size: usize,
    pub(super) feed_forward: usize,
    pub(super) heads: usize,
    pub(super) heads_kv: usize,
    /// Numbers of one head's query, key and value.
    pub(super) head: usize,
    pub(super) tokens: usize,
    pub(super) epsilon: f32,
    /// Tokens that the model was made for.
    pub(super) context: usize,
    pub(super) rope: RopeShape,
    /// Blocks that see only the last tokens.
    pub(super) local: Option<Local>,
    pub(super) embedding_scale: f32,
    pub(super) attention_scale: f32,
    pub(super) activation: Activation,
    /// Logits are kept within this by a hyperbolic tangent.
    pub(super) logit_cap: Option<f32>,
    /// Query, key and value are one tensor, gate and up another.
    pub(super) fused: bool,
    /// Queries and keys are normalised head by head.
    pub(super) head_norms: bool,
    /// What attention and feed-forward layers give is normalised, too.
    pub(super) post_norms: bool,
}

/// The activation of a feed-forward layer's gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activation {
    Silu,
    Gelu,
}

/// How positions become angles.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RopeShape {
    pub(super) pairs: Pairs,
    pub(super) dimensions: usize,
    pub(super) base: f64,
    pub(super) scale: f64,
    pub(super) magnitude: f32,
    /// The tensors whose numbers divide the angles.
    pub(super) factors: Factors,
}

/// Which tensor divides the angles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Factors {
    None,
    Always,
    /// One for contexts up to so many tokens, another for longer ones.
    ByContext(usize),
}

/// All blocks but each `every`th see only the last `window` tokens, with angles of their own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Local {
    pub(super) window: usize,
    pub(super) every: usize,
    pub(super) base: f64,
}

/// Why a file is no decoder that can be computed.
#[derive(Debug, Error)]
pub enum HparamsError {
    /// A number is missing or of another type.
    #[error(transparent)]
    Header(#[from] GgufError),
    /// A number is outside of what it may be.
    #[error("its {key} is {found}, which cannot be")]
    Number {
        /// The number's key.
        key: String,
        /// What it is.
        found: String,
    },
    /// The vocabulary is empty.
    #[error("it needs a vocabulary, but has no tokens")]
    NoTokens,
    /// A tensor is missing.
    #[error("it has no tensor {0}")]
    NoTensor(String),
    /// A tensor has other dimensions than the metadata says.
    #[error("its tensor {name} has the dimensions {found:?}, but {expected:?} are needed")]
    Dimensions {
        /// The tensor's name.
        name: String,
        /// Its dimensions.
        found: Vec<u64>,
        /// Those that would fit.
        expected: Vec<u64>,
    },
    /// A tensor's elements are of a type that cannot be computed with.
    #[error("its tensor {name} {kind}")]
    Kind {
        /// The tensor's name.
        name: String,
        /// The type.
        kind: ElementType,
    },
    /// The file contains or asks for something that would be left out.
    #[error("it needs {0}, which is not supported")]
    Needs(String),
}

pub(super) const EMBEDDING: &str = "token_embd.weight";
pub(super) const OUTPUT: &str = "output.weight";
pub(super) const OUTPUT_NORM: &str = "output_norm.weight";
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";
pub(super) const ROPE_FACTORS_SHORT: &str = "rope_factors_short.weight";
pub(super) const ROPE_FACTORS_LONG: &str = "rope_factors_long.weight";

impl Hparams {
    /// Reads the numbers, and compares all tensors with them.
    ///
    /// `tokens` is the number of tokens in the vocabulary.
    pub(super) fn read(header: &Header, architecture: &str, tokens: usize) -> Result<Hparams, HparamsError> {
        if tokens == 0 {
            return Err(HparamsError::NoTokens);
        }
        let keys = Keys { header, architecture };
        let hparams = keys.hparams(tokens)?;
        let mut known = HashSet::new();
        for (name, expected, needed) in hparams.tensors() {
            let Some(tensor) = header.tensors.get(&name) else {
                if needed {
                    return Err(HparamsError::NoTensor(name));
                }
                continue;
            };
            if tensor.dimensions != expected {
                return Err(HparamsError::Dimensions { name, found: tensor.dimensions.clone(), expected });
            }
            let bytes = dtype(tensor.kind).and_then(|kind| tensor.size(kind));
            if bytes.is_none() {
                return Err(HparamsError::Kind { name, kind: ElementType(tensor.kind) });
            }
            known.insert(name);
        }
        // Something that is there and not read would be missing from the answers.
        if let Some(name) = header.tensors.keys().filter(|name| !known.contains(*name)).min() {
            return Err(HparamsError::Needs(format!("its tensor {}", shown(name))));
        }
        Ok(hparams)
    }

    /// Numbers of all keys, or of all values, of one head, for texts of `context` tokens.
    pub(super) fn head_room(&self, context: usize) -> Option<usize> {
        context.checked_next_multiple_of(LANES)?.checked_mul(self.head)
    }

    /// Numbers of a cache for texts of `context` tokens, if they fit into a process.
    pub(super) fn cache_length(&self, context: usize) -> Option<usize> {
        /// So many that their bytes can be counted, and a few more.
        const MOST: usize = isize::MAX as usize / 4;
        let heads = self.blocks.checked_mul(self.heads_kv)?.checked_mul(2)?;
        heads.checked_mul(self.head_room(context)?).filter(|length| *length <= MOST)
    }

    /// All tensors that a decoder with these hyperparameters may have, with their dimensions as a
    /// file has them, and whether it must have them.
    fn tensors(&self) -> impl Iterator<Item = (String, Vec<u64>, bool)> {
        let number = |number: usize| number as u64;
        let (hidden_size, tokens, feed_forward) =
            (number(self.hidden_size), number(self.tokens), number(self.feed_forward));
        let (queries, shared, head) =
            (number(self.heads * self.head), number(self.heads_kv * self.head), number(self.head));
        let whole = [
            (EMBEDDING, vec![hidden_size, tokens], true),
            (OUTPUT_NORM, vec![hidden_size], true),
            // Without one of its own, the output layer uses the embedding's.
            (OUTPUT, vec![hidden_size, tokens], false),
        ];
        let factors = match self.rope.factors {
            Factors::None => vec![],
            Factors::Always => vec![ROPE_FACTORS],
            Factors::ByContext(_) => vec![ROPE_FACTORS_SHORT, ROPE_FACTORS_LONG],
        };
        let pairs = number(self.rope.dimensions / 2);
        let factors = factors.into_iter().map(move |name| (name, vec![pairs], true));
        let mut block = vec![
            ("attn_norm.weight", vec![hidden_size], true),
            ("attn_output.weight", vec![queries, hidden_size], true),
            ("attn_output.bias", vec![hidden_size], false),
            ("ffn_norm.weight", vec![hidden_size], true),
            ("ffn_down.weight", vec![feed_forward, hidden_size], true),
        ];
        if self.fused {
            block.extend([
                ("attn_qkv.weight", vec![hidden_size, queries + 2 * shared], true),
                ("ffn_up.weight", vec![hidden_size, 2 * feed_forward], true),
            ]);
        } else {
            block.extend([
                ("attn_q.weight", vec![hidden_size, queries], true),
                ("attn_k.weight", vec![hidden_size, shared], true),
                ("attn_v.weight", vec![hidden_size, shared], true),
                ("attn_q.bias", vec![queries], false),
                ("attn_k.bias", vec![shared], false),
                ("attn_v.bias", vec![shared], false),
                ("ffn_gate.weight", vec![hidden_size, feed_forward], true),
                ("ffn_up.weight", vec![hidden_size, feed_forward], true),
            ]);
        }
        if self.head_norms {
            block.extend([("attn_q_norm.weight", vec![head], true), ("attn_k_norm.weight", vec![head], true)]);
        }
        if self.post_norms {
            block.extend([
                ("post_attention_norm.weight", vec![hidden_size], true),
                ("post_ffw_norm.weight", vec![hidden_size], true),
            ]);
        }
        let whole =
            whole.into_iter().chain(factors).map(|(name, dimensions, needed)| (name.to_owned(), dimensions, needed));
        let blocks = (0..self.blocks).flat_map(move |index| {
            let named = |(name, dimensions, needed): &(&str, Vec<u64>, bool)| {
                (format!("blk.{index}.{name}"), dimensions.clone(), *needed)
            };
            block.iter().map(named).collect::<Vec<_>>()
        });
        whole.chain(blocks)
    }
}

/// The keys of one architecture.
struct Keys<'a> {
    header: &'a Header,
    architecture: &'a str,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn wrong(&self, name: &str, found: impl ToString) -> HparamsError {
        HparamsError::Number { key: self.key(name), found: found.to_string() }
    }

    fn number_if_any(&self, name: &str) -> Result<Option<usize>, HparamsError> {
        self.within(name, self.header.unsigned(&self.key(name))?)
    }

    /// A number of each block, which some files write as a list.
    fn number_of_blocks(&self, name: &str, blocks: usize) -> Result<Option<usize>, HparamsError> {
        self.within(name, self.header.unsigned_of_blocks(&self.key(name), blocks)?)
    }

    fn within(&self, name: &str, found: Option<u64>) -> Result<Option<usize>, HparamsError> {
        /// More than any of these numbers is, and few enough to be multiplied with another.
        const MOST: u64 = 1 << 31;
        match found {
            Some(found) if found == 0 || found >= MOST => Err(self.wrong(name, found)),
            found => Ok(found.map(|found| found as usize)),
        }
    }

    /// A number of something that a model need not have, which some files say with a 0.
    fn number_or_zero(&self, name: &str) -> Result<Option<usize>, HparamsError> {
        if self.header.unsigned(&self.key(name))? == Some(0) { Ok(None) } else { self.number_if_any(name) }
    }

    fn number(&self, name: &str) -> Result<usize, HparamsError> {
        self.number_if_any(name)?.ok_or_else(|| self.missing(name))
    }

    fn missing(&self, name: &str) -> HparamsError {
        GgufError::Missing(self.key(name)).into()
    }

    /// A number with a fraction, which is finite and not negative.
    fn float(&self, name: &str) -> Result<Option<f64>, HparamsError> {
        match self.header.float(&self.key(name))? {
            Some(found) if !found.is_finite() || found < 0.0 => Err(self.wrong(name, found)),
            found => Ok(found),
        }
    }

    fn check(&self, name: &str, found: impl ToString, right: bool) -> Result<(), HparamsError> {
        if right { Ok(()) } else { Err(self.wrong(name, found)) }
    }

    fn hparams(&self, tokens: usize) -> Result<Hparams, HparamsError> {
        let family = self.architecture;
        let gemma = family == "gemma3";
        let blocks = self.number("block_count")?;
        let of_blocks = |name: &str| self.number_of_blocks(name, blocks);
        let hidden_size = self.number("embedding_length")?;
        let heads = of_blocks("attention.head_count")?.ok_or_else(|| self.missing("attention.head_count"))?;
        let heads_kv = of_blocks("attention.head_count_kv")?.unwrap_or(heads);
        let head = of_blocks("attention.key_length")?.unwrap_or(hidden_size / heads);
        let context = self.number("context_length")?;
        // Each block has tensors: more blocks than tensors is a lie that would be allocated for.
        self.check("block_count", blocks, blocks <= self.header.tensors.len())?;
        self.check("attention.head_count_kv", heads_kv, heads.is_multiple_of(heads_kv))?;
        self.check("attention.head_count", heads, head > 0 && head <= 1 << 12 && head.is_multiple_of(LANES))?;
        let values = of_blocks("attention.value_length")?.unwrap_or(head);
        self.check("attention.value_length", values, values == head)?;
        if let Some(experts) = self.number_or_zero("expert_count")?
            && experts > 1
        {
            return Err(HparamsError::Needs(format!("{experts} experts")));
        }
        let epsilon = self.float("attention.layer_norm_rms_epsilon")?;
        let epsilon = epsilon.ok_or_else(|| GgufError::Missing(self.key("attention.layer_norm_rms_epsilon")))?;
        let local = match self.number_or_zero("attention.sliding_window")? {
            Some(window) if gemma => Some(Local {
                window,
                every: self.number_if_any("attention.sliding_window_pattern")?.unwrap_or(6),
                base: self.base("rope.freq_base_swa")?,
            }),
            // Phi-3's files name a window that its authors do not use in every block; like other
            // engines this one sees all tokens.
            _ => None,
        };
        // Gemma 3 27B, which is the only one with 62 blocks, scales by its hidden_size.
        let scaled_by = if gemma && blocks == 62 { hidden_size / heads } else { head };
        Ok(Hparams {
            blocks,
            hidden_size,
            feed_forward: of_blocks("feed_forward_length")?.ok_or_else(|| self.missing("feed_forward_length"))?,
            heads,
            heads_kv,
            head,
            tokens,
            epsilon: epsilon as f32,
            context,
            rope: self.rope(head, context, blocks)?,
            local,
            embedding_scale: if gemma { (hidden_size as f32).sqrt() } else { 1.0 },
            attention_scale: 1.0 / (scaled_by as f32).sqrt(),
            activation: if gemma { Activation::Gelu } else { Activation::Silu },
            logit_cap: self.float("final_logit_softcapping")?.filter(|cap| *cap > 0.0).map(|cap| cap as f32),
            fused: family == "phi3",
            head_norms: matches!(family, "qwen3" | "gemma3"),
            post_norms: gemma,
        })
    }

    fn base(&self, name: &str) -> Result<f64, HparamsError> {
        let base = self.float(name)?.unwrap_or(10_000.0);
        self.check(name, base, base > 0.0)?;
        Ok(base)
    }

    fn rope(&self, head: usize, context: usize, blocks: usize) -> Result<RopeShape, HparamsError> {
        let dimensions = self.number_of_blocks("rope.dimension_count", blocks)?.unwrap_or(head);
        self.check("rope.dimension_count", dimensions, dimensions <= head && dimensions.is_multiple_of(2))?;
        // A file that does not name the way of scaling means this one; 0 is no factor.
        let scaling = self.header.text(&self.key("rope.scaling.type"))?.unwrap_or("linear");
        let factor = self.float("rope.scaling.factor")?.or(self.float("rope.scale_linear")?);
        let scale = match scaling {
            "none" => 1.0,
            "linear" | "longrope" => factor.filter(|factor| *factor > 0.0).unwrap_or(1.0),
            other => return Err(HparamsError::Needs(format!("{} scaling of its positions", shown(other)))),
        };
        let has = |name: &str| self.header.tensors.contains_key(name);
        let factors = if scaling == "longrope" || has(ROPE_FACTORS_LONG) || has(ROPE_FACTORS_SHORT) {
            Factors::ByContext(self.number_if_any("rope.scaling.original_context_length")?.unwrap_or(context))
        } else if has(ROPE_FACTORS) {
            Factors::Always
        } else {
            Factors::None
        };
        Ok(RopeShape {
            pairs: if self.architecture == "llama" { Pairs::Neighbours } else { Pairs::Halves },
            dimensions,
            base: self.base("rope.freq_base")?,
            scale,
            // Phi-3's files have it, and name no way of scaling.
            magnitude: self.float("rope.scaling.attn_factor")?.unwrap_or(1.0) as f32,
            factors,
        })
    }
}
