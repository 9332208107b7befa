//! No request is too long, too large or too slow for the others.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::Full;
use legate_mtls::Identity;
use legate_web::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::house::{HOUR, House, LONG, ask};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_is_refused_and_counted() {
    let house = House::new();
    let limits = Limits { body_bytes: 1_000, request_deadline: Duration::from_millis(200), ..Limits::default() };
    let web = house.raise(limits).await;
    let mut client = house.connect(web.addr(), Identity::anonymous()).await.unwrap();
    let mut post = async |bytes: usize| {
        let body = Full::new(Bytes::from(vec![b'x'; bytes]));
        client.send(ask("/echo").method("POST").body(body).unwrap()).await.map(|(status, ..)| status)
    };
    assert_eq!(post(1_000).await, Some(StatusCode::OK));
    assert_eq!(post(1_001).await, Some(StatusCode::PAYLOAD_TOO_LARGE));

    let mut client = house.connect(web.addr(), Identity::anonymous()).await.unwrap();
    assert_eq!(client.get("/never").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(client.get("/made-up-by-a-stranger").await.0, StatusCode::NOT_FOUND);
    let twice = ask("/who").header("authorization", "Basic eA").header("authorization", "Basic eQ");
    let (status, ..) = client.send(twice.body(Full::default()).unwrap()).await.unwrap();
    assert_eq!(status, StatusCode::BAD_REQUEST);
    // Refused by the protocol itself, on a connection that may not live on.
    let large = ask("/who").header("x-large", "x".repeat(64 << 10)).body(Full::default()).unwrap();
    assert!(client.send(large).await.is_none_or(|(status, ..)| status.is_client_error()));

    let text = house.metrics.text();
    for (path, code) in [("/echo", 200), ("/echo", 413), ("/never", 503), ("other", 404), ("/who", 400)] {
        let line =
            format!("legate_web_requests_total{{service=\"credential-issuer\",path=\"{path}\",code=\"{code}\"}} 1\n");
        assert!(text.contains(&line), "{line}{text}");
    }
    assert!(!text.contains("made-up"), "{text}");
    web.shutdown(HOUR).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_nothing_is_not_waited_for() {
    let house = House::new();
    let limits = Limits { header_deadline: Duration::from_millis(100), ..Limits::default() };
    let web = house.raise(limits).await;
    let mut tcp = tokio::net::TcpStream::connect(web.addr()).await.unwrap();
    let mut nothing = Vec::new();
    // No handshake at all: ended by its deadline.
    tokio::time::timeout(LONG, tcp.read_to_end(&mut nothing)).await.unwrap().unwrap();
    // A handshake, and then nothing that would be a request.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for said in [&b""[..], b"P", b"GET /who HTTP/1.1\r\nhost: lo", preface] {
        let mut tls = house.dial(web.addr(), Identity::anonymous()).await.unwrap();
        tls.write_all(said).await.unwrap();
        let ended = tokio::time::timeout(LONG, tls.read_to_end(&mut nothing)).await;
        assert!(ended.is_ok(), "{:?} is waited for", String::from_utf8_lossy(said));
    }
    // Who asked is not cut for being silent afterwards.
    let mut client = house.connect(web.addr(), Identity::anonymous()).await.unwrap();
    client.get("/who").await;
    tokio::time::sleep(2 * limits.header_deadline).await;
    client.get("/who").await;
    web.shutdown(HOUR).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_lets_requests_end_and_then_cuts() {
    let house = House::new();
    let web = house.raise(Limits { request_deadline: HOUR, ..Limits::default() }).await;
    let addr = web.addr();
    let mut client = house.connect(addr, Identity::anonymous()).await.unwrap();
    assert_eq!(client.get("/who").await.0, StatusCode::OK);
    let waiting = tokio::spawn(async move { client.send(ask("/never").body(Full::default()).unwrap()).await });
    while !house.metrics.text().contains("path=\"/who\"") || web.connections().is_empty() {
        tokio::task::yield_now().await;
    }
    web.shutdown(Duration::from_millis(100)).await;
    assert!(tokio::time::timeout(LONG, waiting).await.unwrap().unwrap().is_none(), "it was cut");
    assert!(house.connect(addr, Identity::anonymous()).await.is_none(), "nobody listens");
}
