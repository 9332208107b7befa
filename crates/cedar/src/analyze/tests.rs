//! What the solver proves, by a real one: without it these tests fail, so that nobody takes them for passed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::LazyLock;

use super::*;
use crate::closed;

const SCHEMA: &str = r#"
entity Invoice { amount: Long, sealed?: Bool };
action "invoice:read", "invoice:pay" appliesTo { principal: [Agent], resource: [Invoice], context: { mfa?: Bool } };
"#;

static DECLARED: LazyLock<Declared> = LazyLock::new(|| Declared::parse(SCHEMA).unwrap());

fn solver() -> Solver {
    Solver {
        program: std::env::var_os("LEGATE_CVC5").unwrap_or_else(|| "cvc5".into()).into(),
        each: Duration::from_secs(20),
        all: Duration::from_secs(120),
    }
}

fn comparison(from: &str, to: &str) -> Comparison {
    Comparison {
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        declared: DECLARED.clone(),
        namespace: "payments".into(),
    }
}

fn rows(from: &str, to: &str) -> Vec<Row> {
    compare(&comparison(from, to), &solver()).unwrap()
}

fn relations(from: &str, to: &str) -> Vec<Relation> {
    rows(from, to).into_iter().map(|row| row.relation).collect()
}

#[test]
fn what_comes_to_the_same_is_proved_equal() {
    use Relation::Equivalent;
    let one = "permit(principal, action, resource) when { resource.amount < 100 };";
    for same in [
        one,
        "permit(principal, action, resource) unless { resource.amount >= 100 };",
        "permit(principal, action, resource); forbid(principal, action, resource) when { 99 < resource.amount };",
        // No agent is of an environment that there is not, and its class is the one that it is in.
        "permit(principal, action, resource) when { resource.amount < 100 }; permit(principal, action, resource) when { principal.environment == \"stage\" };",
        "permit(principal, action, resource) when { resource.amount < 100 }; permit(principal in AgentClass::\"clerk\", action, resource) when { principal.class == \"other\" };",
    ] {
        assert_eq!(relations(one, same), [Equivalent, Equivalent], "{same}");
    }
}

#[test]
fn what_is_permitted_beyond_is_shown_by_a_request() {
    let from = "permit(principal in Role::\"payer\", action, resource) when { resource.amount < 100 };";
    let to = "permit(principal in Role::\"payer\", action, resource) when { resource.amount <= 100 };";
    let rows = rows(from, to);
    assert_eq!(rows.iter().map(|row| row.action.as_str()).collect::<Vec<_>>(), ["invoice:pay", "invoice:read"]);
    for row in &rows {
        assert_eq!((row.relation, row.less.is_none()), (Relation::More, true), "{row:?}");
        let more = row.more.as_ref().unwrap();
        assert_eq!(more.resource["amount"], 100, "{more:?}");
        assert_eq!(more.within, ["Role::\"payer\""]);
        assert_eq!(more.resource_id, "any-other");
    }
    assert_eq!(relations(to, from), [Relation::Less, Relation::Less]);
}

#[test]
fn a_group_of_actions_is_each_action_in_it() {
    let schema = SCHEMA.replace("action \"invoice:read\", \"invoice:pay\"", "action \"all\"; action \"money\" in [\"all\"];\n\
         action \"invoice:read\" appliesTo { principal: [Agent], resource: [Invoice] };\naction \"invoice:pay\" in [\"money\"]");
    let declared = Declared::parse(&schema).unwrap();
    let relations = |from: &str, to: &str| {
        let compared = compare(&Comparison { declared: declared.clone(), ..comparison(from, to) }, &solver()).unwrap();
        compared.into_iter().map(|row| (row.action, row.relation)).collect::<Vec<_>>()
    };
    let row = |action: &str, relation| (action.to_owned(), relation);
    let one = "permit(principal, action == Action::\"invoice:pay\", resource);";
    let group = "permit(principal, action in Action::\"all\", resource);";
    let (pay, read) = ("invoice:pay", "invoice:read");
    let same = [row(pay, Relation::Equivalent), row(read, Relation::Equivalent)];
    assert_eq!(relations(one, group), same);
    // The request that shows it was tried by Cedar's own authorizer, which has to know the groups.
    let closed = "permit(principal, action, resource); forbid(principal, action, resource) when { action in Action::\"money\" };";
    assert_eq!(relations(closed, "permit(principal, action, resource);")[0], row(pay, Relation::More));
}

