//! Found where it should not be: told to whom it may be, told by what is kept of it, taken back where asked, and kept nowhere.

use std::time::Duration;

use legate_db::testing::on_each;
use legate_rpc::Fault;
use legate_token::{EcSigner as _, P256Signer, PublicKey};
use legate_wire::registry::{AgentState, OperatorRole, TokenBinding};
use zeroize::Zeroizing;

use super::clients::{ALL, asker, key_is_known};
use super::registry::{self, NAMESPACE, OWNER, agent_id};
use super::scene::*;
use crate::flow::create_client;
use crate::flow::find_leaked::{Found, Kind, Told, find_leaked};
use crate::schema::Migrator;

impl Scene {
    async fn found(&self, found: Found, revoke: bool) -> Result<Told, Fault> {
        find_leaked(&self.desk, &self.operator(), found, revoke.then(|| "found in a repository".to_owned())).await
    }

    async fn text(&self, text: &str, revoke: bool) -> Told {
        self.found(Found::Text(Zeroizing::new(text.to_owned())), revoke).await.unwrap()
    }
}

fn works(told: &Told) -> bool {
    told.known.as_ref().is_some_and(|known| known.why_not.is_none())
}

fn why(told: &Told) -> &str {
    told.known.as_ref().and_then(|known| known.why_not.as_deref()).unwrap_or_default()
}

fn public(key: &rcgen::KeyPair) -> PublicKey {
    PublicKey::from_sec1(key.public_key_raw()).unwrap()
}

#[tokio::test]
async fn a_secret_is_told_by_its_hmac_and_taken_back_and_stands_nowhere() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.methods(ALL, TokenBinding::Required).await;
        let (secret, made) = scene.secret(1, false).await.unwrap();
        let told = scene.text(&secret, false).await;
        let known = told.known.clone().unwrap();
        assert_eq!((told.kind, works(&told), known.is_revoked), (Kind::ClientSecret, true, false));
        assert_eq!((known.namespace.as_str(), known.agent_id.as_str()), (NAMESPACE, agent_id(1).as_str()));
        assert_eq!(known.owners, [OWNER]);
        assert_eq!(known.credentials.iter().map(|row| &row.id).collect::<Vec<_>>(), [&made.row.id]);
        // Suspended, it works not now, and says so.
        scene.suspend(1, 2).await;
        let told = scene.text(&secret, false).await;
        assert!(why(&told).contains("only an ACTIVE agent"), "{}", why(&told));
        scene.declare(registry::agent(1, AgentState::Active, 3, None, None)).await;

        let told = scene.text(&secret, true).await;
        assert!(told.known.as_ref().is_some_and(|known| known.is_revoked) && told.revision == 701);
        assert_eq!(reason(scene.show_secret(1, &secret).await), "CLIENT_REFUSED");
        assert!(why(&scene.text(&secret, false).await).starts_with("it was revoked at"));
        // One that is mistyped, and one that nobody made.
        let mistyped = format!("{}0", &secret[..79]);
        let told =
            scene.text(&if mistyped == secret { secret.replace("lgt_sec", "lgt_enr") } else { mistyped }, false).await;
        assert!(told.known.is_none() && told.kind == Kind::None);
        let other =
            crate::domain::secret::Secret::new(crate::domain::secret::SecretKind::Client, Zeroizing::new([9; 32]));
        let told = scene.text(&other.to_text(), true).await;
        assert!(told.known.is_none() && told.kind == Kind::ClientSecret);

        assert_eq!(scene.count("credential.leaked").await, 4);
        let events = scene.events().await;
        assert!(!format!("{events:?}{:?}", scene.desk).contains(&secret[8..40]));
        let revoked = events.iter().find(|event| event.r#type == "credential.revoked").unwrap();
        assert_eq!(revoked.reason, "found in a repository");
    })
    .await;
}

#[tokio::test]
async fn an_enrolment_token_ends_and_a_used_one_says_what_it_made() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let unused = scene.token_for(1).await;
        assert!(works(&scene.text(&unused, false).await));
        let told = scene.text(&unused, true).await;
        assert!(told.known.as_ref().is_some_and(|known| known.is_revoked && known.enrolment_id.starts_with("enr_")));
        assert_eq!(reason(scene.enrol(&unused, &request(&new_key())).await), "ENROLMENT_TOKEN_EXPIRED");
        assert_eq!(scene.count("enrolment.revoked").await, 1);
        let used = scene.token_for(2).await;
        let row = scene.enrol(&used, &request(&new_key())).await.unwrap();
        let told = scene.text(&used, true).await;
        assert!(why(&told).starts_with("it was used at"), "{}", why(&told));
        let known = told.known.unwrap();
        assert!(known.credentials[0].id == row.id && !known.is_revoked);
        scene.issue(&row, wish()).await.unwrap();
        assert_eq!(scene.count("enrolment.revoked").await, 1, "what was used is nobody's harm");
    })
    .await;
}

#[tokio::test]
async fn a_token_is_told_by_its_signature_and_taken_back_alone() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        key_is_known(&scene).await;
        let (row, _) = scene.enrolled(1).await;
        let (first, second) = (scene.issue(&row, wish()).await.unwrap(), scene.issue(&row, wish()).await.unwrap());
        let told = scene.text(&first.token, true).await;
        let known = told.known.unwrap();
        assert_eq!(
            (known.token_id.as_str(), known.credentials[0].id.as_str()),
            (first.token_id.as_str(), row.id.as_str())
        );
        assert!(!scene.is_active(&asker(1), &first.token).await && scene.is_active(&asker(1), &second.token).await);
        // Signed by somebody else it is nothing of ours.
        let head = second.token.rsplit_once('.').unwrap().0;
        let forged = format!("{head}.{}", "A".repeat(86));
        let told = scene.text(&forged, true).await;
        assert!(told.known.is_none() && told.kind == Kind::AccessToken);
        scene.pass(Duration::from_secs(600)).await;
        assert!(why(&scene.text(&second.token, false).await).starts_with("it ended at"));
    })
    .await;
}

