//! Credential policies: of two limits the narrower holds, and a runtime proves itself in a way that is listed.

use std::time::Duration;

use legate_clock::{Clock as _, Timestamp};
use legate_db::testing::on_each;
use legate_wire::registry::CredentialMethod::{self, Attestation, EnrolmentToken, PrivateKeyJwt};

use super::registry::{class_under, credential_policy};
use super::scene::{Scene, new_key, reason, request, wish};
use crate::domain::holder::Named;
use crate::domain::token::Wish;
use crate::schema::Migrator;

#[tokio::test]
async fn of_class_and_policy_the_narrower_limit_holds() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let lives = async |class: (i64, i64), policy: (i64, i64)| {
            scene.declare(credential_policy(policy, &[])).await;
            scene.declare(class_under(class, "strict")).await;
            let (row, _) = scene.enrolled(1).await;
            let wish = Wish { ttl: Duration::from_secs(600), ..wish() };
            let issued = scene.issue(&row, wish).await.unwrap();
            let now = scene.clock.now();
            let certificate = Timestamp::from_micros(row.not_after).since(now).as_secs();
            (issued.expires.since(now).as_secs(), certificate)
        };
        // 0 stands for what is not declared.
        for (class, policy, expected) in [
            ((300, 3_600), (60, 900), (60, 900)),
            ((60, 900), (300, 3_600), (60, 900)),
            ((60, 3_600), (300, 900), (60, 900)),
            ((0, 0), (60, 900), (60, 900)),
            ((60, 900), (0, 0), (60, 900)),
            ((0, 0), (0, 0), (300, 3_600)),
            // Nothing of a registry that says too much is believed.
            ((0, 0), (9_999, 999_999), (600, 86_400)),
        ] {
            assert_eq!(lives(class, policy).await, expected, "{class:?} {policy:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_enrolment_token_is_enough_only_where_the_policy_lists_it() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let agent = || Named::Agent(super::registry::agent_id(1));
        let declare = async |methods: &[CredentialMethod]| {
            scene.declare(credential_policy((300, 3_600), methods)).await;
            scene.declare(class_under((300, 3_600), "strict")).await;
        };
        for listed in [&[][..], &[EnrolmentToken], &[PrivateKeyJwt, EnrolmentToken]] {
            declare(listed).await;
            scene.enrolled(1).await;
        }
        let token = scene.token_for(1).await;
        let (row, _) = scene.enrolled(1).await;
        for listed in [&[PrivateKeyJwt][..], &[Attestation, PrivateKeyJwt]] {
            declare(listed).await;
            assert_eq!(reason(scene.create(agent()).await), "CREDENTIAL_METHOD_REFUSED");
            // A token that was made before is no better, and is not spent by trying.
            assert_eq!(reason(scene.enrol(&token, &request(&new_key())).await), "CREDENTIAL_METHOD_REFUSED");
        }
        assert_eq!(scene.count("enrolment.refused").await, 2);
        // Whoever holds a certificate renews it, and obtains tokens.
        scene.renew(&row, &request(&new_key())).await.unwrap();
        scene.issue(&row, wish()).await.unwrap();
        declare(&[EnrolmentToken]).await;
        scene.enrol(&token, &request(&new_key())).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_class_whose_policy_is_not_there_gives_nothing() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (row, _) = scene.enrolled(1).await;
        let token = scene.token_for(1).await;
        scene.declare(class_under((300, 3_600), "never-declared")).await;
        assert_eq!(reason(scene.create(Named::Agent(super::registry::agent_id(1))).await), "HOLDER_NOT_ACTIVE");
        assert_eq!(reason(scene.enrol(&token, &request(&new_key())).await), "HOLDER_NOT_ACTIVE");
        assert_eq!(reason(scene.renew(&row, &request(&new_key())).await), "HOLDER_NOT_ACTIVE");
        let refused = scene.issue(&row, wish()).await.unwrap_err();
        assert_eq!(refused.reason(), "HOLDER_NOT_ACTIVE");
        assert!(refused.to_string().contains("never-declared"), "{refused}");
    })
    .await;
}
