//! Agents without secrets: a node enrols, vouches for a process, and the process is its agent, over real mutual TLS, until somebody stops it.

use base64ct::{Base64, Base64UrlUnpadded, Encoding as _};
use legate_client::{RuntimeKey, chain_pem};
use legate_mtls::Identity;
use legate_rpc::{Client, Told};
use legate_token::{EcVerifier as _, P256Verifier, PublicKey};
use legate_wire::credential::create_enrolment_token_request::Holder;
use legate_wire::credential::credential_admin_service_client::CredentialAdminServiceClient;
use legate_wire::credential::enrolment_service_client::EnrolmentServiceClient;
use legate_wire::credential::instance_service_client::InstanceServiceClient;
use legate_wire::credential::key_service_client::KeyServiceClient;
use legate_wire::credential::token_service_client::TokenServiceClient;
use legate_wire::credential::workload_service_client::WorkloadServiceClient;
use legate_wire::credential::{
    CreateEnrolmentTokenRequest, EndInstanceRequest, EnrolRequest, GetTrustBundleRequest, IntrospectRequest,
    IssueJwtSvidRequest, IssueX509SvidRequest, IssueX509SvidResponse, ListInstancesRequest, NodeRef, NodeState,
    WatchNodeRequest, WatchNodeResponse,
};
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::{
    AgentRef, ApplyDeclarationsRequest, AttestationPolicy, AttestationPolicySpec, AttestationSelector,
    AttestationSelectorType, CredentialMethod, CredentialPolicy, CredentialPolicySpec, Declaration, Metadata,
    ObjectName, RiskTier, SuspendAgentRequest,
};
use serde_json::Value;
use tonic::Streaming;

use crate::asking::{Shown, ask, question, word};
use crate::log::Log;
use crate::oauth::Clients;
use crate::raised::{LONG, Raised, id_of};

fn metadata(namespace: &str, name: &str) -> Option<Metadata> {
    Some(Metadata { namespace: namespace.into(), name: name.into(), ..Metadata::default() })
}

/// The example, whose class lists attestation, and the policy that makes processes of the user 1700 its agent.
fn declared(nodes: &[&str]) -> Vec<Declaration> {
    let path = crate::blessed::root().join("deploy/examples/invoice.yaml");
    let documents = legate::manifest::load(&[path]).unwrap_or_else(|e| panic!("{e}"));
    let mut all: Vec<Declaration> = documents.into_iter().map(|document| document.declaration).collect();
    for declaration in &mut all {
        match &mut declaration.object {
            Some(Object::AgentClass(class)) => class.spec.as_mut().unwrap().credential_policy = "attested".into(),
            Some(Object::Agent(agent)) => agent.spec.as_mut().unwrap().risk_tier = RiskTier::Critical.into(),
            _ => {}
        }
    }
    let methods = [CredentialMethod::EnrolmentToken, CredentialMethod::Attestation].map(Into::into).to_vec();
    let methods = CredentialPolicySpec { methods, ..CredentialPolicySpec::default() };
    let spec = AttestationPolicySpec {
        agent: "invoice-bot".into(),
        selectors: selectors("1700")[..1].to_vec(),
        nodes: nodes.iter().map(ToString::to_string).collect(),
        ..AttestationPolicySpec::default()
    };
    let policy = CredentialPolicy { metadata: metadata("payments", "attested"), spec: Some(methods) };
    let believes = AttestationPolicy { metadata: metadata("payments", "bot-on-vm"), spec: Some(spec) };
    all.extend(
        [Object::CredentialPolicy(policy), Object::AttestationPolicy(believes)]
            .map(|object| Declaration { object: Some(object) }),
    );
    all
}

