//! That a question fits exactly where Cedar says so, and that what Legate gives is what its schema says.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeSet, HashSet};
use std::sync::LazyLock;

use cedar_policy::{Context, Entities, Entity, EntityUid, Request, Schema};
use legate_ids::{Action, ResourceId, ResourceType};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::domain::entities::{self, Words, pairs};
use crate::domain::question::Stated;

const SCHEMA: &str = r#"
type Sum = { amount: Long, currency?: String };
entity Invoice { region: String, sealed?: Bool, tags?: Set<String>, sum?: Sum };
entity Ledger;
action "invoice:read" appliesTo { principal: [Agent], resource: [Invoice, Ledger], context: { mfa?: Bool, on_behalf_of?: OnBehalfOf } };
action "invoice:pay" appliesTo { principal: [Agent], resource: [Invoice], context: { sums: Set<Sum> } };
"#;

static DECLARED: LazyLock<Declared> = LazyLock::new(|| Declared::parse(SCHEMA).unwrap());
static CEDARS: LazyLock<Schema> = LazyLock::new(|| DECLARED.schema(&BTreeSet::new()).unwrap());

fn question(action: &str, kind: &str, attributes: Record, context: Record) -> Question {
    Question {
        action: Action::parse(action).unwrap(),
        resource_type: ResourceType::parse(kind).unwrap(),
        resource_id: ResourceId::parse("apollo/1").unwrap(),
        attributes: Stated(attributes),
        context,
    }
}

/// Whether Cedar takes it.
fn fits(schema: &Schema, question: &Question) -> bool {
    let uid = |text: &str| text.parse::<EntityUid>().unwrap();
    let resource = uid(&format!("{}::\"apollo/1\"", question.resource_type));
    let attributes = pairs(&question.attributes.0).unwrap().into_iter().collect();
    let entity = Entity::new(resource.clone(), attributes, HashSet::new()).unwrap();
    let context = Context::from_pairs(pairs(&question.context).unwrap()).unwrap();
    let action = uid(&format!("Action::{:?}", question.action.as_str()));
    Entities::from_entities([entity], Some(schema)).is_ok()
        && Request::new(uid("Agent::\"a\""), action, resource, context, Some(schema)).is_ok()
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Long),
        "[a-z]{0,3}".prop_map(Value::Text),
    ];
    let name = || select(vec!["amount", "currency", "more"]).prop_map(str::to_owned);
    leaf.prop_recursive(3, 12, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Set),
            prop::collection::btree_map(name(), inner, 0..3).prop_map(Value::Record),
        ]
    })
}

/// One of the kind that is declared, more often than not.
fn fitting() -> impl Strategy<Value = Value> {
    let sum = |amount, currency: Option<String>| {
        let mut all = Record::from([("amount".to_owned(), Value::Long(amount))]);
        all.extend(currency.map(|text| ("currency".to_owned(), Value::Text(text))));
        Value::Record(all)
    };
    let sums = (any::<i64>(), prop::option::of("[a-z]{3}")).prop_map(move |(a, c)| sum(a, c));
    prop_oneof![
        value(),
        any::<bool>().prop_map(Value::Bool),
        "[a-z]{2}".prop_map(Value::Text),
        sums.clone(),
        prop::collection::vec(sums, 0..3).prop_map(Value::Set),
        prop::collection::vec("[a-z]{2}".prop_map(Value::Text), 0..3).prop_map(Value::Set),
    ]
}

