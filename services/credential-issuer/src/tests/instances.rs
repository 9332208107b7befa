//! Running copies of agents: begun by enrolment, kept by renewals, ended alone or with everything.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use legate_clock::{Clock as _, Timestamp};
use legate_db::testing::on_each;
use legate_ids::{InstanceId, SpiffeId};
use legate_rpc::Fault;
use legate_wire::registry::OperatorRole::{Admin, Viewer};
use legate_wire::registry::RevocationReason;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::Expr;

use super::registry::{self, NAMESPACE, agent_id};
use super::scene::{Scene, new_key, reason, request, wish};
use crate::domain::instance::State;
use crate::error::of_tx;
use crate::flow::{Call, instances, list, publish, revoke_instance};
use crate::schema::Migrator;
use crate::store::{credential, instance};

type Seen = (instance::Model, State);

async fn listed(scene: &Scene, call: &Call, ask: instances::Ask) -> Vec<Seen> {
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let ask = instances::Ask { page_token: token, page_size: 2, ..ask.clone() };
        let (page, next) = instances::list(&scene.desk, call, ask).await.unwrap();
        assert!(page.len() <= 2);
        all.extend(page);
        token = next;
        if token.is_empty() {
            return all;
        }
    }
}

async fn get(scene: &Scene, id: &str) -> Seen {
    instances::get(&scene.desk, &scene.operator(), id.parse().unwrap()).await.unwrap()
}

async fn revoke(scene: &Scene, call: &Call, id: &str, why: RevocationReason) -> Result<(Seen, u64), Fault> {
    let id: InstanceId = id.parse().unwrap();
    let revoked = revoke_instance::revoke_instance(&scene.desk, call, id, why, "a test".into());
    scene.desk.for_operator(call, revoked).await
}

/// The credentials of an instance that still work.
async fn good(scene: &Scene, id: &str) -> usize {
    let (id, now) = (id.to_owned(), scene.clock.now());
    let read = scene.desk.db.read("test", move |tx| {
        let id = id.clone();
        Box::pin(async move { credential::of_instance(tx, &id, now).await })
    });
    let rows = read.await.map_err(of_tx).unwrap();
    rows.iter().filter(|row| row.state != credential::REVOKED).count()
}

#[tokio::test]
async fn each_enrolment_is_an_instance_and_renewals_keep_it() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (first, _) = scene.enrolled(1).await;
        // Ids of one millisecond have no order.
        scene.pass(Duration::from_millis(5)).await;
        let (other, _) = scene.enrolled(1).await;
        assert_ne!(first.instance_id, other.instance_id);
        scene.pass(Duration::from_secs(1_800)).await;
        let next = scene.renew(&first, &request(&new_key())).await.unwrap();
        assert_eq!((&next.instance_id, &next.spiffe_id), (&first.instance_id, &first.spiffe_id));
        let (row, state) = get(&scene, &first.instance_id).await;
        assert_eq!((state, row.agent_id.as_str()), (State::Live, agent_id(1).as_str()));
        assert_eq!((row.started_at, row.renewed_at, row.ends_at), (first.issued_at, next.issued_at, next.not_after));
        assert_eq!((row.method, &row.proof, &row.spiffe_id), (instance::BY_TOKEN, &first.origin, &first.spiffe_id));
        // A token names it, and so do the events.
        let issued = scene.issue(&next, wish()).await.unwrap();
        let claims = issued.token.split('.').nth(1).unwrap();
        let claims = <base64ct::Base64UrlUnpadded as base64ct::Encoding>::decode_vec(claims).unwrap();
        assert!(String::from_utf8(claims).unwrap().contains(&first.instance_id));
        let events = scene.events().await;
        let told = events.iter().filter(|event| event.instance_id == first.instance_id);
        let told: Vec<_> = told.map(|event| event.r#type.as_str()).collect();
        assert_eq!(told, ["credential.issued", "credential.issued", "token.issued"]);
        // Lists: the newest first, by agent, by namespace, and the credentials of one.
        scene.enrolled(2).await;
        let ids = async |ask| -> Vec<String> {
            listed(&scene, &scene.operator(), ask).await.into_iter().map(|(row, _)| row.id).collect()
        };
        let of_agent = instances::Ask { agent_id: agent_id(1).to_string(), ..Default::default() };
        assert_eq!(ids(of_agent).await, [other.instance_id.clone(), first.instance_id.clone()]);
        assert_eq!(ids(instances::Ask { namespace: NAMESPACE.into(), ..Default::default() }).await.len(), 3);
        assert!(ids(instances::Ask { namespace: "sales".into(), ..Default::default() }).await.is_empty());
        let ask = list::Ask { instance_id: first.instance_id.clone(), ..Default::default() };
        let (credentials, _) = list::list(&scene.desk, &scene.operator(), ask).await.unwrap();
        assert_eq!(credentials.iter().map(|row| &row.id).collect::<Vec<_>>(), [&next.id, &first.id]);
    })
    .await;
}

