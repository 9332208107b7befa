//! Who this process is, kept fresh, and what it speaks TLS with: from the SPIFFE Workload API, from credential-issuer, or from files.

mod files;
mod issuer;
mod slot;
mod socket;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use legate_clock::{Clock, SystemClock};
use legate_ids::SpiffeId;
use legate_mtls::{Allow, ClientConfig, Connector, Identity, Limits, Listener, ServerConfig, Trust};
use tokio::sync::watch;
use tonic::Status;
use zeroize::Zeroizing;

use crate::{ClientError, Enrolled, Remote, Runtime, TokenSource};
use slot::{Came, Slot};

/// Where libraries find the socket.
const VARIABLE: &str = "SPIFFE_ENDPOINT_SOCKET";

/// Who this process is, replaced in place for as long as this or a clone of it lives.
///
/// | made by | its certificate is renewed by | JWT-SVIDs |
/// |---|---|---|
/// | [`from_env`](Self::from_env), [`at`](Self::at) | the node, over the socket of the SPIFFE Workload API | yes |
/// | [`enrolled`](Self::enrolled) | this, at credential-issuer, at half of its life | no |
/// | [`from_files`](Self::from_files) | whoever writes the files, which are looked at every 2 s | no |
///
/// ```no_run
/// # use std::time::Duration;
/// # use legate_client::{Allow, ClientError, IdentitySource};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let source = IdentitySource::from_env(Duration::from_secs(30)).await?;
/// // A client: the server has to be this enforcement point, by its certificate and not by its name in the DNS.
/// let server = Allow::ids(["spiffe://example.org/ns/fleet/enforcer/tools"])?;
/// let stream = source.connector(server, &[b"http/1.1"])?.connect("tools.internal:8443").await?;
/// // A server: every agent of the namespace gets in, and nobody else.
/// let agents = Allow::nobody().agents_of("fleet".parse()?);
/// let listener = source.listen(([0, 0, 0, 0], 8443).into(), agents, Default::default()).await?;
/// # drop((stream, listener));
/// # Ok(())
/// # }
/// ```
///
/// **It fails closed.** When the process may have no identity any more (its agent was suspended, its instance revoked, its policy taken
/// back), the identity is let go of at once: a client speaks to nobody, a server answers no handshake, and there are no tokens. A node or an issuer that is
/// not there takes nothing away: what is held is good until it ends.
#[derive(Clone, Debug)]
pub struct IdentitySource {
    shared: Arc<Shared>,
    came: watch::Receiver<Came>,
}

#[derive(Debug)]
struct Shared {
    slot: Arc<Slot>,
    trust: Trust,
    clock: Arc<dyn Clock>,
    origin: Origin,
    _task: Task,
}

/// What keeps it fresh; it ends with this.
#[derive(Debug)]
struct Task(tokio::task::AbortHandle);

/// Where it comes from.
#[derive(Debug)]
enum Origin {
    Socket(socket::Api),
    Issuer(Runtime),
    Files,
}

