//! Acting for another: every link cuts, everybody in the chain counts, and whatever is taken back anywhere takes the rest with it.

use legate_ids::{Principal, SpiffeId};
use legate_token::{Chain, Claims, Confirmation, Parent, Scope, mint};
use legate_wire::registry as wire;
use legate_wire::registry::declaration::Object;
use proptest::prelude::*;

use crate::convert::{Ask, OnBehalfOf};
use crate::domain::answer::Denial;
use crate::testing::*;

const ACTIONS: [&str; 3] = ["invoice:read", "invoice:pay", "invoice:seal"];

fn namespace(change: impl FnOnce(&mut wire::NamespaceSpec)) -> wire::Declaration {
    let mut spec = wire::NamespaceSpec::default();
    change(&mut spec);
    let metadata = Some(wire::Metadata { name: "payments".into(), ..wire::Metadata::default() });
    declared(Object::Namespace(wire::Namespace { metadata, spec: Some(spec), status: None }))
}

/// A bit for each action.
fn permissions(bits: u8) -> Vec<wire::Permission> {
    let given = ACTIONS.iter().enumerate().filter(|(n, _)| bits & (1 << n) != 0);
    given.map(|(_, action)| permission(action, "Invoice", "apollo/*")).collect()
}

fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds, nanos: 0 })
}

fn grant(
    name: &str,
    delegator: &str,
    delegate: u8,
    change: impl FnOnce(&mut wire::DelegationGrantSpec),
) -> wire::Declaration {
    let mut spec = wire::DelegationGrantSpec {
        delegator: delegator.into(),
        delegate: format!("invoice-bot-{delegate}"),
        permissions: permissions(0b111),
        purpose: "closes the month".into(),
        not_after: at(NOW + 10_000),
        may_redelegate: true,
        max_depth: 3,
        ..wire::DelegationGrantSpec::default()
    };
    change(&mut spec);
    declared(Object::DelegationGrant(wire::DelegationGrant { metadata: meta(name), spec: Some(spec) }))
}

/// A role of its own for somebody, by name: an agent, or `user:NAME`.
fn given(n: u8, who: &str, bits: u8) -> [wire::Declaration; 2] {
    let name = format!("of-{n}");
    // A role gives one thing at least; that one nobody is asked about.
    let mut permissions = permissions(bits);
    permissions.push(permission("nothing", "Invoice", "*"));
    let spec = wire::RoleSpec { permissions, ..wire::RoleSpec::default() };
    let role = declared(Object::Role(wire::Role { metadata: meta(&name), spec: Some(spec) }));
    let who = vec![who.to_owned()];
    let mut spec = wire::RoleBindingSpec { role: name.clone(), ..wire::RoleBindingSpec::default() };
    if who[0].starts_with("user:") || who[0].starts_with("group:") {
        spec.users = who
    } else {
        spec.agents = who
    }
    [role, declared(Object::RoleBinding(wire::RoleBinding { metadata: meta(&name), spec: Some(spec) }))]
}

/// ada, for whom bot 3 acts, for which bot 2 acts, for which bot 1 acts; each may what its bits say.
pub(super) fn scene(bits: [u8; 4], grants: [u8; 3]) -> Vec<wire::Declaration> {
    let mut all = vec![
        namespace(|_| ()),
        agent(2, |_| ()),
        agent(3, |_| ()),
        grant("ada-3", "user:ada", 3, |g| g.permissions = permissions(grants[2])),
        grant("three-2", "agent:invoice-bot-3", 2, |g| g.permissions = permissions(grants[1])),
        grant("two-1", "agent:invoice-bot-2", 1, |g| g.permissions = permissions(grants[0])),
    ];
    for n in 1..=3u8 {
        all.extend(given(n, &format!("invoice-bot-{n}"), bits[usize::from(n) - 1]));
    }
    all.extend(given(9, "user:ada", bits[3]));
    all
}

const ALL: u8 = 0b111;

pub(super) async fn staged(bits: [u8; 4], grants: [u8; 3]) -> Stage {
    Stage::set_with(|mut all| {
        all.extend(scene(bits, grants));
        all
    })
    .await
}

