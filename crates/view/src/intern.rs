//! What many agents share is held once, whichever thread asks: names, texts, and sets of them.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;
use legate_ids::{BadName, Name};
use legate_wire::registry::{Environment, RiskTier};
use parking_lot::Mutex;

use crate::agent::{Labels, Nature, Text, Texts};
use crate::declared::DeclaredNature;

/// A value that is held by counting who holds it.
trait Counted: Clone {
    /// Whether somebody beside the pool holds it.
    fn is_held(&self) -> bool;
}

impl Counted for Name {
    fn is_held(&self) -> bool {
        self.is_shared()
    }
}

impl Counted for Text {
    fn is_held(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl Counted for Texts {
    fn is_held(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl Counted for Labels {
    fn is_held(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl Counted for Arc<Nature> {
    fn is_held(&self) -> bool {
        Self::strong_count(self) > 1
    }
}

/// Parts of a pool, so that threads seldom wait for each other.
const PARTS: usize = 16;
/// Below so many values in a part nothing is worth looking for.
const SMALLEST_SWEEP: usize = 256;

/// Equal values as one.
#[derive(Debug)]
struct Pool<T> {
    parts: [Mutex<Part<T>>; PARTS],
    hasher: RandomState,
}

#[derive(Debug)]
struct Part<T> {
    /// Each with the hash of what it was made of.
    held: HashTable<(u64, T)>,
    /// At so many it is looked whether somebody else still holds them.
    sweep_at: usize,
}

impl<T: Counted> Pool<T> {
    fn new() -> Self {
        let part = || Mutex::new(Part { held: HashTable::new(), sweep_at: SMALLEST_SWEEP });
        Self { parts: std::array::from_fn(|_| part()), hasher: RandomState::new() }
    }

    /// The value that is held and is what `declared` says, or the one that `make` makes of it from now on.
    fn share<D: Hash + ?Sized, E>(
        &self,
        declared: &D,
        is_it: impl Fn(&T) -> bool,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let hash = self.hasher.hash_one(declared);
        // Other bits than those that the table looks at; the remainder is below PARTS.
        let mut part = self.parts[usize::try_from((hash >> 32) % PARTS as u64).unwrap_or(0)].lock();
        if let Some((_, held)) = part.held.find(hash, |(_, held)| is_it(held)) {
            return Ok(held.clone());
        }
        if part.held.len() >= part.sweep_at {
            part.held.retain(|(_, held)| held.is_held());
            part.sweep_at = (2 * part.held.len()).max(SMALLEST_SWEEP);
        }
        let value = make()?;
        part.held.insert_unique(hash, (hash, value.clone()), |(hash, _)| *hash);
        Ok(value)
    }

    /// The same, of what is always a value.
    fn share_any<D: Hash + ?Sized>(&self, declared: &D, is_it: impl Fn(&T) -> bool, make: impl FnOnce() -> T) -> T {
        match self.share(declared, is_it, || Ok::<_, std::convert::Infallible>(make())) {
            Ok(value) => value,
        }
    }
}

/// Everything that agents share. What is declared is looked for as it is: only what is new is copied.
#[derive(Debug)]
pub(crate) struct Interner {
    names: Pool<Name>,
    texts: Pool<Text>,
    lists: Pool<Texts>,
    labels: Pool<Labels>,
    natures: Pool<Arc<Nature>>,
}

impl Interner {
    pub(crate) fn new() -> Self {
        Self { names: Pool::new(), texts: Pool::new(), lists: Pool::new(), labels: Pool::new(), natures: Pool::new() }
    }

    pub(crate) fn name(&self, declared: &str) -> Result<Name, BadName> {
        self.names.share(declared, |name| name.as_str() == declared, || Name::parse(declared))
    }

    pub(crate) fn text(&self, declared: &str) -> Text {
        self.texts.share_any(declared, |text| **text == *declared, || Text(Arc::new(declared.into())))
    }

    pub(crate) fn list(&self, declared: &[&str]) -> Texts {
        let make = || Texts(Arc::new(declared.iter().map(|text| self.text(text)).collect()));
        self.lists.share_any(declared, |texts| are(texts, declared), make)
    }

    /// In the order of the keys, each once.
    pub(crate) fn labels(&self, declared: &[(&str, &str)]) -> Labels {
        let is_it = |labels: &Labels| labels.iter().eq(declared.iter().copied());
        let make = || declared.iter().map(|(key, text)| (self.text(key), self.text(text))).collect();
        self.labels.share_any(declared, is_it, || Labels(Arc::new(make())))
    }

    pub(crate) fn nature(&self, declared: &DeclaredNature<'_>) -> Arc<Nature> {
        let environment = environment(Environment::try_from(declared.environment).unwrap_or_default());
        let risk_tier = risk_tier(RiskTier::try_from(declared.risk_tier).unwrap_or_default());
        let is_it = |nature: &Arc<Nature>| {
            [nature.environment, nature.risk_tier] == [environment, risk_tier]
                && *nature.framework == *declared.framework
                && *nature.model == *declared.model
                && *nature.version == *declared.version
                && are(&nature.regions, &declared.regions)
                && are(&nature.data_classifications, &declared.data_classifications)
                && are(&nature.protocols, &declared.protocols)
        };
        let make = || {
            Arc::new(Nature {
                environment,
                risk_tier,
                regions: self.list(&declared.regions),
                data_classifications: self.list(&declared.data_classifications),
                protocols: self.list(&declared.protocols),
                framework: self.text(declared.framework),
                model: self.text(declared.model),
                version: self.text(declared.version),
            })
        };
        self.natures.share_any(declared, is_it, make)
    }
}

/// Whether these texts are those that were declared.
fn are(texts: &[Text], declared: &[&str]) -> bool {
    texts.iter().map(|text| &**text).eq(declared.iter().copied())
}

/// The word of an environment; empty: none, or one that is not known here.
pub(crate) fn environment(from: Environment) -> &'static str {
    match from {
        Environment::Dev => "dev",
        Environment::Test => "test",
        Environment::Prod => "prod",
        Environment::Unspecified => "",
    }
}

fn risk_tier(from: RiskTier) -> &'static str {
    match from {
        RiskTier::Low => "low",
        RiskTier::Medium => "medium",
        RiskTier::High => "high",
        RiskTier::Critical => "critical",
        RiskTier::Unspecified => "",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn held<T>(pool: &Pool<T>) -> usize {
        pool.parts.iter().map(|part| part.lock().held.len()).sum()
    }

    #[test]
    fn equal_values_are_one_and_what_nobody_holds_is_forgotten() {
        const MANY: usize = 10 * PARTS * SMALLEST_SWEEP;
        let pool = Interner::new();
        let kept = pool.text("kept");
        assert!(Arc::ptr_eq(&kept.0, &pool.text("kept").0));
        for n in 0..MANY {
            pool.text(&n.to_string());
        }
        assert!(held(&pool.texts) <= PARTS * SMALLEST_SWEEP, "{} are held", held(&pool.texts));
        assert!(Arc::ptr_eq(&kept.0, &pool.text("kept").0));
        let names: Vec<_> = (0..MANY).map(|n| pool.name(&n.to_string()).unwrap()).collect();
        assert_eq!(held(&pool.names), names.len(), "what somebody holds is kept");
        assert!(pool.name("Not a name").is_err());
        assert_eq!(held(&pool.names), names.len(), "what is no name is not held");
    }
}
