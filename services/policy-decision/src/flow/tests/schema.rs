//! What a namespace declares of what callers state: nothing is allowed that was asked in another way, and a denial stays what it was.

use legate_wire::policy::{AccessEffect, FindingKind};
use legate_wire::registry as wire;
use legate_wire::registry::PolicyMode::Enforce;
use legate_wire::registry::declaration::Object;

use super::search::only;
use crate::domain::answer::Denial;
use crate::domain::question::Value;
use crate::flow::{Preview, Replay, Simulate, preview, replay, simulate};
use crate::testing::*;

const SCHEMA: &str = "entity Invoice { amount: Long, sealed?: Bool };\
    action \"invoice:read\" appliesTo { principal: [Agent], resource: [Invoice], context: { mfa?: Bool } };";

/// The namespace, declaring this.
fn declaring(schema: &str) -> wire::Declaration {
    let spec = wire::NamespaceSpec { policy_schema: schema.into(), ..wire::NamespaceSpec::default() };
    let metadata = Some(wire::Metadata { name: "payments".into(), ..wire::Metadata::default() });
    declared(Object::Namespace(wire::Namespace { metadata, spec: Some(spec), status: None }))
}

#[tokio::test]
async fn what_does_not_fit_is_allowed_nothing() {
    let mut stage = Stage::set().await;
    let whole = |stage: &Stage| stage.good().attribute("amount", Value::Long(7));
    assert_eq!(stage.word(stage.good()).await, "ALLOWED");
    stage.change(vec![(declaring(SCHEMA), false)]).await;
    assert_eq!(stage.word(whole(&stage)).await, "ALLOWED");
    let spoken = stage.ask(&enforcer("invoices"), stage.good()).await;
    assert_eq!((spoken.answer.word(), spoken.answer.denied.unwrap().kind()), ("OUTSIDE_SCHEMA", Denial::NotPermitted));
    assert_eq!(spoken.answer.causes[0].text, "resource.amount is missing");
    assert_eq!(spoken.valid_until, None);
    let mut secret = whole(&stage);
    secret.question.context.insert("mfa".into(), Value::Text("hunter2".into()));
    let spoken = stage.ask(&enforcer("invoices"), secret).await;
    assert_eq!(spoken.answer.word(), "OUTSIDE_SCHEMA");
    assert!(!format!("{} {:?}", spoken.message, spoken.answer).contains("hunter2"), "{}", spoken.message);
    // What is denied is denied by what denies it.
    assert_eq!(stage.word(stage.good().action("invoice:delete")).await, "NOT_PERMITTED");
    assert_eq!(stage.word(stage.good().attribute("sealed", Value::Bool(true))).await, "FORBIDDEN_BY_POLICY");
    assert_eq!(stage.word(stage.good().action("invoice:list")).await, "OUTSIDE_SCHEMA", "it declares another action");

    // Another schema counts at once, and none lets callers state anything again.
    stage.change(vec![(declaring(&SCHEMA.replace("amount: Long", "amount?: Long")), false)]).await;
    assert_eq!(stage.word(stage.good()).await, "ALLOWED");
    stage.change(vec![(declaring("entity Broken {"), false)]).await;
    assert_eq!(stage.word(whole(&stage)).await, "OUTSIDE_SCHEMA", "what cannot be read lets nothing through");
    stage.change(vec![(declaring(""), false)]).await;
    assert_eq!(stage.word(stage.good()).await, "ALLOWED");
    stage.change(vec![(declaring(SCHEMA), false), (declaring(SCHEMA), true)]).await;
    assert_eq!(stage.word(stage.good()).await, "ALLOWED", "with the namespace its schema went");
}

#[tokio::test]
async fn a_forbid_that_fails_still_denies_where_a_schema_is() {
    let mut stage = Stage::set().await;
    let forbid = "forbid(principal, action, resource) when { resource.amount + 9223372036854775807 > 0 };";
    stage.change(vec![(declaring(SCHEMA), false), (policy("amount", Enforce, forbid), false)]).await;
    assert_eq!(stage.word(stage.good().attribute("amount", Value::Long(7))).await, "POLICY_ERROR");
}

/// The same with reading in a group that is in another.
const GROUPED: &str = "entity Invoice { amount: Long, sealed?: Bool };\
    action \"all\"; action \"reads\" in [\"all\"];\
    action \"invoice:read\" in [\"reads\"] appliesTo { principal: [Agent], resource: [Invoice], context: { mfa?: Bool } };";