fn spiffe(n: u8) -> SpiffeId {
    subject(n).agent().unwrap().clone()
}

/// What bot 1 got in exchange for bot 2's token, and that for bot 3's, by which bot 3 acts for ada.
pub(super) fn claims(stage: &Stage) -> Claims {
    let parent = |n: u8| Parent {
        token_id: format!("0123456789abcde{n}"),
        lifecycle_version: 1,
        confirmation: Confirmation::Certificate([n; 32]),
        credential: None,
    };
    Claims {
        subject: legate_token::Subject::Person("ada".into()),
        chain: Chain {
            actors: vec![spiffe(1), spiffe(2), spiffe(3)],
            grants: vec!["obj_two-1".into(), "obj_three-2".into(), "obj_ada-3".into()],
            parents: vec![parent(2), parent(3)],
            groups: vec![],
        },
        ..stage.claims()
    }
}

pub(super) fn with_action(mut ask: Ask, action: &str) -> Ask {
    ask.question.action = legate_ids::Action::parse(action).unwrap();
    ask
}

async fn word(stage: &Stage, claims: &Claims) -> &'static str {
    stage.word(stage.with_token(mint(claims, &stage.signer).unwrap())).await
}

#[tokio::test]
async fn the_answer_says_for_whom_and_by_what() {
    let stage = staged([ALL; 4], [ALL; 3]).await;
    let token = mint(&claims(&stage), &stage.signer).unwrap();
    let spoken = stage.ask(&enforcer("invoices"), stage.with_token(token)).await;
    assert_eq!(spoken.answer.word(), "ALLOWED", "{}", spoken.message);
    let lines: Vec<_> = spoken.answer.causes.iter().map(crate::domain::answer::Cause::line).collect();
    for expected in [
        "binding:payments/reads-apollo@1",
        "grant:payments/two-1@1",
        "grant:payments/three-2@1",
        "grant:payments/ada-3@1",
        "delegator:payments/invoice-bot-2@1",
        "delegator:payments/invoice-bot-3@1",
        "delegator:payments/of-9@1",
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected}: {lines:?}");
    }
    // Recorded with everybody.
    let events = stage.paper.events();
    let event = events.iter().find(|event| event.r#type == "decision.made").unwrap();
    assert_eq!(event.subject, "user:ada");
    assert_eq!(event.chain, [agent_id(1).to_string(), agent_id(2).to_string(), agent_id(3).to_string()]);
    assert_eq!(event.grant_id, "obj_two-1");
    assert_eq!(event.details["grants"], "obj_two-1 obj_three-2 obj_ada-3");
    assert_eq!(event.acting_mode, i32::from(legate_wire::audit::ActingMode::OnBehalfOf));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever they were given: it is allowed exactly where everybody may it and every grant lets it through, so that no
    /// chain yields what lies outside of any one of them.
    #[test]
    fn a_chain_allows_what_all_of_it_allows(bits in any::<[u8; 4]>(), grants in any::<[u8; 3]>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            // So that many cases are near the line.
            let (bits, grants) = (bits.map(|b| b | b >> 3), grants.map(|g| g | g >> 3));
            let mut bits_now = bits;
            // What the stage gives bot 1 beside its own role.
            bits_now[0] |= 0b001;
            let stage = staged(bits, grants).await;
            let token = mint(&claims(&stage), &stage.signer).unwrap();
            for (n, action) in ACTIONS.iter().enumerate() {
                let spoken = stage.ask(&enforcer("invoices"), with_action(stage.with_token(token.clone()), action)).await;
                let all = bits_now.iter().chain(&grants).all(|b| b & (1 << n) != 0);
                assert_eq!(spoken.answer.denied.is_none(), all, "{action} {bits:?} {grants:?}: {}", spoken.message);
            }
        });
    }
}

