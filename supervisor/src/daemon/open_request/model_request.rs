//! What a client asks a model for: whether any could serve it, which one is meant, and whether it
//! was asked before.
use super::{Kind, draw_seed, embedding::Embedding, generation::Generation, tokenization::Tokenization};
use crate::log::{LoggedPrompt, Prompts};
use ipc::{
    EmbedRequest, GenerateRequest, InvalidRequest, MessageJson, ModelKind, Prompt, TemplateVars, TokenizeRequest,
};
use policy::PoolId;
use std::hash::{BuildHasher, Hash, Hasher};

/// A request for a model.
pub(crate) trait ModelRequest: Sized {
    /// Its name in the log.
    const NAME: &'static str;
    /// The kind of model that can serve it; any if there is none.
    const KIND: Option<ModelKind>;

    /// Refuses what no model could serve.
    fn validate(&self) -> Result<(), InvalidRequest>;

    /// The model that it names.
    fn model(&self) -> Option<&str>;

    /// Takes from a model's configuration what the request does not say itself.
    fn complete(&mut self, _template_vars: &TemplateVars) {}

    /// What the log says of its prompt.
    fn noted(&self, prompts: &Prompts) -> LoggedPrompt;

    /// Feeds its input and parameters to a hash.
    fn hash(&self, state: &mut impl Hasher);

    /// What is kept of it, for a model that runs so many at once.
    fn open(self, workers: u32) -> Kind;

    /// A hash that is equal for the same model, input and parameters; a seed that the supervisor
    /// drew is not among them.
    fn fingerprint(&self, hasher: &impl BuildHasher, pool: PoolId) -> u64 {
        let mut state = hasher.build_hasher();
        (pool, Self::NAME).hash(&mut state);
        self.hash(&mut state);
        state.finish()
    }
}

impl ModelRequest for GenerateRequest {
    const NAME: &'static str = "generate";
    const KIND: Option<ModelKind> = Some(ModelKind::Generate);

    fn validate(&self) -> Result<(), InvalidRequest> {
        GenerateRequest::validate(self)
    }

    fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    fn complete(&mut self, template_vars: &TemplateVars) {
        if let Prompt::Chat(_) = self.prompt {
            for (name, value) in template_vars {
                self.template_vars.entry(name).or_insert_with(|| value.clone());
            }
        }
    }

    fn noted(&self, prompts: &Prompts) -> LoggedPrompt {
        match &self.prompt {
            Prompt::Raw(text) => prompts.note(text),
            Prompt::Chat(messages) => prompts.note(&messages.iter().map(MessageJson).collect::<Vec<_>>()),
        }
    }

    fn hash(&self, state: &mut impl Hasher) {
        let sampling = &self.sampling;
        (&self.prompt, self.max_tokens, &self.stop, self.ignore_end, &self.template_vars).hash(state);
        (sampling.top_k, sampling.seed).hash(state);
        for number in [
            sampling.temperature,
            sampling.top_p,
            sampling.min_p,
            sampling.repeat_penalty,
            sampling.frequency_penalty,
            sampling.presence_penalty,
        ] {
            number.to_bits().hash(state);
        }
    }

    fn open(self, _workers: u32) -> Kind {
        Kind::Generation(Box::new(Generation::new(self, draw_seed())))
    }
}

impl ModelRequest for EmbedRequest {
    const NAME: &'static str = "embed";
    const KIND: Option<ModelKind> = Some(ModelKind::Embed);

    fn validate(&self) -> Result<(), InvalidRequest> {
        EmbedRequest::validate(self)
    }

    fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    fn noted(&self, prompts: &Prompts) -> LoggedPrompt {
        prompts.note(&self.texts)
    }

    fn hash(&self, state: &mut impl Hasher) {
        (&self.texts, self.role).hash(state);
    }

    fn open(self, workers: u32) -> Kind {
        Kind::Embedding(Embedding::new(self, workers))
    }
}

impl ModelRequest for TokenizeRequest {
    const NAME: &'static str = "tokenize";
    const KIND: Option<ModelKind> = None;

    fn validate(&self) -> Result<(), InvalidRequest> {
        TokenizeRequest::validate(self)
    }

    fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    fn noted(&self, prompts: &Prompts) -> LoggedPrompt {
        prompts.note(&self.text)
    }

    fn hash(&self, state: &mut impl Hasher) {
        (&self.text, self.special).hash(state);
    }

    fn open(self, _workers: u32) -> Kind {
        Kind::Tokenization(Tokenization::new(self))
    }
}
