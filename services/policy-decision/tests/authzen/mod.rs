//! AuthZEN over real HTTPS: decisions, batches and searches, who is let in, and what is refused.

use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use legate_boot::Running;
use legate_mtls::Identity;
use legate_policy_decision::{AUTHZEN_ACCESS, AuthzenConfig};
use legate_wire::policy as wire;
use serde_json::{Value, json};
use tonic::body::Body;
use tower::ServiceExt as _;

use crate::house::House;

const ONE: &str = "/access/v1/evaluation";
const MANY: &str = "/access/v1/evaluations";
const SUBJECTS: &str = "/access/v1/search/subject";
const RESOURCES: &str = "/access/v1/search/resource";
const ACTIONS: &str = "/access/v1/search/action";

/// An answer: status, headers, JSON or else a text.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    json: Value,
}

impl Answer {
    fn good(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.json);
        assert_eq!(self.headers["content-type"], "application/json");
        self.json
    }

    /// That it is an error of this status and reason; its text.
    fn refused(&self, status: StatusCode, reason: &str) -> &str {
        assert_eq!(self.status, status, "{}", self.json);
        assert_eq!(self.headers["legate-reason"], reason);
        let text = self.json.as_str().unwrap();
        assert!(text.starts_with(&format!("{reason}: ")), "{text}");
        text
    }
}

/// The service with the door open, and its callers.
struct Scene {
    house: House,
    running: Running,
    backend: Identity,
    trusted: Identity,
}

impl Scene {
    async fn set() -> Self {
        let house = House::build().await;
        house.trust("trusted");
        let mut config = house.config();
        config.authzen = Some(AuthzenConfig { listen: "127.0.0.1:0".parse().unwrap(), url: None });
        let running = house.raise_with(config).await;
        let (backend, trusted) = (house.enforcer("invoices"), house.enforcer("trusted"));
        house.until_fresh(&mut house.decisions(&running, &backend)).await;
        Self { house, running, backend, trusted }
    }

    async fn send(&self, who: &Identity, request: http::request::Builder, body: String) -> Answer {
        let line = self.house.web(&self.running, who);
        let body = Body::new(http_body_util::Full::from(body));
        let answer = line.oneshot(request.body(body).unwrap()).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
        let json = serde_json::from_slice(&body).unwrap_or_else(|_| text());
        Answer { status: parts.status, headers: parts.headers, json }
    }

    async fn post(&self, who: &Identity, path: &str, body: &Value) -> Answer {
        self.send(who, Request::post(path).header("content-type", "application/json"), body.to_string()).await
    }

    /// The agent, by its token.
    fn proven(&self) -> Value {
        let subject = self.house.question("apollo/1").subject.unwrap();
        let Some(wire::subject::Agent::AccessToken(token)) = subject.agent else { panic!("no token") };
        // base64url of 32 bytes of 7.
        let x5t = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc";
        let properties = json!({ "token": token, "presenter_x5t_s256": x5t });
        json!({ "type": "agent", "id": self.house.agent_id(), "properties": properties })
    }

    fn asserted(&self) -> Value {
        json!({ "type": "agent", "id": self.house.agent_id() })
    }
}

fn invoice(id: &str) -> Value {
    json!({ "type": "Invoice", "id": id })
}

fn read() -> Value {
    json!({ "name": "invoice:read" })
}

