//! Other trust domains: whose bundles are fetched, kept and told to which nodes.

use std::sync::Arc;
use std::time::Duration;

use base64ct::{Base64, Encoding as _};
use futures_util::StreamExt as _;
use legate_clock::Clock as _;
use legate_db::Fault::{NotPersisted, PersistedButReplyLost};
use legate_db::testing::on_each;
use legate_mtls::pki;
use legate_wire::credential as wire;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{BundleEndpoint, FederatedTrustDomain, FederatedTrustDomainSpec, Metadata};
use serde_json::{Value, json};

use super::outside::{Answer, Outside};
use super::registry::NAMESPACE;
use super::scene::{Scene, reason};
use super::workload::{node, ready};
use crate::federation::{Federation, FederationConfig};
use crate::flow::{Call, federate, watch_node};
use crate::schema::Migrator;

fn declared(name: &str, change: impl FnOnce(&mut FederatedTrustDomainSpec)) -> Object {
    let mut spec = FederatedTrustDomainSpec { trust_domain: "partner.example".into(), ..Default::default() };
    change(&mut spec);
    let metadata = Metadata {
        name: name.into(),
        namespace: NAMESPACE.into(),
        id: format!("obj_{name}"),
        version: 1,
        ..Metadata::default()
    };
    Object::FederatedTrustDomain(FederatedTrustDomain { metadata: Some(metadata), spec: Some(spec) })
}

fn at(url: String, spiffe_id: &str) -> Option<BundleEndpoint> {
    Some(BundleEndpoint { url, spiffe_id: spiffe_id.into() })
}

/// A bundle with one CA and one key.
fn bundle(scene: &Scene, sequence: u64) -> (String, Vec<u8>) {
    let ca = pki::Ca::generate("partner", scene.clock.now(), Duration::from_secs(36_000)).unwrap();
    let der = pki::certificates(ca.cert_pem()).unwrap()[0].to_vec();
    (text(&[&der], sequence), der)
}

fn text(authorities: &[&[u8]], sequence: u64) -> String {
    let x509 = |der: &&[u8]| json!({ "use": "x509-svid", "kty": "EC", "x5c": [Base64::encode_string(der)] });
    let jwt = json!({ "use": "jwt-svid", "kty": "EC", "crv": "P-256", "kid": "a", "x": "AA", "y": "AA" });
    let keys: Vec<Value> = authorities.iter().map(x509).chain([jwt]).collect();
    json!({ "keys": keys, "spiffe_sequence": sequence, "spiffe_refresh_hint": 60 }).to_string()
}

/// A scene that may fetch from the server.
async fn reaching(
    fixture: &legate_db::testing::Fixture,
    outside: impl AsyncFnOnce(&Scene) -> Outside,
) -> (Scene, Outside) {
    let mut scene = Scene::on(fixture).await;
    let outside = outside(&scene).await;
    let config = FederationConfig {
        allow_private: vec!["127.0.0.1/32".parse().unwrap()],
        ca: Some(outside.write_ca(scene.dir.path())),
        ..FederationConfig::default()
    };
    let federation = Federation::new(&config, scene.clock.clone()).unwrap();
    Arc::get_mut(&mut scene.desk).unwrap().federation = federation;
    ready(&scene).await;
    (scene, outside)
}

async fn told(scene: &Scene, call: &Call) -> wire::NodeState {
    let mut news = watch_node::watch(&scene.desk, call.clone()).unwrap();
    loop {
        if let Some(state) = news.next().await.unwrap().unwrap().state {
            return state;
        }
    }
}

/// The CA certificates that are told of the one source.
fn authorities(state: &wire::NodeState) -> Vec<Vec<u8>> {
    state.federated_bundles.iter().flat_map(|one| one.x509_authorities.clone()).collect()
}

