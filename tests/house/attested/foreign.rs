//! Other trust domains: what verifies them reaches processes and proxies, and opens nothing of ours; and a CA of ours that is tainted.

use std::time::Duration;

use base64ct::{Base64, Base64UrlUnpadded, Encoding as _};
use legate_clock::{Clock as _, SystemClock};
use legate_ids::SpiffeId;
use legate_mtls::pki::{Ca, certificates};
use legate_rpc::Code;
use legate_token::{EcSigner as _, P256Signer};
use legate_wire::credential::key_admin_service_client::KeyAdminServiceClient;
use legate_wire::credential::{
    KeyPurpose, KeyState, ListKeysRequest, PrepareKeyRequest, RetireKeyRequest, RotateKeyRequest, TaintKeyRequest,
};
use legate_wire::sds::secret::Type as Secret;
use legate_wire::sds::secret_discovery_service_client::SecretDiscoveryServiceClient;
use legate_wire::sds::{DiscoveryRequest, data_source::Specifier};
use legate_wire::spiffe::{JwtBundlesRequest, ValidateJwtsvidRequest, X509BundlesRequest, X509svidRequest};
use prost::Message as _;
use serde_json::{Value, json};

use super::scene::{self, Fleet, channel, marked};
use super::{is_shut_out, word};
use crate::raised::{LONG, Raised, certify};

/// Another trust domain: a CA, and a key of JWT-SVIDs.
struct Partner {
    ca: Ca,
    key: P256Signer,
}

impl Partner {
    fn new() -> Self {
        let hour = Duration::from_secs(3_600);
        let ca = Ca::generate("partner", SystemClock::new().now(), hour).unwrap();
        Self { ca, key: P256Signer::from_scalar(&[23; 32]).unwrap() }
    }

    fn der(&self) -> Vec<u8> {
        certificates(self.ca.cert_pem()).unwrap()[0].to_vec()
    }

    fn bundle(&self) -> String {
        let mut jwt: Value = serde_json::from_str(&self.key.public_key().to_jwk()).unwrap();
        jwt["use"] = "jwt-svid".into();
        let x509 = json!({ "use": "x509-svid", "kty": "EC", "x5c": [Base64::encode_string(&self.der())] });
        json!({ "keys": [x509, jwt], "spiffe_sequence": 1 }).to_string()
    }

