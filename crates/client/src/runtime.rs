//! An agent's or enforcement point's runtime: enrols once, renews, obtains tokens; its key never leaves it.

use std::sync::Arc;

use legate_clock::{Clock, SystemClock};
use legate_mtls::Identity;
use legate_rpc::Client;
use legate_wire::credential::agent_credential_service_client::AgentCredentialServiceClient;
use legate_wire::credential::enrolment_service_client::EnrolmentServiceClient;
use legate_wire::credential::key_service_client::KeyServiceClient;
use legate_wire::credential::operator_login_service_client::OperatorLoginServiceClient;
use legate_wire::credential::{
    Credential, EnrolRequest, EnrolWithIdentityTokenRequest, ExchangeTokenRequest, ExchangeTokenResponse,
    GetTrustBundleRequest, IssueTokenRequest, IssueTokenResponse, LoginRequest, RenewCertificateRequest, TokenType,
};

use parking_lot::Mutex;

use crate::{ClientError, Remote, RuntimeKey, chain_pem};

/// What enrolling gives.
#[derive(Debug)]
pub struct Enrolled {
    /// The key that was made here.
    pub key: RuntimeKey,
    /// The certificate and any intermediates in PEM, leaf first.
    pub chain_pem: String,
    /// The CA certificates that verify workloads, in PEM.
    pub workload_roots_pem: String,
    /// What the issuer recorded.
    pub credential: Credential,
}

/// Makes a key here and trades a one-time token for a certificate of it.
///
/// # Errors
/// When the issuer refuses (see docs/errors.md) or cannot be reached.
pub async fn enrol(issuer: &Remote, token: &str) -> Result<Enrolled, ClientError> {
    let key = RuntimeKey::generate()?;
    let client = issuer.dial(Identity::anonymous())?;
    let request = EnrolRequest { token: token.to_owned(), csr: key.request()? };
    let answer = EnrolmentServiceClient::new(client).enrol(request).await?.into_inner();
    Ok(Enrolled {
        key,
        chain_pem: chain_pem(&answer.certificate_chain),
        workload_roots_pem: chain_pem(&answer.workload_roots),
        credential: answer.credential.unwrap_or_default(),
    })
}

/// Makes a key here and trades a token of an issuer that the namespace trusts for a certificate of it: a workload that its
/// cluster, CI system or cloud vouches for needs no secret of Legate's. The token works once.
///
/// # Errors
/// When the issuer refuses (see docs/errors.md) or cannot be reached.
pub async fn enrol_with_identity_token(issuer: &Remote, namespace: &str, token: &str) -> Result<Enrolled, ClientError> {
    let key = RuntimeKey::generate()?;
    let client = issuer.dial(Identity::anonymous())?;
    let (token, namespace, csr) = (token.to_owned(), namespace.to_owned(), key.request()?);
    let request = EnrolWithIdentityTokenRequest { token, namespace, csr };
    let answer = EnrolmentServiceClient::new(client).enrol_with_identity_token(request).await?.into_inner();
    Ok(Enrolled {
        key,
        chain_pem: chain_pem(&answer.certificate_chain),
        workload_roots_pem: chain_pem(&answer.workload_roots),
        credential: answer.credential.unwrap_or_default(),
    })
}

/// What logging in gives.
#[derive(Debug)]
pub struct LoggedIn {
    /// The key that was made here.
    pub key: RuntimeKey,
    /// The certificate in PEM.
    pub chain_pem: String,
    /// What the issuer recorded; its SPIFFE ID says which operator it is.
    pub credential: Credential,
}

/// Makes a key here and trades a token of an identity provider for an operator's certificate of it. The token works once.
///
/// # Errors
/// When the issuer refuses (see docs/errors.md) or cannot be reached.
pub async fn login(issuer: &Remote, token: &str) -> Result<LoggedIn, ClientError> {
    let key = RuntimeKey::generate()?;
    let client = issuer.dial(Identity::anonymous())?;
    let request = LoginRequest { token: token.to_owned(), csr: key.request()? };
    let answer = OperatorLoginServiceClient::new(client).login(request).await?.into_inner();
    let chain_pem = chain_pem(&answer.certificate_chain);
    Ok(LoggedIn { key, chain_pem, credential: answer.credential.unwrap_or_default() })
}

impl LoggedIn {
    /// The certificate and key as an identity to dial with.
    ///
    /// # Errors
    /// When the issuer's certificate is not for our key.
    pub fn identity(&self) -> Result<Identity, ClientError> {
        Ok(Identity::from_pem(&self.chain_pem, &self.key.to_pem())?)
    }
}

