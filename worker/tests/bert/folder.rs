//! Folders with small random BERTs, as sentence-transformers writes them.
use half::{bf16, f16};
use ipc::ModelSpec;
use model::embed::bert::Bert;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, path::Path};
use system::foreign_text::chain;
use tempfile::TempDir;
use worker::loaded_model::{LoadModelError, load_embedder};

/// A tensor's shape and values.
pub(crate) type Tensor = (Vec<usize>, Vec<f32>);

/// The words that the tokenizer knows; the first four are special.
pub(crate) const WORDS: [&str; 16] = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "##c", "find", "read", ":", "one", "two", "three", "\u{e9}", "x",
];

/// What is in a folder. Files that are null are not there.
#[derive(Clone)]
pub(crate) struct Folder {
    pub(crate) files: BTreeMap<&'static str, Value>,
    pub(crate) tensors: BTreeMap<String, Tensor>,
    pub(crate) dtype: Dtype,
    /// What stands before the names of tensors.
    pub(crate) prefix: &'static str,
}

/// Sizes that are no multiples of a vector's length, or of a panel's width.
pub(crate) const WIDTH: usize = 36;
pub(crate) const INNER: usize = 50;
pub(crate) const HEADS: usize = 3;
pub(crate) const LAYERS: usize = 2;
pub(crate) const POSITIONS: usize = 150;

