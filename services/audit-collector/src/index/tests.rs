//! The index on each database: what it finds, and that it is the log's whatever happened to it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::entry::{Link, links};
use crate::domain::question::plain;
use bytes::Bytes;
use legate_authority::Reach;
use legate_batch::{Attested, KIND, Statement};
use legate_boot::Context;
use legate_clock::Timestamp;
use legate_db::testing::{Fixture, on_each};
use legate_db::{Fault, TxError};
use legate_filter::{EventField, Field, Filter, Scope, Subject};
use legate_ids::EventId;
use legate_personal::Split;
use legate_wire::audit::{AppendEventsRequest, AuditEvent, Emitter, EventDecision, EventResource, Outcome, TrustClass};
use prost::Message as _;
use sea_orm::{ConnectionTrait as _, EntityTrait as _, PaginatorTrait as _};

use super::Index;
use crate::domain::question::Order;
use crate::domain::question::{Question, TypeFilter};
use crate::log::tests::scene::{ME, ORIGIN, open, producer};
use crate::log::{Log, Offer, Own};
use crate::personal::{Unsealed, Vault};
use crate::schema::Migrator;
use crate::store::batch::{Batch, Voices};
use crate::store::search::{Families, Search};
use crate::store::{event, link, made_by, numbered, posting, roles, stretch, usage};

const TYPES: &[&str] = &[
    "agent.suspended",
    "agent.created",
    "agents.listed",
    "decision.made",
    "agent",
    "decision.withdrawn",
    "operator_binding.updated",
    "operators.stated",
    "operator_binding.stated",
    "operator_binding.revoked",
];

const START: i64 = 1_800_000_000;

fn pick(n: u64, of: &[&str]) -> String {
    of[usize::try_from(n).unwrap() % of.len()].to_owned()
}

fn agent(n: u8) -> String {
    legate_ids::AgentId::from_parts(1, [n; 10]).to_string()
}

fn spiffe_of(n: u8) -> String {
    format!("spiffe://example.org/ns/payments/agent/{}", agent(n))
}

fn details(n: u64) -> std::collections::BTreeMap<String, String> {
    let all = [
        ("grants", "grant_2 grant_3"),
        ("token_id", "tok_1"),
        ("serial", "0a1b"),
        ("made_by", "agt_1"),
        ("role", "VIEWER"),
        ("operators", "ada grace"),
    ];
    let some = all.into_iter().enumerate().filter(|(at, _)| n.is_multiple_of(*at as u64 + 2));
    some.map(|(_, (name, text))| (name.to_owned(), text.to_owned())).collect()
}

/// Events that differ in everything that is asked for; some of it no database likes.
fn told(n: u64) -> AuditEvent {
    let long = "x".repeat(3_000);
    AuditEvent {
        event_id: EventId::from_parts(n, [0; 10]).to_string(),
        emitter: Some(Emitter { spiffe_id: producer("registry", "e1").spiffe_id, epoch: "e1".into(), seq: n }),
        time: Some(Timestamp::from_secs(START + i64::try_from(n / 3).unwrap()).into()),
        r#type: pick(n, TYPES),
        namespace: pick(n, &["", "payments", "pay%", "pay_"]),
        actor: pick(n / 2, &["", "spiffe://example.org/legate/operator/a", "nul\0nul", &long, &format!("{long}y")]),
        agent_id: pick(n, &["", "agt_1", "agt_2"]),
        action: pick(n, &["invoice:read", "invoice:write"]),
        resource: (!n.is_multiple_of(4)).then(|| EventResource {
            r#type: pick(n, &["Invoice", "Ledger"]),
            id: pick(n, &["apollo/1", "'; DROP TABLE indexed_event; --"]),
            ..EventResource::default()
        }),
        outcome: i32::try_from(n % 4).unwrap(),
        trace_id: pick(n / 5, &["", "4bf92f3577b34da6a3ce929d0e0e4736"]),
        instance_id: pick(n / 2, &["", "ins_1", "ins_2"]),
        subject: pick(n / 3, &["", "user:ada", "user:grace", &spiffe_of(9)]),
        chain: match n % 4 {
            0 => Vec::new(),
            1 => vec![spiffe_of(1), "user:ada".into()],
            _ => vec![agent(2), spiffe_of(1)],
        },
        grant_id: pick(n, &["", "grant_1"]),
        reason_code: pick(n, &["", "NOT_PERMITTED", "nul\0"]),
        reason: format!("because of {n}"),
        details: details(n),
        credential_id: pick(n, &["", "cred_1"]),
        decision: n
            .is_multiple_of(7)
            .then(|| EventDecision { decision_id: format!("dec_{n}"), ..EventDecision::default() }),
        ..AuditEvent::default()
    }
}

