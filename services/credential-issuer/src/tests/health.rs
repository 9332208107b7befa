//! Rotation of a fleet: each credential judged by its policy, counted once, and what is dead told while it is shown.

use std::collections::BTreeMap;
use std::time::Duration;

use legate_clock::Clock as _;
use legate_db::testing::on_each;
use legate_wire::credential::ListCredentialHealthRequest as Request;
use legate_wire::registry::{OperatorRole, RevocationReason, TokenBinding};

use super::clients::ALL;
use super::registry::{self, NAMESPACE, OWNER};
use super::scene::*;
use crate::convert;
use crate::domain::health::{Health, Stale};
use crate::flow::health::{Ask, Page, count, health};
use crate::schema::Migrator;
use crate::store::credential::{CERTIFICATE, SECRET};

fn ask(change: impl FnOnce(&mut Request)) -> Ask {
    let mut request = Request::default();
    change(&mut request);
    convert::health(request).unwrap()
}

fn other_agent() -> String {
    legate_ids::AgentId::from_parts(9, [9; 10]).to_string()
}

impl Scene {
    async fn health(&self, ask: Ask) -> Page {
        health(&self.desk, &self.operator(), ask).await.unwrap()
    }

    async fn states(&self) -> BTreeMap<String, Health> {
        let page = self.health(ask(|_| ())).await;
        page.judged.into_iter().map(|one| (one.row.id, one.health)).collect()
    }
}

#[tokio::test]
async fn a_certificate_comes_due_and_its_successor_takes_its_place() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (row, key) = scene.enrolled(1).await;
        // An hour, of which the last 20 minutes are the time to rotate it.
        for (minutes, expected) in [(0, Health::Ok), (39, Health::Ok), (2, Health::Due), (10, Health::Overdue)] {
            scene.pass(Duration::from_secs(60 * minutes)).await;
            assert_eq!(scene.states().await[&row.id], expected, "{minutes}");
            let stale = scene.health(ask(|ask| ask.stale_only = true)).await.judged;
            assert!(stale.is_empty(), "a certificate ends by itself");
        }
        let next = scene.renew(&row, &request(&key)).await.unwrap();
        let states = scene.states().await;
        assert_eq!((states[&row.id], states[&next.id]), (Health::Ok, Health::Ok));
        // Without one it would expire; with one it ends in silence.
        scene.pass(Duration::from_secs(60 * 15)).await;
        assert_eq!(scene.states().await.keys().collect::<Vec<_>>(), [&next.id]);
    })
    .await;
}

#[tokio::test]
async fn uses_are_noted_seldom_and_what_is_dead_is_told_while_it_is_shown() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.methods(ALL, TokenBinding::Optional).await;
        let (secret, first) = scene.secret(1, false).await.unwrap();
        let used = async |id: &str| {
            let page = scene.health(ask(|_| ())).await;
            page.judged.into_iter().find(|one| one.row.id == *id).and_then(|one| one.row.last_used_at)
        };
        let token = async |secret: &str| {
            let client = scene.show_secret(1, secret).await.unwrap();
            scene.token(client, legate_token::Confirmation::Bearer).await.unwrap();
        };
        assert_eq!(used(&first.row.id).await, None);
        token(&secret).await;
        let noted = used(&first.row.id).await;
        assert!(noted.is_some());
        scene.pass(Duration::from_secs(14 * 60)).await;
        token(&secret).await;
        assert_eq!(used(&first.row.id).await, noted, "no more than once in 15 minutes");
        scene.pass(Duration::from_secs(60)).await;
        token(&secret).await;
        assert!(used(&first.row.id).await > noted);

        // Replaced, it works for an hour, and is told after that when it is shown.
        let (second, made) = scene.secret(1, true).await.unwrap();
        scene.pass(Duration::from_secs(3_600)).await;
        let states = scene.states().await;
        assert_eq!(states.keys().collect::<Vec<_>>(), [&made.row.id]);
        assert_eq!(reason(scene.show_secret(1, &secret).await), "CLIENT_REFUSED");
        assert_eq!(scene.states().await[&first.row.id], Health::RetiredInUse);
        scene.revoke(&made.row.id, RevocationReason::Superseded).await.unwrap();
        assert_eq!(reason(scene.show_secret(1, &second).await), "CLIENT_REFUSED");
        assert_eq!(scene.states().await[&made.row.id], Health::RetiredInUse);
        scene.pass(Duration::from_secs(7 * 24 * 3_600)).await;
        assert!(scene.states().await.is_empty(), "for a week");

        let (third, made) = scene.secret(2, false).await.unwrap();
        let stale = async |id: String| {
            let own = |ask: &mut Request| (ask.agent_id, ask.stale_only) = (id, true);
            scene.health(ask(own)).await.judged.into_iter().filter_map(|one| one.stale).map(|(why, _)| why).collect()
        };
        let of_third = async || -> Vec<Stale> { stale(made.row.agent_id.clone()).await };
        assert_eq!(of_third().await, []);
        scene.pass(Duration::from_secs(80_000)).await;
        assert_eq!(of_third().await, [Stale::PastRotation]);
        let others: Vec<Stale> = stale(other_agent()).await;
        assert_eq!(others, []);
        scene.pass(Duration::from_secs(6_400)).await;
        assert_eq!(of_third().await, []);
        assert_eq!(reason(scene.show_secret(2, &third).await), "CLIENT_REFUSED");
        assert_eq!(scene.states().await[&made.row.id], Health::ExpiredInUse);
        scene.pass(Duration::from_secs(30 * 24 * 3_600)).await;
        assert!(scene.states().await.is_empty());
        assert_eq!(reason(scene.show_secret(2, &third).await), "CLIENT_REFUSED");
        assert_eq!(scene.states().await[&made.row.id], Health::ExpiredInUse, "however long ago it ended");
    })
    .await;
}

