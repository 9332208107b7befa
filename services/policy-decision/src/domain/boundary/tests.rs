//! A boundary can only cut, and a narrower one cuts no less.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use legate_authority::{Hours, Week};
use legate_ids::{Action, Name, ResourceId, ResourceType};
use legate_view::Label;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::domain::question::{Record, Stated};

const WORDS: [&str; 3] = ["a", "b", "c"];
const ENVIRONMENTS: [&str; 3] = ["dev", "test", "prod"];

fn boundary() -> Boundary {
    let name = |text| Name::parse(text).unwrap();
    Boundary {
        label: Label {
            namespace: name("pay"),
            name: name("eu-only"),
            id: "obj_1".into(),
            version: 1,
            revision: 1,
            created: Timestamp::default(),
            updated: Timestamp::default(),
        },
        agents: BTreeSet::new(),
        groups: BTreeSet::new(),
        classes: BTreeSet::new(),
        named_only: false,
        regions: BTreeSet::new(),
        data_classifications: BTreeSet::new(),
        purposes: BTreeSet::new(),
        regimes: BTreeSet::new(),
        environments: BTreeSet::new(),
        hours: None,
    }
}

fn question(attributes: Record, context: Record) -> Question {
    Question {
        action: Action::parse("invoice:read").unwrap(),
        resource_type: ResourceType::parse("Invoice").unwrap(),
        resource_id: ResourceId::parse("1").unwrap(),
        attributes: Stated(attributes),
        context,
    }
}

