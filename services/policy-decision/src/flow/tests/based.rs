//! A change is compared with what is taken for declared already, and not with what is in force.

use legate_wire::policy::PreviewChangeResponse;
use legate_wire::registry::PolicyMode::Enforce;
use legate_wire::registry::{Kind, ObjectName};

use crate::flow::{Base, Preview, preview};
use crate::testing::*;

const OPEN: &str = "permit (principal, action, resource);";
const READ: &str = "permit (principal, action == Action::\"invoice:read\", resource);";

async fn of(stage: &Stage, ask: Preview) -> PreviewChangeResponse {
    let mut asker = operator();
    asker.deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    preview(&stage.desk, &asker, ask).await.unwrap()
}

fn told(answer: &PreviewChangeResponse) -> Vec<(String, String)> {
    let one = |change: &legate_wire::policy::AccessChange| {
        (change.effect().as_str_name().trim_start_matches("ACCESS_EFFECT_").to_owned(), change.action.clone())
    };
    answer.changes.iter().map(one).collect()
}

#[tokio::test]
async fn two_texts_that_are_not_in_force_are_compared() {
    let stage = Stage::set().await;
    let all_gone = || {
        ["production", "sealed"].map(|name| ObjectName {
            kind: Kind::Policy.into(),
            namespace: "payments".into(),
            name: name.into(),
        })
    };
    let closed = "permit (principal, action, resource) when { false };";
    let between = |old: &'static str, new: &'static str| Preview {
        wanted: vec![policy("only", Enforce, new)],
        base: Base { wanted: vec![policy("only", Enforce, old)], gone: all_gone().into() },
        ..Preview::default()
    };
    // Neither is in force, and nothing of what is counts: it is taken for gone.
    assert_eq!(told(&of(&stage, between(closed, closed)).await), []);
    let gained = of(&stage, between(closed, READ)).await;
    assert!(told(&gained).contains(&("GAINS".to_owned(), "invoice:read".to_owned())), "{gained:?}");
    let lost = of(&stage, between(READ, closed)).await;
    assert!(told(&lost).contains(&("LOSES".to_owned(), "invoice:read".to_owned())), "{lost:?}");
    let wider = of(&stage, between(READ, OPEN)).await;
    assert!(!told(&wider).iter().any(|(_, action)| action == "invoice:read"), "it is so on both sides: {wider:?}");
    // The answer names the revision that is in force, and nothing of it has changed.
    let revision = stage.desk.view.read().snapshot.revision();
    assert_eq!([&gained, &lost, &wider].map(|answer| answer.revision), [revision; 3]);
    assert!(told(&of(&stage, Preview::default()).await).is_empty());
}

#[tokio::test]
async fn what_is_taken_for_declared_has_to_be_readable_and_one_may_read() {
    let stage = Stage::set().await;
    let mut nameless = policy("only", Enforce, OPEN);
    nameless.object = None;
    let ask = Preview { base: Base { wanted: vec![nameless], gone: Vec::new() }, ..Preview::default() };
    let refused = preview(&stage.desk, &operator(), ask).await.unwrap_err();
    assert!(refused.to_string().contains("cannot be read"), "{refused}");
    // Whoever may not read a namespace learns nothing of it by supposing something there.
    let mut foreign = policy("only", Enforce, OPEN);
    foreign.metadata_mut().unwrap().namespace = "treasury".into();
    let ask = Preview { base: Base { wanted: vec![foreign], gone: Vec::new() }, ..Preview::default() };
    let refused = preview(&stage.desk, &operator(), ask).await.unwrap_err();
    assert!(refused.to_string().starts_with("OPERATOR_NOT_PERMITTED: "), "{refused}");
    let gone = ObjectName { kind: Kind::Policy.into(), namespace: "treasury".into(), name: "only".into() };
    let ask = Preview { base: Base { wanted: Vec::new(), gone: vec![gone] }, ..Preview::default() };
    let refused = preview(&stage.desk, &operator(), ask).await.unwrap_err();
    assert!(refused.to_string().starts_with("OPERATOR_NOT_PERMITTED: "), "{refused}");
}
