//! `Debug` for messages that carry SVIDs and their keys: everything but these.

use std::fmt;

use crate::{broker, credential, sds, spiffe};

const HIDDEN: &str = "(hidden)";

impl fmt::Debug for credential::IssueJwtSvidResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssueJwtSvidResponse")
            .field("svid", &HIDDEN)
            .field("spiffe_id", &self.spiffe_id)
            .field("expire_time", &self.expire_time)
            .finish()
    }
}

/// The process's token is a secret, and what it is a certificate for is long.
impl fmt::Debug for credential::IssueX509SvidRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssueX509SvidRequest")
            .field("namespace", &self.namespace)
            .field("policy", &self.policy)
            .field("selectors", &self.selectors)
            .field("csr", &self.csr.len())
            .field("instance_id", &self.instance_id)
            .field("request_id", &self.request_id)
            .field("identity_token", &HIDDEN)
            .field("broker_instance_id", &self.broker_instance_id)
            .finish()
    }
}

impl fmt::Debug for credential::IssueJwtSvidRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssueJwtSvidRequest")
            .field("instance_id", &self.instance_id)
            .field("selectors", &self.selectors)
            .field("audiences", &self.audiences)
            .field("ttl", &self.ttl)
            .field("identity_token", &HIDDEN)
            .field("broker_instance_id", &self.broker_instance_id)
            .finish()
    }
}

impl fmt::Debug for spiffe::X509svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("X509SVID")
            .field("spiffe_id", &self.spiffe_id)
            .field("x509_svid", &self.x509_svid.len())
            .field("x509_svid_key", &HIDDEN)
            .field("bundle", &self.bundle.len())
            .field("hint", &self.hint)
            .finish()
    }
}

impl fmt::Debug for broker::X509svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("X509SVID")
            .field("spiffe_id", &self.spiffe_id)
            .field("x509_svid", &self.x509_svid.len())
            .field("x509_svid_key", &HIDDEN)
            .field("bundle", &self.bundle.len())
            .field("hint", &self.hint)
            .finish()
    }
}

impl fmt::Debug for broker::Jwtsvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JWTSVID").field("spiffe_id", &self.spiffe_id).field("svid", &HIDDEN).finish()
    }
}

impl fmt::Debug for spiffe::Jwtsvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JWTSVID").field("spiffe_id", &self.spiffe_id).field("svid", &HIDDEN).finish()
    }
}

impl fmt::Debug for spiffe::ValidateJwtsvidRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValidateJWTSVIDRequest").field("audience", &self.audience).field("svid", &HIDDEN).finish()
    }
}

/// A private key, perhaps.
impl fmt::Debug for sds::DataSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataSource(hidden)")
    }
}

impl fmt::Debug for sds::data_source::Specifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Specifier(hidden)")
    }
}

/// Its resources hold private keys.
impl fmt::Debug for sds::DiscoveryResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiscoveryResponse")
            .field("version_info", &self.version_info)
            .field("resources", &self.resources.len())
            .field("type_url", &self.type_url)
            .field("nonce", &self.nonce)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_svid_and_no_key_is_printed() {
        const CANARY: &str = "canary-secret";
        let svid = spiffe::X509svid { x509_svid_key: CANARY.into(), ..spiffe::X509svid::default() };
        let token = spiffe::Jwtsvid { svid: CANARY.into(), ..spiffe::Jwtsvid::default() };
        let source = sds::DataSource { specifier: Some(sds::data_source::Specifier::InlineBytes(CANARY.into())) };
        let (x509, jwt) = (vec![svid], vec![token]);
        let brokered = broker::X509svid { x509_svid_key: CANARY.into(), ..broker::X509svid::default() };
        let brokered_token = broker::Jwtsvid { svid: CANARY.into(), ..broker::Jwtsvid::default() };
        let printed = [
            format!("{:?}", credential::IssueJwtSvidResponse { svid: CANARY.into(), ..Default::default() }),
            format!("{:?}", credential::IssueX509SvidRequest { identity_token: CANARY.into(), ..Default::default() }),
            format!("{:?}", credential::IssueJwtSvidRequest { identity_token: CANARY.into(), ..Default::default() }),
            format!("{:?}", broker::SubscribeToX509svidResponse { svids: vec![brokered], ..Default::default() }),
            format!("{:?}", broker::FetchJwtsvidResponse { svids: vec![brokered_token] }),
            format!("{:?}", spiffe::X509svidResponse { svids: x509, ..Default::default() }),
            format!("{:?}", spiffe::JwtsvidResponse { svids: jwt }),
            format!("{:?}", spiffe::ValidateJwtsvidRequest { svid: CANARY.into(), ..Default::default() }),
            format!("{:?}", sds::TlsCertificate { private_key: Some(source), certificate_chain: None }),
        ];
        for text in printed {
            assert!(text.contains("hidden"), "{text}");
            // As text, and as a list of bytes.
            assert!(!text.contains("canary") && !text.contains("99, 97, 110"), "{text}");
        }
    }
}
