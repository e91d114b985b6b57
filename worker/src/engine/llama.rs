//! The Llama architecture, computed by candle on the processor.
//!
//! Before candle sees a file, [`Shape`] has checked it: candle believes what a header says, divides by it and allocates by it. A file
//! that needs something that candle's Llama would silently leave out is refused, because its answers would be made up.
use super::{
    Engine, EngineError,
    gguf::{GgufError, Header, dtype, shown},
};
use candle_core::{
    Device, Tensor,
    quantized::gguf_file::{Content, TensorInfo, Value, VersionedMagic},
};
use candle_transformers::models::quantized_llama::{MAX_SEQ_LEN, ModelWeights};
use std::{
    collections::HashMap,
    io::{Read, Seek},
};
use thiserror::Error;

/// The architecture's name in a file, and the prefix of its keys.
pub(super) const ARCHITECTURE: &str = "llama";
/// The most tokens that candle's Llama has positions for.
pub(super) const MOST_CONTEXT: usize = MAX_SEQ_LEN;

/// A Llama in memory.
pub(super) struct Llama {
    weights: ModelWeights,
    /// The weights without a text. They share all tensors, and what was packed of them, with `weights`; but `weights` also keeps a mask
    /// for each prompt length it has seen and offers no way to forget it.
    pristine: ModelWeights,
    logits: Vec<f32>,
}

impl Llama {
    /// Reads the weights of the file that has this header and `shape`.
    pub(super) fn load(shape: &Shape, header: &Header, reader: &mut (impl Read + Seek)) -> candle_core::Result<Llama> {
        let weights = ModelWeights::from_gguf(shape.content(header), reader, &Device::Cpu)?;
        Ok(Llama { pristine: weights.clone(), weights, logits: Vec::new() })
    }
}

impl Engine for Llama {
    fn begin(&mut self, _prompt: usize) {
        self.reset();
    }

    fn forward(&mut self, tokens: &[u32], position: usize) -> Result<&[f32], EngineError> {
        if tokens.is_empty() {
            return Err(EngineError::NoTokens);
        }
        let input = Tensor::new(tokens, &Device::Cpu).and_then(|ids| ids.unsqueeze(0)).map_err(EngineError::Compute)?;
        let output = self.weights.forward(&input, position).map_err(EngineError::Compute)?;
        self.logits = output.flatten_all().and_then(|logits| logits.to_vec1()).map_err(EngineError::Compute)?;
        Ok(&self.logits)
    }

    fn reset(&mut self) {
        self.weights = self.pristine.clone();
    }
}

/// The numbers that say how large each tensor of a Llama is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shape {
    blocks: u64,
    width: u64,
    feed_forward: u64,
    heads: u64,
    heads_kv: u64,
    tokens: u64,
    experts: u64,
    experts_used: u64,
    epsilon: f64,
    rope_base: f64,
    /// Tokens that the model was made for.
    pub(super) context: u64,
}

/// Why a file is no Llama that can be computed.
#[derive(Debug, Error)]
pub enum ShapeError {
    /// A number is missing or of another type.
    #[error(transparent)]
    Header(#[from] GgufError),
    /// A number is outside of what it may be.
    #[error("its {key} is {found}, which cannot be")]
    Number {
        /// The number's key.
        key: String,
        /// What it is.
        found: u64,
    },
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
    #[error("its tensor {name} is of type {kind}, which is not supported")]
    Kind {
        /// The tensor's name.
        name: String,
        /// The file's number for the type.
        kind: u32,
    },
    /// The file contains or asks for something that would be left out.
    #[error("it needs {0}, which is not supported")]
    Needs(String),
    /// The tensors lie over one another.
    #[error("its tensors need {needed} bytes, but the file has {size}")]
    Overlap {
        /// Bytes of all tensors together.
        needed: u64,
        /// Bytes of the file.
        size: u64,
    },
}

impl Shape {
    /// Reads the numbers, and compares all tensors with them.
    ///
    /// `tokens` is the number of tokens in the vocabulary, `size` the file's size.
    pub(super) fn read(header: &Header, tokens: usize, size: u64) -> Result<Shape, ShapeError> {
        let shape = Shape::numbers(header, tokens as u64)?;
        shape.refuse_what_would_be_left_out(header)?;
        let mut total = 0_u64;
        for (name, expected) in shape.tensors() {
            let Some(tensor) = header.tensors.get(&name) else {
                // Without one of its own, the output layer uses the embedding's.
                if name == OUTPUT {
                    continue;
                }
                return Err(ShapeError::NoTensor(name));
            };
            if tensor.dimensions != expected {
                return Err(ShapeError::Dimensions { name, found: tensor.dimensions.clone(), expected });
            }
            let bytes = dtype(tensor.kind).and_then(|kind| tensor.size(kind));
            let Some(bytes) = bytes else { return Err(ShapeError::Kind { name, kind: tensor.kind }) };
            total = total.saturating_add(bytes);
        }
        if total > size {
            return Err(ShapeError::Overlap { needed: total, size });
        }
        Ok(shape)
    }

