//! Everything that was issued to many is taken back: one write, by who may, and what leaves takes it along.

use std::time::Duration;

use legate_clock::{Clock as _, Timestamp};
use legate_db::testing::on_each;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::revoke_issued_request::Level;
use legate_wire::registry::{AgentSpec, RevocationReason, RevokeIssuedRequest, RevokeIssuedResponse};

use super::scene::*;
use super::spawning::{calling_since, wish};
use crate::flow::{revoke_issued, spawn};
use crate::schema::Migrator;

fn order(namespace: &str, level: Level) -> RevokeIssuedRequest {
    RevokeIssuedRequest {
        namespace: namespace.into(),
        level: Some(level),
        reason: RevocationReason::KeyCompromise.into(),
        comment: "a node was seized".into(),
        request_id: String::new(),
    }
}

async fn ordered_by(scene: &Scene, who: &str, ask: RevokeIssuedRequest) -> Result<RevokeIssuedResponse, Fault> {
    let call = scene.call(who, &ask.comment, &ask, &ask.request_id);
    revoke_issued::revoke_issued(&scene.desk, call, ask).await
}

pub(super) async fn ordered(scene: &Scene, namespace: &str, level: Level) -> Result<RevokeIssuedResponse, Fault> {
    ordered_by(scene, OPERATOR, order(namespace, level)).await
}

fn every_level() -> [Level; 4] {
    [
        Level::AgentClass("worker".into()),
        Level::WholeNamespace(true),
        Level::Owner("user:ada@example.com".into()),
        Level::Subject("user:grace@example.com".into()),
    ]
}

#[tokio::test]
async fn an_order_is_one_write_that_only_rises_and_says_who_when_and_why() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        let bot = scene.agent("invoice-bot").await;
        for (n, level) in every_level().into_iter().enumerate() {
            let made = ordered(&scene, "payments", level.clone()).await.unwrap();
            assert_eq!(made.revision, 2 + 2 * n as u64);
            let now = scene.clock.now();
            assert_eq!(made.authorization_cutoff, Some(now.plus(Duration::from_secs(5)).into()));
            let revocation = made.revocation.unwrap();
            let (metadata, spec) = (revocation.metadata.unwrap(), revocation.spec.unwrap());
            assert_eq!((metadata.updated_by.as_str(), metadata.reason.as_str()), (OPERATOR, "a node was seized"));
            assert_eq!(spec.reason(), RevocationReason::KeyCompromise);
            assert_eq!(spec.cut_off.unwrap().authorization_cutoff, made.authorization_cutoff);
            // Once more, later: the same object, with a later moment.
            scene.clock.advance(Duration::from_secs(60));
            let again = ordered(&scene, "payments", level).await.unwrap();
            assert_eq!(again.authorization_cutoff, Some(now.plus(Duration::from_secs(65)).into()));
            let again = again.revocation.unwrap().metadata.unwrap();
            assert_eq!((again.name, again.id, again.version), (metadata.name, metadata.id, 2));
        }
        assert_eq!(scene.agent("invoice-bot").await, bot, "no agent is written");
        let events = scene.events().await;
        let of_orders: Vec<_> = events.iter().filter(|e| e.r#type == "revocation.cut_off").collect();
        assert_eq!(of_orders.len(), 8);
        let said = |n: usize, name: &str| of_orders[n].details[name].clone();
        assert_eq!([said(0, "cut_off"), said(2, "cut_off")], ["class worker", "namespace"]);
        assert_eq!(
            [said(4, "cut_off"), said(6, "cut_off")],
            ["owner user:ada@example.com", "subject user:grace@example.com"]
        );
        assert_eq!((said(0, "revocation_reason"), said(0, "where")), ("KEY_COMPROMISE".into(), "in payments".into()));
        assert_eq!((of_orders[0].namespace.as_str(), of_orders[0].reason.as_str()), ("payments", "a node was seized"));
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_carried_out_is_refused_and_says_why() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        let owner = |text: &str| Level::Owner(text.into());
        let person = |text: &str| Level::Subject(text.into());
        for (namespace, level, word) in [
            ("payments", None, "INVALID_ARGUMENT"),
            ("", Some(Level::AgentClass("worker".into())), "INVALID_ARGUMENT"),
            ("", Some(Level::WholeNamespace(true)), "INVALID_ARGUMENT"),
            ("payments", Some(Level::WholeNamespace(false)), "INVALID_ARGUMENT"),
            ("Pay ments", Some(owner("user:ada")), "INVALID_ARGUMENT"),
            ("payments", Some(owner("ada")), "INVALID_ARGUMENT"),
            ("payments", Some(owner("user:a\u{202e}b")), "INVALID_ARGUMENT"),
            ("payments", Some(person("group:all")), "INVALID_ARGUMENT"),
            ("payments", Some(person("agent:invoice-bot")), "INVALID_ARGUMENT"),
            ("payments", Some(Level::AgentClass("none".into())), "OBJECT_NOT_FOUND"),
            ("elsewhere", Some(owner("user:ada")), "OBJECT_NOT_FOUND"),
        ] {
            let ask = RevokeIssuedRequest { level, ..order(namespace, Level::WholeNamespace(true)) };
            assert_eq!(reason(&ordered_by(&scene, OPERATOR, ask.clone()).await.unwrap_err()), word, "{ask:?}");
        }
        let odd = RevokeIssuedRequest { reason: 2, ..order("payments", owner("user:ada")) };
        assert_eq!(reason(&ordered_by(&scene, OPERATOR, odd).await.unwrap_err()), "INVALID_ARGUMENT");
        let silent = RevokeIssuedRequest { comment: String::new(), ..order("payments", owner("user:ada")) };
        assert_eq!(reason(&ordered_by(&scene, OPERATOR, silent).await.unwrap_err()), "INVALID_ARGUMENT");
        // Whoever has no role stops nobody.
        let nobody = "spiffe://example.org/legate/operator/mallory";
        for namespace in ["payments", ""] {
            let refused = ordered_by(&scene, nobody, order(namespace, owner("user:ada"))).await.unwrap_err();
            assert_eq!(reason(&refused), "OPERATOR_NOT_PERMITTED");
        }
        assert_eq!(scene.apply(payments()).await.unwrap().revision, 1, "nothing was written");
    })
    .await;
}

