//! Raises the socket and lowers it again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use legate_clock::Clock;
use legate_ids::TrustDomain;
use legate_mtls::Identity;
use legate_rpc::Metrics;
use legate_wire::sds::secret_discovery_service_server::SecretDiscoveryServiceServer;
use legate_wire::spiffe::spiffe_workload_api_server::SpiffeWorkloadApiServer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::attest::Looks;
use crate::broker::Broker;
use crate::follow::{Ear, Follower, News};
use crate::issuer::Issuer;
use crate::keeper::{Keeper, Parts};
use crate::sds::Sds;
use crate::socket::{Bound, Pulse, accept};
use crate::{Meter, Node, SocketRefused, TokenSource};

/// Bounds of the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections at most.
    pub connections: usize,
    /// Of these, connections of one user.
    pub connections_of_one_user: usize,
    /// Streams open on one connection.
    pub streams: u32,
    /// Processes that have SVIDs at one time.
    pub processes: usize,
    /// Of these, processes of one user.
    pub processes_of_one_user: usize,
    /// A connection over which nothing was given for so long is closed.
    pub trial: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8_192,
            connections_of_one_user: 2_048,
            streams: 32,
            processes: 8_192,
            processes_of_one_user: 4_096,
            trial: Duration::from_secs(60),
        }
    }
}

/// Files that are kept for the rest of the process.
const OTHER_FILES: u64 = 256;

impl Limits {
    /// The same, where the process may open so many files: a connection takes two (itself and a pidfd), a process that has an SVID one. All are cut
    /// alike, so that no user has all of what is left.
    #[must_use]
    pub fn within(self, files: u64) -> Self {
        let left = u128::from(files.saturating_sub(OTHER_FILES));
        let wanted = 2 * self.connections as u128 + self.processes as u128;
        if wanted <= left {
            return self;
        }
        let cut = |bound: usize| usize::try_from(bound as u128 * left / wanted).unwrap_or(bound).max(1);
        Self {
            connections: cut(self.connections),
            connections_of_one_user: cut(self.connections_of_one_user),
            processes: cut(self.processes),
            processes_of_one_user: cut(self.processes_of_one_user),
            ..self
        }
    }
}

/// Where the socket is, and its bounds.
#[derive(Debug)]
pub struct Settings {
    /// Its path, absolute.
    pub socket: PathBuf,
    /// Its mode: who may connect. Whoever does is attested.
    pub mode: u32,
    /// Bounds.
    pub limits: Limits,
    /// Where the tokens are that the platform gave processes.
    pub tokens: Vec<TokenSource>,
    /// Where brokers ask for the processes that they start; `None`: nowhere.
    pub broker: Option<BrokerSocket>,
    /// The trust domain of the node.
    pub domain: TrustDomain,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
}

/// A second socket, for brokers: SPIFFE's Broker API as of the draft of commit 06733d88.
#[derive(Clone, Debug)]
pub struct BrokerSocket {
    /// Its path, absolute.
    pub path: PathBuf,
    /// Its mode: who may connect. Whoever does shows an X.509-SVID.
    pub mode: u32,
}

/// The most bytes of one request.
const REQUEST: usize = 64 << 10;
/// The most bytes of its headers.
const HEADERS: u32 = 16 << 10;
/// Resets by the peer that wait to be seen (CVE-2023-44487).
const RESETS: usize = 20;
/// A silent process is pinged after the first, and given up after the second.
const PING: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));
/// Calls under way may take so long to finish when the helper stops.
const GRACE: Duration = Duration::from_secs(1);
/// Nothing was heard for longer than this: what was issued is served, and that is told.
const UNHEARD: Duration = Duration::from_secs(10);
/// A loop that did not go round for so long hangs: it does so every second.
const DEAF: Duration = Duration::from_secs(30);
/// Who connects is answered within this.
const ANSWER: Duration = Duration::from_millis(1_500);
/// How often what is told of the connection to credential-issuer is brought up to date.
const LOOK: Duration = Duration::from_secs(1);

/// A socket that is served.
#[derive(Debug)]
pub struct Serving {
    socket: PathBuf,
    standing: Standing,
    meter: Meter,
    rotations: watch::Sender<u64>,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
    /// They end with us.
    _tasks: JoinSet<()>,
}

/// How the helper stands.
#[derive(Clone, Debug)]
pub struct Standing {
    ear: Ear,
    identity: Identity,
    clock: Arc<dyn Clock>,
    socket: PathBuf,
    pulse: Pulse,
}

