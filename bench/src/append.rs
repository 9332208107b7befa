//! Audit events a second, acknowledged over mutual TLS, against the bare group-commit loop on the same disk.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use legate::dev::{Options, Suite};
use legate_clock::{Clock, SystemClock};
use legate_journal::{Durability, Journal};
use legate_mtls::Identity;
use legate_wire::audit as wire;
use prost::Message;
use wire::ingest_service_client::IngestServiceClient;

use crate::load::{self, Seen, count};
use crate::{Failed, Plan};

/// Events in one request, and how many such requests of an emitter are made ready for each second.
const SIZES: [(usize, u64); 3] = [(1, 4_000), (32, 600), (512, 80)];
/// Emitters that send at once, each with one request in flight.
const EMITTERS: usize = 4;

/// An event such as a decision leaves.
fn event(emitter: &str, epoch: &str, seq: u64) -> Bytes {
    let id = legate_ids::EventId::from_parts(seq, [1; 10]);
    let event = wire::AuditEvent {
        event_id: id.to_string(),
        emitter: Some(wire::Emitter { spiffe_id: emitter.into(), epoch: epoch.into(), seq }),
        time: Some(SystemClock::new().now().into()),
        r#type: "decision.made".into(),
        namespace: "payments".into(),
        actor: "spiffe://dev.legate/ns/payments/enforcer/invoices".into(),
        agent_id: "agt_01jc3x7k8fe9a9s2m0v6q4t8zz".into(),
        acting_mode: wire::ActingMode::Autonomous.into(),
        action: "invoice:read".into(),
        resource: Some(wire::EventResource {
            r#type: "Invoice".into(),
            id: format!("apollo/{seq}"),
            ..wire::EventResource::default()
        }),
        outcome: wire::Outcome::Success.into(),
        reason_code: "ALLOWED".into(),
        reason: "allowed: payments/invoice-bot-reads-apollo@1: gives invoice:read on Invoice apollo/*".into(),
        decision: Some(wire::EventDecision {
            decision_id: "dec_01jc3x7k8fe9a9s2m0v6q4t8zz".into(),
            allowed: true,
            determining: vec!["binding:payments/reads@1".into(), "policy:payments/agents-in-production@1".into()],
            ..wire::EventDecision::default()
        }),
        revision: 7,
        trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".into(),
        span_id: "00f067aa0ba902b7".into(),
        ..wire::AuditEvent::default()
    };
    event.encode_to_vec().into()
}

/// The disk's own loop: the same batches, appended and synced in groups.
async fn bare(dir: &Path, plan: Plan, (batch, size): (usize, usize)) -> Result<Seen, Failed> {
    let (journal, _) = Journal::open(dir, legate_journal::Options::default())?;
    let batch: Vec<Vec<u8>> = (0..batch).map(|_| vec![7; size]).collect();
    let seen = load::run(vec![journal.clone(); EMITTERS], plan.time, move |journal| {
        let batch = batch.clone();
        async move {
            journal.append(batch, Durability::Synced).await?;
            Ok(journal)
        }
    })
    .await;
    drop(journal);
    seen
}

/// One that tells: it encoded its events long before they are sent.
#[derive(Clone)]
struct Emitter {
    batch: usize,
    client: IngestServiceClient<legate_rpc::Client>,
    ready: Arc<Vec<wire::AppendEventsRequest>>,
    next: Arc<AtomicUsize>,
}

impl Emitter {
    /// With so many requests of so many events. Where `signer` is there, it signed each request when it was made.
    fn new(
        client: legate_rpc::Client,
        (id, epoch): (&str, &str),
        (batch, ready): (usize, u64),
        signer: Option<&Identity>,
    ) -> Self {
        let request = |n: u64| {
            let first_seq = n * batch as u64 + 1;
            let events = (first_seq..first_seq + batch as u64).map(|seq| event(id, epoch, seq)).collect();
            let mut request =
                wire::AppendEventsRequest { epoch: epoch.to_owned(), first_seq, events, ..Default::default() };
            if let Some(signer) = signer {
                legate_batch::sign(&mut request, signer);
            }
            request
        };
        Self {
            batch,
            client: IngestServiceClient::new(client).max_encoding_message_size(4 << 20),
            ready: Arc::new((0..ready).map(request).collect()),
            next: Arc::new(AtomicUsize::new(0)),
        }
    }
}

