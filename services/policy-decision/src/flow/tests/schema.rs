//! What a namespace declares of what callers state: nothing is allowed that was asked in another way, and a denial stays what it was.

use legate_wire::registry as wire;
use legate_wire::registry::PolicyMode::Enforce;
use legate_wire::registry::declaration::Object;

use crate::domain::answer::Denial;
use crate::domain::question::Value;
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
