//! Everybody in a raised suite signs what he tells, and the log in its directory shows it to whoever has the CAs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use legate_batch::{Attested, KIND};
use legate_client::reporter::{Done, LogKeys, RECEIPT_INVALID, Reporter};
use legate_clock::{SystemClock, Timestamp};
use legate_merkle::{SeedSigner, Signer as _, VerifierKey};
use legate_mtls::{CaFiles, Trust};
use legate_wire::audit::query_service_client::QueryServiceClient;
use legate_wire::audit::{IndexedEvent, QueryEventsRequest, TrustClass};

use crate::asking::{Shown, ask, at_least, question};
use crate::log::Log;
use crate::raised::{AUDIENCE, LONG, Raised, id_of};

/// The log's public key, as whoever configures a reporter gets it.
fn log_key(raised: &Raised) -> String {
    let log = raised.suite.layout().service("audit-collector").join("log");
    std::fs::read_to_string(log.join("log.pub")).unwrap()
}

fn emitter(one: &IndexedEvent) -> String {
    one.event.as_ref().unwrap().emitter.as_ref().unwrap().spiffe_id.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_tells_signs_and_the_log_alone_shows_it() {
    let raised = Raised::new().await;
    let payments = raised.payments().await;
    let issued = payments.runtime.token(AUDIENCE).await.unwrap();
    let presenter = payments.runtime.identity().x5t_s256().unwrap();
    let shown = Shown { token: issued.access_token, presenter };
    let backend = raised.dial("policy-decision", payments.backend.clone());
    ask(&backend, at_least(question(&shown, "invoice:read", "apollo/1001"), issued.revision)).await;
    let audit = raised.dial("audit-collector", payments.backend.clone());
    let spool = raised.dir.path().join("spool");
    let (backend, clock) = (&payments.backend, SystemClock::shared());
    let keys = LogKeys::parse(&log_key(&raised)).unwrap();
    let told = Reporter::open_with_receipts(&spool, 1 << 20, backend, audit, clock, keys).await.unwrap();
    told.tell(Done::new(id_of(&payments.agent), "invoice:read", "Invoice", "apollo/1001")).await.unwrap();
    assert!(told.flush(LONG).await);
    drop(told);

    let mut records = QueryServiceClient::new(raised.operator("audit-collector"));
    let wanted = ["/legate/registry", "/legate/credential-issuer", "/legate/policy-decision", "/enforcer/"];
    let begin = Instant::now();
    let signed = loop {
        let all = QueryEventsRequest { page_size: 1_000, ..QueryEventsRequest::default() };
        let events = records.query_events(all).await.unwrap().into_inner().events;
        let (own, others): (Vec<_>, Vec<_>) =
            events.into_iter().partition(|one| emitter(one).ends_with("/legate/audit-collector"));
        assert!(own.iter().all(|one| one.trust() == TrustClass::Authenticated && one.attestation.is_none()));
        assert!(own.iter().all(|one| one.event.as_ref().unwrap().r#type != KIND), "proof is no news");
        for one in &others {
            assert!(one.trust() == TrustClass::Attested && one.attestation.is_some(), "{one:?}");
        }
        let who: BTreeSet<String> = others.iter().map(emitter).collect();
        if wanted.iter().all(|part| who.iter().any(|one| one.contains(part))) {
            break others.len() as u64;
        }
        assert!(begin.elapsed() < LONG, "{who:?}");
    };
    let (audit, ca, workloads) = {
        let layout = raised.suite.layout();
        (layout.service("audit-collector").join("log"), layout.services_ca().cert, layout.workloads_ca())
    };
    let domain = raised.suite.domain().clone();
    raised.suite.shutdown().await;

    let log = Log::read(&audit);
    let trust = Trust::open(domain, CaFiles { services: ca, workloads: Some(workloads), operators: None }).unwrap();
    let mut by: BTreeMap<String, u64> = BTreeMap::new();
    for (at, event) in log.events.iter().enumerate().filter(|(_, event)| event.r#type == KIND) {
        let attested = Attested::try_from(event).unwrap();
        attested.verify().unwrap();
        let time = Timestamp::try_from(event.time.unwrap()).unwrap();
        assert_eq!(trust.vouches_for(attested.chain(), time).unwrap().as_str(), attested.statement.emitter);
        let count = attested.statement.count as usize;
        let its = &log.events[at + 1..=at + count];
        assert!(its.iter().all(|one| one.emitter.as_ref().unwrap().spiffe_id == attested.statement.emitter));
        *by.entry(attested.statement.emitter.clone()).or_default() += attested.statement.count as u64;
    }
    assert!(by.values().sum::<u64>() >= signed, "{by:?}");
    let told = log.events.iter().filter(|one| !one.emitter.as_ref().unwrap().spiffe_id.ends_with("audit-collector"));
    assert_eq!(by.values().sum::<u64>(), told.count() as u64, "nothing of theirs is not signed");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_leaves_a_reporters_disk_on_a_word_that_it_cannot_verify() {
    let raised = Raised::new().await;
    let payments = raised.payments().await;
    let spool = raised.dir.path().join("spool");
    let open = async |keys: &str| {
        let audit = raised.dial("audit-collector", payments.backend.clone());
        let (keys, clock) = (LogKeys::parse(keys).unwrap(), SystemClock::shared());
        Reporter::open_with_receipts(&spool, 1 << 20, &payments.backend, audit, clock, keys).await.unwrap()
    };
    let own = log_key(&raised);
    let name = VerifierKey::parse(own.trim_end()).unwrap().name().to_owned();
    let stranger = SeedSigner::new(&name, &[9; 32]).unwrap().verifier().to_string();
    // The log took it, and its receipt is not by the key that was given.
    let told = open(&stranger).await;
    told.tell(Done::new(id_of(&payments.agent), "invoice:read", "Invoice", "apollo/1001")).await.unwrap();
    let mut state = told.state();
    let doubtful = state.wait_for(|state| state.refused == RECEIPT_INVALID);
    assert_eq!(tokio::time::timeout(LONG, doubtful).await.unwrap().unwrap().waiting, 1);
    drop((state, told));
    // Whoever has the right one lets go of it; it is in the log once.
    let told = open(&format!("{stranger}\n{own}")).await;
    assert!(told.flush(LONG).await);
    drop(told);
    let mut records = QueryServiceClient::new(raised.operator("audit-collector"));
    let size = records.query_events(QueryEventsRequest::default()).await.unwrap().into_inner().log_size;
    let kind = "action.executed".to_owned();
    let executed = QueryEventsRequest { r#type: kind, indexed_at_least: size, ..QueryEventsRequest::default() };
    assert_eq!(records.query_events(executed).await.unwrap().into_inner().events.len(), 1);
    raised.suite.shutdown().await;
}
