//! Tokens of issuers outside: whose rules hold, whom they stand for, and what becomes of their keys.

use std::time::Duration;

use legate_clock::Clock as _;
use legate_db::testing::on_each;
use legate_token::{EcSigner as _, P256Signer, jwk_set};
use legate_wire::registry as wire;
use legate_wire::registry::claim_rule::StandsFor as Said;
use legate_wire::registry::declaration::Object;
use serde_json::{Value, json};

use super::outside::{Answer, ISSUER, Outside, key, token};
use super::registry::{NAMESPACE, agent_id};
use super::scene::{START, Scene, reason};
use crate::domain::foreign::{Person, StandsFor};
use crate::federation::{Federation, FederationConfig};
use crate::flow::foreign::{self, Proven};
use crate::schema::Migrator;
use crate::store::used_token;

pub(super) fn rule(claims: &[(&str, &str)], stands_for: Option<Said>) -> wire::ClaimRule {
    let claims = claims.iter().map(|(claim, value)| ((*claim).into(), (*value).into())).collect();
    wire::ClaimRule { claims, stands_for, ..wire::ClaimRule::default() }
}

pub(super) fn agent(name: &str) -> Option<Said> {
    Some(Said::Agent(name.into()))
}

pub(super) fn issuer(name: &str, keys: &[&P256Signer], rules: Vec<wire::ClaimRule>) -> wire::TrustedIssuer {
    wire::TrustedIssuer {
        metadata: Some(wire::Metadata {
            name: name.into(),
            namespace: NAMESPACE.into(),
            id: format!("obj_{name}"),
            version: 1,
            ..wire::Metadata::default()
        }),
        spec: Some(wire::TrustedIssuerSpec {
            issuer: ISSUER.into(),
            audiences: vec!["legate".into(), "legate-2".into()],
            jwks: if keys.is_empty() { String::new() } else { jwk_set(keys.iter().map(|key| key.public_key())) },
            rules,
            ..wire::TrustedIssuerSpec::default()
        }),
    }
}

pub(super) fn claims() -> Value {
    json!({"iss": ISSUER, "aud": "legate", "sub": "repo:pay/bot", "iat": START, "exp": START + 300, "jti": "1"})
}

/// The claims with one more, or another.
pub(super) fn with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims();
    claims[name] = value.into();
    claims
}

async fn prove(scene: &Scene, token: &str) -> Result<Proven, legate_rpc::Fault> {
    foreign::prove(&scene.desk, NAMESPACE, token).await.map(|(proven, _)| proven)
}

pub(super) async fn declare(scene: &Scene, issuer: wire::TrustedIssuer) {
    scene.declare(Object::TrustedIssuer(issuer)).await;
}

#[tokio::test]
async fn the_first_rule_that_matches_says_whom_a_token_stands_for() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let rules = vec![
            rule(&[("sub", "repo:pay/bot"), ("kubernetes.io/namespace", "pay")], agent("bot-2")),
            rule(&[("sub", "repo:pay/bot")], agent("bot-1")),
            rule(&[("sub", "retired")], None),
            rule(&[("kind", "person")], Some(Said::UserClaim("email".into()))),
            rule(&[("aud", "legate")], agent("never-there")),
        ];
        declare(&scene, issuer("ci", &[&key(1)], rules)).await;
        let proven = async |claims: Value| prove(&scene, &token(&key(1), &claims)).await;
        let stands_for = async |claims: Value| proven(claims).await.unwrap().stands_for;

        assert_eq!(stands_for(claims()).await, StandsFor::Agent(agent_id(1)));
        assert_eq!(stands_for(with("kubernetes.io", json!({"namespace": "pay"}))).await, StandsFor::Agent(agent_id(2)));
        assert_eq!(stands_for(with("kubernetes.io", json!({"namespace": "x"}))).await, StandsFor::Agent(agent_id(1)));
        assert_eq!(stands_for(with("kubernetes.io/namespace", "pay")).await, StandsFor::Agent(agent_id(1)));
        let person = |more: Value| {
            let mut claims = with("kind", "person");
            claims["sub"] = "x".into();
            for (name, value) in more.as_object().unwrap() {
                claims[name] = value.clone();
            }
            claims
        };
        let ada = StandsFor::Person(Person { name: "user:ada@example.com".into(), groups: vec![] });
        assert_eq!(stands_for(person(json!({"email": "ada@example.com", "email_verified": true}))).await, ada);
        for refused in [
            with("sub", "retired"),
            with("sub", "nobody"),
            person(json!({})),
            person(json!({"email": "", "email_verified": true})),
            person(json!({"email": "ada lovelace", "email_verified": true})),
            person(json!({"email": "ada\u{200b}", "email_verified": true})),
            person(json!({"email": ["ada@example.com"], "email_verified": true})),
            person(json!({"email": "x".repeat(257), "email_verified": true})),
            person(json!({"email": "ada@example.com"})),
            person(json!({"email": "ada@example.com", "email_verified": false})),
            person(json!({"email": "ada@example.com", "email_verified": "no"})),
        ] {
            assert_eq!(reason(proven(refused.clone()).await), "IDENTITY_TOKEN_UNMATCHED", "{refused}");
        }

        let evidence = proven(claims()).await.unwrap().evidence;
        assert_eq!((evidence.trusted_by.as_str(), evidence.issuer.as_str()), ("payments/ci@1", ISSUER));
        assert_eq!((evidence.subject.as_str(), evidence.token_id.as_deref()), ("repo:pay/bot", Some("1")));
        assert_eq!(evidence.expires.secs(), START + 300);
        // Who is refused learns nothing of what the token says, and neither does the log.
        let told = format!("{}", proven(with("sub", "canary-subject")).await.unwrap_err());
        assert!(!told.contains("canary"), "{told}");
    })
    .await;
}

