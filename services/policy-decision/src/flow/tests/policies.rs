//! Cedar: what permits, what forbids, what fails, and what is still being compiled.

use std::time::{Duration, Instant};

use legate_wire::registry as wire;
use legate_wire::registry::PolicyMode::{Enforce, LogOnly};
use legate_wire::registry::declaration::Object;

use crate::domain::answer::{CauseKind, Denial};
use crate::domain::question::Value;
use crate::store::library::held::Held;
use crate::testing::*;

/// The same policy in the namespace `sales`.
fn of_sales(mut policy: wire::Declaration) -> wire::Declaration {
    if let Some(Object::Policy(policy)) = &mut policy.object {
        policy.metadata.as_mut().unwrap().namespace = "sales".into();
    }
    policy
}

#[tokio::test]
async fn a_forbid_wins_and_is_named_alone() {
    let stage = Stage::set().await;
    let spoken = stage.ask(&enforcer("invoices"), stage.good().attribute("sealed", Value::Bool(true))).await;
    assert_eq!(spoken.answer.word(), "FORBIDDEN_BY_POLICY");
    assert_eq!(spoken.answer.denied.unwrap().kind(), Denial::Forbidden);
    let causes: Vec<_> = spoken.answer.causes.iter().map(|c| (c.kind, c.name.as_str(), c.version)).collect();
    assert_eq!(causes, [(CauseKind::Forbid, "payments/sealed", 1)]);
    assert_eq!(spoken.valid_until, None);
}

/// Nobody asks what permits where something forbids: a permit that fails is not told of, and no order of names changes that.
#[tokio::test]
async fn where_something_forbids_what_permits_is_not_asked() {
    let mut stage = Stage::set().await;
    let failing =
        policy("a-permit-that-fails", Enforce, "permit(principal, action, resource) when { context.nonsense };");
    let broken =
        policy("z-forbid-that-fails", Enforce, "forbid(principal, action, resource) when { context.nonsense };");
    stage.change(vec![(failing, false), (broken.clone(), false)]).await;
    let sealed = || stage.good().attribute("sealed", Value::Bool(true));
    let spoken = stage.ask(&enforcer("invoices"), sealed()).await;
    let causes: Vec<_> = spoken.answer.causes.iter().map(|c| (c.kind, c.name.as_str())).collect();
    assert_eq!(causes, [(CauseKind::Forbid, "payments/sealed")]);
    // A forbid that fails decides nothing by itself, so that what permits is asked, and denies where nothing forbids.
    let spoken = stage.ask(&enforcer("invoices"), stage.good()).await;
    let causes: Vec<_> = spoken.answer.causes.iter().map(|c| (c.kind, c.name.as_str())).collect();
    assert_eq!(causes, [(CauseKind::PolicyError, "payments/z-forbid-that-fails")]);
    stage.change(vec![(broken, true)]).await;
    assert_eq!(stage.word(stage.good()).await, "ALLOWED");
}

#[tokio::test]
async fn without_policies_nothing_is_permitted() {
    let mut stage = Stage::set().await;
    stage.change(vec![(policy("production", Enforce, ""), true)]).await;
    assert_eq!(stage.word(stage.good()).await, "NO_POLICY_PERMITS", "only the forbid is left");
    stage.change(vec![(policy("sealed", Enforce, ""), true)]).await;
    assert_eq!(stage.word(stage.good()).await, "NO_POLICY_PERMITS", "none is left");
}

