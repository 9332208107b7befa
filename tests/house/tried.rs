//! What is tried with tokens, one row each, at every door that takes one: refused by name, recorded, and nobody let in.
//!
//! The forms and claims of a token are tried one by one in `crates/token/tests/abuse.rs`; here a row shows that a whole
//! service goes by that. Client assertions that are shown twice, by fifty at once and at two replicas are in
//! credential-issuer's `tests/clients.rs` and `tests/replicas.rs`, DPoP proofs there too.

mod enrolment;
mod exchanges;

use base64ct::{Base64, Base64UrlUnpadded, Encoding as _};
use http::StatusCode;
use legate_client::{ClientError, Runtime, enrol};
use legate_ids::{AgentId, Name, SpiffeId};
use legate_mtls::Identity;
use legate_rpc::Client;
use legate_token::{EcSigner as _, P256Signer};
use legate_wire::credential::IntrospectRequest;
use legate_wire::credential::create_enrolment_token_request::Holder;
use legate_wire::credential::token_service_client::TokenServiceClient;
use serde_json::{Value, json};

use crate::log::Log;
use crate::oauth::{Answer, Clients, RESOURCE, ask, basic};
use crate::raised::{Raised, unwrapped_as};

/// A token in its parts, as text.
#[derive(Clone)]
struct Parts {
    header: String,
    payload: String,
    signature: String,
}

impl Parts {
    fn of(token: &str) -> Self {
        let mut parts = token.split('.');
        let mut text = || String::from_utf8(Base64UrlUnpadded::decode_vec(parts.next().unwrap()).unwrap()).unwrap();
        let (header, payload) = (text(), text());
        Self { header, payload, signature: token.rsplit('.').next().unwrap().to_owned() }
    }

    fn kid(&self) -> String {
        serde_json::from_str::<Value>(&self.header).unwrap()["kid"].as_str().unwrap().to_owned()
    }

    /// The header with one member more or another value of one.
    fn header(&self, name: &str, value: Value) -> String {
        let mut all: Value = serde_json::from_str(&self.header).unwrap();
        all[name] = value;
        all.to_string()
    }

    /// The claims with another value of one, which has to be there.
    fn claims(&self, name: &str, change: impl FnOnce(&Value) -> Option<Value>) -> String {
        let mut all: Value = serde_json::from_str(&self.payload).unwrap();
        let changed = change(&all[name]);
        let claims = all.as_object_mut().unwrap();
        assert!(claims.remove(name).is_some(), "{name}");
        if let Some(value) = changed {
            claims.insert(name.to_owned(), value);
        }
        all.to_string()
    }

    /// The claims with one of them twice.
    fn twice(&self, name: &str) -> String {
        let all: Value = serde_json::from_str(&self.payload).unwrap();
        self.payload.replacen('{', &format!("{{\"{name}\":{},", all[name]), 1)
    }

    fn moved(&self, by: i64) -> String {
        let mut all: Value = serde_json::from_str(&self.payload).unwrap();
        for name in ["iat", "exp"] {
            all[name] = json!(all[name].as_i64().unwrap() + by);
        }
        all.to_string()
    }
}

/// Who signs: with the issuer's very own key, or with a key of nobody.
struct Forger {
    ours: P256Signer,
    nobody: P256Signer,
}

fn signed(key: &P256Signer, header: &str, payload: &str) -> String {
    let b64 = |text: &str| Base64UrlUnpadded::encode_string(text.as_bytes());
    let input = format!("{}.{}", b64(header), b64(payload));
    let signature = key.sign(input.as_bytes()).unwrap();
    format!("{input}.{}", Base64UrlUnpadded::encode_string(&signature))
}

fn unsigned(header: &str, payload: &str, signature: &str) -> String {
    let b64 = |text: &str| Base64UrlUnpadded::encode_string(text.as_bytes());
    format!("{}.{}.{signature}", b64(header), b64(payload))
}

/// One thing that is tried.
struct Row {
    what: &'static str,
    token: fn(&Forger, &Parts) -> String,
    /// What policy-decision says, and credential-issuer of an exchange.
    reasons: (&'static str, &'static str),
}

