//! An issuer outside: keys, tokens, and an HTTPS server that shows the keys.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use legate_clock::{Clock, TestClock};
use legate_ids::SpiffeId;
use legate_mtls::pki::{Ca, Leaf};
use legate_mtls::{Identity, Limits, Listener};
use legate_token::{EcSigner as _, P256Signer, jwk_set};
use tokio_stream::StreamExt as _;

pub(super) const ISSUER: &str = "https://ci.example";

pub(super) fn key(n: u8) -> P256Signer {
    P256Signer::from_scalar(&[n; 32]).unwrap()
}

/// Claims, signed by the key.
pub(super) fn token(key: &P256Signer, claims: &serde_json::Value) -> String {
    let b64 = |text: &str| Base64UrlUnpadded::encode_string(text.as_bytes());
    let header = format!(r#"{{"alg":"ES256","typ":"JWT","kid":"{}"}}"#, key.public_key().kid());
    let input = format!("{}.{}", b64(&header), b64(&claims.to_string()));
    let signature = key.sign(input.as_bytes()).unwrap();
    format!("{input}.{}", Base64UrlUnpadded::encode_string(&signature))
}

/// What the server answers.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) location: &'static str,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn keys(keys: &[&P256Signer]) -> Self {
        Self::of(200, jwk_set(keys.iter().map(|key| key.public_key())))
    }

    pub(super) fn of(status: u16, body: impl Into<String>) -> Self {
        Self { status, location: "", body: body.into() }
    }
}

/// A server on the loopback, under a CA of its own.
pub(super) struct Outside {
    pub(super) addr: SocketAddr,
    ca_pem: String,
    pub(super) answer: Arc<Mutex<Answer>>,
    pub(super) asked: Arc<AtomicU64>,
}

impl Outside {
    pub(super) async fn new(clock: Arc<TestClock>, answer: Answer) -> Self {
        let day = Duration::from_secs(24 * 3_600);
        let ca = Ca::generate("outside", clock.now(), 40 * day).unwrap();
        let id = SpiffeId::parse("spiffe://outside.example/server").unwrap();
        let leaf = Leaf { spiffe_id: &id, dns: &["localhost"], ips: &[[127, 0, 0, 1].into()], ttl: 30 * day };
        let issued = ca.issue(&leaf, clock.now()).unwrap();
        let identity = Identity::from_pem(&issued.cert_pem, &issued.key_pem).unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let listener = Listener::bind_web(any, identity, None, clock, Limits::default()).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let this = Self {
            addr,
            ca_pem: ca.cert_pem().to_owned(),
            answer: Arc::new(Mutex::new(answer)),
            asked: Arc::default(),
        };
        let (answer, asked) = (Arc::clone(&this.answer), Arc::clone(&this.asked));
        let mut incoming = listener.into_incoming();
        tokio::spawn(async move {
            while let Some(Ok(conn)) = incoming.next().await {
                let (answer, asked) = (Arc::clone(&answer), Arc::clone(&asked));
                tokio::spawn(async move {
                    let service = service_fn(|_: http::Request<hyper::body::Incoming>| {
                        asked.fetch_add(1, Ordering::SeqCst);
                        let told = answer.lock().unwrap().clone();
                        async move {
                            let answer =
                                http::Response::builder().status(told.status).header("location", told.location);
                            Ok::<_, Infallible>(answer.body(Full::new(Bytes::from(told.body))).unwrap())
                        }
                    });
                    let _ended =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(conn), service).await;
                });
            }
        });
        this
    }

    pub(super) fn url(&self) -> String {
        format!("https://{}/keys", self.addr)
    }

    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    pub(super) fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// Writes the CA's certificate for a configuration to name.
    pub(super) fn write_ca(&self, dir: &Path) -> std::path::PathBuf {
        let path = dir.join("outside-ca.pem");
        std::fs::write(&path, &self.ca_pem).unwrap();
        path
    }
}
