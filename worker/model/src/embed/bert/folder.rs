//! What a folder says about its model: the configuration files of transformers and
//! sentence-transformers.
//!
//! Nothing is believed: files are read up to a limit, numbers must be in bounds, and what this
//! program does not compute is refused by its name. Weights and tokenizer are read elsewhere.
use super::{
    elementwise::Activation,
    encoder::{Hparams, Pooling},
};
use crate::{
    ReadSeek,
    foreign_file::{BEGINNING, ForeignFile},
};
use ipc::TextRole;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::{
    collections::HashMap,
    io::{self, Read},
    path::{Component, Path, PathBuf},
};
use system::foreign_text::shown;
use thiserror::Error;

/// Most tokens of a text, whatever a folder says.
const MOST_TOKENS: usize = 8192;
/// Most bytes of a configuration file.
const MOST_CONFIGURATION: u64 = 1 << 20;
/// Most bytes of a tokenizer.
const MOST_TOKENIZER: u64 = 64 << 20;

/// The files that a folder, or the folder of one of its modules, may have.
pub const FILE_NAMES: [&str; 7] = [
    "modules.json",
    "config.json",
    "sentence_bert_config.json",
    "tokenizer_config.json",
    "config_sentence_transformers.json",
    "tokenizer.json",
    WEIGHTS,
];
const WEIGHTS: &str = "model.safetensors";

/// What a folder says.
pub(super) struct Folder {
    /// The tokenizer, as it was read.
    pub(super) tokenizer: Vec<u8>,
    pub(super) hparams: Hparams,
    pub(super) vocabulary: usize,
    pub(super) positions: usize,
    /// How many kinds of text there are; ours are of the first.
    pub(super) kinds: usize,
    pub(super) layers: usize,
    pub(super) epsilon: f32,
    /// Most tokens of a text.
    pub(super) limit: usize,
    /// Whether texts are made lower case before they are tokenised.
    pub(super) is_lowercase: bool,
    pub(super) prompts: Prompts,
}

/// What is put before texts.
#[derive(Debug, Default)]
pub(super) struct Prompts {
    plain: String,
    query: String,
    document: String,
}

impl Prompts {
    /// What is put before a text of this role.
    pub(super) fn of(&self, role: TextRole) -> &str {
        match role {
            TextRole::Plain => &self.plain,
            TextRole::Query => &self.query,
            TextRole::Document => &self.document,
        }
    }
}

