//! The node's own identity: obtained once, kept in one file, renewed at half of its life.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use legate_client::{ClientError, Enrolled, Remote, RuntimeKey, chain_pem, enrol, enrol_with_identity_token};
use legate_clock::{Clock, Timestamp};
use legate_mtls::{Identity, TlsError, pki};
use legate_rpc::Client;
use legate_wire::credential::RenewCertificateRequest;
use legate_wire::credential::agent_credential_service_client::AgentCredentialServiceClient;
use zeroize::Zeroizing;

use crate::Meter;
use crate::follow::{Ear, News};
use crate::knowledge::Signer;

/// Private key and certificate chain, mode 0600: all that a restart needs.
const FILE: &str = "node.pem";
/// The wait after a failure doubles from the first to the second.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// No wait is longer, so that a clock that was set, and a machine that slept, are noticed.
const LOOK: Duration = Duration::from_secs(30);

/// By what the node proves itself where it has no certificate yet.
pub enum Proof {
    /// A one-time token.
    Token(Zeroizing<String>),
    /// A file with a token of an issuer that the namespace trusts; it is read when it is needed.
    IdentityToken {
        /// The node's namespace.
        namespace: String,
        /// The file.
        file: PathBuf,
    },
    /// Nothing: the certificate is there already.
    Nothing,
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token(hidden)",
            Self::IdentityToken { .. } => "IdentityToken",
            Self::Nothing => "Nothing",
        })
    }
}

/// Why the node has no identity.
#[derive(Debug, thiserror::Error)]
pub enum NoIdentity {
    /// There is none, and nothing to obtain one by.
    #[error("there is no certificate in {0} that is good now, and nothing to obtain one by")]
    Nothing(PathBuf),
    /// The state directory cannot be used.
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    /// A file is broken, or open to others.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// credential-issuer refuses, or is not reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The certificate is somebody else's.
    #[error("the certificate names {0}, which is no node")]
    NotANode(String),
}

/// The node's identity.
#[derive(Debug)]
pub struct Node {
    identity: Identity,
    /// Who signed its certificate.
    signer: Option<Signer>,
    file: PathBuf,
    issuer: Remote,
    proof: Proof,
    clock: Arc<dyn Clock>,
}

impl Node {
    /// Takes the identity that is kept in the directory, or obtains one by `proof`. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`NoIdentity`].
    pub async fn open(dir: &Path, issuer: Remote, proof: Proof, clock: Arc<dyn Clock>) -> Result<Self, NoIdentity> {
        let file = dir.join(FILE);
        let in_file = |e| NoIdentity::File(dir.to_owned(), e);
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(in_file)?;
        let kept = if file.exists() { Some(Identity::from_files(&file, &file)?) } else { None };
        let is_good = |kept: &Identity| kept.not_after().is_some_and(|end| end > clock.now());
        let (identity, signer) = match kept.filter(is_good) {
            Some(kept) => {
                let text = Zeroizing::new(std::fs::read_to_string(&file).map_err(in_file)?);
                (kept, signer_of(&text))
            }
            None => {
                // Before a token is spent: a full or foreign disk costs none.
                let probe = dir.join(".probe");
                pki::write_private(&probe, "")?;
                std::fs::remove_file(&probe).map_err(in_file)?;
                let enrolled = obtain(&issuer, &proof).await?.ok_or_else(|| NoIdentity::Nothing(dir.to_owned()))?;
                keep(&file, &enrolled.key, &enrolled.chain_pem)?;
                // Of its texts, so that what is renewed replaces it.
                (enrolled.identity()?, signer_of(&enrolled.chain_pem))
            }
        };
        let id = identity.spiffe_id();
        // `/ns/NAMESPACE/node/NAME`; what else there may be is for credential-issuer to judge.
        if id.as_ref().is_none_or(|id| id.path().split('/').nth(3) != Some("node")) {
            return Err(NoIdentity::NotANode(id.map_or_else(|| "nobody".to_owned(), |id| id.to_string())));
        }
        Ok(Self { identity, signer, file, issuer, proof, clock })
    }

    /// The identity, which is replaced in place.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// A channel to credential-issuer as the node.
    ///
    /// # Errors
    /// When the endpoint is not `https://HOST:PORT`.
    pub fn dial(&self) -> Result<Client, ClientError> {
        Ok(self.issuer.dial_with(self.identity.clone(), Arc::clone(&self.clock))?)
    }

