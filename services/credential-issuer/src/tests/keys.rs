//! Keys follow one another: by the clock, by hand and in an emergency, with several issuers, through restarts and lost answers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use legate_clock::Clock as _;
use legate_db::Fault::{NotPersisted, PersistedButReplyLost};
use legate_db::testing::on_each;
use legate_rpc::Fault;
use legate_token::{EcVerifier as _, KeyId, P256Verifier, Parsed};
use legate_wire::registry::OperatorRole::{Admin, Approver, BreakGlass, Editor, Viewer};

use super::registry;
use super::scene::{Scene, files, new_key, reason, wish};
use crate::domain::keyring::{KeyUse, State};
use crate::flow::keys::{self, Changed};
use crate::flow::{Call, keyring, live, publish};
use crate::keys::{KeyError, KeyStore, Signer};
use crate::schema::Migrator;
use crate::store::signing_key::Model;

pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);
pub(super) const TOKENS: KeyUse = KeyUse::AccessTokens;
pub(super) const WORKLOADS: KeyUse = KeyUse::WorkloadsCa;

impl Scene {
    pub(super) async fn keys_in(&self, purpose: KeyUse, state: State) -> Vec<String> {
        let ask = keys::Ask { purpose: Some(purpose), with_ended: true, ..keys::Ask::default() };
        let (rows, _) = keys::list(&self.desk, &self.operator(), ask).await.unwrap();
        rows.into_iter().filter(|row| row.state().unwrap() == state).map(|row| row.kid).collect()
    }

    pub(super) async fn one_in(&self, purpose: KeyUse, state: State) -> String {
        let all = self.keys_in(purpose, state).await;
        let [one] = all.as_slice() else { panic!("{all:?} are {state:?}") };
        one.clone()
    }

    /// The clock's work, and that the registry hears of it and tells it back.
    pub(super) async fn turn(&self) {
        keyring::look(&self.desk).await;
        assert!(publish::round(&self.desk).await);
        self.hear_back().await;
    }

    /// What the registry was told of keys comes back by the view.
    pub(super) async fn hear_back(&self) {
        let told = self.heard.keys.lock().unwrap().clone();
        for one in told {
            self.declare(registry::published_key(one.signing_key.unwrap())).await;
        }
    }

    pub(super) async fn rotate(&self, purpose: KeyUse, is_urgent: bool) -> Result<Changed, Fault> {
        let call = self.operator();
        keys::rotate(&self.desk, &call, purpose, is_urgent, "a test".into()).await
    }

    pub(super) async fn retire(&self, kid: &str, is_compromised: bool) -> Result<Changed, Fault> {
        let call = self.operator();
        keys::retire(&self.desk, &call, kid_of(kid), is_compromised, "a test".into()).await
    }

    pub(super) async fn replace(&self, purpose: KeyUse) -> Result<Changed, Fault> {
        keys::replace(&self.desk, &self.operator(), purpose, "a test".into()).await
    }

    pub(super) async fn prepare(&self, purpose: KeyUse) -> Result<Model, Fault> {
        keys::prepare(&self.desk, &self.operator(), purpose, "a test".into()).await
    }

    pub(super) async fn taint(&self, kid: &str) -> Result<Model, Fault> {
        keys::taint(&self.desk, &self.operator(), kid_of(kid), "a test".into()).await
    }

    pub(super) fn published(&self) -> BTreeSet<String> {
        self.desk.keys.published(TOKENS).iter().map(|key| key.kid().to_string()).collect()
    }

    pub(super) async fn works(&self, token: &str) -> bool {
        live::live(&self.desk, token).await.unwrap().is_some()
    }

    pub(super) fn has_file(&self, purpose: KeyUse, kid: &str) -> bool {
        self.dir.path().join(format!("keys/{}.{kid}.key", purpose.word())).exists()
    }

