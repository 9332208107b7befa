//! Who a handler is told that it serves.

use http::StatusCode;
use http_body_util::Full;
use legate_clock::Clock as _;
use legate_mtls::Identity;
use legate_web::Limits;

use crate::house::{HOUR, House, ask};

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_is_who_its_certificate_says_whatever_its_headers_say() {
    let house = House::new();
    let web = house.raise(Limits::default()).await;
    let agent = house.agent_id();
    let mut known = house.connect(web.addr(), house.agent()).await.unwrap();
    assert!(known.get("/who").await.1.starts_with(agent.as_str()));

    let mut stranger = house.connect(web.addr(), Identity::anonymous()).await.unwrap();
    let mut request = ask("/who");
    for header in ["x-agent-id", "x-forwarded-client-cert", "x-client-cert", "x-ssl-client-cert", "forwarded"] {
        request = request.header(header, agent.as_str());
    }
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = request.header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    let (status, headers, body) = stranger.send(request.body(Full::default()).unwrap()).await.unwrap();
    assert_eq!((status, body), (StatusCode::OK, format!(" {trace}")));
    assert_eq!(headers["x-content-type-options"], "nosniff");
    let (_, body) = stranger.get("/who").await;
    assert_eq!((body.trim().len(), body.trim() == trace), (32, false), "a trace of its own");
    web.shutdown(HOUR).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_optional_and_never_taken_unverified() {
    let house = House::new();
    let web = house.raise(Limits::default()).await;
    // In TLS 1.3 the client is done before the server has judged; then its first request fails.
    if let Some(mut forged) = house.connect(web.addr(), house.forged()).await {
        assert!(forged.send(ask("/who").body(Full::default()).unwrap()).await.is_none());
    }
    let mut agent = house.connect(web.addr(), house.agent()).await.unwrap();
    assert_eq!(agent.get("/who").await.0, StatusCode::OK);
    // The connection ends by a timer, which does not see the machine's clock being put right.
    house.clock.jump_to(house.clock.now().plus(HOUR));
    assert_eq!(agent.get("/who").await.0, StatusCode::UNAUTHORIZED);
    web.shutdown(HOUR).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_connections_can_be_cut_by_whom_they_belong_to() {
    let house = House::new();
    let web = house.raise(Limits::default()).await;
    let mut agent = house.connect(web.addr(), house.agent()).await.unwrap();
    let mut stranger = house.connect(web.addr(), Identity::anonymous()).await.unwrap();
    agent.get("/who").await;
    stranger.get("/who").await;
    assert_eq!(web.connections().cut(|peer| peer.spiffe_id.is_some()), 1);
    assert!(agent.send(ask("/who").body(Full::default()).unwrap()).await.is_none());
    assert_eq!(stranger.get("/who").await.0, StatusCode::OK);
    web.shutdown(HOUR).await;
}
