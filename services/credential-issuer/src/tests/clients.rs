//! OAuth clients: what they are given, how they prove themselves, and everything that is shown once.

use std::sync::Arc;
use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use legate_clock::{Clock as _, Timestamp};
use legate_db::testing::on_each;
use legate_rpc::Fault;
use legate_token::{Confirmation, EcSigner as _, P256Signer, PublicKey};
use legate_wire::registry::CredentialMethod::{self, ClientSecret, EnrolmentToken, PrivateKeyJwt, TlsClientAuth};
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{AgentState, OperatorRole, RevocationReason, TokenBinding};
use zeroize::Zeroizing;

use super::registry::{self, NAMESPACE, agent_id, class_under, credential_policy};
use super::scene::{START, Scene, reason, wish};
use crate::domain::holder::Holder;
use crate::domain::token::Wish;
use crate::flow::authenticate::{Asker, By, Client, Shown, Use, authenticate, once};
use crate::flow::create_client::{self, Ask, Made};
use crate::flow::issue_token::{Asking, IssuedToken, issue};
use crate::flow::live::introspect;
use crate::flow::revoke_token::revoke_token;
use crate::flow::{dpop, forget};
use crate::schema::Migrator;
use crate::store::credential;

pub(super) const ALL: &[CredentialMethod] = &[EnrolmentToken, ClientSecret, PrivateKeyJwt, TlsClientAuth];
const URL: &str = "https://issuer.example/oauth2/token";
const HOUR: Duration = Duration::from_secs(3_600);

fn key(n: u8) -> P256Signer {
    P256Signer::from_scalar(&[n; 32]).unwrap()
}

impl Scene {
    /// The class under a policy of these methods, an hour of overlap and a day for secrets.
    pub(super) async fn methods(&self, methods: &[CredentialMethod], binding: TokenBinding) {
        let mut policy = credential_policy((300, 3_600), methods);
        if let Object::CredentialPolicy(policy) = &mut policy {
            let spec = policy.spec.as_mut().unwrap();
            spec.token_binding = binding.into();
            spec.max_secret_ttl = Some(prost_types::Duration { seconds: 86_400, nanos: 0 });
            spec.rotation_overlap = Some(prost_types::Duration { seconds: 3_600, nanos: 0 });
        }
        self.declare(policy).await;
        self.declare(class_under((300, 3_600), "strict")).await;
    }

    fn ask(n: u8, replace: bool) -> Ask {
        Ask { agent: agent_id(n), ttl: None, replace, reason: "a test".into() }
    }

    pub(super) async fn secret(&self, n: u8, replace: bool) -> Result<(String, Made), Fault> {
        let made = create_client::secret(&self.desk, &self.operator(), Self::ask(n, replace)).await;
        made.map(|(secret, made)| (secret.to_text().to_string(), made))
    }

    pub(super) async fn register(&self, n: u8, key: &PublicKey) -> Result<Made, Fault> {
        create_client::register(&self.desk, &self.operator(), Self::ask(n, false), *key).await
    }

    async fn show(&self, shown: Shown) -> Result<(Client, Holder), Fault> {
        authenticate(&self.desk, &self.stranger(), shown, Use::AtOnce).await
    }

    pub(super) async fn show_secret(&self, n: u8, secret: &str) -> Result<(Client, Holder), Fault> {
        let secret = Zeroizing::new(secret.to_owned());
        self.show(Shown::Secret { client: agent_id(n).to_string(), secret }).await
    }

    pub(super) async fn show_assertion(&self, text: &str) -> Result<(Client, Holder), Fault> {
        self.show(Shown::Assertion { client: None, assertion: Zeroizing::new(text.to_owned()) }).await
    }

    /// A token by an assertion, which is used where that is recorded.
    pub(super) async fn token_by_assertion(&self, text: &str, wish: Wish) -> Result<IssuedToken, Fault> {
        let shown = Shown::Assertion { client: None, assertion: Zeroizing::new(text.to_owned()) };
        let client = authenticate(&self.desk, &self.stranger(), shown, Use::ByToken { look: false }).await?;
        issue(&self.desk, &self.stranger(), Asking::of(client, Confirmation::Bearer), wish).await
    }

