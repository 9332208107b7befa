//! A bounded memory of what is dear to make again: tokens whose signature was checked, agents in Cedar's words.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;

const SHARDS: usize = 16;

/// A bounded memory of two generations: when the young one is full it becomes the old one, and the old one is forgotten.
#[derive(Debug)]
pub(crate) struct Memory<K, T> {
    shards: Vec<Mutex<Generations<K, T>>>,
    half: usize,
    spread: RandomState,
}

#[derive(Debug)]
struct Generations<K, T> {
    young: HashMap<K, Arc<T>>,
    old: HashMap<K, Arc<T>>,
}

impl<K: Clone + Eq + Hash, T> Memory<K, T> {
    /// Remembers `capacity` things at most, though 32 always.
    pub(crate) fn new(capacity: usize) -> Self {
        let shard = || Mutex::new(Generations { young: HashMap::new(), old: HashMap::new() });
        let half = (capacity / SHARDS / 2).max(1);
        Self { shards: (0..SHARDS).map(|_| shard()).collect(), half, spread: RandomState::new() }
    }

    fn shard(&self, key: &K) -> &Mutex<Generations<K, T>> {
        // The lowest bits place an entry within its shard, so others choose the shard.
        let hash = self.spread.hash_one(key).to_be_bytes();
        &self.shards[usize::from(hash[0]) % SHARDS]
    }

    /// What is remembered under the key.
    pub(crate) fn get(&self, key: &K) -> Option<Arc<T>> {
        let mut shard = self.shard(key).lock();
        if let Some(known) = shard.young.get(key) {
            return Some(Arc::clone(known));
        }
        let known = shard.old.remove(key)?;
        self.put(&mut shard, key.clone(), Arc::clone(&known));
        Some(known)
    }

    /// Remembers something, in place of what was remembered under the key.
    pub(crate) fn insert(&self, key: K, value: Arc<T>) {
        let mut shard = self.shard(&key).lock();
        self.put(&mut shard, key, value);
    }

    fn put(&self, shard: &mut Generations<K, T>, key: K, value: Arc<T>) {
        if shard.young.len() >= self.half {
            shard.old = std::mem::take(&mut shard.young);
        }
        shard.young.insert(key, value);
    }

    /// How much is remembered.
    pub(crate) fn len(&self) -> usize {
        let of = |shard: &Mutex<Generations<K, T>>| {
            let shard = shard.lock();
            shard.young.len() + shard.old.len()
        };
        self.shards.iter().map(of).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_is_used_and_stays_within_its_bound() {
        const BOUND: usize = 20 * SHARDS;
        let memory = Memory::new(BOUND);
        for n in 0..10_000_u32 {
            memory.insert(n, Arc::new(n));
            assert_eq!(memory.get(&0).as_deref(), Some(&0), "used all the time, never forgotten");
            assert!(memory.len() <= BOUND, "{}", memory.len());
        }
        assert_eq!(memory.get(&5_000), None);
        assert_eq!(memory.get(&9_999).as_deref(), Some(&9_999));
        memory.insert(9_999, Arc::new(1));
        assert_eq!(memory.get(&9_999).as_deref(), Some(&1), "what is newer counts");
    }
}
