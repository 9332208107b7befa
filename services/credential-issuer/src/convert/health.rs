//! How credentials are rotated: whom a question is about, and what is told.

use std::time::Duration;

use legate_clock::Timestamp;
use legate_ids::{AgentId, Name};
use legate_rpc::Fault;
use legate_wire::credential as wire;
use wire::preview_revocation_request::Level as Named;

use super::credential_type;
use crate::domain::health::{Health, Stale};
use crate::domain::whom::{Level, Whom};
use crate::flow::health::{Ask, Judged, Page, USUAL};

const DAY: u64 = 86_400;

/// What is asked.
pub(crate) fn health(ask: wire::ListCredentialHealthRequest) -> Result<Ask, Fault> {
    let wire::ListCredentialHealthRequest { namespace, agent_class, owner, states, page_size, page_token, .. } = ask;
    let level = match (agent_class.as_str(), owner.as_str()) {
        _ if !ask.agent_id.is_empty() => {
            if !(agent_class.is_empty() && owner.is_empty()) {
                return Err(Fault::invalid("agent_id", "is given together with a class or an owner; give one of them"));
            }
            AgentId::parse(&ask.agent_id).map_err(|e| Fault::invalid("agent_id", e.to_string()))?;
            Some(Level::Agent(ask.agent_id))
        }
        ("", "") => Some(Level::All),
        (_, "") if namespace.is_empty() => {
            return Err(Fault::invalid("namespace", "is required where a class is given"));
        }
        (_, "") => super::level(Some(Named::AgentClass(agent_class)))?,
        ("", _) => super::level(Some(Named::Owner(owner)))?,
        _ => return Err(Fault::invalid("owner", "is given together with a class; give one of them")),
    };
    let namespace = match namespace.as_str() {
        "" => None,
        name => Some(Name::parse(name).map_err(|e| Fault::invalid("namespace", e.to_string()))?),
    };
    let is_about_all = namespace.is_none() && level == Some(Level::All);
    let whom = level.filter(|_| !is_about_all).map(|level| Whom { namespace, level });
    let states = states.iter().enumerate().map(|(i, state)| read(i, *state)).collect::<Result<_, _>>()?;
    let unused_after = match ask.unused_after {
        None => USUAL,
        Some(span) => {
            let within = Duration::try_from(span).ok().filter(|span| (7 * DAY..=400 * DAY).contains(&span.as_secs()));
            within.ok_or_else(|| Fault::invalid("unused_after", "7 to 400 days"))?
        }
    };
    Ok(Ask { whom, states, unused_after, stale_only: ask.stale_only, page_size, page_token })
}

fn read(i: usize, state: i32) -> Result<Health, Fault> {
    let of = |health: &Health| i32::from(told(*health)) == state;
    Health::ALL.into_iter().find(of).ok_or_else(|| Fault::invalid(format!("states[{i}]"), "is no state"))
}

fn told(health: Health) -> wire::RotationState {
    match health {
        Health::Ok => wire::RotationState::Ok,
        Health::Due => wire::RotationState::Due,
        Health::Overdue => wire::RotationState::Overdue,
        Health::Expiring => wire::RotationState::Expiring,
        Health::ExpiredInUse => wire::RotationState::ExpiredInUse,
        Health::RetiredInUse => wire::RotationState::RetiredInUse,
    }
}

fn staleness(why: Stale) -> wire::Staleness {
    match why {
        Stale::PastRotation => wire::Staleness::PastRotation,
        Stale::Unused => wire::Staleness::Unused,
        Stale::Both => wire::Staleness::Both,
    }
}

/// What is told.
pub(crate) fn page_of_health(page: Page) -> wire::ListCredentialHealthResponse {
    let count = |((health, kind), count)| wire::HealthCount {
        state: told(health).into(),
        r#type: credential_type(kind).into(),
        count,
    };
    wire::ListCredentialHealthResponse {
        credentials: page.judged.into_iter().map(judged).collect(),
        counts: page.counts.into_iter().map(count).collect(),
        next_page_token: page.next,
        revision: page.revision,
    }
}

fn judged(of: Judged) -> wire::CredentialHealth {
    let moment = |at: Option<i64>| at.map(|at| Timestamp::from_micros(at).into());
    wire::CredentialHealth {
        state: told(of.health).into(),
        due_time: Some(of.due.into()),
        last_used_time: moment(of.row.last_used_at),
        misused_time: moment(of.row.misused_at),
        succeeded: of.is_succeeded,
        staleness: of.stale.map_or(wire::Staleness::Unspecified, |(why, _)| staleness(why)).into(),
        stale_time: of.stale.map(|(_, since)| since.into()),
        agent: of.agent.map(|name| name.to_string()).unwrap_or_default(),
        credential: Some(of.row.into()),
    }
}