#[test]
fn sets_that_share_nothing_and_sets_that_share_something() {
    let mfa = "permit(principal, action == Action::\"invoice:pay\", resource) when { context has mfa && context.mfa };";
    let without =
        "permit(principal, action == Action::\"invoice:pay\", resource) unless { context has mfa && context.mfa };";
    assert_eq!(relations(mfa, without), [Relation::Disjoint, Relation::Equivalent]);
    let small = "permit(principal, action == Action::\"invoice:pay\", resource) when { resource.amount < 10 };";
    assert_eq!(relations(mfa, small), [Relation::MoreAndLess, Relation::Equivalent]);
}

#[test]
fn a_resource_that_is_named_is_told_by_its_name() {
    let from = "permit(principal, action, resource);";
    let to = "permit(principal, action, resource); forbid(principal, action, resource == Invoice::\"apollo/1\");";
    for row in rows(from, to) {
        assert_eq!(row.relation, Relation::Less);
        assert_eq!(row.less.unwrap().resource_id, "apollo/1");
    }
}

#[test]
fn a_forbid_that_can_fail_is_not_known() {
    let from = "permit(principal, action, resource);";
    let to =
        "permit(principal, action, resource); forbid(principal, action, resource) when { resource.amount + 1 == 0 };";
    for row in rows(from, to) {
        assert_eq!(row.relation, Relation::Unknown, "{row:?}");
        assert!(row.why.contains("can fail"), "{row:?}");
    }
    // One that computes and cannot fail is.
    let cannot = "permit(principal, action, resource); forbid(principal, action, resource) when { 1 + 1 == 3 };";
    assert_eq!(relations(from, cannot), [Relation::Equivalent, Relation::Equivalent]);
}

#[test]
fn without_a_schema_what_looks_at_the_principal_is_proved() {
    let from: PolicySet = "permit(principal in Role::\"reader\", action, resource);".parse().unwrap();
    let to: PolicySet = "permit(principal in Role::\"reader\", action, resource) when { principal.environment == \"prod\" };\
                         permit(principal, action == Action::\"invoice:list\", resource is Invoice) when { principal.labels has team && principal.labels.team == \"x\" };"
        .parse()
        .unwrap();
    let declared = closed([&from, &to]).unwrap();
    let of = Comparison { from, to, declared, namespace: "payments".into() };
    let rows = compare(&of, &solver()).unwrap();
    let found: Vec<_> =
        rows.iter().map(|row| (row.action.as_str(), row.resource_type.as_str(), row.relation)).collect();
    use Relation::{Less, MoreAndLess};
    assert_eq!(
        found,
        [
            ("any:other", "AnyOther", Less),
            ("any:other", "Invoice", Less),
            ("invoice:list", "AnyOther", Less),
            ("invoice:list", "Invoice", MoreAndLess),
        ]
    );
    let more = rows[3].more.as_ref().unwrap();
    assert_eq!(more.attributes["labels"]["team"], "x");
}

#[test]
fn a_solver_that_is_not_there_or_does_not_answer_proves_nothing() {
    let of = comparison("permit(principal, action, resource);", "forbid(principal, action, resource);");
    let none = Solver { program: "/nowhere/cvc5".into(), ..solver() };
    assert!(matches!(compare(&of, &none), Err(NotAnalyzed::NoSolver(..))));
    let dir = tempfile::tempdir().unwrap();
    for (name, script) in [
        ("silent", "exec cat >/dev/null"),
        ("gone", "exit 0"),
        ("unknown", "while read -r line; do case $line in *check-sat*) echo unknown;; esac; done"),
        ("nonsense", "while read -r line; do echo perhaps; done"),
    ] {
        let program = dir.path().join(name);
        // Another process writes it: a file that this one has open for writing cannot be started by another thread's child.
        let write = ["-c", "printf '#!/bin/sh\n%s\n' \"$1\" > \"$0\" && chmod 700 \"$0\""];
        assert!(std::process::Command::new("sh").args(write).arg(&program).arg(script).status().unwrap().success());
        let by = Solver { program, each: Duration::from_millis(10), all: Duration::from_secs(30) };
        for row in compare(&of, &by).unwrap() {
            assert_eq!(row.relation, Relation::Unknown, "{name}: {row:?}");
            assert!(!row.why.is_empty(), "{name}");
        }
    }
    // No time at all.
    let late = Solver { all: Duration::ZERO, ..solver() };
    assert!(compare(&of, &late).unwrap().iter().all(|row| row.relation == Relation::Unknown));
}
