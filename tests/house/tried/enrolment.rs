//! What is tried with enrolment, over gRPC, which is its only door.
//!
//! That nobody renews what nobody answers for is in `succession.rs`.

use legate_client::Runtime;
use legate_mtls::Identity;
use legate_rpc::Told;
use legate_wire::credential::agent_credential_service_client::AgentCredentialServiceClient;
use legate_wire::credential::create_enrolment_token_request::Holder;
use legate_wire::credential::enrolment_service_client::EnrolmentServiceClient;
use legate_wire::credential::{EnrolRequest, RenewCertificateRequest};
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::{AgentRef, SuspendAgentRequest};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SanType,
};

use crate::log::Log;
use crate::raised::{Raised, id_of};

/// As many tries at once as the list says.
const TRIES: usize = 50;

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

fn request(key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    change(&mut params);
    params.serialize_request(key).unwrap().der().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_and_a_request_give_one_certificate_that_says_what_we_say() {
    let raised = Raised::new().await;
    raised.apply().await;
    let agent = id_of(&raised.agent().await);
    let dial = || EnrolmentServiceClient::new(raised.dial("credential-issuer", Identity::anonymous()));

    // Fifty use a token in parallel, each with a key of its own.
    let token = raised.enrolment_token(Holder::AgentId(agent.clone())).await;
    let all: Vec<_> = (0..TRIES)
        .map(|_| {
            let (mut service, token, csr) = (dial(), token.clone(), request(&key(), |_| {}));
            tokio::spawn(async move { service.enrol(EnrolRequest { token, csr }).await.map(drop) })
        })
        .collect();
    let mut won = 0;
    for one in all {
        match one.await.unwrap() {
            Ok(()) => won += 1,
            Err(status) => assert_eq!(Told::from_status(&status).reason, "ENROLMENT_TOKEN_SPENT"),
        }
    }
    assert_eq!(won, 1);

    // What a request must not ask for, and whose key it must not have; none of it uses the token.
    let ours = key();
    let enrolled = raised.enrolment_token(Holder::AgentId(agent.clone())).await;
    let enrolled = EnrolRequest { token: enrolled, csr: request(&ours, |_| {}) };
    let credential = dial().enrol(enrolled).await.unwrap().into_inner().credential.unwrap();
    let point = legate_wire::credential::EnforcementPointRef { namespace: "payments".into(), name: "invoices".into() };
    let mut bad = request(&key(), |_| {});
    if let Some(last) = bad.last_mut() {
        *last ^= 1;
    }
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    let rows: [(&str, Vec<u8>, &str); 8] = [
        ("CA:TRUE", request(&key(), |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), "CSR_REFUSED"),
        (
            "a foreign SAN",
            request(&key(), |p| p.subject_alt_names = vec![uri("spiffe://dev.legate/legate/registry")]),
            "CSR_REFUSED",
        ),
        (
            "an extra SAN",
            request(&key(), |p| p.subject_alt_names = vec![uri(&credential.spiffe_id), uri("spiffe://dev.legate/x")]),
            "CSR_REFUSED",
        ),
        (
            "a DNS SAN",
            request(&key(), |p| p.subject_alt_names = vec![SanType::DnsName("registry".try_into().unwrap())]),
            "CSR_REFUSED",
        ),
        (
            "a key of another curve",
            request(&KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap(), |_| {}),
            "CSR_REFUSED",
        ),
        ("a key of another kind", request(&KeyPair::generate_for(&PKCS_ED25519).unwrap(), |_| {}), "CSR_REFUSED"),
        ("a bad self-signature", bad, "CSR_REFUSED"),
        ("another's key", request(&ours, |_| {}), "KEY_IN_USE"),
    ];
    let token = raised.enrolment_token(Holder::EnforcementPoint(point)).await;
    for (what, csr, expected) in &rows {
        let refused = dial().enrol(EnrolRequest { token: token.clone(), csr: csr.clone() }).await.unwrap_err();
        assert_eq!(Told::from_status(&refused).reason, *expected, "{what}");
    }
    dial().enrol(EnrolRequest { token, csr: request(&key(), |_| {}) }).await.unwrap();

    // A renewal by the certificate's holder alone, and not after a stop.
    let token = raised.enrolment_token(Holder::AgentId(agent.clone())).await;
    let issuer = raised.remote("credential-issuer");
    let runtime = Runtime::new(&issuer, legate_client::enrol(&issuer, &token).await.unwrap().identity().unwrap());
    let runtime = runtime.unwrap();
    let renewing = raised.dial("credential-issuer", runtime.identity().clone());
    for (what, csr, expected) in &rows[..7] {
        let asked = RenewCertificateRequest { csr: csr.clone() };
        let refused = AgentCredentialServiceClient::new(renewing.clone()).renew_certificate(asked).await.unwrap_err();
        assert_eq!(Told::from_status(&refused).reason, *expected, "{what}, renewing");
    }
    runtime.renew().await.unwrap();
    let which = Some(AgentRef { id: agent, ..AgentRef::default() });
    let suspend = SuspendAgentRequest { agent: which, reason: "odd".into(), ..Default::default() };
    AgentServiceClient::new(raised.operator("registry")).suspend_agent(suspend).await.unwrap();
    let began = std::time::Instant::now();
    while runtime.renew().await.is_ok() {
        assert!(began.elapsed() < crate::raised::LONG);
    }

    let dir = raised.suite.layout().log();
    raised.suite.shutdown().await;
    let log = Log::read(&dir);
    let recorded = |kind: &str, reason: &str| log.of_type(kind).filter(|event| event.reason_code == reason).count();
    assert_eq!(recorded("enrolment.refused", "CSR_REFUSED"), 7);
    assert_eq!(recorded("enrolment.refused", "KEY_IN_USE"), 1);
    assert_eq!(recorded("enrolment.refused", "ENROLMENT_TOKEN_SPENT"), TRIES - 1);
    assert_eq!(recorded("renewal.refused", "CSR_REFUSED"), 7);
}
