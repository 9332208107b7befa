//! A set whose copies share what did not change, of values that hold their own keys.

use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// How many tables there are.
const SHARDS: usize = 1024;

/// Values found by the hash of their key, which whoever asks takes, and by a look at the value. A clone costs one
/// reference count; a write after it copies one table and the list of tables.
#[derive(Clone, Debug)]
pub(crate) struct ShardedSet<V> {
    tables: Arc<Vec<Arc<HashTable<V>>>>,
    len: usize,
}

/// The table of a hash. Of the 64 bits a table itself looks at the lowest and at the seven highest.
fn shard_of(hash: u64) -> usize {
    // The remainder is below SHARDS, so the conversion cannot fail.
    usize::try_from((hash >> 32) % SHARDS as u64).unwrap_or(0)
}

impl<V: Clone> ShardedSet<V> {
    pub(crate) fn new() -> Self {
        let empty = Arc::new(HashTable::new());
        Self { tables: Arc::new(vec![empty; SHARDS]), len: 0 }
    }

    /// These; of several that are the same, the last.
    pub(crate) fn of<'v>(
        all: impl Iterator<Item = &'v V> + Clone,
        is_same: impl Fn(&V, &V) -> bool,
        hash_of: impl Fn(&V) -> u64,
    ) -> Self
    where
        V: 'v,
    {
        // Each is hashed once, and remembered for as long as it takes.
        let hashes: Vec<u64> = all.clone().map(&hash_of).collect();
        let mut sizes = vec![0; SHARDS];
        hashes.iter().for_each(|hash| sizes[shard_of(*hash)] += 1);
        let mut tables: Vec<HashTable<V>> = sizes.into_iter().map(HashTable::with_capacity).collect();
        let mut len = 0;
        for (hash, value) in hashes.into_iter().zip(all) {
            match tables[shard_of(hash)].entry(hash, |known| is_same(known, value), &hash_of) {
                Entry::Occupied(mut known) => *known.get_mut() = value.clone(),
                Entry::Vacant(place) => {
                    place.insert(value.clone());
                    len += 1;
                }
            }
        }
        Self { tables: Arc::new(tables.into_iter().map(Arc::new).collect()), len }
    }

    pub(crate) fn get(&self, hash: u64, is_it: impl FnMut(&V) -> bool) -> Option<&V> {
        self.tables[shard_of(hash)].find(hash, is_it)
    }

    fn table_mut(&mut self, hash: u64) -> &mut HashTable<V> {
        Arc::make_mut(&mut Arc::make_mut(&mut self.tables)[shard_of(hash)])
    }

    /// Puts a value in the place of the one with its key, which is returned; `hash_of` tells the hash of any value's key.
    pub(crate) fn put(
        &mut self,
        hash: u64,
        value: V,
        is_it: impl FnMut(&V) -> bool,
        hash_of: impl Fn(&V) -> u64,
    ) -> Option<V> {
        let table = self.table_mut(hash);
        if let Some(known) = table.find_mut(hash, is_it) {
            return Some(std::mem::replace(known, value));
        }
        table.insert_unique(hash, value, hash_of);
        self.len += 1;
        None
    }

    pub(crate) fn remove(&mut self, hash: u64, is_it: impl Fn(&V) -> bool) {
        // What is not there is not worth a copy.
        if self.get(hash, &is_it).is_none() {
            return;
        }
        if let Ok(found) = self.table_mut(hash).find_entry(hash, is_it) {
            found.remove();
            self.len -= 1;
        }
    }

    /// Every value, in no order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.tables.iter().flat_map(|table| table.iter())
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}
