//! OAuth clients that ask over HTTPS, or another issuer over plain HTTP, each over a connection of its own.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64ct::{Base64, Base64UrlUnpadded, Encoding as _};
use http_body_util::BodyExt as _;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use legate_clock::{Clock, SystemClock};
use legate_mtls::Identity;
use legate_rpc::Client;
use legate_wire::credential::credential_admin_service_client::CredentialAdminServiceClient;
use legate_wire::credential::{CreateClientSecretRequest, RegisterClientKeyRequest};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tonic::body::Body;
use tower::ServiceExt as _;

use crate::Failed;
use crate::house::{AUDIENCE, House};

/// By what a client proves itself.
#[derive(Clone)]
pub(crate) enum By {
    /// A secret, in the header.
    Secret(String),
    /// An assertion that it signs.
    Key(Arc<EcdsaKeyPair>),
    /// The certificate of the connection.
    Certificate,
}

/// A connection.
#[derive(Clone)]
enum Way {
    Ours(Client),
    /// HTTP/1.1 without TLS.
    Plain(Arc<Mutex<SendRequest<Body>>>),
}

/// A client and its connection.
#[derive(Clone)]
pub(crate) struct OauthClient {
    way: Way,
    id: String,
    by: By,
    issuer: String,
    token_path: &'static str,
}

