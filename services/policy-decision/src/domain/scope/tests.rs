//! The scope index against plain Cedar: the same decision, the same determining policies, the same failures.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeSet, HashMap, HashSet};

use cedar_policy::{Context, Entity, RestrictedExpression};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

const AGENTS: [&str; 3] = ["a", "b", "c"];
const ROLES: [&str; 2] = ["r", "s"];
const ACTIONS: [&str; 3] = ["x:read", "x:write", "y"];
const GROUPS: [&str; 2] = ["reads", "all"];
const TYPES: [&str; 3] = ["Invoice", "Ledger", "Acme::Invoice"];
const IDS: [&str; 3] = ["1", "p/2", "3\\\"x"];
const FOLDERS: [&str; 2] = ["f", "g"];

/// The groups that an action is in, the nearest first, each in the next.
fn groups_of(action: &str) -> &'static [&'static str] {
    match action {
        "x:read" => &GROUPS,
        "x:write" => &GROUPS[1..],
        _ => &[],
    }
}

fn principal_scope() -> BoxedStrategy<String> {
    prop_oneof![
        Just("principal".to_owned()),
        select(&AGENTS[..]).prop_map(|a| format!("principal == Agent::\"{a}\"")),
        select(&AGENTS[..]).prop_map(|a| format!("principal in Agent::\"{a}\"")),
        select(&ROLES[..]).prop_map(|r| format!("principal in Role::\"{r}\"")),
        select(&["Agent", "Role", "User"][..]).prop_map(|t| format!("principal is {t}")),
        select(&ROLES[..]).prop_map(|r| format!("principal is Agent in Role::\"{r}\"")),
        select(&ROLES[..]).prop_map(|r| format!("principal is User in Role::\"{r}\"")),
        Just("principal in Role::\"company\"".to_owned()),
        Just("principal is Agent in Role::\"company\"".to_owned()),
    ]
    .boxed()
}

fn action_scope() -> BoxedStrategy<String> {
    prop_oneof![
        Just("action".to_owned()),
        select(&ACTIONS[..]).prop_map(|a| format!("action == Action::\"{a}\"")),
        select(&ACTIONS[..]).prop_map(|a| format!("action in Action::\"{a}\"")),
        select(&GROUPS[..]).prop_map(|g| format!("action in Action::\"{g}\"")),
        select(&GROUPS[..]).prop_map(|g| format!("action == Action::\"{g}\"")),
        proptest::collection::vec(select([&ACTIONS[..], &GROUPS[..]].concat()), 1..5).prop_map(|all| {
            let all: Vec<_> = all.iter().map(|a| format!("Action::\"{a}\"")).collect();
            format!("action in [{}]", all.join(", "))
        }),
    ]
    .boxed()
}

fn resource_scope() -> BoxedStrategy<String> {
    prop_oneof![
        Just("resource".to_owned()),
        (select(&TYPES[..]), select(&IDS[..])).prop_map(|(t, i)| format!("resource == {t}::\"{i}\"")),
        (select(&TYPES[..]), select(&IDS[..])).prop_map(|(t, i)| format!("resource in {t}::\"{i}\"")),
        select(&FOLDERS[..]).prop_map(|f| format!("resource in Folder::\"{f}\"")),
        Just("resource in Folder::\"top\"".to_owned()),
        select(&TYPES[..]).prop_map(|t| format!("resource is {t}")),
        (select(&TYPES[..]), select(&FOLDERS[..])).prop_map(|(t, f)| format!("resource is {t} in Folder::\"{f}\"")),
    ]
    .boxed()
}

/// Some are true, some false, some fail for some requests: for want of an attribute, by overflow, by a wrong type.
fn condition() -> BoxedStrategy<&'static str> {
    select(
        &[
            "",
            "",
            "",
            " when { true }",
            " unless { false }",
            " when { resource in Folder::\"top\" }",
            " unless { principal in Role::\"company\" }",
            " when { principal is Agent && resource is Invoice }",
            " when { context.amount + 9223372036854775807 > 0 }",
            " when { context.amount * -9223372036854775807 < 0 }",
            " when { -context.amount < 0 } unless { resource.sealed }",
            " when { context.amount like \"1*\" }",
            " when { resource.sealed + 1 == 2 }",
            " when { [1, 2, 3].contains(context.amount) }",
            " when { if resource has sealed then resource.sealed else true }",
            " when { principal.level > 1 && context.amount < 10 }",
            " when { resource.sealed }",
            " unless { resource.sealed }",
            " when { resource has sealed && resource.sealed }",
            " when { principal.level > 1 }",
            " when { context.amount < 10 }",
            " when { context.missing == 1 }",
            " when { principal in Role::\"r\" }",
            " when { action == Action::\"y\" }",
            " when { action in Action::\"reads\" }",
            " unless { action in [Action::\"all\"] }",
        ][..],
    )
    .boxed()
}

