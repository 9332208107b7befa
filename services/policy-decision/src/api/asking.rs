//! Questions about authority that are no checks, to and from the wire.

use std::time::Duration;

use aws_lc_rs::digest;
use legate_clock::Timestamp;
use legate_ids::{AgentId, Name};
use legate_rpc::Fault;
use legate_wire::policy as wire;
use legate_wire::registry as declared;
use prost::Message;

use super::{MAX_OBJECTS, answer, invalid};
use crate::convert::{self, derivation};
use crate::domain::preview::cells::Cell;
use crate::domain::preview::outlook::{Holds, On};
use crate::flow::{Can, Explain, Explained, Found, HolderCan, Replay, Simulate, WhatCan, WhoCan};

/// The longest time of which recorded decisions are tried.
const LONGEST: Duration = Duration::from_secs(31 * 24 * 3_600);

/// The longest time of which recorded decisions are replayed.
const LONGEST_REPLAY: Duration = Duration::from_secs(366 * 24 * 3_600);

/// Stands for everything that was asked.
pub(super) fn said(message: &impl Message) -> String {
    let hash = digest::digest(&digest::SHA256, &message.encode_to_vec());
    hash.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

pub(crate) fn explain(from: wire::ExplainRequest) -> Result<Explain, Fault> {
    let question = from.question.ok_or_else(|| invalid("question", "is required"))?;
    let ask = convert::ask(question, "question.")?;
    if from.as_of.is_some() && ask.at_least_revision > 0 {
        return Err(invalid("question.at_least_revision", "is not for the past; leave it out, or as_of"));
    }
    Ok(Explain { ask, as_of: from.as_of, at: past_moment(from.as_of.is_some(), from.at_time)? })
}

/// By which moment the past is judged.
fn past_moment(is_past: bool, at: Option<prost_types::Timestamp>) -> Result<Option<Timestamp>, Fault> {
    if !is_past && at.is_some() {
        return Err(invalid("at_time", "is for the past only; give as_of, or leave it out"));
    }
    at.map(Timestamp::try_from).transpose().map_err(|e| invalid("at_time", e.to_string()))
}

pub(crate) fn explained(from: &Explained) -> wire::ExplainResponse {
    wire::ExplainResponse {
        answer: Some(answer(&from.spoken)),
        steps: from.laid.steps.iter().map(derivation::step).collect(),
        near_misses: from.laid.near.iter().map(derivation::near_miss).collect(),
        near_miss_note: from.laid.note.clone(),
        changes_tried: from.laid.tried,
        cuts: from.laid.cuts(),
        judged_time: Some(from.spoken.at.into()),
        is_past: from.is_past,
        origins: from.origins.clone(),
        origins_note: from.origins_note.clone(),
    }
}

pub(crate) fn who_can(mut from: wire::WhoCanRequest) -> Result<WhoCan, Fault> {
    let page_token = std::mem::take(&mut from.page_token);
    let at_least_revision = std::mem::take(&mut from.at_least_revision);
    let page_size = std::mem::take(&mut from.page_size);
    let said = said(&from);
    let namespace = match from.namespace.as_str() {
        "" => None,
        name => Some(Name::parse(name).map_err(|e| invalid("namespace", e.to_string()))?),
    };
    let on_behalf_of = match from.on_behalf_of.as_str() {
        "" => None,
        subject => Some(convert::for_whom(subject)?),
    };
    let question = convert::searched(&from.action, from.resource, from.context)?;
    Ok(WhoCan { question, namespace, on_behalf_of, page_size, page_token, at_least_revision, said })
}

pub(crate) fn found(from: &Found) -> wire::WhoCanResponse {
    let holder = |holder: &crate::flow::Holder| wire::Holder {
        agent_id: holder.agent.id.to_string(),
        namespace: holder.agent.label.namespace.to_string(),
        name: holder.agent.label.name.to_string(),
        certainty: match holder.on {
            None => wire::Certainty::Always.into(),
            Some(_) => wire::Certainty::Depends.into(),
        },
        reasons: holder.causes.iter().map(convert::reason).collect(),
        depends_on: on(holder.on.as_deref().unwrap_or_default()),
    };
    wire::WhoCanResponse {
        holders: from.holders.iter().map(holder).collect(),
        next_page_token: from.next_page_token.clone(),
        revision: from.revision,
        view_age: from.view_age.and_then(|age| age.try_into().ok()),
        revision_moved: from.has_moved,
        agents_decided: from.decided,
    }
}

fn on(from: &[On]) -> Vec<wire::Reason> {
    from.iter().map(|on| convert::reason(&on.cause)).collect()
}

/// What the holder of a token is asked about; `None`: an agent is named.
pub(crate) fn holder_can(from: &mut wire::WhatCanRequest) -> Result<Option<HolderCan>, Fault> {
    let Some(subject) = from.subject.take() else { return Ok(None) };
    if !from.agent_id.is_empty() || from.if_active || from.as_of.is_some() {
        return Err(invalid(
            "subject",
            "stands without agent_id, if_active and as_of: what a token is good for, only the present knows",
        ));
    }
    let (token, shown) = convert::shown(subject)?;
    let (at_least_revision, with_never) = (from.at_least_revision, from.with_never);
    Ok(Some(HolderCan { token, shown, at_least_revision, with_never }))
}

pub(crate) fn what_can(from: &wire::WhatCanRequest) -> Result<WhatCan, Fault> {
    if from.as_of.is_some() && from.at_least_revision > 0 {
        return Err(invalid("at_least_revision", "is not for the past; leave it out, or as_of"));
    }
    Ok(WhatCan {
        agent: AgentId::parse(&from.agent_id).map_err(|e| invalid("agent_id", e.to_string()))?,
        at_least_revision: from.at_least_revision,
        if_active: from.if_active,
        with_never: from.with_never,
        as_of: from.as_of,
        at: past_moment(from.as_of.is_some(), from.at_time)?,
    })
}

fn permission(cell: &Cell) -> declared::Permission {
    declared::Permission { action: cell.action.clone(), resource: Some(cell.selector()) }
}

pub(crate) fn can(from: &Can) -> wire::WhatCanResponse {
    let entitlement = |one: &crate::domain::entitled::Entitled| {
        let (certainty, depends_on) = match &one.holds {
            Holds::Never => (wire::Certainty::Never, Vec::new()),
            Holds::Depends(hangs) => (wire::Certainty::Depends, on(hangs)),
            Holds::Always => (wire::Certainty::Always, Vec::new()),
        };
        wire::Entitlement {
            action: one.cell.action.clone(),
            resource: Some(one.cell.selector()),
            certainty: certainty.into(),
            reasons: one.causes.iter().map(convert::reason).collect(),
            depends_on,
            from: one.from.map(Into::into),
            until: one.until.map(Into::into),
            except: one.except.iter().map(permission).collect(),
        }
    };
    let stopped = from.stopped.as_ref();
    wire::WhatCanResponse {
        agent_id: from.agent.as_ref().map(|agent| agent.id.to_string()).unwrap_or_default(),
        namespace: from.agent.as_ref().map(|agent| agent.label.namespace.to_string()).unwrap_or_default(),
        name: from.agent.as_ref().map(|agent| agent.label.name.to_string()).unwrap_or_default(),
        entitlements: from.all.iter().map(entitlement).collect(),
        reason_code: stopped.map_or("", |answer| answer.word()).to_owned(),
        message: stopped.map(crate::flow::record::message).unwrap_or_default(),
        revision: from.revision,
        view_age: from.view_age.and_then(|age| age.try_into().ok()),
        judged_time: Some(from.now.into()),
        left_out: from.left_out,
    }
}

pub(crate) fn simulate(mut from: wire::SimulateRequest) -> Result<Simulate, Fault> {
    if from.declarations.len().saturating_add(from.removals.len()) > MAX_OBJECTS {
        return Err(invalid("declarations", "1,000 at most, together with removals"));
    }
    let page_token = std::mem::take(&mut from.page_token);
    let at_least_revision = std::mem::take(&mut from.at_least_revision);
    let said = said(&from);
    let window = from.window.and_then(|window| Duration::try_from(window).ok());
    let window = window.filter(|window| (Duration::from_secs(1)..=LONGEST).contains(window));
    let window = window.ok_or_else(|| invalid("window", "is 1 s to 31 days"))?;
    let (wanted, gone) = (from.declarations, from.removals);
    Ok(Simulate { wanted, gone, window, page_token, at_least_revision, said })
}

pub(crate) fn replay(mut from: wire::ReplayRequest) -> Result<Replay, Fault> {
    let page_token = std::mem::take(&mut from.page_token);
    let said = said(&from);
    let moment = |field: &'static str, at: Option<prost_types::Timestamp>| {
        let at = at.ok_or_else(|| invalid(field, "is missing"))?;
        Timestamp::try_from(at).map_err(|e| invalid(field, e.to_string()))
    };
    let (begin, end) = (moment("from_time", from.from_time)?, moment("to_time", from.to_time)?);
    if begin >= end || end.since(begin) > LONGEST_REPLAY {
        return Err(invalid("to_time", "is after from_time, by 366 days at most"));
    }
    let agent = (!from.agent_id.is_empty()).then(|| AgentId::parse(&from.agent_id)).transpose();
    Ok(Replay {
        namespace: Name::parse(&from.namespace).map_err(|e| invalid("namespace", e.to_string()))?,
        agent: agent.map_err(|e| invalid("agent_id", e.to_string()))?,
        from: begin,
        to: end,
        page_token,
        said,
    })
}
