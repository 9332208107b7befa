//! An issuer outside: it signs tokens, and shows its keys over HTTPS under a CA of its own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use legate_clock::{Clock as _, SystemClock};
use legate_ids::SpiffeId;
use legate_mtls::pki::{Ca, Leaf};
use legate_mtls::{Identity, Limits, Listener};
use legate_token::{EcSigner as _, P256Signer, jwk_set};
use serde_json::Value;
use tokio_stream::StreamExt as _;

/// How long its certificates live.
const HOUR: Duration = Duration::from_secs(3_600);

/// One issuer.
pub(crate) struct Outside {
    key: P256Signer,
    addr: SocketAddr,
    dir: tempfile::TempDir,
}

impl Outside {
    pub(crate) async fn new() -> Self {
        let clock = SystemClock::shared();
        let ca = Ca::generate("outside", clock.now(), HOUR).unwrap();
        let id = SpiffeId::parse("spiffe://outside.example/server").unwrap();
        let leaf = Leaf { spiffe_id: &id, dns: &["localhost"], ips: &[[127, 0, 0, 1].into()], ttl: HOUR };
        let issued = ca.issue(&leaf, clock.now()).unwrap();
        let identity = Identity::from_pem(&issued.cert_pem, &issued.key_pem).unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let listener = Listener::bind_web(any, identity, None, clock, Limits::default()).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let key = P256Signer::from_scalar(&[11; 32]).unwrap();
        let keys = Bytes::from(jwk_set([key.public_key()]));
        let mut incoming = listener.into_incoming();
        tokio::spawn(async move {
            while let Some(Ok(conn)) = incoming.next().await {
                let keys = keys.clone();
                tokio::spawn(async move {
                    let service = service_fn(|_: http::Request<hyper::body::Incoming>| {
                        let keys = keys.clone();
                        async move { Ok::<_, Infallible>(http::Response::new(Full::new(keys))) }
                    });
                    let serving = hyper::server::conn::http1::Builder::new();
                    let _ended = serving.serve_connection(TokioIo::new(conn), service).await;
                });
            }
        });
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), ca.cert_pem()).unwrap();
        Self { key, addr, dir }
    }

    /// Its `iss`.
    pub(crate) fn issuer(&self) -> String {
        format!("https://localhost:{}", self.addr.port())
    }

    /// Where its keys are.
    pub(crate) fn jwks_uri(&self) -> String {
        format!("{}/keys", self.issuer())
    }

    /// Its keys, to be declared where nothing is fetched.
    pub(crate) fn jwks(&self) -> String {
        jwk_set([self.key.public_key()])
    }

    /// Its CA's certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A token for one audience, good now, with these claims too.
    pub(crate) fn token(&self, audience: &str, claims: &Value) -> String {
        let now = SystemClock::new().now().secs();
        let mut all = claims.clone();
        for (name, value) in [
            ("iss", Value::from(self.issuer())),
            ("aud", audience.into()),
            ("iat", now.into()),
            ("exp", (now + 300).into()),
        ] {
            // What is said of it otherwise holds.
            if all.get(name).is_none() {
                all[name] = value;
            }
        }
        let b64 = |text: &str| Base64UrlUnpadded::encode_string(text.as_bytes());
        let header = format!(r#"{{"alg":"ES256","typ":"JWT","kid":"{}"}}"#, self.key.public_key().kid());
        let input = format!("{}.{}", b64(&header), b64(&all.to_string()));
        let signature = self.key.sign(input.as_bytes()).unwrap();
        format!("{input}.{}", Base64UrlUnpadded::encode_string(&signature))
    }
}
