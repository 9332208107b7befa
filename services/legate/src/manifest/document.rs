//! One document: `apiVersion`, `kind`, `metadata`, `spec`.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use legate_ids::Name;
use legate_wire::registry::Declaration;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::value::{Budget, Fields, Key};
use super::{API_VERSION, Document, Seen};
use crate::proto;

/// What an operator may write of an object's metadata; the rest is the registry's.
pub(super) const METADATA: [&str; 4] = ["name", "namespace", "labels", "annotations"];

/// The kinds that operators declare.
pub(super) const KINDS: [&str; 19] = [
    "Namespace",
    "AgentClass",
    "Agent",
    "Group",
    "Role",
    "RoleBinding",
    "Policy",
    "Boundary",
    "CredentialPolicy",
    "TrustedIssuer",
    "AttestationPolicy",
    "DelegationGrant",
    "PolicyTest",
    "LifecyclePolicy",
    "OperatorBinding",
    "ReviewCampaign",
    "EnforcementPoint",
    "Node",
    "FederatedTrustDomain",
];

/// What the first reading tells: the kind; `None` for an empty document.
#[derive(Debug, Default)]
pub(super) struct Kinds(Option<&'static str>);

/// The first reading: only the kind.
pub(super) struct Sketch;

impl<'de> DeserializeSeed<'de> for Sketch {
    type Value = Kinds;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Kinds, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Sketch {
    type Value = Kinds;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a document with apiVersion, kind, metadata and spec")
    }

    fn visit_unit<E: Error>(self) -> Result<Kinds, E> {
        Ok(Kinds(None))
    }

    fn visit_none<E: Error>(self) -> Result<Kinds, E> {
        Ok(Kinds(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kinds, A::Error> {
        let mut found = None;
        let mut seen = HashSet::new();
        let refuse = |key: &str| {
            let known = ["apiVersion", "kind", "metadata", "spec"].contains(&key);
            (!known).then(|| format!("there is no field {key:?} here; there are: apiVersion, kind, metadata, spec"))
        };
        while let Some(key) = map.next_key_seed(Key { refuse: &refuse, seen: &mut seen })? {
            if key == "kind" {
                found = Some(map.next_value_seed(Word { name: "kind", of: &KINDS })?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        let missing = ["apiVersion", "kind", "metadata", "spec"].into_iter().find(|f| !seen.contains(*f));
        match missing {
            Some(field) => Err(A::Error::custom(format!("the document has no {field}"))),
            None => Ok(Kinds(found)),
        }
    }
}

/// One word out of several.
struct Word<'a> {
    name: &'a str,
    of: &'a [&'static str],
}

impl<'de> DeserializeSeed<'de> for Word<'_> {
    type Value = &'static str;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<&'static str, D::Error> {
        from.deserialize_any(self)
    }
}

impl Visitor<'_> for Word<'_> {
    type Value = &'static str;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to be {}", self.name, self.of.join(", "))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<&'static str, E> {
        let found = self.of.iter().find(|word| **word == text);
        found.copied().ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }
}

/// The second reading: everything, by the kind.
pub(super) struct Full<'a> {
    pub(super) path: &'a Path,
    pub(super) kinds: &'a Kinds,
    pub(super) budget: &'a Budget,
    pub(super) seen: &'a mut Seen,
}

impl<'de> DeserializeSeed<'de> for Full<'_> {
    type Value = Option<Document>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<Document>, D::Error> {
        self.budget.spend()?;
        from.deserialize_any(self)
    }
}

/// The message of a kind, and the field of a declaration that holds it.
pub(super) fn descriptor(kind: &str) -> (MessageDescriptor, Option<FieldDescriptor>) {
    let of = proto::message(&format!("legate.registry.v1.{kind}"));
    let declaration = proto::message("legate.registry.v1.Declaration");
    let arm = declaration.fields().find(|f| matches!(f.kind(), Kind::Message(m) if m == of));
    (of, arm)
}

impl<'de> Visitor<'de> for Full<'_> {
    type Value = Option<Document>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a document with apiVersion, kind, metadata and spec")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Some(kind) = self.kinds.0 else {
            return Err(A::Error::custom("the document has no kind"));
        };
        let (of, arm) = descriptor(kind);
        let mut object = DynamicMessage::new(of.clone());
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key_seed(Key { refuse: &|_| None, seen: &mut seen })? {
            match key.as_str() {
                "apiVersion" => drop(map.next_value_seed(Word { name: "apiVersion", of: &[API_VERSION] })?),
                "kind" => drop(map.next_value_seed(Word { name: "kind", of: &KINDS })?),
                _ => {
                    let Some(field) = of.fields().find(|f| f.json_name() == key) else { continue };
                    let Kind::Message(inner) = field.kind() else { continue };
                    let is_metadata = key == "metadata";
                    let only: &[&str] = if is_metadata { &METADATA } else { &[] };
                    let check = |m: &DynamicMessage| if is_metadata { names(kind, m) } else { Ok(()) };
                    let fields = Fields { of: &inner, only, check: &check, budget: self.budget };
                    let value = map.next_value_seed(fields)?;
                    object.set_field(&field, Value::Message(value));
                }
            }
        }
        let (namespace, name) = named(&object);
        let place = format!("{} (document {})", self.path.display(), self.seen.len() + 1);
        let entry = (kind, namespace.clone(), name.clone());
        if let Some(earlier) = self.seen.insert(entry, place) {
            return Err(A::Error::custom(format!("{kind} {namespace}/{name} is declared twice, first in {earlier}")));
        }
        let mut declaration = DynamicMessage::new(proto::message("legate.registry.v1.Declaration"));
        if let Some(arm) = arm {
            declaration.set_field(&arm, Value::Message(object));
        }
        let declaration: Declaration = declaration.transcode_to().map_err(A::Error::custom)?;
        Ok(Some(Document { declaration, kind, namespace, name }))
    }
}

fn named(object: &DynamicMessage) -> (String, String) {
    let Some(metadata) = object.get_field_by_name("metadata") else { return Default::default() };
    let text = |name| {
        let found = metadata.as_message().and_then(|m| m.get_field_by_name(name));
        found.and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
    };
    (text("namespace"), text("name"))
}

/// Whether an object's names keep to their grammar.
fn names(kind: &str, metadata: &DynamicMessage) -> Result<(), String> {
    let text = |name| {
        let value = metadata.get_field_by_name(name);
        value.and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
    };
    Name::parse(&text("name")).map_err(|e| format!("metadata.name: {e}"))?;
    match (kind, text("namespace").as_str()) {
        ("Namespace", "") => Ok(()),
        // It speaks of all namespaces.
        ("OperatorBinding", "") => Ok(()),
        ("Namespace", _) => Err("metadata.namespace: a Namespace is in no namespace; leave it out".into()),
        (_, given) => Name::parse(given).map(drop).map_err(|e| format!("metadata.namespace: {e}")),
    }
}