    /// What is recorded of keys, in order.
    pub(super) async fn changes(&self, purpose: KeyUse) -> Vec<String> {
        let events = self.all_events().await;
        let of_use = events.iter().filter(|e| e.details.get("purpose").is_some_and(|p| p == purpose.word()));
        of_use.map(|e| e.r#type.clone()).collect()
    }
}

fn kid_of(text: &str) -> legate_token::KeyId {
    legate_token::KeyId::parse(text).unwrap()
}

#[tokio::test]
async fn a_key_is_published_for_a_day_signs_for_a_month_and_verifies_until_what_it_signed_has_ended() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.turn().await;
        let first = scene.one_in(TOKENS, State::Active).await;
        let second = scene.one_in(TOKENS, State::Prepared).await;
        assert_eq!(scene.published(), BTreeSet::from([first.clone(), second.clone()]));

        scene.pass(29 * DAY).await;
        scene.turn().await;
        assert_eq!(scene.one_in(TOKENS, State::Active).await, first);
        let (row, _) = scene.enrolled(1).await;
        let token = scene.issue(&row, wish()).await.unwrap().token;
        assert_eq!(Parsed::parse(&token).unwrap().kid().as_str(), first);
        scene.pass(DAY).await;
        scene.turn().await;
        assert_eq!(scene.one_in(TOKENS, State::Active).await, second);
        assert_eq!(scene.one_in(TOKENS, State::Retiring).await, first);
        let third = scene.one_in(TOKENS, State::Prepared).await;
        let told = scene.heard.keys.lock().unwrap().clone();
        let last = |kid: &str| told.iter().rev().filter_map(|one| one.signing_key.clone()).find(|one| one.kid == kid);
        let ends = scene.clock.now().plus(DAY + Duration::from_secs(600));
        assert_eq!(last(&first).unwrap().not_after, Some(ends.into()));
        assert_eq!(last(&second).unwrap().not_after, None);

        let (row, _) = scene.enrolled(1).await;
        let fresh = scene.issue(&row, wish()).await.unwrap().token;
        assert_eq!(Parsed::parse(&fresh).unwrap().kid().as_str(), second);
        assert!(scene.works(&fresh).await);
        scene.pass(DAY).await;
        scene.turn().await;
        assert_eq!(scene.one_in(TOKENS, State::Retiring).await, first, "TTL + 24 h");
        assert!(scene.has_file(TOKENS, &first));
        scene.pass(Duration::from_secs(600)).await;
        scene.turn().await;
        assert_eq!(scene.one_in(TOKENS, State::Retired).await, first);
        assert_eq!(scene.published(), BTreeSet::from([second, third]));
        assert!(!scene.has_file(TOKENS, &first), "a private key that signs no more is destroyed");
        let all = ["key.activated", "key.prepared", "key.activated", "key.prepared", "key.retired"];
        assert_eq!(scene.changes(TOKENS).await, all);
    })
    .await;
}

#[tokio::test]
async fn a_key_that_nobody_can_know_does_not_sign() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.heard.is_deaf.store(true, Ordering::SeqCst);
        assert!(!publish::round(&scene.desk).await);
        let first = scene.one_in(TOKENS, State::Active).await;
        scene.pass(60 * DAY).await;
        keyring::look(&scene.desk).await;
        assert_eq!(scene.one_in(TOKENS, State::Active).await, first);
        assert_eq!(reason(scene.rotate(TOKENS, true).await), "KEY_NOT_READY");
        scene.heard.is_deaf.store(false, Ordering::SeqCst);
        scene.turn().await;
        assert_eq!(scene.one_in(TOKENS, State::Active).await, first, "known since a moment ago");
        assert_eq!(reason(scene.rotate(TOKENS, false).await), "KEY_NOT_READY");
        scene.pass(DAY).await;
        scene.turn().await;
        assert_eq!(scene.one_in(TOKENS, State::Retiring).await, first);
    })
    .await;
}

