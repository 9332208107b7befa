//! People's own grants: which tokens make them, what the registry is told of the person, and what the person is told.

use legate_clock::Clock as _;
use legate_db::testing::on_each;
use legate_rpc::Fault;
use legate_wire::credential as wire;
use legate_wire::registry::cut_off::Level;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{PersonalDelegation, TrustedIssuer};
use serde_json::{Value, json};
use tonic::Status;

use super::exchange::{ada, people};
use super::federation::{agent, issuer, rule};
use super::login;
use super::outside::{key, token};
use super::registry::{self, NAMESPACE};
use super::scene::{START, Scene, reason, wish};
use crate::error::{CONSENT_NOT_BOUND, DATABASE_UNAVAILABLE};
use crate::flow::exchange::{Exchange, SubjectToken, exchange};
use crate::flow::personal_grant;
use crate::schema::Migrator;

/// The issuer of people, for whose grants there are tokens of an audience of their own.
fn delegating() -> TrustedIssuer {
    let mut people = people();
    let delegation = PersonalDelegation { audiences: vec!["grants".into()], ..PersonalDelegation::default() };
    people.spec.as_mut().unwrap().personal_delegation = Some(delegation);
    people
}

fn of_ada(more: &Value) -> String {
    let mut claims = ada(&json!({"aud": "grants", "auth_time": START - 60, "acr": "mfa", "nonce": "n-1"}));
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    token(&key(1), &claims)
}

async fn make(scene: &Scene, token: &str) -> Result<wire::CreateGrantResponse, Fault> {
    let ask = wire::CreateGrantRequest {
        token: token.into(),
        namespace: NAMESPACE.into(),
        name: "ada-lets-bot".into(),
        delegate: "bot-1".into(),
        ..wire::CreateGrantRequest::default()
    };
    personal_grant::make(&scene.desk, &scene.stranger(), ask).await
}

async fn list(scene: &Scene, token: &str) -> Result<wire::ListGrantsResponse, Fault> {
    let ask = wire::ListGrantsRequest { token: token.into(), namespace: NAMESPACE.into(), name: String::new() };
    personal_grant::list(&scene.desk, &scene.stranger(), ask).await
}

async fn end(scene: &Scene, token: &str) -> Result<wire::RevokeGrantResponse, Fault> {
    let (token, namespace, name) = (token.into(), NAMESPACE.into(), "ada-lets-bot".into());
    let ask = wire::RevokeGrantRequest { token, namespace, name, request_id: String::new(), reason: "over".into() };
    personal_grant::end(&scene.desk, &scene.stranger(), ask).await
}

#[tokio::test]
async fn the_registry_is_told_who_it_is_and_how_that_was_proved() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.declare(Object::TrustedIssuer(delegating())).await;
        let token = of_ada(&json!({"groups": ["sales", "finance"]}));
        make(&scene, &token).await.unwrap();
        // To see and to end it the same token is good until it ends.
        assert_eq!(list(&scene, &token).await.unwrap().person, "user:ada");
        end(&scene, &token).await.unwrap();
        let told = scene.heard.people.lock().unwrap().clone();
        assert_eq!(told.len(), 3);
        assert!(told.iter().all(|one| *one == told[0]));
        let person = &told[0];
        assert_eq!((person.person.as_str(), person.namespace.as_str()), ("user:ada", NAMESPACE));
        assert_eq!(person.groups, ["group:finance", "group:sales"]);
        assert_eq!((person.trusted_issuer_id.as_str(), person.trusted_issuer_version), ("obj_people", 1));
        assert_eq!((person.issuer.as_str(), person.subject.as_str()), ("https://ci.example", "ada"));
        assert_eq!(person.auth_time.map(|at| at.seconds), Some(START - 60));
        assert_eq!((person.acr.as_str(), person.nonce.as_str(), person.token_sha256.len()), ("mfa", "n-1", 64));
        // Another token is another one, with and without a name of its own.
        for other in [json!({"jti": "2"}), json!({"jti": null, "groups": []})] {
            let mut claims = other.clone();
            if claims["jti"].is_null() {
                claims.as_object_mut().unwrap().remove("jti");
            }
            make(&scene, &of_ada(&claims)).await.ok();
        }
        let told: std::collections::BTreeSet<String> =
            scene.heard.people.lock().unwrap().iter().map(|one| one.token_sha256.clone()).collect();
        assert!(told.len() >= 2, "{told:?}");
        let text = format!("{:?} {:?}", scene.events().await, scene.desk);
        assert!(!text.contains(token.rsplit_once('.').unwrap().1), "a token in the audit trail or in Debug");
    })
    .await;
}