#[tokio::test]
async fn pages_and_filters_leave_nobody_out_and_count_everybody_once() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.methods(ALL, TokenBinding::Required).await;
        for n in [1, 1, 1, 2, 2] {
            scene.enrolled(n).await;
            scene.pass(Duration::from_secs(1)).await;
        }
        scene.secret(1, false).await.unwrap();
        let whole = BTreeMap::from([((Health::Ok, CERTIFICATE), 5), ((Health::Ok, SECRET), 1)]);
        assert_eq!(count(&scene.desk).await.unwrap().0, whole);
        for size in [1, 2, 4, 100] {
            let (mut counts, mut ids, mut token) = (BTreeMap::new(), Vec::new(), String::new());
            loop {
                let page_token = std::mem::take(&mut token);
                let page = scene.health(ask(|ask| (ask.page_size, ask.page_token) = (size, page_token))).await;
                page.counts.into_iter().for_each(|(key, n)| *counts.entry(key).or_default() += n);
                ids.extend(page.judged.into_iter().map(|one| one.row.id));
                token = page.next;
                if token.is_empty() {
                    break;
                }
            }
            assert_eq!(counts, whole, "{size}");
            ids.dedup();
            assert_eq!(ids.len(), 6, "{size}");
        }
        let of_class = |class: &'static str| {
            move |ask: &mut Request| {
                (ask.namespace, ask.agent_class) = (NAMESPACE.into(), class.into());
            }
        };
        let of = |namespace: &'static str, owner: &'static str, states: Vec<i32>| {
            move |ask: &mut Request| {
                (ask.namespace, ask.owner, ask.states) = (namespace.into(), owner.into(), states.clone());
            }
        };
        assert_eq!(scene.health(ask(of_class("bots"))).await.judged.len(), 6);
        assert_eq!(scene.health(ask(of_class("others"))).await.judged.len(), 0);
        for (namespace, owner, states, expected) in [
            (NAMESPACE, "", vec![], 6),
            ("", OWNER, vec![], 6),
            ("", "user:eve", vec![], 0),
            ("sales", "", vec![], 0),
            ("", "", vec![2, 3, 4, 5, 6], 0),
            ("", "", vec![1], 6),
        ] {
            let page = scene.health(ask(of(namespace, owner, states))).await;
            assert_eq!(page.judged.len(), expected, "{namespace} {owner}");
        }
        // What is asked for amiss.
        let changes: [fn(&mut Request); 8] = [
            |ask| ask.agent_class = "bots".into(),
            |ask| (ask.namespace, ask.agent_class, ask.owner) = ("a".into(), "b".into(), OWNER.into()),
            |ask| ask.owner = "eve".into(),
            |ask| ask.states = vec![0],
            |ask| ask.states = vec![7],
            |ask| ask.agent_id = "agent-1".into(),
            |ask| (ask.agent_id, ask.owner) = (other_agent(), OWNER.into()),
            |ask| ask.unused_after = Some(prost_types::Duration { seconds: 86_400, nanos: 0 }),
        ];
        for change in changes {
            let mut request = Request::default();
            change(&mut request);
            assert_eq!(reason(convert::health(request)), "INVALID_ARGUMENT");
        }
        let odd = ask(|ask| ask.page_token = "x".into());
        assert!(health(&scene.desk, &scene.operator(), odd).await.is_err());
        // Of a namespace in which he has no role an operator sees nothing.
        scene.declare(registry::operators("elsewhere", "sales", "eve", OperatorRole::Admin)).await;
        let eve = scene.operator_called("eve", None);
        let page = health(&scene.desk, &eve, ask(|_| ())).await.unwrap();
        assert!(page.judged.is_empty() && page.counts.is_empty());
    })
    .await;
}

#[tokio::test]
async fn whoever_was_cut_off_holds_nothing_that_could_be_rotated() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.enrolled(1).await;
        assert_eq!(scene.states().await.len(), 1);
        let level = legate_wire::registry::cut_off::Level::AgentClass("bots".into());
        scene.declare(registry::cut_off(NAMESPACE, level, scene.clock.now())).await;
        assert!(scene.states().await.is_empty());
    })
    .await;
}
