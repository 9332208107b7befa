//! A person is erased: no byte of the name is left, every proof holds, and what is held is not erased.

use std::path::Path;

use crate::house::{EPOCH, House};
use legate_audit_collector::{Config, RetentionRule};
use legate_boot::Running;
use legate_personal::Split;
use legate_rpc::{Client, Code, Told};
use legate_wire::audit as wire;
use legate_wire::audit::custody_service_client::CustodyServiceClient;
use legate_wire::audit::ingest_service_client::IngestServiceClient;
use prost::Message as _;

const ADA: &str = "user:ada.lovelace@example.com";
const GRACE: &str = "user:grace.hopper@example.com";

/// The registry, which says what operators may do and tells events that name persons.
struct Registry<'h> {
    house: &'h House,
    line: IngestServiceClient<Client>,
    seq: u64,
}

impl<'h> Registry<'h> {
    async fn of(house: &'h House, running: &Running) -> Self {
        let line = house.ingest(running, &house.service("registry"));
        let mut registry = Self { house, line, seq: 0 };
        let role = |name: &str, namespace: &str, role: &str| wire::AuditEvent {
            r#type: "operator_binding.stated".into(),
            namespace: namespace.into(),
            resource: Some(wire::EventResource { id: name.into(), ..Default::default() }),
            details: [("operators".to_owned(), name.to_owned()), ("role".to_owned(), role.to_owned())].into(),
            ..Default::default()
        };
        let stated = wire::AuditEvent { r#type: "operators.stated".into(), ..Default::default() };
        registry.tell(stated).await;
        for (name, namespace, of) in [
            ("root", "", "ADMIN"),
            ("vera", "payments", "ADMIN"),
            ("viewer", "", "VIEWER"),
            ("sally", "sales", "VIEWER"),
        ] {
            registry.tell(role(name, namespace, of)).await;
        }
        registry
    }

    fn request(&mut self, event: wire::AuditEvent) -> wire::AppendEventsRequest {
        let base = self.house.event(self.seq + 1);
        let event = wire::AuditEvent { event_id: base.event_id, emitter: base.emitter, time: base.time, ..event };
        let Split { event, parts } = legate_personal::split(event, || [self.seq.to_le_bytes()[0]; 32]);
        let personal = vec![wire::EventPersonal { event: 0, parts }];
        wire::AppendEventsRequest {
            epoch: EPOCH.into(),
            first_seq: self.seq + 1,
            events: vec![event.encode_to_vec().into()],
            personal: personal.into_iter().filter(|one| !one.parts.is_empty()).collect(),
            signature: None,
        }
    }

    /// Where the event went.
    async fn tell(&mut self, event: wire::AuditEvent) -> u64 {
        let request = self.request(event);
        let answer = self.line.append_events(request).await.unwrap().into_inner();
        self.seq += 1;
        answer.first_leaf_index.unwrap()
    }

    async fn decided(&mut self, namespace: &str, subject: &str) -> u64 {
        let chain = vec!["agt_1".to_owned(), subject.to_owned()];
        self.tell(wire::AuditEvent {
            r#type: "decision.made".into(),
            namespace: namespace.into(),
            agent_id: "agt_1".into(),
            subject: subject.into(),
            chain,
            reason: format!("asked for {subject}."),
            outcome: wire::Outcome::Success.into(),
            ..Default::default()
        })
        .await
    }
}

fn erase(subject: &str, validate_only: bool) -> wire::EraseSubjectRequest {
    wire::EraseSubjectRequest { subject: subject.into(), validate_only, reason: "TICKET-1".into() }
}

fn of(subject: &str) -> wire::QueryEventsRequest {
    wire::QueryEventsRequest { subject: subject.into(), ..Default::default() }
}

/// Every file under a directory that holds a text.
fn holding(dir: &Path, text: &str, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        match path.is_dir() {
            true => holding(&path, text, found),
            false => {
                let bytes = std::fs::read(&path).unwrap();
                if bytes.windows(text.len()).any(|w| w == text.as_bytes()) {
                    found.push(path.display().to_string());
                }
            }
        }
    }
}