impl Enrolled {
    /// The certificate and key as an identity to dial with.
    ///
    /// # Errors
    /// When the issuer's certificate is not for our key.
    pub fn identity(&self) -> Result<Identity, ClientError> {
        Ok(Identity::from_pem(&self.chain_pem, &self.key.to_pem())?)
    }
}

/// A runtime that holds a certificate.
#[derive(Clone, Debug)]
pub struct Runtime {
    issuer: Remote,
    identity: Identity,
    clock: Arc<dyn Clock>,
    line: Arc<Mutex<Line>>,
}

/// The line to credential-issuer, and by which certificate it was made.
#[derive(Debug)]
struct Line {
    x5t_s256: Option<[u8; 32]>,
    client: Client,
}

impl Runtime {
    /// A runtime with this identity.
    ///
    /// # Errors
    /// When the issuer's endpoint is not an address.
    pub fn new(issuer: &Remote, identity: Identity) -> Result<Self, ClientError> {
        Self::new_with(issuer, identity, SystemClock::shared())
    }

    /// The same by a given clock.
    ///
    /// # Errors
    /// When the issuer's endpoint is not an address.
    pub fn new_with(issuer: &Remote, identity: Identity, clock: Arc<dyn Clock>) -> Result<Self, ClientError> {
        let x5t_s256 = identity.x5t_s256();
        let client = issuer.dial_with(identity.clone(), Arc::clone(&clock))?;
        let line = Arc::new(Mutex::new(Line { x5t_s256, client }));
        Ok(Self { issuer: issuer.clone(), identity, clock, line })
    }

    /// The line, made anew when our certificate is another: what is issued is bound to the certificate of the connection, and that has to
    /// be the one that we show elsewhere.
    fn client(&self) -> Result<Client, ClientError> {
        let x5t_s256 = self.identity.x5t_s256();
        let mut line = self.line.lock();
        if line.x5t_s256 != x5t_s256 {
            line.client = self.issuer.dial_with(self.identity.clone(), Arc::clone(&self.clock))?;
            line.x5t_s256 = x5t_s256;
        }
        Ok(line.client.clone())
    }

    /// Who we are.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Obtains an access token for one audience, bound to our certificate.
    ///
    /// # Errors
    /// When the issuer refuses or cannot be reached.
    pub async fn token(&self, audience: &str) -> Result<IssueTokenResponse, ClientError> {
        let request = IssueTokenRequest { audience: audience.to_owned(), ..Default::default() };
        let mut service = AgentCredentialServiceClient::new(self.client()?);
        Ok(service.issue_token(request).await?.into_inner())
    }

    /// Exchanges a token that its holder addressed to us for one with which we act for him, for one audience: that of an
    /// enforcement point, or the SPIFFE ID of the agent to which it is handed on.
    ///
    /// # Errors
    /// When the issuer refuses or cannot be reached.
    pub async fn exchange(
        &self,
        subject_token: &str,
        audience: &str,
        scopes: &[String],
    ) -> Result<ExchangeTokenResponse, ClientError> {
        let request = ExchangeTokenRequest {
            subject_token: subject_token.to_owned(),
            subject_token_type: TokenType::AccessToken.into(),
            audience: audience.to_owned(),
            scopes: scopes.to_vec(),
            ..Default::default()
        };
        let mut service = AgentCredentialServiceClient::new(self.client()?);
        Ok(service.exchange_token(request).await?.into_inner())
    }

    /// The CA certificates that verify workloads, in DER.
    ///
    /// # Errors
    /// When the issuer refuses or cannot be reached.
    pub async fn workload_roots(&self) -> Result<Vec<Vec<u8>>, ClientError> {
        let mut service = KeyServiceClient::new(self.client()?);
        Ok(service.get_trust_bundle(GetTrustBundleRequest {}).await?.into_inner().workload_roots)
    }

    /// Renews the certificate with a new key; connections made from now on use it.
    ///
    /// # Errors
    /// When the issuer refuses or cannot be reached; then the old certificate stays.
    pub async fn renew(&self) -> Result<Credential, ClientError> {
        let key = RuntimeKey::generate()?;
        let request = RenewCertificateRequest { csr: key.request()? };
        let mut service = AgentCredentialServiceClient::new(self.client()?);
        let answer = service.renew_certificate(request).await?.into_inner();
        self.identity.replace_pem(&chain_pem(&answer.certificate_chain), &key.to_pem())?;
        Ok(answer.credential.unwrap_or_default())
    }
}