/// Why a folder is not one that can be served.
#[derive(Debug, Error)]
pub enum FolderError {
    /// A file that must be there is not.
    #[error("the folder has no {0}")]
    Missing(String),
    /// A file cannot be read.
    #[error("cannot read {0}")]
    Read(String, #[source] io::Error),
    /// A file is longer than such a file can be.
    #[error("{name} is longer than {most} bytes")]
    TooLong {
        /// The file.
        name: String,
        /// The limit.
        most: u64,
    },
    /// A file is of another kind.
    #[error("{0} {1}")]
    Foreign(String, ForeignFile),
    /// A file is no JSON, or not of the expected shape.
    #[error("{0} is not as expected")]
    Json(String, #[source] serde_json::Error),
    /// A name in a file is not one of those that are known here.
    #[error("{file} says {key} is \"{found}\", and only {supported} is supported")]
    Unsupported {
        /// The file.
        file: String,
        /// What is set.
        key: &'static str,
        /// What to.
        found: String,
        /// What it could be.
        supported: &'static str,
    },
    /// A number is not one that can be.
    #[error("{file} says {key} is {found}, but it must be from {least} to {most}")]
    Number {
        /// The file.
        file: String,
        /// What is set.
        key: &'static str,
        /// What to.
        found: String,
        /// The least.
        least: usize,
        /// The most.
        most: usize,
    },
    /// Heads of different lengths.
    #[error("config.json says hidden_size is {hidden_size}, which is no multiple of num_attention_heads, {heads}")]
    Heads {
        /// A row's length.
        hidden_size: usize,
        /// How many heads.
        heads: usize,
    },
    /// Modules in an order that means something else.
    #[error("modules.json lists {0}, and only Transformer, Pooling and after them Normalize are supported")]
    Modules(String),
    /// A module outside of the folder.
    #[error("modules.json has the path \"{0}\", which is not in the folder")]
    Path(String),
    /// A default that is not there.
    #[error("config_sentence_transformers.json has no prompt \"{0}\", which is its default")]
    NoPrompt(String),
}

#[derive(Deserialize)]
struct Config {
    hidden_act: String,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    vocab_size: usize,
    #[serde(default = "two")]
    type_vocab_size: usize,
    #[serde(default = "usual_epsilon")]
    layer_norm_eps: f64,
    position_embedding_type: Option<String>,
    #[serde(default)]
    is_decoder: bool,
}

fn two() -> usize {
    2
}

fn usual_epsilon() -> f64 {
    1e-12
}

#[derive(Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Default, Deserialize)]
struct TextConfig {
    max_seq_length: Option<usize>,
    do_lower_case: Option<bool>,
}

#[derive(Default, Deserialize)]
struct TokenizerConfig {
    // Where there is no limit, this is a number of thirty digits.
    model_max_length: Option<f64>,
}

#[derive(Default, Deserialize)]
struct PromptConfig {
    prompts: Option<HashMap<String, Option<String>>>,
    default_prompt_name: Option<String>,
}

/// The folder's modules, as far as they are not always the same.
struct Modules {
    /// Where the transformer's files are.
    transformer: PathBuf,
    pooling: Pooling,
    is_normalised: bool,
}

/// The files of a folder that can be read, by their paths in it; an error is one only for a file
/// that is asked for.
#[derive(Default)]
pub struct ModelFolder(pub HashMap<PathBuf, io::Result<Box<dyn ReadSeek>>>);

impl Folder {
    /// Reads all but the weights, whose file comes second.
    pub(super) fn read(mut files: ModelFolder) -> Result<(Folder, Box<dyn ReadSeek>), FolderError> {
        let mut root = Inside { files: &mut files, folder: Path::new("") };
        let listed: Option<Vec<Module>> = root.optional("modules.json")?;
        let prompts = prompts(root.optional("config_sentence_transformers.json")?.unwrap_or_default());
        // Of another kind of model everything else is different, too.
        let transformer = transformer(listed.as_deref())?;
        let config = Inside { files: &mut files, folder: &transformer }.optional::<Value>("config.json")?;
        config.as_ref().map_or(Ok(()), is_bert)?;
        let modules = modules(&mut files, listed, transformer)?;
        let config = config.ok_or_else(|| FolderError::Missing("config.json".to_owned()))?;
        let config: Config =
            serde_json::from_value(config).map_err(|error| FolderError::Json("config.json".to_owned(), error))?;
        let mut inside = Inside { files: &mut files, folder: &modules.transformer };
        let texts: TextConfig = inside.optional("sentence_bert_config.json")?.unwrap_or_default();
        let tokens: TokenizerConfig = inside.optional("tokenizer_config.json")?.unwrap_or_default();
        let prompts = prompts?;
        let hparams = config.hparams(&modules)?;
        let positions = config.max_position_embeddings;
        // The same order as the models' own library has: its file, or else the tokenizer's, and
        // never more than there are positions.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it saturates, which is what is meant"
        )]
        let named = texts.max_seq_length.or(tokens.model_max_length.map(|most| most as usize)).unwrap_or(positions);
        let limit = named.min(positions).min(MOST_TOKENS);
        let tokenizer = inside
            .read("tokenizer.json", MOST_TOKENIZER)?
            .ok_or_else(|| FolderError::Missing("tokenizer.json".to_owned()))?;
        let weights = inside.take(WEIGHTS)?.ok_or_else(|| FolderError::Missing(WEIGHTS.to_owned()))?;
        let folder = Folder {
            tokenizer,
            hparams,
            vocabulary: config.vocab_size,
            positions,
            kinds: config.type_vocab_size,
            layers: config.num_hidden_layers,
            #[expect(clippy::cast_possible_truncation, reason = "the precision that is computed in")]
            epsilon: config.layer_norm_eps as f32,
            limit,
            is_lowercase: texts.do_lower_case.unwrap_or_default(),
            prompts,
        };
        Ok((folder, weights))
    }
}