#[tokio::test]
async fn a_revoked_instance_is_dead_and_the_others_live() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (first, key) = scene.enrolled(1).await;
        let second = scene.renew(&first, &request(&new_key())).await.unwrap();
        let (other, _) = scene.enrolled(1).await;
        let alice = scene.operator();
        let why = RevocationReason::PrivilegeWithdrawn;
        let ((row, state), revision) = revoke(&scene, &alice, &first.instance_id, why).await.unwrap();
        assert_eq!((state, revision, row.revocation_reason), (State::Revoked, 701, Some(why.into())));
        for dead in [&first, &second] {
            assert_eq!(reason(scene.issue(dead, wish()).await), "CREDENTIAL_NOT_GOOD");
            assert_eq!(reason(scene.renew(dead, &request(&key)).await), "CREDENTIAL_NOT_GOOD");
        }
        scene.issue(&other, wish()).await.unwrap();
        let mut both = vec![first.id.clone(), second.id.clone()];
        both.sort();
        assert_eq!(scene.told_revocations(), both);
        assert!(publish::round(&scene.desk).await);
        assert_eq!(scene.told_revocations(), both, "confirmed once, told once");

        // To repeat it changes nothing: the first reason stays.
        let ((again, _), _) = revoke(&scene, &alice, &first.instance_id, RevocationReason::Superseded).await.unwrap();
        assert_eq!(again, row);
        assert_eq!((scene.count("instance.revoked").await, scene.count("credential.revoked").await), (1, 2));
        let nobody = InstanceId::from_parts(9, [9; 10]).to_string();
        assert_eq!(reason(revoke(&scene, &alice, &nobody, why).await), "INSTANCE_NOT_FOUND");
        // Its key is good for another copy of the same agent, unless it is compromised.
        let token = scene.token_for(1).await;
        let third = scene.enrol(&token, &request(&key)).await.unwrap();
        assert_ne!(third.instance_id, first.instance_id);
        let fourth = scene.renew(&other, &request(&key)).await.unwrap();
        revoke(&scene, &alice, &third.instance_id, RevocationReason::KeyCompromise).await.unwrap();
        assert_eq!(reason(scene.issue(&fourth, wish()).await), "CREDENTIAL_NOT_GOOD");
        scene.issue(&other, wish()).await.unwrap();
        assert_eq!(reason(scene.renew(&other, &request(&key)).await), "KEY_COMPROMISED");
    })
    .await;
}

#[tokio::test]
async fn a_deaf_registry_is_told_of_all_of_it_later() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (first, _) = scene.enrolled(1).await;
        let second = scene.renew(&first, &request(&new_key())).await.unwrap();
        scene.heard.is_deaf.store(true, Ordering::SeqCst);
        let alice = scene.operator();
        let late = revoke(&scene, &alice, &first.instance_id, RevocationReason::Superseded).await;
        assert_eq!(reason(late), "REVOCATION_PENDING");
        assert_eq!(reason(scene.issue(&second, wish()).await), "CREDENTIAL_NOT_GOOD");
        scene.heard.is_deaf.store(false, Ordering::SeqCst);
        // The repetition tells what is left, and answers with its revision.
        let (_, revision) = revoke(&scene, &alice, &first.instance_id, RevocationReason::Superseded).await.unwrap();
        assert_eq!((revision, scene.told_revocations().len()), (701, 2));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_renewal_that_races_a_revocation_leaves_nothing() {
    on_each::<Migrator>(async |fixture| {
        let scene = Arc::new(Scene::on(&fixture).await);
        for _ in 0..12 {
            let (row, _) = scene.enrolled(1).await;
            let renewals: Vec<_> = (0..3)
                .map(|_| {
                    let (scene, row) = (Arc::clone(&scene), row.clone());
                    tokio::spawn(async move { scene.renew(&row, &request(&new_key())).await.is_ok() })
                })
                .collect();
            let (id, alice) = (row.instance_id.clone(), scene.operator());
            revoke(&scene, &alice, &id, RevocationReason::Superseded).await.unwrap();
            for renewal in renewals {
                renewal.await.unwrap();
            }
            assert_eq!(good(&scene, &id).await, 0, "a renewal slipped past the revocation");
        }
    })
    .await;
}