    /// A token by a secret, bound to the key of a DPoP proof, which is used where it is recorded.
    pub(super) async fn token_by_proof(&self, secret: &str, proof: &str) -> Result<IssuedToken, Fault> {
        let proved = dpop::prove(&self.desk, proof, "POST", URL).await?;
        let client = self.show_secret(1, secret).await?;
        issue(&self.desk, &self.stranger(), Asking::by_key(client, &proved), wish()).await
    }

    /// An assertion of agent `n` with a name of its own.
    pub(super) fn assertion(&self, n: u8, name: &str, signer: &P256Signer) -> String {
        let (id, now) = (agent_id(n), self.clock.now().secs());
        let claims = serde_json::json!({
            "iss": id.as_str(), "sub": id.as_str(), "aud": "https://issuer.example", "jti": name, "iat": now, "exp": now + 60,
        });
        signed(r#"{"alg":"ES256"}"#, &claims.to_string(), signer)
    }

    pub(super) fn proof(&self, name: &str, nonce: &str, signer: &P256Signer) -> String {
        let public = signer.public_key().as_sec1();
        let part = |at: std::ops::Range<usize>| Base64UrlUnpadded::encode_string(&public[at]);
        let header = serde_json::json!({
            "alg": "ES256", "typ": "dpop+jwt", "jwk": {"kty": "EC", "crv": "P-256", "x": part(1..33), "y": part(33..65)},
        });
        let claims = serde_json::json!({
            "jti": name, "htm": "POST", "htu": URL, "iat": self.clock.now().secs(), "nonce": nonce,
        });
        signed(&header.to_string(), &claims.to_string(), signer)
    }

    pub(super) async fn token(
        &self,
        client: (Client, Holder),
        confirmation: Confirmation,
    ) -> Result<IssuedToken, Fault> {
        issue(&self.desk, &self.stranger(), Asking::of(client, confirmation), wish()).await
    }

    /// A client secret of the agent, and a token that it gave and that is bound to nothing.
    pub(super) async fn bearer(&self, n: u8) -> (String, IssuedToken) {
        self.methods(ALL, TokenBinding::Optional).await;
        key_is_known(self).await;
        let (secret, _) = self.secret(n, false).await.unwrap();
        let client = self.show_secret(n, &secret).await.unwrap();
        let token = self.token(client, Confirmation::Bearer).await.unwrap();
        (secret, token)
    }

    pub(super) async fn is_active(&self, asker: &Asker, token: &str) -> bool {
        introspect(&self.desk, &self.stranger(), asker, token).await.unwrap().is_some()
    }
}

fn signed(header: &str, claims: &str, signer: &P256Signer) -> String {
    let part = |text: &str| Base64UrlUnpadded::encode_string(text.as_bytes());
    let input = format!("{}.{}", part(header), part(claims));
    let signature = signer.sign(input.as_bytes()).unwrap();
    format!("{input}.{}", Base64UrlUnpadded::encode_string(&signature))
}

pub(super) fn asker(n: u8) -> Asker {
    Asker::Agent { namespace: NAMESPACE.parse().unwrap(), agent: agent_id(n) }
}

#[tokio::test]
async fn a_secret_is_shown_once_and_proves_its_agent_and_no_other() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        assert_eq!(reason(scene.secret(1, false).await), "CREDENTIAL_METHOD_REFUSED", "no policy, no secrets");
        scene.methods(ALL, TokenBinding::Optional).await;
        let (secret, made) = scene.secret(1, false).await.unwrap();
        assert!(secret.starts_with("lgt_sec_") && secret.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
        assert_eq!((made.row.kind, made.row.state), (credential::SECRET, credential::ISSUED));
        assert_eq!(made.row.not_after, Timestamp::from_secs(START).plus(24 * HOUR).micros());

        let (client, holder) = scene.show_secret(1, &secret).await.unwrap();
        assert_eq!((client.agent, holder.agent), (agent_id(1), Some(agent_id(1))));
        assert_eq!(client.by, By::Credential(made.row.id.clone()));
        for (n, wrong) in [(2, secret.as_str()), (1, ""), (1, "lgt_sec_"), (1, &secret[..79]), (9, secret.as_str())] {
            assert_eq!(reason(scene.show_secret(n, wrong).await), "CLIENT_REFUSED", "{n} {wrong}");
        }
        // A stranger who guesses learns nothing of whom we know.
        let told = async |n| scene.show_secret(n, "lgt_sec_x").await.unwrap_err().to_string();
        assert_eq!(told(1).await, told(77).await);
        let events = scene.events().await;
        assert_eq!(events.iter().filter(|e| e.r#type == "client.created").count(), 1);
        assert!(events.iter().all(|e| !e.r#type.ends_with("refused") || e.r#type == "operator.refused"));
        assert!(!format!("{events:?} {client:?} {made:?}", client = scene.desk).contains(&secret[8..40]));
    })
    .await;
}

#[tokio::test]
async fn replacing_leaves_the_old_one_for_the_overlap_and_its_use_after_that_raises_an_alarm() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.methods(ALL, TokenBinding::Optional).await;
        let (first, _) = scene.secret(1, false).await.unwrap();
        let (second, made) = scene.secret(1, true).await.unwrap();
        assert_eq!(made.replaced.len(), 1);
        scene.show_secret(1, &first).await.unwrap();
        scene.show_secret(1, &second).await.unwrap();
        assert_eq!(reason(scene.secret(1, false).await), "CREDENTIAL_LIMIT");

        // A third ends the first at once: two are live at most.
        let (third, made) = scene.secret(1, true).await.unwrap();
        assert_eq!(made.replaced.len(), 2);
        assert_eq!(reason(scene.show_secret(1, &first).await), "CLIENT_REFUSED");
        scene.show_secret(1, &second).await.unwrap();
        scene.pass(HOUR).await;
        assert_eq!(reason(scene.show_secret(1, &second).await), "CLIENT_REFUSED");
        scene.show_secret(1, &third).await.unwrap();
        assert_eq!(scene.count("client.retired_used").await, 2);

        let (_, made) = scene.secret(1, false).await.unwrap();
        scene.revoke(&made.row.id, RevocationReason::Superseded).await.unwrap();
        assert!(scene.told_revocations().contains(&made.row.id), "what was obtained by it dies everywhere");
        scene.pass(24 * HOUR).await;
        assert_eq!(reason(scene.show_secret(1, &third).await), "CLIENT_REFUSED", "a hard expiry");
    })
    .await;
}