impl Config {
    fn hparams(&self, modules: &Modules) -> Result<Hparams, FolderError> {
        if self.is_decoder {
            return Err(unsupported("is_decoder", "true", "false"));
        }
        let positions = self.position_embedding_type.as_deref().unwrap_or("absolute");
        if positions != "absolute" {
            return Err(unsupported("position_embedding_type", positions, "absolute"));
        }
        let activation = Activation::named(&self.hidden_act).ok_or_else(|| {
            unsupported("hidden_act", &self.hidden_act, "one of gelu, gelu_new, gelu_pytorch_tanh and relu")
        })?;
        for (key, found, most) in [
            ("hidden_size", self.hidden_size, 16_384),
            ("intermediate_size", self.intermediate_size, 65_536),
            ("num_hidden_layers", self.num_hidden_layers, 256),
            ("num_attention_heads", self.num_attention_heads, self.hidden_size),
            ("max_position_embeddings", self.max_position_embeddings, 1 << 20),
            ("vocab_size", self.vocab_size, 1 << 24),
            ("type_vocab_size", self.type_vocab_size, 1 << 10),
        ] {
            within("config.json", key, found, 1, most)?;
        }
        let (hidden_size, heads) = (self.hidden_size, self.num_attention_heads);
        if !hidden_size.is_multiple_of(heads) {
            return Err(FolderError::Heads { hidden_size, heads });
        }
        if !(self.layer_norm_eps >= 0.0 && self.layer_norm_eps <= 1.0) {
            let found = self.layer_norm_eps.to_string();
            let (file, key) = ("config.json".to_owned(), "layer_norm_eps");
            return Err(FolderError::Number { file, key, found, least: 0, most: 1 });
        }
        let (pooling, is_normalised) = (modules.pooling, modules.is_normalised);
        Ok(Hparams { hidden_size, inner: self.intermediate_size, heads, activation, pooling, is_normalised })
    }
}

fn unsupported(key: &'static str, found: &str, supported: &'static str) -> FolderError {
    FolderError::Unsupported { file: "config.json".to_owned(), key, found: shown(found), supported }
}

/// Refuses the configuration of another kind of model.
fn is_bert(config: &Value) -> Result<(), FolderError> {
    match config.get("model_type") {
        Some(Value::String(kind)) if kind == "bert" => Ok(()),
        Some(Value::String(kind)) => Err(unsupported("model_type", kind, "bert")),
        Some(other) => Err(unsupported("model_type", &other.to_string(), "bert")),
        None => Err(unsupported("model_type", "", "bert")),
    }
}

/// The folder in the folder that has the transformer's files.
fn transformer(modules: Option<&[Module]>) -> Result<PathBuf, FolderError> {
    let module = modules.and_then(|modules| modules.iter().find(|module| module.name() == "Transformer"));
    module.map_or(Ok(PathBuf::new()), Module::place)
}

impl Module {
    /// What kind it is. That is the path of a Python class, which has changed over the years; its
    /// last part has not.
    fn name(&self) -> &str {
        self.kind.rsplit('.').next().unwrap_or_default()
    }

    /// Its folder in the folder.
    fn place(&self) -> Result<PathBuf, FolderError> {
        let path = Path::new(&self.path);
        let is_inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        if is_inside { Ok(path.to_owned()) } else { Err(FolderError::Path(shown(&self.path))) }
    }
}