#[tokio::test]
async fn each_part_cuts_with_its_own_word() {
    for (bits, grants, expected) in [
        ([ALL, ALL, ALL, 0], [ALL; 3], "DELEGATOR_NOT_PERMITTED"),
        ([ALL, ALL, 0, ALL], [ALL; 3], "DELEGATOR_NOT_PERMITTED"),
        ([ALL, 0, ALL, ALL], [ALL; 3], "DELEGATOR_NOT_PERMITTED"),
        ([ALL; 4], [0b110, ALL, ALL], "GRANT_NOT_PERMITTED"),
        ([ALL; 4], [ALL, 0b110, ALL], "GRANT_NOT_PERMITTED"),
        ([ALL; 4], [ALL, ALL, 0b110], "GRANT_NOT_PERMITTED"),
    ] {
        let stage = staged(bits, grants).await;
        assert_eq!(word(&stage, &claims(&stage)).await, expected, "{bits:?} {grants:?}");
    }
}

#[tokio::test]
async fn what_is_taken_back_anywhere_kills_what_is_below() {
    type Change = fn() -> (wire::Declaration, bool);
    let suspended =
        |n: u8| (agent(n, |a| a.status.as_mut().unwrap().state = wire::AgentState::Suspended.into()), false);
    let reborn = |n: u8| (agent(n, |a| a.status.as_mut().unwrap().lifecycle_version = 2), false);
    let cut = |n: u8| (agent(n, |a| a.status.as_mut().unwrap().authorization_cutoff = at(NOW)), false);
    let changes: [(&str, Change); 12] = [
        ("GRANT_NOT_IN_FORCE", || (grant("ada-3", "user:ada", 3, |_| ()), true)),
        ("GRANT_NOT_IN_FORCE", || (grant("three-2", "agent:invoice-bot-3", 2, |_| ()), true)),
        ("GRANT_NOT_IN_FORCE", || (grant("two-1", "agent:invoice-bot-2", 1, |_| ()), true)),
        ("GRANT_OUTSIDE_WINDOW", || (grant("three-2", "agent:invoice-bot-3", 2, |g| g.not_after = at(NOW)), false)),
        ("GRANT_OUTSIDE_WINDOW", || (grant("ada-3", "user:ada", 3, |g| g.not_before = at(NOW + 1)), false)),
        ("CHAIN_INVALID", || (grant("ada-3", "user:eve", 3, |_| ()), false)),
        ("CHAIN_INVALID", || (grant("three-2", "agent:invoice-bot-3", 1, |_| ()), false)),
        // A grant that passes on a part of another stands behind that one only.
        ("CHAIN_INVALID", || (grant("three-2", "agent:invoice-bot-3", 2, |g| g.parent = "other".into()), false)),
        ("CHAIN_TOO_LONG", || (grant("ada-3", "user:ada", 3, |g| g.max_depth = 1), false)),
        ("CHAIN_TOO_LONG", || {
            (grant("three-2", "agent:invoice-bot-3", 2, |g| (g.may_redelegate, g.max_depth) = (false, 0)), false)
        }),
        ("CHAIN_TOO_LONG", || (namespace(|n| n.max_delegation_depth = 2), false)),
        ("GRANT_AUDIENCE", || {
            (grant("ada-3", "user:ada", 3, |g| g.audiences = vec!["https://other.example".into()]), false)
        }),
    ];
    for (expected, change) in changes {
        let mut stage = staged([ALL; 4], [ALL; 3]).await;
        assert_eq!(word(&stage, &claims(&stage)).await, "ALLOWED");
        stage.change(vec![change()]).await;
        assert_eq!(word(&stage, &claims(&stage)).await, expected);
    }
    for (expected, change) in [
        ("DELEGATOR_STOPPED", suspended(2)),
        ("DELEGATOR_STOPPED", suspended(3)),
        ("AGENT_SUSPENDED", suspended(1)),
        ("PARENT_TOKEN_FALLEN", reborn(2)),
        ("PARENT_TOKEN_FALLEN", reborn(3)),
        ("TOKEN_OUTLIVED", reborn(1)),
        ("PARENT_TOKEN_FALLEN", cut(3)),
        ("PARENT_TOKEN_FALLEN", (revocation([2; 32]), false)),
        ("PARENT_TOKEN_FALLEN", (revocation([3; 32]), false)),
        ("CREDENTIAL_REVOKED", (revocation(CERTIFICATE), false)),
    ] {
        let mut stage = staged([ALL; 4], [ALL; 3]).await;
        stage.change(vec![change]).await;
        let spoken =
            stage.ask(&enforcer("invoices"), stage.with_token(mint(&claims(&stage), &stage.signer).unwrap())).await;
        assert_eq!(spoken.answer.word(), expected);
        assert_eq!(spoken.known.acts_for.unwrap().subject, "user:ada", "told and recorded all the same");
    }
}

