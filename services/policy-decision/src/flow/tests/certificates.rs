//! An agent that shows nothing but its certificate: verified here, and good for as long as the agent and the certificate are.

use std::time::Duration;

use legate_ids::{AgentId, InstanceId, Name, SpiffeId, TrustDomain};
use legate_mtls::pki::{self, Ca, Leaf};
use legate_wire::registry as wire;

use crate::convert::{Ask, Subject};
use crate::testing::*;

/// Shorter than the stage's registry may be silent.
const LIFE: Duration = Duration::from_secs(600);

fn domain() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

fn copy_of(namespace: &str, id: &AgentId) -> SpiffeId {
    SpiffeId::instance(&domain(), &Name::parse(namespace).unwrap(), id, &InstanceId::from_parts(1, [5; 10]))
}

/// A certificate that the CA gives now, in DER.
fn shown(stage: &Stage, ca: &Ca, id: &SpiffeId) -> Vec<u8> {
    let leaf = Leaf { spiffe_id: id, dns: &[], ips: &[], ttl: LIFE };
    let issued = ca.issue(&leaf, stage.desk.clock.now()).unwrap();
    pki::certificates(&issued.cert_pem).unwrap()[0].to_vec()
}

fn by(stage: &Stage, der: Vec<u8>) -> Ask {
    Ask { subject: Subject::Certificate(der), presenter: None, ..stage.good() }
}

async fn word(stage: &Stage, der: &[u8]) -> &'static str {
    stage.ask(&enforcer("trusted"), by(stage, der.to_vec())).await.answer.word()
}

#[tokio::test]
async fn it_is_the_agent_that_its_certificate_names_and_nobody_else() {
    let mut stage = Stage::set().await;
    let (services, workloads) = authorities();
    let id = copy_of("payments", &agent_id(1));
    let good = shown(&stage, workloads, &id);
    let spoken = stage.ask(&enforcer("trusted"), by(&stage, good.clone())).await;
    assert_eq!(spoken.answer.word(), "ALLOWED", "{}", spoken.message);
    let event = stage.paper.events().pop().unwrap();
    assert_eq!(event.details["subject_proof"], "certificate");
    assert!(id.as_str().ends_with(&event.instance_id) && event.instance_id.starts_with("inst_"), "{event:?}");
    // That it was shown is the caller's word.
    let refused = crate::flow::evaluate(&stage.desk, &enforcer("invoices"), &[by(&stage, good.clone())]).await;
    assert_eq!(refused.unwrap_err().reason(), "SUBJECT_NOT_PROVEN");

    let stranger = Ca::generate("strangers", stage.desk.clock.now(), Duration::from_secs(9_000)).unwrap();
    let name = |text: &str| Name::parse(text).unwrap();
    let point = SpiffeId::enforcer(&domain(), &name("payments"), &name("trusted"));
    let mut longer = good.clone();
    longer.push(0);
    let rows = [
        ("of a stranger's CA", shown(&stage, &stranger, &id), "CERTIFICATE_INVALID"),
        ("of the services' CA", shown(&stage, services, &id), "CERTIFICATE_INVALID"),
        ("an enforcement point's", shown(&stage, workloads, &point), "CERTIFICATE_INVALID"),
        ("cut short", good[..good.len() - 1].to_vec(), "CERTIFICATE_INVALID"),
        ("with something behind it", longer, "CERTIFICATE_INVALID"),
        ("five times", good.repeat(5), "CERTIFICATE_INVALID"),
        ("an agent that never was", shown(&stage, workloads, &copy_of("payments", &agent_id(9))), "AGENT_UNKNOWN"),
        ("of another namespace", shown(&stage, workloads, &copy_of("ledgers", &agent_id(1))), "AGENT_UNKNOWN"),
    ];
    for (what, der, expected) in rows {
        assert_eq!(word(&stage, &der).await, expected, "{what}");
    }
    stage.pass(LIFE + Duration::from_secs(1)).await;
    assert_eq!(word(&stage, &good).await, "CERTIFICATE_INVALID", "its time is over");
}

#[tokio::test]
async fn it_dies_with_the_agents_life_and_by_its_revocation() {
    let mut stage = Stage::set().await;
    let (_, workloads) = authorities();
    let first = shown(&stage, workloads, &copy_of("payments", &agent_id(1)));
    assert_eq!(word(&stage, &first).await, "ALLOWED");
    let now = NOW + 2;
    let in_state = |state: wire::AgentState| {
        agent(1, |a| {
            let status = a.status.as_mut().unwrap();
            status.state = state.into();
            status.lifecycle_version = 2;
            status.authorization_cutoff = Some(prost_types::Timestamp { seconds: now, nanos: 0 });
        })
    };
    stage.change(vec![(in_state(wire::AgentState::Suspended), false)]).await;
    assert_eq!(word(&stage, &first).await, "AGENT_SUSPENDED");
    stage.change(vec![(in_state(wire::AgentState::Active), false)]).await;
    assert_eq!(word(&stage, &first).await, "CERTIFICATE_OUTLIVED", "not after a reactivation either");
    stage.pass(Duration::from_secs(3)).await;
    let second = shown(&stage, workloads, &copy_of("payments", &agent_id(1)));
    assert_eq!(word(&stage, &second).await, "ALLOWED");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &second);
    stage.change(vec![(revocation(digest.as_ref().try_into().unwrap()), false)]).await;
    assert_eq!(word(&stage, &second).await, "CREDENTIAL_REVOKED");
}