/// The modules that the folder lists, of which one is the transformer in this place; the mean of all
/// tokens, normalised, where it lists none.
fn modules(files: &mut ModelFolder, listed: Option<Vec<Module>>, transformer: PathBuf) -> Result<Modules, FolderError> {
    let Some(modules) = listed else {
        return Ok(Modules { transformer, pooling: Pooling::Mean, is_normalised: true });
    };
    let kinds: Vec<&str> = modules.iter().map(Module::name).collect();
    let is_normalised = match kinds[..] {
        ["Transformer", "Pooling"] => false,
        ["Transformer", "Pooling", "Normalize"] => true,
        _ => return Err(FolderError::Modules(shown(&kinds.join(", ")))),
    };
    let folder = modules[1].place()?;
    let pooling = pooling(&mut Inside { files, folder: &folder }, &format!("{}/config.json", modules[1].path))?;
    Ok(Modules { transformer, pooling, is_normalised })
}

/// How the pooling module's configuration, which messages call `name`, says that rows become one.
fn pooling(inside: &mut Inside<'_>, name: &str) -> Result<Pooling, FolderError> {
    let config: Map<String, Value> =
        inside.optional("config.json")?.ok_or_else(|| FolderError::Missing(name.to_owned()))?;
    let unsupported =
        |key, found: String, supported| FolderError::Unsupported { file: name.to_owned(), key, found, supported };
    if config.get("include_prompt") == Some(&Value::Bool(false)) {
        return Err(unsupported("include_prompt", "false".to_owned(), "true"));
    }
    let found = match config.get("pooling_mode") {
        Some(Value::String(mode)) => mode.clone(),
        Some(other) => other.to_string(),
        None => {
            let is_on = |value: &Value| value == &Value::Bool(true);
            let modes = config
                .iter()
                .filter(|(_, value)| is_on(value))
                .filter_map(|(key, _)| key.strip_prefix("pooling_mode_"));
            modes.collect::<Vec<_>>().join(" and ")
        }
    };
    match found.as_str() {
        "mean" | "mean_tokens" => Ok(Pooling::Mean),
        "cls" | "cls_token" => Ok(Pooling::First),
        _ => Err(unsupported("pooling_mode", shown(&found), "one of mean and cls")),
    }
}

fn prompts(config: PromptConfig) -> Result<Prompts, FolderError> {
    let named = config.prompts.unwrap_or_default();
    let get = |name: &str| named.get(name).cloned().flatten();
    let plain = match config.default_prompt_name {
        None => String::new(),
        Some(name) => get(&name).ok_or_else(|| FolderError::NoPrompt(shown(&name)))?,
    };
    let first = |names: &[&str]| names.iter().find_map(|name| get(name)).unwrap_or_else(|| plain.clone());
    Ok(Prompts { query: first(&["query"]), document: first(&["document", "passage", "corpus"]), plain })
}

fn within(file: &str, key: &'static str, found: usize, least: usize, most: usize) -> Result<(), FolderError> {
    if (least..=most).contains(&found) {
        return Ok(());
    }
    Err(FolderError::Number { file: file.to_owned(), key, found: found.to_string(), least, most })
}

/// The files of one folder in the folder.
struct Inside<'a> {
    files: &'a mut ModelFolder,
    folder: &'a Path,
}

impl Inside<'_> {
    fn optional<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, FolderError> {
        let Some(bytes) = self.read(name, MOST_CONFIGURATION)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            let begin = &bytes[..bytes.len().min(BEGINNING as usize)];
            let json = FolderError::Json(name.to_owned(), error);
            ForeignFile::recognise(begin).map_or(json, |foreign| FolderError::Foreign(name.to_owned(), foreign))
        })
    }

    /// A file's bytes; `None` if there is no such file.
    fn read(&mut self, name: &str, most: u64) -> Result<Option<Vec<u8>>, FolderError> {
        let Some(file) = self.take(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(most + 1).read_to_end(&mut bytes).map_err(|error| FolderError::Read(name.to_owned(), error))?;
        if bytes.len() as u64 > most {
            return Err(FolderError::TooLong { name: name.to_owned(), most });
        }
        Ok(Some(bytes))
    }

    /// A file, which is asked for once.
    fn take(&mut self, name: &str) -> Result<Option<Box<dyn ReadSeek>>, FolderError> {
        let file = self.files.0.remove(&self.folder.join(name)).transpose();
        file.map_err(|error| FolderError::Read(name.to_owned(), error))
    }
}
