//! The laws of passing on: whoever passes on a part of what he has passes on nothing that he has not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use legate_authority::{Ceiling, Grant, Permission, Request, ResourceSelector, TooWide, Window, decide, may_pass_on};
use legate_ids::{Action, ResourceId, ResourceType};
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Asked {
    action: Action,
    kind: ResourceType,
    id: ResourceId,
    attributes: BTreeMap<String, String>,
}

impl Asked {
    fn request(&self) -> Request<'_> {
        Request { action: &self.action, resource_type: &self.kind, resource_id: &self.id, attributes: &self.attributes }
    }
}

#[derive(Clone, Debug)]
struct Given {
    permissions: Vec<Permission>,
    window: Window,
    narrowing: Option<Vec<ResourceSelector>>,
}

impl Given {
    fn grant(&self) -> Grant<'_, ()> {
        let narrowing = self.narrowing.as_deref();
        Grant { source: (), permissions: &self.permissions, window: self.window, narrowing }
    }
}

/// Every request that there is in a small world, in which whatever two permissions differ in shows.
fn world() -> Vec<Asked> {
    let mut all = Vec::new();
    for action in ["a", "b", "a:c", "a:d", "b:c", "b:d"] {
        for (kind, id) in ["X", "Y", "Z"].iter().flat_map(|k| ["a", "b", "a/c", "a/d", "b/c", "b/d"].map(|i| (k, i))) {
            for (p, q) in ["", "v", "w"].iter().flat_map(|p| ["", "v", "w"].map(|q| (*p, q))) {
                let stated = [("p", p), ("q", q)].into_iter().filter(|(_, value)| !value.is_empty());
                all.push(Asked {
                    action: Action::parse(action).unwrap(),
                    kind: ResourceType::parse(kind).unwrap(),
                    id: ResourceId::parse(id).unwrap(),
                    attributes: stated.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
                });
            }
        }
    }
    all
}

fn selector() -> impl Strategy<Value = ResourceSelector> {
    ("[XY*]", "[ab](/[cd*])?|\\*", proptest::collection::btree_map("[pq]", "[vw]", 0..2))
        .prop_map(|(k, i, at)| ResourceSelector::parse(&k, &i, at).unwrap())
}

fn permission() -> impl Strategy<Value = Permission> {
    ("[ab](:[cd*])?|\\*", selector()).prop_map(|(a, s)| Permission::parse(&a, s).unwrap())
}

fn permissions() -> impl Strategy<Value = Vec<Permission>> {
    proptest::collection::vec(permission(), 0..4)
}

fn window() -> impl Strategy<Value = Window> {
    (proptest::option::of(0i64..4), proptest::option::of(4i64..6)).prop_map(|(a, b)| Window::new(a, b).unwrap())
}

fn given() -> impl Strategy<Value = Given> {
    (permissions(), window(), proptest::option::of(proptest::collection::vec(selector(), 0..3)))
        .prop_map(|(permissions, window, narrowing)| Given { permissions, window, narrowing })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// One permission includes another exactly where no request shows a difference: nothing that could be passed on is
    /// refused for want of arithmetic.
    #[test]
    fn to_include_is_to_cover_each(one in permission(), other in permission()) {
        let beyond = world().into_iter().find(|q| other.covers(&q.request()) && !one.covers(&q.request()));
        prop_assert_eq!(one.includes(&other), beyond.is_none(), "{:?}", beyond);
    }

    #[test]
    fn what_may_be_passed_on_is_granted(
        wanted in permission(),
        grants in proptest::collection::vec(given(), 0..4),
        ceilings in proptest::collection::vec(permissions().prop_map(Ceiling::new), 0..2),
        now in 0i64..6,
    ) {
        let found = may_pass_on(&wanted, now, grants.iter().map(Given::grant), ceilings.iter().enumerate());
        let stands_for: Vec<Asked> = world().into_iter().filter(|q| wanted.covers(&q.request())).collect();
        match found {
            Ok(()) => for q in &stands_for {
                let granted = decide(&q.request(), now, grants.iter().map(Given::grant), ceilings.iter().enumerate());
                prop_assert!(granted.is_granted(), "{:?}", q);
            },
            Err(TooWide::Ceiling(n)) => prop_assert!(!ceilings[n].includes(&wanted)),
            Err(TooWide::Grants) => for one in &grants {
                let whole = one.window.holds_at(now) && one.narrowing.is_none();
                prop_assert!(!(whole && one.permissions.iter().any(|p| p.includes(&wanted))));
            },
        }
    }
}
