//! Bodies of questions, and what policies get of them.

use http::{HeaderMap, header};
use legate_rpc::Fault;
use legate_web::json::{Names, object};
use prost_types::value::Kind;
use prost_types::{ListValue, Struct};
use serde_json::{Map, Value};

/// Every whole number up to here is exact in a double.
const EXACT: u64 = 1 << 53;

/// The object that a body holds. Members that nobody knows are let be (section 5).
pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Map<String, Value>, Fault> {
    let kind = super::header(headers, header::CONTENT_TYPE.as_str())?.unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(Fault::invalid("content-type", "has to be application/json"));
    }
    object(body, Names::AsWritten).map_err(|why| Fault::invalid("body", why))
}

/// An object as policies get it. A number that would be rounded on the way is refused.
pub(super) fn structure(object: &Map<String, Value>) -> Result<Struct, String> {
    let fields =
        object.iter().map(|(name, value)| Ok((name.clone(), self::value(value)?))).collect::<Result<_, String>>()?;
    Ok(Struct { fields })
}

fn value(from: &Value) -> Result<prost_types::Value, String> {
    let kind = match from {
        Value::Null => Kind::NullValue(0),
        Value::Bool(yes) => Kind::BoolValue(*yes),
        Value::Number(number) => {
            let whole = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            match (whole, number.as_f64()) {
                (None | Some(..=EXACT), Some(number)) => Kind::NumberValue(number),
                _ => return Err("policies know whole numbers up to 2^53 only; give others as text".into()),
            }
        }
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(all) => {
            let values = all.iter().map(value).collect::<Result<_, _>>()?;
            Kind::ListValue(ListValue { values })
        }
        Value::Object(object) => Kind::StructValue(structure(object)?),
    };
    Ok(prost_types::Value { kind: Some(kind) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn body(body: &[u8]) -> Result<Map<String, Value>, String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, "Application/JSON; charset=utf-8".parse().unwrap());
        read(&headers, body).map_err(|fault| fault.to_string())
    }

    #[test]
    fn what_could_mean_two_things_is_refused() {
        assert_eq!(body(br#"{"a": [1, {"b": null}], "A": 1}"#).unwrap()["a"][1]["b"], Value::Null);
        let deep = "{\"a\":".repeat(500) + "1" + &"}".repeat(500);
        for (bad, why) in [
            (r#"{"subject": {}, "subject": {}}"#, "comes twice"),
            (r#"{"subject": {"id": "a", "id": "b"}}"#, "comes twice"),
            ("[1]", "has to be a JSON object"),
            ("", "no good JSON"),
            ("{} {}", "no good JSON"),
            (r#"{"a": NaN}"#, "no good JSON"),
            (&deep, "recursion limit"),
        ] {
            let refused = body(bad.as_bytes()).unwrap_err();
            assert!(refused.contains(why), "{bad}: {refused}");
        }
        assert!(read(&HeaderMap::new(), b"{}").unwrap_err().to_string().contains("application/json"));
    }

    #[test]
    fn no_number_is_rounded_on_its_way_to_a_policy() {
        for (text, good) in [
            ("9007199254740992", true),
            ("-9007199254740992", true),
            ("9007199254740993", false),
            ("-9007199254740993", false),
            ("18446744073709551615", false),
            ("1e3", true),
        ] {
            let read = body(format!("{{\"n\": [{{\"n\": {text}}}]}}").as_bytes()).unwrap();
            assert_eq!(structure(&read).is_ok(), good, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_body_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(read) = body(&bytes) {
                let _ = structure(&read);
            }
        }
    }
}