#[tokio::test]
async fn what_speaks_of_a_group_speaks_of_every_action_in_it() {
    let mut stage = Stage::set_with(only(&["permit(principal, action in Action::\"all\", resource);"])).await;
    let whole = |stage: &Stage| stage.good().attribute("amount", Value::Long(7));
    assert_eq!(stage.word(whole(&stage)).await, "NO_POLICY_PERMITS", "nothing declares the group");
    stage.change(vec![(declaring(GROUPED), false)]).await;
    assert_eq!(stage.word(whole(&stage)).await, "ALLOWED");
    for (name, rule) in [
        ("scope", "forbid(principal, action in [Action::\"invoice:read\", Action::\"reads\"], resource);"),
        ("condition", "forbid(principal, action, resource) when { action in Action::\"reads\" };"),
    ] {
        stage.change(vec![(policy(name, Enforce, rule), false)]).await;
        let spoken = stage.ask(&enforcer("invoices"), whole(&stage)).await;
        assert_eq!(spoken.answer.word(), "FORBIDDEN_BY_POLICY", "{name}");
        assert_eq!(spoken.answer.causes.len(), 1, "{name} is told once: {:?}", spoken.answer.causes);
        stage.change(vec![(policy(name, Enforce, rule), true)]).await;
    }
    let approval = "@approval(\"r\") forbid(principal, action in Action::\"reads\", resource);";
    stage.change(vec![(policy("held", Enforce, approval), false)]).await;
    assert_eq!(stage.word(whole(&stage)).await, "APPROVAL_REQUIRED");
    stage.change(vec![(policy("held", Enforce, approval), true)]).await;
    // The policies are as they were, and the action is in the group no more.
    stage.change(vec![(declaring(&GROUPED.replace(" in [\"all\"]", "")), false)]).await;
    assert_eq!(stage.word(whole(&stage)).await, "NO_POLICY_PERMITS");
    // What is only a group is nothing that anybody does.
    stage.change(vec![(declaring(GROUPED), false)]).await;
    assert_eq!(stage.word(whole(&stage)).await, "ALLOWED");
    let permit = policy("group", Enforce, "permit(principal, action == Action::\"reads\", resource);");
    stage.change(vec![(permit, false)]).await;
    assert_ne!(stage.word(whole(&stage).action("reads")).await, "ALLOWED");
}

#[tokio::test]
async fn a_preview_knows_what_is_in_a_group() {
    let mut stage = Stage::set_with(only(&["permit(principal, action in Action::\"all\", resource);"])).await;
    let preview = async |stage: &Stage, wanted| {
        let ask = Preview { wanted: vec![wanted], ..Preview::default() };
        let told = preview(&stage.desk, &operator(), ask).await.unwrap();
        told.changes.iter().map(|one| (one.action.clone(), one.effect())).collect::<Vec<_>>()
    };
    let (gains, loses) = (AccessEffect::Gains, AccessEffect::Loses);
    assert_eq!(preview(&stage, declaring(GROUPED)).await, [("invoice:read".to_owned(), gains)]);
    stage.change(vec![(declaring(GROUPED), false)]).await;
    let none = GROUPED.replace(" in [\"reads\"]", "");
    assert_eq!(preview(&stage, declaring(&none)).await, [("invoice:read".to_owned(), loses)]);
    let forbid = policy("no-reads", Enforce, "forbid(principal, action in Action::\"reads\", resource);");
    assert_eq!(preview(&stage, forbid).await, [("invoice:read".to_owned(), loses)]);
}

