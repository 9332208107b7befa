//! Bundles of other trust domains: what nodes are told of them, and what the record keeps.

use std::sync::Arc;

use legate_clock::Timestamp;
use legate_ids::SpiffeId;
use legate_view::FederatedTrustDomain;
use legate_wire::audit::{AuditEvent, Outcome};
use legate_wire::credential as wire;

use super::{cut, details, resource};
use crate::domain::token::hex;
use crate::federation::ForeignBundle;
use crate::store::credential::sha256;

/// What a node is told of one.
pub(crate) fn told_bundle(of: &FederatedTrustDomain, bundle: &Arc<ForeignBundle>) -> wire::FederatedBundle {
    wire::FederatedBundle {
        source: of.source(),
        trust_domain: of.trust_domain.to_string(),
        x509_authorities: bundle.x509.clone(),
        jwt_authorities: bundle.jwt.clone(),
    }
}

fn event(me: &SpiffeId, of: &FederatedTrustDomain, kind: &str, outcome: Outcome, now: Timestamp) -> AuditEvent {
    AuditEvent {
        time: Some(now.into()),
        r#type: kind.to_owned(),
        actor: me.to_string(),
        outcome: outcome.into(),
        namespace: of.label.namespace.to_string(),
        resource: resource("FederatedTrustDomain", &of.source()),
        details: details([
            ("trust_domain", of.trust_domain.to_string()),
            ("url", of.endpoint.as_ref().map(|at| at.url.to_string()).unwrap_or_default()),
        ]),
        ..AuditEvent::default()
    }
}

/// Another trust domain's keys are others now.
pub(crate) fn bundle_changed(
    me: &SpiffeId,
    of: &FederatedTrustDomain,
    bundle: &ForeignBundle,
    body: &[u8],
    now: Timestamp,
) -> AuditEvent {
    let mut event = event(me, of, "federation.bundle_changed", Outcome::Success, now);
    event.details.extend(details([
        ("sequence", bundle.sequence.map(|n| n.to_string()).unwrap_or_default()),
        ("sha256", hex(&sha256(body))),
        ("x509_authorities", bundle.x509.len().to_string()),
    ]));
    event
}

/// Another trust domain's keys did not come, after they did.
pub(crate) fn bundle_unreached(me: &SpiffeId, of: &FederatedTrustDomain, why: &str, now: Timestamp) -> AuditEvent {
    let mut event = event(me, of, "federation.bundle_unreached", Outcome::Failure, now);
    let plain: String = why.chars().filter(|c| !legate_ids::is_deceptive(*c)).collect();
    event.details.insert("why".to_owned(), cut(plain));
    event
}
