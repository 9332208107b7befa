//! Reads values as the descriptors of the protos say, so that whatever is wrong is refused where it stands.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::fmt;

use legate_clock::Timestamp;
use legate_wire::registry::{Permission, ResourceSelector};
use prost::Message;
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _, Value,
};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::anything::Anything;
use super::{permission, secret};
use crate::proto;

const PERMISSION: &str = "legate.registry.v1.Permission";
const SELECTOR: &str = "legate.registry.v1.ResourceSelector";
const TIMESTAMP: &str = "google.protobuf.Timestamp";
const DURATION: &str = "google.protobuf.Duration";
const STRUCT: &str = "google.protobuf.Struct";

/// What is counted while a file is read: an alias that stands for many values costs as many.
#[derive(Debug)]
pub(super) struct Budget(Cell<u32>);

/// Values in one file at most.
const MOST_VALUES: u32 = 500_000;
/// Entries in one list or map at most; the registry's own limits are lower.
pub(super) const MOST_ENTRIES: usize = 1_024;

impl Budget {
    pub(super) fn new() -> Self {
        Self(Cell::new(MOST_VALUES))
    }

    pub(super) fn spend<E: Error>(&self) -> Result<(), E> {
        let left = self.0.get().checked_sub(1);
        self.0.set(left.ok_or_else(|| E::custom("the file holds too many values; is it an alias of an alias?"))?);
        Ok(())
    }
}

/// A key of a map, refused when it is not allowed or has been seen.
pub(super) struct Key<'a> {
    /// What is said when the key is not known, `None` when it is.
    pub(super) refuse: &'a dyn Fn(&str) -> Option<String>,
    pub(super) seen: &'a mut HashSet<String>,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<String, D::Error> {
        from.deserialize_any(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<String, E> {
        if let Some(why) = (self.refuse)(key) {
            return Err(E::custom(why));
        }
        if !self.seen.insert(key.to_owned()) {
            return Err(E::custom(format!("{key:?} is given twice")));
        }
        Ok(key.to_owned())
    }
}

/// A message with its fields by their JSON names.
pub(super) struct Fields<'a> {
    pub(super) of: &'a MessageDescriptor,
    /// The only fields that may be given; none: all of them.
    pub(super) only: &'a [&'a str],
    /// What has to hold when all fields are there.
    pub(super) check: &'a dyn Fn(&DynamicMessage) -> Result<(), String>,
    pub(super) budget: &'a Budget,
}

impl Fields<'_> {
    fn field(&self, name: &str) -> Option<FieldDescriptor> {
        let field = self.of.fields().find(|f| f.json_name() == name)?;
        (self.only.is_empty() || self.only.contains(&name)).then_some(field)
    }

    fn names(&self) -> String {
        let names: Vec<String> =
            self.of.fields().map(|f| f.json_name().to_owned()).filter(|n| self.field(n).is_some()).collect();
        names.join(", ")
    }
}

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = DynamicMessage;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<DynamicMessage, D::Error> {
        self.budget.spend()?;
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = DynamicMessage;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.of.full_name() {
            PERMISSION => f.write_str("a permission such as `invoice:read on Invoice:*`"),
            SELECTOR => f.write_str("a selector such as `Invoice:apollo/*`"),
            TIMESTAMP => f.write_str("a moment such as 2026-11-24T08:00:00Z"),
            DURATION => f.write_str("a duration such as 300s, 5m, 24h or 30d"),
            _ => write!(f, "the fields {}", self.names()),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<DynamicMessage, E> {
        let mut out = DynamicMessage::new(self.of.clone());
        let bytes = match self.of.full_name() {
            PERMISSION => permission::permission(text).map_err(E::custom)?.encode_to_vec(),
            SELECTOR => permission::selector(text).map_err(E::custom)?.encode_to_vec(),
            TIMESTAMP => moment(text).map_err(E::custom)?.encode_to_vec(),
            DURATION => duration(text).map_err(E::custom)?.encode_to_vec(),
            _ => return Err(E::invalid_type(serde::de::Unexpected::Str(text), &self)),
        };
        out.merge(bytes.as_slice()).map_err(E::custom)?;
        Ok(out)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<DynamicMessage, A::Error> {
        let name = self.of.full_name();
        if name == TIMESTAMP || name == DURATION {
            return Err(A::Error::invalid_type(serde::de::Unexpected::Map, &self));
        }
        let mut out = DynamicMessage::new(self.of.clone());
        let mut seen = HashSet::new();
        let refuse = |key: &str| {
            self.field(key).is_none().then(|| format!("there is no field {key:?} here; there are: {}", self.names()))
        };
        while let Some(key) = map.next_key_seed(Key { refuse: &refuse, seen: &mut seen })? {
            let Some(field) = self.field(&key) else { continue };
            let other = field.containing_oneof().and_then(|of| of.fields().find(|f| out.has_field(f)));
            if let Some(other) = other {
                let other = other.json_name();
                return Err(A::Error::custom(format!("{key} stands beside {other}; give one of them")));
            }
            let value = map.next_value_seed(Whole { field: &field, budget: self.budget })?;
            out.set_field(&field, value);
        }
        (self.check)(&out).map_err(A::Error::custom)?;
        Ok(out)
    }
}

/// The whole value of a field: a list, a map or one.
struct Whole<'a> {
    field: &'a FieldDescriptor,
    budget: &'a Budget,
}

impl<'a> Whole<'a> {
    fn one(&self, kind: Kind) -> One<'a> {
        One { name: self.field.json_name().to_owned(), kind, budget: self.budget }
    }
}