#[tokio::test]
async fn an_agent_has_as_many_as_its_policy_says() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.declare(registry::room_for(2)).await;
        scene.declare(registry::class_under((300, 3_600), "strict")).await;
        let (first, _) = scene.enrolled(1).await;
        scene.enrolled(1).await;
        let (token, csr) = (scene.token_for(1).await, request(&new_key()));
        let full = scene.enrol(&token, &csr).await.unwrap_err();
        assert_eq!(full.reason(), "INSTANCES_FULL");
        assert!(full.to_string().contains("2 instances of the agent"), "{full}");
        assert_eq!(scene.count("enrolment.refused").await, 1);
        // The other agent has its own, renewals need no room, and what is revoked makes some: the token was not spent.
        scene.enrolled(2).await;
        scene.renew(&first, &request(&new_key())).await.unwrap();
        revoke(&scene, &scene.operator(), &first.instance_id, RevocationReason::Superseded).await.unwrap();
        scene.enrol(&token, &csr).await.unwrap();
        assert_eq!(reason(scene.enrol(&scene.token_for(1).await, &csr).await), "INSTANCES_FULL");
        // What was cut off does not count, though it has not ended.
        scene.pass(Duration::from_secs(10)).await;
        let cutoff = scene.clock.now();
        scene.suspend(1, 2).await;
        scene.resume(1, 3, cutoff).await;
        scene.pass(Duration::from_secs(10)).await;
        scene.enrolled(1).await;
        let (last, _) = scene.enrolled(1).await;
        assert_eq!(reason(scene.enrol(&scene.token_for(1).await, &csr).await), "INSTANCES_FULL");
        // Nor what ended, nor what has no certificate that was not revoked.
        scene.revoke(&last.id, RevocationReason::Superseded).await.unwrap();
        scene.enrolled(1).await;
        scene.pass(Duration::from_secs(3_700)).await;
        scene.enrolled(1).await;
        scene.enrolled(1).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_come_at_once_as_many_get_in_as_there_is_room() {
    on_each::<Migrator>(async |fixture| {
        let scene = Arc::new(Scene::on(&fixture).await);
        scene.declare(registry::room_for(3)).await;
        scene.declare(registry::class_under((300, 3_600), "strict")).await;
        let mut coming = Vec::new();
        for _ in 0..10 {
            let (scene, token) = (Arc::clone(&scene), scene.token_for(1).await);
            coming.push(tokio::spawn(async move { scene.enrol(&token, &request(&new_key())).await }));
        }
        let mut in_there = 0;
        for one in coming {
            match one.await.unwrap() {
                Ok(_) => in_there += 1,
                Err(fault) => assert_eq!(fault.reason(), "INSTANCES_FULL"),
            }
        }
        assert_eq!(in_there, 3);
    })
    .await;
}

#[tokio::test]
async fn each_state_is_told_and_asked_for() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (ended, _) = scene.enrolled(2).await;
        scene.pass(Duration::from_secs(3_000)).await;
        let (cut, _) = scene.enrolled(1).await;
        scene.pass(Duration::from_millis(5)).await;
        let (revoked, _) = scene.enrolled(2).await;
        let (bereft, _) = scene.enrolled(2).await;
        let (live, _) = scene.enrolled(2).await;
        scene.pass(Duration::from_secs(700)).await;
        let cutoff = scene.clock.now();
        scene.suspend(1, 2).await;
        assert_eq!(get(&scene, &cut.instance_id).await.1, State::CutOff, "while it is stopped");
        scene.resume(1, 3, cutoff).await;
        revoke(&scene, &scene.operator(), &revoked.instance_id, RevocationReason::Superseded).await.unwrap();
        scene.revoke(&bereft.id, RevocationReason::Superseded).await.unwrap();
        for (row, state) in [
            (&ended, State::Ended),
            (&cut, State::CutOff),
            (&revoked, State::Revoked),
            (&bereft, State::Revoked),
            (&live, State::Live),
        ] {
            assert_eq!(get(&scene, &row.instance_id).await.1, state);
            let ask = instances::Ask { states: vec![state], ..Default::default() };
            let found = listed(&scene, &scene.operator(), ask).await;
            assert!(found.iter().any(|(found, _)| found.id == row.instance_id), "{state:?}");
            assert!(found.iter().all(|(_, found)| *found == state));
        }
        let two = instances::Ask { states: vec![State::Live, State::CutOff], ..Default::default() };
        let two: Vec<_> = listed(&scene, &scene.operator(), two).await.into_iter().map(|(row, _)| row.id).collect();
        assert_eq!(two, [live.instance_id, cut.instance_id]);
        let living = scene.clock.now();
        let counted = scene.desk.db.read("test", move |tx| Box::pin(instance::living(tx, living)));
        assert_eq!(counted.await.map_err(of_tx).unwrap(), 2, "what holds a certificate");
    })
    .await;
}

