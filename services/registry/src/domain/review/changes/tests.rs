//! What has changed is told, and what is more is told from what is less.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use legate_wire::registry::{Metadata, Role, RoleBinding, RoleSpec};
use proptest::prelude::*;

use super::*;
use crate::domain::samples::at;

fn on(id: &str) -> wire::ResourceSelector {
    wire::ResourceSelector { r#type: "Invoice".into(), id: id.into(), ..Default::default() }
}

fn may(action: &str, id: &str) -> Permission {
    Permission { action: action.into(), resource: Some(on(id)) }
}

fn role(permissions: &[Permission]) -> Declaration {
    let spec = RoleSpec { permissions: permissions.to_vec(), ..RoleSpec::default() };
    Declaration { object: Some(Object::Role(Role { metadata: Some(Metadata::default()), spec: Some(spec) })) }
}

fn bound_by(spec: RoleBindingSpec) -> Declaration {
    // Written since the item was made.
    let binding = RoleBinding { metadata: Some(Metadata { revision: 1, ..Metadata::default() }), spec: Some(spec) };
    Declaration { object: Some(Object::RoleBinding(binding)) }
}

fn spec(resources: &[&str], until: Option<i64>) -> RoleBindingSpec {
    RoleBindingSpec {
        role: "r".into(),
        resources: resources.iter().map(|id| on(id)).collect(),
        not_after: until.and_then(at),
        ..RoleBindingSpec::default()
    }
}

/// What is told of an item about `was`, which is `now`.
fn told(
    (permissions, was): (&[Permission], &RoleBindingSpec),
    (gives, now): (&[Permission], &RoleBindingSpec),
) -> Changes {
    let item = ReviewItem {
        reviewed: ReviewedThing::RoleBinding.into(),
        role: was.role.clone(),
        permissions: permissions.to_vec(),
        resources: was.resources.clone(),
        not_before: was.not_before,
        not_after: was.not_after,
        ..ReviewItem::default()
    };
    let (binding, role) = (bound_by(now.clone()), role(gives));
    changes(&item, &Now { granted: Some(&binding), was: None, role: Some(&role), has: true })
}

#[test]
fn more_is_told_from_less_and_whom_it_names_beside_is_nothing() {
    let reads: &[Permission] = &[may("invoice:read", "*")];
    let both: &[Permission] = &[may("invoice:read", "*"), may("invoice:pay", "*")];
    let any: &[Permission] = &[may("invoice:*", "*")];
    let (plain, narrow) = (spec(&[], None), spec(&["apollo/*"], Some(100)));
    let same = told((reads, &narrow), (reads, &RoleBindingSpec { agents: vec!["x".into()], ..narrow.clone() }));
    assert_eq!(same, Changes::default());
    for (was, now, is_more) in [
        ((reads, &plain), (both, &plain), true),
        ((both, &plain), (reads, &plain), false),
        ((any, &plain), (reads, &plain), false),
        ((reads, &plain), (any, &plain), true),
        ((reads, &plain), (reads, &narrow), false),
        ((reads, &narrow), (reads, &plain), true),
        ((reads, &narrow), (reads, &spec(&["apollo/*"], Some(101))), true),
        ((reads, &narrow), (reads, &spec(&["apollo/7"], Some(99))), false),
        ((reads, &narrow), (reads, &spec(&["zeus/*"], Some(100))), true),
    ] {
        let changes = told(was, now);
        assert_eq!((changes.is_more, changes.told.is_empty()), (is_more, false), "{:?}", changes.told);
    }
    let other = told((reads, &plain), (reads, &RoleBindingSpec { role: "other".into(), ..plain.clone() }));
    assert_eq!((other.told.len(), other.is_more), (1, false), "the same by another name");
}

#[test]
fn an_item_that_says_nothing_of_a_window_is_held_against_what_was_written_since() {
    let reads = [may("invoice:read", "*")];
    // As an earlier version made it, of a binding that ends.
    let item = ReviewItem {
        role: "r".into(),
        permissions: reads.to_vec(),
        reviewed: ReviewedThing::RoleBinding.into(),
        ..Default::default()
    };
    let (was, same, longer, role) =
        (bound_by(spec(&[], Some(100))), bound_by(spec(&[], Some(100))), bound_by(spec(&[], Some(200))), role(&reads));
    let of = |item: &ReviewItem, granted, was| {
        changes(item, &Now { granted: Some(granted), was, role: Some(&role), has: true })
    };
    let unwritten = ReviewItem { granted_revision: 1, ..item.clone() };
    assert_eq!(of(&unwritten, &same, None), Changes::default(), "nobody wrote anything");
    assert_eq!(of(&item, &same, Some(&was)), Changes::default());
    let grown = of(&item, &longer, Some(&was));
    assert!(grown.is_more && grown.told.len() == 1, "{grown:?}");
    let shorter = of(&item, &same, Some(&longer));
    assert!(!shorter.is_more && shorter.told.len() == 1, "{shorter:?}");
}

#[test]
fn what_takes_away_is_told_and_is_no_more() {
    let class = |revision, ceiling: &[Permission], requires_approval| {
        let spec = wire::AgentClassSpec { ceiling: ceiling.to_vec(), requires_approval, ..Default::default() };
        let metadata = Some(Metadata { revision, ..Metadata::default() });
        Declaration { object: Some(Object::AgentClass(wire::AgentClass { metadata, spec: Some(spec), status: None })) }
    };
    let item = ReviewItem { reviewed: ReviewedThing::AgentClass.into(), granted_revision: 1, ..ReviewItem::default() };
    let of = |was: &Declaration, now: &Declaration| {
        changes(&item, &Now { granted: Some(now), was: Some(was), role: None, has: true })
    };
    let (any, read) = ([may("invoice:*", "*")], [may("invoice:read", "*")]);
    let lower = of(&class(1, &any, false), &class(2, &read, false));
    assert!(!lower.told.is_empty() && !lower.is_more, "{lower:?}");
    assert!(of(&class(1, &read, false), &class(2, &any, false)).is_more);
    assert!(of(&class(1, &any, true), &class(2, &read, false)).is_more, "who can tell what else it does");
}

#[test]
fn what_is_gone_is_told_as_gone_and_very_much_is_cut() {
    let item = ReviewItem::default();
    assert!(changes(&item, &Now::default()).is_gone);
    let plain = spec(&[], None);
    let binding = bound_by(plain.clone());
    assert!(changes(&item, &Now { granted: Some(&binding), ..Now::default() }).is_gone, "the agent has it no longer");
    let many: Vec<Permission> = (0..100).map(|n| may(&format!("a:b{n}"), "*")).collect();
    let cut = told((&[], &plain), (many.as_slice(), &plain));
    assert_eq!(cut.told.len(), TOLD);
    assert_eq!(cut.told.last().unwrap(), "and 69 changes more");
}

#[test]
fn spans_overlap_or_do_not() {
    let (early, late) = ((at(1), at(10)), (at(5), at(20)));
    assert_eq!(overlap(early, late), Some((at(5), at(10))));
    assert_eq!(overlap((None, None), late), Some(late));
    assert_eq!(overlap((None, at(5)), late), None, "it ends when the other begins");
}

fn covers(all: &[wire::ResourceSelector], one: &wire::ResourceSelector) -> bool {
    are_within(std::slice::from_ref(one), all)
}

proptest! {
    /// What is left of two lists is in both of them, and a resource that one of them names and the other selects is in it.
    #[test]
    fn what_both_select_is_selected_by_each(
        one in prop::collection::vec(prop::sample::select(vec!["*", "a/*", "a/b/*", "a/1", "b/*", "b/1"]), 0..4),
        other in prop::collection::vec(prop::sample::select(vec!["*", "a/*", "a/b/*", "a/1", "b/*", "b/1"]), 0..4),
    ) {
        let (one, other): (Vec<_>, Vec<_>) = (one.iter().map(|id| on(id)).collect(), other.iter().map(|id| on(id)).collect());
        let left = both(&one, &other);
        for id in ["a/1", "a/2", "a/b/1", "b/1", "b/2", "c"] {
            let asked = on(id);
            let expected = covers(&one, &asked) && covers(&other, &asked);
            let found = left.as_ref().is_some_and(|left| covers(left, &asked));
            // Of prefixes one lies within the other or they have nothing in common, so nothing is left out here.
            prop_assert_eq!(found, expected, "{}: {:?} {:?} {:?}", id, one, other, left);
        }
    }
}
