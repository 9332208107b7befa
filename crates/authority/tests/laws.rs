//! The laws of authority: nothing added to cut can allow more, nothing granted can allow less.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use legate_authority::{
    Answer, Beyond, Ceiling, Denial, Grant, Link, Permission, Request, ResourceSelector, Window, decide, within,
};
use legate_ids::{Action, ResourceId, ResourceType};
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Asked {
    action: Action,
    kind: ResourceType,
    id: ResourceId,
    attributes: BTreeMap<String, String>,
    now: i64,
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

fn answer(asked: &Asked, given: &[Given], ceilings: &[Ceiling]) -> Answer<usize, usize> {
    let grants = given.iter().enumerate().map(|(source, g)| Grant {
        source,
        permissions: &g.permissions,
        window: g.window,
        narrowing: g.narrowing.as_deref(),
    });
    decide(&asked.request(), asked.now, grants, ceilings.iter().enumerate())
}

// Few names, so that requests and permissions meet often.
fn asked() -> impl Strategy<Value = Asked> {
    ("[ab](:[cd])?", "[XY]", "[ab](/[cd])?", any::<[bool; 2]>(), 0i64..6).prop_map(|(a, k, i, at, now)| Asked {
        action: Action::parse(&a).unwrap(),
        kind: ResourceType::parse(&k).unwrap(),
        id: ResourceId::parse(&i).unwrap(),
        attributes: at.iter().zip(["p", "q"]).filter(|(has, _)| **has).map(|(_, n)| (n.into(), "v".into())).collect(),
        now,
    })
}

fn selector() -> impl Strategy<Value = ResourceSelector> {
    ("[XY*]", "[ab](/[cd*])?|\\*", proptest::collection::btree_map("[pq]", "[vw]", 0..2))
        .prop_map(|(k, i, at)| ResourceSelector::parse(&k, &i, at).unwrap())
}

fn permissions() -> impl Strategy<Value = Vec<Permission>> {
    let one = ("[ab](:[cd*])?|\\*", selector()).prop_map(|(a, s)| Permission::parse(&a, s).unwrap());
    proptest::collection::vec(one, 0..4)
}

fn window() -> impl Strategy<Value = Window> {
    (proptest::option::of(0i64..4), proptest::option::of(4i64..6)).prop_map(|(a, b)| Window::new(a, b).unwrap())
}

fn given() -> impl Strategy<Value = Given> {
    (permissions(), window(), proptest::option::of(proptest::collection::vec(selector(), 0..3)))
        .prop_map(|(permissions, window, narrowing)| Given { permissions, window, narrowing })
}

fn givens() -> impl Strategy<Value = Vec<Given>> {
    proptest::collection::vec(given(), 0..4)
}

fn ceilings() -> impl Strategy<Value = Vec<Ceiling>> {
    proptest::collection::vec(permissions().prop_map(Ceiling::new), 0..2)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn another_ceiling_never_allows_more(q in asked(), g in givens(), c in ceilings(), more in permissions()) {
        let before = answer(&q, &g, &c).is_granted();
        let mut lower = c.clone();
        lower.push(Ceiling::new(more));
        prop_assert!(before || !answer(&q, &g, &lower).is_granted());
    }

    #[test]
    fn a_narrowing_never_allows_more(q in asked(), g in givens(), c in ceilings(), s in proptest::collection::vec(selector(), 0..3), at in any::<prop::sample::Index>()) {
        prop_assume!(!g.is_empty());
        let mut wide = g.clone();
        let i = at.index(g.len());
        wide[i].narrowing = None;
        let mut narrow = wide.clone();
        narrow[i].narrowing = Some(s);
        prop_assert!(answer(&q, &wide, &c).is_granted() || !answer(&q, &narrow, &c).is_granted());
    }

    #[test]
    fn a_window_never_allows_more(q in asked(), g in givens(), c in ceilings(), w in window(), at in any::<prop::sample::Index>()) {
        prop_assume!(!g.is_empty());
        let mut always = g.clone();
        let i = at.index(g.len());
        always[i].window = Window::ALWAYS;
        let mut limited = always.clone();
        limited[i].window = w;
        prop_assert!(answer(&q, &always, &c).is_granted() || !answer(&q, &limited, &c).is_granted());
    }

    #[test]
    fn another_grant_never_allows_less(q in asked(), g in givens(), c in ceilings(), more in given()) {
        let before = answer(&q, &g, &c).is_granted();
        let mut union = g.clone();
        union.push(more);
        prop_assert!(!before || answer(&q, &union, &c).is_granted());
    }

    #[test]
    fn the_order_of_grants_and_ceilings_is_nothing(q in asked(), g in givens(), c in ceilings()) {
        let (mut h, mut d) = (g.clone(), c.clone());
        h.reverse();
        d.reverse();
        prop_assert_eq!(answer(&q, &g, &c).is_granted(), answer(&q, &h, &d).is_granted());
    }

    #[test]
    fn each_named_grant_makes_the_answer_alone(q in asked(), g in givens(), c in ceilings()) {
        if let Answer::Granted { by } = answer(&q, &g, &c) {
            prop_assert!(!by.is_empty());
            for i in 0..g.len() {
                let alone = answer(&q, &g[i..=i], &c).is_granted();
                prop_assert_eq!(alone, by.contains(&i));
            }
        }
    }

    #[test]
    fn each_named_ceiling_cuts_alone(q in asked(), g in givens(), c in ceilings()) {
        if let Answer::Denied(Denial::AboveCeiling { ceilings, grants }) = answer(&q, &g, &c) {
            prop_assert!(!grants.is_empty() && !ceilings.is_empty());
            prop_assert!(answer(&q, &g, &[]).is_granted());
            for i in 0..c.len() {
                prop_assert_eq!(ceilings.contains(&i), !answer(&q, &g, &c[i..=i]).is_granted());
            }
        }
    }
}

fn permission() -> impl Strategy<Value = Permission> {
    ("[ab](:[cd*])?|\\*", selector()).prop_map(|(a, s)| Permission::parse(&a, s).unwrap())
}

#[derive(Clone, Debug)]
struct Passed {
    delegator: String,
    delegate: String,
    permissions: Vec<Permission>,
    audiences: Vec<String>,
    window: Window,
    max_depth: u32,
}

impl Passed {
    /// Whether the link lets this be done towards this audience.
    fn lets(&self, asked: &Asked, audience: &str) -> bool {
        self.window.holds_at(asked.now)
            && (self.audiences.is_empty() || self.audiences.iter().any(|a| a == audience))
            && self.permissions.iter().any(|p| p.covers(&asked.request()))
    }
}

fn fits(child: &Passed, parent: &Passed) -> Result<(), Beyond> {
    within(&link(child), &link(parent))
}

fn link(of: &Passed) -> Link<'_> {
    Link {
        delegator: &of.delegator,
        delegate: &of.delegate,
        permissions: &of.permissions,
        audiences: &of.audiences,
        window: of.window,
        max_depth: of.max_depth,
    }
}