impl Folder {
    /// A folder with everything, whose weights are random.
    pub(crate) fn new() -> Folder {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let mut tensors = BTreeMap::new();
        let mut add = |name: String, shape: &[usize], middle: f32| {
            let mut value = || middle + (random.next_u32() as f32 / u32::MAX as f32 - 0.5) * 0.6;
            let count = shape.iter().product();
            tensors.insert(name, (shape.to_vec(), (0..count).map(|_| value()).collect()));
        };
        let norm = |add: &mut dyn FnMut(String, &[usize], f32), name: &str| {
            add(format!("{name}.weight"), &[WIDTH], 1.0);
            add(format!("{name}.bias"), &[WIDTH], 0.0);
        };
        add("embeddings.word_embeddings.weight".to_owned(), &[WORDS.len(), WIDTH], 0.0);
        add("embeddings.position_embeddings.weight".to_owned(), &[POSITIONS, WIDTH], 0.0);
        add("embeddings.token_type_embeddings.weight".to_owned(), &[2, WIDTH], 0.1);
        norm(&mut add, "embeddings.LayerNorm");
        for layer in 0..LAYERS {
            for (name, outputs, inputs) in [
                ("attention.self.query", WIDTH, WIDTH),
                ("attention.self.key", WIDTH, WIDTH),
                ("attention.self.value", WIDTH, WIDTH),
                ("attention.output.dense", WIDTH, WIDTH),
                ("intermediate.dense", INNER, WIDTH),
                ("output.dense", WIDTH, INNER),
            ] {
                add(format!("encoder.layer.{layer}.{name}.weight"), &[outputs, inputs], 0.0);
                add(format!("encoder.layer.{layer}.{name}.bias"), &[outputs], 0.0);
            }
            norm(&mut add, &format!("encoder.layer.{layer}.attention.output.LayerNorm"));
            norm(&mut add, &format!("encoder.layer.{layer}.output.LayerNorm"));
        }
        let module =
            |path: &str, kind: &str| json!({"idx": 0, "name": "", "path": path, "type": format!("some.path.{kind}")});
        let files = [
            (
                "config.json",
                json!({
                    "model_type": "bert", "hidden_act": "gelu", "hidden_size": WIDTH, "num_hidden_layers": LAYERS,
                    "num_attention_heads": HEADS, "intermediate_size": INNER, "max_position_embeddings": POSITIONS,
                    "vocab_size": WORDS.len(), "type_vocab_size": 2, "layer_norm_eps": 1e-12,
                    "position_embedding_type": "absolute",
                }),
            ),
            (
                "modules.json",
                json!([module("", "Transformer"), module("1_Pooling", "Pooling"), module("2_Normalize", "Normalize")]),
            ),
            ("1_Pooling/config.json", json!({"pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true})),
            ("sentence_bert_config.json", json!({"max_seq_length": 140, "do_lower_case": false})),
            ("config_sentence_transformers.json", json!({"prompts": {"query": "find: ", "passage": "read: "}})),
            ("tokenizer.json", tokenizer()),
        ];
        Folder { files: files.into(), tensors, dtype: Dtype::F32, prefix: "" }
    }

    /// The same with another value for a key of a file; a key that is null is not there.
    pub(crate) fn with(mut self, file: &'static str, key: &str, value: Value) -> Folder {
        let object = self.files.get_mut(file).unwrap().as_object_mut().unwrap();
        object.remove(key);
        if !value.is_null() {
            object.insert(key.to_owned(), value);
        }
        self
    }

    /// The same with another file.
    pub(crate) fn file(mut self, file: &'static str, content: Value) -> Folder {
        self.files.insert(file, content);
        self
    }

    /// Writes it.
    pub(crate) fn write(&self) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("1_Pooling")).unwrap();
        for (name, content) in self.files.iter().filter(|(_, content)| !content.is_null()) {
            fs::write(folder.path().join(name), content.to_string()).unwrap();
        }
        fs::write(folder.path().join("model.safetensors"), self.weights()).unwrap();
        folder
    }

    fn weights(&self) -> Vec<u8> {
        let bytes = |value: &f32| match self.dtype {
            Dtype::F16 => f16::from_f32(*value).to_le_bytes().to_vec(),
            Dtype::BF16 => bf16::from_f32(*value).to_le_bytes().to_vec(),
            Dtype::F64 => f64::from(*value).to_le_bytes().to_vec(),
            _ => value.to_le_bytes().to_vec(),
        };
        let data: Vec<(String, &[usize], Vec<u8>)> = self
            .tensors
            .iter()
            .map(|(name, (shape, values))| {
                (format!("{}{name}", self.prefix), &shape[..], values.iter().flat_map(bytes).collect())
            })
            .collect();
        let views =
            data.iter().map(|(name, shape, bytes)| (name, TensorView::new(self.dtype, shape.to_vec(), bytes).unwrap()));
        safetensors::serialize(views, None).unwrap()
    }

    /// Writes and loads it.
    pub(crate) fn load(&self) -> Bert {
        let mut bert = load(self.write().path(), |_| {}).unwrap_or_else(|error| panic!("{}", chain(&*error)));
        bert.warm().unwrap();
        bert
    }

    /// Why it cannot be loaded, in one sentence.
    pub(crate) fn refused(&self) -> String {
        refused(self.write().path(), |_| {})
    }
}

/// Loads a folder that is there, with these changes of what is asked for.
pub(crate) fn load(folder: &Path, change: impl FnOnce(&mut ModelSpec)) -> Result<Bert, Box<LoadModelError>> {
    let mut spec = ModelSpec::new("tiny", folder.to_str().unwrap());
    change(&mut spec);
    load_embedder(&spec).map_err(Box::new)
}

/// Why a folder that is there cannot be loaded.
pub(crate) fn refused(folder: &Path, change: impl FnOnce(&mut ModelSpec)) -> String {
    match load(folder, change) {
        Ok(_) => panic!("it was loaded"),
        Err(error) => chain(&*error).replace(folder.to_str().unwrap(), "FOLDER"),
    }
}

fn tokenizer() -> Value {
    let special = |id: usize| json!({"id": id, "special": true, "content": WORDS[id], "single_word": false, "lstrip": false, "rstrip": false, "normalized": false});
    let vocabulary: serde_json::Map<String, Value> =
        WORDS.iter().enumerate().map(|(id, word)| ((*word).to_owned(), json!(id))).collect();
    let around = |id: usize| json!({"SpecialToken": {"id": WORDS[id], "type_id": 0}});
    let named = |id: usize| json!({"id": WORDS[id], "ids": [id], "tokens": [WORDS[id]]});
    json!({
        "version": "1.0",
        // A file has what its maker happened to use; it is not what texts are cut and filled up to.
        "truncation": {"max_length": 5, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": {"strategy": {"Fixed": 20}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
            "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": [special(0), special(1), special(2), special(3)],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": false,
            "lowercase": false},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [around(2), {"Sequence": {"id": "A", "type_id": 0}}, around(3)],
            "pair": [around(2), {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"[CLS]": named(2), "[SEP]": named(3)}},
        "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary},
    })
}
