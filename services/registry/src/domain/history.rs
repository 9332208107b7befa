//! What a write did to an object, told from how it was before and after.

use legate_wire::registry as wire;
use wire::declaration::Object;
use wire::{AgentState, HistoryAction};

use super::standing::is_suspended;

/// What happened between two versions; `None` before the first one that is kept.
pub(crate) fn action(before: Option<&wire::Declaration>, after: &wire::Declaration, revoked: bool) -> HistoryAction {
    if revoked {
        return HistoryAction::Revoked;
    }
    let Some(before) = before else {
        let is_first = after.metadata().is_none_or(|metadata| metadata.version <= 1);
        return if is_first { HistoryAction::Created } else { HistoryAction::Compacted };
    };
    let (Some(old), Some(new)) = (status(before), status(after)) else {
        // A class or a namespace can be suspended, and all below it with it.
        return match (is_suspended(before), is_suspended(after)) {
            (false, true) => HistoryAction::Suspended,
            (true, false) => HistoryAction::Resumed,
            _ => HistoryAction::Updated,
        };
    };
    match (old.state(), new.state()) {
        (from, to) if from == to && old.lifecycle_version != new.lifecycle_version => HistoryAction::CredentialsRevoked,
        (from, to) if from == to && old.last_attestation_time != new.last_attestation_time => HistoryAction::Attested,
        (from, to) if from == to => HistoryAction::Updated,
        (_, AgentState::Staged) => HistoryAction::Approved,
        (AgentState::Staged, AgentState::Active) => HistoryAction::Activated,
        (_, AgentState::Active) => HistoryAction::Resumed,
        (AgentState::Quarantined, AgentState::Suspended) => HistoryAction::Released,
        (_, AgentState::Suspended) => HistoryAction::Suspended,
        (_, AgentState::Quarantined) => HistoryAction::Quarantined,
        (_, AgentState::Expired) => HistoryAction::Expired,
        (_, AgentState::Retired) => HistoryAction::Retired,
        // A change of what was approved leads back to where it waits.
        (_, AgentState::PendingApproval | AgentState::Unspecified) => HistoryAction::Updated,
    }
}

/// The status of an agent.
pub(crate) fn status(declaration: &wire::Declaration) -> Option<&wire::AgentStatus> {
    match &declaration.object {
        Some(Object::Agent(agent)) => agent.status.as_ref(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::lifecycle::{self, Transition};
    use super::super::samples;
    use super::super::standing::status_mut;
    use super::*;
    use legate_clock::Timestamp;

    #[test]
    fn every_step_is_told_from_its_ends() {
        let now = Timestamp::from_secs(1);
        for step in Transition::ALL {
            for number in 1..=7 {
                let mut agent = samples::agent();
                agent.spec.get_or_insert_default().expire_time = samples::at(4_000_000_000);
                let status = wire::AgentStatus { state: number, lifecycle_version: 1, ..Default::default() };
                agent.status = Some(status);
                let before = samples::declared(Object::Agent(agent.clone()));
                if lifecycle::apply(&mut agent, step, now, "", "").is_err() {
                    continue;
                }
                let after = samples::declared(Object::Agent(agent));
                let expected = match step {
                    Transition::Approve => HistoryAction::Approved,
                    Transition::Activate => HistoryAction::Activated,
                    Transition::Suspend => HistoryAction::Suspended,
                    Transition::Resume => HistoryAction::Resumed,
                    Transition::Quarantine => HistoryAction::Quarantined,
                    Transition::Release => HistoryAction::Released,
                    Transition::Retire => HistoryAction::Retired,
                    Transition::Expire => HistoryAction::Expired,
                };
                assert_eq!(action(Some(&before), &after, false), expected, "{step:?} from {number}");
            }
        }
    }

    #[test]
    fn other_writes_are_told_too() {
        let mut agent = samples::agent();
        agent.status = Some(wire::AgentStatus { state: 3, lifecycle_version: 1, ..Default::default() });
        let before = samples::declared(Object::Agent(agent.clone()));
        assert_eq!(action(None, &before, false), HistoryAction::Created);
        assert_eq!(action(Some(&before), &before, false), HistoryAction::Updated);
        assert_eq!(action(Some(&before), &before, true), HistoryAction::Revoked);
        let mut later = before.clone();
        if let Some(metadata) = later.metadata_mut() {
            metadata.version = 3;
        }
        assert_eq!(action(None, &later, false), HistoryAction::Compacted);
        agent.status.get_or_insert_default().last_attestation_time = samples::at(5);
        let attested = samples::declared(Object::Agent(agent.clone()));
        assert_eq!(action(Some(&before), &attested, false), HistoryAction::Attested);
        agent.status.get_or_insert_default().lifecycle_version = 2;
        let after = samples::declared(Object::Agent(agent));
        assert_eq!(action(Some(&before), &after, false), HistoryAction::CredentialsRevoked);
        for other in samples::one_of_each() {
            assert_eq!(action(Some(&other), &other, false), HistoryAction::Updated);
            let mut stopped = other.clone();
            if let Some(status) = status_mut(&mut stopped) {
                status.get_or_insert_default().suspended = true;
                assert_eq!(action(Some(&other), &stopped, false), HistoryAction::Suspended);
                assert_eq!(action(Some(&stopped), &other, false), HistoryAction::Resumed);
            }
        }
    }
}
