//! JSON bodies, read strictly: one object, no name twice in any of its objects, 128 deep at most.

use std::fmt;

use http::{HeaderMap, header};
use legate_rpc::Fault;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
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
    let whole: Whole =
        serde_json::from_slice(body).map_err(|e| Fault::invalid("body", format!("is no good JSON: {e}")))?;
    match whole.0 {
        Value::Object(object) => Ok(object),
        _ => Err(Fault::invalid("body", "has to be a JSON object")),
    }
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

/// A value in which no object has a name twice.
struct Whole(Value);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Whole(value)) = seq.next_element()? {
            all.push(value);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let Whole(value) = map.next_value()?;
            if all.contains_key(&name) {
                // Another reader on the way may have believed the other one.
                return Err(A::Error::custom(format_args!("the name {name:?} comes twice")));
            }
            all.insert(name, value);
        }
        Ok(Value::Object(all))
    }
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