    fn numbers(header: &Header, tokens: u64) -> Result<Shape, ShapeError> {
        let key = |name: &str| format!("{ARCHITECTURE}.{name}");
        let optional = |name: &str, default: u64| -> Result<u64, ShapeError> {
            Ok(header.unsigned(&key(name))?.unwrap_or(default))
        };
        // Candle computes these in 32 bits.
        let number = |name: &str| match header.unsigned(&key(name))? {
            None => Err(ShapeError::Header(GgufError::Missing(key(name)))),
            Some(found @ (0 | 0x8000_0000..)) => Err(ShapeError::Number { key: key(name), found }),
            Some(found) => Ok(found),
        };
        let float = |name: &str| header.float(&key(name)).map_err(ShapeError::Header);
        let check = |name: &str, found: u64, right: bool| {
            if right { Ok(()) } else { Err(ShapeError::Number { key: key(name), found }) }
        };
        let heads = number("attention.head_count")?;
        let width = number("embedding_length")?;
        let shape = Shape {
            blocks: number("block_count")?,
            width,
            feed_forward: number("feed_forward_length")?,
            heads,
            heads_kv: optional("attention.head_count_kv", heads)?,
            tokens,
            experts: optional("expert_count", 0)?,
            experts_used: optional("expert_used_count", 0)?,
            epsilon: float("attention.layer_norm_rms_epsilon")?
                .ok_or_else(|| GgufError::Missing(key("attention.layer_norm_rms_epsilon")))?,
            rope_base: float("rope.freq_base")?.unwrap_or(10_000.0),
            context: number("context_length")?,
        };
        // Each expert of each block has tensors: more of them than tensors is a lie that would be allocated for.
        let tensors = header.tensors.len() as u64;
        check("block_count", shape.blocks, shape.blocks <= tensors)?;
        check("expert_count", shape.experts, shape.blocks.saturating_mul(shape.experts) <= tensors)?;
        if shape.experts > 1 {
            let used = shape.experts_used;
            check("expert_used_count", used, (1..=shape.experts).contains(&used))?;
        }
        check("attention.head_count", heads, width.is_multiple_of(heads) && (width / heads).is_multiple_of(2))?;
        let shared = shape.heads_kv;
        check("attention.head_count_kv", shared, shared > 0 && heads.is_multiple_of(shared))?;
        for name in ["rope.dimension_count", "attention.key_length", "attention.value_length"] {
            let found = optional(name, shape.head())?;
            check(name, found, found == shape.head())?;
        }
        Ok(shape)
    }

    /// Refuses what candle would not read: its answers would be another model's.
    fn refuse_what_would_be_left_out(&self, header: &Header) -> Result<(), ShapeError> {
        let scaling = format!("{ARCHITECTURE}.rope.scaling.type");
        if let Some(kind) = header.text(&scaling)?
            && kind != "none"
        {
            return Err(ShapeError::Needs(format!("{} scaling of its positions", shown(kind))));
        }
        let legacy = header.float(&format!("{ARCHITECTURE}.rope.scale_linear"))?;
        if legacy.is_some_and(|factor| factor != 1.0) {
            return Err(ShapeError::Needs("linear scaling of its positions".to_owned()));
        }
        let known: HashMap<String, Vec<u64>> = self.tensors().collect();
        match header.tensors.keys().filter(|name| !known.contains_key(*name)).min() {
            Some(name) => Err(ShapeError::Needs(format!("its tensor {}", shown(name)))),
            None => Ok(()),
        }
    }

    /// Length of one head's vectors.
    fn head(&self) -> u64 {
        self.width / self.heads
    }

    /// All tensors of a Llama of this shape, with their dimensions as a file has them.
    fn tensors(&self) -> impl Iterator<Item = (String, Vec<u64>)> {
        let Shape { width, feed_forward, tokens, .. } = *self;
        let shared = self.head() * self.heads_kv;
        let whole = [
            (EMBEDDING.to_owned(), vec![width, tokens]),
            ("output_norm.weight".to_owned(), vec![width]),
            (OUTPUT.to_owned(), vec![width, tokens]),
        ];
        let expert_names = match self.experts {
            0 | 1 => vec![String::new()],
            experts => (0..experts).map(|expert| format!(".{expert}")).collect(),
        };
        let router = (self.experts > 1).then(|| ("ffn_gate_inp".to_owned(), vec![width, self.experts]));
        let each = [
            ("attn_norm", vec![width]),
            ("attn_q", vec![width, width]),
            ("attn_k", vec![width, shared]),
            ("attn_v", vec![width, shared]),
            ("attn_output", vec![width, width]),
            ("ffn_norm", vec![width]),
        ];
        let each: Vec<(String, Vec<u64>)> = each
            .into_iter()
            .map(|(name, dimensions)| (name.to_owned(), dimensions))
            .chain(router)
            .chain(expert_names.into_iter().flat_map(move |expert| {
                [
                    (format!("ffn_gate{expert}"), vec![width, feed_forward]),
                    (format!("ffn_up{expert}"), vec![width, feed_forward]),
                    (format!("ffn_down{expert}"), vec![feed_forward, width]),
                ]
            }))
            .collect();
        whole.into_iter().chain((0..self.blocks).flat_map(move |block| {
            let named =
                |(name, dimensions): &(String, Vec<u64>)| (format!("blk.{block}.{name}.weight"), dimensions.clone());
            each.iter().map(named).collect::<Vec<_>>()
        }))
    }