async fn refused(to: &mut CustodyServiceClient<Client>, ask: wire::EraseSubjectRequest) -> String {
    Told::from_status(&to.erase_subject(ask).await.unwrap_err()).reason
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_erased_and_every_proof_holds() {
    let house = House::build();
    let running = house.raise().await;
    let mut registry = Registry::of(&house, &running).await;
    let mut leaves = Vec::new();
    for _ in 0..3 {
        leaves.push(registry.decided("payments", ADA).await);
        leaves.push(registry.decided("sales", GRACE).await);
    }
    let through = leaves.last().unwrap() + 1;
    let mut reader = house.query(&running, &house.operator("alice"));
    let known = wire::QueryEventsRequest { indexed_at_least: through, with_proofs: true, ..of(ADA) };
    let page = reader.query_events(known).await.unwrap().into_inner();
    assert_eq!(page.events.len(), 3);
    for one in &page.events {
        let event = one.event.as_ref().unwrap();
        assert_eq!((event.subject.as_str(), event.chain[1].as_str()), (ADA, ADA));
        assert_eq!(event.reason, format!("asked for {ADA}."));
        // The leaf names nobody, and commits to the name that is shown.
        let leaf = wire::AuditEvent::decode(one.leaf.as_slice()).unwrap();
        assert_eq!(leaf.subject, "user:#1");
        legate_personal::check(&leaf, &one.personal, false).unwrap();
        assert_eq!(&legate_personal::shown(leaf, &one.personal), event);
    }
    // Rights are as ever: who reads sales reads nothing of payments, by whatever name.
    let mut sally = house.query(&running, &house.operator("sally"));
    assert!(sally.query_events(of(ADA)).await.unwrap().into_inner().events.is_empty());
    assert_eq!(sally.query_events(of(GRACE)).await.unwrap().into_inner().events.len(), 3);
    let usage = wire::ListUsageRequest::default();
    let used = reader.list_usage(usage.clone()).await.unwrap().into_inner().usage;
    let mut subjects: Vec<&str> = used.iter().map(|row| row.subject.as_str()).collect();
    subjects.sort_unstable();
    assert_eq!(subjects, [ADA, GRACE]);

    // Who does not administer everything erases nothing, and learns nothing.
    for who in ["vera", "viewer", "sally", "alice"] {
        let mut other = house.custody(&running, &house.operator(who));
        assert_eq!(refused(&mut other, erase(ADA, true)).await, "OPERATOR_NOT_PERMITTED", "{who}");
        let told = Told::from_status(&other.list_holds(wire::ListHoldsRequest {}).await.unwrap_err());
        assert_eq!(told.reason, "OPERATOR_NOT_PERMITTED", "{who}");
    }
    let mut service = house.custody(&running, &house.service("policy-decision"));
    assert_eq!(
        Told::from_status(&service.erase_subject(erase(ADA, true)).await.unwrap_err()).code,
        Code::PermissionDenied
    );
    let mut root = house.custody(&running, &house.operator("root"));
    for (bad, why) in [("agt_1", ""), ("group:pay", ""), ("", ""), ("user:a b", "")] {
        assert_eq!(refused(&mut root, erase(bad, false)).await, "INVALID_ARGUMENT", "{bad}{why}");
    }
    let naming = wire::EraseSubjectRequest { reason: format!("as {ADA} asked"), ..erase(ADA, false) };
    assert_eq!(refused(&mut root, naming).await, "INVALID_ARGUMENT");

    let preview = root.erase_subject(erase(ADA, true)).await.unwrap().into_inner();
    // The questions about her name her too.
    assert!(preview.events > 3, "{preview:?}");
    assert_eq!((preview.keys, preview.leaf_index), (1, None));
    let kept = house.open_note(&std::fs::read_to_string(house.log_dir().join("checkpoint")).unwrap());
    let done = root.erase_subject(erase(ADA, false)).await.unwrap().into_inner();
    assert_eq!((done.events, done.keys), (preview.events, 1));
    assert!(done.leaf_index.is_some());
    let again = root.erase_subject(erase(ADA, false)).await.unwrap().into_inner();
    assert_eq!((again.events, again.keys, again.leaf_index), (0, 0, None), "it is done once");

    // What was there is there, without the name; the other person's is untouched.
    assert!(reader.query_events(of(ADA)).await.unwrap().into_inner().events.is_empty());
    let gone = wire::QueryEventsRequest { with_proofs: true, ..of("erased") };
    let gone = reader.query_events(gone).await.unwrap().into_inner().events;
    assert_eq!(gone.len(), 3);
    for one in &gone {
        let event = one.event.as_ref().unwrap();
        assert_eq!((event.subject.as_str(), event.reason.as_str()), ("erased", "asked for erased."));
        let leaf = wire::AuditEvent::decode(one.leaf.as_slice()).unwrap();
        legate_personal::check(&leaf, &one.personal, true).unwrap();
        assert!(leaves.contains(&one.leaf_index));
    }
    assert_eq!(reader.query_events(of(GRACE)).await.unwrap().into_inner().events.len(), 3);
    let used = reader.list_usage(usage).await.unwrap().into_inner().usage;
    let mut subjects: Vec<(&str, u64)> = used.iter().map(|row| (row.subject.as_str(), row.count)).collect();
    subjects.sort_unstable();
    assert_eq!(subjects, [("erased", 3), (GRACE, 3)]);
    let mut prover = house.proof(&running, &house.operator("alice"));
    for leaf_index in &leaves {
        let ask = wire::ProveInclusionRequest { leaf_index: *leaf_index, tree_size: 0, with_cose_receipt: false };
        let proved = prover.prove_inclusion(ask).await.unwrap().into_inner();
        let proof: Vec<[u8; 32]> = proved.proof.iter().map(|h| h.as_slice().try_into().unwrap()).collect();
        let signed = house.open_note(&proved.checkpoint);
        let leaf = legate_merkle::leaf_hash(&proved.leaf);
        legate_merkle::verify_inclusion(*leaf_index, signed.size, &leaf, &proof, &signed.root).unwrap();
        let event = wire::AuditEvent::decode(proved.leaf.as_slice()).unwrap();
        legate_personal::check(&event, &proved.personal, true).unwrap();
    }

    // Whom a later event names is found by it again, and by nothing from before.
    let later = registry.decided("payments", ADA).await;
    let known = wire::QueryEventsRequest { indexed_at_least: later + 1, ..of(ADA) };
    let found = reader.query_events(known).await.unwrap().into_inner().events;
    assert_eq!(found.iter().map(|one| one.leaf_index).collect::<Vec<_>>(), [later]);
    root.erase_subject(erase(ADA, false)).await.unwrap();
    // Who looks for the name by itself does not write it down either.
    let looked = wire::QueryEventsRequest { text: "lovelace".into(), ..Default::default() };
    assert!(reader.query_events(looked).await.unwrap().into_inner().events.is_empty());
    running.shutdown().await;

    // No byte of the name is left in any file, of the other's neither: names rest sealed. The log verifies, and continues what was kept.
    for text in ["lovelace", "hopper"] {
        let mut found = Vec::new();
        holding(house.log_dir().parent().unwrap(), text, &mut found);
        assert!(found.is_empty(), "{text} in {found:?}");
    }
    house.audit(Some(&kept)).unwrap();

    // The index is made again from the log, and says the same.
    for entry in std::fs::read_dir(house.log_dir()).unwrap().map(Result::unwrap) {
        if entry.file_name().to_string_lossy().starts_with("index.db") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    let running = house.raise().await;
    let mut reader = house.query(&running, &house.operator("alice"));
    let ask = |subject: &str| wire::QueryEventsRequest { indexed_at_least: later + 2, ..of(subject) };
    assert!(reader.query_events(ask(ADA)).await.unwrap().into_inner().events.is_empty());
    assert_eq!(reader.query_events(ask("erased")).await.unwrap().into_inner().events.len(), 4);
    assert_eq!(reader.query_events(ask(GRACE)).await.unwrap().into_inner().events.len(), 3);
    running.shutdown().await;
    house.audit(Some(&kept)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_is_not_erased_and_names_that_are_not_the_events_are_refused() {
    let house = House::build();
    let running = house.raise().await;
    let mut registry = Registry::of(&house, &running).await;
    registry.decided("payments", ADA).await;
    let through = registry.decided("sales", GRACE).await + 1;
    // Who has which role is known once the index is so far.
    let known = wire::QueryEventsRequest { indexed_at_least: through, ..of(GRACE) };
    house.query(&running, &house.operator("alice")).query_events(known).await.unwrap();
    let mut root = house.custody(&running, &house.operator("root"));
    let hold = |hold: wire::Hold| wire::CreateHoldRequest { hold: Some(wire::Hold { reason: "LIT-7".into(), ..hold }) };
    for bad in [
        wire::Hold::default(),
        wire::Hold { subject: "agt_1".into(), ..Default::default() },
        wire::Hold { namespace: "No Name".into(), ..Default::default() },
        wire::Hold { agent_id: "agt_1".into(), ..Default::default() },
        wire::Hold { id: "mine".into(), subject: ADA.into(), ..Default::default() },
    ] {
        let told = Told::from_status(&root.create_hold(hold(bad.clone())).await.unwrap_err());
        assert_eq!(told.reason, "INVALID_ARGUMENT", "{bad:?}");
    }
    let on_ada = wire::Hold { subject: ADA.into(), ..Default::default() };
    let on_payments = wire::Hold { namespace: "payments".into(), ..Default::default() };
    for held in [on_ada, on_payments] {
        let set = root.create_hold(hold(held.clone())).await.unwrap().into_inner().hold.unwrap();
        let all = root.list_holds(wire::ListHoldsRequest {}).await.unwrap().into_inner().holds;
        assert_eq!((all.len(), &all[0].id, &all[0].subject), (1, &set.id, &held.subject));
        assert_eq!((all[0].reason.as_str(), all[0].actor.ends_with("/operator/root")), ("LIT-7", true));
        assert_eq!(refused(&mut root, erase(ADA, false)).await, "AUDIT_ON_HOLD");
        let preview = root.erase_subject(erase(ADA, true)).await.unwrap().into_inner();
        assert_eq!(preview.holds, std::slice::from_ref(&set.id));
        // Another's names are not held by it.
        assert!(root.erase_subject(erase(GRACE, true)).await.unwrap().into_inner().holds.is_empty());
        let release = wire::ReleaseHoldRequest { id: set.id, reason: "LIT-7 is over".into() };
        root.release_hold(release.clone()).await.unwrap();
        assert_eq!(Told::from_status(&root.release_hold(release).await.unwrap_err()).reason, "AUDIT_HOLD_UNKNOWN");
    }
    root.erase_subject(erase(ADA, false)).await.unwrap();
    let mut reader = house.query(&running, &house.operator("alice"));
    let refusals = wire::QueryEventsRequest { r#type: "subject.erasure_refused".into(), ..Default::default() };
    let refusals = reader.query_events(refusals).await.unwrap().into_inner().events;
    assert_eq!(refusals.len(), 2);
    assert!(refusals.iter().all(|one| one.event.as_ref().unwrap().reason_code == "AUDIT_ON_HOLD"));

    let good = registry.request(wire::AuditEvent { subject: ADA.into(), ..Default::default() });
    let none = wire::AppendEventsRequest { personal: Vec::new(), ..good.clone() };
    let mut other = good.clone();
    other.personal[0].parts[0].name = GRACE.into();
    let mut salted = good.clone();
    salted.personal[0].parts[0].salt = vec![0; 31];
    let mut twice = good.clone();
    twice.personal.push(twice.personal[0].clone());
    let mut elsewhere = good.clone();
    elsewhere.personal[0].event = 7;
    for (bad, reason) in [
        (none, "AUDIT_PERSONAL_MISMATCH"),
        (other, "AUDIT_PERSONAL_MISMATCH"),
        (salted, "AUDIT_PERSONAL_MISMATCH"),
        (twice, "INVALID_ARGUMENT"),
        (elsewhere, "INVALID_ARGUMENT"),
    ] {
        let told = Told::from_status(&registry.line.append_events(bad).await.unwrap_err());
        assert_eq!(told.reason, reason);
    }
    registry.line.append_events(good.clone()).await.unwrap();
    // The same once more, with another salt, is known: what was taken first stays.
    let mut again = registry.request(wire::AuditEvent { subject: ADA.into(), ..Default::default() });
    again.first_seq = good.first_seq;
    registry.line.append_events(again).await.unwrap();
    running.shutdown().await;
    house.audit(None).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_give_the_names_away_is_refused_at_the_start() {
    let house = House::build();
    let with = |change: fn(&mut Config)| {
        let mut config = house.config();
        change(&mut config);
        config
    };
    let rule = || RetentionRule { name: "hipaa".into(), types: vec!["decision".into()], days: 2_190 };
    assert!(
        house.try_raise(with(|c| c.personal.retention_days = Some(182))).await.unwrap_err().to_string().contains("183")
    );
    for (bad, wanted) in [
        (with(|c| c.personal.dir = c.dir.join("names")), "personal.dir"),
        (with(|c| c.personal.kek = c.personal.dir.join("kek")), "personal.kek"),
        (with(|c| c.personal.kek = c.dir.join("kek")), "personal.kek"),
        (with(|c| c.personal.kek.set_extension("other").then_some(()).unwrap()), "make-kek"),
        (
            Config {
                personal: {
                    let mut p = house.config().personal;
                    p.retention = vec![rule(), rule()];
                    p
                },
                ..house.config()
            },
            "retention",
        ),
    ] {
        let refused = house.try_raise(bad).await.unwrap_err().to_string();
        assert!(refused.contains(wanted), "{refused}");
    }
    let running = house.raise().await;
    let told = house.try_raise(house.config()).await.unwrap_err().to_string();
    assert!(told.contains("another audit-collector"), "{told}");
    running.shutdown().await;
    assert!(house.names_dir().join("keys").exists());
}
