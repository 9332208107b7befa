//! Which events: the flags of `legate audit` as a question.

use std::time::Duration;

use legate_clock::{Clock, SystemClock, Timestamp};
use legate_wire::audit::{Outcome, QueryEventsRequest, TrustClass};

use super::Desk;
use super::check::split;
use crate::cli::{EndedSo, Filter, ProvedSoFar};
use crate::error::USAGE;
use crate::{Failure, manifest};

/// The question of these flags.
pub(super) async fn question(desk: &Desk, filter: Filter) -> Result<QueryEventsRequest, Failure> {
    let agent_id = match filter.agent {
        Some(agent) => desk.agent_id(&agent).await?,
        None => String::new(),
    };
    let via_agent_id = match filter.via {
        Some(agent) => desk.agent_id(&agent).await?,
        None => String::new(),
    };
    let resource = filter.resource.unwrap_or_default();
    let (resource_type, resource_id) = split(&resource).unwrap_or((&resource, ""));
    let now = SystemClock::new().now();
    let at = |flag: &str, text: Option<String>| text.map(|t| moment(flag, &t, now)).transpose();
    Ok(QueryEventsRequest {
        agent_id,
        actor: filter.actor.unwrap_or_default(),
        r#type: filter.kind.unwrap_or_default(),
        namespace: filter.namespace.unwrap_or_default(),
        action: filter.action.unwrap_or_default(),
        resource_type: resource_type.to_owned(),
        resource_id: resource_id.to_owned(),
        outcome: ended(filter.outcome).into(),
        trace_id: filter.trace.unwrap_or_default(),
        credential_id: filter.credential.unwrap_or_default(),
        decision_id: filter.decision.unwrap_or_default(),
        from_time: at("--since", filter.since)?.map(Into::into),
        to_time: at("--until", filter.until)?.map(Into::into),
        emitter: filter.emitter.unwrap_or_default(),
        via_agent_id,
        include_descendants: filter.with_descendants,
        subject: filter.on_behalf_of.unwrap_or_default(),
        chain: filter.chain.unwrap_or_default(),
        instance_id: filter.instance.unwrap_or_default(),
        grant_id: filter.grant.unwrap_or_default(),
        filter: filter.filter.unwrap_or_default(),
        text: filter.text.unwrap_or_default(),
        trust: proved(filter.trust).into(),
        ..QueryEventsRequest::default()
    })
}

/// How it ended, as the protobufs say it.
pub(super) fn ended(so: Option<EndedSo>) -> Outcome {
    match so {
        None => Outcome::Unspecified,
        Some(EndedSo::Success) => Outcome::Success,
        Some(EndedSo::Denied) => Outcome::Denied,
        Some(EndedSo::Failure) => Outcome::Failure,
    }
}

/// How far its origin is proved, as the protobufs say it.
fn proved(so_far: Option<ProvedSoFar>) -> TrustClass {
    match so_far {
        None => TrustClass::Unspecified,
        Some(ProvedSoFar::Attested) => TrustClass::Attested,
        Some(ProvedSoFar::Authenticated) => TrustClass::Authenticated,
        Some(ProvedSoFar::Observed) => TrustClass::Observed,
    }
}

/// A moment of RFC 3339, or how long ago.
pub(super) fn moment(flag: &str, text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    if let Some(moment) = Timestamp::parse_rfc3339(text) {
        return Ok(moment);
    }
    let ago = manifest::duration(text).ok().and_then(|d| u64::try_from(d.seconds).ok());
    let ago = ago.ok_or_else(|| {
        Failure::local(
            &USAGE,
            format!("{flag} {text:?} is neither a moment such as 2026-11-24T08:00:00Z nor 15m, 24h, 7d"),
        )
    })?;
    Ok(now.minus(Duration::from_secs(ago)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn moments_are_given_in_two_ways() {
        let now = Timestamp::from_secs(1_800_000_000);
        assert_eq!(moment("--since", "15m", now).unwrap(), Timestamp::from_secs(1_799_999_100));
        assert_eq!(moment("--since", "1970-01-01T00:00:10Z", now).unwrap(), Timestamp::from_secs(10));
        assert_eq!(moment("--since", "yesterday", now).unwrap_err().reason, "USAGE");
    }
}
