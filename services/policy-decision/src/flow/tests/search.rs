//! What an agent can do, who can do something, and which recorded decisions a change would turn: held against checks.

use std::collections::BTreeSet;
use std::time::Duration;

use legate_wire::policy::SimulateResponse;
use legate_wire::registry as wire;
use legate_wire::registry::as_of::At;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{AsOf, PolicyMode};
use proptest::prelude::*;

use crate::convert::{Ask, OnBehalfOf};
use crate::domain::entitled::Entitled;
use crate::domain::preview::cells::Cell;
use crate::domain::preview::outlook::Holds;
use crate::domain::question::{Record, Stated, Value};
use crate::flow::{Asker, Can, Found, Search, Simulate, Sought, WhatCan, WhoCan, search, simulate, what_can, who_can};
use crate::testing::*;

async fn can(stage: &Stage, asker: &Asker, change: impl FnOnce(&mut WhatCan)) -> Result<Can, legate_rpc::Fault> {
    let mut ask = WhatCan::about(agent_id(1));
    change(&mut ask);
    what_can(&stage.desk, asker, ask).await
}

fn lines(can: &Can) -> Vec<String> {
    let line = |one: &Entitled| {
        let on = match &one.holds {
            Holds::Never => " never".to_owned(),
            Holds::Always => String::new(),
            Holds::Depends(on) => {
                format!(" ({})", on.iter().map(|on| on.cause.name.as_str()).collect::<Vec<_>>().join(" "))
            }
        };
        let except: Vec<&str> = one.except.iter().map(|cell| cell.id.as_str()).collect();
        let except = if except.is_empty() { String::new() } else { format!(" but {}", except.join(" ")) };
        format!("{} {}:{}{on}{except}", one.cell.action, one.cell.kind, one.cell.id)
    };
    can.all.iter().map(line).collect()
}

pub(super) fn only(cedar: &'static [&'static str]) -> impl FnOnce(Vec<wire::Declaration>) -> Vec<wire::Declaration> {
    move |mut all| {
        all.retain(|object| !matches!(object.object, Some(Object::Policy(_))));
        all.extend(cedar.iter().enumerate().map(|(n, text)| policy(&format!("p-{n}"), PolicyMode::Enforce, text)));
        all
    }
}

