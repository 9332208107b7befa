//! What an agent could do is told of the past over real mutual TLS, and the dossier that is made of it is verified to the byte.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use legate_ids::SpiffeId;
use legate_rpc::Told;
use legate_wire::audit::proof_service_client::ProofServiceClient;
use legate_wire::audit::query_service_client::QueryServiceClient;
use legate_wire::audit::{QueryEventsRequest, RecordEvidenceRequest};
use legate_wire::policy::decision_service_client::DecisionServiceClient;
use legate_wire::policy::{Entitlement, Subject, WhatCanRequest, subject};
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::as_of::At;
use legate_wire::registry::{AgentRef, AsOf, SuspendAgentRequest};

use crate::raised::{LONG, Raised, id_of};

/// The program, in this process, against a raised suite; whether it ended well.
async fn legate(raised: &Raised, line: &[&str]) -> bool {
    let root = raised.suite.layout().root().to_owned();
    let env = std::fs::read_to_string(root.join("env")).unwrap();
    let value = |name: &str| {
        let found = env.lines().find_map(|line| line.strip_prefix(&format!("export {name}=")));
        found.map(|value| value.trim_matches('\'').to_owned()).unwrap()
    };
    let place = [
        ("--registry", "LEGATE_REGISTRY"),
        ("--issuer", "LEGATE_ISSUER"),
        ("--policy", "LEGATE_POLICY"),
        ("--audit", "LEGATE_AUDIT"),
        ("--ca", "LEGATE_CA"),
    ];
    let mut args: Vec<String> = vec!["legate".to_owned()];
    args.extend(line.iter().map(|word| (*word).to_owned()));
    if line[0] != "verify" {
        for (flag, name) in place {
            args.extend([flag.to_owned(), value(name)]);
        }
        for (flag, name) in [("--cert", "LEGATE_CERT"), ("--key", "LEGATE_KEY")] {
            if !line.contains(&flag) {
                args.extend([flag.to_owned(), value(name)]);
            }
        }
    }
    let ended = tokio::task::spawn_blocking(move || legate::main(args.into_iter().map(OsString::from))).await.unwrap();
    format!("{ended:?}") == format!("{:?}", std::process::ExitCode::SUCCESS)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn reason<T: std::fmt::Debug>(result: Result<T, tonic::Status>) -> String {
    Told::from_status(&result.unwrap_err()).reason
}

fn at(at: At) -> Option<AsOf> {
    Some(AsOf { at: Some(at) })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_could_do_is_what_it_was_told_to_be_able_to_do_then() {
    let raised = Raised::new().await;
    let declared = raised.apply().await;
    let id = id_of(&raised.agent().await);
    let mut policy = DecisionServiceClient::new(raised.operator("policy-decision"));
    let ask = WhatCanRequest { agent_id: id.clone(), with_never: true, ..WhatCanRequest::default() };
    let present = WhatCanRequest { at_least_revision: declared, ..ask.clone() };
    let present = policy.what_can(present).await.unwrap().into_inner();
    let which = Some(AgentRef { id: id.clone(), ..AgentRef::default() });
    let request = SuspendAgentRequest { agent: which, reason: "odd reads".into(), ..Default::default() };
    let mut agents = AgentServiceClient::new(raised.operator("registry"));
    let suspended = agents.suspend_agent(request).await.unwrap().into_inner().revision;

    let past = |revision: u64| WhatCanRequest { as_of: at(At::Revision(revision)), ..ask.clone() };
    let was = policy.what_can(past(declared)).await.unwrap().into_inner();
    let same = |one: &Entitlement| (one.action.clone(), one.resource.clone(), one.certainty, one.reasons.clone());
    assert!(present.entitlements.iter().map(same).eq(was.entitlements.iter().map(same)), "{was:?}");
    assert_eq!((was.revision, was.reason_code.as_str(), was.view_age), (declared, "", None));
    let stopped = policy.what_can(past(suspended)).await.unwrap().into_inner();
    assert_eq!((stopped.reason_code.as_str(), stopped.entitlements.len()), ("AGENT_SUSPENDED", 0));
    let if_active = WhatCanRequest { if_active: true, ..past(suspended) };
    assert_eq!(policy.what_can(if_active).await.unwrap().into_inner().entitlements.len(), was.entitlements.len());

    assert_eq!(reason(policy.what_can(past(suspended + 9)).await), "REVISION_UNKNOWN");
    let both = WhatCanRequest { at_least_revision: 1, ..past(declared) };
    assert_eq!(reason(policy.what_can(both).await), "QUESTION_INVALID");
    let moment = WhatCanRequest { at_time: Some(prost_types::Timestamp::default()), ..ask.clone() };
    assert_eq!(reason(policy.what_can(moment).await), "QUESTION_INVALID");
    let token = Subject { agent: Some(subject::Agent::AccessToken("x".into())), ..Subject::default() };
    let shown = WhatCanRequest { agent_id: String::new(), subject: Some(token), ..past(declared) };
    assert_eq!(reason(policy.what_can(shown).await), "QUESTION_INVALID");

    let record = RecordEvidenceRequest { manifest_sha256: vec![7; 32], tree_size: 1, kind: 99, ..Default::default() };
    let mut proofs = ProofServiceClient::new(raised.operator("audit-collector"));
    assert_eq!(reason(proofs.record_evidence(record).await), "INVALID_ARGUMENT");
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dossier_is_made_verified_and_found_out_wherever_it_is_edited() {
    let raised = Raised::new().await;
    let payments = raised.payments().await;
    let id = id_of(&payments.agent);
    let suspend = SuspendAgentRequest {
        agent: Some(AgentRef { id: id.clone(), ..AgentRef::default() }),
        reason: "odd reads </script>".into(),
        ..Default::default()
    };
    let mut agents = AgentServiceClient::new(raised.operator("registry"));
    let suspended = agents.suspend_agent(suspend).await.unwrap().into_inner().revision;
    raised.wait_for_record(suspended).await;

    let key = raised.suite.layout().root().join("log.pub");
    let file = |name: &str| -> PathBuf { raised.dir.path().join(name) };
    let (dossier, report) = (file("dossier.tar"), file("report.tar"));
    let make = ["dossier", "--agent", "payments/invoice-bot", "--log-key", text(&key), "-f", text(&dossier)];
    assert!(legate(&raised, &make).await);
    assert!(!legate(&raised, &make).await, "nothing is overwritten");
    assert!(
        legate(&raised, &["report", "--namespace", "payments", "--log-key", text(&key), "-f", text(&report)]).await
    );
    // Somebody without a role in the namespace has none, and leaves nothing behind.
    let stranger = SpiffeId::parse("spiffe://dev.legate/legate/operator/stranger").unwrap();
    let (cert, private) = (file("stranger.pem"), file("stranger.key"));
    let issued = issue(&raised, &stranger);
    legate_mtls::pki::write_public(&cert, &issued.cert_pem).unwrap();
    legate_mtls::pki::write_private(&private, &issued.key_pem).unwrap();
    let none = file("none.tar");
    let strange = [&make[..6], &[text(&none), "--cert", text(&cert), "--key", text(&private)]].concat();
    assert!(!legate(&raised, &strange).await && !none.exists());

    // The log holds what each of them was, by whom.
    let mut records = QueryServiceClient::new(raised.operator("audit-collector"));
    let made = QueryEventsRequest { r#type: "log.evidence_made".into(), ..Default::default() };
    let begun = std::time::Instant::now();
    let kinds = loop {
        let found = records.query_events(made.clone()).await.unwrap().into_inner();
        let details = found.events.iter().filter_map(|one| one.event.as_ref()?.details.get("kind").cloned());
        let kinds: Vec<String> = details.collect();
        if kinds.len() >= 2 {
            break kinds;
        }
        assert!(begun.elapsed() < LONG, "{kinds:?}");
    };
    assert_eq!(kinds, ["report", "dossier"]);

    for pack in [&dossier, &report] {
        let verify = ["verify", text(pack), "--key", text(&key)];
        assert!(legate(&raised, &verify).await);
        let good = std::fs::read(pack).unwrap();
        let (bad, mut chance) = (file("bad.tar"), 42_u64);
        for _ in 0..32 {
            // Knuth's numbers; the higher bits are the better ones.
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = usize::try_from(chance >> 33).unwrap() % good.len();
            let mut edited = good.clone();
            edited[at] ^= 1 << (chance >> 20 & 7);
            std::fs::write(&bad, edited).unwrap();
            assert!(!legate(&raised, &["verify", text(&bad), "--key", text(&key)]).await, "byte {at}");
        }
    }
    raised.suite.shutdown().await;
}

/// An operator's certificate by the services' CA.
fn issue(raised: &Raised, id: &SpiffeId) -> legate_mtls::pki::Issued {
    use legate_clock::Clock as _;
    let leaf = legate_mtls::pki::Leaf { spiffe_id: id, dns: &[], ips: &[], ttl: std::time::Duration::from_secs(3_600) };
    raised.services_ca().issue(&leaf, legate_clock::SystemClock::new().now()).unwrap()
}
