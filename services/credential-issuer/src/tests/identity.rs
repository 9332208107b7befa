//! Enrolment by the word of an issuer outside: one token, one certificate, for the agent that the rule names.

use std::time::Duration;

use legate_clock::{Clock as _, Timestamp};
use legate_db::testing::on_each;
use legate_wire::audit::Outcome;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{CredentialMethod, RevocationReason};
use serde_json::json;

use super::federation::{agent, claims, declare, issuer, rule, with};
use super::outside::{key, token};
use super::registry::{NAMESPACE, agent_id, class_under, credential_policy};
use super::scene::{START, Scene, new_key, reason, request};
use crate::flow::enrol_by_identity;
use crate::schema::Migrator;
use crate::store::credential;

/// An agent's class lists tokens of trusted issuers, and the issuer says that `repo:pay/bot` is agent 1.
async fn trusting(fixture: &legate_db::testing::Fixture) -> Scene {
    let scene = Scene::on(fixture).await;
    trust(&scene, &[CredentialMethod::TrustedIssuer]).await;
    scene
}

/// Declares the issuer, and how the agents of the class may prove themselves.
pub(super) async fn trust(scene: &Scene, methods: &[CredentialMethod]) {
    scene.declare(credential_policy((300, 3_600), methods)).await;
    scene.declare(class_under((300, 3_600), "strict")).await;
    let rules = vec![
        rule(&[("sub", "repo:pay/bot")], agent("bot-1")),
        rule(&[("sub", "ada")], Some(legate_wire::registry::claim_rule::StandsFor::UserClaim("sub".into()))),
    ];
    declare(scene, issuer("ci", &[&key(1)], rules)).await;
}

/// Agent 1 enrols with this request: the same token for the same request.
pub(super) async fn run_one(scene: &Scene, csr: &[u8]) -> Result<credential::Model, legate_rpc::Fault> {
    let which = crate::domain::token::hex(&credential::sha256(csr));
    enrol(scene, &token(&key(1), &with("jti", which)), csr).await
}

async fn enrol(scene: &Scene, token: &str, csr: &[u8]) -> Result<credential::Model, legate_rpc::Fault> {
    enrol_by_identity::enrol(&scene.desk, &scene.stranger(), NAMESPACE, token, csr).await
}