/// A new key to sign assertions with, and its public half as a JWK.
pub(crate) fn new_key() -> Result<(EcdsaKeyPair, String), Failed> {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
    let point = key.public_key().as_ref();
    let text = |at: std::ops::Range<usize>| Base64UrlUnpadded::encode_string(point.get(at).unwrap_or_default());
    let jwk = format!(r#"{{"kty":"EC","crv":"P-256","x":"{}","y":"{}"}}"#, text(1..33), text(33..65));
    Ok((key, jwk))
}

impl OauthClient {
    /// A client with a secret of its own.
    pub(crate) async fn with_secret(house: &House, name: &str) -> Result<Self, Failed> {
        let mut admin = CredentialAdminServiceClient::new(house.operator("credential-issuer")?);
        let agent_id = house.agent_id_of(name).await?;
        let request = CreateClientSecretRequest { agent_id, reason: "measured".into(), ..Default::default() };
        let made = admin.create_client_secret(request).await?.into_inner();
        Self::new(house, Identity::anonymous(), made.client_id, By::Secret(made.client_secret))
    }

    /// A client with a registered key.
    pub(crate) async fn with_key(house: &House, name: &str) -> Result<Self, Failed> {
        let (key, jwk) = new_key()?;
        let mut admin = CredentialAdminServiceClient::new(house.operator("credential-issuer")?);
        let agent_id = house.agent_id_of(name).await?;
        let request = RegisterClientKeyRequest { agent_id, jwk, reason: "measured".into(), ..Default::default() };
        let made = admin.register_client_key(request).await?.into_inner();
        Self::new(house, Identity::anonymous(), made.client_id, By::Key(Arc::new(key)))
    }

    /// A client with a certificate.
    pub(crate) async fn with_certificate(house: &House, name: &str) -> Result<Self, Failed> {
        let identity = house.enrolled(name).await?.identity()?;
        Self::new(house, identity, house.agent_id_of(name).await?, By::Certificate)
    }

    fn new(house: &House, identity: Identity, id: String, by: By) -> Result<Self, Failed> {
        let way = Way::Ours(house.web().dial(identity)?);
        Ok(Self { way, id, by, issuer: house.web().endpoint.clone(), token_path: "/oauth2/token" })
    }

    /// A client of the other issuer on this port, with a secret.
    pub(crate) async fn plain_with_secret(port: u16, id: String, secret: &str) -> Result<Self, Failed> {
        Self::plain(port, id, By::Secret(secret.to_owned())).await
    }

    /// The same with a key that is registered there.
    pub(crate) async fn plain_with_key(port: u16, id: String, key: EcdsaKeyPair) -> Result<Self, Failed> {
        Self::plain(port, id, By::Key(Arc::new(key))).await
    }

    async fn plain(port: u16, id: String, by: By) -> Result<Self, Failed> {
        let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
        tcp.set_nodelay(true)?;
        let (requests, connection) = http1::handshake(TokioIo::new(tcp)).await?;
        tokio::spawn(connection);
        let way = Way::Plain(Arc::new(Mutex::new(requests)));
        Ok(Self { way, id, by, issuer: format!("http://127.0.0.1:{port}"), token_path: "/token" })
    }

    async fn post(&self, path: &str, form: String) -> Result<Vec<u8>, Failed> {
        let (parts, body) = match &self.way {
            Way::Ours(http) => {
                let answer = match http.clone().oneshot(self.request(path, &form)?).await {
                    Ok(answer) => answer,
                    // A connection that has come of age is ended by the server, and whoever asks just then comes again over another.
                    Err(_) => http.clone().oneshot(self.request(path, &form)?).await?,
                };
                let (parts, body) = answer.into_parts();
                (parts, body.collect().await?.to_bytes())
            }
            Way::Plain(requests) => {
                let mut request = self.request(path, &form)?;
                let host = self.issuer.trim_start_matches("http://").parse()?;
                request.headers_mut().insert(http::header::HOST, host);
                let (parts, body) = requests.lock().await.send_request(request).await?.into_parts();
                (parts, body.collect().await?.to_bytes())
            }
        };
        if parts.status != http::StatusCode::OK {
            return Err(format!("{path}: {}: {}", parts.status, String::from_utf8_lossy(&body)).into());
        }
        Ok(body.to_vec())
    }

    fn request(&self, path: &str, form: &str) -> Result<http::Request<Body>, Failed> {
        let request = http::Request::post(path).header("content-type", "application/x-www-form-urlencoded");
        Ok(match &self.by {
            By::Secret(secret) => {
                let basic = Base64::encode_string(format!("{}:{secret}", self.id).as_bytes());
                request.header("authorization", format!("Basic {basic}")).body(Body::new(form.to_owned()))?
            }
            By::Key(key) => {
                let kind = "urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";
                let proof = self.assertion(key)?;
                let form = format!("{form}&client_assertion_type={kind}&client_assertion={proof}");
                request.body(Body::new(form))?
            }
            By::Certificate => request.body(Body::new(format!("{form}&client_id={}", self.id)))?,
        })
    }

    /// RFC 7523 section 2.2.
    fn assertion(&self, key: &EcdsaKeyPair) -> Result<String, Failed> {
        let random = SystemRandom::new();
        let mut jti = [0u8; 16];
        aws_lc_rs::rand::fill(&mut jti)?;
        let now = SystemClock::new().now().secs();
        let (id, issuer, jti) = (&self.id, &self.issuer, Base64UrlUnpadded::encode_string(&jti));
        let claims =
            format!(r#"{{"iss":"{id}","sub":"{id}","aud":"{issuer}","jti":"{jti}","iat":{now},"exp":{}}}"#, now + 60);
        let part = |text: &str| Base64UrlUnpadded::encode_string(text.as_bytes());
        let input = format!("{}.{}", part(r#"{"alg":"ES256","typ":"JWT"}"#), part(&claims));
        let signature = key.sign(&random, input.as_bytes())?;
        Ok(format!("{input}.{}", Base64UrlUnpadded::encode_string(signature.as_ref())))
    }

    /// Client credentials.
    pub(crate) async fn token(&self) -> Result<String, Failed> {
        let resource = AUDIENCE.replace(':', "%3A").replace('/', "%2F");
        let answer = self.post(self.token_path, format!("grant_type=client_credentials&resource={resource}")).await?;
        let answer: serde_json::Value = serde_json::from_slice(&answer)?;
        Ok(answer.get("access_token").and_then(|token| token.as_str()).ok_or("no token in the answer")?.to_owned())
    }

    /// Asks about a token that works.
    pub(crate) async fn introspect(&self, token: &str) -> Result<(), Failed> {
        let answer = self.post("/oauth2/introspect", format!("token={token}")).await?;
        let answer: serde_json::Value = serde_json::from_slice(&answer)?;
        if answer.get("active") != Some(&true.into()) {
            return Err("the token does not work".into());
        }
        Ok(())
    }
}
