//! Two registries on one database, many who write at both at once, and many who follow: every revision reaches every follower, once
//! and in order, and what each of them has built is what the registries list at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use legate_boot::Running;
use legate_db::testing::on_each;
use legate_rpc::{Client, Code, Told};
use legate_wire::registry as wire;
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use wire::agent_service_client::AgentServiceClient;
use wire::bulk_apply_request::Part;
use wire::bulk_service_client::BulkServiceClient;
use wire::declaration::Object;
use wire::declaration_service_client::DeclarationServiceClient;
use wire::{AgentState, BulkAction, BulkItem, BulkMode, ChangeAction, Declaration, Kind};

use super::scene::{agent_spec, agent_with, binding, by_name, payments, role};
use super::stream::{Follower, House, PATIENCE, apply};
use crate::schema::Migrator;

/// What each writer does before it stops.
const STEPS: usize = 24;
/// Longer than any machine takes.
const LONG: Duration = Duration::from_secs(600);

/// A generator that gives the same numbers from the same seed (SplitMix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Another one, for somebody else.
    fn split(&mut self) -> Self {
        Self(self.next())
    }

    /// A declared object out of few, so that writers meet at them.
    fn object(&mut self) -> Declaration {
        let n = self.below(6);
        match self.below(3) {
            0 => role(&format!("role-{n}"), &format!("invoice:a{}", self.below(4))),
            1 => binding(&format!("binding-{n}"), "reader", &["invoice-bot"]),
            _ => {
                let mut spec = agent_spec("worker");
                spec.purpose = format!("does {}", self.below(4));
                agent_with(&format!("bot-{n}"), spec)
            }
        }
    }
}

/// The seed of this run: one of its own, or the one that is asked for to see a failure again.
fn seed() -> u64 {
    match std::env::var("LEGATE_TEST_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => {
            let mut bytes = [0; 8];
            aws_lc_rs::rand::fill(&mut bytes).unwrap();
            u64::from_be_bytes(bytes)
        }
    }
}

/// What a writer was told: the revisions that it made, and how often it was not told whether it made one.
#[derive(Debug, Default)]
struct Made {
    revisions: Vec<u64>,
    unknown: usize,
}

impl Made {
    /// A refusal makes no revision; where a call failed otherwise, nobody knows.
    fn add(&mut self, answer: Result<Option<u64>, Status>) {
        match answer {
            Ok(revision) => self.revisions.extend(revision),
            Err(status) if Told::from_status(&status).code == Code::Unavailable => self.unknown += 1,
            Err(status) => assert!(!Told::from_status(&status).reason.is_empty(), "{status}"),
        }
    }
}

/// How somebody writes.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// One object, or some of them, at a time; or takes one back.
    Singly,
    /// Steps of agents' lives.
    Steps,
    /// Many over a stream.
    Bulk(BulkMode),
}

const WAYS: [Way; 5] =
    [Way::Singly, Way::Singly, Way::Steps, Way::Bulk(BulkMode::Each), Way::Bulk(BulkMode::AllOrNothing)];

async fn write(operator: Client, way: Way, mut chance: Chance) -> Made {
    let mut made = Made::default();
    for _ in 0..STEPS {
        match way {
            Way::Singly => made.add(single(&operator, &mut chance).await),
            Way::Steps => made.add(step(&operator, &mut chance).await),
            Way::Bulk(mode) => bulk(&operator, mode, &mut chance, &mut made).await,
        }
    }
    made
}

async fn single(operator: &Client, chance: &mut Chance) -> Result<Option<u64>, Status> {
    let mut service = DeclarationServiceClient::new(operator.clone());
    if chance.below(5) == 0 {
        let kind = if chance.below(2) == 0 { Kind::RoleBinding } else { Kind::Role };
        let name = if kind == Kind::Role { "role" } else { "binding" };
        let ask = wire::RevokeDeclarationRequest {
            kind: kind.into(),
            namespace: "payments".into(),
            name: format!("{name}-{}", chance.below(6)),
            reason: "no longer".into(),
            ..Default::default()
        };
        return Ok(Some(service.revoke_declaration(ask).await?.into_inner().revision));
    }
    let mut objects = BTreeMap::new();
    for _ in 0..=chance.below(3) {
        let object = chance.object();
        objects.insert(object.metadata().unwrap().name.clone(), object);
    }
    let ask = wire::ApplyDeclarationsRequest { declarations: objects.into_values().collect(), ..Default::default() };
    let answer = service.apply_declarations(ask).await?.into_inner();
    let is_changed = answer.changes.iter().any(|change| change.action() != ChangeAction::Unchanged);
    Ok(is_changed.then_some(answer.revision))
}