#[tokio::test]
async fn by_hand_it_rotates_when_the_next_is_known_or_when_somebody_says_now() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.turn().await;
        assert_eq!(reason(scene.rotate(TOKENS, false).await), "KEY_NOT_READY");
        let second = scene.one_in(TOKENS, State::Prepared).await;
        let changed = scene.rotate(TOKENS, true).await.unwrap();
        assert_eq!((changed.key.kid.as_str(), changed.replaced.len()), (second.as_str(), 1));
        assert_eq!(scene.keys_in(TOKENS, State::Prepared).await.len(), 1, "the next is made at once");
        // Of one that signs no more or not yet an end can be made early, not of the one that signs.
        assert_eq!(reason(scene.retire(&second, false).await), "KEY_IN_SERVICE");
        let old = changed.replaced[0].kid.clone();
        scene.turn().await;
        let prepared = scene.one_in(TOKENS, State::Prepared).await;
        for kid in [&old, &prepared] {
            let gone = scene.retire(kid, false).await.unwrap();
            assert_eq!(gone.key.state().unwrap(), State::Retired);
            assert_eq!(gone.active.unwrap().kid, second);
            scene.retire(kid, false).await.unwrap();
        }
        assert_eq!(scene.keys_in(TOKENS, State::Prepared).await.len(), 1);
        let unknown = new_key();
        let unknown = legate_token::PublicKey::from_sec1(rcgen::PublicKeyData::der_bytes(&unknown)).unwrap();
        assert_eq!(reason(scene.retire(unknown.kid().as_str(), true).await), "KEY_NOT_FOUND");
        // A key set stays small, however often somebody rotates.
        let mut last = Ok(());
        for _ in 0..20 {
            scene.turn().await;
            last = scene.rotate(TOKENS, true).await.map(drop);
            if last.is_err() {
                break;
            }
        }
        assert_eq!(reason(last), "KEYS_FULL");
        assert!(scene.desk.keys.published(TOKENS).len() <= 17);
    })
    .await;
}

#[tokio::test]
async fn a_compromised_key_is_dead_at_once_and_agents_simply_ask_again() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.turn().await;
        let (row, _) = scene.enrolled(1).await;
        let token = scene.issue(&row, wish()).await.unwrap().token;
        assert!(scene.works(&token).await);
        let (first, second) = (scene.one_in(TOKENS, State::Active).await, scene.one_in(TOKENS, State::Prepared).await);
        let changed = scene.retire(&first, true).await.unwrap();
        assert_eq!(changed.key.state().unwrap(), State::Revoked);
        assert_eq!(changed.active.unwrap().kid, second, "a key that every verifier knew before takes over");
        // Here at once, and everywhere by the registry, which heard of it before the answer.
        assert!(!scene.works(&token).await);
        let told =
            scene.heard.keys.lock().unwrap().iter().filter_map(|one| one.signing_key.clone()).collect::<Vec<_>>();
        let of_first = told.iter().rfind(|spec| spec.kid == first).unwrap();
        assert!(of_first.revoke_time.is_some() && of_first.not_after.is_some());
        scene.hear_back().await;
        let again = scene.issue(&row, wish()).await.unwrap().token;
        assert!(scene.works(&again).await && !scene.works(&token).await);
        assert!(!scene.has_file(TOKENS, &first));
        // To repeat it is harmless.
        assert_eq!(scene.retire(&first, true).await.unwrap().key.kid, first);
        let events = scene.all_events().await;
        let revoked: Vec<_> = events.iter().filter(|e| e.r#type == "key.revoked").collect();
        assert_eq!((revoked.len(), revoked[0].reason.as_str()), (1, "a test"));
        assert_eq!(revoked[0].actor, "spiffe://example.org/legate/operator/alice");

        // All of them: also the one that waits, which was where the other was.
        let waiting = scene.one_in(TOKENS, State::Prepared).await;
        let changed = scene.replace(TOKENS).await.unwrap();
        let mut replaced: Vec<String> = changed.replaced.into_iter().map(|row| row.kid).collect();
        replaced.sort();
        let mut all = vec![second, waiting];
        all.sort();
        assert_eq!(replaced, all);
        scene.hear_back().await;
        assert!(!scene.works(&again).await);
        let last = scene.issue(&row, wish()).await.unwrap().token;
        assert!(scene.works(&last).await);
    })
    .await;
}

/// A store that keeps no new key, as on a full disk.
#[derive(Debug)]
struct Full(Arc<dyn KeyStore>);

