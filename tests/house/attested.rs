//! Processes of this machine obtain their identities from its node helper, on a raised suite: who gets what, and when it is taken away.

mod broker;
mod foreign;
mod hashed;
mod machine;
mod platform;
mod scene;
mod stopped;
mod survival;
mod tools;

use std::time::Duration;

use legate_client::{IdentitySource, Runtime};
use legate_clock::{Clock as _, SystemClock, TestClock};
use legate_rpc::{Code, Told};
use legate_wire::credential::instance_service_client::InstanceServiceClient;
use legate_wire::credential::{InstanceState, RevokeInstanceRequest};
use legate_wire::registry::RevocationReason;
use legate_wire::sds::secret::Type as Secret;
use legate_wire::sds::secret_discovery_service_client::SecretDiscoveryServiceClient;
use legate_wire::sds::{DiscoveryRequest, data_source::Specifier};
use legate_wire::spiffe::{
    JwtBundlesRequest, JwtsvidRequest, ValidateJwtsvidRequest, X509BundlesRequest, X509svidRequest,
};
use prost::Message as _;
use tonic::{Request, Status};

use crate::raised::{AUDIENCE, LONG, Raised};
use scene::{Api, Fleet, Watched, channel, marked};

/// The code and the reason with which a call ends; a stream's first message counts as an answer.
fn word(status: &Status) -> (Code, String) {
    let told = Told::from_status(status);
    (told.code, told.reason)
}

/// Whether the other end let nobody in: what failed is the connection, and no answer of a service.
fn is_shut_out(status: &Status) -> bool {
    std::error::Error::source(status).is_some_and(|why| why.is::<tonic::transport::Error>())
}

