//! What objects are found by: small facts, each a field and one value, kept beside them in a table of their own.

use std::collections::BTreeSet;

use legate_filter::{Field, Form, Order, Subject as _, Test};
use legate_wire::registry as wire;

use super::subject::Seen;

/// One fact about an object: the number of its field, and the value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Fact {
    pub(crate) field: i16,
    pub(crate) value: String,
}

/// The fields that are kept, each with its number; all labels share one.
const KEPT: &[(Field, i16)] = &[
    (Field::AgentClass, 1),
    (Field::Environment, 2),
    (Field::RiskTier, 3),
    (Field::Owners, 4),
    (Field::Sponsors, 5),
    (Field::Manager, 6),
    (Field::Parent, 7),
    (Field::Framework, 8),
    (Field::Model, 9),
    (Field::Version, 10),
    (Field::Protocols, 11),
    (Field::DataClassifications, 12),
    (Field::Regions, 13),
    (Field::ExternalId, 14),
    (Field::DisplayName, 15),
    (Field::Origin, 16),
    (Field::SanctionedStatus, 17),
];
const LABELS: i16 = 18;

/// The number of a field that is kept.
pub(crate) fn number(field: &Field) -> Option<i16> {
    KEPT.iter().find(|(kept, _)| kept == field).map(|(_, number)| *number)
}

/// What nearly every agent is, is kept of none: registered, and sanctioned.
fn is_usual(field: &Field, number: i32) -> bool {
    matches!(field, Field::Origin | Field::SanctionedStatus) && number == 1
}

/// Everything that an object is found by.
pub(crate) fn facts(declaration: &wire::Declaration) -> BTreeSet<Fact> {
    let seen = Seen::of(declaration);
    let mut all = BTreeSet::new();
    if let Some(metadata) = declaration.metadata() {
        let label = |(key, value)| Fact { field: LABELS, value: format!("{key}={value}") };
        all.extend(metadata.labels.iter().map(label));
    }
    for (field, number) in KEPT {
        let texts = seen.texts(field).iter().filter(|text| !text.is_empty()).cloned();
        all.extend(texts.map(|value| Fact { field: *number, value }));
        let word = seen.word(field).filter(|word| *word != 0 && !is_usual(field, *word));
        all.extend(word.map(|word| Fact { field: *number, value: word.to_string() }));
    }
    all
}

/// Stands before each fact of an object's row and after the last: no byte of UTF-8, so that no value can hold it.
const BETWEEN: u8 = 0xFF;

/// All facts of an object as one row of bytes, in which [`Proof::bytes`] are found.
pub(crate) fn packed(facts: &BTreeSet<Fact>) -> Vec<u8> {
    let mut all: Vec<u8> = facts.iter().flat_map(Fact::start).collect();
    all.push(BETWEEN);
    all
}

impl Fact {
    /// The bytes of a fact whose value begins so.
    fn start(&self) -> Vec<u8> {
        let mut bytes = vec![BETWEEN];
        bytes.extend(self.field.to_string().bytes());
        bytes.push(b'=');
        bytes.extend(self.value.bytes());
        bytes
    }

    /// The bytes of this fact: they are in an object's row exactly where it has the fact.
    fn whole(&self) -> Vec<u8> {
        let mut bytes = self.start();
        bytes.push(BETWEEN);
        bytes
    }
}

impl Proof {
    /// The bytes of which one or the other is in an object's row exactly where the comparison holds.
    pub(crate) fn bytes(&self) -> Vec<Vec<u8>> {
        match self {
            Self::OneOf(facts) => facts.iter().map(Fact::whole).collect(),
            Self::Begins(start) => vec![start.start()],
        }
    }
}

/// Which facts say that a comparison holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// One of these.
    OneOf(Vec<Fact>),
    /// One of this field whose value begins so.
    Begins(Fact),
}

/// The facts that an object has exactly when the comparison holds for it; `None` where no facts tell.
pub(crate) fn proof(field: &Field, test: &Test) -> Option<Proof> {
    if let Field::Label(key) = field {
        let fact = |rest: &str| Fact { field: LABELS, value: format!("{key}={rest}") };
        return Some(match test {
            Test::Is(value) => Proof::OneOf(vec![fact(value)]),
            Test::Begins(start) => Proof::Begins(fact(start)),
            _ => Proof::Begins(fact("")),
        });
    }
    let number = number(field)?;
    let fact = |value: String| Fact { field: number, value };
    let words = |order: Order, wanted: i32| {
        let Form::Choice { words, .. } = field.form() else { return None };
        let fit: Vec<i32> = words.iter().map(|(_, n)| *n).filter(|n| order.holds(n, &wanted)).collect();
        let usual = fit.iter().any(|n| is_usual(field, *n));
        (!usual).then(|| Proof::OneOf(fit.into_iter().map(|n| fact(n.to_string())).collect()))
    };
    match (test, field.form()) {
        (Test::Is(value), _) => Some(Proof::OneOf(vec![fact(value.clone())])),
        (Test::Begins(start), _) => Some(Proof::Begins(fact(start.clone()))),
        (Test::Present, Form::Choice { .. }) => words(Order::Greater, 0),
        (Test::Present, _) => Some(Proof::Begins(fact(String::new()))),
        (Test::Word(order, number), _) => words(*order, *number),
        (Test::Moment(..), _) => None,
    }
}