async fn step(operator: &Client, chance: &mut Chance) -> Result<Option<u64>, Status> {
    macro_rules! step {
        ($request:ident, $method:ident) => {{
            let agent = Some(by_name(&format!("bot-{}", chance.below(6))));
            let ask = wire::$request { agent, reason: "odd".into(), ..Default::default() };
            AgentServiceClient::new(operator.clone()).$method(ask).await?.into_inner().revision
        }};
    }
    Ok(Some(match chance.below(8) {
        0 | 1 => step!(SuspendAgentRequest, suspend_agent),
        2 | 3 => step!(ResumeAgentRequest, resume_agent),
        4 => step!(QuarantineAgentRequest, quarantine_agent),
        5 => step!(ReleaseAgentRequest, release_agent),
        6 => step!(RevokeAgentCredentialsRequest, revoke_agent_credentials),
        _ => step!(RetireAgentRequest, retire_agent),
    }))
}

async fn bulk(operator: &Client, mode: BulkMode, chance: &mut Chance, made: &mut Made) {
    let start = wire::BulkStart { mode: mode.into(), reason: "moved here".into(), ..Default::default() };
    let (mut parts, mut count) = (vec![Part::Start(start)], 0);
    for _ in 0..=chance.below(3) {
        let mut objects = BTreeMap::new();
        for _ in 0..=chance.below(6) {
            let object = chance.object();
            objects.insert(object.metadata().unwrap().name.clone(), object);
        }
        count += objects.len();
        let item = |(key, object)| BulkItem { key, declaration: Some(object), ..BulkItem::default() };
        parts.push(Part::Items(wire::BulkItems { items: objects.into_iter().map(item).collect() }));
    }
    parts.push(Part::End(wire::BulkEnd { items: count as u64 }));
    let (asks, outgoing) = mpsc::channel(parts.len());
    for part in parts {
        asks.try_send(wire::BulkApplyRequest { part: Some(part) }).unwrap();
    }
    let mut answers = match BulkServiceClient::new(operator.clone()).bulk_apply(ReceiverStream::new(outgoing)).await {
        Ok(answers) => answers.into_inner(),
        Err(status) => return made.add(Err(status)),
    };
    let mut revisions = BTreeSet::new();
    loop {
        match answers.message().await {
            Ok(Some(answer)) => {
                let is_written =
                    |o: &&wire::BulkOutcome| matches!(o.action(), BulkAction::Created | BulkAction::Updated);
                revisions.extend(answer.outcomes.iter().filter(is_written).map(|outcome| outcome.revision));
            }
            Ok(None) => break,
            Err(status) => {
                made.add(Err(status));
                break;
            }
        }
    }
    made.revisions.extend(revisions);
}

/// How somebody follows.
#[derive(Clone, Copy, Debug)]
enum Follows {
    /// Hears what comes.
    Listening,
    /// Asks again and again how far the registry is.
    Asking,
    /// Loses its line now and then.
    Moving,
}

/// Asks how far the registry is, and takes everything in until it says so; whether it did.
async fn reach(follower: &mut Follower) -> bool {
    if !follower.ping(0).await {
        return false;
    }
    while let Some(news) = follower.next().await {
        if let Some(pong) = follower.hear(news) {
            assert_eq!(pong.revision, follower.revision, "everything up to a pong's revision was sent before it");
            return true;
        }
    }
    false
}

/// Follows until everything is written, and then up to the end. Whoever loses its line goes on at another registry.
async fn follow(
    house: &House,
    registries: &[Running],
    how: Follows,
    first: usize,
    mut done: watch::Receiver<bool>,
    mut chance: Chance,
) -> Follower {
    let (mut at, mut snapshots) = (first, 0);
    let mut client = house.follower(&registries[at]);
    let mut follower = Follower::begin(&mut client).await;
    loop {
        let is_done = *done.borrow_and_update();
        let is_there = match how {
            _ if is_done => reach(&mut follower).await,
            Follows::Listening => tokio::select! {
                news = follower.next() => match news {
                    Some(news) => follower.hear(news).is_none(),
                    None => false,
                },
                changed = done.changed() => changed.is_ok(),
            },
            Follows::Asking => reach(&mut follower).await,
            Follows::Moving => {
                for _ in 0..chance.below(4) {
                    reach(&mut follower).await;
                }
                false
            }
        };
        if is_there && is_done {
            follower.snapshots += snapshots;
            return follower;
        }
        if !is_there {
            at = (at + 1) % registries.len();
            snapshots += follower.snapshots;
            client = house.follower(&registries[at]);
            follower = Follower::resume(&mut client, follower.leave()).await;
        }
    }
}

