//! Declared objects for tests: one good one of each kind, and random ones of every kind.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;

use legate_wire::registry as wire;
use proptest::prelude::*;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _, Value};
use wire::declaration::Object;

use super::reflect;

pub(crate) const KID: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
// RFC 9449, sections 4.1 and 6.1: an EC key and its thumbprint.
pub(crate) const JWK: &str = r#"{"kty":"EC","crv":"P-256","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA"}"#;

pub(crate) fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds, nanos: 0 })
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn metadata(namespace: &str, name: &str) -> Option<wire::Metadata> {
    Some(wire::Metadata {
        name: name.into(),
        namespace: namespace.into(),
        labels: [("team".into(), "payments".into())].into(),
        annotations: [("example.com/note".into(), "several\nlines".into())].into(),
        ..wire::Metadata::default()
    })
}

fn permission(action: &str) -> wire::Permission {
    wire::Permission { action: action.into(), resource: Some(selector()) }
}

fn selector() -> wire::ResourceSelector {
    wire::ResourceSelector {
        r#type: "Invoice".into(),
        id: "apollo/*".into(),
        attributes: [("region".into(), "eu".into())].into(),
    }
}

pub(crate) fn agent() -> wire::Agent {
    wire::Agent {
        metadata: metadata("payments", "invoice-bot"),
        spec: Some(wire::AgentSpec {
            agent_class: "clerk".into(),
            purpose: "Reads invoices and matches them with orders.".into(),
            environment: wire::Environment::Prod.into(),
            owners: vec!["user:ada@example.com".into()],
            sponsors: vec!["user:grace@example.com".into(), "group:payments".into()],
            manager: "user:joan@example.com".into(),
            display_name: "Invoice bot".into(),
            external_id: "CMDB-1".into(),
            parent: "agt_01h455vb4pex5vsknk084sn02q".into(),
            framework: "langgraph".into(),
            model: "m-1".into(),
            version: "1.2.3".into(),
            protocols: vec!["MCP".into()],
            risk_tier: wire::RiskTier::Medium.into(),
            data_classifications: vec!["pii".into()],
            regions: vec!["eu-central-1".into()],
            charter: Some(wire::Charter { uri: "https://example.com/charter".into(), sha256: "0a".repeat(32) }),
            expire_time: at(2_000_000_000),
        }),
        status: None,
    }
}

pub(crate) fn class() -> wire::AgentClass {
    wire::AgentClass {
        metadata: metadata("payments", "clerk"),
        spec: Some(wire::AgentClassSpec {
            description: "Agents that read.".into(),
            permissions: vec![permission("invoice:list")],
            ceiling: vec![permission("invoice:*"), permission("*")],
            requires_approval: true,
            default_expiry: seconds(60),
            max_token_ttl: seconds(600),
            max_certificate_ttl: seconds(86_400),
            credential_policy: String::new(),
            boundaries: Vec::new(),
        }),
    }
}

pub(crate) fn binding() -> wire::RoleBinding {
    wire::RoleBinding {
        metadata: metadata("payments", "apollo"),
        spec: Some(wire::RoleBindingSpec {
            role: "invoice-reader".into(),
            agents: vec!["invoice-bot".into(), "ledger-bot".into()],
            resources: vec![selector()],
            not_before: at(1_000),
            not_after: at(2_000),
            groups: Vec::new(),
        }),
    }
}

pub(crate) fn policy() -> wire::Policy {
    wire::Policy {
        metadata: metadata("payments", "no-large"),
        spec: Some(wire::PolicySpec {
            description: "No large invoices.".into(),
            cedar: "forbid(principal, action, resource is Invoice) when { resource.amount > 100 };".into(),
            mode: wire::PolicyMode::Enforce.into(),
        }),
    }
}

pub(crate) fn enforcement_point() -> wire::EnforcementPoint {
    wire::EnforcementPoint {
        metadata: metadata("payments", "ledger"),
        spec: Some(wire::EnforcementPointSpec {
            description: "The ledger.".into(),
            resource_types: vec!["Invoice".into()],
            audiences: vec!["https://ledger.example.com".into()],
            may_assert_subject: true,
            durable_actions: vec!["invoice:pay".into(), "ledger:*".into()],
        }),
        spiffe_id: String::new(),
    }
}

pub(crate) fn signing_key() -> wire::SigningKeySpec {
    wire::SigningKeySpec {
        kid: KID.into(),
        issuer: "https://issuer.example.com".into(),
        jwk: JWK.into(),
        r#use: wire::SigningKeyUse::AccessToken.into(),
        not_before: at(1),
        not_after: at(2),
    }
}