/// Most permit, so that a forbid that is not met shows.
fn policy() -> BoxedStrategy<String> {
    (
        select(&["permit", "permit", "permit", "forbid"][..]),
        principal_scope(),
        action_scope(),
        resource_scope(),
        condition(),
    )
        .prop_map(|(effect, p, a, r, when)| format!("{effect}({p}, {a}, {r}){when};"))
        .boxed()
}

#[derive(Clone, Debug)]
struct Case {
    agent: &'static str,
    roles: Vec<&'static str>,
    level: Option<i64>,
    action: &'static str,
    kind: &'static str,
    id: &'static str,
    folder: Option<&'static str>,
    sealed: Option<bool>,
    amount: Option<i64>,
}

fn case() -> BoxedStrategy<Case> {
    let who = (select(&AGENTS[..]), proptest::sample::subsequence(&ROLES[..], 0..=2), proptest::option::of(0i64..4));
    let what =
        (select(&TYPES[..]), select(&IDS[..]), proptest::option::of(select(&FOLDERS[..])), any::<Option<bool>>());
    (who, select(&ACTIONS[..]), what, proptest::option::of(0i64..20))
        .prop_map(|((agent, roles, level), action, (kind, id, folder, sealed), amount)| Case {
            agent,
            roles,
            level,
            action,
            kind,
            id,
            folder,
            sealed,
            amount,
        })
        .boxed()
}

fn uid(kind: &str, id: &str) -> EntityUid {
    format!("{kind}::\"{id}\"").parse().unwrap()
}

struct Made {
    request: Request,
    entities: Entities,
    principal: Who,
    resource: Who,
    actions: Vec<EntityUid>,
}

fn make(case: &Case) -> Made {
    // What an entity is in may itself be in something: the index is given all of it.
    let mut principal = vec![uid("Agent", case.agent)];
    principal.extend(case.roles.iter().map(|r| uid("Role", r)));
    let mut resource = vec![uid(case.kind, case.id)];
    resource.extend(case.folder.map(|f| uid("Folder", f)));
    let above = |of: &[EntityUid], kind: &str, id: &str| -> Vec<Entity> {
        let parents = HashSet::from([uid(kind, id)]);
        of[1..].iter().map(|one| Entity::new(one.clone(), HashMap::new(), parents.clone()).unwrap()).collect()
    };
    let mut others = above(&principal, "Role", "company");
    others.extend(above(&resource, "Folder", "top"));
    let entity = |uids: &[EntityUid], attribute: Option<(&str, RestrictedExpression)>| {
        let attributes: HashMap<_, _> = attribute.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        let parents: HashSet<_> = uids[1..].iter().cloned().collect();
        Entity::new(uids[0].clone(), attributes, parents).unwrap()
    };
    let me = entity(&principal, case.level.map(|n| ("level", RestrictedExpression::new_long(n))));
    let it = entity(&resource, case.sealed.map(|b| ("sealed", RestrictedExpression::new_bool(b))));
    let context = case.amount.map(|n| ("amount".to_owned(), RestrictedExpression::new_long(n)));
    let mut actions = vec![uid("Action", case.action)];
    actions.extend(groups_of(case.action).iter().map(|group| uid("Action", group)));
    others.extend(
        actions
            .windows(2)
            .map(|pair| Entity::new(pair[0].clone(), HashMap::new(), HashSet::from([pair[1].clone()])).unwrap()),
    );
    for (all, kind, id) in [(&mut principal, "Role", "company"), (&mut resource, "Folder", "top")] {
        if all.len() > 1 {
            all.push(uid(kind, id));
        }
    }
    Made {
        request: Request::new(
            principal[0].clone(),
            actions[0].clone(),
            resource[0].clone(),
            Context::from_pairs(context).unwrap(),
            None,
        )
        .unwrap(),
        entities: Entities::from_entities(others.into_iter().chain([me, it]), None).unwrap(),
        principal: Who { kind: "Agent".parse().unwrap(), uids: principal },
        resource: Who { kind: case.kind.parse().unwrap(), uids: resource },
        actions,
    }
}

