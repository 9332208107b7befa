//! Certificates for every kind of caller, and a service that does what its calls ask.

use std::future::pending;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use legate_clock::{Clock, SystemClock};
use legate_ids::{AgentId, Name, SpiffeId, TrustDomain};
use legate_mtls::pki::{Ca, Issued, Leaf};
use legate_mtls::{Expect, Identity, Listener, Peer, Trust};
use legate_rpc::{
    Caller, Client, Code, Dial, Fault, Limits, Metrics, Permit, Reason, Refusals, Rule, Service, Serving, Standing,
    Told, dial, serve,
};
use legate_wire::audit::ingest_service_client::IngestServiceClient;
use legate_wire::audit::ingest_service_server::{IngestService, IngestServiceServer};
use legate_wire::audit::{AppendEventsRequest, AppendEventsResponse, GetReceiptsRequest, GetReceiptsResponse};
use legate_wire::registry::feed_service_server::{FeedService, FeedServiceServer};
use legate_wire::registry::{WatchRequest, WatchResponse};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

const HOUR: Duration = Duration::from_secs(3_600);
/// Nothing on one machine takes longer; a test that waits for so long has failed.
pub(crate) const LONG: Duration = Duration::from_secs(20);
pub(crate) const APPEND: &str = "/legate.audit.v1.IngestService/AppendEvents";

static BUSY: Reason = Reason { name: "BUSY", code: Code::Unavailable, meaning: "m", cure: "c" };
static SUSPENDED: Reason = Reason { name: "SUSPENDED", code: Code::PermissionDenied, meaning: "m", cure: "c" };

/// Agents and one service may append. Nobody may watch, though the service would know how: it has no row.
static ACCESS: [Rule; 1] = [Rule { method: APPEND, callers: &[Caller::Agent, Caller::Service("registry")] }];

/// What the service saw of one call.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) peer: String,
    pub(crate) method: &'static str,
    pub(crate) left: Duration,
    pub(crate) trace_id: String,
}

/// A service that does what `epoch` says.
#[derive(Clone, Debug)]
pub(crate) struct Played {
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    /// Calls that were begun, and those whose handler is gone again.
    pub(crate) begun: watch::Sender<usize>,
    pub(crate) gone: watch::Sender<usize>,
    /// Lets calls that wait answer.
    pub(crate) gate: Arc<Semaphore>,
    /// How many calls are still to be told that it is busy.
    pub(crate) busy: Arc<AtomicUsize>,
}

struct Gone(watch::Sender<usize>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n += 1);
    }
}

#[tonic::async_trait]
impl IngestService for Played {
    async fn append_events(
        &self,
        request: Request<AppendEventsRequest>,
    ) -> Result<Response<AppendEventsResponse>, Status> {
        let _gone = Gone(self.gone.clone());
        let permit = Permit::of(&request)?;
        self.seen.lock().push(Seen {
            peer: permit.peer().id_text().to_owned(),
            method: permit.method(),
            left: permit.deadline().saturating_duration_since(tokio::time::Instant::now()),
            trace_id: permit.trace().trace_id.clone(),
        });
        self.begun.send_modify(|n| *n += 1);
        match request.get_ref().epoch.as_str() {
            "hang" => pending::<()>().await,
            "wait" => self.gate.acquire().await.unwrap().forget(),
            "busy" => {
                let left = self.busy.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
                if left.is_ok() {
                    return Err(Fault::unavailable(&BUSY, "as played", Duration::from_millis(1)).into());
                }
            }
            "broken" => return Err(Fault::broken("password=canary").into()),
            _ => {}
        }
        let acked_seq = request.get_ref().first_seq;
        Ok(Response::new(AppendEventsResponse { acked_seq, ..AppendEventsResponse::default() }))
    }

    async fn get_receipts(&self, _: Request<GetReceiptsRequest>) -> Result<Response<GetReceiptsResponse>, Status> {
        Err(Status::unimplemented("receipts are not played"))
    }
}

#[tonic::async_trait]
impl FeedService for Played {
    type WatchStream = Pin<Box<dyn futures_util::Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(&self, _: Request<Streaming<WatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        self.begun.send_modify(|n| *n += 1);
        Ok(Response::new(Box::pin(futures_util::stream::pending())))
    }
}

/// Peers whose standing was taken back.
#[derive(Debug, Default)]
pub(crate) struct Taken(pub(crate) Mutex<Vec<SpiffeId>>);

#[tonic::async_trait]
impl Standing for Taken {
    async fn check(&self, peer: &Peer) -> Result<(), Fault> {
        match peer.spiffe_id.as_ref().is_some_and(|id| self.0.lock().contains(id)) {
            true => Err(Fault::refused(&SUSPENDED, "as played")),
            false => Ok(()),
        }
    }
}

pub(crate) struct House {
    pub(crate) played: Played,
    pub(crate) taken: Arc<Taken>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) refusals: Arc<Refusals>,
    domain: TrustDomain,
    services: Ca,
    workloads: Ca,
    clock: Arc<dyn Clock>,
    addr: SocketAddr,
}

impl House {
    pub(crate) async fn raise() -> (Self, Serving) {
        Self::raise_with(Limits::default()).await
    }