#[tokio::test]
async fn only_a_token_that_was_made_for_grants_makes_them_and_it_does_nothing_else() {
    on_each::<Migrator>(async |fixture| {
        let scene = login::scene(&fixture).await;
        let (row, _) = scene.enrolled(1).await;
        assert_eq!(reason(make(&scene, &of_ada(&json!({}))).await), "ISSUER_NOT_TRUSTED");
        scene.declare(Object::TrustedIssuer(people())).await;
        assert_eq!(reason(make(&scene, &of_ada(&json!({}))).await), "ISSUER_NOT_TRUSTED", "it delegates nothing");
        scene.declare(Object::TrustedIssuer(delegating())).await;
        make(&scene, &of_ada(&json!({}))).await.unwrap();
        for (claims, expected) in [
            // What an agent is handed, to act for its person.
            (json!({"aud": "legate"}), "ISSUER_NOT_TRUSTED"),
            (json!({"aud": ["grants", "legate"]}), "IDENTITY_TOKEN_REFUSED"),
            (json!({"aud": "grant"}), "ISSUER_NOT_TRUSTED"),
            (json!({"iss": "https://ci.example/"}), "ISSUER_NOT_TRUSTED"),
            (json!({"sub": "eve"}), "IDENTITY_TOKEN_UNMATCHED"),
            (json!({"sub": "bot"}), "IDENTITY_TOKEN_UNMATCHED"),
            (json!({"exp": START - 6}), "IDENTITY_TOKEN_REFUSED"),
            (json!({"iat": START - 3_606, "exp": START + 60}), "IDENTITY_TOKEN_REFUSED"),
            (json!({"iat": START + 6}), "IDENTITY_TOKEN_REFUSED"),
        ] {
            for refused in [
                make(&scene, &of_ada(&claims)).await.map(drop),
                list(&scene, &of_ada(&claims)).await.map(drop),
                end(&scene, &of_ada(&claims)).await.map(drop),
            ] {
                assert_eq!(reason(refused), expected, "{claims}");
            }
        }
        let forged = token(&key(2), &ada(&json!({"aud": "grants"})));
        assert_eq!(reason(make(&scene, &forged).await), "IDENTITY_TOKEN_REFUSED");
        // And an agent acts for nobody by the token with which he makes grants.
        let ask = Exchange {
            subject_token: SubjectToken::Identity(of_ada(&json!({}))),
            actor_token: None,
            wish: wish(),
            grant: None,
        };
        assert_eq!(reason(exchange(&scene.desk, &scene.holder(&row), ask).await), "ISSUER_NOT_TRUSTED");
        // Where another issuer of the namespace takes the same tokens for something else, nobody can say what one is for.
        let mut other = issuer("other", &[&key(1)], vec![rule(&[("sub", "x")], agent("bot-2"))]);
        other.spec.as_mut().unwrap().audiences = vec!["grants".into()];
        scene.declare(Object::TrustedIssuer(other)).await;
        assert_eq!(reason(make(&scene, &of_ada(&json!({}))).await), "ISSUER_NOT_TRUSTED");
    })
    .await;
}

#[tokio::test]
async fn a_token_of_before_everything_was_taken_back_for_the_person_makes_no_grant() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.declare(Object::TrustedIssuer(delegating())).await;
        let stolen = of_ada(&json!({}));
        make(&scene, &stolen).await.unwrap();
        let cutoff = scene.clock.now().plus(std::time::Duration::from_secs(5));
        for namespace in [NAMESPACE, ""] {
            scene.declare(registry::cut_off(namespace, Level::Subject("user:grace".into()), cutoff)).await;
            make(&scene, &stolen).await.unwrap();
        }
        let order = registry::cut_off("", Level::Subject("user:ada".into()), cutoff);
        scene.declare(order).await;
        assert_eq!(reason(make(&scene, &stolen).await), "IDENTITY_TOKEN_REFUSED");
        // Who looks, and takes away, may.
        list(&scene, &stolen).await.unwrap();
        end(&scene, &stolen).await.unwrap();
        scene.pass(std::time::Duration::from_secs(20)).await;
        assert_eq!(reason(make(&scene, &stolen).await), "IDENTITY_TOKEN_REFUSED");
        make(&scene, &of_ada(&json!({"iat": START + 11, "jti": "new"}))).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn what_the_registry_refuses_is_told_under_its_own_reason() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.declare(Object::TrustedIssuer(delegating())).await;
        let says = |fault: Fault| *scene.heard.refuses.lock().unwrap() = Some(Status::from(fault));
        says(Fault::refused(&CONSENT_NOT_BOUND, "another text").field("token", "another text"));
        let fault = make(&scene, &of_ada(&json!({}))).await.unwrap_err();
        assert_eq!(fault.to_string(), "CONSENT_NOT_BOUND: another text");
        // What is the registry's own trouble is not the person's.
        says(Fault::unavailable(&DATABASE_UNAVAILABLE, "busy", std::time::Duration::from_secs(1)));
        assert_eq!(reason(make(&scene, &of_ada(&json!({}))).await), "REGISTRY_UNAVAILABLE");
        *scene.heard.refuses.lock().unwrap() = Some(Status::unavailable("down"));
        assert_eq!(reason(make(&scene, &of_ada(&json!({}))).await), "REGISTRY_UNAVAILABLE");
        make(&scene, &of_ada(&json!({}))).await.unwrap();
    })
    .await;
}
