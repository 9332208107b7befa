//! How what is reviewed was used, and whether silence says that it is not needed: by the rules of drift, of one thing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use legate_clock::Timestamp;
use legate_ids::{Action, ActionPattern, IdPattern, ResourceId};
use legate_wire::registry::{Permission, ResourceSelector, ReviewEvidence, ReviewItem, ReviewedThing};

use crate::domain::usage::{Days, REST};

/// For how long something has to be silent, where nobody says otherwise, in days.
pub(crate) const USUAL: u32 = 90;
/// What may be said, in days.
pub(crate) const RANGE: std::ops::RangeInclusive<u32> = 7..=400;

const DAY: Duration = Duration::from_secs(86_400);

/// From when to when the log was heard, and where records may be missing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    pub(crate) from: Option<Timestamp>,
    pub(crate) to: Option<Timestamp>,
    pub(crate) gaps: Vec<(Timestamp, Timestamp)>,
}

impl Window {
    /// From when on it was heard without a gap, a moment at the earliest.
    fn whole_since(&self, since: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let (from, to) = self.from.zip(self.to)?;
        let gaps = self.gaps.iter().filter(|(begin, end)| begin < end && *end > since && *begin < to);
        Some((gaps.map(|(_, end)| *end).fold(since.max(from), Timestamp::max), to))
    }
}

/// An action on a resource that was used.
#[derive(Clone, Debug)]
pub(crate) struct Used {
    pub(crate) action: String,
    pub(crate) kind: String,
    /// Which of that type; `*`: any.
    pub(crate) id: String,
    /// By whom and how, to tell one habit from another.
    pub(crate) whose: (String, i32),
    pub(crate) count: u64,
    pub(crate) last: Timestamp,
    pub(crate) days: Days,
}

/// What was used that may bear on an item.
#[derive(Clone, Debug, Default)]
pub(crate) struct Uses {
    /// By the agent, on its behalf, and by the agents below it.
    pub(crate) used: Vec<Used>,
    /// How often decisions rested on the delegation grant, and when last.
    pub(crate) grant: Option<(u64, Timestamp)>,
    /// Whether there are more agents below it than were looked at.
    pub(crate) is_open: bool,
}

/// How an item was used; `None`: nothing was heard yet. `available`: since when the agent has it as it is and could use it.
pub(crate) fn evidence(
    item: &ReviewItem,
    uses: &Uses,
    window: &Window,
    available: Timestamp,
    days: u32,
) -> Option<ReviewEvidence> {
    let to = window.to?;
    let (mut from, _) = window.whole_since(to.minus(DAY * days))?;
    let mut told = ReviewEvidence::default();
    let mut last = None;
    let mut habits: BTreeMap<(&(String, i32), &str, &str), Days> = BTreeMap::new();
    if item.reviewed() == ReviewedThing::DelegationGrant {
        if let Some((count, at)) = uses.grant {
            (told.uses, last) = (count, Some(at));
        }
    } else {
        let mut idle: BTreeSet<&str> = item.permissions.iter().map(|one| one.action.as_str()).collect();
        let (mut used, mut on) = (BTreeSet::new(), BTreeSet::new());
        for one in &uses.used {
            let is_within = item.resources.is_empty() || item.resources.iter().any(|only| may_be(only, one));
            let given: Vec<&Permission> =
                item.permissions.iter().filter(|permission| is_within && gives(permission, one)).collect();
            if given.is_empty() {
                continue;
            }
            told.uses = told.uses.saturating_add(one.count);
            last = last.max(Some(one.last));
            // A habit is of all resources that the item speaks of: each by itself may come more seldom.
            habits.entry((&one.whose, &one.action, &one.kind)).or_default().add_all(one.days);
            let first_day = from.secs().div_euclid(86_400);
            on.extend(one.days.each().filter(|day| *day >= first_day));
            if one.last >= from {
                used.insert(one.action.clone());
                idle.retain(|action| !given.iter().any(|permission| permission.action == *action));
            }
        }
        told.used_actions = used.into_iter().collect();
        told.unused_actions = idle.into_iter().map(str::to_owned).collect();
        told.days = u32::try_from(on.len()).unwrap_or(u32::MAX);
    }
    // What comes at intervals may be silent for twice the longest of them.
    let interval = habits.values().map(|days| days.longest_interval()).max().unwrap_or(0);
    let threshold = DAY * days.max(interval.saturating_mul(2));
    let since = to.minus(threshold);
    let reaches = window.whole_since(since).is_some_and(|(heard, _)| heard <= since);
    told.is_unused = reaches && !uses.is_open && available <= since && last.is_none_or(|last| last < since);
    if told.is_unused {
        from = since;
    }
    told.last_use_time = last.map(Into::into);
    told.from_time = Some(from.into());
    told.to_time = Some(to.into());
    Some(told)
}