#[tonic::async_trait]
impl KeyStore for Full {
    async fn create(&self, _: KeyUse) -> Result<Arc<dyn Signer>, KeyError> {
        Err(KeyError::File { what: "keys".into(), why: "no space left".into() })
    }

    async fn open(&self, purpose: KeyUse, kid: &KeyId) -> Result<Option<Arc<dyn Signer>>, KeyError> {
        self.0.open(purpose, kid).await
    }

    async fn destroy(&self, purpose: KeyUse, kid: &KeyId) -> Result<(), KeyError> {
        self.0.destroy(purpose, kid).await
    }
}

#[tokio::test]
async fn a_compromised_key_is_taken_back_also_where_no_key_can_be_kept() {
    on_each::<Migrator>(async |fixture| {
        let mut scene = Scene::on(&fixture).await;
        scene.turn().await;
        let (first, second) = (scene.one_in(TOKENS, State::Active).await, scene.one_in(TOKENS, State::Prepared).await);
        let ring = &mut Arc::get_mut(&mut scene.desk).unwrap().keys;
        let files = Arc::clone(&ring.store);
        ring.store = Arc::new(Full(Arc::clone(&files)));
        let changed = scene.retire(&first, true).await.unwrap();
        assert_eq!(changed.key.state().unwrap(), State::Revoked);
        assert_eq!(changed.active.unwrap().kid, second);
        assert!(!scene.has_file(TOKENS, &first));
        // Where nothing can follow, it is told, and nothing is half done.
        assert_eq!(reason(scene.retire(&second, true).await), "KEY_STORE_UNAVAILABLE");
        assert_eq!(scene.one_in(TOKENS, State::Active).await, second);
    })
    .await;
}

#[tokio::test]
async fn an_emergency_is_on_record_also_where_nothing_had_to_change() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.turn().await;
        scene.declare(registry::operators("of-bob", "", "bob", BreakGlass)).await;
        let bob = scene.operator_called("bob", Some("the pager rang"));
        let (first, waiting) = (scene.one_in(TOKENS, State::Active).await, scene.one_in(TOKENS, State::Prepared).await);
        keys::prepare(&scene.desk, &bob, TOKENS, "a test".into()).await.unwrap();
        for _ in 0..2 {
            keys::retire(&scene.desk, &bob, kid_of(&waiting), false, "a test".into()).await.unwrap();
        }
        for _ in 0..2 {
            keys::retire(&scene.desk, &bob, kid_of(&first), true, "a test".into()).await.unwrap();
        }
        assert_eq!(scene.count("operator.broke_glass").await, 5);
    })
    .await;
}

