//! JSON from outside, read strictly: no name twice in any of its objects, 128 deep at most.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// When two names in an object are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// When their bytes are.
    AsWritten,
    /// In any case of ASCII letters (RFC 7643 section 2.1).
    InAnyCase,
}

/// The object that a body holds.
///
/// # Errors
/// What is wrong with the body, to be read behind a word for it: `is no good JSON: ...`.
pub fn object(body: &[u8], names: Names) -> Result<Map<String, Value>, String> {
    match value(body, names)? {
        Value::Object(object) => Ok(object),
        _ => Err("has to be a JSON object".into()),
    }
}

/// The value that a body holds.
///
/// # Errors
/// What is wrong with the body, to be read behind a word for it: `is no good JSON: ...`.
pub fn value(body: &[u8], names: Names) -> Result<Value, String> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let whole = Whole(names).deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    whole.map_err(|e| format!("is no good JSON: {e}"))
}

/// Reads a value in which no object has a name twice.
#[derive(Clone, Copy)]
struct Whole(Names);

impl<'de> DeserializeSeed<'de> for Whole {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Whole {
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
        while let Some(value) = seq.next_element_seed(self)? {
            all.push(value);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let (mut all, mut seen) = (Map::new(), BTreeSet::new());
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(self)?;
            let known = match self.0 {
                Names::AsWritten => name.clone(),
                Names::InAnyCase => name.to_ascii_lowercase(),
            };
            if !seen.insert(known) {
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

    #[test]
    fn what_two_readers_could_read_in_two_ways_is_refused() {
        let read = |text: &str| value(text.as_bytes(), Names::AsWritten);
        assert_eq!(read(r#"{"a": [1, {"b": null}]}"#).unwrap(), serde_json::json!({"a": [1, {"b": null}]}));
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for bad in [r#"{"a": 1, "a": 2}"#, r#"{"x": {"a": 1, "\u0061": 2}}"#, "{} {}", "", "{", "[1,]", "NaN", &deep] {
            assert!(read(bad).unwrap_err().starts_with("is no good JSON: "), "{bad}");
        }
        assert!(object(b"[1]", Names::AsWritten).is_err());
        assert!(object(br#"{"a": 1, "A": 2}"#, Names::InAnyCase).is_err());
        assert_eq!(object(br#"{"a": 1, "A": 2}"#, Names::AsWritten).unwrap().len(), 2);
    }
}
