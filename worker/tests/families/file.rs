//! Writes a decoder with random weights as a GGUF file, and keeps what its weights are when they
//! are read back.
use super::plan::Plan;
use candle_core::{
    Device, Tensor,
    quantized::{GgmlDType, QTensor},
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use std::collections::HashMap;

/// The weights of a file, in 32 bits: each tensor is a list of rows.
pub(crate) type Weights = HashMap<String, Vec<Vec<f32>>>;

/// A file in the making.
pub(crate) struct File {
    random: ChaCha8Rng,
    values: Vec<u8>,
    value_count: u64,
    tensors: Vec<u8>,
    tensor_count: u64,
    data: Vec<u8>,
    weights: Weights,
}

const ALIGNMENT: usize = 32;

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

/// GGUF's number for an element type.
fn number(kind: GgmlDType) -> u32 {
    match kind {
        GgmlDType::F32 => 0,
        GgmlDType::F16 => 1,
        GgmlDType::Q4_0 => 2,
        GgmlDType::Q4_1 => 3,
        GgmlDType::Q5_0 => 6,
        GgmlDType::Q5_1 => 7,
        GgmlDType::Q8_0 => 8,
        GgmlDType::Q8_1 => 9,
        GgmlDType::Q2K => 10,
        GgmlDType::Q3K => 11,
        GgmlDType::Q4K => 12,
        GgmlDType::Q5K => 13,
        GgmlDType::Q6K => 14,
        GgmlDType::Q8K => 15,
        GgmlDType::BF16 => 30,
    }
}

impl File {
    fn new(seed: u64) -> File {
        File {
            random: ChaCha8Rng::seed_from_u64(seed),
            values: Vec::new(),
            value_count: 0,
            tensors: Vec::new(),
            tensor_count: 0,
            data: Vec::new(),
            weights: HashMap::new(),
        }
    }

    fn value(mut self, key: &str, kind: u32, bytes: &[u8]) -> File {
        self.values.extend([&string(key), &kind.to_le_bytes()[..], bytes].concat());
        self.value_count += 1;
        self
    }

    pub(crate) fn text(self, key: &str, text: &str) -> File {
        self.value(key, 8, &string(text))
    }

    pub(crate) fn unsigned(self, key: &str, number: usize) -> File {
        self.value(key, 4, &(number as u32).to_le_bytes())
    }

    pub(crate) fn float(self, key: &str, number: f32) -> File {
        self.value(key, 6, &number.to_le_bytes())
    }

    fn texts(self, key: &str, texts: &[String]) -> File {
        let elements: Vec<u8> = texts.iter().flat_map(|text| string(text)).collect();
        self.value(key, 9, &[&8_u32.to_le_bytes()[..], &(texts.len() as u64).to_le_bytes(), &elements].concat())
    }

    /// A number with a mean of 0 and a standard deviation of 1.
    fn random(&mut self) -> f32 {
        let unit = self.random.next_u32() as f32 / u32::MAX as f32;
        (2.0 * unit - 1.0) * 3_f32.sqrt()
    }

    fn tensor(&mut self, name: &str, dimensions: &[usize], kind: GgmlDType, values: Vec<f32>) {
        let columns = dimensions[0];
        let tensor = Tensor::from_vec(values, (dimensions.iter().product::<usize>() / columns, columns), &Device::Cpu);
        let quantised = QTensor::quantize(&tensor.unwrap(), kind).unwrap();
        self.weights.insert(name.to_owned(), quantised.dequantize(&Device::Cpu).unwrap().to_vec2().unwrap());
        self.data.resize(self.data.len().next_multiple_of(ALIGNMENT), 0);
        self.tensors.extend(string(name));
        self.tensors.extend((dimensions.len() as u32).to_le_bytes());
        self.tensors.extend(dimensions.iter().flat_map(|dimension| (*dimension as u64).to_le_bytes()));
        self.tensors.extend(number(kind).to_le_bytes());
        self.tensors.extend((self.data.len() as u64).to_le_bytes());
        self.tensor_count += 1;
        self.data.extend_from_slice(&quantised.data().unwrap());
    }

    /// Weights that leave the size of what they are multiplied with as it is.
    fn matrix(&mut self, name: &str, rows: usize, columns: usize, kind: GgmlDType) {
        let scale = 1.0 / (columns as f32).sqrt();
        let values = (0..rows * columns).map(|_| self.random() * scale).collect();
        self.tensor(name, &[columns, rows], kind, values);
    }

    pub(crate) fn vector(mut self, name: &str, values: Vec<f32>) -> File {
        self.tensor(name, &[values.len()], GgmlDType::F32, values);
        self
    }

    /// Numbers around `mean`.
    fn random_vector(&mut self, name: &str, length: usize, mean: f32) {
        let values = (0..length).map(|_| mean + 0.3 * self.random()).collect();
        self.tensor(name, &[length], GgmlDType::F32, values);
    }

    fn bytes(self) -> (Vec<u8>, Weights) {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(self.tensor_count.to_le_bytes());
        bytes.extend(self.value_count.to_le_bytes());
        bytes.extend(self.values);
        bytes.extend(self.tensors);
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        bytes.extend(self.data);
        (bytes, self.weights)
    }
}

/// A file of a decoder, and its weights.
pub(crate) fn written(plan: &Plan, seed: u64) -> (Vec<u8>, Weights) {
    let key = |name: &str| format!("{}.{name}", plan.architecture);
    let tokens: Vec<String> = (0..plan.tokens).map(|id| format!("token {id}")).collect();
    let file = File::new(seed)
        .text("general.architecture", plan.architecture)
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", "qwen2")
        .texts("tokenizer.ggml.tokens", &tokens)
        .texts("tokenizer.ggml.merges", &[])
        .unsigned(&key("context_length"), 512)
        .unsigned(&key("block_count"), plan.blocks)
        .unsigned(&key("embedding_length"), plan.width)
        .unsigned(&key("feed_forward_length"), plan.feed_forward)
        .unsigned(&key("attention.head_count"), plan.heads)
        .unsigned(&key("attention.head_count_kv"), plan.heads_kv)
        .unsigned(&key("attention.key_length"), plan.head)
        .unsigned(&key("attention.value_length"), plan.head)
        .unsigned(&key("rope.dimension_count"), plan.turned)
        .float(&key("rope.freq_base"), plan.rope_base)
        .float(&key("attention.layer_norm_rms_epsilon"), plan.epsilon);
    let mut file = (plan.also)(file, plan.architecture);
    let embedding = (0..plan.tokens * plan.width).map(|_| file.random() / plan.embedding_scale as f32).collect();
    let name = "token_embd.weight";
    file.tensor(name, &[plan.width, plan.tokens], (plan.kind)(name), embedding);
    for block in 0..plan.blocks {
        for (name, rows, columns) in plan.matrices() {
            file.matrix(&format!("blk.{block}.{name}.weight"), rows, columns, (plan.kind)(name));
            if plan.biases.contains(&name) {
                file.random_vector(&format!("blk.{block}.{name}.bias"), rows, 0.0);
            }
        }
        for (name, length) in plan.norms() {
            file.random_vector(&format!("blk.{block}.{name}.weight"), length, 1.0);
        }
    }
    file.random_vector("output_norm.weight", plan.width, 1.0);
    if !plan.tied {
        file.matrix("output.weight", plan.tokens, plan.width, (plan.kind)("output.weight"));
    }
    file.bytes()
}
