//! What agents and enforcement points may tell: what was done, each in its own name and namespace.

use legate_ids::{AgentId, InstanceId, Name, Principal};
use legate_wire::audit::{AuditEvent, Outcome};

use super::detect::fact::EXECUTED;
use super::otlp::ACTIVITY;

/// The largest event of theirs.
pub(crate) const LARGEST: usize = 8 * 1_024;

/// Details of one event of theirs.
const MOST_DETAILS: usize = 16;

/// Who offers events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Teller {
    /// One of our services: whatever it has to tell.
    Service,
    /// An agent, of what it did itself.
    Agent { namespace: Name, id: AgentId, instance: Option<InstanceId> },
    /// An enforcement point, of what agents did there.
    Enforcer { namespace: Name },
}

impl Teller {
    /// Who this is; `None`: nobody who tells anything.
    pub(crate) fn of(principal: &Principal) -> Option<Self> {
        match principal {
            Principal::Service(_) => Some(Self::Service),
            Principal::Agent { namespace, id, instance } => {
                Some(Self::Agent { namespace: namespace.clone(), id: id.clone(), instance: instance.clone() })
            }
            Principal::Enforcer { namespace, .. } => Some(Self::Enforcer { namespace: namespace.clone() }),
            Principal::Operator(_) | Principal::Node { .. } => None,
        }
    }

    /// Whether it may tell this; else why not.
    pub(crate) fn check(&self, event: &AuditEvent) -> Result<(), &'static str> {
        let (namespace, is_own) = match self {
            Self::Service => return Ok(()),
            Self::Enforcer { namespace } => (namespace, AgentId::parse(&event.agent_id).is_ok()),
            Self::Agent { namespace, id, instance } => {
                let instance = instance.as_ref().map_or("", InstanceId::as_str);
                (namespace, event.agent_id == id.as_str() && event.instance_id == instance)
            }
        };
        let is_ended = [Outcome::Success, Outcome::Denied, Outcome::Failure].map(i32::from).contains(&event.outcome);
        match () {
            () if event.r#type != EXECUTED && event.r#type != ACTIVITY => {
                Err("agents and enforcement points tell action.executed and activity.reported, and nothing else")
            }
            () if event.namespace != namespace.as_str() => Err("namespace is not the teller's own"),
            () if !is_own => Err("agent_id and instance_id are not the agent's own, or no agent's at all"),
            () if !event.actor.is_empty() || !event.approver.is_empty() || event.revision != 0 => {
                Err("actor, approver and revision are the services' to tell")
            }
            () if event.action.is_empty() || event.action.len() > 256 => Err("action is 1 to 256 bytes"),
            () if !is_ended => Err("outcome says how it ended"),
            () if event.details.len() > MOST_DETAILS => Err("details are 16 at most"),
            () if event.chain.len() > 16 => Err("the chain has 16 links at most"),
            () => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn each_tells_what_is_its_own_and_nothing_else() {
        let (namespace, id) = (Name::parse("payments").unwrap(), AgentId::from_parts(1, [1; 10]));
        let agent = Teller::Agent { namespace: namespace.clone(), id: id.clone(), instance: None };
        let enforcer = Teller::Enforcer { namespace };
        let good = AuditEvent {
            r#type: EXECUTED.into(),
            namespace: "payments".into(),
            agent_id: id.to_string(),
            action: "invoice:read".into(),
            outcome: Outcome::Success.into(),
            ..AuditEvent::default()
        };
        assert_eq!(agent.check(&good), Ok(()));
        assert_eq!(enforcer.check(&good), Ok(()));
        let within = AuditEvent { r#type: ACTIVITY.into(), ..good.clone() };
        assert_eq!((agent.check(&within), enforcer.check(&within)), (Ok(()), Ok(())));
        let changes: [fn(&mut AuditEvent); 8] = [
            |e| e.r#type = "decision.made".into(),
            |e| e.r#type = "action.executed.twice".into(),
            |e| e.namespace = "sales".into(),
            |e| e.namespace = String::new(),
            |e| e.agent_id = "agt_".into(),
            |e| e.actor = "spiffe://example.org/legate/operator/ada".into(),
            |e| e.outcome = 0,
            |e| e.action = String::new(),
        ];
        for change in changes {
            let mut bad = good.clone();
            change(&mut bad);
            assert!(agent.check(&bad).is_err() && enforcer.check(&bad).is_err(), "{bad:?}");
            assert_eq!(Teller::Service.check(&bad), Ok(()));
        }
        let another = AgentId::from_parts(2, [2; 10]).to_string();
        let of_another = AuditEvent { agent_id: another, ..good.clone() };
        assert!(agent.check(&of_another).is_err(), "an agent tells of itself only");
        assert_eq!(enforcer.check(&of_another), Ok(()));
        assert!(agent.check(&AuditEvent { instance_id: "ins_1".into(), ..good }).is_err());
    }
}
