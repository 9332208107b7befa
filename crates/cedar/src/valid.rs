//! Whether policies speak of the world that there is: all of a request at once, on a stack that is deep enough.

use std::collections::BTreeSet;

use cedar_policy::ffi::DetailedError;
use cedar_policy::{PolicySet, ValidationError, ValidationMode, Validator};

use crate::declared::Declared;
use crate::open;
use crate::read::{Finding, parse, with_help};
use crate::walk::spoken;

/// Cedar's validator calls itself for every operator of a policy, and takes a policy for good where its stack ends.
const STACK: usize = 256 << 20;
/// What is wrong with one text is told so often.
const TOLD: usize = 16;

/// A policy's text, and the schema that is declared for what callers state, if there is one.
#[derive(Clone, Copy, Debug)]
pub struct Spoken<'a> {
    /// The text.
    pub text: &'a str,
    /// The schema.
    pub declared: Option<&'a Declared>,
}

/// What is wrong with each of the texts; nothing: it speaks of the world that there is.
#[must_use]
pub fn validate(all: &[Spoken<'_>]) -> Vec<Vec<Finding>> {
    on_a_deep_stack(|| all.iter().map(one).collect())
        .unwrap_or_else(|why| all.iter().map(|_| vec![Finding { at: None, why: why.clone() }]).collect())
}

/// Does something that calls itself very often.
pub(crate) fn on_a_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("cedar".into()).stack_size(STACK);
        let running = thread.spawn_scoped(scope, work).map_err(|e| format!("cannot be validated now: {e}"))?;
        running.join().map_err(|_| "cannot be validated: Cedar failed at it".to_owned())
    })
}

fn one(of: &Spoken<'_>) -> Vec<Finding> {
    let set = match parse(of.text) {
        Ok(set) => set,
        Err(why) => return vec![Finding { at: None, why }],
    };
    let mut found = match of.declared {
        Some(declared) => strictly(&set, declared),
        None => {
            let mut policies: Vec<_> = set.policies().collect();
            policies.sort_by_key(|policy| policy.id().to_string());
            policies.into_iter().flat_map(open::check).collect()
        }
    };
    found.sort_by(|a, b| (a.at, &a.why).cmp(&(b.at, &b.why)));
    found.dedup();
    found.truncate(TOLD);
    found
}

/// By a schema of all that there is.
fn strictly(set: &PolicySet, declared: &Declared) -> Vec<Finding> {
    let whole = Finding {
        at: None,
        why: "compares the principal's labels as a whole; ask for one: principal.labels has team && principal.labels.team".into(),
    };
    let (mut labels, mut asked, mut found) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for policy in set.policies() {
        let spoken = spoken(policy);
        if spoken.all_labels {
            return vec![whole];
        }
        labels.extend(spoken.labels);
        asked.extend(spoken.asked);
        for name in spoken.unknown {
            found.push(Finding { at: None, why: open::unknown(&name) });
        }
    }
    found.extend(asked.iter().filter_map(|(place, name)| undeclared(place, name, declared)));
    let schema = match declared.schema(&labels) {
        Ok(schema) => schema,
        Err(e) => return vec![Finding { at: None, why: e.to_string() }],
    };
    found.extend(Validator::new(schema).validate(set, ValidationMode::Strict).validation_errors().map(finding));
    found
}

/// What is wrong with asking whether something is stated: where nothing has it, Cedar takes it for false, and a forbid that asks
/// forbids nothing.
fn undeclared(place: &str, name: &str, declared: &Declared) -> Option<Finding> {
    let known: BTreeSet<&String> = match place {
        "resource" => declared.types().flat_map(|(_, fields)| fields.keys()).collect(),
        _ => declared.actions().flat_map(|(_, applies)| applies.context.keys()).collect(),
    };
    if known.iter().any(|known| *known == name) {
        return None;
    }
    let whose = if place == "resource" { "no type of resource" } else { "no action" };
    let known: Vec<&str> = known.into_iter().map(String::as_str).collect();
    let has = if known.is_empty() {
        "nothing is declared there".to_owned()
    } else {
        format!("declared are {}", known.join(", "))
    };
    Some(Finding { at: None, why: format!("asks whether the {place} has `{name}`, which {whose} declares; {has}") })
}