#[tokio::test(flavor = "multi_thread")]
async fn one_question_is_answered_as_over_grpc_and_recorded() {
    let scene = Scene::set().await;
    let ask = |subject: &Value, id: &str| json!({ "subject": subject, "action": read(), "resource": invoice(id) });
    let request = Request::post(ONE).header("content-type", "application/json").header("x-request-id", "bfe9eb29");
    let answer = scene.send(&scene.backend, request, ask(&scene.proven(), "apollo/1").to_string()).await;
    assert_eq!(answer.headers["x-request-id"], "bfe9eb29");
    let told = answer.good();
    assert_eq!((&told["decision"], &told["context"]["reason"]), (&json!(true), &json!("ALLOWED")), "{told}");
    assert_eq!(told["context"]["agent_id"], scene.house.agent_id());
    assert!(told["context"]["revision"].as_u64().unwrap() > 0);
    let id = told["context"]["id"].clone();
    let of = |e: &legate_wire::audit::AuditEvent| e.decision.as_ref().is_some_and(|d| id == d.decision_id.as_str());
    let events = scene.house.collected(|events| events.iter().any(of)).await;
    assert_eq!(events.iter().find(|e| of(e)).unwrap().correlation_id, "bfe9eb29");

    let told = scene.post(&scene.backend, ONE, &ask(&scene.proven(), "zeus/1")).await.good();
    assert_eq!((&told["decision"], &told["context"]["reason"]), (&json!(false), &json!("BINDING_NARROWED")));
    assert_eq!(told["context"]["denial"], "NOT_PERMITTED");

    // On its word alone only who may: the same rights as over gRPC.
    let refused = scene.post(&scene.backend, ONE, &ask(&scene.asserted(), "apollo/1")).await;
    refused.refused(StatusCode::FORBIDDEN, "SUBJECT_NOT_PROVEN");
    let told = scene.post(&scene.trusted, ONE, &ask(&scene.asserted(), "apollo/1")).await.good();
    assert_eq!(told["decision"], true);
    let mut other = ask(&scene.proven(), "apollo/1");
    other["resource"]["type"] = "Ledger".into();
    scene.post(&scene.backend, ONE, &other).await.refused(StatusCode::FORBIDDEN, "CALLER_MAY_NOT_ASK");

    // An edited token proves nothing, and one of somebody else's is not his who is named.
    let mut edited = scene.proven();
    let token = edited["properties"]["token"].as_str().unwrap().to_owned();
    let end = token.rfind('.').unwrap() + 1;
    let other = if token[end..].starts_with('A') { "B" } else { "A" };
    edited["properties"]["token"] = format!("{}{other}{}", &token[..end], &token[end + 1..]).into();
    let told = scene.post(&scene.backend, ONE, &ask(&edited, "apollo/1")).await.good();
    assert_eq!((&told["decision"], &told["context"]["reason"]), (&json!(false), &json!("TOKEN_INVALID")));
    let mut astray = scene.proven();
    astray["id"] = legate_ids::AgentId::from_parts(1, [2; 10]).to_string().into();
    let refused = scene.post(&scene.backend, ONE, &ask(&astray, "apollo/1")).await;
    let text = refused.refused(StatusCode::BAD_REQUEST, "QUESTION_INVALID");
    assert!(text.contains("subject.id"), "{text}");
    scene.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_questions_share_defaults_and_end_as_they_were_told_to() {
    let scene = Scene::set().await;
    let decisions = |told: &Value| -> Vec<bool> {
        told["evaluations"].as_array().unwrap().iter().map(|one| one["decision"].as_bool().unwrap()).collect()
    };
    let ids = ["apollo/1", "zeus/1", "apollo/2"];
    let items: Vec<Value> = ids.iter().map(|id| json!({ "resource": invoice(id) })).collect();
    let batch = |semantic: Value| {
        json!({
            "subject": scene.proven(), "action": read(), "evaluations": items,
            "options": { "evaluations_semantic": semantic, "another_option": 1 }, "unknown": {},
        })
    };
    for (semantic, wanted) in [
        (json!("execute_all"), vec![true, false, true]),
        (Value::Null, vec![true, false, true]),
        (json!("deny_on_first_deny"), vec![true, false]),
        (json!("permit_on_first_permit"), vec![true]),
    ] {
        let told = scene.post(&scene.backend, MANY, &batch(semantic)).await.good();
        assert_eq!(decisions(&told), wanted);
        assert!(told.get("decision").is_none());
    }
    let refused = scene.post(&scene.backend, MANY, &batch(json!("first"))).await;
    refused.refused(StatusCode::BAD_REQUEST, "QUESTION_INVALID");

    // What cannot be read is denied in its place; a part of an entity falls back on the default.
    let whole = json!({
        "subject": scene.proven(), "action": read(), "resource": { "type": "Invoice" },
        "evaluations": [{ "resource": { "id": "apollo/1" } }, {}, 7, { "action": { "name": "no action" }, "resource": { "id": "a" } }],
    });
    let told = scene.post(&scene.backend, MANY, &whole).await.good();
    assert_eq!(decisions(&told), [true, false, false, false]);
    assert_eq!(told["evaluations"][1]["context"]["error"]["status"], 400);
    assert!(told["evaluations"][3]["context"]["error"]["message"].as_str().unwrap().contains("action.name"));

    // Without questions in it, it is one; and of too many none is asked.
    for none in [json!(null), json!([])] {
        let one = json!({ "subject": scene.proven(), "action": read(), "resource": invoice("apollo/1"), "evaluations": none });
        assert_eq!(scene.post(&scene.backend, MANY, &one).await.good()["decision"], true);
    }
    let many = json!({ "subject": scene.asserted(), "action": read(), "evaluations": vec![json!({}); 257] });
    scene.post(&scene.backend, MANY, &many).await.refused(StatusCode::BAD_REQUEST, "QUESTION_INVALID");
    // A right that is missing for one is missing for the call.
    let mut mixed = batch(json!("execute_all"));
    mixed["evaluations"][1]["resource"]["type"] = "Ledger".into();
    scene.post(&scene.backend, MANY, &mixed).await.refused(StatusCode::FORBIDDEN, "CALLER_MAY_NOT_ASK");
    scene.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_name_what_an_evaluation_would_allow_and_say_where_they_cannot() {
    let scene = Scene::set().await;
    let agent = scene.house.agent_id();
    let who = json!({ "subject": { "type": "agent" }, "action": read(), "resource": invoice("apollo/1"), "page": { "limit": 10 } });
    let found = scene.post(&scene.trusted, SUBJECTS, &who).await.good();
    assert_eq!((&found["results"][0]["id"], &found["results"][0]["type"]), (&json!(agent), &json!("agent")), "{found}");
    assert_eq!(found["page"]["next_token"], "");
    let nobody = json!({ "subject": { "type": "spaceship" }, "action": read(), "resource": invoice("apollo/1") });
    assert_eq!(scene.post(&scene.trusted, SUBJECTS, &nobody).await.good()["results"], json!([]));
    let refused = scene.post(&scene.backend, SUBJECTS, &nobody).await;
    refused.refused(StatusCode::FORBIDDEN, "CALLER_MAY_NOT_SEARCH");

    let what = json!({ "subject": scene.asserted(), "resource": invoice("apollo/1") });
    let found = scene.post(&scene.trusted, ACTIONS, &what).await.good();
    assert_eq!(found["results"], json!([{ "name": "invoice:read" }]));
    let zeus = json!({ "subject": scene.asserted(), "resource": invoice("zeus/1") });
    assert_eq!(scene.post(&scene.trusted, ACTIONS, &zeus).await.good()["results"], json!([]));
    let unknown = json!({ "subject": { "type": "agent", "id": "nobody" }, "resource": invoice("zeus/1") });
    assert_eq!(scene.post(&scene.trusted, ACTIONS, &unknown).await.good()["results"], json!([]));

    // Legate keeps no list of invoices.
    let mut which = json!({ "subject": scene.asserted(), "action": read(), "resource": { "type": "Invoice" } });
    let refused = scene.post(&scene.trusted, RESOURCES, &which).await;
    let text = refused.refused(StatusCode::BAD_REQUEST, "SEARCH_UNBOUNDED");
    assert!(text.contains("apollo/*"), "{text}");
    which["page"] = json!({ "properties": { "partial": true } });
    let found = scene.post(&scene.trusted, RESOURCES, &which).await.good();
    assert_eq!((&found["results"], &found["page"]["properties"]["patterns"]), (&json!([]), &json!(["apollo/*"])));
    assert_eq!(found["page"]["properties"]["complete"], false);
    for (path, short) in [
        (SUBJECTS, json!({ "subject": { "type": "agent" }, "resource": invoice("a") })),
        (RESOURCES, json!({ "action": read(), "resource": { "type": "Invoice" } })),
        (ACTIONS, json!({ "subject": scene.asserted() })),
        (SUBJECTS, json!({ "subject": { "type": "agent" }, "action": read(), "resource": { "type": "Invoice" } })),
    ] {
        scene.post(&scene.trusted, path, &short).await.refused(StatusCode::BAD_REQUEST, "QUESTION_INVALID");
    }
    scene.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_door_lets_in_whom_its_table_lists_and_takes_only_what_it_understands() {
    let scene = Scene::set().await;
    let house = &scene.house;
    for rule in AUTHZEN_ACCESS.iter().filter(|rule| rule.method.starts_with("/access/")) {
        for (who, status, reason) in [
            (Identity::anonymous(), StatusCode::UNAUTHORIZED, "UNAUTHENTICATED"),
            (house.agent(), StatusCode::FORBIDDEN, "ACCESS_DENIED"),
            (house.service("credential-issuer"), StatusCode::FORBIDDEN, "ACCESS_DENIED"),
            (scene.backend.clone(), StatusCode::BAD_REQUEST, "QUESTION_INVALID"),
            (house.operator(), StatusCode::BAD_REQUEST, "QUESTION_INVALID"),
        ] {
            scene.post(&who, rule.method, &json!({})).await.refused(status, reason);
        }
        let refused = scene.send(&scene.backend, Request::get(rule.method), String::new()).await;
        refused.refused(StatusCode::METHOD_NOT_ALLOWED, "METHOD_UNKNOWN");
        assert_eq!(refused.headers["allow"], "POST");
    }
    let told = scene
        .send(&Identity::anonymous(), Request::get("/.well-known/authzen-configuration"), String::new())
        .await
        .good();
    let url = format!("https://{}", scene.running.web_addr().unwrap());
    assert_eq!(told["policy_decision_point"], url);
    assert_eq!(told["search_action_endpoint"], format!("{url}{ACTIONS}"));
    let refused = scene.post(&scene.backend, "/access/v2/evaluation", &json!({})).await;
    refused.refused(StatusCode::NOT_FOUND, "METHOD_UNKNOWN");

    let good = json!({ "subject": scene.proven(), "action": read(), "resource": invoice("apollo/1") });
    let json = |headers: &[(&str, &str)]| {
        let start = Request::post(ONE).header("content-type", "application/json");
        headers.iter().fold(start, |request, (name, value)| request.header(*name, *value))
    };
    // Who asks is in the certificate, whatever headers say.
    let claims =
        [("x-agent-id", "agt_x"), ("x-forwarded-client-cert", "URI=spiffe://example.org/legate/operator/alice")];
    let mut asserted = good.clone();
    asserted["subject"] = scene.asserted();
    let refused = scene.send(&scene.backend, json(&claims), asserted.to_string()).await;
    refused.refused(StatusCode::FORBIDDEN, "SUBJECT_NOT_PROVEN");
    let twice = scene.send(
        &scene.backend,
        json(&[("authorization", "Bearer a"), ("authorization", "Bearer b")]),
        good.to_string(),
    );
    assert_eq!(twice.await.status, StatusCode::BAD_REQUEST);
    for headers in [vec![("x-request-id", "a"), ("x-request-id", "b")], vec![("legate-at-least-revision", "-1")]] {
        let refused = scene.send(&scene.backend, json(&headers), good.to_string()).await;
        refused.refused(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT");
    }
    let told = scene.send(&scene.backend, json(&[("legate-at-least-revision", "1")]), good.to_string()).await.good();
    assert_eq!(told["decision"], true);
    let plain =
        scene.send(&scene.backend, Request::post(ONE).header("content-type", "text/plain"), good.to_string()).await;
    plain.refused(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT");
    for text in ["", "{", "[]", r#"{"subject": {}, "subject": {}}"#] {
        let refused = scene.send(&scene.backend, json(&[]), text.to_owned()).await;
        refused.refused(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT");
    }
    let large = scene.send(&scene.backend, json(&[]), " ".repeat((1 << 20) + 1)).await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);
    for (name, value) in [
        ("subject", json!("alice")),
        ("subject", json!({ "type": "user", "id": "alice" })),
        ("subject", json!({ "type": "agent" })),
        ("action", json!({ "name": 123 })),
        ("action", json!({})),
        ("resource", json!({ "type": "Invoice" })),
        ("resource", json!({ "type": "Invoice", "id": "a", "properties": { "n": 0.5 } })),
        ("context", json!([])),
        ("context", json!({ "legate": 9_007_199_254_740_993_u64 })),
    ] {
        let mut bad = good.clone();
        bad[name] = value;
        let refused = scene.post(&scene.backend, ONE, &bad).await;
        let text = refused.refused(StatusCode::BAD_REQUEST, "QUESTION_INVALID");
        assert!(text.contains(name), "{text}");
    }

    // A point that is taken back is let in no more.
    house.take_back_point("invoices");
    house.until_fresh(&mut house.decisions(&scene.running, &scene.trusted)).await;
    scene.post(&scene.backend, ONE, &good).await.refused(StatusCode::FORBIDDEN, "CALLER_UNKNOWN");
    scene.running.shutdown().await;
}

/// What is of another namespace is not there, for whoever asks and by whatever names it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_another_namespace_is_in_an_answer() {
    let scene = Scene::set().await;
    let stranger = scene.house.stranger();
    scene.house.until_fresh(&mut scene.house.decisions(&scene.running, &scene.backend)).await;
    let ask = |subject: &Value| json!({ "subject": subject, "action": read(), "resource": invoice("apollo/1") });
    let asserted = json!({ "type": "agent", "id": stranger.id });
    let mut proven = scene.proven();
    proven["id"] = stranger.id.as_str().into();
    let theirs = proven.clone();
    proven["properties"]["token"] = stranger.token.as_str().into();
    // Its own desk is told, so it is there.
    assert_eq!(scene.post(&stranger.desk, ONE, &ask(&asserted)).await.good()["decision"], true);
    let hidden = |told: &Value| {
        assert!(!told.to_string().contains("sales") && !told.to_string().contains("spy"), "{told}");
    };
    let unknown = json!({ "type": "agent", "id": "agt_0000000000000000000000000z" });
    let never = scene.post(&scene.trusted, ONE, &ask(&unknown)).await;
    for subject in [&asserted, &proven] {
        let told = scene.post(&scene.trusted, ONE, &ask(subject)).await.good();
        assert_eq!((&told["decision"], &told["context"]["reason"]), (&json!(false), &json!("AGENT_UNKNOWN")), "{told}");
        hidden(&told);
    }
    if never.status == StatusCode::OK {
        assert_eq!(never.json["context"]["reason"], "AGENT_UNKNOWN");
    }
    // Our agent's token beside the stranger's id, and our agent asked about from there.
    let told = scene.post(&scene.trusted, ONE, &ask(&theirs)).await;
    assert_ne!(told.json["decision"], true, "{told:?}");
    hidden(&told.json);
    let told = scene.post(&stranger.desk, ONE, &ask(&scene.asserted())).await.good();
    assert_eq!((&told["decision"], &told["context"]["reason"]), (&json!(false), &json!("AGENT_UNKNOWN")), "{told}");
    assert!(!told.to_string().contains("payments"), "{told}");

    let search = json!({ "subject": { "type": "agent" }, "action": read(), "resource": invoice("apollo/1") });
    let found = scene.post(&scene.trusted, SUBJECTS, &search).await.good();
    let ids: Vec<&Value> = found["results"].as_array().unwrap().iter().map(|one| &one["id"]).collect();
    assert_eq!(ids, [scene.house.agent_id().as_str()], "{found}");
    let mut elsewhere = search.clone();
    elsewhere["subject"]["properties"] = json!({ "namespace": "sales" });
    let found = scene.post(&scene.trusted, SUBJECTS, &elsewhere).await;
    assert!(found.status != StatusCode::OK || found.json["results"].as_array().unwrap().is_empty(), "{found:?}");
    for (path, body) in [
        (ACTIONS, json!({ "subject": asserted, "resource": invoice("apollo/1") })),
        (RESOURCES, json!({ "subject": asserted, "action": read(), "resource": { "type": "Invoice" } })),
    ] {
        let found = scene.post(&scene.trusted, path, &body).await.good();
        assert_eq!(found["results"], json!([]), "{found}");
        hidden(&found);
    }
    scene.running.shutdown().await;
}
