//! The service as it is started, over real mutual TLS: appends, answers, proves, publishes, and comes back whole.

use crate::house::{EPOCH, House, copy_log, probe, send};
use legate_merkle::{Hash, leaf_hash, verify_consistency, verify_inclusion};
use legate_rpc::Told;
use legate_wire::audit as wire;
use prost::Message as _;

fn hashes(all: &[Vec<u8>]) -> Vec<Hash> {
    all.iter().map(|h| h.as_slice().try_into().unwrap()).collect()
}

fn hash(bytes: &[u8]) -> Hash {
    bytes.try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_answers_proves_and_leaves_a_log_that_anybody_can_check() {
    let house = House::build();
    let running = house.raise().await;
    let mut registry = house.ingest(&running, &house.service("registry"));
    let mut operator = house.query(&running, &house.operator("alice"));
    let mut prover = house.proof(&running, &house.operator("alice"));

    let told = house.append(&mut registry, 1, 300).await.unwrap();
    assert_eq!((told.acked_seq, told.appended), (300, 300));
    let first = told.first_leaf_index.unwrap();
    let again = house.append(&mut registry, 295, 10).await.unwrap();
    assert_eq!((again.acked_seq, again.appended, again.first_leaf_index), (304, 4, Some(first + 300)));

    let ask = wire::QueryEventsRequest {
        agent_id: "agt_2".into(),
        indexed_at_least: first + 304,
        page_size: 60,
        ..wire::QueryEventsRequest::default()
    };
    let mut seen = Vec::new();
    let mut page = operator.query_events(ask.clone()).await.unwrap().into_inner();
    assert!(page.indexed_through >= first + 304 && page.log_size >= page.indexed_through);
    loop {
        seen.extend(page.events);
        if page.next_page_token.is_empty() {
            break;
        }
        let next = wire::QueryEventsRequest { page_token: page.next_page_token, ..ask.clone() };
        page = operator.query_events(next).await.unwrap().into_inner();
    }
    let seqs: Vec<u64> = seen.iter().map(|e| e.event.as_ref().unwrap().emitter.as_ref().unwrap().seq).collect();
    let wanted: Vec<u64> = (1..=304).filter(|seq| seq % 3 == 2).rev().collect();
    assert_eq!(seqs, wanted);
    assert!(seen.iter().all(|e| e.trust() == wire::TrustClass::Authenticated));

    let newest = prover.get_checkpoint(wire::GetCheckpointRequest::default()).await.unwrap().into_inner();
    assert_eq!(newest.verifier_key, house.verifier_key().to_string());
    let checkpoint = house.open_note(&newest.checkpoint);
    assert_eq!(checkpoint.size, newest.tree_size);
    let one = &seen[7];
    let ask = wire::ProveInclusionRequest {
        leaf_index: one.leaf_index,
        tree_size: newest.tree_size,
        with_cose_receipt: false,
    };
    let proved = prover.prove_inclusion(ask).await.unwrap().into_inner();
    assert_eq!(leaf_hash(&proved.leaf).to_vec(), one.leaf_hash);
    assert_eq!(wire::AuditEvent::decode(proved.leaf.as_slice()).unwrap(), one.event.clone().unwrap());
    let leaf = hash(&one.leaf_hash);
    verify_inclusion(one.leaf_index, checkpoint.size, &leaf, &hashes(&proved.proof), &checkpoint.root).unwrap();

    house.append(&mut registry, 305, 50).await.unwrap();
    let later = prover.prove_consistency(wire::ProveConsistencyRequest { first_size: checkpoint.size, second_size: 0 });
    let later = later.await.unwrap().into_inner();
    assert_eq!(hash(&later.first_root_hash), checkpoint.root);
    let roots = (checkpoint.root, hash(&later.second_root_hash));
    verify_consistency(checkpoint.size, later.second_size, &roots.0, &roots.1, &hashes(&later.proof)).unwrap();

    running.shutdown().await;
    let report = house.audit(Some(&checkpoint)).unwrap();
    assert_eq!(report.continues, Some(checkpoint.size));

    // What was read, and by whom, is on record as well; and the next run goes on where this one ended.
    let running = house.raise().await;
    let mut registry = house.ingest(&running, &house.service("registry"));
    assert_eq!(house.append(&mut registry, 350, 10).await.unwrap().appended, 5);
    let mut operator = house.query(&running, &house.operator("bob"));
    let ask = |kind: &str, at_least| wire::QueryEventsRequest {
        r#type: kind.into(),
        indexed_at_least: at_least,
        ..wire::QueryEventsRequest::default()
    };
    let page = operator.query_events(ask("log.*", report.entries + 5)).await.unwrap().into_inner();
    let kinds: Vec<&str> = page.events.iter().rev().map(|e| e.event.as_ref().unwrap().r#type.as_str()).collect();
    assert_eq!((kinds.first(), kinds.last()), (Some(&"log.opened"), Some(&"log.opened")));
    assert_eq!(kinds.iter().filter(|k| **k == "log.queried").count(), 2);
    assert_eq!(kinds.iter().filter(|k| **k == "log.proved").count(), 1);
    assert_eq!(kinds.iter().filter(|k| **k == "log.closed").count(), 1);
    let queried = page.events.iter().map(|e| e.event.as_ref().unwrap()).find(|e| e.r#type == "log.queried").unwrap();
    assert!(queried.actor.ends_with("/operator/alice"));
    assert_eq!(queried.details["asked.agent_id"], "agt_2");
    running.shutdown().await;
    house.audit(Some(&checkpoint)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_killed_comes_back_with_everything_it_acknowledged() {
    let house = House::build();
    let running = house.raise().await;
    let mut registry = house.ingest(&running, &house.service("registry"));
    let mut writers = Vec::new();
    for name in ["credential-issuer", "policy-decision"] {
        let mut to = house.ingest(&running, &house.service(name));
        let mut event = house.event(0);
        event.emitter.as_mut().unwrap().spiffe_id = house.service_id(name);
        writers.push(tokio::spawn(async move {
            for seq in 1..200 {
                event.emitter.as_mut().unwrap().seq = seq;
                send(&mut to, EPOCH, seq, vec![event.encode_to_vec().into()]).await.unwrap();
            }
        }));
    }
    let acked = house.append(&mut registry, 1, 500).await.unwrap().acked_seq;
    // The others go on meanwhile: the copy is what a kill at some moment leaves.
    let mut killed = house.config();
    killed.dir = house.log_dir().with_file_name("killed");
    copy_log(&house.log_dir(), &killed.dir);
    killed.personal.dir = house.names_dir().with_file_name("killed-names");
    copy_log(&house.names_dir(), &killed.personal.dir);
    for writer in writers {
        writer.await.unwrap();
    }
    running.shutdown().await;

    let running = house.raise_with(killed).await;
    let mut registry = house.ingest(&running, &house.service("registry"));
    let told = house.append(&mut registry, 1, acked).await.unwrap();
    assert_eq!((told.acked_seq, told.appended), (acked, 0));
    let mut operator = house.query(&running, &house.operator("alice"));
    let ask = |indexed_at_least| wire::QueryEventsRequest {
        r#type: "log.recovered".into(),
        indexed_at_least,
        ..wire::QueryEventsRequest::default()
    };
    // How far the copied log goes nobody knows; that it was recovered is in it before anybody is served.
    let size = operator.query_events(ask(1)).await.unwrap().into_inner().log_size;
    let page = operator.query_events(ask(size)).await.unwrap().into_inner();
    assert_eq!(page.events.len(), 1);
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_the_log_over_https_and_nothing_beside_it() {
    let house = House::build();
    let running = house.raise().await;
    let web = running.web_addr().unwrap();
    let mut registry = house.ingest(&running, &house.service("registry"));
    let mut operator = house.query(&running, &house.operator("alice"));
    house.append(&mut registry, 1, 300).await.unwrap();
    let ask = wire::QueryEventsRequest { indexed_at_least: 300, ..wire::QueryEventsRequest::default() };
    operator.query_events(ask).await.unwrap();

    let (status, headers, body) = house.fetch(web, "GET", "/checkpoint").await;
    assert_eq!((status, &headers["content-type"]), (200, &"text/plain; charset=utf-8".parse().unwrap()));
    assert_eq!(headers["cache-control"], "no-cache");
    let checkpoint = house.open_note(std::str::from_utf8(&body).unwrap());
    assert!(checkpoint.size >= 300);

    for tile in legate_merkle::new_tiles(0, checkpoint.size) {
        let (status, headers, body) = house.fetch(web, "GET", &format!("/{tile}")).await;
        assert_eq!((status, &headers["content-type"]), (200, &"application/octet-stream".parse().unwrap()), "{tile}");
        assert!(headers["cache-control"].to_str().unwrap().contains("immutable"));
        let there = std::fs::read(house.log_dir().join(tile.to_string())).unwrap();
        assert_eq!(body, there, "{tile}");
    }
    let (status, _, body) = house.fetch(web, "HEAD", "/tile/0/000").await;
    assert_eq!((status, body.len()), (200, 0));
    for path in [
        "/",
        "/log.key",
        "/checkpoint?",
        "/checkpoint?x=1",
        "/checkpoint/",
        "//checkpoint",
        "/tile/0/000/",
        "/tile/0/0",
        "/tile/0/../0/000",
        "/tile/../log.key",
        "/tile/0/%30%30%30",
        "/tile/0/000%2e",
        "/tile/entries/x000/000",
        "/tile/8/000",
        "/tile/0/999",
        "/tile/0/001.p/255",
        "/segments/00000000000000000000.seg",
    ] {
        assert_eq!(house.fetch(web, "GET", path).await.0, 404, "{path}");
    }
    assert_eq!(house.fetch(web, "POST", "/checkpoint").await.0, 405);
    running.shutdown().await;

    // Where not everybody may read everything, hashes are served and entries are not.
    let mut config = house.config();
    config.web_entries = false;
    let running = house.raise_with(config).await;
    let web = running.web_addr().unwrap();
    assert_eq!(house.fetch(web, "GET", "/tile/0/000").await.0, 200);
    let (status, _, body) = house.fetch(web, "GET", "/tile/entries/000").await;
    assert_eq!(status, 403);
    assert!(std::str::from_utf8(&body).unwrap().contains("QueryEvents"));
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_index_holds_up_neither_appends_nor_proofs() {
    let house = House::build();
    let mut config = house.config();
    config.database = Some("postgres://nobody@127.0.0.1:9/none".into());
    let running = house.try_raise(config).await.unwrap();
    let mut registry = house.ingest(&running, &house.service("registry"));
    house.append(&mut registry, 1, 100).await.unwrap();
    let mut operator = house.query(&running, &house.operator("alice"));
    let refused = operator.query_events(wire::QueryEventsRequest::default()).await.unwrap_err();
    let told = Told::from_status(&refused);
    assert_eq!((told.code, told.reason.as_str()), (tonic::Code::Unavailable, "AUDIT_INDEX_UNAVAILABLE"));
    assert!(told.retry_after.is_some());
    let mut prover = house.proof(&running, &house.operator("alice"));
    let mut newest = 0;
    while newest < 100 {
        newest = prover.get_checkpoint(wire::GetCheckpointRequest::default()).await.unwrap().into_inner().tree_size;
    }
    prover
        .prove_inclusion(wire::ProveInclusionRequest { leaf_index: 50, tree_size: 0, with_cose_receipt: false })
        .await
        .unwrap();
    let ready = probe(&running, "/readyz").await;
    assert!(ready.contains("ok      log\n") && ready.contains("not ok  index"), "{ready}");
    running.shutdown().await;
    house.audit(None).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tells_how_it_is() {
    let house = House::build();
    let running = house.raise().await;
    let mut registry = house.ingest(&running, &house.service("registry"));
    house.append(&mut registry, 1, 20).await.unwrap();
    house.append(&mut registry, 1, 20).await.unwrap();
    house.append(&mut registry, 30, 1).await.unwrap_err();
    let mut operator = house.query(&running, &house.operator("alice"));
    let ask = wire::QueryEventsRequest { indexed_at_least: 20, ..wire::QueryEventsRequest::default() };
    operator.query_events(ask).await.unwrap();
    let ready = probe(&running, "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    let metrics = probe(&running, "/metrics").await;
    for line in [
        "legate_audit_offers_total{reason=\"\"} 2",
        "legate_audit_offers_total{reason=\"AUDIT_SEQUENCE_GAP\"} 1",
        "legate_audit_stopped 0",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_to_start_over_what_is_not_its_own() {
    let house = House::build();
    let mut config = house.config();
    config.log.checkpoint_ms = 5_000;
    assert!(house.try_raise(config).await.unwrap_err().to_string().contains("checkpoint_ms"));

    let refused = house.try_raise(house.config_as("registry")).await.unwrap_err().to_string();
    assert!(refused.contains("legate/registry"), "{refused}");

    let running = house.raise().await;
    let refused = house.try_raise(house.config()).await.unwrap_err().to_string();
    assert!(refused.contains("another audit-collector"), "{refused}");
    running.shutdown().await;

    std::fs::remove_dir_all(house.log_dir().join("segments")).unwrap();
    let refused = house.try_raise(house.config()).await.unwrap_err().to_string();
    assert!(refused.contains("the log is cut"), "{refused}");
}
