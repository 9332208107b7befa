//! Declared objects seen through their descriptors, so that a new field needs no code, and which fields are whose.

use std::sync::LazyLock;

use legate_wire::registry as wire;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

/// Fields that the registry sets and nobody else; where one is a message, everything in it.
pub(super) const OUTPUT_ONLY: &[(&str, &[&str])] = &[
    (
        "legate.registry.v1.Metadata",
        &["id", "revision", "etag", "create_time", "update_time", "created_by", "updated_by", "reason", "version"],
    ),
    ("legate.registry.v1.Agent", &["status"]),
    ("legate.registry.v1.Namespace", &["status"]),
    ("legate.registry.v1.AgentClass", &["status"]),
    ("legate.registry.v1.EnforcementPoint", &["spiffe_id"]),
    ("legate.registry.v1.Node", &["spiffe_id"]),
    ("legate.registry.v1.Approval", &["status"]),
    ("legate.registry.v1.StopOrder", &["status"]),
    ("legate.registry.v1.LifecyclePolicy", &["status"]),
];

/// Fields that say which object it is.
const IDENTITY: (&str, &[&str]) = ("legate.registry.v1.Metadata", &["name", "namespace"]);

static DECLARATION: LazyLock<MessageDescriptor> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(legate_wire::DESCRIPTORS).expect("the build wrote descriptors that can be read");
    pool.get_message_by_name("legate.registry.v1.Declaration").expect("the registry's protos declare Declaration")
});

/// The object of a declaration, and the field of the oneof that it stands in.
pub(super) fn object(declaration: &wire::Declaration) -> Option<(FieldDescriptor, DynamicMessage)> {
    let mut seen = DynamicMessage::decode(DECLARATION.clone(), declaration.encode_to_vec().as_slice())
        .expect("a message reads what the same message wrote");
    let field = DECLARATION.fields().find(|field| seen.has_field(field))?;
    match seen.take_field(&field)? {
        Value::Message(object) => Some((field, object)),
        _ => None,
    }
}

/// The declaration of an object that was taken from the field.
pub(super) fn declaration(field: &FieldDescriptor, object: DynamicMessage) -> wire::Declaration {
    let mut seen = DynamicMessage::new(DECLARATION.clone());
    seen.set_field(field, Value::Message(object));
    seen.transcode_to().expect("a message reads what the same message wrote")
}

fn is_listed((message, fields): (&str, &[&str]), field: &FieldDescriptor) -> bool {
    field.parent_message().full_name() == message && fields.contains(&field.name())
}

/// Whether only the registry sets it.
pub(super) fn is_output_only(field: &FieldDescriptor) -> bool {
    OUTPUT_ONLY.iter().any(|listed| is_listed(*listed, field))
}

/// Whether it says which object it is.
pub(super) fn is_identity(field: &FieldDescriptor) -> bool {
    is_listed(IDENTITY, field)
}

/// The message that a field holds one of, when its fields can be told apart: not a list, a map, a time.
pub(super) fn inner(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    match field.kind() {
        Kind::Message(inner)
            if !field.is_list() && !field.is_map() && !inner.full_name().starts_with("google.protobuf.") =>
        {
            Some(inner)
        }
        _ => None,
    }
}

/// Whether a field is a map by texts, whose entries can be told apart.
pub(super) fn is_text_map(field: &FieldDescriptor) -> bool {
    field.is_map() && matches!(field.kind(), Kind::Message(entry) if entry.map_entry_key_field().kind() == Kind::String)
}

/// What a field holds, `None` when it is not set or holds its default.
pub(super) fn value(message: Option<&DynamicMessage>, field: &FieldDescriptor) -> Option<Value> {
    let message = message.filter(|message| message.has_field(field))?;
    Some(message.get_field(field).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::super::samples;
    use super::*;

    /// The table says what the protos say: each field of a declared object whose comment ends in "Output only.".
    #[test]
    fn the_table_is_that_of_the_protos() {
        let mut said = Vec::new();
        let files = [
            "agent",
            "approval",
            "boundary",
            "declaration",
            "delegation",
            "group",
            "lifecycle",
            "metadata",
            "operator_binding",
            "permission",
            "policy_test",
            "review",
            "stop",
            "trust",
        ];
        for file in files {
            let path = format!("{}/../../proto/legate/registry/v1/{file}.proto", env!("CARGO_MANIFEST_DIR"));
            let (mut message, mut comment) = (String::new(), String::new());
            for line in std::fs::read_to_string(path).unwrap().lines() {
                let line = line.trim();
                if let Some(more) = line.strip_prefix("//") {
                    comment += more;
                } else {
                    if let Some(name) = line.strip_prefix("message ").and_then(|l| l.strip_suffix(" {")) {
                        name.clone_into(&mut message);
                    } else if let Some((field, _)) = line.split_once(" = ")
                        && comment.contains("Output only.")
                    {
                        let name = field.rsplit(' ').next().unwrap();
                        said.push(format!("legate.registry.v1.{message}.{name}"));
                    }
                    comment.clear();
                }
            }
        }
        let mut ours: Vec<_> =
            OUTPUT_ONLY.iter().flat_map(|(m, fields)| fields.iter().map(move |f| format!("{m}.{f}"))).collect();
        said.sort();
        ours.sort();
        assert_eq!(ours, said);
    }

    #[test]
    fn an_object_comes_back_as_it_was() {
        for sample in samples::one_of_each() {
            let (field, seen) = object(&sample).unwrap();
            assert_eq!(declaration(&field, seen), sample);
        }
        assert!(object(&wire::Declaration::default()).is_none());
    }
}
