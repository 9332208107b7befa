//! `legate check`: may this agent do this to that, now, and why, asked as the operator or as an enforcement point.

use std::collections::BTreeMap;
use std::path::Path;

use legate_wire::policy::decision_service_client::DecisionServiceClient;
use legate_wire::policy::{
    Decision, EvaluateRequest, EvaluateResponse, OnBehalfOf, Reason, Resource, Subject, subject,
};
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};

use super::Desk;
use super::credential::secret;
use crate::cli::Check;
use crate::error::USAGE;
use crate::output::{Row, because, verdict, view_age};
use crate::place::Service;
use crate::{Exit, Failure, identity, proto};

pub(super) async fn run(desk: Desk, args: Check) -> Result<Exit, Failure> {
    let request = question(&desk, &args).await?;
    let policy = match &args.identity {
        Some(dir) => desk.line_as(Service::Policy, identity::open(dir)?)?,
        None => desk.line(Service::Policy)?,
    };
    let answer = policy.ask(request, |c, r| async move { DecisionServiceClient::new(c).evaluate(r).await }).await?;
    let row = Row { cells: Vec::new(), name: answer.reason_code.clone(), message: proto::dynamic(&answer), node: None };
    desk.out().one(&row.message, &row, &details(&answer))?;
    Ok(if answer.decision() == Decision::Allow { Exit::Done } else { Exit::Denied })
}

/// What the flags ask.
pub(super) async fn question(desk: &Desk, args: &Check) -> Result<EvaluateRequest, Failure> {
    Ok(EvaluateRequest {
        subject: Some(subject_of(desk, args).await?),
        action: args.action.clone(),
        resource: Some(resource(&args.resource, args.attributes.as_deref())?),
        context: args.context.as_deref().map(|text| object("--context", text)).transpose()?,
        at_least_revision: args.at_least_revision,
        ..EvaluateRequest::default()
    })
}

async fn subject_of(desk: &Desk, args: &Check) -> Result<Subject, Failure> {
    let presenter = match &args.presenter {
        Some(file) => fingerprint(file)?,
        None => Vec::new(),
    };
    let agent = match (&args.token, &args.agent) {
        (Some(token), _) => subject::Agent::AccessToken(secret(token.clone())?),
        (None, Some(agent)) => subject::Agent::AgentId(desk.agent_id(agent).await?),
        (None, None) => return Err(Failure::local(&USAGE, "--agent or --token is missing")),
    };
    let on_behalf_of = args.on_behalf_of.clone().map(|subject| OnBehalfOf { subject, grant: args.grant.clone() });
    Ok(Subject { agent: Some(agent), presenter_x5t_s256: presenter, on_behalf_of, ..Subject::default() })
}

/// SHA-256 of a certificate in DER (RFC 8705 section 3.1).
fn fingerprint(file: &Path) -> Result<Vec<u8>, Failure> {
    let identity = crate::place::identity(file, file)?;
    let found = identity.x5t_s256().ok_or_else(|| Failure::file(file, "there is no certificate in it"))?;
    Ok(found.to_vec())
}

/// Reads `TYPE:ID`; a type may hold `::`.
pub(super) fn resource(text: &str, attributes: Option<&str>) -> Result<Resource, Failure> {
    let (kind, id) = split(text).ok_or_else(|| {
        Failure::local(&USAGE, format!("--resource {text:?} is not TYPE:ID, such as Invoice:apollo/1001"))
    })?;
    let attributes = attributes.map(|text| object("--attributes", text)).transpose()?;
    Ok(Resource { r#type: kind.into(), id: id.into(), attributes })
}

/// Splits at the first colon that is no part of `::`.
pub(super) fn split(text: &str) -> Option<(&str, &str)> {
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        if bytes[i] == b':' {
            if bytes.get(i + 1) != Some(&b':') {
                return (i > 0 && i + 1 < bytes.len()).then(|| (&text[..i], &text[i + 1..]));
            }
            i += 1;
        }
        i += 1;
    }
    None
}

/// A JSON object from the command line.
pub(super) fn object(flag: &str, text: &str) -> Result<Struct, Failure> {
    let bad = |why: String| Failure::local(&USAGE, format!("{flag} is not a JSON object: {why}"));
    match serde_json::from_str(text) {
        Ok(serde_json::Value::Object(map)) => Ok(fields(map)),
        Ok(_) => Err(bad("write it in braces, such as '{\"sealed\": true}'".into())),
        Err(e) => Err(bad(e.to_string())),
    }
}

fn fields(map: serde_json::Map<String, serde_json::Value>) -> Struct {
    Struct { fields: map.into_iter().map(|(key, value)| (key, to_value(value))).collect::<BTreeMap<_, _>>() }
}

fn to_value(json: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(is) => Kind::BoolValue(is),
        Json::Number(n) => Kind::NumberValue(n.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(items) => Kind::ListValue(ListValue { values: items.into_iter().map(to_value).collect() }),
        Json::Object(map) => Kind::StructValue(fields(map)),
    };
    Value { kind: Some(kind) }
}

pub(super) fn details(answer: &EvaluateResponse) -> Vec<(&'static str, String)> {
    let all = |reasons: &[Reason]| reasons.iter().map(because).collect::<Vec<_>>().join("\n");
    let reasons = all(&answer.reasons);
    vec![
        ("decision", verdict(answer)),
        // The reasons say it better, where there are any.
        ("message", if reasons.is_empty() { answer.message.clone() } else { String::new() }),
        ("because", reasons),
        ("log only", all(&answer.log_only)),
        ("agent", answer.agent_id.clone()),
        ("on behalf of", answer.subject.clone()),
        ("by grants", all(&answer.grants)),
        ("revision", format!("{}, as seen {} ms ago at most", answer.revision, view_age(answer))),
        ("record", answer.decision_id.clone()),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_resource_is_split_at_its_own_colon() {
        assert_eq!(split("Invoice:apollo/1001"), Some(("Invoice", "apollo/1001")));
        assert_eq!(split("Acme::Invoice:a:b"), Some(("Acme::Invoice", "a:b")));
        for bad in ["Invoice", "Invoice:", ":x", "Acme::Invoice", ""] {
            assert_eq!(split(bad), None, "{bad}");
        }
        let with = resource("Invoice:1", Some(r#"{"sealed": true, "n": [1, null, {"a": "b"}]}"#)).unwrap();
        let fields = with.attributes.unwrap().fields;
        assert_eq!(fields["sealed"].kind, Some(Kind::BoolValue(true)));
        assert!(resource("Invoice:1", Some("[1]")).is_err());
        assert!(resource("Invoice:1", Some("{")).is_err());
    }
}