#[tokio::test]
async fn of_many_who_replace_at_once_two_are_live() {
    on_each::<Migrator>(async |fixture| {
        let scene = Arc::new(Scene::on(&fixture).await);
        scene.methods(ALL, TokenBinding::Optional).await;
        let many = (0..16).map(|n| {
            let scene = Arc::clone(&scene);
            tokio::spawn(async move { scene.secret(1, n % 2 == 0).await.map(|(secret, _)| secret) })
        });
        let mut secrets = Vec::new();
        for made in many.collect::<Vec<_>>() {
            secrets.extend(made.await.unwrap());
        }
        let mut live = 0;
        for secret in secrets {
            live += usize::from(scene.show_secret(1, &secret).await.is_ok());
        }
        assert!((1..=2).contains(&live), "{live}");
    })
    .await;
}

#[tokio::test]
async fn whoever_may_not_gives_nobody_a_secret_and_learns_of_nobody() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.methods(ALL, TokenBinding::Optional).await;
        scene.declare(registry::operators("views", NAMESPACE, "vera", OperatorRole::Viewer)).await;
        let make = async |name: &str, n: u8| {
            let call = scene.operator_called(name, None);
            create_client::secret(&scene.desk, &call, Scene::ask(n, false)).await.map(drop)
        };
        assert_eq!(reason(make("vera", 1).await), "OPERATOR_NOT_PERMITTED");
        let hidden = make("stranger", 1).await.unwrap_err().to_string();
        let nobody = make("stranger", 77).await.unwrap_err().to_string();
        assert_eq!(hidden.replace(agent_id(1).as_str(), ""), nobody.replace(agent_id(77).as_str(), ""));
        for ttl in [Duration::ZERO, HOUR - Duration::from_secs(1), 25 * HOUR] {
            let ask = Ask { ttl: Some(ttl), ..Scene::ask(1, false) };
            let made = create_client::secret(&scene.desk, &scene.operator(), ask).await;
            assert_eq!(reason(made.map(drop)), "INVALID_ARGUMENT", "{ttl:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_assertion_counts_once_also_when_fifty_show_it_at_once() {
    on_each::<Migrator>(async |fixture| {
        let scene = Arc::new(Scene::on(&fixture).await);
        scene.methods(ALL, TokenBinding::Optional).await;
        let signer = key(7);
        scene.register(1, signer.public_key()).await.unwrap();
        // Another replica, where the database can be shared.
        let other = if fixture.is_postgres() {
            let replica = scene.reborn(fixture.again().await).await;
            for object in [
                class_under((300, 3_600), "strict"),
                registry::agent(1, legate_wire::registry::AgentState::Active, 1, None, None),
            ] {
                replica.declare(object).await;
            }
            replica.methods(ALL, TokenBinding::Optional).await;
            Arc::new(replica)
        } else {
            Arc::clone(&scene)
        };
        let assertion = scene.assertion(1, "once", &signer);
        let all = (0..50).map(|n| {
            let (scene, assertion) = (Arc::clone(if n % 2 == 0 { &scene } else { &other }), assertion.clone());
            tokio::spawn(async move { scene.show_assertion(&assertion).await.map(drop) })
        });
        let mut won = 0;
        for shown in all.collect::<Vec<_>>() {
            match shown.await.unwrap() {
                Ok(()) => won += 1,
                Err(fault) => assert_eq!(fault.reason(), "CLIENT_REFUSED"),
            }
        }
        assert_eq!(won, 1);
        scene.show_assertion(&scene.assertion(1, "twice", &signer)).await.unwrap();
        // Forgotten only when nobody could show it any more.
        scene.pass(Duration::from_secs(62)).await;
        forget::forget(&scene.desk).await.unwrap();
        assert_eq!(reason(scene.show_assertion(&assertion).await.map(drop)), "CLIENT_REFUSED");
        scene.pass(Duration::from_secs(60)).await;
        forget::forget(&scene.desk).await.unwrap();
        assert_eq!(reason(scene.show_assertion(&assertion).await.map(drop)), "CLIENT_REFUSED");
    })
    .await;
}

/// Whose a secret is is remembered; whether it works is seen where a token by it is recorded, also of what another issuer
/// on the same database took back or replaced.
#[tokio::test]
async fn a_secret_that_is_known_gives_nothing_once_it_was_taken_back_or_its_end_came_nearer() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.methods(ALL, TokenBinding::Optional).await;
        let (secret, made) = scene.secret(1, false).await.unwrap();
        let show = async |look: bool| {
            let shown = Shown::Secret { client: agent_id(1).to_string(), secret: Zeroizing::new(secret.clone()) };
            authenticate(&scene.desk, &scene.stranger(), shown, Use::ByToken { look }).await
        };
        let give = async |client| scene.token(client, Confirmation::Bearer).await;
        give(show(false).await.unwrap()).await.unwrap();
        scene.desk.db.faults().plan("find_client_secret", legate_db::Fault::NotPersisted);
        give(show(false).await.unwrap()).await.unwrap();
        assert_eq!(scene.desk.db.faults().pending(), 1, "it is known");
        assert_eq!(reason(show(true).await.map(drop)), "DATABASE_UNAVAILABLE");

        // Its end comes nearer, since the next one takes over: what is believed of the end is no more so.
        scene.secret(1, true).await.unwrap();
        assert_eq!(reason(give(show(false).await.unwrap()).await), "CREDENTIAL_NOT_GOOD");
        let fresh = show(true).await.unwrap();
        assert!(fresh.0.proof_ends < Timestamp::from_micros(made.row.not_after));
        give(fresh).await.unwrap();
        give(show(false).await.unwrap()).await.unwrap();

        // It is taken back where this desk hears nothing of it.
        let id = made.row.id.clone();
        let revoked = scene.desk.db.tx("elsewhere", move |tx| {
            let id = id.clone();
            Box::pin(async move { credential::mark_revoked(tx, &id, 1, Timestamp::from_secs(START)).await })
        });
        assert!(revoked.await.map_err(crate::error::of_tx).unwrap());
        let before = scene.count("token.issued").await;
        assert_eq!(reason(give(show(false).await.unwrap()).await), "CREDENTIAL_NOT_GOOD");
        assert_eq!(scene.count("token.issued").await, before);
        assert_eq!(reason(show(true).await.map(drop)), "CLIENT_REFUSED");
        assert_eq!(scene.count("client.retired_used").await, 1);
        assert_eq!(reason(show(false).await.map(drop)), "CLIENT_REFUSED", "what is seen is known from then on");
    })
    .await;
}

