//! The JSON Schema of manifests, made from the protos and their comments, for editors.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::API_VERSION;
use super::document::{KINDS, METADATA, descriptor};
use super::value::words;

/// The schema of one document (JSON Schema 2020-12).
#[must_use]
pub fn schema() -> Value {
    let mut kinds = Vec::new();
    let mut definitions = Map::new();
    for kind in KINDS {
        let (of, _) = descriptor(kind);
        let part = |name: &str| of.fields().find(|f| f.json_name() == name);
        let inner = |field: Option<FieldDescriptor>| match field.map(|f| f.kind()) {
            Some(Kind::Message(inner)) => Some(inner),
            _ => None,
        };
        let (Some(metadata), Some(spec)) = (inner(part("metadata")), inner(part("spec"))) else { continue };
        // A namespace is in none, and an operator binding may be.
        let needed = match kind {
            "Namespace" | "OperatorBinding" => json!(["name"]),
            _ => json!(["name", "namespace"]),
        };
        let mut metadata = object(&metadata, &METADATA);
        metadata["required"] = needed;
        definitions.insert(
            kind.to_owned(),
            json!({
                "type": "object",
                "description": comment_of(of.path(), &of),
                "additionalProperties": false,
                "required": ["apiVersion", "kind", "metadata", "spec"],
                "properties": {
                    "apiVersion": { "const": API_VERSION },
                    "kind": { "const": kind },
                    "metadata": metadata,
                    "spec": object(&spec, &[]),
                },
            }),
        );
        kinds.push(json!({
            "if": { "properties": { "kind": { "const": kind } } },
            "then": { "$ref": format!("#/$defs/{kind}") },
        }));
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Legate manifest",
        "description": "One document of a manifest: legate plan -f FILE, legate apply -f FILE.",
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": { "apiVersion": { "const": API_VERSION }, "kind": { "enum": KINDS } },
        "allOf": kinds,
        "$defs": definitions,
    })
}

fn object(of: &MessageDescriptor, only: &[&str]) -> Value {
    let mut properties = Map::new();
    for field in of.fields().filter(|f| only.is_empty() || only.contains(&f.json_name())) {
        let mut value = if field.is_map() {
            json!({ "type": "object", "additionalProperties": { "type": "string" } })
        } else if field.is_list() {
            json!({ "type": "array", "items": one(&field.kind()) })
        } else {
            one(&field.kind())
        };
        let comment = comment_of(field.path(), field.parent_message());
        if let Some(map) = value.as_object_mut() {
            map.insert("description".into(), comment.into());
        }
        properties.insert(field.json_name().to_owned(), value);
    }
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

fn one(kind: &Kind) -> Value {
    match kind {
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Uint32 => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
        Kind::Enum(of) => json!({ "enum": words(of) }),
        Kind::Message(of) => match of.full_name() {
            "google.protobuf.Struct" => json!({ "type": "object" }),
            "google.protobuf.Timestamp" => json!({ "type": "string", "format": "date-time" }),
            "google.protobuf.Duration" => {
                json!({ "type": "string", "pattern": "^([0-9]+(\\.[0-9]{1,9})?s|[0-9]+[mhd])$" })
            }
            "legate.registry.v1.Permission" => {
                json!({ "anyOf": [{ "type": "string", "pattern": "^\\S+ on \\S.*$" }, object(of, &[])] })
            }
            "legate.registry.v1.ResourceSelector" => json!({ "anyOf": [{ "type": "string" }, object(of, &[])] }),
            _ => object(of, &[]),
        },
        _ => json!({ "type": "string" }),
    }
}

/// The comment above a message or field in its proto, on one line.
fn comment_of(path: &[i32], within: &MessageDescriptor) -> String {
    let file = within.parent_file_descriptor_proto();
    let places = file.source_code_info.iter().flat_map(|info| &info.location);
    let found = places.filter(|l| l.path == path).find_map(|l| l.leading_comments.clone());
    found.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}
