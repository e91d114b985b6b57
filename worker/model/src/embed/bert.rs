//! BERT as an embedding model: a folder as sentence-transformers writes it, loaded once, and texts
//! turned into vectors.
//!
//! It computes in the caller's thread and starts none, and never enters a thread pool: a worker
//! forked from a template has one thread, and so has the template. Its products, activations and
//! attention are written for short texts on one core. It knows nothing of jobs; whoever serves a
//! request does.
//!
//! A folder without `modules.json` is a BERT that says nothing of vectors: there they are the mean
//! of all tokens' rows, normalised, so that their dot product is their cosine.

mod attention;
mod elementwise;
mod encoder;
mod folder;
mod int8;
mod linear;
mod matrix;
mod tokens;
mod weights;

pub use folder::{FILE_NAMES, FolderError, ModelFolder};
pub use tokens::TokensError;
pub use weights::WeightsError;

use crate::{Admit, read::sha256, tokenizer::EncodeError};
use elementwise::Norm;
use encoder::{Encoder, Layer, Scratch};
use folder::Folder;
use ipc::{ModelSpec, Needs, Precision, TextRole};
use linear::Linear;
use std::ops::ControlFlow;
use thiserror::Error;
use tokens::Tokens;
use weights::SafetensorsFile;

/// An embedding model in memory.
pub struct Bert {
    tokens: Tokens,
    encoder: Encoder,
    scratch: Scratch,
    context: usize,
    bytes: u64,
}

/// Why a folder could not be loaded.
#[derive(Debug, Error)]
pub enum BertError {
    /// Its configuration is missing, wrong or not supported.
    #[error("cannot load the model {path}")]
    Folder {
        /// The model's path.
        path: String,
        /// What of it.
        #[source]
        source: FolderError,
    },
    /// Its tokenizer cannot be used.
    #[error("cannot load the model {path}")]
    Tokens {
        /// The model's path.
        path: String,
        /// Why not.
        #[source]
        source: TokensError,
    },
    /// Its weights cannot be used.
    #[error("cannot load the model {path}")]
    Weights {
        /// The model's path.
        path: String,
        /// Why not.
        #[source]
        source: WeightsError,
    },
    /// Its weights are not the ones that were asked for.
    #[error("refused to load the model {path}: the SHA-256 of model.safetensors is {found}, not {expected}")]
    Sha256 {
        /// The model's path.
        path: String,
        /// The file's.
        found: String,
        /// The one asked for.
        expected: String,
    },
    /// Whoever asked for it has no room for what it needs.
    #[error("cannot load the model {0}: there is no room for it in memory")]
    Memory(String),
    /// The context asked for is not one that the model can have.
    #[error(
        "cannot load the model {path}: a context of {asked} tokens was asked for, but it must be from {least} to {most}"
    )]
    Context {
        /// The model's path.
        path: String,
        /// What was asked for.
        asked: usize,
        /// The least: one token beside the special ones.
        least: usize,
        /// The most: the model's own.
        most: usize,
    },
}