#[tokio::test]
async fn what_an_agent_can_is_told_with_what_it_hangs_on_and_what_is_not_in_it() {
    let stage = Stage::set().await;
    let told = can(&stage, &operator(), |_| ()).await.unwrap();
    let sealed = "payments/sealed";
    assert_eq!(
        lines(&told),
        [format!("invoice:list Invoice:* ({sealed})"), format!("invoice:read Invoice:apollo/* ({sealed})")]
    );
    assert!(told.left_out == 0 && told.stopped.is_none());
    let event = stage.paper.events().pop().unwrap();
    assert_eq!((event.r#type.as_str(), event.details["question"].as_str()), ("authority.searched", "what_can"));

    let cedar =
        &["permit(principal, action, resource);", "forbid(principal, action, resource == Invoice::\"apollo/7\");"];
    let stage = Stage::set_with(only(cedar)).await;
    let told = can(&stage, &operator(), |_| ()).await.unwrap();
    assert_eq!(lines(&told), ["invoice:list Invoice:* but apollo/7", "invoice:read Invoice:apollo/* but apollo/7"]);
    let never = can(&stage, &operator(), |ask| ask.with_never = true).await.unwrap();
    assert!(lines(&never).contains(&"invoice:list Invoice:apollo/7 never".to_owned()), "{:?}", lines(&never));
}

#[tokio::test]
async fn what_an_agent_could_do_is_told_of_the_past_as_of_the_present() {
    let mut stage = Stage::set().await;
    let as_of = |at: At| move |ask: &mut WhatCan| ask.as_of = Some(AsOf { at: Some(at) });
    let was = lines(&can(&stage, &operator(), |_| ()).await.unwrap());
    stage.change(vec![(binding(|_| ()), true)]).await;
    stage.change(vec![(policy("never", PolicyMode::Enforce, "forbid(principal, action, resource);"), false)]).await;
    for revision in [1, 3] {
        let told = can(&stage, &operator(), as_of(At::Revision(revision))).await.unwrap();
        assert_eq!((told.revision, told.view_age), (revision, None));
        assert_eq!(told.now.secs(), NOW - 1_000 + i64::try_from(revision).unwrap());
        let expected =
            if revision == 1 { was.clone() } else { lines(&can(&stage, &operator(), |_| ()).await.unwrap()) };
        assert_eq!(lines(&told), expected, "{revision}");
    }
    let event = stage.paper.events().into_iter().find(|e| e.details.contains_key("as_of_revision")).unwrap();
    assert_eq!((event.r#type.as_str(), event.details["as_of_revision"].as_str()), ("authority.searched", "1"));
    // By another moment than the revision's own.
    let later = legate_clock::Timestamp::from_secs(NOW);
    let by_then = |ask: &mut WhatCan| (ask.as_of, ask.at) = (Some(AsOf { at: Some(At::Revision(1)) }), Some(later));
    assert_eq!(can(&stage, &operator(), by_then).await.unwrap().now, later);
    let word = async |stage: &Stage, asker: &Asker, at: At| can(stage, asker, as_of(at)).await.unwrap_err().reason();
    assert_eq!(word(&stage, &operator(), At::Revision(9)).await, "REVISION_UNKNOWN");
    stage.registry.is_gone.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(word(&stage, &operator(), At::Revision(1)).await, "PAST_UNAVAILABLE");
    stage.registry.is_gone.store(false, std::sync::atomic::Ordering::SeqCst);
    stage.change(vec![(operators("team", "payments", "alice", wire::OperatorRole::Viewer), true)]).await;
    stage.change(vec![(operators("sales", "sales", "alice", wire::OperatorRole::Admin), false)]).await;
    assert_eq!(word(&stage, &operator(), At::Revision(1)).await, "AGENT_UNKNOWN", "nor of the past");
}

#[tokio::test]
async fn of_what_is_wide_not_every_narrow_exception_is_told() {
    let stage = Stage::set_with(|mut all| {
        let named = (0..70).map(|n| format!("forbid(principal, action, resource == Invoice::\"apollo/{n}\");"));
        all.push(policy("closed", PolicyMode::Enforce, &named.collect::<String>()));
        let each = (0..70).map(|n| permission("invoice:read", "Invoice", &format!("apollo/{n}")));
        let permissions = each.chain([permission("invoice:read", "Invoice", "*")]).collect();
        let spec = wire::RoleSpec { permissions, ..wire::RoleSpec::default() };
        all.push(declared(Object::Role(wire::Role { metadata: meta("invoice-reader"), spec: Some(spec) })));
        all
    })
    .await;
    let told = can(&stage, &operator(), |_| ()).await.unwrap();
    let wide = told.all.iter().find(|one| one.cell.id == "apollo/*" && one.cell.action == "invoice:read").unwrap();
    assert!(matches!(wide.holds, Holds::Depends(_)), "{wide:?}");
    assert!(wide.except.len() == 64 && told.left_out > 0, "{}", wide.except.len());
}

#[tokio::test]
async fn of_an_agent_that_is_stopped_it_is_told_why_it_can_nothing() {
    let stage = Stage::set_with(|mut all| {
        all.push(agent(1, |a| a.status.as_mut().unwrap().set_state(wire::AgentState::Suspended)));
        all
    })
    .await;
    let told = can(&stage, &operator(), |_| ()).await.unwrap();
    assert_eq!((told.all.len(), told.stopped.unwrap().word()), (0, "AGENT_SUSPENDED"));
    let told = can(&stage, &operator(), |ask| ask.if_active = true).await.unwrap();
    assert_eq!((told.all.len(), told.stopped.unwrap().word()), (2, "AGENT_SUSPENDED"));
}

async fn who(stage: &Stage, asker: &Asker, change: impl FnOnce(&mut WhoCan)) -> Result<Found, legate_rpc::Fault> {
    let mut ask = WhoCan {
        question: stage.asserted(agent_id(1)).question,
        namespace: None,
        on_behalf_of: None,
        page_size: 0,
        page_token: String::new(),
        at_least_revision: 0,
        said: "reads".into(),
    };
    change(&mut ask);
    who_can(&stage.desk, asker, ask).await
}

fn names(found: &Found) -> Vec<String> {
    found
        .holders
        .iter()
        .map(|holder| format!("{}{}", holder.agent.label.name, if holder.on.is_some() { "?" } else { "" }))
        .collect()
}

#[tokio::test]
async fn who_may_search_and_where() {
    let mut stage = Stage::set().await;
    let word = |result: Result<(), legate_rpc::Fault>| result.err().map_or("told", |fault| fault.reason());
    let trusted = enforcer("trusted");
    assert_eq!(word(who(&stage, &trusted, |_| ()).await.map(drop)), "CALLER_MAY_NOT_SEARCH");
    assert_eq!(word(can(&stage, &trusted, |_| ()).await.map(drop)), "CALLER_MAY_NOT_SEARCH");
    stage.change(vec![(point("trusted", |p| p.may_search = true), false)]).await;
    assert_eq!(names(&who(&stage, &trusted, |_| ()).await.unwrap()), ["invoice-bot-1"]);
    let ledger = who(&stage, &trusted, |ask| ask.question = stage.asserted(agent_id(1)).kind("Ledger").question).await;
    assert_eq!(word(ledger.map(drop)), "CALLER_MAY_NOT_ASK");
    let sales = legate_ids::Name::parse("sales").unwrap();
    assert_eq!(
        word(who(&stage, &operator(), |ask| ask.namespace = Some(sales)).await.map(drop)),
        "OPERATOR_NOT_PERMITTED"
    );
    // Of another namespace nobody is in any answer.
    stage.change(vec![(operators("team", "payments", "alice", wire::OperatorRole::Viewer), true)]).await;
    stage.change(vec![(operators("sales", "sales", "alice", wire::OperatorRole::Admin), false)]).await;
    assert!(who(&stage, &operator(), |_| ()).await.unwrap().holders.is_empty());
    assert_eq!(word(can(&stage, &operator(), |_| ()).await.map(drop)), "AGENT_UNKNOWN");
}

#[tokio::test]
async fn who_can_comes_in_pages_that_are_authentic_and_say_when_the_registry_moved() {
    let mut stage = Stage::set_with(|mut all| {
        all.extend((2..=5).map(|n| agent(n, |_| ())));
        all.push(group("all", |g| g.selector = "environment = prod".into()));
        all.push(binding(|b| {
            b.agents.clear();
            b.groups = vec!["all".into()];
        }));
        all
    })
    .await;
    let first = who(&stage, &operator(), |ask| ask.page_size = 2).await.unwrap();
    assert_eq!(names(&first), ["invoice-bot-1", "invoice-bot-2"]);
    let token = first.next_page_token.clone();
    stage.change(vec![(agent(6, |_| ()), false)]).await;
    let rest = who(&stage, &operator(), |ask| ask.page_token = token.clone()).await.unwrap();
    assert_eq!(names(&rest), ["invoice-bot-3", "invoice-bot-4", "invoice-bot-5"], "who came since is in the next list");
    assert_eq!(names(&who(&stage, &operator(), |_| ()).await.unwrap()).len(), 6);
    assert!(rest.has_moved && !first.has_moved && rest.next_page_token.is_empty());
    let mut edited = token.clone();
    edited.replace_range(..2, if token.starts_with("31") { "32" } else { "31" });
    for (bad, said) in [(edited, "reads"), (token, "another question")] {
        let refused = who(&stage, &operator(), |ask| (ask.page_token, ask.said) = (bad, said.into())).await;
        assert_eq!(refused.unwrap_err().reason(), "PAGE_TOKEN_INVALID");
    }
}

#[tokio::test]
async fn whom_something_was_approved_for_is_found_by_what_else_it_hangs_on() {
    let mut stage = Stage::set_with(|mut all| {
        all.retain(|object| !matches!(&object.object, Some(Object::Policy(_))));
        let enforce = wire::PolicyMode::Enforce;
        all.push(policy(
            "urgent",
            enforce,
            "permit(principal, action, resource) when { context has urgent && context.urgent };",
        ));
        all.push(policy("four-eyes", enforce, super::approvals::HOLDS));
        all
    })
    .await;
    assert!(names(&who(&stage, &operator(), |_| ()).await.unwrap()).is_empty());
    stage.change(vec![(super::approvals::approved(1, |_, _| ()), false)]).await;
    assert_eq!(names(&who(&stage, &operator(), |_| ()).await.unwrap()), ["invoice-bot-1?"]);
    let urgent = |ask: &mut WhoCan| drop(ask.question.context.insert("urgent".into(), Value::Bool(true)));
    assert_eq!(names(&who(&stage, &operator(), urgent).await.unwrap()), ["invoice-bot-1"]);
}

#[tokio::test]
async fn nobody_is_looked_for_longer_than_there_is_time() {
    let many = |n: u32| {
        agent(1, |a| {
            let metadata = a.metadata.as_mut().unwrap();
            metadata.name = format!("bot-{n}");
            metadata.id = legate_ids::AgentId::from_parts(u64::from(n) + 2, [3; 10]).to_string();
        })
    };
    let stage = Stage::set_with(|mut all| {
        all.extend((0..5_000).map(many));
        all
    })
    .await;
    // All of it is kept back for the way to the caller.
    let hurried = || {
        let mut asker = operator();
        asker.deadline = tokio::time::Instant::now() + std::time::Duration::from_millis(600);
        asker
    };
    // Whoever is in a hurry gets less at a time, and comes to the end all the same.
    let (mut found, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = who(&stage, &hurried(), |ask| ask.page_token = token.clone()).await.unwrap();
        (found, pages) = ([found, names(&page)].concat(), pages + 1);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert!(found == ["invoice-bot-1"] && pages > 1, "{found:?} {pages}");
    assert_eq!(names(&who(&stage, &operator(), |_| ()).await.unwrap()), ["invoice-bot-1"]);
}

#[tokio::test]
async fn who_can_for_somebody() {
    let stage = Stage::set_with(|mut all| {
        let metadata = Some(wire::Metadata { name: "payments".into(), ..wire::Metadata::default() });
        let granted = wire::PersonalAuthority::Granted.into();
        let spec = wire::NamespaceSpec { personal_authority: granted, ..wire::NamespaceSpec::default() };
        all.push(declared(Object::Namespace(wire::Namespace { metadata, spec: Some(spec), status: None })));
        let spec = wire::DelegationGrantSpec {
            delegator: "user:ada".into(),
            delegate: "invoice-bot-1".into(),
            permissions: vec![permission("invoice:read", "Invoice", "*")],
            ..wire::DelegationGrantSpec::default()
        };
        all.push(declared(Object::DelegationGrant(wire::DelegationGrant {
            metadata: meta("ada-1"),
            spec: Some(spec),
        })));
        all
    })
    .await;
    let for_whom = async |who_for: &str| {
        let subject = who_for.to_owned();
        let found = who(&stage, &operator(), |ask| ask.on_behalf_of = Some(OnBehalfOf { subject, grant: None })).await;
        names(&found.unwrap())
    };
    assert_eq!(for_whom("user:ada").await, ["invoice-bot-1"]);
    assert!(for_whom("user:bob").await.is_empty());
}

const CEDAR: [&str; 8] = [
    "permit(principal, action, resource);",
    "permit(principal, action, resource) when { context.ticket == 1 };",
    "permit(principal, action == Action::\"invoice:read\", resource is Invoice);",
    "forbid(principal, action == Action::\"invoice:pay\", resource);",
    "forbid(principal, action, resource) when { resource.sealed };",
    "forbid(principal, action, resource == Invoice::\"apollo/7\");",
    "forbid(principal, action in [Action::\"invoice:pay\", Action::\"ledger:read\"], resource) when { resource.region == \"us\" };",
    "forbid(principal in Group::\"some\", action, resource is Ledger);",
];

/// A world of three agents of two classes.
pub(super) fn world() -> impl Strategy<Value = Vec<wire::Declaration>> {
    let given = || {
        let action = prop::sample::select(vec!["invoice:read", "invoice:pay", "invoice:*", "*", "ledger:read"]);
        let kind = prop::sample::select(vec!["Invoice", "Ledger", "*"]);
        let id = prop::sample::select(vec!["*", "apollo/*", "apollo/7"]);
        prop::collection::vec((action, kind, id), 0..3)
    };
    (
        given(),
        given(),
        given(),
        prop::sample::subsequence(CEDAR.to_vec(), 0..=4),
        prop::option::of(prop::sample::select(vec!["region", "purpose", "regime", "hours"])),
        any::<bool>(),
    )
        .prop_map(|(class, role, ceiling, cedar, limit, grouped)| {
            let mut all = everything(&signer(1));
            all.retain(|o| !matches!(o.object, Some(Object::Policy(_) | Object::AgentClass(_) | Object::Role(_))));
            let texts =
                |all: &[(&str, &str, &str)]| all.iter().map(|(a, k, i)| permission(a, k, i)).collect::<Vec<_>>();
            // A class names its actions one by one.
            let permissions = texts(&class).into_iter().filter(|p| !p.action.ends_with('*')).collect();
            let mut ceiling = texts(&ceiling);
            ceiling.push(permission("invoice:*", "*", "*"));
            let spec = wire::AgentClassSpec { permissions, ceiling, ..wire::AgentClassSpec::default() };
            let class = wire::AgentClass { metadata: meta("invoice-worker"), spec: Some(spec), status: None };
            all.push(declared(Object::AgentClass(class)));
            let mut permissions = texts(&role);
            permissions.push(permission("invoice:read", "Invoice", "zeus/*"));
            let spec = wire::RoleSpec { permissions, ..wire::RoleSpec::default() };
            all.push(declared(Object::Role(wire::Role { metadata: meta("invoice-reader"), spec: Some(spec) })));
            all.push(agent(2, |_| ()));
            all.push(agent(3, |a| a.spec.as_mut().unwrap().environment = wire::Environment::Dev.into()));
            all.push(group("some", |g| g.selector = "environment = dev".into()));
            all.push(binding(|b| {
                b.resources.clear();
                b.groups = if grouped { vec!["some".into()] } else { Vec::new() };
            }));
            all.extend(cedar.iter().enumerate().map(|(n, text)| policy(&format!("p-{n}"), PolicyMode::Enforce, text)));
            all.extend(limit.map(|limit| {
                boundary("limit", |b| match limit {
                    "region" => b.regions = vec!["eu".into()],
                    "purpose" => b.purposes = vec!["audit".into()],
                    "regime" => b.regimes = vec!["GDPR".into()],
                    _ => b.hours = vec![wire::Hours { days: vec![7], from_minute: 0, until_minute: 1_440 }],
                })
            }));
            all
        })
}

/// Questions on every side of what worlds are made of.
pub(super) fn questions(stage: &Stage, n: u8) -> Vec<Ask> {
    let mut all = Vec::new();
    let text = |text: &str| Value::Text(text.into());
    let stated = [
        Record::new(),
        Record::from([("sealed".into(), Value::Bool(false)), ("region".into(), text("eu"))]),
        Record::from([("sealed".into(), Value::Bool(true)), ("region".into(), text("us"))]),
        Record::from([("regime".into(), text("GDPR"))]),
    ];
    let contexts =
        [Record::new(), Record::from([("ticket".into(), Value::Long(1)), ("purpose".into(), text("audit"))])];
    for action in ["invoice:read", "invoice:pay", "invoice:seal", "ledger:read", "ledger:write"] {
        for kind in ["Invoice", "Ledger", "Memo"] {
            for id in ["apollo/1", "apollo/7", "zeus/1", "other"] {
                for (attributes, context) in stated.iter().flat_map(|a| contexts.iter().map(move |c| (a, c))) {
                    let mut ask = stage.asserted(agent_id(n)).action(action).kind(kind).resource(id);
                    ask.question.attributes = Stated(attributes.clone());
                    ask.question.context = context.clone();
                    all.push(ask);
                }
            }
        }
    }
    all
}

/// Whether a question is one of those that a cell stands for.
fn is_in(cell: &Cell, ask: &Ask) -> bool {
    let asked = Cell {
        action: ask.question.action.to_string(),
        kind: ask.question.resource_type.to_string(),
        id: ask.question.resource_id.to_string(),
        attributes: Default::default(),
    };
    cell.attributes.is_empty() && cell.covers(&asked)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// What is told without a condition is allowed, whatever is stated; and whatever is allowed is covered by what is told. The
    /// agents that are found are those that may, no more and no fewer.
    #[test]
    fn what_is_told_is_what_checks_say(mut objects in world(), holds in any::<bool>(), is_approved in any::<bool>()) {
        if holds {
            objects.push(policy("four-eyes", PolicyMode::Enforce, super::approvals::HOLDS));
        }
        if is_approved {
            objects.push(super::approvals::approved(1, |_, _| ()));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stage = Stage::set_with(|_| objects).await;
            let mut allowed = BTreeSet::new();
            for n in 1..=3u8 {
                let told = can(&stage, &operator(), |ask| ask.agent = agent_id(n)).await.unwrap();
                for (at, ask) in questions(&stage, n).into_iter().enumerate() {
                    let asked = format!("{:?}", ask.question);
                    let stands = |one: &&Entitled| is_in(&one.cell, &ask) && !one.except.iter().any(|cell| is_in(cell, &ask));
                    let covering: Vec<_> = told.all.iter().filter(stands).collect();
                    let may = stage.ask(&operator(), ask.clone()).await.answer.denied.is_none();
                    if may {
                        allowed.insert((at, n));
                        assert!(!covering.is_empty(), "{asked} of {n} is allowed and not told: {:?}", lines(&told));
                    }
                    let always = covering.iter().any(|one| matches!(one.holds, Holds::Always) && one.from.is_none());
                    assert!(may || !always, "{asked} of {n} is told without condition and denied: {:?}", lines(&told));
                }
            }
            for (at, ask) in questions(&stage, 1).into_iter().enumerate().step_by(7) {
                let found = who(&stage, &operator(), |who| who.question = ask.question.clone()).await.unwrap();
                let sure: BTreeSet<_> = found.holders.iter().filter(|h| h.on.is_none()).map(|h| h.agent.id.clone()).collect();
                let may: BTreeSet<_> = (1..=3u8).filter(|n| allowed.contains(&(at, *n))).map(agent_id).collect();
                assert_eq!(sure, may, "{:?}", ask.question);
            }
        });
    }
}

async fn tried(stage: &Stage, wanted: Vec<wire::Declaration>) -> SimulateResponse {
    let (mut whole, mut page_token) = (SimulateResponse::default(), String::new());
    loop {
        let ask = Simulate {
            wanted: wanted.clone(),
            gone: Vec::new(),
            window: Duration::from_secs(3_600),
            page_token,
            at_least_revision: 0,
            said: "this".into(),
        };
        let page = simulate(&stage.desk, &operator(), ask).await.unwrap();
        whole.decisions += page.decisions;
        whole.to_allow += page.to_allow;
        whole.to_deny += page.to_deny;
        whole.unsure += page.unsure;
        whole.not_judged += page.not_judged;
        whole.flips.extend(page.flips);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return whole;
        }
    }
}

#[tokio::test]
async fn recorded_decisions_that_would_flip_are_told_and_those_that_might() {
    let stage = Stage::set_with(only(&["permit(principal, action, resource);"])).await;
    for (id, action) in
        [("apollo/1", "invoice:read"), ("apollo/1", "invoice:read"), ("zeus/1", "invoice:read"), ("a/1", "invoice:pay")]
    {
        stage.ask(&operator(), stage.asserted(agent_id(1)).resource(id).action(action)).await;
    }
    // Twenty more, so that there is more than one page of the log.
    for n in 0..20 {
        stage.ask(&operator(), stage.asserted(agent_id(1)).resource(&format!("n/{n}")).action("invoice:list")).await;
    }
    stage.log.0.lock().extend(stage.paper.events());
    let sum = |all: &SimulateResponse| (all.decisions, all.to_deny, all.to_allow, all.unsure);
    let none = tried(&stage, vec![binding(|_| ())]).await;
    assert_eq!(sum(&none), (24, 0, 0, 0));
    let wider = tried(&stage, vec![binding(|b| b.resources.clear())]).await;
    assert_eq!(sum(&wider), (24, 0, 1, 0));
    assert_eq!((wider.flips[0].resource_id.as_str(), wider.flips[0].was_allowed), ("zeus/1", false));
    let stop = "forbid(principal, action == Action::\"invoice:read\", resource);";
    let denied = tried(&stage, vec![policy("stop", PolicyMode::Enforce, stop)]).await;
    // Twice asked on one page of the answer, or on two.
    assert_eq!(sum(&denied), (24, 2, 0, 0));
    assert!(denied.flips.iter().all(|flip| flip.was_allowed && flip.resource_id == "apollo/1" && !flip.is_unsure));
    let late = "forbid(principal, action == Action::\"invoice:read\", resource) when { context.late };";
    let might = tried(&stage, vec![policy("late", PolicyMode::Enforce, late)]).await;
    assert_eq!(sum(&might), (24, 0, 0, 2));
    assert_eq!(might.flips[0].depends_on[0].name, "payments/late");
    let event = stage.paper.events().pop().unwrap();
    assert_eq!(event.r#type, "decisions.simulated");
}

/// However large records are, so much of them is held for one answer, and the rest is told on the next pages.
#[tokio::test]
async fn records_that_are_large_are_tried_on_more_pages() {
    let stage = Stage::set_with(only(&["permit(principal, action, resource);"])).await;
    for n in 0..6 {
        stage.ask(&operator(), stage.asserted(agent_id(1)).resource(&format!("n/{n}")).action("invoice:list")).await;
    }
    let large = stage.paper.events().into_iter().map(|mut event| {
        event.details.insert("much".into(), "x".repeat(17 << 20));
        event
    });
    stage.log.0.lock().extend(large);
    let ask = Simulate {
        wanted: vec![binding(|b| b.resources.clear())],
        gone: Vec::new(),
        window: Duration::from_secs(3_600),
        page_token: String::new(),
        at_least_revision: 0,
        said: "this".into(),
    };
    let first = simulate(&stage.desk, &operator(), ask).await.unwrap();
    // Two records are a page of this log, and more than enough.
    assert_eq!(first.decisions, 2);
    assert!(!first.next_page_token.is_empty());
    assert_eq!(tried(&stage, vec![binding(|b| b.resources.clear())]).await.decisions, 6);
}

#[tokio::test]
async fn what_an_approval_lifts_is_not_called_a_denial() {
    let hold = "@approval(\"reads\") forbid(principal in Role::\"payer\", action, resource);";
    let mut stage = Stage::set_with(|mut all| {
        all.push(policy("four-eyes", PolicyMode::Enforce, hold));
        all
    })
    .await;
    stage.ask(&operator(), stage.asserted(agent_id(1))).await;
    stage.log.0.lock().extend(stage.paper.events());
    let spec =
        wire::RoleSpec { permissions: vec![permission("invoice:void", "Invoice", "*")], ..wire::RoleSpec::default() };
    let role = declared(Object::Role(wire::Role { metadata: meta("payer"), spec: Some(spec) }));
    let spec = wire::RoleBindingSpec {
        role: "payer".into(),
        agents: vec!["invoice-bot-1".into()],
        ..wire::RoleBindingSpec::default()
    };
    let pays = declared(Object::RoleBinding(wire::RoleBinding { metadata: meta("pays"), spec: Some(spec) }));
    let wanted = vec![role, pays];
    let told = tried(&stage, wanted.clone()).await;
    assert_eq!((told.to_deny, told.unsure), (1, 0), "nothing is approved");
    stage.change(vec![(super::approvals::approved(1, |_, _| ()), false)]).await;
    let told = tried(&stage, wanted.clone()).await;
    assert_eq!((told.to_deny, told.unsure), (0, 1));
    // It would be allowed indeed.
    stage.change(wanted.into_iter().map(|object| (object, false)).collect()).await;
    assert_eq!(stage.ask(&operator(), stage.asserted(agent_id(1))).await.answer.word(), "ALLOWED");
}

/// Figures for docs/performance.md: `cargo test --release -p legate-policy-decision --lib who_can_takes -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "prints figures, which mean something in a release build only"]
#[allow(clippy::print_stdout, reason = "it prints figures")]
async fn how_long_who_can_takes_with_many_agents() {
    for many in [10_000_u32, 100_000] {
        let stage = Stage::set_with(|mut all| {
            all.extend((0..many).map(|n| {
                agent(1, |a| {
                    let metadata = a.metadata.as_mut().unwrap();
                    metadata.name = format!("bot-{n:06}");
                    metadata.id = legate_ids::AgentId::from_parts(u64::from(n) + 2, [3; 10]).to_string();
                    a.spec.as_mut().unwrap().model = if n % 10 == 0 { "tenth".into() } else { "other".into() };
                })
            }));
            all.push(group("tenth", |g| g.selector = "model = tenth".into()));
            all.push(binding(|b| b.groups = vec!["tenth".into()]));
            all
        })
        .await;
        for (what, action) in [
            ("a tenth, by a group", "invoice:read"),
            ("all, by their class", "invoice:list"),
            ("nobody", "invoice:pay"),
        ] {
            let begun = std::time::Instant::now();
            let ask = |who: &mut WhoCan| {
                who.question.action = legate_ids::Action::parse(action).unwrap();
                who.page_size = 1_000;
            };
            let found = who(&stage, &operator(), ask).await.unwrap();
            println!("{many} agents, {what}: a page of {} in {:?}", found.holders.len(), begun.elapsed());
        }
    }
}

#[tokio::test]
async fn a_resource_that_a_policy_names_below_a_pattern_is_found() {
    const NAMED: &[&str] =
        &["permit(principal, action == Action::\"invoice:read\", resource == Invoice::\"apollo/7\");"];
    let stage = Stage::set_with(only(NAMED)).await;
    let ask = Search {
        sought: Sought::Resources,
        agent: agent_id(1),
        on_behalf_of: None,
        question: stage.asserted(agent_id(1)).question,
        is_partial: true,
        at_least_revision: 0,
    };
    let found = search(&stage.desk, &operator(), ask).await.unwrap();
    assert!(found.names.contains("apollo/7"), "{found:?}");
}
