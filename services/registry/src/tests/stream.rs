//! The stream over real mutual TLS: state, changes in order, pongs behind them; resumed, compared, and cut short.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use legate_boot::config::{Outbox, Telemetry, Tls};
use legate_boot::{Context, Running};
use legate_clock::{Clock, SystemClock};
use legate_db::testing::on_each;
use legate_ids::{Name, SpiffeId, TrustDomain};
use legate_mtls::pki::{Ca, Leaf, write_private, write_public};
use legate_mtls::{Expect, Identity, Trust};
use legate_rpc::{Client, Dial, Told};
use legate_wire::registry as wire;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use wire::agent_service_client::AgentServiceClient;
use wire::declaration_service_client::DeclarationServiceClient;
use wire::feed_service_client::FeedServiceClient;
use wire::watch_request::Ask;
use wire::watch_response::News;
use wire::{WatchPing, WatchRequest, WatchResponse, WatchStart};

use super::scene::{agent, annotated, binding, by_name, namespace, payments, role};
use crate::Config;
use crate::schema::Migrator;

const DAY: Duration = Duration::from_secs(24 * 3_600);
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct House {
    dir: tempfile::TempDir,
    domain: TrustDomain,
    services: Ca,
    clock: Arc<dyn Clock>,
}

impl House {
    pub(super) fn new() -> Self {
        Self::by(SystemClock::shared())
    }

    /// One whose time is that of this clock.
    pub(super) fn by(clock: Arc<dyn Clock>) -> Self {
        let services = Ca::generate("services", clock.now(), DAY).unwrap();
        let domain = TrustDomain::parse("example.org").unwrap();
        Self { dir: tempfile::tempdir().unwrap(), domain, services, clock }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn issue(&self, id: &SpiffeId) -> legate_mtls::pki::Issued {
        let leaf = Leaf { spiffe_id: id, dns: &[], ips: &[], ttl: DAY };
        self.services.issue(&leaf, self.clock.now()).unwrap()
    }

    pub(super) async fn raise(&self, database: &str) -> Running {
        let own = self.issue(&SpiffeId::service(&self.domain, &Name::parse("registry").unwrap()));
        write_public(&self.file("tls.pem"), &own.cert_pem).unwrap();
        write_private(&self.file("tls.key"), &own.key_pem).unwrap();
        write_public(&self.file("ca.pem"), self.services.cert_pem()).unwrap();
        let config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            probes: Some("127.0.0.1:0".parse().unwrap()),
            database: database.to_owned(),
            // Nobody listens there: events wait in the outbox.
            audit_collector: "https://127.0.0.1:1".into(),
            administrators: vec!["ada".into()],
            tls: Tls {
                trust_domain: self.domain.to_string(),
                cert: self.file("tls.pem"),
                key: self.file("tls.key"),
                services_ca: self.file("ca.pem"),
                workloads_ca: None,
                operators_ca: None,
            },
            scim_draft_wzdk_00: None,
            retention: crate::RetentionConfig::default(),
            outbox: Outbox::default(),
            telemetry: Telemetry::default(),
        };
        crate::start(config, Context { clock: Arc::clone(&self.clock), ..Context::new() }).await.unwrap()
    }

    fn dial(&self, running: &Running, id: &SpiffeId) -> Client {
        let issued = self.issue(id);
        legate_rpc::dial(Dial {
            endpoint: format!("https://{}", running.addr()),
            identity: Identity::from_pem(&issued.cert_pem, &issued.key_pem).unwrap(),
            trust: Trust::from_pem(self.domain.clone(), self.services.cert_pem(), None).unwrap(),
            expect: Expect::Service("registry"),
            timeout: PATIENCE,
            clock: Arc::clone(&self.clock),
        })
        .unwrap()
    }

    pub(super) fn follower(&self, running: &Running) -> FeedServiceClient<Client> {
        let id = SpiffeId::service(&self.domain, &Name::parse("policy-decision").unwrap());
        FeedServiceClient::new(self.dial(running, &id)).max_decoding_message_size(64 << 20)
    }

