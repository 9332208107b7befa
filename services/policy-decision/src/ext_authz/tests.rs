//! Envoy's word about a certificate is judged by the state that decides, and by no older one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use legate_ids::{Name, SpiffeId, TrustDomain};
use legate_mtls::pki::{self, Leaf};
use legate_wire::envoy::attribute_context::{HttpRequest, Peer, Request};
use legate_wire::envoy::{AttributeContext, CheckRequest};
use legate_wire::registry::PolicyMode::Enforce;

use super::*;
use crate::domain::route::Wanted;
use crate::store::library::held::Held;
use crate::testing::*;

fn domain() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

impl Envoy {
    fn of(stage: &Stage) -> Self {
        let (services, workloads) = authorities();
        let wanted = Wanted {
            methods: &[],
            path: "/{project}/{id}",
            action: "invoice:read",
            resource_type: "Invoice",
            resource_id: "{project}/{id}",
            attributes: &BTreeMap::new(),
            context: &BTreeMap::new(),
        };
        Self {
            desk: Arc::clone(&stage.desk),
            trust: Trust::from_pem(domain(), services.cert_pem(), Some(workloads.cert_pem())).unwrap(),
            routes: [Route::read(&wanted).unwrap()].into(),
            removed: [].into(),
        }
    }
}

/// The certificate of the agent, as the workloads' CA gives it now.
fn certificate(stage: &Stage) -> String {
    let id = SpiffeId::agent(&domain(), &Name::parse("payments").unwrap(), &agent_id(1));
    let leaf = Leaf { spiffe_id: &id, dns: &[], ips: &[], ttl: Duration::from_secs(600) };
    authorities().1.issue(&leaf, stage.desk.clock.now()).unwrap().cert_pem
}

/// A request that came with nothing but this certificate.
fn request(pem: &str) -> CheckRequest {
    let http = HttpRequest { method: "GET".into(), path: "/apollo/1001".into(), ..HttpRequest::default() };
    let escaped =
        pem.bytes().map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") });
    let source = Peer { certificate: escaped.collect() };
    CheckRequest {
        attributes: Some(AttributeContext { source: Some(source), request: Some(Request { http: Some(http) }) }),
    }
}

async fn word(envoy: &Envoy, pem: &str) -> &'static str {
    let (spoken, is_by_token) = envoy.decide(&enforcer("trusted"), &request(pem)).await.unwrap();
    assert!(!is_by_token);
    spoken.answer.word()
}

#[tokio::test]
async fn a_certificate_alone_is_judged_and_recorded_as_a_decision() {
    let mut stage = Stage::set().await;
    let (envoy, pem) = (Envoy::of(&stage), certificate(&stage));
    assert_eq!(word(&envoy, &pem).await, "ALLOWED");
    assert_eq!(stage.paper.events().pop().unwrap().details["subject_proof"], "certificate");
    let refused = envoy.decide(&enforcer("invoices"), &request(&pem)).await.unwrap_err();
    assert_eq!(refused.reason(), "SUBJECT_NOT_PROVEN");
    assert_eq!(word(&envoy, authorities().1.cert_pem()).await, "CERTIFICATE_INVALID");
    for pem in ["no certificate", "-----BEGIN CERTIFICATE-----\nAAAA"] {
        let refused = envoy.decide(&enforcer("trusted"), &request(pem)).await.unwrap_err();
        assert_eq!(refused.reason(), "HTTP_REQUEST_INVALID", "{pem}");
    }
    let der = pki::certificates(&pem).unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der[0]);
    stage.change(vec![(revocation(digest.as_ref().try_into().unwrap()), false)]).await;
    assert_eq!(word(&envoy, &pem).await, "CREDENTIAL_REVOKED");
    let event = stage.paper.events().pop().unwrap();
    assert_eq!((event.r#type.as_str(), event.reason_code.as_str()), ("decision.made", "CREDENTIAL_REVOKED"));
}

/// While policies are compiled the view goes on: what decides in the end is what the certificate is held against.
#[tokio::test]
async fn a_certificate_that_is_revoked_while_a_question_waits_is_not_let_through() {
    let held = Held::default();
    let mut stage = Stage::set_by(held.library(), |all| all).await;
    let (envoy, pem) = (Envoy::of(&stage), certificate(&stage));
    assert_eq!(word(&envoy, &pem).await, "ALLOWED");
    let der = pki::certificates(&pem).unwrap();
    let digest: [u8; 32] = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der[0]).as_ref().try_into().unwrap();

    held.hold("payments");
    stage.tell(vec![(policy("more", Enforce, "permit(principal, action, resource);"), false)]);
    stage.desk.view.wait_for(2, PATIENCE).await.unwrap();
    let asked = tokio::spawn({
        let (envoy, pem) = (envoy.clone(), pem.clone());
        async move { envoy.decide(&enforcer("trusted"), &request(&pem)).await.unwrap().0 }
    });
    // It looked once, found no policies and waits for them, its certificate being good.
    let begin = Instant::now();
    while stage.desk.library.waiting() == 0 && !asked.is_finished() {
        assert!(begin.elapsed() < Duration::from_secs(60), "nobody waits");
        tokio::task::yield_now().await;
    }
    stage.tell(vec![(revocation(digest), false)]);
    stage.desk.view.wait_for(3, PATIENCE).await.unwrap();
    held.free("payments");
    let spoken = asked.await.unwrap();
    // On a slow machine its time may have been over before the policies were there.
    assert!(["CREDENTIAL_REVOKED", "POLICY_NOT_READY"].contains(&spoken.answer.word()), "{}", spoken.message);
}