impl<'de> DeserializeSeed<'de> for Whole<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        self.budget.spend()?;
        if self.field.is_list() || self.field.is_map() {
            return from.deserialize_any(self);
        }
        self.one(self.field.kind()).deserialize(from)
    }
}

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.field.is_map() { "names and texts" } else { "a list" };
        write!(f, "{what} for {}", self.field.json_name())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        if self.field.is_map() {
            return Err(A::Error::invalid_type(serde::de::Unexpected::Seq, &self));
        }
        let mut out = Vec::new();
        while let Some(value) = seq.next_element_seed(self.one(self.field.kind()))? {
            if out.len() == MOST_ENTRIES {
                return Err(A::Error::custom(format!("more than {MOST_ENTRIES} entries")));
            }
            out.push(value);
        }
        Ok(Value::List(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let entry = match self.field.kind() {
            Kind::Message(entry) if self.field.is_map() => entry,
            _ => return Err(A::Error::invalid_type(serde::de::Unexpected::Map, &self)),
        };
        let mut out = HashMap::new();
        let mut seen = HashSet::new();
        let refuse = |key: &str| secret::found_in(key).map(holds);
        while let Some(key) = map.next_key_seed(Key { refuse: &refuse, seen: &mut seen })? {
            if out.len() == MOST_ENTRIES {
                return Err(A::Error::custom(format!("more than {MOST_ENTRIES} entries")));
            }
            let value = map.next_value_seed(self.one(entry.map_entry_value_field().kind()))?;
            out.insert(MapKey::String(key), value);
        }
        Ok(Value::Map(out))
    }
}

/// One value that is neither a list nor a map.
struct One<'a> {
    name: String,
    kind: Kind,
    budget: &'a Budget,
}

impl<'de> DeserializeSeed<'de> for One<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        if let Kind::Message(of) = &self.kind
            && of.full_name() == STRUCT
        {
            let read = Anything { name: &self.name, budget: self.budget }.deserialize(from)?;
            let mut out = DynamicMessage::new(of.clone());
            out.transcode_from(&read).map_err(D::Error::custom)?;
            return Ok(Value::Message(out));
        }
        if let Kind::Message(of) = &self.kind {
            let fields = Fields { of, only: &[], check: &grammar, budget: self.budget };
            return fields.deserialize(from).map(Value::Message);
        }
        self.budget.spend()?;
        from.deserialize_any(self)
    }
}