#[tokio::test]
async fn one_declaration_of_the_namespace_speaks_of_a_token_or_nobody_does() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let all = || vec![rule(&[("sub", "repo:pay/bot")], agent("bot-1"))];
        let good = token(&key(1), &claims());
        assert_eq!(reason(prove(&scene, &good).await), "ISSUER_NOT_TRUSTED");
        declare(&scene, issuer("ci", &[&key(1)], all())).await;
        prove(&scene, &good).await.unwrap();
        for (namespace, word) in [
            ("elsewhere", "ISSUER_NOT_TRUSTED"),
            ("payment", "ISSUER_NOT_TRUSTED"),
            ("", "INVALID_ARGUMENT"),
            ("payments/ci", "INVALID_ARGUMENT"),
            ("../payments", "INVALID_ARGUMENT"),
        ] {
            assert_eq!(reason(foreign::prove(&scene.desk, namespace, &good).await), word, "{namespace}");
        }
        for (claims, word) in [
            (with("iss", "https://ci.example/"), "ISSUER_NOT_TRUSTED"),
            (with("iss", "https://CI.example"), "ISSUER_NOT_TRUSTED"),
            (with("aud", "legate-3"), "ISSUER_NOT_TRUSTED"),
            (with("aud", json!(["legate", "legate-2"])), "IDENTITY_TOKEN_REFUSED"),
            (with("exp", START - 5), "IDENTITY_TOKEN_REFUSED"),
            (with("nbf", START + 6), "IDENTITY_TOKEN_REFUSED"),
            (with("exp", START + 90_000), "IDENTITY_TOKEN_REFUSED"),
        ] {
            assert_eq!(reason(prove(&scene, &token(&key(1), &claims)).await), word, "{claims}");
        }
        // Another's key, of which the issuer's set knows nothing.
        assert_eq!(reason(prove(&scene, &token(&key(2), &claims())).await), "IDENTITY_TOKEN_REFUSED");
        for form in ["", "a.b.c", "lgt_enr_0"] {
            assert_eq!(reason(prove(&scene, form).await), "IDENTITY_TOKEN_REFUSED");
        }

        // A second one with the same iss: by the audience where that tells them apart, else by nobody.
        let mut second = issuer("ci-2", &[&key(2)], vec![rule(&[("sub", "repo:pay/bot")], agent("bot-2"))]);
        second.spec.as_mut().unwrap().audiences = vec!["legate-2".into()];
        declare(&scene, second.clone()).await;
        prove(&scene, &good).await.unwrap();
        for key in [key(1), key(2)] {
            let refused = prove(&scene, &token(&key, &with("aud", "legate-2"))).await;
            assert_eq!(reason(refused), "ISSUER_NOT_TRUSTED");
        }
        let mut first = issuer("ci", &[&key(1)], all());
        first.spec.as_mut().unwrap().audiences = vec!["legate".into()];
        declare(&scene, first.clone()).await;
        let by_second = prove(&scene, &token(&key(2), &with("aud", "legate-2"))).await.unwrap();
        assert_eq!(by_second.stands_for, StandsFor::Agent(agent_id(2)));
        // The keys of the one say nothing for the other.
        assert_eq!(reason(prove(&scene, &token(&key(1), &with("aud", "legate-2"))).await), "IDENTITY_TOKEN_REFUSED");

        scene.take_back(Object::TrustedIssuer(first)).await;
        assert_eq!(reason(prove(&scene, &good).await), "ISSUER_NOT_TRUSTED");
    })
    .await;
}

