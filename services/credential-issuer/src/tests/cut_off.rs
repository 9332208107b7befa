//! Everything that was issued to a class, a namespace or an owner is taken back: nothing of before works, and a fresh start does.

use std::collections::BTreeMap;
use std::time::Duration;

use legate_clock::Clock as _;
use legate_db::testing::on_each;
use legate_ids::Name;
use legate_wire::registry::TokenBinding;
use legate_wire::registry::cut_off::Level;

use super::clients::ALL;
use super::registry::{self, NAMESPACE, OWNER, agent_id};
use super::scene::*;
use crate::domain::holder::{self, Named};
use crate::domain::whom::{self, Whom};
use crate::flow::authenticate::Asker;
use crate::flow::{live, preview_revocation};
use crate::schema::Migrator;
use crate::store::credential::{CERTIFICATE, SECRET};

fn levels() -> [(&'static str, Level); 4] {
    let owner = || Level::Owner(OWNER.into());
    [
        (NAMESPACE, Level::AgentClass("bots".into())),
        (NAMESPACE, Level::WholeNamespace(true)),
        (NAMESPACE, owner()),
        ("", owner()),
    ]
}

#[tokio::test]
async fn whoever_a_cut_off_names_has_nothing_of_before_and_begins_anew() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.declare(registry::signing_key(&scene.token_key(), &scene.desk.issuer)).await;
        scene.methods(ALL, TokenBinding::Required).await;
        for (namespace, level) in levels() {
            let (row, key) = scene.enrolled(1).await;
            let token = scene.issue(&row, wish()).await.unwrap().token;
            let (secret, _) = scene.secret(1, true).await.unwrap();
            let unused = scene.token_for(1).await;
            let asker = Asker::of(&scene.holder(&row));
            let introspected = async || {
                let found = live::introspect(&scene.desk, &scene.holder(&row), &asker, &token).await;
                found.unwrap().is_some()
            };
            assert!(introspected().await);
            scene.show_secret(1, &secret).await.unwrap();

            let cutoff = scene.clock.now().plus(Duration::from_secs(5));
            scene.declare(registry::cut_off(namespace, level.clone(), cutoff)).await;
            assert!(!introspected().await, "{level:?}");
            // Until the moment lies behind, nothing new is given either: it would be dead.
            assert_eq!(reason(scene.create(Named::Agent(agent_id(1))).await), "CUT_OFF_TOO_RECENT", "{level:?}");
            scene.pass(Duration::from_secs(6)).await;
            assert!(!introspected().await, "{level:?}");
            assert_eq!(reason(scene.issue(&row, wish()).await), "CREDENTIAL_NOT_GOOD", "{level:?}");
            assert_eq!(reason(scene.renew(&row, &request(&key)).await), "CREDENTIAL_NOT_GOOD", "{level:?}");
            assert_eq!(reason(scene.enrol(&unused, &request(&new_key())).await), "ENROLMENT_TOKEN_EXPIRED");
            assert_eq!(reason(scene.show_secret(1, &secret).await), "CREDENTIAL_NOT_GOOD", "{level:?}");

            let (row, key) = scene.enrolled(1).await;
            scene.issue(&row, wish()).await.unwrap();
            scene.renew(&row, &request(&key)).await.unwrap();
            let (secret, _) = scene.secret(1, true).await.unwrap();
            scene.show_secret(1, &secret).await.unwrap();
            scene.pass(Duration::from_secs(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_holder_carries_the_latest_cut_off_of_every_level() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let latest = || {
            let snapshot = scene.desk.fresh().unwrap().snapshot;
            let named = Named::Agent(agent_id(1));
            holder::find(&snapshot, &scene.desk.domain, &named, None, scene.clock.now()).unwrap().cutoffs.latest()
        };
        assert_eq!(latest(), None);
        let mut moment = scene.clock.now();
        for (namespace, level) in levels() {
            moment = moment.plus(Duration::from_secs(7));
            scene.declare(registry::cut_off(namespace, level, moment)).await;
            assert_eq!(latest(), Some(moment));
        }
        // Of others it carries none.
        let later = moment.plus(Duration::from_secs(7));
        for level in
            [Level::AgentClass("others".into()), Level::Owner("group:ada".into()), Level::Subject(OWNER.into())]
        {
            scene.declare(registry::cut_off(NAMESPACE, level, later)).await;
        }
        assert_eq!(latest(), Some(moment));
    })
    .await;
}

#[tokio::test]
async fn a_preview_counts_what_an_order_would_touch_and_touches_nothing() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.methods(ALL, TokenBinding::Required).await;
        let (first, _) = scene.enrolled(1).await;
        scene.enrolled(2).await;
        scene.enrolled(2).await;
        scene.secret(1, false).await.unwrap();
        scene.revoke(&first.id, legate_wire::registry::RevocationReason::Superseded).await.unwrap();
        scene.declare(registry::grant("user:grace", 2)).await;
        let preview = async |namespace: Option<&str>, level: whom::Level| {
            let namespace = namespace.map(|name| Name::parse(name).unwrap());
            preview_revocation::preview(&scene.desk, &scene.operator(), Whom { namespace, level }).await.unwrap()
        };
        let of_all = BTreeMap::from([(CERTIFICATE, 2), (SECRET, 1)]);
        let counts = |seen: &preview_revocation::Touched| {
            seen.credentials.iter().map(|(kind, (count, _))| (*kind, *count)).collect::<BTreeMap<_, _>>()
        };
        for level in
            [whom::Level::All, whom::Level::Class(Name::parse("bots").unwrap()), whom::Level::Owner(OWNER.into())]
        {
            let seen = preview(Some(NAMESPACE), level).await;
            assert_eq!((seen.agents, counts(&seen), seen.grants, seen.is_partial), (2, of_all.clone(), 0, false));
            // The last certificate is one of this moment, and lives for the usual hour.
            let (_, latest) = seen.credentials[&CERTIFICATE];
            assert_eq!(latest, scene.clock.now().plus(Duration::from_secs(3_600)));
            assert_eq!(seen.token_ttl, Some(Duration::from_secs(300)));
        }
        let seen = preview(None, whom::Level::Everywhere).await;
        assert_eq!((seen.agents, counts(&seen)), (2, of_all.clone()));
        let seen = preview(Some(NAMESPACE), whom::Level::Agent(agent_id(2).to_string())).await;
        assert_eq!((seen.agents, counts(&seen)), (1, BTreeMap::from([(CERTIFICATE, 2)])));
        assert_eq!(preview(Some(NAMESPACE), whom::Level::Group(Name::parse("none").unwrap())).await.agents, 0);
        let seen = preview(None, whom::Level::Owner(OWNER.into())).await;
        assert_eq!((seen.agents, counts(&seen)), (2, of_all));
        let seen = preview(Some(NAMESPACE), whom::Level::Subject("user:grace".into())).await;
        assert_eq!((seen.agents, seen.credentials.len(), seen.grants), (1, 0, 1));
        for level in [whom::Level::Owner("user:eve".into()), whom::Level::Class(Name::parse("others").unwrap())] {
            assert_eq!(preview(Some(NAMESPACE), level).await.agents, 0);
        }
        // Whoever could not give the order is told nothing.
        let whom = Whom { namespace: None, level: whom::Level::Owner(OWNER.into()) };
        let nobody = scene.operator_called("mallory", None);
        let refused = preview_revocation::preview(&scene.desk, &nobody, whom).await;
        assert_eq!(reason(refused), "OPERATOR_NOT_PERMITTED");
    })
    .await;
}
