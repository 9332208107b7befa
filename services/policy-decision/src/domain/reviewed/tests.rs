//! What agents may do, held against items that were decided about.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::domain::answer::Cause;
use crate::testing::permission as one;

fn can(action: &str, id: &str, by: &str) -> Entitled {
    let cause = Cause { name: by.to_owned(), ..Cause::plain(CauseKind::Binding, "a binding") };
    Entitled {
        cell: Cell::of(&cells::permission(&one(action, "Invoice", id)).unwrap()),
        holds: Holds::Always,
        causes: vec![cause],
        except: Vec::new(),
        from: None,
        until: None,
    }
}

fn able(all: Vec<Entitled>) -> Arc<Able> {
    Arc::new(Able { all, ..Able::default() })
}

fn item(granted: &str, decision: ReviewDecision, permissions: &[&str]) -> ReviewItem {
    ReviewItem {
        namespace: "payments".into(),
        granted: granted.into(),
        reviewed: ReviewedThing::RoleBinding.into(),
        decision: decision.into(),
        permissions: permissions.iter().map(|action| one(action, "Invoice", "*")).collect(),
        ..ReviewItem::default()
    }
}

#[test]
fn what_is_certified_is_within_the_role_and_within_the_resources() {
    let resources = one("*", "Invoice", "apollo/*").resource.unwrap();
    let item = ReviewItem { resources: vec![resources], ..item("b", ReviewDecision::Certify, &["invoice:*"]) };
    assert!(is_certified(&one("invoice:read", "Invoice", "apollo/1"), &item));
    assert!(!is_certified(&one("invoice:read", "Invoice", "zeus/1"), &item));
    assert!(!is_certified(&one("ledger:read", "Invoice", "apollo/1"), &item));
    let everywhere = ReviewItem { resources: Vec::new(), ..item };
    assert!(is_certified(&one("invoice:read", "Invoice", "zeus/1"), &everywhere));
}

#[test]
fn what_was_taken_is_looked_for_and_what_was_kept_may_not_be_more() {
    let now = able(vec![can("invoice:read", "*", "payments/kept"), can("invoice:pay", "*", "payments/taken")]);
    let taken = as_decided(&item("taken", ReviewDecision::Revoke, &["invoice:pay"]), &now).unwrap();
    assert!(taken.contains("invoice:pay on Invoice:*"), "{taken}");
    assert_eq!(as_decided(&item("other", ReviewDecision::Revoke, &["invoice:pay"]), &now), None);
    assert_eq!(as_decided(&item("kept", ReviewDecision::Certify, &["invoice:read"]), &now), None);
    let more = as_decided(&item("kept", ReviewDecision::Certify, &["invoice:list"]), &now).unwrap();
    assert!(more.contains("nobody certified"), "{more}");
    // What stays of a reduced one is what was to stay.
    let remediation = wire::Remediation { reduced_to: "kept".into(), ..wire::Remediation::default() };
    let mut reduced = item("gone", ReviewDecision::Reduce, &["invoice:read", "invoice:list"]);
    reduced.remediation = Some(remediation);
    assert!(as_decided(&reduced, &now).unwrap().contains("was not to stay"));
    reduced.keep = vec![one("invoice:read", "Invoice", "*")];
    assert_eq!(as_decided(&reduced, &now), None);
}

#[test]
fn a_round_neither_gives_nor_takes_what_was_to_stay() {
    let read = || can("invoice:read", "*", "payments/kept");
    let list = || can("invoice:list", "*", "payments/kept");
    let (kept, taken) =
        (item("kept", ReviewDecision::Certify, &["invoice:*"]), item("taken", ReviewDecision::Revoke, &["invoice:*"]));
    let all = [kept.clone(), taken.clone()];
    let written = |before: Vec<Entitled>, after: Vec<Entitled>| {
        [Written { revision: 7, before: able(before), after: able(after) }]
    };
    assert_eq!(by_the_round(&kept, &all, &written(vec![read(), list()], vec![read(), list()])), None);
    let lost = by_the_round(&kept, &all, &written(vec![read(), list()], vec![read()])).unwrap();
    assert!(lost.contains("no longer invoice:list"), "{lost}");
    let gained = by_the_round(&taken, &all, &written(vec![read()], vec![read(), list()])).unwrap();
    assert!(gained.contains("could not before"), "{gained}");
    // What rested on what was taken as well is lost by that.
    let mut both = list();
    both.causes.push(Cause { name: "payments/taken".into(), ..Cause::plain(CauseKind::Binding, "a binding") });
    assert_eq!(by_the_round(&kept, &all, &written(vec![read(), both], vec![read()])), None);
}

#[test]
fn of_a_grant_what_was_to_go_is_gone() {
    let mut grant = item("g", ReviewDecision::Reduce, &["invoice:read", "invoice:pay"]);
    grant.keep = vec![one("invoice:read", "Invoice", "*")];
    assert_eq!(left_beyond(&grant, &grant.keep), None);
    assert!(left_beyond(&grant, &grant.permissions).unwrap().contains("invoice:pay"));
    assert_eq!(gone(&grant).map(|one| one.action.as_str()).collect::<Vec<_>>(), ["invoice:pay"]);
    grant.decision = ReviewDecision::Revoke.into();
    assert_eq!(gone(&grant).count(), 2);
}
