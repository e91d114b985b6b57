//! What a client asks a model for: whether any could serve it, which one is meant, and whether it was asked before.
use crate::log::{Noted, Prompts};
use ipc::{EmbedRequest, GenerateRequest, InvalidRequest, MessageJson, ModelKind, Prompt, TokenizeRequest};
use policy::PoolId;
use std::hash::{BuildHasher, Hash, Hasher};

/// A request for a model.
#[derive(Debug)]
pub(crate) enum Asked {
    /// A text to continue.
    Generate(Box<GenerateRequest>),
    /// Texts to turn into vectors.
    Embed(Box<EmbedRequest>),
    /// A text to turn into ids.
    Tokenize(Box<TokenizeRequest>),
}

impl Asked {
    /// Refuses what no model could serve.
    pub(crate) fn validate(&self) -> Result<(), InvalidRequest> {
        match self {
            Asked::Generate(asked) => asked.validate(),
            Asked::Embed(asked) => asked.validate(),
            Asked::Tokenize(asked) => asked.validate(),
        }
    }

    /// The model that it names.
    pub(crate) fn model(&self) -> Option<&str> {
        match self {
            Asked::Generate(asked) => asked.model.as_deref(),
            Asked::Embed(asked) => asked.model.as_deref(),
            Asked::Tokenize(asked) => asked.model.as_deref(),
        }
    }

    /// The kind of model that can serve it; any if there is none.
    pub(crate) fn kind(&self) -> Option<ModelKind> {
        match self {
            Asked::Generate(_) => Some(ModelKind::Generate),
            Asked::Embed(_) => Some(ModelKind::Embed),
            Asked::Tokenize(_) => None,
        }
    }

    /// Its name in the log.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Asked::Generate(_) => "generate",
            Asked::Embed(_) => "embed",
            Asked::Tokenize(_) => "tokenize",
        }
    }

    /// What the log says of its prompt.
    pub(crate) fn noted(&self, prompts: &Prompts) -> Noted {
        match self {
            Asked::Generate(asked) => match &asked.prompt {
                Prompt::Raw(text) => prompts.note(text),
                Prompt::Chat(messages) => prompts.note(&messages.iter().map(MessageJson).collect::<Vec<_>>()),
            },
            Asked::Embed(asked) => prompts.note(&asked.texts),
            Asked::Tokenize(asked) => prompts.note(&asked.text),
        }
    }

    /// A hash that is equal for the same model, input and parameters; a seed that the supervisor drew is not among them.
    pub(crate) fn fingerprint(&self, hasher: &impl BuildHasher, pool: PoolId) -> u64 {
        let mut state = hasher.build_hasher();
        pool.hash(&mut state);
        std::mem::discriminant(self).hash(&mut state);
        match self {
            Asked::Generate(asked) => {
                let sampling = &asked.sampling;
                (&asked.prompt, asked.max_tokens, &asked.stop, asked.ignore_end).hash(&mut state);
                (sampling.top_k, sampling.seed).hash(&mut state);
                for number in [
                    sampling.temperature,
                    sampling.top_p,
                    sampling.repeat_penalty,
                    sampling.frequency_penalty,
                    sampling.presence_penalty,
                ] {
                    number.to_bits().hash(&mut state);
                }
            }
            Asked::Embed(asked) => (&asked.texts, asked.role).hash(&mut state),
            Asked::Tokenize(asked) => (&asked.text, asked.special).hash(&mut state),
        }
        state.finish()
    }
}