#[tokio::test]
async fn whoever_leaves_a_class_or_an_owner_takes_the_cut_off_along() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        scene.apply(vec![class("other", false)]).await.unwrap();
        let spec = |class: &str, owner: &str| AgentSpec { owners: vec![owner.into()], ..agent_spec(class) };
        let moved = async |class: &str, owner: &str| {
            scene.apply(vec![agent_with("invoice-bot", spec(class, owner))]).await.unwrap();
            scene.agent("invoice-bot").await.status.unwrap().authorization_cutoff
        };
        assert_eq!(moved("worker", "user:x").await, None);
        let of_owner = ordered(&scene, "", Level::Owner("user:x".into())).await.unwrap().authorization_cutoff;
        assert_eq!(moved("worker", "user:y").await, of_owner);
        scene.clock.advance(Duration::from_secs(60));
        let of_class = ordered(&scene, "payments", Level::AgentClass("worker".into())).await.unwrap();
        assert_eq!(moved("worker", "user:z").await, of_owner, "an owner without a cut-off leaves no trace");
        assert_eq!(moved("other", "user:z").await, of_class.authorization_cutoff);
        // It does not sink when it comes back.
        assert_eq!(moved("worker", "user:x").await, of_class.authorization_cutoff);
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_calls_the_registry_is_cut_off_at_once() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        for one in &mut all {
            if let Some(Object::Namespace(namespace)) = &mut one.object {
                namespace.spec.get_or_insert_default().max_spawn_depth = 1;
            }
        }
        scene.apply(all).await.unwrap();
        let bot = scene.agent("invoice-bot").await;
        let spawned = async |name: &str, issued: Timestamp| {
            let ask = wish(name);
            let call = scene.call("spiffe://example.org/the-agent", &ask.reason, &ask, "");
            let made = spawn::spawn(&scene.desk, call, calling_since(&bot, issued), ask).await;
            made.map_err(|fault| fault.reason())
        };
        let everywhere = ("", Level::Owner("user:ada@example.com".into()));
        let levels = every_level().into_iter().map(|level| ("payments", level)).chain([everywhere]);
        for (n, (namespace, level)) in levels.enumerate() {
            let issued = scene.clock.now();
            spawned(&format!("made-{n}"), issued).await.unwrap();
            ordered(&scene, namespace, level.clone()).await.unwrap();
            let is_person = matches!(level, Level::Subject(_));
            let expected = (!is_person).then_some("CALLER_CUT_OFF");
            assert_eq!(spawned(&format!("never-{n}"), issued).await.err(), expected, "{level:?}");
            // What is made within the time that it takes for all to hear is dead as well.
            scene.clock.advance(Duration::from_secs(5));
            assert_eq!(spawned(&format!("nor-{n}"), scene.clock.now()).await.err(), expected, "{level:?}");
            scene.clock.advance(Duration::from_secs(60));
            let seen = scene.agent("invoice-bot").await;
            assert_eq!(seen.status.unwrap().authorization_cutoff, None, "it is stopped by no state of its own");
        }
    })
    .await;
}
