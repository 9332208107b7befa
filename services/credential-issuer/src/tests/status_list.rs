//! Status lists: which tokens have a place, what it says of them, and what becomes of the lists.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use legate_db::testing::{Fixture, on_each};
use legate_rpc::Fault;
use legate_token::{Confirmation, Parsed, Status};
use legate_wire::registry::{AgentState, RevocationReason, TokenBinding};
use serde_json::Value;
use zeroize::Zeroizing;

use super::clients::{ALL, asker, key_is_known};
use super::registry::{self, agent_id};
use super::scene::{START, Scene, reason, wish};
use crate::flow::authenticate::{By, Shown, Use, authenticate};
use crate::flow::issue_token::{Asking, IssuedToken, issue};
use crate::flow::status_list::{Lists, status_list};
use crate::keys::Verifier;
use crate::schema::Migrator;
use crate::store::{Batches, PlaceOf};

const TTL: Duration = Duration::from_secs(30);

/// A scene where lists are published, and tokens may be bound to nothing.
async fn publishing(fixture: &Fixture) -> Scene {
    let mut scene = Scene::on(fixture).await;
    std::sync::Arc::get_mut(&mut scene.desk).unwrap().lists = Some(Lists::new(TTL));
    scene.methods(ALL, TokenBinding::Optional).await;
    key_is_known(&scene).await;
    scene
}

/// The place that a token says it has.
fn place(token: &IssuedToken) -> Option<Status> {
    Parsed::parse(&token.token).unwrap();
    let payload = token.token.split('.').nth(1).unwrap();
    let said: Value = serde_json::from_slice(&Base64UrlUnpadded::decode_vec(payload).unwrap()).unwrap();
    let at = said.get("status")?.get("status_list")?.clone();
    Some(Status { index: at["idx"].as_u64().unwrap().try_into().unwrap(), uri: at["uri"].as_str().unwrap().to_owned() })
}

fn number(uri: &str) -> u32 {
    uri.strip_prefix("https://issuer.example/oauth2/status/").unwrap().parse().unwrap()
}

impl Scene {
    async fn list(&self, number: u32) -> Result<String, Fault> {
        Ok(status_list(&self.desk, &self.stranger(), number).await?.token.to_string())
    }

    /// As a verifier reads it who has nothing but our key: by the draft's section 8.3.
    async fn is_valid(&self, at: &Status) -> bool {
        let token = self.list(number(&at.uri)).await.unwrap();
        let (input, signature) = token.rsplit_once('.').unwrap();
        let (header, payload) = input.split_once('.').unwrap();
        let json =
            |part: &str| -> Value { serde_json::from_slice(&Base64UrlUnpadded::decode_vec(part).unwrap()).unwrap() };
        let (header, said) = (json(header), json(payload));
        assert_eq!((header["typ"].as_str(), header["alg"].as_str()), (Some("statuslist+jwt"), Some("ES256")));
        let key = self.token_key();
        assert_eq!(header["kid"], key.kid().as_str());
        let signature: [u8; 64] = Base64UrlUnpadded::decode_vec(signature).unwrap().try_into().unwrap();
        assert!(legate_token::EcVerifier::verify(&Verifier::new(&key), input.as_bytes(), &signature));
        assert_eq!(said["sub"], at.uri.as_str());
        assert_eq!((said["ttl"].as_u64(), said["status_list"]["bits"].as_u64()), (Some(30), Some(1)));
        let now = legate_clock::Clock::now(&*self.clock).secs();
        assert!(said["iat"].as_i64().unwrap() <= now && said["exp"].as_i64().unwrap() > now + 30);
        let packed = Base64UrlUnpadded::decode_vec(said["status_list"]["lst"].as_str().unwrap()).unwrap();
        let bits = miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(&packed, 1 << 13).unwrap();
        assert_eq!(bits.len(), 1 << 13, "every place is there, given or not");
        bits[at.index as usize / 8] >> (at.index % 8) & 1 == 0
    }

