//! What differs between two versions of an object, field by field.

use std::collections::BTreeSet;

use legate_wire::registry as wire;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, MapKey, MessageDescriptor, ReflectMessage as _, SerializeOptions, Value,
};
use wire::FieldChange;

use super::reflect::{inner, is_identity, is_output_only, is_text_map, object, value};

/// The longest text of a value, in characters.
const LONGEST: usize = 256;

/// How much of what is the same is shown before what differs, in characters.
const LEAD: usize = 32;

/// Proto names, as in paths; numbers as numbers.
const AS_JSON: SerializeOptions = SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false);

/// The fields that differ, but for those that only the registry sets and those that say which object it is.
///
/// Lists are one field. Maps differ by entry (`metadata.labels[team]`). A message that comes or goes is one field, but
/// for `metadata` and `spec`, which read the same when absent as when empty. A path found here is good in a mask.
pub(crate) fn diff(before: Option<&wire::Declaration>, after: &wire::Declaration) -> Vec<FieldChange> {
    let mut changes = Vec::new();
    let Some((field, after)) = object(after) else {
        return changes;
    };
    let before = before.and_then(object).filter(|(kind, _)| *kind == field).map(|(_, before)| before);
    walk("", &after.descriptor(), before.as_ref(), Some(&after), &mut changes);
    changes
}

fn walk(
    prefix: &str,
    message: &MessageDescriptor,
    before: Option<&DynamicMessage>,
    after: Option<&DynamicMessage>,
    changes: &mut Vec<FieldChange>,
) {
    for field in message.fields().filter(|field| !is_output_only(field) && !is_identity(field)) {
        let (before, after) = (value(before, &field), value(after, &field));
        if before == after {
            continue;
        }
        let path = format!("{prefix}{}", field.name());
        if is_text_map(&field) {
            entries(&path, &field, before, after, changes);
            continue;
        }
        let (old, new) = (before.as_ref().and_then(Value::as_message), after.as_ref().and_then(Value::as_message));
        match inner(&field) {
            Some(inner) if prefix.is_empty() || (old.is_some() && new.is_some()) => {
                walk(&format!("{path}."), &inner, old, new, changes);
            }
            _ => changes.push(change(path, &told(&field, before, None), &told(&field, after, None))),
        }
    }
}

fn entries(
    path: &str,
    field: &FieldDescriptor,
    before: Option<Value>,
    after: Option<Value>,
    changes: &mut Vec<FieldChange>,
) {
    let map = |value: Option<Value>| match value {
        Some(Value::Map(map)) => map,
        _ => Default::default(),
    };
    let (before, after) = (map(before), map(after));
    let keys: BTreeSet<&MapKey> = before.keys().chain(after.keys()).collect();
    for key in keys {
        let (old, new) = (before.get(key), after.get(key));
        if let MapKey::String(name) = key
            && old != new
        {
            let one = |value: Option<&Value>| {
                value.map(|value| Value::Map([(key.clone(), value.clone())].into_iter().collect()))
            };
            let path = format!("{path}[{name}]");
            let (old, new) = (told(field, one(old), Some(name)), told(field, one(new), Some(name)));
            changes.push(change(path, &old, &new));
        }
    }
}

/// A value as JSON with sorted keys; empty when unset.
fn told(field: &FieldDescriptor, value: Option<Value>, key: Option<&str>) -> String {
    let Some(value) = value else {
        return String::new();
    };
    // Only a message knows how its fields are written.
    let mut alone = DynamicMessage::new(field.parent_message().clone());
    alone.set_field(field, value);
    let Ok(mut json) = alone.serialize_with_options(serde_json::value::Serializer, &AS_JSON) else {
        // A time out of range; the check refuses it.
        return "(not to be shown)".into();
    };
    json.sort_all_objects();
    let json = json.get(field.name());
    let json = key.map_or(json, |key| json.and_then(|map| map.get(key)));
    json.map(ToString::to_string).unwrap_or_default()
}

/// A change whose texts are cut to what people read; where they are long, to the part that differs.
fn change(path: String, before: &str, after: &str) -> FieldChange {
    let same = before.chars().zip(after.chars()).take_while(|(b, a)| b == a).count();
    let is_long = |text: &str| text.chars().nth(LONGEST).is_some();
    let from = if is_long(before) || is_long(after) { same.saturating_sub(LEAD) } else { 0 };
    FieldChange { path, before: cut(before, from), after: cut(after, from) }
}

/// At most `LONGEST` characters, from the one numbered `from` on.
fn cut(text: &str, from: usize) -> String {
    let dots = if from > 0 { "..." } else { "" };
    let room = LONGEST - dots.len();
    let mut rest = text.chars().skip(from);
    let mut some = format!("{dots}{}", rest.by_ref().take(room).collect::<String>());
    if rest.next().is_some() {
        some = some.chars().take(LONGEST - 3).chain("...".chars()).collect();
    }
    some
}

#[cfg(test)]
mod tests;