/// The first text after all that begin with `start`; `None` where there is none.
pub(crate) fn after_all(start: &str) -> Option<String> {
    let mut chars: Vec<char> = start.chars().collect();
    while let Some(last) = chars.pop() {
        // Texts are compared as UTF-8, whose order is that of the code points; surrogates are none.
        let next = match u32::from(last) {
            0xD7FF => Some('\u{E000}'),
            n => char::from_u32(n + 1),
        };
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::super::samples;
    use super::*;
    use legate_filter::{Filter, Scope};
    use proptest::prelude::*;
    use wire::declaration::Object;

    fn proves(facts: &BTreeSet<Fact>, proof: &Proof) -> bool {
        match proof {
            Proof::OneOf(some) => some.iter().any(|fact| facts.contains(fact)),
            Proof::Begins(start) => {
                facts.iter().any(|fact| fact.field == start.field && fact.value.starts_with(&start.value))
            }
        }
    }

    const ASKED: &str = r#"agent_class = "x*" OR environment = dev OR environment = prod OR risk_tier >= medium OR
        risk_tier:* OR owners:xx OR sponsors:"x*" OR manager:* OR parent = x OR framework:* OR model = xxx OR
        version = "xx*" OR protocols:* OR data_classifications:x OR regions:"xx*" OR external_id:* OR display_name = x OR
        origin = imported OR sanctioned_status = unsanctioned OR labels.k.0 = xx OR labels:k.1 OR labels.k.2 = "" OR
        labels.k.1 = "x*" OR risk_tier < high OR NOT (risk_tier = low)"#;

    proptest! {
        /// Facts say the same as the object.
        #[test]
        fn facts_prove_what_holds(declaration in samples::arbitrary()) {
            let (facts, seen) = (facts(&declaration), Seen::of(&declaration));
            for term in Filter::parse(ASKED, Scope::Agents).unwrap().terms() {
                let proof = proof(&term.field, &term.test).unwrap();
                let holds = Filter::parse(&term.to_string(), Scope::Agents).unwrap().holds(&seen);
                prop_assert_eq!(proves(&facts, &proof), holds, "{} of {:?}", term, facts);
                let (row, bytes) = (packed(&facts), proof.bytes());
                let found = bytes.iter().any(|some| row.windows(some.len()).any(|part| part == some.as_slice()));
                prop_assert_eq!(found, holds, "{} in {:?}", term, row);
            }
        }

        #[test]
        fn what_comes_after_a_beginning_is_after_all_of_it(start in ".{1,3}", more in ".{0,3}", other in ".{0,4}") {
            let text = format!("{start}{more}");
            if let Some(end) = after_all(&start) {
                prop_assert!(start <= text && text < end);
                prop_assert_eq!(start <= other && other < end, other.starts_with(&start));
            }
        }
    }

    #[test]
    fn what_is_usual_is_not_kept() {
        let mut agent = samples::agent();
        agent.status = Some(wire::AgentStatus {
            origin: wire::Origin::Registered.into(),
            sanctioned_status: wire::SanctionedStatus::Sanctioned.into(),
            ..Default::default()
        });
        let kept = facts(&samples::declared(Object::Agent(agent)));
        assert!(kept.iter().all(|fact| !matches!(fact.field, 16 | 17)), "{kept:?}");
        assert_eq!(kept.len(), 17);
        for text in
            ["origin = registered", "origin:*", "sanctioned_status = sanctioned", "create_time:*", "state = active"]
        {
            let filter = Filter::parse(text, Scope::Agents).unwrap();
            let term = filter.terms().next().unwrap();
            assert_eq!(proof(&term.field, &term.test), None, "{text}");
        }
        assert_eq!(after_all("\u{10ffff}"), None);
        assert_eq!(after_all("a\u{d7ff}").as_deref(), Some("a\u{e000}"));
    }
}