    async fn by_secret(&self, n: u8) -> (IssuedToken, String) {
        let (secret, made) = self.secret(n, false).await.unwrap();
        let client = self.show_secret(n, &secret).await.unwrap();
        (self.token(client, Confirmation::Bearer).await.unwrap(), made.row.id)
    }
}

#[tokio::test]
async fn a_place_says_what_introspection_says() {
    on_each::<Migrator>(async |fixture| {
        let scene = publishing(&fixture).await;
        let (token, secret) = scene.by_secret(1).await;
        let (other, _) = scene.by_secret(2).await;
        let (mine, others) = (place(&token).unwrap(), place(&other).unwrap());
        assert!(scene.is_valid(&mine).await && scene.is_valid(&others).await);

        // Taken back, and the registry has not told it yet: at once, though a list is kept.
        scene.revoke(&secret, RevocationReason::Superseded).await.unwrap();
        assert!(!scene.is_valid(&mine).await);
        assert!(scene.is_valid(&others).await && scene.is_active(&asker(2), &other.token).await);

        scene.suspend(2, 2).await;
        assert!(!scene.is_valid(&others).await && !scene.is_active(&asker(2), &other.token).await);
        // Resumed: what was issued before never works again.
        scene.pass(Duration::from_secs(5)).await;
        scene.resume(2, 3, legate_clock::Timestamp::from_secs(START)).await;
        assert!(!scene.is_valid(&others).await);
        let (again, _) = scene.by_secret(2).await;
        assert!(scene.is_valid(&place(&again).unwrap()).await && scene.is_active(&asker(2), &again.token).await);
    })
    .await;
}

#[tokio::test]
async fn a_place_belongs_to_the_one_credential_that_the_token_rests_on() {
    on_each::<Migrator>(async |fixture| {
        let scene = publishing(&fixture).await;
        let (row, _) = scene.enrolled(1).await;
        let x5t: [u8; 32] = row.x5t_s256.clone().unwrap().try_into().unwrap();
        let call = scene.holder(&row);
        let by_grpc = [scene.issue(&row, wish()).await.unwrap(), scene.issue(&row, wish()).await.unwrap()];
        let of = by_grpc.each_ref().map(|token| place(token).unwrap());
        assert_eq!(of[0], of[1], "one credential, one place");
        let obtain = async |confirmation| {
            let shown = Shown::Certificate { client: agent_id(1).to_string() };
            let client = authenticate(&scene.desk, &call, shown, Use::AtOnce).await.unwrap();
            let asking = Asking::of(client, confirmation);
            place(&issue(&scene.desk, &call, asking, wish()).await.unwrap())
        };
        assert_eq!(obtain(Confirmation::Certificate(x5t)).await.as_ref(), Some(&of[0]));
        assert_eq!(obtain(Confirmation::Key([5; 32])).await.as_ref(), Some(&of[0]));

        // It falls with either of the two, so one bit would lie of one.
        let (secret, _) = scene.secret(1, false).await.unwrap();
        let shown = Zeroizing::new(secret.clone());
        let shown = Shown::Secret { client: agent_id(1).to_string(), secret: shown };
        let client = authenticate(&scene.desk, &call, shown, Use::AtOnce).await.unwrap();
        assert!(matches!(client.0.by, By::Credential(_)));
        let asking = Asking::of(client, Confirmation::Certificate(x5t));
        assert_eq!(place(&issue(&scene.desk, &call, asking, wish()).await.unwrap()), None);
        let own = scene.show_secret(1, &secret).await.unwrap();
        let own = place(&scene.token(own, Confirmation::Bearer).await.unwrap()).unwrap();
        assert_ne!(own, of[0]);

        scene.revoke(&row.id, RevocationReason::Superseded).await.unwrap();
        assert!(!scene.is_valid(&of[0]).await && scene.is_valid(&own).await);
    })
    .await;
}