#[tokio::test]
async fn a_private_key_takes_everything_with_it_and_a_certificate_only_itself() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (row, key) = scene.enrolled(1).await;
        let again = scene.renew(&row, &request(&key)).await.unwrap();
        let told = scene.found(Found::Certificate(row.certificate.clone().unwrap()), true).await.unwrap();
        assert!(told.kind == Kind::Certificate && told.known.is_some_and(|known| known.is_revoked));
        assert_eq!(reason(scene.issue(&row, wish()).await), "CREDENTIAL_NOT_GOOD");
        scene.issue(&again, wish()).await.unwrap();

        let told = scene.found(Found::Key(public(&key)), true).await.unwrap();
        let known = told.known.unwrap();
        assert_eq!((told.kind, known.credentials.len(), known.is_revoked), (Kind::PrivateKey, 2, true));
        assert_eq!(reason(scene.issue(&again, wish()).await), "CREDENTIAL_NOT_GOOD");
        let token = scene.token_for(1).await;
        assert_eq!(reason(scene.enrol(&token, &request(&key)).await), "KEY_COMPROMISED");
        // A client key is told in the same way.
        scene.methods(ALL, TokenBinding::Required).await;
        let signer = P256Signer::from_scalar(&[5; 32]).unwrap();
        let ask = create_client::Ask { agent: agent_id(2), ttl: None, replace: false, reason: "a test".into() };
        create_client::register(&scene.desk, &scene.operator(), ask, *signer.public_key()).await.unwrap();
        assert!(works(&scene.found(Found::Key(*signer.public_key()), false).await.unwrap()));
        let stranger = public(&new_key());
        assert!(scene.found(Found::Key(stranger), true).await.unwrap().known.is_none());
        let told = scene.found(Found::Certificate(vec![1, 2, 3]), true).await.unwrap();
        assert!(told.known.is_none());
    })
    .await;
}

#[tokio::test]
async fn whoever_may_not_see_it_learns_nothing_and_whoever_only_looks_takes_nothing_back() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.declare(registry::operators("viewers", NAMESPACE, "vera", OperatorRole::Viewer)).await;
        scene.declare(registry::operators("elsewhere", "sales", "eve", OperatorRole::Admin)).await;
        let (row, key) = scene.enrolled(1).await;
        let ask = async |who: &str, revoke: Option<String>| {
            let call = scene.operator_called(who, None);
            find_leaked(&scene.desk, &call, Found::Key(public(&key)), revoke).await
        };
        let why = || Some("why".to_owned());
        for who in ["eve", "mallory"] {
            assert!(ask(who, why()).await.unwrap().known.is_none(), "{who}");
        }
        assert!(ask("vera", None).await.unwrap().known.is_some());
        assert_eq!(reason(ask("vera", why()).await), "OPERATOR_NOT_PERMITTED");
        scene.issue(&row, wish()).await.unwrap();
        assert_eq!(scene.count("credential.leaked").await, 1);
    })
    .await;
}

#[tokio::test]
async fn keys_of_the_issuer_and_what_a_compromised_one_signed_are_told() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.declare(registry::operators("viewers", NAMESPACE, "vera", OperatorRole::Viewer)).await;
        scene.turn().await;
        let (row, _) = scene.enrolled(1).await;
        let token = scene.issue(&row, wish()).await.unwrap();
        let public = scene.token_key();
        let kid = public.kid().to_string();
        let told = scene.found(Found::Key(public), true).await.unwrap();
        let known = told.known.clone().unwrap();
        assert_eq!(
            (told.kind, works(&told), known.is_revoked),
            (Kind::IssuerKey, true, false),
            "no side effect of a search"
        );
        assert!(
            known.key.unwrap().kid == kid && known.advice.contains(&format!("legate key retire {kid} --compromised"))
        );
        // Whoever may not see keys sees a key that nobody knows.
        let call = scene.operator_called("vera", None);
        let unseen = find_leaked(&scene.desk, &call, Found::Key(public), None).await.unwrap();
        assert!(unseen.known.is_none() && unseen.kind == Kind::PrivateKey);

        scene.retire(&kid, true).await.unwrap();
        scene.hear_back().await;
        let told = scene.text(&token.token, true).await;
        let known = told.known.clone().unwrap();
        assert!(
            why(&told).contains(&format!("the key {kid} that signed it was revoked as compromised at")),
            "{}",
            why(&told)
        );
        assert_eq!((known.token_id, known.agent_id.as_str()), (token.token_id.clone(), agent_id(1).as_str()));
        assert!(known.advice.contains("may have made it") && known.credentials[0].id == row.id);
        let forged = format!("{}.{}", token.token.rsplit_once('.').unwrap().0, "A".repeat(86));
        assert!(scene.text(&forged, false).await.known.is_none());
        assert!(why(&scene.found(Found::Key(public), false).await.unwrap()).contains("revoked as compromised at"));

        let root = scene.desk.keys.authority(crate::domain::keyring::KeyUse::WorkloadsCa).unwrap().roots().remove(0);
        let told = scene.found(Found::Certificate(root), false).await.unwrap();
        assert!(told.kind == Kind::CaCertificate && !works(&told) && told.known.unwrap().key.is_some());
        assert!(!format!("{:?}", scene.events().await).contains(&token.token));
    })
    .await;
}