const fn row(what: &'static str, token: fn(&Forger, &Parts) -> String) -> Row {
    Row { what, token, reasons: ("TOKEN_INVALID", "SUBJECT_TOKEN_INVALID") }
}

const ROWS: [Row; 32] = [
    row("alg none, no signature", |_, t| unsigned(&t.header("alg", json!("none")), &t.payload, "")),
    row("alg none, the signature kept", |_, t| unsigned(&t.header("alg", json!("none")), &t.payload, &t.signature)),
    row("alg HS256, signed by the issuer's key", |f, t| signed(&f.ours, &t.header("alg", json!("HS256")), &t.payload)),
    row("no signature", |_, t| unsigned(&t.header, &t.payload, "")),
    row("the signature of a stranger under our kid", |f, t| signed(&f.nobody, &t.header, &t.payload)),
    row("a kid that walks the disk", |f, t| {
        signed(&f.nobody, &t.header("kid", json!("../../../../dev/null")), &t.payload)
    }),
    row("a kid that is SQL", |f, t| signed(&f.nobody, &t.header("kid", json!("' OR 1=1 --")), &t.payload)),
    Row {
        what: "of another environment: its key is known there and not here",
        token: |f, t| signed(&f.nobody, &t.header("kid", json!(f.nobody.public_key().kid().as_str())), &t.payload),
        reasons: ("TOKEN_KEY_UNKNOWN", "SUBJECT_TOKEN_INVALID"),
    },
    row("of another environment's issuer", |f, t| {
        signed(&f.ours, &t.header, &t.claims("iss", |_| Some(json!("https://elsewhere.example"))))
    }),
    row("an embedded jwk", |f, t| {
        let jwk = serde_json::from_str(&f.nobody.public_key().to_jwk()).unwrap();
        signed(&f.nobody, &t.header("jwk", jwk), &t.payload)
    }),
    row("a jku", |f, t| signed(&f.ours, &t.header("jku", json!("https://evil.example/keys")), &t.payload)),
    row("an x5u", |f, t| signed(&f.ours, &t.header("x5u", json!("https://evil.example/cert")), &t.payload)),
    row("an unknown crit", |f, t| signed(&f.ours, &t.header("crit", json!(["exp"])), &t.payload)),
    row("typ JWT", |f, t| signed(&f.ours, &t.header("typ", json!("JWT")), &t.payload)),
    row("typ of a status list", |f, t| signed(&f.ours, &t.header("typ", json!("statuslist+jwt")), &t.payload)),
    row("no aud", |f, t| signed(&f.ours, &t.header, &t.claims("aud", |_| None))),
    row("a list of aud", |f, t| signed(&f.ours, &t.header, &t.claims("aud", |aud| Some(json!([aud]))))),
    Row {
        what: "a prefix of aud",
        token: |f, t| {
            let shorter = |aud: &Value| aud.as_str().map(|aud| json!(aud[..aud.len() - 1]));
            signed(&f.ours, &t.header, &t.claims("aud", shorter))
        },
        reasons: ("TOKEN_AUDIENCE", "SUBJECT_TOKEN_NOT_ADDRESSED"),
    },
    row("a string exp", |f, t| signed(&f.ours, &t.header, &t.claims("exp", |exp| Some(json!(exp.to_string()))))),
    row("a float exp", |f, t| {
        signed(&f.ours, &t.header, &t.claims("exp", |exp| exp.as_f64().map(|exp| json!(exp + 0.5))))
    }),
    row("a far exp", |f, t| signed(&f.ours, &t.header, &t.claims("exp", |_| Some(json!(4_102_444_800_u64))))),
    row("no exp", |f, t| signed(&f.ours, &t.header, &t.claims("exp", |_| None))),
    Row {
        what: "ended an hour ago",
        token: |f, t| signed(&f.ours, &t.header, &t.moved(-3_600)),
        reasons: ("TOKEN_EXPIRED", "SUBJECT_TOKEN_INVALID"),
    },
    Row {
        what: "begins in an hour",
        token: |f, t| signed(&f.ours, &t.header, &t.moved(3_600)),
        reasons: ("TOKEN_EXPIRED", "SUBJECT_TOKEN_INVALID"),
    },
    row("aud twice", |f, t| signed(&f.ours, &t.header, &t.twice("aud"))),
    row("exp twice", |f, t| signed(&f.ours, &t.header, &t.twice("exp"))),
    row("sub twice", |f, t| signed(&f.ours, &t.header, &t.twice("sub"))),
    row("the life of the agent as a string", |f, t| {
        signed(&f.ours, &t.header, &t.claims("lv", |lv| Some(json!(lv.to_string()))))
    }),
    row("a claim that nobody knows", |f, t| {
        signed(&f.ours, &t.header, &t.payload.replacen('{', "{\"admin\":true,", 1))
    }),
    row("another agent's name, the signature kept", |_, t| {
        let other = AgentId::from_parts(1, [7; 10]);
        unsigned(&t.header, &t.claims("agent", |_| Some(json!(other.as_str()))), &t.signature)
    }),
    row("a wider scope, the signature kept", |_, t| {
        unsigned(&t.header, &t.claims("scope", |_| Some(json!("order:pay"))), &t.signature)
    }),
    row("no token at all", |_, _| "x".to_owned()),
];

