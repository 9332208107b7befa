//! Envoy's questions over real mutual TLS: whose they are, what becomes of the request, and what is believed of it.

use legate_boot::Running;
use legate_mtls::Identity;
use legate_policy_decision::{ExtAuthzConfig, RouteConfig};
use legate_rpc::{Code, Told};
use legate_wire::envoy::attribute_context::{HttpRequest, Peer, Request};
use legate_wire::envoy::authorization_client::AuthorizationClient;
use legate_wire::envoy::check_response::HttpResponse;
use legate_wire::envoy::{AttributeContext, CheckRequest, CheckResponse, HeaderMap, HeaderValue, HeaderValueOption};
use legate_wire::policy as wire;
use prost::Message as _;

use crate::house::House;

struct Scene {
    house: House,
    running: Running,
}

fn routes() -> ExtAuthzConfig {
    let row = |methods: &[&str], path: &str, action: &str, id: &str| RouteConfig {
        methods: methods.iter().map(|one| (*one).to_owned()).collect(),
        path: path.into(),
        action: action.into(),
        resource_type: "Invoice".into(),
        resource_id: id.into(),
        attributes: Default::default(),
        context: Default::default(),
    };
    let routes = vec![
        row(&["GET"], "/invoices/{project}/{id}", "invoice:read", "{project}/{id}"),
        row(&[], "/invoices/{rest*}", "invoice:write", "{rest}"),
    ];
    ExtAuthzConfig { routes, remove_headers: vec!["x-agent-id".into()] }
}

impl Scene {
    async fn set() -> Self {
        let house = House::build().await;
        house.trust("trusted");
        let mut config = house.config();
        config.ext_authz = routes();
        let running = house.raise_with(config).await;
        house.until_fresh(&mut house.decisions(&running, &house.enforcer("invoices"))).await;
        Self { house, running }
    }

    async fn ask(&self, who: &Identity, request: CheckRequest) -> CheckResponse {
        AuthorizationClient::new(self.house.dial(&self.running, who)).check(request).await.unwrap().into_inner()
    }

    fn token(&self) -> String {
        match self.house.question("apollo/1").subject.unwrap().agent {
            Some(wire::subject::Agent::AccessToken(token)) => token,
            other => panic!("{other:?}"),
        }
    }

    /// A request as Envoy tells it, of an agent with a good token and the certificate to which it is bound.
    fn request(&self, method: &str, path: &str) -> CheckRequest {
        let bearer = format!("Bearer {}", self.house.token_of_certificate());
        let http = HttpRequest {
            id: "req-1".into(),
            method: method.into(),
            path: path.into(),
            host: "invoices".into(),
            headers: [("authorization".to_owned(), bearer), (":path".to_owned(), path.to_owned())].into(),
            raw_body: Vec::new(),
            header_map: None,
        };
        let source = Peer { certificate: escaped(&self.house.agent_pem()) };
        CheckRequest {
            attributes: Some(AttributeContext { source: Some(source), request: Some(Request { http: Some(http) }) }),
        }
    }
}

fn http(request: &mut CheckRequest) -> &mut HttpRequest {
    request.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap()
}

/// As Envoy escapes PEM.
fn escaped(pem: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.+/=~".contains(&b);
    pem.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn header<'a>(all: &'a [HeaderValueOption], name: &str) -> Option<&'a str> {
    // Set and false, or Envoy would append to what the client sent.
    assert!(all.iter().all(|one| one.append == Some(false)), "{all:?}");
    all.iter().filter_map(|one| one.header.as_ref()).find(|one| one.key == name).map(|one| one.value.as_str())
}