/// As it is told: without the policy's number, which nobody gave.
pub(crate) fn finding(error: &ValidationError) -> Finding {
    let detailed = DetailedError::from(error);
    let at = detailed.source_locations.first().map(|label| label.loc.start);
    let told = with_help(&DetailedError { source_locations: Vec::new(), ..detailed });
    let why = told.strip_prefix("for policy `").and_then(|rest| rest.split_once("`, ")).map(|(_, why)| why.to_owned());
    Finding { at, why: why.unwrap_or(told) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::select;

    fn declared() -> Declared {
        let schema = "entity Invoice { amount: Long, sealed?: Bool };\
            action \"invoice:read\" appliesTo { principal: [Agent], resource: [Invoice], context: { mfa?: Bool } };";
        Declared::parse(schema).unwrap()
    }

    fn found(text: &str, declared: Option<&Declared>) -> Vec<String> {
        let found = validate(&[Spoken { text, declared }]).remove(0);
        found.iter().map(|finding| finding.told(text)).collect()
    }

    fn when(condition: &str) -> String {
        format!("permit(principal, action, resource) when {{ {condition} }};")
    }

    #[test]
    fn several_texts_are_told_apart_and_every_place_is_told() {
        let (good, bad) =
            (when("true"), format!("{}\n{}", when("principal.nam == \"a\""), when("principal.ownrs == [\"a\"]")));
        let all = validate(&[Spoken { text: &good, declared: None }, Spoken { text: &bad, declared: None }]);
        assert!(all[0].is_empty());
        let told: Vec<String> = all[1].iter().map(|finding| finding.told(&bad)).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("at line 1, column 44: attribute `nam`"), "{told:?}");
        assert!(told[1].starts_with("at line 2, column 44: attribute `ownrs`"), "{told:?}");
        assert_eq!(found("permit(", None).len(), 1, "what does not parse does not validate");
    }

    /// Cedar's checker stops where its stack ends, and says nothing then.
    #[test]
    fn the_deepest_part_of_a_policy_is_looked_at() {
        for (left, right) in [(true, " && true"), (true, " || false"), (false, "true && ")] {
            let wrong = "principal.enviroment == \"x\"";
            let text = match left {
                true => when(&format!("{wrong}{}", right.repeat(480))),
                false => when(&format!("{}{wrong}", right.repeat(480))),
            };
            for declared in [None, Some(&declared())] {
                let told = found(&text, declared);
                assert!(told.iter().any(|one| one.contains("enviroment")), "{told:?}");
            }
        }
    }

    #[test]
    fn to_ask_after_what_nobody_states_is_told_where_it_is_declared_what_they_do() {
        let declared = declared();
        for (condition, said) in [
            (
                "resource has sealde",
                "asks whether the resource has `sealde`, which no type of resource declares; declared are amount, sealed",
            ),
            ("context has mfaa", "asks whether the context has `mfaa`, which no action declares; declared are mfa"),
            ("!(true && (resource has sealde))", "`sealde`"),
            ("context has on_behalf_of", "`on_behalf_of`"),
            ("principal has enviroment", "asks whether the principal has `enviroment`, which none has"),
        ] {
            let told = found(&when(condition), Some(&declared));
            assert!(told.iter().any(|one| one.contains(said)), "{condition}: {told:?}");
        }
        for fine in ["resource has sealed", "resource has amount", "context has mfa", "principal has model"] {
            assert_eq!(found(&when(fine), Some(&declared)), Vec::<String>::new(), "{fine}");
        }
        for open in ["resource has sealde", "context has mfaa", "context has on_behalf_of"] {
            assert_eq!(
                found(&when(open), None),
                Vec::<String>::new(),
                "{open}: without a schema anything may be stated"
            );
        }
    }

    #[test]
    fn the_namespace_of_a_type_and_many_actions_are_no_matter() {
        let actions: Vec<String> = (0..900).map(|n| format!("Action::\"a{n}\"")).collect();
        let text = format!(
            "forbid(principal is Agent in Group::\"x\", action in [{}], resource is A::B::C) when {{ context.a }};",
            actions.join(", ")
        );
        assert_eq!(found(&text, None), Vec::<String>::new());
    }

    fn condition() -> impl Strategy<Value = String> {
        let leaf = select(vec![
            "principal.environment == \"prod\"",
            "principal.owners.contains(\"user:ada\")",
            "resource.amount < 100",
            "resource.sealed",
            "context.mfa",
            "resource has sealed",
            "context has mfa",
            "principal has model",
            "principal.model like \"a*\"",
            "resource.amount == \"x\"",
            "principal.owners < 3",
            "principal.nothing",
            "context.tags.contains(1)",
        ]);
        leaf.prop_map(str::to_owned).prop_recursive(3, 16, 2, |inner| {
            prop_oneof![
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} && {b})")),
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} || {b})")),
                inner.prop_map(|a| format!("!({a})")),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

        /// What fits strictly, fits what Legate gives alone: to take a schema back makes no policy wrong.
        #[test]
        fn what_fits_a_schema_fits_without_it(condition in condition()) {
            let text = when(&condition);
            if found(&text, Some(&declared())).is_empty() {
                prop_assert_eq!(found(&text, None), Vec::<String>::new());
            }
        }
    }
}