/// The shop of tests/oauth/clients.yaml: one who holds tokens, one who acts by them, and the backend.
pub(crate) struct Shop<'a> {
    clients: Clients<'a>,
    secret: String,
    /// `with-key`, by its certificate.
    actor: Runtime,
    backend: Identity,
}

impl<'a> Shop<'a> {
    async fn of(raised: &'a Raised) -> Self {
        let clients = Clients::of(raised).await;
        let (secret, _) = clients.secret("with-secret").await;
        let actor = runtime(raised, &clients, "with-key").await;
        let point = legate_wire::credential::EnforcementPointRef { namespace: "shop".into(), name: "orders".into() };
        let token = raised.enrolment_token(Holder::EnforcementPoint(point)).await;
        let backend = enrol(&raised.remote("credential-issuer"), &token).await.unwrap().identity().unwrap();
        Self { clients, secret, actor, backend }
    }

    fn raised(&self) -> &'a Raised {
        self.clients.raised
    }

    /// To whom tokens for an agent are addressed.
    async fn address(&self, name: &str) -> String {
        let id = AgentId::parse(&self.clients.id(name).await).unwrap();
        SpiffeId::agent(self.raised().suite.domain(), &Name::parse("shop").unwrap(), &id).to_string()
    }

    /// A token of `with-secret` for a resource, bound to nothing.
    async fn held(&self, resource: &str, scope: &str) -> String {
        let basic = basic(&self.clients.id("with-secret").await, &self.secret);
        let form = [("grant_type", "client_credentials"), ("resource", resource), ("scope", scope)];
        let headers = [("authorization", basic.as_str())];
        let answer = self.clients.post(Identity::anonymous(), "/oauth2/token", &headers, &form).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
        answer.json["access_token"].as_str().unwrap().to_owned()
    }

    /// An exchange by the one who acts, over HTTPS.
    async fn exchange(&self, token: &str, more: &[(&str, &str)]) -> Answer {
        self.exchange_as((&self.actor, "with-key"), token, more).await
    }

    async fn exchange_as(&self, (who, name): (&Runtime, &str), token: &str, more: &[(&str, &str)]) -> Answer {
        let id = self.clients.id(name).await;
        let mut form = vec![
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("client_id", id.as_str()),
            ("subject_token", token),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ];
        form.extend_from_slice(more);
        self.clients.post(who.identity().clone(), "/oauth2/token", &[], &form).await
    }

    fn decisions(&self) -> Client {
        self.raised().dial("policy-decision", self.backend.clone())
    }

    /// Whether a token works, as the backend is told over gRPC and over HTTPS, which say the same.
    async fn is_active(&self, token: &str) -> bool {
        let mut tokens = TokenServiceClient::new(self.raised().dial("credential-issuer", self.backend.clone()));
        let by_grpc = tokens.introspect(IntrospectRequest { token: token.to_owned() }).await.unwrap().into_inner();
        let form = [("token", token)];
        let by_https = self.clients.post(self.backend.clone(), "/oauth2/introspect", &[], &form).await;
        assert_eq!(by_https.status, StatusCode::OK, "{}", by_https.json);
        if !by_grpc.active {
            assert_eq!(by_https.json, json!({"active": false}), "no more is said");
        }
        assert_eq!(by_https.json["active"], json!(by_grpc.active));
        by_grpc.active
    }
}

