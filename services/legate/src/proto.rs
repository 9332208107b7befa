//! The messages by their descriptors: JSON, short names of enum values, and which call a request belongs to.

use std::sync::LazyLock;

use prost::{Message, Name};
use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, MessageDescriptor, ReflectMessage, SerializeOptions,
};

/// Fields that hold a secret and are never printed as part of a request.
const SECRET: [&str; 6] = [
    "legate.credential.v1.EnrolRequest.token",
    "legate.credential.v1.CreateGrantRequest.token",
    "legate.credential.v1.FindLeakedRequest.text",
    "legate.credential.v1.ListGrantsRequest.token",
    "legate.credential.v1.RevokeGrantRequest.token",
    "legate.policy.v1.Subject.access_token",
];

/// Every message and service under proto/.
pub(crate) fn pool() -> &'static DescriptorPool {
    static POOL: LazyLock<DescriptorPool> =
        LazyLock::new(|| DescriptorPool::decode(legate_wire::DESCRIPTORS).unwrap_or_default());
    &POOL
}

/// A message's descriptor by its full name.
pub(crate) fn message(full_name: &str) -> MessageDescriptor {
    let Some(found) = pool().get_message_by_name(full_name) else {
        unreachable!("{full_name} is compiled from the same files as the descriptors")
    };
    found
}

/// A message by its descriptor.
pub(crate) fn dynamic<M: Message + Name>(of: &M) -> DynamicMessage {
    let mut out = DynamicMessage::new(message(&M::full_name()));
    // Both are made from the same files, so what one encodes the other decodes.
    let _same = out.transcode_from(of);
    out
}

/// The protobuf JSON of a message, on one line or indented.
pub(crate) fn json(of: &DynamicMessage, pretty: bool) -> serde_json::Result<String> {
    let options = SerializeOptions::new();
    let mut out = Vec::new();
    if pretty {
        of.serialize_with_options(&mut serde_json::Serializer::pretty(&mut out), &options)?;
    } else {
        of.serialize_with_options(&mut serde_json::Serializer::new(&mut out), &options)?;
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// The gRPC call whose request this is, `legate.registry.v1.AgentService/GetAgent`.
pub(crate) fn call_of(request: &MessageDescriptor) -> Option<String> {
    pool()
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .find(|m| m.input() == *request)
        .map(|method| format!("{}/{}", method.parent_service().full_name(), method.name()))
}

/// A request as `--show-request` prints it: secrets hidden.
pub(crate) fn shown<M: Message + Name>(request: &M) -> String {
    let mut dynamic = dynamic(request);
    hide(&mut dynamic);
    let call = call_of(&dynamic.descriptor()).unwrap_or_else(|| dynamic.descriptor().full_name().to_owned());
    format!("{call} {}", json(&dynamic, true).unwrap_or_default())
}

fn hide(of: &mut DynamicMessage) {
    for (field, value) in of.fields_mut() {
        if SECRET.contains(&field.full_name()) {
            *value = prost_reflect::Value::String("(hidden)".into());
        } else if let Some(inner) = value.as_message_mut() {
            hide(inner);
        } else if let Some(list) = value.as_list_mut() {
            list.iter_mut().filter_map(prost_reflect::Value::as_message_mut).for_each(hide);
        }
    }
}

/// The part that all values of an enum begin with: `AGENT_STATE_`.
pub(crate) fn prefix(of: &EnumDescriptor) -> String {
    let mut out = String::new();
    for (i, c) in of.name().char_indices() {
        if c.is_ascii_uppercase() && i > 0 {
            out.push('_');
        }
        out.push(c.to_ascii_uppercase());
    }
    out + "_"
}

/// An enum value without that part: `ACTIVE`.
pub(crate) fn short(of: &EnumDescriptor, number: i32) -> String {
    let name = of.get_value(number).map(|v| v.name().to_owned());
    let prefix = prefix(of);
    name.map_or_else(|| number.to_string(), |n| n.strip_prefix(&prefix).unwrap_or(&n).to_owned())
}

/// A generated enum's value without the part that all its values begin with.
pub(crate) fn word(name: &'static str, prefix: &str) -> &'static str {
    name.strip_prefix(prefix).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use legate_wire::{credential, policy, registry};

    #[test]
    fn a_request_is_shown_as_its_call_and_without_its_secret() {
        let request = credential::EnrolRequest { token: "canary".into(), csr: vec![1] };
        let text = shown(&request);
        assert!(text.starts_with("legate.credential.v1.EnrolmentService/Enrol {"), "{text}");
        assert!(text.contains("(hidden)") && !text.contains("canary"), "{text}");
        let batch = policy::EvaluateBatchRequest {
            evaluations: vec![policy::EvaluateRequest {
                subject: Some(policy::Subject {
                    agent: Some(policy::subject::Agent::AccessToken("canary".into())),
                    ..Default::default()
                }),
                ..Default::default()
            }],
        };
        assert!(!shown(&batch).contains("canary"));
    }

    #[test]
    fn every_request_belongs_to_one_call() {
        // What other projects define is no call of this program.
        for service in pool().services().filter(|service| service.full_name().starts_with("legate.")) {
            for method in service.methods() {
                assert_eq!(call_of(&method.input()).unwrap(), format!("{}/{}", service.full_name(), method.name()));
            }
        }
        assert!(pool().services().count() >= 10);
    }

    #[test]
    fn enum_values_are_short_for_people() {
        let states = pool().get_enum_by_name("legate.registry.v1.AgentState").unwrap();
        assert_eq!(short(&states, registry::AgentState::PendingApproval.into()), "PENDING_APPROVAL");
        assert_eq!(short(&states, 99), "99");
    }
}