fn passed(delegator: &'static str, delegate: &'static str) -> impl Strategy<Value = Passed> {
    let audiences = proptest::collection::vec("[mn]", 0..3);
    (proptest::collection::vec(permission(), 1..3), audiences, window(), 0u32..4).prop_map(
        move |(permissions, audiences, window, max_depth)| Passed {
            delegator: delegator.into(),
            delegate: delegate.into(),
            permissions,
            audiences,
            window,
            max_depth,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn what_is_included_is_covered(q in asked(), wide in permission(), narrow in permission()) {
        prop_assert!(wide.includes(&wide));
        if wide.includes(&narrow) && narrow.covers(&q.request()) {
            prop_assert!(wide.covers(&q.request()), "{wide:?} {narrow:?} {q:?}");
        }
    }

    #[test]
    fn what_includes_what_includes_includes(a in permission(), b in permission(), c in permission()) {
        prop_assert!(!(a.includes(&b) && b.includes(&c)) || a.includes(&c), "{a:?} {b:?} {c:?}");
    }

    #[test]
    fn a_window_within_a_window_holds_no_longer(a in window(), b in window(), now in -1i64..8) {
        prop_assert!(a.includes(&a));
        prop_assert!(!a.includes(&b) || !b.holds_at(now) || a.holds_at(now));
    }

    #[test]
    fn a_link_lets_nothing_that_the_one_before_does_not(
        q in asked(), audience in "[mno]", parent in passed("user:ada", "a"), child in passed("agent:a", "b"),
    ) {
        if fits(&child, &parent).is_ok() {
            prop_assert!(!child.lets(&q, &audience) || parent.lets(&q, &audience), "{parent:?} {child:?}");
            prop_assert!(child.max_depth < parent.max_depth);
        }
    }

    #[test]
    fn a_part_of_a_link_fits(parent in passed("user:ada", "a"), at in any::<prop::sample::Index>()) {
        let mut child = parent.clone();
        (child.delegator, child.delegate) = ("agent:a".into(), "b".into());
        child.permissions = vec![parent.permissions[at.index(parent.permissions.len())].clone()];
        child.max_depth = parent.max_depth.saturating_sub(1);
        let expected = if parent.max_depth == 0 { Err(Beyond::NotPassedOn) } else { Ok(()) };
        prop_assert_eq!(fits(&child, &parent), expected);
    }
}

#[test]
fn a_link_says_in_what_it_goes_beyond() {
    let all = |actions: &[&str]| actions.iter().map(|a| give(a, "T", "x/*").permissions[0].clone()).collect();
    let parent = Passed {
        delegator: "user:ada".into(),
        delegate: "a".into(),
        permissions: all(&["r:*", "w"]),
        audiences: vec!["m".into(), "n".into()],
        window: Window::new(Some(10), Some(20)).unwrap(),
        max_depth: 2,
    };
    let child = Passed {
        delegator: "agent:a".into(),
        delegate: "b".into(),
        permissions: all(&["w", "r:a", "r:a:*"]),
        audiences: vec!["n".into()],
        max_depth: 1,
        ..parent.clone()
    };
    assert_eq!(fits(&child, &parent), Ok(()));
    type Change = fn(&mut Passed);
    let rows: [(Change, Beyond); 9] = [
        (|c| c.delegator = "agent:b".into(), Beyond::Delegator),
        (|c| c.delegator = "user:a".into(), Beyond::Delegator),
        (|c| c.permissions[1] = give("r", "T", "x/*").permissions[0].clone(), Beyond::Permission(1)),
        (|c| c.permissions[0] = give("w", "T", "*").permissions[0].clone(), Beyond::Permission(0)),
        (|c| c.audiences.push("o".into()), Beyond::Audience(1)),
        (|c| c.audiences.clear(), Beyond::AnyAudience),
        (|c| c.window = Window::new(Some(10), Some(21)).unwrap(), Beyond::Window),
        (|c| c.window = Window::new(None, Some(20)).unwrap(), Beyond::Window),
        (|c| c.max_depth = 2, Beyond::Depth),
    ];
    for (change, beyond) in rows {
        let mut bad = child.clone();
        change(&mut bad);
        assert_eq!(fits(&bad, &parent), Err(beyond));
    }
    let last = Passed { max_depth: 0, ..parent };
    assert_eq!(fits(&child, &last), Err(Beyond::NotPassedOn));
}

fn ask(action: &str, kind: &str, id: &str) -> Asked {
    Asked {
        action: Action::parse(action).unwrap(),
        kind: ResourceType::parse(kind).unwrap(),
        id: ResourceId::parse(id).unwrap(),
        attributes: BTreeMap::new(),
        now: 0,
    }
}

fn give(action: &str, kind: &str, id: &str) -> Given {
    let selector = ResourceSelector::parse(kind, id, [("", ""); 0]).unwrap();
    Given { permissions: vec![Permission::parse(action, selector).unwrap()], window: Window::ALWAYS, narrowing: None }
}

#[test]
fn no_delimiter_reaches_from_one_part_into_another() {
    // Written one after the other with ':' each pair reads the same.
    for (given, asked) in [
        (("r", "T", "a:b"), ("r", "T", "b")),
        (("r:s", "T", "x"), ("r", "T", "s:x")),
        (("r", "A::B", "c"), ("r", "A", "B:c")),
        (("r", "T", "a/*"), ("r", "T", "a/")),
        (("r", "T", "a/*"), ("r", "T", "a:b")),
        (("r", "T", "a/*"), ("r", "T", "ab/c")),
        (("r:*", "T", "a"), ("rs:x", "T", "a")),
    ] {
        let grant = give(given.0, given.1, given.2);
        let query = ask(asked.0, asked.1, asked.2);
        assert_eq!(answer(&query, &[grant], &[]), Answer::Denied(Denial::NothingGrants), "{given:?} {asked:?}");
    }
}

#[test]
fn two_spellings_of_one_name_are_two_resources() {
    let (nfc, nfd) = ("caf\u{e9}", "cafe\u{301}");
    let grant = give("r", "T", nfc);
    assert!(answer(&ask("r", "T", nfc), std::slice::from_ref(&grant), &[]).is_granted());
    assert!(!answer(&ask("r", "T", nfd), &[grant], &[]).is_granted());
}

#[test]
fn a_look_alike_that_hides_a_character_is_no_id() {
    for hidden in ["a\u{200b}", "\u{202e}a", "a\u{0}", "a\u{7f}", "a\u{feff}", "a\u{2066}b", "a\u{ad}b", "a\n"] {
        assert!(ResourceId::parse(hidden).is_err(), "{hidden:?}");
        assert!(ResourceSelector::parse("T", hidden, [("", ""); 0]).is_err(), "{hidden:?}");
    }
}

#[test]
fn an_attribute_that_is_not_stated_never_matches() {
    let selector = ResourceSelector::parse("T", "*", [("region", "eu")]).unwrap();
    let grant =
        Given { permissions: vec![Permission::parse("r", selector).unwrap()], window: Window::ALWAYS, narrowing: None };
    let mut query = ask("r", "T", "x");
    assert!(!answer(&query, std::slice::from_ref(&grant), &[]).is_granted());
    query.attributes.insert("region".into(), "us".into());
    assert!(!answer(&query, std::slice::from_ref(&grant), &[]).is_granted());
    query.attributes.insert("region".into(), "eu".into());
    assert!(answer(&query, &[grant], &[]).is_granted());
}

#[test]
fn a_window_starts_with_its_first_moment_and_ends_before_its_last() {
    let window = Window::new(Some(10), Some(20)).unwrap();
    let held: Vec<i64> = (8..22).filter(|now| window.holds_at(*now)).collect();
    assert_eq!(held, (10..20).collect::<Vec<_>>());
    assert_eq!(window.next_change(9), Some(10));
    assert_eq!(window.next_change(10), Some(20));
    assert_eq!(window.next_change(20), None);
    assert!(Window::new(Some(10), Some(10)).is_err());
}

#[test]
fn a_ceiling_without_entries_lets_nothing_through() {
    let all = give("*", "*", "*");
    assert!(!answer(&ask("r", "T", "x"), &[all], &[Ceiling::default()]).is_granted());
}

#[test]
fn a_denial_says_what_cut_it() {
    let mut late = give("r", "T", "*");
    late.window = Window::new(Some(5), None).unwrap();
    assert_eq!(answer(&ask("r", "T", "x"), &[late], &[]), Answer::Denied(Denial::OutsideWindow { grants: vec![0] }));
    let mut narrow = give("r", "T", "*");
    narrow.narrowing = Some(vec![ResourceSelector::parse("T", "y", [("", ""); 0]).unwrap()]);
    assert_eq!(answer(&ask("r", "T", "x"), &[narrow], &[]), Answer::Denied(Denial::Narrowed { grants: vec![0] }));
}
