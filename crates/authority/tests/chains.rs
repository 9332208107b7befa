//! The laws of chains: a link more never allows more, and what is joined is one chain of different agents.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use legate_authority::{Cut, Link, Loose, Permission, Request, ResourceSelector, Window, carried, joined, within};
use legate_ids::{Action, ResourceId, ResourceType};
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Given {
    delegator: String,
    delegate: String,
    permissions: Vec<Permission>,
    audiences: Vec<String>,
    window: Window,
    max_depth: u32,
}

impl Given {
    fn link(&self) -> Link<'_> {
        Link {
            delegator: &self.delegator,
            delegate: &self.delegate,
            permissions: &self.permissions,
            audiences: &self.audiences,
            window: self.window,
            max_depth: self.max_depth,
        }
    }
}

fn permissions() -> impl Strategy<Value = Vec<Permission>> {
    let one = ("[ab](:[cd*])?|\\*", "[XY*]", "[ab](/[cd*])?|\\*").prop_map(|(action, kind, id)| {
        let none: [(&str, &str); 0] = [];
        Permission::parse(&action, ResourceSelector::parse(&kind, &id, none).unwrap()).unwrap()
    });
    proptest::collection::vec(one, 0..4)
}

fn given() -> impl Strategy<Value = Given> {
    let window = (proptest::option::of(0i64..4), proptest::option::of(4i64..6));
    let audiences = proptest::collection::vec("[mn]", 0..3);
    (("user:u|agent:[abc]", "[abc]"), permissions(), audiences, window, 0u32..4).prop_map(
        |((delegator, delegate), permissions, audiences, (from, to), max_depth)| Given {
            delegator,
            delegate,
            permissions,
            audiences,
            window: Window::new(from, to).unwrap(),
            max_depth,
        },
    )
}

#[derive(Clone, Debug)]
struct Asked {
    action: Action,
    kind: ResourceType,
    id: ResourceId,
    audience: Option<String>,
    now: i64,
}

fn asked() -> impl Strategy<Value = Asked> {
    ("[ab](:[cd])?", "[XY]", "[ab](/[cd])?", proptest::option::of("[mn]"), 0i64..6).prop_map(
        |(a, k, i, audience, now)| Asked {
            action: Action::parse(&a).unwrap(),
            kind: ResourceType::parse(&k).unwrap(),
            id: ResourceId::parse(&i).unwrap(),
            audience,
            now,
        },
    )
}

fn carries(links: &[Link<'_>], asked: &Asked) -> Result<(), (usize, Cut)> {
    let attributes: BTreeMap<String, String> = BTreeMap::new();
    let request =
        Request { action: &asked.action, resource_type: &asked.kind, resource_id: &asked.id, attributes: &attributes };
    carried(links, &request, asked.audience.as_deref(), asked.now)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_024))]

    #[test]
    fn a_link_more_never_allows_more(
        all in proptest::collection::vec(given(), 0..5), more in given(), at in any::<prop::sample::Index>(), asked in asked(),
    ) {
        let links: Vec<Link<'_>> = all.iter().map(Given::link).collect();
        let mut longer = links.clone();
        longer.insert(at.index(links.len() + 1), more.link());
        if carries(&longer, &asked).is_ok() {
            prop_assert!(carries(&links, &asked).is_ok());
        }
        // What a chain carries each of its links carries alone, and nothing more is needed.
        let each = links.iter().all(|link| carries(&[*link], &asked).is_ok());
        prop_assert_eq!(carries(&links, &asked).is_ok(), each);
        // To state an audience takes away at most.
        let unstated = Asked { audience: None, ..asked.clone() };
        if carries(&links, &asked).is_ok() {
            prop_assert!(carries(&links, &unstated).is_ok());
        }
    }

    /// A grant that keeps within its parent narrows nothing beside it: what it carries the parent carries.
    #[test]
    fn what_is_within_its_parent_is_carried_by_it(child in given(), parent in given(), asked in asked()) {
        if within(&child.link(), &parent.link()).is_ok() && carries(&[child.link()], &asked).is_ok() {
            prop_assert!(carries(&[parent.link()], &asked).is_ok());
        }
    }

    #[test]
    fn what_is_joined_is_one_chain_of_different_agents(
        all in proptest::collection::vec(given(), 1..5), subject in "user:u|agent:[abc]",
    ) {
        let links: Vec<Link<'_>> = all.iter().map(Given::link).collect();
        let n = links.len();
        match joined(&subject, &links) {
            Ok(()) => {
                prop_assert_eq!(links[n - 1].delegator, subject.as_str());
                for (k, pair) in links.windows(2).enumerate() {
                    prop_assert_eq!(pair[0].delegator, format!("agent:{}", pair[1].delegate));
                    prop_assert!(links[k].max_depth as usize >= k);
                }
                let mut agents: Vec<&str> = links.iter().map(|l| l.delegate).chain(subject.strip_prefix("agent:")).collect();
                let count = agents.len();
                agents.sort_unstable();
                agents.dedup();
                prop_assert_eq!(agents.len(), count);
                // Every part of it that begins with the subject is one, too; so exchange can only lengthen it.
                for from in 1..n {
                    prop_assert_eq!(joined(&subject, &links[from..]), Ok(()));
                }
            }
            Err(Loose::Delegator(k)) => match links.get(k + 1) {
                Some(before) => prop_assert_ne!(links[k].delegator, format!("agent:{}", before.delegate)),
                None => prop_assert_ne!(links[k].delegator, subject.as_str()),
            },
            Err(Loose::Depth(k)) => prop_assert!((links[k].max_depth as usize) < k),
            Err(Loose::Round(k)) => {
                let agent = format!("agent:{}", links[k].delegate);
                let before = links[k + 1..].iter().any(|l| l.delegate == links[k].delegate);
                prop_assert!(before || subject == agent);
            }
        }
    }
}
