//! Keys and CAs follow one another on a raised suite: in an emergency, and under load without a failed call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use http_body_util::BodyExt as _;
use legate_client::{Remote, Runtime, enrol};
use legate_ids::SpiffeId;
use legate_mtls::Identity;
use legate_mtls::pki::{Ca, certificates, to_pem};
use legate_rpc::Told;
use legate_wire::credential::create_enrolment_token_request::Holder;
use legate_wire::credential::key_admin_service_client::KeyAdminServiceClient;
use legate_wire::credential::key_service_client::KeyServiceClient;
use legate_wire::credential::{
    GetTrustBundleRequest, Key, KeyPurpose, KeyState, ListKeysRequest, PrepareKeyRequest, RetireKeyRequest,
    RotateKeyRequest, TaintKeyRequest,
};
use legate_wire::policy::decision_service_client::DecisionServiceClient;
use tower::ServiceExt as _;

use crate::asking::{Shown, ask, question, word};
use crate::raised::{AUDIENCE, LONG, Payments, Raised, certify, id_of, unwrapped_as};

fn admin(raised: &Raised) -> KeyAdminServiceClient<legate_rpc::Client> {
    KeyAdminServiceClient::new(raised.operator("credential-issuer"))
}

async fn keys(raised: &Raised, purpose: KeyPurpose) -> Vec<Key> {
    let request = ListKeysRequest { purpose: purpose.into(), with_ended: true, ..ListKeysRequest::default() };
    admin(raised).list_keys(request).await.unwrap().into_inner().keys
}

async fn in_state(raised: &Raised, purpose: KeyPurpose, state: KeyState) -> Key {
    let all = keys(raised, purpose).await;
    all.iter().find(|key| key.state() == state).unwrap_or_else(|| panic!("none is {state:?}: {all:?}")).clone()
}