    pub(super) fn operator(&self, running: &Running) -> Client {
        self.operator_named(running, "ada")
    }

    pub(super) fn operator_named(&self, running: &Running, name: &str) -> Client {
        self.dial(running, &SpiffeId::operator(&self.domain, &Name::parse(name).unwrap()))
    }
}

/// What is left to one who lost its line.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    held: BTreeMap<String, Vec<u8>>,
    revision: u64,
    history: Vec<u8>,
}

/// One who follows, and what it holds: the objects in force by id, as bytes.
pub(super) struct Follower {
    asks: mpsc::Sender<WatchRequest>,
    news: Streaming<WatchResponse>,
    pub(super) held: BTreeMap<String, Vec<u8>>,
    pub(super) revision: u64,
    pub(super) history: Vec<u8>,
    pub(super) snapshots: usize,
    nonce: u64,
}

fn start(from_revision: u64, history: &[u8]) -> WatchRequest {
    WatchRequest {
        ask: Some(Ask::Start(WatchStart { from_revision, history: history.to_vec(), ..WatchStart::default() })),
    }
}

fn id(object: &wire::Declaration) -> String {
    object.metadata().unwrap().id.clone()
}

pub(super) async fn open(
    client: &mut FeedServiceClient<Client>,
    first: WatchRequest,
) -> (mpsc::Sender<WatchRequest>, Streaming<WatchResponse>) {
    let (asks, outgoing) = mpsc::channel(8);
    asks.send(first).await.unwrap();
    let news = client.watch(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
    (asks, news)
}

impl Follower {
    pub(super) async fn begin(client: &mut FeedServiceClient<Client>) -> Self {
        Self::resume(client, Place::default()).await
    }

    pub(super) async fn resume(client: &mut FeedServiceClient<Client>, place: Place) -> Self {
        let Place { held, revision, history } = place;
        let (asks, news) = open(client, start(revision, &history)).await;
        Self { asks, news, held, revision, history, snapshots: 0, nonce: 0 }
    }

    /// Loses its line.
    pub(super) fn leave(self) -> Place {
        Place { held: self.held, revision: self.revision, history: self.history }
    }

    /// Takes the next message in; a pong's revision where it is one.
    async fn take(&mut self) -> Option<wire::WatchPong> {
        let news = tokio::time::timeout(PATIENCE, self.news.message()).await.unwrap().unwrap().unwrap();
        self.hear(news)
    }

    /// Waits for the next message as long as it takes, and takes nothing in; none where the line is lost.
    pub(super) async fn next(&mut self) -> Option<WatchResponse> {
        self.news.message().await.ok().flatten()
    }

    /// Takes a message in; a pong's revision where it is one.
    pub(super) fn hear(&mut self, news: WatchResponse) -> Option<wire::WatchPong> {
        match news.news.unwrap() {
            News::Snapshot(part) => {
                assert!(part.objects.len() <= 500);
                if part.first {
                    self.held.clear();
                    self.snapshots += 1;
                    self.revision = part.revision;
                }
                assert_eq!(part.revision, self.revision);
                let objects = part.declarations().unwrap();
                self.held.extend(objects.iter().map(|o| (id(o), o.encode_to_vec())));
                self.history = part.history;
                None
            }
            News::Changes(changes) => {
                assert_eq!(changes.revision, self.revision + 1, "in order, without gaps");
                assert_ne!(changes.history, self.history);
                self.revision = changes.revision;
                self.history = changes.history;
                for change in changes.changes {
                    let object = change.object.unwrap();
                    if change.revoked {
                        assert!(self.held.remove(&id(&object)).is_some());
                    } else {
                        self.held.insert(id(&object), object.encode_to_vec());
                    }
                }
                None
            }
            News::Pong(pong) => Some(pong),
        }
    }

    /// Pings; whether there still is a line.
    pub(super) async fn ping(&mut self, revision: u64) -> bool {
        self.nonce += 1;
        let ping = WatchRequest { ask: Some(Ask::Ping(WatchPing { nonce: self.nonce, revision })) };
        self.asks.send(ping).await.is_ok()
    }

    /// Pings, and takes everything in until the pong.
    pub(super) async fn catch_up(&mut self) -> u64 {
        self.catch_up_saying(0).await
    }

    /// The same, and says by which revision it answers.
    pub(super) async fn catch_up_saying(&mut self, revision: u64) -> u64 {
        assert!(self.ping(revision).await);
        loop {
            if let Some(pong) = self.take().await {
                assert_eq!(pong.nonce, self.nonce);
                assert_eq!(pong.revision, self.revision, "everything up to a pong's revision was sent before it");
                return pong.revision;
            }
        }
    }
}

pub(super) async fn apply(operator: &Client, declarations: Vec<wire::Declaration>) -> u64 {
    let request = wire::ApplyDeclarationsRequest { declarations, ..Default::default() };
    let mut service = DeclarationServiceClient::new(operator.clone());
    service.apply_declarations(request).await.unwrap().into_inner().revision
}

#[tokio::test]
async fn state_then_changes_then_pongs() {
    on_each::<Migrator>(async |fixture| {
        let house = House::new();
        let running = house.raise(&fixture.url).await;
        let (operator, mut client) = (house.operator(&running), house.follower(&running));
        let mut empty = Follower::begin(&mut client).await;
        // The first revision is the registry's own: it appointed its administrators.
        assert_eq!((empty.catch_up().await, empty.held.len(), empty.snapshots), (1, 1, 1));

        apply(&operator, payments()).await;
        let many = (0..600).map(|i| agent(&format!("bot-{i}"), "worker")).collect();
        let revision = apply(&operator, many).await;
        // The write is acknowledged, so the next pong is not older.
        assert_eq!((empty.catch_up().await, empty.held.len()), (revision, 608));
        let mut late = Follower::begin(&mut client).await;
        assert_eq!((late.catch_up().await, late.snapshots), (3, 1), "several pieces, one snapshot");
        assert_eq!(late.held, empty.held);

        // It leaves, misses some, and comes back: only what it missed.
        let place = late.leave();
        let mut agents = AgentServiceClient::new(operator.clone());
        let suspend =
            wire::SuspendAgentRequest { agent: Some(by_name("bot-7")), reason: "odd".into(), ..Default::default() };
        agents.suspend_agent(suspend).await.unwrap();
        let mut back = Follower::resume(&mut client, place).await;
        assert_eq!((back.catch_up().await, back.snapshots), (4, 0));
        empty.catch_up().await;
        assert_eq!(back.held, empty.held);

        // One who has seen more than there is learns that history was lost.
        let mut ahead = Follower::resume(&mut client, Place { revision: 9, ..Place::default() }).await;
        ahead.take().await;
        assert_eq!((ahead.revision, ahead.snapshots), (4, 1));
        running.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_breaks_the_rules_is_refused_and_one_that_stands_ends_with_the_service() {
    on_each::<Migrator>(async |fixture| {
        let house = House::new();
        let running = house.raise(&fixture.url).await;
        let mut client = house.follower(&running);
        let ping = WatchRequest { ask: Some(Ask::Ping(WatchPing { nonce: 1, ..WatchPing::default() })) };
        let (_asks, mut news) = open(&mut client, ping).await;
        let refused = news.message().await.unwrap_err();
        assert_eq!(Told::from_status(&refused).reason, "INVALID_ARGUMENT");

        let mut twice = Follower::begin(&mut client).await;
        twice.catch_up().await;
        twice.asks.send(start(0, &[])).await.unwrap();
        let refused = twice.news.message().await.unwrap_err();
        assert_eq!(Told::from_status(&refused).reason, "INVALID_ARGUMENT");

        let mut standing = Follower::begin(&mut client).await;
        standing.catch_up().await;
        let down = tokio::spawn(running.shutdown());
        let ended = tokio::time::timeout(PATIENCE, standing.news.message()).await.unwrap().unwrap_err();
        assert_eq!(Told::from_status(&ended).reason, "FEED_STOPPING");
        drop(standing);
        tokio::time::timeout(PATIENCE, down).await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test]
async fn whoever_lived_through_other_changes_is_sent_everything() {
    on_each::<Migrator>(async |fixture| {
        let house = House::new();
        let running = house.raise(&fixture.url).await;
        let operator = house.operator(&running);
        apply(&operator, payments()).await;
        let mut client = house.follower(&running);
        let mut follower = Follower::begin(&mut client).await;
        follower.catch_up().await;
        apply(&operator, vec![namespace("lost")]).await;
        follower.catch_up().await;
        let place = follower.leave();
        assert_eq!(place.revision, 3);
        drop(client);
        running.shutdown().await;

        // The database is restored from a copy of before, and lives on: what was revision 3 is another one now.
        set_back(&fixture.db, 2).await;
        let running = house.raise(&fixture.url).await;
        let operator = house.operator(&running);
        for name in ["one", "two", "three"] {
            apply(&operator, vec![namespace(name)]).await;
        }
        let mut client = house.follower(&running);
        let mut back = Follower::resume(&mut client, place).await;
        assert_eq!((back.catch_up().await, back.snapshots), (5, 1), "not only what came after its revision");
        let mut fresh = Follower::begin(&mut client).await;
        fresh.catch_up().await;
        assert_eq!(back.held, fresh.held);
        // From here on it goes on as ever.
        let mut again = Follower::resume(&mut client, back.leave()).await;
        assert_eq!((again.catch_up().await, again.snapshots), (5, 0));
        drop((fresh, again, client));
        running.shutdown().await;
    })
    .await;
}

/// Makes the database what a copy of revision `to` would be.
async fn set_back(db: &legate_db::Db, to: u64) {
    db.tx("test_set_back", move |tx| {
        Box::pin(async move {
            use sea_orm::ConnectionTrait as _;
            for sql in [
                format!("DELETE FROM reference WHERE object_id IN (SELECT id FROM object WHERE revision > {to})"),
                format!("DELETE FROM object WHERE revision > {to}"),
                format!("DELETE FROM change WHERE revision > {to}"),
                format!("DELETE FROM revision WHERE revision > {to}"),
                format!(
                    "UPDATE head SET revision = {to}, history = (SELECT history FROM revision WHERE revision = {to})"
                ),
            ] {
                tx.execute_unprepared(&sql).await?;
            }
            Ok::<_, legate_db::TxError<legate_rpc::Fault>>(())
        })
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn whoever_is_turned_away_is_recorded() {
    on_each::<Migrator>(async |fixture| {
        let house = House::new();
        let running = house.raise(&fixture.url).await;
        let mut operator = FeedServiceClient::new(house.operator(&running));
        for _ in 0..3 {
            let (_asks, outgoing) = mpsc::channel(1);
            let refused = operator.watch(ReceiverStream::new(outgoing)).await.unwrap_err();
            assert_eq!(Told::from_status(&refused).reason, "ACCESS_DENIED");
        }
        let scene = super::scene::Scene::on(fixture.db.clone());
        let told = async {
            loop {
                let events = scene.events().await;
                let of = |event: &&legate_wire::audit::AuditEvent| event.r#type == "access.refused";
                let told: Vec<_> = events.iter().filter(of).collect();
                let times: u64 = told.iter().map(|e| e.details["count"].parse::<u64>().unwrap()).sum();
                if times == 3 {
                    return told[0].clone();
                }
                tokio::task::yield_now().await;
            }
        };
        let told = tokio::time::timeout(PATIENCE, told).await.unwrap();
        assert_eq!((told.actor.as_str(), told.reason_code.as_str()), (super::scene::OPERATOR, "ACCESS_DENIED"));
        assert_eq!(told.details["method"], "/legate.registry.v1.FeedService/Watch");
        running.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn one_who_takes_nothing_holds_up_nobody() {
    on_each::<Migrator>(async |fixture| {
        let house = House::new();
        let running = house.raise(&fixture.url).await;
        let operator = house.operator(&running);
        apply(&operator, payments()).await;
        let mut client = house.follower(&running);
        let (_asks, _never_read) = open(&mut client, start(0, &[])).await;
        let mut quick = house.follower(&running);
        let mut quick = Follower::begin(&mut quick).await;
        quick.catch_up().await;
        // More than a stream's window and queue hold.
        for round in 0..40u32 {
            let mut object = role("reader", "invoice:read");
            let metadata = object.metadata_mut().unwrap();
            for n in 0..60 {
                metadata.annotations.insert(format!("note-{n}"), format!("{round:04}").repeat(1_000));
            }
            let revision = apply(&operator, vec![object]).await;
            assert_eq!(quick.catch_up().await, revision);
        }
        drop((client, _asks, _never_read, quick));
        running.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn a_change_of_very_much_reaches_whoever_follows_in_pieces() {
    on_each::<Migrator>(async |fixture| {
        // The pieces are the same whatever keeps the rows, and PostgreSQL takes 26 MiB from a debug build in nearly as long as a
        // transaction may take at all.
        if fixture.is_postgres() {
            return;
        }
        let house = House::new();
        let running = house.raise(&fixture.url).await;
        let operator = house.operator(&running);
        apply(&operator, payments()).await;
        apply(&operator, vec![agent("old-bot", "worker")]).await;
        for n in 0..7 {
            let name = |i| format!("heavy-{n}-{i}");
            let heavy = (0..15).map(|i| annotated(binding(&name(i), "reader", &["old-bot", "invoice-bot"])));
            apply(&operator, heavy.collect()).await;
        }
        // Whoever follows takes messages up to a bound; what is larger he would refuse again and again.
        let mut client = house.follower(&running).max_decoding_message_size(25 << 20);
        let mut first = Follower::begin(&mut client).await;
        first.catch_up().await;
        let mut agents = AgentServiceClient::new(operator.clone());
        // It leaves 105 bindings at once, which are some 26 MiB.
        let ask =
            wire::RetireAgentRequest { agent: Some(by_name("old-bot")), reason: "x".into(), ..Default::default() };
        let head = agents.retire_agent(ask).await.unwrap().into_inner().revision;
        assert_eq!(first.catch_up().await, head);
        let mut last = Follower::begin(&mut client).await;
        assert_eq!(last.catch_up().await, head);
        assert_eq!(first.held, last.held);
        assert_eq!(apply(&operator, vec![namespace("after")]).await, head + 1);
        assert_eq!((first.catch_up().await, first.snapshots), (head + 1, 2));
        drop((first, last));
        running.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn whoever_followed_from_the_start_holds_what_whoever_comes_last_is_sent() {
    on_each::<Migrator>(async |fixture| {
        let house = House::new();
        let running = house.raise(&fixture.url).await;
        let (operator, mut client) = (house.operator(&running), house.follower(&running));
        apply(&operator, payments()).await;
        let mut first = Follower::begin(&mut client).await;
        let mut agents = AgentServiceClient::new(operator.clone());
        let mut declarations = DeclarationServiceClient::new(operator.clone());
        // A walk through all kinds of changes, the same one at every run.
        let mut dice = 17u64;
        for step in 0..120 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let n = (dice >> 33) % 8;
            let name = format!("bot-{n}");
            let which = Some(by_name(&name));
            match (dice >> 40) % 6 {
                0 | 1 => drop(apply(&operator, vec![agent(&name, "worker")]).await),
                2 => {
                    let all =
                        vec![agent(&name, "worker"), binding(&format!("b-{n}"), "reader", &[&name, "invoice-bot"])];
                    apply(&operator, all).await;
                }
                3 => {
                    let ask = wire::SuspendAgentRequest { agent: which, reason: "x".into(), ..Default::default() };
                    drop(agents.suspend_agent(ask).await);
                }
                4 => {
                    let ask = wire::RetireAgentRequest { agent: which, reason: "x".into(), ..Default::default() };
                    drop(agents.retire_agent(ask).await);
                }
                _ => {
                    let ask = wire::RevokeDeclarationRequest {
                        kind: wire::Kind::RoleBinding.into(),
                        namespace: "payments".into(),
                        name: format!("b-{n}"),
                        reason: "x".into(),
                        ..Default::default()
                    };
                    drop(declarations.revoke_declaration(ask).await);
                }
            }
            if step % 10 == 0 {
                first.catch_up().await;
            }
            if step % 25 == 0 {
                // It loses its line, and goes on with a new one.
                first = Follower::resume(&mut client, first.leave()).await;
            }
        }
        let head = apply(&operator, vec![namespace("last")]).await;
        let mut last = Follower::begin(&mut client).await;
        assert_eq!((first.catch_up().await, last.catch_up().await), (head, head));
        assert_eq!((first.snapshots, last.snapshots), (0, 1));
        assert_eq!(first.held.keys().collect::<Vec<_>>(), last.held.keys().collect::<Vec<_>>());
        assert_eq!(first.held, last.held);
        drop((first, last));
        running.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn whoever_comes_from_anywhere_ends_with_what_there_is() {
    on_each::<Migrator>(async |fixture| {
        let house = House::new();
        let running = house.raise(&fixture.url).await;
        let (operator, mut client) = (house.operator(&running), house.follower(&running));
        apply(&operator, payments()).await;
        let mut first = Follower::begin(&mut client).await;
        let mut places = Vec::new();
        let mut declarations = DeclarationServiceClient::new(operator.clone());
        for n in 0..24u32 {
            let name = format!("bot-{}", n % 5);
            match n % 3 {
                0 => drop(apply(&operator, vec![agent(&name, "worker"), binding("b", "reader", &[&name])]).await),
                1 => drop(apply(&operator, vec![role("reader", &format!("invoice:r{n}"))]).await),
                _ => {
                    let ask = wire::RevokeDeclarationRequest {
                        kind: wire::Kind::RoleBinding.into(),
                        namespace: "payments".into(),
                        name: "b".into(),
                        reason: "x".into(),
                        ..Default::default()
                    };
                    declarations.revoke_declaration(ask).await.unwrap();
                }
            }
            first.catch_up().await;
            let (held, revision, history) = (first.held.clone(), first.revision, first.history.clone());
            places.push(Place { held, revision, history });
        }
        drop((first, client));
        // Nothing is in memory, and of the database only what the last third needs.
        running.shutdown().await;
        let middle = places[16].revision;
        let time = fixture.db.read("test", move |tx| Box::pin(crate::store::revision::time(tx, middle)));
        let time = legate_clock::Timestamp::from_micros(time.await.map_err(crate::error::of_tx).unwrap().unwrap());
        let later = legate_clock::Timestamp::from_secs(super::scene::NOW);
        let scene = super::scene::Scene::keeping(fixture.db.clone(), Some(later.since(time)));
        assert!(crate::flow::compact::compact(&scene.desk).await.unwrap() > 10);

        let running = house.raise(&fixture.url).await;
        let mut client = house.follower(&running);
        let mut fresh = Follower::begin(&mut client).await;
        let head = fresh.catch_up().await;
        let nowhere = Place { revision: middle - 1, ..Place::default() };
        for place in places.into_iter().chain([nowhere]) {
            let (from, knows) = (place.revision, !place.history.is_empty());
            let mut back = Follower::resume(&mut client, place).await;
            assert_eq!(back.catch_up().await, head, "from {from}");
            assert_eq!(back.snapshots, usize::from(from < middle || !knows), "from {from}, kept from {middle}");
            assert_eq!((back.held, back.history), (fresh.held.clone(), fresh.history.clone()), "from {from}");
        }
        drop((fresh, client));
        running.shutdown().await;
    })
    .await;
}
