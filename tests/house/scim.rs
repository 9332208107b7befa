//! SCIM over real HTTPS: the journey of an agent, who is let in, and what is refused.

use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use legate_client::Remote;
use legate_ids::{Name, SpiffeId};
use legate_mtls::Identity;
use legate_wire::audit::QueryEventsRequest;
use legate_wire::audit::query_service_client::QueryServiceClient;
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::{self as wire, AgentRef, AgentState, ApplyDeclarationsRequest, GetAgentRequest};
use serde_json::{Value, json};
use tonic::body::Body;
use tower::ServiceExt as _;

use crate::raised::{LONG, Raised, certify, crossed};

const CORE: &str = "urn:ietf:params:scim:schemas:core:2.0:Agent";
const OURS: &str = "urn:legate:scim:schemas:extension:1.0:Agent";
const PATCH_OP: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";
const BASE: &str = "/ns/payments/scim/v2";

/// An answer: status, headers, JSON.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    json: Value,
}

impl Answer {
    /// The resource, where it went well.
    fn good(self, status: StatusCode) -> Value {
        assert_eq!(self.status, status, "{}", self.json);
        self.json
    }

    /// That it is an error of SCIM's, of this status and reason; its text.
    fn refused(&self, status: StatusCode, reason: &str) -> String {
        assert_eq!(self.status, status, "{}", self.json);
        assert_eq!(self.json["reason"], reason, "{}", self.json);
        assert_eq!(self.json["status"], status.as_str());
        assert_eq!(self.json["schemas"], json!(["urn:ietf:params:scim:api:messages:2.0:Error"]));
        assert_eq!(self.headers["content-type"], "application/scim+json");
        self.json["detail"].as_str().unwrap().to_owned()
    }
}

/// A suite with the facade, and the one who asks it.
struct Client<'a> {
    raised: &'a Raised,
    who: Identity,
}

impl<'a> Client<'a> {
    fn of(raised: &'a Raised) -> Self {
        Self { raised, who: raised.suite.operator().unwrap() }
    }

    fn named(raised: &'a Raised, operator: &str) -> Self {
        let id = SpiffeId::operator(raised.suite.domain(), &Name::parse(operator).unwrap());
        Self { raised, who: certify(&raised.services_ca(), &id) }
    }

    async fn send(&self, request: http::request::Builder, body: impl Into<Vec<u8>>) -> Answer {
        self.try_send(request, body).await.unwrap()
    }

    async fn try_send(&self, request: http::request::Builder, body: impl Into<Vec<u8>>) -> Result<Answer, String> {
        let endpoint = format!("https://{}", self.raised.suite.running("registry").unwrap().web_addr().unwrap());
        let remote = Remote { endpoint, trust: self.raised.suite.trust().unwrap(), service: "registry" };
        let line = remote.dial(self.who.clone()).unwrap();
        let body = Body::new(http_body_util::Full::from(body.into()));
        let answer = line.oneshot(request.body(body).unwrap()).await.map_err(|e| e.to_string())?;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Ok(Answer { status: parts.status, headers: parts.headers, json })
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path), "").await
    }

    async fn with_body(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("content-type", "application/scim+json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request, body.to_string()).await
    }

    async fn create(&self, body: &Value) -> Answer {
        self.with_body("POST", &format!("{BASE}/Agents"), &[], body).await
    }

    async fn patch(&self, id: &str, headers: &[(&str, &str)], operations: Value) -> Answer {
        let body = json!({"schemas": [PATCH_OP], "Operations": operations});
        self.with_body("PATCH", &format!("{BASE}/Agents/{id}"), headers, &body).await
    }

    async fn delete(&self, id: &str, headers: &[(&str, &str)]) -> Answer {
        self.with_body("DELETE", &format!("{BASE}/Agents/{id}"), headers, &Value::Null).await
    }

    /// The names that a query of the list finds.
    async fn names(&self, query: &str) -> Vec<String> {
        let list = self.get(&format!("{BASE}/Agents?{query}")).await.good(StatusCode::OK);
        let all = list["Resources"].as_array().unwrap();
        assert_eq!(list["itemsPerPage"], all.len());
        all.iter().map(|one| one["agentUserName"].as_str().unwrap().to_owned()).collect()
    }
}

