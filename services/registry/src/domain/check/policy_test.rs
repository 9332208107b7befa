//! What may be declared of a policy test: questions that policy-decision would take.

use legate_ids::{Action, ResourceId, ResourceType};
use legate_wire::registry::{ExpectedDecision, PolicyTestCase, PolicyTestSpec};
use prost::Message as _;
use prost_types::value::Kind;
use prost_types::{Struct, Value};

use super::findings::Findings;
use crate::domain::text::{Lines, hidden, quoted};

/// The most questions of one test.
const CASES: usize = 256;
/// The most bytes of attributes, and of context, of one question.
const STRUCT: usize = 16 << 10;
/// Every whole number up to here is exact in a double.
const EXACT: f64 = 9_007_199_254_740_992.0;

pub(super) fn check(spec: &PolicyTestSpec, findings: &mut Findings) {
    findings.text("spec.description", &spec.description, Lines::Many);
    if spec.cases.is_empty() {
        findings.add("spec.cases", format!("is empty; give 1 to {CASES}"));
    }
    if findings.at_most("spec.cases", spec.cases.len(), CASES) {
        for (n, case) in spec.cases.iter().enumerate() {
            check_case(&format!("spec.cases[{n}]"), case, findings);
        }
    }
}

fn check_case(path: &str, case: &PolicyTestCase, findings: &mut Findings) {
    findings.name(&format!("{path}.agent"), &case.agent);
    let resource_type = ResourceType::parse(&case.resource_type).err().map(|e| e.to_string()).or_else(|| {
        legate_cedar::is_reserved(&case.resource_type).then(|| "it is a word of Legate's own in policies".to_owned())
    });
    for (field, value, fault) in [
        ("action", &case.action, Action::parse(&case.action).err().map(|e| e.to_string())),
        ("resource_type", &case.resource_type, resource_type),
        ("resource_id", &case.resource_id, ResourceId::parse(&case.resource_id).err().map(|e| e.to_string())),
    ] {
        if let Some(why) = fault {
            findings.add(format!("{path}.{field}"), format!("{} is refused: {why}", quoted(value)));
        }
    }
    for (field, given) in [("attributes", &case.attributes), ("context", &case.context)] {
        let Some(given) = given else { continue };
        if given.encoded_len() > STRUCT {
            findings.add(format!("{path}.{field}"), format!("is larger than {STRUCT} bytes"));
        } else if let Some(why) = struct_fault_in(given) {
            findings.add(format!("{path}.{field}"), why);
        }
    }
    let answers = "EXPECTED_DECISION_ALLOW or EXPECTED_DECISION_DENY";
    findings.choice::<ExpectedDecision>(&format!("{path}.expect"), case.expect, true, answers);
    let is_word = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    if case.reason_code.len() > 64 || !case.reason_code.bytes().all(is_word) {
        let why = format!("{} is no stable word such as FORBIDDEN_BY_POLICY", quoted(&case.reason_code));
        findings.add(format!("{path}.reason_code"), why);
    }
}

fn struct_fault_in(given: &Struct) -> Option<String> {
    given.fields.iter().find_map(|(name, value)| {
        let why = hidden(name, |_| false).or_else(|| value_fault_in(value))?;
        Some(format!("{}: {why}", quoted(name)))
    })
}

fn value_fault_in(value: &Value) -> Option<String> {
    match &value.kind {
        Some(Kind::BoolValue(_)) => None,
        Some(Kind::StringValue(text)) => hidden(text, |c| matches!(c, '\n' | '\t')),
        Some(Kind::NumberValue(n)) if n.fract() == 0.0 && n.abs() <= EXACT => None,
        Some(Kind::NumberValue(_)) => Some("policies know whole numbers up to 2^53 only; give others as text".into()),
        Some(Kind::ListValue(list)) => list.values.iter().find_map(value_fault_in),
        Some(Kind::StructValue(inner)) => struct_fault_in(inner),
        Some(Kind::NullValue(_)) | None => Some("policies know no null; leave the field out".into()),
    }
}