    pub(crate) async fn raise_with(limits: Limits) -> (Self, Serving) {
        let clock = SystemClock::shared();
        let played = Played {
            seen: Arc::default(),
            begun: watch::Sender::new(0),
            gone: watch::Sender::new(0),
            gate: Arc::new(Semaphore::new(0)),
            busy: Arc::default(),
        };
        let mut house = Self {
            played,
            taken: Arc::default(),
            metrics: Arc::default(),
            refusals: Arc::default(),
            domain: TrustDomain::parse("example.org").unwrap(),
            services: Ca::generate("services", clock.now(), HOUR * 24).unwrap(),
            workloads: Ca::generate("workloads", clock.now(), HOUR * 24).unwrap(),
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            clock,
        };
        let me = house.service("audit-collector");
        let (clock, doors) = (house.clock.clone(), legate_mtls::Limits::default());
        let listener = Listener::bind(house.addr, me, house.trust(), clock, doors).await.unwrap();
        let service = Service {
            name: "audit-collector",
            access: &ACCESS,
            routes: Routes::new(IngestServiceServer::new(house.played.clone()))
                .add_service(FeedServiceServer::new(house.played.clone())),
            standing: house.taken.clone(),
            clock: house.clock.clone(),
            limits,
            metrics: house.metrics.clone(),
            refusals: house.refusals.clone(),
            descriptors: None,
        };
        let serving = serve(service, listener).await.unwrap();
        house.addr = serving.addr();
        (house, serving)
    }

    fn trust(&self) -> Trust {
        Trust::from_pem(self.domain.clone(), self.services.cert_pem(), Some(self.workloads.cert_pem())).unwrap()
    }

    fn identity(&self, ca: &Ca, id: &SpiffeId) -> Identity {
        let leaf = Leaf { spiffe_id: id, dns: &[], ips: &[], ttl: HOUR };
        let Issued { cert_pem, key_pem } = ca.issue(&leaf, self.clock.now()).unwrap();
        Identity::from_pem(&cert_pem, &key_pem).unwrap()
    }

    pub(crate) fn service(&self, name: &str) -> Identity {
        self.identity(&self.services, &SpiffeId::service(&self.domain, &Name::parse(name).unwrap()))
    }

    pub(crate) fn operator(&self) -> Identity {
        self.identity(&self.services, &SpiffeId::operator(&self.domain, &Name::parse("alice").unwrap()))
    }

    pub(crate) fn agent_id(&self) -> SpiffeId {
        SpiffeId::agent(&self.domain, &Name::parse("payments").unwrap(), &AgentId::from_parts(1, [7; 10]))
    }

    pub(crate) fn agent(&self) -> Identity {
        self.identity(&self.workloads, &self.agent_id())
    }

    pub(crate) fn enforcer(&self) -> Identity {
        let id = SpiffeId::parse("spiffe://example.org/ns/payments/enforcer/gateway").unwrap();
        self.identity(&self.workloads, &id)
    }

    /// Every kind of caller, by a name for messages.
    pub(crate) fn everybody(&self) -> Vec<(&'static str, Identity)> {
        vec![
            ("nobody", Identity::anonymous()),
            ("an agent", self.agent()),
            ("an enforcement point", self.enforcer()),
            ("an operator", self.operator()),
            ("the registry", self.service("registry")),
            ("policy-decision", self.service("policy-decision")),
        ]
    }

    pub(crate) fn dial(&self, identity: Identity) -> Client {
        self.dial_as(identity, Expect::Service("audit-collector"))
    }

    pub(crate) fn dial_as(&self, identity: Identity, expect: Expect) -> Client {
        dial(Dial {
            endpoint: format!("https://{}", self.addr),
            identity,
            trust: self.trust(),
            expect,
            timeout: Duration::from_secs(15),
            clock: self.clock.clone(),
        })
        .unwrap()
    }

    /// A channel that adds nothing to a call.
    pub(crate) fn bare(&self, identity: Identity) -> tonic::transport::Channel {
        let expect = Expect::Service("audit-collector");
        let connector = legate_mtls::connector(identity, self.trust(), expect, self.clock.clone()).unwrap();
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", self.addr)).unwrap();
        endpoint.connect_with_connector_lazy(connector)
    }

    pub(crate) fn ingest(&self, identity: Identity) -> IngestServiceClient<Client> {
        IngestServiceClient::new(self.dial(identity)).max_encoding_message_size(64 << 20)
    }

    pub(crate) fn last_seen(&self) -> Seen {
        self.played.seen.lock().last().unwrap().clone()
    }

    pub(crate) fn calls(&self) -> usize {
        *self.played.begun.borrow()
    }
}

pub(crate) fn ask(what: &str) -> Request<AppendEventsRequest> {
    Request::new(AppendEventsRequest { epoch: what.into(), first_seq: 7, events: Vec::new(), ..Default::default() })
}

/// The code and the stable reason of a refusal.
pub(crate) fn told<T: std::fmt::Debug>(end: Result<T, Status>) -> (Code, String) {
    let told = Told::from_status(&end.unwrap_err());
    (told.code, told.reason)
}

/// Waits for a count, and fails when it takes too long.
pub(crate) async fn reaches(count: &watch::Sender<usize>, least: usize) {
    tokio::time::timeout(LONG, count.subscribe().wait_for(|n| *n >= least)).await.expect("in time").unwrap();
}