#[tokio::test]
async fn a_forbid_that_fails_denies() {
    let mut stage = Stage::set().await;
    // Fails where the attribute is missing; plain Cedar would skip it and allow.
    stage
        .change(vec![(
            policy("amount", Enforce, "forbid(principal, action, resource) when { resource.amount > 100 };"),
            false,
        )])
        .await;
    let spoken = stage.ask(&enforcer("invoices"), stage.good()).await;
    assert_eq!(spoken.answer.word(), "POLICY_ERROR");
    assert_eq!(spoken.answer.denied.unwrap().kind(), Denial::Undecided);
    assert_eq!(spoken.answer.causes[0].name, "payments/amount");
    for (amount, word) in [(100, "ALLOWED"), (101, "FORBIDDEN_BY_POLICY")] {
        assert_eq!(stage.word(stage.good().attribute("amount", Value::Long(amount))).await, word);
    }
    // Of the wrong type it fails as well.
    assert_eq!(stage.word(stage.good().attribute("amount", Value::Text("1".into()))).await, "POLICY_ERROR");
}

#[tokio::test]
async fn a_permit_that_fails_permits_nothing_and_harms_nothing() {
    let mut stage = Stage::set().await;
    let failing = policy("odd", Enforce, "permit(principal, action, resource) when { context.nonsense };");
    stage.change(vec![(failing, false)]).await;
    assert_eq!(stage.word(stage.good()).await, "ALLOWED");
    stage.change(vec![(policy("production", Enforce, ""), true)]).await;
    assert_eq!(stage.word(stage.good()).await, "NO_POLICY_PERMITS");
}

#[tokio::test]
async fn one_policy_that_cannot_be_read_makes_its_namespace_undecidable() {
    let mut stage = Stage::set().await;
    for broken in ["forbid(principal, action, resource", "", "permit(principal == ?principal, action, resource);"] {
        stage.change(vec![(policy("broken", Enforce, broken), false)]).await;
        // The set before would have allowed: it is not used in its stead.
        let spoken = stage.ask(&enforcer("invoices"), stage.good()).await;
        assert_eq!(spoken.answer.word(), "POLICY_ERROR", "{broken}");
        // What needs no policy is still said.
        assert_eq!(stage.word(stage.good().action("invoice:delete")).await, "NOT_PERMITTED");
    }
    stage.change(vec![(policy("broken", Enforce, ""), true)]).await;
    assert_eq!(stage.word(stage.good()).await, "ALLOWED");
}

#[tokio::test]
async fn log_only_decides_nothing_and_is_reported() {
    let mut stage = Stage::set().await;
    stage
        .change(vec![
            (policy("trial", LogOnly, "forbid(principal, action, resource);"), false),
            (policy("trial-fails", LogOnly, "forbid(principal, action, resource) when { context.nonsense };"), false),
        ])
        .await;
    let spoken = stage.ask(&enforcer("invoices"), stage.good()).await;
    assert_eq!(spoken.answer.word(), "ALLOWED");
    let said: Vec<_> = spoken.answer.log_only.iter().map(|c| (c.kind, c.name.as_str())).collect();
    assert_eq!(said, [(CauseKind::Forbid, "payments/trial"), (CauseKind::PolicyError, "payments/trial-fails")]);
    // A permit in LOG_ONLY permits nothing either.
    stage
        .change(vec![
            (policy("production", Enforce, ""), true),
            (policy("trial", LogOnly, "permit(principal, action, resource);"), false),
        ])
        .await;
    assert_eq!(stage.word(stage.good()).await, "NO_POLICY_PERMITS");
}

#[tokio::test]
async fn policies_see_the_agent_its_class_its_roles_and_the_context() {
    let mut stage = Stage::set().await;
    stage.change(vec![(policy("production", Enforce, ""), true)]).await;
    let mut good = stage.good();
    good.question.context.insert("tags".into(), Value::Set(vec![Value::Text("x".into())]));
    for condition in [
        format!("principal == Agent::\"{}\"", agent_id(1)),
        "principal in AgentClass::\"invoice-worker\"".into(),
        "principal in Role::\"invoice-reader\"".into(),
        "principal.name == \"invoice-bot-1\" && principal.namespace == \"payments\"".into(),
        "principal.class == \"invoice-worker\" && principal.owners.contains(\"user:ada\")".into(),
        "!(principal has risk_tier)".into(),
        "action == Action::\"invoice:read\"".into(),
        "resource == Invoice::\"apollo/1001\"".into(),
        "context.tags.contains(\"x\")".into(),
    ] {
        let text = format!("permit(principal, action, resource) when {{ {condition} }};");
        stage.change(vec![(policy("only", Enforce, &text), false)]).await;
        let mut again = stage.good();
        again.question.context.clone_from(&good.question.context);
        assert_eq!(stage.word(again).await, "ALLOWED", "{condition}");
    }
    let elsewhere = "permit(principal in Role::\"other\", action, resource);";
    stage.change(vec![(policy("only", Enforce, elsewhere), false)]).await;
    assert_eq!(stage.word(stage.good()).await, "NO_POLICY_PERMITS");
}

