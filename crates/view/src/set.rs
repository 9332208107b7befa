//! A set whose copies share what did not change, of values that hold their own keys.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

use crate::shards::{SHARDS, shard_of};

/// Values found by what they borrow as. A clone costs one reference count; a write after it copies one shard and the
/// table of shards.
#[derive(Clone, Debug)]
pub(crate) struct ShardedSet<V> {
    table: Arc<Vec<Arc<HashSet<V>>>>,
    hasher: RandomState,
    len: usize,
}

impl<V: Clone + Eq + Hash> ShardedSet<V> {
    pub(crate) fn new() -> Self {
        let empty = Arc::new(HashSet::new());
        Self { table: Arc::new(vec![empty; SHARDS]), hasher: RandomState::new(), len: 0 }
    }

    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        V: Borrow<Q>,
    {
        self.table[shard_of(self.hasher.hash_one(key))].get(key)
    }

    /// Puts a value in the place of the one with its key.
    pub(crate) fn put(&mut self, value: V) {
        let shard = shard_of(self.hasher.hash_one(&value));
        let set = Arc::make_mut(&mut Arc::make_mut(&mut self.table)[shard]);
        self.len += usize::from(set.replace(value).is_none());
    }

    pub(crate) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q)
    where
        V: Borrow<Q>,
    {
        if self.get(key).is_some() {
            let shard = shard_of(self.hasher.hash_one(key));
            let set = Arc::make_mut(&mut Arc::make_mut(&mut self.table)[shard]);
            self.len -= usize::from(set.remove(key));
        }
    }

    /// Every value, in no order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.table.iter().flat_map(|shard| shard.iter())
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}
