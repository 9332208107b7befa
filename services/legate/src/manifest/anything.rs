//! Reads attributes and context: values of any shape that policies know, so no null.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::secret;
use super::value::{Budget, Key, MOST_ENTRIES, holds};

/// So many values within values at most.
const DEEPEST: u8 = 16;
/// Every whole number up to here is exact in a double.
const EXACT: u64 = 1 << 53;

/// A map of names and values.
pub(super) struct Anything<'a> {
    pub(super) name: &'a str,
    pub(super) budget: &'a Budget,
}

impl<'de> DeserializeSeed<'de> for Anything<'_> {
    type Value = Struct;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Struct, D::Error> {
        match (One { name: self.name, budget: self.budget, depth: 0 }).deserialize(from)?.kind {
            Some(Kind::StructValue(map)) => Ok(map),
            _ => Err(D::Error::custom(format!("{} is a map of names and values", self.name))),
        }
    }
}

struct One<'a> {
    name: &'a str,
    budget: &'a Budget,
    depth: u8,
}

impl<'a> One<'a> {
    fn within<E: Error>(&self) -> Result<One<'a>, E> {
        match self.depth {
            DEEPEST => Err(E::custom(format!("{} is nested too deep", self.name))),
            depth => Ok(One { depth: depth + 1, ..*self }),
        }
    }

    fn number<E: Error>(&self, exact: Option<f64>) -> Result<Value, E> {
        let why = || E::custom(format!("{} knows whole numbers up to 2^53 only; give others as text", self.name));
        exact.map(|n| of(Kind::NumberValue(n))).ok_or_else(why)
    }
}

fn of(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

/// A whole number as a double, where it is exact.
#[allow(clippy::cast_precision_loss, reason = "whole and at most 2^53")]
fn exact(magnitude: u64) -> Option<f64> {
    (magnitude <= EXACT).then_some(magnitude as f64)
}

impl<'de> DeserializeSeed<'de> for One<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        self.budget.spend()?;
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for One<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a text, a whole number, true, false, a list or a map in {}", self.name)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(of(Kind::BoolValue(value)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.number(exact(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        let magnitude = exact(value.unsigned_abs());
        self.number(magnitude.map(|n| if value < 0 { -n } else { n }))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        let is_whole = value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0;
        self.number(is_whole.then_some(value))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        match secret::found_in(text) {
            Some(kind) => Err(E::custom(holds(kind))),
            None => Ok(of(Kind::StringValue(text.to_owned()))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(self.within()?)? {
            if values.len() == MOST_ENTRIES {
                return Err(A::Error::custom(format!("more than {MOST_ENTRIES} entries")));
            }
            values.push(value);
        }
        Ok(of(Kind::ListValue(ListValue { values })))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = BTreeMap::new();
        let mut seen = HashSet::new();
        let refuse = |key: &str| secret::found_in(key).map(holds);
        while let Some(key) = map.next_key_seed(Key { refuse: &refuse, seen: &mut seen })? {
            if fields.len() == MOST_ENTRIES {
                return Err(A::Error::custom(format!("more than {MOST_ENTRIES} entries")));
            }
            fields.insert(key, map.next_value_seed(self.within()?)?);
        }
        if secret::is_private_key(|name| fields.contains_key(name)) {
            return Err(A::Error::custom(holds("a private key")));
        }
        Ok(of(Kind::StructValue(Struct { fields })))
    }
}
