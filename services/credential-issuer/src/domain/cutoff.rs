//! Cut-offs: nothing issued at or before the latest of them works.

use legate_clock::Timestamp;

/// Whose cut-off it is. Those that the registry does not keep yet are simply absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    Issuer,
    Namespace,
    Class,
    Agent,
    Owner,
    StopOrder,
    Parent,
    EnforcementPoint,
    Node,
    Credential,
    Grant,
    Subject,
}

impl Of {
    pub(crate) const ALL: [Self; 12] = [
        Self::Issuer,
        Self::Namespace,
        Self::Class,
        Self::Agent,
        Self::Owner,
        Self::StopOrder,
        Self::Parent,
        Self::EnforcementPoint,
        Self::Node,
        Self::Credential,
        Self::Grant,
        Self::Subject,
    ];
}

/// Every cut-off that applies to one holder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cutoffs([Option<Timestamp>; Of::ALL.len()]);

impl Cutoffs {
    /// With one more; an earlier one of the same kind gives way to a later one only.
    pub(crate) fn with(mut self, of: Of, at: Option<Timestamp>) -> Self {
        let slot = &mut self.0[of as usize];
        *slot = (*slot).max(at);
        self
    }

    /// The latest: what was issued at or before it is dead.
    pub(crate) fn latest(&self) -> Option<Timestamp> {
        self.0.iter().copied().max().flatten()
    }

    /// Whether something issued at that moment still works.
    pub(crate) fn spare(&self, issued: Timestamp) -> bool {
        legate_view::after_cutoff(issued, self.latest())
    }

    /// The first whole second that lies after every cut-off. Certificates and tokens count in seconds, so what is to
    /// outlive the cut-off is issued then or later.
    pub(crate) fn first_second_after(&self) -> Option<Timestamp> {
        self.latest().map(|at| Timestamp::from_secs(at.secs() + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_of() -> impl Strategy<Value = Of> {
        prop::sample::select(Of::ALL.to_vec())
    }

    proptest! {
        /// Whatever cut-offs there are, in whatever order they came: what works was issued after each of them.
        #[test]
        fn the_effective_not_before_is_the_latest_of_all(
            given in prop::collection::vec((any_of(), prop::option::of(-50i64..50)), 0..20),
            issued in -60i64..60,
        ) {
            let micros = |m: i64| Timestamp::from_micros(m * 300_000);
            let cutoffs = given
                .iter()
                .fold(Cutoffs::default(), |all, (of, at)| all.with(*of, at.map(micros)));
            let after_each = given.iter().filter_map(|(_, at)| *at).all(|at| micros(issued) > micros(at));
            prop_assert_eq!(cutoffs.spare(micros(issued)), after_each);

            let mut turned = given.clone();
            turned.reverse();
            let again = turned
                .iter()
                .fold(Cutoffs::default(), |all, (of, at)| all.with(*of, at.map(micros)));
            prop_assert_eq!(again, cutoffs);
            if let Some(first) = cutoffs.first_second_after() {
                prop_assert!(cutoffs.spare(first));
                prop_assert_eq!(first.micros() % 1_000_000, 0);
                prop_assert!(!cutoffs.spare(Timestamp::from_secs(first.secs() - 1)));
            }
        }
    }
}