/// That it is denied with this status of HTTP; the reason.
fn denied(answer: &CheckResponse, status: i32) -> String {
    assert_ne!(answer.status.as_ref().unwrap().code, 0);
    let Some(HttpResponse::DeniedResponse(response)) = &answer.http_response else { panic!("{answer:?}") };
    assert_eq!(response.status.as_ref().unwrap().code, status, "{answer:?}");
    assert_eq!(header(&response.headers, "content-type"), Some("application/json"));
    let body: serde_json::Value = serde_json::from_str(&response.body).unwrap();
    assert_eq!(body["error"], "denied");
    body["reason"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_on_by_the_token_that_we_verify_and_the_route_that_it_is_in() {
    let scene = Scene::set().await;
    let envoy = scene.house.enforcer("invoices");
    let answer = scene.ask(&envoy, scene.request("GET", "/invoices/apollo/1?page=2")).await;
    assert_eq!(answer.status.as_ref().unwrap().code, 0, "{answer:?}");
    let Some(HttpResponse::OkResponse(ok)) = &answer.http_response else { panic!("{answer:?}") };
    let agent = scene.house.agent_id();
    assert_eq!(header(&ok.headers, "x-legate-agent"), Some(agent.as_str()));
    let id = header(&ok.headers, "x-legate-decision-id").unwrap();
    assert_eq!(ok.headers_to_remove, ["x-agent-id", "x-legate-subject"]);
    let of = |e: &legate_wire::audit::AuditEvent| e.decision.as_ref().is_some_and(|d| d.decision_id == id);
    let events = scene.house.collected(|events| events.iter().any(of)).await;
    let event = events.iter().find(|e| of(e)).unwrap();
    assert_eq!((event.action.as_str(), event.correlation_id.as_str()), ("invoice:read", "req-1"));
    assert_eq!(event.resource.as_ref().unwrap().id, "apollo/1");

    // Another row, another action, which nothing gives; a path that is in none.
    assert_eq!(denied(&scene.ask(&envoy, scene.request("PUT", "/invoices/apollo/1")).await, 403), "NOT_PERMITTED");
    assert_eq!(denied(&scene.ask(&envoy, scene.request("GET", "/invoices/zeus/1")).await, 403), "BINDING_NARROWED");
    assert_eq!(denied(&scene.ask(&envoy, scene.request("GET", "/metrics")).await, 403), "ROUTE_UNKNOWN");
    for path in
        ["/invoices/apollo/%2e%2e/zeus/1", "//invoices/apollo/1", "/invoices/apollo%2f1", "/invoices/apollo/1%00", ""]
    {
        assert_eq!(denied(&scene.ask(&envoy, scene.request("GET", path)).await, 403), "HTTP_REQUEST_INVALID", "{path}");
    }
    let revision = scene.house.suspend();
    let mut question = scene.house.question("apollo/1");
    question.at_least_revision = revision;
    crate::house::word(&mut scene.house.decisions(&scene.running, &envoy), question).await;
    let answer = scene.ask(&envoy, scene.request("GET", "/invoices/apollo/1")).await;
    assert_eq!(denied(&answer, 403), "AGENT_SUSPENDED");
    scene.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_believed_that_is_not_verified_here() {
    let scene = Scene::set().await;
    let (envoy, trusted) = (scene.house.enforcer("invoices"), scene.house.enforcer("trusted"));
    let good = || scene.request("GET", "/invoices/apollo/1");

    // A token that is bound to a certificate, without it, and with one that is no agent's, or of another CA.
    let mut bare = good();
    bare.attributes.as_mut().unwrap().source = None;
    assert_eq!(denied(&scene.ask(&envoy, bare).await, 401), "TOKEN_BINDING");
    let other = House::build().await;
    for pem in [other.agent_pem(), scene.house.enforcer_pem("invoices"), "no certificate".into(), "%zz".into()] {
        let mut astray = good();
        astray.attributes.as_mut().unwrap().source = Some(Peer { certificate: pem.replace('\n', "%0A") });
        assert_eq!(denied(&scene.ask(&envoy, astray).await, 403), "HTTP_REQUEST_INVALID");
    }
    // A certificate alone is Envoy's word that it was shown: the right to assert is needed.
    let mut alone = good();
    http(&mut alone).headers.clear();
    assert_eq!(denied(&scene.ask(&envoy, alone.clone()).await, 403), "SUBJECT_NOT_PROVEN");
    assert_eq!(scene.ask(&trusted, alone).await.status.unwrap().code, 0);
    // Headers of identity name nobody.
    let mut named = good();
    named.attributes.as_mut().unwrap().source = None;
    http(&mut named).headers = [
        ("x-agent-id", scene.house.agent_id()),
        ("x-forwarded-client-cert", "URI=spiffe://example.org/ns/payments/agent/x".into()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    let answer = scene.ask(&trusted, named).await;
    assert_eq!(denied(&answer, 401), "SUBJECT_MISSING");

    let bearer = format!("Bearer {}", scene.token());
    for value in [
        format!("{bearer},{bearer}"),
        format!("{bearer} x"),
        scene.token(),
        "Basic YTpi".into(),
        "Bearer ".into(),
        format!("DPoP {}", scene.token()),
    ] {
        let mut odd = good();
        http(&mut odd).headers.insert("authorization".into(), value.clone());
        assert_eq!(denied(&scene.ask(&envoy, odd).await, 403), "HTTP_REQUEST_INVALID", "{value}");
    }
    let mut twice = good();
    let raw = HeaderValue { key: "authorization".into(), value: String::new(), raw_value: bearer.clone().into_bytes() };
    http(&mut twice).header_map = Some(HeaderMap { headers: vec![raw.clone()] });
    assert_eq!(denied(&scene.ask(&envoy, twice.clone()).await, 403), "HTTP_REQUEST_INVALID");
    http(&mut twice).headers.clear();
    http(&mut twice).header_map = Some(HeaderMap { headers: vec![raw.clone(), raw] });
    assert_eq!(denied(&scene.ask(&envoy, twice).await, 403), "HTTP_REQUEST_INVALID");
    let mut edited = good();
    http(&mut edited).headers.insert("authorization".into(), format!("{}A", bearer));
    assert_eq!(denied(&scene.ask(&envoy, edited).await, 401), "TOKEN_INVALID");
    assert_eq!(denied(&scene.ask(&envoy, CheckRequest::default()).await, 403), "HTTP_REQUEST_INVALID");

    // Envoy is an enforcement point, and nobody else asks here.
    for (who, code) in [
        (scene.house.operator(), Code::PermissionDenied),
        (scene.house.agent(), Code::PermissionDenied),
        (Identity::anonymous(), Code::Unauthenticated),
    ] {
        let refused = AuthorizationClient::new(scene.house.dial(&scene.running, &who)).check(good()).await.unwrap_err();
        assert_eq!((refused.code(), Told::from_status(&refused).reason.is_empty()), (code, false));
    }
    scene.running.shutdown().await;
}

/// An error of gRPC would be let through by an Envoy that is told to.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_denied_and_no_error() {
    let scene = Scene::set().await;
    let envoy = scene.house.enforcer("invoices");
    let mut large = scene.request("GET", "/invoices/apollo/1");
    http(&mut large).raw_body = vec![b' '; (1 << 20) + 1];
    assert_eq!(denied(&scene.ask(&envoy, large).await, 403), "HTTP_REQUEST_INVALID");
    // Of another form: what should be a message is a number.
    let mut raw = tonic::client::Grpc::new(scene.house.dial(&scene.running, &envoy));
    raw.ready().await.unwrap();
    let odd = wire::EvaluateStreamRequest { item_id: 7, ..Default::default() };
    let path = "/envoy.service.auth.v3.Authorization/Check".parse().unwrap();
    let codec = tonic_prost::ProstCodec::<wire::EvaluateStreamRequest, CheckResponse>::default();
    let answer = raw.unary(tonic::Request::new(odd), path, codec).await.unwrap().into_inner();
    assert_eq!(denied(&answer, 403), "HTTP_REQUEST_INVALID");
    // Nothing was broken by it.
    assert_eq!(scene.ask(&envoy, scene.request("GET", "/invoices/apollo/1")).await.status.unwrap().code, 0);
    scene.running.shutdown().await;
}

/// An agent of another namespace is nobody here, by its token, by its certificate and by both.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_of_another_namespace_is_nobody() {
    let scene = Scene::set().await;
    let stranger = scene.house.stranger();
    let trusted = scene.house.enforcer("trusted");
    scene.house.until_fresh(&mut scene.house.decisions(&scene.running, &trusted)).await;
    let request = |token: Option<&str>| {
        let mut request = scene.request("GET", "/invoices/apollo/1");
        request.attributes.as_mut().unwrap().source = Some(Peer { certificate: escaped(&stranger.pem) });
        let headers = &mut http(&mut request).headers;
        headers.clear();
        headers.extend(token.map(|token| ("authorization".to_owned(), format!("Bearer {token}"))));
        request
    };
    for token in [Some(stranger.token_of_certificate.as_str()), None] {
        // At home it is somebody.
        assert_eq!(scene.ask(&stranger.desk, request(token)).await.status.unwrap().code, 0);
        let answer = scene.ask(&trusted, request(token)).await;
        let told = format!("{answer:?}");
        assert!(!told.contains("sales") && !told.contains("spy"), "{told}");
        assert_eq!(denied(&answer, 403), "AGENT_UNKNOWN");
    }
    // Our agent, asked about from there; and the stranger's certificate with our agent's token.
    let ours = scene.ask(&stranger.desk, scene.request("GET", "/invoices/apollo/1")).await;
    assert_eq!(denied(&ours, 403), "AGENT_UNKNOWN");
    let mixed = scene.house.token_of_certificate();
    assert_eq!(denied(&scene.ask(&trusted, request(Some(&mixed))).await, 401), "TOKEN_BINDING");
    scene.running.shutdown().await;
}

/// A parameter and a header are attributes and context where a row says so, and nothing where they could be read in two ways.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_request_states_beside_its_path_is_judged() {
    let house = House::build().await;
    let mut config = house.config();
    config.ext_authz = routes();
    let row = &mut config.ext_authz.routes[0];
    row.attributes.insert("sealed".into(), "{query.sealed:bool?}".into());
    row.context.insert("region".into(), "{header.x-region?}".into());
    let running = house.raise_with(config).await;
    let envoy = house.enforcer("invoices");
    house.until_fresh(&mut house.decisions(&running, &envoy)).await;
    let scene = Scene { house, running };
    let ask = async |query: &str, region: Option<&str>| {
        let mut request = scene.request("GET", &format!("/invoices/apollo/1{query}"));
        http(&mut request).headers.extend(region.map(|region| ("x-region".to_owned(), region.to_owned())));
        scene.ask(&envoy, request).await
    };
    for query in ["", "?sealed=false", "?other=1"] {
        assert_eq!(ask(query, Some("eu")).await.status.unwrap().code, 0, "{query}");
    }
    for (query, region) in [
        ("?sealed=false&sealed=true", None),
        ("?sealed=false&Sealed=true", None),
        ("?%73ealed=false", None),
        ("?sealed=no", None),
        ("", Some("eu,us")),
        ("", Some("e\u{1b}u")),
    ] {
        assert_eq!(denied(&ask(query, region).await, 403), "HTTP_REQUEST_INVALID", "{query} {region:?}");
    }
    scene.running.shutdown().await;
}

/// Fields of a JSON body are attributes and context where a row says so, and no row takes anything from a part of a body.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_judged_as_a_whole_or_the_request_is_denied() {
    let house = House::build().await;
    let mut config = house.config();
    config.ext_authz = routes();
    let mut row = config.ext_authz.routes[0].clone();
    (row.methods, row.path, row.resource_id) =
        (vec!["POST".into()], "/read".into(), "{body.project}/{body.invoice.id}".into());
    row.attributes.insert("sealed".into(), "{body.sealed:bool?}".into());
    config.ext_authz.routes.push(row);
    let running = house.raise_with(config).await;
    let envoy = house.enforcer("invoices");
    house.until_fresh(&mut house.decisions(&running, &envoy)).await;
    let scene = Scene { house, running };
    let ask = async |body: &[u8], change: &[(&str, Option<&str>)]| {
        let mut request = scene.request("POST", "/read");
        let http = http(&mut request);
        http.raw_body = body.to_vec();
        let length = body.len().to_string();
        let usual =
            [("content-type", "application/json"), ("x-envoy-auth-partial-body", "false"), ("content-length", &length)];
        http.headers.extend(usual.map(|(name, value)| (name.to_owned(), value.to_owned())));
        for (name, value) in change {
            match value {
                Some(value) => drop(http.headers.insert((*name).into(), (*value).into())),
                None => drop(http.headers.remove(*name)),
            }
        }
        scene.ask(&envoy, request).await
    };
    let good = br#"{"project": "apollo", "invoice": {"id": "1"}, "sealed": false, "lines": [1, 2.5, null]}"#;
    for change in [&[][..], &[("content-length", None)], &[("content-type", Some("Application/JSON; charset=UTF-8"))]] {
        assert_eq!(ask(good, change).await.status.unwrap().code, 0, "{change:?}");
    }
    let zeus = br#"{"project": "zeus", "invoice": {"id": "1"}}"#;
    assert_eq!(denied(&ask(zeus, &[]).await, 403), "BINDING_NARROWED");
    let large = [good.as_slice(), &b" ".repeat(64 << 10)].concat();
    let deep = format!(
        "{{\"project\": \"apollo\", \"invoice\": {{\"id\": \"1\"}}, \"a\": {}1{}}}",
        "[".repeat(500),
        "]".repeat(500)
    );
    for (body, change) in [
        (&good[..], &[("x-envoy-auth-partial-body", Some("true"))][..]),
        (good, &[("x-envoy-auth-partial-body", Some("false,false"))]),
        // Nobody says that it is whole, so it is taken for no body at all.
        (good, &[("x-envoy-auth-partial-body", None)]),
        (&good[..20], &[]),
        (good, &[("content-length", Some("4711"))]),
        (good, &[("content-type", None)]),
        (good, &[("content-type", Some("text/plain"))]),
        (good, &[("content-type", Some("application/json; charset=utf-16"))]),
        (good, &[("content-encoding", Some("gzip"))]),
        (&large, &[]),
        (deep.as_bytes(), &[]),
        (b"", &[]),
        (b"[]", &[]),
        (b"{\"project\": \"apollo\", \"invoice\": {\"id\": \"1\"}} {}", &[]),
        (b"\xef\xbb\xbf{\"project\": \"apollo\", \"invoice\": {\"id\": \"1\"}}", &[]),
        (b"{\"project\": \"apollo\", \"invoice\": {\"id\": \"\xff\"}}", &[]),
        (br#"{"project": "apollo", "invoice": {"id": "1"}, "invoice": {"id": "2"}}"#, &[]),
        (br#"{"project": "apollo", "invoice": {"id": "1"}, "sealed": false, "Sealed": true}"#, &[]),
        (br#"{"project": "apollo", "invoice": {"id": "1/../2"}}"#, &[]),
    ] {
        let told = denied(&ask(body, change).await, 403);
        assert_eq!(told, "HTTP_REQUEST_INVALID", "{} {change:?}", String::from_utf8_lossy(&body[..body.len().min(80)]));
    }
    // A row that takes nothing from a body is as it was.
    let mut request = scene.request("GET", "/invoices/apollo/1");
    http(&mut request).raw_body = b"{".to_vec();
    assert_eq!(scene.ask(&envoy, request).await.status.unwrap().code, 0);
    scene.running.shutdown().await;
}

#[test]
fn the_fields_are_where_envoy_puts_them() {
    // Tag and length by hand (protobuf.dev, "Encoding"), with the field numbers of Envoy's own files.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        assert!(number < 16 && bytes.len() < 128);
        [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
    }
    let header = [field(1, b"authorization"), field(2, b"Bearer x")].concat();
    let raw = field(1, &[field(1, b"a"), field(3, b"b")].concat());
    let sent = [
        field(1, b"req-1"),
        field(2, b"GET"),
        field(3, &header),
        field(4, b"/a?b"),
        field(5, b"h"),
        field(6, b"https"),
        field(12, b"{}"),
        field(13, &raw),
    ];
    // Also what is not read here: the destination (2), the host of a peer (1), the principal (4).
    let source = field(1, &[field(4, b"spiffe://x"), field(5, b"PEM")].concat());
    let request = field(4, &field(2, &sent.concat()));
    let bytes = field(1, &[source, field(2, b""), request].concat());
    let bytes = match bytes.len() {
        ..128 => bytes,
        long => panic!("{long}"),
    };
    let read = CheckRequest::decode(bytes.as_slice()).unwrap().attributes.unwrap();
    assert_eq!(read.source.unwrap().certificate, "PEM");
    let http = read.request.unwrap().http.unwrap();
    assert_eq!(
        (http.id.as_str(), http.method.as_str(), http.path.as_str(), http.host.as_str()),
        ("req-1", "GET", "/a?b", "h")
    );
    assert_eq!(http.headers["authorization"], "Bearer x");
    assert_eq!(http.raw_body, b"{}");
    assert_eq!(http.header_map.unwrap().headers[0].raw_value, b"b");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_not_clear_is_refused_by_its_row() {
    let house = House::build().await;
    for (change, why) in [
        ((|row: &mut RouteConfig| row.path = "/a/{id".into()) as fn(&mut RouteConfig), "ext_authz.routes[1].path"),
        (|row| row.action = "not an action".into(), "ext_authz.routes[1].action"),
        (|row| row.resource_id = "{other}".into(), "ext_authz.routes[1].resource_id"),
        (|row| row.methods = vec!["get".into()], "ext_authz.routes[1].methods"),
        (|row| drop(row.attributes.insert("a".into(), "{header.cookie}".into())), "ext_authz.routes[1].attributes"),
        (|row| drop(row.context.insert("a".into(), "{other}".into())), "ext_authz.routes[1].context"),
    ] {
        let mut config = house.config();
        config.ext_authz = routes();
        change(&mut config.ext_authz.routes[1]);
        let refused = house.try_raise(config).await.unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
    let mut config = house.config();
    config.ext_authz.remove_headers = vec![":path".into()];
    assert!(house.try_raise(config).await.unwrap_err().to_string().contains(":path"));
}
