//! An agent that has nothing but a socket calls a tool that knows it by its SVID, until somebody stops it; and its tokens.

#[path = "../../../crates/client/examples/svid_tool_server.rs"]
#[allow(dead_code, unreachable_pub, reason = "it is a program of its own, with a main")]
mod svid_tool_server;

#[path = "../../../crates/client/examples/svid_agent.rs"]
#[allow(dead_code, unreachable_pub, reason = "it is a program of its own, with a main")]
mod svid_agent;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use legate_client::{Allow, Decision, Enrolled, IdentitySource, Question, enrol};
use legate_clock::{Clock as _, SystemClock, TestClock};
use legate_mtls::Limits;
use legate_wire::credential::EnforcementPointRef;
use legate_wire::credential::create_enrolment_token_request::Holder;
use legate_wire::registry::Kind;
use svid_agent::Agent;

use super::scene::{self, Fleet};
use crate::raised::{LONG, Raised};

/// The promise about a suspension: not later than this.
const BOUND: Duration = Duration::from_secs(5);

async fn point(raised: &Raised) -> Enrolled {
    let point = EnforcementPointRef { namespace: "fleet".into(), name: "plans".into() };
    let token = raised.enrolment_token(Holder::EnforcementPoint(point)).await;
    enrol(&raised.remote("credential-issuer"), &token).await.unwrap()
}

/// The server of the example: its source, and where it is.
async fn tools(raised: &Raised) -> (IdentitySource, SocketAddr) {
    let source = IdentitySource::enrolled(&raised.remote("credential-issuer"), &point(raised).await).unwrap();
    let policy = raised.remote("policy-decision");
    let decision = Decision::builder([policy.endpoint], source.identity().clone(), policy.trust).build().unwrap();
    assert!(decision.ready(LONG).await);
    let here = SocketAddr::from(([127, 0, 0, 1], 0));
    let callers = svid_tool_server::callers(&source).unwrap();
    let listener = source.listen(here, callers, Limits::default()).await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(svid_tool_server::tool_server::serve(listener, svid_tool_server::app(decision).unwrap()));
    (source, at)
}

fn server(source: &IdentitySource) -> Allow {
    Allow::nobody().id(source.spiffe_id().unwrap())
}