fn values(names: Vec<&'static str>) -> impl Strategy<Value = Record> {
    prop::collection::btree_map(select(names).prop_map(str::to_owned), fitting(), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn it_fits_where_cedar_says_so(
        action in select(vec!["invoice:read", "invoice:pay", "invoice:list"]),
        kind in select(vec!["Invoice", "Invoice", "Ledger", "Other"]),
        mut attributes in values(vec!["region", "sealed", "tags", "sum", "other"]),
        has_region in any::<bool>(),
        context in values(vec!["mfa", "sums", "other"]),
    ) {
        if has_region && kind == "Invoice" {
            attributes.insert("region".into(), Value::Text("eu".into()));
        }
        let question = question(action, kind, attributes, context);
        prop_assert_eq!(misfit(&DECLARED, &question).is_none(), fits(&CEDARS, &question), "{:?}", question);
    }
}

#[test]
fn what_does_not_fit_is_told_without_its_value() {
    let text = |text: &str| Value::Text(text.to_owned());
    let region = || Record::from([("region".to_owned(), text("eu"))]);
    let told = |action: &str, kind: &str, attributes: Record, context: Record| {
        misfit(&DECLARED, &question(action, kind, attributes, context)).unwrap_or_default()
    };
    let with = |name: &str, value: Value| region().into_iter().chain([(name.to_owned(), value)]).collect::<Record>();
    assert_eq!(told("invoice:read", "Invoice", region(), Record::new()), "");
    assert_eq!(
        told("invoice:list", "Invoice", region(), Record::new()),
        "the namespace declares no action invoice:list"
    );
    assert_eq!(
        told("invoice:pay", "Ledger", Record::new(), Record::new()),
        "the namespace declares invoice:pay for other types than Ledger"
    );
    assert_eq!(told("invoice:read", "Invoice", Record::new(), Record::new()), "resource.region is missing");
    assert_eq!(
        told("invoice:read", "Invoice", with("sealed", text("hunter2")), Record::new()),
        "resource.sealed is not true or false, as is declared"
    );
    assert_eq!(
        told("invoice:read", "Invoice", with("tags", Value::Set(vec![text("a"), Value::Long(1)])), Record::new()),
        "resource.tags[] is not a text, as is declared"
    );
    assert_eq!(
        told("invoice:read", "Invoice", with("sum", Value::Record(Record::new())), Record::new()),
        "resource.sum.amount is missing"
    );
    assert_eq!(
        told("invoice:read", "Invoice", with("a\u{202e}b", text("")), Record::new()),
        "resource.(a name that is not plain) is not declared"
    );
    assert_eq!(told("invoice:pay", "Invoice", region(), Record::new()), "context.sums is missing");
    // For whom an agent acts is given by Legate: where it is not declared, policies do not see it, and it stands in no way.
    let behalf = Record::from([(ON_BEHALF_OF.to_owned(), text("")), ("sums".to_owned(), Value::Set(Vec::new()))]);
    assert_eq!(told("invoice:pay", "Invoice", region(), behalf), "");
}

#[test]
fn what_legate_gives_is_what_its_schema_says() {
    let signer = crate::testing::signer(1);
    let mut all = crate::testing::everything(&signer);
    all.push(crate::testing::group("readers", |spec| spec.agents = vec!["invoice-bot-1".into()]));
    let snapshot = legate_view::Snapshot::of(&all).unwrap();
    let agent = snapshot.agent(&crate::testing::agent_id(1)).unwrap();
    let labels = agent.labels.iter().map(|(name, _)| name.to_owned()).collect();
    let schema = DECLARED.schema(&labels).unwrap();
    let now = legate_clock::Timestamp::from_secs(crate::testing::NOW);
    let roles: Vec<_> = entities::roles_at(&snapshot, agent, now).collect();
    assert!(!roles.is_empty());
    let group = legate_ids::Name::parse("readers").unwrap();
    let words = Words::new();
    let principal = Arc::new(entities::principal(&words, agent, &roles, &[&group]).unwrap());
    let region = Record::from([("region".to_owned(), Value::Text("eu".to_owned()))]);
    let asked =
        entities::asked(&words, principal, &question("invoice:read", "Invoice", region, Record::new()), &[]).unwrap();
    // Every attribute is of its type, none is there that is not declared, and the agent is in nothing else.
    let every: Vec<Entity> = asked.entities.iter().cloned().collect();
    Entities::from_entities(every, Some(&schema)).unwrap();
    for (name, _, is_always) in legate_cedar::ATTRIBUTES {
        let has = asked
            .entities
            .iter()
            .any(|entity| entity.uid().type_name().to_string() == "Agent" && entity.attr(name).is_some());
        assert!(has || !is_always, "{name}");
    }
}
