//! JSON bodies, read strictly: one object, no name twice in any case, 128 deep at most.

use std::collections::BTreeSet;
use std::fmt;

use http::{HeaderMap, header};
use legate_rpc::Fault;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::answer::refused;

/// The object that a body holds.
pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Map<String, Value>, Fault> {
    let kind = super::header(headers, header::CONTENT_TYPE.as_str())?.unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    // RFC 7644 section 3.8 lets a server take the latter as well.
    if !["application/scim+json", "application/json"].iter().any(|known| kind.eq_ignore_ascii_case(known)) {
        return Err(refused("invalidSyntax", "content-type", "has to be application/scim+json"));
    }
    let whole: Whole =
        serde_json::from_slice(body).map_err(|e| refused("invalidSyntax", "body", format!("is no good JSON: {e}")))?;
    match whole.0 {
        Value::Object(object) => Ok(object),
        _ => Err(refused("invalidSyntax", "body", "has to be a JSON object")),
    }
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
        let (mut all, mut seen) = (Map::new(), BTreeSet::new());
        while let Some(name) = map.next_key::<String>()? {
            let Whole(value) = map.next_value()?;
            // RFC 7643 section 2.1: names are the same in any case.
            if !seen.insert(name.to_ascii_lowercase()) {
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
        headers.insert(header::CONTENT_TYPE, "application/scim+json; charset=utf-8".parse().unwrap());
        read(&headers, body).map_err(|fault| fault.to_string())
    }

    #[test]
    fn what_could_mean_two_things_is_refused() {
        assert_eq!(body(br#"{"a": [1, {"b": null}]}"#).unwrap()["a"][1]["b"], Value::Null);
        let deep = "{\"a\":".repeat(500) + "1" + &"}".repeat(500);
        for (bad, why) in [
            (r#"{"active": true, "active": false}"#, "comes twice"),
            (r#"{"active": true, "ACTIVE": false}"#, "comes twice"),
            (r#"{"a": {"b": 1, "B": 2}}"#, "comes twice"),
            ("[1]", "has to be a JSON object"),
            ("", "no good JSON"),
            ("{", "no good JSON"),
            ("{} {}", "no good JSON"),
            (r#"{"a": NaN}"#, "no good JSON"),
            (&deep, "recursion limit"),
        ] {
            let refused = body(bad.as_bytes()).unwrap_err();
            assert!(refused.contains(why), "{bad}: {refused}");
        }
        assert!(body(b"{\"a\": \"\xff\"}").is_err());
        assert!(read(&HeaderMap::new(), b"{}").unwrap_err().to_string().contains("application/scim+json"));
    }

    proptest! {
        #[test]
        fn any_body_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = body(&bytes);
        }
    }
}
