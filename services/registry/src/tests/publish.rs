//! What credential-issuer tells: keys and revocations, each known once however often it is told.

use legate_db::testing::on_each;
use legate_token::{EcSigner as _, P256Signer};
use legate_wire::registry::{
    PublishRevocationRequest, RevocationReason, RevocationSpec, SigningKeySpec, SigningKeyUse,
};

use super::scene::*;
use crate::flow::{publish, sweep};
use crate::schema::Migrator;

pub(super) const ISSUER: &str = "spiffe://example.org/legate/credential-issuer";

fn key() -> SigningKeySpec {
    let signer = P256Signer::from_scalar(&[3; 32]).unwrap();
    SigningKeySpec {
        kid: signer.public_key().kid().to_string(),
        issuer: "https://issuer.example.com".into(),
        jwk: signer.public_key().to_jwk(),
        r#use: SigningKeyUse::AccessToken.into(),
        ..SigningKeySpec::default()
    }
}

fn at(secs: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: secs, nanos: 0 })
}

pub(super) fn revocation() -> PublishRevocationRequest {
    let credential = legate_ids::CredentialId::from_parts(1, [1; 10]);
    let spec = RevocationSpec {
        credential_id: credential.to_string(),
        spiffe_id: "spiffe://example.org/ns/payments/agent/agt_00000000000000000000000000".into(),
        x5t_s256: vec![5; 32],
        expire_time: at(NOW + 3_600),
        revoke_time: at(NOW),
        reason: RevocationReason::KeyCompromise.into(),
        ..RevocationSpec::default()
    };
    PublishRevocationRequest {
        revocation: Some(spec),
        namespace: "payments".into(),
        actor: OPERATOR.into(),
        comment: "found in a log".into(),
    }
}

#[tokio::test]
async fn a_key_is_known_once() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let publish =
            |spec: SigningKeySpec| publish::publish_key(&scene.desk, scene.call(ISSUER, "", &spec, ""), Some(spec));
        assert_eq!(publish(key()).await.unwrap().revision, 1);
        scene.apply(vec![namespace("x")]).await.unwrap();
        assert_eq!(publish(key()).await.unwrap().revision, 1, "the revision that holds it");
        let ends = SigningKeySpec { not_after: at(NOW + 10), ..key() };
        assert_eq!(publish(ends.clone()).await.unwrap().revision, 3);
        for bad in [
            SigningKeySpec { kid: "other".into(), ..key() },
            SigningKeySpec { jwk: "{}".into(), ..key() },
            SigningKeySpec { r#use: 0, ..key() },
        ] {
            assert_eq!(reason(&publish(bad).await.unwrap_err()), "INVALID_ARGUMENT");
        }
        // An older word that comes late makes no key last longer.
        let later = SigningKeySpec { not_after: at(NOW + 20), ..key() };
        for late in [key(), later] {
            assert_eq!(publish(late).await.unwrap().revision, 3);
        }
        scene.clock.advance(std::time::Duration::from_secs(3_700));
        assert_eq!(sweep::sweep(&scene.desk).await.unwrap(), 1);
        assert_eq!(scene.kinds().await.last().unwrap(), "signing_key.forgotten");
    })
    .await;
}

#[tokio::test]
async fn a_key_that_was_taken_back_stays_so() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let publish =
            |spec: SigningKeySpec| publish::publish_key(&scene.desk, scene.call(ISSUER, "", &spec, ""), Some(spec));
        let unending = SigningKeySpec { revoke_time: at(NOW), ..key() };
        assert_eq!(reason(&publish(unending).await.unwrap_err()), "INVALID_ARGUMENT");
        publish(key()).await.unwrap();
        let revoked = SigningKeySpec { not_after: at(NOW), revoke_time: at(NOW), ..key() };
        assert_eq!(publish(revoked.clone()).await.unwrap().revision, 2);
        let ends = SigningKeySpec { not_after: at(NOW + 10), ..key() };
        for late in [key(), ends, revoked] {
            assert_eq!(publish(late).await.unwrap().revision, 2);
        }
        // However much later: an issuer whose database was set back tells of its keys as they were.
        scene.clock.advance(std::time::Duration::from_secs(400 * 24 * 3_600));
        assert_eq!(sweep::sweep(&scene.desk).await.unwrap(), 0);
        assert_eq!(publish(key()).await.unwrap().revision, 2);
    })
    .await;
}