#[tokio::test]
async fn whoever_may_not_see_an_instance_is_told_that_there_is_none() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (row, _) = scene.enrolled(1).await;
        let bob = scene.operator_called("bob", None);
        scene.declare(registry::operators("of-bob", "sales", "bob", Admin)).await;
        let said = |fault: Fault, id: &str| fault.to_string().replace(id, "THIS");
        let nobody = InstanceId::from_parts(9, [9; 10]);
        let own: InstanceId = row.instance_id.parse().unwrap();
        let foreign = instances::get(&scene.desk, &bob, own.clone()).await.unwrap_err();
        let missing = instances::get(&scene.desk, &bob, nobody.clone()).await.unwrap_err();
        assert_eq!(said(foreign, own.as_str()), said(missing, nobody.as_str()));
        let why = RevocationReason::Superseded;
        let foreign = revoke(&scene, &bob, own.as_str(), why).await.unwrap_err();
        let missing = revoke(&scene, &bob, nobody.as_str(), why).await.unwrap_err();
        assert_eq!(said(foreign, own.as_str()), said(missing, nobody.as_str()));
        assert!(listed(&scene, &bob, instances::Ask::default()).await.is_empty());
        // Who may read it and not stop anything is told so.
        scene.declare(registry::operators("of-bob", NAMESPACE, "bob", Viewer)).await;
        assert_eq!(listed(&scene, &bob, instances::Ask::default()).await.len(), 1);
        assert_eq!(reason(revoke(&scene, &bob, own.as_str(), why).await), "OPERATOR_NOT_PERMITTED");
        assert_eq!(get(&scene, own.as_str()).await.1, State::Live);
        // Another's page token, and what is no id.
        let page = instances::Ask { page_size: 1, ..Default::default() };
        scene.enrolled(1).await;
        let (_, token) = instances::list(&scene.desk, &scene.operator(), page.clone()).await.unwrap();
        let stolen = instances::Ask { page_token: token, ..page };
        assert_eq!(reason(instances::list(&scene.desk, &bob, stolen).await), "PAGE_TOKEN_INVALID");
        let bad = instances::Ask { agent_id: "agt_x' OR 1".into(), ..Default::default() };
        assert_eq!(reason(instances::list(&scene.desk, &bob, bad).await), "INVALID_ARGUMENT");
        assert!(Timestamp::from_micros(row.not_after) > scene.clock.now());
    })
    .await;
}

#[tokio::test]
async fn a_lost_answer_gives_the_same_instance_again() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (token, csr) = (scene.token_for(1).await, request(&new_key()));
        let first = scene.enrol(&token, &csr).await.unwrap();
        scene.pass(Duration::from_secs(3)).await;
        let again = scene.enrol(&token, &csr).await.unwrap();
        assert_eq!((again.instance_id, again.certificate), (first.instance_id.clone(), first.certificate));
        let all = listed(&scene, &scene.operator(), instances::Ask::default()).await;
        assert_eq!(all.len(), 1);
        revoke(&scene, &scene.operator(), &first.instance_id, RevocationReason::Superseded).await.unwrap();
        assert_eq!(reason(scene.enrol(&token, &csr).await), "CREDENTIAL_NOT_GOOD");
    })
    .await;
}

#[tokio::test]
async fn a_certificate_of_before_names_no_instance_and_is_renewed_as_it_is() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (mut row, _) = scene.enrolled(1).await;
        let own = SpiffeId::parse(&row.spiffe_id).unwrap().without_instance();
        let (id, text) = (row.id.clone(), own.to_string());
        let before = scene.desk.db.tx("test", move |tx| {
            let (id, text) = (id.clone(), text.clone());
            Box::pin(async move {
                let update = credential::Entity::update_many()
                    .col_expr(credential::Column::SpiffeId, Expr::value(text))
                    .col_expr(credential::Column::InstanceId, Expr::value(""))
                    .filter(credential::Column::Id.eq(id));
                update.exec(tx).await?;
                instance::Entity::delete_many().exec(tx).await?;
                Ok::<_, legate_db::TxError<Fault>>(())
            })
        });
        before.await.map_err(of_tx).unwrap();
        row.spiffe_id = own.to_string();
        let next = scene.renew(&row, &request(&new_key())).await.unwrap();
        assert_eq!((next.spiffe_id.as_str(), next.instance_id.as_str()), (own.as_str(), ""));
        scene.issue(&next, wish()).await.unwrap();
        assert!(listed(&scene, &scene.operator(), instances::Ask::default()).await.is_empty());
    })
    .await;
}
