//! What a source holds: who we are, and whom workloads believe; replaced together, let go of together.

use std::sync::OnceLock;

use legate_ids::SpiffeId;
use legate_mtls::{Identity, Trust};
use tokio::sync::watch;

use crate::ClientError;

/// How many SVIDs came, and whether the last of them is in force.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Came {
    pub(super) times: u64,
    pub(super) is_held: bool,
}

/// The place that a source and its task share.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) identity: Identity,
    /// Of the trust domain of the first SVID, which stays.
    trust: OnceLock<Trust>,
    came: watch::Sender<Came>,
}

impl Slot {
    pub(super) fn new(identity: Identity) -> Self {
        Self { identity, trust: OnceLock::new(), came: watch::Sender::new(Came::default()) }
    }

    pub(super) fn watched(&self) -> watch::Receiver<Came> {
        self.came.subscribe()
    }

    /// Whom workloads believe, once anything came.
    pub(super) fn trust(&self) -> Option<&Trust> {
        self.trust.get()
    }

    /// Believes the CA certificates, in DER one after the other, for the trust domain of `id`.
    ///
    /// # Errors
    /// When they are none, or the trust domain is another than before.
    pub(super) fn believe(&self, id: &SpiffeId, authorities: &[u8]) -> Result<(), ClientError> {
        let domain = legate_ids::TrustDomain::parse(id.trust_domain()).map_err(|e| ClientError::Svid(e.to_string()))?;
        let trust = self.trust.get_or_init(|| Trust::among_workloads(domain));
        if trust.domain().as_str() != id.trust_domain() {
            let why = format!("{id} is of another trust domain than the SVIDs before it ({})", trust.domain());
            return Err(ClientError::Svid(why));
        }
        if trust.replace_workloads(authorities)? {
            tracing::info!(trust_domain = %trust.domain(), "other CA certificates verify workloads from now on");
        }
        Ok(())
    }

    /// Another SVID is in force.
    pub(super) fn held(&self) {
        self.came.send_modify(|came| *came = Came { times: came.times + 1, is_held: true });
    }

    /// We are nobody from now on.
    pub(super) fn forget(&self) {
        self.identity.forget();
        self.came.send_if_modified(|came| std::mem::take(&mut came.is_held));
    }
}

/// The SPIFFE ID of what is about to be held.
pub(super) fn named(identity: &Identity) -> Result<SpiffeId, ClientError> {
    identity.spiffe_id().ok_or_else(|| ClientError::Svid("its certificate carries no SPIFFE ID".into()))
}
