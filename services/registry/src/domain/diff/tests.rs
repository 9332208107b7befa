//! What a diff says, and that it says all of it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use wire::declaration::Object;

use super::super::{mask, reflect, samples};
use super::*;

fn said(before: Option<wire::Agent>, after: wire::Agent) -> Vec<String> {
    let declared = |agent| samples::declared(Object::Agent(agent));
    let changes = diff(before.map(declared).as_ref(), &declared(after));
    changes.into_iter().map(|c| format!("{}: {} -> {}", c.path, c.before, c.after)).collect()
}

fn changed(change: impl Fn(&mut wire::Metadata, &mut wire::AgentSpec)) -> Vec<String> {
    let mut after = samples::agent();
    change(after.metadata.as_mut().unwrap(), after.spec.as_mut().unwrap());
    said(Some(samples::agent()), after)
}

#[test]
fn the_same_differs_in_nothing() {
    for sample in samples::one_of_each() {
        assert_eq!(diff(Some(&sample), &sample), []);
    }
    assert_eq!(diff(None, &wire::Declaration::default()), []);
}

#[test]
fn each_kind_of_field_is_told() {
    assert_eq!(
        changed(|_, spec| spec.purpose = "Reads \"all\".".into()),
        [r#"spec.purpose: "Reads invoices and matches them with orders." -> "Reads \"all\".""#]
    );
    assert_eq!(
        changed(|_, spec| spec.set_environment(wire::Environment::Dev)),
        [r#"spec.environment: "ENVIRONMENT_PROD" -> "ENVIRONMENT_DEV""#]
    );
    assert_eq!(
        changed(|_, spec| spec.sponsors.truncate(1)),
        [r#"spec.sponsors: ["user:grace@example.com","group:payments"] -> ["user:grace@example.com"]"#]
    );
    assert_eq!(changed(|_, spec| spec.owners.clear()), [r#"spec.owners: ["user:ada@example.com"] -> "#]);
    assert_eq!(changed(|_, spec| spec.expire_time = None), [r#"spec.expire_time: "2033-05-18T03:33:20Z" -> "#]);
    assert_eq!(
        changed(|_, spec| spec.charter.as_mut().unwrap().uri = "https://x".into()),
        [r#"spec.charter.uri: "https://example.com/charter" -> "https://x""#]
    );
    assert_eq!(
        changed(|_, spec| spec.charter.as_mut().unwrap().sha256.clear()),
        [format!(r#"spec.charter.sha256: "{}" -> "#, "0a".repeat(32))]
    );
    assert_eq!(
        changed(|_, spec| spec.charter = None),
        [format!(r#"spec.charter: {{"sha256":"{}","uri":"https://example.com/charter"}} -> "#, "0a".repeat(32))]
    );
    assert_eq!(
        changed(|metadata, _| {
            metadata.labels.insert("team".into(), "x".into());
            metadata.labels.insert("cost.center".into(), "7".into());
            metadata.annotations.clear();
        }),
        [
            r#"metadata.labels[cost.center]:  -> "7""#,
            r#"metadata.labels[team]: "payments" -> "x""#,
            r#"metadata.annotations[example.com/note]: "several\nlines" -> "#,
        ]
    );
}

#[test]
fn what_only_the_registry_sets_is_no_difference() {
    let mut after = samples::agent();
    after.status = Some(wire::AgentStatus { lifecycle_version: 3, ..wire::AgentStatus::default() });
    let metadata = after.metadata.as_mut().unwrap();
    (metadata.revision, metadata.version, metadata.etag) = (7, 2, "e".into());
    assert_eq!(said(Some(samples::agent()), after), Vec::<String>::new());
}

#[test]
fn what_is_new_is_told_field_by_field() {
    let told = said(None, samples::agent());
    assert!(told.contains(&r#"spec.agent_class:  -> "clerk""#.to_owned()), "{told:?}");
    assert!(told.contains(&r#"metadata.labels[team]:  -> "payments""#.to_owned()), "{told:?}");
    assert!(!told.iter().any(|t| t.starts_with("metadata.name")), "{told:?}");
}

#[test]
fn long_values_are_cut_to_where_they_differ() {
    let with = |middle: &str| {
        let mut agent = samples::agent();
        agent.spec.as_mut().unwrap().purpose = format!("{}{middle}{}", "é".repeat(400), "x".repeat(400));
        agent
    };
    let told = said(Some(with("old")), with("new"));
    let (before, after) = told[0].strip_prefix("spec.purpose: ").unwrap().split_once(" -> ").unwrap();
    for (text, middle) in [(before, "old"), (after, "new")] {
        assert_eq!(text.chars().count(), LONGEST);
        assert!(text.starts_with(&format!("...{}{middle}x", "é".repeat(LEAD))) && text.ends_with("x..."), "{text}");
    }
    // New: from the start.
    let told = said(None, with("new"));
    assert!(told.iter().any(|t| t.starts_with("spec.purpose:  -> \"ééé") && t.ends_with("é...")), "{told:?}");
}

#[test]
fn a_time_out_of_range_is_told_without_panic() {
    let odd = prost_types::Timestamp { seconds: i64::MAX, nanos: -1 };
    assert_eq!(changed(|_, spec| spec.expire_time = Some(odd)).len(), 1);
}

proptest! {
    /// Nothing is forgotten: whoever copies the fields that differ has what was wanted, and what the registry sets
    /// stays.
    #[test]
    fn the_paths_of_a_diff_make_one_into_the_other((a, b) in samples::two_alike()) {
        let paths: Vec<String> = diff(Some(&a), &b).into_iter().map(|change| change.path).collect();
        // More paths than a mask may have go in several masks.
        let mut merged = a.clone();
        for some in paths.chunks(64) {
            merged = mask::merge(&merged, &b, some).unwrap();
        }
        prop_assert_eq!(diff(Some(&merged), &b), []);

        // What is nobody's to change, with the rest taken away.
        let kept = |from: &wire::Declaration| {
            let (_, mut object) = reflect::object(from).unwrap();
            object.clear_field_by_name("spec");
            let mut metadata = from.metadata().cloned().unwrap_or_default();
            (metadata.labels, metadata.annotations) = Default::default();
            object.clear_field_by_name("metadata");
            (object, metadata)
        };
        prop_assert_eq!(kept(&merged), kept(&a));
    }

    /// A difference is told both ways round.
    #[test]
    fn a_diff_turned_round_is_the_same((a, b) in samples::two_alike()) {
        let mut there = diff(Some(&a), &b);
        let back = diff(Some(&b), &a);
        for change in &mut there {
            std::mem::swap(&mut change.before, &mut change.after);
            prop_assert_ne!(&change.before, &change.after);
        }
        prop_assert_eq!(there, back);
    }
}