    /// Renews it at half of its life, and as soon as the CA that signed it is tainted: nobody would let us in once that is over. Never
    /// returns.
    pub(crate) async fn keep_fresh(mut self, client: Client, meter: Meter, ear: Ear) {
        let mut wait = WAITS.0;
        let mut renew_at = self.half(&meter);
        let mut news = ear.subscribe();
        loop {
            let is_tainted = match &*news.borrow_and_update() {
                News::Known(known) => self.signer.as_ref().is_some_and(|signer| known.bundle.is_tainted(signer)),
                News::Nothing | News::Refused(_) => false,
            };
            let left = renew_at.since(self.clock.now());
            if !left.is_zero() && !is_tainted {
                tokio::select! {
                    () = tokio::time::sleep(left.min(LOOK)) => {}
                    Ok(()) = news.changed() => {}
                }
                continue;
            }
            if is_tainted {
                // A thousand nodes hear of it at the same moment.
                tokio::time::sleep(WAITS.0.mul_f64(rand::random_range(0.0..1.0))).await;
            }
            match self.renew(&client).await {
                Ok(()) => {
                    tracing::info!(not_after = ?self.identity.not_after(), "the node's certificate was renewed");
                    wait = WAITS.0;
                    renew_at = self.half(&meter);
                }
                Err(error) => {
                    tracing::warn!(%error, "the node's certificate was not renewed");
                    tokio::time::sleep(wait.mul_f64(rand::random_range(0.5..1.0))).await;
                    wait = (wait * 2).min(WAITS.1);
                }
            }
        }
    }

    /// Half of the life that is left, and a little less.
    fn half(&self, meter: &Meter) -> Timestamp {
        let now = self.clock.now();
        let end = self.identity.not_after().unwrap_or(now);
        meter.node_expires(end.secs());
        now.plus(end.since(now).mul_f64(0.5 - rand::random_range(0.0..0.05)))
    }

    async fn renew(&mut self, client: &Client) -> Result<(), NoIdentity> {
        let is_over = self.identity.not_after().is_none_or(|end| end <= self.clock.now());
        if is_over {
            // Nobody lets us in by it any more. A one-time token was spent; an identity token is made anew by whoever makes it.
            let again = if matches!(self.proof, Proof::IdentityToken { .. }) { &self.proof } else { &Proof::Nothing };
            let dir = self.file.parent().unwrap_or(Path::new("")).to_owned();
            let enrolled = obtain(&self.issuer, again).await?.ok_or(NoIdentity::Nothing(dir))?;
            return self.take(&enrolled.key, &enrolled.chain_pem);
        }
        let key = RuntimeKey::generate()?;
        let request = RenewCertificateRequest { csr: key.request()? };
        let mut service = AgentCredentialServiceClient::new(client.clone());
        let answer = service.renew_certificate(request).await.map_err(ClientError::from)?.into_inner();
        self.take(&key, &chain_pem(&answer.certificate_chain))
    }

    fn take(&mut self, key: &RuntimeKey, chain: &str) -> Result<(), NoIdentity> {
        self.identity.replace_pem(chain, &key.to_pem())?;
        self.signer = signer_of(chain);
        // Where the disk does not take it we go on by what is in memory; a restart finds the one before.
        if let Err(error) = keep(&self.file, key, chain) {
            tracing::error!(%error, "the node's new certificate cannot be kept on disk");
        }
        Ok(())
    }
}

async fn obtain(issuer: &Remote, proof: &Proof) -> Result<Option<Enrolled>, NoIdentity> {
    Ok(match proof {
        Proof::Token(token) => Some(enrol(issuer, token).await?),
        Proof::IdentityToken { namespace, file } => {
            let read = std::fs::read_to_string(file).map_err(|e| NoIdentity::File(file.clone(), e))?;
            let token = Zeroizing::new(read);
            Some(enrol_with_identity_token(issuer, namespace, token.trim()).await?)
        }
        Proof::Nothing => None,
    })
}

/// Who signed the first certificate of a text.
fn signer_of(pem: &str) -> Option<Signer> {
    pki::certificates(pem).ok()?.first().and_then(|leaf| Signer::of_leaf(leaf))
}

fn keep(file: &Path, key: &RuntimeKey, chain: &str) -> Result<(), TlsError> {
    let key = key.to_pem();
    let mut both = Zeroizing::new(String::with_capacity(key.len() + chain.len()));
    both.push_str(&key);
    both.push_str(chain);
    pki::write_private(file, &both)
}
