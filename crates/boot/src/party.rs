//! Who a service is, whom it believes, and how it reaches the services below it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use legate_clock::Clock;
use legate_ids::{Name, SpiffeId, TrustDomain};
use legate_mtls::{Expect, Identity, Limits, Listener, Trust};
use legate_rpc::{Client, Dial};

use crate::config::Tls;
use crate::{Context, StartError};

/// The deadline of a call to another service that sets none.
const PATIENCE: Duration = Duration::from_secs(5);

/// One service with its certificate.
#[derive(Clone, Debug)]
pub struct Party {
    /// Its SPIFFE ID.
    pub id: SpiffeId,
    /// Its trust domain.
    pub domain: TrustDomain,
    /// Its certificate and key, read again whenever the files change.
    pub identity: Identity,
    /// Whom it believes, read again whenever the files change.
    pub trust: Trust,
    clock: Arc<dyn Clock>,
}

impl Party {
    /// Opens the files of the service called `name`, and goes on reading them. Needs a tokio runtime.
    ///
    /// # Errors
    /// When a file is missing or broken, others can read the key, or the certificate names somebody else: the other
    /// services would refuse it.
    pub fn open(tls: &Tls, name: &str, ctx: &Context) -> Result<Self, StartError> {
        let domain = tls.domain()?;
        let (identity, trust) = tls.open()?;
        let name = Name::parse(name).map_err(|e| StartError::new("the service's name", e))?;
        let id = SpiffeId::service(&domain, &name);
        match identity.spiffe_id() {
            Some(found) if found == id => Ok(Self { id, domain, identity, trust, clock: Arc::clone(&ctx.clock) }),
            found => {
                let found = found.map_or_else(|| "nobody".to_owned(), |id| id.to_string());
                Err(StartError::new("tls.cert", format!("the certificate names {found}, and has to name {id}")))
            }
        }
    }

    /// The socket at which it is called over mutual TLS.
    ///
    /// # Errors
    /// When the address is taken, or none of this machine.
    pub async fn listen(&self, addr: SocketAddr) -> Result<Listener, StartError> {
        let (identity, trust) = (self.identity.clone(), self.trust.clone());
        Ok(Listener::bind(addr, identity, trust, Arc::clone(&self.clock), Limits::default()).await?)
    }

    /// A channel to the service called `whom`; it connects at the first call.
    ///
    /// # Errors
    /// When the endpoint is not `https://HOST:PORT`.
    pub fn dial(&self, endpoint: &str, whom: &'static str) -> Result<Client, StartError> {
        Ok(legate_rpc::dial(Dial {
            endpoint: endpoint.to_owned(),
            identity: self.identity.clone(),
            trust: self.trust.clone(),
            expect: Expect::Service(whom),
            timeout: PATIENCE,
            clock: Arc::clone(&self.clock),
        })?)
    }
}
