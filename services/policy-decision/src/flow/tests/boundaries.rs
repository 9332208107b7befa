//! Boundaries: to whom they apply, what they cut, and how long an answer holds that they let pass.

use std::time::Duration;

use legate_ids::Action;
use legate_wire::registry as wire;
use legate_wire::registry::declaration::Object;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::super::authorize_issuance::{Issuance, authorize_issuance};
use crate::convert::Ask;
use crate::domain::answer::{CauseKind, Denial};
use crate::domain::question::Value;
use crate::testing::*;

fn eu(change: impl FnOnce(&mut wire::BoundarySpec)) -> wire::Declaration {
    boundary("eu-only", |b| {
        b.regions = vec!["eu".into()];
        change(b);
    })
}

fn class(boundaries: &[&str]) -> wire::Declaration {
    let spec = wire::AgentClassSpec {
        permissions: vec![permission("invoice:list", "Invoice", "*")],
        ceiling: vec![permission("invoice:*", "Invoice", "*")],
        boundaries: boundaries.iter().map(ToString::to_string).collect(),
        ..wire::AgentClassSpec::default()
    };
    declared(Object::AgentClass(wire::AgentClass { metadata: meta("invoice-worker"), spec: Some(spec), status: None }))
}

fn in_region(stage: &Stage, region: &str) -> Ask {
    stage.good().attribute("region", Value::Text(region.into()))
}

#[tokio::test]
async fn a_boundary_cuts_what_was_granted_and_says_so() {
    let mut stage = Stage::set().await;
    stage.change(vec![(eu(|_| ()), false)]).await;
    assert_eq!(stage.word(in_region(&stage, "eu")).await, "ALLOWED");
    for ask in [in_region(&stage, "us"), stage.good()] {
        let spoken = stage.ask(&enforcer("invoices"), ask).await;
        assert_eq!(spoken.answer.word(), "BOUNDARY_REGION");
        assert_eq!(spoken.answer.denied.unwrap().kind(), Denial::NotPermitted);
        let causes: Vec<_> = spoken.answer.causes.iter().map(|c| (c.kind, c.line())).collect();
        assert_eq!(
            causes,
            [
                (CauseKind::Binding, "binding:payments/reads-apollo@1".into()),
                (CauseKind::Boundary, "boundary:payments/eu-only@1".into())
            ]
        );
        assert_eq!(spoken.valid_until, None);
    }
    // What nothing gives, nothing needs to cut; and no policy is asked of what is cut.
    assert_eq!(stage.word(stage.good().action("invoice:delete")).await, "NOT_PERMITTED");
    let sealed = in_region(&stage, "us").attribute("sealed", Value::Bool(true));
    assert_eq!(stage.word(sealed).await, "BOUNDARY_REGION");
    stage.change(vec![(eu(|_| ()), true)]).await;
    assert_eq!(stage.word(in_region(&stage, "us")).await, "ALLOWED");
}

#[tokio::test]
async fn a_boundary_of_regimes_is_for_resources_under_them() {
    let mut stage = Stage::set().await;
    let limits = boundary("hospital", |b| b.regimes = vec!["GDPR".into(), "HIPAA".into()]);
    stage.change(vec![(limits, false)]).await;
    let under = |all: &[&str]| {
        let all = all.iter().map(|regime| Value::Text((*regime).into())).collect();
        stage.good().attribute("regime", Value::Set(all))
    };
    assert_eq!(stage.word(under(&["HIPAA", "GDPR"])).await, "ALLOWED");
    for outside in [stage.good(), under(&[]), under(&["HIPAA", "PCI-DSS"])] {
        let spoken = stage.ask(&enforcer("invoices"), outside).await;
        assert_eq!(spoken.answer.word(), "BOUNDARY_REGIME");
        assert_eq!(spoken.answer.denied.unwrap().kind(), Denial::NotPermitted);
        assert!(spoken.message.contains("payments/hospital@1: cuts it: a regime"), "{}", spoken.message);
    }
}