    /// What candle wants to know, and nothing that was not checked.
    fn content(&self, header: &Header) -> Content {
        let integer = |name: &str, number: u64| (format!("{ARCHITECTURE}.{name}"), Value::U32(number as u32));
        let float = |name: &str, number: f64| (format!("{ARCHITECTURE}.{name}"), Value::F32(number as f32));
        let metadata = HashMap::from([
            ("general.architecture".to_owned(), Value::String(ARCHITECTURE.to_owned())),
            integer("block_count", self.blocks),
            integer("embedding_length", self.width),
            integer("attention.head_count", self.heads),
            integer("attention.head_count_kv", self.heads_kv),
            integer("expert_count", self.experts),
            integer("expert_used_count", self.experts_used),
            integer("rope.dimension_count", self.head()),
            float("attention.layer_norm_rms_epsilon", self.epsilon),
            float("rope.freq_base", self.rope_base),
        ]);
        let tensor_infos = self.tensors().filter_map(|(name, dimensions)| {
            let tensor = header.tensors.get(&name)?;
            let shape: Vec<usize> = dimensions.iter().rev().map(|dimension| *dimension as usize).collect();
            let info = TensorInfo { ggml_dtype: dtype(tensor.kind)?, shape: shape.into(), offset: tensor.offset };
            Some((name, info))
        });
        Content {
            magic: VersionedMagic::GgufV3,
            metadata,
            tensor_infos: tensor_infos.collect(),
            tensor_data_offset: header.data,
        }
    }
}

const EMBEDDING: &str = "token_embd.weight";
const OUTPUT: &str = "output.weight";

#[cfg(test)]
mod tests {
    use super::{
        super::gguf::build::{Gguf, read},
        *,
    };

    const TOKENS: u64 = 3;
    const F32: u32 = 0;

    /// The metadata of a Llama with one block, 64 wide, two heads that share one key, and a feed-forward layer of 32.
    fn numbers() -> Gguf {
        Gguf::new()
            .unsigned("llama.context_length", 128)
            .unsigned("llama.embedding_length", 64)
            .unsigned("llama.block_count", 1)
            .unsigned("llama.feed_forward_length", 32)
            .unsigned("llama.attention.head_count", 2)
            .unsigned("llama.attention.head_count_kv", 1)
            .float("llama.attention.layer_norm_rms_epsilon", 1e-5)
    }

    /// Its tensors, all of them at the same place.
    const TENSORS: [(&str, &[u64]); 11] = [
        ("token_embd", &[64, TOKENS]),
        ("output_norm", &[64]),
        ("blk.0.attn_norm", &[64]),
        ("blk.0.attn_q", &[64, 64]),
        ("blk.0.attn_k", &[64, 32]),
        ("blk.0.attn_v", &[64, 32]),
        ("blk.0.attn_output", &[64, 64]),
        ("blk.0.ffn_norm", &[64]),
        ("blk.0.ffn_gate", &[64, 32]),
        ("blk.0.ffn_up", &[64, 32]),
        ("blk.0.ffn_down", &[32, 64]),
    ];
    const ALL_BYTES: usize = 4 * (64 * 3 + 3 * 64 + 2 * 64 * 64 + 5 * 64 * 32);

    fn with_tensors(file: Gguf, change: impl Fn(&str) -> Option<Vec<u64>>) -> Gguf {
        TENSORS.iter().fold(file, |file, (name, dimensions)| {
            let dimensions = change(name).unwrap_or_else(|| dimensions.to_vec());
            if dimensions.is_empty() { file } else { file.tensor(&format!("{name}.weight"), &dimensions, F32, 0) }
        })
    }

    fn shape(file: &Gguf) -> Result<Shape, ShapeError> {
        let bytes = file.bytes(ALL_BYTES);
        Shape::read(&read(&bytes).unwrap(), TOKENS as usize, bytes.len() as u64)
    }

    fn refused(file: &Gguf) -> String {
        crate::chain(&shape(file).unwrap_err())
    }