async fn runtime(raised: &Raised, clients: &Clients<'_>, name: &str) -> Runtime {
    let token = raised.enrolment_token(Holder::AgentId(clients.id(name).await)).await;
    let issuer = raised.remote("credential-issuer");
    Runtime::new(&issuer, enrol(&issuer, &token).await.unwrap().identity().unwrap()).unwrap()
}

fn reason<T: std::fmt::Debug>(refused: Result<T, ClientError>) -> String {
    match refused {
        Err(ClientError::Refused(told)) => told.reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_that_is_not_exactly_ours_opens_a_door() {
    let raised = Raised::new().await;
    let shop = Shop::of(&raised).await;
    let (for_backend, for_actor) =
        (shop.held(RESOURCE, "order:read").await, shop.held(&shop.address("with-key").await, "order:read").await);

    // What is good is taken everywhere, or the rows below would say nothing.
    assert_eq!(ask(&shop.decisions(), &for_backend, &[], &[]).await.reason_code, "ALLOWED");
    shop.actor.exchange(&for_actor, RESOURCE, &[]).await.unwrap();
    assert_eq!(shop.exchange(&for_actor, &[("resource", RESOURCE)]).await.status, StatusCode::OK);
    assert!(shop.is_active(&for_backend).await);

    let (for_backend, for_actor) = (Parts::of(&for_backend), Parts::of(&for_actor));
    let pem = unwrapped_as(raised.suite.layout(), "access-tokens", &for_backend.kid());
    let der: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let ours = P256Signer::from_pkcs8(&Base64::decode_vec(&der).unwrap()).unwrap();
    let forger = Forger { ours, nobody: P256Signer::from_scalar(&[9; 32]).unwrap() };
    // What the forger signs with the issuer's key and leaves as it is opens all doors: the rows are refused for what they say.
    let as_it_is = signed(&forger.ours, &for_backend.header, &for_backend.payload);
    assert_eq!(ask(&shop.decisions(), &as_it_is, &[], &[]).await.reason_code, "ALLOWED");

    for Row { what, token, reasons: (decision, exchange) } in &ROWS {
        let spoilt = token(&forger, &for_backend);
        let answer = ask(&shop.decisions(), &spoilt, &[], &[]).await;
        assert_eq!(answer.reason_code, *decision, "{what}: {answer:?}");
        assert!(!shop.is_active(&spoilt).await, "{what}");
        let spoilt = token(&forger, &for_actor);
        assert_eq!(reason(shop.actor.exchange(&spoilt, RESOURCE, &[]).await), *exchange, "{what}");
        let answer = shop.exchange(&spoilt, &[("resource", RESOURCE)]).await;
        assert_eq!(
            (answer.status, &answer.json["error"]),
            (StatusCode::BAD_REQUEST, &json!("invalid_grant")),
            "{what}"
        );
    }

    let dir = raised.suite.layout().log();
    raised.suite.shutdown().await;
    let log = Log::read(&dir);
    // Each of them is on record: at the one who decides once, at the issuer by both doors.
    for (decision, exchange) in ROWS.iter().map(|row| row.reasons) {
        let of = |wanted: fn(&Row) -> &'static str, reason| ROWS.iter().filter(|row| wanted(row) == reason).count();
        let decided = log.events.iter().filter(|event| event.reason_code == decision).count();
        assert_eq!(decided, of(|row| row.reasons.0, decision), "{decision}");
        let refused = log.of_type("exchange.refused").filter(|event| event.reason_code == exchange).count();
        assert_eq!(refused, 2 * of(|row| row.reasons.1, exchange), "{exchange}");
    }
}