/// Each of the five calls with this metadata, to its first answer.
async fn five(api: &mut Api, metadata: &[&'static str]) -> Vec<Option<(Code, String)>> {
    fn with<T>(message: T, metadata: &[&'static str]) -> Request<T> {
        let mut request = Request::new(message);
        for value in metadata {
            request.metadata_mut().append("workload.spiffe.io", value.parse().unwrap());
        }
        request
    }
    macro_rules! first {
        ($call:expr) => {
            match $call.await {
                Err(status) => Some(word(&status)),
                Ok(answer) => answer.into_inner().message().await.err().map(|status| word(&status)),
            }
        };
    }
    let audience = vec![AUDIENCE.to_owned()];
    let jwt = JwtsvidRequest { audience, spiffe_id: String::new() };
    let shown = ValidateJwtsvidRequest { audience: AUDIENCE.into(), svid: "a.b.c".into() };
    vec![
        first!(api.fetch_x509svid(with(X509svidRequest {}, metadata))),
        first!(api.fetch_x509_bundles(with(X509BundlesRequest {}, metadata))),
        api.fetch_jwtsvid(with(jwt, metadata)).await.err().map(|status| word(&status)),
        first!(api.fetch_jwt_bundles(with(JwtBundlesRequest {}, metadata))),
        api.validate_jwtsvid(with(shown, metadata)).await.err().map(|status| word(&status)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_needs_the_header_and_a_policy() {
    let raised = Raised::with_node().await;
    let endpoint = raised.suite.helper().unwrap().endpoint();
    let mut api = scene::api(&endpoint);
    for metadata in [&[][..], &["True"], &["1"], &["true", "true"]] {
        for answer in five(&mut api, metadata).await {
            let (code, reason) = answer.unwrap();
            assert_eq!((code, &*reason), (Code::InvalidArgument, "WORKLOAD_HEADER_MISSING"), "{metadata:?}");
        }
    }
    for answer in five(&mut api, &["true"]).await {
        let (code, reason) = answer.unwrap();
        assert_eq!((code, &*reason), (Code::PermissionDenied, "WORKLOAD_NOT_ENTITLED"));
    }
    let fleet = Fleet::declared(&raised, "LOW").await;
    let mut first = fleet.watched().await;
    first.holds().await;
    let answers = five(&mut api, &["true"]).await;
    let invalid = Some((Code::InvalidArgument, "SVID_INVALID".to_owned()));
    assert_eq!(answers, [None, None, None, None, invalid]);
    // A method that the standard has and we have not.
    let mut client = tonic::client::Grpc::new(channel(&endpoint));
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<X509svidRequest, X509svidRequest>::default();
    let path = http::uri::PathAndQuery::from_static("/SpiffeWorkloadAPI/FetchWITSVID");
    let unknown = client.unary(marked(X509svidRequest {}), path, codec).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unimplemented);
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_proves_itself_by_what_it_is_and_does_its_work() {
    let raised = Raised::with_node().await;
    let fleet = Fleet::declared(&raised, "LOW").await;
    let source = IdentitySource::at(&fleet.endpoint, LONG).await.unwrap();
    let id = source.identity().spiffe_id().unwrap();
    assert!(id.as_str().starts_with(&format!("{}/instance/inst_", fleet.spiffe_id)), "{id}");
    // Over its certificate it gets an access token; the certificate itself is renewed by its node alone.
    let runtime = Runtime::new(&raised.remote("credential-issuer"), source.identity().clone()).unwrap();
    let token = runtime.token(scene::AUDIENCE).await.unwrap();
    assert!(!token.access_token.is_empty());
    assert!(runtime.renew().await.unwrap_err().is_refusal());
    // JWT-SVIDs: the same until half of their life, good for their audience alone.
    let jwt = source.jwt(AUDIENCE).await.unwrap();
    assert_eq!(*jwt, *source.jwt(AUDIENCE).await.unwrap());
    let mut api = scene::api(&fleet.endpoint);
    let ask = |audience: &str| ValidateJwtsvidRequest { audience: audience.into(), svid: jwt.to_string() };
    let told = api.validate_jwtsvid(marked(ask(AUDIENCE))).await.unwrap().into_inner();
    assert_eq!(told.spiffe_id, id.as_str());
    assert!(told.claims.unwrap().fields.contains_key("exp"));
    let other = api.validate_jwtsvid(marked(ask("https://elsewhere.example.com"))).await.unwrap_err();
    assert_eq!(word(&other), (Code::InvalidArgument, "SVID_INVALID".into()));
    // An access token is no JWT-SVID.
    let access = ValidateJwtsvidRequest { audience: scene::AUDIENCE.into(), svid: token.access_token };
    assert_eq!(api.validate_jwtsvid(marked(access)).await.unwrap_err().code(), Code::InvalidArgument);
    // The same process is given the same bytes.
    let (mut one, mut two) = (fleet.watched().await, fleet.watched().await);
    assert_eq!(one.holds().await, two.holds().await);
    // Another that is the same program is another instance, which ends with it.
    let child = fleet.child().await;
    let (_, instance) = child.svid.rsplit_once('/').unwrap();
    assert!(!id.as_str().ends_with(instance));
    assert_eq!(scene::instance(&raised, instance).await.state(), InstanceState::Live);
    drop(child.process);
    scene::until(async || scene::instance(&raised, instance).await.state() == InstanceState::Revoked).await;
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_takes_the_same_from_the_same_socket() {
    let raised = Raised::with_node().await;
    let fleet = Fleet::declared(&raised, "LOW").await;
    let mut sds = SecretDiscoveryServiceClient::new(channel(&fleet.endpoint));
    let (asks, asked) = tokio::sync::mpsc::channel(4);
    let ask = |names: &[&str]| DiscoveryRequest {
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..DiscoveryRequest::default()
    };
    asks.send(ask(&["default", "ROOTCA", "nothing"])).await.unwrap();
    let mut watched = fleet.watched().await;
    watched.holds().await;
    let stream = tokio_stream::wrappers::ReceiverStream::new(asked);
    let mut answers = sds.stream_secrets(stream).await.unwrap().into_inner();
    let secrets = |answer: legate_wire::sds::DiscoveryResponse| -> Vec<(String, String)> {
        let read = |any: &prost_types::Any| {
            let secret = legate_wire::sds::Secret::decode(any.value.as_slice()).unwrap();
            let source = match secret.r#type.unwrap() {
                Secret::TlsCertificate(cert) => cert.certificate_chain.unwrap(),
                Secret::ValidationContext(context) => context.trusted_ca.unwrap(),
            };
            let Some(Specifier::InlineBytes(bytes)) = source.specifier else { panic!("nothing in it") };
            (secret.name, String::from_utf8(bytes).unwrap())
        };
        answer.resources.iter().map(read).collect()
    };
    let first = secrets(answers.message().await.unwrap().unwrap());
    assert_eq!(first.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["default", "ROOTCA"]);
    let roots = std::fs::read_to_string(raised.suite.layout().workloads_ca()).unwrap();
    assert_eq!(first[1].1.replace(['\r', '\n'], ""), roots.replace(['\r', '\n'], ""));
    // By its own name, and that of the trust domain; an answer that was taken brings no other.
    let named = [watched.spiffe_id.clone(), "spiffe://dev.legate".to_owned()];
    asks.send(ask(&[&named[0], &named[1]])).await.unwrap();
    let second = secrets(answers.message().await.unwrap().unwrap());
    assert_eq!(second.iter().map(|(_, pem)| pem).collect::<Vec<_>>(), [&first[0].1, &first[1].1]);
    // Replaced, it is told anew.
    raised.suite.helper().unwrap().serving().rotate();
    let third = secrets(answers.message().await.unwrap().unwrap());
    assert_ne!(third[0].1, first[0].1);
    let wrong = DiscoveryRequest { type_url: "type.googleapis.com/x".into(), ..ask(&[]) };
    assert_eq!(sds.fetch_secrets(wrong).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(secrets(sds.fetch_secrets(ask(&[])).await.unwrap().into_inner()).len(), 2);
    fleet.suspend(&raised).await;
    assert_eq!(answers.message().await.unwrap_err().code(), Code::PermissionDenied);
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_any_more_is_taken_away() {
    let raised = Raised::with_node().await;
    let fleet = Fleet::declared(&raised, "LOW").await;
    let mut source = IdentitySource::at(&fleet.endpoint, LONG).await.unwrap();
    let mut watched = fleet.watched().await;
    let first = watched.holds().await;
    fleet.suspend(&raised).await;
    assert_eq!(watched.ends().await, (Code::PermissionDenied, "WORKLOAD_NOT_ENTITLED".into()));
    source.changed().await;
    assert_eq!(source.identity().spiffe_id(), None, "it is let go of");
    assert_eq!(fleet.watched().await.ends().await.0, Code::PermissionDenied);
    // Active again it is another instance: what was cut off stays so.
    fleet.resume(&raised).await;
    let second = fleet.held_at_last().await;
    assert_ne!(second, first);
    source.changed().await;
    assert_ne!(source.identity().spiffe_id(), None);

    // An instance that was revoked is not replaced for the same process, and is for another.
    let mut watched = fleet.watched().await;
    watched.holds().await;
    let (_, instance) = watched.spiffe_id.rsplit_once('/').unwrap();
    let request = RevokeInstanceRequest {
        instance_id: instance.to_owned(),
        reason: RevocationReason::KeyCompromise.into(),
        comment: "a test".into(),
    };
    InstanceServiceClient::new(raised.operator("credential-issuer")).revoke_instance(request).await.unwrap();
    assert_eq!(watched.ends().await.0, Code::PermissionDenied);
    assert_eq!(fleet.watched().await.ends().await.0, Code::PermissionDenied);
    let child = fleet.child().await;
    assert_ne!(child.svid, watched.spiffe_id);
    drop(child);

    // A policy that is taken back entitles nobody.
    let child = fleet.child().await;
    fleet.withdraw_policy(&raised).await;
    let (_, instance) = child.svid.rsplit_once('/').unwrap();
    scene::until(async || scene::instance(&raised, instance).await.state() != InstanceState::Live).await;
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn svids_are_replaced_at_half_of_their_life_and_overlap() {
    let raised = Raised::new().await;
    let fleet = Fleet::declared_with_nodes(&raised, "LOW").await;
    let clock = TestClock::at(SystemClock::new().now());
    let helper = fleet.helper(&raised, clock.clone()).await;
    let fleet = Fleet { endpoint: helper.endpoint(), ..fleet };
    let mut watched = fleet.watched().await;
    let first = watched.holds().await;
    let name = watched.spiffe_id.clone();
    clock.advance(Duration::from_secs(20 * 60));
    assert_eq!(fleet.watched().await.holds().await, first, "before half of its life the same bytes");
    clock.advance(Duration::from_secs(12 * 60));
    // Whoever asks is given what there is, and everybody what follows.
    let _asks = fleet.watched().await.holds().await;
    let second = watched.holds().await;
    assert_ne!(second, first);
    assert_eq!(watched.spiffe_id, name, "it is the same instance");
    // The first is good on: both work at credential-issuer.
    for identity in [&first, &second] {
        let runtime = Runtime::new(&raised.remote("credential-issuer"), identity.identity()).unwrap();
        runtime.token(scene::AUDIENCE).await.unwrap();
    }
    helper.shutdown().await;
    assert_eq!(watched.ends().await.0, Code::Ok, "what is held is good on");
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_credential_issuer_what_there_is_goes_on() {
    let mut raised = Raised::new().await;
    let fleet = Fleet::declared_with_nodes(&raised, "HIGH").await;
    let clock = TestClock::at(SystemClock::new().now());
    let helper = fleet.helper(&raised, clock.clone()).await;
    let fleet = Fleet { endpoint: helper.endpoint(), ..fleet };
    let mut watched = fleet.watched().await;
    let held = watched.holds().await;
    assert_eq!(helper.serving().standing().issuer(), Ok(()));
    raised.suite.lower("credential-issuer").await;
    // A second stream of the same process is given the same, by a helper that nobody tells anything.
    assert_eq!(fleet.watched().await.holds().await, held);
    let child = fleet.refused_child().await;
    assert!(child.contains("Unavailable"), "{child}");
    clock.advance(Duration::from_secs(11));
    let told = helper.serving().standing().issuer().unwrap_err();
    assert!(told.contains("served until they end"), "{told}");
    assert_eq!(fleet.watched().await.holds().await, held);
    // Of a high risk: no longer than was said, though the certificate is good.
    clock.advance(Duration::from_secs(300));
    assert_eq!(fleet.watched().await.ends().await, (Code::Unavailable, "WORKLOAD_UNHEARD".into()));
    assert_eq!(watched.ends().await, (Code::Unavailable, "WORKLOAD_UNHEARD".into()));
    helper.shutdown().await;
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_taken_back_serves_nobody() {
    let raised = Raised::new().await;
    let fleet = Fleet::declared_with_nodes(&raised, "LOW").await;
    let helper = fleet.helper(&raised, SystemClock::shared()).await;
    let fleet = Fleet { endpoint: helper.endpoint(), ..fleet };
    let mut watched = fleet.watched().await;
    watched.holds().await;
    fleet.take_node_back(&raised).await;
    let (code, reason) = watched.ends().await;
    assert_eq!(code, Code::PermissionDenied, "{reason}");
    scene::until(async || fleet.watched().await.ends().await.1 == "NODE_REFUSED").await;
    helper.shutdown().await;
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_closed_and_a_second_helper_refused() {
    let raised = Raised::with_node().await;
    let fleet = Fleet::declared(&raised, "LOW").await;
    let path = fleet.endpoint.strip_prefix("unix://").unwrap();
    let mut silent = tokio::net::UnixStream::connect(path).await.unwrap();
    let mut said = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut silent, &mut said);
    // The settings of HTTP/2, and then the end.
    tokio::time::timeout(LONG, read).await.expect("it is held open").ok();
    let mut watched: Watched = fleet.watched().await;
    watched.holds().await;
    raised.suite.shutdown().await;
    assert!(!std::path::Path::new(path).exists(), "the socket is taken away");
}

/// Not a test of its own: what a child process of these tests does.
#[tokio::test]
async fn a_process_asks() {
    scene::asks().await;
}
