//! What a client asks a model for: whether any could serve it, which one is meant, and whether it
//! was asked before.
use crate::log::{LoggedPrompt, Prompts};
use ipc::{
    EmbedRequest, GenerateRequest, InvalidRequest, MessageJson, ModelKind, Prompt, TemplateVars, TokenizeRequest,
};
use policy::PoolId;
use std::hash::{BuildHasher, Hash, Hasher};

/// A request for a model.
#[derive(Debug)]
pub(crate) enum ModelRequest {
    /// A text to continue.
    Generate(Box<GenerateRequest>),
    /// Texts to turn into vectors.
    Embed(Box<EmbedRequest>),
    /// A text to turn into ids.
    Tokenize(Box<TokenizeRequest>),
}

impl ModelRequest {
    /// Refuses what no model could serve.
    pub(crate) fn validate(&self) -> Result<(), InvalidRequest> {
        match self {
            ModelRequest::Generate(asked) => asked.validate(),
            ModelRequest::Embed(asked) => asked.validate(),
            ModelRequest::Tokenize(asked) => asked.validate(),
        }
    }

    /// The model that it names.
    pub(crate) fn model(&self) -> Option<&str> {
        match self {
            ModelRequest::Generate(asked) => asked.model.as_deref(),
            ModelRequest::Embed(asked) => asked.model.as_deref(),
            ModelRequest::Tokenize(asked) => asked.model.as_deref(),
        }
    }

    /// Takes from a model's configuration what the request does not say itself.
    pub(crate) fn complete(&mut self, template_vars: &TemplateVars) {
        if let ModelRequest::Generate(asked) = self
            && let Prompt::Chat(_) = asked.prompt
        {
            for (name, value) in template_vars {
                asked.template_vars.entry(name).or_insert_with(|| value.clone());
            }
        }
    }

    /// The kind of model that can serve it; any if there is none.
    pub(crate) fn kind(&self) -> Option<ModelKind> {
        match self {
            ModelRequest::Generate(_) => Some(ModelKind::Generate),
            ModelRequest::Embed(_) => Some(ModelKind::Embed),
            ModelRequest::Tokenize(_) => None,
        }
    }

    /// Its name in the log.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            ModelRequest::Generate(_) => "generate",
            ModelRequest::Embed(_) => "embed",
            ModelRequest::Tokenize(_) => "tokenize",
        }
    }

    /// What the log says of its prompt.
    pub(crate) fn noted(&self, prompts: &Prompts) -> LoggedPrompt {
        match self {
            ModelRequest::Generate(asked) => match &asked.prompt {
                Prompt::Raw(text) => prompts.note(text),
                Prompt::Chat(messages) => prompts.note(&messages.iter().map(MessageJson).collect::<Vec<_>>()),
            },
            ModelRequest::Embed(asked) => prompts.note(&asked.texts),
            ModelRequest::Tokenize(asked) => prompts.note(&asked.text),
        }
    }

    /// A hash that is equal for the same model, input and parameters; a seed that the supervisor
    /// drew is not among them.
    pub(crate) fn fingerprint(&self, hasher: &impl BuildHasher, pool: PoolId) -> u64 {
        let mut state = hasher.build_hasher();
        pool.hash(&mut state);
        std::mem::discriminant(self).hash(&mut state);
        match self {
            ModelRequest::Generate(asked) => {
                let sampling = &asked.sampling;
                (&asked.prompt, asked.max_tokens, &asked.stop, asked.ignore_end).hash(&mut state);
                asked.template_vars.hash(&mut state);
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
            ModelRequest::Embed(asked) => (&asked.texts, asked.role).hash(&mut state),
            ModelRequest::Tokenize(asked) => (&asked.text, asked.special).hash(&mut state),
        }
        state.finish()
    }
}