#[tokio::test]
async fn a_grant_speaks_of_agents_that_were_there_when_it_was_written() {
    let mut stage = staged([ALL; 4], [ALL; 3]).await;
    let heir = agent(2, |a| a.metadata.as_mut().unwrap().create_time = at(NOW - 100));
    stage.change(vec![(heir, false)]).await;
    assert_eq!(word(&stage, &claims(&stage)).await, "CHAIN_INVALID");
}

#[tokio::test]
async fn a_persons_authority_is_what_is_bound_to_him_unless_the_namespace_takes_grants_for_it() {
    let mut stage = staged([ALL, ALL, ALL, 0], [ALL; 3]).await;
    assert_eq!(word(&stage, &claims(&stage)).await, "DELEGATOR_NOT_PERMITTED");
    let granted = namespace(|n| n.personal_authority = wire::PersonalAuthority::Granted.into());
    stage.change(vec![(granted, false)]).await;
    assert_eq!(word(&stage, &claims(&stage)).await, "ALLOWED");
    // A word that is not known here is the strict one.
    stage.change(vec![(namespace(|n| n.personal_authority = 99), false)]).await;
    assert_eq!(word(&stage, &claims(&stage)).await, "DELEGATOR_NOT_PERMITTED");
}

#[tokio::test]
async fn a_grant_that_the_person_made_is_never_taken_for_what_it_may() {
    let mut stage = staged([ALL, ALL, ALL, 0b011], [ALL; 3]).await;
    stage.change(vec![(namespace(|n| n.personal_authority = wire::PersonalAuthority::Granted.into()), false)]).await;
    let seal = |stage: &Stage| {
        let ask = stage.with_token(mint(&claims(stage), &stage.signer).unwrap());
        with_action(ask, "invoice:seal")
    };
    assert_eq!(stage.word(seal(&stage)).await, "ALLOWED", "the namespace takes an operator's grant for it");
    let mut own = grant("ada-3", "user:ada", 3, |_| ());
    if let Some(Object::DelegationGrant(own)) = &mut own.object {
        own.metadata.as_mut().unwrap().created_by = "user:ada".into();
    }
    stage.change(vec![(own, false)]).await;
    assert_eq!(stage.word(seal(&stage)).await, "DELEGATOR_NOT_PERMITTED");
    assert_eq!(word(&stage, &claims(&stage)).await, "ALLOWED", "what bindings give her she still has");
}

/// What bot 1 got for ada, who is one of these.
fn of_groups(stage: &Stage, grant: &str, groups: &[&str]) -> Claims {
    let chain = Chain {
        actors: vec![spiffe(1)],
        grants: vec![grant.into()],
        parents: vec![],
        groups: groups.iter().map(ToString::to_string).collect(),
    };
    Claims { subject: legate_token::Subject::Person("ada".into()), chain, ..stage.claims() }
}