impl Visitor<'_> for One<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Bool => write!(f, "true or false for {}", self.name),
            Kind::Uint32 => write!(f, "a whole number for {}", self.name),
            Kind::Enum(of) => write!(f, "one of {} for {}", words(of).join(", "), self.name),
            _ => write!(f, "a text for {} (put it in quotes)", self.name),
        }
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        match self.kind {
            Kind::Bool => Ok(Value::Bool(value)),
            _ => Err(E::invalid_type(serde::de::Unexpected::Bool(value), &self)),
        }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        match (&self.kind, u32::try_from(value)) {
            (Kind::Uint32, Ok(number)) => Ok(Value::U32(number)),
            _ => Err(E::invalid_type(serde::de::Unexpected::Unsigned(value), &self)),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        match &self.kind {
            Kind::String => match secret::found_in(text) {
                Some(kind) => Err(E::custom(holds(kind))),
                None => Ok(Value::String(text.to_owned())),
            },
            Kind::Enum(of) => {
                let long = format!("{}{text}", proto::prefix(of));
                let found = of.values().find(|v| v.number() != 0 && (v.name() == text || v.name() == long));
                let value = found.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))?;
                Ok(Value::EnumNumber(value.number()))
            }
            _ => Err(E::invalid_type(serde::de::Unexpected::Str(text), &self)),
        }
    }
}

/// Whether a permission or selector that was written out keeps to its grammar; anything else does.
fn grammar(of: &DynamicMessage) -> Result<(), String> {
    let unread = |e: prost::DecodeError| e.to_string();
    match of.descriptor().full_name() {
        PERMISSION => permission::check_permission(&of.transcode_to::<Permission>().map_err(unread)?),
        SELECTOR => permission::check_selector(&of.transcode_to::<ResourceSelector>().map_err(unread)?),
        _ => Ok(()),
    }
}

pub(super) fn holds(kind: &str) -> String {
    format!("this looks like {kind}; a manifest holds no secrets")
}

/// The values of an enum that may be written.
pub(super) fn words(of: &EnumDescriptor) -> Vec<String> {
    of.values().filter(|v| v.number() != 0).map(|v| proto::short(of, v.number())).collect()
}

fn moment(text: &str) -> Result<prost_types::Timestamp, String> {
    let bad = || format!("{text:?} is not a moment of RFC 3339 such as 2026-11-24T08:00:00Z");
    Timestamp::parse_rfc3339(text).map(Into::into).ok_or_else(bad)
}

/// Reads `300s`, `0.5s`, `5m`, `24h`, `30d`.
pub(crate) fn duration(text: &str) -> Result<prost_types::Duration, String> {
    let bad = || format!("{text:?} is not a duration; write 300s, 5m, 24h or 30d");
    let units: [(char, i64); 4] = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400)];
    let found = units.iter().find_map(|(unit, each)| Some((text.strip_suffix(*unit)?, *each)));
    let (number, each) = found.ok_or_else(bad)?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |t: &str| !t.is_empty() && t.len() <= 12 && t.bytes().all(|b| b.is_ascii_digit());
    // google.protobuf.Duration in JSON: up to nine digits after the point, of seconds.
    if !digits(whole) || !digits(part) || part.len() > 9 || (number.contains('.') && each != 1) {
        return Err(bad());
    }
    let seconds = whole.parse::<i64>().ok().and_then(|n| n.checked_mul(each)).ok_or_else(bad)?;
    let nanos = format!("{part:0<9}").parse().map_err(|_| bad())?;
    Ok(prost_types::Duration { seconds, nanos })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn durations_are_read_in_whole_units_and_seconds_with_a_part() {
        let read = |t: &str| duration(t).map(|d| (d.seconds, d.nanos));
        assert_eq!(read("300s").unwrap(), (300, 0));
        assert_eq!(read("0.25s").unwrap(), (0, 250_000_000));
        assert_eq!(read("5m").unwrap(), (300, 0));
        assert_eq!(read("30d").unwrap(), (2_592_000, 0));
        for bad in ["", "s", "5", "-5s", "1.5h", "5 s", "1e3s", "99999999999999s", "5é"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