    /// A JWT-SVID of this subject.
    fn jwt(&self, subject: &str) -> String {
        let now = SystemClock::new().now().secs();
        let b64 = |text: &str| Base64UrlUnpadded::encode_string(text.as_bytes());
        let header = format!(r#"{{"alg":"ES256","typ":"JWT","kid":"{}"}}"#, self.key.public_key().kid());
        let claims = json!({ "sub": subject, "aud": ["ours"], "iat": now, "exp": now + 300 }).to_string();
        let input = format!("{}.{}", b64(&header), b64(&claims));
        let signature = self.key.sign(input.as_bytes()).unwrap();
        format!("{input}.{}", Base64UrlUnpadded::encode_string(&signature))
    }

    fn declared(&self, domain: &str) -> String {
        let bundle = serde_json::to_string(&self.bundle()).unwrap();
        format!(
            "apiVersion: legate/v1\nkind: FederatedTrustDomain\nmetadata: {{name: partner, namespace: fleet}}\nspec:\n  \
             trustDomain: {domain}\n  bundle: {bundle}\n"
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_trust_domain_is_verified_by_processes_and_let_in_nowhere() {
    let raised = Raised::with_node().await;
    let fleet = Fleet::declared(&raised, "LOW").await;
    let partner = Partner::new();
    // Not about ourselves: whoever could say what verifies us could have anybody pass for our agents.
    let refused = scene::apply(&raised, &partner.declared("dev.legate")).await.unwrap_err();
    assert_eq!(word(&refused).0, Code::InvalidArgument, "{refused}");
    let mut api = scene::api(&fleet.endpoint);
    let mut stream = api.fetch_x509svid(marked(X509svidRequest {})).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().unwrap().federated_bundles.is_empty());
    scene::apply(&raised, &partner.declared("partner.example")).await.unwrap();

    // It is pushed to whoever listens.
    let pushed = tokio::time::timeout(LONG, stream.message()).await.expect("nothing comes").unwrap().unwrap();
    let expected = [("spiffe://partner.example".to_owned(), partner.der())].into();
    assert_eq!(pushed.federated_bundles, expected);
    let mut bundles = api.fetch_x509_bundles(marked(X509BundlesRequest {})).await.unwrap().into_inner();
    let told = bundles.message().await.unwrap().unwrap().bundles;
    assert_eq!((told.len(), &told["spiffe://partner.example"]), (2, &partner.der()));
    let mut bundles = api.fetch_jwt_bundles(marked(JwtBundlesRequest {})).await.unwrap().into_inner();
    let told = bundles.message().await.unwrap().unwrap().bundles;
    let keys: Value = serde_json::from_slice(&told["spiffe://partner.example"]).unwrap();
    assert_eq!(keys["keys"][0]["kid"], partner.key.public_key().kid().as_str());
    let ask = |svid: String| ValidateJwtsvidRequest { audience: "ours".into(), svid };
    let theirs = partner.jwt("spiffe://partner.example/billing");
    let good = api.validate_jwtsvid(marked(ask(theirs))).await.unwrap().into_inner();
    assert_eq!(good.spiffe_id, "spiffe://partner.example/billing");
    // Each for itself: the partner's key says nothing of us, nor of a third.
    for lie in [fleet.spiffe_id.as_str(), "spiffe://third.example/billing"] {
        let status = api.validate_jwtsvid(marked(ask(partner.jwt(lie)))).await.unwrap_err();
        assert_eq!(word(&status), (Code::InvalidArgument, "SVID_INVALID".into()), "{lie}");
    }
    let mut sds = SecretDiscoveryServiceClient::new(channel(&fleet.endpoint));
    let names = vec!["spiffe://partner.example".into(), "spiffe://third.example".into()];
    let request = DiscoveryRequest { resource_names: names, ..DiscoveryRequest::default() };
    let secrets = sds.fetch_secrets(request).await.unwrap().into_inner().resources;
    let [only] = secrets.as_slice() else { panic!("{} secrets", secrets.len()) };
    let secret = legate_wire::sds::Secret::decode(only.value.as_slice()).unwrap();
    let Some(Secret::ValidationContext(context)) = secret.r#type else { panic!("no validation context") };
    let Some(Specifier::InlineBytes(pem)) = context.trusted_ca.unwrap().specifier else { panic!("nothing in it") };
    assert_eq!(certificates(&String::from_utf8(pem).unwrap()).unwrap()[0].to_vec(), partner.der());

    // Nothing of ours lets anybody in by it, whatever he calls himself.
    for id in ["spiffe://partner.example/billing", fleet.spiffe_id.as_str(), "spiffe://dev.legate/legate/registry"] {
        let foreign = certify(&partner.ca, &SpiffeId::parse(id).unwrap());
        for service in legate::dev::pki::SERVICES {
            let mut health = tonic_health::pb::health_client::HealthClient::new(raised.dial(service, foreign.clone()));
            let asked = health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap_err();
            assert!(is_shut_out(&asked), "{id} at {service}: {asked}");
        }
    }
    // Taken back it verifies nobody.
    scene::take_back(&raised, legate_wire::registry::Kind::FederatedTrustDomain, "partner").await;
    let pushed = tokio::time::timeout(LONG, stream.message()).await.expect("nothing comes").unwrap().unwrap();
    assert!(pushed.federated_bundles.is_empty());
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tainted_ca_has_every_svid_replaced_and_is_dropped_when_it_is_over() {
    let raised = Raised::with_node().await;
    let fleet = Fleet::declared(&raised, "LOW").await;
    let mut api = scene::api(&fleet.endpoint);
    let mut stream = api.fetch_x509svid(marked(X509svidRequest {})).await.unwrap().into_inner();
    let mut next = async || {
        let message = tokio::time::timeout(LONG, stream.message()).await.expect("nothing comes").unwrap().unwrap();
        (message.svids[0].x509_svid.clone(), message.svids[0].spiffe_id.clone(), message.svids[0].bundle.clone())
    };
    let (first, name, bundle) = next().await;
    let mut keys = KeyAdminServiceClient::new(raised.operator("credential-issuer"));
    let (purpose, reason) = (i32::from(KeyPurpose::WorkloadsCa), String::from("a test"));
    let listed = keys.list_keys(ListKeysRequest { purpose, ..Default::default() }).await.unwrap().into_inner().keys;
    let old = listed.into_iter().find(|key| key.state() == KeyState::Active).unwrap();
    assert_eq!(bundle, old.certificate);
    let prepare = PrepareKeyRequest { purpose, reason: reason.clone() };
    let new = keys.prepare_key(prepare).await.unwrap().into_inner().key.unwrap();
    // Both verify, and nobody has a new one yet.
    let (same, _, both) = next().await;
    assert_eq!(same, first);
    assert!(both.len() == old.certificate.len() + new.certificate.len());
    let rotate = RotateKeyRequest { purpose, now: true, compromised: false, reason: reason.clone() };
    keys.rotate_key(rotate).await.unwrap();
    keys.taint_key(TaintKeyRequest { kid: old.kid.clone(), reason: reason.clone() }).await.unwrap();
    // The order of the authorities may be told first; then the SVID is another, of the same instance, by the new CA.
    let second = loop {
        let (now, who, _) = next().await;
        assert_eq!(who, name);
        if now != first {
            break now;
        }
    };
    assert_eq!(issuer_of(&second), key_id_of(&new.certificate));
    assert_eq!(issuer_of(&first), key_id_of(&old.certificate));
    // So is the node's own: it is let in by it once the old CA is over.
    let file = raised.suite.layout().root().join("workload/node.pem");
    let nodes = || certificates(&std::fs::read_to_string(&file).unwrap()).unwrap()[0].to_vec();
    scene::until(async || issuer_of(&nodes()) == key_id_of(&new.certificate)).await;
    let retire = RetireKeyRequest { kid: old.kid, compromised: true, reason };
    keys.retire_key(retire).await.unwrap();
    loop {
        let (now, _, bundle) = next().await;
        assert_eq!(now, second, "what is of the new one stays");
        if bundle == new.certificate {
            break;
        }
    }
    raised.suite.shutdown().await;
}

/// The authority key identifier of a leaf.
fn issuer_of(leaf: &[u8]) -> Vec<u8> {
    use x509_parser::prelude::{FromDer as _, ParsedExtension, X509Certificate};
    let (_, cert) = X509Certificate::from_der(leaf).unwrap();
    let found = cert.extensions().iter().find_map(|e| match e.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0.to_vec()),
        _ => None,
    });
    found.unwrap()
}

/// The subject key identifier of a CA.
fn key_id_of(ca: &[u8]) -> Vec<u8> {
    use x509_parser::prelude::{FromDer as _, ParsedExtension, X509Certificate};
    let (_, cert) = X509Certificate::from_der(ca).unwrap();
    let found = cert.extensions().iter().find_map(|e| match e.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    });
    found.unwrap()
}