/// The registry, with a certificate.
fn registry() -> legate_mtls::Identity {
    let now = Timestamp::from_secs(START);
    let ca = legate_mtls::pki::Ca::generate("services", now, Duration::from_secs(60)).unwrap();
    let id = legate_ids::SpiffeId::parse(&producer("registry", "e1").spiffe_id).unwrap();
    let leaf = legate_mtls::pki::Leaf { spiffe_id: &id, dns: &[], ips: &[], ttl: Duration::from_secs(60) };
    let issued = ca.issue(&leaf, now).unwrap();
    legate_mtls::Identity::from_pem(&issued.cert_pem, &issued.key_pem).unwrap()
}

async fn tell(log: &Log, from: u64, count: u64) {
    // As emitters of earlier versions told them, and as those of today do.
    let mut personal = BTreeMap::new();
    let mut leaf = |n: u64| match n % 5 {
        0 => told(n),
        _ => {
            let Split { event, parts } = legate_personal::split(told(n), rand::random);
            let time = Timestamp::try_from(event.time.unwrap()).unwrap();
            if !parts.is_empty() {
                let unsealed = Unsealed { leaf: 0, kind: event.r#type.clone(), time, parts };
                personal.insert(usize::try_from(n - from).unwrap(), unsealed);
            }
            event
        }
    };
    let events = (from..from + count).map(|n| leaf(n).encode_to_vec().into()).collect();
    log.append(Offer { producer: producer("registry", "e1"), first_seq: from, events, personal, signature: None })
        .await
        .unwrap();
}

fn base() -> Question {
    Question::default()
}

fn questions() -> Vec<Question> {
    let long = "x".repeat(3_000);
    let time = |secs: i64| Some(Timestamp::from_secs(START + secs));
    vec![
        base(),
        Question { agent_id: "agt_1".into(), ..base() },
        Question { agent_id: "agt_".into(), ..base() },
        Question { kind: TypeFilter::Exactly("agent".into()), ..base() },
        Question { kind: TypeFilter::Under("agent".into()), ..base() },
        Question { kind: TypeFilter::Under("log".into()), ..base() },
        Question { namespace: "pay%".into(), ..base() },
        Question { namespace: "pay_".into(), ..base() },
        Question { actor: "nul\0nul".into(), ..base() },
        Question { actor: long.clone(), ..base() },
        Question { actor: format!("{long}y"), outcome: Outcome::Denied.into(), ..base() },
        Question { resource_type: "Invoice".into(), ..base() },
        Question { resource_type: "Ledger".into(), resource_id: "'; DROP TABLE indexed_event; --".into(), ..base() },
        Question { resource_id: "apollo/1".into(), action: "invoice:read".into(), ..base() },
        Question { outcome: Outcome::Failure.into(), ..base() },
        Question { trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".into(), agent_id: "agt_2".into(), ..base() },
        Question { credential_id: "cred_1".into(), ..base() },
        Question { decision_id: "dec_14".into(), ..base() },
        Question { emitter: ME.into(), ..base() },
        Question { emitter: producer("registry", "").spiffe_id, ..base() },
        Question { from: time(3), to: time(9), ..base() },
        Question { from: time(30), to: time(31), instance_id: "ins_1".into(), ..base() },
        Question { to: time(0), ..base() },
        Question { instance_id: "ins_2".into(), ..base() },
        Question { subject: "user:ada".into(), ..base() },
        Question { subject: agent(9), agent_id: "agt_1".into(), ..base() },
        Question { chain: "user:ada".into(), ..base() },
        Question { chain: agent(1), outcome: Outcome::Denied.into(), ..base() },
        Question { chain: spiffe_of(2), ..base() },
        Question { grant_id: "grant_1".into(), ..base() },
        Question { grant_id: "grant_3".into(), subject: "user:grace".into(), ..base() },
        Question { credential_id: "tok_1".into(), ..base() },
        Question { credential_id: "0a1b".into(), namespace: "payments".into(), ..base() },
        Question { via_agent_id: agent(1), ..base() },
        Question { via_agent_id: agent(2), subject: "user:ada".into(), ..base() },
        Question { filter: filter("outcome = denied"), ..base() },
        Question { filter: filter("agent_id = agt_1 AND NOT outcome = denied"), ..base() },
        Question { filter: filter("agent_id = agt_1 OR subject = \"user:grace\""), ..base() },
        Question { filter: filter("type = \"agent.*\" AND namespace != payments"), ..base() },
        Question {
            filter: filter("namespace = \"pay*\" AND resource_type:*"),
            action: "invoice:read".into(),
            ..base()
        },
        Question { filter: filter(&format!("chain:{} AND NOT grant:grant_2", agent(1))), ..base() },
        Question { filter: filter("credential:\"tok*\" OR NOT chain:*"), ..base() },
        Question { filter: filter("actor = \"xxxx*\""), ..base() },
        Question { filter: filter("time >= \"2027-01-15T08:00:10Z\" AND time != \"2027-01-15T08:00:11Z\""), ..base() },
        Question { filter: filter("NOT (reason_code = NOT_PERMITTED OR decision_id:*)"), ..base() },
        Question { filter: filter(&format!("resource_id = \"{}\"", "'; DROP TABLE indexed_event; --")), ..base() },
        Question { from: time(9), kind: TypeFilter::Exactly("decision.made".into()), ..base() },
    ]
}

fn filter(text: &str) -> Option<Filter> {
    Some(Filter::parse(text, Scope::Events).unwrap())
}

/// An event, as a filter asks it.
struct Told<'e>(&'e AuditEvent);

impl Subject for Told<'_> {
    fn any_text(&self, field: &Field, test: &mut dyn FnMut(&str) -> bool) -> bool {
        let Field::Event(field) = field else { return false };
        let event = self.0;
        let resource = event.resource.clone().unwrap_or_default();
        let decision = event.decision.clone().unwrap_or_default();
        let emitter = event.emitter.clone().unwrap_or_default();
        let link = match field {
            EventField::Chain => Some(Link::Chain),
            EventField::Grant => Some(Link::Grant),
            EventField::Credential => Some(Link::Credential),
            _ => None,
        };
        if let Some(link) = link {
            return links(event).iter().any(|(of, text)| *of == link && test(text));
        }
        let text = match field {
            EventField::Type => event.r#type.clone(),
            EventField::Namespace => event.namespace.clone(),
            EventField::Actor => event.actor.clone(),
            EventField::AgentId => event.agent_id.clone(),
            EventField::InstanceId => event.instance_id.clone(),
            EventField::Subject => plain(&event.subject),
            EventField::Action => event.action.clone(),
            EventField::ResourceType => resource.r#type,
            EventField::ResourceId => resource.id,
            EventField::ReasonCode => event.reason_code.clone(),
            EventField::DecisionId => decision.decision_id,
            EventField::TraceId => event.trace_id.clone(),
            EventField::Emitter => emitter.spiffe_id,
            _ => return false,
        };
        !text.is_empty() && test(&text)
    }

    fn word(&self, _: &Field) -> Option<i32> {
        Some(self.0.outcome)
    }

    fn moment(&self, _: &Field) -> Option<i64> {
        Some(Timestamp::try_from(self.0.time.unwrap()).unwrap().micros())
    }
}

