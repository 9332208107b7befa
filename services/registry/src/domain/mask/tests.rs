//! What a mask may name, and what it changes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use wire::declaration::Object;

use super::super::samples;
use super::*;

fn current() -> wire::Agent {
    let mut agent = samples::agent();
    let metadata = agent.metadata.as_mut().unwrap();
    (metadata.id, metadata.revision, metadata.etag) = ("agt_x".into(), 7, "e7".into());
    agent.status = Some(wire::AgentStatus { lifecycle_version: 4, ..wire::AgentStatus::default() });
    agent
}

/// Everything else than in `current`.
fn wanted() -> wire::Agent {
    wire::Agent {
        metadata: Some(wire::Metadata {
            name: "other".into(),
            namespace: "other".into(),
            labels: [("team".into(), "x".into()), ("tier.of".into(), "1".into())].into(),
            id: "agt_y".into(),
            revision: 1,
            ..wire::Metadata::default()
        }),
        spec: Some(wire::AgentSpec { purpose: "Other.".into(), owners: vec!["user:b".into()], ..Default::default() }),
        status: Some(wire::AgentStatus::default()),
    }
}

fn merged(paths: &[&str]) -> Result<wire::Agent, Vec<String>> {
    let declared = |agent| samples::declared(Object::Agent(agent));
    let paths: Vec<String> = paths.iter().map(|p| (*p).to_owned()).collect();
    let problems =
        |problems: Vec<Problem>| problems.into_iter().map(|p| format!("{}: {}", p.path, p.why)).collect::<Vec<_>>();
    let merged = merge(&declared(current()), &declared(wanted()), &paths).map_err(problems)?;
    match merged.object {
        Some(Object::Agent(agent)) => Ok(agent),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_named_is_copied_and_nothing_else() {
    let with = |change: fn(&mut wire::Metadata, &mut wire::AgentSpec)| {
        let mut agent = current();
        change(agent.metadata.as_mut().unwrap(), agent.spec.as_mut().unwrap());
        agent
    };
    assert_eq!(merged(&["spec.purpose"]).unwrap(), with(|_, spec| spec.purpose = "Other.".into()));
    assert_eq!(merged(&["spec.owners"]).unwrap(), with(|_, spec| spec.owners = vec!["user:b".into()]));
    // Absent in what is wanted: cleared.
    assert_eq!(merged(&["spec.charter"]).unwrap(), with(|_, spec| spec.charter = None));
    assert_eq!(merged(&["spec.charter.uri"]).unwrap(), with(|_, spec| spec.charter.as_mut().unwrap().uri.clear()));
    assert_eq!(merged(&["spec"]).unwrap(), wire::Agent { spec: wanted().spec, ..current() });
    assert_eq!(
        merged(&["metadata.labels"]).unwrap(),
        with(|metadata, _| metadata.labels = wanted().metadata.unwrap().labels)
    );
    assert_eq!(
        merged(&["metadata.labels[tier.of]", "metadata.annotations[example.com/note]"]).unwrap(),
        with(|metadata, _| {
            metadata.labels.insert("tier.of".into(), "1".into());
            metadata.annotations.clear();
        })
    );
}

#[test]
fn to_clear_what_is_absent_makes_nothing_present() {
    let bare = samples::declared(Object::Agent(wire::Agent::default()));
    let paths = ["spec.charter.uri".to_owned(), "metadata.labels[x]".to_owned()];
    assert_eq!(merge(&bare, &bare, &paths), Ok(bare.clone()));
    let other = samples::declared(Object::Agent(samples::agent()));
    let made = merge(&bare, &other, &["spec.charter.uri".to_owned()]).unwrap();
    let Some(Object::Agent(wire::Agent { metadata: None, spec: Some(spec), status: None })) = made.object else {
        panic!("{made:?}");
    };
    assert_eq!(spec.charter.unwrap().uri, "https://example.com/charter");
}

#[test]
fn what_a_mask_may_not_name() {
    for (path, why) in [
        ("", "names no field; there are metadata, spec"),
        ("*", "names no field"),
        ("spec.", "names no field; there are agent_class, purpose,"),
        (".spec", "names no field"),
        ("spec.nothing", "names no field"),
        ("spec.agentClass", "names no field"),
        ("Spec", "names no field"),
        ("spec.purpose.x", "goes on after purpose"),
        ("spec.owners[0]", "goes on after owners"),
        ("spec.owners.0", "goes on after owners"),
        ("spec.expire_time.seconds", "goes on after expire_time"),
        ("metadata.labels.team", "goes on after labels"),
        ("spec[x]", "goes on after spec"),
        ("[x]", "names no field"),
        ("metadata", "holds fields that do not change; name those within: labels, annotations"),
        ("metadata.name", "says which object it is"),
        ("metadata.namespace", "says which object it is"),
        ("metadata.id", "is output only"),
        ("metadata.etag", "is output only"),
        ("metadata.revision", "is output only"),
        ("metadata.version", "is output only"),
        ("status", "is output only"),
        ("status.state", "is output only"),
        ("status.lifecycle_version", "is output only"),
    ] {
        let problems = merged(&["spec.purpose", path]).unwrap_err();
        let expected = format!("update_mask.paths[1]: {path:?} {why}");
        assert!(problems.len() == 1 && problems[0].starts_with(&expected), "{problems:?} instead of {expected}");
    }
    let point = samples::declared(Object::EnforcementPoint(samples::enforcement_point()));
    assert!(merge(&point, &point, &["spiffe_id".to_owned()]).is_err());
}

#[test]
fn the_mask_as_a_whole() {
    assert!(merged(&[]).unwrap_err()[0].contains("is empty"));
    assert!(merged(&vec!["spec.purpose"; 65]).unwrap_err()[0].contains("65 paths; give at most 64"));
    let twice = merged(&["spec.purpose", "spec.model", "spec.purpose"]).unwrap_err();
    assert_eq!(twice, ["update_mask.paths[2]: \"spec.purpose\" is given twice"]);
    assert_eq!(merged(&["x", "status"]).unwrap_err().len(), 2);
}

#[test]
fn an_object_stays_of_its_kind() {
    let agent = samples::declared(Object::Agent(samples::agent()));
    let class = samples::declared(Object::AgentClass(samples::class()));
    for (current, wanted) in [(&agent, &class), (&agent, &wire::Declaration::default())] {
        let problems = merge(current, wanted, &["spec".to_owned()]).unwrap_err();
        assert_eq!(problems[0].path, "declaration");
    }
}

proptest! {
    #[test]
    fn no_mask_makes_it_panic((a, b) in samples::two_alike(), paths in prop::collection::vec("[a-z_.\\[\\]]{0,12}|\\PC{0,8}", 0..6)) {
        let _merged_or_not = merge(&a, &b, &paths);
    }

    /// The order of paths is nothing, however they overlap.
    #[test]
    fn paths_may_stand_in_any_order((a, b) in samples::two_alike()) {
        let mut paths = ["spec", "spec.description", "metadata.labels", "metadata.labels[k.0]", "metadata.labels[k.1]"]
            .map(str::to_owned)
            .to_vec();
        let one = merge(&a, &b, &paths);
        paths.reverse();
        if let (Ok(one), Ok(other)) = (one, merge(&a, &b, &paths)) {
            prop_assert_eq!(one, other);
        }
    }
}