/// The keys of a client are remembered; whether they work, and whether an assertion was used, is seen where a token is recorded.
#[tokio::test]
async fn a_key_that_is_known_gives_nothing_once_it_was_taken_back_nor_twice() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.methods(ALL, TokenBinding::Optional).await;
        let signer = key(7);
        let made = scene.register(1, signer.public_key()).await.unwrap();
        let (first, second) = (scene.assertion(1, "first", &signer), scene.assertion(1, "second", &signer));
        scene.token_by_assertion(&first, wish()).await.unwrap();
        scene.desk.db.faults().plan("find_client_keys", legate_db::Fault::NotPersisted);
        scene.token_by_assertion(&second, wish()).await.unwrap();
        assert_eq!(scene.desk.db.faults().pending(), 1, "its keys are known");
        // What was shown here before is looked up, and so is what no known key signed.
        assert_eq!(reason(scene.token_by_assertion(&second, wish()).await), "DATABASE_UNAVAILABLE");
        assert_eq!(reason(scene.token_by_assertion(&second, wish()).await), "CLIENT_REFUSED");
        let strange = scene.assertion(1, "strange", &key(8));
        scene.desk.db.faults().plan("find_client_keys", legate_db::Fault::NotPersisted);
        assert_eq!(reason(scene.token_by_assertion(&strange, wish()).await), "DATABASE_UNAVAILABLE");
        assert_eq!(reason(scene.token_by_assertion(&strange, wish()).await), "CLIENT_REFUSED");

        // A replica takes one that another used for unused, and records no token by it.
        let elsewhere = scene.assertion(1, "elsewhere", &signer);
        let client = agent_id(1);
        let shown = ["client assertion", client.as_str(), "elsewhere"];
        assert!(scene.desk.batches.show_once(once(shown, scene.clock.now())).await.unwrap());
        let before = scene.count("token.issued").await;
        assert_eq!(reason(scene.token_by_assertion(&elsewhere, wish()).await), "CLIENT_REFUSED");

        // It is taken back where this desk hears nothing of it.
        let id = made.row.id.clone();
        let revoked = scene.desk.db.tx("elsewhere", move |tx| {
            let id = id.clone();
            Box::pin(async move { credential::mark_revoked(tx, &id, 1, Timestamp::from_secs(START)).await })
        });
        assert!(revoked.await.map_err(crate::error::of_tx).unwrap());
        let late = scene.assertion(1, "late", &signer);
        assert_eq!(reason(scene.token_by_assertion(&late, wish()).await), "CREDENTIAL_NOT_GOOD");
        assert_eq!(scene.count("token.issued").await, before);
        assert_eq!(scene.count("client.retired_used").await, 0);
        // Shown once more, as the door does, it is looked up: the alarm is raised.
        assert_eq!(reason(scene.token_by_assertion(&late, wish()).await), "CLIENT_REFUSED");
        assert_eq!(scene.count("client.retired_used").await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_key_proves_the_agent_that_registered_it() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.methods(ALL, TokenBinding::Optional).await;
        let (signer, other) = (key(7), key(8));
        let made = scene.register(1, signer.public_key()).await.unwrap();
        scene.register(2, other.public_key()).await.unwrap();
        assert_eq!(reason(scene.register(2, signer.public_key()).await), "KEY_IN_USE");
        assert_eq!(reason(scene.register(1, &scene.token_key()).await), "KEY_IN_USE");
        let (client, _) = scene.show_assertion(&scene.assertion(1, "a", &signer)).await.unwrap();
        assert_eq!(client.agent, agent_id(1));
        for bad in
            [scene.assertion(1, "b", &other), scene.assertion(2, "c", &signer), scene.assertion(77, "d", &signer)]
        {
            assert_eq!(reason(scene.show_assertion(&bad).await.map(drop)), "CLIENT_REFUSED");
        }
        let named = Shown::Assertion {
            client: Some(agent_id(2).to_string()),
            assertion: Zeroizing::new(scene.assertion(1, "e", &signer)),
        };
        assert_eq!(reason(scene.show(named).await.map(drop)), "CLIENT_REFUSED");
        // A compromised key is never registered again.
        scene.revoke(&made.row.id, RevocationReason::KeyCompromise).await.unwrap();
        assert_eq!(reason(scene.show_assertion(&scene.assertion(1, "f", &signer)).await.map(drop)), "CLIENT_REFUSED");
        assert_eq!(scene.count("client.retired_used").await, 1);
        assert_eq!(reason(scene.register(1, signer.public_key()).await), "KEY_COMPROMISED");
    })
    .await;
}