/// Calls until the answer is that, for a bounded time; how long it took.
async fn until(agent: &mut Agent, status: StatusCode, reason: &str) -> Duration {
    let begun = Instant::now();
    loop {
        let answer = agent.call(Method::GET, "/plans/7").await;
        if answer.as_ref().is_ok_and(|answer| answer.status == status && answer.reason == reason) {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < LONG, "{answer:?} where {status} {reason} was awaited");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_with_nothing_but_a_socket_calls_a_tool_until_it_is_stopped() {
    let raised = Raised::with_node().await;
    let fleet = Fleet::declared(&raised, "LOW").await;
    let (tools, at) = tools(&raised).await;
    let mut source = IdentitySource::at(&fleet.endpoint, LONG).await.unwrap();
    let mut agent = Agent::new(&source, &at.to_string(), server(&tools)).unwrap();
    until(&mut agent, StatusCode::OK, "-").await;
    let answer = agent.call(Method::GET, "/plans/7").await.unwrap();
    assert!(answer.said.starts_with("plan 7, read for agt_"), "{answer:?}");
    // What its class does not have it may not, what nobody mapped nobody may.
    let answer = agent.call(Method::POST, "/plans/7/run").await.unwrap();
    assert_eq!((answer.status, answer.reason.as_str()), (StatusCode::FORBIDDEN, "NOT_PERMITTED"));
    let answer = agent.call(Method::GET, "/admin").await.unwrap();
    assert_eq!((answer.status, answer.reason.as_str()), (StatusCode::FORBIDDEN, "REQUEST_NOT_MAPPED"));

    // Whoever expects another server speaks to nobody, and a server that is an agent gets no calls of agents.
    let other = Allow::ids(["spiffe://dev.legate/ns/fleet/enforcer/elsewhere"]).unwrap();
    Agent::new(&source, &at.to_string(), other).unwrap().call(Method::GET, "/plans/7").await.unwrap_err();
    let of_tools = Agent::new(&tools, &at.to_string(), Allow::anyone());
    of_tools.unwrap().call(Method::GET, "/plans/7").await.unwrap_err();

    // A rotation leaves the connection that is in use alone, and the next one shows the new certificate.
    let connection = answer.connection;
    let before = source.identity().x5t_s256();
    raised.suite.helper().unwrap().serving().rotate();
    source.changed().await;
    assert_ne!(source.identity().x5t_s256(), before);
    let answer = agent.call(Method::GET, "/plans/7").await.unwrap();
    assert_eq!((answer.status, answer.connection), (StatusCode::OK, connection));
    agent.reconnect();
    let answer = agent.call(Method::GET, "/plans/7").await.unwrap();
    assert_eq!((answer.status, answer.connection), (StatusCode::OK, connection + 1));

    // Stopped, it is refused over the connection that it has, and makes no other.
    fleet.suspend(&raised).await;
    let took = until(&mut agent, StatusCode::FORBIDDEN, "AGENT_SUSPENDED").await;
    assert!(took < BOUND, "a suspension took {took:?}");
    scene::until(async || source.spiffe_id().is_none()).await;
    agent.reconnect();
    agent.call(Method::GET, "/plans/7").await.unwrap_err();
    // Active again, it comes back by itself.
    fleet.resume(&raised).await;
    until(&mut agent, StatusCode::OK, "-").await;
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_before_a_suspension_is_refused_after_it() {
    let raised = Raised::with_node().await;
    let fleet = Fleet::declared(&raised, "LOW").await;
    let (tools, at) = tools(&raised).await;
    let source = IdentitySource::at(&fleet.endpoint, LONG).await.unwrap();
    let mut agent = Agent::new(&source, &at.to_string(), server(&tools)).unwrap();
    until(&mut agent, StatusCode::OK, "-").await;
    fleet.suspend(&raised).await;
    until(&mut agent, StatusCode::FORBIDDEN, "AGENT_SUSPENDED").await;
    fleet.resume(&raised).await;
    // The connection that was made before goes on, and is of an earlier life.
    until(&mut agent, StatusCode::UNAUTHORIZED, "CERTIFICATE_OUTLIVED").await;
    until(&mut agent, StatusCode::OK, "-").await;
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_used_for_half_of_their_life_and_not_by_somebody_who_was_stopped() {
    let raised = Raised::with_node().await;
    let fleet = Fleet::declared(&raised, "LOW").await;
    let clock = TestClock::at(SystemClock::new().now());
    let source = IdentitySource::at_with(&fleet.endpoint, LONG, clock.clone()).await.unwrap();
    let (svids, access) = (source.jwt_svids(), source.access_tokens(&raised.remote("credential-issuer")).unwrap());
    let both = async || {
        let (svid, access) = (svids.token("https://llm.example").await, access.token(scene::AUDIENCE).await);
        (svid.unwrap().as_str().to_owned(), access.unwrap().as_str().to_owned())
    };
    let first = both().await;
    clock.advance(Duration::from_secs(140));
    assert_eq!(both().await, first, "before half of their life the same");
    clock.advance(Duration::from_secs(20));
    let second = both().await;
    assert_ne!(second.1, first.1);

    // After a rotation an access token is bound to the new certificate, and so is good where that is shown.
    let mut turning = source.clone();
    raised.suite.helper().unwrap().serving().rotate();
    turning.changed().await;
    let third = both().await;
    assert_ne!(third.1, second.1);
    assert_eq!(third.0, second.0, "a JWT-SVID is the instance's, which is the same");
    let policy = raised.remote("policy-decision");
    let point = point(&raised).await;
    let decision = Decision::builder([policy.endpoint], point.identity().unwrap(), policy.trust).build().unwrap();
    assert!(decision.ready(LONG).await);
    let question = Question::by_token(&third.1, "plan:read", "Plan", "7");
    let question = question.presented_certificate(source.identity().x5t_s256().unwrap());
    decision.ask(question).await.permit().unwrap();

    fleet.suspend(&raised).await;
    scene::until(async || source.spiffe_id().is_none()).await;
    let refused = svids.token("https://llm.example").await.unwrap_err();
    assert!(refused.is_refusal(), "{refused}");
    access.token(scene::AUDIENCE).await.unwrap_err();
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enrolled_identity_renews_itself_and_ends_with_its_standing() {
    let raised = Raised::new().await;
    let _declared = Fleet::declared_with_nodes(&raised, "LOW").await;
    let clock = TestClock::at(SystemClock::new().now());
    let issuer = raised.remote("credential-issuer");
    let mut source = IdentitySource::enrolled_with(&issuer, &point(&raised).await, clock.clone()).unwrap();
    let (id, before) = (source.spiffe_id().unwrap(), source.identity().x5t_s256());
    assert!(source.jwt("https://llm.example").await.is_err(), "JWT-SVIDs are the Workload API's");
    // Half of what is left, and a little more.
    let later = |source: &IdentitySource| {
        let left = source.identity().not_after().unwrap().since(clock.now());
        clock.advance(left / 2 + Duration::from_secs(60));
    };
    later(&source);
    tokio::time::timeout(LONG, source.changed()).await.unwrap();
    scene::until(async || source.identity().x5t_s256() != before).await;
    assert_eq!(source.spiffe_id(), Some(id));
    // Files follow as well.
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let write = |enrolled: &Enrolled| {
        legate_mtls::pki::write_private(&path("key"), &enrolled.key.to_pem()).unwrap();
        std::fs::write(path("chain"), &enrolled.chain_pem).unwrap();
        std::fs::write(path("ca"), &enrolled.workload_roots_pem).unwrap();
    };
    let first = point(&raised).await;
    write(&first);
    let mut files = IdentitySource::from_files(&path("chain"), &path("key"), &path("ca")).unwrap();
    let second = point(&raised).await;
    write(&second);
    tokio::time::timeout(LONG, files.changed()).await.unwrap();
    let shown = second.identity().unwrap().x5t_s256();
    scene::until(async || files.identity().x5t_s256() == shown).await;

    // Taken back, it is renewed no more, and lets go of what it has.
    scene::take_back(&raised, Kind::EnforcementPoint, "plans").await;
    later(&source);
    scene::until(async || source.spiffe_id().is_none()).await;
    raised.suite.shutdown().await;
}
