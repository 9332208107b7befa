//! credential-issuer makes its public news known: keys that verify tokens, and credentials that were taken back.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use legate_ids::{Name, Principal, SpiffeId};
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{
    Declaration, Metadata, PublishRevocationRequest, PublishRevocationResponse, PublishSigningKeyResponse, Revocation,
    SigningKey, SigningKeySpec,
};

use super::stage;
use super::{Call, Desk};
use crate::domain::problem::Problem;
use crate::domain::{check, diff, kind};
use crate::store::{broken, object};

fn under(field: &str, problems: Vec<Problem>) -> Result<(), Fault> {
    stage::refusal(problems.into_iter().map(|p| Problem { path: format!("{field}.{}", p.path), ..p }).collect())
}

/// What is base64url is no name; its hash is.
pub(super) fn hash(text: &str) -> String {
    hash_of(text.as_bytes())
}

/// The same of bytes.
pub(super) fn hash_of(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref()[..16].iter().map(|b| format!("{b:02x}")).collect()
}

/// Puts a public key into the stream. A repetition changes nothing, and what comes late gives nothing back: a key ends earlier,
/// never later, and one that was taken back stays so.
#[tracing::instrument(skip_all)]
pub(crate) async fn publish_key(
    desk: &Arc<Desk>,
    call: Call,
    spec: Option<SigningKeySpec>,
) -> Result<PublishSigningKeyResponse, Fault> {
    let spec = spec.ok_or_else(|| Fault::invalid("signing_key", "is required"))?;
    under("signing_key", check::check_signing_key(&spec))?;
    let metadata = Metadata { name: format!("key-{}", hash(&spec.kid)), ..Metadata::default() };
    let standard = if spec.revoke_time.is_some() { Standard::Stopping } else { Standard::Ordinary };
    let wanted = Arc::new(SigningKey { metadata: Some(metadata), spec: Some(spec) });
    desk.write("publish_signing_key", standard, call, move |writing| {
        let wanted = Arc::clone(&wanted);
        Box::pin(async move {
            let mut wanted = SigningKey::clone(&wanted);
            let told = Declaration { object: Some(Object::SigningKey(wanted.clone())) };
            let key = kind::key_of(&told).ok_or_else(|| broken("a signing key without a name"))?;
            let current = object::by_key(writing.tx, &key).await?.map(|row| row.declaration()).transpose()?;
            if let (Some(Object::SigningKey(current)), Some(spec)) =
                (current.as_ref().and_then(|current| current.object.as_ref()), &mut wanted.spec)
            {
                narrow(spec, current.spec.as_ref());
            }
            let wanted = Declaration { object: Some(Object::SigningKey(wanted)) };
            let fields = diff::diff(current.as_ref(), &wanted);
            if let Some(current) = &current
                && fields.is_empty()
            {
                let revision = current.metadata().map_or(0, |m| m.revision);
                return Ok(PublishSigningKeyResponse { revision });
            }
            writing.put(wanted, current.as_ref(), "published", &fields).await?;
            Ok(PublishSigningKeyResponse { revision: writing.revision() })
        })
    })
    .await
}

/// Of two words about one key the narrower holds: two issuers may speak of it, and the older word come last.
fn narrow(spec: &mut SigningKeySpec, current: Option<&SigningKeySpec>) {
    let Some(current) = current else { return };
    let earlier = |one: Option<prost_types::Timestamp>, other: Option<prost_types::Timestamp>| {
        one.into_iter().chain(other).min_by_key(|at| (at.seconds, at.nanos))
    };
    spec.not_after = earlier(spec.not_after, current.not_after);
    spec.revoke_time = earlier(spec.revoke_time, current.revoke_time);
}

/// Puts a revocation into the stream. A repetition changes nothing.
#[tracing::instrument(skip_all)]
pub(crate) async fn publish_revocation(
    desk: &Arc<Desk>,
    call: Call,
    ask: PublishRevocationRequest,
) -> Result<PublishRevocationResponse, Fault> {
    let spec = ask.revocation.ok_or_else(|| Fault::invalid("revocation", "is required"))?;
    under("revocation", check::check_revocation(&spec))?;
    // An operator belongs to no namespace.
    let holder = SpiffeId::parse(&spec.spiffe_id).ok().and_then(|id| Principal::of(&id).ok());
    if !ask.namespace.is_empty() || !matches!(holder, Some(Principal::Operator(_))) {
        Name::parse(&ask.namespace).map_err(|e| Fault::invalid("namespace", e.to_string()))?;
    }
    if !ask.actor.is_empty() {
        SpiffeId::parse(&ask.actor).map_err(|e| Fault::invalid("actor", e.to_string()))?;
    }
    let name = match spec.token_id.as_str() {
        "" => spec.credential_id.replace('_', "-"),
        token => format!("token-{}", hash(token)),
    };
    let metadata = Metadata { name, namespace: ask.namespace, ..Metadata::default() };
    let wanted = Object::Revocation(Revocation { metadata: Some(metadata), spec: Some(spec) });
    let wanted = Arc::new(Declaration { object: Some(wanted) });
    desk.write("publish_revocation", Standard::Stopping, call, move |writing| {
        let wanted = Arc::clone(&wanted);
        Box::pin(async move {
            let key = kind::key_of(&wanted).ok_or_else(|| broken("a revocation without a name"))?;
            if let Some(row) = object::by_key(writing.tx, &key).await? {
                let revision = row.declaration()?.metadata().map_or(0, |m| m.revision);
                return Ok(PublishRevocationResponse { revision });
            }
            writing.put(Declaration::clone(&wanted), None, "published", &[]).await?;
            Ok(PublishRevocationResponse { revision: writing.revision() })
        })
    })
    .await
}