/// The same question, answered by looking at every event.
fn answers(question: &Question, event: &AuditEvent) -> bool {
    let text = |asked: &str, found: &str| asked.is_empty() || asked == found;
    let resource = event.resource.clone().unwrap_or_default();
    let has = |link, value: &str| links(event).contains(&(link, value.to_owned()));
    let time = Timestamp::try_from(event.time.unwrap()).unwrap();
    let kind = match &question.kind {
        TypeFilter::Any => true,
        TypeFilter::Exactly(kind) => *kind == event.r#type,
        TypeFilter::Under(noun) => event.r#type.starts_with(&format!("{noun}.")),
    };
    kind && text(&question.agent_id, &event.agent_id)
        && text(&question.actor, &event.actor)
        && text(&question.namespace, &event.namespace)
        && text(&question.action, &event.action)
        && text(&question.resource_type, &resource.r#type)
        && text(&question.resource_id, &resource.id)
        && (question.outcome == 0 || question.outcome == event.outcome)
        && text(&question.trace_id, &event.trace_id)
        && (question.credential_id.is_empty() || has(Link::Credential, &question.credential_id))
        && (question.grant_id.is_empty() || has(Link::Grant, &question.grant_id))
        && (question.chain.is_empty() || has(Link::Chain, &plain(&question.chain)))
        && (question.via_agent_id.is_empty()
            || question.via_agent_id == event.agent_id
            || has(Link::Chain, &question.via_agent_id))
        && text(&question.instance_id, &event.instance_id)
        && text(&question.subject, &plain(&event.subject))
        && question.filter.as_ref().is_none_or(|filter| filter.holds(&Told(event)))
        && text(&question.decision_id, event.decision.as_ref().map_or("", |d| &d.decision_id))
        && text(&question.emitter, &event.emitter.as_ref().unwrap().spiffe_id)
        && question.from.is_none_or(|from| time >= from)
        && question.to.is_none_or(|to| time < to)
}

fn every(log: &Log) -> Vec<AuditEvent> {
    let mut events = Vec::new();
    while (events.len() as u64) < log.size() {
        let leaves = log.read(events.len() as u64, log.size(), 1 << 20).unwrap();
        events.extend(log.seen(leaves).into_iter().map(|seen| seen.event));
    }
    events
}

/// Every leaf that answers, page by page; with a small bound on work where it is less than a page.
async fn pages(
    (index, vault): (&Index, &Vault),
    question: &Question,
    sees: &Reach,
    size: u64,
    order: Order,
) -> Vec<u64> {
    let mut all = Vec::new();
    let mut after = None;
    let work = if size < 100 { 11 } else { 20_000 };
    loop {
        let (question, sees, vault) = (question.clone(), sees.clone(), vault.clone());
        let read = index.db().unwrap();
        let page = read.read("test_page", move |tx| {
            let (question, sees, vault) = (question.clone(), sees.clone(), vault.clone());
            Box::pin(async move {
                let some = |text: &str| if text.is_empty() { Vec::new() } else { vec![text.to_owned()] };
                let families = Families { of_agent: some(&question.agent_id), of_via: some(&question.via_agent_id) };
                let mut stretch = stretch::during::<()>(tx, question.from, question.to, 1_000_000).await?;
                if let Some(after) = after {
                    stretch = order.behind(after, stretch);
                }
                let search = Search::plan(&question, &families, &sees, &vault).looking_at(work);
                search.page::<()>(tx, stretch, order, size).await
            })
        });
        let page = page.await.unwrap();
        all.extend(page.leaves);
        match page.more_behind {
            None => return all,
            Some(last) => after = Some(last),
        }
    }
}

async fn until(index: &Index, size: u64) {
    let mut through = index.through();
    let reached = through.wait_for(|through| *through >= size);
    tokio::time::timeout(Duration::from_secs(20), reached).await.unwrap().unwrap();
}

fn voices() -> Voices {
    Voices { registry: producer("registry", "e1").spiffe_id, me: ME.into() }
}

fn index(fixture: &Fixture) -> Index {
    Index::new(fixture.url.clone(), ORIGIN.into(), voices(), Context::new())
}

/// Every row of a table, in the order of all of it.
macro_rules! rows {
    ($index:expr, $table:ident) => {{
        let read = $index.db().unwrap();
        let rows = read.read("test_rows", |tx| {
            Box::pin(async move { Ok::<_, TxError<()>>($table::Entity::find().all(tx).await?) })
        });
        rows.await.unwrap()
    }};
}

/// The leaves under each text of a field, whatever segments they are in.
async fn postings(index: &Index) -> BTreeMap<(i16, String), Vec<u64>> {
    let mut rows = rows!(index, posting);
    rows.sort();
    let mut all: BTreeMap<(i16, String), Vec<u64>> = BTreeMap::new();
    for row in rows {
        let leaves = row.unpacked();
        all.entry((row.field, row.value)).or_default().extend(leaves);
    }
    all
}

/// The index holds what the log says, in every table, and nothing else.
async fn is_exact(index: &Index, log: &Log) {
    let mut leaves: Vec<(u64, Vec<u8>)> = Vec::new();
    while (leaves.len() as u64) < log.size() {
        leaves.extend(log.read(leaves.len() as u64, log.size(), 1 << 20).unwrap());
    }
    let wanted = Batch::of(&leaves, &voices(), log.vault(), None);
    let mut events = rows!(index, event);
    events.sort_by_key(|row| row.leaf);
    assert_eq!(events, wanted.events);
    let (mut links, mut wanted_links) = (rows!(index, link), wanted.links);
    links.sort();
    wanted_links.sort();
    assert_eq!(links, wanted_links);
    let wanted_postings = wanted.postings.into_iter().map(|((field, text), leaves)| ((field.number(), text), leaves));
    assert_eq!(postings(index).await, wanted_postings.collect());
    assert_eq!(rows!(index, stretch), wanted.blocks);
    let (mut counts, mut wanted_counts) = (rows!(index, usage), wanted.usage);
    counts.sort();
    wanted_counts.sort();
    assert_eq!(counts, wanted_counts);
    let mut made: Vec<_> = rows!(index, made_by).into_iter().map(|row| (row.agent_id, row.maker)).collect();
    let mut wanted_made = wanted.made;
    made.sort();
    wanted_made.sort();
    assert_eq!(made, wanted_made);
    let given = wanted.roles.bindings.iter().filter_map(|(binding, given)| Some(roles::of(binding, given.as_ref()?)));
    let (mut roles, mut wanted_roles): (Vec<_>, Vec<_>) = (rows!(index, roles), given.flatten().collect());
    roles.sort();
    wanted_roles.sort();
    assert_eq!(roles, wanted_roles);
    assert_eq!(*index.knows_roles().borrow(), wanted.roles.is_anew);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_breaks_off_is_signed_by_nobody_and_a_whole_one_by_its_emitter() {
    on_each::<Migrator>(async |fixture: Fixture| {
        let dir = tempfile::tempdir().unwrap();
        let (log, tasks) = open(dir.path()).await;
        let index = index(&fixture);
        let following = tokio::spawn(index.clone().follow(log.clone()));
        let me = registry();
        let signed = |from: u64, count: u64, there: u64| {
            let of = |seq: u64| crate::log::tests::scene::event(&producer("registry", "e1"), seq);
            let events: Vec<Bytes> = (from..from + count).map(of).collect();
            let mut request = AppendEventsRequest { epoch: "e1".into(), first_seq: from, events, ..Default::default() };
            legate_batch::sign(&mut request, &me);
            let statement = Statement::of(me.spiffe_id().unwrap().as_str(), "e1", from, &request.events);
            let attested = Attested::of(statement, &request.signature.unwrap()).unwrap();
            request.events.truncate(usize::try_from(there).unwrap());
            let signature = Some(Own::from_event(KIND, (&attested).into()));
            let events = request.events;
            Offer {
                producer: producer("registry", "e1"),
                first_seq: from,
                events,
                personal: BTreeMap::new(),
                signature,
            }
        };
        let trusts = async || {
            let mut rows = rows!(index, event);
            rows.sort_by_key(|row| row.leaf);
            let its = rows.into_iter().filter(|row| row.emitter != ME);
            its.map(|row| (row.trust, row.attested_by)).collect::<Vec<_>>()
        };
        let (attested, plain) = (i32::from(TrustClass::Attested), i32::from(TrustClass::Authenticated));
        // Two steps of the index: the signature and what is behind it are not taken in together.
        let first = log.append(signed(1, 5, 3)).await.unwrap().first_leaf.unwrap();
        let by = Some(i64::try_from(first).unwrap() - 1);
        until(&index, log.size()).await;
        assert_eq!(trusts().await, [(attested, by); 3]);
        // What a start after the end of the process tells.
        log.record(Own::new("log.recovered")).await.unwrap();
        until(&index, log.size()).await;
        assert_eq!(trusts().await, [(plain, None); 3]);
        let next = log.append(signed(4, 2, 2)).await.unwrap().first_leaf.unwrap();
        let by = Some(i64::try_from(next).unwrap() - 1);
        log.append(signed(6, 4, 2)).await.unwrap();
        log.append(signed(8, 1, 1)).await.unwrap();
        until(&index, log.size()).await;
        let found = trusts().await;
        assert_eq!(found[3..5], [(attested, by); 2]);
        assert_eq!(found[5..7], [(plain, None); 2], "another signature stands where its third event should");
        assert_eq!(found[7].0, attested);
        assert_eq!(found.len(), 8);
        is_exact(&index, &log).await;
        tasks.close().await;
        following.await.unwrap();
        index.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_filter_finds_what_looking_at_every_event_finds() {
    on_each::<Migrator>(async |fixture: Fixture| {
        let dir = tempfile::tempdir().unwrap();
        let (log, tasks) = open(dir.path()).await;
        let index = index(&fixture);
        let following = tokio::spawn(index.clone().follow(log.clone()));
        tell(&log, 1, 50).await;
        tell(&log, 51, 70).await;
        until(&index, log.size()).await;
        let events = every(&log);
        let mut found_any = 0;
        for question in questions() {
            let wanted: Vec<u64> = {
                let hits = (0u64..).zip(&events).filter(|(_, e)| answers(&question, e)).map(|(i, _)| i);
                let mut hits: Vec<u64> = hits.collect();
                hits.reverse();
                hits
            };
            found_any += usize::from(!wanted.is_empty());
            for size in [1_000, 7] {
                let found = pages((&index, log.vault()), &question, &Reach::Everywhere, size, Order::NewestFirst).await;
                assert_eq!(found, wanted, "{question:?}");
            }
            let oldest: Vec<u64> = wanted.iter().rev().copied().collect();
            let found = pages((&index, log.vault()), &question, &Reach::Everywhere, 7, Order::OldestFirst).await;
            assert_eq!(found, oldest, "{question:?}");
            // Whoever sees one namespace finds what is of it, and nothing else.
            let own: Vec<u64> = wanted
                .into_iter()
                .filter(|leaf| events[usize::try_from(*leaf).unwrap()].namespace == "payments")
                .collect();
            let sees = Reach::In([legate_ids::Name::parse("payments").unwrap()].into());
            assert_eq!(
                pages((&index, log.vault()), &question, &sees, 7, Order::NewestFirst).await,
                own,
                "{question:?}"
            );
        }
        assert!(found_any >= 40, "{found_any}");
        is_exact(&index, &log).await;
        tasks.close().await;
        // The log has ended, and the index comes to its end.
        following.await.unwrap();
        assert_eq!(*index.through().borrow(), log.size());
        index.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_fails_or_whose_answer_is_lost_doubles_and_loses_nothing() {
    on_each::<Migrator>(async |fixture: Fixture| {
        let dir = tempfile::tempdir().unwrap();
        let (log, tasks) = open(dir.path()).await;
        let index = index(&fixture);
        let following = tokio::spawn(index.clone().follow(log.clone()));
        tell(&log, 1, 10).await;
        until(&index, log.size()).await;
        for (fault, from) in [(Fault::NotPersisted, 11), (Fault::PersistedButReplyLost, 21)] {
            let db = index.db().unwrap();
            db.faults().plan("index_events", fault);
            tell(&log, from, 10).await;
            until(&index, log.size()).await;
            assert_eq!(db.faults().pending(), 0);
            is_exact(&index, &log).await;
        }
        tasks.close().await;
        following.await.unwrap();
        index.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_is_not_the_logs_is_made_again_and_one_that_is_goes_on() {
    on_each::<Migrator>(async |fixture: Fixture| {
        let dir = tempfile::tempdir().unwrap();
        let (log, tasks) = open(dir.path()).await;
        tell(&log, 1, 30).await;
        let follow = async |spoil: &str| {
            if !spoil.is_empty() {
                fixture
                    .db
                    .tx("spoil", {
                        let spoil = spoil.to_owned();
                        move |tx| {
                            let spoil = spoil.clone();
                            Box::pin(async move {
                                tx.execute_unprepared(&spoil).await.map(|_| ()).map_err(TxError::<()>::from)
                            })
                        }
                    })
                    .await
                    .unwrap();
            }
            let index = index(&fixture);
            let following = tokio::spawn(index.clone().follow(log.clone()));
            until(&index, log.size()).await;
            is_exact(&index, &log).await;
            following.abort();
            index.close().await;
        };
        follow("").await;
        tell(&log, 31, 30).await;
        follow("").await;
        follow("UPDATE index_head SET size = size - 1").await;
        follow("UPDATE index_head SET origin = 'another/log'").await;
        follow("UPDATE index_head SET size = size + 1000").await;
        follow("DELETE FROM index_head").await;
        let rows = fixture
            .db
            .read("count", |tx| Box::pin(async move { Ok::<_, TxError<()>>(event::Entity::find().count(tx).await?) }));
        assert_eq!(rows.await.unwrap(), log.size());
        tasks.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_not_there_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (log, tasks) = open(dir.path()).await;
    let url = "postgres://nobody@127.0.0.1:9/none".to_owned();
    let index = Index::new(url, ORIGIN.into(), voices(), Context::new());
    let following = tokio::spawn(index.clone().follow(log.clone()));
    tell(&log, 1, 100).await;
    assert!(index.db().is_none() && index.trouble().is_some());
    tasks.close().await;
    following.abort();
}

mod erased;
mod pieces;
mod unrecorded;