#[tokio::test]
async fn a_role_is_seen_only_while_its_binding_holds() {
    let mut stage = Stage::set().await;
    let over = Some(prost_types::Timestamp { seconds: NOW - 1, nanos: 0 });
    stage
        .change(vec![
            (binding(|b| b.not_after = over), false),
            (policy("production", Enforce, "permit(principal in Role::\"invoice-reader\", action, resource);"), false),
        ])
        .await;
    // Of the class, so it is granted without the binding.
    assert_eq!(stage.word(stage.good().action("invoice:list")).await, "NO_POLICY_PERMITS");
}

/// The condition of a binding is a policy about its role (docs/governing.md, "Conditions of bindings"): both forms of it.
#[tokio::test]
async fn a_policy_about_a_role_is_the_condition_of_what_its_bindings_give() {
    let mut stage = Stage::set().await;
    let with = |stage: &Stage, ticket: Option<&str>| {
        let mut ask = stage.good();
        ask.question.context.extend(ticket.map(|text| ("ticket".to_owned(), Value::Text(text.into()))));
        ask
    };
    let asked = [(None, false), (Some(""), false), (Some("CHG-7"), false), (Some("INC-7"), true)];

    // Nothing else permits it: the permit of the role says when.
    let permit =
        "permit(principal in Role::\"invoice-reader\", action == Action::\"invoice:read\", resource is Invoice)
        when { context has ticket && context.ticket like \"INC-*\" };";
    stage.change(vec![(policy("production", Enforce, permit), false)]).await;
    for (ticket, is_allowed) in asked {
        let word = stage.word(with(&stage, ticket)).await;
        assert_eq!(word, if is_allowed { "ALLOWED" } else { "NO_POLICY_PERMITS" }, "{ticket:?}");
    }

    // Something permits whatever is granted: the role forbids unless.
    let everything = "permit(principal, action, resource);";
    let forbid =
        "forbid(principal in Role::\"invoice-reader\", action == Action::\"invoice:read\", resource is Invoice)
        unless { context has ticket && context.ticket like \"INC-*\" || principal in Role::\"invoice-auditor\" };";
    stage
        .change(vec![
            (policy("production", Enforce, everything), false),
            (policy("readers-on-call", Enforce, forbid), false),
        ])
        .await;
    for (ticket, is_allowed) in asked {
        let word = stage.word(with(&stage, ticket)).await;
        assert_eq!(word, if is_allowed { "ALLOWED" } else { "FORBIDDEN_BY_POLICY" }, "{ticket:?}");
    }
    // What the class gives is under no such condition, nor is whoever has it by the role beside it.
    assert_eq!(stage.word(with(&stage, None).action("invoice:list")).await, "ALLOWED");
    let spec =
        wire::RoleSpec { permissions: vec![permission("invoice:read", "Invoice", "*")], ..wire::RoleSpec::default() };
    let auditor = declared(Object::Role(wire::Role { metadata: meta("invoice-auditor"), spec: Some(spec) }));
    let mut beside = binding(|b| b.role = "invoice-auditor".into());
    if let Some(Object::RoleBinding(beside)) = &mut beside.object {
        let metadata = beside.metadata.as_mut().unwrap();
        (metadata.name, metadata.id) = ("audits-apollo".into(), "obj_audits-apollo".into());
    }
    stage.change(vec![(auditor, false), (beside, false)]).await;
    assert_eq!(stage.word(with(&stage, None)).await, "ALLOWED");
}

/// Of a role that cannot be read here nothing is granted, and nothing that is forbidden to its holders is allowed.
#[tokio::test]
async fn a_role_that_cannot_be_read_is_held_all_the_same() {
    let mut stage = Stage::set().await;
    let forbid = "forbid(principal in Role::\"invoice-reader\", action, resource);";
    stage.change(vec![(policy("sealed", Enforce, forbid), false)]).await;
    let listing = || stage.good().action("invoice:list");
    assert_eq!(stage.word(listing()).await, "FORBIDDEN_BY_POLICY");
    let unreadable = Object::Role(wire::Role { metadata: meta("invoice-reader"), spec: None });
    stage.change(vec![(declared(unreadable), false)]).await;
    assert_eq!(stage.word(stage.good().action("invoice:list")).await, "FORBIDDEN_BY_POLICY");
    assert_eq!(stage.word(stage.good()).await, "NOT_PERMITTED");
}

#[tokio::test]
async fn policies_of_another_namespace_decide_nothing_here() {
    let mut stage = Stage::set().await;
    let foreign = of_sales(policy("all", Enforce, "forbid(principal, action, resource);"));
    stage.change(vec![(foreign, false)]).await;
    assert_eq!(stage.word(stage.good()).await, "ALLOWED");
}

/// The first word about a question at `revision` that is not a call to try again: whoever shares a slow machine is told that.
async fn at_last(stage: &Stage, revision: u64) -> &'static str {
    let begin = Instant::now();
    loop {
        let mut ask = stage.good();
        ask.at_least_revision = revision;
        match stage.word(ask).await {
            "POLICY_NOT_READY" => assert!(begin.elapsed() < Duration::from_secs(60), "it is never compiled"),
            other => return other,
        }
    }
}

#[tokio::test]
async fn one_namespace_that_is_compiled_holds_up_no_other() {
    let held = Held::default();
    let mut stage = Stage::set_by(held.library(), |all| all).await;
    held.hold("sales");
    stage.tell(vec![(of_sales(policy("all", Enforce, "permit(principal, action, resource);")), false)]);
    // It is held while others change, several times.
    for (revision, text, word) in [
        (3, "forbid(principal, action, resource);", "FORBIDDEN_BY_POLICY"),
        (4, "permit(principal, action, resource);", "ALLOWED"),
        (5, "forbid(principal, action, resource);", "FORBIDDEN_BY_POLICY"),
    ] {
        stage.tell(vec![(policy("sealed", Enforce, text), false)]);
        assert_eq!(at_last(&stage, revision).await, word, "{revision}");
    }
    let sales = legate_ids::Name::parse("sales").unwrap();
    let shelved = |stage: &Stage| {
        let snapshot = stage.desk.view.current();
        stage.desk.library.find(&sales, snapshot.policies("sales").unwrap())
    };
    assert!(shelved(&stage).is_none(), "it was not held, so this shows nothing");
    // What changes while it is compiled is not passed off as what was compiled.
    let changed = of_sales(policy("all", Enforce, "forbid(principal, action, resource);"));
    stage.tell(vec![(changed, false)]);
    stage.desk.view.wait_for(6, PATIENCE).await.unwrap();
    held.free("sales");
    let mut filled = stage.desk.library.filled();
    let begin = Instant::now();
    while shelved(&stage).is_none() {
        assert!(begin.elapsed() < Duration::from_secs(60), "it is never compiled again");
        drop(tokio::time::timeout(Duration::from_secs(1), filled.changed()).await);
    }
    assert_eq!(shelved(&stage).unwrap().unwrap().len(), (1, 0));
}
