//! Who gave an agent what is reviewed, and so does not decide about it: everybody who ever had a hand in what gives it.

use std::collections::BTreeSet;

use legate_db::{Tx, TxResult};
use legate_ids::AgentId;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Declaration, ReviewedThing};

use crate::flow::hands::Hands;

/// What an agent has, and what that rests on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Given<'g> {
    pub(super) reviewed: ReviewedThing,
    /// The agent, as far as it is kept.
    pub(super) agent: Option<&'g Declaration>,
    /// The binding, class or grant, by id.
    pub(super) granted_id: &'g str,
    /// The id of the role that a binding gives.
    pub(super) role_id: Option<&'g str>,
    /// The group through which a binding speaks of the agent.
    pub(super) group: Option<&'g Declaration>,
    /// For whom a grant lets the agent act.
    pub(super) delegator: &'g str,
}

/// They, as SPIFFE IDs; a person who gave a grant herself as `user:NAME`.
///
/// A role, a class and a group give what they hold to whomever they are bound to, so whoever wrote those gave it as much as whoever
/// bound them. Who belongs to a group that selects is said by what is declared of the agent.
pub(super) async fn givers(tx: &Tx, hands: &mut Hands, given: &Given<'_>) -> TxResult<BTreeSet<String>, Fault> {
    let mut all = hands.of(tx, given.granted_id).await?;
    let agent_id = given.agent.and_then(Declaration::metadata).map(|metadata| metadata.id.as_str());
    match given.reviewed {
        ReviewedThing::RoleBinding => {
            if let Some(role) = given.role_id {
                all.extend(hands.of(tx, role).await?);
            }
            let group = given.group.and_then(|group| group.metadata().map(|metadata| (group, &metadata.id)));
            if let Some((group, id)) = group {
                all.extend(hands.of(tx, id).await?);
                if let Some(agent) = agent_id.filter(|_| selects(group, given.agent)) {
                    all.extend(hands.of(tx, agent).await?);
                }
            }
        }
        ReviewedThing::AgentClass => {
            let mut whose = match agent_id {
                Some(agent) => hands.of(tx, agent).await?,
                None => BTreeSet::new(),
            };
            for above in whose.clone().iter().filter(|who| AgentId::parse(who).is_ok()) {
                whose.extend(hands.of(tx, above).await?);
            }
            all.extend(whose);
        }
        ReviewedThing::DelegationGrant => {
            all.insert(given.delegator.to_owned());
        }
        ReviewedThing::Unspecified => {}
    }
    all.remove("");
    Ok(all)
}

/// Whether a group has the agent by its selector, and not since it is listed.
fn selects(group: &Declaration, agent: Option<&Declaration>) -> bool {
    let Some(Object::Group(group)) = &group.object else { return false };
    let name = agent.and_then(Declaration::metadata).map(|metadata| metadata.name.as_str()).unwrap_or_default();
    group.spec.as_ref().is_some_and(|spec| !spec.selector.is_empty() && !spec.agents.iter().any(|one| one == name))
}