#[tokio::test]
async fn a_revocation_is_known_once_and_forgotten_when_it_is_no_longer_needed() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let publish = |ask: PublishRevocationRequest| {
            let call = scene.call(ISSUER, &ask.comment, &ask, "");
            publish::publish_revocation(&scene.desk, call, ask)
        };
        assert_eq!(publish(revocation()).await.unwrap().revision, 1);
        assert_eq!(publish(revocation()).await.unwrap().revision, 1);
        let mut bad = revocation();
        bad.revocation.as_mut().unwrap().x5t_s256.pop();
        assert_eq!(reason(&publish(bad).await.unwrap_err()), "INVALID_ARGUMENT");
        // One token, by its jti; never both at once.
        let mut token = revocation();
        let spec = token.revocation.as_mut().unwrap();
        (spec.credential_id, spec.token_id) = (String::new(), "0123456789abcdef0123456789abcdef".into());
        assert_eq!(reason(&publish(token.clone()).await.unwrap_err()), "INVALID_ARGUMENT", "a token is no certificate");
        token.revocation.as_mut().unwrap().x5t_s256.clear();
        assert_eq!(publish(token.clone()).await.unwrap().revision, 2);
        assert_eq!(publish(token.clone()).await.unwrap().revision, 2);
        for bad in ["short", "../../../../etc/passwd", "a b c d e f g h i j k l", &"x".repeat(65)] {
            token.revocation.as_mut().unwrap().token_id = bad.into();
            assert_eq!(reason(&publish(token.clone()).await.unwrap_err()), "INVALID_ARGUMENT", "{bad}");
        }
        // The credential has ended, and clocks may differ: not yet.
        scene.clock.advance(std::time::Duration::from_secs(3_600 + 3_599));
        assert_eq!(sweep::sweep(&scene.desk).await.unwrap(), 0);
        scene.clock.advance(std::time::Duration::from_secs(1));
        assert_eq!(sweep::sweep(&scene.desk).await.unwrap(), 2);
        let published = ["revocation.published", "revocation.published"];
        let forgotten = ["revocation.forgotten", "revocation.forgotten"];
        assert_eq!(scene.kinds().await, [published, forgotten].concat());
    })
    .await;
}

#[tokio::test]
async fn an_operator_whose_certificate_was_taken_back_may_nothing() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(vec![namespace("x")]).await.unwrap();
        let mut ask = revocation();
        let spec = ask.revocation.as_mut().unwrap();
        (spec.spiffe_id, spec.x5t_s256) = (OPERATOR.into(), SHOWN.to_vec());
        // An operator is of no namespace, and nobody else is.
        let publish = |ask: PublishRevocationRequest| {
            let call = scene.call(ISSUER, &ask.comment, &ask, "");
            publish::publish_revocation(&scene.desk, call, ask)
        };
        let nowhere = PublishRevocationRequest { namespace: String::new(), ..revocation() };
        assert_eq!(reason(&publish(nowhere).await.unwrap_err()), "INVALID_ARGUMENT");
        let mut service = ask.clone();
        service.namespace = String::new();
        service.revocation.as_mut().unwrap().spiffe_id = ISSUER.into();
        assert_eq!(reason(&publish(service).await.unwrap_err()), "INVALID_ARGUMENT");
        ask.namespace = String::new();
        publish(ask).await.unwrap();
        assert_eq!(reason(&scene.apply(vec![namespace("y")]).await.unwrap_err()), "CALLER_REVOKED");
    })
    .await;
}