#[tokio::test]
async fn where_no_lists_are_published_nothing_names_one() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (_, token) = scene.bearer(1).await;
        assert_eq!(place(&token), None);
        assert_eq!(reason(scene.list(0).await), "STATUS_LIST_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn a_list_is_kept_until_something_is_taken_away_or_its_time_is_over() {
    on_each::<Migrator>(async |fixture| {
        let scene = publishing(&fixture).await;
        let (token, _) = scene.by_secret(1).await;
        let at = place(&token).unwrap();
        let first = scene.list(number(&at.uri)).await.unwrap();
        scene.pass(Duration::from_secs(29)).await;
        assert_eq!(scene.list(0).await.unwrap(), first);
        scene.pass(Duration::from_secs(1)).await;
        let second = scene.list(0).await.unwrap();
        assert_ne!(second, first);
        // The end of an agent is nobody's deed, so nobody tells of it.
        let ends = legate_clock::Timestamp::from_secs(START + 60);
        scene.declare(registry::agent(1, AgentState::Active, 1, None, Some(ends))).await;
        assert!(scene.is_valid(&at).await);
        scene.pass(Duration::from_secs(30)).await;
        assert!(!scene.is_valid(&at).await);

        // A number that nobody was given, and one whose credentials ended long ago.
        assert_eq!(reason(scene.list(1).await), "STATUS_LIST_NOT_FOUND");
        assert_eq!(reason(scene.list(u32::MAX).await), "STATUS_LIST_NOT_FOUND");
        scene.pass(Duration::from_secs(86_400 + 606)).await;
        assert_eq!(reason(scene.list(0).await), "STATUS_LIST_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn who_asks_together_gets_one_place_each_and_keeps_it() {
    on_each::<Migrator>(async |fixture| {
        let scene = publishing(&fixture).await;
        let mut ids = Vec::new();
        for n in [1, 1, 2, 2] {
            ids.push(scene.secret(n, false).await.unwrap().1.row.id);
        }
        let asked = ids.iter().chain(&ids).map(|id| scene.desk.batches.place(PlaceOf::Credential(id.clone())));
        let given: Vec<i64> =
            futures_util::future::join_all(asked).await.into_iter().map(|place| place.unwrap().unwrap()).collect();
        assert_eq!(given[..4], given[4..]);
        assert_eq!(given.iter().collect::<HashSet<_>>().len(), 4);
        let nobody = scene.desk.batches.place(PlaceOf::Credential("cred_nobody".into())).await.unwrap();
        assert_eq!(nobody, None);
    })
    .await;
}

#[tokio::test]
async fn a_place_whose_giving_failed_is_given_once_all_the_same() {
    on_each::<Migrator>(async |fixture| {
        let scene = publishing(&fixture).await;
        for (n, fault) in [(1, legate_db::Fault::NotPersisted), (2, legate_db::Fault::PersistedButReplyLost)] {
            let (secret, made) = scene.secret(n, false).await.unwrap();
            scene.desk.db.faults().plan("give_status_index", fault);
            let client = scene.show_secret(n, &secret).await.unwrap();
            let refused = scene.token(client.clone(), Confirmation::Bearer).await;
            assert_eq!(reason(refused), "DATABASE_UNAVAILABLE", "no token without the place that it should name");
            let at = place(&scene.token(client, Confirmation::Bearer).await.unwrap()).unwrap();
            let of = PlaceOf::Credential(made.row.id);
            assert_eq!(scene.desk.batches.place(of).await.unwrap(), Some(i64::from(at.index)));
        }
    })
    .await;
}

#[tokio::test]
async fn two_issuers_on_one_database_give_no_place_twice() {
    on_each::<Migrator>(async |fixture| {
        if !fixture.is_postgres() {
            return;
        }
        let scene = publishing(&fixture).await;
        let mut ids = Vec::new();
        for n in [1, 1, 2, 2] {
            ids.push(scene.secret(n, false).await.unwrap().1.row.id);
        }
        let others = Batches::new(&fixture.again().await, scene.desk.outbox.clone());
        let ask = |batches: &'static str, id: &String| {
            let (of, others, own) = (PlaceOf::Credential(id.clone()), &others, &scene.desk.batches);
            async move { if batches == "own" { own.place(of).await } else { others.place(of).await } }
        };
        let asked = ids.iter().flat_map(|id| [ask("own", id), ask("others", id)]);
        let given: Vec<i64> =
            futures_util::future::join_all(asked).await.into_iter().map(|place| place.unwrap().unwrap()).collect();
        assert!(given.chunks(2).all(|two| two[0] == two[1]), "one credential, one place: {given:?}");
        assert_eq!(given.iter().collect::<HashSet<_>>().len(), 4);
    })
    .await;
}

/// Rows beside those of the scene: `count` credentials like the one with that id, with places from `first` on.
async fn fill(scene: &Scene, id: &str, first: i64, count: i64) {
    let id = id.to_owned();
    scene
        .desk
        .db
        .tx("fill", move |tx| {
            let id = id.clone();
            Box::pin(async move {
                use sea_orm::ConnectionTrait as _;
                // As the database counts, so that a hundred thousand rows take no time.
                let columns = "spiffe_id, namespace, agent_id, to_be_signed, to_be_signed_sha256, not_before, not_after, \
                               lifecycle_version, origin, state, issued_at, instance_id, kind, pepper";
                let sql = format!(
                    "INSERT INTO credential (id, serial, key_sha256, status_index, {columns}) \
                     WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {first} + {count}) \
                     SELECT 'x' || i, 'x' || i, key_sha256, i, {columns} FROM credential, n WHERE id = '{id}'"
                );
                tx.execute_unprepared(&sql).await?;
                Ok::<(), legate_db::TxError<Fault>>(())
            })
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_hundred_thousand_credentials_are_two_small_lists_made_in_bounded_time() {
    on_each::<Migrator>(async |fixture| {
        let scene = publishing(&fixture).await;
        let (token, secret) = scene.by_secret(1).await;
        let at = place(&token).unwrap();
        // All but one place of the first list are taken, as far as the register of lists goes.
        use sea_orm::ConnectionTrait as _;
        scene
            .desk
            .db
            .tx("nearly_full", |tx| {
                Box::pin(async move {
                    tx.execute_unprepared("UPDATE status_list SET given = 65535").await?;
                    Ok::<(), legate_db::TxError<Fault>>(())
                })
            })
            .await
            .unwrap();
        let last = place(&scene.by_secret(2).await.0).unwrap();
        let next = place(&scene.by_secret(2).await.0).unwrap();
        assert_eq!([&at, &last, &next].map(|at| number(&at.uri)), [0, 0, 1]);
        fill(&scene, &secret, 2 * 65_536, 65_536).await;
        fill(&scene, &secret, 3 * 65_536, 34_464).await;
        scene
            .desk
            .db
            .tx("more_lists", |tx| {
                Box::pin(async move {
                    let more = "INSERT INTO status_list SELECT number + 2, shuffle, 65536, live_until FROM status_list";
                    tx.execute_unprepared(more).await?;
                    Ok::<(), legate_db::TxError<Fault>>(())
                })
            })
            .await
            .unwrap();
        scene.suspend(1, 2).await;
        for number in [2, 3] {
            let began = Instant::now();
            let list = scene.list(number).await.unwrap();
            // A bound, not a measurement: other tests run beside this one.
            assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
            assert!(list.len() < 12_000, "{}", list.len());
        }
        let at = |number: u32, index| Status { index, uri: format!("https://issuer.example/oauth2/status/{number}") };
        for (at, is_valid) in [(at(2, 0), false), (at(2, 65_535), false), (at(3, 34_463), false), (at(3, 34_464), true)]
        {
            assert_eq!(scene.is_valid(&at).await, is_valid, "{at:?}");
        }
        assert!(scene.is_valid(&next).await);
    })
    .await;
}

#[tokio::test]
async fn a_list_is_signed_by_the_key_that_signs_tokens_and_by_no_view_that_is_old() {
    on_each::<Migrator>(async |fixture| {
        let scene = publishing(&fixture).await;
        let (token, _) = scene.by_secret(1).await;
        let at = place(&token).unwrap();
        assert!(scene.is_valid(&at).await);
        scene.registry.answers.store(false, std::sync::atomic::Ordering::SeqCst);
        scene.clock.advance(Duration::from_secs(6));
        assert_eq!(reason(scene.list(0).await), "VIEW_STALE", "not even what is kept");
    })
    .await;
}