#[tokio::test]
async fn what_the_registry_has_not_confirmed_is_told_again() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.turn().await;
        let first = scene.one_in(TOKENS, State::Active).await;
        scene.heard.is_deaf.store(true, Ordering::SeqCst);
        assert_eq!(reason(scene.retire(&first, true).await), "REVOCATION_PENDING");
        assert_eq!(scene.keys_in(TOKENS, State::Revoked).await, [first.as_str()], "it is, here");
        // Through a restart too.
        let again = scene.reborn(fixture.db.clone()).await;
        assert!(publish::round(&again.desk).await);
        let told = again.heard.keys.lock().unwrap().clone();
        assert!(
            told.iter()
                .filter_map(|one| one.signing_key.as_ref())
                .any(|one| one.kid == first && one.revoke_time.is_some())
        );
        assert_eq!(again.retire(&first, true).await.unwrap().key.kid, first);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_was_planned_under_a_key_that_falls_is_never_signed() {
    on_each::<Migrator>(async |fixture| {
        let scene = Arc::new(Scene::on(&fixture).await);
        scene.turn().await;
        let (row, _) = scene.enrolled(1).await;
        // Another issuer takes the key back while policy-decision is asked.
        let other = Arc::new(scene.reborn(fixture.db.clone()).await);
        let first = scene.one_in(TOKENS, State::Active).await;
        let taken = Arc::new(std::sync::Mutex::new(None));
        let (handle, kid, result) = (tokio::runtime::Handle::current(), first.clone(), Arc::clone(&taken));
        *scene.says.0.lock().unwrap() = Box::new(move |ask| {
            let (other, kid) = (Arc::clone(&other), kid.clone());
            let taking = async move { other.retire(&kid, true).await.map(drop) };
            let done = tokio::task::block_in_place(|| handle.block_on(taking));
            *result.lock().unwrap() = Some(done.map_err(|fault| fault.reason()));
            Ok(super::scene::yes(ask))
        });
        let signed = scene.tokens.signed.load(Ordering::SeqCst);
        assert_eq!(reason(scene.issue(&row, wish()).await), "SIGNING_UNAVAILABLE");
        assert_eq!(*taken.lock().unwrap(), Some(Ok(())));
        assert_eq!(scene.tokens.signed.load(Ordering::SeqCst), signed);
        assert_eq!(scene.count("token.issued").await, 0);
        *scene.says.0.lock().unwrap() = Box::new(|ask| Ok(super::scene::yes(ask)));
        keyring::look(&scene.desk).await;
        scene.issue(&row, wish()).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn of_several_issuers_one_rotates_and_all_sign_by_the_same_key() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.turn().await;
        let other = scene.reborn(fixture.db.clone()).await;
        assert_eq!(scene.token_key(), other.token_key());
        scene.pass(30 * DAY).await;
        other.pass(30 * DAY).await;
        tokio::join!(keyring::look(&scene.desk), keyring::look(&other.desk));
        tokio::join!(keyring::look(&scene.desk), keyring::look(&other.desk));
        assert_eq!(scene.token_key(), other.token_key());
        let changes = scene.changes(TOKENS).await;
        assert_eq!(changes.iter().filter(|kind| *kind == "key.activated").count(), 2, "{changes:?}");
        assert_eq!(scene.keys_in(TOKENS, State::Prepared).await.len(), 1);
        // No private key is left over for one that lost the race.
        let files = std::fs::read_dir(scene.dir.path().join("keys")).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        assert_eq!(names.filter(|name| name.starts_with("access-tokens.")).count(), 3);
    })
    .await;
}