impl Task {
    fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work).abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl IdentitySource {
    /// Asks on the socket that `SPIFFE_ENDPOINT_SOCKET` names, for `patience` at most. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the variable names no unix socket, or there was no SVID until then: the last refusal.
    pub async fn from_env(patience: Duration) -> Result<Self, ClientError> {
        let endpoint =
            std::env::var(VARIABLE).map_err(|_| ClientError::Setting("SPIFFE_ENDPOINT_SOCKET is not set"))?;
        Self::at(&endpoint, patience).await
    }

    /// The same on the socket `unix:///PATH`.
    ///
    /// # Errors
    /// As [`IdentitySource::from_env`].
    pub async fn at(endpoint: &str, patience: Duration) -> Result<Self, ClientError> {
        Self::at_with(endpoint, patience, SystemClock::shared()).await
    }

    /// The same by a given clock, which TLS and tokens go by.
    ///
    /// # Errors
    /// As [`IdentitySource::from_env`].
    pub async fn at_with(endpoint: &str, patience: Duration, clock: Arc<dyn Clock>) -> Result<Self, ClientError> {
        let api = socket::api(endpoint)?;
        let slot = Arc::new(Slot::new(Identity::anonymous()));
        let (failed, mut failure) = watch::channel(None);
        let following = Task::spawn(socket::follow(api.clone(), Arc::clone(&slot), failed));
        let mut came = slot.watched();
        let is_held =
            tokio::time::timeout(patience, came.wait_for(|came| came.is_held)).await.is_ok_and(|held| held.is_ok());
        match slot.trust().filter(|_| is_held).cloned() {
            Some(trust) => Ok(Self::new(slot, trust, clock, Origin::Socket(api), following)),
            None => {
                let last: Option<Status> = failure.borrow_and_update().clone();
                Err(last.map_or(ClientError::Setting("there was no SVID in time"), ClientError::from))
            }
        }
    }

    /// What [`enrol`](crate::enrol) or [`enrol_with_identity_token`](crate::enrol_with_identity_token) gave, renewed at credential-issuer at half of
    /// its life, with a new key each time. It is in memory alone: a process that starts again enrols again. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the issuer's address is none, or what it gave is not what it should be.
    pub fn enrolled(issuer: &Remote, enrolled: &Enrolled) -> Result<Self, ClientError> {
        Self::enrolled_with(issuer, enrolled, SystemClock::shared())
    }

    /// The same by a given clock.
    ///
    /// # Errors
    /// As [`IdentitySource::enrolled`].
    pub fn enrolled_with(issuer: &Remote, enrolled: &Enrolled, clock: Arc<dyn Clock>) -> Result<Self, ClientError> {
        let identity = enrolled.identity()?;
        let roots: Vec<u8> =
            legate_mtls::pki::certificates(&enrolled.workload_roots_pem)?.iter().flat_map(|der| der.to_vec()).collect();
        let slot = Arc::new(Slot::new(identity.clone()));
        slot.believe(&slot::named(&identity)?, &roots)?;
        slot.held();
        let runtime = Runtime::new_with(issuer, identity, Arc::clone(&clock))?;
        let following = Task::spawn(issuer::follow(runtime.clone(), Arc::clone(&slot), Arc::clone(&clock)));
        Self::of(slot, clock, Origin::Issuer(runtime), following)
    }

    /// A certificate chain and its key (mode 0600) and the CA certificates of workloads, in PEM files. They are looked at every 2 s. Needs a
    /// tokio runtime.
    ///
    /// # Errors
    /// When a file is missing or broken, or the certificate is no SVID.
    pub fn from_files(chain: &Path, key: &Path, workloads_ca: &Path) -> Result<Self, ClientError> {
        let slot = Arc::new(Slot::new(Identity::from_files(chain, key)?));
        files::believe(workloads_ca, &slot)?;
        slot.held();
        let following = Task::spawn(files::follow(workloads_ca.to_owned(), Arc::clone(&slot)));
        Self::of(slot, SystemClock::shared(), Origin::Files, following)
    }

    fn of(slot: Arc<Slot>, clock: Arc<dyn Clock>, origin: Origin, task: Task) -> Result<Self, ClientError> {
        let trust = slot.trust().cloned().ok_or_else(|| ClientError::Svid("nothing verifies workloads".into()))?;
        Ok(Self::new(slot, trust, clock, origin, task))
    }

    fn new(slot: Arc<Slot>, trust: Trust, clock: Arc<dyn Clock>, origin: Origin, task: Task) -> Self {
        let mut came = slot.watched();
        came.mark_unchanged();
        Self { shared: Arc::new(Shared { slot, trust, clock, origin, _task: task }), came }
    }

    /// The identity, which is replaced in place: for [`Remote::dial`], [`Runtime::new`] and listeners. Clones share it.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.shared.slot.identity
    }

    /// Who we are now; `None`: nobody any more.
    #[must_use]
    pub fn spiffe_id(&self) -> Option<SpiffeId> {
        self.identity().spiffe_id()
    }

    /// Whom workloads of our trust domain believe among one another. It follows the bundle.
    #[must_use]
    pub fn trust(&self) -> &Trust {
        &self.shared.trust
    }

    /// Returns when another SVID is in force, or none: which [`IdentitySource::spiffe_id`] says.
    pub async fn changed(&mut self) {
        if self.came.changed().await.is_err() {
            // The one who tells lives as long as we do.
            std::future::pending::<()>().await;
        }
    }

    /// A client's configuration for any library on rustls: it shows our certificate as it is at each handshake, and speaks to a server on
    /// the list alone. [`legate_mtls::client_config`] says the rest.
    ///
    /// # Errors
    /// When the provider lacks TLS 1.3 (it does not).
    pub fn client(&self, allow: Allow) -> Result<ClientConfig, ClientError> {
        let (identity, trust) = (self.identity().clone(), self.trust().clone());
        Ok(legate_mtls::client_config(identity, trust, allow, Arc::clone(&self.shared.clock))?)
    }

    /// A server's: it shows our certificate as it is at each handshake, and lets in who is on the list.
    /// [`legate_mtls::server_config`] says the rest.
    ///
    /// # Errors
    /// When the provider lacks TLS 1.3 (it does not).
    pub fn server(&self, allow: Allow) -> Result<ServerConfig, ClientError> {
        let (identity, trust) = (self.identity().clone(), self.trust().clone());
        Ok(legate_mtls::server_config(identity, trust, allow, Arc::clone(&self.shared.clock))?)
    }

    /// Dials with [`IdentitySource::client`] and these protocols (ALPN, RFC 7301): by hand, or as tonic's connector
    /// (`Endpoint::connect_with_connector_lazy`, with `h2`).
    ///
    /// # Errors
    /// As [`IdentitySource::client`].
    pub fn connector(&self, allow: Allow, alpn: &[&[u8]]) -> Result<Connector, ClientError> {
        let mut config = self.client(allow)?;
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config.into())
    }

    /// Listens as we are. Unlike a server that is made of [`IdentitySource::server`], it bounds handshakes and connections, and ends a connection
    /// when its certificate does, or when its CA is believed no more.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn listen(&self, addr: SocketAddr, allow: Allow, limits: Limits) -> std::io::Result<Listener> {
        let (identity, trust) = (self.identity().clone(), self.trust().clone());
        Listener::bind_among(addr, identity, trust, allow, Arc::clone(&self.shared.clock), limits).await
    }

    /// A JWT-SVID of this process for one audience, from the node, which keeps it until half of its life.
    ///
    /// # Errors
    /// When the node refuses, or is not there, or this comes from no Workload API.
    pub async fn jwt(&self, audience: &str) -> Result<Zeroizing<String>, ClientError> {
        match &self.shared.origin {
            Origin::Socket(api) => socket::jwt(api, audience).await,
            Origin::Issuer(_) | Origin::Files => {
                Err(ClientError::Setting("JWT-SVIDs come from the Workload API alone (IdentitySource::from_env)"))
            }
        }
    }

    /// JWT-SVIDs, one for each audience, each used until half of its life and until the identity is let go of.
    #[must_use]
    pub fn jwt_svids(&self) -> TokenSource {
        TokenSource::of_jwt_svids(self.clone(), Arc::clone(&self.shared.clock))
    }

    /// Access tokens of credential-issuer, bound to our certificate, one for each audience.
    ///
    /// # Errors
    /// When the issuer's address is none.
    pub fn access_tokens(&self, issuer: &Remote) -> Result<TokenSource, ClientError> {
        let clock = Arc::clone(&self.shared.clock);
        let runtime = match &self.shared.origin {
            Origin::Issuer(runtime) => runtime.clone(),
            Origin::Socket(_) | Origin::Files => {
                Runtime::new_with(issuer, self.identity().clone(), Arc::clone(&clock))?
            }
        };
        Ok(TokenSource::new(runtime, clock).keeping(self.clone()))
    }
}
