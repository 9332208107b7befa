//! Standing that is taken back, on real connections over mutual TLS: streams are cut, calls refused, others go on.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use legate_clock::{Clock, TestClock, Timestamp};
use legate_ids::{AgentId, Name, SpiffeId, TrustDomain};
use legate_mtls::pki::{Ca, Issued, Leaf};
use legate_mtls::{Expect, Identity, Listener, Trust};
use legate_rpc::{Client, Dial, Limits, Metrics, Refusals, Service, Serving, Told, dial, serve};
use legate_view::{Feed, News, OnStale, Options, View, ViewHandle, ViewStanding};
use legate_wire::registry as wire;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::watch_request::Ask;
use legate_wire::registry::watch_response::News as ToldNews;
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::service::Routes;
use tonic::{Code, Status, Streaming};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

const HOUR: Duration = Duration::from_secs(3_600);
const PATIENCE: Duration = Duration::from_secs(20);

type Outgoing = mpsc::UnboundedSender<Result<wire::WatchResponse, Status>>;

/// A registry that answers pings, and tells what the test puts into `news`.
#[derive(Debug)]
struct Played {
    news: Outgoing,
    told: Mutex<Option<mpsc::UnboundedReceiver<Result<wire::WatchResponse, Status>>>>,
    revision: Arc<AtomicU64>,
}

#[async_trait::async_trait]
impl Feed for Played {
    async fn watch(&self, mut asks: mpsc::Receiver<wire::WatchRequest>) -> Result<News, Status> {
        let told = self.told.lock().await.take().ok_or_else(|| Status::unavailable("one stream is enough"))?;
        let (news, revision) = (self.news.clone(), Arc::clone(&self.revision));
        tokio::spawn(async move {
            while let Some(asked) = asks.recv().await {
                let revision = revision.load(Ordering::SeqCst);
                // A registry that has told nothing yet proves nothing.
                if let Some(Ask::Ping(ping)) = asked.ask
                    && revision > 0
                {
                    let pong = wire::WatchPong { nonce: ping.nonce, revision };
                    let _ = news.send(Ok(wire::WatchResponse { news: Some(ToldNews::Pong(pong)) }));
                }
            }
        });
        Ok(Box::pin(UnboundedReceiverStream::new(told)))
    }
}

struct House {
    domain: TrustDomain,
    services: Ca,
    workloads: Ca,
    clock: Arc<TestClock>,
    view: ViewHandle,
    news: Outgoing,
    revision: Arc<AtomicU64>,
    addr: SocketAddr,
}

fn id(n: u8) -> AgentId {
    AgentId::from_parts(1, [n; 10])
}

fn agent(n: u8, state: wire::AgentState) -> Object {
    Object::Agent(wire::Agent {
        metadata: Some(wire::Metadata {
            name: format!("bot-{n}"),
            namespace: "pay".into(),
            id: id(n).as_str().into(),
            version: 1,
            ..wire::Metadata::default()
        }),
        spec: Some(wire::AgentSpec { agent_class: "bots".into(), ..wire::AgentSpec::default() }),
        status: Some(wire::AgentStatus { state: state.into(), lifecycle_version: 1, ..wire::AgentStatus::default() }),
    })
}