#[tokio::test]
async fn only_an_active_agent_in_a_way_that_its_policy_lists() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.methods(ALL, TokenBinding::Optional).await;
        let (secret, _) = scene.secret(1, false).await.unwrap();
        let client = scene.show_secret(1, &secret).await.unwrap();
        scene.methods(&[PrivateKeyJwt], TokenBinding::Optional).await;
        assert_eq!(reason(scene.show_secret(1, &secret).await), "CREDENTIAL_METHOD_REFUSED");
        scene.methods(ALL, TokenBinding::Optional).await;
        assert_eq!(scene.count("client.retired_used").await, 0);
        scene.suspend(1, 2).await;
        // What is dead now is dead for ever, whatever its agent is refused for: an alarm, once a minute.
        for _ in 0..3 {
            assert_eq!(reason(scene.show_secret(1, &secret).await), "HOLDER_NOT_ACTIVE");
        }
        assert_eq!(cut_offs(&scene).await, 1);
        assert_eq!(reason(scene.token(client.clone(), Confirmation::Bearer).await), "HOLDER_NOT_ACTIVE");
        let cutoff = scene.clock.now();
        scene.pass(Duration::from_secs(5)).await;
        scene.resume(1, 3, cutoff).await;
        assert_eq!(reason(scene.show_secret(1, &secret).await), "CREDENTIAL_NOT_GOOD", "not even after reactivation");
        assert_eq!(cut_offs(&scene).await, 1);
        scene.pass(Duration::from_secs(60)).await;
        assert_eq!(reason(scene.show_secret(1, &secret).await), "CREDENTIAL_NOT_GOOD");
        assert_eq!(cut_offs(&scene).await, 2);
        let (secret, _) = scene.secret(1, false).await.unwrap();
        scene.show_secret(1, &secret).await.unwrap();
        // Of a key too.
        let signer = key(7);
        scene.register(1, signer.public_key()).await.unwrap();
        scene.pass(Duration::from_secs(5)).await;
        scene.declare(registry::agent(1, AgentState::Quarantined, 4, Some(scene.clock.now()), None)).await;
        assert_eq!(
            reason(scene.show_assertion(&scene.assertion(1, "a", &signer)).await.map(drop)),
            "HOLDER_NOT_ACTIVE"
        );
        assert_eq!(cut_offs(&scene).await, 3);
    })
    .await;
}

