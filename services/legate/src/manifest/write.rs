//! Writes a declared object as the manifest that declares it.

use legate_clock::Timestamp;
use legate_wire::registry::{Declaration, Permission, ResourceSelector};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, ReflectMessage as _, Value};
use prost_types::Struct;

use super::API_VERSION;
use super::document::METADATA;
use super::permission::{short_permission, short_selector};
use crate::proto;
use crate::yaml::Node;

/// The manifest of an object: what `legate apply` would read to declare it again.
#[must_use]
pub fn write(declaration: &Declaration) -> String {
    node(declaration).map(|n| n.to_yaml()).unwrap_or_default()
}

/// The same as a value; `None` for an empty declaration.
pub(crate) fn node(declaration: &Declaration) -> Option<Node> {
    let dynamic = proto::dynamic(declaration);
    let (_, value) = dynamic.fields().next()?;
    let object = value.as_message()?;
    let mut out = vec![
        ("apiVersion".to_owned(), Node::Text(API_VERSION.into())),
        ("kind".to_owned(), Node::Text(object.descriptor().name().to_owned())),
    ];
    for part in ["metadata", "spec"] {
        let value = object.get_field_by_name(part)?;
        let only: &[&str] = if part == "metadata" { &METADATA } else { &[] };
        out.push((part.to_owned(), fields(value.as_message()?, only)));
    }
    Some(Node::Map(out))
}

/// The fields that are set, in the order of their numbers.
pub(crate) fn fields(of: &DynamicMessage, only: &[&str]) -> Node {
    let mut out = Vec::new();
    for field in of.descriptor().fields() {
        let known = only.is_empty() || only.contains(&field.json_name());
        if known && of.has_field(&field) {
            out.push((field.json_name().to_owned(), whole(&field, &of.get_field(&field))));
        }
    }
    Node::Map(out)
}

fn whole(field: &FieldDescriptor, value: &Value) -> Node {
    match value {
        Value::List(items) => Node::List(items.iter().map(|v| one(&field.kind(), v)).collect()),
        Value::Map(entries) => {
            let kind = match field.kind() {
                Kind::Message(entry) => entry.map_entry_value_field().kind(),
                other => other,
            };
            let mut out: Vec<(String, Node)> = entries
                .iter()
                .map(|(key, value)| (key.as_str().unwrap_or_default().to_owned(), one(&kind, value)))
                .collect();
            out.sort_by(|a, b| a.0.cmp(&b.0));
            Node::Map(out)
        }
        other => one(&field.kind(), other),
    }
}

fn one(kind: &Kind, value: &Value) -> Node {
    match (kind, value) {
        (Kind::Enum(of), Value::EnumNumber(number)) => Node::Text(proto::short(of, *number)),
        (_, Value::String(text)) => Node::Text(text.clone()),
        (_, Value::Bool(is)) => Node::Plain(is.to_string()),
        (_, Value::U32(n)) => Node::Plain(n.to_string()),
        (_, Value::U64(n)) => Node::Plain(n.to_string()),
        (_, Value::I32(n)) => Node::Plain(n.to_string()),
        (_, Value::I64(n)) => Node::Plain(n.to_string()),
        (_, Value::F32(n)) => Node::Plain(n.to_string()),
        (_, Value::F64(n)) => Node::Plain(n.to_string()),
        (_, Value::Bytes(bytes)) => Node::Text(bytes.iter().map(|b| format!("{b:02x}")).collect()),
        (_, Value::Message(inner)) => message(inner),
        _ => Node::Text(String::new()),
    }
}

fn message(of: &DynamicMessage) -> Node {
    if of.descriptor().full_name() == "google.protobuf.Struct" {
        return of.transcode_to::<Struct>().map_or_else(|_| Node::Map(Vec::new()), |map| entries(&map));
    }
    let short = match of.descriptor().full_name() {
        "legate.registry.v1.Permission" => of.transcode_to::<Permission>().ok().and_then(|p| short_permission(&p)),
        "legate.registry.v1.ResourceSelector" => {
            of.transcode_to::<ResourceSelector>().ok().and_then(|s| short_selector(&s))
        }
        "google.protobuf.Timestamp" => of
            .transcode_to::<prost_types::Timestamp>()
            .ok()
            .and_then(|t| Timestamp::try_from(t).ok())
            .map(|t| t.to_string()),
        "google.protobuf.Duration" => of.transcode_to::<prost_types::Duration>().ok().map(|d| duration(&d)),
        _ => None,
    };
    short.map_or_else(|| fields(of, &[]), Node::Text)
}

fn entries(of: &Struct) -> Node {
    Node::Map(of.fields.iter().map(|(name, value)| (name.clone(), anything(value))).collect())
}

fn anything(of: &prost_types::Value) -> Node {
    use prost_types::value::Kind;
    match &of.kind {
        Some(Kind::StringValue(text)) => Node::Text(text.clone()),
        Some(Kind::BoolValue(is)) => Node::Plain(is.to_string()),
        Some(Kind::NumberValue(number)) => Node::Plain(number.to_string()),
        Some(Kind::ListValue(list)) => Node::List(list.values.iter().map(anything).collect()),
        Some(Kind::StructValue(map)) => entries(map),
        Some(Kind::NullValue(_)) | None => Node::Plain("null".to_owned()),
    }
}

fn duration(of: &prost_types::Duration) -> String {
    if of.nanos == 0 {
        return format!("{}s", of.seconds);
    }
    let part = format!("{:09}", of.nanos);
    format!("{}.{}s", of.seconds, part.trim_end_matches('0'))
}