pub(crate) fn revocation() -> wire::RevocationSpec {
    wire::RevocationSpec {
        credential_id: "cred_01h455vb4pex5vsknk084sn02q".into(),
        spiffe_id: "spiffe://legate.test/ns/payments/agent/agt_01h455vb4pex5vsknk084sn02q".into(),
        x5t_s256: vec![7; 32],
        expire_time: at(2),
        revoke_time: at(1),
        reason: wire::RevocationReason::KeyCompromise.into(),
    }
}

pub(crate) fn declared(object: Object) -> wire::Declaration {
    wire::Declaration { object: Some(object) }
}

/// One of each kind, in the order of `Kind`; all but the last two pass the check.
pub(crate) fn one_of_each() -> Vec<wire::Declaration> {
    let namespace = wire::NamespaceSpec {
        display_name: "Payments".into(),
        description: "Everything that pays.".into(),
        owners: vec!["group:payments".into()],
    };
    let role = wire::RoleSpec { description: "Reads.".into(), permissions: vec![permission("invoice:read")] };
    let key_name = KID.to_lowercase();
    [
        Object::Namespace(wire::Namespace { metadata: metadata("", "payments"), spec: Some(namespace) }),
        Object::AgentClass(class()),
        Object::Agent(agent()),
        Object::Role(wire::Role { metadata: metadata("payments", "invoice-reader"), spec: Some(role) }),
        Object::RoleBinding(binding()),
        Object::Policy(policy()),
        Object::EnforcementPoint(enforcement_point()),
        Object::SigningKey(wire::SigningKey { metadata: metadata("", &key_name), spec: Some(signing_key()) }),
        Object::Revocation(wire::Revocation {
            metadata: metadata("payments", "cred-01h455vb4pex5vsknk084sn02q"),
            spec: Some(revocation()),
        }),
    ]
    .map(declared)
    .to_vec()
}

/// A random object of a random kind, every field of it set or not, output-only ones too.
pub(crate) fn arbitrary() -> impl Strategy<Value = wire::Declaration> {
    (0..9usize, prop::collection::vec(any::<u8>(), 0..200)).prop_map(|(kind, chance)| random(kind, chance))
}

/// Two random objects of one kind.
pub(crate) fn two_alike() -> impl Strategy<Value = (wire::Declaration, wire::Declaration)> {
    let chance = || prop::collection::vec(any::<u8>(), 0..200);
    (0..9usize, chance(), chance()).prop_map(|(kind, a, b)| (random(kind, a), random(kind, b)))
}

fn random(kind: usize, chance: Vec<u8>) -> wire::Declaration {
    let (field, object) = reflect::object(&one_of_each()[kind]).unwrap();
    reflect::declaration(&field, message(&object.descriptor(), &mut chance.into_iter()))
}

fn message(descriptor: &MessageDescriptor, chance: &mut std::vec::IntoIter<u8>) -> DynamicMessage {
    let mut made = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        // When chance runs out, the rest is not set.
        let many = usize::from(chance.next().unwrap_or(0) % 4);
        if many == 0 {
            continue;
        }
        let value = if field.is_map() {
            let Kind::Message(entry) = field.kind() else { unreachable!() };
            let one = entry.map_entry_value_field();
            let entries: HashMap<_, _> =
                (0..many).map(|n| (MapKey::String(format!("k.{n}")), single(&one, chance))).collect();
            Value::Map(entries)
        } else if field.is_list() {
            Value::List((0..many).map(|_| single(&field, chance)).collect())
        } else {
            single(&field, chance)
        };
        made.set_field(&field, value);
    }
    made
}

fn single(field: &FieldDescriptor, chance: &mut std::vec::IntoIter<u8>) -> Value {
    let number = chance.next().unwrap_or(0) % 4;
    match field.kind() {
        Kind::Message(inner) => Value::Message(message(&inner, chance)),
        Kind::Enum(_) => Value::EnumNumber(number.into()),
        Kind::String => Value::String("x".repeat(number.into())),
        Kind::Bytes => Value::Bytes(vec![number; number.into()].into()),
        Kind::Bool => Value::Bool(number > 1),
        Kind::Uint32 => Value::U32(number.into()),
        Kind::Uint64 => Value::U64(number.into()),
        Kind::Int32 => Value::I32(number.into()),
        Kind::Int64 => Value::I64(number.into()),
        kind => unreachable!("{kind:?} is in no declared object"),
    }
}
