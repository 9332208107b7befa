//! `Debug` for messages that carry a token: everything but the token.

use std::fmt;

use crate::{audit, credential, envoy, policy};

const HIDDEN: &str = "(hidden)";

/// Headers hold tokens and cookies, a query whatever somebody put there.
impl fmt::Debug for envoy::attribute_context::HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRequest").field("id", &self.id).field("method", &self.method).finish_non_exhaustive()
    }
}

impl fmt::Debug for envoy::attribute_context::Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("certificate", &self.certificate.len()).finish()
    }
}

impl fmt::Debug for envoy::HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeaderValue").field("key", &self.key).field("value", &HIDDEN).finish()
    }
}

/// A log is no place that a name can be erased from.
impl fmt::Debug for audit::PersonalPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PersonalPart").field("salt", &self.salt.len()).field("name", &HIDDEN).finish()
    }
}

impl fmt::Debug for credential::CreateClientSecretResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateClientSecretResponse")
            .field("client_id", &self.client_id)
            .field("client_secret", &HIDDEN)
            .field("credential", &self.credential)
            .field("replaced", &self.replaced)
            .finish()
    }
}

impl fmt::Debug for credential::CreateEnrolmentTokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateEnrolmentTokenResponse")
            .field("token", &HIDDEN)
            .field("enrolment_id", &self.enrolment_id)
            .field("expire_time", &self.expire_time)
            .field("spiffe_id", &self.spiffe_id)
            .finish()
    }
}

impl fmt::Debug for credential::EnrolRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrolRequest").field("token", &HIDDEN).field("csr", &self.csr.len()).finish()
    }
}

impl fmt::Debug for credential::EnrolWithIdentityTokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrolWithIdentityTokenRequest")
            .field("token", &HIDDEN)
            .field("namespace", &self.namespace)
            .field("csr", &self.csr.len())
            .finish()
    }
}

impl fmt::Debug for credential::IssueTokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssueTokenResponse")
            .field("access_token", &HIDDEN)
            .field("token_id", &self.token_id)
            .field("expire_time", &self.expire_time)
            .field("scopes", &self.scopes)
            .field("authorization_details", &self.authorization_details)
            .field("revision", &self.revision)
            .field("renew_certificate", &self.renew_certificate)
            .finish()
    }
}

impl fmt::Debug for credential::ExchangeTokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExchangeTokenRequest")
            .field("subject_token", &HIDDEN)
            .field("subject_token_type", &self.subject_token_type)
            .field("has_actor_token", &!self.actor_token.is_empty())
            .field("audience", &self.audience)
            .field("scopes", &self.scopes)
            .field("grant", &self.grant)
            .finish()
    }
}

impl fmt::Debug for credential::ExchangeTokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExchangeTokenResponse")
            .field("access_token", &HIDDEN)
            .field("token_id", &self.token_id)
            .field("expire_time", &self.expire_time)
            .field("scopes", &self.scopes)
            .field("subject", &self.subject)
            .field("chain", &self.chain)
            .field("revision", &self.revision)
            .finish()
    }
}

impl fmt::Debug for credential::FindLeakedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FindLeakedRequest")
            .field("found", &HIDDEN)
            .field("revoke", &self.revoke)
            .field("comment", &self.comment)
            .finish()
    }
}

impl fmt::Debug for credential::find_leaked_request::Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl fmt::Debug for credential::IntrospectRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntrospectRequest").field("token", &HIDDEN).finish()
    }
}

impl fmt::Debug for credential::LoginRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginRequest").field("token", &HIDDEN).field("csr", &self.csr.len()).finish()
    }
}

impl fmt::Debug for policy::Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.agent {
            Some(policy::subject::Agent::AgentId(id)) => f.debug_tuple("Subject").field(id).finish(),
            Some(policy::subject::Agent::AccessToken(_)) => f.debug_tuple("Subject").field(&HIDDEN).finish(),
            Some(shown @ policy::subject::Agent::CertificateChain(_)) => f.debug_tuple("Subject").field(shown).finish(),
            None => f.write_str("Subject(nobody)"),
        }
    }
}

impl fmt::Debug for policy::subject::Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AgentId(id) => f.debug_tuple("AgentId").field(id).finish(),
            Self::AccessToken(_) => f.debug_tuple("AccessToken").field(&HIDDEN).finish(),
            Self::CertificateChain(der) => f.debug_tuple("CertificateChain").field(&der.len()).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_token_is_printed() {
        let canary = || String::from("canary-secret");
        let printed = [
            format!("{:?}", credential::CreateEnrolmentTokenResponse { token: canary(), ..Default::default() }),
            format!("{:?}", credential::CreateClientSecretResponse { client_secret: canary(), ..Default::default() }),
            format!("{:?}", credential::EnrolRequest { token: canary(), ..Default::default() }),
            format!("{:?}", credential::EnrolWithIdentityTokenRequest { token: canary(), ..Default::default() }),
            format!("{:?}", credential::LoginRequest { token: canary(), ..Default::default() }),
            format!("{:?}", credential::IssueTokenResponse { access_token: canary(), ..Default::default() }),
            format!(
                "{:?}",
                credential::ExchangeTokenRequest {
                    subject_token: canary(),
                    actor_token: canary(),
                    ..Default::default()
                }
            ),
            format!("{:?}", credential::ExchangeTokenResponse { access_token: canary(), ..Default::default() }),
            format!("{:?}", credential::IntrospectRequest { token: canary() }),
            format!(
                "{:?}",
                credential::FindLeakedRequest {
                    found: Some(credential::find_leaked_request::Found::Text(canary())),
                    ..Default::default()
                }
            ),
            format!(
                "{:?}",
                policy::EvaluateRequest {
                    subject: Some(policy::Subject {
                        agent: Some(policy::subject::Agent::AccessToken(canary())),
                        ..Default::default()
                    }),
                    ..Default::default()
                }
            ),
        ];
        for text in printed {
            assert!(!text.contains("canary"), "{text}");
            assert!(text.contains("hidden"), "{text}");
        }
    }
}

impl fmt::Debug for credential::CreateGrantRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateGrantRequest")
            .field("token", &HIDDEN)
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .field("delegate", &self.delegate)
            .field("permissions", &self.permissions)
            .field("audiences", &self.audiences)
            .field("purpose", &self.purpose)
            .field("ttl", &self.ttl)
            .field("max_depth", &self.max_depth)
            .finish()
    }
}

impl fmt::Debug for credential::ListGrantsRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListGrantsRequest")
            .field("token", &HIDDEN)
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .finish()
    }
}

impl fmt::Debug for credential::RevokeGrantRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevokeGrantRequest")
            .field("token", &HIDDEN)
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .field("request_id", &self.request_id)
            .field("reason", &self.reason)
            .finish()
    }
}
