//! What a filter of audit events can ask about.

use crate::Form;

/// A field of an audit event, as `legate.audit.v1.AuditEvent` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each is the field of the same name in event.proto")]
pub enum EventField {
    Type,
    Namespace,
    Actor,
    AgentId,
    InstanceId,
    Subject,
    /// The links of the delegation chain.
    Chain,
    Action,
    ResourceType,
    ResourceId,
    Outcome,
    ReasonCode,
    DecisionId,
    /// The grants that it rests on.
    Grant,
    /// What the credential is called: its id, its serial number, a token's id.
    Credential,
    TraceId,
    /// Who told it.
    Emitter,
    Time,
}

const OUTCOMES: &[(&str, i32)] = &[("success", 1), ("denied", 2), ("failure", 3)];

impl EventField {
    /// Every one, by name.
    pub const NAMED: &[(&str, Self)] = &[
        ("type", Self::Type),
        ("namespace", Self::Namespace),
        ("actor", Self::Actor),
        ("agent_id", Self::AgentId),
        ("instance_id", Self::InstanceId),
        ("subject", Self::Subject),
        ("chain", Self::Chain),
        ("action", Self::Action),
        ("resource_type", Self::ResourceType),
        ("resource_id", Self::ResourceId),
        ("outcome", Self::Outcome),
        ("reason_code", Self::ReasonCode),
        ("decision_id", Self::DecisionId),
        ("grant", Self::Grant),
        ("credential", Self::Credential),
        ("trace_id", Self::TraceId),
        ("emitter", Self::Emitter),
        ("time", Self::Time),
    ];

    /// The field of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::NAMED.iter().find(|(known, _)| *known == name).map(|(_, field)| *field)
    }

    /// As a filter names it.
    pub(crate) fn name(self) -> &'static str {
        Self::NAMED.iter().find(|(_, field)| *field == self).map_or("", |(name, _)| name)
    }

    /// What its values are.
    pub(crate) const fn form(self) -> Form {
        match self {
            Self::Chain | Self::Grant | Self::Credential => Form::List,
            Self::Outcome => Form::Choice { words: OUTCOMES, ordered: false },
            Self::Time => Form::Time,
            _ => Form::Text,
        }
    }
}