#[tokio::test]
async fn a_bundle_is_fetched_told_and_kept_when_the_next_does_not_come() {
    on_each::<Migrator>(async |fixture| {
        let (scene, outside) =
            reaching(&fixture, async |scene: &Scene| Outside::new(scene.clock.clone(), Answer::of(503, "")).await)
                .await;
        let call = scene.holder(&node(&scene, NAMESPACE, "vm-1").await);
        let foreign = scene.holder(&node(&scene, "platform", "vm-1").await);
        scene.declare(declared("partner", |spec| spec.endpoint = at(outside.url(), ""))).await;
        federate::look(&scene.desk).await.unwrap();
        let state = told(&scene, &call).await;
        assert!(state.federated_bundles.is_empty() && state.entitlements[0].federates_with.is_empty());
        assert_eq!(scene.count("federation.bundle_unreached").await, 1);

        let (first, ca) = bundle(&scene, 3);
        outside.answers(Answer::of(200, first));
        scene.pass(Duration::from_secs(10)).await;
        // What is not on record is not served; what is may be recorded twice, and is told once.
        scene.desk.db.faults().plan("keep_bundle", NotPersisted);
        federate::look(&scene.desk).await.unwrap();
        assert!(told(&scene, &call).await.federated_bundles.is_empty());
        scene.pass(Duration::from_secs(10)).await;
        scene.desk.db.faults().plan("keep_bundle", PersistedButReplyLost);
        federate::look(&scene.desk).await.unwrap();
        scene.pass(Duration::from_secs(10)).await;
        federate::look(&scene.desk).await.unwrap();
        let state = told(&scene, &call).await;
        assert_eq!(authorities(&state), std::slice::from_ref(&ca));
        assert_eq!(state.entitlements[0].federates_with, ["payments/partner"]);
        assert_eq!(scene.count("federation.bundle_changed").await, 1);
        assert!(told(&scene, &foreign).await.federated_bundles.is_empty(), "it vouches for no agent of the namespace");

        // Nothing, an error, a redirect, no bundle, an older one: the last good one stands.
        let old = bundle(&scene, 2).0;
        for bad in [Answer::of(500, ""), Answer::of(302, ""), Answer::of(200, "{}"), Answer::of(200, old)] {
            outside.answers(bad);
            scene.pass(Duration::from_secs(61)).await;
            let asked = outside.asked();
            federate::look(&scene.desk).await.unwrap();
            assert_eq!(outside.asked(), asked + 1);
            assert_eq!(authorities(&told(&scene, &call).await), std::slice::from_ref(&ca));
        }
        assert_eq!(scene.count("federation.bundle_unreached").await, 2, "once each time that it begins");
        // A process that starts has it before it has fetched anything, and not for ever.
        scene.desk.bundles.retain(|_| false);
        federate::look(&scene.desk).await.unwrap();
        assert_eq!(authorities(&told(&scene, &call).await), std::slice::from_ref(&ca));
        let (next, newer) = bundle(&scene, 4);
        outside.answers(Answer::of(200, next));
        scene.pass(Duration::from_secs(61)).await;
        federate::look(&scene.desk).await.unwrap();
        assert_eq!(authorities(&told(&scene, &call).await), [newer]);
        assert_eq!(scene.count("federation.bundle_changed").await, 2);
        scene.take_back(declared("partner", |spec| spec.endpoint = at(outside.url(), ""))).await;
        federate::look(&scene.desk).await.unwrap();
        assert!(told(&scene, &call).await.federated_bundles.is_empty());
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_with_a_spiffe_id_is_believed_by_its_own_bundle_alone() {
    on_each::<Migrator>(async |fixture| {
        let (scene, outside) =
            reaching(&fixture, async |scene: &Scene| Outside::new(scene.clock.clone(), Answer::of(503, "")).await)
                .await;
        let call = scene.holder(&node(&scene, NAMESPACE, "vm-1").await);
        let ca = pki::certificates(&std::fs::read_to_string(outside.write_ca(scene.dir.path())).unwrap()).unwrap();
        let (other, _) = bundle(&scene, 1);
        let (new, newer) = bundle(&scene, 2);
        outside.answers(Answer::of(200, new));
        // The server is `spiffe://outside.example/server`, by a CA that the web's clients believe as well.
        let own = text(&[&ca[0]], 1);
        for (what, bundle, id) in [
            ("another server", own.as_str(), "spiffe://outside.example/other"),
            ("another CA", other.as_str(), "spiffe://outside.example/server"),
        ] {
            let spec = |spec: &mut FederatedTrustDomainSpec| {
                (spec.trust_domain, spec.bundle) = ("outside.example".into(), bundle.into());
                spec.endpoint = at(outside.url(), id);
            };
            scene.declare(declared("outside", spec)).await;
            federate::look(&scene.desk).await.unwrap();
            assert_ne!(authorities(&told(&scene, &call).await), std::slice::from_ref(&newer), "{what}");
        }
        let spec = |spec: &mut FederatedTrustDomainSpec| {
            (spec.trust_domain, spec.bundle) = ("outside.example".into(), own.clone());
            spec.endpoint = at(outside.url(), "spiffe://outside.example/server");
        };
        scene.declare(declared("outside", spec)).await;
        federate::look(&scene.desk).await.unwrap();
        assert_eq!(authorities(&told(&scene, &call).await), std::slice::from_ref(&newer));
        // From now on the fetched one verifies the server, and it does not know the server's CA: the last good one stands.
        scene.pass(Duration::from_secs(61)).await;
        let asked = outside.asked();
        federate::look(&scene.desk).await.unwrap();
        assert_eq!((outside.asked(), authorities(&told(&scene, &call).await)), (asked, vec![newer]));
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_reached_or_is_ourselves_is_not_served() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        ready(&scene).await;
        let call = scene.holder(&node(&scene, NAMESPACE, "vm-1").await);
        let (good, ca) = bundle(&scene, 1);
        // Our own trust domain, whatever the registry took: nobody else says what verifies our agents.
        let ours = |spec: &mut FederatedTrustDomainSpec| {
            (spec.trust_domain, spec.bundle) = ("example.org".into(), good.clone());
        };
        scene.declare(declared("ours", ours)).await;
        // A private address that the configuration does not name.
        let inside = Outside::new(scene.clock.clone(), Answer::of(200, good.clone())).await;
        scene.declare(declared("inside", |spec| spec.endpoint = at(inside.url(), ""))).await;
        federate::look(&scene.desk).await.unwrap();
        let state = told(&scene, &call).await;
        assert!(state.federated_bundles.is_empty(), "{state:?}");
        assert_eq!(inside.asked(), 0);
        assert_eq!(authorities(&told(&scene, &call).await), Vec::<Vec<u8>>::new());
        // What is declared needs nobody.
        scene.declare(declared("a-given", |spec| spec.bundle = good.clone())).await;
        federate::look(&scene.desk).await.unwrap();
        let state = told(&scene, &call).await;
        assert_eq!((authorities(&state), state.federated_bundles[0].source.as_str()), (vec![ca], "payments/a-given"));
        // Without a view that is fresh nothing is decided.
        scene.registry.answers.store(false, std::sync::atomic::Ordering::SeqCst);
        scene.clock.advance(Duration::from_secs(6));
        assert_eq!(reason(federate::look(&scene.desk).await), "VIEW_STALE");
    })
    .await;
}