/// How often it was told that something was shown that was cut off.
async fn cut_offs(scene: &Scene) -> usize {
    let events = scene.events().await;
    let told = events.iter().filter(|e| e.r#type == "client.retired_used" && e.details["state"] == "CUT_OFF");
    told.inspect(|event| assert_eq!(event.agent_id, agent_id(1).to_string())).count()
}

#[tokio::test]
async fn a_token_is_bound_as_the_policy_demands_and_dies_with_its_secret() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.methods(ALL, TokenBinding::Required).await;
        let (secret, made) = scene.secret(1, false).await.unwrap();
        let client = || async { scene.show_secret(1, &secret).await.unwrap() };
        assert_eq!(reason(scene.token(client().await, Confirmation::Bearer).await), "BINDING_REQUIRED");
        let bound = scene.token(client().await, Confirmation::Key([5; 32])).await.unwrap();
        scene.methods(ALL, TokenBinding::Optional).await;
        let bearer = scene.token(client().await, Confirmation::Bearer).await.unwrap();
        key_is_known(&scene).await;
        for token in [&bound.token, &bearer.token] {
            assert!(scene.is_active(&asker(1), token).await);
            assert!(!scene.is_active(&asker(2), token).await, "nobody else's business");
        }
        let event = scene.events().await.into_iter().find(|e| e.r#type == "token.issued").unwrap();
        assert_eq!((event.credential_id.as_str(), event.actor.as_str()), (made.row.id.as_str(), ""));

        // Revoked here: no more tokens, at once.
        let stale = client().await;
        scene.revoke(&made.row.id, RevocationReason::Superseded).await.unwrap();
        assert_eq!(reason(scene.token(stale, Confirmation::Key([5; 32])).await), "CREDENTIAL_NOT_GOOD");
    })
    .await;
}

/// The registry holds the key that signs tokens, as it does before the service is ready.
pub(super) async fn key_is_known(scene: &Scene) {
    let public = &scene.token_key();
    scene.declare(registry::signing_key(public, "https://issuer.example")).await;
}