/// Every object that a registry lists, by id, as the stream has it: retired agents too, and without what is told to readers only.
async fn listed(operator: &Client) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for kind in (1..=31).filter_map(|n| Kind::try_from(n).ok()).filter(|kind| *kind != Kind::Agent) {
        let ask = wire::ListDeclarationsRequest { kind: kind.into(), page_size: 1_000, ..Default::default() };
        let page = DeclarationServiceClient::new(operator.clone()).list_declarations(ask).await.unwrap().into_inner();
        assert!(page.next_page_token.is_empty(), "{kind:?}");
        all.extend(page.declarations.into_iter().map(|one| (one.metadata().unwrap().id.clone(), one.encode_to_vec())));
    }
    let states: Vec<i32> = (1..=7).filter_map(|n| AgentState::try_from(n).ok()).map(Into::into).collect();
    let ask = wire::ListAgentsRequest { states, page_size: 1_000, ..Default::default() };
    let page = AgentServiceClient::new(operator.clone()).list_agents(ask).await.unwrap().into_inner();
    assert!(page.next_page_token.is_empty());
    for mut agent in page.agents {
        agent.status.as_mut().unwrap().class_version_in_force = 0;
        let id = agent.metadata.as_ref().unwrap().id.clone();
        all.insert(id, Declaration { object: Some(Object::Agent(agent)) }.encode_to_vec());
    }
    all
}

/// How far a registry is, once it has seen everything that was committed anywhere.
async fn head(house: &House, registry: &Running) -> u64 {
    Follower::begin(&mut house.follower(registry)).await.catch_up().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn interleaved_writes_reach_every_follower_once_and_in_order() {
    on_each::<Migrator>(async |fixture| {
        let seed = seed();
        // Shown where the test fails.
        #[allow(clippy::print_stdout, reason = "shown where the test fails, so that it can be done again")]
        {
            println!("LEGATE_TEST_SEED={seed}");
        }
        let mut chance = Chance(seed);
        let house = House::new();
        // SQLite is for one process.
        let mut registries = vec![house.raise(&fixture.url).await];
        if fixture.is_postgres() {
            registries.push(house.raise(&fixture.url).await);
        }
        apply(&house.operator(&registries[0]), payments()).await;
        let base = head(&house, &registries[0]).await;

        let (finished, done) = watch::channel(false);
        let writers = registries.iter().flat_map(|registry| WAYS.map(move |way| (registry, way)));
        let writers: Vec<_> =
            writers.map(|(registry, way)| tokio::spawn(write(house.operator(registry), way, chance.split()))).collect();
        let hows = [Follows::Listening, Follows::Asking, Follows::Moving];
        let followers = (0..registries.len()).flat_map(|first| hows.map(move |how| (first, how)));
        let followers: Vec<_> = followers
            .map(|(first, how)| follow(&house, &registries, how, first, done.clone(), chance.split()))
            .collect();
        let writing = async {
            let mut made = Made::default();
            for writer in writers {
                let Made { mut revisions, unknown } = writer.await.unwrap();
                made.revisions.append(&mut revisions);
                made.unknown += unknown;
            }
            finished.send(true).unwrap();
            made
        };
        let all = async { tokio::join!(writing, futures_util::future::join_all(followers)) };
        let (mut made, followers) = tokio::time::timeout(LONG, all).await.unwrap();

        // Each revision was made by one call, and those who called know of each.
        let head = head(&house, &registries[0]).await;
        made.revisions.sort_unstable();
        if made.unknown == 0 {
            assert_eq!(made.revisions, (base + 1..=head).collect::<Vec<_>>());
        } else {
            let all: BTreeSet<u64> = made.revisions.iter().copied().collect();
            assert_eq!(all.len(), made.revisions.len(), "a revision was given to two calls");
            assert!(all.iter().all(|revision| (base + 1..=head).contains(revision)));
        }
        assert!(head > base + STEPS as u64, "next to nothing was written: {base} to {head}");
        // That each revision follows the one before, every follower looks at with everything it is sent.
        let listed = listed(&house.operator(registries.last().unwrap())).await;
        for follower in &followers {
            assert_eq!((follower.revision, follower.snapshots), (head, 1));
            assert_eq!(follower.history, followers[0].history);
            assert_eq!(follower.held.keys().collect::<Vec<_>>(), listed.keys().collect::<Vec<_>>());
            assert_eq!(follower.held, listed);
        }
        drop(followers);
        for registry in registries {
            tokio::time::timeout(PATIENCE, registry.shutdown()).await.unwrap();
        }
    })
    .await;
}