/// Whether a permission may give what was done: attributes of resources are not kept, and of some resources no ids.
fn gives(permission: &Permission, used: &Used) -> bool {
    if used.action == REST {
        return true;
    }
    let action = Action::parse(&used.action).ok();
    let pattern = ActionPattern::parse(&permission.action).ok();
    permission.resource.as_ref().is_some_and(|of| may_be(of, used))
        && action.zip(pattern).is_some_and(|(action, pattern)| pattern.covers(&action))
}

/// Whether what was used may be one of these resources.
fn may_be(selector: &ResourceSelector, used: &Used) -> bool {
    let is_id = || match IdPattern::parse(&selector.id).ok().zip(ResourceId::parse(&used.id).ok()) {
        Some((pattern, id)) => pattern.covers(&id),
        // Every id, or one that is not known.
        None => true,
    };
    used.kind == REST || (selector.r#type == "*" || selector.r#type == used.kind) && is_id()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::samples::permission;
    use proptest::prelude::*;

    fn at(day: i64) -> Timestamp {
        Timestamp::from_secs(day * 86_400)
    }

    fn used(action: &str, days: &[i64]) -> Used {
        let mut held = Days::default();
        days.iter().for_each(|day| held.add(*day));
        let last = at(days.iter().copied().max().unwrap_or(0));
        Used {
            action: action.into(),
            kind: "Invoice".into(),
            id: REST.into(),
            whose: Default::default(),
            count: days.len() as u64,
            last,
            days: held,
        }
    }

    fn item(actions: &[&str]) -> ReviewItem {
        let permissions = actions.iter().map(|action| permission(action)).collect();
        ReviewItem { reviewed: ReviewedThing::RoleBinding.into(), permissions, ..ReviewItem::default() }
    }

    fn heard(from: i64, to: i64, gaps: &[(i64, i64)]) -> Window {
        let gaps = gaps.iter().map(|(begin, end)| (at(*begin), at(*end))).collect();
        Window { from: Some(at(from)), to: Some(at(to)), gaps }
    }

    fn told(item: &ReviewItem, uses: &[Used], window: &Window, available: i64) -> ReviewEvidence {
        let uses = Uses { used: uses.to_vec(), ..Uses::default() };
        evidence(item, &uses, window, at(available), 90).unwrap_or_default()
    }

    #[test]
    fn silence_counts_only_as_far_as_the_evidence_reaches() {
        let item = item(&["invoice:read", "invoice:list"]);
        let whole = heard(0, 400, &[]);
        assert!(told(&item, &[], &whole, 0).is_unused);
        let busy = told(&item, &[used("invoice:read", &[390, 395])], &whole, 0);
        assert!(!busy.is_unused);
        assert_eq!((busy.uses, busy.days), (2, 2));
        assert_eq!(
            (busy.used_actions, busy.unused_actions),
            (vec!["invoice:read".into()], vec!["invoice:list".into()])
        );
        // Given lately, heard for too short, or with a gap.
        assert!(!told(&item, &[], &whole, 311).is_unused && told(&item, &[], &whole, 310).is_unused);
        assert!(!told(&item, &[], &heard(311, 400, &[]), 0).is_unused);
        let gap = told(&item, &[], &heard(0, 400, &[(350, 351)]), 0);
        assert!(!gap.is_unused);
        assert_eq!(gap.from_time, Some(at(351).into()));
        assert!(told(&item, &[], &heard(0, 400, &[(300, 310)]), 0).is_unused);
        let nothing = evidence(&item, &Uses::default(), &Window::default(), at(0), 90);
        assert!(nothing.is_none());
        let open = Uses { is_open: true, ..Uses::default() };
        assert!(!evidence(&item, &open, &whole, at(0), 90).unwrap_or_default().is_unused);
    }

    #[test]
    fn what_comes_at_intervals_is_given_twice_the_longest_and_what_did_not_fit_is_a_use_of_everything() {
        let item = item(&["invoice:read"]);
        let whole = heard(0, 400, &[]);
        // Every 60 days, and last 100 days ago: 120 are given.
        assert!(!told(&item, &[used("invoice:read", &[180, 240, 300])], &whole, 0).is_unused);
        assert!(told(&item, &[used("invoice:read", &[159, 219, 279])], &whole, 0).is_unused);
        let other = Used { kind: "Ledger".into(), ..used("invoice:read", &[399]) };
        assert!(told(&item, &[other], &whole, 0).is_unused);
        let rest = Used { action: REST.into(), kind: REST.into(), ..used(REST, &[399]) };
        assert!(!told(&item, &[rest], &whole, 0).is_unused);
        let grant = ReviewItem { reviewed: ReviewedThing::DelegationGrant.into(), ..item.clone() };
        let uses = Uses { used: vec![used("invoice:read", &[399])], ..Uses::default() };
        assert!(evidence(&grant, &uses, &whole, at(0), 90).unwrap_or_default().is_unused);
        let by_it = Uses { grant: Some((3, at(399))), ..uses };
        assert_eq!(evidence(&grant, &by_it, &whole, at(0), 90).unwrap_or_default().uses, 3);
    }

    #[test]
    fn a_use_of_one_resource_is_none_of_another() {
        let whole = heard(0, 400, &[]);
        let of = |id: &str| Used { id: id.into(), ..used("invoice:read", &[399]) };
        let mut apollo = item(&["invoice:read"]);
        apollo.permissions[0].resource =
            Some(ResourceSelector { r#type: "Invoice".into(), id: "apollo/*".into(), ..ResourceSelector::default() });
        assert!(told(&apollo, &[of("zeus/1")], &whole, 0).is_unused);
        assert!(!told(&apollo, &[of("apollo/1")], &whole, 0).is_unused);
        assert!(!told(&apollo, &[of(REST)], &whole, 0).is_unused, "it may have been of apollo");
        // So it is where the binding says which, of a role that does not.
        let mut narrowed = item(&["invoice:read"]);
        narrowed.resources = apollo.permissions[0].resource.clone().into_iter().collect();
        assert!(told(&narrowed, &[of("zeus/1")], &whole, 0).is_unused);
        let both = told(&narrowed, &[of("zeus/1"), of("apollo/2")], &whole, 0);
        assert!(!both.is_unused && both.uses == 1);
        // Another one every day is a daily habit, of whatever uses none twice.
        let daily: Vec<Used> =
            (200..300).map(|day| Used { id: format!("zeus/{}", day % 60), ..used("invoice:read", &[day]) }).collect();
        assert!(told(&item(&["invoice:read"]), &daily, &whole, 0).is_unused);
    }

    proptest! {
        /// One more use, later than any before, never makes anything unused that was not.
        #[test]
        fn a_later_use_never_makes_an_item_unused(
            days in prop::collection::btree_set(0i64..300, 0..8),
            later in 1i64..100,
            (from, available) in (0i64..200, 0i64..200),
            gap in prop::option::of((0i64..300, 1i64..50)),
        ) {
            let gaps: Vec<_> = gap.into_iter().map(|(begin, long)| (begin, begin + long)).collect();
            let (window, item) = (heard(from, 400, &gaps), item(&["invoice:read"]));
            let mut all: Vec<i64> = days.into_iter().collect();
            let of = |days: &[i64]| if days.is_empty() { Vec::new() } else { vec![used("invoice:read", days)] };
            let before = told(&item, &of(&all), &window, available);
            all.push(all.last().map_or(later, |last| last + later));
            let after = told(&item, &of(&all), &window, available);
            prop_assert!(!after.is_unused || before.is_unused, "{before:?} {after:?}");
        }
    }
}