impl Bert {
    /// Loads the model in a folder, unless there is no room for what it needs.
    pub fn load(files: ModelFolder, spec: &ModelSpec, admit: Admit<'_>) -> Result<Bert, BertError> {
        let path = || spec.source.to_string();
        let (mut folder, mut file) =
            Folder::read(files).map_err(|source| BertError::Folder { path: path(), source })?;
        let weights_error = |source| BertError::Weights { path: path(), source };
        if let Some(expected) = &spec.sha256 {
            let found = sha256(&mut file);
            let found = found.map_err(|error| weights_error(WeightsError::Read(error)))?;
            if !found.eq_ignore_ascii_case(expected) {
                return Err(BertError::Sha256 { path: path(), found, expected: expected.clone() });
            }
        }
        let Folder { limit, vocabulary, is_lowercase, .. } = folder;
        let mut weights = SafetensorsFile::read(file).map_err(weights_error)?;
        weights.check(&tensors(&folder)).map_err(weights_error)?;
        let tokens_error = |source| BertError::Tokens { path: path(), source };
        let prompts = std::mem::take(&mut folder.prompts);
        let mut tokens = Tokens::new(&folder.tokenizer, vocabulary, is_lowercase, prompts).map_err(tokens_error)?;
        let special = tokens.special();
        let least = special + 1;
        if limit < least {
            return Err(tokens_error(TokensError::Room { special, limit }));
        }
        let asked = spec.context.map_or(limit, |asked| asked as usize);
        if asked < least || asked > limit {
            return Err(BertError::Context { path: path(), asked, least, most: limit });
        }
        tokens.set_limit(asked);
        // Whoever only wants to know whether it can be loaded ends here.
        if !admit(Needs { weights: weights.size, cache: 0 }) {
            return Err(BertError::Memory(path()));
        }
        let encoder = encoder(&folder, &mut weights, spec.precision).map_err(weights_error)?;
        Ok(Bert { tokens, encoder, scratch: Scratch::default(), context: asked, bytes: weights.size })
    }

    /// Most tokens of a text that the model reads.
    pub fn context(&self) -> usize {
        self.context
    }

    /// The length of a vector.
    pub fn dimensions(&self) -> usize {
        self.encoder.hparams.hidden_size
    }

    /// Bytes of the file of weights.
    pub fn weights(&self) -> u64 {
        self.bytes
    }

    /// Goes once through all that a request can make a worker compute.
    pub fn warm(&mut self) -> Result<(), EncodeError> {
        let ids = self.ids("a", TextRole::Plain)?;
        // Nobody stops it.
        let _vectors = self.embed(&[ids], &mut || ControlFlow::Continue(()));
        // A worker takes memory of its own for what it computes; it should not inherit any that it
        // must copy first.
        self.scratch = Scratch::default();
        Ok(())
    }

    /// All ids of a text. With `special`, the names of special tokens in it stand for those tokens,
    /// and those that stand around each text are added; without, it is only text.
    pub fn tokenize(&mut self, text: &str, special: bool) -> Result<Vec<u32>, EncodeError> {
        self.tokens.encode(text, special)
    }

    /// The ids that the model reads for a text: with the prefix of its role, special tokens around,
    /// and cut off at the limit.
    pub fn ids(&self, text: &str, role: TextRole) -> Result<Vec<u32>, EncodeError> {
        self.tokens.ids(text, role)
    }