#[tokio::test]
async fn a_group_of_people_lets_act_for_whom_a_token_shows_in_it_and_for_nobody_on_a_word() {
    let mut all = vec![
        namespace(|_| ()),
        grant("of-finance", "group:finance", 1, |_| ()),
        grant("of-ada", "user:ada", 1, |_| ()),
    ];
    all.extend(given(1, "invoice-bot-1", ALL));
    all.extend(given(2, "group:finance", ALL));
    let mut stage = Stage::set_with(|mut before| {
        before.extend(all);
        before
    })
    .await;
    let (by_group, by_ada) = ("obj_of-finance", "obj_of-ada");
    for (grant, groups, expected) in [
        (by_group, &["group:finance"][..], "ALLOWED"),
        (by_group, &["group:finance", "group:sales"], "ALLOWED"),
        (by_group, &[], "CHAIN_INVALID"),
        (by_group, &["group:sales"], "CHAIN_INVALID"),
        (by_group, &["group:finance2"], "CHAIN_INVALID"),
        // Her own grant gives what the group has, where the token shows her in it.
        (by_ada, &["group:finance"], "ALLOWED"),
        (by_ada, &["group:sales"], "DELEGATOR_NOT_PERMITTED"),
        (by_ada, &[], "DELEGATOR_NOT_PERMITTED"),
    ] {
        assert_eq!(word(&stage, &of_groups(&stage, grant, groups)).await, expected, "{grant} {groups:?}");
    }
    // An agent is a member of no group of people, and a list that is not in order is none.
    for bad in [&["group:b", "group:a"][..], &["group:a", "group:a"], &["finance"], &["user:eve"], &["group:"]] {
        assert!(mint(&of_groups(&stage, by_group, bad), &stage.signer).is_err(), "{bad:?}");
    }
    let answer = stage
        .ask(
            &enforcer("invoices"),
            stage.with_token(mint(&of_groups(&stage, by_group, &["group:finance"]), &stage.signer).unwrap()),
        )
        .await;
    assert!(answer.answer.causes.iter().any(|cause| cause.text.contains("user:ada (one of group:finance)")));
    assert_eq!(stage.paper.events().last().unwrap().details["subject_groups"], "group:finance");
    // On a caller's word there are no groups: neither a grant of one, nor what one has, counts.
    let said = |grant: Option<&str>| on_behalf(stage.asserted(agent_id(1)), "user:ada", grant);
    assert_eq!(stage.ask(&enforcer("trusted"), said(Some("of-finance"))).await.answer.word(), "CHAIN_INVALID");
    assert_eq!(stage.ask(&enforcer("trusted"), said(None)).await.answer.word(), "DELEGATOR_NOT_PERMITTED");
    // Policies see the groups.
    let forbids = "forbid(principal, action, resource) when { context has on_behalf_of && context.on_behalf_of.groups.contains(\"group:finance\") };";
    stage.change(vec![(policy("no", wire::PolicyMode::Enforce, forbids), false)]).await;
    assert_eq!(word(&stage, &of_groups(&stage, by_group, &["group:finance"])).await, "FORBIDDEN_BY_POLICY");
    // Who is taken out of the group is out with the next token; the group's grant taken back is out at once.
    stage.change(vec![(grant("of-finance", "group:finance", 1, |_| ()), true)]).await;
    assert_eq!(word(&stage, &of_groups(&stage, by_group, &["group:finance"])).await, "GRANT_NOT_IN_FORCE");
}

#[tokio::test]
async fn policies_see_for_whom_and_hold_for_everybody_in_the_chain() {
    let forbids =
        |when: &str| policy("no", wire::PolicyMode::Enforce, &format!("forbid(principal, action, resource) {when};"));
    let second = agent_id(2);
    for (when, expected) in [
        ("when { context has on_behalf_of }".to_owned(), "FORBIDDEN_BY_POLICY"),
        (
            "when { context has on_behalf_of && context.on_behalf_of.subject == \"user:ada\" }".to_owned(),
            "FORBIDDEN_BY_POLICY",
        ),
        ("when { context has on_behalf_of && context.on_behalf_of.subject == \"user:eve\" }".to_owned(), "ALLOWED"),
        ("when { context has on_behalf_of && context.on_behalf_of.depth > 2 }".to_owned(), "FORBIDDEN_BY_POLICY"),
        (
            format!("when {{ context has on_behalf_of && context.on_behalf_of.actors.contains(\"{second}\") }}"),
            "FORBIDDEN_BY_POLICY",
        ),
        (
            "when { context has on_behalf_of && context.on_behalf_of.grants.contains(\"three-2\") }".to_owned(),
            "FORBIDDEN_BY_POLICY",
        ),
        // What is forbidden to one that delegates is forbidden to whoever acts for it.
        (format!("when {{ principal.id == \"{second}\" }}"), "FORBIDDEN_BY_POLICY"),
    ] {
        let mut stage = staged([ALL; 4], [ALL; 3]).await;
        stage.change(vec![(forbids(&when), false)]).await;
        assert_eq!(word(&stage, &claims(&stage)).await, expected, "{when}");
        // Its own authority has nothing to do with it.
        assert_eq!(stage.word(stage.good()).await, "ALLOWED", "{when}");
    }
}