async fn send(emitter: Emitter) -> Result<Emitter, Failed> {
    let Some(request) = emitter.ready.get(emitter.next.fetch_add(1, Ordering::SeqCst)) else {
        return Err("more was taken than was ready; measure for a shorter time (--seconds)".into());
    };
    let mut client = emitter.client.clone();
    let answer = client.append_events(request.clone()).await?.into_inner();
    if answer.appended as usize != emitter.batch {
        return Err(format!("{} of {} were appended", answer.appended, emitter.batch).into());
    }
    Ok(emitter)
}

/// What a signature costs whoever makes it: the hashes of a batch, and one signature.
fn signing(id: &str, identity: &Identity) {
    let events: Vec<Bytes> = (1..=512).map(|seq| event(id, "e", seq)).collect();
    for (events, what) in [(&events[..], "signing a batch of 512 events"), (&events[..1], "signing one event")] {
        let mut request = wire::AppendEventsRequest {
            epoch: "e".to_owned(),
            first_seq: 1,
            events: events.to_vec(),
            ..Default::default()
        };
        let started = Instant::now();
        let times = 200u32;
        (0..times).for_each(|_| legate_batch::sign(&mut request, identity));
        println!("  {what:<58} {:>9.0} us", (started.elapsed() / times).as_secs_f64() * 1e6);
    }
}

/// Measures, and prints.
pub(crate) async fn measure(plan: Plan) -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let suite = Box::pin(Suite::start(&Options::in_dir(&dir.path().join("suite")))).await?;
    // The registry's own certificate: only services may emit.
    let files = suite.layout().tls("registry");
    let identity = Identity::from_files(&files.cert, &files.key)?;
    let id = format!("spiffe://{}/legate/registry", suite.domain());
    let size = event(&id, "e", 1).len();
    println!("\nappend: {EMITTERS} emitters, events of {size} bytes, one request of each in flight");
    signing(&id, &identity);
    for (batch, a_second) in SIZES {
        let (mut floors, mut subjects, mut signed) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..plan.rounds {
            floors.push(bare(&dir.path().join(format!("bare-{batch}-{round}")), plan, (batch, size)).await?);
            for (to, signer) in [(&mut subjects, None), (&mut signed, Some(&identity))] {
                let mut emitters = Vec::new();
                for n in 0..EMITTERS {
                    let client = suite.remote("audit-collector")?.dial(identity.clone())?;
                    let epoch = format!("bench-{batch}-{round}-{n}-{}", signer.is_some());
                    let ready = (batch, a_second * plan.time.as_secs().max(1));
                    emitters.push(Emitter::new(client, (&id, &epoch), ready, signer));
                }
                let start = Instant::now();
                to.push(load::run(emitters, plan.time, send).await?);
                // The index and the tiles catch up before the next round begins.
                tokio::time::sleep(start.elapsed().min(Duration::from_secs(2))).await;
            }
        }
        println!("  {batch} events a request");
        let floor = tell("  group commit on the same disk (floor)", &floors, batch);
        let subject = tell("  AppendEvents over mutual TLS, acknowledged", &subjects, batch);
        let with = tell("  the same, each request signed by its emitter", &signed, batch);
        load::tell("  AppendEvents / floor", subject / floor, Some(0.5));
        load::tell("  signed / not signed", with / subject, None);
    }
    suite.shutdown().await;
    Ok(())
}

/// A line of the report: events a second, which it gives back, and how long until they are acknowledged, in the middle one of several runs.
fn tell(what: &str, all: &[Seen], batch: usize) -> f64 {
    let Some(seen) = load::middle(all) else { return 0.0 };
    let (rate, ms) = (seen.rate() * count(batch), |of| seen.percentile(of).as_secs_f64() * 1e3);
    println!("  {what:<58} {rate:>9.0} events/s   p50 {:>8.3} ms   p99 {:>8.3} ms", ms(50), ms(99));
    rate
}