/// Serves the Workload API, and Envoy's, as the node. Needs a tokio runtime.
///
/// # Errors
/// [`SocketRefused`] when the socket cannot be put where it should be.
pub fn start(settings: Settings, node: Node, client: legate_rpc::Client) -> Result<Serving, SocketRefused> {
    let Settings { socket, mode, limits, tokens, broker, domain, clock, metrics } = settings;
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let wanted = limits;
    let limits = wanted.within(files);
    if limits != wanted {
        tracing::warn!(files, ?limits, "the process may open few files, so that there are fewer places");
    }
    let (looks, pulse) = (Looks::default(), Pulse::new());
    let meter = Meter::new(&metrics);
    let bound = Bound::bind(&socket, mode)?;
    let broker = broker.map(|at| Bound::bind(&at.path, at.mode)).transpose()?;
    let identity = node.identity().clone();
    let stop = CancellationToken::new();
    let (rotations, turns) = watch::channel(0);
    let mut tasks = JoinSet::new();
    let (follower, ear) = Follower::new(client.clone(), domain.clone(), Arc::clone(&clock), meter.clone());
    let standing = Standing {
        ear: ear.clone(),
        identity: node.identity().clone(),
        clock: Arc::clone(&clock),
        socket: socket.clone(),
        pulse: pulse.clone(),
    };
    tasks.spawn(follower.run());
    tasks.spawn(node.keep_fresh(client.clone(), meter.clone(), ear.clone()));
    let (told, counted) = (ear.clone(), meter.clone());
    tasks.spawn(async move {
        loop {
            counted.unheard(told.unheard());
            tokio::time::sleep(LOOK).await;
        }
    });
    let keeper = Keeper::new(Parts {
        issuer: Issuer::new(client, Arc::clone(&clock), meter.clone()),
        ear,
        clock: Arc::clone(&clock),
        meter: meter.clone(),
        rotations: turns,
        stop: stop.clone(),
        most: limits.processes,
        most_of_one_user: limits.processes_of_one_user,
        tokens,
        looks: looks.clone(),
    });
    if let Some(bound) = broker {
        let broker = Broker {
            keeper: keeper.clone(),
            domain,
            identity,
            limits,
            clock: Arc::clone(&clock),
            meter: meter.clone(),
        };
        tasks.spawn(crate::broker::serve(bound, broker, stop.clone()));
    }
    let api = SpiffeWorkloadApiServer::new(Api::new(keeper.clone(), clock, meter.clone()));
    let sds = SecretDiscoveryServiceServer::new(Sds::new(keeper, meter.clone()));
    let server = tonic::transport::Server::builder()
        .max_concurrent_streams(limits.streams)
        .http2_max_header_list_size(HEADERS)
        .http2_max_pending_accept_reset_streams(Some(RESETS))
        .http2_keepalive_interval(Some(PING.0))
        .http2_keepalive_timeout(Some(PING.1))
        .add_service(api.max_decoding_message_size(REQUEST))
        .add_service(sds.max_decoding_message_size(REQUEST))
        .serve_with_incoming_shutdown(
            accept(bound.into_parts(), limits, looks, pulse, meter.clone()),
            stop.clone().cancelled_owned(),
        );
    let server = tokio::spawn(server);
    Ok(Serving { socket, standing, meter, rotations, stop, server, _tasks: tasks })
}

impl Serving {
    /// Where it is, as libraries for the Workload API take it.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// How the helper stands.
    #[must_use]
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// What it counts.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Replaces every SVID that somebody listens to, now.
    pub fn rotate(&self) {
        self.rotations.send_modify(|turn| *turn += 1);
    }

    /// Takes no more calls and ends those under way. What processes hold is good on.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        if tokio::time::timeout(GRACE, &mut self.server).await.is_err() {
            self.server.abort();
            let _aborted = self.server.await;
        }
    }
}

impl Standing {
    /// Whether the socket is served: it answers who connects, be it only that there is no place for him.
    ///
    /// # Errors
    /// The words for what is wrong.
    pub async fn socket(&self) -> Result<(), String> {
        let path = self.socket.display();
        let asking = async {
            let mut stream = UnixStream::connect(&self.socket).await?;
            // A preface is answered whoever sends it (RFC 9113 section 3.4); or the connection is closed, since there are too many of this user.
            let sent = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
            if sent.is_ok() { stream.read(&mut [0]).await } else { Ok(0) }
        };
        match tokio::time::timeout(ANSWER, asking).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(format!("{path}: {error}")),
            Err(_) => Err(format!("{path}: nobody who connects is answered: every place is taken, or nothing accepts")),
        }
    }

    /// Whether connections are still being accepted: where not, only a restart helps.
    ///
    /// # Errors
    /// The words for what is wrong.
    pub fn accepting(&self) -> Result<(), String> {
        let age = self.pulse.age();
        if age <= DEAF {
            return Ok(());
        }
        Err(format!("nothing was accepted, nor waited for, for {} s", age.as_secs()))
    }

    /// Whether the node's own certificate is good.
    ///
    /// # Errors
    /// The words for what is wrong.
    pub fn identity(&self) -> Result<(), String> {
        match self.identity.not_after() {
            Some(end) if end > self.clock.now() => Ok(()),
            Some(end) => Err(format!("the node's own certificate ended at {end}; it has to be enrolled again")),
            None => Err("the node has no certificate".into()),
        }
    }

    /// Whether credential-issuer serves the node, and was heard a moment ago.
    ///
    /// # Errors
    /// The words for what is wrong.
    pub fn issuer(&self) -> Result<(), String> {
        match (self.ear.news(), self.ear.unheard()) {
            (News::Refused(told), _) => Err(format!("credential-issuer does not serve this node: {}", told.reason)),
            (News::Nothing, _) | (_, None) => Err("nothing was heard yet".into()),
            (News::Known(_), Some(unheard)) if unheard > UNHEARD => {
                let seconds = unheard.as_secs();
                Err(format!(
                    "not heard for {seconds} s; SVIDs that were issued are served until they end, new ones are not"
                ))
            }
            (News::Known(_), Some(_)) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_few_files_may_be_opened_no_user_has_all_of_what_is_left() {
        let usual = Limits::default();
        assert_eq!(usual.within(65_536), usual);
        for files in [256, 257, 512, 1_024, 4_096, 16_384] {
            let cut = usual.within(files);
            let taken = 2 * cut.connections + cut.processes;
            assert!(files <= 512 || taken as u64 + OTHER_FILES <= files, "{files}: {cut:?}");
            assert!(cut.connections >= 1 && cut.processes_of_one_user >= 1, "{files}: {cut:?}");
            assert!(files <= 512 || cut.connections_of_one_user * 4 <= cut.connections, "{files}: {cut:?}");
            assert!(files <= 512 || cut.processes_of_one_user * 2 <= cut.processes, "{files}: {cut:?}");
        }
    }
}