#[tokio::test]
async fn an_allow_is_good_no_longer_than_what_it_rests_on() {
    let mut stage = staged([ALL; 4], [ALL; 3]).await;
    let soon = prost_types::Timestamp { seconds: NOW, nanos: 400_000_000 };
    let ends = grant("three-2", "agent:invoice-bot-3", 2, |g| g.not_after = Some(soon));
    stage.change(vec![(ends, false)]).await;
    let token = mint(&claims(&stage), &stage.signer).unwrap();
    let spoken = stage.ask(&enforcer("invoices"), stage.with_token(token)).await;
    assert_eq!(spoken.answer.word(), "ALLOWED");
    assert_eq!(spoken.valid_until, legate_clock::Timestamp::try_from(soon).ok());
}

fn on_behalf(mut ask: Ask, subject: &str, grant: Option<&str>) -> Ask {
    let grant = grant.map(|name| legate_ids::Name::parse(name).unwrap());
    ask.on_behalf_of = Some(OnBehalfOf { subject: subject.into(), grant });
    ask
}

#[tokio::test]
async fn on_a_callers_word_the_grants_that_are_there_decide() {
    let stage = Stage::set_with(|mut all| {
        all.extend(scene([ALL; 4], [ALL; 3]));
        all.extend([
            grant("ada-1", "user:ada", 1, |g| g.permissions = permissions(0b010)),
            grant("group-1", "group:clerks", 1, |_| ()),
            grant("zoe-3", "user:zoe", 3, |_| ()),
            grant("zoe-3-1", "agent:invoice-bot-3", 1, |g| (g.parent, g.max_depth) = ("zoe-3".into(), 1)),
        ]);
        all
    })
    .await;
    let trusted = enforcer("trusted");
    let ask = |subject: &str, grant: Option<&str>| on_behalf(stage.asserted(agent_id(1)), subject, grant);
    for (subject, grant, expected) in [
        // ada-1 lets only pay.
        ("user:ada", None, "GRANT_NOT_PERMITTED"),
        ("user:ada", Some("ada-1"), "GRANT_NOT_PERMITTED"),
        // That one is from bot 2, for itself.
        ("agent:invoice-bot-2", None, "ALLOWED"),
        ("agent:invoice-bot-2", Some("two-1"), "ALLOWED"),
        ("user:ada", Some("two-1"), "CHAIN_INVALID"),
        ("agent:invoice-bot-3", None, "CHAIN_INVALID"),
        ("user:eve", None, "CHAIN_INVALID"),
        ("user:ada", Some("nothing"), "CHAIN_INVALID"),
        // Through the grant that it passes on a part of; zoe has nothing.
        ("user:zoe", None, "DELEGATOR_NOT_PERMITTED"),
    ] {
        let spoken = stage.ask(&trusted, ask(subject, grant)).await;
        assert_eq!(spoken.answer.word(), expected, "{subject} {grant:?}: {}", spoken.message);
        if expected != "ALLOWED" {
            assert_ne!(spoken.answer.denied.unwrap().kind(), Denial::Undecided);
        }
    }
    let pays = with_action(ask("user:ada", None), "invoice:pay");
    assert_eq!(stage.ask(&trusted, pays).await.answer.word(), "ALLOWED");

    // Whoever may not name a subject may not say for whom one acts either, and a token that says it itself comes without.
    let unproven =
        crate::flow::evaluate(&stage.desk, &enforcer("invoices"), &[on_behalf(stage.good(), "user:ada", None)]).await;
    assert_eq!(unproven.unwrap_err().reason(), "SUBJECT_NOT_PROVEN");
    let token = mint(&claims(&stage), &stage.signer).unwrap();
    let twice = on_behalf(stage.with_token(token), "user:ada", None);
    assert_eq!(stage.ask(&trusted, twice).await.answer.word(), "CHAIN_INVALID");
}

