//! Decisions for people: what was decided, and every thing that made it or cut it.

use legate_wire::policy::{Decision, EvaluateResponse, Reason, ReasonKind};

use crate::proto;

/// The decision in a few words: `ALLOW`, `DENY FORBIDDEN: AGENT_SUSPENDED`.
pub(crate) fn verdict(answer: &EvaluateResponse) -> String {
    if answer.decision() == Decision::Allow {
        return "ALLOW".into();
    }
    let denial = proto::word(answer.denial().as_str_name(), "DENIAL_");
    if denial == answer.reason_code {
        format!("DENY {denial}")
    } else {
        format!("DENY {denial}: {}", answer.reason_code)
    }
}

/// How old the view of the registry may have been, in milliseconds.
pub(crate) fn view_age(answer: &EvaluateResponse) -> i64 {
    let age = answer.view_age.unwrap_or_default();
    age.seconds.saturating_mul(1_000).saturating_add(i64::from(age.nanos) / 1_000_000)
}

/// One thing that made a decision or cut it: `binding payments/reads-apollo@1 gives it`.
pub(crate) fn because(reason: &Reason) -> String {
    let kind = match reason.kind() {
        ReasonKind::ClassPermission => "class",
        ReasonKind::RoleBinding => "binding",
        ReasonKind::Ceiling => "ceiling of class",
        ReasonKind::PermitPolicy | ReasonKind::ForbidPolicy | ReasonKind::ApprovalPolicy | ReasonKind::PolicyError => {
            "policy"
        }
        ReasonKind::Approval => "approval",
        ReasonKind::AgentState => "agent",
        ReasonKind::DelegationGrant => "grant",
        ReasonKind::Delegator => "for whom it acts,",
        _ => "",
    };
    match (kind, reason.name.as_str(), reason.version) {
        (_, "", _) => reason.text.clone(),
        (kind, name, 0) => format!("{kind} {name}: {}", reason.text).trim_start().to_owned(),
        (kind, name, version) => format!("{kind} {name}@{version}: {}", reason.text).trim_start().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_says_what_it_is_and_which_one() {
        let reason = Reason {
            kind: ReasonKind::ForbidPolicy.into(),
            name: "payments/sealed".into(),
            version: 3,
            text: "forbids it".into(),
            ..Reason::default()
        };
        assert_eq!(because(&reason), "policy payments/sealed@3: forbids it");
        assert_eq!(because(&Reason { text: "stale".into(), ..Reason::default() }), "stale");
        assert!(verdict(&EvaluateResponse::default()).starts_with("DENY"), "unset is a denial");
    }
}
