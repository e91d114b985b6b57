//! All models, by the policy's numbers: those that are served, those that a reload tries, and those
//! that go.
use super::served_model::ServedModel;
use policy::PoolId;
use std::{
    collections::BTreeMap,
    ops::{Index, IndexMut},
};

/// The models. An index of one that has gone panics, like that of a list; who may be late asks with
/// [`Models::get_mut`].
#[derive(Debug, Default)]
pub(crate) struct Models {
    all: BTreeMap<PoolId, ServedModel>,
    /// Those that are served, in the configuration's order.
    served: Vec<PoolId>,
    /// The number of the next one.
    next: usize,
}

impl Models {
    /// The models that are served from the start.
    pub(crate) fn new(pools: impl IntoIterator<Item = ServedModel>) -> Models {
        let mut all = Models::default();
        all.served = pools.into_iter().map(|pool| all.insert(pool)).collect();
        all
    }

    /// Adds one that is not served yet.
    pub(crate) fn insert(&mut self, pool: ServedModel) -> PoolId {
        let id = PoolId(self.next);
        self.next += 1;
        self.all.insert(id, pool);
        id
    }

    pub(crate) fn remove(&mut self, id: PoolId) -> Option<ServedModel> {
        self.all.remove(&id)
    }

    /// Serves these from now on, and no others.
    pub(crate) fn serve(&mut self, served: Vec<PoolId>) {
        self.served = served;
    }

    pub(crate) fn is_served(&self, id: PoolId) -> bool {
        self.served.contains(&id)
    }

    /// Those that are served.
    pub(crate) fn served(&self) -> impl Iterator<Item = (PoolId, &ServedModel)> {
        self.served.iter().filter_map(|id| Some((*id, self.all.get(id)?)))
    }

    /// The one of this name that is served.
    pub(crate) fn named(&self, name: &str) -> Option<PoolId> {
        self.served().find(|(_, pool)| pool.config.name == name).map(|(id, _)| id)
    }

    /// All of them, those that are served first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (PoolId, &ServedModel)> {
        let others = self.all.iter().filter(|(id, _)| !self.is_served(**id));
        self.served().chain(others.map(|(id, pool)| (*id, pool)))
    }

    pub(crate) fn ids(&self) -> Vec<PoolId> {
        self.all.keys().copied().collect()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &ServedModel> {
        self.all.values()
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut ServedModel> {
        self.all.values_mut()
    }

    pub(crate) fn get_mut(&mut self, id: PoolId) -> Option<&mut ServedModel> {
        self.all.get_mut(&id)
    }
}

impl Index<PoolId> for Models {
    type Output = ServedModel;

    fn index(&self, id: PoolId) -> &ServedModel {
        &self.all[&id]
    }
}

impl IndexMut<PoolId> for Models {
    #[expect(clippy::expect_used, reason = "as the index of a list")]
    fn index_mut(&mut self, id: PoolId) -> &mut ServedModel {
        self.all.get_mut(&id).expect("there is such a model")
    }
}