fn log(stage: &Stage, change: impl Fn(&mut legate_wire::audit::AuditEvent)) {
    let mut all: Vec<_> = stage.paper.events().into_iter().filter(|event| event.r#type == "decision.made").collect();
    all.iter_mut().for_each(change);
    *stage.log.0.lock() = all;
}

#[tokio::test]
async fn a_preview_says_what_the_registry_would_refuse_and_what_a_schema_shuts_out() {
    let stage = Stage::set().await;
    let typo = policy("typo", Enforce, "forbid(principal, action, resource) when { resource has sealde };");
    let ask = Preview { wanted: vec![declaring(SCHEMA), typo.clone()], ..Preview::default() };
    let told = preview(&stage.desk, &operator(), ask).await.unwrap();
    let unfit: Vec<_> = told.findings.iter().filter(|one| one.kind() == FindingKind::PolicyUnfit).collect();
    let [unfit] = unfit[..] else { panic!("{:?}", told.findings) };
    for said in
        ["policy payments/typo does not fit", "asks whether the resource has `sealde`", "declared are amount, sealed"]
    {
        assert!(unfit.text.contains(said), "{}", unfit.text);
    }
    let lost: Vec<_> = told.changes.iter().filter(|one| one.effect() == AccessEffect::Loses).collect();
    let [lost] = lost[..] else { panic!("{:?}", told.changes) };
    assert_eq!(lost.action, "invoice:list");
    assert_eq!(lost.reasons[0].text, "the namespace declares no action invoice:list");
    // A policy in force that meets a new schema is looked at as well; without a schema nobody can say what callers state.
    let other = SCHEMA.replace("sealed?: Bool", "closed?: Bool");
    let told =
        preview(&stage.desk, &operator(), Preview { wanted: vec![declaring(&other)], ..Preview::default() }).await;
    let unfit = told.unwrap().findings.into_iter().find(|one| one.kind() == FindingKind::PolicyUnfit).unwrap();
    assert!(unfit.text.starts_with("policy payments/sealed does not fit"), "{}", unfit.text);
    let told = preview(&stage.desk, &operator(), Preview { wanted: vec![typo], ..Preview::default() }).await.unwrap();
    assert!(told.findings.iter().all(|one| one.kind() != FindingKind::PolicyUnfit), "{:?}", told.findings);
    let ask = Preview { wanted: vec![declaring("entity {")], ..Preview::default() };
    let broken = preview(&stage.desk, &operator(), ask).await.unwrap();
    assert!(broken.findings.iter().any(|one| one.text.starts_with("the policySchema of payments cannot")));
}

#[tokio::test]
async fn what_is_tried_on_records_is_held_against_the_schema_as_far_as_they_tell() {
    let stage = Stage::set_with(only(&["permit(principal, action, resource);"])).await;
    assert_eq!(stage.ask(&operator(), stage.asserted(agent_id(1))).await.answer.word(), "ALLOWED");
    assert_eq!(
        stage.ask(&operator(), stage.asserted(agent_id(1)).action("invoice:list")).await.answer.word(),
        "ALLOWED"
    );
    log(&stage, |_| ());
    let ask = |wanted| Simulate {
        wanted,
        gone: Vec::new(),
        window: std::time::Duration::from_secs(3_600),
        page_token: String::new(),
        at_least_revision: 0,
        said: "this".into(),
    };
    let typo = policy("typo", Enforce, "permit(principal, action, resource) when { context has mfaa };");
    let told = simulate(&stage.desk, &operator(), ask(vec![declaring(SCHEMA), typo])).await.unwrap();
    // The action is on record and what else was stated is not.
    assert_eq!((told.decisions, told.to_deny, told.unsure), (2, 1, 1), "{:?}", told.flips);
    assert!(told.flips[1].depends_on[0].text.contains("does not hold all that was stated"));
    assert!(told.unfit[0].contains("asks whether the context has `mfaa`"), "{:?}", told.unfit);
    let more = policy("more", Enforce, "permit(principal, action, resource);");
    let told = simulate(&stage.desk, &operator(), ask(vec![more])).await.unwrap();
    assert_eq!((told.to_deny, told.unsure, told.unfit), (0, 0, Vec::new()));
}

#[tokio::test]
async fn a_replay_asks_whether_a_question_fitted_then() {
    let mut stage = Stage::set_with(only(&["permit(principal, action, resource);"])).await;
    stage.change(vec![(declaring(SCHEMA), false)]).await;
    let asked = |stage: &Stage| stage.asserted(agent_id(1));
    let mut words = Vec::new();
    for ask in [asked(&stage).attribute("amount", Value::Long(7)), asked(&stage), asked(&stage).action("invoice:list")]
    {
        words.push(stage.ask(&operator(), ask).await.answer.word());
    }
    assert_eq!(words, ["ALLOWED", "OUTSIDE_SCHEMA", "OUTSIDE_SCHEMA"]);
    let told = async |stage: &Stage| {
        let ask = Replay {
            namespace: legate_ids::Name::parse("payments").unwrap(),
            agent: None,
            from: legate_clock::Timestamp::from_secs(NOW - 3_600),
            to: legate_clock::Timestamp::from_secs(NOW + 3_600),
            page_token: String::new(),
            said: "this".into(),
        };
        let (mut same, mut differ, mut unsure, mut page_token) = (0, 0, 0, String::new());
        loop {
            let page = replay(&stage.desk, &operator(), Replay { page_token, ..ask.clone() }).await.unwrap();
            (same, differ, unsure) = (same + page.same, differ + page.differ, unsure + page.unsure);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return (same, differ, unsure);
            }
        }
    };
    log(&stage, |_| ());
    // That an amount was missing is not on record; that the action is not declared is in the history.
    assert_eq!(told(&stage).await, (2, 0, 1));
    log(&stage, |event| {
        event.decision.as_mut().unwrap().allowed = true;
        event.decision.as_mut().unwrap().denial.clear();
        event.reason_code = "ALLOWED".into();
    });
    assert_eq!(told(&stage).await, (2, 1, 0), "what nobody could be allowed was not");
    log(&stage, |event| {
        event.decision.as_mut().unwrap().allowed = false;
        event.decision.as_mut().unwrap().denial = "NOT_PERMITTED".into();
        event.reason_code = "OUTSIDE_SCHEMA".into();
        event.revision = 1;
    });
    assert_eq!(told(&stage).await, (0, 3, 0), "nothing was declared then");
}