async fn jwks(raised: &Raised) -> String {
    let at = raised.suite.running("credential-issuer").unwrap().web_addr().unwrap();
    let web = Remote { endpoint: format!("https://{at}"), ..raised.remote("credential-issuer") };
    let request = http::Request::get("/oauth2/jwks").body(tonic::body::Body::empty()).unwrap();
    let answer = web.dial(Identity::anonymous()).unwrap().oneshot(request).await.unwrap();
    assert!(answer.headers()["cache-control"].to_str().unwrap().contains("max-age"));
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn shown(runtime: &Runtime) -> Shown {
    let token = runtime.token(AUDIENCE).await.unwrap().access_token;
    Shown { token, presenter: runtime.identity().x5t_s256().unwrap() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compromised_key_is_dead_at_every_door_and_agents_ask_again() {
    let raised = Raised::new().await;
    let Payments { runtime, backend, .. } = raised.payments().await;
    let backend = raised.dial("policy-decision", backend);
    let reads = |shown: &Shown| question(shown, "invoice:read", "apollo/1001");
    let old = shown(&runtime).await;
    assert_eq!(word(&ask(&backend, reads(&old)).await), "ALLOWED");
    let first = in_state(&raised, KeyPurpose::AccessToken, KeyState::Active).await;
    let next = in_state(&raised, KeyPurpose::AccessToken, KeyState::Prepared).await;
    let svid = in_state(&raised, KeyPurpose::JwtSvid, KeyState::Active).await;
    let set = jwks(&raised).await;
    assert!(set.contains(&first.kid) && set.contains(&next.kid) && !set.contains(&svid.kid), "{set}");
    let mut public = KeyServiceClient::new(raised.operator("credential-issuer"));
    let bundle = public.get_trust_bundle(GetTrustBundleRequest {}).await.unwrap().into_inner();
    assert!(bundle.jwt_authorities.contains(&svid.kid) && !bundle.jwt_authorities.contains(&first.kid));

    let too_early =
        RotateKeyRequest { purpose: KeyPurpose::AccessToken.into(), reason: "x".into(), ..Default::default() };
    let refused = admin(&raised).rotate_key(too_early).await.unwrap_err();
    assert_eq!(Told::from_status(&refused).reason, "KEY_NOT_READY");
    let silent = RetireKeyRequest { kid: first.kid.clone(), compromised: true, reason: " ".into() };
    let refused = admin(&raised).retire_key(silent).await.unwrap_err();
    assert_eq!(Told::from_status(&refused).reason, "INVALID_ARGUMENT");
    let emergency = RetireKeyRequest { kid: first.kid.clone(), compromised: true, reason: "a laptop was lost".into() };
    let retired = admin(&raised).retire_key(emergency).await.unwrap().into_inner();
    assert_eq!(retired.key.unwrap().state(), KeyState::Revoked);
    assert_eq!(retired.active.unwrap().kid, next.kid);
    // The registry had it before the answer; policy-decision has it with the next revision that it hears of.
    let revision = raised.apply().await;
    let at_least = crate::asking::at_least(reads(&old), revision);
    assert_eq!(word(&ask(&backend, at_least).await), "TOKEN_KEY_UNKNOWN");
    let set = jwks(&raised).await;
    assert!(!set.contains(&first.kid) && set.contains(&next.kid), "{set}");
    let new = shown(&runtime).await;
    assert_eq!(word(&ask(&backend, reads(&new)).await), "ALLOWED", "a key that every verifier knew before");

    // A restart finds everything as it was.
    let raised = raised.again().await;
    assert_eq!(in_state(&raised, KeyPurpose::AccessToken, KeyState::Active).await.kid, next.kid);
    assert_eq!(in_state(&raised, KeyPurpose::AccessToken, KeyState::Revoked).await.kid, first.kid);
}

/// What a runtime does all day: a token, and a decision by it.
struct Load {
    done: AtomicU64,
    stop: AtomicBool,
}

impl Load {
    async fn run(&self, runtime: &Runtime, backend: &legate_rpc::Client) -> Result<(), String> {
        while !self.stop.load(Ordering::SeqCst) {
            let token = runtime.token(AUDIENCE).await.map_err(|e| format!("token: {e}"))?.access_token;
            let presenter = runtime.identity().x5t_s256().unwrap_or_default();
            let request = question(&Shown { token, presenter }, "invoice:read", "apollo/1001");
            let answer = DecisionServiceClient::new(backend.clone()).evaluate(request).await;
            let answer = answer.map_err(|status| format!("decision: {status}"))?.into_inner();
            if answer.reason_code != "ALLOWED" {
                return Err(format!("{}: {}", answer.reason_code, answer.message));
            }
            self.done.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Waits for so many more rounds.
    async fn more(&self, rounds: u64) {
        let wanted = self.done.load(Ordering::SeqCst) + rounds;
        let enough = async {
            while self.done.load(Ordering::SeqCst) < wanted {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LONG, enough).await.expect("the load goes on");
    }
}

/// Waits until a service believes a CA, by a certificate of it that nobody was given.
async fn until_believed(raised: &Raised, service: &'static str, ca: &Ca, id: &SpiffeId, believed: bool) {
    let wait = async {
        loop {
            let client = raised.dial(service, certify(ca, id));
            let mut health = tonic_health::pb::health_client::HealthClient::new(client);
            let answer = health.check(tonic_health::pb::HealthCheckRequest::default()).await;
            if answer.is_ok() == believed {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LONG, wait).await.unwrap_or_else(|_| panic!("{service} does not hear of the CA"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_is_rotated_under_load_and_no_call_fails() {
    let raised = Raised::new().await;
    let Payments { agent, enrolled, runtime, backend } = raised.payments().await;
    let issuer = raised.remote("credential-issuer");
    let purpose: i32 = KeyPurpose::WorkloadsCa.into();
    let line = raised.dial("policy-decision", backend.clone());
    let load = Arc::new(Load { done: AtomicU64::new(0), stop: AtomicBool::new(false) });
    let working = {
        let (load, runtime, line) = (Arc::clone(&load), runtime.clone(), line.clone());
        tokio::spawn(async move { load.run(&runtime, &line).await })
    };
    load.more(5).await;

    // Prepared: everybody learns of it, nobody is of it yet.
    let old = in_state(&raised, KeyPurpose::WorkloadsCa, KeyState::Active).await;
    let prepare = PrepareKeyRequest { purpose, reason: "yearly".into() };
    let new = admin(&raised).prepare_key(prepare).await.unwrap().into_inner().key.unwrap();
    let layout = raised.suite.layout();
    assert_eq!(certificates(&std::fs::read_to_string(layout.workloads_ca()).unwrap()).unwrap().len(), 2);
    let pem = |key: &Key| to_pem(&key.certificate.clone().into());
    let cas = [&old, &new].map(|key| Ca::from_pem(&pem(key), &unwrapped_as(layout, "workloads-ca", &key.kid)).unwrap());
    let somebody = enrolled_id(&enrolled.identity().unwrap());
    for service in legate::dev::pki::SERVICES {
        until_believed(&raised, service, &cas[1], &somebody, true).await;
    }
    load.more(5).await;

    // It takes over; who enrols and who renews now is of it.
    let now = RotateKeyRequest { purpose, now: true, compromised: false, reason: "yearly".into() };
    let rotated = admin(&raised).rotate_key(now).await.unwrap().into_inner();
    assert_eq!((rotated.key.unwrap().kid, rotated.replaced[0].kid.clone()), (new.kid.clone(), old.kid.clone()));
    let token = raised.enrolment_token(Holder::AgentId(id_of(&agent))).await;
    let late = Runtime::new(&issuer, enrol(&issuer, &token).await.unwrap().identity().unwrap()).unwrap();
    let shown = shown(&late).await;
    assert_eq!(word(&ask(&line, question(&shown, "invoice:read", "apollo/1001")).await), "ALLOWED");
    assert!(!runtime.token(AUDIENCE).await.unwrap().renew_certificate);
    load.more(5).await;

    // Tainted: whoever is of the old one is told to renew, and does.
    let taint = TaintKeyRequest { kid: old.kid.clone(), reason: "yearly".into() };
    admin(&raised).taint_key(taint).await.unwrap();
    assert!(runtime.token(AUDIENCE).await.unwrap().renew_certificate);
    assert!(!late.token(AUDIENCE).await.unwrap().renew_certificate);
    let mut public = KeyServiceClient::new(raised.dial("credential-issuer", late.identity().clone()));
    let bundle = public.get_trust_bundle(GetTrustBundleRequest {}).await.unwrap().into_inner();
    assert_eq!((bundle.tainted_roots, bundle.workload_roots.len()), (vec![old.certificate.clone()], 2));
    load.stop.store(true, Ordering::SeqCst);
    working.await.unwrap().unwrap_or_else(|failed| panic!("a call failed: {failed}"));
    let before = Identity::from_pem(&enrolled.chain_pem, &enrolled.key.to_pem()).unwrap();
    let backend_runtime = Runtime::new(&issuer, backend.clone()).unwrap();
    let other_line = raised.dial("policy-decision", before.clone());
    ask_health(&other_line).await.unwrap();
    runtime.renew().await.unwrap();
    backend_runtime.renew().await.unwrap();
    let renewed = Runtime::new(&issuer, runtime.identity().clone()).unwrap();
    assert!(!renewed.token(AUDIENCE).await.unwrap().renew_certificate);
    let load = Arc::new(Load { done: AtomicU64::new(0), stop: AtomicBool::new(false) });
    let working = {
        let line = raised.dial("policy-decision", backend.clone());
        let (load, renewed) = (Arc::clone(&load), renewed.clone());
        tokio::spawn(async move { load.run(&renewed, &line).await })
    };
    load.more(5).await;

    // Revoked: nobody of it gets in, and what was open is cut.
    let revoke = RetireKeyRequest { kid: old.kid.clone(), compromised: true, reason: "yearly".into() };
    admin(&raised).retire_key(revoke).await.unwrap();
    for service in legate::dev::pki::SERVICES {
        until_believed(&raised, service, &cas[0], &somebody, false).await;
        ask_health(&raised.dial(service, before.clone())).await.unwrap_err();
    }
    assert_eq!(certificates(&std::fs::read_to_string(layout.workloads_ca()).unwrap()).unwrap().len(), 1);
    let cut = async {
        while ask_health(&other_line).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, cut).await.expect("an open connection of the old CA is cut");
    load.more(5).await;
    load.stop.store(true, Ordering::SeqCst);
    working.await.unwrap().unwrap_or_else(|failed| panic!("a call failed: {failed}"));
}

fn enrolled_id(identity: &Identity) -> SpiffeId {
    identity.spiffe_id().unwrap()
}

async fn ask_health(client: &legate_rpc::Client) -> Result<(), tonic::Status> {
    let mut health = tonic_health::pb::health_client::HealthClient::new(client.clone());
    health.check(tonic_health::pb::HealthCheckRequest::default()).await.map(drop)
}
