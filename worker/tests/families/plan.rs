//! What a test says of a decoder: the numbers from which both its file and its reference are made.
use super::file::File;
use candle_core::quantized::GgmlDType;

/// Which two numbers of a head are turned together.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pairing {
    Neighbours,
    Halves,
}

/// A decoder, in the words of its definition.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) architecture: &'static str,
    pub(crate) blocks: usize,
    pub(crate) width: usize,
    pub(crate) feed_forward: usize,
    pub(crate) heads: usize,
    pub(crate) heads_kv: usize,
    pub(crate) head: usize,
    pub(crate) tokens: usize,
    pub(crate) epsilon: f32,
    pub(crate) pairing: Pairing,
    /// The numbers of a head that are turned.
    pub(crate) turned: usize,
    pub(crate) rope_base: f32,
    /// Positions are divided by it.
    pub(crate) linear: f64,
    /// Each pair's angle is divided by its own.
    pub(crate) divisors: Option<Vec<f32>>,
    pub(crate) magnitude: f64,
    /// All blocks but each so-many-th see only so many tokens, with another base.
    pub(crate) local: Option<(usize, usize, f32)>,
    /// The parts that have biases.
    pub(crate) biases: &'static [&'static str],
    pub(crate) head_norms: bool,
    pub(crate) post_norms: bool,
    pub(crate) fused: bool,
    pub(crate) tied: bool,
    pub(crate) gelu: bool,
    pub(crate) embedding_scale: f64,
    pub(crate) logit_cap: Option<f64>,
    /// The element type of each matrix.
    pub(crate) kind: fn(&str) -> GgmlDType,
    /// What only the file says.
    pub(crate) also: fn(File, &str) -> File,
}

impl Plan {
    /// Two blocks in which four heads share each of two keys.
    pub(crate) fn llama() -> Plan {
        Plan {
            architecture: "llama",
            blocks: 2,
            width: 256,
            feed_forward: 512,
            heads: 8,
            heads_kv: 2,
            head: 32,
            tokens: 272,
            epsilon: 0.02,
            pairing: Pairing::Neighbours,
            turned: 32,
            rope_base: 10_000.0,
            linear: 1.0,
            divisors: None,
            magnitude: 1.0,
            local: None,
            biases: &[],
            head_norms: false,
            post_norms: false,
            fused: false,
            tied: false,
            gelu: false,
            embedding_scale: 1.0,
            logit_cap: None,
            kind: |_| GgmlDType::F32,
            also: |file, _| file,
        }
    }

    pub(crate) fn qwen2() -> Plan {
        let biases = &["attn_q", "attn_k", "attn_v"];
        Plan { architecture: "qwen2", pairing: Pairing::Halves, rope_base: 1e6, biases, tied: true, ..Plan::llama() }
    }

    pub(crate) fn qwen3() -> Plan {
        // Its heads are together wider than the model.
        Plan {
            architecture: "qwen3",
            pairing: Pairing::Halves,
            head: 64,
            turned: 64,
            head_norms: true,
            rope_base: 1e6,
            ..Plan::llama()
        }
    }

    /// Seven blocks, of which the sixth sees all tokens.
    pub(crate) fn gemma3() -> Plan {
        Plan {
            architecture: "gemma3",
            blocks: 7,
            heads: 4,
            heads_kv: 1,
            head: 48,
            turned: 48,
            pairing: Pairing::Halves,
            rope_base: 1e6,
            linear: 8.0,
            local: Some((20, 6, 10_000.0)),
            head_norms: true,
            post_norms: true,
            tied: true,
            gelu: true,
            embedding_scale: 16.0,
            also: |file, _| {
                file.text("gemma3.rope.scaling.type", "linear")
                    .float("gemma3.rope.scaling.factor", 8.0)
                    .unsigned("gemma3.attention.sliding_window", 20)
            },
            ..Plan::llama()
        }
    }

    /// Like the newest of its family, whose converter writes a window of 0.
    pub(crate) fn phi3() -> Plan {
        Plan {
            architecture: "phi3",
            pairing: Pairing::Halves,
            fused: true,
            also: |file, _| file.unsigned("phi3.attention.sliding_window", 0),
            ..Plan::llama()
        }
    }

    pub(crate) fn queries(&self) -> usize {
        self.heads * self.head
    }

    pub(crate) fn shared(&self) -> usize {
        self.heads_kv * self.head
    }

    /// The matrices of a block: name, rows, columns.
    pub(crate) fn matrices(&self) -> Vec<(&'static str, usize, usize)> {
        let (width, hidden) = (self.width, self.feed_forward);
        let mut all = vec![("attn_output", width, self.queries()), ("ffn_down", width, hidden)];
        if self.fused {
            all.extend([("attn_qkv", self.queries() + 2 * self.shared(), width), ("ffn_up", 2 * hidden, width)]);
        } else {
            all.extend([
                ("attn_q", self.queries(), width),
                ("attn_k", self.shared(), width),
                ("attn_v", self.shared(), width),
                ("ffn_gate", hidden, width),
                ("ffn_up", hidden, width),
            ]);
        }
        all
    }

    /// The norms of a block and their lengths.
    pub(crate) fn norms(&self) -> Vec<(&'static str, usize)> {
        let mut all = vec![("attn_norm", self.width), ("ffn_norm", self.width)];
        if self.head_norms {
            all.extend([("attn_q_norm", self.head), ("attn_k_norm", self.head)]);
        }
        if self.post_norms {
            all.extend([("post_attention_norm", self.width), ("post_ffw_norm", self.width)]);
        }
        all
    }
}
