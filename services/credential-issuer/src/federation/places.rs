//! The addresses whose keys are remembered, and which namespaces hold them there: whoever declares many pushes out its own.

use std::collections::HashMap;
use std::sync::Arc;

use super::Place;

/// So many addresses are remembered; those that somebody waits for are, however many there are.
const MOST: usize = 1024;

/// The addresses.
#[derive(Debug, Default)]
pub(super) struct Places {
    known: HashMap<Arc<str>, Known>,
    /// Counts the looks.
    tick: u64,
}

/// One address, and when each namespace that holds it last looked.
#[derive(Debug, Default)]
struct Known {
    place: Place,
    held: HashMap<Box<str>, u64>,
}

impl Places {
    /// The place of an address, which the namespace holds from now on; the empty one is that of the configuration.
    pub(super) fn get(&mut self, namespace: &str, at: &Arc<str>) -> Place {
        self.tick += 1;
        if self.known.len() >= MOST && !self.known.contains_key(at) {
            self.make_room();
        }
        let known = self.known.entry(Arc::clone(at)).or_default();
        known.held.insert(namespace.into(), self.tick);
        Arc::clone(&known.place)
    }

    /// Of the namespace that holds the most, what it has not looked at for longest goes; what others hold too stays for them.
    fn make_room(&mut self) {
        let most = self.known.len();
        for _ in 0..most {
            if self.known.len() < MOST {
                return;
            }
            let mut holds: HashMap<&str, usize> = HashMap::new();
            let free = self.known.values().filter(|known| Arc::strong_count(&known.place) == 1);
            for namespace in free.flat_map(|known| known.held.keys()).filter(|namespace| !namespace.is_empty()) {
                *holds.entry(namespace).or_default() += 1;
            }
            let Some(most) = holds.into_iter().max_by_key(|(name, count)| (*count, *name)).map(|(name, _)| name) else {
                return;
            };
            let of_it = self.known.iter().filter(|(_, known)| Arc::strong_count(&known.place) == 1);
            let oldest = of_it.filter_map(|(at, known)| known.held.get(most).map(|tick| (*tick, Arc::clone(at)))).min();
            let (Some((_, at)), most) = (oldest, most.to_owned()) else { return };
            if let Some(known) = self.known.get_mut(&at) {
                known.held.remove(most.as_str());
                if known.held.is_empty() {
                    self.known.remove(&at);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: usize) -> Arc<str> {
        format!("https://keys.example/{n}").into()
    }

    #[test]
    fn who_declares_many_pushes_out_its_own() {
        let mut places = Places::default();
        let configured = places.get("", &at(0));
        let (modest, shared) = (places.get("modest", &at(1)), places.get("modest", &at(2)));
        let kept = [(0, Arc::downgrade(&configured)), (1, Arc::downgrade(&modest)), (2, Arc::downgrade(&shared))];
        drop((configured, modest, shared));
        places.get("greedy", &at(2));
        for n in 3..3 * MOST {
            places.get("greedy", &at(n));
            assert!(places.known.len() <= MOST);
        }
        for (n, place) in kept {
            assert!(place.upgrade().is_some(), "{n} was pushed out");
            assert!(places.known.contains_key(&at(n)));
        }
        // Its own are the latest ones.
        assert!(!places.known.contains_key(&at(3)) && places.known.contains_key(&at(3 * MOST - 1)));
    }

    #[test]
    fn what_somebody_waits_for_stays() {
        let mut places = Places::default();
        let waiting: Vec<Place> = (0..MOST + 5).map(|n| places.get("greedy", &at(n))).collect();
        assert_eq!(places.known.len(), waiting.len());
        drop(waiting);
        places.get("greedy", &at(MOST + 5));
        assert_eq!(places.known.len(), MOST);
    }
}
