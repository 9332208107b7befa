//! This machine as a node of a development suite, and the socket on which its processes obtain their identities.

use std::sync::Arc;

use legate_boot::StartError;
use legate_clock::{Clock, SystemClock};
use legate_ids::TrustDomain;
use legate_rpc::Client;
use legate_wire::credential::credential_admin_service_client::CredentialAdminServiceClient;
use legate_wire::credential::{CreateEnrolmentTokenRequest, NodeRef, create_enrolment_token_request::Holder};
use legate_wire::registry::declaration::Object;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::{
    ApplyDeclarationsRequest, Declaration, Metadata, Namespace, NamespaceSpec, Node, NodeSpec,
};
use legate_workload::{Limits, Proof};
use zeroize::Zeroizing;

use super::pki::Layout;
use crate::error::SOCKET_REFUSED;
use crate::node::{Helper, Wanted};

/// The node: an attestation policy names it as `dev/machine`.
const NAMESPACE: &str = "dev";
const NAME: &str = "machine";
/// Why it is declared.
const WHY: &str = "legate dev";

/// Declares the node where it is not there yet, enrols it where it has no certificate, and serves the socket. Nothing where no socket can be
/// in the directory: the suite does without.
pub(super) async fn raise(
    layout: &Layout,
    domain: &TrustDomain,
    remote: legate_client::Remote,
    (registry, issuer): (Client, Client),
) -> Result<Option<Helper>, StartError> {
    declare(registry).await?;
    let clock = SystemClock::shared();
    let state = layout.root().join("workload");
    let proof = if is_enrolled(&state, clock.as_ref()) { Proof::Nothing } else { Proof::Token(token(issuer).await?) };
    let wanted = Wanted {
        socket: layout.root().join("workload.sock"),
        mode: 0o666,
        state,
        issuer: remote,
        domain: domain.clone(),
        probes: None,
        limits: Limits::default(),
        tokens: Vec::new(),
        broker: None,
        proof,
        clock: Arc::clone(&clock),
    };
    match Helper::raise(wanted).await {
        Ok(helper) => Ok(Some(helper)),
        Err(failure) if failure.reason == SOCKET_REFUSED.name => {
            tracing::warn!(%failure, "there is no socket for processes of this machine");
            Ok(None)
        }
        Err(failure) => Err(StartError::new("the node helper", failure)),
    }
}

fn is_enrolled(state: &std::path::Path, clock: &dyn Clock) -> bool {
    let file = state.join("node.pem");
    let kept = legate_mtls::Identity::from_files(&file, &file).ok().and_then(|kept| kept.not_after());
    kept.is_some_and(|end| end > clock.now())
}

async fn declare(registry: Client) -> Result<(), StartError> {
    let metadata = |namespace: &str, name: &str| {
        Some(Metadata { namespace: namespace.into(), name: name.into(), ..Metadata::default() })
    };
    let namespace = Namespace {
        metadata: metadata("", NAMESPACE),
        spec: Some(NamespaceSpec { description: "What legate dev declares.".into(), ..NamespaceSpec::default() }),
        ..Namespace::default()
    };
    let node = Node {
        metadata: metadata(NAMESPACE, NAME),
        spec: Some(NodeSpec { description: "The machine that legate dev runs on.".into(), ..NodeSpec::default() }),
        ..Node::default()
    };
    let mut service = DeclarationServiceClient::new(registry);
    let request = ApplyDeclarationsRequest {
        declarations: [Object::Namespace(namespace), Object::Node(node)]
            .map(|object| Declaration { object: Some(object) })
            .into(),
        reason: WHY.into(),
        ..ApplyDeclarationsRequest::default()
    };
    let refused = |status: tonic::Status| StartError::new("the node dev/machine cannot be declared", status);
    service.apply_declarations(request).await.map_err(refused)?;
    Ok(())
}

async fn token(issuer: Client) -> Result<Zeroizing<String>, StartError> {
    let holder = Holder::Node(NodeRef { namespace: NAMESPACE.into(), name: NAME.into() });
    let request = CreateEnrolmentTokenRequest { holder: Some(holder), ttl: None, reason: WHY.into() };
    let mut admin = CredentialAdminServiceClient::new(issuer);
    let refused = |status: tonic::Status| StartError::new("the node dev/machine cannot be enrolled", status);
    Ok(Zeroizing::new(admin.create_enrolment_token(request).await.map_err(refused)?.into_inner().token))
}
