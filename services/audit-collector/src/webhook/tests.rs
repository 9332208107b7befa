//! Over real TLS: whom the sender believes, and which addresses it calls.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use legate_clock::{Clock as _, SystemClock};
use legate_ids::SpiffeId;
use legate_mtls::pki::{Ca, Leaf, write_private, write_public};
use legate_mtls::{Identity, Limits, Listener};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;

use super::Target;
use super::post::{NotTaken, Poster};
use crate::config::WebhookConfig;

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// A receiver over HTTPS on this machine, under a CA of its own, that answers 204: its port, its CA, and what came.
async fn receiver() -> (u16, String, mpsc::UnboundedReceiver<http::HeaderMap>) {
    let clock = SystemClock::shared();
    let ca = Ca::generate("receivers", clock.now(), 2 * DAY).unwrap();
    let id = SpiffeId::parse("spiffe://outside.example/receiver").unwrap();
    let leaf = Leaf { spiffe_id: &id, dns: &["localhost"], ips: &[[127, 0, 0, 1].into()], ttl: DAY };
    let issued = ca.issue(&leaf, clock.now()).unwrap();
    let identity = Identity::from_pem(&issued.cert_pem, &issued.key_pem).unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::bind_web(any, identity, None, clock, Limits::default()).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (out, came) = mpsc::unbounded_channel();
    let mut incoming = listener.into_incoming();
    tokio::spawn(async move {
        while let Some(Ok(conn)) = incoming.next().await {
            let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
                out.send(request.headers().clone()).unwrap();
                async {
                    Ok::<_, Infallible>(http::Response::builder().status(204).body(Full::<Bytes>::default()).unwrap())
                }
            });
            // A caller that does not believe us leaves; the next one is served.
            let _left = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(conn), service).await;
        }
    });
    (port, ca.cert_pem().to_owned(), came)
}

fn poster(dir: &Path, port: u16, ca: Option<&str>, allowed: &[&str]) -> Poster {
    let secret_file = dir.join("secret");
    if !secret_file.exists() {
        write_private(&secret_file, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    }
    let ca = ca.map(|pem| {
        let path = dir.join("ca.pem");
        write_public(&path, pem).unwrap();
        path
    });
    let config = WebhookConfig {
        url: Some(format!("https://127.0.0.1:{port}/hook")),
        secret_file: Some(secret_file),
        ca,
        allow_private: allowed.iter().map(|network| network.parse().unwrap()).collect(),
    };
    Poster::new(Target::of(&config).unwrap().unwrap(), SystemClock::shared()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_believed_receiver_at_an_allowed_address_is_told() {
    let (port, ca, mut came) = receiver().await;
    let dir = tempfile::tempdir().unwrap();
    let now = SystemClock::new().now();
    let body = || Bytes::from_static(b"{}");
    let why = |refused: Result<(), NotTaken>| refused.unwrap_err().to_string();

    let guarded = poster(dir.path(), port, Some(&ca), &[]);
    assert!(why(guarded.post("evt_1", body(), now).await).contains("no address that may be called"));
    let elsewhere = poster(dir.path(), port, Some(&ca), &["10.0.0.0/8"]);
    assert!(why(elsewhere.post("evt_1", body(), now).await).contains("no address that may be called"));
    let stranger = poster(dir.path(), port, None, &["127.0.0.0/8"]);
    assert!(why(stranger.post("evt_1", body(), now).await).contains("no TLS connection"));
    assert!(came.try_recv().is_err(), "nobody was told anything");

    let good = poster(dir.path(), port, Some(&ca), &["127.0.0.0/8"]);
    good.post("evt_1", body(), now).await.unwrap();
    let headers = came.recv().await.unwrap();
    assert_eq!(
        (&headers["webhook-id"], &headers["content-type"]),
        (&"evt_1".parse().unwrap(), &"application/json".parse().unwrap())
    );
    assert!(headers["webhook-signature"].to_str().unwrap().starts_with("v1,"));
}