#[tokio::test]
async fn an_agent_made_later_under_the_same_name_inherits_no_rule() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        declare(&scene, issuer("ci", &[&key(1)], vec![rule(&[("sub", "repo:pay/bot")], agent("bot-1"))])).await;
        prove(&scene, &token(&key(1), &claims())).await.unwrap();
        let Object::Agent(mut again) = super::registry::agent(1, wire::AgentState::Active, 1, None, None) else {
            unreachable!()
        };
        let metadata = again.metadata.as_mut().unwrap();
        metadata.create_time = Some(scene.clock.now().into());
        scene.declare(Object::Agent(again)).await;
        assert_eq!(reason(prove(&scene, &token(&key(1), &claims())).await), "IDENTITY_TOKEN_UNMATCHED");
    })
    .await;
}

#[tokio::test]
async fn a_stale_view_believes_nobody() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        declare(&scene, issuer("ci", &[&key(1)], vec![rule(&[("sub", "repo:pay/bot")], agent("bot-1"))])).await;
        scene.registry.answers.store(false, std::sync::atomic::Ordering::SeqCst);
        scene.clock.advance(Duration::from_secs(6));
        assert_eq!(reason(prove(&scene, &token(&key(1), &claims())).await), "VIEW_STALE");
    })
    .await;
}

#[tokio::test]
async fn of_all_who_use_a_token_at_once_one_does() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        declare(&scene, issuer("ci", &[&key(1)], vec![rule(&[("sub", "repo:pay/bot")], agent("bot-1"))])).await;
        let evidence = prove(&scene, &token(&key(1), &claims())).await.unwrap().evidence;
        let now = scene.clock.now();
        let tries = (0..50).map(|n| {
            let (db, row) = (scene.desk.db.clone(), evidence.used(now, b"", &format!("crd_{n}")));
            tokio::spawn(async move {
                db.tx("spend", move |tx| Box::pin(used_token::spend(tx, row.clone(), 1_000))).await.unwrap()
            })
        });
        let mut won = 0;
        for one in tries.collect::<Vec<_>>() {
            won += usize::from(one.await.unwrap());
        }
        assert_eq!(won, 1);
        let once = evidence.once;
        let find = async || {
            scene
                .desk
                .db
                .read("find", move |tx| Box::pin(async move { used_token::find(tx, &once).await }))
                .await
                .unwrap()
        };
        assert!(find().await.unwrap().credential_id.starts_with("crd_"));
        let forget = async |secs: i64| {
            let before = legate_clock::Timestamp::from_secs(secs);
            scene.desk.db.tx("forget", move |tx| Box::pin(used_token::forget(tx, before))).await.unwrap()
        };
        assert_eq!(forget(START + 300).await, 0);
        assert_eq!(forget(START + 301).await, 1);
        assert!(find().await.is_none());
    })
    .await;
}

/// A scene whose federation reaches the loopback.
async fn reaching(fixture: &legate_db::testing::Fixture, answer: Answer, allow: &[&str]) -> (Scene, Outside) {
    let mut scene = Scene::on(fixture).await;
    let outside = Outside::new(scene.clock.clone(), answer).await;
    let config = FederationConfig {
        allow_private: allow.iter().map(|network| network.parse().unwrap()).collect(),
        ca: Some(outside.write_ca(scene.dir.path())),
        ..FederationConfig::default()
    };
    let federation = Federation::new(&config, scene.clock.clone()).unwrap();
    std::sync::Arc::get_mut(&mut scene.desk).unwrap().federation = federation;
    let mut declared = issuer("ci", &[], vec![rule(&[("sub", "repo:pay/bot")], agent("bot-1"))]);
    declared.spec.as_mut().unwrap().jwks_uri = outside.url();
    declare(&scene, declared).await;
    (scene, outside)
}

