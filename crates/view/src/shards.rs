//! A map whose copies share what did not change: 1,024 shards, each copied only when it is written.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// How many shards there are.
const SHARDS: usize = 1024;

type Shard<V> = Arc<HashMap<Arc<str>, V>>;

/// The shard of a hash.
fn shard_of(hash: u64) -> usize {
    // The remainder is below SHARDS, so the conversion cannot fail.
    usize::try_from(hash % SHARDS as u64).unwrap_or(0)
}

/// Text to value. A clone costs one reference count; a write after it copies one shard and the table of shards.
#[derive(Clone, Debug)]
pub(crate) struct Shards<V> {
    table: Arc<Vec<Shard<V>>>,
    hasher: RandomState,
    len: usize,
}

impl<V: Clone> Shards<V> {
    pub(crate) fn new() -> Self {
        let empty = Arc::new(HashMap::new());
        Self { table: Arc::new(vec![empty; SHARDS]), hasher: RandomState::new(), len: 0 }
    }

    fn shard(&self, key: &str) -> usize {
        shard_of(self.hasher.hash_one(key))
    }

    pub(crate) fn get(&self, key: &str) -> Option<&V> {
        self.table[self.shard(key)].get(key)
    }

    pub(crate) fn insert(&mut self, key: &str, value: V) -> Option<V> {
        let shard = self.shard(key);
        let map = Arc::make_mut(&mut Arc::make_mut(&mut self.table)[shard]);
        let before = map.insert(Arc::from(key), value);
        self.len += usize::from(before.is_none());
        before
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<V> {
        self.get(key)?;
        let shard = self.shard(key);
        let map = Arc::make_mut(&mut Arc::make_mut(&mut self.table)[shard]);
        let before = map.remove(key);
        self.len -= usize::from(before.is_some());
        before
    }

    /// Changes a value in place, or one made anew; copies are spared where nobody else holds it.
    pub(crate) fn change<T>(&mut self, key: &str, change: impl FnOnce(&mut V) -> T) -> T
    where
        V: Default,
    {
        let shard = self.shard(key);
        let map = Arc::make_mut(&mut Arc::make_mut(&mut self.table)[shard]);
        if let Some(value) = map.get_mut(key) {
            return change(value);
        }
        self.len += 1;
        change(map.entry(Arc::from(key)).or_default())
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.table.iter().flat_map(|shard| shard.values())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_copy_never_sees_later_writes(steps in proptest::collection::vec((0u8..20, proptest::option::of(0u8..9)), 1..60)) {
            let mut map = Shards::new();
            let mut model = HashMap::new();
            let mut kept = Vec::new();
            for (key, value) in steps {
                kept.push((map.clone(), model.clone()));
                let key = key.to_string();
                match value {
                    Some(v) => prop_assert_eq!(map.insert(&key, v), model.insert(key, v)),
                    None => prop_assert_eq!(map.remove(&key), model.remove(&key)),
                }
            }
            kept.push((map, model));
            for (map, model) in kept {
                prop_assert_eq!(map.len(), model.len());
                prop_assert_eq!(map.values().count(), model.len());
                for (key, value) in &model {
                    prop_assert_eq!(map.get(key), Some(value));
                }
            }
        }
    }
}