impl House {
    async fn raise() -> (Self, Serving) {
        let clock = TestClock::at(Timestamp::from_secs(1_800_000_000));
        let now = clock.now();
        let (news, told) = mpsc::unbounded_channel();
        let revision = Arc::new(AtomicU64::new(0));
        let feed = Played { news: news.clone(), told: Mutex::new(Some(told)), revision: Arc::clone(&revision) };
        let mut options = Options::new(clock.clone());
        options.ping_every = Duration::from_millis(5);
        let mut house = Self {
            domain: TrustDomain::parse("example.org").unwrap(),
            services: Ca::generate("services", now, HOUR * 24).unwrap(),
            workloads: Ca::generate("workloads", now, HOUR * 24).unwrap(),
            clock,
            view: View::follow(feed, options),
            news,
            revision,
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        let me = house
            .identity(&house.services, &SpiffeId::service(&house.domain, &Name::parse("policy-decision").unwrap()));
        let clock: Arc<dyn Clock> = house.clock.clone();
        let limits = legate_mtls::Limits::default();
        let listener = Listener::bind(house.addr, me, house.trust(), Arc::clone(&clock), limits).await.unwrap();
        let standing = ViewStanding::new(house.view.clone(), OnStale::Refuse);
        let service = Service {
            name: "policy-decision",
            access: &[],
            routes: Routes::default(),
            standing: Arc::new(standing.clone()),
            clock,
            limits: Limits::default(),
            metrics: Arc::new(Metrics::new()),
            refusals: Arc::new(Refusals::default()),
            descriptors: None,
        };
        let serving = serve(service, listener).await.unwrap();
        drop(tokio::spawn(standing.cut_connections(serving.connections())));
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

    fn health(&self, identity: Identity) -> HealthClient<Client> {
        HealthClient::new(
            dial(Dial {
                endpoint: format!("https://{}", self.addr),
                identity,
                trust: self.trust(),
                expect: Expect::Service("policy-decision"),
                timeout: Duration::from_secs(15),
                clock: self.clock.clone(),
            })
            .unwrap(),
        )
    }

    fn bot(&self, n: u8) -> HealthClient<Client> {
        let id = SpiffeId::agent(&self.domain, &Name::parse("pay").unwrap(), &id(n));
        self.health(self.identity(&self.workloads, &id))
    }

    /// Tells the view of a change, and waits until it holds it.
    async fn change(&self, revision: u64, object: Object) {
        let change = wire::Change { object: Some(wire::Declaration { object: Some(object) }), revoked: false };
        self.tell(
            revision,
            ToldNews::Changes(wire::RevisionChanges { revision, changes: vec![change], ..Default::default() }),
        )
        .await;
    }

    async fn tell(&self, revision: u64, news: ToldNews) {
        self.news.send(Ok(wire::WatchResponse { news: Some(news) })).unwrap();
        // Pongs name the revision only after it was sent.
        self.revision.store(revision, Ordering::SeqCst);
        self.view.wait_for(revision, PATIENCE).await.unwrap();
    }
}

async fn watch(client: &mut HealthClient<Client>) -> Streaming<HealthCheckResponse> {
    let mut news = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    tokio::time::timeout(PATIENCE, news.message()).await.unwrap().unwrap().unwrap();
    news
}

fn word(end: Result<impl std::fmt::Debug, Status>) -> (Code, String) {
    let told = Told::from_status(&end.unwrap_err());
    (told.code, told.reason)
}

#[tokio::test]
async fn a_stream_is_cut_with_its_agents_standing_and_the_others_go_on() {
    let (house, serving) = House::raise().await;
    let ask = || HealthCheckRequest::default();
    // Before the registry was heard, nobody can be judged; operators are no objects of it.
    assert_eq!(word(house.bot(1).check(ask()).await), (Code::Unavailable, "CALLER_STANDING_UNKNOWN".into()));
    let operator = SpiffeId::operator(&house.domain, &Name::parse("alice").unwrap());
    let mut operator = house.health(house.identity(&house.services, &operator));
    let mut watching = watch(&mut operator).await;

    let objects = [1, 2].map(|n| wire::Declaration { object: Some(agent(n, wire::AgentState::Active)) });
    let part = wire::SnapshotPart { revision: 1, first: true, last: true, ..wire::SnapshotPart::default() };
    house.tell(1, ToldNews::Snapshot(part.with_objects(&objects))).await;
    let fresh = async {
        while house.view.age().is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, fresh).await.expect("a ping is answered");

    let (mut one, mut two) = (house.bot(1), house.bot(2));
    let (mut first, mut second) = (watch(&mut one).await, watch(&mut two).await);
    assert_eq!(word(house.bot(3).check(ask()).await), (Code::PermissionDenied, "CALLER_UNKNOWN".into()));

    house.change(2, agent(1, wire::AgentState::Suspended)).await;
    let ended = tokio::time::timeout(PATIENCE, first.message()).await.expect("the stream is cut");
    assert!(!matches!(ended, Ok(Some(_))), "{ended:?}");
    // It may connect again, and is told why it may not call.
    assert_eq!(word(one.check(ask()).await), (Code::PermissionDenied, "CALLER_NOT_ACTIVE".into()));

    // The others were not touched: what is told next, they hear on the same streams.
    serving.health().set_serving("", false).await;
    for news in [&mut second, &mut watching] {
        tokio::time::timeout(PATIENCE, news.message()).await.unwrap().unwrap().unwrap();
    }
    two.check(ask()).await.unwrap();

    // A resumed agent may call again; its certificate is of the same life here, as no cutoff was set.
    house.change(3, agent(1, wire::AgentState::Active)).await;
    one.check(ask()).await.unwrap();
    serving.shutdown(Duration::from_millis(100)).await;
}