#[tokio::test]
async fn a_token_of_a_chain_is_narrowed_bound_and_addressed_like_any_other() {
    let stage = staged([ALL; 4], [ALL; 3]).await;
    let with = |change: fn(&mut Claims)| {
        let mut made = claims(&stage);
        change(&mut made);
        made
    };
    let pay =
        with(|c| c.scope = Scope::Actions([legate_ids::Action::parse("invoice:pay").unwrap()].into_iter().collect()));
    assert_eq!(word(&stage, &pay).await, "TOKEN_SCOPE");
    assert_eq!(word(&stage, &with(|c| c.confirmation = Confirmation::Certificate([8; 32]))).await, "TOKEN_BINDING");
    assert_eq!(word(&stage, &with(|c| c.confirmation = Confirmation::Bearer)).await, "TOKEN_BINDING");
    // What is addressed to an agent, to be passed on, opens nothing at an enforcement point.
    assert_eq!(word(&stage, &with(|c| c.audience = spiffe(2).to_string())).await, "TOKEN_AUDIENCE");
    assert_eq!(word(&stage, &with(|c| c.chain.grants[0] = "obj_never".into())).await, "GRANT_NOT_IN_FORCE");
    assert_eq!(word(&stage, &with(|c| c.chain.grants.swap(0, 1))).await, "CHAIN_INVALID");
    assert_eq!(word(&stage, &with(|c| c.subject = legate_token::Subject::Person("eve".into()))).await, "CHAIN_INVALID");
    assert!(matches!(Principal::of(&spiffe(1)), Ok(Principal::Agent { .. })));
}

#[tokio::test]
async fn a_token_of_a_chain_is_agreed_to_for_what_all_of_it_may() {
    use super::super::authorize_issuance::{Chain as Asked, Issuance, authorize_issuance};
    let mut stage = staged([ALL, 0b011, ALL, ALL], [ALL, ALL, 0b110]).await;
    let ask = |audience: &str, change: fn(&mut Asked)| {
        let mut chain = Asked {
            groups: vec![],
            subject: legate_token::Subject::Person("ada".into()),
            actors: vec![agent_id(1), agent_id(2), agent_id(3)],
            grants: vec!["obj_two-1".into(), "obj_three-2".into(), "obj_ada-3".into()],
        };
        change(&mut chain);
        Issuance {
            agent: agent_id(1),
            audience: audience.into(),
            actions: ACTIONS.iter().map(|a| legate_ids::Action::parse(a).unwrap()).collect(),
            at_least_revision: 0,
            delegation: Some(chain),
        }
    };
    let leave = authorize_issuance(&stage.desk, &operator(), &ask(AUDIENCE, |_| ())).await;
    assert_eq!(leave.answer.word(), "ALLOWED", "{}", leave.message);
    assert_eq!(leave.actions.to_string(), "invoice:pay");
    let everything = Issuance { actions: legate_ids::Actions::default(), ..ask(AUDIENCE, |_| ()) };
    let leave = authorize_issuance(&stage.desk, &operator(), &everything).await;
    assert_eq!(leave.actions.to_string(), "invoice:pay", "to ask for nothing is no way out");
    assert_eq!(leave.ends.map(legate_clock::Timestamp::secs), Some(NOW + 10_000));
    let events = stage.paper.events();
    let event = events.last().unwrap();
    assert_eq!((event.subject.as_str(), event.grant_id.as_str(), event.chain.len()), ("user:ada", "obj_two-1", 3));

    let next = agent(4, |_| ());
    stage.change(vec![(next, false)]).await;
    let (fourth, third) = (spiffe(4).to_string(), spiffe(3).to_string());
    for (audience, change, expected) in [
        (AUDIENCE, (|c| c.actors.rotate_left(1)) as fn(&mut Asked), "CHAIN_INVALID"),
        (AUDIENCE, |c| c.grants.swap(1, 2), "CHAIN_INVALID"),
        (AUDIENCE, |c| c.grants[2] = "obj_never".into(), "GRANT_NOT_IN_FORCE"),
        (AUDIENCE, |c| drop(c.grants.pop()), "CHAIN_INVALID"),
        (AUDIENCE, |c| c.subject = legate_token::Subject::Person("eve".into()), "CHAIN_INVALID"),
        // Four may stand in a chain; every grant lets three follow the first.
        (&fourth, |_| (), "ALLOWED"),
        (&third, |_| (), "CHAIN_INVALID"),
    ] {
        let leave = authorize_issuance(&stage.desk, &operator(), &ask(audience, change)).await;
        assert_eq!(leave.answer.word(), expected, "{audience}: {}", leave.message);
    }
    stage.change(vec![(grant("three-2", "agent:invoice-bot-3", 2, |g| g.max_depth = 1), false)]).await;
    let leave = authorize_issuance(&stage.desk, &operator(), &ask(&fourth, |_| ())).await;
    assert_eq!(leave.answer.word(), "CHAIN_TOO_LONG");
    stage
        .change(vec![(grant("ada-3", "user:ada", 3, |g| g.audiences = vec!["https://o.example".into()]), false)])
        .await;
    let leave = authorize_issuance(&stage.desk, &operator(), &ask(AUDIENCE, |_| ())).await;
    assert_eq!(leave.answer.word(), "GRANT_AUDIENCE");
}

