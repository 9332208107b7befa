//! A backend that the Rust client guards, asked over mutual TLS: what is not allowed never reaches its tools, whatever happens to policy-decision.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use legate_client::{Decided, Decision, Question};
use legate_clock::SystemClock;
use legate_mtls::{Expect, Identity, Limits, Listener};
use legate_rpc::Code;
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::{AgentRef, SuspendAgentRequest};

use crate::mcp::mcp_server::tool_server;
use crate::processes::{Parties, Processes};
use crate::raised::LONG;

/// Within which the backend has an answer.
const DEADLINE: Duration = Duration::from_millis(500);

/// A connection to the tools, as somebody.
struct Caller(SendRequest<Empty<Bytes>>);

/// What came back.
#[derive(Debug)]
struct Got {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
    took: Duration,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Caller {
    async fn dial(at: SocketAddr, suite: &Processes, who: Identity) -> Self {
        let expect = Expect::Service("tools");
        let connector = legate_mtls::connector(who, suite.whole_trust(), expect, SystemClock::shared()).unwrap();
        let stream = TokioIo::new(connector.connect(&at.to_string()).await.unwrap());
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    async fn get(&mut self, id: &str, headers: &[(&'static str, &str)]) -> Got {
        let mut request = http::Request::get(format!("https://tools.example/projects/{id}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let begin = Instant::now();
        let answer = self.0.send_request(request.body(Empty::new()).unwrap()).await.unwrap();
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        Got { status: head.status, headers: head.headers, body, took: begin.elapsed() }
    }
}

/// The example's tool server, and its address.
async fn tools(suite: &Processes, decision: Decision) -> SocketAddr {
    let here = "127.0.0.1:0".parse().unwrap();
    let (host, trust) = (suite.certified("tools"), Some(suite.whole_trust()));
    let listener = Listener::bind_web(here, host, trust, SystemClock::shared(), Limits::default()).await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(tool_server::serve(listener, tool_server::app(decision).unwrap()));
    at
}

fn decision(suite: &Processes, parties: &Parties) -> Decision {
    let remote = suite.remote("policy-decision");
    Decision::builder([remote.endpoint], parties.identity.clone(), remote.trust).deadline(DEADLINE).build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guarded_backend_lets_through_what_is_allowed_and_nothing_else() {
    let mut suite = Processes::start("warn").await;
    let parties = suite.parties().await;
    let decision = decision(&suite, &parties);
    assert!(decision.ready(LONG).await);
    let shown = &parties.shown;
    // What the token rests on is there from now on.
    let first = Question::by_token(&shown.token, "invoice:read", "Invoice", "apollo/1");
    let first = first.presented_certificate(shown.presenter).at_least_revision(parties.revision);
    assert!(matches!(decision.ask(first).await, Decided::Allowed(_)));
    let at = tools(&suite, decision.clone()).await;
    let mut agent = Caller::dial(at, &suite, parties.runtime.identity().clone()).await;
    let bearer = format!("Bearer {}", shown.token);
    let with = [("authorization", bearer.as_str())];

    let got = agent.get("apollo/invoices/1", &with).await;
    assert_eq!(got.status, StatusCode::OK, "{got:?}");
    assert!(got.body.starts_with(&format!("apollo/1 for {} by dec_", parties.agent)), "{got:?}");
    let got = agent.get("zeus/invoices/1", &with).await;
    assert_eq!((got.status, got.body.as_str()), (StatusCode::FORBIDDEN, ""));
    assert_eq!(got.header("www-authenticate"), "Bearer error=\"insufficient_scope\"");
    assert!(got.header("legate-decision-id").starts_with("dec_"), "{got:?}");
    let got = agent.get("apollo/elsewhere/1", &with).await;
    assert_eq!((got.status, got.header("legate-reason")), (StatusCode::FORBIDDEN, "REQUEST_NOT_MAPPED"));

    // Whoever says who it is in a header says nothing.
    let claims = [
        ("x-agent-id", parties.agent.as_str()),
        ("x-forwarded-client-cert", "URI=spiffe://dev.legate/legate/operator/dev"),
    ];
    let got = agent.get("apollo/invoices/1", &claims).await;
    assert_eq!((got.status, got.header("www-authenticate")), (StatusCode::UNAUTHORIZED, "Bearer"));
    for bad in ["Bearer", "Bearer a b", "Basic YTpi", "DPoP x"] {
        let got = agent.get("apollo/invoices/1", &[("authorization", bad)]).await;
        assert_eq!((got.status, got.header("legate-reason")), (StatusCode::UNAUTHORIZED, "TOKEN_MALFORMED"), "{bad}");
    }
    let got = agent.get("apollo/invoices/1", &[with[0], with[0]]).await;
    assert_eq!((got.status, got.header("legate-reason")), (StatusCode::UNAUTHORIZED, "TOKEN_MALFORMED"));
    let got = agent.get("apollo/invoices/1", &[("authorization", "Bearer no.good.token")]).await;
    assert_eq!(got.header("www-authenticate"), "Bearer error=\"invalid_token\"", "{got:?}");
    // A stolen token over another certificate.
    let mut thief = Caller::dial(at, &suite, parties.identity.clone()).await;
    let got = thief.get("apollo/invoices/1", &with).await;
    assert_eq!(got.status, StatusCode::UNAUTHORIZED, "{got:?}");
    assert!(got.header(header::WWW_AUTHENTICATE.as_str()).contains("invalid_token"), "{got:?}");

    // It hangs: refused at the deadline, and let through again when it goes on.
    suite.signal("policy-decision", "STOP");
    let got = agent.get("apollo/invoices/1", &with).await;
    assert_eq!((got.status, got.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"), "{got:?}");
    assert!(got.took < Duration::from_secs(5), "{got:?}");
    suite.signal("policy-decision", "CONT");
    until(&mut agent, &with, StatusCode::OK).await;

    // Suspended between two requests.
    let which = Some(AgentRef { id: parties.agent.clone(), ..AgentRef::default() });
    let request = SuspendAgentRequest { agent: which, reason: "odd reads".into(), ..Default::default() };
    AgentServiceClient::new(suite.operator("registry")).suspend_agent(request).await.unwrap();
    let begin = Instant::now();
    let got = until(&mut agent, &with, StatusCode::FORBIDDEN).await;
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(got.header("legate-reason"), "AGENT_SUSPENDED");

    // It is gone: refused, and not let through for that.
    suite.kill("policy-decision");
    let got = until(&mut agent, &with, StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(got.header("legate-reason"), "UNREACHABLE", "{got:?}");
    suite.spawn("policy-decision");
    suite.wait_until_serving("policy-decision").await;
    until(&mut agent, &with, StatusCode::FORBIDDEN).await;
    suite.stop();
}

/// Asks until the tools answer so.
async fn until(agent: &mut Caller, with: &[(&'static str, &str)], status: StatusCode) -> Got {
    let begin = Instant::now();
    loop {
        let got = agent.get("apollo/invoices/1", with).await;
        if got.status == status {
            return got;
        }
        assert!(begin.elapsed() < LONG, "{got:?} is not {status}");
    }
}

/// Where one replica is gone or hangs, the other answers, within the deadline.
#[tokio::test(flavor = "multi_thread")]
async fn another_replica_answers_where_one_is_lost_or_hangs() {
    let mut suite = Processes::start("warn").await;
    let parties = suite.parties().await;
    let good = suite.remote("policy-decision");
    // The one takes connections and says nothing, the other is not there.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = closed.local_addr().unwrap();
    drop(closed);
    let endpoints =
        [format!("https://{}", silent.local_addr().unwrap()), good.endpoint.clone(), format!("https://{gone}")];
    let decision = Decision::builder(endpoints, parties.identity.clone(), good.trust).streams(2).build().unwrap();
    assert!(decision.ready(LONG).await);
    let question = |id: &str| {
        let question = Question::by_token(&parties.shown.token, "invoice:read", "Invoice", id);
        question.presented_certificate(parties.shown.presenter).at_least_revision(parties.revision)
    };
    let mut asking = tokio::task::JoinSet::new();
    for n in 0..2_000 {
        let (decision, question) = (decision.clone(), question(&format!("{}/{n}", ["apollo", "zeus"][n % 2])));
        asking.spawn(async move { (n, decision.ask(question).await) });
    }
    while let Some(asked) = asking.join_next().await {
        let (n, decided) = asked.unwrap();
        match decided {
            Decided::Allowed(permit) => {
                assert!(n % 2 == 0 && permit.agent_id() == parties.agent && permit.revision() >= parties.revision);
            }
            Decided::Denied(denied) => assert!(n % 2 == 1, "{n}: {denied}"),
            // So many at once on a busy machine: late is late.
            Decided::Undecided(undecided) => assert_eq!(undecided.why, legate_client::Why::Late, "{undecided}"),
        }
    }
    // What the caller may not ask is its own fault, and no reason to try elsewhere.
    let foreign = Question::by_token(&parties.shown.token, "invoice:read", "Ledger", "main");
    for (bad, reason) in [(foreign, "CALLER_MAY_NOT_ASK"), (question("apollo/\n1"), "QUESTION_INVALID")] {
        let refused = refusal(&decision, bad).await;
        assert_eq!((refused.why, refused.reason.as_str()), (legate_client::Why::Refused, reason));
    }
    suite.stop();
}

/// Why it is not decided, once what was asked before is out of the way.
async fn refusal(decision: &Decision, question: Question) -> legate_client::Undecided {
    let begin = Instant::now();
    loop {
        match decision.ask(question.clone()).await {
            Decided::Undecided(why) if why.why == legate_client::Why::Late => assert!(begin.elapsed() < LONG, "{why}"),
            Decided::Undecided(why) => return why,
            other => panic!("{other:?}"),
        }
    }
}

/// The same layer before a gRPC service: refused with a status and its reason, in gRPC's own way.
#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_service_is_refused_in_its_own_way() {
    use legate_client::guard::{Guard, Routes};
    use tower::{Layer as _, ServiceExt as _};

    let mut suite = Processes::start("warn").await;
    let parties = suite.parties().await;
    let decision = decision(&suite, &parties);
    assert!(decision.ready(LONG).await);
    let routes =
        Routes::new().route(http::Method::POST, "/tools.v1.Invoices/Get", "invoice:read", "Invoice", "zeus/1").unwrap();
    let inner = tower::service_fn(|_: http::Request<tonic::body::Body>| async {
        Ok::<_, std::convert::Infallible>(http::Response::new(tonic::body::Body::empty()))
    });
    // What the token rests on is there from now on.
    let first = Question::by_token(&parties.shown.token, "invoice:read", "Invoice", "apollo/1");
    let first = first.presented_certificate(parties.shown.presenter).at_least_revision(parties.revision);
    assert!(matches!(decision.ask(first).await, Decided::Allowed(_)));
    let guarded = Guard::new(decision, routes).layer(inner);
    let told = async |token: Option<&str>| {
        let mut request = http::Request::post("/tools.v1.Invoices/Get").header("content-type", "application/grpc");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut request = request.body(tonic::body::Body::empty()).unwrap();
        request.extensions_mut().insert(legate_client::guard::PresentedCertificate(parties.shown.presenter));
        let answer = guarded.clone().oneshot(request).await.unwrap();
        let status = tonic::Status::from_header_map(answer.headers()).expect("the inner service was reached");
        legate_rpc::Told::from_status(&status)
    };
    let none = told(None).await;
    assert_eq!((none.code, none.reason.as_str()), (Code::Unauthenticated, "TOKEN_MISSING"));
    let bad = told(Some("no.good.token")).await;
    assert_eq!(bad.code, Code::Unauthenticated);
    assert!(bad.reason.starts_with("TOKEN_"), "{bad:?}");
    let denied = told(Some(&parties.shown.token)).await;
    assert_eq!(denied.code, Code::PermissionDenied, "{denied:?}");
    suite.kill("policy-decision");
    let begin = Instant::now();
    let gone = loop {
        let told = told(Some(&parties.shown.token)).await;
        if told.code == Code::Unavailable {
            break told;
        }
        assert!(begin.elapsed() < LONG, "{told:?}");
    };
    assert_eq!(gone.retry_after, Some(Duration::from_secs(1)));
    suite.stop();
}
