//! What many agents share is held once: names, texts, and sets of them.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use legate_ids::Name;

use crate::record::{Labels, Nature, People};

/// Equal values as one.
#[derive(Debug)]
struct Pool<T> {
    held: HashSet<T>,
    /// At so many it is looked whether somebody else still holds them.
    sweep_at: usize,
}

/// Below this nothing is worth looking for.
const SMALLEST_SWEEP: usize = 4_096;

impl<T: Eq + Hash + Clone> Pool<T> {
    fn new() -> Self {
        Self { held: HashSet::new(), sweep_at: SMALLEST_SWEEP }
    }

    /// The value that is held and equal to this one, or this one from now on.
    fn share(&mut self, value: T, is_held: impl Fn(&T) -> bool) -> T {
        if let Some(held) = self.held.get(&value) {
            return held.clone();
        }
        if self.held.len() >= self.sweep_at {
            self.held.retain(is_held);
            self.sweep_at = (2 * self.held.len()).max(SMALLEST_SWEEP);
        }
        self.held.insert(value.clone());
        value
    }
}

fn is_held<T: ?Sized>(value: &Arc<T>) -> bool {
    Arc::strong_count(value) > 1
}

/// Everything that agents share.
#[derive(Debug)]
pub(crate) struct Interner {
    names: Pool<Name>,
    texts: Pool<Arc<str>>,
    lists: Pool<Arc<[Arc<str>]>>,
    labels: Pool<Labels>,
    people: Pool<Arc<People>>,
    natures: Pool<Arc<Nature>>,
}

impl Interner {
    pub(crate) fn new() -> Self {
        Self {
            names: Pool::new(),
            texts: Pool::new(),
            lists: Pool::new(),
            labels: Pool::new(),
            people: Pool::new(),
            natures: Pool::new(),
        }
    }

    pub(crate) fn name(&mut self, name: Name) -> Name {
        self.names.share(name, Name::is_shared)
    }

    pub(crate) fn text(&mut self, text: &str) -> Arc<str> {
        match self.texts.held.get(text) {
            Some(held) => Arc::clone(held),
            None => self.texts.share(text.into(), is_held),
        }
    }

    pub(crate) fn list(&mut self, texts: &[String]) -> Arc<[Arc<str>]> {
        let list = texts.iter().map(|text| self.text(text)).collect();
        self.lists.share(list, is_held)
    }

    pub(crate) fn labels<'a>(&mut self, labels: impl Iterator<Item = (&'a String, &'a String)>) -> Labels {
        let labels = Labels(labels.map(|(key, value)| (self.text(key), self.text(value))).collect());
        self.labels.share(labels, |labels| is_held(&labels.0))
    }

    pub(crate) fn people(&mut self, people: People) -> Arc<People> {
        self.people.share(people.into(), is_held)
    }

    pub(crate) fn nature(&mut self, nature: Nature) -> Arc<Nature> {
        self.natures.share(nature.into(), is_held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_what_nobody_holds_is_forgotten() {
        let mut pool = Interner::new();
        let kept = pool.text("kept");
        assert!(Arc::ptr_eq(&kept, &pool.text("kept")));
        for n in 0..10 * SMALLEST_SWEEP {
            pool.text(&n.to_string());
        }
        assert!(pool.texts.held.len() <= SMALLEST_SWEEP, "{} are held", pool.texts.held.len());
        assert!(Arc::ptr_eq(&kept, &pool.text("kept")));
        let names: Vec<_> = (0..2 * SMALLEST_SWEEP).filter_map(|n| Name::parse(&n.to_string()).ok()).collect();
        let held: Vec<_> = names.iter().map(|name| pool.name(name.clone())).collect();
        assert_eq!(pool.names.held.len(), held.len(), "what somebody holds is kept");
    }
}