#[tokio::test]
async fn a_token_makes_one_certificate_and_its_evidence_is_on_record() {
    on_each::<Migrator>(async |fixture| {
        let scene = trusting(&fixture).await;
        let token = token(&key(1), &claims());
        let csr = request(&new_key());
        let row = enrol(&scene, &token, &csr).await.unwrap();
        // A running copy of its own, as by an enrolment token.
        let (agent, copy) = (agent_id(1), &row.instance_id);
        assert_eq!(row.spiffe_id, format!("spiffe://example.org/ns/payments/agent/{agent}/instance/{copy}"));
        assert_eq!(row.state, credential::ISSUED);
        let event = scene.events().await.into_iter().find(|e| e.r#type == "credential.issued").unwrap();
        for (name, value) in [
            ("trusted_issuer", "payments/ci@1"),
            ("token_issuer", "https://ci.example"),
            ("token_audience", "legate"),
            ("token_subject", "repo:pay/bot"),
            ("token_id", "1"),
        ] {
            assert_eq!(event.details.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert_eq!((event.agent_id.as_str(), event.actor.as_str()), (agent_id(1).as_str(), row.spiffe_id.as_str()));
        // The same token with another key, at once or later.
        assert_eq!(reason(enrol(&scene, &token, &request(&new_key())).await), "IDENTITY_TOKEN_SPENT");
        // The same request: at once it is one of many who try, then the answer that was lost, then over.
        assert_eq!(reason(enrol(&scene, &token, &csr).await), "IDENTITY_TOKEN_SPENT");
        scene.pass(Duration::from_secs(2)).await;
        assert_eq!(enrol(&scene, &token, &csr).await.unwrap().certificate, row.certificate);
        assert_eq!(scene.count("enrolment.repeated").await, 1);
        assert_eq!(reason(enrol(&scene, &token, &request(&new_key())).await), "IDENTITY_TOKEN_SPENT");
        scene.revoke(&row.id, RevocationReason::Unspecified).await.unwrap();
        assert_eq!(reason(enrol(&scene, &token, &csr).await), "CREDENTIAL_NOT_GOOD");
        // A certificate that came of it is renewed like any other.
        let other = enrol(&scene, &super::outside::token(&key(1), &with("jti", "2")), &csr).await.unwrap();
        scene.renew(&other, &request(&new_key())).await.unwrap();
        let refused = scene.events().await.into_iter().filter(|e| e.r#type == "identity_enrolment.refused");
        assert!(refused.clone().count() > 0);
        assert!(refused.clone().all(|e| e.outcome() == Outcome::Denied && e.agent_id == agent_id(1).as_str()));
    })
    .await;
}

#[tokio::test]
async fn of_fifty_who_use_a_token_at_once_one_enrols() {
    on_each::<Migrator>(async |fixture| {
        let scene = trusting(&fixture).await;
        let token = token(&key(1), &claims());
        let tries: Vec<_> = (0..50)
            .map(|_| {
                let (desk, call, token) = (scene.desk.clone(), scene.stranger(), token.clone());
                let csr = request(&new_key());
                tokio::spawn(async move {
                    Box::pin(enrol_by_identity::enrol(&desk, &call, NAMESPACE, &token, &csr))
                        .await
                        .map_err(|f| f.reason())
                })
            })
            .collect();
        let mut won = 0;
        for one in tries {
            match one.await.unwrap() {
                Ok(_) => won += 1,
                Err(reason) => assert_eq!(reason, "IDENTITY_TOKEN_SPENT"),
            }
        }
        assert_eq!(won, 1);
    })
    .await;
}

#[tokio::test]
async fn the_way_is_open_only_where_the_credential_policy_lists_it() {
    on_each::<Migrator>(async |fixture| {
        let scene = trusting(&fixture).await;
        let mut n = 10;
        let mut attempt = async || {
            n += 1;
            enrol(&scene, &token(&key(1), &with("jti", n.to_string())), &request(&new_key())).await
        };
        attempt().await.unwrap();
        for listed in [&[][..], &[CredentialMethod::EnrolmentToken, CredentialMethod::Attestation]] {
            scene.declare(credential_policy((300, 3_600), listed)).await;
            assert_eq!(reason(attempt().await), "CREDENTIAL_METHOD_REFUSED");
        }
        scene.declare(super::registry::class(300, 3_600)).await;
        assert_eq!(reason(attempt().await), "CREDENTIAL_METHOD_REFUSED");
    })
    .await;
}

#[tokio::test]
async fn what_was_made_before_a_stop_and_who_is_stopped_gets_nothing() {
    on_each::<Migrator>(async |fixture| {
        let scene = trusting(&fixture).await;
        let before = token(&key(1), &claims());
        scene.pass(Duration::from_secs(10)).await;
        let cutoff = scene.clock.now();
        scene.suspend(1, 2).await;
        assert_eq!(reason(enrol(&scene, &before, &request(&new_key())).await), "HOLDER_NOT_ACTIVE");
        scene.resume(1, 3, cutoff).await;
        scene.pass(Duration::from_secs(5)).await;
        // The clocks of issuer and Legate may be five seconds apart.
        let mut doubtful = with("iat", scene.clock.now().secs());
        (doubtful["exp"], doubtful["jti"]) = ((START + 600).into(), "doubtful".into());
        let refused = enrol(&scene, &token(&key(1), &doubtful), &request(&new_key())).await;
        assert_eq!(reason(refused), "IDENTITY_TOKEN_REFUSED");
        scene.pass(Duration::from_secs(1)).await;
        assert_eq!(reason(enrol(&scene, &before, &request(&new_key())).await), "IDENTITY_TOKEN_REFUSED");
        let mut after = with("iat", scene.clock.now().secs());
        after["exp"] = (START + 600).into();
        enrol(&scene, &token(&key(1), &after), &request(&new_key())).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn bad_tokens_people_and_bad_requests_are_refused_and_spend_nothing() {
    on_each::<Migrator>(async |fixture| {
        let scene = trusting(&fixture).await;
        let csr = request(&new_key());
        for (token, word) in [
            (token(&key(2), &claims()), "IDENTITY_TOKEN_REFUSED"),
            (token(&key(1), &with("sub", "ada")), "IDENTITY_TOKEN_UNMATCHED"),
            (token(&key(1), &with("sub", "eve")), "IDENTITY_TOKEN_UNMATCHED"),
            (token(&key(1), &with("aud", json!(["legate", "x"]))), "IDENTITY_TOKEN_REFUSED"),
            (token(&key(1), &with("exp", START)), "IDENTITY_TOKEN_REFUSED"),
            ("x".repeat(20_000), "IDENTITY_TOKEN_REFUSED"),
        ] {
            assert_eq!(reason(enrol(&scene, &token, &csr).await), word);
        }
        let good = token(&key(1), &claims());
        for bad in [&b""[..], b"no request", &csr[1..]] {
            assert_eq!(reason(enrol(&scene, &good, bad).await), "CSR_REFUSED");
        }
        // Strangers are counted, not recorded; whoever was proved and refused is.
        assert_eq!(scene.count("identity_enrolment.refused").await, 3);
        let row = enrol(&scene, &good, &csr).await.unwrap();
        assert!(Timestamp::from_micros(row.not_after) <= scene.clock.now().plus(Duration::from_secs(3_600)));
        // The issuer is trusted no more.
        scene.take_back(Object::TrustedIssuer(issuer("ci", &[&key(1)], vec![]))).await;
        let next = token(&key(1), &with("jti", "9"));
        assert_eq!(reason(enrol(&scene, &next, &request(&new_key())).await), "ISSUER_NOT_TRUSTED");
    })
    .await;
}

#[tokio::test]
async fn an_assertion_makes_one_access_token_that_does_not_outlive_it() {
    use crate::domain::token::Wish;
    use crate::flow::assertion;
    use crate::flow::issue_token::{Asking, IssuedToken, issue};
    use legate_token::Confirmation;

    on_each::<Migrator>(async |fixture| {
        let scene = trusting(&fixture).await;
        let assert = async |token: &str, confirmation: Confirmation| -> Result<IssuedToken, legate_rpc::Fault> {
            let client = assertion::believe(&scene.desk, &scene.stranger(), NAMESPACE, token).await?;
            let asking = Asking::of(client, confirmation);
            let wish = Wish { ttl: Duration::from_secs(600), ..super::scene::wish() };
            issue(&scene.desk, &scene.stranger(), asking, wish).await
        };
        let bound = Confirmation::Key([7; 32]);
        let mut short = with("jti", "short");
        short["exp"] = (START + 60).into();
        let issued = assert(&token(&key(1), &short), bound).await.unwrap();
        assert_eq!(issued.expires.secs(), START + 60);
        assert_eq!(reason(assert(&token(&key(1), &short), bound).await), "IDENTITY_TOKEN_SPENT");
        let event = scene.events().await.into_iter().find(|e| e.r#type == "token.issued").unwrap();
        assert_eq!(event.details.get("token_subject").map(String::as_str), Some("repo:pay/bot"));
        // Bound to nothing only where the policy says so; refused, it is not used.
        let other = token(&key(1), &with("jti", "other"));
        assert_eq!(reason(assert(&other, Confirmation::Bearer).await), "BINDING_REQUIRED");
        assert(&other, bound).await.unwrap();
        // What made a token makes no certificate, and the reverse.
        assert_eq!(reason(enrol(&scene, &other, &request(&new_key())).await), "IDENTITY_TOKEN_SPENT");
        let third = token(&key(1), &with("jti", "third"));
        enrol(&scene, &third, &request(&new_key())).await.unwrap();
        assert_eq!(reason(assert(&third, bound).await), "IDENTITY_TOKEN_SPENT");
        assert_eq!(reason(assert(&token(&key(1), &with("sub", "ada")), bound).await), "IDENTITY_TOKEN_UNMATCHED");
        trust(&scene, &[CredentialMethod::EnrolmentToken]).await;
        let fourth = token(&key(1), &with("jti", "fourth"));
        assert_eq!(reason(assert(&fourth, bound).await), "CREDENTIAL_METHOD_REFUSED");
    })
    .await;
}

#[tokio::test]
async fn a_token_of_its_cloud_makes_a_machine_the_node_that_the_rule_names() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let node = |created| super::registry::node(NAMESPACE, "vm-1", created);
        scene.declare(node(Timestamp::from_secs(0))).await;
        let stands_for = |name: &str| Some(legate_wire::registry::claim_rule::StandsFor::Node(name.into()));
        let rules =
            vec![rule(&[("sub", "machine-1")], stands_for("vm-1")), rule(&[("sub", "machine-2")], stands_for("vm-9"))];
        declare(&scene, issuer("cloud", &[&key(1)], rules)).await;
        let shown = |machine: &str, jti: &str| {
            let mut claims = with("sub", machine);
            claims["jti"] = jti.into();
            token(&key(1), &claims)
        };
        let first = shown("machine-1", "1");
        let row = enrol(&scene, &first, &request(&new_key())).await.unwrap();
        assert_eq!(
            (row.spiffe_id.as_str(), row.instance_id.as_str()),
            ("spiffe://example.org/ns/payments/node/vm-1", "")
        );
        assert_eq!(reason(enrol(&scene, &first, &request(&new_key())).await), "IDENTITY_TOKEN_SPENT");
        let nobody = shown("machine-2", "2");
        assert_eq!(reason(enrol(&scene, &nobody, &request(&new_key())).await), "IDENTITY_TOKEN_UNMATCHED");
        // A node that is declared later, under the name that became free, is not the one that the rule means.
        scene.take_back(node(Timestamp::from_secs(0))).await;
        scene.pass(Duration::from_secs(2)).await;
        scene.declare(node(scene.clock.now())).await;
        let late = shown("machine-1", "3");
        assert_eq!(reason(enrol(&scene, &late, &request(&new_key())).await), "IDENTITY_TOKEN_UNMATCHED");
    })
    .await;
}

#[tokio::test]
async fn a_cluster_names_its_nodes_and_each_has_to_be_declared() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let stands_for = legate_wire::registry::claim_rule::StandsFor::NodeClaim("kubernetes.io/node/uid".into());
        declare(&scene, issuer("cluster", &[&key(1)], vec![rule(&[("sub", "helper")], Some(stands_for))])).await;
        let shown = |node: serde_json::Value, jti: &str| {
            let mut claims = with("sub", "helper");
            claims["jti"] = jti.into();
            claims["kubernetes.io"] = serde_json::json!({"node": {"uid": node}});
            token(&key(1), &claims)
        };
        let early = shown("vm-1".into(), "1");
        assert_eq!(reason(enrol(&scene, &early, &request(&new_key())).await), "IDENTITY_TOKEN_UNMATCHED");
        // It comes after the rule, as machines of a cluster do.
        scene.declare(super::registry::node(NAMESPACE, "vm-1", Timestamp::from_secs(0))).await;
        let row = enrol(&scene, &shown("vm-1".into(), "2"), &request(&new_key())).await.unwrap();
        assert_eq!(row.spiffe_id.as_str(), "spiffe://example.org/ns/payments/node/vm-1");
        for (n, nobody) in ["vm-2", "VM-1", "vm-1.example.org", "", "../node/vm-1"].into_iter().enumerate() {
            let token = shown(nobody.into(), &format!("none {n}"));
            assert_eq!(reason(enrol(&scene, &token, &request(&new_key())).await), "IDENTITY_TOKEN_UNMATCHED");
        }
        let list = shown(serde_json::json!(["vm-1"]), "list");
        assert_eq!(reason(enrol(&scene, &list, &request(&new_key())).await), "IDENTITY_TOKEN_UNMATCHED");
        // One that was made before this node was there is of another machine.
        scene.take_back(super::registry::node(NAMESPACE, "vm-1", Timestamp::from_secs(0))).await;
        let before = shown("vm-1".into(), "before");
        scene.pass(Duration::from_secs(2)).await;
        scene.declare(super::registry::node(NAMESPACE, "vm-1", scene.clock.now())).await;
        assert_eq!(reason(enrol(&scene, &before, &request(&new_key())).await), "IDENTITY_TOKEN_REFUSED");
    })
    .await;
}

#[tokio::test]
async fn what_nobody_believes_is_on_record_and_a_flood_of_it_is_a_line() {
    on_each::<Migrator>(async |fixture| {
        let scene = trusting(&fixture).await;
        let csr = request(&new_key());
        for _ in 0..30 {
            let forged = token(&key(2), &claims());
            assert_eq!(reason(enrol(&scene, &forged, &csr).await), "IDENTITY_TOKEN_REFUSED");
        }
        let foreign = token(&key(1), &with("aud", "somebody-else"));
        assert_eq!(reason(enrol(&scene, &foreign, &csr).await), "ISSUER_NOT_TRUSTED");
        let nobody = token(&key(1), &with("sub", "repo:pay/other"));
        assert_eq!(reason(enrol(&scene, &nobody, &csr).await), "IDENTITY_TOKEN_UNMATCHED");
        assert_eq!(reason(scene.enrol("lgt_enr_guessed", &csr).await), "ENROLMENT_TOKEN_INVALID");
        let ask = legate_wire::credential::ListGrantsRequest {
            token: token(&key(2), &claims()),
            namespace: NAMESPACE.into(),
            name: String::new(),
        };
        let listed = crate::flow::personal_grant::list(&scene.desk, &scene.stranger(), ask).await;
        assert_eq!(reason(listed), "ISSUER_NOT_TRUSTED");
        let mut noted: Vec<_> =
            scene.desk.refusals.take().into_iter().map(|one| (one.method, one.reason, one.count)).collect();
        noted.sort_unstable();
        let of = |name| format!("/legate.credential.v1.{name}");
        let expected = [
            (of("EnrolmentService/Enrol"), "ENROLMENT_TOKEN_INVALID", 1),
            (of("EnrolmentService/EnrolWithIdentityToken"), "IDENTITY_TOKEN_REFUSED", 30),
            (of("EnrolmentService/EnrolWithIdentityToken"), "IDENTITY_TOKEN_UNMATCHED", 1),
            (of("EnrolmentService/EnrolWithIdentityToken"), "ISSUER_NOT_TRUSTED", 1),
            (of("PersonalGrantService/ListGrants"), "ISSUER_NOT_TRUSTED", 1),
        ];
        assert_eq!(noted, expected.each_ref().map(|(method, reason, count)| (method.as_str(), *reason, *count)));
        // And whoever is believed is named.
        assert_eq!(scene.count("identity_enrolment.refused").await, 0);
    })
    .await;
}
