//! Operators who log in: by whose word, under which name, for how long, once.

use std::sync::Arc;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_db::testing::on_each;
use legate_token::{EcSigner as _, jwk_set};
use legate_wire::registry::RevocationReason;
use legate_wire::registry::claim_rule::StandsFor;
use serde_json::{Value, json};

use super::federation;
use super::outside::{key, token};
use super::scene::{START, Scene, new_key, reason, request};
use crate::config::{BadConfig, LoginRuleConfig, OperatorsConfig, ProviderConfig};
use crate::domain::keyring::KeyUse;
use crate::flow::foreign;
use crate::flow::login::{self, Logins};
use crate::schema::Migrator;
use crate::store::credential;

const ISSUER: &str = "https://people.example";

fn rule(claims: &[(&str, &str)], operator: &str, claimed: Option<(&str, &str)>) -> LoginRuleConfig {
    LoginRuleConfig {
        claims: claims.iter().map(|(claim, value)| ((*claim).into(), (*value).into())).collect(),
        operator: operator.into(),
        claim: claimed.map(|(claim, _)| claim.into()),
        pattern: claimed.map(|(_, pattern)| pattern.into()),
    }
}

fn provider() -> ProviderConfig {
    ProviderConfig {
        name: "people".into(),
        issuer: ISSUER.into(),
        audiences: vec!["legate-operators".into()],
        jwks_uri: None,
        jwks: Some(jwk_set([key(1).public_key()])),
        rules: vec![
            rule(&[("sub", "repo:pay/infra:ref:refs/heads/main")], "deploy-pipeline", None),
            rule(&[("hd", "example.com")], "*", Some(("email", "*@example.com"))),
            rule(&[("kind", "contractor")], "ext-*", Some(("name", "*"))),
        ],
    }
}

fn config(provider: ProviderConfig) -> OperatorsConfig {
    OperatorsConfig { providers: vec![provider], ..OperatorsConfig::default() }
}

/// A scene with identity providers.
pub(super) async fn scene(fixture: &legate_db::testing::Fixture) -> Scene {
    admitting(Scene::on(fixture).await)
}

/// A scene, and identity providers.
pub(super) fn admitting(mut scene: Scene) -> Scene {
    let providers = config(provider()).read().unwrap();
    let logins = Logins { providers, ttl: Duration::from_secs(900) };
    Arc::get_mut(&mut scene.desk).unwrap().logins = Some(logins);
    scene
}