    fn whole() -> Gguf {
        with_tensors(numbers(), |_| None)
    }

    #[test]
    fn a_small_llama_is_loaded_and_computes_alike_after_other_texts() {
        let bytes = whole().bytes(ALL_BYTES);
        let header = read(&bytes).unwrap();
        let shape = Shape::read(&header, 3, bytes.len() as u64).unwrap();
        assert_eq!((shape.context, shape.head()), (128, 32));
        let mut llama = Llama::load(&shape, &header, &mut std::io::Cursor::new(bytes)).unwrap();
        let first = llama.forward(&[0, 1, 2], 0).unwrap().to_vec();
        assert_eq!(first.len(), 3);
        llama.forward(&[1], 3).unwrap();
        llama.begin(3);
        assert_eq!(llama.forward(&[0, 1, 2], 0).unwrap(), first);
        assert!(matches!(llama.forward(&[], 3), Err(EngineError::NoTokens)));
        assert!(matches!(llama.forward(&[3], 3), Err(EngineError::Compute(_))));
    }

    #[test]
    fn numbers_that_would_be_divided_or_allocated_by_are_checked() {
        let with = |key: &str, number| refused(&with_tensors(numbers().unsigned(key, number), |_| None));
        for key in ["embedding_length", "block_count", "feed_forward_length", "attention.head_count", "context_length"]
        {
            for number in [0, u32::MAX] {
                let key = format!("llama.{key}");
                assert_eq!(with(&key, number), format!("its {key} is {number}, which cannot be"));
            }
        }
        for (key, number) in [
            ("llama.attention.head_count_kv", 0),
            ("llama.attention.head_count_kv", 3),
            ("llama.attention.head_count", 5),
            ("llama.attention.head_count", 64),
            ("llama.block_count", 12),
            ("llama.expert_count", 12),
            ("llama.expert_count", u32::MAX),
            ("llama.rope.dimension_count", 16),
            ("llama.attention.key_length", 64),
        ] {
            assert_eq!(with(key, number), format!("its {key} is {number}, which cannot be"));
        }
        assert_eq!(with("llama.expert_count", 2), "its llama.expert_used_count is 0, which cannot be");
        let without = refused(&whole().without("llama.block_count"));
        assert_eq!(without, "it does not say llama.block_count");
        let list = refused(&whole().integers("llama.attention.head_count", &[2]));
        assert_eq!(list, "its llama.attention.head_count is not a whole number from 0");
    }

    #[test]
    fn tensors_are_compared_with_the_numbers() {
        let missing = with_tensors(numbers(), |name| (name == "blk.0.ffn_up").then(Vec::new));
        assert_eq!(refused(&missing), "it has no tensor blk.0.ffn_up.weight");
        let narrow = with_tensors(numbers(), |name| (name == "blk.0.attn_k").then(|| vec![64, 16]));
        assert_eq!(
            refused(&narrow),
            "its tensor blk.0.attn_k.weight has the dimensions [64, 16], but [64, 32] are needed"
        );
        let tokens = with_tensors(numbers(), |name| (name == "token_embd").then(|| vec![64, 2]));
        assert_eq!(refused(&tokens), "its tensor token_embd.weight has the dimensions [64, 2], but [64, 3] are needed");
        let kind = with_tensors(numbers(), |name| (name == "output_norm").then(Vec::new));
        let kind = kind.tensor("output_norm.weight", &[64], 16, 0);
        assert_eq!(refused(&kind), "its tensor output_norm.weight is of type 16, which is not supported");
        // As much data as the largest of them needs, and all of them in it.
        let overlapping = whole().bytes(4 * 64 * 64);
        let error = Shape::read(&read(&overlapping).unwrap(), 3, overlapping.len() as u64).unwrap_err();
        let size = overlapping.len();
        assert_eq!(error.to_string(), format!("its tensors need {ALL_BYTES} bytes, but the file has {size}"));
    }

    #[test]
    fn what_would_be_left_out_is_refused() {
        let factors = whole().tensor("rope_freqs.weight", &[16], F32, 0);
        assert_eq!(refused(&factors), "it needs its tensor rope_freqs.weight, which is not supported");
        let bias = whole().tensor("blk.0.attn_q.bias", &[64], F32, 0);
        assert_eq!(refused(&bias), "it needs its tensor blk.0.attn_q.bias, which is not supported");
        let scaled = whole().text("llama.rope.scaling.type", "yarn");
        assert_eq!(refused(&scaled), "it needs yarn scaling of its positions, which is not supported");
        assert!(shape(&whole().text("llama.rope.scaling.type", "none")).is_ok());
        let legacy = whole().float("llama.rope.scale_linear", 4.0);
        assert_eq!(refused(&legacy), "it needs linear scaling of its positions, which is not supported");
    }
}
