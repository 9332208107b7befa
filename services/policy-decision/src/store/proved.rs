//! Tokens whose signature was checked, by their SHA-256: the check is spared, the standing never is.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

const SHARDS: usize = 16;

/// A bounded memory of two generations: when the young one is full it becomes the old one, and the old one is forgotten.
#[derive(Debug)]
pub(crate) struct Proved<T> {
    shards: Vec<Mutex<Generations<T>>>,
    half: usize,
}

#[derive(Debug)]
struct Generations<T> {
    young: HashMap<[u8; 32], Arc<T>>,
    old: HashMap<[u8; 32], Arc<T>>,
}

impl<T> Proved<T> {
    /// Remembers `capacity` tokens at most.
    pub(crate) fn new(capacity: usize) -> Self {
        let shard = || Mutex::new(Generations { young: HashMap::new(), old: HashMap::new() });
        Self { shards: (0..SHARDS).map(|_| shard()).collect(), half: (capacity / SHARDS / 2).max(1) }
    }

    fn shard(&self, key: &[u8; 32]) -> &Mutex<Generations<T>> {
        // The key is a hash, so any of its bytes spreads well.
        &self.shards[usize::from(key[0]) % SHARDS]
    }

    /// What is known of the token.
    pub(crate) fn get(&self, key: &[u8; 32]) -> Option<Arc<T>> {
        let mut shard = self.shard(key).lock();
        if let Some(known) = shard.young.get(key) {
            return Some(Arc::clone(known));
        }
        let known = shard.old.remove(key)?;
        self.put(&mut shard, *key, Arc::clone(&known));
        Some(known)
    }

    /// Remembers a token that was proved.
    pub(crate) fn insert(&self, key: [u8; 32], value: Arc<T>) {
        let mut shard = self.shard(&key).lock();
        self.put(&mut shard, key, value);
    }

    fn put(&self, shard: &mut Generations<T>, key: [u8; 32], value: Arc<T>) {
        if shard.young.len() >= self.half {
            shard.old = std::mem::take(&mut shard.young);
        }
        shard.young.insert(key, value);
    }

    /// How many tokens are remembered.
    pub(crate) fn len(&self) -> usize {
        let of = |shard: &Mutex<Generations<T>>| {
            let shard = shard.lock();
            shard.young.len() + shard.old.len()
        };
        self.shards.iter().map(of).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> [u8; 32] {
        let mut key = [0; 32];
        key[1..5].copy_from_slice(&n.to_be_bytes());
        key
    }

    #[test]
    fn keeps_what_is_used_and_stays_within_its_bound() {
        // All keys fall into one shard: ten of a generation there.
        let proved = Proved::new(20 * SHARDS);
        for n in 0..1_000 {
            proved.insert(key(n), Arc::new(n));
            assert_eq!(proved.get(&key(0)).as_deref(), Some(&0), "used all the time, never forgotten");
            assert!(proved.len() <= 20, "{}", proved.len());
        }
        assert_eq!(proved.get(&key(500)), None);
        assert_eq!(proved.get(&key(999)).as_deref(), Some(&999));
    }
}