fn claims(more: Value) -> Value {
    let mut claims = json!({"iss": ISSUER, "aud": "legate-operators", "sub": "1", "iat": START, "exp": START + 300});
    claims["jti"] = format!("{more}").into();
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

fn of(more: Value) -> String {
    token(&key(1), &claims(more))
}

async fn log_in(scene: &Scene, token: &str, csr: &[u8]) -> Result<credential::Model, legate_rpc::Fault> {
    login::login(&scene.desk, &scene.stranger(), token, csr).await
}

/// Ada logs in with this request: the same token for the same request.
pub(super) async fn ada(scene: &Scene, csr: &[u8]) -> Result<credential::Model, legate_rpc::Fault> {
    let which = crate::domain::token::hex(&credential::sha256(csr));
    let token = of(json!({"hd": "example.com", "email": "ada@example.com", "email_verified": true, "jti": which}));
    log_in(scene, &token, csr).await
}

/// Ada logs in with this request now.
#[cfg(feature = "pkcs11")]
pub(super) async fn ada_now(scene: &Scene, csr: &[u8]) -> Result<credential::Model, legate_rpc::Fault> {
    let now = legate_clock::Clock::now(&*scene.clock).secs();
    let which = crate::domain::token::hex(&credential::sha256(csr));
    let who = json!({"hd": "example.com", "email": "ada@example.com", "email_verified": true, "jti": which});
    let mut claims = claims(who);
    (claims["iat"], claims["exp"]) = (now.into(), (now + 300).into());
    log_in(scene, &token(&key(1), &claims), csr).await
}

#[tokio::test]
async fn a_rule_says_who_an_operator_is() {
    on_each::<Migrator>(async |fixture| {
        let scene = scene(&fixture).await;
        let named = async |more: Value| log_in(&scene, &of(more), &request(&new_key())).await.map(|row| row.spiffe_id);
        let id = |name: &str| format!("spiffe://example.org/legate/operator/{name}");
        let pipeline = json!({"sub": "repo:pay/infra:ref:refs/heads/main"});
        assert_eq!(named(pipeline).await.unwrap(), id("deploy-pipeline"));
        let ada = |email: &str| json!({"hd": "example.com", "email": email, "email_verified": true});
        assert_eq!(named(ada("ada@example.com")).await.unwrap(), id("ada"));
        assert_eq!(named(json!({"kind": "contractor", "name": "eve"})).await.unwrap(), id("ext-eve"));
        for refused in [
            json!({"sub": "repo:pay/infra:ref:refs/heads/main2"}),
            json!({}),
            ada("ada@example.com.evil.example"),
            ada("ada@evil.example"),
            ada("@example.com"),
            ada("admin/../x@example.com"),
            ada("a@b@example.com"),
            ada("Ada@example.com"),
            ada("ada@example.com\n"),
            ada("ad\u{0430}@example.com"),
            ada("a%2fb@example.com"),
            ada(&format!("{}@example.com", "a".repeat(64))),
            json!({"hd": "example.com"}),
            json!({"hd": "example.com", "email": ["ada@example.com"]}),
            json!({"hd": "example.com", "email": "ada@example.com", "email_verified": false}),
            json!({"hd": "example.com", "email": "ada@example.com"}),
            json!({"kind": "contractor", "name": "-eve"}),
            json!({"kind": "contractor", "name": ""}),
            json!({"kind": "contractor", "name": "a".repeat(60)}),
            json!({"aud": "legate", "sub": "repo:pay/infra:ref:refs/heads/main"}),
            json!({"iss": "https://people.example/", "sub": "repo:pay/infra:ref:refs/heads/main"}),
        ] {
            assert_eq!(reason(named(refused.clone()).await), "LOGIN_REFUSED", "{refused}");
        }
        for refused in [
            json!({"exp": START - 10}),
            json!({"iat": START + 10}),
            json!({"aud": ["legate-operators", "x"]}),
            json!({"iat": START - 4_000, "exp": START + 4_000}),
        ] {
            assert_eq!(reason(named(refused.clone()).await), "IDENTITY_TOKEN_REFUSED", "{refused}");
        }
        let strange = token(&key(2), &claims(json!({"sub": "repo:pay/infra:ref:refs/heads/main"})));
        assert_eq!(reason(log_in(&scene, &strange, &request(&new_key())).await), "IDENTITY_TOKEN_REFUSED");
        // Of all that were not believed there is a line for each reason, and no event for each.
        let noted: Vec<_> =
            scene.desk.refusals.take().into_iter().map(|one| (one.method, one.reason, one.count)).collect();
        let method = "/legate.credential.v1.OperatorLoginService/Login";
        assert_eq!(noted, [(method, "LOGIN_REFUSED", 21), (method, "IDENTITY_TOKEN_REFUSED", 5)]);
        assert_eq!(scene.count("login.refused").await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_login_is_recorded_short_made_once_and_can_be_taken_back() {
    on_each::<Migrator>(async |fixture| {
        let scene = scene(&fixture).await;
        let (token, csr) =
            (of(json!({"hd": "example.com", "email": "ada@example.com", "email_verified": true})), request(&new_key()));
        let row = log_in(&scene, &token, &csr).await.unwrap();
        assert_eq!(Timestamp::from_micros(row.not_after).secs(), START + 900);
        assert_eq!((row.namespace.as_str(), row.agent_id.as_str(), row.state), ("", "", credential::ISSUED));
        let der = row.certificate.clone().unwrap();
        use x509_parser::prelude::FromDer as _;
        let (_, cert) = x509_parser::certificate::X509Certificate::from_der(&der).unwrap();
        let roots = scene.desk.keys.authority(KeyUse::OperatorsCa).unwrap().roots();
        let (_, ca) = x509_parser::certificate::X509Certificate::from_der(&roots[0]).unwrap();
        cert.verify_signature(Some(ca.public_key())).unwrap();
        let workloads = scene.desk.keys.authority(KeyUse::WorkloadsCa).unwrap().roots();
        let (_, other) = x509_parser::certificate::X509Certificate::from_der(&workloads[0]).unwrap();
        cert.verify_signature(Some(other.public_key())).unwrap_err();

        let event = scene.events().await.into_iter().find(|e| e.r#type == "credential.issued").unwrap();
        assert_eq!(event.actor, "spiffe://example.org/legate/operator/ada");
        assert_eq!(event.details.get("trusted_issuer").map(String::as_str), Some("people"));
        assert_eq!(event.details.get("token_subject").map(String::as_str), Some("1"));

        assert_eq!(reason(log_in(&scene, &token, &request(&new_key())).await), "IDENTITY_TOKEN_SPENT");
        assert_eq!(reason(log_in(&scene, &token, &csr).await), "IDENTITY_TOKEN_SPENT");
        // Shown again, by whomever: on record under the operator whose it is.
        let events = scene.events().await;
        let refused: Vec<_> = events.iter().filter(|e| e.r#type == "login.refused").collect();
        assert_eq!(refused.len(), 2);
        for event in refused {
            assert_eq!((event.reason_code.as_str(), event.actor.as_str()), ("IDENTITY_TOKEN_SPENT", ""));
            assert_eq!(event.details["spiffe_id"], "spiffe://example.org/legate/operator/ada");
            assert_eq!((&*event.details["trusted_issuer"], &*event.details["token_subject"]), ("people", "1"));
        }
        assert!(scene.desk.refusals.take().is_empty());
        scene.pass(Duration::from_secs(3)).await;
        assert_eq!(log_in(&scene, &token, &csr).await.unwrap().certificate, row.certificate);
        // Whoever holds it cannot enrol, renew or obtain tokens with it: it is no workload's.
        assert_eq!(reason(scene.renew(&row, &request(&new_key())).await), "HOLDER_NOT_ACTIVE");
        let (revoked, _) = scene.revoke(&row.id, RevocationReason::KeyCompromise).await.unwrap();
        assert_eq!(revoked.state, credential::REVOKED);
        let told = scene.heard.revocations.lock().unwrap().clone();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].namespace, "");
        assert_eq!(reason(log_in(&scene, &token, &csr).await), "CREDENTIAL_NOT_GOOD");
        let again = of(json!({"hd": "example.com", "email": "ada@example.com", "email_verified": true, "n": 2}));
        assert_eq!(reason(log_in(&scene, &again, &csr).await), "KEY_COMPROMISED");
        // The key of somebody else is not certified for an operator.
        let (_, agents) = scene.enrolled(1).await;
        assert_eq!(reason(log_in(&scene, &again, &request(&agents)).await), "KEY_IN_USE");
        for bad in [&b""[..], &csr[1..]] {
            assert_eq!(reason(log_in(&scene, &again, bad).await), "CSR_REFUSED");
        }
    })
    .await;
}

#[tokio::test]
async fn without_a_provider_nobody_logs_in() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let token = of(json!({"hd": "example.com", "email": "ada@example.com", "email_verified": true}));
        assert_eq!(reason(log_in(&scene, &token, &request(&new_key())).await), "LOGIN_NOT_CONFIGURED");
    })
    .await;
}

#[test]
fn a_configuration_that_says_too_little_or_two_things_is_refused() {
    config(provider()).read().unwrap();
    type Spoil = fn(&mut ProviderConfig);
    let spoils: [Spoil; 14] = [
        |p| p.name = "../x".into(),
        |p| p.issuer = "http://people.example".into(),
        |p| p.audiences.clear(),
        |p| p.audiences = vec![String::new()],
        |p| p.jwks = None,
        |p| p.jwks_uri = Some("https://people.example/keys".into()),
        |p| (p.jwks, p.jwks_uri) = (None, Some("http://people.example/keys".into())),
        |p| p.jwks = Some(r#"{"keys":[]}"#.into()),
        |p| p.rules.clear(),
        |p| p.rules[0].claims.clear(),
        |p| p.rules[0].operator = "Deploy".into(),
        |p| p.rules[0].operator = "*".into(),
        |p| p.rules[1].pattern = Some("*@*".into()),
        |p| p.rules[1].operator = "ada".into(),
    ];
    for (n, spoil) in spoils.into_iter().enumerate() {
        let mut spoilt = provider();
        spoil(&mut spoilt);
        let why: BadConfig = config(spoilt).read().unwrap_err();
        assert!(why.to_string().starts_with("operators: provider"), "{n}: {why}");
    }
    let mut two = config(provider());
    two.providers.push(ProviderConfig { name: "others".into(), ..provider() });
    assert!(two.read().unwrap_err().to_string().contains("in common"));
    for seconds in [0, 59, 3_601] {
        OperatorsConfig { certificate_seconds: seconds, ..config(provider()) }.read().unwrap_err();
    }
}

#[tokio::test]
async fn a_token_that_makes_an_operator_is_nobodys_in_a_namespace() {
    on_each::<Migrator>(async |fixture| {
        let scene = scene(&fixture).await;
        // Whoever is handed such a token, to act for its person, could log in by it.
        let rules = vec![federation::rule(&[("hd", "example.com")], Some(StandsFor::UserClaim("email".into())))];
        let mut declared = federation::issuer("people", &[&key(1)], rules);
        let spec = declared.spec.as_mut().unwrap();
        (spec.issuer, spec.audiences) = (ISSUER.into(), vec!["legate-operators".into(), "legate".into()]);
        federation::declare(&scene, declared).await;
        let prove = async |more: Value| {
            let token = of(more);
            foreign::prove(&scene.desk, "payments", &token).await.map(drop)
        };
        let ada = |audience: &str| json!({"hd": "example.com", "email": "ada@example.com", "email_verified": true, "aud": audience});
        prove(ada("legate")).await.unwrap();
        assert_eq!(reason(prove(ada("legate-operators")).await), "ISSUER_NOT_TRUSTED");
    })
    .await;
}
