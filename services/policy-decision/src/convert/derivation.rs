//! A decision taken apart, as the caller reads it: encoding may not fail.

use legate_authority::{Permission, TypePattern};
use legate_wire::policy as wire;
use legate_wire::registry as declared;

use crate::domain::answer::Why;
use crate::domain::derivation::{Kind, Look, Object, Outcome, Step};
use crate::domain::near::{Proposal, Reach, Want};

/// The kind of an object as the registry names it.
pub(crate) fn kind(from: Kind) -> declared::Kind {
    match from {
        Kind::Agent => declared::Kind::Agent,
        Kind::Class => declared::Kind::AgentClass,
        Kind::Role => declared::Kind::Role,
        Kind::Binding => declared::Kind::RoleBinding,
        Kind::Group => declared::Kind::Group,
        Kind::Boundary => declared::Kind::Boundary,
        Kind::Policy => declared::Kind::Policy,
        Kind::Grant => declared::Kind::DelegationGrant,
    }
}

pub(crate) fn object_ref(from: &Object) -> wire::ObjectRef {
    wire::ObjectRef {
        kind: kind(from.kind).into(),
        namespace: from.namespace.clone(),
        name: from.name.clone(),
        id: from.id.clone(),
        version: from.version,
        revision: from.revision,
    }
}

pub(crate) fn permission(from: &Permission) -> declared::Permission {
    let selector = from.resource();
    let r#type = match selector.resource_type() {
        TypePattern::Any => "*".to_owned(),
        TypePattern::Exactly(kind) => kind.to_string(),
    };
    let (id, attributes) = (selector.id().to_string(), selector.attributes().clone());
    let resource = Some(declared::ResourceSelector { r#type, id, attributes });
    declared::Permission { action: from.action().to_string(), resource }
}

pub(crate) fn step(from: &Step) -> wire::Step {
    let kind = match from.look {
        Look::Subject => wire::StepKind::Subject,
        Look::View => wire::StepKind::View,
        Look::State => wire::StepKind::State,
        Look::Ancestor => wire::StepKind::Ancestor,
        Look::Grants => wire::StepKind::Grants,
        Look::ClassPermission => wire::StepKind::ClassPermission,
        Look::RoleBinding => wire::StepKind::RoleBinding,
        Look::Role => wire::StepKind::Role,
        Look::Group => wire::StepKind::Group,
        Look::Ceiling => wire::StepKind::Ceiling,
        Look::Boundary => wire::StepKind::Boundary,
        Look::BoundaryField => wire::StepKind::BoundaryField,
        Look::Policies => wire::StepKind::Policies,
        Look::PermitPolicy => wire::StepKind::PermitPolicy,
        Look::ForbidPolicy => wire::StepKind::ForbidPolicy,
        Look::Approval => wire::StepKind::Approval,
        Look::PolicyError => wire::StepKind::PolicyError,
        Look::Chain => wire::StepKind::Chain,
        Look::Grant => wire::StepKind::DelegationGrant,
        Look::Delegator => wire::StepKind::Delegator,
    };
    let outcome = match from.outcome {
        Outcome::Passes => wire::StepOutcome::Passes,
        Outcome::Cuts(_) => wire::StepOutcome::Cuts,
        Outcome::Gives => wire::StepOutcome::Gives,
        Outcome::DoesNotGive => wire::StepOutcome::DoesNotGive,
        Outcome::Noted => wire::StepOutcome::Noted,
    };
    wire::Step {
        kind: kind.into(),
        outcome: outcome.into(),
        text: from.text.clone(),
        object: from.object.as_ref().map(object_ref),
        permission: from.permission.as_ref().map(permission),
        not_before: from.not_before.map(Into::into),
        not_after: from.not_after.map(Into::into),
        reason_code: from.cuts().map_or("", Why::word).to_owned(),
        steps: from.steps.iter().map(step).collect(),
    }
}

pub(crate) fn near_miss(from: &Proposal) -> wire::NearMiss {
    let kind = match from.want {
        Want::State => wire::NearMissKind::State,
        Want::Wait => wire::NearMissKind::Wait,
        Want::Start => wire::NearMissKind::Start,
        Want::ExtendWindow => wire::NearMissKind::ExtendWindow,
        Want::WidenBinding => wire::NearMissKind::WidenBinding,
        Want::BindRole => wire::NearMissKind::BindRole,
        Want::ExtendRole => wire::NearMissKind::ExtendRole,
        Want::ExtendClass => wire::NearMissKind::ExtendClass,
        Want::RaiseCeiling => wire::NearMissKind::RaiseCeiling,
        Want::WidenBoundary => wire::NearMissKind::WidenBoundary,
        Want::WithoutPolicy => wire::NearMissKind::WithoutPolicy,
        Want::AddPolicy => wire::NearMissKind::AddPolicy,
        Want::ExtendGrant => wire::NearMissKind::ExtendGrant,
        Want::AddGrant => wire::NearMissKind::AddGrant,
        Want::Approve => wire::NearMissKind::Approve,
        Want::JoinGroup => wire::NearMissKind::JoinGroup,
    };
    let reach = match from.reach {
        Reach::Question => wire::NearMissReach::Question,
        Reach::Agent => wire::NearMissReach::Agent,
        Reach::Holders => wire::NearMissReach::Holders,
        Reach::Class => wire::NearMissReach::Class,
        Reach::Namespace => wire::NearMissReach::Namespace,
    };
    wire::NearMiss {
        kind: kind.into(),
        text: from.text.clone(),
        reach: reach.into(),
        object: from.object.as_ref().map(object_ref),
        permission: from.permission.as_ref().map(permission),
        time: from.time.map(Into::into),
        field: from.field.clone(),
        value: from.value.clone(),
    }
}