#[tokio::test]
async fn it_applies_to_whom_it_names_and_to_classes_that_name_it() {
    let mut stage = Stage::set().await;
    stage.change(vec![(group("clerks", |g| g.selector = "environment = prod".into()), false)]).await;
    stage.change(vec![(group("others", |g| g.selector = "environment = dev".into()), false)]).await;
    let one = |text: &str| vec![text.to_owned()];
    for (limits, cuts) in [
        (eu(|_| ()), true),
        (eu(|b| b.named_only = true), false),
        (eu(|b| b.agents = one("invoice-bot-1")), true),
        (eu(|b| b.agents = one("invoice-bot-2")), false),
        (eu(|b| b.groups = one("clerks")), true),
        (eu(|b| b.groups = one("others")), false),
        (eu(|b| (b.groups, b.agents) = (one("others"), one("invoice-bot-1"))), true),
        // Who belongs to a group that is not known cannot be said: everybody may.
        (eu(|b| b.groups = one("never-declared")), true),
        (eu(|b| b.agent_classes = one("invoice-worker")), true),
        (eu(|b| b.agent_classes = one("other-worker")), false),
    ] {
        stage.change(vec![(limits.clone(), false)]).await;
        let word = stage.word(in_region(&stage, "us")).await;
        assert_eq!(word == "BOUNDARY_REGION", cuts, "{limits:?}");
        assert!(cuts || word == "ALLOWED", "{word}");
        // A class that names it is named as much.
        stage.change(vec![(class(&["eu-only"]), false)]).await;
        assert_eq!(stage.word(in_region(&stage, "us")).await, "BOUNDARY_REGION", "{limits:?}");
        stage.change(vec![(class(&[]), false)]).await;
    }
}

#[tokio::test]
async fn a_class_that_names_a_boundary_which_is_not_there_can_do_nothing() {
    let mut stage = Stage::set().await;
    stage.change(vec![(class(&["never-declared"]), false)]).await;
    let spoken = stage.ask(&enforcer("invoices"), in_region(&stage, "eu")).await;
    assert_eq!(spoken.answer.word(), "BOUNDARY_UNKNOWN");
    assert_eq!(spoken.answer.denied.unwrap().kind(), Denial::Undecided);
    assert!(spoken.message.contains("never-declared"), "{}", spoken.message);
}

#[tokio::test]
async fn hours_are_in_utc_and_no_answer_outlives_them() {
    let mut stage = Stage::set().await;
    // NOW is Sunday 17:46:40 UTC.
    let sunday = |from_minute, until_minute| {
        let days = vec![wire::Weekday::Sunday.into()];
        let hours = wire::Hours { days, from_minute, until_minute };
        boundary("office", |b| b.hours = vec![hours])
    };
    stage.change(vec![(sunday(17 * 60 + 47, 18 * 60), false)]).await;
    assert_eq!(stage.word(stage.good()).await, "BOUNDARY_HOURS");
    stage.pass(Duration::from_secs(20)).await;
    assert_eq!(stage.word(stage.good()).await, "ALLOWED");
    stage.pass(Duration::from_millis((12 * 60 + 59) * 1_000 + 600)).await;
    let spoken = stage.ask(&enforcer("invoices"), stage.good()).await;
    assert_eq!(spoken.answer.word(), "ALLOWED");
    let end = (NOW + 20 + 13 * 60) * 1_000_000;
    assert_eq!(spoken.valid_until.unwrap().micros(), end, "0.4 s, though a whole second is configured");
    stage.pass(Duration::from_millis(400)).await;
    assert_eq!(stage.word(stage.good()).await, "BOUNDARY_HOURS");
}

#[tokio::test]
async fn every_boundary_that_cuts_is_named() {
    let mut stage = Stage::set().await;
    let dev = vec![wire::Environment::Dev.into()];
    let limits = boundary("dev-only", |b| {
        b.environments = dev;
        b.purposes = vec!["audit".into()];
        b.data_classifications = vec!["public".into()];
    });
    stage.change(vec![(eu(|_| ()), false), (limits, false)]).await;
    let spoken = stage.ask(&enforcer("invoices"), stage.good()).await;
    assert_eq!(spoken.answer.word(), "BOUNDARY_ENVIRONMENT", "the first of the first by name");
    let cuts = spoken.answer.causes.iter().filter(|c| c.kind == CauseKind::Boundary);
    let names: Vec<_> = cuts.map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["payments/dev-only", "payments/dev-only", "payments/dev-only", "payments/eu-only"]);
    for word in ["environment", "data_classification", "purpose", "region"] {
        assert!(spoken.message.contains(word), "{word}: {}", spoken.message);
    }
}