type Said = (bool, BTreeSet<String>, BTreeSet<String>);

fn plain(set: &PolicySet, made: &Made) -> Said {
    let response = Authorizer::new().is_authorized(&made.request, set, &made.entities);
    let failed = response.diagnostics().errors().map(|e| {
        let cedar_policy::AuthorizationError::PolicyEvaluationError(e) = e;
        e.policy_id().to_string()
    });
    (
        response.decision() == Decision::Allow,
        response.diagnostics().reason().map(ToString::to_string).collect(),
        failed.collect(),
    )
}

fn indexed(index: &ScopeIndex, made: &Made) -> Said {
    let verdict = index.evaluate(
        &Authorizer::new(),
        &made.request,
        &made.actions,
        (&made.principal, &made.resource),
        &made.entities,
    );
    let determining = if verdict.forbids.is_empty() { &verdict.permits } else { &verdict.forbids };
    (
        verdict.forbids.is_empty() && !verdict.permits.is_empty(),
        determining.iter().map(ToString::to_string).collect(),
        verdict.failures.iter().map(|f| f.policy.to_string()).collect(),
    )
}

fn with_ids(policies: &[String]) -> Vec<Policy> {
    let numbered = policies.iter().enumerate();
    numbered.map(|(n, text)| Policy::parse(Some(PolicyId::new(format!("p{n}"))), text).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_024))]

    #[test]
    fn says_what_plain_cedar_says(
        policies in proptest::collection::vec(policy(), 0..24),
        cases in proptest::collection::vec(case(), 8),
    ) {
        let set: PolicySet = policies.join("\n").parse().unwrap();
        let mut index = ScopeIndex::default();
        for policy in set.policies() {
            index.add(policy).unwrap();
        }
        prop_assert_eq!(index.len(), policies.len());
        for case in cases {
            let made = make(&case);
            prop_assert_eq!(indexed(&index, &made), plain(&set, &made), "{:?}", case);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// A copy that is changed says what one that was made anew says, and what it was copied from says what it said.
    #[test]
    fn what_is_taken_back_is_as_if_it_had_never_been(
        policies in proptest::collection::vec(policy(), 1..24),
        gone in any::<u32>(),
        cases in proptest::collection::vec(case(), 4),
    ) {
        let policies = with_ids(&policies);
        let stays = |n: usize| gone & (1 << n) == 0;
        let mut whole = ScopeIndex::default();
        for policy in &policies {
            whole.add(policy).unwrap();
        }
        let mut less = whole.clone();
        let (mut all, mut left) = (PolicySet::new(), PolicySet::new());
        for (n, policy) in policies.iter().enumerate() {
            all.add(policy.clone()).unwrap();
            if stays(n) {
                left.add(policy.clone()).unwrap();
            } else {
                less.remove(policy).unwrap();
            }
        }
        prop_assert_eq!(less.len(), left.policies().count());
        for case in &cases {
            let made = make(case);
            prop_assert_eq!(indexed(&less, &made), plain(&left, &made), "{:?}", case);
            prop_assert_eq!(indexed(&whole, &made), plain(&all, &made), "{:?}", case);
        }
        for (_, policy) in policies.iter().enumerate().filter(|(n, _)| stays(*n)) {
            less.remove(policy).unwrap();
        }
        prop_assert!(less.of_action.is_empty() && less.any_action.is_empty(), "empty buckets are kept");
    }
}

#[test]
fn no_policy_permits_nothing() {
    let case = Case {
        agent: "a",
        roles: vec![],
        level: None,
        action: "y",
        kind: "Invoice",
        id: "1",
        folder: None,
        sealed: None,
        amount: None,
    };
    assert_eq!(indexed(&ScopeIndex::default(), &make(&case)), (false, BTreeSet::new(), BTreeSet::new()));
}