fn escape(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

fn filter(text: &str) -> String {
    format!("filter={}", escape(text))
}

fn wanted(name: &str) -> Value {
    json!({
        "schemas": [CORE, OURS],
        "agentUserName": name,
        "externalId": format!("ext-{name}"),
        "displayName": "Reads invoices",
        "owners": [{"value": "user:ada@example.com"}],
        OURS: {
            "agentClass": "invoice-worker",
            "purpose": "Reads invoices",
            "environment": "test",
            "sponsors": [{"value": "user:grace@example.com"}],
            "protocols": ["MCP"],
            "riskTier": "low",
        },
    })
}

async fn over_grpc(raised: &Raised, id: &str) -> wire::Agent {
    let wanted = AgentRef { id: id.into(), ..AgentRef::default() };
    let mut agents = AgentServiceClient::new(raised.operator("registry"));
    agents.get_agent(GetAgentRequest { agent: Some(wanted), as_of: None }).await.unwrap().into_inner().agent.unwrap()
}

/// Another namespace, and an operator who has a role there alone.
async fn elsewhere(raised: &Raised, operator: &str) {
    let metadata = Some(wire::Metadata { name: "travel".into(), ..wire::Metadata::default() });
    apply(raised, Object::Namespace(wire::Namespace { metadata, ..Default::default() })).await;
    bind(raised, "travel", operator, wire::OperatorRole::Admin).await;
}

/// Gives an operator a role in a namespace.
async fn bind(raised: &Raised, namespace: &str, operator: &str, role: wire::OperatorRole) {
    let metadata =
        Some(wire::Metadata { namespace: namespace.into(), name: operator.into(), ..wire::Metadata::default() });
    let spec = wire::OperatorBindingSpec { operators: vec![operator.into()], role: role.into(), ..Default::default() };
    apply(raised, Object::OperatorBinding(wire::OperatorBinding { metadata, spec: Some(spec) })).await;
}

async fn apply(raised: &Raised, object: Object) {
    let declarations = vec![wire::Declaration { object: Some(object) }];
    let request = ApplyDeclarationsRequest { declarations, reason: "a test".into(), ..Default::default() };
    DeclarationServiceClient::new(raised.operator("registry")).apply_declarations(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_lives_by_scim_as_it_does_by_grpc() {
    let raised = Raised::with_scim().await;
    raised.apply().await;
    let client = Client::of(&raised);

    let made = client.create(&wanted("reader")).await;
    let (location, etag) = (made.headers["location"].clone(), made.headers["etag"].clone());
    let made = made.good(StatusCode::CREATED);
    let id = made["id"].as_str().unwrap().to_owned();
    assert!(location.to_str().unwrap().ends_with(&format!("{BASE}/Agents/{id}")));
    assert_eq!(made["meta"]["location"], location.to_str().unwrap());
    assert_eq!(made["meta"]["version"], etag.to_str().unwrap());
    assert_eq!((&made["active"], &made[OURS]["state"]), (&json!(true), &json!("active")));
    assert_eq!(made[OURS]["namespace"], "payments");
    let agent = over_grpc(&raised, &id).await;
    let spec = agent.spec.clone().unwrap();
    assert_eq!((spec.external_id.as_str(), spec.protocols.len()), ("ext-reader", 1));
    assert_eq!((spec.environment(), spec.risk_tier()), (wire::Environment::Test, wire::RiskTier::Low));
    assert_eq!(agent.status.unwrap().spiffe_id, made[OURS]["spiffeId"]);
    client.create(&wanted("reader")).await.refused(StatusCode::CONFLICT, "AGENT_EXISTS");

    // Read again, as a whole, in part, and only where it changed.
    let path = format!("{BASE}/Agents/{id}");
    assert_eq!(client.get(&path).await.good(StatusCode::OK), made);
    let part = client.get(&format!("{path}?attributes=displayName")).await.good(StatusCode::OK);
    assert_eq!(part, json!({"schemas": [CORE, OURS], "id": id, "displayName": "Reads invoices"}));
    let same = client.send(Request::get(&path).header("if-none-match", etag.clone()), "").await;
    assert_eq!(same.status, StatusCode::NOT_MODIFIED);

    // Changed and stopped in one write, by who read it last.
    let operations = json!([
        {"op": "replace", "path": "active", "value": false},
        {"op": "replace", "path": "displayName", "value": "Read invoices"},
        {"op": "add", "path": "owners", "value": [{"value": "user:bob@example.com"}]},
    ]);
    let fresh = [("if-match", etag.to_str().unwrap()), ("legate-reason", "odd reads")];
    let stopped = client.patch(&id, &fresh, operations.clone()).await.good(StatusCode::OK);
    assert_eq!((&stopped["active"], &stopped["displayName"]), (&json!(false), &json!("Read invoices")));
    let agent = over_grpc(&raised, &id).await;
    let status = agent.status.clone().unwrap();
    assert_eq!((status.state(), status.state_reason.as_str()), (AgentState::Suspended, "odd reads"));
    assert!(status.authorization_cutoff.is_some());
    assert_eq!(agent.spec.unwrap().owners, ["user:ada@example.com", "user:bob@example.com"]);
    assert_eq!(agent.metadata.unwrap().version, 2, "one write");
    client.patch(&id, &fresh, operations).await.refused(StatusCode::PRECONDITION_FAILED, "ETAG_MISMATCH");

    // Nothing to change is no write.
    let again = json!([{"op": "replace", "path": "active", "value": false}]);
    let same = client.patch(&id, &[], again).await.good(StatusCode::OK);
    assert_eq!(same["meta"]["version"], stopped["meta"]["version"]);

    // A repetition is told from the first time.
    let up = json!([{"op": "replace", "path": "active", "value": true}]);
    let once = [("legate-request-id", "r-1")];
    let resumed = client.patch(&id, &once, up.clone()).await.good(StatusCode::OK);
    assert_eq!(
        (&resumed["active"], client.patch(&id, &once, up).await.good(StatusCode::OK)),
        (&json!(true), resumed.clone())
    );
    let other = json!([{"op": "replace", "path": "active", "value": false}]);
    client.patch(&id, &once, other).await.refused(StatusCode::CONFLICT, "REQUEST_ID_REUSED");

    // Replaced: what is not given is not set, but for what SCIM does not know.
    let mut whole = wanted("reader");
    whole.as_object_mut().unwrap().remove("externalId");
    whole[OURS].as_object_mut().unwrap().remove("riskTier");
    let replaced = client.with_body("PUT", &path, &[], &whole).await.good(StatusCode::OK);
    assert!(replaced.get("externalId").is_none() && replaced[OURS].get("riskTier").is_none(), "{replaced}");
    assert_eq!((&replaced["active"], replaced["owners"].as_array().unwrap().len()), (&json!(true), 1));

    // Retired, and gone; the name is free again.
    client
        .delete(&id, &[("if-match", etag.to_str().unwrap())])
        .await
        .refused(StatusCode::PRECONDITION_FAILED, "ETAG_MISMATCH");
    assert_eq!(client.delete(&id, &[("if-match", "*")]).await.status, StatusCode::NO_CONTENT);
    assert_eq!(over_grpc(&raised, &id).await.status.unwrap().state(), AgentState::Retired);
    client.get(&path).await.refused(StatusCode::NOT_FOUND, "AGENT_NOT_FOUND");
    client.delete(&id, &[]).await.refused(StatusCode::NOT_FOUND, "AGENT_NOT_FOUND");
    let up = json!([{"op": "replace", "path": "active", "value": true}]);
    client.patch(&id, &[], up).await.refused(StatusCode::NOT_FOUND, "AGENT_NOT_FOUND");
    assert!(client.names(&filter(r#"agentUserName eq "reader""#)).await.is_empty());

    // Born stopped.
    let mut stopped = wanted("reader");
    stopped["active"] = json!(false);
    let stopped = client.create(&stopped).await.good(StatusCode::CREATED);
    assert_eq!((&stopped["active"], &stopped[OURS]["state"]), (&json!(false), &json!("suspended")));
    assert_ne!(stopped["id"], id);

    // The log tells the same as of calls over gRPC, and of what was refused.
    let kinds = ["agent.created", "agent.suspended", "agent.resumed", "agent.updated", "agent.retired"];
    let mut log = QueryServiceClient::new(raised.operator("audit-collector"));
    let ask = QueryEventsRequest { agent_id: id, page_size: 1_000, ..QueryEventsRequest::default() };
    let (mut seen, mut refused) = (Vec::new(), Vec::new());
    tokio::time::timeout(LONG, async {
        while seen.len() < kinds.len() || refused.len() < 6 {
            let events = log.query_events(ask.clone()).await.unwrap().into_inner().events;
            seen = events.into_iter().filter_map(|indexed| indexed.event).collect();
            let ask = QueryEventsRequest { r#type: "write.refused".into(), page_size: 1_000, ..Default::default() };
            let events = log.query_events(ask).await.unwrap().into_inner().events;
            refused = events.into_iter().filter_map(|indexed| indexed.event).collect();
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let told: Vec<&str> = seen.iter().map(|event| event.r#type.as_str()).collect();
    assert!(told == kinds || told.iter().rev().eq(kinds.iter()), "{told:?}");
    assert!(seen.iter().all(|event| event.actor.ends_with("/legate/operator/dev")));
    assert!(refused.iter().all(|event| event.details["method"].starts_with("SCIM ")), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered_and_read_by_index_and_by_cursor() {
    let raised = Raised::with_scim().await;
    raised.apply().await;
    let client = Client::of(&raised);
    for name in ["a-1", "a-2", "a-3", "b-1"] {
        let mut agent = wanted(name);
        agent["active"] = json!(name != "a-2");
        client.create(&agent).await.good(StatusCode::CREATED);
    }
    let whole = client.names("").await;
    assert_eq!(whole, ["a-1", "a-2", "a-3", "b-1", "invoice-bot"]);
    for (text, found) in [
        (r#"externalId eq "ext-a-2""#, vec!["a-2"]),
        (r#"agentUserName sw "a-" and active eq true"#, vec!["a-1", "a-3"]),
        ("active eq false", vec!["a-2"]),
        (r#"owners.value eq "user:ada@example.com" and not (agentUserName sw "a-")"#, vec!["b-1", "invoice-bot"]),
        (&format!(r#"{OURS}:riskTier eq "low" and agentUserName eq "b-1""#), vec!["b-1"]),
        (r#"agentUserName eq "a-1" or agentUserName eq "b-1""#, vec!["a-1", "b-1"]),
        (r#"agentUserName eq "a%""#, vec![]),
    ] {
        assert_eq!(client.names(&filter(text)).await, found, "{text}");
    }
    assert_eq!(client.names("startIndex=2&count=2").await, ["a-2", "a-3"]);
    assert_eq!(client.names("startIndex=-7&count=1").await, ["a-1"]);
    assert!(client.names("startIndex=6").await.is_empty());
    let counted = client.get(&format!("{BASE}/Agents?count=0")).await.good(StatusCode::OK);
    assert_eq!((&counted["totalResults"], &counted["Resources"]), (&json!(5), &json!([])));

    let (mut cursor, mut seen) = (String::new(), Vec::new());
    loop {
        let path = format!("{BASE}/Agents?count=2&attributes=agentUserName&cursor={cursor}");
        let page = client.get(&path).await.good(StatusCode::OK);
        let names =
            page["Resources"].as_array().unwrap().iter().map(|one| one["agentUserName"].as_str().unwrap().to_owned());
        seen.extend(names);
        let Some(next) = page.get("nextCursor") else { break };
        cursor = next.as_str().unwrap().to_owned();
    }
    assert_eq!(seen, whole);

    for (query, reason, kind) in [
        (format!("cursor={cursor}&count=2&{}", filter("active eq true")), "PAGE_TOKEN_INVALID", "invalidCursor"),
        ("cursor=00.00".into(), "PAGE_TOKEN_INVALID", "invalidCursor"),
        ("cursor=&startIndex=1".into(), "INVALID_ARGUMENT", "invalidCursor"),
        ("cursor=&count=0".into(), "INVALID_ARGUMENT", "invalidCount"),
        ("startIndex=10000&count=2".into(), "INVALID_ARGUMENT", "tooMany"),
        ("startIndex=x".into(), "INVALID_ARGUMENT", "invalidValue"),
        ("sortBy=displayName".into(), "INVALID_ARGUMENT", "invalidValue"),
        ("colour=red".into(), "INVALID_ARGUMENT", "invalidValue"),
        ("count=1&COUNT=2".into(), "INVALID_ARGUMENT", "invalidValue"),
        ("filter=%ff".into(), "INVALID_ARGUMENT", "invalidValue"),
        ("attributes=id&excludedAttributes=id".into(), "INVALID_ARGUMENT", "invalidValue"),
        (filter("displayName co \"x\""), "FILTER_INVALID", "invalidFilter"),
        (filter(&("(".repeat(500) + "active eq true" + &")".repeat(500))), "FILTER_INVALID", "invalidFilter"),
        (filter(&vec!["active eq true"; 100].join(" or ")), "FILTER_INVALID", "invalidFilter"),
        (filter(r#"displayName eq "x' OR '1'='1""x"#), "FILTER_INVALID", "invalidFilter"),
    ] {
        let answer = client.get(&format!("{BASE}/Agents?{query}")).await;
        answer.refused(StatusCode::BAD_REQUEST, reason);
        assert_eq!(answer.json["scimType"], kind, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_operators_come_in_and_see_their_namespaces() {
    let raised = Raised::with_scim().await;
    let payments = Box::pin(raised.payments()).await;
    elsewhere(&raised, "tess").await;
    let id = payments.agent.metadata.clone().unwrap().id;
    let path = format!("{BASE}/Agents/{id}");

    let as_who = |who| Client { raised: &raised, who };
    let stranger = as_who(Identity::anonymous());
    for path in [&path, BASE, &format!("{BASE}/Agents"), &format!("{BASE}/ServiceProviderConfig")] {
        let answer = stranger.get(path).await;
        if path == BASE {
            answer.refused(StatusCode::NOT_FOUND, "METHOD_UNKNOWN");
        } else {
            answer.refused(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED");
        }
    }
    stranger.create(&wanted("x")).await.refused(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED");
    let agent = as_who(payments.enrolled.identity().unwrap());
    for who in [agent, as_who(payments.backend.clone()), as_who(raised.service("policy-decision"))] {
        who.get(&path).await.refused(StatusCode::FORBIDDEN, "ACCESS_DENIED");
        who.create(&wanted("x")).await.refused(StatusCode::FORBIDDEN, "ACCESS_DENIED");
        who.delete(&id, &[]).await.refused(StatusCode::FORBIDDEN, "ACCESS_DENIED");
    }
    for (what, who) in crossed(&raised) {
        let answer = as_who(who).try_send(Request::get(&path), "").await;
        assert!(answer.is_err(), "{what}: {answer:?}");
    }

    // Somebody of another namespace: what is not his is not there, in the words of what never was.
    let tess = Client::named(&raised, "tess");
    let never = "agt_00000000000000000000000000";
    let up = json!([{"op": "replace", "path": "active", "value": false}]);
    for (real, made_up) in [
        (tess.get(&path).await, tess.get(&format!("{BASE}/Agents/{never}")).await),
        (tess.get(&format!("/ns/travel/scim/v2/Agents/{id}")).await, tess.get(&format!("{BASE}/Agents/{never}")).await),
        (tess.patch(&id, &[], up.clone()).await, tess.patch(never, &[], up.clone()).await),
        (tess.delete(&id, &[]).await, tess.delete(never, &[]).await),
    ] {
        let text = real.refused(StatusCode::NOT_FOUND, "AGENT_NOT_FOUND");
        assert_eq!(text, made_up.refused(StatusCode::NOT_FOUND, "AGENT_NOT_FOUND").replace(never, &id));
    }
    assert!(tess.names("").await.is_empty());
    assert!(tess.names(&filter(r#"agentUserName eq "invoice-bot""#)).await.is_empty());
    tess.create(&wanted("x")).await.refused(StatusCode::FORBIDDEN, "OPERATOR_NOT_PERMITTED");
    // Nor is it found under another namespace's path by who may see both.
    let operator = Client::of(&raised);
    let astray = format!("/ns/travel/scim/v2/Agents/{id}");
    operator.get(&astray).await.refused(StatusCode::NOT_FOUND, "AGENT_NOT_FOUND");
    let body = json!({"schemas": [PATCH_OP], "Operations": up});
    operator.with_body("PATCH", &astray, &[], &body).await.refused(StatusCode::NOT_FOUND, "AGENT_NOT_FOUND");
    operator.with_body("DELETE", &astray, &[], &Value::Null).await.refused(StatusCode::NOT_FOUND, "AGENT_NOT_FOUND");

    // A viewer sees, and changes nothing, not even by what would change nothing.
    bind(&raised, "payments", "vera", wire::OperatorRole::Viewer).await;
    let vera = Client::named(&raised, "vera");
    assert_eq!(vera.names("").await, ["invoice-bot"]);
    let name = json!([{"op": "replace", "path": "displayName", "value": "Invoices"}]);
    for operations in [up.clone(), json!([{"op": "replace", "path": "active", "value": true}]), name] {
        vera.patch(&id, &[], operations).await.refused(StatusCode::FORBIDDEN, "OPERATOR_NOT_PERMITTED");
    }
    vera.create(&wanted("x")).await.refused(StatusCode::FORBIDDEN, "OPERATOR_NOT_PERMITTED");
    vera.delete(&id, &[]).await.refused(StatusCode::FORBIDDEN, "OPERATOR_NOT_PERMITTED");
    assert_eq!(over_grpc(&raised, &id).await.status.unwrap().state(), AgentState::Active);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_malformed_or_not_theirs_to_set_is_refused() {
    let raised = Raised::with_scim().await;
    raised.apply().await;
    let client = Client::of(&raised);
    let id = client.create(&wanted("reader")).await.good(StatusCode::CREATED)["id"].as_str().unwrap().to_owned();
    let path = format!("{BASE}/Agents/{id}");
    let before = client.get(&path).await.good(StatusCode::OK);

    let raw = || Request::post(format!("{BASE}/Agents")).header("content-type", "application/scim+json");
    let deep = "{\"a\":".repeat(5_000) + "1" + &"}".repeat(5_000);
    for body in ["", "{", "[]", "null", r#"{"agentUserName":"a","agentusername":"b"}"#, &deep, "\u{feff}{}"] {
        let answer = client.send(raw(), body).await;
        answer.refused(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT");
        assert_eq!(answer.json["scimType"], "invalidSyntax");
    }
    let large = client.send(raw(), vec![b' '; 65 << 10]).await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);
    let form = client.send(Request::post(format!("{BASE}/Agents")).header("content-type", "text/plain"), "{}").await;
    form.refused(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT");

    let with = |change: &dyn Fn(&mut Value)| {
        let mut agent = wanted("other");
        change(&mut agent);
        agent
    };
    for (what, body, reason) in [
        ("no schemas", with(&|a| drop(a.as_object_mut().unwrap().remove("schemas"))), "INVALID_ARGUMENT"),
        ("another schema", with(&|a| a["schemas"] = json!([CORE, "urn:x"])), "INVALID_ARGUMENT"),
        ("unknown attribute", with(&|a| a["colour"] = json!("red")), "INVALID_ARGUMENT"),
        ("unknown attribute of ours", with(&|a| a[OURS]["colour"] = json!("red")), "INVALID_ARGUMENT"),
        ("no name", with(&|a| drop(a.as_object_mut().unwrap().remove("agentUserName"))), "INVALID_ARGUMENT"),
        ("bad name", with(&|a| a["agentUserName"] = json!("=cmd|' /C calc'!A0")), "INVALID_ARGUMENT"),
        ("deceptive name", with(&|a| a["displayName"] = json!("a\u{202e}b")), "INVALID_ARGUMENT"),
        ("no sponsor", with(&|a| a[OURS]["sponsors"] = json!([])), "AGENT_SPONSOR_MISSING"),
        ("no owner", with(&|a| a["owners"] = Value::Null), "AGENT_OWNER_MISSING"),
        ("no class of that name", with(&|a| a[OURS]["agentClass"] = json!("nobody")), "REFERENCE_MISSING"),
        ("no word", with(&|a| a[OURS]["environment"] = json!("moon")), "INVALID_ARGUMENT"),
    ] {
        let answer = client.create(&body).await;
        let text = answer.refused(StatusCode::BAD_REQUEST, reason);
        assert!(!text.contains("declarations[0]") && !text.contains("spec."), "{what}: {text}");
    }
    // What only the registry sets is passed over in a whole resource, and refused in a change.
    let sets = with(&|a| {
        a["id"] = json!("agt_mine");
        a["meta"] = json!({"created": "never"});
        a[OURS]["state"] = json!("quarantined");
    });
    let made = client.create(&sets).await.good(StatusCode::CREATED);
    assert!(made["id"] != "agt_mine" && made[OURS]["state"] == "active");
    for (one, kind) in [
        (json!({"op": "replace", "path": "id", "value": "x"}), "mutability"),
        (json!({"op": "replace", "path": "agentUserName", "value": "x"}), "mutability"),
        (json!({"op": "replace", "path": format!("{OURS}:state"), "value": "active"}), "mutability"),
        (json!({"op": "replace", "path": format!("{OURS}:spiffeId"), "value": "x"}), "mutability"),
        (json!({"op": "replace", "path": "ceiling", "value": "x"}), "invalidPath"),
        (json!({"op": "remove", "path": "owners"}), "invalidValue"),
        (json!({"op": "remove", "path": format!("{OURS}:purpose")}), "invalidValue"),
    ] {
        // The whole patch is refused, also the part of it that would be good.
        let answer = client.patch(&id, &[], json!([{"op": "replace", "path": "displayName", "value": "y"}, one])).await;
        assert_eq!((answer.status, &answer.json["scimType"]), (StatusCode::BAD_REQUEST, &json!(kind)), "{one}");
    }
    for headers in [[("if-match", "\"a\", \"b\"")], [("if-match", "W/\"")], [("legate-request-id", "a b")]] {
        let up = json!([{"op": "replace", "path": "displayName", "value": "y"}]);
        client.patch(&id, &headers, up).await.refused(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT");
    }
    assert_eq!(client.get(&path).await.good(StatusCode::OK), before);

    for (method, path, status) in [
        ("PUT", format!("{BASE}/Agents"), StatusCode::METHOD_NOT_ALLOWED),
        ("POST", path.clone(), StatusCode::METHOD_NOT_ALLOWED),
        ("POST", format!("{BASE}/Bulk"), StatusCode::NOT_FOUND),
        ("GET", format!("{BASE}/Users"), StatusCode::NOT_FOUND),
    ] {
        client.with_body(method, &path, &[], &json!({})).await.refused(status, "METHOD_UNKNOWN");
    }
    for id in ["agt_x", "..%2f..", "%00", "%E2%80%AE", &"a".repeat(4_000)] {
        let answer = client.get(&format!("{BASE}/Agents/{id}")).await;
        answer.refused(StatusCode::NOT_FOUND, "AGENT_NOT_FOUND");
    }
    client.get("/ns/PAYMENTS/scim/v2/Agents").await.refused(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_describes_itself() {
    let raised = Raised::with_scim().await;
    let client = Client::of(&raised);
    let config = client.get(&format!("{BASE}/ServiceProviderConfig")).await.good(StatusCode::OK);
    for (what, is) in [("patch", true), ("filter", true), ("etag", true), ("bulk", false), ("sort", false)] {
        assert_eq!(config[what]["supported"], is, "{what}");
    }
    let types = client.get(&format!("{BASE}/ResourceTypes")).await.good(StatusCode::OK);
    assert_eq!(types["Resources"][0]["schema"], CORE);
    let one = client.get(&format!("{BASE}/ResourceTypes/Agent")).await.good(StatusCode::OK);
    assert_eq!(one, types["Resources"][0]);
    client.get(&format!("{BASE}/ResourceTypes/User")).await.refused(StatusCode::NOT_FOUND, "METHOD_UNKNOWN");

    // Everything that an agent shows stands in a schema, and the schemas name nothing twice.
    raised.apply().await;
    let agent = client.create(&wanted("reader")).await.good(StatusCode::CREATED);
    for urn in [CORE, OURS] {
        let schema = client.get(&format!("{BASE}/Schemas/{urn}")).await.good(StatusCode::OK);
        let all = schema["attributes"].as_array().unwrap();
        let names: Vec<&str> = all.iter().map(|a| a["name"].as_str().unwrap()).collect();
        let shown = if urn == CORE { &agent } else { &agent[OURS] };
        for name in shown.as_object().unwrap().keys() {
            let is_of_every = ["schemas", "id", "meta", "externalId", OURS].contains(&name.as_str());
            assert!(is_of_every || names.contains(&name.as_str()), "{name}");
        }
        assert_eq!(names.len(), names.iter().collect::<std::collections::BTreeSet<_>>().len());
    }
    assert!(Raised::new().await.suite.running("registry").unwrap().web_addr().is_none(), "off where nobody asked");
}
