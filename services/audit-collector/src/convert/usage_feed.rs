//! What the registry hears of use, in and out.

use legate_rpc::Fault;
use legate_wire::audit as wire;

use crate::domain::digest::{Digest, Way};
use crate::flow::usage_feed::{Ask, Heard};

impl TryFrom<wire::ReadUsageRequest> for Ask {
    type Error = Fault;

    fn try_from(from: wire::ReadUsageRequest) -> Result<Self, Fault> {
        let root = match (from.after, from.root.as_slice()) {
            (0, []) => None,
            (0, _) => return Err(Fault::invalid("root", "is empty where nothing was heard")),
            (_, root) => Some(root.try_into().map_err(|_| Fault::invalid("root", "is 32 bytes"))?),
        };
        Ok(Self { after: from.after, root })
    }
}

impl From<Way> for wire::UsageWay {
    fn from(way: Way) -> Self {
        match way {
            Way::Own => Self::Own,
            Way::ForPerson => Self::ForPerson,
            Way::ForAgent => Self::ForAgent,
            Way::Through => Self::Through,
        }
    }
}

impl From<Heard> for wire::ReadUsageResponse {
    fn from(heard: Heard) -> Self {
        let Digest { used, agents, grants, emitters, losses } = heard.digest;
        let permission =
            |(of, tally): (crate::domain::digest::Used, crate::domain::digest::Tally)| wire::UsedPermission {
                agent_id: of.agent_id,
                action: of.action,
                resource_type: of.resource_type,
                resource_id: of.resource_id,
                way: wire::UsageWay::from(of.way).into(),
                count: tally.count,
                first_time: Some(tally.first.into()),
                last_time: Some(tally.last.into()),
                days: tally.days(),
            };
        Self {
            origin: heard.origin,
            through: heard.through,
            root: heard.root.to_vec(),
            is_newest: heard.is_newest,
            time: Some(heard.at.into()),
            first_time: heard.first.map(Into::into),
            permissions: used.into_iter().map(permission).collect(),
            agents: agents
                .into_iter()
                .map(|(agent_id, of)| wire::UsedAgent {
                    agent_id,
                    denied: of.denied,
                    last_obtained_time: of.obtained.map(Into::into),
                })
                .collect(),
            grants: grants
                .into_iter()
                .map(|(grant_id, tally)| wire::UsedGrant {
                    grant_id,
                    count: tally.count,
                    first_time: Some(tally.first.into()),
                    last_time: Some(tally.last.into()),
                })
                .collect(),
            emitters: emitters
                .into_iter()
                .map(|(spiffe_id, last)| wire::HeardEmitter { spiffe_id, last_time: Some(last.into()) })
                .collect(),
            losses: losses
                .into_iter()
                .map(|loss| wire::LostRecords {
                    spiffe_id: loss.spiffe_id,
                    after_time: loss.after.map(Into::into),
                    before_time: Some(loss.before.into()),
                })
                .collect(),
        }
    }
}