#[tokio::test]
async fn a_restart_finds_every_key_and_one_that_is_lost_is_told_and_replaced() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.turn().await;
        let key = scene.token_key();
        let again = scene.reborn(fixture.db.clone()).await;
        assert_eq!(again.token_key(), key);
        assert_eq!(again.all_events().await.len(), scene.all_events().await.len(), "nothing was changed");
        std::fs::remove_file(scene.dir.path().join(format!("keys/access-tokens.{}.key", key.kid()))).unwrap();
        let lost = scene.reborn(fixture.db.clone()).await;
        super::clients::key_is_known(&lost).await;
        lost.declare(registry::class(300, 3600)).await;
        lost.declare(registry::enforcement_point("invoices", registry::NAMESPACE, registry::AUDIENCE)).await;
        lost.declare(registry::agent(1, legate_wire::registry::AgentState::Active, 1, None, None)).await;
        let (row, _) = lost.enrolled(1).await;
        assert_eq!(reason(lost.issue(&row, wish()).await), "SIGNING_UNAVAILABLE");
        lost.rotate(TOKENS, true).await.unwrap();
        lost.issue(&row, wish()).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn keys_of_tokens_and_of_jwt_svids_are_never_taken_for_one_another() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.turn().await;
        let kids = |purpose| -> Vec<String> {
            scene.desk.keys.published(purpose).iter().map(|key| key.kid().to_string()).collect()
        };
        let (tokens, svids) = (kids(TOKENS), kids(KeyUse::JwtSvids));
        assert!(tokens.len() == 2 && svids.len() == 2 && tokens.iter().all(|kid| !svids.contains(kid)));
        let told = scene.heard.keys.lock().unwrap().clone();
        for one in told.iter().filter_map(|one| one.signing_key.as_ref()) {
            let is_svid = one.r#use() == legate_wire::registry::SigningKeyUse::JwtSvid;
            assert_eq!(is_svid, svids.contains(&one.kid));
        }
        // A token that the key of JWT-SVIDs signed is no access token, whatever it says.
        let (row, _) = scene.enrolled(1).await;
        let good = scene.issue(&row, wish()).await.unwrap().token;
        assert!(scene.works(&good).await);
        let svid = scene.desk.keys.active(KeyUse::JwtSvids).unwrap();
        let claims = Parsed::parse(&good).unwrap();
        let claims = claims.check_signature(&P256Verifier::new(&scene.token_key())).unwrap().claims().clone();
        let unsigned = legate_token::Unsigned::new(&claims, svid.public.kid()).unwrap();
        let signature = svid.signer.as_ref().unwrap().sign(unsigned.input()).await.unwrap();
        assert!(P256Verifier::new(&svid.public).verify(unsigned.input(), &signature));
        assert!(!scene.works(&unsigned.with_signature(&signature)).await);
        // Nor does the ring sign by a key for another use than its own.
        let kid = svid.public.kid();
        assert_eq!(reason(scene.desk.keys.sign(TOKENS, &kid, b"x").await), "SIGNING_UNAVAILABLE");
        scene.desk.keys.sign(KeyUse::JwtSvids, &kid, b"x").await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn keys_are_changed_by_administrators_of_everything_alone() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.turn().await;
        let bob = scene.operator_called("bob", None);
        let list = async |call: &Call| {
            let listed = keys::list(&scene.desk, call, keys::Ask::default()).await;
            listed.map(|_| ()).map_err(|fault| fault.reason())
        };
        let rotate = async |call: &Call| {
            let changed = keys::rotate(&scene.desk, call, TOKENS, true, "a test".into());
            scene.desk.for_operator(call, changed).await.map(|_| ()).map_err(|fault| fault.reason())
        };
        let no = Err("OPERATOR_NOT_PERMITTED");
        assert_eq!((list(&bob).await, rotate(&bob).await), (no, no));
        for (role, reads) in [(Viewer, Ok(())), (Editor, Ok(())), (Approver, Ok(()))] {
            scene.declare(registry::operators("of-bob", "", "bob", role)).await;
            assert_eq!((list(&bob).await, rotate(&bob).await), (reads, no), "{role:?}");
        }
        scene.declare(registry::operators("of-bob", "", "bob", Viewer)).await;
        scene.declare(registry::operators("of-bob", registry::NAMESPACE, "bob", Admin)).await;
        assert_eq!(rotate(&bob).await, no, "of one namespace only");
        assert_eq!(scene.count("operator.refused").await, 5);
        scene.declare(registry::operators("all-of-bob", "", "bob", Admin)).await;
        assert_eq!(rotate(&bob).await, Ok(()));
    })
    .await;
}

#[tokio::test]
async fn pages_hold_every_key_once() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let mut ask = keys::Ask { page_size: 2, with_ended: true, ..keys::Ask::default() };
        let mut all = Vec::new();
        loop {
            let (rows, next) = keys::list(&scene.desk, &scene.operator(), ask.clone()).await.unwrap();
            assert!(rows.len() <= 2);
            all.extend(rows.into_iter().map(|row| row.kid));
            if next.is_empty() {
                break;
            }
            ask.page_token = next;
        }
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!((all.len(), count), (6, 6));
        let other = keys::Ask { purpose: Some(TOKENS), ..ask };
        assert_eq!(reason(keys::list(&scene.desk, &scene.operator(), other).await), "PAGE_TOKEN_INVALID");
    })
    .await;
}

/// Every journey of keys, once.
pub(super) async fn through_all(scene: &Scene) {
    scene.prepare(WORKLOADS).await.unwrap();
    let old = scene.rotate(WORKLOADS, true).await.unwrap().replaced.remove(0).kid;
    scene.taint(&old).await.unwrap();
    let nobody = scene.stranger();
    assert!(!keys::should_renew(scene.desk.as_ref(), &nobody).await);
    scene.retire(&old, true).await.unwrap();
    scene.replace(TOKENS).await.unwrap();
    scene.keys_in(TOKENS, State::Revoked).await;
}

