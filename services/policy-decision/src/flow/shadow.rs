//! An operator asks which decisions the policies in LOG_ONLY would have turned round, as this process counted them.

use std::sync::Arc;

use legate_ids::Name;
use legate_rpc::{Fault, OPERATOR_NOT_PERMITTED};
use legate_view::{Policy, PolicyMode};
use legate_wire::policy as wire;

use super::asker::Asker;
use super::asking::{fresh, told};
use super::evaluate::{Desk, Spoken};
use super::record;
use crate::convert::Ask;
use crate::domain::shadow::Would;
use crate::store::tally::{Count, Example};

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Shadow {
    pub(crate) namespace: Name,
    pub(crate) name: Option<Name>,
}

/// Counts an answer that is said.
pub(super) fn count(desk: &Desk, ask: &Ask, spoken: &Spoken) {
    let Some(compiled) = &spoken.shadowed else { return };
    let flips: Vec<(Arc<Policy>, Would)> =
        spoken.answer.shadow.iter().map(|flip| (Arc::clone(&flip.policy), flip.would)).collect();
    desk.shadow.count(compiled.shadows(), &flips, spoken.at, |would| Example {
        decision: spoken.id.to_string(),
        at: spoken.at,
        agent: spoken.agent.as_ref().map(|agent| agent.id.to_string()).unwrap_or_default(),
        action: ask.question.action.to_string(),
        resource: (ask.question.resource_type.to_string(), ask.question.resource_id.to_string()),
        would,
    });
    for (policy, would) in &flips {
        let would = match would {
            Would::Allow => "allow",
            Would::Deny => "deny",
        };
        desk.metrics.shadowed(&desk.shadow.label(policy), would);
    }
}

/// Says what was counted of the policies that are in LOG_ONLY now.
///
/// # Errors
/// When the view is old, the caller may not read the namespace, or it cannot be recorded: the examples name what agents did.
#[tracing::instrument(skip_all)]
pub(crate) async fn shadow(desk: &Arc<Desk>, asker: &Asker, ask: Shadow) -> Result<wire::GetShadowResponse, Fault> {
    let (reading, now) = fresh(desk)?;
    let snapshot = &reading.snapshot;
    if !asker.right(snapshot, now)?.shows(&ask.namespace) {
        let text = format!("the caller may not read the namespace {}", ask.namespace);
        return Err(Fault::refused(&OPERATOR_NOT_PERMITTED, text));
    }
    let declared = snapshot.policies(ask.namespace.as_str());
    let counts = declared.iter().flat_map(|policies| policies.by_name.values());
    let counts = counts
        .filter(|policy| policy.mode == PolicyMode::LogOnly)
        .filter(|policy| ask.name.as_ref().is_none_or(|name| policy.label.name == *name))
        .filter_map(|policy| Some(said(policy, desk.shadow.of(policy)?)))
        .collect();
    let revision = snapshot.revision();
    let question = ("question", "shadow".to_owned());
    let event = record::searched(asker, ask.namespace.as_str(), revision, now, [question]);
    told(desk, asker, event).await?;
    desk.metrics.asked("shadow");
    Ok(wire::GetShadowResponse { counts, revision })
}

fn said(policy: &Policy, count: Count) -> wire::ShadowCount {
    let example = |one: Example| wire::ShadowExample {
        decision_id: one.decision,
        time: Some(one.at.into()),
        agent_id: one.agent,
        action: one.action,
        resource_type: one.resource.0,
        resource_id: one.resource.1,
        would: match one.would {
            Would::Allow => wire::Decision::Allow.into(),
            Would::Deny => wire::Decision::Deny.into(),
        },
    };
    wire::ShadowCount {
        policy: format!("{}/{}", policy.label.namespace, policy.label.name),
        id: policy.label.id.to_string(),
        version: policy.label.version,
        decisions: count.decisions,
        would_allow: count.would_allow,
        would_deny: count.would_deny,
        since: Some(count.since.into()),
        examples: count.examples.into_iter().map(example).collect(),
    }
}
