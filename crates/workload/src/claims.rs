//! The claims of a JWT-SVID as the protobuf that the Workload API answers with.

use prost_types::value::Kind;
use prost_types::{ListValue, NullValue, Struct, Value};

/// Deeper than this nothing is passed on: whoever decodes it has a bound as well.
const DEEPEST: usize = 32;

/// An object of JSON; `None` when it is none, or too deep.
pub(crate) fn claims(json: &[u8]) -> Option<Struct> {
    match serde_json::from_slice(json).ok()? {
        serde_json::Value::Object(members) => object(members, DEEPEST),
        _ => None,
    }
}

fn object(members: serde_json::Map<String, serde_json::Value>, left: usize) -> Option<Struct> {
    let fields: Option<_> =
        members.into_iter().map(|(name, value)| Some((name, read(value, left.checked_sub(1)?)?))).collect();
    Some(Struct { fields: fields? })
}

fn read(value: serde_json::Value, left: usize) -> Option<Value> {
    use serde_json::Value as Json;
    let kind = match value {
        Json::Null => Kind::NullValue(NullValue::NullValue.into()),
        Json::Bool(value) => Kind::BoolValue(value),
        // As the standard has it: a Struct knows no other numbers.
        Json::Number(value) => Kind::NumberValue(value.as_f64()?),
        Json::String(value) => Kind::StringValue(value),
        Json::Array(values) => {
            let left = left.checked_sub(1)?;
            let values: Option<_> = values.into_iter().map(|value| read(value, left)).collect();
            Kind::ListValue(ListValue { values: values? })
        }
        Json::Object(members) => Kind::StructValue(object(members, left)?),
    };
    Some(Value { kind: Some(kind) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn claims_come_through_as_they_are() {
        let read = claims(br#"{"aud":["a"],"exp":1800000300,"x":{"y":[null,true,1.5]}}"#).unwrap();
        assert_eq!(read.fields["exp"].kind, Some(Kind::NumberValue(1_800_000_300.0)));
        let Some(Kind::StructValue(x)) = &read.fields["x"].kind else { panic!("{read:?}") };
        let Some(Kind::ListValue(y)) = &x.fields["y"].kind else { panic!("{x:?}") };
        assert_eq!(y.values.len(), 3);
        let deep = |n: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(n), "]".repeat(n));
        assert!(claims(deep(31).as_bytes()).is_some());
        assert!(claims(deep(33).as_bytes()).is_none());
        assert!(claims(b"[]").is_none() && claims(b"x").is_none());
    }
}