    /// One vector for each text, whose ids [`Bert::ids`] gave. After a few dozen tokens in each
    /// layer `go_on` is asked; if it breaks, there are none.
    pub fn embed(
        &mut self,
        texts: &[Vec<u32>],
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> ControlFlow<(), Vec<Vec<f32>>> {
        self.encoder.embed(texts, &mut self.scratch, go_on)
    }
}

/// The tensors that are read, with their shapes.
fn tensors(folder: &Folder) -> Vec<(String, Vec<usize>)> {
    let (hidden_size, inner) = (folder.hparams.hidden_size, folder.hparams.inner);
    let mut tensors = Vec::new();
    let rows = [("word", folder.vocabulary), ("position", folder.positions), ("token_type", folder.kinds)];
    tensors.extend(rows.map(|(of, rows)| (format!("embeddings.{of}_embeddings.weight"), vec![rows, hidden_size])));
    let mut add = |name: String, shape: &[usize]| {
        tensors.push((format!("{name}.bias"), shape[..1].to_vec()));
        tensors.push((format!("{name}.weight"), shape.to_vec()));
    };
    add("embeddings.LayerNorm".to_owned(), &[hidden_size]);
    for index in 0..folder.layers {
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        for part in ["self.query", "self.key", "self.value", "output.dense"] {
            add(name(&format!("attention.{part}")), &[hidden_size, hidden_size]);
        }
        add(name("attention.output.LayerNorm"), &[hidden_size]);
        add(name("intermediate.dense"), &[inner, hidden_size]);
        add(name("output.dense"), &[hidden_size, inner]);
        add(name("output.LayerNorm"), &[hidden_size]);
    }
    tensors
}

fn encoder(folder: &Folder, weights: &mut SafetensorsFile, precision: Precision) -> Result<Encoder, WeightsError> {
    let hparams = folder.hparams;
    let (hidden_size, inner) = (hparams.hidden_size, hparams.inner);
    let embeddings = "embeddings";
    let words = weights.tensor(&format!("{embeddings}.word_embeddings.weight"), &[folder.vocabulary, hidden_size])?;
    let name = format!("{embeddings}.position_embeddings.weight");
    let mut positions = weights.tensor(&name, &[folder.positions, hidden_size])?;
    let kinds = weights.tensor(&format!("{embeddings}.token_type_embeddings.weight"), &[folder.kinds, hidden_size])?;
    for row in positions.chunks_exact_mut(hidden_size) {
        row.iter_mut().zip(&kinds).for_each(|(value, kind)| *value += kind);
    }
    let mut reader = Reader { weights, epsilon: folder.epsilon, precision };
    let norm = reader.norm("embeddings.LayerNorm", hidden_size)?;
    let mut layers = Vec::new();
    for index in 0..folder.layers {
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        layers.push(Layer {
            inputs: reader.inputs(&name("attention.self"), hidden_size, hparams.heads)?,
            output: reader.linear(&name("attention.output.dense"), hidden_size, hidden_size)?,
            attention_norm: reader.norm(&name("attention.output.LayerNorm"), hidden_size)?,
            up: reader.linear(&name("intermediate.dense"), inner, hidden_size)?,
            down: reader.linear(&name("output.dense"), hidden_size, inner)?,
            norm: reader.norm(&name("output.LayerNorm"), hidden_size)?,
        });
    }
    Ok(Encoder { words, positions, norm, layers, hparams })
}

/// Reads the parts of a layer.
struct Reader<'a> {
    weights: &'a mut SafetensorsFile,
    epsilon: f32,
    precision: Precision,
}

impl Reader<'_> {
    fn norm(&mut self, name: &str, hidden_size: usize) -> Result<Norm, WeightsError> {
        let scale = self.weights.tensor(&format!("{name}.weight"), &[hidden_size])?;
        let shift = self.weights.tensor(&format!("{name}.bias"), &[hidden_size])?;
        Ok(Norm { scale, shift, epsilon: self.epsilon })
    }

    fn linear(&mut self, name: &str, outputs: usize, inputs: usize) -> Result<Linear, WeightsError> {
        let weights = self.weights.tensor(&format!("{name}.weight"), &[outputs, inputs])?;
        let bias = self.weights.tensor(&format!("{name}.bias"), &[outputs])?;
        Ok(Linear::new(&weights, bias, inputs, self.precision))
    }

    /// Queries, keys and values as one layer. The scale of the scores goes into the queries.
    fn inputs(&mut self, name: &str, hidden_size: usize, heads: usize) -> Result<Linear, WeightsError> {
        let (mut weights, mut bias) = (Vec::new(), Vec::new());
        for part in ["query", "key", "value"] {
            self.weights.append(&format!("{name}.{part}.weight"), &[hidden_size, hidden_size], &mut weights)?;
            self.weights.append(&format!("{name}.{part}.bias"), &[hidden_size], &mut bias)?;
        }
        let scale = 1.0 / ((hidden_size / heads) as f32).sqrt();
        let queries = weights[..hidden_size * hidden_size].iter_mut().chain(&mut bias[..hidden_size]);
        queries.for_each(|value| *value *= scale);
        Ok(Linear::new(&weights, bias, hidden_size, self.precision))
    }
}