#[tokio::test]
async fn a_token_is_taken_back_by_its_client_only_and_the_registry_hears_of_it() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (secret, token) = scene.bearer(1).await;
        let call = scene.stranger();
        let take = async |n: u8, text: &str| revoke_token(&scene.desk, &call, &asker(n), text).await;
        assert_eq!(reason(take(2, &token.token).await), "TOKEN_NOT_YOURS");
        assert!(scene.is_active(&asker(1), &token.token).await);
        for unknown in ["", "garbage", &token.token[..token.token.len() - 4]] {
            take(1, unknown).await.unwrap();
        }
        assert!(scene.heard.revocations.lock().unwrap().is_empty());
        for _ in 0..2 {
            take(1, &token.token).await.unwrap();
            assert!(!scene.is_active(&asker(1), &token.token).await, "at once, here");
        }
        let told = scene.heard.revocations.lock().unwrap().clone();
        assert_eq!(told.len(), 1, "told once");
        let spec = told[0].revocation.as_ref().unwrap();
        assert_eq!((spec.token_id.as_str(), spec.credential_id.as_str()), (token.token_id.as_str(), ""));
        assert_eq!(scene.count("token.revoked").await, 1);

        // A deaf registry is told until it hears.
        let client = scene.show_secret(1, &secret).await.unwrap();
        let token = scene.token(client, Confirmation::Bearer).await.unwrap();
        scene.heard.is_deaf.store(true, std::sync::atomic::Ordering::SeqCst);
        for _ in 0..2 {
            // To ask again is no way to be told that everybody has heard.
            assert_eq!(reason(take(1, &token.token).await), "REVOCATION_PENDING");
        }
        assert!(!scene.is_active(&asker(1), &token.token).await);
        scene.heard.is_deaf.store(false, std::sync::atomic::Ordering::SeqCst);
        assert!(crate::flow::publish::round(&scene.desk).await);
        assert_eq!(scene.heard.revocations.lock().unwrap().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_dpop_proof_needs_our_nonce_and_counts_once_also_when_fifty_show_it_at_once() {
    on_each::<Migrator>(async |fixture| {
        let scene = Arc::new(Scene::on(&fixture).await);
        let signer = key(7);
        let (secret, _) = scene.bearer(1).await;
        let show = async |proof: &str| scene.token_by_proof(&secret, proof).await;
        let nonce = dpop::nonce(&scene.desk);
        assert_eq!(reason(show(&scene.proof("a", "", &signer)).await), "DPOP_NONCE_NEEDED");
        assert_eq!(reason(show(&scene.proof("a", "00", &signer)).await), "DPOP_NONCE_NEEDED");
        // What is looked at is not used; a refusal of what it came with uses it (`oauth/token.rs`), and so does the token.
        let proved = dpop::prove(&scene.desk, &scene.proof("a", &nonce, &signer), "POST", URL).await.unwrap();
        assert_eq!(Base64UrlUnpadded::encode_string(&proved.jkt), signer.public_key().kid().to_string());
        show(&scene.proof("a", &nonce, &signer)).await.unwrap();
        // The name is the key's own: another key may use it too.
        show(&scene.proof("a", &nonce, &key(8))).await.unwrap();
        assert_eq!(reason(show(&scene.proof("a", &nonce, &signer)).await), "DPOP_PROOF_REFUSED");

        let before = scene.count("token.issued").await;
        let proof = scene.proof("b", &nonce, &signer);
        let all = (0..50).map(|_| {
            let (scene, proof, secret) = (Arc::clone(&scene), proof.clone(), secret.clone());
            tokio::spawn(async move {
                let token = scene.token_by_proof(&secret, &proof).await;
                token.map_err(|fault| assert_eq!(fault.reason(), "DPOP_PROOF_REFUSED")).is_ok()
            })
        });
        let mut won = 0;
        for shown in all.collect::<Vec<_>>() {
            won += u32::from(shown.await.unwrap());
        }
        assert_eq!(won, 1);
        assert_eq!(scene.count("token.issued").await, before + 1, "one token for one proof");
        // A nonce is taken for a while after another is given out, and not for ever.
        scene.pass(Duration::from_secs(120)).await;
        assert_ne!(dpop::nonce(&scene.desk), nonce);
        show(&scene.proof("c", &nonce, &signer)).await.unwrap();
        scene.pass(Duration::from_secs(120)).await;
        assert_eq!(reason(show(&scene.proof("d", &nonce, &signer)).await), "DPOP_NONCE_NEEDED");
    })
    .await;
}