fn selectors(uid: &str) -> Vec<AttestationSelector> {
    let of = |of: AttestationSelectorType, value: &str| AttestationSelector { r#type: of.into(), value: value.into() };
    vec![of(AttestationSelectorType::UnixUid, uid), of(AttestationSelectorType::UnixPath, "/usr/bin/invoice-bot")]
}

#[allow(clippy::result_large_err, reason = "a test tells a refusal whole, and seldom")]
async fn apply(raised: &Raised, declarations: Vec<Declaration>, removals: Vec<ObjectName>) -> Result<u64, Told> {
    let request = ApplyDeclarationsRequest { declarations, removals, reason: "a test".into(), ..Default::default() };
    let applied = DeclarationServiceClient::new(raised.operator("registry")).apply_declarations(request).await;
    applied.map(|answer| answer.into_inner().revision).map_err(|status| Told::from_status(&status))
}

fn process(key: &RuntimeKey, request_id: &str) -> IssueX509SvidRequest {
    IssueX509SvidRequest {
        namespace: "payments".into(),
        policy: "bot-on-vm".into(),
        selectors: selectors("1700"),
        csr: key.request().unwrap(),
        instance_id: String::new(),
        request_id: request_id.into(),
        ..IssueX509SvidRequest::default()
    }
}

fn identity(key: &RuntimeKey, issued: &IssueX509SvidResponse) -> Identity {
    Identity::from_pem(&chain_pem(&issued.certificate_chain), &key.to_pem()).unwrap()
}

type Workloads = WorkloadServiceClient<Client>;

#[allow(clippy::result_large_err, reason = "a test tells a refusal whole, and seldom")]
async fn issue(node: &mut Workloads, request: IssueX509SvidRequest) -> Result<IssueX509SvidResponse, Told> {
    let answer = node.issue_x509_svid(request).await;
    answer.map(tonic::Response::into_inner).map_err(|status| Told::from_status(&status))
}

/// Reads a stream until a state of which something is so.
async fn until(news: &mut Streaming<WatchNodeResponse>, is_so: impl Fn(&NodeState) -> bool) -> NodeState {
    let look = async {
        loop {
            let told = news.message().await.unwrap().unwrap();
            if let Some(state) = told.state.filter(|state| is_so(state)) {
                return state;
            }
        }
    };
    tokio::time::timeout(LONG, look).await.unwrap()
}

async fn jwt_svid(node: &mut Workloads, instance: &str) -> Result<String, tonic::Status> {
    let ask = IssueJwtSvidRequest {
        instance_id: instance.into(),
        selectors: selectors("1700"),
        audiences: vec!["https://llm.example".into()],
        ..IssueJwtSvidRequest::default()
    };
    node.issue_jwt_svid(ask).await.map(|answer| answer.into_inner().svid)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_a_secret_is_known_by_what_its_node_attests() {
    let raised = Raised::new().await;
    apply(&raised, declared(&[]), vec![]).await.unwrap();
    let agent = id_of(&raised.agent().await);
    let mut node = Workloads::new(raised.dial("credential-issuer", raised.node("payments", "vm-1").await));
    let mut news = node.watch_node(WatchNodeRequest {}).await.unwrap().into_inner();
    let state = until(&mut news, |state| state.entitlements.iter().any(|one| one.is_usable)).await;
    let entitled = &state.entitlements[0];
    assert_eq!((entitled.agent_id.as_str(), entitled.policy.as_str()), (agent.as_str(), "bot-on-vm"));
    assert_eq!(entitled.serve_unheard.as_ref().map(|span| span.seconds), Some(15));

    // The process becomes an instance; its certificate opens what an agent's opens, and nothing else.
    let key = RuntimeKey::generate().unwrap();
    let issued = issue(&mut node, process(&key, "first")).await.unwrap();
    let credential = issued.credential.clone().unwrap();
    let holder = format!("{}/instance/{}", entitled.spiffe_id, credential.instance_id);
    assert_eq!((&credential.spiffe_id, issued.lifecycle_version), (&holder, entitled.lifecycle_version));
    let bot = raised.dial("credential-issuer", identity(&key, &issued));
    let bundle =
        KeyServiceClient::new(bot.clone()).get_trust_bundle(GetTrustBundleRequest {}).await.unwrap().into_inner();
    assert_eq!(Some(&bundle.workload_roots), state.bundle.as_ref().map(|bundle| &bundle.x509_authorities));
    let refused = Workloads::new(bot.clone()).watch_node(WatchNodeRequest {}).await.unwrap_err();
    assert_eq!(Told::from_status(&refused).reason, "ACCESS_DENIED");

    // Who it is, said to somebody outside, verifies by what anybody can fetch.
    let clients = Clients { raised: &raised };
    let told = clients.get("/workload/.well-known/openid-configuration").await.json;
    assert_eq!(told["issuer"], format!("{}/workload", clients.url()));
    let keys = clients.get(told["jwks_uri"].as_str().unwrap().strip_prefix(&clients.url()).unwrap()).await.json;
    let svid = jwt_svid(&mut node, &credential.instance_id).await.unwrap();
    let parts: Vec<&str> = svid.split('.').collect();
    let read = |part: &str| serde_json::from_slice::<Value>(&Base64UrlUnpadded::decode_vec(part).unwrap()).unwrap();
    let (header, claims) = (read(parts[0]), read(parts[1]));
    let jwk = keys["keys"].as_array().unwrap().iter().find(|jwk| jwk["kid"] == header["kid"]).unwrap();
    let mut signature = [0; 64];
    Base64UrlUnpadded::decode(parts[2], &mut signature).unwrap();
    let public = PublicKey::from_jwk(&jwk.to_string()).unwrap();
    assert!(P256Verifier::new(&public).verify(svid.rsplit_once('.').unwrap().0.as_bytes(), &signature));
    assert_eq!((&claims["iss"], &claims["sub"]), (&told["issuer"], &Value::from(holder.clone())));
    // The SPIFFE bundle has the same keys, and the CA by which the certificate verifies.
    let spiffe = clients.get("/workload/bundle").await.json;
    let of = |word: &str| -> Vec<Value> {
        spiffe["keys"].as_array().unwrap().iter().filter(|key| key["use"] == word).cloned().collect()
    };
    let x5c: Vec<Vec<u8>> =
        of("x509-svid").iter().map(|key| Base64::decode_vec(key["x5c"][0].as_str().unwrap()).unwrap()).collect();
    assert_eq!(x5c, bundle.workload_roots);
    assert!(of("jwt-svid").iter().any(|key| key["kid"] == header["kid"]) && of("x509-svid")[0].get("kid").is_none());
    assert!(spiffe["spiffe_sequence"].as_u64().unwrap() >= 3 && spiffe["spiffe_refresh_hint"] == 300, "{spiffe}");
    // For access tokens there are other keys.
    let others = clients.get("/oauth2/jwks").await.json;
    assert!(others["keys"].as_array().unwrap().iter().all(|jwk| jwk["kid"] != header["kid"]));

    // It is stopped: the node hears of it, nothing more is issued, and what it holds opens nothing.
    let which = Some(AgentRef { id: agent.clone(), ..AgentRef::default() });
    let suspend = SuspendAgentRequest { agent: which, reason: "odd".into(), ..Default::default() };
    AgentServiceClient::new(raised.operator("registry")).suspend_agent(suspend).await.unwrap();
    until(&mut news, |state| state.entitlements.iter().all(|one| !one.is_usable)).await;
    let refused = issue(&mut node, process(&RuntimeKey::generate().unwrap(), "second")).await.unwrap_err();
    assert_eq!(refused.reason, "HOLDER_NOT_ACTIVE");
    jwt_svid(&mut node, &credential.instance_id).await.unwrap_err();
    let again = raised.dial("credential-issuer", identity(&key, &issued));
    let refused = KeyServiceClient::new(again).get_trust_bundle(GetTrustBundleRequest {}).await.unwrap_err();
    assert_eq!(Told::from_status(&refused).reason, "CALLER_NOT_ACTIVE");

    let dir = raised.suite.layout().log();
    raised.suite.shutdown().await;
    let log = Log::read(&dir);
    assert!(log.has_issuance(&credential.id));
    let recorded = log.of_type("credential.issued").find(|event| event.credential_id == credential.id).unwrap();
    assert_eq!(recorded.details["attested"], r#"["UNIX_UID:1700","UNIX_PATH:/usr/bin/invoice-bot"]"#);
    assert_eq!(log.of_type("svid.issued").count(), 1);
    assert!(log.of_type("svid.refused").any(|event| event.reason_code == "HOLDER_NOT_ACTIVE"));
    let text = format!("{:?}", log.events);
    assert!(!text.contains(parts[2]) && !text.contains(&svid), "a JWT-SVID is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_vouches_where_it_is_believed_and_for_nothing_more() {
    let raised = Raised::new().await;
    // Who is named has to be there.
    let missing = apply(&raised, declared(&["vm-1"]), vec![]).await.unwrap_err();
    assert_eq!(missing.reason, "REFERENCE_MISSING");
    apply(&raised, declared(&[]), vec![]).await.unwrap();
    let platform = legate_wire::registry::Namespace { metadata: metadata("", "platform"), ..Default::default() };
    apply(&raised, vec![Declaration { object: Some(Object::Namespace(platform)) }], vec![]).await.unwrap();
    let dial = |identity| Workloads::new(raised.dial("credential-issuer", identity));
    let mut own = dial(raised.node("payments", "vm-1").await);
    let mut other = dial(raised.node("payments", "vm-2").await);
    let mut foreign = dial(raised.node("platform", "vm-1").await);
    let key = RuntimeKey::generate().unwrap();
    let issued = issue(&mut own, process(&key, "a")).await.unwrap();
    let instance = issued.credential.clone().unwrap().instance_id;

    // What is tried, and by whom.
    let new = || RuntimeKey::generate().unwrap();
    let renewal = |id: &str| IssueX509SvidRequest { instance_id: instance.clone(), ..process(&new(), id) };
    let with = |change: &dyn Fn(&mut IssueX509SvidRequest)| {
        let mut request = process(&new(), "tried");
        change(&mut request);
        request
    };
    let mut bad = new().request().unwrap();
    *bad.last_mut().unwrap() ^= 1;
    let rows = [
        ("a policy of its own naming", with(&|r| r.policy = "other".into()), "NODE_NOT_BELIEVED"),
        ("another namespace's policy", with(&|r| r.namespace = "platform".into()), "NODE_NOT_BELIEVED"),
        ("a selector missing", with(&|r| drop(r.selectors.remove(0))), "ATTESTATION_INSUFFICIENT"),
        ("another user", with(&|r| r.selectors[0].value = "0".into()), "ATTESTATION_INSUFFICIENT"),
        ("a request whose key nobody proves", with(&|r| r.csr.clone_from(&bad)), "CSR_REFUSED"),
        ("no request", with(&|r| r.csr.clear()), "CSR_REFUSED"),
        ("the id of a request with another key", process(&new(), "a"), "SVID_REQUEST_REUSED"),
        ("an instance that never was", with(&|r| r.instance_id = instance.replace('1', "2")), "INSTANCE_NOT_FOUND"),
    ];
    for (what, request, expected) in rows {
        assert_eq!(issue(&mut own, request).await.unwrap_err().reason, expected, "{what}");
    }
    assert_eq!(issue(&mut foreign, process(&new(), "x")).await.unwrap_err().reason, "NODE_NOT_BELIEVED");
    assert_eq!(issue(&mut other, renewal("y")).await.unwrap_err().reason, "INSTANCE_NOT_FOUND");
    let end = |id: &str| EndInstanceRequest { instance_id: id.into() };
    let refused = Told::from_status(&other.end_instance(end(&instance)).await.unwrap_err());
    assert_eq!(refused.reason, "INSTANCE_NOT_FOUND");
    jwt_svid(&mut other, &instance).await.unwrap_err();
    let mut told = foreign.watch_node(WatchNodeRequest {}).await.unwrap().into_inner();
    let nothing = until(&mut told, |_| true).await;
    assert!(nothing.entitlements.is_empty(), "a node hears of those alone that believe it");

    // A JWT-SVID is no access token, at any door that takes one.
    let svid = jwt_svid(&mut own, &instance).await.unwrap();
    let bot = raised.dial("credential-issuer", identity(&key, &issued));
    let introspected =
        TokenServiceClient::new(bot).introspect(IntrospectRequest { token: svid.clone() }).await.unwrap();
    assert!(!introspected.into_inner().active);
    let point = legate_wire::credential::EnforcementPointRef { namespace: "payments".into(), name: "invoices".into() };
    let backend = raised.enrolment_token(Holder::EnforcementPoint(point)).await;
    let backend =
        legate_client::enrol(&raised.remote("credential-issuer"), &backend).await.unwrap().identity().unwrap();
    let backend = raised.dial("policy-decision", backend);
    let shown = Shown { token: svid, presenter: identity(&key, &issued).x5t_s256().unwrap() };
    assert_eq!(word(&ask(&backend, question(&shown, "invoice:read", "apollo/1001")).await), "TOKEN_INVALID");

    // Its node renews it, and ends it; then nothing of it is left.
    let renewed = issue(&mut own, renewal("b")).await.unwrap().credential.unwrap();
    assert_eq!(renewed.instance_id, instance);
    let ended = own.end_instance(end(&instance)).await.unwrap().into_inner();
    assert!(ended.revision > 0);
    assert_eq!(issue(&mut own, renewal("c")).await.unwrap_err().reason, "CREDENTIAL_NOT_GOOD");
    let mut instances = InstanceServiceClient::new(raised.operator("credential-issuer"));
    let ask = ListInstancesRequest { node: "payments/vm-1".into(), ..ListInstancesRequest::default() };
    let found = instances.list_instances(ask).await.unwrap().into_inner().instances;
    assert_eq!(
        (found.len(), found[0].node.as_str(), found[0].attestation_policy.as_str()),
        (1, "payments/vm-1", "payments/bot-on-vm")
    );

    // Named, a foreign node is believed, and a node that is named cannot go; taken back with the policy it is nobody.
    apply(&raised, declared(&["vm-1", "platform/vm-1"]), vec![]).await.unwrap();
    until(&mut told, |state| state.entitlements.len() == 1).await;
    issue(&mut foreign, process(&new(), "d")).await.unwrap();
    assert_eq!(issue(&mut other, process(&new(), "e")).await.unwrap_err().reason, "NODE_NOT_BELIEVED");
    let gone = |kind: legate_wire::registry::Kind, namespace: &str, name: &str| ObjectName {
        kind: kind.into(),
        namespace: namespace.into(),
        name: name.into(),
    };
    let node = gone(legate_wire::registry::Kind::Node, "payments", "vm-1");
    assert_eq!(apply(&raised, vec![], vec![node.clone()]).await.unwrap_err().reason, "OBJECT_IN_USE");
    let policy = gone(legate_wire::registry::Kind::AttestationPolicy, "payments", "bot-on-vm");
    let foreign_node = gone(legate_wire::registry::Kind::Node, "platform", "vm-1");
    apply(&raised, vec![], vec![foreign_node]).await.unwrap();
    apply(&raised, vec![], vec![node, policy]).await.unwrap();
    let cut = async { while told.message().await.is_ok_and(|told| told.is_some()) {} };
    tokio::time::timeout(LONG, cut).await.unwrap();
    assert_eq!(refusal(&mut own, process(&new(), "f")).await.reason, "CALLER_UNKNOWN");
    raised.suite.shutdown().await;
}

/// How a node is refused whose connections are being cut.
async fn refusal(node: &mut Workloads, request: IssueX509SvidRequest) -> Told {
    let begin = std::time::Instant::now();
    loop {
        let refused = issue(node, request.clone()).await.unwrap_err();
        if !refused.reason.is_empty() {
            return refused;
        }
        // The connection was cut in the midst of it; a new one is judged by itself.
        assert!(begin.elapsed() < LONG, "{refused:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_enrols_once_by_its_token() {
    let raised = Raised::new().await;
    raised.apply().await;
    raised.node("payments", "vm-1").await;
    let mut admin = CredentialAdminServiceClient::new(raised.operator("credential-issuer"));
    let holder = |name: &str| Some(Holder::Node(NodeRef { namespace: "payments".into(), name: name.into() }));
    let ask = |name: &str| CreateEnrolmentTokenRequest { holder: holder(name), ttl: None, reason: "a test".into() };
    let refused = admin.create_enrolment_token(ask("vm-9")).await.unwrap_err();
    assert_eq!(Told::from_status(&refused).reason, "HOLDER_NOT_ACTIVE");
    let made = admin.create_enrolment_token(ask("vm-1")).await.unwrap().into_inner();
    assert_eq!(made.spiffe_id, format!("spiffe://{}/ns/payments/node/vm-1", raised.suite.domain()));
    let mut service = EnrolmentServiceClient::new(raised.dial("credential-issuer", Identity::anonymous()));
    let request = |key: &RuntimeKey| EnrolRequest { token: made.token.clone(), csr: key.request().unwrap() };
    let (first, second) = (RuntimeKey::generate().unwrap(), RuntimeKey::generate().unwrap());
    let enrolled = service.enrol(request(&first)).await.unwrap().into_inner().credential.unwrap();
    assert_eq!(
        (enrolled.spiffe_id, enrolled.agent_id, enrolled.instance_id),
        (made.spiffe_id.clone(), String::new(), String::new())
    );
    let refused = service.enrol(request(&second)).await.unwrap_err();
    assert_eq!(Told::from_status(&refused).reason, "ENROLMENT_TOKEN_SPENT");
    raised.suite.shutdown().await;
}