/// A token that is good at the scene's clock.
fn now(scene: &Scene, key: &P256Signer) -> String {
    let secs = scene.clock.now().secs();
    let mut claims = with("iat", secs);
    claims["exp"] = (secs + 300).into();
    token(key, &claims)
}

#[tokio::test]
async fn keys_are_fetched_kept_renewed_and_kept_for_a_day_when_nothing_comes() {
    on_each::<Migrator>(async |fixture| {
        let (scene, outside) = reaching(&fixture, Answer::keys(&[&key(1)]), &["127.0.0.0/8"]).await;
        let good = async |key: &P256Signer| prove(&scene, &now(&scene, key)).await;
        // Fifty at once are one fetch.
        let tries: Vec<_> = (0..50)
            .map(|_| {
                let (desk, token) = (std::sync::Arc::clone(&scene.desk), now(&scene, &key(1)));
                tokio::spawn(async move { foreign::prove(&desk, NAMESPACE, &token).await.map(drop) })
            })
            .collect();
        for one in tries {
            one.await.unwrap().unwrap();
        }
        assert_eq!(outside.asked(), 1);
        // A key that is not known is looked for, but not more often than every 30 seconds.
        outside.answers(Answer::keys(&[&key(1), &key(2)]));
        assert_eq!(reason(good(&key(2)).await), "IDENTITY_TOKEN_REFUSED");
        assert_eq!(outside.asked(), 1);
        scene.pass(Duration::from_secs(30)).await;
        good(&key(2)).await.unwrap();
        assert_eq!(outside.asked(), 2);
        for _ in 0..5 {
            assert_eq!(reason(good(&key(3)).await), "IDENTITY_TOKEN_REFUSED");
        }
        assert_eq!(outside.asked(), 2);
        // Fresh for ten minutes; a key that is withdrawn then counts no more.
        outside.answers(Answer::keys(&[&key(2)]));
        scene.pass(Duration::from_secs(599)).await;
        good(&key(1)).await.unwrap();
        scene.pass(Duration::from_secs(1)).await;
        assert_eq!(reason(good(&key(1)).await), "IDENTITY_TOKEN_REFUSED");
        good(&key(2)).await.unwrap();
        let asked = outside.asked();
        // The server fails: the keys are good for a day, and it is asked again every 30 seconds at most.
        outside.answers(Answer::of(503, ""));
        scene.pass(Duration::from_secs(601)).await;
        good(&key(2)).await.unwrap();
        good(&key(2)).await.unwrap();
        assert_eq!(outside.asked(), asked + 1);
        scene.pass(Duration::from_secs(24 * 3_600)).await;
        assert_eq!(reason(good(&key(2)).await), "ISSUER_KEYS_UNAVAILABLE");
        outside.answers(Answer::keys(&[&key(2)]));
        assert_eq!(reason(good(&key(2)).await), "ISSUER_KEYS_UNAVAILABLE");
        scene.pass(Duration::from_secs(5)).await;
        good(&key(2)).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn only_a_whole_set_of_keys_from_where_it_is_declared_counts() {
    on_each::<Migrator>(async |fixture| {
        let keys = Answer::keys(&[&key(1)]);
        let (scene, outside) = reaching(&fixture, Answer::of(404, ""), &["127.0.0.0/8"]).await;
        for bad in [
            Answer::of(404, keys.body.clone()),
            Answer { status: 302, location: "https://127.0.0.1/keys", ..keys.clone() },
            Answer { status: 301, location: "http://127.0.0.1/keys", ..keys.clone() },
            Answer::of(206, keys.body.clone()),
            Answer::of(200, ""),
            Answer::of(200, "<html>"),
            Answer::of(200, r#"{"keys":[]}"#),
            Answer::of(200, format!("{}{}", keys.body, " ".repeat(300 * 1024))),
        ] {
            outside.answers(bad.clone());
            let asked = outside.asked();
            assert_eq!(reason(prove(&scene, &now(&scene, &key(1))).await), "ISSUER_KEYS_UNAVAILABLE", "{}", bad.status);
            assert_eq!(outside.asked(), asked + 1);
            scene.pass(Duration::from_secs(5)).await;
        }
        outside.answers(keys);
        prove(&scene, &now(&scene, &key(1))).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn private_addresses_are_asked_only_where_the_configuration_says_so() {
    on_each::<Migrator>(async |fixture| {
        for (allow, reaches) in
            [(&[][..], false), (&["10.0.0.0/8", "127.0.0.2/32"][..], false), (&["127.0.0.1/32"][..], true)]
        {
            let (scene, outside) = reaching(&fixture, Answer::keys(&[&key(1)]), allow).await;
            let proven = prove(&scene, &now(&scene, &key(1))).await;
            assert_eq!(proven.is_ok(), reaches, "{allow:?}");
            assert_eq!(outside.asked(), u64::from(reaches));
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_under_a_ca_that_is_not_believed_is_not_asked() {
    on_each::<Migrator>(async |fixture| {
        let (scene, outside) = reaching(&fixture, Answer::keys(&[&key(1)]), &["127.0.0.0/8"]).await;
        // The CA of somebody else, under the same name.
        let other = Outside::new(scene.clock.clone(), Answer::keys(&[&key(1)])).await;
        let mut declared = issuer("ci", &[], vec![rule(&[("sub", "repo:pay/bot")], agent("bot-1"))]);
        declared.spec.as_mut().unwrap().jwks_uri = other.url();
        declare(&scene, declared).await;
        assert_eq!(reason(prove(&scene, &now(&scene, &key(1))).await), "ISSUER_KEYS_UNAVAILABLE");
        assert_eq!((outside.asked(), other.asked()), (0, 0));
    })
    .await;
}

#[tokio::test]
async fn where_nothing_can_be_fetched_a_file_holds_the_keys() {
    on_each::<Migrator>(async |fixture| {
        let mut scene = Scene::on(&fixture).await;
        let path = scene.dir.path().join("keys.json");
        let config = FederationConfig {
            jwks_files: [("https://ci.example/keys".to_owned(), path.clone())].into(),
            ..FederationConfig::default()
        };
        let federation = Federation::new(&config, scene.clock.clone()).unwrap();
        std::sync::Arc::get_mut(&mut scene.desk).unwrap().federation = federation;
        let mut declared = issuer("ci", &[], vec![rule(&[("sub", "repo:pay/bot")], agent("bot-1"))]);
        declared.spec.as_mut().unwrap().jwks_uri = "https://ci.example/keys".into();
        declare(&scene, declared).await;
        assert_eq!(reason(prove(&scene, &now(&scene, &key(1))).await), "ISSUER_KEYS_UNAVAILABLE");
        std::fs::write(&path, Answer::keys(&[&key(1)]).body).unwrap();
        scene.pass(Duration::from_secs(5)).await;
        prove(&scene, &now(&scene, &key(1))).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn who_has_keys_does_not_wait_for_servers_that_hang() {
    on_each::<Migrator>(async |fixture| {
        let (scene, _outside) = reaching(&fixture, Answer::keys(&[&key(1)]), &["127.0.0.0/8"]).await;
        prove(&scene, &now(&scene, &key(1))).await.unwrap();
        scene.pass(Duration::from_secs(601)).await;
        // As many servers as are asked at one time, and as many again that wait for their turn.
        let mut hanging = Vec::new();
        for n in 0..32 {
            let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut declared = issuer(&format!("slow-{n}"), &[], vec![rule(&[("sub", "x")], agent("bot-1"))]);
            let spec = declared.spec.as_mut().unwrap();
            spec.jwks_uri = format!("https://{}/keys", server.local_addr().unwrap());
            spec.audiences = vec![format!("slow-{n}")];
            declare(&scene, declared).await;
            hanging.push(server);
        }
        for n in 0..32 {
            let (desk, token) = (std::sync::Arc::clone(&scene.desk), token(&key(9), &with("aud", format!("slow-{n}"))));
            tokio::spawn(async move { foreign::prove(&desk, NAMESPACE, &token).await.map(drop) });
        }
        let mut asked = Vec::new();
        for server in hanging.iter().take(16) {
            asked.push(server.accept().await.unwrap());
        }
        let begin = std::time::Instant::now();
        prove(&scene, &now(&scene, &key(1))).await.unwrap();
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    })
    .await;
}