fn texts(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(ToString::to_string).collect()
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn parts(boundary: &Boundary, question: &Question) -> Vec<Part> {
    cuts(boundary, "prod", question, Timestamp::default()).collect()
}

#[test]
fn what_is_limited_has_to_be_stated_in_its_form() {
    let limits = Boundary { regions: texts(&["eu"]), data_classifications: texts(&["pii", "public"]), ..boundary() };
    let asked = |name: &str, value| question(Record::from([(name.to_owned(), value)]), Record::new());
    let set = |all: &[&str]| Value::Set(all.iter().map(|t| text(t)).collect());
    for (name, value, cut) in [
        ("region", text("eu"), vec![Part::Data]),
        ("region", text("eu "), vec![Part::Region, Part::Data]),
        ("region", text("us"), vec![Part::Region, Part::Data]),
        ("region", set(&["eu"]), vec![Part::Region, Part::Data]),
        ("region", Value::Bool(true), vec![Part::Region, Part::Data]),
        ("data_classification", text("pii"), vec![Part::Region]),
        ("data_classification", set(&["pii", "public"]), vec![Part::Region]),
        ("data_classification", set(&[]), vec![Part::Region]),
        ("data_classification", set(&["pii", "secret"]), vec![Part::Region, Part::Data]),
        ("data_classification", Value::Set(vec![text("pii"), Value::Long(1)]), vec![Part::Region, Part::Data]),
        ("data_classification", Value::Set(vec![set(&["pii"])]), vec![Part::Region, Part::Data]),
        ("data_classification", Value::Record(Record::new()), vec![Part::Region, Part::Data]),
        ("other", text("eu"), vec![Part::Region, Part::Data]),
    ] {
        let question = asked(name, value);
        assert_eq!(parts(&limits, &question), cut, "{:?}", question.attributes);
    }
}

#[test]
fn a_resource_is_under_regimes_that_are_listed_and_under_one_at_least() {
    let limits = Boundary { regimes: texts(&["GDPR", "HIPAA"]), ..boundary() };
    let asked =
        |value: Option<Value>| question(value.map(|v| ("regime".to_owned(), v)).into_iter().collect(), Record::new());
    let set = |all: &[&str]| Value::Set(all.iter().map(|t| text(t)).collect());
    for (value, cut) in [
        (Some(text("GDPR")), false),
        (Some(set(&["GDPR"])), false),
        (Some(set(&["GDPR", "HIPAA"])), false),
        (None, true),
        (Some(set(&[])), true),
        (Some(text("gdpr")), true),
        (Some(text("")), true),
        (Some(set(&["GDPR", "PCI"])), true),
        (Some(Value::Set(vec![text("GDPR"), Value::Bool(true)])), true),
        (Some(Value::Bool(true)), true),
    ] {
        let question = asked(value);
        assert_eq!(parts(&limits, &question) == [Part::Regime], cut, "{:?}", question.attributes);
        assert_eq!(parts(&boundary(), &question), [], "a boundary that lists none limits none");
    }
    // Stated of the question it says nothing of the resource.
    let context = question(Record::new(), Record::from([("regime".to_owned(), text("GDPR"))]));
    assert_eq!(parts(&limits, &context), [Part::Regime]);
}

#[test]
fn a_purpose_is_of_the_question_and_an_environment_of_the_agent() {
    let limits = Boundary { purposes: texts(&["audit"]), environments: ["prod"].into(), ..boundary() };
    let said = |purpose| question(Record::new(), Record::from([("purpose".to_owned(), text(purpose))]));
    assert_eq!(parts(&limits, &said("audit")), []);
    assert_eq!(parts(&limits, &said("sales")), [Part::Purpose]);
    // Stated of the resource it says nothing of the question.
    let attribute = question(Record::from([("purpose".to_owned(), text("audit"))]), Record::new());
    assert_eq!(parts(&limits, &attribute), [Part::Purpose]);
    for (environment, cut) in [("prod", false), ("dev", true), ("", true)] {
        let cuts: Vec<_> = cuts(&limits, environment, &said("audit"), Timestamp::default()).collect();
        assert_eq!(cuts == [Part::Environment], cut, "{environment}");
    }
}

fn words() -> impl Strategy<Value = BTreeSet<String>> {
    subsequence(&WORDS[..], 0..=3).prop_map(|all| texts(&all))
}

fn hours() -> impl Strategy<Value = Vec<Hours>> {
    let one = (any::<[bool; 7]>(), 0u32..1_440, 1u32..=1_440);
    let one = one.prop_filter_map("empty", |(days, from, until)| Hours::new(days, from, until).ok());
    proptest::collection::vec(one, 1..4)
}

/// A boundary, and the hours that it is made of.
fn any_boundary() -> impl Strategy<Value = (Boundary, Option<Vec<Hours>>)> {
    let environments = subsequence(&ENVIRONMENTS[..], 0..=3);
    (words(), words(), words(), words(), environments, option::of(hours())).prop_map(
        |(regions, data, purposes, regimes, environments, hours)| {
            let week = hours.clone().map(Week::new);
            let environments = environments.into_iter().collect();
            let limits = Boundary {
                regions,
                data_classifications: data,
                purposes,
                regimes,
                environments,
                hours: week,
                ..boundary()
            };
            (limits, hours)
        },
    )
}

fn value() -> impl Strategy<Value = Value> {
    let word = select(&["a", "b", "c", "d", ""][..]).prop_map(text).boxed();
    let set = proptest::collection::vec(word.clone(), 0..3).prop_map(Value::Set);
    prop_oneof![4 => word, 2 => set, 1 => Just(Value::Bool(true))]
}

fn any_question() -> impl Strategy<Value = Question> {
    let one = || option::of(value());
    (one(), one(), one(), one()).prop_map(|(region, data, purpose, regime)| {
        let stated = [("region", region), ("data_classification", data), ("regime", regime)];
        let attributes = stated.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        question(attributes, purpose.map(|value| ("purpose".to_owned(), value)).into_iter().collect())
    })
}

/// A limit that holds no more: of what is listed a part, of what is not limited anything.
fn narrowed(list: &BTreeSet<String>, to: &BTreeSet<String>) -> BTreeSet<String> {
    if list.is_empty() {
        return to.clone();
    }
    let part: BTreeSet<_> = list.intersection(to).cloned().collect();
    if part.is_empty() { list.clone() } else { part }
}

proptest! {
    #[test]
    fn a_narrower_boundary_never_lets_more_pass(
        (wide, wide_hours) in any_boundary(), (other, other_hours) in any_boundary(), question in any_question(),
        environment in select(&["dev", "test", "prod", ""][..]), minutes in 0i64..20_160,
    ) {
        let hours = match (wide_hours, other_hours) {
            (None, other) => other,
            // Some of them.
            (Some(wide), _) => Some(wide[..wide.len().div_ceil(2)].to_vec()),
        };
        let narrow = Boundary {
            regions: narrowed(&wide.regions, &other.regions),
            data_classifications: narrowed(&wide.data_classifications, &other.data_classifications),
            purposes: narrowed(&wide.purposes, &other.purposes),
            regimes: narrowed(&wide.regimes, &other.regimes),
            environments: if wide.environments.is_empty() { other.environments.clone() } else { wide.environments.clone() },
            hours: hours.map(Week::new),
            ..boundary()
        };
        let now = Timestamp::from_secs(minutes * 60);
        let passes = |limits: &Boundary| cuts(limits, environment, &question, now).next().is_none();
        prop_assert!(!passes(&narrow) || passes(&wide), "{narrow:?} lets pass what {wide:?} does not");
        // What the agent cannot do anywhere, it cannot do here.
        let somewhere = cuts_agent(&wide, environment, now).next().is_none();
        prop_assert!(somewhere || !passes(&wide));
        // Until its next change time alone changes nothing.
        if let Some(next) = next_change(&wide, now) {
            let before = next.minus(std::time::Duration::from_micros(1));
            let at = |at| cuts(&wide, environment, &question, at).collect::<Vec<_>>();
            prop_assert_eq!(at(before), at(now));
            prop_assert_ne!(at(next), at(now));
        }
    }
}
