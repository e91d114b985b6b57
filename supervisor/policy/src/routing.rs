//! Which model a request means: the one that it names, or the only one that can do what it asks for.
//!
//! This is a rule without a state. The daemon knows what the models are called and words the
//! refusals.
use super::event::PoolId;
use ipc::ModelKind;

/// A model that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Its pool.
    pub pool: PoolId,
    /// What it is called.
    pub name: &'a str,
    /// What it does.
    pub kind: ModelKind,
    /// Whether it could not be loaded. Why not is worth more than what it would have done.
    pub has_failed: bool,
}

/// Why no model serves a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unrouted {
    /// No model does that.
    NoneDoes,
    /// More than one does, and none was named.
    NotNamed,
    /// There is no model of that name.
    Unknown,
    /// The model of that name does something else.
    OtherKind,
}

/// The model that serves a request for one of this name and kind; of any if they are not said.
pub fn route<'a>(
    served: impl Iterator<Item = Candidate<'a>>,
    name: Option<&str>,
    kind: Option<ModelKind>,
) -> Result<PoolId, Unrouted> {
    let does = |model: &Candidate<'_>| kind.is_none_or(|kind| model.kind == kind);
    let Some(name) = name else {
        let mut only = served.filter(does);
        return match (only.next(), only.next()) {
            (Some(model), None) => Ok(model.pool),
            (None, _) => Err(Unrouted::NoneDoes),
            (Some(_), Some(_)) => Err(Unrouted::NotNamed),
        };
    };
    let mut named = served.filter(|model| model.name == name);
    match named.next() {
        Some(model) if does(&model) || model.has_failed => Ok(model.pool),
        Some(_) => Err(Unrouted::OtherKind),
        None => Err(Unrouted::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ModelKind::{Embed, Generate};

    fn model(pool: usize, name: &'static str, kind: ModelKind) -> Candidate<'static> {
        Candidate { pool: PoolId(pool), name, kind, has_failed: false }
    }

    #[test]
    fn a_name_means_its_model_and_no_other() {
        let models = [model(3, "a", Generate), model(1, "b", Embed), model(2, "c", Generate)];
        let to = |name, kind| route(models.iter().copied(), name, kind);
        assert_eq!(to(Some("c"), Some(Generate)), Ok(PoolId(2)));
        assert_eq!(to(Some("b"), None), Ok(PoolId(1)));
        assert_eq!(to(Some("b"), Some(Generate)), Err(Unrouted::OtherKind));
        assert_eq!(to(Some("d"), Some(Embed)), Err(Unrouted::Unknown));
        assert_eq!(to(None, Some(Embed)), Ok(PoolId(1)), "the only one");
        assert_eq!(to(None, Some(Generate)), Err(Unrouted::NotNamed));
        assert_eq!(to(None, None), Err(Unrouted::NotNamed));
        assert_eq!(route(models[1..2].iter().copied(), None, Some(Generate)), Err(Unrouted::NoneDoes));
    }

    #[test]
    fn a_model_that_could_not_be_loaded_says_so_itself() {
        let failed = Candidate { has_failed: true, ..model(0, "a", Generate) };
        assert_eq!(route([failed].into_iter(), Some("a"), Some(Embed)), Ok(PoolId(0)));
        assert_eq!(route([failed].into_iter(), None, Some(Embed)), Err(Unrouted::NoneDoes));
    }
}