#[tokio::test]
async fn what_was_issued_for_a_person_or_to_anybody_in_the_chain_is_taken_back_by_one_order() {
    use wire::cut_off::Level;
    let owner = || Level::Owner("user:ada".into());
    for (namespace, level, mine, hers) in [
        ("payments", Level::Subject("user:ada".into()), "ALLOWED", "CREDENTIAL_REVOKED"),
        ("", Level::Subject("user:ada".into()), "ALLOWED", "CREDENTIAL_REVOKED"),
        ("sales", Level::Subject("user:ada".into()), "ALLOWED", "ALLOWED"),
        ("payments", Level::Subject("user:grace".into()), "ALLOWED", "ALLOWED"),
        ("payments", owner(), "TOKEN_OUTLIVED", "TOKEN_OUTLIVED"),
        ("", owner(), "TOKEN_OUTLIVED", "TOKEN_OUTLIVED"),
        ("payments", Level::AgentClass("invoice-worker".into()), "TOKEN_OUTLIVED", "TOKEN_OUTLIVED"),
        ("payments", Level::WholeNamespace(true), "TOKEN_OUTLIVED", "TOKEN_OUTLIVED"),
        // Of an owner who has only one further up the chain.
        ("payments", Level::Owner("user:joan".into()), "ALLOWED", "PARENT_TOKEN_FALLEN"),
    ] {
        let mut stage = Stage::set_with(|mut all| {
            all.extend(scene([ALL; 4], [ALL; 3]));
            all.push(agent(3, |agent| agent.spec.as_mut().unwrap().owners = vec!["user:joan".into()]));
            all
        })
        .await;
        let (own, of_ada) = (stage.claims(), claims(&stage));
        assert_eq!(word(&stage, &of_ada).await, "ALLOWED");
        let cut_off = wire::CutOff { level: Some(level.clone()), authorization_cutoff: at(NOW) };
        let spec = wire::RevocationSpec { cut_off: Some(cut_off), ..wire::RevocationSpec::default() };
        let metadata = wire::Metadata { namespace: namespace.into(), ..meta("cut-off").unwrap() };
        let revocation = wire::Revocation { metadata: Some(metadata), spec: Some(spec) };
        stage.change(vec![(declared(Object::Revocation(revocation)), false)]).await;
        assert_eq!(word(&stage, &own).await, mine, "{namespace} {level:?}");
        assert_eq!(word(&stage, &of_ada).await, hers, "{namespace} {level:?}");
        // What is issued after it works.
        stage.pass(std::time::Duration::from_secs(1)).await;
        assert_eq!(word(&stage, &stage.claims()).await, "ALLOWED", "{namespace} {level:?}");
        assert_eq!(word(&stage, &claims(&stage)).await, "ALLOWED", "{namespace} {level:?}");
    }
}
