//! Actions as patterns, none of which includes another; what a token is narrowed to, and what of it is asked for.

use alloc::vec::Vec;

use crate::{Action, ActionPattern};

/// A set of actions. What was named first stands first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Actions(Vec<ActionPattern>);

impl Actions {
    /// All that `patterns` stand for together; what another of them includes is left out.
    #[must_use]
    pub fn of(patterns: impl IntoIterator<Item = ActionPattern>) -> Self {
        let mut kept: Vec<ActionPattern> = Vec::new();
        for pattern in patterns {
            if !kept.iter().any(|one| one.includes(&pattern)) {
                kept.retain(|one| !pattern.includes(one));
                kept.push(pattern);
            }
        }
        Self(kept)
    }

    /// Every action there is.
    #[must_use]
    pub fn all() -> Self {
        Self(Vec::from([ActionPattern::every()]))
    }

    /// What is in both, in the order of these.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        let meet = |one| other.0.iter().filter_map(move |another| ActionPattern::meet(one, another).cloned());
        Self::of(self.0.iter().flat_map(meet))
    }

    /// Whether `action` is one of them.
    #[must_use]
    pub fn covers(&self, action: &Action) -> bool {
        self.0.iter().any(|one| one.covers(action))
    }

    /// Whether all that `other` stands for are of these.
    #[must_use]
    pub fn include(&self, other: &Self) -> bool {
        other.0.iter().all(|wanted| self.0.iter().any(|one| one.includes(wanted)))
    }

    /// Whether it is every action there is.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0.iter().any(|one| *one == ActionPattern::every())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many patterns say it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The patterns that say it.
    pub fn iter(&self) -> core::slice::Iter<'_, ActionPattern> {
        self.0.iter()
    }
}

impl FromIterator<ActionPattern> for Actions {
    fn from_iter<I: IntoIterator<Item = ActionPattern>>(patterns: I) -> Self {
        Self::of(patterns)
    }
}

impl FromIterator<Action> for Actions {
    fn from_iter<I: IntoIterator<Item = Action>>(actions: I) -> Self {
        actions.into_iter().map(ActionPattern::from).collect()
    }
}

/// With single spaces between, as RFC 6749 section 3.3 has a scope.
impl core::fmt::Display for Actions {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (n, one) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str(" ")?;
            }
            f.write_str(one.as_str())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use alloc::string::{String, ToString as _};

    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> Actions {
        text.split_whitespace().map(|one| ActionPattern::parse(one).unwrap()).collect()
    }

    #[test]
    fn says_nothing_twice_and_keeps_the_order() {
        for (all, said) in [
            ("", ""),
            ("b a b", "b a"),
            ("a:b a:* a:c", "a:*"),
            ("c a:* a:b:* b", "c a:* b"),
            ("a * b", "*"),
            ("a a:*", "a a:*"),
        ] {
            assert_eq!(of(all).to_string(), said, "{all}");
        }
        assert!(Actions::all().is_all() && of("a *").is_all() && !of("a:*").is_all() && of("").is_empty());
    }

    #[test]
    fn what_is_in_both_is_said_by_the_narrower() {
        for (one, other, both) in [
            ("a b", "b c", "b"),
            ("*", "b a", "b a"),
            ("b a:*", "a:c:* a:b b:*", "a:c:* a:b"),
            ("a:*", "a", ""),
            ("a", "", ""),
        ] {
            assert_eq!(of(one).meet(&of(other)).to_string(), both, "{one} and {other}");
        }
    }

    fn patterns() -> impl Strategy<Value = String> {
        let one = prop::sample::select(&["*", "a", "a:*", "a:b", "a:b:*", "a:b:c", "b", "b:*", "b:a"][..]);
        prop::collection::vec(one, 0..5).prop_map(|all| all.join(" "))
    }

    proptest! {
        /// As sets: the meet is the intersection, and to include is to be a superset.
        #[test]
        fn are_sets(one in patterns(), other in patterns()) {
            let (one, other) = (of(&one), of(&other));
            let both = one.meet(&other);
            for action in ["a", "a:b", "a:b:c", "a:b:d", "a:c", "b", "b:a", "c"] {
                let action = Action::parse(action).unwrap();
                prop_assert_eq!(both.covers(&action), one.covers(&action) && other.covers(&action), "{}", action);
                prop_assert!(!one.include(&other) || !other.covers(&action) || one.covers(&action));
            }
            prop_assert!(one.include(&both) && other.include(&both) && one.include(&one));
            prop_assert_eq!(one.include(&other), both.len() == other.len() && other.include(&both) && both.include(&other));
        }
    }
}