#[tokio::test]
async fn every_change_of_keys_survives_both_faults() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.turn().await;
        let faults = scene.desk.db.faults();
        for (fault, is_done) in [(NotPersisted, false), (PersistedButReplyLost, true)] {
            let key = scene.token_key();
            faults.plan("rotate_key", fault);
            assert_eq!(reason(scene.rotate(TOKENS, true).await), "DATABASE_UNAVAILABLE");
            keyring::look(&scene.desk).await;
            assert_eq!(scene.token_key() != key, is_done, "rotate {fault:?}");
            scene.turn().await;
        }
        for (fault, is_done) in [(NotPersisted, false), (PersistedButReplyLost, true)] {
            let key = scene.token_key();
            faults.plan("retire_key", fault);
            assert_eq!(reason(scene.retire(key.kid().as_str(), true).await), "DATABASE_UNAVAILABLE");
            keyring::look(&scene.desk).await;
            assert_eq!(scene.token_key() != key, is_done, "retire {fault:?}");
            scene.turn().await;
        }
        for (fault, is_done) in [(NotPersisted, false), (PersistedButReplyLost, true)] {
            let key = scene.token_key();
            faults.plan("replace_keys", fault);
            assert_eq!(reason(scene.replace(TOKENS).await), "DATABASE_UNAVAILABLE");
            keyring::look(&scene.desk).await;
            assert_eq!(scene.token_key() != key, is_done, "replace {fault:?}");
            // Whichever signs, its private half is there.
            scene.desk.keys.sign(TOKENS, &scene.token_key().kid(), b"x").await.unwrap();
            scene.turn().await;
        }
        for (fault, prepared) in [(NotPersisted, 0), (PersistedButReplyLost, 1)] {
            faults.plan("prepare_key", fault);
            assert_eq!(reason(scene.prepare(WORKLOADS).await), "DATABASE_UNAVAILABLE");
            keyring::look(&scene.desk).await;
            assert_eq!(scene.keys_in(WORKLOADS, State::Prepared).await.len(), prepared, "prepare {fault:?}");
        }
        let old = scene.rotate(WORKLOADS, true).await.unwrap().replaced.remove(0).kid;
        for (fault, tainted) in [(NotPersisted, 0), (PersistedButReplyLost, 1)] {
            faults.plan("taint_key", fault);
            assert_eq!(reason(scene.taint(&old).await), "DATABASE_UNAVAILABLE");
            keyring::look(&scene.desk).await;
            assert_eq!(scene.keys_in(WORKLOADS, State::Tainted).await.len(), tainted, "taint {fault:?}");
        }
        // The clock's turn, that the registry knows, and that a private half is gone: each is done again until it is done.
        scene.pass(30 * DAY).await;
        for fault in [NotPersisted, PersistedButReplyLost] {
            faults.plan("turn_keys", fault);
            keyring::look(&scene.desk).await;
        }
        scene.turn().await;
        assert_eq!(scene.keys_in(TOKENS, State::Active).await.len(), 1);
        assert_eq!(scene.keys_in(TOKENS, State::Prepared).await.len(), 1);
        for fault in [NotPersisted, PersistedButReplyLost] {
            scene.rotate(TOKENS, true).await.unwrap_or_else(|e| panic!("{e}"));
            faults.plan("key_published", fault);
            assert!(!publish::round(&scene.desk).await);
            scene.turn().await;
        }
        let old = scene.one_in(WORKLOADS, State::Active).await;
        scene.prepare(WORKLOADS).await.unwrap();
        let last = old;
        let old = scene.rotate(WORKLOADS, true).await.unwrap().key.kid;
        for fault in [NotPersisted, PersistedButReplyLost] {
            faults.plan("key_destroyed", fault);
            scene.retire(&last, true).await.unwrap();
            keyring::look(&scene.desk).await;
        }
        assert!(!scene.has_file(WORKLOADS, &last) && scene.has_file(WORKLOADS, &old));
        let rest = files(scene.dir.path()).rewrap().unwrap();
        assert_eq!(rest.changed, 0);
    })
    .await;
}