#[tokio::test]
async fn a_word_that_is_not_known_here_is_no_freedom() {
    for change in [
        (|b: &mut wire::BoundarySpec| b.environments = vec![9]) as fn(&mut wire::BoundarySpec),
        |b| b.environments = vec![0],
        |b| b.hours = vec![wire::Hours { days: vec![9], from_minute: 0, until_minute: 1_440 }],
        |b| b.hours = vec![wire::Hours { days: vec![], from_minute: 5, until_minute: 5 }],
    ] {
        let mut stage = Stage::set().await;
        stage.tell(vec![(boundary("odd", change), false)]);
        while stage.desk.view.counts().refused == 0 {
            tokio::task::yield_now().await;
        }
        stage.clock.advance(Duration::from_secs(6));
        assert_eq!(stage.word(stage.good()).await, "STALE");
    }
}

#[tokio::test]
async fn a_token_is_narrowed_to_nothing_that_a_boundary_cuts_everywhere() {
    let mut stage = Stage::set().await;
    let ask = |actions: &[&str]| Issuance {
        agent: agent_id(1),
        audience: AUDIENCE.into(),
        actions: actions.iter().map(|a| Action::parse(a).unwrap()).collect(),
        at_least_revision: 0,
        delegation: None,
    };
    let dev = vec![wire::Environment::Dev.into()];
    stage.change(vec![(boundary("dev-only", |b| b.environments = dev), false)]).await;
    let leave = authorize_issuance(&stage.desk, &operator(), &ask(&["invoice:read"])).await;
    assert_eq!((leave.answer.word(), leave.actions.len()), ("BOUNDARY_ENVIRONMENT", 0));
    assert!(leave.message.contains("payments/dev-only@1"), "{}", leave.message);
    let leave = authorize_issuance(&stage.desk, &operator(), &ask(&[])).await;
    assert_eq!(leave.answer.word(), "BOUNDARY_ENVIRONMENT", "to ask for nothing is no way round");
    // Somewhere in the region it may.
    stage.change(vec![(boundary("dev-only", |b| b.regions = vec!["eu".into()]), false)]).await;
    let leave = authorize_issuance(&stage.desk, &operator(), &ask(&["invoice:read"])).await;
    assert_eq!((leave.answer.word(), leave.actions.len()), ("ALLOWED", 1));
}

fn stated(stage: &Stage, (region, data, action): &(Option<String>, Option<String>, String)) -> Ask {
    let stated = [("region", region), ("data_classification", data)];
    let stated = stated.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    stated.fold(stage.good().action(action), |ask, (name, value)| ask.attribute(name, Value::Text(value.clone())))
}

/// Whatever boundary is added, and to whomever it applies: nothing that was denied is allowed after it.
#[tokio::test]
async fn a_boundary_that_is_added_never_allows() {
    let mut runner = TestRunner::deterministic();
    let words = || proptest::sample::subsequence(vec!["eu".to_owned(), "us".to_owned()], 0..=2);
    let limits = (words(), words(), any::<[bool; 3]>());
    let asked =
        (proptest::option::of("eu|us"), proptest::option::of("eu|us"), "invoice:(read|list|delete)|ledger:write");
    let (mut before_denied, mut cut) = (0, 0);
    for _ in 0..40 {
        let mut stage = Stage::set().await;
        let (regions, data, [named_only, hours, mine]) = limits.new_tree(&mut runner).unwrap().current();
        let limits = boundary("limits", |b| {
            (b.regions, b.data_classifications, b.named_only) = (regions, data, named_only);
            b.hours.extend(hours.then_some(wire::Hours { days: vec![], from_minute: 0, until_minute: 60 }));
            b.agents.extend(mine.then(|| "invoice-bot-1".to_owned()));
        });
        let questions: Vec<_> = (0..8).map(|_| asked.new_tree(&mut runner).unwrap().current()).collect();
        let mut before = Vec::new();
        for question in &questions {
            before.push(stage.word(stated(&stage, question)).await);
        }
        stage.change(vec![(limits.clone(), false)]).await;
        for (question, before) in questions.iter().zip(before) {
            let after = stage.word(stated(&stage, question)).await;
            assert!(after != "ALLOWED" || before == "ALLOWED", "{limits:?} allows {question:?}");
            assert!(after == before || after.starts_with("BOUNDARY_"), "{before} became {after}");
            before_denied += u32::from(before != "ALLOWED");
            cut += u32::from(after != before);
        }
    }
    assert!(before_denied > 20 && cut > 20, "{before_denied} were denied before, {cut} were cut");
}
