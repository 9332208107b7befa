//! What a backend asks: who wants to do what to what.

use legate_wire::policy as wire;
use prost_types::{Struct, Value};
use rustls_pki_types::CertificateDer;

/// May somebody do something to something? The words are policy-decision's; what breaks their grammar comes back
/// [`Undecided`](crate::Undecided), with the field and why.
#[derive(Clone, Debug)]
pub struct Question(pub(super) wire::EvaluateRequest);

impl Question {
    /// Of an agent that showed its access token. Where the token is bound, say by what it was shown:
    /// [`Question::presented_certificate`], [`Question::presented_key`].
    #[must_use]
    pub fn by_token(
        token: impl Into<String>,
        action: impl Into<String>,
        resource_type: &str,
        resource_id: &str,
    ) -> Self {
        Self::of(wire::subject::Agent::AccessToken(token.into()), action.into(), resource_type, resource_id)
    }

    /// Of an agent by its id, on the caller's own word, for which its enforcement point needs `mayAssertSubject`.
    #[must_use]
    pub fn by_agent(
        agent_id: impl Into<String>,
        action: impl Into<String>,
        resource_type: &str,
        resource_id: &str,
    ) -> Self {
        Self::of(wire::subject::Agent::AgentId(agent_id.into()), action.into(), resource_type, resource_id)
    }

    /// Of an agent that showed nothing but the certificate of its connection: its X.509-SVID, in DER, leaf first, with any
    /// intermediates after it. policy-decision verifies it. That it was shown in a handshake is the caller's word, for which its enforcement point
    /// needs `mayAssertSubject`.
    #[must_use]
    pub fn by_certificate(
        chain: &[CertificateDer<'_>],
        action: impl Into<String>,
        resource_type: &str,
        resource_id: &str,
    ) -> Self {
        let chain = chain.iter().flat_map(|der| der.iter().copied()).collect();
        Self::of(wire::subject::Agent::CertificateChain(chain), action.into(), resource_type, resource_id)
    }

    fn of(agent: wire::subject::Agent, action: String, resource_type: &str, resource_id: &str) -> Self {
        let resource = wire::Resource { r#type: resource_type.into(), id: resource_id.into(), attributes: None };
        Self(wire::EvaluateRequest {
            subject: Some(wire::Subject { agent: Some(agent), ..wire::Subject::default() }),
            action,
            resource: Some(resource),
            ..wire::EvaluateRequest::default()
        })
    }

    /// SHA-256 of the DER certificate with which the agent's connection was made (RFC 8705 section 3.1). Only what the
    /// handshake proved: a header says nothing.
    #[must_use]
    pub fn presented_certificate(mut self, x5t_s256: [u8; 32]) -> Self {
        self.0.subject.get_or_insert_default().presenter_x5t_s256 = x5t_s256.to_vec();
        self
    }

    /// The RFC 7638 thumbprint of the key whose DPoP proof came with the token, and which the caller verified for this very
    /// request (RFC 9449 section 7).
    #[must_use]
    pub fn presented_key(mut self, jkt: [u8; 32]) -> Self {
        self.0.subject.get_or_insert_default().presenter_jkt = jkt.to_vec();
        self
    }

    /// For whom the agent acts, on the caller's word: `user:NAME` or `agent:NAME`. Not with a token that says it itself.
    #[must_use]
    pub fn on_behalf_of(mut self, subject: impl Into<String>) -> Self {
        let on_behalf_of = wire::OnBehalfOf { subject: subject.into(), grant: String::new() };
        self.0.subject.get_or_insert_default().on_behalf_of = Some(on_behalf_of);
        self
    }

    /// An attribute of the resource, `resource.NAME` in Cedar; all of them 64 KiB at most.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        let resource = self.0.resource.get_or_insert_default();
        let attributes: &mut Struct = resource.attributes.get_or_insert_default();
        attributes.fields.insert(name.into(), value.into());
        self
    }

    /// Something about the request, `context.NAME` in Cedar; all of it 64 KiB at most.
    #[must_use]
    pub fn context(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.0.context.get_or_insert_default().fields.insert(name.into(), value.into());
        self
    }

    /// Decide at this registry revision or a later one: what a write returned is seen.
    #[must_use]
    pub fn at_least_revision(mut self, revision: u64) -> Self {
        self.0.at_least_revision = revision;
        self
    }

    /// Ties the records of one task together; 128 bytes at most.
    #[must_use]
    pub fn correlation_id(mut self, id: impl Into<String>) -> Self {
        self.0.correlation_id = id.into();
        self
    }
}
